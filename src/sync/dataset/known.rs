//! What is known of a dataset, as it was last listed and as this mount has changed it since.

use std::time::{Duration, Instant};

use super::DatasetState;
use crate::sync::change::{Base, Shown};
use crate::sync::remote::Remote;
use crate::wire::names::RecordKey;
use crate::wire::timestamp::Timestamp;

impl DatasetState {
    /// Returns which life of the dataset this is.
    pub fn life(&self) -> u32 {
        self.life
    }

    /// Returns whether the last listing is younger than `ttl`.
    pub fn is_fresh(&self, now: Instant, ttl: Duration) -> bool {
        self.freshness(now, ttl) > Duration::ZERO
    }

    /// Returns what is left of the last listing's `ttl`.
    pub fn freshness(&self, now: Instant, ttl: Duration) -> Duration {
        let Some(listed) = &self.listed else {
            return Duration::ZERO;
        };
        ttl.saturating_sub(now.saturating_duration_since(listed.at))
    }

    /// Returns whether it was ever listed, and not evicted since.
    pub fn is_listed(&self) -> bool {
        self.listed.is_some()
    }

    /// Returns whether the service has the dataset.
    pub fn exists(&self) -> bool {
        self.exists
    }

    /// Returns the record with `key`, unless it is absent or a tombstone.
    pub fn record(&self, key: &RecordKey) -> Option<&Remote> {
        self.records
            .get(key)
            .filter(|remote| remote.value.is_some())
    }

    /// Returns the records that are no tombstones, by key.
    pub fn records(&self) -> impl Iterator<Item = (&RecordKey, &Remote)> {
        self.records
            .iter()
            .filter(|(_, remote)| remote.value.is_some())
    }

    /// Returns when the service last saw a record change, removals included.
    pub fn modified(&self) -> Option<Timestamp> {
        self.records.values().map(|remote| remote.changed).max()
    }

    /// Returns what a change that begins now would have as its base.
    pub fn base(&self, key: &RecordKey) -> Base {
        let shown = match self.record(key) {
            Some(remote) => Shown::Version(remote.sync_count),
            None => Shown::Absent,
        };
        Base {
            life: self.life,
            shown,
        }
    }

    /// Returns the sync count of a record or its tombstone, 0 if the service never had it; None if
    /// the records are not known.
    pub fn sync_count(&self, key: &RecordKey) -> Option<i64> {
        self.listed.as_ref()?;
        Some(self.records.get(key).map_or(0, |remote| remote.sync_count))
    }

    /// Returns whether a change of `key` waits to be sent, or was and has no outcome yet.
    pub fn is_changing(&self, key: &RecordKey) -> bool {
        let mut changes = self.staged.iter().flat_map(|group| &group.changes);
        changes.any(|change| change.key == *key)
    }

    /// Returns the bytes of keys and values, as the service counts a dataset's size.
    pub fn bytes(&self) -> usize {
        let bytes = |(key, remote): (&RecordKey, &Remote)| {
            let value = remote
                .value
                .as_ref()
                .map_or(0, |value| value.as_bytes().len());
            key.text().as_bytes().len() + value
        };
        self.records().map(bytes).sum()
    }
}
