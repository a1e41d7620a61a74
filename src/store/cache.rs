//! The door to the remote data of one region, and the bound on what is kept of it.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use lru::LruCache;

use super::dataset::Dataset;
use super::error::{Error, ErrorKind};
use super::identity::Identity;
use super::journal::{Journal, JournalError};
use super::stats::Uses;
use crate::api::{Client, Surroundings};
use crate::sync::Unseen;
use crate::wire::identity::{ListIdentities, ListIdentityPools, MAX_RESULTS};
use crate::wire::names::{DatasetName, IdentityId, PoolId, Region};
use crate::wire::pools::ListIdentityPoolUsage;

/// How many identities are remembered as existing.
const SEEN: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");
/// How many bytes are kept before the datasets listed longest ago are dropped.
const KEPT_BYTES: usize = 64 * 1024 * 1024;
/// What a dataset costs beside its keys and values.
const DATASET_BYTES: usize = 1024;

/// How remote data are treated.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// How long a listing is served without asking again.
    pub ttl: Duration,
    /// How long any operation may take.
    pub timeout: Duration,
    /// What a save does about a version nobody here has seen.
    pub unseen: Unseen,
    /// How long values that were replaced or removed here are kept, if they are.
    pub undo: Option<Duration>,
}

/// One page of a listing, and where the next begins.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub entries: Vec<T>,
    pub next: Option<String>,
}

/// The identity pools of a region, as far as they are looked at.
#[derive(Debug)]
pub struct Store {
    client: Client,
    journal: Arc<Journal>,
    options: StoreOptions,
    identities: Mutex<HashMap<IdentityId, Weak<Identity>>>,
    seen: Mutex<LruCache<IdentityId, ()>>,
    kept: Mutex<Kept>,
    /// Which life of a dataset was seen last, where it is not the first.
    lives: Mutex<LruCache<(IdentityId, DatasetName), u32>>,
    pub(super) uses: Uses,
}

/// The datasets that hold records, listed longest ago first. They are kept alive here: the kernel
/// forgets a file as soon as the network fails it, and then memory must serve.
#[derive(Debug)]
struct Kept {
    datasets: LruCache<(IdentityId, DatasetName), (Arc<Dataset>, usize)>,
    bytes: usize,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    pub fn new(client: Client, journal: Arc<Journal>, options: StoreOptions) -> Arc<Self> {
        Arc::new(Self {
            client,
            journal,
            options,
            identities: Mutex::default(),
            seen: Mutex::new(LruCache::new(SEEN)),
            lives: Mutex::new(LruCache::new(SEEN)),
            uses: Uses::default(),
            kept: Mutex::new(Kept {
                datasets: LruCache::unbounded(),
                bytes: 0,
            }),
        })
    }

    pub fn options(&self) -> StoreOptions {
        self.options
    }

    pub fn region(&self) -> &Region {
        self.client.region()
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Returns what time, chance and tasks are taken from.
    pub fn surroundings(&self) -> &Arc<dyn Surroundings> {
        self.client.surroundings()
    }

    pub(super) fn now(&self) -> Instant {
        self.surroundings().now()
    }

    pub(super) fn date(&self) -> SystemTime {
        self.surroundings().date()
    }

    /// Asks the journal, which waits for the disk, on a thread that may.
    pub(super) async fn journal<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Journal) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, Error> {
        let journal = self.journal.clone();
        let asked = self.surroundings().wait_for(move || ask(&journal)).await;
        match asked {
            Some(answer) => Ok(answer?),
            // It panicked, which was told where panics are.
            None => Err(ErrorKind::Failed.into()),
        }
    }

    /// Waits until the service, now or later lost, can be reached again.
    pub async fn recovered(&self) {
        self.client.recovered().await;
    }

    /// Returns how much of what became of changes is not on the disk.
    pub fn owed(&self) -> usize {
        self.journal.owed()
    }

    /// Returns when an operation that begins now must have ended.
    pub fn deadline(&self) -> Instant {
        self.now() + self.options.timeout
    }

    /// Asks for one identity pool, to find out whether the region can be listed.
    pub async fn check_region(&self) -> Result<(), Error> {
        let operation = ListIdentityPools {
            max_results: 1,
            next_token: None,
        };
        self.client.call(&operation, self.deadline()).await?;
        Ok(())
    }

