//! The calls of one dataset's driver, and what it makes of their answers.

use std::sync::Arc;
use std::time::Instant;

use super::super::cache::lock;
use super::super::error::{Error, ErrorKind};
use super::super::journals::{NewParked, Side};
use super::dataset::PendingDataset;
use super::waiting::Inner;
use crate::api;
use crate::sync::pending::{DatasetState, Refusal};
use crate::sync::{Listing, Replaced};
use crate::wire::datasets::DeleteDataset;
use crate::wire::fault::Fault;
use crate::wire::records::{ListRecords, RecordPatch, UpdateRecords, UpdateRecordsBody};

/// How many records one page is asked to hold.
const PAGE: i64 = 1024;

impl PendingDataset {
    pub(super) async fn list(self: &Arc<Self>, since: i64) {
        let asked = self.pending().now();
        let listed = self.list_pages(since, self.pending().deadline()).await;
        let now = self.pending().now();
        let mut inner = self.lock();
        inner.listing = false;
        match listed {
            Ok(listing) => {
                let mut barrier = lock(&self.pending().barrier);
                inner.state.handle_listed(listing, asked, now, &mut barrier);
            }
            Err(api::Error::Fault(fault)) if fault.is_unknown_sync_count() && since > 0 => {
                let mut barrier = lock(&self.pending().barrier);
                inner.state.handle_unknown_sync_count(&mut barrier);
            }
            Err(error) => self.fail(&mut inner, error.into(), Refusal::Lost),
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
            let page = client.call_telling(&operation, deadline, tell).await?;
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
            self.fail(&mut inner, error, Refusal::Lost);
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
                inner.failures = 0;
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
                self.pause(&mut inner, self.pending().options.timeout / 4);
            }
            Err(api::Error::Fault(fault)) => self.refused(&mut inner, fault),
            Err(error) => self.fail(&mut inner, error.into(), Refusal::Lost),
        }
    }

    fn refused(&self, inner: &mut Inner, fault: Fault) {
        let is_conflict = fault.is_conflict() || fault.is_session_token();
        let refusal = Refusal::Fault(Arc::new(fault.clone()));
        if !is_conflict && !refusal.is_final() {
            let error = Error::from(refusal.clone());
            self.fail(inner, error, refusal);
            return;
        }
        let mut barrier = lock(&self.pending().barrier);
        inner.state.handle_refused(fault, &mut barrier);
        drop(barrier);
        if is_conflict {
            self.pause(inner, self.pending().options.timeout / 4);
        }
    }

    /// Deletes the dataset, which was just listed empty. Nothing else is under way for it. Whether
    /// it was deleted is looked up when no answer tells: somebody may have made it again.
    pub(super) async fn make_deletion(self: &Arc<Self>) {
        let deleted = match self.read(DatasetState::exists) {
            false => Ok(()),
            true => {
                let (pool, identity, dataset) = self.place().clone();
                let operation = DeleteDataset {
                    pool,
                    identity,
                    dataset,
                };
                let deadline = self.lock().deletion_deadline();
                let deadline = deadline.unwrap_or_else(|| self.pending().deadline());
                let client = self.pending().client();
                let tell = |error: &api::Error| self.note_trouble(error);
                client
                    .call_telling(&operation, deadline, tell)
                    .await
                    .map(drop)
            }
        };
        let now = self.pending().now();
        let mut inner = self.lock();
        match deleted {
            Err(error) if error.is_unsure() => {
                inner.trouble = Some(error.into());
                inner.deletions.retain(|waiter| !waiter.sender.is_closed());
                if !inner.deletions.is_empty() {
                    inner.state.want_deletion();
                }
                self.pause(&mut inner, self.pending().options.timeout / 4);
                return;
            }
            Err(error) => {
                let error = Error::from(error);
                if error.kind() != ErrorKind::NotFound {
                    inner.resolve_deletions(&Err(error));
                    return;
                }
            }
            Ok(()) => {}
        }
        let mut barrier = lock(&self.pending().barrier);
        inner.state.handle_deleted(now, &mut barrier);
        drop(barrier);
        inner.resolve_deletions(&Ok(()));
    }
}
