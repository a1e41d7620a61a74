//! Random worlds of mounts: files, drafts, stores, journals and the local service, of ten kinds.

mod ending;
mod others;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use cognitofs::api::Surroundings;
use cognitofs::sync::Unseen;
use cognitofs::sync::pending::Commit;

use super::function::{Function, Witness};
use super::kinds::{ALL, Kind, Ways};
use super::mount::{Files, Mount};
use super::net::Faults;
use super::operation::{TIMEOUT, Told};
use super::programs::{At, Program, User};
use super::seeded::Seeded;
use super::source::{DATASETS, Living, Source, place};

/// What became of a world in which nothing was wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lived {
    /// Of all that happened.
    pub digest: u64,
    /// How many processes ended where they wrote, or were killed.
    pub crashes: u64,
    /// How many writes were said to be safe.
    pub acknowledged: u64,
}

/// See the module's documentation.
struct World {
    ways: Ways,
    seeded: Arc<Seeded>,
    source: Source,
    told: Arc<Mutex<Told>>,
    commit: Commit,
    unseen: Unseen,
    faults: Faults,
    slow: u64,
    /// Whether counts begin again where another client deletes. A record may then come to the very
    /// count again that it had, and nobody can tell: what is lost by that is not counted.
    restarts: bool,
    killed: u64,
    /// Counts processes, for the trace.
    started: usize,
}

/// A process with its mount.
struct Mounted {
    living: Living,
    mount: Arc<Mount>,
    /// Names it in the trace.
    number: usize,
    running: Arc<AtomicUsize>,
    edited: Arc<Mutex<BTreeSet<At>>>,
    /// Whether it was asked to end, and begins nothing any more.
    ends: bool,
}

/// The number of the process that finds what all others have left.
const LAST: usize = 0;

impl World {
    fn new(kind: Kind, seed: u64) -> Self {
        let ways = kind.ways();
        let seeded = Arc::new(Seeded::new(seed));
        let pick = |of: &[u64]| of[seeded.below(of.len() as u64) as usize];
        let crashes = pick(ways.crashes);
        let told: Arc<Mutex<Told>> = Arc::default();
        let source = Source::new(seeded.clone(), crashes);
        let witness = Witness {
            seeded: seeded.clone(),
            client: source.other_client(),
            told: told.clone(),
        };
        source.weather.witness.set(witness).unwrap();
        let percent = pick(ways.function);
        if percent > 0 {
            let function = Function {
                seeded: seeded.clone(),
                client: source.other_client(),
                told: told.clone(),
                percent,
            };
            source.weather.function.set(function).unwrap();
        }
        let commit = ways.commits[seeded.below(ways.commits.len() as u64) as usize];
        told.lock().unwrap().ledger.is_early = commit == Commit::Async;
        Self {
            source,
            told,
            commit,
            unseen: [Unseen::Keep, Unseen::Refuse][seeded.below(2) as usize],
            faults: Faults {
                percent: pick(ways.trouble),
                strikes: ways.strikes,
            },
            slow: pick(ways.slow),
            restarts: ways.restarts && seeded.below(2) == 0,
            killed: 0,
            started: 0,
            ways,
            seeded,
        }
    }

    fn trace(&self, line: &str) {
        let age = self.seeded.age().as_millis();
        let mut told = self.told.lock().unwrap();
        told.say(format!("{age}: {line}"));
    }

    /// Starts a process; None if it ended while it did.
    async fn start(&self, number: usize, faults: Faults) -> Option<Mounted> {
        self.trace(&format!("p{number} starts"));
        let files = Files::new(self.unseen);
        let living = self.source.begin(faults, files.clone())?;
        let deadline = self.seeded.now() + TIMEOUT;
        living
            .surroundings
            .slow_down(if number == LAST { 0 } else { self.slow });
        living.pending.take_over(deadline).await.ok()?;
        let mount = Arc::new(Mount::new(
            living.pending.clone(),
            files,
            living.surroundings.clone(),
            self.commit,
            self.unseen,
        ));
        // Recovered rows are of datasets that somebody asks for later.
        (0..DATASETS).for_each(|of| drop(living.pending.dataset(&place(of))));
        self.trace(&format!("p{number} is there"));
        Some(Mounted {
            living,
            mount,
            number,
            running: Arc::default(),
            edited: Arc::default(),
            ends: false,
        })
    }

    async fn start_at(&mut self, slots: &mut [Option<Mounted>], at: usize) {
        self.started += 1;
        let number = self.started;
        let beside = slots
            .iter()
            .position(Option::is_none)
            .filter(|other| *other != at);
        match beside.filter(|_| self.seeded.below(2) == 0) {
            // Two start together.
            Some(beside) => {
                self.started += 1;
                let this = &*self;
                let (one, other) = tokio::join!(
                    this.start(number, this.faults),
                    this.start(number + 1, this.faults)
                );
                (slots[at], slots[beside]) = (one, other);
            }
            None => slots[at] = self.start(number, self.faults).await,
        }
    }

