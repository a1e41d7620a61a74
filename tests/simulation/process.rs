//! One process: the states of its datasets, their order and their journal, driven step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cognitofs::sync::pending::planted::Planted;
use cognitofs::sync::pending::recovery::Recovered;
use cognitofs::sync::pending::{
    Barrier, Change, Commit, DatasetId, DatasetState, Event, Hold, How, Note, Outcome, Place,
    Places, Rebased, Settled, Staged, Step, Ticket,
};
use cognitofs::wire::records::RecordPatch;
use cognitofs::wire::timestamp::Timestamp;

use super::faults::{FAULTS, Fault, LISTING, NOTING, SETTLING};
use super::ledger::Ledger;
use super::service::Service;

/// The process has ended.
#[derive(Debug)]
pub struct Crashed;

/// A group in a journal.
#[derive(Clone, Debug)]
pub struct Row {
    /// One a process; it is another's when that one has ended.
    pub journal: u64,
    /// The dataset.
    pub of: usize,
    pub note: Note,
    pub places: Places,
}

/// What outlives a process.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub rows: Vec<Row>,
    pub parked: Vec<String>,
    /// The journals of processes that live.
    pub held: BTreeSet<u64>,
    last_journal: u64,
    last_place: i64,
    last_ticket: u64,
}

/// The world around a process.
#[derive(Clone, Debug)]
pub struct World {
    /// One a dataset.
    pub services: Vec<Service>,
    pub disk: Disk,
    pub now: Instant,
    /// Which of the points of a run meet a fault, counted from 0.
    pub faults: BTreeMap<usize, Fault>,
    /// The faults that differ at each point so far: any other is one of them there, or none.
    pub points: Vec<&'static [Fault]>,
    pub ledger: Ledger,
    /// Whether a value may be in the journal alone: who waits for a removal has it made at once,
    /// though a copy is held.
    pub rows_keep: bool,
    /// What is wrong, as soon as something is.
    pub wrong: Option<String>,
    /// How long a listing takes.
    pub listing_takes: Duration,
    /// Calls that are still to be carried out.
    pub late: Vec<(usize, Vec<RecordPatch>, String)>,
}

impl World {
    pub fn new(now: Instant, datasets: usize) -> Self {
        Self {
            services: vec![Service::default(); datasets],
            disk: Disk::default(),
            now,
            faults: BTreeMap::new(),
            points: Vec::new(),
            ledger: Ledger::default(),
            rows_keep: false,
            wrong: None,
            listing_takes: Duration::ZERO,
            late: Vec::new(),
        }
    }

    /// Returns what befalls the next point; `faults` are those that differ there.
    fn point(&mut self, faults: &'static [Fault]) -> Option<Fault> {
        let at = self.points.len();
        self.points.push(faults);
        self.faults.get(&at).copied()
    }

    pub fn date(&self, start: Instant) -> Timestamp {
        let since = self.now.saturating_duration_since(start);
        Timestamp::from_millis(1_000_000 + since.as_millis() as i64)
    }

    /// Checks that what the service ever had, and nobody took away, is still there, or kept.
    fn watch(&mut self) {
        let records = self
            .services
            .iter()
            .flat_map(|service| service.records.values());
        let values: Vec<&str> = records
            .filter_map(|record| record.value.as_ref()?.as_str())
            .collect();
        let rows = self.disk.rows.iter().filter(|row| {
            self.rows_keep || row.note.hold.is_some_and(|(hold, _)| hold == Hold::Litter)
        });
        let litter = rows.flat_map(|row| &row.note.changes);
        let litter = litter.filter_map(|noted| noted.change.kind.whole());
        let litter = litter.map(|whole| String::from_utf8_lossy(whole).into_owned());
        let kept: Vec<String> = self.disk.parked.iter().cloned().chain(litter).collect();
        if let Err(wrong) = self.ledger.watch(&values, &kept) {
            let rows = format!("{:#?}", self.disk.rows);
            self.wrong.get_or_insert(format!("{wrong}\n{rows}"));
        }
    }

