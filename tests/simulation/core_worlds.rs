//! Random worlds of the pure core: three datasets, several files of one name, another client, calls
//! that are lost or late, crashes and a full disk.

use std::time::{Duration, Instant};

use cognitofs::sync::Unseen;
use cognitofs::sync::pending::{Change, Commit, Kind, View};
use cognitofs::wire::names::RecordKey;

use super::ledger::Ledger;
use super::process::{Crashed, FAULTS, Process, Told, World};
use super::random::Random;

const DATASETS: usize = 3;
const NAMES: [&str; 6] = ["a", "b", "k", "k~", ".k.swp", "#k#"];
const STEPS: usize = 14;

struct CoreWorld {
    random: Random,
    world: World,
    ledger: Ledger,
    start: Instant,
    commit: Commit,
    unseen: Unseen,
    /// Versions that somebody still has open.
    open: Vec<(usize, RecordKey, View)>,
    written: usize,
    trace: Vec<String>,
}

type Place = (usize, RecordKey);

impl CoreWorld {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let start = Instant::now();
        let mut world = World::new(start, DATASETS);
        let percent = random.pick(&[0, 3, 10, 25]);
        for point in 0..400 {
            if random.percent(percent) {
                world.faults.insert(point, random.pick(&FAULTS));
            }
        }
        Self {
            world,
            ledger: Ledger::default(),
            start,
            commit: random.pick(&[Commit::Close, Commit::Async]),
            unseen: random.pick(&[Unseen::Keep, Unseen::Refuse]),
            random,
            open: Vec::new(),
            written: 0,
            trace: Vec::new(),
        }
    }

    fn run(&mut self) -> Result<(), String> {
        let mut process = self.restart();
        for _ in 0..STEPS {
            self.world.now += Duration::from_millis(10);
            process = match self.step(process) {
                Ok(process) => process,
                Err(Crashed) => self.restart(),
            };
            if self.random.percent(50) {
                self.world.carry_out_late();
            }
        }
        self.world.carry_out_late();
        loop {
            match self.finish(&mut process) {
                Ok(()) => break,
                Err(Crashed) => process = self.restart(),
            }
        }
        self.check(&process)
    }

    fn restart(&mut self) -> Process {
        self.trace.push("starts".to_owned());
        self.open.clear();
        loop {
            if let Ok(mut process) = Process::start(&mut self.world, self.start)
                && process.look(&mut self.world).is_ok()
            {
                return process;
            }
        }
    }

    fn finish(&mut self, process: &mut Process) -> Result<(), Crashed> {
        for _ in 0..2 {
            process.finish(&mut self.world)?;
            self.world.carry_out_late();
            process.look(&mut self.world)?;
        }
        process.finish(&mut self.world)
    }

    fn step(&mut self, mut process: Process) -> Result<Process, Crashed> {
        let place = (self.random.below(DATASETS), self.key());
        match self.random.below(100) {
            0..10 => self.other_changes(&place),
            10..16 => {
                self.world.now += Duration::from_secs(self.random.below(8) as u64);
                self.trace.push("waits".to_owned());
                process.drive(&mut self.world, None)?;
            }
            16..20 => process.look(&mut self.world)?,
            20..24 => return Err(Crashed),
            24..32 => {
                let view = process.states[place.0].view(&place.1);
                self.open.push((place.0, place.1, view));
            }
            32..40 => self.move_across(&mut process, &place)?,
            40..55 => self.rename(&mut process, &place)?,
            _ => self.write(&mut process, &place)?,
        }
        Ok(process)
    }

    fn key(&mut self) -> RecordKey {
        RecordKey::new(self.random.pick(&NAMES)).unwrap()
    }

    fn token(&mut self, of: char) -> String {
        self.written += 1;
        let token = format!("{of}{};", self.written);
        self.ledger.begin(&token);
        token
    }

    fn other_changes(&mut self, (of, key): &Place) {
        let value = self.world.services[*of].value(key).map(str::to_owned);
        let token = self.token('o');
        let new = match self.random.below(3) {
            0 => None,
            1 => Some(token.clone()),
            _ => Some(value.clone().unwrap_or_default() + &token),
        };
        if value.is_none() && new.is_none() {
            return;
        }
        self.trace
            .push(format!("other: {of} {key:?} {:?} {new:?}", key.as_str()));
        let appends = new.as_ref().zip(value.as_ref());
        if let Some(value) = &value
            && !appends.is_some_and(|(new, old)| new.starts_with(old.as_str()))
        {
            self.ledger.take(value, true);
        }
        self.world.services[*of].change(key, new.as_deref(), 5);
        if new.is_some() {
            self.ledger.keep(&token);
        }
    }

    /// Returns the version that a change is made of: what is shown, or what somebody has open.
    fn version(&mut self, process: &Process, (of, key): &Place) -> View {
        let mut open = self
            .open
            .iter()
            .filter(|(at, other, _)| at == of && other == key);
        match open.next().filter(|_| self.random.clone().percent(40)) {
            Some((_, _, view)) => view.clone(),
            None => process.states[*of].view(key),
        }
    }

    fn write(&mut self, process: &mut Process, place: &Place) -> Result<(), Crashed> {
        let view = self.version(process, place);
        let old = text(&view);
        let (kind, token, taken) = match self.random.below(10) {
            0..4 => {
                let token = self.token('w');
                (Kind::Whole(bytes(&token)), Some(token), old)
            }
            4..6 => {
                let token = self.token('a');
                let whole = bytes(&(old.unwrap_or_default() + &token));
                (
                    Kind::Append {
                        text: bytes(&token),
                        whole,
                    },
                    Some(token),
                    None,
                )
            }
            6 if old.is_some() => {
                let token = self.token('e');
                (Kind::Edit(bytes(&token)), Some(token), old)
            }
            7 if old.is_some() => (Kind::Times, None, None),
            8.. if old.is_some() => (Kind::Remove, None, old),
            _ => return Ok(()),
        };
        let change = self.change(&place.1, &view, kind);
        self.make(process, place.0, vec![change], token, taken)?;
        Ok(())
    }

    fn rename(&mut self, process: &mut Process, place: &Place) -> Result<(), Crashed> {
        let to = match self.random.percent(30) {
            // An editor makes a backup.
            true => RecordKey::new(format!("{}~", place.1.as_str().unwrap())).unwrap(),
            false => self.key(),
        };
        let from_view = process.states[place.0].view(&place.1);
        let to_view = process.states[place.0].view(&to);
        let Some(moved) = text(&from_view).filter(|_| to != place.1) else {
            return Ok(());
        };
        self.ledger.move_away(&moved);
        let other = text(&to_view);
        let set = self.change(&to, &to_view, Kind::Whole(bytes(&moved)));
        let exchanged = other.clone().filter(|_| self.random.percent(30));
        let (rest, taken) = match exchanged {
            Some(other) => {
                self.ledger.move_away(&other);
                (Kind::Whole(bytes(&other)), None)
            }
            None => (Kind::Remove, other),
        };
        let rest = self.change(&place.1, &from_view, rest);
        self.make(process, place.0, vec![set, rest], None, taken)?;
        Ok(())
    }

    /// A copy and, once that is done, a removal.
    fn move_across(&mut self, process: &mut Process, place: &Place) -> Result<(), Crashed> {
        let to = ((place.0 + 1) % DATASETS, self.key());
        let view = process.states[place.0].view(&place.1);
        let Some(moved) = text(&view) else {
            return Ok(());
        };
        let over = process.states[to.0].view(&to.1);
        self.ledger.move_away(&moved);
        let copy = self.change(&to.1, &over, Kind::Whole(bytes(&moved)));
        let told = self.make(process, to.0, vec![copy], None, text(&over))?;
        if told == Told::Done {
            let removal = self.change(&place.1, &view, Kind::Remove);
            // What was moved is not taken away.
            self.make(process, place.0, vec![removal], None, None)?;
        }
        Ok(())
    }

    fn change(&self, key: &RecordKey, view: &View, kind: Kind) -> Change {
        Change {
            key: key.clone(),
            base: view.base,
            kind,
            unseen: self.unseen,
            own: Vec::new(),
            left: None,
            modified: self.world.date(self.start),
        }
    }

    fn make(
        &mut self,
        process: &mut Process,
        of: usize,
        changes: Vec<Change>,
        token: Option<String>,
        taken: Option<String>,
    ) -> Result<Told, Crashed> {
        let said: Vec<String> = changes
            .iter()
            .map(|change| {
                let whole = change
                    .kind
                    .whole()
                    .map(|whole| String::from_utf8_lossy(whole));
                format!(
                    "{:?} {:?} {whole:?} on {:?}",
                    change.key.as_str(),
                    change.kind,
                    change.base
                )
            })
            .collect();
        self.trace
            .push(format!("point {} {of}: {said:?}", self.world.points));
        taken.iter().for_each(|text| self.ledger.take(text, false));
        let told = process.change(&mut self.world, of, changes, self.commit)?;
        self.trace.push(format!("{told:?}"));
        if told == Told::Done {
            token.iter().for_each(|token| self.ledger.keep(token));
        }
        Ok(told)
    }

    fn check(&self, process: &Process) -> Result<(), String> {
        let rows = self.world.disk.rows.iter();
        let litter: Vec<String> = rows
            .flat_map(|(_, note, _)| &note.changes)
            .filter_map(|noted| noted.change.kind.whole())
            .map(|whole| String::from_utf8_lossy(whole).into_owned())
            .collect();
        let services = self.world.services.iter();
        let records = services.flat_map(|service| service.records.values());
        let values: Vec<&str> = records
            .filter_map(|record| record.value.as_ref()?.as_str())
            .collect();
        let kept = [self.world.disk.parked.clone(), litter].concat();
        self.ledger.check(&values, &kept)?;
        let left: usize = process.states.iter().map(|state| state.litter()).sum();
        let pending: usize = process
            .states
            .iter()
            .map(|state| state.pending().count())
            .sum();
        let (rows, order) = (self.world.disk.rows.len(), process.barrier.len());
        match pending == 0 && rows == left && order == left {
            true => Ok(()),
            false => Err(format!(
                "{pending} pending, {rows} rows, {order} in order, {left} litter"
            )),
        }
    }
}

fn text(view: &View) -> Option<String> {
    let value = view.value.as_ref()?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

fn bytes(text: &str) -> std::sync::Arc<[u8]> {
    text.as_bytes().into()
}

fn try_seed(seed: u64) {
    let mut world = CoreWorld::new(seed);
    let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let result = world.run();
        (result, world.trace.clone(), world.world.faults.clone())
    }));
    match tried {
        Ok((Ok(()), ..)) => {}
        Ok((Err(why), trace, faults)) => {
            panic!("seed {seed}: {why}\n{faults:?}\n{}", trace.join("\n"))
        }
        Err(_) => panic!("seed {seed} panics"),
    }
}

fn from_environment(name: &str, default: u64) -> u64 {
    let value = std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok());
    value.unwrap_or(default)
}

#[test]
fn random_worlds_of_the_core() {
    let first = from_environment("COGNITOFS_SEED", 0);
    let count = from_environment("COGNITOFS_CORE_WORLDS", 20_000);
    for seed in first..first + count {
        try_seed(seed);
    }
}
