//! All short histories on two keys of one dataset, each with every fault at every point.

use std::time::{Duration, Instant};

use cognitofs::sync::Unseen;
use cognitofs::sync::pending::{Change, Commit, Kind, View};
use cognitofs::wire::names::RecordKey;

use super::faults::Fault;
use super::process::{Crashed, Process, Told, World};
use super::random::Random;

/// What is done, on the first or the second key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Write(usize),
    Append(usize),
    Edit(usize),
    Touch(usize),
    Remove(usize),
    Rename(usize),
    Exchange,
    /// Another client's.
    OtherWrite(usize),
    OtherRemove(usize),
    /// Some time passes.
    Wait,
}

const OPS: [Op; 14] = [
    Op::Write(0),
    Op::Write(1),
    Op::Append(0),
    Op::Append(1),
    Op::Edit(0),
    Op::Touch(0),
    Op::Remove(0),
    Op::Remove(1),
    Op::Rename(0),
    Op::Rename(1),
    Op::Exchange,
    Op::OtherWrite(0),
    Op::OtherRemove(0),
    Op::Wait,
];

/// How a history is run.
#[derive(Clone, Copy, Debug)]
struct Setting {
    commit: Commit,
    keys: [&'static str; 2],
    unseen: Unseen,
}

struct Run {
    world: World,
    start: Instant,
    setting: Setting,
    keys: [RecordKey; 2],
    written: usize,
    /// Whether the service has no room once.
    is_refused: bool,
}

impl Run {
    fn new(setting: Setting, fault: Option<(usize, Fault)>) -> Self {
        let start = Instant::now();
        let mut run = Self {
            world: World::new(start, 1),
            start,
            keys: setting.keys.map(|key| RecordKey::new(key).unwrap()),
            setting,
            written: 0,
            is_refused: matches!(fault, Some((_, Fault::Refused))),
        };
        run.world.faults = fault.into_iter().collect();
        run.other_writes(0);
        run
    }

    fn token(&mut self, of: char) -> String {
        self.written += 1;
        let token = format!("{of}{};", self.written);
        self.world.ledger.begin(&token);
        token
    }

    fn other_writes(&mut self, key: usize) {
        let key = self.keys[key].clone();
        let token = self.token('o');
        self.take_remote(&key);
        self.world.services[0].change(&key, Some(&token), 5);
        self.world.ledger.keep(&token);
    }

    fn take_remote(&mut self, key: &RecordKey) {
        if let Some(value) = self.world.services[0].value(key) {
            let value = value.to_owned();
            self.world.ledger.take(&value, true);
        }
    }

    /// Runs a history, and the process again after a crash. Returns the points that there were.
    fn run(&mut self, history: &[Op]) -> Result<Vec<&'static [Fault]>, String> {
        let mut process = self.restart();
        for op in history {
            self.world.now += Duration::from_millis(10);
            process = match self.step(process, *op) {
                Ok(process) => process,
                Err(Crashed) => self.restart(),
            };
            self.world.carry_out_late();
        }
        loop {
            match self.finish(&mut process) {
                Ok(()) => break,
                Err(Crashed) => process = self.restart(),
            }
        }
        self.check(&process)?;
        let parked = &self.world.disk.parked;
        if self.is_alone(history) && !parked.is_empty() {
            return Err(format!("{parked:?} are parked, and nobody else was there"));
        }
        Ok(std::mem::take(&mut self.world.points))
    }

    /// Returns whether nothing can be refused: nobody else changes the records, the service has room,
    /// and what has no answer is the journal's. Editors' own files go with what they are of.
    fn is_alone(&self, history: &[Op]) -> bool {
        let others = |op: &Op| matches!(op, Op::OtherWrite(_) | Op::OtherRemove(_));
        self.setting.commit == Commit::Async
            && self.setting.keys[0] == "a"
            && !history.iter().any(others)
            && !self.is_refused
    }

    fn restart(&mut self) -> Process {
        loop {
            self.world.disk.held.clear();
            if let Ok(mut process) = Process::start(&mut self.world, self.start)
                && process.look(&mut self.world).is_ok()
            {
                return process;
            }
        }
    }

    fn finish(&mut self, process: &mut Process) -> Result<(), Crashed> {
        process.finish(&mut self.world)?;
        self.world.carry_out_late();
        process.look(&mut self.world)?;
        process.finish(&mut self.world)
    }