    pub fn carry_out_late(&mut self) {
        for (of, patches, token) in std::mem::take(&mut self.late) {
            // It may be refused: nobody is told.
            let _ = self.services[of].update(&patches, &token);
            self.watch();
        }
    }
}

/// What the caller of a change is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Done,
    Failed,
}

/// Changes that were put in line, and that the journal may still have to take.
#[derive(Debug)]
pub struct Begun {
    pub of: usize,
    pub ticket: Ticket,
    pub staged: Staged,
}

pub struct Process {
    pub states: Vec<DatasetState>,
    pub barrier: Barrier,
    pub journal: u64,
    /// What those who wait for tickets were told.
    pub answers: BTreeMap<Ticket, Told>,
    /// What happened in which dataset, and whoever has a version open does not know yet.
    pub untold: Vec<(usize, Event)>,
    /// How many changes the journal is still to take.
    under_way: usize,
    /// What groups stand on that are on their way to the journal.
    early: Vec<Rebased>,
    start: Instant,
}

impl Process {
    /// Starts, and takes over what the disk has of processes that have ended.
    pub fn start(world: &mut World, start: Instant) -> Result<Self, Crashed> {
        let new = |id| DatasetState::new(DatasetId(id as u64), 0, true);
        world.disk.last_journal += 1;
        let journal = world.disk.last_journal;
        let mut process = Self {
            states: (0..world.services.len()).map(new).collect(),
            barrier: Barrier::default(),
            journal,
            answers: BTreeMap::new(),
            early: Vec::new(),
            untold: Vec::new(),
            under_way: 0,
            start,
        };
        let held = world.disk.held.clone();
        let is_left = |row: &&mut Row| {
            !held.contains(&row.journal) || Planted::TakenOverWithoutLock.is_planted()
        };
        let mut rows = Vec::new();
        for row in world.disk.rows.iter_mut().filter(is_left) {
            row.journal = journal;
            rows.push(row.clone());
        }
        world.disk.held.insert(journal);
        rows.sort_by_key(|row| row.places.last);
        for (of, state) in process.states.iter_mut().enumerate() {
            let own = rows.iter().filter(|row| row.of == of);
            let left = own.map(|row| Recovered {
                note: row.note.clone(),
                places: row.places,
            });
            state.take_over(left.collect(), world.now, &mut process.barrier);
        }
        Ok(process)
    }

    /// Makes a change, and drives until its caller is answered.
    pub fn change(
        &mut self,
        world: &mut World,
        of: usize,
        changes: Vec<Change>,
        commit: Commit,
    ) -> Result<Told, Crashed> {
        let begun = self.begin(world, of, changes, commit);
        let begun = begun.expect("nothing is noted meanwhile");
        match self.note_begun(world, &begun)? {
            true => self.see_through(world, &begun),
            false => Ok(Told::Failed),
        }
    }

    /// Puts a change in line; None while something of its keys is being noted.
    pub fn begin(
        &mut self,
        world: &mut World,
        of: usize,
        changes: Vec<Change>,
        commit: Commit,
    ) -> Option<Begun> {
        world.disk.last_ticket += 1;
        let ticket = Ticket(world.disk.last_ticket);
        let how = How {
            commit,
            private: false,
            now: world.now,
            date: world.date(self.start),
        };
        let last = &mut world.disk.last_ticket;
        let mut fresh = || {
            *last += 1;
            Ticket(*last)
        };
        let staged = self.states[of].stage(ticket, changes, how, &mut self.barrier, &mut fresh);
        let staged = staged.expect("tokens are text")?;
        self.under_way += 1;
        Some(Begun { of, ticket, staged })
    }

