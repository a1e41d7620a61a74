//! BulkPublish and GetBulkPublishDetails.
//!
//! Invariant: at most one runs for a pool, and none begins within 24 hours of a success. How far
//! one is lies in the store, so it goes on where the end of the service cut it short.

use crate::wire::bulk_publish::{
    BulkPublish, BulkPublishDetails, BulkPublishStarted, BulkPublishStatus, GetBulkPublishDetails,
};
use crate::wire::fault::{Code, Fault};
use crate::wire::names::PoolId;
use crate::wire::records::{PatchOp, Record};
use crate::wire::timestamp::Timestamp;

use super::super::storage::{StorageError, StoredDataset, StoredPublish, Tx};
use super::changes::Change;
use super::configuration::{must_exist, stream};
use super::{Caller, Service};

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;
/// Datasets published at a time; others wait that long to write.
const PAGE: i64 = 8;
/// Records read at a time.
const RECORDS: usize = 1024;

impl Service {
    /// Begins to send all datasets of a pool to its stream; [`Service::go_on`] does it.
    pub(super) fn bulk_publish(
        &self,
        call: &BulkPublish,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<BulkPublishStarted, Fault> {
        caller.must_be_developer()?;
        let pool = &call.pool;
        self.storage.write(|tx| {
            must_exist(tx, caller, pool)?;
            let options = tx.document(pool)?.unwrap_or_default();
            let stream = stream(&options)
                .ok_or_else(|| Fault::invalid("the identity pool has no stream that is enabled"))?;
            let last = last_publish(tx, pool)?;
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
            let begun = BulkPublishDetails {
                bulk_publish_start_time: Some(now),
                bulk_publish_status: Some(BulkPublishStatus::InProgress),
                ..not_started(pool)
            };
            tx.put_document(pool, &begun)?;
            tx.put_bulk_publish(&StoredPublish {
                pool: pool.clone(),
                stream: stream.to_owned(),
                after: 0,
            })?;
            Ok(BulkPublishStarted {
                identity_pool_id: Some(pool.clone()),
            })
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
            Ok(last_publish(tx, &call.pool)?)
        })
    }

    /// Publishes some datasets more; returns whether there may be others.
    pub(super) fn publish_more(
        &self,
        is_stream_written: bool,
        now: Timestamp,
    ) -> Result<bool, StorageError> {
        let none = self
            .storage
            .read(|tx| Ok::<_, StorageError>(tx.bulk_publish()?.is_none()))?;
        if none {
            return Ok(false);
        }
        self.storage.write(|tx| {
            let Some(publish) = tx.bulk_publish()? else {
                return Ok(false);
            };
            if !is_stream_written {
                end(tx, &publish.pool, Some("the stream cannot be written"), now)?;
                return Ok(true);
            }
            let page = tx.pool_datasets(&publish.pool, publish.after, PAGE)?;
            let Some((_, last)) = page.last() else {
                end(tx, &publish.pool, None, now)?;
                return Ok(true);
            };
            let after = last.id;
            for (identity, dataset) in &page {
                let records = live_records(tx, dataset)?;
                let change = Change {
                    pool: &publish.pool,
                    identity,
                    dataset,
                    device: None,
                    operation: PatchOp::Replace,
                    records: &records,
                };
                self.deliveries
                    .post(tx, &[change.streamed(&publish.stream)])?;
            }
            tx.put_bulk_publish(&StoredPublish { after, ..publish })?;
            Ok(true)
        })
    }
}

/// Ends a bulk publish, with what went wrong or with success.
fn end(
    tx: &Tx<'_>,
    pool: &PoolId,
    failure: Option<&str>,
    now: Timestamp,
) -> Result<(), StorageError> {
    let ended = BulkPublishDetails {
        bulk_publish_complete_time: Some(now),
        bulk_publish_status: Some(match failure {
            None => BulkPublishStatus::Succeeded,
            Some(_) => BulkPublishStatus::Failed,
        }),
        failure_message: failure.map(str::to_owned),
        ..last_publish(tx, pool)?
    };
    tx.put_document(pool, &ended)?;
    tx.end_bulk_publish(pool)
}

fn last_publish(tx: &Tx<'_>, pool: &PoolId) -> Result<BulkPublishDetails, StorageError> {
    Ok(tx.document(pool)?.unwrap_or_else(|| not_started(pool)))
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
    use super::super::super::deliveries::Deliveries;
    use super::super::super::storage::Storage;
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
        let running = details(&world);
        assert_eq!(running["BulkPublishStatus"], "IN_PROGRESS");
        assert_eq!(running["BulkPublishCompleteTime"], Value::Null);
        assert_eq!(publish(&world, 1000), Err(Code::DuplicateRequest));
        while world.service.go_on(at(2000)).unwrap() {}
        let done = details(&world);
        assert_eq!(done["BulkPublishStatus"], "SUCCEEDED");
        assert_eq!(
            (
                &done["BulkPublishStartTime"],
                &done["BulkPublishCompleteTime"]
            ),
            (&json!(1.0), &json!(2.0))
        );
        let lines = world.events();
        assert_eq!(lines.len(), 1);
        let record = &lines[0]["record"];
        assert_eq!(
            (&record["syncCount"], &record["operation"]),
            (&json!(2), &json!("replace"))
        );
        assert_eq!(record["kinesisSyncRecords"].as_array().unwrap().len(), 1);
        assert_eq!(
            publish(&world, 2000 + DAY_MILLIS - 1),
            Err(Code::AlreadyStreamed)
        );
        assert!(publish(&world, 2000 + DAY_MILLIS).is_ok());
    }

