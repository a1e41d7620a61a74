//! Datasets with a service and a journal that do what they are told, step by step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::service::{Service, said};
use crate::sync::change::Unseen;
use crate::sync::exchange::Listing;
use crate::sync::pending::note::Rebased;
use crate::sync::pending::recovery::Recovered;
use crate::sync::pending::{
    Barrier, Change, Commit, DatasetId, DatasetState, Event, How, Kind, Note, Outcome, Place,
    Places, Refusal, Staged, Step, Ticket,
};
use crate::wire::names::RecordKey;
use crate::wire::records::{PatchOp, RecordPatch};
use crate::wire::text::Text;
use crate::wire::timestamp::Timestamp;

/// A group in the journal.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) of: usize,
    pub(super) note: Note,
    pub(super) places: Places,
}

#[derive(Debug)]
pub(super) struct Bed {
    pub(super) states: Vec<DatasetState>,
    pub(super) barrier: Barrier,
    pub(super) services: Vec<Service>,
    pub(super) rows: BTreeMap<Ticket, Row>,
    /// What groups stand on that are on their way there.
    pub(super) early: Vec<Rebased>,
    pub(super) events: Vec<Event>,
    pub(super) now: Instant,
    pub(super) unseen: Unseen,
    /// What is being sent.
    flying: Vec<Vec<RecordPatch>>,
    /// How often was listed.
    pub(super) listings: usize,
    /// How long a listing takes, in milliseconds.
    pub(super) listing_takes: u64,
    start: Instant,
    tickets: u64,
    places: i64,
}

pub(super) fn key(name: &str) -> RecordKey {
    RecordKey::new(name).unwrap()
}

pub(super) fn bytes(text: &str) -> Arc<[u8]> {
    text.as_bytes().into()
}

pub(super) fn whole(text: &str) -> Kind {
    Kind::Whole(bytes(text))
}

pub(super) fn edit(text: &str) -> Kind {
    Kind::Edit(bytes(text))
}

/// More behind what its writer saw.
pub(super) fn append(seen: &str, more: &str) -> Kind {
    Kind::Append {
        text: bytes(more),
        whole: bytes(&format!("{seen}{more}")),
    }
}

impl Bed {
    pub(super) fn new() -> Self {
        Self::with(1)
    }

    /// Has several datasets.
    pub(super) fn with(datasets: usize) -> Self {
        let start = super::start();
        let new = |id| DatasetState::new(DatasetId(id as u64), 0, true);
        Self {
            states: (0..datasets).map(new).collect(),
            barrier: Barrier::default(),
            services: (0..datasets).map(|_| Service::default()).collect(),
            rows: BTreeMap::new(),
            early: Vec::new(),
            events: Vec::new(),
            now: start,
            unseen: Unseen::Keep,
            flying: vec![Vec::new(); datasets],
            listings: 0,
            listing_takes: 0,
            start,
            tickets: 0,
            places: 0,
        }
    }

    /// Has one dataset with records, which were listed.
    pub(super) fn having(records: &[(&str, &str)]) -> Self {
        let mut bed = Self::new();
        for (name, value) in records {
            bed.other(0, name, Some(value));
        }
        bed.list(0);
        bed
    }

    pub(super) fn date(&self) -> Timestamp {
        let since = self.now.saturating_duration_since(self.start);
        Timestamp::from_millis(1_000_000 + since.as_millis() as i64)
    }