    /// Has the journal take what was put in line. Returns whether it did.
    pub fn note_begun(&mut self, world: &mut World, begun: &Begun) -> Result<bool, Crashed> {
        let Begun { of, ticket, staged } = begun;
        self.under_way -= 1;
        if staged.notes.is_empty() && staged.replaced.is_empty() {
            return Ok(true);
        }
        match self.note(world, *of, &staged.notes, &staged.replaced)? {
            Some(places) => {
                self.states[*of].handle_noted(*ticket, &places, &mut self.barrier);
                Ok(true)
            }
            None => {
                self.states[*of].handle_not_noted(*ticket, &mut self.barrier);
                self.states[*of].forget(*ticket);
                Ok(false)
            }
        }
    }

    /// Drives until the caller of what was begun is answered.
    pub fn see_through(&mut self, world: &mut World, begun: &Begun) -> Result<Told, Crashed> {
        match (begun.staged.waits, self.answers.get(&begun.ticket)) {
            (true, Some(told)) => Ok(told.clone()),
            (true, None) => self.drive(world, Some((begun.of, begun.ticket))),
            (false, _) => self.tell(world, None).map(|_| Told::Done),
        }
    }

    /// Somebody waits for a ticket, as long as something that it means is pending.
    pub fn wait_for(
        &mut self,
        world: &mut World,
        of: usize,
        ticket: Ticket,
    ) -> Result<(), Crashed> {
        if self.states[of].wait_for(ticket) {
            self.answers.remove(&ticket);
            self.drive(world, Some((of, ticket)))?;
            let is_pending = !self.states[of].pending_of(ticket).is_empty();
            if is_pending && self.answers.contains_key(&ticket) {
                let wrong = format!("{ticket:?} was answered, and is pending");
                world.wrong.get_or_insert(wrong);
            }
        }
        Ok(())
    }

    /// Nobody waits for a ticket any more.
    pub fn leave(&mut self, world: &mut World, of: usize, ticket: Ticket) -> Result<(), Crashed> {
        self.states[of].leave(ticket, &mut self.barrier);
        self.tell(world, None).map(drop)
    }

    fn note(
        &mut self,
        world: &mut World,
        of: usize,
        notes: &[Note],
        replaced: &[Ticket],
    ) -> Result<Option<Vec<Place>>, Crashed> {
        let fault = world.point(NOTING);
        match fault {
            Some(Fault::CrashBefore) => return Err(Crashed),
            Some(Fault::Refused) => return Ok(None),
            _ => {}
        }
        let disk = &mut world.disk;
        let own = self.journal;
        disk.rows
            .retain(|row| row.journal != own || !replaced.contains(&row.note.ticket));
        let mut places = Vec::new();
        for note in notes {
            disk.last_place += 1;
            let place = Place(disk.last_place);
            let sets = note.changes.iter().any(|noted| noted.change.kind.is_set());
            let first_set = sets.then(|| note.first_set.unwrap_or(place));
            disk.rows.push(Row {
                journal: own,
                of,
                note: note.clone(),
                places: Places {
                    first_set,
                    last: place,
                },
            });
            places.push(place);
        }
        for rebased in std::mem::take(&mut self.early) {
            self.rebase(world, rebased);
        }
        match fault {
            Some(Fault::CrashAfter) => Err(Crashed),
            _ => Ok(Some(places)),
        }
    }

    fn rebase(&mut self, world: &mut World, rebased: Rebased) {
        let mut rows = world.disk.rows.iter_mut();
        let is_of =
            |row: &&mut Row| row.journal == self.journal && row.note.ticket == rebased.ticket;
        let Some(row) = rows.find(is_of) else {
            self.early.push(rebased);
            return;
        };
        for noted in row.note.changes.iter_mut() {
            if noted.change.key == rebased.key {
                noted.change.base = rebased.base;
                noted.known = rebased.known;
                noted.sent = rebased.sent.clone();
            }
        }
    }

