//! Surroundings of which a seed decides all, on a runtime of one thread whose time is paused.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use cognitofs::api::Surroundings;
use futures_util::future::BoxFuture;

/// The date at which every world begins: 2027-01-15.
const BEGINNING: Duration = Duration::from_secs(1_800_000_000);

/// The same seed makes the same happen.
#[derive(Debug)]
pub struct Seeded {
    begun: Instant,
    /// The state of SplitMix64, which is drawn from in the order in which tasks run: their order
    /// is part of what has to be the same.
    state: Mutex<u64>,
}

impl Seeded {
    /// Begins a world; a runtime has to be entered.
    pub fn new(seed: u64) -> Self {
        Self {
            begun: tokio::time::Instant::now().into_std(),
            state: Mutex::new(seed),
        }
    }

    /// Returns how long the world has lasted.
    pub fn age(&self) -> Duration {
        self.now() - self.begun
    }

    /// Draws a number below a bound.
    pub fn below(&self, bound: u64) -> u64 {
        self.random() % bound
    }

    /// Draws a time of whole milliseconds, as tokio's timers have no others.
    pub fn time(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

impl Surroundings for Seeded {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn date(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + BEGINNING + self.age()
    }

    fn random(&self) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut drawn = *state;
        drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        drawn ^ (drawn >> 31)
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn block(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }
}
