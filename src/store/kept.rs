//! Versions of a dataset's records that are kept from being lost, on this machine's disk.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::cache::Store;
use super::dataset::{Dataset, Freshness};
use super::error::Error;
use super::journal::{Journal, JournalError, NewParked, Parked, Place, Side, Whereabouts};
use super::queue::{Settled, shown_count};
use crate::sync::{Base, Remote, Replaced};
use crate::wire::names::RecordKey;
use crate::wire::text::Text;
use crate::wire::timestamp::Timestamp;

/// How long after it was signed a call may still be carried out.
const SIGNED_FOR: Duration = Duration::from_secs(15 * 60);

/// What was written here and not taken.
#[derive(Clone, Debug)]
pub struct NewlyParked {
    pub key: RecordKey,
    /// Any bytes: what was refused may have been no text.
    pub text: Vec<u8>,
    /// The version it was made from.
    pub base: Base,
    pub modified: Timestamp,
    /// Why it was not taken, in one line.
    pub reason: String,
}

impl NewlyParked {
    pub(super) fn into_new(self) -> NewParked {
        NewParked {
            key: self.key,
            side: Side::Local,
            sync_count: shown_count(self.base).unwrap_or(0),
            text: self.text,
            modified: self.modified,
            reason: self.reason,
            expires: None,
        }
    }
}

impl Dataset {
    /// Keeps what was written here and not taken.
    ///
    /// # Errors
    /// See [`settle`](Self::settle).
    pub async fn park(&self, new: NewlyParked) -> Result<(), Error> {
        let parked = Settled {
            parked: Some(new),
            ..Settled::default()
        };
        self.settle(parked).await
    }

    /// Keeps the values that an update takes the place of, if nobody here has seen them, or all
    /// with `undo`.
    pub(super) async fn keep_replaced(&self, replaced: Vec<Replaced>) -> Result<(), Error> {
        let undo = self.store().options().undo;
        let until = undo.map(|undo| Timestamp::from(self.store().date() + undo));
        let wanted = replaced
            .into_iter()
            .filter(|old| !old.seen || undo.is_some());
        let kept = wanted.map(|old| NewParked {
            key: old.key,
            side: Side::Remote,
            sync_count: old.sync_count,
            text: old.value.as_bytes().to_vec(),
            modified: old.modified,
            reason: match old.seen {
                true => "replaced or removed here".to_owned(),
                false => "replaced or removed here by somebody who had not seen it".to_owned(),
            },
            expires: until.filter(|_| old.seen),
        });
        self.keep(kept.collect()).await
    }

    /// Keeps a version of the service's that is moved by somebody who has not seen it.
    ///
    /// # Errors
    /// [`ErrorKind::NoSpace`](super::ErrorKind::NoSpace) on a full disk.
    pub async fn keep_unseen(
        &self,
        key: &RecordKey,
        value: &Text,
        base: Base,
        modified: Timestamp,
    ) -> Result<(), Error> {
        let kept = NewParked {
            key: key.clone(),
            side: Side::Remote,
            sync_count: shown_count(base).unwrap_or(0),
            text: value.as_bytes().to_vec(),
            modified,
            reason: "renamed here by somebody who had not seen it".to_owned(),
            expires: None,
        };
        self.keep(vec![kept]).await
    }

