//! Conflicts are decided here, before anything is sent: a change's base against the count just
//! listed. The server's 409 is the second net.

use std::sync::Arc;

use super::change::{Change, Kind, Mark, Shown, Unseen};
use super::remote::Remote;
use crate::wire::fault::Fault;
use crate::wire::names::MAX_VALUE_CHARS;
use crate::wire::text::Text;

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The record is no longer what was shown when the change began.
    Stale,
    /// Text cannot be appended to a value that is not text.
    NotText,
    /// The value would have more than 1,048,575 characters.
    TooBig,
    /// The service said no.
    Fault(Arc<Fault>),
    /// No answer came, and the change was not found applied afterwards.
    Lost,
}

/// What is to be done about one change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Replace(Text),
    Remove,
    /// The record already is as the change wants it.
    Nothing,
    Refuse(Refusal),
}

/// Returns whether the record is what was shown when the change began, or made here since.
pub(super) fn is_current(change: &Change, remote: Option<&Remote>, life: u32) -> bool {
    change.base.life == life && (is_unchanged(change, remote) || was_sent(change, remote))
}

/// Returns whether the record has the count that was shown.
fn is_unchanged(change: &Change, remote: Option<&Remote>) -> bool {
    let remote_value = remote.and_then(|remote| remote.value.as_ref());
    match (change.base.shown, remote) {
        (Shown::Absent, _) => remote_value.is_none() && !was_removed_since(change, remote),
        (Shown::Version(shown), Some(remote)) => {
            remote_value.is_some() && remote.sync_count == shown
        }
        (Shown::Version(_), None) => false,
    }
}

/// Returns whether a record that an earlier process took for absent was made and removed since.
fn was_removed_since(change: &Change, remote: Option<&Remote>) -> bool {
    let known = change.left.and_then(|left| left.sync_count);
    known.is_some_and(|known| known != remote.map_or(0, |remote| remote.sync_count))
}

/// Returns whether the record is what was sent before of the same file.
fn was_sent(change: &Change, remote: Option<&Remote>) -> bool {
    let Some(remote) = remote.filter(|_| !change.sent.is_empty()) else {
        return false;
    };
    let value = remote.value.as_ref().map(Text::as_bytes);
    let theirs = remote.device_date.map(|at| Mark::new(value, at));
    theirs.is_some_and(|theirs| change.sent.contains(&theirs))
}

/// Decides a change against the record as last listed; `None` if the service never had its key.
/// `exists` says whether the service has the dataset.
pub(super) fn decide(change: &Change, remote: Option<&Remote>, life: u32, exists: bool) -> Verdict {
    let remote_value = remote.and_then(|remote| remote.value.as_ref());
    let same_life = change.base.life == life;
    let unchanged = same_life && is_unchanged(change, remote);
    let current = is_current(change, remote, life);
    let ours = change.left.is_none();
    let replaces = same_life && ours && change.unseen == Unseen::Keep;
    let stale = Verdict::Refuse(Refusal::Stale);
    if let Some(left) = &change.left
        && left.existed
        && !exists
        && change.kind != Kind::Remove
    {
        return stale;
    }
    match (&change.kind, remote_value) {
        (Kind::Whole(value) | Kind::Edit(value), _) if unchanged => Verdict::Replace(value.clone()),
        (Kind::Whole(value) | Kind::Edit(value), Some(theirs)) if value == theirs => {
            Verdict::Nothing
        }
        (Kind::Whole(value) | Kind::Edit(value), _) if current => Verdict::Replace(value.clone()),
        // Removed elsewhere: nothing is there that a whole write could destroy.
        (Kind::Whole(value), None) if same_life && ours => Verdict::Replace(value.clone()),
        (Kind::Whole(value), Some(_)) if replaces => Verdict::Replace(value.clone()),
        (Kind::Whole(_) | Kind::Edit(_), _) => stale,
        (Kind::Append(text), Some(theirs)) if unchanged => append(theirs, text),
        // Made already, or an older text of the file that has none of it.
        (Kind::Append(_), theirs) if current || !ours => match (&change.whole, theirs) {
            (Some(whole), Some(theirs)) if theirs.as_bytes().starts_with(whole.as_bytes()) => {
                Verdict::Nothing
            }
            (Some(whole), _) if current => Verdict::Replace(whole.clone()),
            _ => stale,
        },
        (Kind::Append(text), Some(theirs)) if same_life => append(theirs, text),
        (Kind::Append(_), _) => stale,
        (Kind::Times, Some(value)) if current => Verdict::Replace(value.clone()),
        (Kind::Times, Some(_)) if !ours && is_dated_so(change, remote) => Verdict::Nothing,
        (Kind::Times, _) => stale,
        (Kind::Remove, None) => Verdict::Nothing,
        (Kind::Remove, Some(_)) if current || replaces => Verdict::Remove,
        (Kind::Remove, Some(_)) => stale,
    }
}

