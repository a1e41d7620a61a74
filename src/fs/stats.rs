//! `stats.json`: what the mount did and has to do, counted.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use super::error::Error;
use super::lookup::FileSystem;
use crate::store;

#[derive(Debug, Serialize)]
struct Stats {
    #[serde(flatten)]
    store: store::Stats,
    /// Files with something unsent.
    pending: usize,
    /// Those of them that could not be sent so far.
    refused: usize,
    /// Why one of them could not.
    reason: Option<String>,
    /// Operations that failed, as in `errors.log`, since the mount began.
    failures: u64,
    /// How long the longest operation of the file system took.
    max_operation_milliseconds: u64,
}

impl FileSystem {
    pub(super) async fn stats_text(&self) -> Result<String, Error> {
        let mut refused = self.refused();
        let stats = Stats {
            store: self.store.stats().await?,
            pending: self.unsent(),
            refused: refused.len(),
            reason: refused.pop(),
            failures: self.failures.count(),
            max_operation_milliseconds: self.longest.load(Ordering::Relaxed),
        };
        pretty(&stats)
    }

    /// Takes note of how long an operation took.
    pub fn note_duration(&self, took: Duration) {
        let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.longest.fetch_max(milliseconds, Ordering::Relaxed);
    }

    /// Returns why files have something unsent that was tried in vain, one reason for each.
    fn refused(&self) -> Vec<String> {
        let mut inodes = self.inodes();
        let unsent = inodes.all_unsent().into_iter();
        let mut refused: Vec<String> = unsent
            .filter_map(|ino| {
                let record = inodes.record(ino)?;
                let (_, why) = record.unsent.as_ref()?.refused.as_ref()?;
                Some(why.clone())
            })
            .collect();
        let loose = inodes.loose.values();
        refused.extend(loose.filter_map(|loose| loose.refused.clone()));
        refused
    }
}

/// Writes JSON as the files under `.cognito` have it.
pub(super) fn pretty(value: &impl Serialize) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(value);
    let mut text = text.map_err(|_| Error::Invalid("it cannot be written as JSON"))?;
    text.push('\n');
    Ok(text)
}
