//! The network of one process: what a seed has befall each call.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use cognitofs::api::{Error, Incoming, Outgoing, Surroundings, Transport};
use cognitofs::cli::in_process::InProcess;
use cognitofs::store::journals::Process;
use futures_util::future::BoxFuture;

use super::function::{Function, Witness};
use super::seeded::Seeded;

/// How long after it was signed a call may still be carried out.
const SIGNED_FOR: u64 = 14 * 60 * 1000;

/// What befalls a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    Unreachable,
    /// The connection breaks before the service has the call.
    Broken,
    /// It breaks before the answer is here.
    Unanswered,
    /// The call comes there minutes later, and nobody hears of it.
    Late,
    Throttled,
    /// An update meets a quota.
    Full,
    Slow,
    Denied,
    /// Nothing ever comes back, and nothing gets there.
    Hangs,
    /// An update is refused as if another had come before it.
    Conflict,
}

use Strike::{
    Broken, Conflict, Denied, Full, Hangs, Late, Slow, Throttled, Unanswered, Unreachable,
};

pub const USUAL: &[Strike] = &[Unreachable, Broken, Unanswered, Late, Throttled, Full, Slow];
pub const ANY: &[Strike] = &[
    Unreachable,
    Broken,
    Unanswered,
    Unanswered,
    Late,
    Late,
    Throttled,
    Full,
    Slow,
    Slow,
    Denied,
    Hangs,
    Conflict,
];
/// Those after which nobody knows whether something was done.
pub const UNSURE: &[Strike] = &[Unanswered, Late, Late, Hangs, Slow];
/// Those that say no.
pub const REFUSING: &[Strike] = &[Throttled, Full, Denied, Hangs, Conflict];

/// How many of a hundred calls meet trouble, and which.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    pub percent: u64,
    pub strikes: &'static [Strike],
}

pub const NONE: Faults = Faults {
    percent: 0,
    strikes: &[],
};

/// What befalls the calls of all processes.
#[derive(Debug, Default)]
pub struct Weather {
    /// What befalls all calls of a dataset at present, by its name.
    spells: Mutex<BTreeMap<String, Strike>>,
    /// What the service has changed of updates.
    pub function: OnceLock<Function>,
    /// Sees what a deletion takes away: who deletes a dataset that he saw empty takes what came there
    /// since, and cannot know.
    pub witness: OnceLock<Witness>,
}

impl Weather {
    pub fn set(&self, dataset: String, strike: Option<Strike>) {
        let mut spells = self.spells.lock().unwrap();
        match strike {
            Some(strike) => spells.insert(dataset, strike),
            None => spells.remove(&dataset),
        };
    }

    pub fn clear(&self) {
        self.spells.lock().unwrap().clear();
    }

    fn of(&self, path: &str) -> Option<Strike> {
        let spells = self.spells.lock().unwrap();
        let mut struck = spells.iter();
        let is_of = |name: &str| path.contains(&format!("/datasets/{name}"));
        struck
            .find(|(name, _)| is_of(name))
            .map(|(_, strike)| *strike)
    }
}

#[derive(Debug)]
pub struct Net {
    inner: Arc<InProcess>,
    seeded: Arc<Seeded>,
    /// How many of a hundred calls meet trouble.
    trouble: AtomicU64,
    strikes: &'static [Strike],
    /// Whose it is: nothing comes to it, and nothing from it, once it has ended.
    process: Process,
    weather: Arc<Weather>,
}

impl Net {
    pub fn new(
        inner: Arc<InProcess>,
        seeded: Arc<Seeded>,
        process: Process,
        faults: Faults,
        weather: Arc<Weather>,
    ) -> Self {
        Self {
            inner,
            seeded,
            trouble: AtomicU64::new(faults.percent),
            strikes: faults.strikes,
            process,
            weather,
        }
    }

    pub fn heal(&self) {
        self.trouble.store(0, Ordering::Relaxed);
    }

    async fn pause(&self, most: u64) {
        let time = self.seeded.time(1, most);
        tokio::time::sleep(time).await;
    }

    fn strike(&self, path: &str) -> Option<Strike> {
        let trouble = self.trouble.load(Ordering::Relaxed);
        let struck = self.seeded.below(100) < trouble;
        let strike = struck.then(|| self.seeded.below(self.strikes.len() as u64) as usize);
        strike
            .map(|at| self.strikes[at])
            .or_else(|| self.weather.of(path))
    }

