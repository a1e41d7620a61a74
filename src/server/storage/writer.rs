//! The one connection that writes. Writes that come together share a transaction, and so the wait
//! for the disk.
//!
//! Invariant: every write is a savepoint, made or undone whatever becomes of the others, and it
//! returns after the commit of its transaction. Who comes last commits for all.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use rusqlite::Connection;

use super::{StorageError, Tx};

/// How a transaction ended; if it failed, why.
type Outcome = OnceLock<Result<(), String>>;

pub(super) struct Writer {
    state: Mutex<State>,
    /// Told when a transaction has ended.
    ended: Condvar,
    /// Writes that wait for the connection: one of them will end the transaction.
    coming: AtomicUsize,
    /// One transaction is kept open for all writes.
    held: AtomicBool,
}

struct State {
    connection: Connection,
    /// There is one while a transaction is open.
    outcome: Option<Arc<Outcome>>,
}

impl Writer {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            state: Mutex::new(State {
                connection,
                outcome: None,
            }),
            ended: Condvar::new(),
            coming: AtomicUsize::new(0),
            held: AtomicBool::new(false),
        }
    }

    /// Returns whether [`together`](Self::together) runs, whose writes only this connection sees.
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::SeqCst)
    }

    /// Reads what was written, committed or not.
    pub(super) fn read<T, E>(&self, work: impl FnOnce(&Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        work(&Tx(&self.lock().connection))
    }

    /// Writes; all of it is on disk when this returns, or nothing of it.
    pub(super) fn write<T, E: From<StorageError>>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.coming.fetch_add(1, Ordering::SeqCst);
        let mut state = self.lock();
        self.coming.fetch_sub(1, Ordering::SeqCst);
        // Others may wait for this one to end the transaction, even if it panics.
        let answer = catch_unwind(AssertUnwindSafe(|| state.add(work)));
        let ended = self.end(state);
        match answer {
            Ok(answer) => {
                let answer = answer?;
                ended?;
                Ok(answer)
            }
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Commits, or waits until another one has.
    fn end(&self, mut state: MutexGuard<'_, State>) -> Result<(), StorageError> {
        let Some(outcome) = state.outcome.clone() else {
            return Ok(());
        };
        // A full disk makes SQLite roll back all of the transaction.
        let rolled_back = state.connection.is_autocommit();
        if self.is_held() && !rolled_back {
            return Ok(());
        }
        if rolled_back || self.coming.load(Ordering::SeqCst) == 0 {
            let ended = match rolled_back {
                true => Err("another write of its transaction failed".to_owned()),
                false => state.commit(),
            };
            state.outcome = None;
            // It is set once only, here.
            let _ = outcome.set(ended);
            self.ended.notify_all();
        }
        loop {
            match outcome.get() {
                Some(Ok(())) => return Ok(()),
                Some(Err(why)) => return Err(StorageError::NotCommitted(why.clone())),
                None => {
                    let waited = self.ended.wait(state);
                    state = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Makes one transaction of all that `setup` writes. Nobody else may write meanwhile, or be
    /// writing.
    pub(super) fn together<T, E: From<StorageError>>(
        &self,
        setup: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.lock().begin()?;
        self.held.store(true, Ordering::SeqCst);
        let answer = setup();
        self.held.store(false, Ordering::SeqCst);
        let mut state = self.lock();
        state.outcome = None;
        match answer {
            Ok(answer) => {
                state.commit().map_err(StorageError::NotCommitted)?;
                Ok(answer)
            }
            Err(error) => {
                state.roll_back();
                Err(error)
            }
        }
    }

    /// What a panic left half done is rolled back, so a poisoned lock guards nothing broken.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn begin(&mut self) -> Result<(), StorageError> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        self.outcome = Some(Arc::default());
        Ok(())
    }

    /// Adds a write to the open transaction, or begins one.
    fn add<T, E: From<StorageError>>(
        &mut self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        if self.outcome.is_none() {
            self.begin()?;
        }
        let savepoint = self.connection.savepoint().map_err(StorageError::from)?;
        let answer = work(&Tx(&savepoint))?;
        savepoint.commit().map_err(StorageError::from)?;
        Ok(answer)
    }

    fn commit(&mut self) -> Result<(), String> {
        self.connection.execute_batch("COMMIT").map_err(|error| {
            self.roll_back();
            error.to_string()
        })
    }

    fn roll_back(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "the store cannot be rolled back");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Storage;
    use super::*;
    use crate::wire::names::{IdentityId, PoolId};
    use crate::wire::timestamp::Timestamp;

    fn insert(tx: &Tx<'_>, number: usize) -> Result<(), StorageError> {
        let pool: PoolId = "us-east-1:ab".parse().unwrap();
        let identity: IdentityId = format!("us-east-1:{number}").parse().unwrap();
        tx.insert_identity(&pool, &identity, Timestamp::from_millis(0))
    }

    fn store(directory: &tempfile::TempDir) -> Storage {
        let storage = Storage::open(&directory.path().join("store")).unwrap();
        let pool = "us-east-1:ab".parse().unwrap();
        let made = storage.write(|tx| tx.insert_pool(&pool, "p", Timestamp::from_millis(0)));
        made.map_err(|error: StorageError| error).unwrap();
        storage
    }

    fn count(storage: &Storage) -> usize {
        let pool = "us-east-1:ab".parse().unwrap();
        storage
            .read(|tx| tx.identities(&pool, "", 100))
            .unwrap()
            .len()
    }

    /// Runs `first`, and while it has the connection lets others come.
    fn meet<T: Send>(
        storage: &Storage,
        first: impl FnOnce(&Tx<'_>) -> Result<(), StorageError> + Send,
        others: Vec<Box<dyn FnOnce() -> T + Send + '_>>,
    ) -> (Result<(), StorageError>, Vec<std::thread::Result<T>>) {
        let expected = others.len();
        std::thread::scope(|scope| {
            let (begun, has_begun) = std::sync::mpsc::channel();
            let first = scope.spawn(move || {
                storage.write(|tx| {
                    begun.send(()).unwrap();
                    while storage.writer.coming.load(Ordering::SeqCst) < expected {
                        std::thread::yield_now();
                    }
                    first(tx)
                })
            });
            has_begun.recv().unwrap();
            let others: Vec<_> = others.into_iter().map(|other| scope.spawn(other)).collect();
            let others = others.into_iter().map(|other| other.join()).collect();
            (first.join().unwrap(), others)
        })
    }

    #[test]
    fn writes_that_meet_share_a_transaction_and_fail_alone() {
        let directory = tempfile::tempdir().unwrap();
        let storage = &store(&directory);
        let mut others: Vec<Box<dyn FnOnce() -> Result<usize, StorageError> + Send>> = Vec::new();
        for number in 1..10 {
            others.push(Box::new(move || {
                storage.write(|tx| {
                    insert(tx, number)?;
                    match number {
                        7 => Err(StorageError::Damaged(String::new())),
                        8 => panic!("on purpose"),
                        // Nothing of the transaction is committed yet.
                        _ => Ok(count(storage)),
                    }
                })
            }));
        }
        let (first, others) = meet(storage, |tx| insert(tx, 0), others);
        first.unwrap();
        let counts = others.iter().filter_map(|other| match other {
            Ok(Ok(count)) => Some(*count),
            _ => None,
        });
        assert_eq!(counts.collect::<Vec<_>>(), [0; 7]);
        assert!(others[6].as_ref().unwrap().is_err());
        assert!(others[7].is_err());
        assert_eq!(count(storage), 8);
    }

    #[test]
    fn no_write_is_acknowledged_of_a_transaction_that_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let storage = &store(&directory);
        let others: Vec<Box<dyn FnOnce() -> Result<(), StorageError> + Send>> =
            vec![Box::new(move || {
                storage.write(|tx| {
                    // As SQLite does when the disk is full.
                    tx.0.execute_batch("ROLLBACK")?;
                    Err(StorageError::Damaged("full".to_owned()))
                })
            })];
        let (first, others) = meet(storage, |tx| insert(tx, 0), others);
        assert!(matches!(first, Err(StorageError::NotCommitted(_))));
        assert!(others[0].as_ref().unwrap().is_err());
        assert_eq!(count(storage), 0);
        storage.write(|tx| insert(tx, 1)).unwrap();
        assert_eq!(count(storage), 1);
    }

    #[test]
    fn a_read_does_not_wait_for_a_write() {
        let directory = tempfile::tempdir().unwrap();
        let storage = store(&directory);
        storage
            .write(|tx| {
                insert(tx, 0)?;
                assert_eq!(count(&storage), 0);
                Ok::<_, StorageError>(())
            })
            .unwrap();
        assert_eq!(count(&storage), 1);
        let written = storage.read(|tx| insert(tx, 1));
        assert!(written.is_err(), "a reader must not write");
    }
}
