//! What a client and a store take from around them: the time, chance, and somebody to work for
//! them.
//!
//! Invariant: nothing else in `api` and `store` reads a clock, draws a number or begins a task. So
//! whoever gives them other surroundings decides all of that, and the same surroundings make the
//! same happen again. Timers are tokio's, for moments that [`Surroundings::now`] tells: on a
//! runtime whose time is paused both go by the same clock.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

/// Gives what differs from one run to the next.
pub trait Surroundings: fmt::Debug + Send + Sync {
    /// Returns the moment it is, by the clock of the runtime's timers; it never goes back.
    fn now(&self) -> Instant;

    /// Returns the date it is, as the service and other machines know it; it may be set back.
    fn date(&self) -> SystemTime;

    /// Draws a number, every one as likely as the others.
    fn random(&self) -> u64;

    /// Begins a task that nobody waits for. It must not run before this returns, as whoever begins
    /// it may hold a lock that it takes.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Begins work that waits for the disk. It is done even if nobody waits for it any more, on a
    /// thread that may wait, or at once: no lock is held that it takes.
    fn block(&self, work: Box<dyn FnOnce() + Send>);
}

impl dyn Surroundings {
    /// Waits for a while.
    pub async fn sleep(&self, time: Duration) {
        tokio::time::sleep_until((self.now() + time).into()).await;
    }

    /// Does work that waits for the disk, and returns what came of it: nothing if it panicked.
    pub async fn wait_for<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.block(Box::new(move || {
            // One who gave up is not told.
            let _ = sender.send(work());
        }));
        receiver.await.ok()
    }
}

/// This machine, and the tokio runtime that it is called on.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Surroundings for System {
    fn now(&self) -> Instant {
        // The same as the standard library's, unless the runtime's time is paused.
        tokio::time::Instant::now().into_std()
    }

    fn date(&self) -> SystemTime {
        SystemTime::now()
    }

    fn random(&self) -> u64 {
        // Chance only keeps clients from knocking in step; one without any does no harm.
        getrandom::u64().unwrap_or(u64::MAX / 2)
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn block(&self, work: Box<dyn FnOnce() + Send>) {
        tokio::task::spawn_blocking(work);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn work_that_panics_leaves_nobody_waiting() {
        let surroundings: Arc<dyn Surroundings> = Arc::new(System);
        assert_eq!(surroundings.wait_for(|| 7).await, Some(7));
        let panicked = surroundings.wait_for(|| panic!("as asked for"));
        assert_eq!(panicked.await, None::<()>);
    }

    #[tokio::test(start_paused = true)]
    async fn the_systems_clock_stands_still_with_the_runtimes() {
        let surroundings: Arc<dyn Surroundings> = Arc::new(System);
        let begun = surroundings.now();
        let hour = Duration::from_secs(3600);
        surroundings.sleep(hour).await;
        assert_eq!(surroundings.now() - begun, hour);
    }
}