    pub(super) fn wait(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// Another client's change.
    pub(super) fn other(&mut self, of: usize, name: &str, value: Option<&str>) {
        self.other_dated(of, name, value, Timestamp::from_millis(7));
    }

    pub(super) fn other_dated(
        &mut self,
        of: usize,
        name: &str,
        value: Option<&str>,
        date: Timestamp,
    ) {
        let op = match value {
            Some(_) => PatchOp::Replace,
            None => PatchOp::Remove,
        };
        self.services[of].apply(&[RecordPatch {
            op,
            key: key(name),
            value: value.map(Text::from),
            sync_count: 0,
            device_last_modified_date: Some(date),
        }]);
    }

    /// Lists, as somebody does who looks.
    pub(super) fn list(&mut self, of: usize) {
        self.states[of].want_list();
        match self.states[of].next_step(self.now, &mut self.barrier) {
            Step::List { since } => self.listed(of, since),
            step => panic!("{step:?}"),
        }
    }

    fn listed(&mut self, of: usize, since: i64) {
        self.listings += 1;
        let asked = self.now;
        self.wait(self.listing_takes);
        let service = &self.services[of];
        let newer = service.records.values();
        let newer = newer.filter(|record| record.sync_count > since);
        let listing = Listing {
            since,
            exists: service.count > 0,
            deleted_after: false,
            sync_count: service.count,
            records: newer.cloned().collect(),
            token: Some("token".to_owned()),
        };
        self.states[of].handle_listed(listing, asked, self.now, &mut self.barrier);
        self.take();
    }

    /// Makes a change of what is shown.
    pub(super) fn change(&mut self, of: usize, name: &str, kind: Kind) -> Change {
        self.wait(1);
        Change {
            key: key(name),
            base: self.states[of].view(&key(name)).base,
            kind,
            unseen: self.unseen,
            own: Vec::new(),
            left: None,
            modified: self.date(),
        }
    }

    pub(super) fn rename(&mut self, of: usize, from: &str, to: &str) -> Vec<Change> {
        let value = self.view(of, from).expect("there is something to move");
        vec![
            self.change(of, to, whole(&value)),
            self.change(of, from, Kind::Remove),
        ]
    }

    pub(super) fn view(&self, of: usize, name: &str) -> Option<String> {
        let value = self.states[of].view(&key(name)).value?;
        Some(String::from_utf8(value.to_vec()).unwrap())
    }

    /// Stages changes, which can be made, and no more.
    pub(super) fn stage(
        &mut self,
        of: usize,
        changes: Vec<Change>,
        commit: Commit,
    ) -> (Ticket, Option<Staged>) {
        let (ticket, staged) = self.stage_as(of, changes, commit, false);
        (ticket, staged.expect("a record can be so"))
    }

    pub(super) fn stage_as(
        &mut self,
        of: usize,
        changes: Vec<Change>,
        commit: Commit,
        private: bool,
    ) -> (Ticket, Result<Option<Staged>, Refusal>) {
        let ticket = self.ticket();
        let how = How {
            commit,
            private,
            now: self.now,
            date: self.date(),
        };
        let tickets = &mut self.tickets;
        let mut fresh = || {
            *tickets += 1;
            Ticket(*tickets)
        };
        let staged = self.states[of].stage(ticket, changes, how, &mut self.barrier, &mut fresh);
        (ticket, staged)
    }

    /// Has the journal note what was staged.
    pub(super) fn note(&mut self, of: usize, ticket: Ticket, staged: &Staged) {
        for old in &staged.replaced {
            self.rows.remove(old);
        }
        let mut places = Vec::new();
        for note in &staged.notes {
            self.places += 1;
            let place = Place(self.places);
            let sets = note.changes.iter().any(|noted| noted.change.kind.is_set());
            let row = Row {
                of,
                note: note.clone(),
                places: Places {
                    first_set: sets.then(|| note.first_set.unwrap_or(place)),
                    last: place,
                },
            };
            self.rows.insert(note.ticket, row);
            places.push(place);
        }
        for rebased in std::mem::take(&mut self.early) {
            self.rebase(rebased);
        }
        self.states[of].handle_noted(ticket, &places, &mut self.barrier);
        self.take();
    }

    pub(super) fn not_note(&mut self, of: usize, ticket: Ticket) {
        self.states[of].handle_not_noted(ticket, &mut self.barrier);
        self.take();
    }

    /// Stages changes and notes what is to be noted.
    pub(super) fn put(&mut self, of: usize, changes: Vec<Change>, commit: Commit) -> Ticket {
        let (ticket, staged) = self.stage(of, changes, commit);
        let staged = staged.expect("nothing is busy");
        if !staged.notes.is_empty() || !staged.replaced.is_empty() {
            self.note(of, ticket, &staged);
        }
        ticket
    }

    /// Puts one change into the journal of the first dataset.
    pub(super) fn queue(&mut self, name: &str, kind: Kind) -> Ticket {
        self.queue_in(0, name, kind)
    }

    pub(super) fn queue_in(&mut self, of: usize, name: &str, kind: Kind) -> Ticket {
        let change = self.change(of, name, kind);
        self.put(of, vec![change], Commit::Async)
    }

    /// Makes one change in the first dataset for somebody who waits.
    pub(super) fn close(&mut self, name: &str, kind: Kind) -> Ticket {
        let change = self.change(0, name, kind);
        self.put(0, vec![change], Commit::Close)
    }

    /// Queues a rename in the first dataset.
    pub(super) fn queue_rename(&mut self, from: &str, to: &str) -> Ticket {
        let changes = self.rename(0, from, to);
        self.put(0, changes, Commit::Async)
    }

    /// Takes what happened and does what is due.
    fn rebase(&mut self, rebased: Rebased) {
        let Some(row) = self.rows.get_mut(&rebased.ticket) else {
            self.early.push(rebased);
            return;
        };
        let mut changes = row.note.changes.iter_mut();
        let noted = changes.find(|noted| noted.change.key == rebased.key);
        let noted = noted.expect("a change");
        noted.change.base = rebased.base;
        noted.known = rebased.known;
        noted.sent = rebased.sent;
    }

    pub(super) fn take(&mut self) {
        for of in 0..self.states.len() {
            for event in self.states[of].take_events() {
                let was_noted = event.settled.removed.contains(&event.ticket);
                if matches!(event.outcome, Outcome::Refused(..)) && was_noted {
                    for (other, removal) in self.barrier.kept_back(event.ticket) {
                        let other = other.0 as usize;
                        self.states[other].keep_back(removal, &mut self.barrier);
                    }
                }
                for removed in &event.settled.removed {
                    self.rows.remove(removed);
                }
                for rebased in &event.settled.rebased {
                    self.rebase(rebased.clone());
                }
                if !matches!(event.outcome, Outcome::Waits(_)) {
                    self.barrier.decide(event.ticket);
                    self.states[of].forget(event.ticket);
                }
                self.events.push(event);
            }
        }
        if self.states.iter().any(|state| !state.events.is_empty()) {
            self.take();
        }
    }

    pub(super) fn step(&mut self, of: usize) -> Step {
        let step = self.states[of].next_step(self.now, &mut self.barrier);
        self.take();
        for (other, held) in self.barrier.take_wanted() {
            self.states[other.0 as usize].end_holds(Some(held), self.now);
        }
        step
    }

    /// Goes on with a dataset until something is sent, and returns that; nothing if nothing may go.
    pub(super) fn go(&mut self, of: usize) -> Vec<String> {
        for _ in 0..100 {
            match self.step(of) {
                Step::List { since } => self.listed(of, since),
                Step::Update { patches, .. } => {
                    let said = said(&patches);
                    self.flying[of] = patches;
                    return said;
                }
                Step::Wait { until } if until <= self.now => {}
                Step::Wait { .. } | Step::Idle => return Vec::new(),
                step => panic!("{step:?}"),
            }
        }
        panic!("no end: {:?}", self.states[of]);
    }

    /// Goes on after what is noted has gathered.
    pub(super) fn go_on(&mut self, of: usize) -> Vec<String> {
        self.wait(100);
        self.go(of)
    }

    /// Has the call be carried out and answered.
    pub(super) fn answer(&mut self, of: usize) {
        let patches = std::mem::take(&mut self.flying[of]);
        assert!(!patches.is_empty());
        match self.services[of].update(&patches) {
            Ok(records) => self.states[of].handle_updated(records, self.now, &mut self.barrier),
            Err(fault) => self.states[of].handle_refused(fault, &mut self.barrier),
        }
        self.take();
    }

    /// Returns the call that is on its way.
    pub(super) fn in_flight(&self, of: usize) -> Vec<RecordPatch> {
        self.flying[of].clone()
    }

    /// The call has no answer. Returns it, for it may be carried out late.
    pub(super) fn lose(&mut self, of: usize) -> Vec<RecordPatch> {
        let patches = std::mem::take(&mut self.flying[of]);
        self.states[of].handle_lost(&mut self.barrier);
        self.take();
        patches
    }

    /// The call is carried out and has no answer.
    pub(super) fn lose_answer(&mut self, of: usize) {
        self.services[of].update(&self.flying[of].clone()).unwrap();
        self.lose(of);
    }

    pub(super) fn leave(&mut self, of: usize, ticket: Ticket) -> super::super::Left {
        let left = self.states[of].leave(ticket, &mut self.barrier);
        self.take();
        left
    }

    /// Drives everything until nothing is left to do. Returns all that was made.
    pub(super) fn drive(&mut self) -> Vec<String> {
        self.drive_watching(|_| ())
    }

    /// As `drive`, and has somebody look after every call.
    pub(super) fn drive_watching(&mut self, look: impl Fn(&Self)) -> Vec<String> {
        let mut made = Vec::new();
        let mut idle = 0;
        while idle < 30 {
            idle += 1;
            self.wait(1000);
            for of in 0..self.states.len() {
                let more = self.go(of);
                if !more.is_empty() {
                    idle = 0;
                    let count = self.services[of].count;
                    self.answer(of);
                    let is_made = self.services[of].count > count;
                    made.extend(is_made.then_some(more).into_iter().flatten());
                    look(self);
                }
            }
        }
        made
    }

    /// The process ends and another takes over.
    pub(super) fn restart(&mut self) {
        self.events.clear();
        self.barrier = Barrier::default();
        for of in 0..self.states.len() {
            self.flying[of].clear();
            self.states[of] = DatasetState::new(DatasetId(of as u64), 0, true);
        }
        for of in 0..self.states.len() {
            let mut rows: Vec<&Row> = self.rows.values().filter(|row| row.of == of).collect();
            rows.sort_by_key(|row| row.places.last);
            let left = rows.into_iter().map(|row| Recovered {
                note: row.note.clone(),
                places: row.places,
            });
            self.states[of].take_over(left.collect(), self.now, &mut self.barrier);
        }
    }

    pub(super) fn outcome(&self, ticket: Ticket) -> Option<&Outcome> {
        let mut events = self.events.iter().rev();
        let event = events.find(|event| event.ticket == ticket);
        event.map(|event| &event.outcome)
    }

    pub(super) fn is_made(&self, ticket: Ticket) -> bool {
        matches!(self.outcome(ticket), Some(Outcome::Made(_)))
    }

    pub(super) fn refusal(&self, ticket: Ticket) -> Option<&Refusal> {
        match self.outcome(ticket) {
            Some(Outcome::Refused(why, _)) => Some(why),
            _ => None,
        }
    }

    /// Returns the changes that are their writer's again.
    pub(super) fn given_back(&self, ticket: Ticket) -> Vec<Change> {
        match self.outcome(ticket) {
            Some(Outcome::GivenBack(_, changes)) => changes.clone(),
            other => panic!("{other:?}"),
        }
    }
}
