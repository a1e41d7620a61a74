//! What is read from a journal.

use super::error::JournalError;
use crate::sync::pending::{Note, Place, Ticket};
use crate::wire::names::{DatasetName, IdentityId, PoolId, RecordKey};

/// A dataset, by the names that lead to it.
pub type Whereabouts = (PoolId, IdentityId, DatasetName);

/// The groups of a journal, in the order of their last noting.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    pub groups: Vec<LoadedGroup>,
    pub unreadable: Vec<Unreadable>,
}

/// A group as it was noted. Of its changes, `left` is what was known of the record, and the base is
/// one of the dataset's first life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedGroup {
    pub whereabouts: Whereabouts,
    /// Its `first_set` is always set.
    pub note: Note,
    pub first_set: Place,
    /// The place of its last noting.
    pub place: Place,
}

/// A group that this version cannot read. Its rows stay: whatever is based on it, and the removals
/// noted behind it, have to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub ticket: Ticket,
    /// None if that cannot be read either.
    pub whereabouts: Option<Whereabouts>,
    /// The keys that can be read.
    pub keys: Vec<RecordKey>,
    pub first_set: Place,
    pub place: Place,
    /// Whether it may remove a record.
    pub has_removals: bool,
    /// Whether it may set a record.
    pub has_sets: bool,
    /// What is wrong with it. Nothing of a value or a key is in it.
    pub reason: String,
}

/// What was taken over.
#[derive(Debug, Default)]
pub struct Taken {
    /// In the order of their last noting, all before whatever was noted here.
    pub loaded: Loaded,
    /// The journals of processes that are about to end, and had not at the deadline.
    pub ending: Vec<String>,
    /// What could not be taken over, and stays as it is.
    pub troubles: Vec<JournalError>,
}

/// What lies in a state directory unsent.
#[derive(Debug, Default)]
pub struct Unsent {
    /// How many changes, without the files that are never sent.
    pub changes: u64,
    /// The journals that could not be looked at.
    pub troubles: Vec<JournalError>,
}
