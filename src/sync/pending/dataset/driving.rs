//! What is to be done next.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{DatasetState, GATHER};
use crate::sync::exchange::Replaced;
use crate::sync::pending::barrier::Barrier;
use crate::sync::pending::batch::{Batch, Planned, plan_group};
use crate::sync::pending::change::Ticket;
use crate::sync::pending::group::{Group, Noted, Shape};
use crate::sync::pending::note::Hold;
use crate::wire::names::RecordKey;
use crate::wire::records::RecordPatch;

/// How long after a session token came it may be used. A new record makes a dataset again that was
/// deleted since, and no count tells. It counts from when the listing came: one that took long is not
/// followed by another and another.
const TOKEN_LIFE: Duration = Duration::from_secs(5);

/// What the driver is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    List {
        since: i64,
    },
    Update {
        patches: Vec<RecordPatch>,
        token: String,
        /// Values that will be gone. Those unseen are to be kept before the update is sent.
        replaced: Vec<Replaced>,
    },
    /// Delete the dataset, which was just listed and is empty.
    Delete,
    /// Do not delete it: it has records, or changes under way.
    RefuseDeletion,
    /// Nothing before this moment, unless something else is asked for.
    Wait {
        until: Instant,
    },
    Idle,
}

/// What may go now.
struct Ready {
    /// In the order in which they are taken in.
    tickets: Vec<Ticket>,
    /// Whether one of them need not wait for company.
    is_due: bool,
    /// When something may go that may not now.
    wakes: Option<Instant>,
}

impl DatasetState {
    /// Asks for a listing, however fresh the last one is.
    pub fn want_list(&mut self) {
        self.list_wanted = true;
    }

    /// Has a listing precede the next update.
    pub fn drop_token(&mut self) {
        self.token = None;
    }

    /// Asks for the dataset to be deleted if a new listing shows it empty.
    pub fn want_deletion(&mut self) {
        self.list_wanted = true;
        self.delete_wanted = true;
    }

    /// Takes the wish for deletion back, if it was not granted yet.
    pub fn cancel_deletion(&mut self) {
        self.delete_wanted = false;
    }

    /// Has nothing be sent before a moment, after something was sent in vain. Listings that somebody
    /// asks for are made.
    pub fn hold_off(&mut self, until: Instant) {
        self.held_off = Some(until);
    }

    /// Returns what to do now. After `List` and `Update` one of the `handle_*` is due; events may
    /// have come.
    pub fn next_step(&mut self, now: Instant, barrier: &mut Barrier) -> Step {
        if self.in_flight.is_some() {
            return Step::Idle;
        }
        if self.list_wanted {
            return self.list();
        }
        if std::mem::take(&mut self.delete_wanted) {
            return self.next_deletion();
        }
        let held_off = self.held_off.filter(|until| now < *until);
        if self.groups.iter().any(|group| group.unanswered) {
            return match held_off {
                Some(until) => Step::Wait { until },
                None => self.list(),
            };
        }
        loop {
            let ready = self.ready(now, barrier);
            if !ready.is_due {
                return match ready.wakes {
                    Some(until) => Step::Wait { until },
                    None => Step::Idle,
                };
            }
            if let Some(until) = held_off {
                return Step::Wait { until };
            }
            let usable = |at: Instant| now.saturating_duration_since(at) < TOKEN_LIFE;
            if self.listed.is_none() || !self.token.as_ref().is_some_and(|(_, at)| usable(*at)) {
                return self.list();
            }
            if let Some(step) = self.update(&ready.tickets, barrier) {
                return step;
            }
            if !self.events.is_empty() {
                // What was refused may keep others back: that is told first.
                return Step::Wait { until: now };
            }
        }
    }

    fn list(&mut self) -> Step {
        self.list_wanted = false;
        let since = self.listed.map_or(0, |listed| listed.sync_count);
        Step::List { since }
    }

    fn next_deletion(&mut self) -> Step {
        let is_tombstone = |key: &RecordKey| {
            let remote = self.records.get(key);
            remote.is_none_or(|remote| remote.value.is_none())
        };
        match self.is_settled() && self.records.keys().all(is_tombstone) {
            true => Step::Delete,
            false => Step::RefuseDeletion,
        }
    }

