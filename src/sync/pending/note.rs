//! What the journal is told of groups, and what it tells the next process.

use super::change::{Base, Change, Sent, Ticket};
use crate::sync::change::Left;
use crate::wire::names::RecordKey;
use crate::wire::timestamp::Timestamp;

/// A place in the order of all notings of a mount. What was left by earlier processes has places
/// before all others'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place(pub i64);

/// Why a group is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hold {
    /// An editor's own file, which is never sent.
    Litter,
    /// A file that becomes a record when it is renamed, or when nobody does so in time.
    Passing,
    /// A record that was moved to its backup name, which may be written anew at once.
    Grace,
}

/// A group as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub ticket: Ticket,
    pub changes: Vec<NotedChange>,
    /// The hold, and when it began; a litter's age counts from there.
    pub hold: Option<(Hold, Timestamp)>,
    /// The place of the first set, where the group takes the place of an older one. None has it
    /// be the place that this noting gets.
    pub first_set: Option<Place>,
}

/// A change as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotedChange {
    pub change: Change,
    /// What the next process is to know of the record.
    pub known: Left,
    /// What may have been sent of this key before, and may yet be carried out.
    pub sent: Vec<Sent>,
}

/// What became of groups in the journal; noted all or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Groups that were made, given up, or parked.
    pub removed: Vec<Ticket>,
    /// Changes that were based on one of them.
    pub rebased: Vec<Rebased>,
}

impl Settled {
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.rebased.is_empty()
    }
}

/// A noted change that stands on something else from now on. One that is on its way to the journal is
/// noted with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebased {
    pub ticket: Ticket,
    pub key: RecordKey,
    pub base: Base,
    pub known: Left,
    pub sent: Vec<Sent>,
}
