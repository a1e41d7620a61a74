//! What a store was used for, counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::cache::Store;
use super::error::Error;
use crate::api::CallStats;

/// What was used since the mount began.
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    /// The calls of the service, by operation.
    pub operations: BTreeMap<&'static str, CallStats>,
    pub cache: CacheStats,
    /// How many versions are kept, but for those that go by themselves.
    pub parked: u64,
}

/// Uses of a dataset.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CacheStats {
    /// Those that memory served.
    pub hits: u64,
    /// Those that waited for a listing.
    pub misses: u64,
}

#[derive(Debug, Default)]
pub(super) struct Uses {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Uses {
    pub(super) fn note(&self, hit: bool) {
        let counter = match hit {
            true => &self.hits,
            false => &self.misses,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Store {
    /// Returns what was used so far.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn stats(&self) -> Result<Stats, Error> {
        let (hits, misses) = (&self.uses.hits, &self.uses.misses);
        Ok(Stats {
            parked: self.parked_count().await?,
            operations: self.client().calls().stats(),
            cache: CacheStats {
                hits: hits.load(Ordering::Relaxed),
                misses: misses.load(Ordering::Relaxed),
            },
        })
    }
}
