//! Remote data as if it were local: cached, refreshed once for all who ask, changed safely.
//!
//! Invariant: one lock a dataset, never two held, none across an await. Knows datasets and
//! records, nothing of files or inodes. Time, chance and tasks are those of its client.

mod cache;
mod dataset;
mod document;
mod error;
mod identity;
mod journal;
pub mod journals;
mod kept;
pub mod pending;
mod queue;
mod stats;
mod waiters;

pub use cache::{Page, Store, StoreOptions};
pub use dataset::{Dataset, Freshness, Record};
pub use document::Document;
pub use error::{Error, ErrorKind};
pub use identity::{DatasetEntry, Identity};
pub use journal::{
    Journal, JournalError, NewQueued, Parked, Queued, QueuedKind, Side, Slot, Tie, Whereabouts,
};
pub use kept::NewlyParked;
pub use queue::{Rebased, Settled, shown_count};
pub use stats::{CacheStats, Stats};
pub use waiters::Commit;

pub use crate::api::{Surroundings, System};
