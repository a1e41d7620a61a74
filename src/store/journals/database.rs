//! One SQLite file, and what every read and every change of it goes through.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, TransactionBehavior};

use super::error::JournalError;
use super::format::{Format, Found};

/// What a change survives once it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lasting {
    /// The end of the process.
    Process,
    /// A power cut.
    Power,
}

/// What stands before a simulated disk.
pub(super) trait Gate: fmt::Debug + Send + Sync {
    /// Refuses what a process that has ended would do.
    fn pass(&self) -> Result<(), JournalError>;

    /// Is told of a change that is about to be made, and may refuse it.
    fn before(&self, file: &Path) -> Result<(), JournalError>;

    /// Is told of a change that was made. An error is the end of the process.
    fn after(&self, file: &Path) -> Result<(), JournalError>;
}

/// An open file. Calls wait for the disk.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    /// In memory the connection is the file, so it outlives whoever has it open. The lock is taken
    /// last of all, for one read or one transaction.
    connection: Arc<Mutex<Connection>>,
    gate: Option<Arc<dyn Gate>>,
}

impl Database {
    pub(super) fn new(
        path: PathBuf,
        connection: Arc<Mutex<Connection>>,
        gate: Option<Arc<dyn Gate>>,
    ) -> Self {
        Self {
            path,
            connection,
            gate,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        if let Some(gate) = &self.gate {
            gate.pass()?;
        }
        let connection = self.connection();
        work(&connection).map_err(|error| JournalError::by(&connection, &self.path, error))
    }

    /// Does the work in one transaction: all of it or nothing.
    pub(super) fn write<T>(
        &self,
        lasting: Lasting,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        if let Some(gate) = &self.gate {
            gate.before(&self.path)?;
        }
        let done = self.transact(lasting, work);
        if done.is_ok()
            && let Some(gate) = &self.gate
        {
            gate.after(&self.path)?;
        }
        done
    }

    fn transact<T>(
        &self,
        lasting: Lasting,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        let mut connection = self.connection();
        let done = transact(&mut connection, lasting, work);
        done.map_err(|error| JournalError::by(&connection, &self.path, error))
    }

    /// Makes what the file is to be, unless it is already. What `more` writes is made with it.
    pub(super) fn create(&self, format: Format, more: &str) -> Result<(), JournalError> {
        if let Some(gate) = &self.gate {
            gate.before(&self.path)?;
        }
        format.create(&self.connection(), &self.path, more)?;
        match &self.gate {
            Some(gate) => gate.after(&self.path),
            None => Ok(()),
        }
    }

    /// Says what the file is.
    pub(super) fn identify(&self, format: Format) -> Result<Found, JournalError> {
        if let Some(gate) = &self.gate {
            gate.pass()?;
        }
        format.identify(&self.connection(), &self.path)
    }

    /// A panic in a transaction has rolled it back, so a poisoned lock guards nothing broken.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        let locked = self.connection.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }
}

fn transact<T>(
    connection: &mut Connection,
    lasting: Lasting,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let synchronous = match lasting {
        Lasting::Process => "PRAGMA synchronous = NORMAL",
        Lasting::Power => "PRAGMA synchronous = FULL",
    };
    // A commit syncs the whole log, and with it what earlier ones left to it.
    connection.execute_batch(synchronous)?;
    // From its beginning, so that it waits for whoever else has the file.
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = work(&tx)?;
    tx.commit()?;
    Ok(done)
}
