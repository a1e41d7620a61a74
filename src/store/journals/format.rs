//! What the files are: how they are told from others, and their tables.

use std::path::Path;

use rusqlite::Connection;

use super::error::JournalError;
use super::versions;

/// The version of both files. A file of another version is neither read nor written.
pub(super) const VERSION: i64 = 3;

/// A kind of file, as its header names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    pub(super) application_id: i64,
    pub(super) version: i64,
    pub(super) tables: &'static str,
}

/// The journal of one mount. Keys, texts and fingerprints are BLOBs, dates epoch milliseconds.
///
/// A group's changes are counted, so that one that went missing is missed. `place` is that of the
/// last noting. A base is a count, NULL for an absent record, and, where it was pending, the ticket
/// and the digest that were shown.
pub(super) const JOURNAL: Format = Format {
    // `cogm`
    application_id: 0x636f_676d,
    version: VERSION,
    tables: "
CREATE TABLE about (
    made INTEGER NOT NULL,
    synced INTEGER NOT NULL
) STRICT;
CREATE TABLE groups (
    ticket INTEGER PRIMARY KEY,
    pool TEXT NOT NULL,
    identity TEXT NOT NULL,
    dataset TEXT NOT NULL,
    first_set INTEGER NOT NULL,
    place INTEGER NOT NULL UNIQUE,
    hold TEXT,
    held_since INTEGER,
    origin_journal TEXT,
    origin_ticket INTEGER,
    size INTEGER NOT NULL,
    UNIQUE (origin_journal, origin_ticket)
) STRICT;
CREATE TABLE changes (
    ticket INTEGER NOT NULL,
    number INTEGER NOT NULL,
    key BLOB NOT NULL,
    kind TEXT NOT NULL,
    bytes BLOB,
    whole BLOB,
    base_count INTEGER,
    base_ticket INTEGER,
    base_digest BLOB,
    unseen TEXT NOT NULL,
    existed INTEGER NOT NULL,
    sync_count INTEGER,
    modified INTEGER NOT NULL,
    sent BLOB NOT NULL,
    PRIMARY KEY (ticket, number)
) STRICT;
",
};

/// The versions that all mounts keep.
pub(super) const PARKED: Format = Format {
    // `cogp`
    application_id: 0x636f_6770,
    version: VERSION,
    tables: versions::TABLE,
};

/// What a file's header tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Ours,
    /// Nothing was written yet.
    Empty,
}

impl Format {
    /// Says what a file is, writing nothing.
    ///
    /// # Errors
    /// [`JournalError::Foreign`] for anything else.
    pub(super) fn identify(
        self,
        connection: &Connection,
        path: &Path,
    ) -> Result<Found, JournalError> {
        let header =
            header(connection).map_err(|error| JournalError::by(connection, path, error))?;
        match header {
            (0, 0, true) => Ok(Found::Empty),
            (id, version, _) if (id, version) == (self.application_id, self.version) => {
                Ok(Found::Ours)
            }
            _ => Err(JournalError::Foreign(path.to_owned())),
        }
    }

    /// Makes the tables, unless somebody has. What `more` writes is there with them.
    pub(super) fn create(
        self,
        connection: &Connection,
        path: &Path,
        more: &str,
    ) -> Result<(), JournalError> {
        if self.identify(connection, path)? == Found::Ours {
            return Ok(());
        }
        let Self {
            application_id,
            version,
            tables,
        } = self;
        let made = connection.execute_batch(&format!(
            "PRAGMA journal_mode = WAL; BEGIN IMMEDIATE; {tables} {more}
             PRAGMA application_id = {application_id}; PRAGMA user_version = {version};
             COMMIT;"
        ));
        made.map_err(|error| JournalError::by(connection, path, error))
    }
}

/// Returns a file's application id, its version, and whether it has no table.
pub(in crate::store) fn header(connection: &Connection) -> rusqlite::Result<(i64, i64, bool)> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let count = "SELECT count(*) FROM sqlite_schema";
    let tables: i64 = connection.query_row(count, [], |row| row.get(0))?;
    Ok((
        pragma("application_id")?,
        pragma("user_version")?,
        tables == 0,
    ))
}
