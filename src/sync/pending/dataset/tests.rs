//! What each property of pending changes forbids, one test or more a property.

mod bases;
mod bed;
mod composing;
mod deciding;
mod driving;
mod fingerprints;
mod journal;
mod litter;
mod order;
mod service;
mod waiting;

use std::time::{Duration, Instant};

/// Returns a moment with time before it, for what is called stale is set back.
fn start() -> Instant {
    Instant::now() + Duration::from_secs(100_000)
}