    /// Asks for one identity, to find out whether the pool is there.
    pub async fn check_pool(&self, pool: &PoolId) -> Result<(), Error> {
        let operation = ListIdentities {
            identity_pool_id: pool.clone(),
            max_results: 1,
            next_token: None,
            hide_disabled: None,
        };
        self.client.call(&operation, self.deadline()).await?;
        Ok(())
    }

    /// Lists identity pools, a page at a time.
    pub async fn pools(&self, from: Option<String>) -> Result<Page<PoolId>, Error> {
        let operation = ListIdentityPoolUsage {
            next_token: from,
            max_results: None,
        };
        let answer = self.client.call(&operation, self.deadline()).await?;
        let usages = answer.identity_pool_usages.into_iter();
        Ok(Page {
            entries: usages.map(|usage| usage.identity_pool_id).collect(),
            next: answer.next_token,
        })
    }

    /// Lists a pool's identities, a page of at most 60 at a time.
    pub async fn identities(
        &self,
        pool: &PoolId,
        from: Option<String>,
    ) -> Result<Page<IdentityId>, Error> {
        let operation = ListIdentities {
            identity_pool_id: pool.clone(),
            max_results: MAX_RESULTS,
            next_token: from,
            hide_disabled: None,
        };
        let answer = self.client.call(&operation, self.deadline()).await?;
        let identities = answer.identities.into_iter();
        let entries: Vec<IdentityId> = identities.map(|identity| identity.identity_id).collect();
        let mut seen = lock(&self.seen);
        for identity in &entries {
            seen.put(identity.clone(), ());
        }
        Ok(Page {
            entries,
            next: answer.next_token,
        })
    }

    /// Returns an identity; whether it exists is not asked.
    pub fn identity(self: &Arc<Self>, pool: &PoolId, id: &IdentityId) -> Arc<Identity> {
        let mut identities = lock(&self.identities);
        if let Some(identity) = identities.get(id).and_then(Weak::upgrade) {
            return identity;
        }
        if identities.len() == identities.capacity() {
            identities.retain(|_, identity| identity.strong_count() > 0);
        }
        let identity = Identity::new(self.clone(), pool.clone(), id.clone());
        identities.insert(id.clone(), Arc::downgrade(&identity));
        identity
    }

    pub(super) fn is_seen(&self, identity: &IdentityId) -> bool {
        lock(&self.seen).get(identity).is_some()
    }

    pub(super) fn note_seen(&self, identity: &IdentityId) {
        lock(&self.seen).put(identity.clone(), ());
    }

    pub(super) fn life(&self, identity: &IdentityId, dataset: &DatasetName) -> u32 {
        let key = (identity.clone(), dataset.clone());
        lock(&self.lives).get(&key).copied().unwrap_or_default()
    }

    pub(super) fn note_life(&self, identity: &IdentityId, dataset: &DatasetName, life: u32) {
        if life > 0 {
            lock(&self.lives).put((identity.clone(), dataset.clone()), life);
        }
    }

    /// Takes note of how much a dataset holds, and drops the records of those listed longest ago
    /// while more than the bound is kept. No dataset's lock may be held.
    pub(super) fn note_kept(&self, dataset: &Arc<Dataset>, bytes: usize) {
        let bytes = bytes + DATASET_BYTES;
        let mut evicted = Vec::new();
        {
            let mut kept = lock(&self.kept);
            let before = kept.datasets.put(dataset.key(), (dataset.clone(), bytes));
            kept.bytes += bytes;
            if let Some((replaced, bytes)) = before {
                kept.bytes -= bytes;
                evicted.extend((!Arc::ptr_eq(&replaced, dataset)).then_some(replaced));
            }
            while kept.bytes > KEPT_BYTES && kept.datasets.len() > 1 {
                let Some((_, (oldest, bytes))) = kept.datasets.pop_lru() else {
                    break;
                };
                kept.bytes -= bytes;
                evicted.push(oldest);
            }
        }
        for dataset in evicted {
            dataset.evict();
        }
    }
}
