//! What was called, counted: for each operation how often, how long it took, and what went wrong.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::error::Error;

/// The calls of one operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CallStats {
    /// Repetitions included.
    pub calls: u64,
    pub retries: u64,
    /// Calls that were answered by asking to slow down.
    pub throttles: u64,
    /// Calls without the operation's answer: by the service's own code, or by what was wrong on
    /// the way.
    pub errors: BTreeMap<String, u64>,
    /// How long all calls took that were sent.
    #[serde(rename = "total_milliseconds", serialize_with = "milliseconds")]
    pub total: Duration,
    /// How long the longest took.
    #[serde(rename = "max_milliseconds", serialize_with = "milliseconds")]
    pub max: Duration,
    /// Without headers, as is the next.
    pub bytes_sent: u64,
    pub bytes_received: u64,
}

fn milliseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// What one call did on the network.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Exchanged {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) took: Duration,
}

/// The calls made so far, by operation.
#[derive(Debug, Default)]
pub struct Calls(Mutex<BTreeMap<&'static str, CallStats>>);

impl Calls {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, CallStats>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(
        &self,
        operation: &'static str,
        repeated: bool,
        exchanged: Exchanged,
        error: Option<&Error>,
    ) {
        let mut calls = self.lock();
        let stats = calls.entry(operation).or_default();
        stats.calls += 1;
        stats.retries += u64::from(repeated);
        stats.total += exchanged.took;
        stats.max = stats.max.max(exchanged.took);
        stats.bytes_sent += exchanged.sent;
        stats.bytes_received += exchanged.received;
        if let Some(error) = error {
            stats.throttles += u64::from(error.is_throttle());
            *stats.errors.entry(error.name().to_owned()).or_default() += 1;
        }
    }

    /// Returns the calls made so far, by operation.
    pub fn stats(&self) -> BTreeMap<&'static str, CallStats> {
        self.lock().clone()
    }
}
