//! Who is told about a change: the pool's stream, and the other devices that subscribed.
//!
//! Invariant: what is told is kept with the change, in its transaction, and sent after it.

use crate::wire::configuration::IdentityPoolOptions;
use crate::wire::fault::Fault;
use crate::wire::names::{IdentityId, PoolId};
use crate::wire::records::{PatchOp, Record};

use super::super::deliveries::{Delivery, PushMessage, StreamRecord};
use super::super::storage::{StoredDataset, Tx};
use super::Service;
use super::configuration::stream;

/// A change of a dataset, as it was written.
pub(super) struct Change<'a> {
    pub(super) pool: &'a PoolId,
    pub(super) identity: &'a IdentityId,
    /// With the change's sync count.
    pub(super) dataset: &'a StoredDataset,
    /// The device that made it, if it said so.
    pub(super) device: Option<&'a str>,
    pub(super) operation: PatchOp,
    pub(super) records: &'a [Record],
}

impl Change<'_> {
    /// Returns what goes out because of it.
    fn deliveries(&self, tx: &Tx<'_>) -> Result<Vec<Delivery>, Fault> {
        let options: Option<IdentityPoolOptions> = tx.document(self.pool)?;
        let Some(options) = options else {
            return Ok(Vec::new());
        };
        let mut deliveries = Vec::new();
        if let Some(stream) = stream(&options) {
            deliveries.push(self.streamed(stream));
        }
        if options.push_sync.is_some() {
            let subscribers = tx.subscribers(self.identity, &self.dataset.name)?;
            let others = subscribers
                .into_iter()
                .filter(|(device, _)| self.device != Some(device.as_str()));
            deliveries.extend(others.map(|(device_id, platform)| Delivery::Push {
                device_id,
                platform,
                message: PushMessage {
                    source: "cognito-sync",
                    identity_pool_id: self.pool.clone(),
                    identity_id: self.identity.clone(),
                    dataset_name: self.dataset.name.clone(),
                    sync_count: self.dataset.sync_count,
                },
            }));
        }
        Ok(deliveries)
    }

    /// Returns the change as a record of a stream.
    pub(super) fn streamed(&self, stream: &str) -> Delivery {
        Delivery::Stream {
            stream_name: stream.to_owned(),
            record: StreamRecord {
                identity_pool_id: self.pool.clone(),
                identity_id: self.identity.clone(),
                dataset_name: self.dataset.name.clone(),
                operation: self.operation,
                kinesis_sync_records: self.records.iter().map(Into::into).collect(),
                last_modified_date: self.dataset.modified.as_millis(),
                url: None,
                payload_type: "Inline",
                sync_count: self.dataset.sync_count,
            },
        }
    }
}

impl Service {
    /// Keeps what goes out because of a change; returns whether there is anything.
    pub(super) fn post(&self, tx: &Tx<'_>, change: &Change<'_>) -> Result<bool, Fault> {
        let deliveries = change.deliveries(tx)?;
        self.deliveries.post(tx, &deliveries)?;
        Ok(!deliveries.is_empty())
    }

    /// Sends what goes out; returns whether it could be written. It is durable by now, so a failure
    /// is only logged.
    pub(super) fn deliver(&self) -> bool {
        let sent = self.deliveries.send(&self.storage);
        if let Err(error) = &sent {
            let error = error as &dyn std::error::Error;
            tracing::error!(error, "deliveries cannot be written; they are kept");
        }
        sent.is_ok()
    }
}
