//! Deleting a dataset: only one that was just listed and is empty.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::super::cache::lock;
use super::super::error::{Error, ErrorKind};
use super::super::waiters::Waiter;
use super::{Dataset, Sent};
use crate::api;
use crate::wire::datasets::DeleteDataset;

impl Dataset {
    /// Deletes the dataset, after one more look whether it is empty.
    ///
    /// # Errors
    /// [`ErrorKind::NotEmpty`] if it has records or changes under way.
    pub async fn delete(self: &Arc<Self>, deadline: Instant) -> Result<(), Error> {
        let deleted = {
            let mut inner = lock(&self.inner);
            inner.state.want_deletion();
            let (sender, receiver) = oneshot::channel();
            inner.deletions.push(Waiter { sender, deadline });
            self.start(&mut inner);
            receiver
        };
        match tokio::time::timeout_at(deadline.into(), deleted).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(ErrorKind::Failed.into()),
            Err(_) => {
                let mut inner = lock(&self.inner);
                // Others may have more time.
                if !inner.is_deletion_awaited(self.store().now()) {
                    inner.state.cancel_deletion();
                }
                Err(inner.timed_out())
            }
        }
    }

    /// Deletes the dataset, which was just listed empty. Nothing else is under way for it. Whether
    /// it was deleted is looked up when no answer tells: somebody may have made it again.
    pub(super) async fn make_deletion(&self) -> Sent {
        let deleted = match self.exists() {
            true => {
                let operation = DeleteDataset {
                    pool: self.identity.pool().clone(),
                    identity: self.identity.id().clone(),
                    dataset: self.name.clone(),
                };
                let deadline = lock(&self.inner).deletion_deadline();
                let deadline = deadline.unwrap_or_else(|| self.store().deadline());
                let wanted = || lock(&self.inner).is_deletion_awaited(self.store().now());
                let deleted = self
                    .store()
                    .client()
                    .call_while(&operation, deadline, wanted, |error| {
                        self.note_trouble(error);
                    })
                    .await;
                let is_unsure = deleted.as_ref().is_err_and(api::Error::is_unsure);
                let deleted = deleted.map_err(Error::from);
                let trouble = deleted.as_ref().err().cloned();
                // Those behind it in line wait for the same.
                let delays = |error: &Error| is_unsure || error.kind() == ErrorKind::Throttled;
                lock(&self.inner).trouble = trouble.filter(delays);
                if is_unsure {
                    let mut inner = lock(&self.inner);
                    inner.deletions.retain(|waiter| !waiter.sender.is_closed());
                    if !inner.deletions.is_empty() {
                        inner.state.want_deletion();
                        return Sent::Again;
                    }
                }
                match deleted {
                    Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                    _ => {
                        let now = self.store().now();
                        lock(&self.inner).state.handle_deleted(now);
                        Ok(())
                    }
                }
            }
            false => Ok(()),
        };
        if deleted.is_ok() {
            self.identity.note_deleted(&self.name);
            self.note_life();
        }
        lock(&self.inner).resolve_deletions(&deleted);
        Sent::Answered
    }
}