    async fn keep(&self, versions: Vec<NewParked>) -> Result<(), Error> {
        if versions.is_empty() {
            return Ok(());
        }
        let _one_at_a_time = self.keeping.lock().await;
        let now = self.store().date().into();
        let keep = move |journal: &Journal, place: Place<'_>| {
            versions
                .iter()
                .try_for_each(|version| journal.park(place, version, now))
        };
        self.ask(keep).await
    }

    /// Lists the versions that are kept, by key, oldest first. One that the service has again is
    /// let go.
    pub async fn parked(self: &Arc<Self>, deadline: Instant) -> Result<Vec<Parked>, Error> {
        let now = self.store().date().into();
        let list = move |journal: &Journal, place: Place<'_>| {
            discard_expired(journal, now);
            journal.parked(place)
        };
        let parked = self.ask(list).await?;
        if parked.is_empty() {
            return Ok(parked);
        }
        if let Err(error) = self.refresh(Freshness::Ttl, deadline).await {
            tracing::debug!(%error, "kept versions are not compared");
            return Ok(parked);
        }
        let _one_at_a_time = self.keeping.lock().await;
        // Some may have been kept, or kept anew, while it was listed.
        let mut parked = self.ask(list).await?;
        let waiting = self.ask(|journal, place| journal.changing(place)).await?;
        let date = self.store().date();
        let mut equal = Vec::new();
        for version in parked.iter().filter(|version| version.expires.is_none()) {
            if self.is_changing(&version.key) || waiting.contains(&version.key) {
                // It may be what is about to be replaced.
                continue;
            }
            let remote = self.record(&version.key).map(|record| record.remote);
            let remote = remote.filter(|remote| !may_be_replaced(version, remote, date));
            let remote = remote.and_then(|remote| remote.value);
            let alike = |size| size == version.size as usize;
            if let Some(remote) = remote.filter(|remote| alike(remote.as_bytes().len()))
                && self.parked_text(version.id).await?.as_deref() == Some(remote.as_bytes())
            {
                equal.push(version.id);
            }
        }
        for id in &equal {
            // On a full disk it goes another time.
            if let Err(error) = self.discard_parked(*id).await {
                tracing::debug!(%error, "a kept version that the service has stays");
            }
        }
        parked.retain(|version| !equal.contains(&version.id));
        Ok(parked)
    }

    /// Returns the bytes of a kept version, if it is still there.
    pub async fn parked_text(&self, id: i64) -> Result<Option<Vec<u8>>, Error> {
        self.ask(move |journal, _| journal.parked_text(id)).await
    }

    /// Lets a kept version go. Returns whether it was there.
    pub async fn discard_parked(&self, id: i64) -> Result<bool, Error> {
        self.ask(move |journal, _| journal.discard_parked(id)).await
    }

    pub(super) fn whereabouts(&self) -> Whereabouts {
        let identity = self.identity();
        (
            identity.pool().clone(),
            identity.id().clone(),
            self.name().clone(),
        )
    }

    pub(super) async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Journal, Place<'_>) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, Error> {
        let (pool, identity, dataset) = self.whereabouts();
        let store = self.store();
        let ask = move |journal: &Journal| ask(journal, (&pool, &identity, &dataset));
        store.journal(ask).await
    }
}

/// Those that stay for lack of room on the disk go another time.
fn discard_expired(journal: &Journal, now: Timestamp) {
    if let Err(error) = journal.discard_expired(now) {
        tracing::debug!(%error, "kept versions whose time is over stay");
    }
}

/// Returns whether a save that was to replace this very version, and was lost, may yet be made.
fn may_be_replaced(version: &Parked, remote: &Remote, date: SystemTime) -> bool {
    let age = date.duration_since(version.at.into());
    version.side == Side::Remote
        && version.sync_count == remote.sync_count
        && age.is_ok_and(|age| age < SIGNED_FOR)
}

impl Store {
    /// Lists all versions that are kept, by dataset and key, oldest first. Nobody is asked whether
    /// the service has one again.
    pub async fn all_parked(&self) -> Result<Vec<(Whereabouts, Parked)>, Error> {
        let now = self.date().into();
        let list = move |journal: &Journal| {
            discard_expired(journal, now);
            journal.all_parked()
        };
        self.journal(list).await
    }

    /// Returns how many versions are kept, but for those that go by themselves.
    pub async fn parked_count(&self) -> Result<u64, Error> {
        self.journal(Journal::parked_count).await
    }
}