    fn settle(&mut self, world: &mut World, settled: &Settled) -> Result<(), Crashed> {
        if settled.is_empty() {
            return Ok(());
        }
        let fault = world.point(SETTLING);
        if fault == Some(Fault::CrashBefore) {
            return Err(Crashed);
        }
        let own = self.journal;
        let rows = &mut world.disk.rows;
        rows.retain(|row| row.journal != own || !settled.removed.contains(&row.note.ticket));
        for rebased in &settled.rebased {
            self.rebase(world, rebased.clone());
        }
        match fault {
            Some(Fault::CrashAfter) => Err(Crashed),
            _ => Ok(()),
        }
    }

    /// Takes what happened. Returns what the caller of a ticket is told, if it was decided.
    fn tell(&mut self, world: &mut World, of: Option<Ticket>) -> Result<Option<Told>, Crashed> {
        let mut told = None;
        loop {
            let all = 0..self.states.len();
            let found = all.map(|at| (at, self.states[at].take_events()));
            let events: Vec<_> = found.filter(|(_, events)| !events.is_empty()).collect();
            if events.is_empty() {
                return Ok(told);
            }
            for (at, event) in events
                .into_iter()
                .flat_map(|(at, events)| events.into_iter().map(move |event| (at, event)))
            {
                let was_noted = event.settled.removed.contains(&event.ticket);
                if let Outcome::Refused(_, changes) = &event.outcome
                    && was_noted
                {
                    let wholes = changes.iter().filter_map(|change| change.kind.whole());
                    let texts = wholes.map(|whole| String::from_utf8_lossy(whole).into_owned());
                    world.disk.parked.extend(texts);
                    for (other, removal) in self.barrier.kept_back(event.ticket) {
                        self.states[other.0 as usize].keep_back(removal, &mut self.barrier);
                    }
                }
                self.settle(world, &event.settled)?;
                if !matches!(event.outcome, Outcome::Waits(_)) {
                    self.barrier.decide(event.ticket);
                    self.states[at].forget(event.ticket);
                }
                let answer = match event.outcome {
                    Outcome::Made(_) => Told::Done,
                    _ => Told::Failed,
                };
                for ticket in &event.answered {
                    if of == Some(*ticket) {
                        told = Some(answer.clone());
                    }
                    self.answers.insert(*ticket, answer.clone());
                }
                self.untold.push((at, event));
            }
        }
    }

    /// Does what is to be done, until a ticket is decided, or nothing is left.
    pub fn drive(
        &mut self,
        world: &mut World,
        of: Option<(usize, Ticket)>,
    ) -> Result<Told, Crashed> {
        let ticket = of.map(|(_, ticket)| ticket);
        for _ in 0..2000 {
            let mut until: Option<Instant> = None;
            let mut idle = true;
            for at in 0..self.states.len() {
                let step = self.states[at].next_step(world.now, &mut self.barrier);
                let mut told = self.tell(world, ticket)?;
                for (other, held) in self.barrier.take_wanted() {
                    self.states[other.0 as usize].end_holds(Some(held), world.now);
                    idle = false;
                }
                match step {
                    Step::Wait { until: this } => {
                        until = Some(until.map_or(this, |until| until.min(this)));
                    }
                    Step::Idle => {}
                    step => {
                        idle = false;
                        let answered = self.exchange(world, at, step)?;
                        if !answered && of.is_some_and(|(of, _)| of == at) && told.is_none() {
                            return self.give_up(world, of);
                        }
                    }
                }
                let later = self.tell(world, ticket)?;
                if let Some(told) = told.take().or(later) {
                    return Ok(told);
                }
            }
            match (idle, until, of) {
                (false, ..) => {}
                (true, Some(until), _) => world.now = world.now.max(until),
                (true, None, None) => return Ok(Told::Done),
                // It may wait for what the journal has not taken yet.
                (true, None, of) if self.under_way > 0 => return self.give_up(world, of),
                (true, None, Some(of)) => panic!("{of:?} waits for ever: {:?}", self.states),
            }
        }
        panic!("no end: {:?} {:?}", self.states, self.barrier);
    }

