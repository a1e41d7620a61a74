//! The file of versions kept from being lost, which all mounts of a source share.
//!
//! Invariant: what a call has returned for survives a power cut. Each call is one transaction, and
//! waits for other processes for a bounded time.

use std::time::Instant;

use super::Journals;
use super::database::{Database, Lasting};
use super::disk::{Disk, Held, Name};
use super::error::JournalError;
use super::format::{Found, PARKED};
use super::loaded::Whereabouts;
use super::versions::{self, NewParked, Of, Parked, ParkedList};
use crate::wire::timestamp::Timestamp;

/// See the module's documentation.
#[derive(Debug)]
pub struct ParkedFile {
    pub(super) database: Database,
}

impl Journals {
    /// Opens the file, or makes it. Waits until `deadline` for whoever makes it too.
    pub fn parked(&self, deadline: Instant) -> Result<ParkedFile, JournalError> {
        if let Some(database) = self.disk.storage().open(Name::Parked)?
            && database.identify(PARKED)? == Found::Ours
        {
            return Ok(ParkedFile { database });
        }
        let directory = self.disk.hold(deadline, &self.clock)?;
        ParkedFile::make(&self.disk, &directory)
    }

    /// Opens the file, if there is one, to read it. It is not written; on a disk that cannot be, it
    /// is what the file holds now.
    pub fn look_at_parked(&self) -> Result<Option<ParkedFile>, JournalError> {
        let storage = self.disk.storage();
        // As long as this process may have it open to write it, SQLite needs its locks.
        let opened = storage.open(Name::Parked);
        let opened = opened.and_then(|opened| match opened {
            Some(database) => database
                .identify(PARKED)
                .map(|found| Some((database, found))),
            None => Ok(None),
        });
        let found = match opened {
            Err(JournalError::File { .. } | JournalError::Database(_)) => {
                let Some(database) = storage.look(Name::Parked)? else {
                    return Ok(None);
                };
                let found = database.identify(PARKED)?;
                Some((database, found))
            }
            opened => opened?,
        };
        let ours = found.filter(|(_, found)| *found == Found::Ours);
        Ok(ours.map(|(database, _)| ParkedFile { database }))
    }
}

impl ParkedFile {
    /// Opens the file, or makes it, for whoever holds the directory.
    pub(super) fn make(disk: &Disk, _directory: &Held) -> Result<Self, JournalError> {
        let database = disk.storage().make(Name::Parked)?;
        database.create(PARKED, "")?;
        Ok(Self { database })
    }

    /// Keeps a version. One that is kept already is kept from now on, and not twice.
    pub fn park(
        &self,
        of: &Whereabouts,
        new: &NewParked,
        at: Timestamp,
    ) -> Result<(), JournalError> {
        let park = |tx: &_| versions::park(tx, names(of), new, at);
        self.database.write(Lasting::Power, park)
    }

    /// Keeps versions of another file.
    pub(super) fn park_copies(&self, copies: &versions::Copies) -> Result<(), JournalError> {
        self.database.write(Lasting::Power, |tx| copies.park(tx))
    }

    /// Lists the versions kept of a dataset, by key, oldest first.
    pub fn list(&self, of: &Whereabouts) -> Result<ParkedList<Parked>, JournalError> {
        self.database
            .read(|connection| versions::list(connection, names(of)))
    }

    /// Lists all versions that are kept, by dataset and key, oldest first.
    pub fn list_all(&self) -> Result<ParkedList<(Whereabouts, Parked)>, JournalError> {
        self.database.read(versions::list_all)
    }

    /// Returns the bytes of a kept version, if it is still there.
    pub fn text(&self, id: i64) -> Result<Option<Vec<u8>>, JournalError> {
        self.database
            .read(|connection| versions::text(connection, id))
    }

    /// Lets a kept version go. Returns whether it was there.
    pub fn discard(&self, id: i64) -> Result<bool, JournalError> {
        self.database
            .write(Lasting::Power, |tx| versions::discard(tx, id))
    }

    /// Lets the kept versions go whose time is over.
    pub fn discard_expired(&self, now: Timestamp) -> Result<(), JournalError> {
        // Usually there is none, and nothing need be written.
        if self
            .database
            .read(|connection| versions::has_expired(connection, now))?
        {
            let discard = |tx: &_| versions::discard_expired(tx, now);
            self.database.write(Lasting::Power, discard)?;
        }
        Ok(())
    }

    /// Returns how many versions are kept, but for those that go by themselves.
    pub fn count(&self) -> Result<u64, JournalError> {
        self.database.read(versions::count)
    }
}

fn names((pool, identity, dataset): &Whereabouts) -> Of<'_> {
    (pool, identity, dataset)
}
