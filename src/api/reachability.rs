//! Whether the service can be reached at all, so that a dead network is found out once.
//!
//! A call that got no answer raises a suspicion: one probe, made in the background, confirms or
//! clears it, and calls that begin meanwhile wait for its verdict. While the service cannot be
//! reached, calls fail at once, and the probe goes on until it is back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long the first probe may take; calls wait for it.
const FIRST_PROBE: Duration = Duration::from_millis(800);
const PROBE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Up,
    Suspected,
    Down,
}

#[derive(Debug)]
pub(super) struct Reachability(watch::Sender<Verdict>);

impl Default for Reachability {
    fn default() -> Self {
        Self(watch::Sender::new(Verdict::Up))
    }
}

impl Reachability {
    /// Returns whether the service can be reached, as far as is known.
    pub(super) async fn is_up(&self) -> bool {
        let mut verdict = self.0.subscribe();
        let decided = verdict
            .wait_for(|verdict| *verdict != Verdict::Suspected)
            .await;
        decided.is_ok_and(|verdict| *verdict == Verdict::Up)
    }

    /// Waits until the service cannot be reached.
    pub(super) async fn is_down(&self) {
        let mut verdict = self.0.subscribe();
        // The sender lives as long as this.
        let _ = verdict.wait_for(|verdict| *verdict == Verdict::Down).await;
    }

    /// Takes the service for lost, or for suspect only, and begins to probe it, unless that is
    /// done already. `probe` gets the time it may take.
    pub(super) fn lost<F, Fut>(self: &Arc<Self>, certain: bool, probe: F)
    where
        F: Fn(Duration) -> Fut + Send + 'static,
        Fut: Future<Output = bool> + Send,
    {
        let begun = self.0.send_if_modified(|verdict| {
            let up = *verdict == Verdict::Up;
            if up {
                *verdict = match certain {
                    true => Verdict::Down,
                    false => Verdict::Suspected,
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
            while !probe(patience).await {
                match this.upgrade() {
                    Some(this) => this.0.send_replace(Verdict::Down),
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
