//! What happened: listings, answers, and none; who waits, and who left.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{DatasetState, Event, Left, Listed, Outcome};
use crate::sync::exchange::Listing;
use crate::sync::pending::barrier::Barrier;
use crate::sync::pending::batch::Batch;
use crate::sync::pending::change::{Ticket, note_once};
use crate::sync::pending::decide::Refusal;
use crate::sync::pending::fingerprint::{fingerprint, is_of};
use crate::sync::pending::group::{Group, Noted};
use crate::sync::pending::note::Settled;
use crate::sync::pending::planted::Planted;
use crate::sync::remote::Remote;
use crate::wire::fault::Fault;
use crate::wire::names::RecordKey;
use crate::wire::records::Record;

/// How often a group is sent again after conflicts and refused tokens.
const MAX_ATTEMPTS: u32 = 10;
/// Far enough back that no `ttl` in use calls it fresh.
const STALE: Duration = Duration::from_secs(24 * 3600);

impl DatasetState {
    /// A listing came at `now`: `asked` is when it was asked for.
    pub fn handle_listed(
        &mut self,
        mut listing: Listing,
        asked: Instant,
        now: Instant,
        barrier: &mut Barrier,
    ) {
        self.token = listing.token.take().map(|token| (token, now));
        let deleted = listing.deleted_after
            || (self.exists && !listing.exists)
            || self.lacks_known_records(&listing);
        self.exists = listing.exists;
        if deleted {
            self.begin_life(barrier);
        }
        if deleted && listing.since > 0 && listing.exists {
            // Only what changed after the old count was listed.
            self.listed = None;
            self.list_wanted = true;
            return;
        }
        let mut changed = Vec::new();
        for record in listing.records {
            let known = self.records.get(&record.key);
            if known.is_some_and(|known| known.sync_count > record.sync_count) {
                continue;
            }
            let remote = Remote::from_record(&record, known);
            changed.push(record.key.clone());
            self.records.insert(record.key, remote);
        }
        self.listed = Some(Listed {
            sync_count: listing.sync_count,
            at: asked,
        });
        self.resolve_unanswered(barrier);
        for key in changed {
            self.fingerprints.prune(&key, self.records.get(&key));
            if Planted::BaseLaundered.is_planted() {
                self.launder(&key);
            }
        }
    }

    /// Does what no listing may do.
    fn launder(&mut self, key: &RecordKey) {
        let base = self.base(key);
        let changes = self.groups.iter_mut().flat_map(|group| &mut group.changes);
        for change in changes.filter(|change| change.key == *key) {
            change.base.shown = base.shown;
        }
    }

    fn begin_life(&mut self, barrier: &mut Barrier) {
        self.life += 1;
        self.records.clear();
        self.fingerprints.begin_life();
        self.drop_litter(barrier);
    }

    /// A listing from 0 has every record the dataset ever had, tombstones included: where a known
    /// one is missing, the dataset was deleted since, though no flag says so.
    fn lacks_known_records(&self, listing: &Listing) -> bool {
        if listing.since > 0 || self.records.is_empty() {
            return false;
        }
        let listed: HashSet<&RecordKey> =
            listing.records.iter().map(|record| &record.key).collect();
        self.records.keys().any(|key| !listed.contains(key))
    }

    /// The service does not know the count that was asked for: the dataset is another one.
    pub fn handle_unknown_sync_count(&mut self, barrier: &mut Barrier) {
        self.begin_life(barrier);
        self.listed = None;
        self.token = None;
        self.list_wanted = true;
    }

    /// The dataset is not there, as a listing of datasets told at `at`.
    pub fn handle_absent(&mut self, at: Instant) {
        if self.listed.is_none() && !self.exists {
            self.listed = Some(Listed { sync_count: 0, at });
        }
    }

    /// The dataset was deleted by this mount.
    pub fn handle_deleted(&mut self, at: Instant, barrier: &mut Barrier) {
        self.exists = false;
        self.begin_life(barrier);
        self.token = None;
        self.listed = Some(Listed { sync_count: 0, at });
    }

    /// The update was made; `sent` is when it was sent.
    pub fn handle_updated(&mut self, answer: Vec<Record>, sent: Instant, barrier: &mut Barrier) {
        let Some(batch) = self.in_flight.take() else {
            return;
        };
        let new_count = answer.iter().map(|record| record.sync_count).max();
        self.exists = true;
        let mut complete = true;
        let patches = batch.patches();
        for patch in &patches {
            let record = answer.iter().find(|record| record.key == patch.key);
            complete &= record.is_some();
            let count = new_count.unwrap_or(patch.sync_count);
            let remote = Remote::from_patch(patch, record, count);
            self.records.insert(patch.key.clone(), remote);
        }
        // A trigger may have changed other records as well.
        let is_other = |record: &&Record| patches.iter().all(|patch| patch.key != record.key);
        for record in answer.iter().filter(is_other) {
            let remote = Remote::from_record(record, self.records.get(&record.key));
            self.records.insert(record.key.clone(), remote);
            self.fingerprints
                .prune(&record.key, self.records.get(&record.key));
        }
        match (&mut self.listed, new_count) {
            (Some(listed), Some(count)) if complete && count == listed.sync_count + 1 => {
                listed.sync_count = count;
                listed.at = sent;
            }
            // Somebody else wrote in between, or the answer lacks a record: look again.
            (Some(listed), _) => listed.at = sent.checked_sub(STALE).unwrap_or(sent),
            (None, _) => {}
        }
        for ticket in batch.tickets() {
            self.settle_made(ticket, barrier);
        }
    }