    fn step(&mut self, mut process: Process, op: Op) -> Result<Process, Crashed> {
        match op {
            Op::OtherWrite(key) => self.other_writes(key),
            Op::OtherRemove(key) => {
                let key = self.keys[key].clone();
                if self.world.services[0].value(&key).is_some() {
                    self.take_remote(&key);
                    self.world.services[0].change(&key, None, 6);
                }
            }
            Op::Wait => {
                self.world.now += Duration::from_secs(3);
                process.drive(&mut self.world, None)?;
            }
            op => {
                let keys = self.keys.clone();
                let views = keys.each_ref().map(|key| process.states[0].view(key));
                let (changes, token, taken) = self.changes(op, &views);
                if changes.is_empty() {
                    return Ok(process);
                }
                for text in &taken {
                    self.world.ledger.take(text, false);
                }
                let commit = self.setting.commit;
                let told = process.change(&mut self.world, 0, changes, commit)?;
                if told == Told::Done {
                    token.iter().for_each(|token| self.world.ledger.keep(token));
                }
            }
        }
        Ok(process)
    }

    /// Returns the changes of an operation, the token it writes, and the texts that it takes away.
    fn changes(&mut self, op: Op, views: &[View; 2]) -> (Vec<Change>, Option<String>, Vec<String>) {
        let text = |at: usize| {
            let value = views[at].value.as_ref();
            value.map(|value| String::from_utf8(value.to_vec()).unwrap())
        };
        let bytes = |text: &str| std::sync::Arc::<[u8]>::from(text.as_bytes());
        let none = (Vec::new(), None, Vec::new());
        match op {
            Op::Write(at) => {
                let token = self.token('w');
                let change = self.change(at, &views[at], Kind::Whole(bytes(&token)));
                (vec![change], Some(token), text(at).into_iter().collect())
            }
            Op::Append(at) => {
                let token = self.token('a');
                let whole = text(at).unwrap_or_default() + &token;
                let kind = Kind::Append {
                    text: bytes(&token),
                    whole: bytes(&whole),
                };
                (
                    vec![self.change(at, &views[at], kind)],
                    Some(token),
                    Vec::new(),
                )
            }
            Op::Edit(at) => {
                let Some(old) = text(at) else { return none };
                let token = self.token('e');
                let change = self.change(at, &views[at], Kind::Edit(bytes(&token)));
                (vec![change], Some(token), vec![old])
            }
            Op::Touch(at) if text(at).is_some() => (
                vec![self.change(at, &views[at], Kind::Times)],
                None,
                Vec::new(),
            ),
            Op::Remove(at) => {
                let Some(old) = text(at) else { return none };
                (
                    vec![self.change(at, &views[at], Kind::Remove)],
                    None,
                    vec![old],
                )
            }
            Op::Rename(at) => {
                let Some(moved) = text(at) else { return none };
                let to = 1 - at;
                self.world.ledger.move_away(&moved);
                let set = Change {
                    modified: views[at].modified,
                    ..self.change(to, &views[to], Kind::Whole(bytes(&moved)))
                };
                let removal = self.change(at, &views[at], Kind::Remove);
                (vec![set, removal], None, text(to).into_iter().collect())
            }
            Op::Exchange => {
                let (Some(one), Some(other)) = (text(0), text(1)) else {
                    return none;
                };
                self.world.ledger.move_away(&one);
                self.world.ledger.move_away(&other);
                let mut first = self.change(0, &views[0], Kind::Whole(bytes(&other)));
                let mut second = self.change(1, &views[1], Kind::Whole(bytes(&one)));
                // A file keeps its date where it goes.
                (first.modified, second.modified) = (views[1].modified, views[0].modified);
                (vec![first, second], None, Vec::new())
            }
            _ => none,
        }
    }

    fn change(&self, at: usize, view: &View, kind: Kind) -> Change {
        Change {
            key: self.keys[at].clone(),
            base: view.base,
            kind,
            unseen: self.setting.unseen,
            own: Vec::new(),
            left: None,
            modified: self.world.date(self.start),
        }
    }