    async fn run(&mut self) -> Result<Lived, String> {
        let mut slots: Vec<Option<Mounted>> = Vec::new();
        slots.resize_with(self.ways.processes, || None);
        self.start_at(&mut slots, 0).await;
        for _ in 0..30 {
            let at = match self.seeded.below(3) {
                0 => self.seeded.below(slots.len() as u64) as usize,
                _ => 0,
            };
            self.step(&mut slots, at).await;
            let pauses = self.ways.pauses;
            let longest = pauses[self.seeded.below(pauses.len() as u64) as usize];
            let pause = self.seeded.time(0, longest);
            tokio::time::sleep(pause).await;
            for slot in &mut slots {
                if let Some(ended) = slot.take_if(|it| it.living.process.has_ended()) {
                    self.trace(&format!("p{} has ended", ended.number));
                    ended.living.kill();
                }
            }
        }
        self.finish(slots).await
    }

    async fn step(&mut self, slots: &mut [Option<Mounted>], at: usize) {
        let ways = self.ways;
        let mut dice = self.seeded.below(100);
        let mut is_drawn = |weight: u64| {
            let drawn = dice < weight;
            dice = if drawn {
                u64::MAX
            } else {
                dice - weight.min(dice)
            };
            drawn
        };
        if is_drawn(ways.full) {
            let full = self.seeded.below(2) == 0;
            self.trace(&format!("the disk is full: {full}"));
            self.source.disk.set_full(full);
        } else if is_drawn(ways.other) {
            self.other_writes().await;
        } else if is_drawn(ways.deletes) {
            self.other_deletes().await;
        } else if is_drawn(ways.spells) {
            self.change_weather();
        } else if slots[at].is_none() {
            self.start_at(slots, at).await;
        } else if is_drawn(ways.kills) {
            if let Some(killed) = slots[at].take() {
                self.trace(&format!("p{} is killed", killed.number));
                self.killed += 1;
                killed.living.kill();
            }
        } else if is_drawn(ways.ends) {
            self.ask_to_end(slots[at].as_mut());
        } else if let Some(process) = &slots[at] {
            self.act(process).await;
        }
    }

    /// A process is asked to end, or loses its mount: it sends what it can, and ends.
    fn ask_to_end(&self, process: Option<&mut Mounted>) {
        let Some(process) = process.filter(|process| !process.ends) else {
            return;
        };
        process.ends = true;
        self.trace(&format!("p{} is asked to end", process.number));
        let (mount, journal) = (process.mount.clone(), process.living.journal.clone());
        let (ended, seeded) = (process.living.process.clone(), self.seeded.clone());
        process.living.surroundings.spawn(Box::pin(async move {
            // Another that starts meanwhile waits for it, if it comes to know.
            let _ = journal.mark_ending();
            mount.end(seeded.now() + TIMEOUT).await;
            ended.crash();
        }));
    }

    /// Has a user do something, which goes on by itself.
    async fn act(&self, process: &Mounted) {
        if process.ends {
            return;
        }
        if self.seeded.below(20) == 0 {
            // A mount looks for orphans from time to time.
            let deadline = self.seeded.now() + TIMEOUT;
            let taken = process.living.pending.take_over(deadline).await;
            self.trace(&format!(
                "p{} takes over: {}",
                process.number,
                taken.is_ok()
            ));
            return;
        }
        let user = self.user(process);
        let program = self.program();
        process
            .living
            .surroundings
            .spawn(Box::pin(async move { user.run(program).await }));
    }

    fn user(&self, process: &Mounted) -> User {
        User {
            seeded: self.seeded.clone(),
            mount: process.mount.clone(),
            told: self.told.clone(),
            process: process.number,
            names: self.ways.names,
            datasets: self.ways.datasets,
            running: process.running.clone(),
            edited: process.edited.clone(),
        }
    }

    fn program(&self) -> Program {
        let programs = self.ways.programs;
        let mut dice = self
            .seeded
            .below(programs.iter().map(|(weight, _)| weight).sum());
        for (weight, program) in programs {
            if dice < *weight {
                return *program;
            }
            dice -= weight;
        }
        Program::Read
    }
}

/// Lives through the world of a kind that a seed makes.
fn try_world(kind: Kind, seed: u64) -> Result<Lived, String> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut world = World::new(kind, seed);
            let result = world.run().await;
            let trace = world.told.lock().unwrap().trace.join("\n");
            if std::env::var_os("COGNITOFS_TRACE").is_some() {
                eprintln!("{kind:?} {seed}: {result:?}\n{trace}");
            }
            result.map_err(|why| {
                format!("{trace}\nCOGNITOFS_KIND={kind:?} COGNITOFS_SEED={seed}: {why}")
            })
        })
    };
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(_) => Err(format!(
            "COGNITOFS_KIND={kind:?} COGNITOFS_SEED={seed}: it panics"
        )),
    }
}

/// Returns the kinds that are tried: all, or the one that the environment says.
fn kinds() -> Vec<Kind> {
    match std::env::var("COGNITOFS_KIND") {
        Ok(name) => vec![Kind::find(&name).expect("COGNITOFS_KIND is a kind of world")],
        Err(_) => ALL.to_vec(),
    }
}

