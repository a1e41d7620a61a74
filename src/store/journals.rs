//! What must outlive this process: a journal of its own for every mount, and the versions that all
//! mounts of a source keep, in the state directory of the source.
//!
//! Invariant: what [`MountJournal::note`] and [`MountJournal::settle`] have returned for survives
//! the process, and a power cut once [`MountJournal::sync`] has returned. Taking over survives
//! both. A group lies in exactly one journal. Nothing in the program uses this yet.

mod database;
mod disk;
mod error;
mod fingerprints;
mod format;
mod loaded;
mod mount;
mod old;
mod parked;
mod reserve;
mod rows;
mod take;
#[cfg(test)]
mod tests;
mod unsent;
pub(super) mod versions;

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

pub(super) use disk::files;
pub use disk::{Disk, MemoryDisk, Moment, Process, Written};
pub use error::JournalError;
pub(super) use format::header;
pub use loaded::{Loaded, LoadedGroup, Taken, Unreadable, Unsent, Whereabouts};
pub use mount::MountJournal;
pub(super) use old::OLD_APPLICATION_ID;
pub use parked::ParkedFile;
pub(super) use reserve::{Reserve, RoomInFile};
pub use take::Terms;
pub use versions::{NewParked, Parked, ParkedList, Side, UnreadableVersion};

/// Tells the time.
#[derive(Clone)]
pub(crate) struct Clock(Arc<dyn Fn() -> Instant + Send + Sync>);

impl Deref for Clock {
    type Target = dyn Fn() -> Instant + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// The door to a state directory.
#[derive(Clone, Debug)]
pub struct Journals {
    disk: Disk,
    clock: Clock,
}

impl Journals {
    /// `now` is asked for the time whenever one is needed.
    pub fn new(disk: Disk, now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        let clock = Clock(Arc::new(now));
        Self { disk, clock }
    }
}
