//! Whether the service can be reached at all, so that a dead network is found out once.
//!
//! A call that got no answer raises a suspicion: one probe, made in the background, confirms or
//! clears it, and calls that begin meanwhile wait for its verdict. While the service cannot be
//! reached, calls fail at once and are told why, and the probe goes on until it is back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::error::{Error, Source};
use super::surroundings::Surroundings;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long the first probe may take; calls wait for it.
const FIRST_PROBE: Duration = Duration::from_millis(800);
const PROBE: Duration = Duration::from_secs(5);

#[derive(Debug)]
enum Verdict {
    Up,
    Suspected,
    /// And why, as the last probe found out.
    Down(Source),
}

#[derive(Debug)]
pub(super) struct Reachability {
    surroundings: Arc<dyn Surroundings>,
    verdict: Mutex<Verdict>,
    /// Told of each change of the verdict. Those who wait go on in the order in which they came;
    /// tokio's `watch` would draw lots.
    changed: Notify,
}

impl Reachability {
    pub(super) fn new(surroundings: Arc<dyn Surroundings>) -> Self {
        Self {
            surroundings,
            verdict: Mutex::new(Verdict::Up),
            changed: Notify::new(),
        }
    }

    fn verdict(&self) -> MutexGuard<'_, Verdict> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(&self, verdict: Verdict) {
        *self.verdict() = verdict;
        self.changed.notify_waiters();
    }

    /// Waits for a verdict that `found` makes something of.
    async fn wait_for<T>(&self, found: impl Fn(&Verdict) -> Option<T>) -> T {
        loop {
            // From now on no change is missed.
            let changed = self.changed.notified();
            if let Some(found) = found(&self.verdict()) {
                return found;
            }
            changed.await;
        }
    }

    /// Returns why the service cannot be reached, if it cannot, as far as is known.
    pub(super) async fn why_down(&self) -> Option<Source> {
        let decided = |verdict: &Verdict| match verdict {
            Verdict::Up => Some(None),
            Verdict::Suspected => None,
            Verdict::Down(why) => Some(Some(why.clone())),
        };
        self.wait_for(decided).await
    }

    /// Waits until the service cannot be reached, and returns why.
    pub(super) async fn lost(&self) -> Source {
        let lost = |verdict: &Verdict| match verdict {
            Verdict::Up | Verdict::Suspected => None,
            Verdict::Down(why) => Some(why.clone()),
        };
        self.wait_for(lost).await
    }

    /// Waits until the service, now or later lost, can be reached again.
    pub(super) async fn recovered(&self) {
        for wanted in [false, true] {
            let decided = |verdict: &Verdict| match verdict {
                Verdict::Up => wanted.then_some(()),
                Verdict::Down(_) => (!wanted).then_some(()),
                Verdict::Suspected => None,
            };
            self.wait_for(decided).await;
        }
    }

    /// Takes the service for lost, as `error` says so, or for suspect if it says less, and begins
    /// to probe it, unless that is done already. `probe` gets the time it may take.
    pub(super) fn doubt<F, Fut>(self: &Arc<Self>, error: &Error, probe: F)
    where
        F: Fn(Duration) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), Error>> + Send,
    {
        if !self.suspect(error) {
            return;
        }
        let this = Arc::downgrade(self);
        let surroundings = self.surroundings.clone();
        self.surroundings.spawn(Box::pin(async move {
            let mut pause = FIRST_PAUSE;
            let mut patience = FIRST_PROBE;
            while let Err(error) = probe(patience).await {
                let why = match error {
                    Error::Unreachable { source, .. } => source,
                    error => Arc::new(error),
                };
                match this.upgrade() {
                    Some(this) => this.decide(Verdict::Down(why)),
                    None => return,
                }
                surroundings.sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                patience = PROBE;
            }
            if let Some(this) = this.upgrade() {
                tracing::info!("the service can be reached");
                this.decide(Verdict::Up);
            }
        }));
    }

    /// Takes the service for lost or suspect, unless it is already. Returns whether it was not.
    fn suspect(&self, error: &Error) -> bool {
        let mut verdict = self.verdict();
        if !matches!(*verdict, Verdict::Up) {
            return false;
        }
        *verdict = match error {
            Error::Unreachable { source, .. } => Verdict::Down(source.clone()),
            _ => Verdict::Suspected,
        };
        drop(verdict);
        self.changed.notify_waiters();
        true
    }
}
