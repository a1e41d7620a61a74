//! Whether the service can be reached at all, so that a dead network is found out once.
//!
//! A call that got no answer raises a suspicion: one probe, made in the background, confirms or
//! clears it, and calls that begin meanwhile wait for its verdict. While the service cannot be
//! reached, calls fail at once and are told why, and the probe goes on until it is back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::error::{Error, Source};

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
pub(super) struct Reachability(watch::Sender<Verdict>);

impl Default for Reachability {
    fn default() -> Self {
        Self(watch::Sender::new(Verdict::Up))
    }
}

impl Reachability {
    /// Returns why the service cannot be reached, if it cannot, as far as is known.
    pub(super) async fn why_down(&self) -> Option<Source> {
        let mut verdict = self.0.subscribe();
        let decided = verdict
            .wait_for(|verdict| !matches!(verdict, Verdict::Suspected))
            .await;
        match &*decided.ok()? {
            Verdict::Up | Verdict::Suspected => None,
            Verdict::Down(why) => Some(why.clone()),
        }
    }

    /// Waits until the service cannot be reached, and returns why.
    pub(super) async fn lost(&self) -> Option<Source> {
        let mut verdict = self.0.subscribe();
        let lost = verdict
            .wait_for(|verdict| matches!(verdict, Verdict::Down(_)))
            .await;
        match &*lost.ok()? {
            Verdict::Up | Verdict::Suspected => None,
            Verdict::Down(why) => Some(why.clone()),
        }
    }

    /// Waits until the service, now or later lost, can be reached again.
    pub(super) async fn recovered(&self) {
        let mut verdict = self.0.subscribe();
        for wanted in [false, true] {
            let decided = |verdict: &Verdict| match verdict {
                Verdict::Up => wanted,
                Verdict::Down(_) => !wanted,
                Verdict::Suspected => false,
            };
            // The sender lives as long as this does.
            let _ = verdict.wait_for(decided).await;
        }
    }

    /// Takes the service for lost, as `error` says so, or for suspect if it says less, and begins
    /// to probe it, unless that is done already. `probe` gets the time it may take.
    pub(super) fn doubt<F, Fut>(self: &Arc<Self>, error: &Error, probe: F)
    where
        F: Fn(Duration) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), Error>> + Send,
    {
        let begun = self.0.send_if_modified(|verdict| {
            let up = matches!(verdict, Verdict::Up);
            if up {
                *verdict = match error {
                    Error::Unreachable { source, .. } => Verdict::Down(source.clone()),
                    _ => Verdict::Suspected,
                };
            }
            up
        });
        if !begun {
            return;
        }
        let this = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            let mut patience = FIRST_PROBE;
            while let Err(error) = probe(patience).await {
                let why = match error {
                    Error::Unreachable { source, .. } => source,
                    error => Arc::new(error),
                };
                match this.upgrade() {
                    Some(this) => this.0.send_replace(Verdict::Down(why)),
                    None => return,
                };
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                patience = PROBE;
            }
            if let Some(this) = this.upgrade() {
                tracing::info!("the service can be reached");
                this.0.send_replace(Verdict::Up);
            }
        });
    }
}