    /// Finds what may go now: of each key the first change, and removals after what they wait for.
    fn ready(&self, now: Instant, barrier: &mut Barrier) -> Ready {
        let mut wakes: Vec<Instant> = Vec::new();
        let mut taken: BTreeSet<RecordKey> = BTreeSet::new();
        let mut free: Vec<&Group> = Vec::new();
        for group in &self.groups {
            // Litter goes nowhere, and what is replaced goes with what replaces it: nothing waits.
            if group.is_litter() || group.replaced_by.is_some() {
                continue;
            }
            let is_first = !group.shares_a_key(&taken);
            taken.extend(group.keys());
            if !is_first || !is_for_sending(group) {
                continue;
            }
            match self.held_until(group, now) {
                Held::Not => free.push(group),
                Held::Until(until) => wakes.push(until),
                Held::On => {}
            }
        }
        // Sets first: what waits for them may go along.
        free.sort_by_key(|group| match group.shape() {
            Shape::Sets => 0,
            Shape::Mixed => 1,
            Shape::Removals => 2,
        });
        let mut tickets: Vec<Ticket> = Vec::new();
        let mut is_due = false;
        let mut cohort = None;
        for group in free {
            if let Some(other) = waits_for(group, barrier, &tickets) {
                barrier.note_waiting(self.id, other);
                continue;
            }
            if *cohort.get_or_insert(group.cohort) != group.cohort {
                continue;
            }
            let due = group.gathers_since + GATHER;
            match group.is_awaited() || due <= now {
                true => is_due = true,
                false => wakes.push(due),
            }
            tickets.push(group.ticket);
        }
        Ready {
            tickets,
            is_due,
            wakes: wakes.into_iter().min(),
        }
    }

    /// Returns of all groups what they wait for: those before them of the same keys, what is to take their
    /// place, and what the order says. Nothing waits in a circle.
    pub fn waiting(&self, barrier: &Barrier) -> Vec<(Ticket, Vec<Ticket>)> {
        let is_in_line = |group: &&Group| !group.is_litter() && group.replaced_by.is_none();
        let waits = self.groups.iter().enumerate().map(|(at, group)| {
            let keys: BTreeSet<RecordKey> = group.keys().collect();
            let before = self.groups[..at].iter().filter(is_in_line);
            let of_keys = before.filter(|other| other.shares_a_key(&keys));
            let mut awaited: Vec<Ticket> = match is_in_line(&group) {
                true => of_keys.map(|other| other.ticket).collect(),
                false => group.replaced_by.into_iter().collect(),
            };
            if let Some(places) = group.places().filter(|_| is_in_line(&group)) {
                let others = barrier.awaited_by(places, group.shape());
                awaited.extend(others.filter(|other| *other != group.ticket));
            }
            (group.ticket, awaited)
        });
        waits.collect()
    }

    fn held_until(&self, group: &Group, now: Instant) -> Held {
        if let Some(until) = group.not_before.filter(|until| now < *until) {
            return Held::Until(until);
        }
        let Some(held) = group.hold else {
            return Held::Not;
        };
        let is_open = |key| self.open.contains(key);
        let Some(until) = held.until else {
            return Held::On;
        };
        if held.hold == Hold::Grace && group.changes.iter().any(|change| is_open(&change.key)) {
            return Held::On;
        }
        match now < until {
            true => Held::Until(until),
            false => Held::Not,
        }
    }

    /// Makes a batch of groups. Those that need no sending are settled; None if none is left.
    fn update(&mut self, ready: &[Ticket], barrier: &mut Barrier) -> Option<Step> {
        let mut batch = Batch::default();
        let mut passed: Vec<Ticket> = Vec::new();
        let mut settled = Vec::new();
        for ticket in ready {
            let Some(at) = self.position(*ticket) else {
                continue;
            };
            let group = &self.groups[at];
            if waits_for(group, barrier, &passed).is_some() {
                continue;
            }
            match plan_group(group, |key| self.against(key)) {
                Planned::Send(patches, replaced) => {
                    if !batch.admit(*ticket, patches, replaced) {
                        continue;
                    }
                }
                Planned::Nothing => settled.push((*ticket, None)),
                Planned::Refused(refusal) => {
                    settled.push((*ticket, Some(refusal)));
                    continue;
                }
            }
            passed.push(*ticket);
        }
        for (ticket, refusal) in settled {
            match refusal {
                None => self.settle_made(ticket, barrier),
                Some(refusal) => self.refuse_for(ticket, refusal, barrier),
            }
        }
        if batch.groups.is_empty() {
            return None;
        }
        let patches = batch.patches();
        let replaced = std::mem::take(&mut batch.replaced);
        self.in_flight = Some(batch);
        let (token, _) = self.token.take()?;
        Some(Step::Update {
            patches,
            token,
            replaced,
        })
    }
}

enum Held {
    Not,
    Until(Instant),
    /// Until something else happens.
    On,
}

/// Returns whether a group is one that goes by itself, or for somebody who waits.
fn is_for_sending(group: &Group) -> bool {
    let is_noted = matches!(group.noted, Noted::Yes(_));
    let is_under_way = matches!(group.noted, Noted::UnderWay { .. });
    (group.is_awaited() || is_noted) && !is_under_way && group.replaced_by.is_none()
}

/// Returns a group that one waits for, if it is not among those that go along. What only its caller
/// waits for is not in the order.
fn waits_for(group: &Group, barrier: &Barrier, along: &[Ticket]) -> Option<Ticket> {
    let places = group.places()?;
    let goes_along = |ticket| ticket == group.ticket || along.contains(&ticket);
    let mut awaited = barrier.awaited_by(places, group.shape());
    awaited.find(|ticket| !goes_along(*ticket))
}
