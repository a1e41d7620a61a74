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

    /// Makes one transaction of all that `setup` writes. Nobody else may write meanwhile.
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