    /// Whoever waits is told that it failed.
    fn give_up(&mut self, world: &mut World, of: Option<(usize, Ticket)>) -> Result<Told, Crashed> {
        if let Some((at, ticket)) = of {
            self.leave(world, at, ticket)?;
        }
        Ok(Told::Failed)
    }

    /// Returns whether an answer came.
    fn exchange(&mut self, world: &mut World, at: usize, step: Step) -> Result<bool, Crashed> {
        match step {
            Step::List { since } => self.list(world, at, since).map(|()| true),
            Step::Update {
                patches,
                token,
                replaced,
            } => {
                let unseen = replaced.iter().filter(|old| !old.seen);
                let texts = unseen
                    .filter_map(|old| old.value.as_str())
                    .map(str::to_owned);
                let texts: Vec<String> = texts.collect();
                if Planted::ReplacedBeforeKept.is_planted() {
                    let answered = self.update(world, at, patches, &token)?;
                    world.disk.parked.extend(texts);
                    return Ok(answered);
                }
                world.disk.parked.extend(texts);
                self.update(world, at, patches, &token)
            }
            step => unreachable!("{step:?}"),
        }
    }

    fn list(&mut self, world: &mut World, at: usize, since: i64) -> Result<(), Crashed> {
        match world.point(LISTING) {
            Some(Fault::CrashBefore | Fault::CrashAfter) => return Err(Crashed),
            _ => {
                let (now, takes) = (world.now, world.listing_takes);
                let asked = now.checked_sub(takes).unwrap_or(now);
                let listing = world.services[at].list(since);
                self.states[at].handle_listed(listing, asked, now, &mut self.barrier);
            }
        }
        Ok(())
    }

    fn update(
        &mut self,
        world: &mut World,
        at: usize,
        patches: Vec<RecordPatch>,
        token: &str,
    ) -> Result<bool, Crashed> {
        let fault = world.point(&FAULTS);
        let state = &mut self.states[at];
        match fault {
            Some(Fault::CrashBefore) => return Err(Crashed),
            Some(Fault::LostBefore) => {
                state.handle_lost(&mut self.barrier);
                return Ok(false);
            }
            Some(Fault::Late) => {
                world.late.push((at, patches, token.to_owned()));
                state.handle_lost(&mut self.barrier);
                return Ok(false);
            }
            Some(Fault::Refused) => world.services[at].refuses = 1,
            _ => {}
        }
        if Planted::RowRemovedEarly.is_planted() {
            let flying = state.in_flight();
            world
                .disk
                .rows
                .retain(|row| !flying.contains(&row.note.ticket));
        }
        let answer = world.services[at].update(&patches, token);
        world.watch();
        match fault {
            Some(Fault::CrashAfter) => return Err(Crashed),
            Some(Fault::LostAfter) => {
                state.handle_lost(&mut self.barrier);
                return Ok(false);
            }
            _ => {}
        }
        match answer {
            Ok(records) => state.handle_updated(records, world.now, &mut self.barrier),
            Err(fault) => state.handle_refused(fault, &mut self.barrier),
        }
        Ok(true)
    }

    /// Lists, so that what is shown is known.
    pub fn look(&mut self, world: &mut World) -> Result<(), Crashed> {
        for at in 0..self.states.len() {
            self.states[at].want_list();
            let step = self.states[at].next_step(world.now, &mut self.barrier);
            if let Step::List { since } = step {
                self.list(world, at, since)?;
            }
            self.tell(world, None)?;
        }
        Ok(())
    }

    /// Ends all holds and drives until nothing is left but litter.
    pub fn finish(&mut self, world: &mut World) -> Result<(), Crashed> {
        for state in &mut self.states {
            state.end_holds(None, world.now);
        }
        self.drive(world, None)?;
        world.now += Duration::from_secs(1);
        Ok(())
    }
}
