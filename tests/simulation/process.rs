//! One process: the state of one dataset, its order and its journal, driven step by step.

use std::time::{Duration, Instant};

use cognitofs::sync::pending::recovery::Recovered;
use cognitofs::sync::pending::{
    Barrier, Change, Commit, DatasetId, DatasetState, How, Note, Outcome, Place, Places, Settled,
    Step, Ticket,
};
use cognitofs::wire::records::RecordPatch;
use cognitofs::wire::timestamp::Timestamp;

use super::service::Service;

/// What befalls a call or a write of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not done, and its caller gets no answer.
    LostBefore,
    /// It is done, and its caller gets no answer.
    LostAfter,
    /// It is done when the next operation has ended, and its caller gets no answer.
    Late,
    /// The process ends before it.
    CrashBefore,
    /// The process ends after it.
    CrashAfter,
    /// There is no room for it, or the service's quota is reached.
    Refused,
}

pub const FAULTS: [Fault; 6] = [
    Fault::LostBefore,
    Fault::LostAfter,
    Fault::Late,
    Fault::CrashBefore,
    Fault::CrashAfter,
    Fault::Refused,
];

/// The process has ended.
#[derive(Debug)]
pub struct Crashed;

/// What outlives a process.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub rows: Vec<(Note, Places)>,
    pub parked: Vec<String>,
    last_place: i64,
    last_ticket: u64,
}

/// The world around a process.
#[derive(Clone, Debug)]
pub struct World {
    pub service: Service,
    pub disk: Disk,
    pub now: Instant,
    /// Which of the points of a run meets a fault, counted from 0.
    pub fault: Option<(usize, Fault)>,
    pub points: usize,
    /// Calls that are still to be carried out.
    pub late: Vec<(Vec<RecordPatch>, String)>,
}

impl World {
    pub fn new(now: Instant) -> Self {
        Self {
            service: Service::default(),
            disk: Disk::default(),
            now,
            fault: None,
            points: 0,
            late: Vec::new(),
        }
    }

    /// Returns what befalls the next point.
    fn point(&mut self) -> Option<Fault> {
        let at = self.points;
        self.points += 1;
        let (of, fault) = self.fault?;
        (of == at).then_some(fault)
    }

    pub fn date(&self, start: Instant) -> Timestamp {
        let since = self.now.saturating_duration_since(start);
        Timestamp::from_millis(1_000_000 + since.as_millis() as i64)
    }

    pub fn carry_out_late(&mut self) {
        for (patches, token) in std::mem::take(&mut self.late) {
            // It may be refused: nobody is told.
            let _ = self.service.update(&patches, &token);
        }
    }
}

/// What the caller of a change is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Done,
    Failed,
}

pub struct Process {
    pub state: DatasetState,
    pub barrier: Barrier,
    start: Instant,
}

impl Process {
    /// Starts, and takes over what the disk has.
    pub fn start(world: &mut World, start: Instant) -> Result<Self, Crashed> {
        let mut process = Self {
            state: DatasetState::new(DatasetId(1), 0, true),
            barrier: Barrier::default(),
            start,
        };
        let rows = world.disk.rows.clone();
        let left = rows
            .into_iter()
            .map(|(note, places)| Recovered { note, places });
        process
            .state
            .take_over(left.collect(), world.now, &mut process.barrier);
        Ok(process)
    }

    /// Makes a change, and drives until its caller is answered.
    pub fn change(
        &mut self,
        world: &mut World,
        changes: Vec<Change>,
        commit: Commit,
    ) -> Result<Told, Crashed> {
        world.disk.last_ticket += 1;
        let ticket = Ticket(world.disk.last_ticket);
        let how = How {
            commit,
            private: false,
            now: world.now,
            date: world.date(self.start),
        };
        let mut last = world.disk.last_ticket;
        let mut fresh = || {
            last += 1;
            Ticket(last)
        };
        let staged = self
            .state
            .stage(ticket, changes, how, &mut self.barrier, &mut fresh);
        world.disk.last_ticket = last;
        let staged = staged.expect("nothing is noted meanwhile");
        if !staged.notes.is_empty() || !staged.replaced.is_empty() {
            match self.note(world, &staged.notes, &staged.replaced)? {
                Some(places) => self.state.handle_noted(ticket, &places, &mut self.barrier),
                None => {
                    self.state.handle_not_noted(ticket, &mut self.barrier);
                    return Ok(Told::Failed);
                }
            }
        }
        match staged.waits {
            true => self.drive(world, Some(ticket)),
            false => {
                self.tell(world, None)?;
                Ok(Told::Done)
            }
        }
    }

    fn note(
        &mut self,
        world: &mut World,
        notes: &[Note],
        replaced: &[Ticket],
    ) -> Result<Option<Vec<Place>>, Crashed> {
        let fault = world.point();
        match fault {
            Some(Fault::CrashBefore) => return Err(Crashed),
            Some(Fault::Refused) => return Ok(None),
            _ => {}
        }
        let disk = &mut world.disk;
        disk.rows
            .retain(|(note, _)| !replaced.contains(&note.ticket));
        let mut places = Vec::new();
        for note in notes {
            disk.last_place += 1;
            let place = Place(disk.last_place);
            let sets = note.changes.iter().any(|noted| noted.change.kind.is_set());
            let first_set = sets.then(|| note.first_set.unwrap_or(place));
            disk.rows.push((
                note.clone(),
                Places {
                    first_set,
                    last: place,
                },
            ));
            places.push(place);
        }
        match fault {
            Some(Fault::CrashAfter) => Err(Crashed),
            _ => Ok(Some(places)),
        }
    }

