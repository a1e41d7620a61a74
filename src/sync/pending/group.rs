//! A group: changes that are made together or not at all, and what is known of their way.

use std::collections::BTreeSet;
use std::time::Instant;

use super::change::{Change, Digest, Kind, Sent, Ticket};
use super::decide::Refusal;
use super::note::{Hold, Place};
use crate::wire::names::RecordKey;
use crate::wire::timestamp::Timestamp;

/// Where a group stands in the order of notings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Places {
    /// What removals wait for: where its first set was noted. None for one without a set.
    pub first_set: Option<Place>,
    /// Where it was noted last, if it is a removal: sets before are waited for.
    pub last: Place,
}

/// Whether a group is in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    No,
    /// The journal is asked to take what was staged under a ticket: this group too, if `notes`.
    UnderWay {
        with: Ticket,
        notes: bool,
    },
    Yes(Places),
}

/// A group that is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) hold: Hold,
    /// When it was made, for the journal.
    pub(super) since: Timestamp,
    /// When it ends by itself; None for litter.
    pub(super) until: Option<Instant>,
}

/// See the module's documentation. Three facts decide what may become of it: whether it is noted,
/// whether it is awaited, and before when it may not go.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) ticket: Ticket,
    /// One a key.
    pub(super) changes: Vec<Change>,
    pub(super) noted: Noted,
    /// The tickets under which somebody waits for its outcome: its own, and those of groups that it
    /// took the place of. One that nobody waits for and that is not noted is never sent.
    pub(super) awaited_as: BTreeSet<Ticket>,
    /// Since when it, or what it took the place of, waits for others to go with it.
    pub(super) gathers_since: Instant,
    /// Before when it is not tried again.
    pub(super) not_before: Option<Instant>,
    pub(super) hold: Option<Held>,
    /// What is to take its place. It is neither sent nor absorbed meanwhile. It goes when that one is
    /// noted, or made if that one is not for the journal, and is as it was if that one fails.
    pub(super) replaced_by: Option<Ticket>,
    /// The group that this one was split from. It goes if that one fails.
    pub(super) part_of: Option<Ticket>,
    /// The place of the first set of what it takes the place of, until it is noted itself.
    pub(super) inherited: Option<Place>,
    /// Why it can never be made, where that came out while it was being noted.
    pub(super) refused: Option<Refusal>,
    /// Groups of different cohorts never share a call: so a refused batch is halved.
    pub(super) cohort: u64,
    /// How often it was sent and answered with a conflict or a refused token.
    pub(super) attempts: u32,
    /// Whether a call of it has no answer, and no listing was made since.
    pub(super) unanswered: bool,
    /// What its calls without an answer carried. A call may be carried out late.
    pub(super) lost: Vec<(RecordKey, Sent)>,
}

impl Group {
    pub(super) fn has(&self, key: &RecordKey) -> bool {
        self.change(key).is_some()
    }

    pub(super) fn change(&self, key: &RecordKey) -> Option<&Change> {
        self.changes.iter().find(|change| change.key == *key)
    }

    pub(super) fn change_mut(&mut self, key: &RecordKey) -> Option<&mut Change> {
        self.changes.iter_mut().find(|change| change.key == *key)
    }

    pub(super) fn is_awaited(&self) -> bool {
        !self.awaited_as.is_empty()
    }

    pub(super) fn shares_a_key(&self, keys: &BTreeSet<RecordKey>) -> bool {
        self.changes.iter().any(|change| keys.contains(&change.key))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = RecordKey> + '_ {
        self.changes.iter().map(|change| change.key.clone())
    }

    /// Returns the shape that the order of groups knows it by.
    pub(super) fn shape(&self) -> Shape {
        Shape::of(&self.changes)
    }

    pub(super) fn places(&self) -> Option<Places> {
        match self.noted {
            Noted::Yes(places) => Some(places),
            Noted::No | Noted::UnderWay { .. } => None,
        }
    }

    pub(super) fn is_litter(&self) -> bool {
        self.hold.is_some_and(|held| held.hold == Hold::Litter)
    }

    pub(super) fn bytes(&self) -> usize {
        self.changes.iter().map(|change| change.kind.bytes()).sum()
    }

    /// Returns whether another may take it in: it is on the disk, nobody waits for it, and it was
    /// never sent. What an earlier process left may have been, unless it is litter.
    pub(super) fn may_be_absorbed(&self, in_flight: bool) -> bool {
        let is_own = self.changes.iter().all(|change| change.left.is_none());
        matches!(self.noted, Noted::Yes(_))
            && !self.is_awaited()
            && !in_flight
            && self.lost.is_empty()
            && self.replaced_by.is_none()
            && (is_own || self.is_litter())
    }
}

/// Whether there are sets and removals among changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Sets,
    /// A rename: sets and removals.
    Mixed,
    Removals,
}

impl Shape {
    pub(super) fn of(changes: &[Change]) -> Self {
        let sets = changes.iter().any(|change| change.kind.is_set());
        let removals = changes.iter().any(|change| change.kind == Kind::Remove);
        match (sets, removals) {
            (true, true) => Self::Mixed,
            (true, false) => Self::Sets,
            (false, _) => Self::Removals,
        }
    }
}

/// Returns the digests of the values that sets carry.
pub(super) fn carried(changes: &[Change]) -> Vec<Digest> {
    let wholes = changes.iter().filter_map(|change| change.kind.whole());
    wholes.map(|whole| Digest::of(whole)).collect()
}
