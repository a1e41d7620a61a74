//! Which version's bytes were last served under a name. It outlives the files: no refresh, prefetch,
//! stat or eviction moves it.

use std::collections::{BTreeSet, HashMap};

use lru::LruCache;

use super::RecordName;
use crate::sync::pending::{Base, Ticket};

/// How many records are remembered.
pub(super) const MAX: usize = 131_072;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Shown {
    /// Of more than [`MAX`] the least lately used falls out: a change of such a record is based on what
    /// was looked up.
    entries: LruCache<RecordName, Base>,
    /// Records whose entries may stand on a ticket; those that were moved on are skipped.
    pending: HashMap<Ticket, BTreeSet<RecordName>>,
}

impl Shown {
    pub(super) fn new() -> Self {
        Self {
            entries: LruCache::unbounded(),
            pending: HashMap::new(),
        }
    }

    /// Returns the version that was shown last.
    pub(super) fn get(&mut self, record: &RecordName) -> Option<Base> {
        self.entries.get(record).copied()
    }

    /// Returns the version that was shown last, which this look does not make a used one.
    pub(super) fn peek(&self, record: &RecordName) -> Option<Base> {
        self.entries.peek(record).copied()
    }

    /// Bytes of this version were served, or written here.
    pub(super) fn put(&mut self, record: RecordName, base: Base) {
        if let Some(made) = base.pending {
            let records = self.pending.entry(made.ticket).or_default();
            records.insert(record.clone());
        }
        self.entries.put(record, base);
        if self.entries.len() > MAX {
            self.entries.pop_lru();
        }
    }

    /// Returns how many tickets entries may stand on.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The record is gone, and its user knows.
    pub(super) fn forget(&mut self, record: &RecordName) {
        self.entries.pop(record);
    }

    /// A ticket was decided: `resolve` says what an entry that stands on it comes to.
    pub(super) fn resolve(
        &mut self,
        ticket: Ticket,
        mut resolve: impl FnMut(&RecordName, Base) -> Base,
    ) {
        for record in self.pending.remove(&ticket).into_iter().flatten() {
            let entry = self.entries.peek(&record).copied();
            let stands = |base: &Base| base.pending.is_some_and(|made| made.ticket == ticket);
            if let Some(base) = entry.filter(stands) {
                let now = resolve(&record, base);
                if let Some(entry) = self.entries.peek_mut(&record) {
                    *entry = now;
                }
                if let Some(made) = now.pending {
                    self.pending.entry(made.ticket).or_default().insert(record);
                }
            }
        }
    }
}
