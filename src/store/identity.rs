//! One identity: which datasets it has, and whether it exists at all.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use super::cache::{Store, lock};
use super::dataset::{Dataset, Freshness};
use super::error::{Error, ErrorKind};
use crate::api;
use crate::wire::datasets::ListDatasets;
use crate::wire::identity::DescribeIdentity;
use crate::wire::names::{DatasetName, IdentityId, PoolId};
use crate::wire::timestamp::Timestamp;

/// A dataset in a listing.
#[derive(Clone, Debug)]
pub struct DatasetEntry {
    pub name: DatasetName,
    /// None for one that was made here and has no record yet.
    pub modified: Option<Timestamp>,
}

#[derive(Debug)]
struct Listed {
    datasets: Arc<[DatasetEntry]>,
    at: Instant,
}

#[derive(Debug, Default)]
struct Inner {
    datasets: HashMap<DatasetName, Weak<Dataset>>,
    /// Made here and without a record yet: nobody but this mount knows of them.
    made: BTreeMap<DatasetName, Arc<Dataset>>,
    listed: Option<Listed>,
    /// What the listing under way was told last, or those before it that somebody waited for in
    /// line.
    trouble: Option<Error>,
    /// Whether a dataset was looked up that is not there.
    missed: bool,
}

/// An identity of a pool.
#[derive(Debug)]
pub struct Identity {
    store: Arc<Store>,
    pool: PoolId,
    id: IdentityId,
    inner: Mutex<Inner>,
    /// Lets one listing serve all who wait for it.
    listing: tokio::sync::Mutex<()>,
}

impl Identity {
    pub(super) fn new(store: Arc<Store>, pool: PoolId, id: IdentityId) -> Arc<Self> {
        Arc::new(Self {
            store,
            pool,
            id,
            inner: Mutex::default(),
            listing: tokio::sync::Mutex::new(()),
        })
    }

    pub fn id(&self) -> &IdentityId {
        &self.id
    }

    pub fn pool(&self) -> &PoolId {
        &self.pool
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Returns whether a dataset exists only in this mount, so that forgetting this identity
    /// would lose it.
    pub fn has_made(&self) -> bool {
        !lock(&self.inner).made.is_empty()
    }

    /// Lists the datasets, those made here among them. Within `ttl`, and while the service is
    /// unreachable, the last listing serves. An
    /// identity nobody has seen whose listing is empty is checked once.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an identity that does not exist.
    pub async fn datasets(&self, deadline: Instant) -> Result<Vec<DatasetEntry>, Error> {
        let listed = tokio::time::timeout_at(deadline.into(), self.listed(deadline));
        let listed = match listed.await.unwrap_or_else(|_| Err(self.why_late())) {
            // It had too little time left, when it was its turn, to be told anything.
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                let trouble = lock(&self.inner).trouble.clone();
                return Err(trouble.unwrap_or(error));
            }
            // What memory holds serves.
            Err(error) if error.kind() == ErrorKind::Unreachable => {
                let inner = lock(&self.inner);
                let listed = inner.listed.as_ref().ok_or(error)?;
                listed.datasets.clone()
            }
            result => result?,
        };
        let mut entries = listed.to_vec();
        let inner = lock(&self.inner);
        for name in inner.made.keys() {
            if !listed.iter().any(|entry| entry.name == *name) {
                entries.push(DatasetEntry {
                    name: name.clone(),
                    modified: None,
                });
            }
        }
        Ok(entries)
    }

    /// Returns what is left of the last listing's `ttl`.
    pub fn freshness(&self) -> Duration {
        let ttl = self.store.options().ttl;
        let inner = lock(&self.inner);
        let listed = inner.listed.as_ref();
        listed.map_or(Duration::ZERO, |listed| {
            ttl.saturating_sub(self.age(listed))
        })
    }

    fn age(&self, listed: &Listed) -> Duration {
        self.store.now().saturating_duration_since(listed.at)
    }

    /// Returns why somebody waited for the listing in vain until his deadline.
    fn why_late(&self) -> Error {
        let trouble = lock(&self.inner).trouble.clone();
        trouble.unwrap_or_else(|| ErrorKind::TimedOut.into())
    }

    /// Notes what a call was told that goes on.
    fn note_trouble(&self, error: &api::Error) {
        lock(&self.inner).trouble = Some(error.clone().into());
    }

    async fn listed(&self, deadline: Instant) -> Result<Arc<[DatasetEntry]>, Error> {
        let _one_at_a_time = match self.listing.try_lock() {
            Ok(first) => {
                lock(&self.inner).trouble = None;
                first
            }
            Err(_) => self.listing.lock().await,
        };
        if let Some(listed) = self.fresh_listing() {
            return Ok(listed);
        }
        let at = self.store.now();
        let mut entries = Vec::new();
        let mut next_token = None;
        loop {
            let operation = ListDatasets {
                pool: self.pool.clone(),
                identity: self.id.clone(),
                next_token,
                max_results: Some(64),
            };
            let answer = self
                .store
                .client()
                .call_telling(&operation, deadline, |error| self.note_trouble(error))
                .await?;
            entries.extend(answer.datasets.into_iter().map(|dataset| DatasetEntry {
                name: dataset.dataset_name,
                modified: dataset.last_modified_date,
            }));
            next_token = answer.next_token;
            if next_token.is_none() {
                break;
            }
        }
        if entries.is_empty() {
            self.check_exists(deadline).await?;
        } else {
            self.store.note_seen(&self.id);
        }
        let datasets: Arc<[DatasetEntry]> = entries.into();
        let mut inner = lock(&self.inner);
        inner.trouble = None;
        inner.listed = Some(Listed {
            datasets: datasets.clone(),
            at,
        });
        Ok(datasets)
    }