/// Returns whether the record bears the date that the change gives it.
fn is_dated_so(change: &Change, remote: Option<&Remote>) -> bool {
    let date = remote.and_then(|remote| remote.device_date);
    date == Some(change.modified)
}

fn append(theirs: &Text, text: &str) -> Verdict {
    let Some(theirs) = theirs.as_str() else {
        return Verdict::Refuse(Refusal::NotText);
    };
    let whole = Text::from([theirs, text].concat());
    if whole.chars() > MAX_VALUE_CHARS {
        return Verdict::Refuse(Refusal::TooBig);
    }
    Verdict::Replace(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::change::{Base, Left};
    use crate::wire::names::RecordKey;
    use crate::wire::timestamp::Timestamp;

    fn verdict(kind: Kind, shown: Shown, remote: Option<(Option<&str>, i64)>) -> Verdict {
        verdict_of(Unseen::Refuse, kind, shown, remote)
    }

    fn verdict_of(
        unseen: Unseen,
        kind: Kind,
        shown: Shown,
        remote: Option<(Option<&str>, i64)>,
    ) -> Verdict {
        let change = Change {
            key: RecordKey::new("k").unwrap(),
            base: Base { life: 0, shown },
            kind,
            unseen,
            sent: Vec::new(),
            whole: None,
            left: None,
            modified: Timestamp::from_millis(0),
        };
        let remote = remote.map(|(value, sync_count)| Remote {
            value: value.map(Text::from),
            sync_count,
            device_date: None,
            modified: Timestamp::from_millis(0),
            changed: Timestamp::from_millis(0),
        });
        decide(&change, remote.as_ref(), 0, true)
    }

    const STALE: Verdict = Verdict::Refuse(Refusal::Stale);

    fn replace(value: &str) -> Verdict {
        Verdict::Replace(value.into())
    }

    #[test]
    fn a_current_base_is_sent() {
        let shown = Shown::Version(3);
        let remote = Some((Some("old"), 3));
        assert_eq!(
            verdict(Kind::Whole("new".into()), shown, remote),
            replace("new")
        );
        assert_eq!(
            verdict(Kind::Edit("new".into()), shown, remote),
            replace("new")
        );
        assert_eq!(
            verdict(Kind::Append("er".into()), shown, remote),
            replace("older")
        );
        assert_eq!(verdict(Kind::Times, shown, remote), replace("old"));
        assert_eq!(verdict(Kind::Remove, shown, remote), Verdict::Remove);
        assert_eq!(
            verdict(Kind::Whole("".into()), Shown::Absent, None),
            replace("")
        );
        assert_eq!(
            verdict(Kind::Whole("x".into()), Shown::Absent, Some((None, 9))),
            replace("x")
        );
    }

    #[test]
    fn a_stale_base_overwrites_nothing() {
        let remote = Some((Some("theirs"), 4));
        for shown in [Shown::Version(3), Shown::Absent] {
            assert_eq!(verdict(Kind::Whole("new".into()), shown, remote), STALE);
            assert_eq!(verdict(Kind::Edit("new".into()), shown, remote), STALE);
            assert_eq!(verdict(Kind::Times, shown, remote), STALE);
            assert_eq!(verdict(Kind::Remove, shown, remote), STALE);
        }
        assert_eq!(
            verdict(Kind::Append("!".into()), Shown::Version(3), remote),
            replace("theirs!")
        );
    }

    #[test]
    fn an_unseen_version_may_be_replaced_once_it_is_kept() {
        let remote = Some((Some("theirs"), 4));
        let keep = |kind| verdict_of(Unseen::Keep, kind, Shown::Version(3), remote);
        assert_eq!(keep(Kind::Whole("new".into())), replace("new"));
        assert_eq!(keep(Kind::Remove), Verdict::Remove);
        assert_eq!(keep(Kind::Edit("new".into())), STALE);
        assert_eq!(keep(Kind::Times), STALE);
    }

    #[test]
    fn what_was_removed_elsewhere_is_not_edited() {
        let shown = Shown::Version(3);
        for remote in [None, Some((None, 4))] {
            assert_eq!(
                verdict(Kind::Whole("new".into()), shown, remote),
                replace("new")
            );
            assert_eq!(verdict(Kind::Edit("new".into()), shown, remote), STALE);
            assert_eq!(verdict(Kind::Append("x".into()), shown, remote), STALE);
            assert_eq!(verdict(Kind::Times, shown, remote), STALE);
            assert_eq!(verdict(Kind::Remove, shown, remote), Verdict::Nothing);
        }
    }

    #[test]
    fn the_same_value_is_no_conflict() {
        let remote = Some((Some("same"), 4));
        for kind in [Kind::Whole("same".into()), Kind::Edit("same".into())] {
            assert_eq!(verdict(kind, Shown::Version(3), remote), Verdict::Nothing);
        }
    }

    #[test]
    fn a_deleted_dataset_is_not_made_again() {
        let change = Change {
            key: RecordKey::new("k").unwrap(),
            base: Base {
                life: 0,
                shown: Shown::Absent,
            },
            kind: Kind::Whole("x".into()),
            unseen: Unseen::Keep,
            sent: Vec::new(),
            whole: None,
            left: None,
            modified: Timestamp::from_millis(0),
        };
        assert_eq!(decide(&change, None, 1, true), STALE);
    }

    #[test]
    fn an_append_knows_the_limit() {
        let long = "x".repeat(MAX_VALUE_CHARS);
        let remote = Some((Some(long.as_str()), 3));
        let append = Kind::Append("y".into());
        assert_eq!(
            verdict(append, Shown::Version(3), remote),
            Verdict::Refuse(Refusal::TooBig)
        );
    }

    #[test]
    fn s08_what_an_earlier_process_left_is_made_once_and_over_nothing() {
        let verdict = |kind, remote: Option<(&str, i64, i64)>, exists| {
            let change = Change {
                key: RecordKey::new("k").unwrap(),
                base: Base {
                    life: 0,
                    shown: Shown::Version(3),
                },
                kind,
                unseen: Unseen::Keep,
                sent: vec![
                    Mark::new(None, Timestamp::from_millis(5)),
                    Mark::new(Some(b"sent"), Timestamp::from_millis(8)),
                ],
                whole: Some("older".into()),
                left: Some(Left {
                    existed: true,
                    sync_count: Some(3),
                }),
                modified: Timestamp::from_millis(9),
            };
            let remote = remote.map(|(value, sync_count, date)| Remote {
                value: Some(value.into()),
                sync_count,
                device_date: Some(Timestamp::from_millis(date)),
                modified: Timestamp::from_millis(0),
                changed: Timestamp::from_millis(0),
            });
            decide(&change, remote.as_ref(), 0, exists)
        };
        let whole = || Kind::Whole("older".into());
        let append = || Kind::Append("er".into());
        assert_eq!(
            verdict(whole(), Some(("old", 3, 0)), true),
            replace("older")
        );
        assert_eq!(
            verdict(append(), Some(("old", 3, 0)), true),
            replace("older")
        );
        // It was made, and its answer was lost with the process.
        assert_eq!(
            verdict(whole(), Some(("older", 4, 9)), true),
            Verdict::Nothing
        );
        assert_eq!(
            verdict(append(), Some(("older", 4, 9)), true),
            Verdict::Nothing
        );
        // An older text of the same file was.
        assert_eq!(
            verdict(whole(), Some(("sent", 4, 8)), true),
            replace("older")
        );
        let sent = Some(("sent", 4, 8));
        assert_eq!(verdict(append(), sent, true), replace("older"));
        // Somebody else wrote, removed, or deleted.
        for remote in [Some(("sent", 4, 7)), Some(("theirs", 4, 8)), None] {
            assert_eq!(verdict(whole(), remote, true), STALE);
            assert_eq!(verdict(append(), remote, true), STALE);
        }
        assert_eq!(verdict(Kind::Remove, Some(("theirs", 4, 8)), true), STALE);
        assert_eq!(verdict(whole(), None, false), STALE);
    }
}
