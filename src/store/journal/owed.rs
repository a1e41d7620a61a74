//! What became of changes, written down: at once, or as soon as the disk takes it.
//!
//! Invariant: what is owed is written before anything that comes later, so that a row that was
//! settled cannot outlive another of its record.

use std::collections::VecDeque;

use rusqlite::{Connection, params};

use super::super::journals::versions::park;
use super::super::queue::{Rebased, shown_count};
use super::{Inner, Journal, JournalError, NewParked, Whereabouts};
use crate::wire::timestamp::Timestamp;

/// How many bytes of versions that are to be kept may wait for room on the disk.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// What became of changes of one dataset.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub dataset: Whereabouts,
    /// Those that were made or given up.
    pub ids: Vec<i64>,
    /// One that is still to be made, and the version it is based on now.
    pub rebased: Option<Rebased>,
    /// What is kept of one that was given up, and since when.
    pub parked: Option<(NewParked, Timestamp)>,
}

impl Journal {
    /// Notes what became of changes, all or nothing. What cannot be noted now is remembered and tried
    /// again.
    ///
    /// # Errors
    /// Why it is not on the disk yet; [`JournalError::TooMuch`] if it is not remembered either.
    pub fn settle(&self, outcome: Outcome) -> Result<(), JournalError> {
        let mut inner = self.inner();
        if !inner.owed.iter().any(|owed| owed.covers(&outcome)) {
            let waiting: usize = inner.owed.iter().map(Outcome::bytes).sum();
            if outcome.ids.is_empty() && waiting + outcome.bytes() > MOST_BYTES {
                return Err(JournalError::TooMuch);
            }
            inner.owed.push_back(outcome);
        }
        inner.pay()
    }

    /// Notes what could not be noted before.
    ///
    /// # Errors
    /// Why it is not on the disk yet.
    pub fn pay(&self) -> Result<(), JournalError> {
        self.inner().pay()
    }

    /// Returns how many outcomes are not on the disk.
    pub fn owed(&self) -> usize {
        self.inner().owed.len()
    }
}

impl Outcome {
    fn bytes(&self) -> usize {
        let parked = self.parked.as_ref();
        parked.map_or(0, |(parked, _)| parked.text.len())
    }

    /// Returns whether another has nothing to be noted but the version that this one keeps.
    fn covers(&self, other: &Self) -> bool {
        let (Some((kept, _)), Some((new, _))) = (&self.parked, &other.parked) else {
            return false;
        };
        other.ids.is_empty()
            && other.rebased.is_none()
            && self.dataset == other.dataset
            && (&kept.key, kept.side, kept.sync_count) == (&new.key, new.side, new.sync_count)
            && kept.text == new.text
    }
}

impl Inner {
    pub(super) fn pay(&mut self) -> Result<(), JournalError> {
        if self.owed.is_empty() {
            return Ok(());
        }
        while let Some(outcome) = self.owed.front() {
            let mut noted = self.note(outcome);
            if noted.is_err() && self.reserve.spend() {
                noted = self.note(outcome);
            }
            noted?;
            self.owed.pop_front();
        }
        self.owed = VecDeque::new();
        Ok(())
    }

    /// Whoever only reads need not know that something is still owed.
    pub(super) fn pay_if_possible(&mut self) {
        if let Err(error) = self.pay() {
            tracing::debug!(%error, "the journal still cannot be written");
        }
    }

    fn note(&self, outcome: &Outcome) -> Result<(), JournalError> {
        match &outcome.parked {
            Some(_) => self.durably(|connection| note(connection, outcome)),
            None => Ok(note(&self.connection, outcome)?),
        }
    }
}

fn note(connection: &Connection, outcome: &Outcome) -> rusqlite::Result<()> {
    let tx = connection.unchecked_transaction()?;
    for id in &outcome.ids {
        tx.execute("DELETE FROM changes WHERE id = ?1", [id])?;
    }
    if let Some(rebased) = outcome.rebased {
        let from = rebased.appended_from.map(|from| from as i64);
        tx.execute(
            "UPDATE changes SET base = ?1, existed = 1, sync_count = NULL, sent = x'',
                appended_from = coalesce(?2, appended_from)
             WHERE id = ?3",
            params![shown_count(rebased.base), from, rebased.id],
        )?;
    }
    if let Some((parked, at)) = &outcome.parked {
        let (pool, identity, dataset) = &outcome.dataset;
        park(&tx, (pool, identity, dataset), parked, *at)?;
    }
    tx.commit()
}
