//! Where journals lie: a state directory, or memory that is one.
//!
//! Invariant: a journal is made, taken over and removed by whoever holds the directory, and used by
//! whoever holds the journal. What is held goes with the process.

pub(in crate::store) mod files;

mod directory;
mod image;
mod memory;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Clock;
use super::database::Database;
use super::error::JournalError;
use super::reserve::Room;

use directory::Directory;
pub use memory::{MemoryDisk, Moment, Process, Written};

/// How often what somebody holds is tried.
const AGAIN: Duration = Duration::from_millis(20);

/// The state directory of one source, as one process has it.
#[derive(Clone, Debug)]
pub struct Disk(Arc<dyn Storage>);

/// A file in it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Name<'a> {
    /// The journal of one mount.
    Journal(&'a str),
    /// The versions that are kept, of all mounts.
    Parked,
    /// The journal of the version before.
    Old,
}

/// What is held until it is dropped.
#[derive(Debug)]
pub(super) struct Held(#[expect(dead_code, reason = "its end is its use")] Box<dyn Hold>);

pub(super) trait Hold: fmt::Debug + Send + Sync {}

impl Hold for std::fs::File {}

/// What a disk does.
pub(super) trait Storage: fmt::Debug + Send + Sync {
    /// Returns the names of which there is a journal, or something a journal left.
    fn names(&self) -> Result<BTreeSet<String>, JournalError>;

    /// Holds the directory, unless somebody else does.
    fn try_hold_directory(&self) -> Result<Option<Held>, JournalError>;

    /// Names what [`try_hold_directory`](Self::try_hold_directory) holds.
    fn directory(&self) -> &Path;

    /// Holds a journal, unless somebody else does.
    fn try_hold(&self, name: Name<'_>) -> Result<Option<Held>, JournalError>;

    /// Lets time pass, if it can.
    fn pause(&self, time: Duration) -> bool;

    /// Opens a file, if it is there.
    fn open(&self, name: Name<'_>) -> Result<Option<Database>, JournalError>;

    /// Opens a file, made empty if it was not there.
    fn make(&self, name: Name<'_>) -> Result<Database, JournalError>;

    /// Opens what a file holds at this moment, if it is there: nothing is locked and nothing
    /// written.
    fn look(&self, name: Name<'_>) -> Result<Option<Database>, JournalError>;

    /// Says whether a file was being changed without a log, as it is while it is made, so that what
    /// it holds is told by [`open`](Self::open) only.
    fn is_half_made(&self, name: Name<'_>) -> bool;

    /// Removes a journal with all that belongs to it, for good: the file itself first, because
    /// without its log it would be an older one. Returns whether the file is gone.
    fn remove(&self, name: Name<'_>) -> Removed;

    /// Has others know that a journal's process is about to end.
    fn mark_ending(&self, name: &str) -> Result<(), JournalError>;

    fn is_ending(&self, name: &str) -> bool;

    /// Names the room that is set aside for a journal.
    fn room(&self, name: &str) -> Box<dyn Room>;
}

/// How far a removal came.
#[derive(Debug)]
pub(super) enum Removed {
    Whole,
    /// The file is gone, and something that belongs to it may not be.
    Partly(JournalError),
    Not(JournalError),
}

impl Disk {
    /// Takes a state directory that is there. Nothing is made in it before it is needed.
    pub fn directory(path: &Path) -> Result<Self, JournalError> {
        Ok(Self(Arc::new(Directory::new(path)?)))
    }

    pub(super) fn storage(&self) -> &dyn Storage {
        &*self.0
    }

    /// Holds the directory. Whoever does waits for nobody.
    pub(super) fn hold(&self, deadline: Instant, now: &Clock) -> Result<Held, JournalError> {
        let storage = self.storage();
        loop {
            if let Some(held) = storage.try_hold_directory()? {
                return Ok(held);
            }
            if now() >= deadline || !storage.pause(AGAIN) {
                return Err(JournalError::Busy(storage.directory().to_owned()));
            }
        }
    }

    /// Waits a moment. Returns whether there is one before the deadline.
    pub(super) fn wait(&self, deadline: Instant, now: &Clock) -> bool {
        now() < deadline && self.storage().pause(AGAIN)
    }
}

/// Says whether a text can name a journal.
pub(super) fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
