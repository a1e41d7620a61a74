//! S9: a change's base against what was just listed.

use super::bed::{Bed, append, bytes, edit, key, whole};
use crate::sync::change::{Left, Mark};
use crate::sync::pending::decide::{Against, Verdict, decide};
use crate::sync::pending::{Appended, Base, Change, Commit, Kind, Refusal, Sent};
use crate::sync::{Remote, Shown, Unseen};
use crate::wire::names::MAX_VALUE_CHARS;
use crate::wire::timestamp::Timestamp;

const OURS: Timestamp = Timestamp::from_millis(50);
const THEIRS: Timestamp = Timestamp::from_millis(60);
/// A change that begins now, and one that an earlier process left.
const NOW: Option<Left> = None;

fn left(sync_count: i64) -> Option<Left> {
    Some(Left {
        existed: true,
        sync_count: Some(sync_count),
    })
}

fn remote(value: Option<&str>, sync_count: i64) -> Remote {
    Remote {
        value: value.map(Into::into),
        sync_count,
        device_date: Some(THEIRS),
        modified: THEIRS,
        changed: THEIRS,
    }
}

fn change(kind: Kind, shown: Shown, unseen: Unseen, left: Option<Left>) -> Change {
    Change {
        key: key("k"),
        base: Base {
            life: 0,
            shown,
            pending: None,
        },
        kind,
        unseen,
        own: Vec::new(),
        left,
        modified: OURS,
    }
}

fn against(change: &Change, remote: Option<&Remote>) -> Verdict {
    let against = Against {
        remote,
        sent: &[],
        life: 0,
        exists: true,
    };
    decide(change, against)
}

fn stale() -> Verdict {
    Verdict::Refuse(Refusal::Stale)
}

fn replace(value: &str) -> Verdict {
    Verdict::Replace(value.into())
}

const SHOWN: Shown = Shown::Version(3);

#[test]
fn s9_what_is_current_is_changed() {
    let now = remote(Some("old"), 3);
    for (kind, expected) in [
        (whole("new"), replace("new")),
        (edit("new"), replace("new")),
        (append("old", "+"), replace("old+")),
        (Kind::Times, replace("old")),
        (Kind::Remove, Verdict::Remove),
        // Its date is to be changed.
        (whole("old"), replace("old")),
    ] {
        for unseen in [Unseen::Keep, Unseen::Refuse] {
            for left in [NOW, left(3)] {
                let change = change(kind.clone(), SHOWN, unseen, left);
                assert_eq!(against(&change, Some(&now)), expected, "{kind:?}");
            }
        }
    }
}

#[test]
fn s9_what_was_changed_elsewhere_is_replaced_by_whole_writes_if_it_may_be_kept() {
    let theirs = remote(Some("theirs"), 4);
    let plus = || append("old", "+");
    for (kind, unseen, left, expected) in [
        (whole("new"), Unseen::Keep, NOW, replace("new")),
        (whole("new"), Unseen::Refuse, NOW, stale()),
        (whole("new"), Unseen::Keep, left(3), stale()),
        (edit("new"), Unseen::Keep, NOW, stale()),
        (edit("new"), Unseen::Refuse, NOW, stale()),
        (plus(), Unseen::Keep, NOW, replace("theirs+")),
        (plus(), Unseen::Keep, left(3), stale()),
        (Kind::Times, Unseen::Keep, NOW, stale()),
        (Kind::Remove, Unseen::Keep, NOW, Verdict::Remove),
        (Kind::Remove, Unseen::Refuse, NOW, stale()),
        (Kind::Remove, Unseen::Keep, left(3), stale()),
    ] {
        for shown in [SHOWN, Shown::Absent] {
            let change = change(kind.clone(), shown, unseen, left);
            assert_eq!(against(&change, Some(&theirs)), expected, "{change:?}");
        }
    }
}

#[test]
fn s9_what_was_removed_elsewhere_is_made_anew_by_whole_writes_only() {
    let tombstone = remote(None, 4);
    for (kind, left, expected) in [
        (whole("new"), NOW, replace("new")),
        (whole("new"), left(3), stale()),
        (edit("new"), NOW, stale()),
        (append("old", "+"), NOW, stale()),
        (Kind::Times, NOW, stale()),
        (Kind::Remove, NOW, Verdict::Nothing),
        (Kind::Remove, left(3), Verdict::Nothing),
    ] {
        for unseen in [Unseen::Keep, Unseen::Refuse] {
            let change = change(kind.clone(), SHOWN, unseen, left);
            assert_eq!(against(&change, Some(&tombstone)), expected, "{change:?}");
        }
    }
}

