//! Who waits for what of a dataset.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use tokio::sync::oneshot;

use super::super::error::{Error, ErrorKind};
use super::back_off::BackOff;
use super::dataset::PendingDataset;
use crate::sync::pending::{DatasetState, Event, Ticket};

/// Somebody who waits, and until when. No call is made for him after that: he is told then that
/// nothing was done.
#[derive(Debug)]
pub(super) struct Waiter<T> {
    pub(super) sender: oneshot::Sender<T>,
    pub(super) deadline: Instant,
}

/// What is behind the lock of a dataset.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) state: DatasetState,
    /// Whether the task that makes the exchanges lives.
    pub(super) running: bool,
    /// Whether it is to look once more before it ends.
    pub(super) poked: bool,
    /// How many listings were begun, and whether one is under way.
    pub(super) lists_begun: u64,
    pub(super) listing: bool,
    /// Who waits for which listing, counted as `lists_begun` is.
    pub(super) list_waiters: Vec<(u64, Waiter<Result<(), Error>>)>,
    /// Who waits for groups. More than one may wait for a group.
    pub(super) waiters: BTreeMap<Ticket, Vec<Waiter<Result<(), Error>>>>,
    /// Who waits for the dataset to be deleted.
    pub(super) deletions: Vec<Waiter<Result<(), Error>>>,
    /// When the dataset is to be deleted for those who wait, after that had no answer.
    pub(super) delete_again: Option<Instant>,
    /// What happened and was not told to everybody yet. The task tells it, in this order.
    pub(super) untold: VecDeque<Event>,
    /// How many wait to put changes in line, and what is to be forgotten after them: their changes
    /// may be based on it.
    pub(super) staging: usize,
    pub(super) told: Vec<Ticket>,
    /// What the exchange under way was told last, or why the last one has no answer. Whoever waits
    /// in vain until his deadline is told that.
    pub(super) trouble: Option<Error>,
    pub(super) back_off: BackOff,
}

impl Inner {
    pub(super) fn new(state: DatasetState) -> Self {
        Self {
            state,
            running: false,
            poked: false,
            lists_begun: 0,
            listing: false,
            list_waiters: Vec::new(),
            waiters: BTreeMap::new(),
            deletions: Vec::new(),
            delete_again: None,
            untold: VecDeque::new(),
            staging: 0,
            told: Vec::new(),
            trouble: None,
            back_off: BackOff::default(),
        }
    }

    /// Returns why somebody waited in vain until his deadline.
    pub(super) fn timed_out(&self) -> Error {
        let trouble = self.trouble.clone();
        trouble.unwrap_or_else(|| ErrorKind::TimedOut.into())
    }

    /// Returns until when somebody waits for what is being sent, if anybody does.
    pub(super) fn update_deadline(&self) -> Option<Instant> {
        let in_flight = self.state.in_flight();
        let waiters = in_flight
            .iter()
            .filter_map(|ticket| self.waiters.get(ticket));
        waiters.flatten().map(|waiter| waiter.deadline).max()
    }

    /// Has the dataset be deleted for those who still wait for that.
    pub(super) fn want_deletion(&mut self) {
        self.delete_again = None;
        self.state.want_deletion();
        self.leave_deletion();
    }

    /// Somebody may have given up who waited for the deletion: without any, it is not wanted.
    pub(super) fn leave_deletion(&mut self) {
        self.deletions.retain(|waiter| !waiter.sender.is_closed());
        if self.deletions.is_empty() {
            self.delete_again = None;
            self.state.cancel_deletion();
        }
    }

    /// Returns until when somebody waits for the deletion, if anybody does.
    pub(super) fn deletion_deadline(&self) -> Option<Instant> {
        self.deletions.iter().map(|waiter| waiter.deadline).max()
    }

    /// Returns whether a listing is of use to somebody whose time is not over, or to what goes by
    /// itself.
    pub(super) fn is_list_wanted(&self, now: Instant) -> bool {
        let lists = self.list_waiters.iter().map(|(_, waiter)| waiter.deadline);
        let deletions = self.deletions.iter().map(|waiter| waiter.deadline);
        let groups = self.waiters.values().flatten();
        let groups = groups.map(|waiter| waiter.deadline);
        let mut deadlines = lists.chain(deletions).chain(groups);
        self.state.goes_by_itself() || deadlines.any(|deadline| now < deadline)
    }

    pub(super) fn resolve_lists(&mut self, done: u64, result: &Result<(), Error>) {
        for (wanted, waiter) in std::mem::take(&mut self.list_waiters) {
            if wanted <= done {
                // One who gave up is not told.
                let _ = waiter.sender.send(result.clone());
            } else {
                self.list_waiters.push((wanted, waiter));
            }
        }
    }

    /// Tells those who wait for the deletion, whose wish has ended with that.
    pub(super) fn resolve_deletions(&mut self, result: &Result<(), Error>) {
        self.state.cancel_deletion();
        self.delete_again = None;
        for waiter in self.deletions.drain(..) {
            let _ = waiter.sender.send(result.clone());
        }
    }

    pub(super) fn register(&mut self, ticket: Ticket, deadline: Instant) -> Decided {
        let (sender, receiver) = oneshot::channel();
        let waiter = Waiter { sender, deadline };
        self.waiters.entry(ticket).or_default().push(waiter);
        receiver
    }

    /// Returns whether a ticket was decided, and whoever waits for it is not told yet.
    pub(super) fn is_untold(&self, ticket: Ticket) -> bool {
        self.state.is_untold(ticket, &self.told)
    }

    /// Puts what happened in line behind what happened before it.
    pub(super) fn take_events(&mut self) {
        let events = self.state.take_events();
        self.untold.extend(events);
    }

    /// Returns whether nothing is lost with it but what the service has, and nobody waits for more.
    pub(super) fn is_clean(&self) -> bool {
        !self.running
            && self.list_waiters.is_empty()
            && self.waiters.is_empty()
            && self.deletions.is_empty()
            && self.untold.is_empty()
            && self.staging == 0
            && self.state.is_clean()
    }

    /// Returns whether nothing is pending, litter excepted, and nothing is left to tell.
    pub(super) fn is_quiet(&self) -> bool {
        self.state.is_settled() && self.state.has_told() && self.untold.is_empty()
    }

    /// Everybody was told what came of a ticket but those whose changes wait to be put in line.
    pub(super) fn forget(&mut self, ticket: Ticket) {
        match self.staging {
            0 => self.state.forget(ticket),
            _ => self.told.push(ticket),
        }
    }

    pub(super) fn answer(&mut self, ticket: Ticket, result: &Result<(), Error>) {
        for waiter in self.waiters.remove(&ticket).unwrap_or_default() {
            let _ = waiter.sender.send(result.clone());
        }
    }
}

/// What tells a waiter that a group was decided.
pub(super) type Decided = oneshot::Receiver<Result<(), Error>>;

/// Somebody who waits to put changes in line. What they may be based on is not forgotten meanwhile.
pub(super) struct Staging<'a>(&'a PendingDataset);

impl<'a> Staging<'a> {
    pub(super) fn begin(dataset: &'a PendingDataset, inner: &mut Inner) -> Self {
        inner.staging += 1;
        Self(dataset)
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.staging -= 1;
        if inner.staging == 0 {
            for ticket in std::mem::take(&mut inner.told) {
                inner.state.forget(ticket);
            }
        }
    }
}
