//! The connections that read. They see what was committed, and never wait for a write.
//!
//! Invariant: all that one piece of work reads is of one moment.

use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use super::{StorageError, Tx, connect};

/// How many read at a time; each keeps up to 2 MB of the store in memory.
const READERS: usize = 4;

const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Readers {
    free: Mutex<Vec<Connection>>,
    /// Told when one is free again.
    freed: Condvar,
}

impl Readers {
    pub(super) fn open(path: &Path) -> Result<Self, StorageError> {
        let open = || {
            let connection = connect(path)?;
            connection.execute_batch("PRAGMA query_only = ON")?;
            // For the moments in which SQLite makes its index of the log anew.
            connection.busy_timeout(PATIENCE)?;
            Ok::<_, StorageError>(connection)
        };
        let free = (0..READERS).map(|_| open()).collect::<Result<_, _>>()?;
        Ok(Self {
            free: Mutex::new(free),
            freed: Condvar::new(),
        })
    }

    pub(super) fn read<T, E: From<StorageError>>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut lent = self.lend();
        let connection = lent.connection.as_mut();
        let connection = connection.ok_or_else(|| StorageError::Damaged("no reader".to_owned()))?;
        let moment = connection.transaction().map_err(StorageError::from)?;
        work(&Tx(&moment))
    }

    fn lend(&self) -> Lent<'_> {
        let mut free = self.lock();
        loop {
            match free.pop() {
                Some(connection) => {
                    return Lent {
                        readers: self,
                        connection: Some(connection),
                    };
                }
                None => {
                    let waited = self.freed.wait(free);
                    free = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that goes back when it is dropped.
struct Lent<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.readers.lock().extend(self.connection.take());
        self.readers.freed.notify_one();
    }
}