    fn settle(&mut self, world: &mut World, settled: &Settled) -> Result<(), Crashed> {
        if settled.is_empty() {
            return Ok(());
        }
        let fault = world.point();
        if fault == Some(Fault::CrashBefore) {
            return Err(Crashed);
        }
        world
            .disk
            .rows
            .retain(|(note, _)| !settled.removed.contains(&note.ticket));
        for rebased in &settled.rebased {
            let rows = world.disk.rows.iter_mut();
            for (note, _) in rows.filter(|(note, _)| note.ticket == rebased.ticket) {
                for noted in note.changes.iter_mut() {
                    if noted.change.key == rebased.key {
                        noted.change.base = rebased.base;
                        noted.known = rebased.known;
                        noted.sent = rebased.sent.clone();
                    }
                }
            }
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
            let events = self.state.take_events();
            if events.is_empty() {
                return Ok(told);
            }
            for event in events {
                let was_noted = event.settled.removed.contains(&event.ticket);
                if let Outcome::Refused(_, changes) = &event.outcome
                    && was_noted
                {
                    let wholes = changes.iter().filter_map(|change| change.kind.whole());
                    let texts = wholes.map(|whole| String::from_utf8_lossy(whole).into_owned());
                    world.disk.parked.extend(texts);
                    for (_, removal) in self.barrier.kept_back(event.ticket) {
                        self.state.keep_back(removal, &mut self.barrier);
                    }
                }
                self.settle(world, &event.settled)?;
                if !matches!(event.outcome, Outcome::Waits(_)) {
                    self.barrier.decide(event.ticket);
                    self.state.forget(event.ticket);
                }
                if of == Some(event.ticket) {
                    told = Some(match event.outcome {
                        Outcome::Made(_) => Told::Done,
                        _ => Told::Failed,
                    });
                }
            }
        }
    }

    /// Does what is to be done, until a ticket is decided, or nothing is left.
    pub fn drive(&mut self, world: &mut World, of: Option<Ticket>) -> Result<Told, Crashed> {
        for _ in 0..1000 {
            let step = self.state.next_step(world.now, &mut self.barrier);
            if let Some(told) = self.tell(world, of)? {
                return Ok(told);
            }
            for (_, held) in self.barrier.take_wanted() {
                self.state.end_holds(Some(held), world.now);
            }
            match step {
                Step::List { since } => self.list(world, since)?,
                Step::Update {
                    patches,
                    token,
                    replaced,
                } => {
                    let unseen = replaced.iter().filter(|old| !old.seen);
                    let texts = unseen
                        .filter_map(|old| old.value.as_str())
                        .map(str::to_owned);
                    world.disk.parked.extend(texts);
                    if !self.update(world, patches, &token)? && of.is_some() {
                        // Whoever waits is told that it failed.
                        if let Some(ticket) = of {
                            self.state.leave(ticket, &mut self.barrier);
                        }
                        self.tell(world, of)?;
                        return Ok(Told::Failed);
                    }
                }
                Step::Wait { until } => world.now = world.now.max(until),
                Step::Idle => match of {
                    None => return Ok(Told::Done),
                    Some(ticket) => panic!("{ticket:?} waits for ever: {:?}", self.state),
                },
                Step::Delete | Step::RefuseDeletion => unreachable!(),
            }
            if let Some(told) = self.tell(world, of)? {
                return Ok(told);
            }
        }
        panic!("no end: {:?}", self.state);
    }

    fn list(&mut self, world: &mut World, since: i64) -> Result<(), Crashed> {
        match world.point() {
            Some(Fault::CrashBefore | Fault::CrashAfter) => return Err(Crashed),
            _ => {
                let listing = world.service.list(since);
                self.state
                    .handle_listed(listing, world.now, &mut self.barrier);
            }
        }
        Ok(())
    }

    /// Returns whether an answer came.
    fn update(
        &mut self,
        world: &mut World,
        patches: Vec<RecordPatch>,
        token: &str,
    ) -> Result<bool, Crashed> {
        let fault = world.point();
        match fault {
            Some(Fault::CrashBefore) => return Err(Crashed),
            Some(Fault::LostBefore) => {
                self.state.handle_lost(&mut self.barrier);
                return Ok(false);
            }
            Some(Fault::Late) => {
                world.late.push((patches, token.to_owned()));
                self.state.handle_lost(&mut self.barrier);
                return Ok(false);
            }
            Some(Fault::Refused) => world.service.refuses = 1,
            _ => {}
        }
        let answer = world.service.update(&patches, token);
        match fault {
            Some(Fault::CrashAfter) => return Err(Crashed),
            Some(Fault::LostAfter) => {
                self.state.handle_lost(&mut self.barrier);
                return Ok(false);
            }
            _ => {}
        }
        match answer {
            Ok(records) => self
                .state
                .handle_updated(records, world.now, &mut self.barrier),
            Err(fault) => self.state.handle_refused(fault, &mut self.barrier),
        }
        Ok(true)
    }

    /// Lists, so that what is shown is known.
    pub fn look(&mut self, world: &mut World) -> Result<(), Crashed> {
        self.state.want_list();
        let step = self.state.next_step(world.now, &mut self.barrier);
        if let Step::List { since } = step {
            self.list(world, since)?;
        }
        self.tell(world, None)?;
        Ok(())
    }

    /// Ends all holds and drives until nothing is left but litter.
    pub fn finish(&mut self, world: &mut World) -> Result<(), Crashed> {
        self.state.end_holds(None, world.now);
        self.drive(world, None)?;
        world.now += Duration::from_secs(1);
        Ok(())
    }
}
