//! The calls of one dataset's driver, and what it makes of their answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::cache::lock;
use super::super::error::{Error, ErrorKind};
use super::super::journals::{NewParked, Side};
use super::dataset::{ANY_PAUSE, FIRST_PAUSE, PendingDataset};
use super::waiting::Inner;
use crate::api;
use crate::sync::pending::Refusal;
use crate::sync::{Listing, Replaced};
use crate::wire::datasets::DeleteDataset;
use crate::wire::fault::Fault;
use crate::wire::records::{ListRecords, RecordPatch, UpdateRecords, UpdateRecordsBody};

/// How many records one page is asked to hold.
const PAGE: i64 = 1024;

impl PendingDataset {
    pub(super) async fn list(self: &Arc<Self>, since: i64) {
        let asked = self.pending().now();
        let to_send = {
            let inner = self.lock();
            inner.list_waiters.is_empty() && inner.deletions.is_empty()
        };
        let listed = self.list_pages(since, self.pending().deadline()).await;
        let now = self.pending().now();
        let mut inner = self.lock();
        inner.listing = false;
        match listed {
            Ok(listing) => {
                inner.back_off.listed();
                let mut barrier = lock(&self.pending().barrier);
                inner.state.handle_listed(listing, asked, now, &mut barrier);
            }
            Err(api::Error::Fault(fault)) if fault.is_unknown_sync_count() && since > 0 => {
                let mut barrier = lock(&self.pending().barrier);
                inner.state.handle_unknown_sync_count(&mut barrier);
            }
            Err(api::Error::NoTurn { .. }) if inner.is_list_wanted(now) => {
                // Somebody came when it was given up.
                inner.state.want_list();
            }
            Err(error) => {
                self.fail(&mut inner, error.into(), Refusal::Lost);
                let (now, pauses) = (self.pending().now(), self.pauses(ANY_PAUSE));
                inner.back_off.list_failed(to_send, now, pauses);
            }
        }
        if inner.state.is_listed() {
            let done = inner.lists_begun;
            inner.resolve_lists(done, &Ok(()));
        }
    }

    async fn list_pages(&self, since: i64, deadline: Instant) -> Result<Listing, api::Error> {
        let (pool, identity, dataset) = self.place().clone();
        let mut listing = Listing {
            since,
            ..Listing::default()
        };
        let mut operation = ListRecords {
            pool,
            identity,
            dataset,
            last_sync_count: Some(since),
            next_token: None,
            max_results: Some(PAGE),
            sync_session_token: None,
        };
        let mut first = true;
        loop {
            let client = self.pending().client();
            let tell = |error: &api::Error| self.note_trouble(error);
            let wanted = || self.lock().is_list_wanted(self.pending().now());
            let page = client
                .call_while(&operation, deadline, wanted, tell)
                .await?;
            if first {
                listing.sync_count = page.dataset_sync_count;
                first = false;
            }
            listing.exists = page.dataset_exists;
            listing.deleted_after |= page.dataset_deleted_after_requested_sync_count;
            listing.records.extend(page.records);
            listing.token = page.sync_session_token;
            operation.next_token = page.next_token;
            if operation.next_token.is_none() {
                return Ok(listing);
            }
        }
    }

    /// Nothing that nobody here has seen is replaced before it is kept.
    pub(super) async fn keep_and_update(
        self: &Arc<Self>,
        replaced: Vec<Replaced>,
        patches: Vec<RecordPatch>,
        token: String,
    ) {
        let unseen = replaced.into_iter().filter(|old| !old.seen);
        let versions = unseen.map(|old| NewParked {
            key: old.key,
            side: Side::Remote,
            sync_count: old.sync_count,
            text: old.value.as_bytes().to_vec(),
            modified: old.modified,
            reason: "replaced or removed here by somebody who had not seen it".to_owned(),
            expires: None,
        });
        if let Err(error) = self.keep(versions.collect()).await {
            let mut inner = self.lock();
            self.fail_to_send(&mut inner, error, Refusal::Lost);
            return;
        }
        self.update(patches, token).await;
    }

