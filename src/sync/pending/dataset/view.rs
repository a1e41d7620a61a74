//! What a mount shows: the service's record with the pending changes over it.

use std::sync::Arc;

use super::DatasetState;
use crate::sync::change::Shown;
use crate::sync::pending::change::{Base, Change, Digest, Kind, Made, Ticket};
use crate::sync::pending::decide::{Verdict, decide};
use crate::sync::pending::group::{Group, Noted};
use crate::sync::remote::Remote;
use crate::wire::names::RecordKey;
use crate::wire::text::Text;
use crate::wire::timestamp::Timestamp;

/// A version that is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its bytes; None where no file is shown.
    pub value: Option<Arc<[u8]>>,
    /// The mtime to show.
    pub modified: Timestamp,
    /// The ctime to show.
    pub changed: Timestamp,
    /// Names the version: what a change of it has as its base.
    pub base: Base,
}

impl DatasetState {
    /// Returns what is shown of a key. A group that is being noted is not shown: its draft shows it.
    /// What is based on something else than what is shown below it is not shown either. The
    /// service's version is no such thing, whatever it has become since: what its writer was told is
    /// safe can be read here until it is refused, and then what was kept of it.
    pub fn view(&self, key: &RecordKey) -> View {
        let mut view = self.of_service(key);
        for group in self.groups.iter().filter(|group| is_shown(group)) {
            if let Some(change) = group.change(key) {
                self.lay_over(&mut view, group, change);
            }
        }
        view
    }

    fn of_service(&self, key: &RecordKey) -> View {
        let remote = self.records.get(key);
        let date = |date: fn(&Remote) -> Timestamp| remote.map_or(Timestamp::from_millis(0), date);
        let value = remote.and_then(|remote| remote.value.as_ref());
        View {
            value: value.map(|value| value.as_bytes().into()),
            modified: date(|remote| remote.modified),
            changed: date(|remote| remote.changed),
            base: self.base(key),
        }
    }

    fn lay_over(&self, view: &mut View, group: &Group, change: &Change) {
        let base = self.normalized(change.base, &change.key);
        let laid = match (view.base.pending, base.pending) {
            (None, None) => self.makes(group, change, view.base),
            (Some(shown), Some(seen)) if shown.ticket == seen.ticket => {
                over(view, &change.kind).map(|value| (value, under(change, view.base, base)))
            }
            _ => None,
        };
        let Some((value, under)) = laid else {
            return;
        };
        *view = View {
            base: Base {
                pending: Some(made(group.ticket, value.as_deref())),
                ..under
            },
            value,
            modified: change.modified,
            changed: change.modified,
        };
    }

    /// Returns what a change makes of the service's record, or, where it will be refused, what its
    /// writer made, and the version under that; None if nothing of it is shown.
    fn makes(&self, group: &Group, change: &Change, service: Base) -> Option<(Value, Base)> {
        let against = self.against(&change.key);
        let there = against.remote.and_then(|remote| remote.value.as_ref());
        if group.is_litter() && there.is_some() {
            // Somebody else made a record of that name.
            return None;
        }
        let base = change.base.settled();
        let settled = Change {
            base,
            ..change.clone()
        };
        let bytes = |value: &Text| Some(value.as_bytes().into());
        let value = match decide(&settled, against) {
            Verdict::Replace(value) => bytes(&value),
            Verdict::Remove => None,
            Verdict::Nothing => there.and_then(bytes),
            Verdict::Refuse(_) => {
                let own = change.kind.whole().cloned();
                return (change.kind != Kind::Times).then_some((own, base));
            }
        };
        Some((value, under(change, service, base)))
    }
}

/// The bytes of a file; None where none is shown.
type Value = Option<Arc<[u8]>>;

/// Returns the version that is under a change: the one that it is laid over, if it keeps that.
fn under(change: &Change, shown: Base, base: Base) -> Base {
    match change.kind {
        Kind::Append { .. } | Kind::Times => shown,
        Kind::Whole(_) | Kind::Edit(_) | Kind::Remove => base,
    }
}

fn is_shown(group: &Group) -> bool {
    matches!(group.noted, Noted::Yes(_))
}

/// Returns what a change makes of what is shown; None if it cannot be made of it.
fn over(view: &View, kind: &Kind) -> Option<Value> {
    match (kind, &view.value) {
        (Kind::Whole(text) | Kind::Edit(text), _) => Some(Some(text.clone())),
        (Kind::Append { text, .. }, Some(value)) => Some(Some([&value[..], text].concat().into())),
        (Kind::Append { whole, .. }, None) => Some(Some(whole.clone())),
        (Kind::Times, Some(value)) => Some(Some(value.clone())),
        (Kind::Remove, Some(_)) => Some(None),
        (Kind::Times | Kind::Remove, None) => None,
    }
}

fn made(ticket: Ticket, value: Option<&[u8]>) -> Made {
    Made {
        ticket,
        digest: value.map(Digest::of),
    }
}

impl View {
    /// Returns whether a file is shown.
    pub fn is_there(&self) -> bool {
        self.value.is_some()
    }

    /// Returns whether it is the service's own version.
    pub fn is_of_service(&self) -> bool {
        self.base.pending.is_none() && self.base.shown != Shown::Absent
    }
}
