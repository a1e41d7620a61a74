//! Changes that were closed here and are sent behind the writer's back, kept in the journal until
//! the service has them.

use super::cache::Store;
use super::dataset::Dataset;
use super::error::{Error, ErrorKind};
use super::journal::{Journal, NewQueued, Outcome, Queued, Slot, Tie};
use super::kept::NewlyParked;
use crate::sync::{Base, Shown};
use crate::wire::names::RecordKey;

/// What became of changes in the journal.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// Those that were made or given up, by their ids.
    pub ids: Vec<i64>,
    /// One that is still to be made.
    pub rebased: Option<Rebased>,
    /// What is kept of one that was given up.
    pub parked: Option<NewlyParked>,
}

/// A change in the journal that is based on what a part of it has become.
#[derive(Clone, Copy, Debug)]
pub struct Rebased {
    pub id: i64,
    pub base: Base,
    /// How much of the text the service has, if it is an append.
    pub appended_from: Option<usize>,
}

impl Dataset {
    /// Keeps changes in the journal until they are [settled](Self::settle), all or none; those of
    /// `dropped` records are forgotten.
    ///
    /// # Errors
    /// [`ErrorKind::NoSpace`] on a full disk.
    pub async fn queue(
        &self,
        changes: Vec<NewQueued>,
        dropped: Vec<RecordKey>,
        tie: Tie,
    ) -> Result<Vec<Slot>, Error> {
        let now = self.store().now();
        let queue = move |journal: &Journal, place: super::journal::Place<'_>| {
            journal.queue(place, &changes, &dropped, tie, now)
        };
        self.ask(queue).await
    }

    /// Notes what became of changes in the journal, all or nothing. What cannot be noted now is
    /// remembered, and noted when it can be.
    ///
    /// # Errors
    /// Why it is not on the disk yet.
    pub async fn settle(&self, settled: Settled) -> Result<(), Error> {
        if settled.ids.is_empty() && settled.rebased.is_none() && settled.parked.is_none() {
            return Ok(());
        }
        let now = self.store().date().into();
        let parked = settled.parked.map(NewlyParked::into_new);
        let outcome = Outcome {
            dataset: self.whereabouts(),
            ids: settled.ids,
            rebased: settled.rebased,
            parked: parked.map(|parked| (parked, now)),
        };
        let settle = move |journal: &Journal| journal.settle(outcome);
        self.store().journal(settle).await
    }
}

/// Returns the count that a base names, if it names one.
pub fn shown_count(base: Base) -> Option<i64> {
    match base.shown {
        Shown::Absent => None,
        Shown::Version(count) => Some(count),
    }
}

impl Store {
    /// Returns the changes that earlier processes left, in their order.
    pub async fn left_behind(&self) -> Result<Vec<Queued>, Error> {
        self.journal(Journal::queued).await
    }

    /// Notes what could not be noted before.
    ///
    /// # Errors
    /// Why something is not on the disk yet.
    pub async fn pay(&self) -> Result<(), Error> {
        self.journal(Journal::pay).await
    }
}

impl ErrorKind {
    /// Returns whether the same change can never be made, however often it is tried.
    pub fn is_final(self) -> bool {
        match self {
            Self::NotFound
            | Self::Stale
            | Self::NotEmpty
            | Self::Quota
            | Self::TooBig
            | Self::NotText
            | Self::Invalid => true,
            Self::Denied
            | Self::Unauthenticated
            | Self::NoSpace
            | Self::Throttled
            | Self::TimedOut
            | Self::Unreachable
            | Self::Failed => false,
        }
    }
}
