//! The datasets of a mount: those that are kept in memory, and the bound on how much of them is.
//!
//! Invariant: there is one [`PendingDataset`] of a name at a time, and of one in which something is
//! pending, it is kept. No id names two datasets.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::{Arc, Weak};

use lru::LruCache;

use super::super::journals::Whereabouts;
use super::dataset::PendingDataset;
use crate::sync::pending::DatasetId;

/// How many datasets that were let go are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");
/// What a dataset costs beside its keys and values.
const DATASET_BYTES: usize = 1024;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Datasets {
    /// How many bytes the clean ones may hold.
    bound: usize,
    /// All that somebody has.
    by_place: HashMap<Whereabouts, Weak<PendingDataset>>,
    by_id: BTreeMap<DatasetId, Weak<PendingDataset>>,
    last_id: u64,
    /// Those with which nothing is lost but what the service has, and what they hold: those asked
    /// for longest ago first.
    clean: LruCache<DatasetId, (Arc<PendingDataset>, usize)>,
    /// What the clean ones hold together.
    bytes: usize,
    /// Those with which more would be lost, when they were looked at last.
    others: BTreeMap<DatasetId, Arc<PendingDataset>>,
    /// What names datasets that were let go, and which life of each was seen last: what was shown of
    /// them is still known by that.
    lives: LruCache<Whereabouts, (DatasetId, u32)>,
}

impl Datasets {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            bound,
            by_place: HashMap::new(),
            by_id: BTreeMap::new(),
            last_id: 0,
            clean: LruCache::unbounded(),
            bytes: 0,
            others: BTreeMap::new(),
            lives: LruCache::new(REMEMBERED),
        }
    }

    /// Returns a dataset, which `make` makes of its id and the life that was seen last if nobody has
    /// it.
    pub(super) fn find(
        &mut self,
        place: &Whereabouts,
        make: impl FnOnce(DatasetId, u32) -> Arc<PendingDataset>,
    ) -> Arc<PendingDataset> {
        if let Some(dataset) = self.by_place.get(place).and_then(Weak::upgrade) {
            self.clean.promote(&dataset.id());
            return dataset;
        }
        if self.by_place.len() == self.by_place.capacity() {
            self.by_place
                .retain(|_, dataset| dataset.strong_count() > 0);
            self.by_id.retain(|_, dataset| dataset.strong_count() > 0);
        }
        let (id, life) = self.lives.get(place).copied().unwrap_or_else(|| {
            self.last_id += 1;
            (DatasetId(self.last_id), 0)
        });
        let dataset = make(id, life);
        self.by_place
            .insert(place.clone(), Arc::downgrade(&dataset));
        self.by_id.insert(id, Arc::downgrade(&dataset));
        dataset
    }

    pub(super) fn by_id(&self, id: DatasetId) -> Option<Arc<PendingDataset>> {
        self.by_id.get(&id).and_then(Weak::upgrade)
    }

    /// Returns all that somebody has, in the order of their ids.
    pub(super) fn all(&self) -> Vec<Arc<PendingDataset>> {
        self.by_id.values().filter_map(Weak::upgrade).collect()
    }

    /// Returns how many bytes the clean ones hold.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a dataset whose task rests, and lets others go while the clean ones hold too much.
    pub(super) fn hold(&mut self, dataset: &Arc<PendingDataset>) {
        let id = dataset.id();
        self.others.remove(&id);
        if let Some((_, bytes)) = self.clean.pop(&id) {
            self.bytes -= bytes;
        }
        match dataset.clean_bytes() {
            Some(bytes) => {
                let bytes = bytes + DATASET_BYTES;
                self.clean.put(id, (dataset.clone(), bytes));
                self.bytes += bytes;
            }
            None => {
                self.others.insert(id, dataset.clone());
            }
        }
        while self.bytes > self.bound && self.clean.len() > 1 {
            let Some((id, (coldest, bytes))) = self.clean.pop_lru() else {
                return;
            };
            self.bytes -= bytes;
            match coldest.evict() {
                Some(life) => {
                    self.lives.put(coldest.place().clone(), (id, life));
                }
                // Something began since; when that has ended it is looked at again.
                None => {
                    self.others.insert(id, coldest);
                }
            }
        }
    }
}