#[test]
fn s9_what_was_shown_as_absent_and_is_is_begun() {
    for there in [None, Some(remote(None, 4))] {
        let count = there.as_ref().map_or(0, |remote| remote.sync_count);
        for (kind, expected) in [
            (whole("new"), replace("new")),
            (edit("new"), replace("new")),
            (append("", "new"), replace("new")),
            (Kind::Remove, Verdict::Nothing),
            (Kind::Times, stale()),
        ] {
            for left in [NOW, left(count)] {
                let change = change(kind.clone(), Shown::Absent, Unseen::Refuse, left);
                assert_eq!(against(&change, there.as_ref()), expected, "{change:?}");
            }
        }
    }
    // Made and removed since.
    let change = change(whole("new"), Shown::Absent, Unseen::Keep, left(0));
    assert_eq!(against(&change, Some(&remote(None, 4))), stale());
}

#[test]
fn s9_an_equal_value_is_no_conflict() {
    let same = remote(Some("new"), 4);
    for kind in [whole("new"), edit("new")] {
        for left in [NOW, left(3)] {
            let change = change(kind.clone(), SHOWN, Unseen::Refuse, left);
            assert_eq!(against(&change, Some(&same)), Verdict::Nothing);
        }
    }
}

#[test]
fn s9_a_change_of_another_life_of_the_dataset_is_never_made() {
    let now = remote(Some("old"), 3);
    for kind in [whole("new"), edit("new"), Kind::Times, Kind::Remove] {
        let change = change(kind.clone(), SHOWN, Unseen::Keep, NOW);
        for (remote, exists) in [(Some(&now), true), (None, false)] {
            let against = Against {
                remote,
                sent: &[],
                life: 1,
                exists,
            };
            let verdict = decide(&change, against);
            let gone = kind == Kind::Remove && remote.is_none();
            assert_eq!(verdict == Verdict::Nothing, gone, "{kind:?}");
            assert!(gone || verdict == stale(), "{kind:?} {verdict:?}");
        }
    }
}

#[test]
fn s9_an_append_of_another_life_of_the_dataset_is_never_made() {
    let now = remote(Some("old"), 3);
    let change = change(append("old", "+"), SHOWN, Unseen::Keep, NOW);
    for remote in [Some(&now), None] {
        let against = Against {
            remote,
            sent: &[],
            life: 1,
            exists: true,
        };
        assert_eq!(decide(&change, against), stale());
    }
}

#[test]
fn s9_a_deleted_dataset_is_not_made_again_by_what_was_left() {
    let new = change(whole("new"), Shown::Absent, Unseen::Keep, left(0));
    let against = Against {
        remote: None,
        sent: &[],
        life: 0,
        exists: false,
    };
    assert_eq!(decide(&new, against), stale());
    let never = Left {
        existed: false,
        sync_count: Some(0),
    };
    let new = change(whole("new"), Shown::Absent, Unseen::Keep, Some(never));
    assert_eq!(decide(&new, against), replace("new"));
    // A removal has nothing to make again.
    let removal = change(Kind::Remove, SHOWN, Unseen::Keep, left(3));
    assert_eq!(decide(&removal, against), Verdict::Nothing);
}

#[test]
fn s9_what_was_sent_without_an_answer_over_the_same_base_is_ours() {
    let sent = Sent {
        mark: Mark::new(Some(b"sent"), OURS),
        count: 3,
        appended: None,
    };
    let theirs = remote(Some("sent"), 4);
    let ours = Remote {
        device_date: Some(OURS),
        ..theirs.clone()
    };
    for (remote, shown, is_ours) in [
        (&ours, SHOWN, true),
        (&theirs, SHOWN, false),
        (&ours, Shown::Version(2), false),
    ] {
        for kind in [edit("new"), Kind::Times, Kind::Remove] {
            let change = change(kind, shown, Unseen::Refuse, NOW);
            let against = Against {
                remote: Some(remote),
                sent: &[sent],
                life: 0,
                exists: true,
            };
            assert_eq!(decide(&change, against) != stale(), is_ours, "{change:?}");
        }
    }
}

#[test]
fn s9_a_change_that_stands_on_a_pending_one_is_not_made() {
    let mut change = change(whole("new"), SHOWN, Unseen::Keep, NOW);
    change.base.pending = Some(crate::sync::pending::Made {
        ticket: crate::sync::pending::Ticket(1),
        digest: None,
    });
    assert_eq!(against(&change, Some(&remote(Some("old"), 3))), stale());
}

#[test]
fn s13_what_is_no_text_or_too_long_is_refused() {
    let now = remote(Some("old"), 3);
    let bad = || bytes("").iter().copied().chain([0xff]).collect::<Vec<u8>>();
    let long = "x".repeat(MAX_VALUE_CHARS + 1);
    let full = &long[..MAX_VALUE_CHARS];
    for (kind, refusal) in [
        (Kind::Whole(bad().into()), Refusal::NotText),
        (Kind::Edit(bad().into()), Refusal::NotText),
        (whole(&long), Refusal::TooBig),
        (append("old", full), Refusal::TooBig),
    ] {
        let change = change(kind, SHOWN, Unseen::Keep, NOW);
        assert_eq!(against(&change, Some(&now)), Verdict::Refuse(refusal));
    }
    let change = change(whole(full), SHOWN, Unseen::Keep, NOW);
    assert_eq!(against(&change, Some(&now)), replace(full));
}

