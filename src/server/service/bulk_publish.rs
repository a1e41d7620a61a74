//! BulkPublish and GetBulkPublishDetails.
//!
//! Invariant: at most one runs for a pool, and none begins within 24 hours of a success. One that
//! the end of the service cut short has failed.

use std::collections::HashSet;
use std::sync::{MutexGuard, PoisonError};

use crate::wire::bulk_publish::{
    BulkPublish, BulkPublishDetails, BulkPublishStarted, BulkPublishStatus, GetBulkPublishDetails,
};
use crate::wire::fault::{Code, Fault};
use crate::wire::names::PoolId;
use crate::wire::records::{PatchOp, Record};
use crate::wire::timestamp::Timestamp;

use super::super::storage::{StorageError, StoredDataset, Tx};
use super::changes::Change;
use super::configuration::{must_exist, stream};
use super::{Caller, Service};

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;
/// Datasets read at a time.
const PAGE: i64 = 64;
/// Records read at a time.
const RECORDS: usize = 1024;

impl Service {
    /// Sends all datasets of a pool to its stream, and returns when that is done.
    pub(super) fn bulk_publish(
        &self,
        call: &BulkPublish,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<BulkPublishStarted, Fault> {
        caller.must_be_developer()?;
        let pool = &call.pool;
        let (stream, details) = self.storage.write(|tx| {
            must_exist(tx, caller, pool)?;
            let options = tx.document(pool)?.unwrap_or_default();
            let stream = stream(&options)
                .ok_or_else(|| Fault::invalid("the identity pool has no stream that is enabled"))?;
            let last = self.last_publish(tx, pool)?;
            let recent = last.bulk_publish_complete_time.is_some_and(|completed| {
                now.as_millis() < completed.as_millis().saturating_add(DAY_MILLIS)
            });
            match last.bulk_publish_status {
                Some(BulkPublishStatus::InProgress) => {
                    return Err(Fault::new(
                        Code::DuplicateRequest,
                        "a bulk publish of this identity pool is in progress",
                    ));
                }
                Some(BulkPublishStatus::Succeeded) if recent => {
                    return Err(Fault::new(
                        Code::AlreadyStreamed,
                        "a bulk publish of this identity pool succeeded within 24 hours",
                    ));
                }
                _ => {}
            }
            let details = BulkPublishDetails {
                bulk_publish_start_time: Some(now),
                bulk_publish_status: Some(BulkPublishStatus::InProgress),
                ..not_started(pool)
            };
            tx.put_document(pool, &details)?;
            self.publishing().insert(pool.clone());
            Ok((stream.to_owned(), details))
        })?;
        let failure_message = self.publish_all(pool, &stream).err();
        let ended = BulkPublishDetails {
            bulk_publish_complete_time: Some(now),
            bulk_publish_status: Some(match failure_message {
                None => BulkPublishStatus::Succeeded,
                Some(_) => BulkPublishStatus::Failed,
            }),
            failure_message,
            ..details
        };
        let kept: Result<(), StorageError> = self.storage.write(|tx| tx.put_document(pool, &ended));
        self.publishing().remove(pool);
        kept?;
        Ok(BulkPublishStarted {
            identity_pool_id: Some(pool.clone()),
        })
    }

    pub(super) fn get_bulk_publish_details(
        &self,
        call: &GetBulkPublishDetails,
        caller: &Caller,
    ) -> Result<BulkPublishDetails, Fault> {
        caller.must_be_developer()?;
        self.storage.read(|tx| {
            must_exist(tx, caller, &call.pool)?;
            Ok(self.last_publish(tx, &call.pool)?)
        })
    }

    fn last_publish(&self, tx: &Tx<'_>, pool: &PoolId) -> Result<BulkPublishDetails, StorageError> {
        let mut last = tx.document(pool)?.unwrap_or_else(|| not_started(pool));
        if last.bulk_publish_status == Some(BulkPublishStatus::InProgress)
            && !self.publishing().contains(pool)
        {
            last.bulk_publish_status = Some(BulkPublishStatus::Failed);
            last.failure_message = Some("the service ended before it was done".to_owned());
        }
        Ok(last)
    }

    /// Publishes page by page, so that others are served meanwhile.
    fn publish_all(&self, pool: &PoolId, stream: &str) -> Result<(), String> {
        let mut after = 0;
        loop {
            let page = self.storage.read(|tx| {
                let mut page = Vec::new();
                for (identity, dataset) in tx.pool_datasets(pool, after, PAGE)? {
                    let records = live_records(tx, &dataset)?;
                    page.push((identity, dataset, records));
                }
                Ok::<_, StorageError>(page)
            });
            let page = page.map_err(|error| Fault::from(error).message)?;
            let Some((_, last, _)) = page.last() else {
                return Ok(());
            };
            after = last.id;
            let deliveries: Vec<_> = page
                .iter()
                .map(|(identity, dataset, records)| {
                    let change = Change {
                        pool,
                        identity,
                        dataset,
                        device: None,
                        operation: PatchOp::Replace,
                        records,
                    };
                    change.streamed(stream)
                })
                .collect();
            self.deliveries.append(&deliveries).map_err(|error| {
                tracing::error!(%error, "deliveries cannot be written");
                "the stream cannot be written".to_owned()
            })?;
        }
    }

    fn publishing(&self) -> MutexGuard<'_, HashSet<PoolId>> {
        self.publishing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn live_records(tx: &Tx<'_>, dataset: &StoredDataset) -> Result<Vec<Record>, StorageError> {
    let mut live = Vec::new();
    let mut after = Vec::new();
    loop {
        let page = tx.records(dataset.id, 0, &after, RECORDS as i64)?;
        let is_last = page.len() < RECORDS;
        if let Some(last) = page.last() {
            after = last.key.text().as_bytes().to_vec();
        }
        live.extend(page.into_iter().filter(|record| record.value.is_some()));
        if is_last {
            return Ok(live);
        }
    }
}

fn not_started(pool: &PoolId) -> BulkPublishDetails {
    BulkPublishDetails {
        identity_pool_id: Some(pool.clone()),
        bulk_publish_start_time: None,
        bulk_publish_complete_time: None,
        bulk_publish_status: Some(BulkPublishStatus::NotStarted),
        failure_message: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, at, remove, replace};
    use super::*;
    use serde_json::{Value, json};

    fn details(world: &World) -> Value {
        world
            .pool_call("POST", "getBulkPublishDetails", &Value::Null)
            .unwrap()
    }

    fn publish(world: &World, now: i64) -> Result<Value, Code> {
        let path = format!("/identitypools/{}/bulkpublish", world.pool);
        let sent = world.send(&world.developer, at(now), "POST", &path, b"");
        sent.map_err(|fault: Fault| fault.code)
    }

    fn enable(world: &World) {
        let stream = json!({"CognitoStreams": {
            "StreamName": "s", "RoleArn": "arn:aws:iam::1:role/r", "StreamingStatus": "ENABLED",
        }});
        world.pool_call("POST", "configuration", &stream).unwrap();
    }

    #[test]
    fn one_success_a_day_and_one_at_a_time() {
        let world = World::with_events();
        assert_eq!(details(&world)["BulkPublishStatus"], "NOT_STARTED");
        assert_eq!(publish(&world, 0), Err(Code::InvalidParameter));
        world
            .update(&[replace("a", "1", 0), replace("b", "2", 0)])
            .unwrap();
        world.update(&[remove("b", 1)]).unwrap();
        enable(&world);
        assert_eq!(
            publish(&world, 1000).unwrap()["IdentityPoolId"],
            json!(world.pool)
        );
        let done = details(&world);
        assert_eq!(done["BulkPublishStatus"], "SUCCEEDED");
        assert_eq!(done["BulkPublishCompleteTime"], 1.0);
        let lines = world.events();
        assert_eq!(lines.len(), 1);
        let record = &lines[0]["record"];
        assert_eq!(
            (&record["syncCount"], &record["operation"]),
            (&json!(2), &json!("replace"))
        );
        assert_eq!(record["kinesisSyncRecords"].as_array().unwrap().len(), 1);
        assert_eq!(
            publish(&world, 1000 + DAY_MILLIS - 1),
            Err(Code::AlreadyStreamed)
        );
        assert!(publish(&world, 1000 + DAY_MILLIS).is_ok());

        let running = BulkPublishDetails {
            bulk_publish_status: Some(BulkPublishStatus::InProgress),
            ..not_started(&world.pool)
        };
        let storage = world.service.storage();
        storage
            .write(|tx| tx.put_document(&world.pool, &running))
            .unwrap();
        assert_eq!(details(&world)["BulkPublishStatus"], "FAILED");
        world.service.publishing().insert(world.pool.clone());
        assert_eq!(details(&world)["BulkPublishStatus"], "IN_PROGRESS");
        assert_eq!(publish(&world, 0), Err(Code::DuplicateRequest));
    }
}
