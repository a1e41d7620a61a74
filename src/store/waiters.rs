//! Who waits for what of a dataset, and how they are told.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use tokio::sync::oneshot;

use super::error::{Error, ErrorKind};
use crate::sync::{DatasetState, Landed, Ticket};

/// A change that was not made.
#[derive(Clone, Debug)]
pub struct Commit {
    pub error: Error,
    /// Set if the change may still turn out to have been made: ask [`Dataset::outcome`] again
    /// before making it anew.
    pub ticket: Option<Ticket>,
}

pub(super) type Verdict = Result<Vec<Landed>, Commit>;

/// Somebody who waits, and until when. No call is made for him after that: he is told then that
/// nothing was done.
#[derive(Debug)]
pub(super) struct Waiter<T> {
    pub(super) sender: oneshot::Sender<T>,
    pub(super) deadline: Instant,
}

impl<T> Waiter<T> {
    fn waits(&self, now: Instant) -> bool {
        now < self.deadline && !self.sender.is_closed()
    }
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) state: DatasetState,
    pub(super) running: bool,
    pub(super) lists_begun: u64,
    /// Who waits for which listing, counted as `lists_begun` is.
    pub(super) list_waiters: Vec<(u64, Waiter<Result<(), Error>>)>,
    pub(super) listing: bool,
    pub(super) waiters: HashMap<Ticket, Waiter<Verdict>>,
    /// Outcomes that came when nobody waited any more.
    pub(super) outcomes: HashMap<Ticket, Verdict>,
    /// Who waits for the dataset to be deleted.
    pub(super) deletions: Vec<Waiter<Result<(), Error>>>,
    /// Tickets whose outcome nobody will ask for.
    pub(super) forgotten: HashSet<Ticket>,
    /// What the exchange under way was told last, or why the last update or deletion has no answer.
    /// Whoever waits in vain until his deadline is told that.
    pub(super) trouble: Option<Error>,
}

impl Inner {
    /// Hands outcomes to those who wait; an outcome nobody waits for is kept until it is asked
    /// for.
    pub(super) fn deliver(&mut self) {
        for (ticket, outcome) in self.state.take_settled() {
            let verdict = outcome.map_err(|refusal| Commit {
                error: refusal.into(),
                ticket: None,
            });
            let unsent = match self.waiters.remove(&ticket) {
                Some(waiter) => waiter.sender.send(verdict).err(),
                None => Some(verdict),
            };
            if self.forgotten.remove(&ticket) {
                continue;
            }
            if let Some(verdict) = unsent {
                self.outcomes.insert(ticket, verdict);
            }
        }
    }

    /// A listing came, which is the end of some troubles. That changes are throttled is not over:
    /// those who wait in line to make theirs wait for that.
    pub(super) fn note_listed(&mut self) {
        let kind = self.trouble.as_ref().map(Error::kind);
        let in_line = !self.deletions.is_empty() || !self.state.awaited().is_empty();
        let stays = kind == Some(ErrorKind::Throttled) && in_line;
        if !stays && !self.state.is_unsure() {
            self.trouble = None;
        }
    }

    /// Returns why somebody waited in vain until his deadline.
    pub(super) fn timed_out(&self) -> Error {
        let trouble = self.trouble.clone();
        trouble.unwrap_or_else(|| ErrorKind::TimedOut.into())
    }

    /// Returns whether somebody waits for anything of this dataset. All of it begins with a listing.
    pub(super) fn is_awaited(&self, now: Instant) -> bool {
        let mut lists = self.list_waiters.iter();
        lists.any(|(_, waiter)| waiter.waits(now))
            || self.is_deletion_awaited(now)
            || self
                .state
                .awaited()
                .iter()
                .any(|it| self.waits_for(it, now))
    }

    /// Returns whether somebody waits for the update under way.
    pub(super) fn is_update_awaited(&self, now: Instant) -> bool {
        let awaited = self.state.awaited();
        let mut in_flight = awaited.iter().filter(|it| self.state.is_in_flight(**it));
        in_flight.any(|ticket| self.waits_for(ticket, now))
    }

    /// Returns whether somebody waits for a group that is awaited, or is about to. One who went away
    /// before his time was not told that it failed, and may ask for it again.
    fn waits_for(&self, ticket: &Ticket, now: Instant) -> bool {
        let waiter = self.waiters.get(ticket);
        waiter.is_none_or(|waiter| now < waiter.deadline)
    }

    /// Returns until when somebody waits for the update under way, if anybody does.
    pub(super) fn update_deadline(&self) -> Option<Instant> {
        let in_flight = |ticket: &Ticket| self.state.is_in_flight(*ticket);
        let waiters = self.waiters.iter();
        let those = waiters.filter(|(ticket, _)| in_flight(ticket));
        those.map(|(_, waiter)| waiter.deadline).max()
    }

    /// Returns whether somebody waits for the deletion.
    pub(super) fn is_deletion_awaited(&self, now: Instant) -> bool {
        self.deletions.iter().any(|waiter| waiter.waits(now))
    }

    /// Returns until when somebody waits for the deletion, if anybody does.
    pub(super) fn deletion_deadline(&self) -> Option<Instant> {
        self.deletions.iter().map(|waiter| waiter.deadline).max()
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

    /// Tells all who wait for the dataset to be deleted. Whoever came while it was tried is among
    /// them, so nothing is left of the wish.
    pub(super) fn resolve_deletions(&mut self, result: &Result<(), Error>) {
        self.state.cancel_deletion();
        for waiter in self.deletions.drain(..) {
            let _ = waiter.sender.send(result.clone());
        }
    }

    /// The service cannot be asked: everybody who waits is told so.
    pub(super) fn fail(&mut self, error: Error) {
        self.resolve_lists(u64::MAX, &Err(error.clone()));
        self.resolve_deletions(&Err(error.clone()));
        for ticket in self.state.awaited() {
            let undecided = !self.state.abandon(ticket);
            let commit = Commit {
                error: error.clone(),
                ticket: undecided.then_some(ticket),
            };
            match self.waiters.remove(&ticket) {
                Some(waiter) => {
                    let _ = waiter.sender.send(Err(commit));
                }
                // It was submitted, and is asked for in a moment.
                None => {
                    self.outcomes.insert(ticket, Err(commit));
                }
            }
        }
        self.trouble = None;
    }
}