    async fn reach(&self, outgoing: Outgoing) -> Result<Incoming, Error> {
        self.pause(60).await;
        if self.process.has_ended() {
            std::future::pending::<()>().await;
        }
        let is_update = outgoing.method == "POST" && outgoing.url.path().contains("/datasets/");
        match self.strike(outgoing.url.path()) {
            Some(Unreachable) => return Err(unreachable_host()),
            Some(Broken) => return Err(broken()),
            Some(Unanswered) => {
                carry_out(&self.inner, &self.weather, outgoing).await?;
                return Err(broken());
            }
            Some(Late) => {
                let (inner, weather) = (self.inner.clone(), self.weather.clone());
                let late = self.seeded.time(1, SIGNED_FOR);
                tokio::spawn(async move {
                    tokio::time::sleep(late).await;
                    // Nobody is told what came of it.
                    let _ = carry_out(&inner, &weather, outgoing).await;
                });
                return std::future::pending().await;
            }
            Some(Throttled) => return Ok(refused(429, "TooManyRequestsException")),
            Some(Full) if is_update => return Ok(refused(400, "LimitExceededException")),
            Some(Conflict) if is_update => return Ok(refused(409, "ResourceConflictException")),
            Some(Denied) => return Ok(refused(403, "NotAuthorizedException")),
            Some(Hangs) => return std::future::pending().await,
            Some(Slow) => self.pause(8_000).await,
            Some(Full | Conflict) | None => {}
        }
        let answer = carry_out(&self.inner, &self.weather, outgoing).await;
        self.pause(60).await;
        if self.process.has_ended() {
            std::future::pending::<()>().await;
        }
        answer
    }
}

/// Has the service do it, with what its function makes of it.
async fn carry_out(
    inner: &InProcess,
    weather: &Weather,
    outgoing: Outgoing,
) -> Result<Incoming, Error> {
    let is_update = outgoing.method == "POST" && outgoing.url.path().contains("/datasets/");
    let path = outgoing.url.path().to_owned();
    if outgoing.method == "DELETE"
        && let Some(witness) = weather.witness.get()
    {
        witness.see_deletion(&path).await;
    }
    let answer = inner.send(outgoing).await?;
    match weather.function.get() {
        Some(function) if is_update && answer.status == 200 => {
            Ok(function.change(&path, answer).await)
        }
        _ => Ok(answer),
    }
}

fn unreachable_host() -> Error {
    Error::Unreachable {
        host: "localhost".to_owned(),
        source: Arc::from(Box::from("connection refused")),
    }
}

fn broken() -> Error {
    Error::Broken {
        host: "localhost".to_owned(),
        source: Arc::from(Box::from("connection reset")),
    }
}

fn refused(status: u16, code: &str) -> Incoming {
    Incoming {
        status,
        error_type: Some(code.to_owned()),
        request_id: None,
        retry_after: None,
        body: b"{}".to_vec(),
    }
}

impl Transport for Net {
    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<Incoming, Error>> {
        Box::pin(self.reach(outgoing))
    }
}

/// The surroundings of one process: its tasks end with it.
#[derive(Debug)]
pub struct OfProcess {
    seeded: Arc<Seeded>,
    tasks: std::sync::Mutex<Vec<tokio::task::AbortHandle>>,
    /// How many of twenty writes to the disk take long.
    slow: AtomicU64,
}

impl OfProcess {
    pub fn new(seeded: Arc<Seeded>) -> Self {
        Self {
            seeded,
            tasks: std::sync::Mutex::default(),
            slow: AtomicU64::new(1),
        }
    }

    /// So many of twenty writes to the disk take long from now on.
    pub fn slow_down(&self, slow: u64) {
        self.slow.store(slow, Ordering::Relaxed);
    }

    pub fn end(&self) {
        for task in self.tasks.lock().unwrap().drain(..) {
            task.abort();
        }
    }
}

impl Surroundings for OfProcess {
    fn now(&self) -> std::time::Instant {
        self.seeded.now()
    }

    fn date(&self) -> std::time::SystemTime {
        self.seeded.date()
    }

    fn random(&self) -> u64 {
        self.seeded.random()
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        let task = tokio::spawn(task);
        let mut tasks = self.tasks.lock().unwrap();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task.abort_handle());
    }

    /// The disk is slow at times.
    fn block(&self, work: Box<dyn FnOnce() + Send>) {
        let slow = self.slow.load(Ordering::Relaxed);
        let most = match self.seeded.below(20) {
            dice if dice >= 20 - slow => 8_000,
            0..10 => return work(),
            _ => 200,
        };
        let time = self.seeded.time(1, most);
        self.spawn(Box::pin(async move {
            tokio::time::sleep(time).await;
            work();
        }));
    }
}

/// How long a call may be late.
pub const LATEST: Duration = Duration::from_millis(SIGNED_FOR);
