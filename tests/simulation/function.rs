//! A function of the service: what it makes of updates, as a SyncTrigger does.

use std::sync::{Arc, Mutex};

use cognitofs::api::{Client, Incoming, Surroundings};
use cognitofs::wire::records::{
    ListRecords, PatchOp, Record, RecordPatch, Records, UpdateRecords, UpdateRecordsBody,
};
use serde_json::Value;

use super::operation::{TIMEOUT, Told};
use super::seeded::Seeded;
use super::source::place;

/// Keeps account of what is deleted.
#[derive(Debug)]
pub struct Witness {
    pub seeded: Arc<Seeded>,
    /// A client whose calls meet nothing.
    pub client: Client,
    pub told: Arc<Mutex<Told>>,
}

impl Witness {
    pub async fn see_deletion(&self, path: &str) {
        let Some(of) = dataset_of(path) else {
            return;
        };
        let (pool, identity, dataset) = place(of);
        let list = ListRecords {
            pool,
            identity,
            dataset,
            last_sync_count: Some(0),
            next_token: None,
            max_results: None,
            sync_session_token: None,
        };
        let deadline = self.seeded.now() + TIMEOUT;
        let listed: Records = self.client.call(&list, deadline).await.unwrap();
        let mut told = self.told.lock().unwrap();
        for record in &listed.records {
            if let Some(value) = record.value.as_ref().and_then(|value| value.as_str()) {
                told.ledger.take(value, false);
            }
        }
    }
}

/// Returns the number of the dataset that a path is of.
fn dataset_of(path: &str) -> Option<usize> {
    let number = path.rsplit("/datasets/d").next()?.chars().next()?;
    Some(number.to_digit(10)? as usize)
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Function {
    pub seeded: Arc<Seeded>,
    /// A client whose calls meet nothing: what it does follows the update at once.
    pub client: Client,
    pub told: Arc<Mutex<Told>>,
    /// How many of a hundred updates it changes.
    pub percent: u64,
}

impl Function {
    /// Changes one of the values that were set, and the answer with it.
    pub async fn change(&self, path: &str, mut answer: Incoming) -> Incoming {
        if self.seeded.below(100) >= self.percent {
            return answer;
        }
        let of = dataset_of(path);
        let Ok(mut body) = serde_json::from_slice::<Value>(&answer.body) else {
            return answer;
        };
        let (Some(of), Some(records)) = (of, body["Records"].as_array_mut()) else {
            return answer;
        };
        let mut set = records.iter_mut();
        if let Some(record) = set.find(|record| record["Value"].is_string())
            && let Some(changed) = self.rewrite(of, record).await
        {
            *record = serde_json::to_value(changed).unwrap();
            answer.body = serde_json::to_vec(&body).unwrap();
        }
        answer
    }

    async fn rewrite(&self, of: usize, record: &Value) -> Option<Record> {
        let record: Record = serde_json::from_value(record.clone()).ok()?;
        let old = record.value.as_ref()?.as_str()?.to_owned();
        let replaces = self.seeded.below(4) == 0;
        let value = {
            let mut told = self.told.lock().unwrap();
            let token = told.token('t');
            if replaces {
                told.ledger.take(&old, false);
                token
            } else {
                old.clone() + &token
            }
        };
        let patch = RecordPatch {
            op: PatchOp::Replace,
            key: record.key.clone(),
            value: Some(value.as_str().into()),
            sync_count: record.sync_count,
            device_last_modified_date: record.device_last_modified_date,
        };
        let deadline = self.seeded.now() + TIMEOUT;
        let (pool, identity, dataset) = place(of);
        let list = ListRecords {
            pool: pool.clone(),
            identity: identity.clone(),
            dataset: dataset.clone(),
            last_sync_count: Some(record.sync_count),
            next_token: None,
            max_results: None,
            sync_session_token: None,
        };
        let listed: Records = self.client.call(&list, deadline).await.ok()?;
        let update = UpdateRecords {
            pool,
            identity,
            dataset,
            client_context: None,
            body: UpdateRecordsBody {
                device_id: None,
                record_patches: vec![patch],
                sync_session_token: listed.sync_session_token,
            },
        };
        let answer = self.client.call(&update, deadline).await.ok()?;
        let changed = answer.records.into_iter().next()?;
        let mut told = self.told.lock().unwrap();
        let age = self.seeded.age().as_millis();
        told.trace
            .push(format!("{age}: function: d{of} {old} -> {value}"));
        Some(changed)
    }
}
