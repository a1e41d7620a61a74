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
    /// What is based on something else than what is shown below it is not shown either.
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
        let value = match (view.base.pending, base.pending) {
            (None, None) => match self.makes(group, change) {
                Some(value) => value,
                None => return,
            },
            (Some(shown), Some(seen)) if shown.ticket == seen.ticket => {
                match over(view, &change.kind) {
                    Some(value) => value,
                    None => return,
                }
            }
            _ => return,
        };
        let keeps = matches!(change.kind, Kind::Append { .. } | Kind::Times);
        let shown = if keeps { view.base.shown } else { base.shown };
        *view = View {
            base: Base {
                life: self.life,
                shown,
                pending: Some(made(group.ticket, value.as_deref())),
            },
            value,
            modified: change.modified,
            changed: change.modified,
        };
    }

    /// Returns what a change makes of the service's record; None if it would be refused.
    fn makes(&self, group: &Group, change: &Change) -> Option<Option<Arc<[u8]>>> {
        let against = self.against(&change.key);
        let there = against.remote.and_then(|remote| remote.value.as_ref());
        if group.is_litter() && there.is_some() {
            // Somebody else made a record of that name.
            return None;
        }
        if group.hold.is_some()
            && let Some(whole) = change.kind.whole()
            && there.is_none()
        {
            // It need not be text.
            return Some(Some(whole.clone()));
        }
        let settled = Change {
            base: change.base.settled(),
            ..change.clone()
        };
        let bytes = |value: &Text| Some(value.as_bytes().into());
        match decide(&settled, against) {
            Verdict::Replace(value) => Some(bytes(&value)),
            Verdict::Remove => Some(None),
            Verdict::Nothing => Some(there.and_then(bytes)),
            Verdict::Refuse(_) => None,
        }
    }
}

fn is_shown(group: &Group) -> bool {
    matches!(group.noted, Noted::Yes(_))
}

/// Returns what a change makes of what is shown; None if it cannot be made of it.
fn over(view: &View, kind: &Kind) -> Option<Option<Arc<[u8]>>> {
    match (kind, &view.value) {
        (Kind::Whole(text), _) | (Kind::Edit(text), Some(_)) => Some(Some(text.clone())),
        (Kind::Append { text, .. }, Some(value)) => Some(Some([&value[..], text].concat().into())),
        (Kind::Append { whole, .. }, None) => Some(Some(whole.clone())),
        (Kind::Times, Some(value)) => Some(Some(value.clone())),
        (Kind::Remove, Some(_)) => Some(None),
        (Kind::Edit(_) | Kind::Times | Kind::Remove, None) => None,
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
