//! The task of one dataset's driver, however it ends.

use std::sync::Arc;

use super::super::cache::lock;
use super::super::error::ErrorKind;
use super::dataset::{FIRST_PAUSE, PendingDataset};
use crate::sync::pending::Refusal;

/// The task that makes the exchanges. However it ends, nobody is left waiting for it.
pub(super) struct Running(Arc<PendingDataset>);

impl Running {
    pub(super) fn new(dataset: &Arc<PendingDataset>) -> Self {
        Self(dataset.clone())
    }

    pub(super) async fn run(&self) {
        self.0.run().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let pending = self.0.pending().clone();
        {
            let mut inner = self.0.lock();
            inner.running = false;
            inner.listing = false;
            let mut barrier = lock(&pending.barrier);
            inner.state.handle_lost(&mut barrier);
            drop(barrier);
            let error = ErrorKind::Failed.into();
            self.0.fail_to_send(&mut inner, error, Refusal::Lost);
        }
        // Others may wait for what is to be told still, and it panics again for all anybody knows.
        let dataset = self.0.clone();
        let go_on = Box::pin(async move {
            dataset.pending().surroundings().sleep(FIRST_PAUSE).await;
            dataset.go_on();
        });
        pending.surroundings().spawn(go_on);
    }
}