    fn check(&self, process: &Process) -> Result<(), String> {
        let litter: Vec<String> = self
            .world
            .disk
            .rows
            .iter()
            .flat_map(|row| &row.note.changes)
            .filter_map(|noted| noted.change.kind.whole())
            .map(|whole| String::from_utf8_lossy(whole).into_owned())
            .collect();
        let values: Vec<&str> = self
            .keys
            .iter()
            .filter_map(|key| self.world.services[0].value(key))
            .collect();
        let kept = [self.world.disk.parked.clone(), litter].concat();
        self.world.ledger.check(&values, &kept)?;
        if process.states[0].pending().next().is_some() {
            return Err("something is still pending".to_owned());
        }
        let left = process.states[0].litter();
        if self.world.disk.rows.len() != left || process.barrier.len() != left {
            return Err(format!(
                "{} rows and {} in the order are left, {left} are litter",
                self.world.disk.rows.len(),
                process.barrier.len()
            ));
        }
        Ok(())
    }
}

/// Runs a history without a fault, and with each fault at each point where it differs from others.
/// Returns how often it was run.
fn try_all(history: &[Op], setting: Setting) -> usize {
    let fails = |fault, why: String| -> ! {
        panic!("{history:?} {setting:?} {fault:?}: {why}");
    };
    let points = match Run::new(setting, None).run(history) {
        Ok(points) => points,
        Err(why) => fails(None, why),
    };
    let mut runs = 1;
    for (point, faults) in points.into_iter().enumerate() {
        for fault in faults {
            let fault = Some((point, *fault));
            runs += 1;
            let tried = std::panic::catch_unwind(|| Run::new(setting, fault).run(history));
            match tried {
                Ok(Ok(_)) => {}
                Ok(Err(why)) => fails(fault, why),
                Err(_) => fails(fault, "it panics".to_owned()),
            }
        }
    }
    runs
}

/// Returns whether an operation does nothing as the first one, as only the first key has a record then:
/// what begins with it is a shorter history.
fn does_nothing_first(op: Op) -> bool {
    matches!(op, Op::Remove(1) | Op::Rename(1) | Op::Exchange)
}

/// Tries all histories of up to three operations, with ordinary names and with an editor's.
fn try_histories(commit: Commit, unseen: Unseen) {
    let begun = Instant::now();
    let mut runs = 0;
    for keys in [["a", "b"], ["k", "k~"]] {
        let setting = Setting {
            commit,
            keys,
            unseen,
        };
        for first in OPS {
            runs += try_all(&[first], setting);
            if does_nothing_first(first) {
                continue;
            }
            for second in OPS {
                runs += try_all(&[first, second], setting);
                for third in OPS {
                    runs += try_all(&[first, second, third], setting);
                }
            }
        }
    }
    eprintln!("{runs} runs in {:?}", begun.elapsed());
}

#[test]
fn all_histories_of_three_operations_close_keep() {
    try_histories(Commit::Close, Unseen::Keep);
}

#[test]
fn all_histories_of_three_operations_close_refuse() {
    try_histories(Commit::Close, Unseen::Refuse);
}

#[test]
fn all_histories_of_three_operations_async_keep() {
    try_histories(Commit::Async, Unseen::Keep);
}

#[test]
fn all_histories_of_three_operations_async_refuse() {
    try_histories(Commit::Async, Unseen::Refuse);
}

/// Whoever is alone meets no conflict, however often his process ends and answers are lost.
#[test]
fn p12_nothing_is_refused_where_nobody_else_is() {
    let own = OPS.map(|op| match op {
        Op::OtherWrite(_) | Op::OtherRemove(_) => Op::Wait,
        op => op,
    });
    let faults = [
        Fault::LostBefore,
        Fault::LostAfter,
        Fault::Late,
        Fault::CrashBefore,
        Fault::CrashAfter,
    ];
    let setting = Setting {
        commit: Commit::Async,
        keys: ["a", "b"],
        unseen: Unseen::Keep,
    };
    for seed in 0..4_000 {
        let mut random = Random::new(seed);
        let length = 3 + random.below(40);
        let history: Vec<Op> = (0..length).map(|_| own[random.below(own.len())]).collect();
        let mut run = Run::new(setting, None);
        for _ in 0..1 + random.below(8) {
            let fault = faults[random.below(faults.len())];
            run.world.faults.insert(random.below(80), fault);
        }
        let faults = run.world.faults.clone();
        if let Err(why) = run.run(&history) {
            panic!("seed {seed}: {history:?} {faults:?}: {why}");
        }
    }
}
