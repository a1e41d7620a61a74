//! What of staged changes is held back, and why.

use std::time::{Duration, Instant};

use super::staging::Part;
use super::{DatasetState, GRACE, PASSING};
use crate::sync::change::Shown;
use crate::sync::pending::change::{Change, Kind};
use crate::sync::pending::group::Held;
use crate::sync::pending::note::Hold;
use crate::sync::pending::planted::Planted;
use crate::sync::pending::scratch::{Class, backed_up, class};
use crate::wire::names::RecordKey;
use crate::wire::timestamp::Timestamp;

impl DatasetState {
    /// Divides changes into what is held back and what is not. What belongs to a rename of a record
    /// stays together, but for a backup that is what the record itself is, and was made so just now.
    pub(super) fn split(&self, changes: Vec<Change>, private: bool, in_grace: bool) -> Vec<Part> {
        if !self.scratch {
            return vec![(changes, None)];
        }
        if let Some(hold) = self.grace(&changes) {
            return vec![(changes, Some(hold))];
        }
        let alone = changes.len() == 1;
        let litter = |change: &Change| match self.hold_of(change, &changes, private) {
            Some(Hold::Litter) => alone || (in_grace && self.is_untouched_backup(change, &changes)),
            _ => false,
        };
        let are_litter: Vec<bool> = changes.iter().map(litter).collect();
        let passing = alone && self.hold_of(&changes[0], &changes, private) == Some(Hold::Passing);
        let mut parts = Vec::new();
        let mut rest = Vec::new();
        for (change, is_litter) in changes.into_iter().zip(are_litter) {
            match is_litter {
                true => parts.push((vec![change], Some(Hold::Litter))),
                false => rest.push(change),
            }
        }
        if !rest.is_empty() || parts.is_empty() {
            parts.insert(0, (rest, passing.then_some(Hold::Passing)));
        }
        parts
    }

    /// Returns the hold of a record's rename to its backup name.
    fn grace(&self, changes: &[Change]) -> Option<Hold> {
        let [one, other] = changes else {
            return None;
        };
        let is_grace = |set: &Change, removal: &Change| {
            let of = set.key.as_str().and_then(backed_up);
            matches!(set.kind, Kind::Whole(_))
                && removal.kind == Kind::Remove
                && of.is_some_and(|of| removal.key.as_str() == Some(of))
                && self.is_record(&removal.key)
        };
        (is_grace(one, other) || is_grace(other, one)).then_some(Hold::Grace)
    }

    fn is_record(&self, key: &RecordKey) -> bool {
        self.records
            .get(key)
            .is_some_and(|remote| remote.value.is_some())
    }

    /// Returns why a set of a name that never was a record is held back.
    fn hold_of(&self, change: &Change, all: &[Change], private: bool) -> Option<Hold> {
        let is_new = change.base.shown == Shown::Absent
            && change.base.pending.is_none()
            && !self.is_record(&change.key);
        let is_new = is_new || Planted::LitterByName.is_planted();
        if !is_new || !change.kind.is_set() {
            return None;
        }
        let name = change.key.as_str()?;
        match class(name) {
            Class::Litter => Some(Hold::Litter),
            Class::Backup(of) => match self.is_there(of, all) {
                true => Some(Hold::Litter),
                false => Some(Hold::Passing),
            },
            Class::Passing => Some(Hold::Passing),
            Class::Probe => {
                let empty = change.kind.whole().is_none_or(|whole| whole.is_empty());
                empty.then_some(Hold::Passing)
            }
            Class::Private => private.then_some(Hold::Passing),
            Class::Ordinary => None,
        }
    }

    /// Returns whether a file is shown under a name once changes are made.
    fn is_there(&self, name: &str, changes: &[Change]) -> bool {
        let Ok(key) = RecordKey::new(name) else {
            return false;
        };
        match changes.iter().find(|change| change.key == key) {
            Some(change) => change.kind.is_set(),
            None => self.view(&key).is_there(),
        }
    }

    /// Returns whether a backup, tied to the file whose backup it is, still holds the very value
    /// that the service has of that file.
    fn is_untouched_backup(&self, change: &Change, all: &[Change]) -> bool {
        let of = change.key.as_str().and_then(backed_up);
        let Some(of) = of.and_then(|of| RecordKey::new(of).ok()) else {
            return false;
        };
        let is_tied = all
            .iter()
            .any(|other| other.key == of && other.kind.is_set());
        let value = self
            .records
            .get(&of)
            .and_then(|remote| remote.value.as_ref());
        let whole = change.kind.whole();
        is_tied
            && matches!((value, whole), (Some(value), Some(whole)) if value.as_bytes() == &whole[..])
    }
}

pub(in crate::sync::pending) fn begin_hold(hold: Hold, now: Instant, since: Timestamp) -> Held {
    let time: Option<Duration> = match hold {
        Hold::Litter => None,
        Hold::Passing => Some(PASSING),
        Hold::Grace => Some(GRACE),
    };
    Held {
        hold,
        since,
        until: time.map(|time| now + time),
    }
}