/// Tries worlds of one kind that are always the same.
fn try_kind(kind: Kind) {
    let mut all = Lived::default();
    let mut count = 0;
    for seed in 0..FIXED {
        let lived = try_world(kind, seed).unwrap_or_else(|wrong| panic!("{wrong}"));
        all.crashes += lived.crashes;
        all.acknowledged += lived.acknowledged;
        count += 1;
    }
    println!(
        "{kind:?}: {count} worlds, {} crashes, {} acknowledged writes, none lost",
        all.crashes, all.acknowledged
    );
}

/// How many worlds of each kind are tried each time.
const FIXED: u64 = 40;

/// Worlds in which something was wrong once.
const ONCE_WRONG: &[(Kind, u64, &str)] = &[
    (
        Kind::Editors,
        14,
        "a text that came back under a rename that was noted stays for good",
    ),
    (
        Kind::Inodes,
        25,
        "what is added to the service's version is laid over a pending one",
    ),
    (
        Kind::Across,
        8,
        "a file that lost its name stands on a ticket that was refused",
    ),
    (
        Kind::Inodes,
        91,
        "what is added to a record that is removed then brings it back",
    ),
    (
        Kind::Editors,
        292,
        "a file that was forgotten while it had no name stays for good",
    ),
    (
        Kind::Closes,
        380,
        "a flush is acknowledged though its text was parked at the end of the mount",
    ),
    (
        Kind::Appends,
        328,
        "an append is doubled that was laid over a newer version and grew since",
    ),
    (
        Kind::Chains,
        382,
        "a removal and a rename wait for each other",
    ),
    (
        Kind::Editors,
        20_355,
        "what only its writer waited for is said to be noted, as the backup beside it is",
    ),
    (
        Kind::Closes,
        700_105,
        "an append laid over an unseen version shows that to its writer, who replaces it",
    ),
];

#[test]
fn worlds_of_mounts_that_were_wrong_once() {
    for (kind, seed, what) in ONCE_WRONG {
        if let Err(wrong) = try_world(*kind, *seed) {
            panic!("{wrong}: it once was that {what}");
        }
    }
}

#[test]
fn w4_appends_whose_fsyncs_time_out() {
    try_kind(Kind::Appends);
}

#[test]
fn w4_calls_that_come_late() {
    try_kind(Kind::Late);
}

#[test]
fn w2_close_upon_close_while_the_journal_is_slow_or_full() {
    try_kind(Kind::Closes);
}

#[test]
fn w6_copies_and_moves_across_datasets_that_refuse() {
    try_kind(Kind::Across);
}

#[test]
fn b1_what_was_sent_is_changed_while_others_stand_on_it() {
    try_kind(Kind::Changed);
}

#[test]
fn f2_chains_of_renames_of_which_some_are_refused() {
    try_kind(Kind::Chains);
}

#[test]
fn j1_processes_of_one_source_that_are_killed() {
    try_kind(Kind::Processes);
}

#[test]
fn l1_what_editors_do_cut_short() {
    try_kind(Kind::Editors);
}

#[test]
fn b2_two_inodes_of_one_name() {
    try_kind(Kind::Inodes);
}

#[test]
fn s9_datasets_that_are_deleted_and_made_again() {
    try_kind(Kind::Deleted);
}

/// Tries worlds of all kinds: some that are always the same, or from a seed that nobody knows before
/// for as long as `COGNITOFS_SECONDS` says, or as many as `COGNITOFS_WORLDS` says, from the seed that
/// `COGNITOFS_SEED` says. `COGNITOFS_KIND` chooses a kind.
#[test]
fn random_worlds_of_mounts() {
    let test = "mounts::random_worlds_of_mounts";
    super::try_for_a_while(test, ("COGNITOFS_WORLDS", 100), |seed| {
        let kinds = kinds();
        let at = seed % kinds.len() as u64;
        try_world(kinds[at as usize], seed).map(drop)
    });
}

const SEEDS: std::ops::Range<u64> = 0..30;
const DIGESTS: &str = "digests of the same worlds of mounts: ";

fn digests_of_worlds() -> Vec<Result<u64, String>> {
    let digest = |seed| {
        let kind = ALL[(seed % ALL.len() as u64) as usize];
        try_world(kind, seed).map(|lived| lived.digest)
    };
    SEEDS.map(digest).collect()
}

/// Prints the digests of some worlds, for another process.
#[test]
fn digests() {
    println!("{DIGESTS}{:?}", digests_of_worlds());
}

#[test]
fn the_same_seed_makes_the_same_world_of_mounts_in_two_processes() {
    let other = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "mounts::digests", "--nocapture"])
        .output()
        .unwrap();
    let digests = digests_of_worlds();
    let said = String::from_utf8(other.stdout).unwrap();
    assert!(said.contains(&format!("{DIGESTS}{digests:?}")), "{said}");
    assert!(digests.iter().all(Result::is_ok), "{digests:?}");
}