    /// The service refused the update; nothing of it was applied.
    pub fn handle_refused(&mut self, fault: Fault, barrier: &mut Barrier) {
        let Some(batch) = self.in_flight.take() else {
            return;
        };
        let tickets = batch.tickets();
        if fault.is_conflict() {
            self.list_wanted = true;
            let named = fault.conflicting_key().and_then(|key| batch.owner_of(key));
            for ticket in tickets {
                let is_suspect = named.is_none_or(|named| named == ticket);
                self.try_again(ticket, is_suspect, Refusal::Stale, barrier);
            }
            return;
        }
        let is_token = fault.is_session_token();
        let refusal = Refusal::Fault(Arc::new(fault));
        if is_token {
            // Some answers say so of a push that was made and whose answer was lost.
            self.note_lost(&batch);
            for ticket in tickets {
                self.try_again(ticket, true, refusal.clone(), barrier);
            }
            return;
        }
        if !refusal.is_final() {
            self.in_flight = Some(batch);
            self.fail(refusal, barrier);
            return;
        }
        if let [ticket] = tickets[..] {
            self.refuse_for(ticket, refusal, barrier);
            return;
        }
        self.halve(tickets, refusal, barrier);
    }

    /// Has a refused batch be sent in halves, to find out whom it was about.
    fn halve(&mut self, tickets: Vec<Ticket>, why: Refusal, barrier: &mut Barrier) {
        let half = tickets.len() / 2;
        let cohorts = [self.last_cohort + 1, self.last_cohort + 2];
        self.last_cohort += 2;
        for (at, ticket) in tickets.into_iter().enumerate() {
            if let Some(group) = self.group_mut(ticket) {
                group.cohort = cohorts[usize::from(at >= half)];
            }
            self.try_again(ticket, false, why.clone(), barrier);
        }
    }

    /// Leaves a group in line, unless it was tried too often, or nobody wants it.
    fn try_again(&mut self, ticket: Ticket, counts: bool, why: Refusal, barrier: &mut Barrier) {
        let Some(group) = self.group_mut(ticket) else {
            return;
        };
        group.attempts += u32::from(counts);
        let too_often = group.attempts >= MAX_ATTEMPTS;
        let unwanted = !group.is_awaited() && group.noted == Noted::No;
        match () {
            () if unwanted => self.give_back(ticket, why, barrier),
            () if too_often && why.is_final() => self.refuse_for(ticket, why, barrier),
            () if too_often => self.tell_failed(ticket, &why, barrier),
            () => {}
        }
    }

    /// No answer came, or one that does not say whether the update was applied.
    pub fn handle_lost(&mut self, barrier: &mut Barrier) {
        let Some(batch) = self.in_flight.take() else {
            return;
        };
        self.note_lost(&batch);
        for ticket in batch.tickets() {
            self.try_again(ticket, false, Refusal::Lost, barrier);
        }
    }

    /// The update did not leave this machine, or the service cannot be asked: whoever waits is told
    /// why. What is in the journal stays.
    pub fn fail(&mut self, why: Refusal, barrier: &mut Barrier) {
        self.delete_wanted = false;
        let in_flight = self.in_flight.take();
        for ticket in in_flight.iter().flat_map(Batch::tickets) {
            // Whoever waited for it has left meanwhile.
            if self.is_unwanted(ticket) {
                self.give_back(ticket, why.clone(), barrier);
            }
        }
        let awaited = self.groups.iter().filter(|group| group.is_awaited());
        let awaited: Vec<Ticket> = awaited.map(|group| group.ticket).collect();
        for ticket in awaited {
            self.tell_failed(ticket, &why, barrier);
        }
    }

    fn is_unwanted(&self, ticket: Ticket) -> bool {
        let group = self.position(ticket).map(|at| &self.groups[at]);
        group.is_some_and(|group| !group.is_awaited() && group.noted == Noted::No)
    }

    fn tell_failed(&mut self, ticket: Ticket, why: &Refusal, barrier: &mut Barrier) {
        let aliases = self.aliases(ticket);
        let Some(group) = self.group_mut(ticket) else {
            return;
        };
        let answered = aliases.iter().copied().chain([ticket]).collect();
        match group.noted {
            Noted::No => self.give_back(ticket, why.clone(), barrier),
            Noted::UnderWay { .. } => {}
            Noted::Yes(_) => {
                group.awaited_as.clear();
                group.attempts = 0;
                self.events.push(Event {
                    ticket,
                    aliases,
                    answered,
                    outcome: Outcome::Waits(why.clone()),
                    resolutions: Vec::new(),
                    settled: Settled::default(),
                });
            }
        }
    }