    #[test]
    fn what_was_cut_short_goes_on_where_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let pool: PoolId = "us-east-1:ab".parse().unwrap();
        let count = PAGE + 1;
        let service = Service::new(Storage::open(&path).unwrap());
        service.add_identity_pool(&pool, "p", at(0)).unwrap();
        let storage = service.storage();
        let started: Result<(), StorageError> = storage.write(|tx| {
            for user in 0..count {
                let identity = format!("us-east-1:{user}").parse().unwrap();
                let name = "settings".parse().unwrap();
                let dataset = tx.insert_dataset(&pool, &identity, &name, at(0))?;
                tx.update_dataset(&StoredDataset {
                    is_deleted: false,
                    ..dataset
                })?;
            }
            tx.put_bulk_publish(&StoredPublish {
                pool: pool.clone(),
                stream: "s".to_owned(),
                after: 0,
            })
        });
        started.unwrap();
        assert!(service.go_on(at(1)).unwrap());
        drop(service);
        let service = Service::new(Storage::open(&path).unwrap());
        while service.go_on(at(2)).unwrap() {}
        let lines = std::fs::read_to_string(Deliveries::beside(&path)).unwrap();
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let lines: Vec<Value> = lines.collect();
        let ids: Vec<_> = lines.iter().map(|line| line["id"].as_i64()).collect();
        assert_eq!(ids, (1..=count).map(Some).collect::<Vec<_>>());
        let read = |tx: &Tx<'_>| last_publish(tx, &pool);
        let ended = service.storage().read(read).unwrap();
        assert_eq!(
            ended.bulk_publish_status,
            Some(BulkPublishStatus::Succeeded)
        );
    }

    #[test]
    fn a_stream_that_cannot_be_written_fails_it() {
        let world = World::with_events();
        enable(&world);
        publish(&world, 0).unwrap();
        assert!(world.service.publish_more(false, at(1)).unwrap());
        let failed = details(&world);
        assert_eq!(failed["BulkPublishStatus"], "FAILED");
        assert_eq!(failed["FailureMessage"], "the stream cannot be written");
        assert!(publish(&world, 2).is_ok());
    }
}