#[test]
fn f5_where_an_append_joins_two_halves_they_are_one_character() {
    let half = Remote {
        value: crate::wire::text::Text::from_wtf8(b"\xed\xa0\xbd"),
        ..remote(None, 3)
    };
    let kind = Kind::Append {
        text: b"\xed\xb8\x80".as_slice().into(),
        whole: "\u{1f600}".as_bytes().into(),
    };
    let change = change(kind, SHOWN, Unseen::Keep, NOW);
    assert_eq!(against(&change, Some(&half)), replace("\u{1f600}"));
    // A pair in six bytes is none.
    let pair = Kind::Whole(b"\xed\xa0\xbd\xed\xb8\x80".as_slice().into());
    let change = self::change(pair, SHOWN, Unseen::Keep, NOW);
    let refused = Verdict::Refuse(Refusal::NotText);
    assert_eq!(against(&change, Some(&half)), refused);
}

#[test]
fn s13_what_no_record_can_be_is_not_put_in_line() {
    let bad = |text: &[u8]| Kind::Whole(text.into());
    let adds = |text: &[u8]| Kind::Append {
        text: text.into(),
        whole: [b"old", text].concat().into(),
    };
    let long = "x".repeat(MAX_VALUE_CHARS + 1);
    for (kind, refusal) in [
        (bad(b"\xff"), Refusal::NotText),
        (Kind::Edit(b"\xff".as_slice().into()), Refusal::NotText),
        (adds(b"\xff"), Refusal::NotText),
        (whole(&long), Refusal::TooBig),
        (edit(&long), Refusal::TooBig),
        (append("old", &long[3..]), Refusal::TooBig),
    ] {
        for commit in [Commit::Async, Commit::Close] {
            let mut bed = Bed::having(&[("k", "old")]);
            let waits = bed.queue("k", Kind::Times);
            let change = bed.change(0, "k", kind.clone());
            let (_, staged) = bed.stage_as(0, vec![change], commit, false);
            assert_eq!(staged, Err(refusal.clone()), "{kind:?}");
            assert_eq!(bed.states[0].pending().collect::<Vec<_>>(), [waits]);
            assert_eq!(bed.view(0, "k").as_deref(), Some("old"));
            assert_eq!(bed.drive(), ["k=old"]);
        }
    }
    let mut bed = Bed::having(&[("k", "old")]);
    bed.queue("k", append("old", &long[4..]));
    bed.queue(".k.swp", bad(b"\xff"));
}

#[test]
fn f5_an_append_may_join_two_halves_of_a_character() {
    for is_sent in [true, false] {
        join_halves(is_sent);
    }
}

fn join_halves(is_sent: bool) {
    let mut bed = Bed::having(&[]);
    bed.queue("k", Kind::Whole(b"\xed\xa0\xbd".as_slice().into()));
    if is_sent {
        assert_eq!(bed.drive().len(), 1);
    }
    // Its writer sees a pair in six bytes.
    let kind = Kind::Append {
        text: b"\xed\xb8\x80".as_slice().into(),
        whole: b"\xed\xa0\xbd\xed\xb8\x80".as_slice().into(),
    };
    bed.queue("k", kind);
    assert_eq!(bed.drive(), ["k=\u{1f600}"]);
}

/// An append whose answer is lost may have been laid over a version that its writer had not seen: that
/// there is his own text at the end shows him nothing of what is before it.
#[test]
fn s9_what_was_added_to_an_unseen_version_does_not_show_it() {
    let theirs_and_ours = Remote {
        device_date: Some(OURS),
        ..remote(Some("theirs+"), 5)
    };
    for (shown, count, whole_length, is_seen) in [
        // Over another version than the one that was shown, and over that one.
        (Shown::Version(3), 4, 7, false),
        (Shown::Version(4), 4, 7, true),
        // Over a record where none was shown, and over nothing.
        (Shown::Absent, 4, 7, false),
        (Shown::Absent, 4, 1, true),
    ] {
        let sent = Sent {
            mark: Mark::new(Some(b"theirs+"), OURS),
            count,
            appended: Some(Appended {
                whole: whole_length,
                text: 1,
            }),
        };
        let change = Change {
            own: vec![sent],
            ..change(whole("new"), shown, Unseen::Keep, NOW)
        };
        let against = Against {
            remote: Some(&theirs_and_ours),
            sent: &[sent],
            life: 0,
            exists: true,
        };
        assert_eq!(
            against.is_seen(&change),
            is_seen,
            "{shown:?} {whole_length}"
        );
        // With conflict=strict it is refused then.
        let change = Change {
            unseen: Unseen::Refuse,
            ..change
        };
        let expected = if is_seen { replace("new") } else { stale() };
        assert_eq!(
            decide(&change, against),
            expected,
            "{shown:?} {whole_length}"
        );
    }
}