    fn note_lost(&mut self, batch: &Batch) {
        if Planted::FingerprintDropped.is_planted() {
            return;
        }
        for (ticket, patches) in &batch.groups {
            let Some(at) = self.position(*ticket) else {
                continue;
            };
            let group = &mut self.groups[at];
            group.unanswered = true;
            for patch in patches {
                let mut changes = group.changes.iter_mut();
                if let Some(change) = changes.find(|change| change.key == patch.key) {
                    let sent = fingerprint(change, patch);
                    note_once(&mut change.own, sent);
                    note_once(&mut group.lost, (patch.key.clone(), sent));
                    self.fingerprints.add(&patch.key, sent);
                }
            }
        }
    }

    /// Looks in a fresh listing for what was sent without an answer. An update is atomic: where one
    /// record is known for ours, all were changed.
    fn resolve_unanswered(&mut self, barrier: &mut Barrier) {
        let is_made = |group: &Group| {
            let mut sent = group.lost.iter();
            sent.any(|(key, sent)| {
                self.records
                    .get(key)
                    .is_some_and(|remote| is_of(sent, remote))
            })
        };
        let made = self.groups.iter().filter(|group| is_made(group));
        let made: Vec<Ticket> = made.map(|group| group.ticket).collect();
        for group in &mut self.groups {
            group.unanswered = false;
        }
        for ticket in made {
            self.settle_made(ticket, barrier);
        }
    }

    /// Somebody waits for a group. Returns whether it is still pending, litter excepted: that is
    /// never sent.
    pub fn wait_for(&mut self, ticket: Ticket) -> bool {
        let followed = self.pending_of(ticket);
        for group in &mut self.groups {
            if followed.contains(&group.ticket) && group.hold.is_none() {
                group.awaited_as.insert(ticket);
            }
        }
        !followed.is_empty()
    }

    /// Returns the pending groups that a ticket means today, litter excepted.
    pub fn pending_of(&self, ticket: Ticket) -> Vec<Ticket> {
        let mut found = Vec::new();
        let mut wanted = vec![ticket];
        while let Some(next) = wanted.pop() {
            match self.successors.get(&next) {
                Some(successors) => wanted.extend(successors),
                None => {
                    let at = self.position(next);
                    found.extend(at.filter(|at| !self.groups[*at].is_litter()).map(|_| next));
                }
            }
        }
        found
    }

    /// Returns whether something that a ticket means today is held back.
    pub fn is_held(&self, ticket: Ticket) -> bool {
        let pending = self.pending_of(ticket);
        let held = self.groups.iter().filter(|group| group.hold.is_some());
        held.map(|group| group.ticket)
            .any(|ticket| pending.contains(&ticket))
    }

    /// The last who waited for a group under a ticket has left.
    pub fn leave(&mut self, ticket: Ticket, barrier: &mut Barrier) -> Left {
        let mut left = Left::Decided;
        for followed in self.pending_of(ticket) {
            match self.leave_group(followed, ticket, barrier) {
                true => left = Left::Undecided,
                false if left == Left::Decided => left = Left::Stays,
                false => {}
            }
        }
        left
    }

    /// Returns whether a group that was left goes, at once or when its call has ended.
    fn leave_group(&mut self, ticket: Ticket, known_as: Ticket, barrier: &mut Barrier) -> bool {
        let in_flight = self.is_in_flight(ticket);
        let Some(group) = self.group_mut(ticket) else {
            return false;
        };
        group.awaited_as.remove(&known_as);
        match group.noted {
            _ if group.is_awaited() => false,
            Noted::Yes(_) | Noted::UnderWay { notes: true, .. } => false,
            Noted::UnderWay { notes: false, .. } => true,
            Noted::No => {
                if !in_flight {
                    self.give_back(ticket, Refusal::Lost, barrier);
                }
                true
            }
        }
    }

    /// Ends holds: all but litter's, or one group's.
    pub fn end_holds(&mut self, of: Option<Ticket>, now: Instant) {
        let wanted = |group: &&mut Group| of.is_none_or(|ticket| ticket == group.ticket);
        for group in self.groups.iter_mut().filter(wanted) {
            if let Some(held) = group.hold.as_mut().filter(|held| held.until.is_some()) {
                held.until = Some(now);
                group.gathers_since = now.checked_sub(super::GATHER).unwrap_or(now);
            }
        }
    }

    /// Says whether a file of a name is open for writing: a grace of that name lasts as long.
    pub fn set_open(&mut self, key: &RecordKey, open: bool) {
        match open {
            true => self.open.insert(key.clone()),
            false => self.open.remove(key),
        };
    }
}
