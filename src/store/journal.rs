//! What must outlive this process: one SQLite file in the state directory of a mount.
//!
//! Invariant: what a call here has returned for survives this process, and what was parked a power
//! cut as well. One process uses a journal at a time: it holds the lock of its directory.

mod changes;
mod owed;
mod parked;

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::journals::{OLD_APPLICATION_ID, Reserve, RoomInFile, files, header, versions};
use crate::api::Surroundings;

pub(super) use super::journals::versions::{NewParked, Of as Place};
pub use super::journals::{JournalError, Parked, Side, Whereabouts};
pub use changes::{NewQueued, Queued, QueuedKind, Slot, Tie};
pub(super) use owed::Outcome;

const VERSION: i64 = 2;

/// What lies beside the kept versions. Keys and texts are BLOBs: neither need be UTF-8. Dates are
/// epoch milliseconds.
const TABLES: &str = "
CREATE TABLE changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    place INTEGER NOT NULL,
    tie INTEGER,
    pool TEXT NOT NULL,
    identity TEXT NOT NULL,
    dataset TEXT NOT NULL,
    key BLOB NOT NULL,
    kind TEXT NOT NULL,
    appended_from INTEGER,
    text BLOB NOT NULL,
    base INTEGER,
    existed INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    sent BLOB NOT NULL,
    sync_count INTEGER,
    UNIQUE (pool, identity, dataset, key)
) STRICT;
";

/// How often a lock that somebody holds is tried.
const AGAIN: Duration = Duration::from_millis(50);

/// See the module's documentation. Its calls wait for the disk: not for a thread that serves.
#[derive(Debug)]
pub struct Journal {
    inner: Mutex<Inner>,
    _lock: Option<File>,
}

#[derive(Debug)]
struct Inner {
    connection: Connection,
    /// What is to be written before anything else, first things first.
    owed: VecDeque<Outcome>,
    reserve: Reserve,
}

impl Journal {
    /// Opens the journal of a state directory, or makes it. Waits until `deadline` for a process
    /// that has it: an old mount may still be sending.
    pub fn open(
        directory: &Path,
        deadline: Instant,
        surroundings: &dyn Surroundings,
    ) -> Result<Arc<Self>, JournalError> {
        let lock = lock_directory(directory, deadline, surroundings)?;
        let path = directory.join("journal.db");
        // SQLite would make it for everybody the umask lets in.
        files::private(&path).map_err(|source| JournalError::File {
            path: path.clone(),
            source,
        })?;
        let damaged = |error| match error {
            JournalError::Database(source) => JournalError::Damaged {
                path: path.clone(),
                source,
            },
            error => error,
        };
        let connection = Connection::open(&path).map_err(|error| damaged(error.into()))?;
        Self::prepare(&connection, &path).map_err(damaged)?;
        let room = Box::new(RoomInFile(directory.join("reserve")));
        let reserve = Reserve::make(room, surroundings.now());
        Ok(Self::over(connection, reserve, Some(lock)))
    }

    /// Makes a journal that ends with the process.
    pub fn in_memory() -> Result<Arc<Self>, JournalError> {
        let connection = Connection::open_in_memory()?;
        Self::prepare(&connection, Path::new(":memory:"))?;
        let reserve = Reserve::in_memory();
        Ok(Self::over(connection, reserve, None))
    }

    fn over(connection: Connection, reserve: Reserve, lock: Option<File>) -> Arc<Self> {
        let inner = Inner {
            connection,
            owed: VecDeque::new(),
            reserve,
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
            _lock: lock,
        })
    }

    fn prepare(connection: &Connection, path: &Path) -> Result<(), JournalError> {
        match header(connection)? {
            (0, 0, true) => {
                connection.execute_batch(&format!(
                    "PRAGMA journal_mode = WAL; BEGIN; {} {TABLES}
                     PRAGMA application_id = {OLD_APPLICATION_ID}; PRAGMA user_version = {VERSION};
                     COMMIT;",
                    versions::TABLE
                ))?;
            }
            (OLD_APPLICATION_ID, 1, _) => connection.execute_batch(&format!(
                "PRAGMA journal_mode = WAL; BEGIN;
                 ALTER TABLE changes ADD COLUMN sync_count INTEGER;
                 PRAGMA user_version = {VERSION}; COMMIT;"
            ))?,
            (OLD_APPLICATION_ID, VERSION, _) => {
                connection.execute_batch("PRAGMA journal_mode = WAL")?;
            }
            _ => return Err(JournalError::Foreign(path.to_owned())),
        }
        // In WAL mode a commit survives the process; only a power cut may take the last ones.
        connection.execute_batch("PRAGMA synchronous = NORMAL")?;
        Ok(())
    }

    /// A panic in a transaction has rolled it back, so a poisoned lock guards nothing broken.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Does what must survive a power cut.
    fn durably<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        let connection = &self.connection;
        connection.execute_batch("PRAGMA synchronous = FULL")?;
        let done = work(connection);
        connection.execute_batch("PRAGMA synchronous = NORMAL")?;
        Ok(done?)
    }
}