    fn fresh_listing(&self) -> Option<Arc<[DatasetEntry]>> {
        let ttl = self.store.options().ttl;
        let inner = lock(&self.inner);
        let listed = inner.listed.as_ref()?;
        (self.age(listed) < ttl).then(|| listed.datasets.clone())
    }

    /// Makes sure that the identity exists, with one call if nothing of it was seen yet. Where
    /// asking is denied it is taken to exist.
    pub async fn check_exists(&self, deadline: Instant) -> Result<(), Error> {
        if self.store.is_seen(&self.id) {
            return Ok(());
        }
        let operation = DescribeIdentity {
            identity_id: self.id.clone(),
        };
        let described = self
            .store
            .client()
            .call_telling(&operation, deadline, |error| self.note_trouble(error))
            .await;
        match described.map_err(Error::from) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Denied => {
                tracing::debug!(%error, "DescribeIdentity is denied; the identity is trusted");
            }
            Err(error) => return Err(error),
        }
        self.store.note_seen(&self.id);
        Ok(())
    }

    /// Finds a dataset that exists: from the listing while it is fresh, else by its own records.
    /// After one miss the next unknown name costs one listing, and misses are free while that is
    /// fresh.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none.
    pub async fn find(
        self: &Arc<Self>,
        name: &DatasetName,
        deadline: Instant,
    ) -> Result<Arc<Dataset>, Error> {
        let dataset = self.dataset(name);
        if dataset.is_made() {
            return Ok(dataset);
        }
        if dataset.is_fresh() {
            self.store.uses.note(true);
            return match dataset.exists() {
                true => Ok(dataset),
                false => Err(ErrorKind::NotFound.into()),
            };
        }
        let missed = lock(&self.inner).missed;
        if missed || self.fresh_listing().is_some() {
            match self.datasets(deadline).await {
                Ok(listed) => {
                    return match listed.iter().any(|entry| entry.name == *name) {
                        true => Ok(dataset),
                        false => {
                            dataset.note_absent();
                            Err(ErrorKind::NotFound.into())
                        }
                    };
                }
                // A path that is named works all the same.
                Err(error) if error.kind() == ErrorKind::Denied => {}
                Err(error) => return Err(error),
            }
        }
        match dataset.refresh(Freshness::Ttl, deadline).await {
            // What memory holds serves.
            Err(error) if error.kind() == ErrorKind::Unreachable && dataset.is_listed() => {}
            result => result?,
        }
        if dataset.exists() {
            return Ok(dataset);
        }
        lock(&self.inner).missed = true;
        Err(ErrorKind::NotFound.into())
    }

    /// Returns a dataset; whether it exists is not asked.
    pub fn dataset(self: &Arc<Self>, name: &DatasetName) -> Arc<Dataset> {
        let mut inner = lock(&self.inner);
        if let Some(dataset) = inner.datasets.get(name).and_then(Weak::upgrade) {
            return dataset;
        }
        if inner.datasets.len() == inner.datasets.capacity() {
            inner
                .datasets
                .retain(|_, dataset| dataset.strong_count() > 0);
        }
        let dataset = Dataset::new(self.clone(), name.clone());
        inner
            .datasets
            .insert(name.clone(), Arc::downgrade(&dataset));
        dataset
    }

    /// Makes a dataset, which was just seen not to be there: it is real to this mount at once, and to
    /// the service with its first record.
    pub fn make(self: &Arc<Self>, name: &DatasetName) -> Arc<Dataset> {
        let dataset = self.remake(name);
        dataset.note_made();
        dataset
    }

    /// Makes a dataset that an earlier process made, and nothing is known of since.
    pub fn remake(self: &Arc<Self>, name: &DatasetName) -> Arc<Dataset> {
        let dataset = self.dataset(name);
        lock(&self.inner).made.insert(name.clone(), dataset.clone());
        dataset
    }

    pub(super) fn is_made(&self, name: &DatasetName) -> bool {
        lock(&self.inner).made.contains_key(name)
    }

    /// A dataset's first record was accepted: it is in no listing yet.
    pub(super) fn note_created(&self, name: &DatasetName, modified: Timestamp) {
        let mut inner = lock(&self.inner);
        inner.made.remove(name);
        let Some(listed) = &mut inner.listed else {
            return;
        };
        if !listed.datasets.iter().any(|entry| entry.name == *name) {
            let entry = DatasetEntry {
                name: name.clone(),
                modified: Some(modified),
            };
            listed.datasets = listed.datasets.iter().cloned().chain([entry]).collect();
        }
    }

    /// The service has the dataset: it is not only this mount's any more.
    pub(super) fn note_exists(&self, name: &DatasetName) {
        let made = lock(&self.inner).made.remove(name);
        // Dropped after the lock.
        drop(made);
    }

    /// A dataset was deleted by this mount.
    pub(super) fn note_deleted(&self, name: &DatasetName) {
        let mut inner = lock(&self.inner);
        inner.made.remove(name);
        if let Some(listed) = &mut inner.listed {
            let datasets = listed.datasets.iter();
            let left = datasets.filter(|entry| entry.name != *name).cloned();
            listed.datasets = left.collect();
        }
    }
}
