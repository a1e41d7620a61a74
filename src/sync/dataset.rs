//! The state of one dataset: what the service was last seen to hold, and what waits to be sent.
//!
//! Invariants: a record's count never goes back within one life of the dataset; a session token is
//! used for one push; a change without a waiter is never sent, only recognised as applied.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::batch::{Batch, Group, Planned, plan_group};
use super::change::{Change, Ticket};
use super::conflict::Refusal;
use super::exchange::{Landed, Listing, Outcome, Step};
use super::remote::{Evidence, Remote, evidence};
use crate::wire::fault::{Code, Fault};
use crate::wire::names::RecordKey;
use crate::wire::records::{Record, RecordPatch};

/// How often a group is sent again after conflicts and refused tokens.
const MAX_ATTEMPTS: u32 = 10;
/// How old a session token may be when it is used. A new record makes a dataset again that was
/// deleted since, and no count tells.
const TOKEN_LIFE: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Listed {
    sync_count: i64,
    at: Instant,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct DatasetState {
    listed: Option<Listed>,
    exists: bool,
    life: u32,
    records: BTreeMap<RecordKey, Remote>,
    token: Option<(String, Instant)>,
    list_wanted: bool,
    delete_wanted: bool,
    updates_held: Option<Instant>,
    staged: VecDeque<Group>,
    in_flight: Option<Batch>,
    settled: Vec<(Ticket, Outcome)>,
    last_ticket: u64,
    last_cohort: u64,
}

impl DatasetState {
    /// Begins in the life that was seen last, so that older bases stay what they were.
    pub fn with_life(life: u32) -> Self {
        Self {
            life,
            ..Self::default()
        }
    }

    /// Forgets the records, unless something waits to be sent. Bases are not kept here, so none
    /// is lost.
    pub fn evict(&mut self) -> bool {
        if !self.staged.is_empty() || self.in_flight.is_some() {
            return false;
        }
        self.listed = None;
        self.token = None;
        self.records.clear();
        true
    }

    // Commands.

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

    /// Puts changes that belong together in line to be sent.
    pub fn stage(&mut self, changes: Vec<Change>) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.staged.push_back(Group {
            ticket,
            changes,
            cohort: self.last_cohort,
            attempts: 0,
            awaited: true,
            unsure: false,
            lost: Vec::new(),
        });
        ticket
    }

    /// Says that nobody waits for a group any more. Returns true if it is gone for good; false if
    /// it may have been applied, so that its outcome will still come.
    pub fn abandon(&mut self, ticket: Ticket) -> bool {
        let in_flight = self.is_in_flight(ticket);
        let Some(at) = self.position(ticket) else {
            return false;
        };
        if in_flight || !self.staged[at].lost.is_empty() {
            self.staged[at].awaited = false;
            return false;
        }
        self.staged.remove(at);
        true
    }

    /// Says that somebody waits for a group again. Returns whether it is still undecided.
    pub fn await_again(&mut self, ticket: Ticket) -> bool {
        let Some(at) = self.position(ticket) else {
            return false;
        };
        self.staged[at].awaited = true;
        true
    }

    /// Returns whether a group is still undecided.
    pub fn has(&self, ticket: Ticket) -> bool {
        self.position(ticket).is_some()
    }

    /// Returns whether an answer is missing of something that somebody waits for.
    pub fn is_unsure(&self) -> bool {
        let mut groups = self.staged.iter();
        groups.any(|group| group.awaited && !group.lost.is_empty())
    }

    /// Returns the groups that somebody waits for.
    pub fn awaited(&self) -> Vec<Ticket> {
        let awaited = self.staged.iter().filter(|group| group.awaited);
        awaited.map(|group| group.ticket).collect()
    }

    /// Takes the outcomes that have come.
    pub fn take_settled(&mut self) -> Vec<(Ticket, Outcome)> {
        std::mem::take(&mut self.settled)
    }

    /// Returns what to do now. After `List` and `Update` one of the `handle_*` is due.
    pub fn next_step(&mut self, now: Instant) -> Step {
        let unsure = |group: &Group| group.awaited && group.unsure;
        if self.list_wanted || self.staged.iter().any(unsure) {
            return self.list();
        }
        if std::mem::take(&mut self.delete_wanted) {
            let empty = self.staged.is_empty() && self.records().next().is_none();
            return match empty {
                true => Step::Delete,
                false => Step::RefuseDeletion,
            };
        }
        if !self.staged.iter().any(|group| group.awaited) {
            return Step::Idle;
        }
        let usable = |at: Instant| now.saturating_duration_since(at) < TOKEN_LIFE;
        if self.listed.is_none() || !self.token.as_ref().is_some_and(|(_, at)| usable(*at)) {
            return self.list();
        }
        if let Some(until) = self.updates_held.filter(|until| now < *until) {
            return Step::Wait { until };
        }
        let mut batch = self.plan();
        // A cohort that needs no sending makes room for the next.
        while batch.groups.is_empty() && self.staged.iter().any(|group| group.awaited) {
            batch = self.plan();
        }
        if batch.groups.is_empty() {
            return Step::Idle;
        }
        let patches = batch.patches();
        let replaced = std::mem::take(&mut batch.replaced);
        self.in_flight = Some(batch);
        let (token, _) = self.token.take().expect("checked above");
        Step::Update {
            patches,
            token,
            replaced,
        }
    }

    fn list(&mut self) -> Step {
        self.list_wanted = false;
        let since = self.listed.as_ref().map_or(0, |listed| listed.sync_count);
        Step::List { since }
    }

    /// Decides the staged groups; what needs no sending is settled, the rest makes a batch.
    fn plan(&mut self) -> Batch {
        let mut batch = Batch::default();
        let Some(cohort) = self
            .staged
            .iter()
            .find(|group| group.awaited)
            .map(|g| g.cohort)
        else {
            return batch;
        };
        let mut settled = Vec::new();
        let candidates = self
            .staged
            .iter()
            .filter(|group| group.awaited && group.cohort == cohort);
        for group in candidates {
            if batch.puts_off(group) {
                continue;
            }
            match plan_group(group, |key| self.records.get(key), (self.life, self.exists)) {
                Planned::Send(patches, replaced) => {
                    batch.admit(group, patches, replaced);
                }
                Planned::Nothing => settled.push((group.ticket, Ok(self.landed(group)))),
                Planned::Refused(refusal) => settled.push((group.ticket, Err(refusal))),
            }
        }
        for (ticket, outcome) in settled {
            self.settle(ticket, outcome);
        }
        batch
    }

    // What happened.

    /// A listing came: `at` is when it was asked for.
    pub fn handle_listed(&mut self, mut listing: Listing, at: Instant) {
        self.token = listing.token.take().map(|token| (token, at));
        let deleted = listing.deleted_after
            || (self.exists && !listing.exists)
            || self.lacks_known_records(&listing);
        if deleted {
            self.life += 1;
            self.records.clear();
        }
        self.exists = listing.exists;
        if deleted && listing.since > 0 && listing.exists {
            // Only what changed after the old count was listed.
            self.listed = None;
            self.list_wanted = true;
            return;
        }
        for record in listing.records {
            let known = self.records.get(&record.key);
            if known.is_some_and(|known| known.sync_count > record.sync_count) {
                continue;
            }
            let remote = Remote::from_record(&record, known);
            self.records.insert(record.key, remote);
        }
        self.listed = Some(Listed {
            sync_count: listing.sync_count,
            at,
        });
        self.resolve_unsure();
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
    pub fn handle_unknown_sync_count(&mut self) {
        self.life += 1;
        self.records.clear();
        self.listed = None;
        self.token = None;
        self.list_wanted = true;
    }

    /// The update was made; `sent` is when it was sent.
    pub fn handle_updated(&mut self, answer: Vec<Record>, sent: Instant) {
        let Some(batch) = self.in_flight.take() else {
            return;
        };
        let new_count = answer.iter().map(|record| record.sync_count).max();
        self.exists = true;
        let mut complete = true;
        for patch in batch.patches() {
            let record = answer.iter().find(|record| record.key == patch.key);
            complete &= record.is_some();
            let count = new_count.unwrap_or(patch.sync_count);
            let remote = Remote::from_patch(&patch, record, count);
            self.records.insert(patch.key, remote);
        }
        let sent_key = |key: &RecordKey| {
            let mut patches = batch.groups.iter().flat_map(|(_, patches)| patches);
            patches.any(|patch| patch.key == *key)
        };
        // A trigger may have changed other records as well.
        for record in answer.iter().filter(|record| !sent_key(&record.key)) {
            let remote = Remote::from_record(record, self.records.get(&record.key));
            self.records.insert(record.key.clone(), remote);
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
        for (ticket, _) in batch.groups {
            self.settle_landed(ticket);
        }
    }

    /// The service refused the update; nothing of it was applied.
    pub fn handle_refused(&mut self, fault: Fault) {
        let Some(batch) = self.in_flight.take() else {
            return;
        };
        let tickets: Vec<Ticket> = batch.groups.iter().map(|(ticket, _)| *ticket).collect();
        if fault.is_conflict() {
            self.list_wanted = true;
            let named = fault.conflicting_key().and_then(|key| batch.owner_of(key));
            let suspect = |ticket: Ticket| named.is_none_or(|named| named == ticket);
            for ticket in tickets {
                if suspect(ticket) {
                    self.count_attempt(ticket, Refusal::Stale);
                }
                self.settle_unless_awaited(ticket, Refusal::Stale);
            }
            return;
        }
        if fault.is_session_token() {
            // Some answers say so of a push that was made and whose answer was lost.
            let refusal = Refusal::Fault(fault.into());
            self.mark_unsure(batch);
            for ticket in tickets {
                self.count_attempt(ticket, refusal.clone());
            }
            return;
        }
        let fault = std::sync::Arc::new(fault);
        let concerns_all = matches!(
            fault.code,
            Code::AccessDenied | Code::NotAuthorized | Code::ResourceNotFound
        ) || fault.is_throttle();
        if concerns_all || tickets.len() == 1 {
            for ticket in tickets {
                self.settle(ticket, Err(Refusal::Fault(fault.clone())));
            }
            return;
        }
        // It names nobody: halve the batch until the bad group is alone.
        let half = tickets.len() / 2;
        let cohorts = [self.last_cohort + 1, self.last_cohort + 2];
        self.last_cohort += 2;
        for (at, ticket) in tickets.into_iter().enumerate() {
            if let Some(position) = self.position(ticket) {
                self.staged[position].cohort = cohorts[usize::from(at >= half)];
            }
            self.settle_unless_awaited(ticket, Refusal::Fault(fault.clone()));
        }
    }

    /// No answer came, or one that does not say whether the update was applied.
    pub fn handle_lost(&mut self) {
        if let Some(batch) = self.in_flight.take() {
            self.mark_unsure(batch);
        }
    }

    /// The update did not leave this machine.
    pub fn handle_not_sent(&mut self) {
        let Some(batch) = self.in_flight.take() else {
            return;
        };
        for (ticket, _) in batch.groups {
            let at = self.position(ticket);
            if at.is_some_and(|at| self.staged[at].lost.is_empty()) {
                self.settle_unless_awaited(ticket, Refusal::Lost);
            }
        }
    }

    /// Has updates wait until then; listings do not.
    pub fn hold_updates(&mut self, until: Instant) {
        self.updates_held = Some(until);
    }

    /// The dataset is not there, as a listing of datasets told at `at`.
    pub fn handle_absent(&mut self, at: Instant) {
        if self.listed.is_none() && !self.exists {
            self.listed = Some(Listed { sync_count: 0, at });
        }
    }

    /// The dataset was deleted by this mount.
    pub fn handle_deleted(&mut self, at: Instant) {
        self.life += 1;
        self.exists = false;
        self.records.clear();
        self.token = None;
        self.listed = Some(Listed { sync_count: 0, at });
    }

    /// Looks in a fresh listing for patches whose answer was lost, in this attempt or an earlier
    /// one. An update is atomic: where one patch of a group is known for ours, all were applied.
    fn resolve_unsure(&mut self) {
        let records = &self.records;
        let applied = |group: &Group, patches: &Vec<RecordPatch>| {
            let found = |patch| evidence(group, patch, records.get(&patch.key));
            patches.iter().any(|patch| found(patch) == Evidence::Signed)
                || patches.iter().all(|patch| found(patch) != Evidence::None)
        };
        let mut found = Vec::new();
        let mut lost = Vec::new();
        for group in self.staged.iter().filter(|group| !group.lost.is_empty()) {
            if group.lost.iter().any(|patches| applied(group, patches)) {
                found.push(group.ticket);
            } else if !group.awaited {
                lost.push(group.ticket);
            }
        }
        for group in &mut self.staged {
            group.unsure = false;
        }
        for ticket in found {
            self.settle_landed(ticket);
        }
        for ticket in lost {
            self.settle(ticket, Err(Refusal::Lost));
        }
    }

    fn mark_unsure(&mut self, batch: Batch) {
        for (ticket, patches) in batch.groups {
            if let Some(at) = self.position(ticket) {
                self.staged[at].unsure = true;
                self.staged[at].lost.push(patches);
            }
        }
    }

    fn count_attempt(&mut self, ticket: Ticket, refusal: Refusal) {
        let Some(at) = self.position(ticket) else {
            return;
        };
        self.staged[at].attempts += 1;
        if self.staged[at].attempts >= MAX_ATTEMPTS {
            self.settle(ticket, Err(refusal));
        }
    }

    /// What was refused and has no waiter left is not tried again behind anybody's back.
    fn settle_unless_awaited(&mut self, ticket: Ticket, refusal: Refusal) {
        if self
            .position(ticket)
            .is_some_and(|at| !self.staged[at].awaited)
        {
            self.settle(ticket, Err(refusal));
        }
    }

    fn settle_landed(&mut self, ticket: Ticket) {
        if let Some(at) = self.position(ticket) {
            let landed = self.landed(&self.staged[at]);
            self.settle(ticket, Ok(landed));
        }
    }

    fn settle(&mut self, ticket: Ticket, outcome: Outcome) {
        if let Some(at) = self.position(ticket) {
            self.staged.remove(at);
        }
        self.settled.push((ticket, outcome));
    }

    fn landed(&self, group: &Group) -> Vec<Landed> {
        let landed = |change: &Change| Landed {
            key: change.key.clone(),
            record: self.records.get(&change.key).cloned(),
            base: self.base(&change.key),
        };
        group.changes.iter().map(landed).collect()
    }

    fn position(&self, ticket: Ticket) -> Option<usize> {
        self.staged.iter().position(|group| group.ticket == ticket)
    }

    /// Returns whether a group is in the update under way.
    pub fn is_in_flight(&self, ticket: Ticket) -> bool {
        let batch = self.in_flight.as_ref();
        batch.is_some_and(|batch| batch.groups.iter().any(|(flying, _)| *flying == ticket))
    }
}

/// Far enough back that no `ttl` in use calls it fresh.
const STALE: Duration = Duration::from_secs(24 * 3600);

mod known;
#[cfg(test)]
mod tests;
