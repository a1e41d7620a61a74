//! Whether the service can be reached at all, so that a dead network is found out once.
//!
//! While it cannot, calls fail at once; one probe, made in the background, finds out when it is
//! back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Reachability {
    down: AtomicBool,
}

impl Reachability {
    pub(super) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Takes the service as lost and begins to probe it, unless that is known already.
    pub(super) fn lost<F, Fut>(self: &Arc<Self>, probe: F)
    where
        F: Fn() -> Fut + Send + 'static,
        Fut: Future<Output = bool> + Send,
    {
        if self.down.swap(true, Ordering::Relaxed) {
            return;
        }
        let this = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                if probe().await {
                    break;
                }
                tokio::time::sleep(pause).await;
                if this.strong_count() == 0 {
                    return;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            if let Some(this) = this.upgrade() {
                tracing::info!("the service can be reached again");
                this.down.store(false, Ordering::Relaxed);
            }
        });
    }
}