fn lock_directory(
    directory: &Path,
    deadline: Instant,
    surroundings: &dyn Surroundings,
) -> Result<File, JournalError> {
    let path = directory.join("lock");
    let time = |until: Instant| until.saturating_duration_since(surroundings.now());
    // Counted, too, as this sleep is the machine's: a clock that stands still would never end it.
    let mut tries = time(deadline).as_nanos().div_ceil(AGAIN.as_nanos());
    loop {
        match files::try_lock(&path) {
            Ok(Some(file)) => return Ok(file),
            Ok(None) if tries > 0 && !time(deadline).is_zero() => {
                tries -= 1;
                std::thread::sleep(AGAIN);
            }
            Ok(None) => return Err(JournalError::Locked(path)),
            Err(source) => return Err(JournalError::File { path, source }),
        }
    }
}

/// Names a dataset for the tests.
#[cfg(test)]
fn somewhere() -> Whereabouts {
    let id = |last: u32| format!("us-east-1:00000000-0000-4000-8000-{last:012}");
    let parsed = (id(1).parse(), id(2).parse(), "data".parse());
    (parsed.0.unwrap(), parsed.1.unwrap(), parsed.2.unwrap())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::api::System;

    #[test]
    fn one_process_has_a_journal_and_it_is_the_users_alone() {
        let directory = tempfile::tempdir().unwrap();
        let first = Journal::open(directory.path(), Instant::now(), &System).unwrap();
        let second = Journal::open(directory.path(), Instant::now() + 2 * AGAIN, &System);
        assert!(matches!(second, Err(JournalError::Locked(_))));
        drop(first);
        Journal::open(directory.path(), Instant::now(), &System).unwrap();
        for entry in directory.path().read_dir().unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_journal_of_the_version_before_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        drop(Journal::open(directory.path(), Instant::now(), &System).unwrap());
        let old = Connection::open(directory.path().join("journal.db")).unwrap();
        old.execute_batch(
            "ALTER TABLE changes DROP COLUMN sync_count; PRAGMA user_version = 1;
             INSERT INTO changes (place, pool, identity, dataset, key, kind, text, base, existed,
                modified, sent)
             VALUES (1, 'us-east-1:00000000-0000-4000-8000-000000000001',
                'us-east-1:00000000-0000-4000-8000-000000000002', 'data', x'6b', 'whole', x'76', 4,
                1, 7, x'')",
        )
        .unwrap();
        drop(old);
        let journal = Journal::open(directory.path(), Instant::now(), &System).unwrap();
        let queued = journal.queued().unwrap();
        assert_eq!(*queued[0].change.text, *b"v");
        assert_eq!(queued[0].change.left.sync_count, None);
    }

    #[test]
    fn what_is_not_ours_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.db");
        let other = Connection::open(&path).unwrap();
        other.execute_batch("CREATE TABLE theirs (x)").unwrap();
        let opened = Journal::open(directory.path(), Instant::now(), &System);
        assert!(matches!(opened, Err(JournalError::Foreign(_))));
        drop(other);
        std::fs::write(&path, "no database").unwrap();
        let damaged = Journal::open(directory.path(), Instant::now(), &System).unwrap_err();
        assert!(
            damaged.to_string().contains("journal.db: is damaged"),
            "{damaged}"
        );
        assert_eq!(std::fs::read(path).unwrap(), b"no database");
    }
}