    async fn update(self: &Arc<Self>, patches: Vec<RecordPatch>, token: String) {
        let (pool, identity, dataset) = self.place().clone();
        let operation = UpdateRecords {
            pool,
            identity,
            dataset,
            client_context: None,
            body: UpdateRecordsBody {
                device_id: None,
                record_patches: patches,
                sync_session_token: Some(token),
            },
        };
        let sent_at = self.pending().now();
        let deadline = self.lock().update_deadline();
        let deadline = deadline.unwrap_or_else(|| self.pending().deadline());
        let client = self.pending().client();
        let tell = |error: &api::Error| self.note_trouble(error);
        let answer = client.call_telling(&operation, deadline, tell).await;
        let mut inner = self.lock();
        match answer {
            Ok(answer) => {
                inner.trouble = None;
                inner.back_off.updated();
                let mut barrier = lock(&self.pending().barrier);
                inner
                    .state
                    .handle_updated(answer.records, sent_at, &mut barrier);
            }
            Err(error) if error.is_unsure() => {
                tracing::warn!(%error, "no telling whether an update was made");
                inner.trouble = Some(error.into());
                let mut barrier = lock(&self.pending().barrier);
                inner.state.handle_lost(&mut barrier);
                drop(barrier);
                self.try_again(&mut inner);
            }
            Err(api::Error::Fault(fault)) => self.refused(&mut inner, fault),
            Err(error) => self.fail_to_send(&mut inner, error.into(), Refusal::Lost),
        }
    }

    fn refused(&self, inner: &mut Inner, fault: Fault) {
        let is_conflict = fault.is_conflict() || fault.is_session_token();
        let refusal = Refusal::Fault(Arc::new(fault.clone()));
        if !is_conflict && !refusal.is_final() {
            let error = Error::from(refusal.clone());
            self.fail_to_send(inner, error, refusal);
            return;
        }
        let mut barrier = lock(&self.pending().barrier);
        inner.state.handle_refused(fault, &mut barrier);
        drop(barrier);
        if is_conflict {
            self.try_again(inner);
        }
    }

    /// Deletes the dataset, which was just listed empty. Nothing else is under way for it. Whether
    /// it was deleted is looked up when no answer tells: somebody may have made it again.
    pub(super) async fn make_deletion(self: &Arc<Self>) {
        let (exists, deadline) = {
            let inner = self.lock();
            (inner.state.exists(), inner.deletion_deadline())
        };
        let Some(deadline) = deadline else {
            return;
        };
        let deleted = if exists {
            self.delete_by(deadline).await
        } else {
            Ok(())
        };
        let now = self.pending().now();
        let mut inner = self.lock();
        let deleted = match deleted {
            Err(error) if error.is_unsure() => {
                inner.trouble = Some(error.into());
                self.try_again(&mut inner);
                inner.delete_again = inner.back_off.until();
                inner.leave_deletion();
                return;
            }
            deleted => deleted.map_err(Error::from),
        };
        let deleted = match deleted {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => {
                inner.back_off.updated();
                let mut barrier = lock(&self.pending().barrier);
                inner.state.handle_deleted(now, &mut barrier);
                Ok(())
            }
        };
        inner.resolve_deletions(&deleted);
    }

    async fn delete_by(&self, deadline: Instant) -> Result<(), api::Error> {
        let (pool, identity, dataset) = self.place().clone();
        let operation = DeleteDataset {
            pool,
            identity,
            dataset,
        };
        let client = self.pending().client();
        let tell = |error: &api::Error| self.note_trouble(error);
        client
            .call_telling(&operation, deadline, tell)
            .await
            .map(drop)
    }

    /// Returns how long the pauses are after something was tried in vain: longer each time.
    pub(super) fn pauses(&self, longest: Duration) -> impl Fn(u32) -> Duration {
        let client = self.pending().client();
        move |attempt| (client.pause(attempt) * 4).max(FIRST_PAUSE).min(longest)
    }

    /// Something is to be tried again for those who wait, so that they see more than one attempt.
    pub(super) fn try_again(&self, inner: &mut Inner) {
        let pauses = self.pauses(self.pending().options.timeout / 4);
        inner.back_off.again(self.pending().now(), pauses);
    }

    pub(super) fn note_trouble(&self, error: &api::Error) {
        self.lock().trouble = Some(error.clone().into());
    }

    /// The service cannot be asked: everybody who waits is told so.
    pub(super) fn fail(&self, inner: &mut Inner, error: Error, why: Refusal) {
        inner.resolve_lists(u64::MAX, &Err(error.clone()));
        inner.resolve_deletions(&Err(error.clone()));
        inner.trouble = Some(error);
        let mut barrier = lock(&self.pending().barrier);
        inner.state.fail(why, &mut barrier);
    }

    /// What was to be sent was not: everybody who waits is told so.
    pub(super) fn fail_to_send(&self, inner: &mut Inner, error: Error, why: Refusal) {
        self.fail(inner, error, why);
        let pauses = self.pauses(ANY_PAUSE);
        inner.back_off.failed(self.pending().now(), pauses);
    }
}
