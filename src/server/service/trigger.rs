//! The SyncTrigger event: a function sees a user's update with all of the dataset, and decides
//! what of it is written.
//!
//! Invariant: what it decides is written onto the very state it saw. No lock is held while it
//! thinks; if somebody wrote meanwhile, it is asked again.
//!
//! <https://docs.aws.amazon.com/cognito/latest/developerguide/cognito-events.html>

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Deserialize as DeserializeDerive, Serialize};
use serde_json::value::RawValue;
use url::Url;

use crate::wire::events::{CognitoEvents, SYNC_TRIGGER};
use crate::wire::fault::{Code, Fault};
use crate::wire::names::{DatasetName, IdentityId, MAX_VALUE_CHARS, PoolId, RecordKey, Region};
use crate::wire::records::{PatchOp, RecordPatch, UpdateRecords};
use crate::wire::text::Text;

use super::super::lambda;
use super::super::storage::{StorageError, Tx};
use super::configuration::local_url;
use super::{Caller, Service};

/// The version of the event's form.
const VERSION: i64 = 2;

/// Records read at a time.
const PAGE: usize = 1024;

/// What a function is shown of a dataset.
pub(super) struct Snapshot {
    /// The dataset's own counter, which every write raises; 0 before the first.
    pub(super) count: i64,
    /// Every key with its count, and its value unless it is a tombstone.
    records: BTreeMap<RecordKey, (i64, Option<Text>)>,
}

/// An event as it is sent; what comes back has its form.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    version: i64,
    event_type: &'static str,
    region: &'a str,
    identity_pool_id: &'a PoolId,
    identity_id: &'a IdentityId,
    dataset_name: &'a DatasetName,
    dataset_records: Box<RawValue>,
}

#[derive(DeserializeDerive)]
#[serde(rename_all = "camelCase")]
struct Answer {
    version: Option<i64>,
    event_type: Option<String>,
    region: Option<String>,
    identity_pool_id: Option<String>,
    identity_id: Option<String>,
    dataset_name: Option<String>,
    dataset_records: EventRecords,
}

/// The fields of one record in an event. No value is null: removed, or never there.
#[derive(Serialize, DeserializeDerive)]
#[serde(rename_all = "camelCase")]
struct EventRecord {
    old_value: Option<Text>,
    new_value: Option<Text>,
    op: Option<PatchOp>,
}

/// An answer's records; null is a removal too. Keys may hold unpaired surrogates, which no map of
/// JSON's own has. Of a key that is there twice the last counts, as in any JSON.
struct EventRecords(BTreeMap<Text, Option<EventRecord>>);

impl<'de> Deserialize<'de> for EventRecords {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Records;

        impl<'de> Visitor<'de> for Records {
            type Value = EventRecords;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of records")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EventRecords, A::Error> {
                let mut records = BTreeMap::new();
                while let Some((key, record)) = map.next_entry()? {
                    records.insert(key, record);
                }
                Ok(EventRecords(records))
            }

            fn visit_unit<E: de::Error>(self) -> Result<EventRecords, E> {
                Ok(EventRecords(BTreeMap::new()))
            }
        }

        deserializer.deserialize_any(Records)
    }
}

impl Service {
    /// Returns the function that is called for a caller's update. There is none for a developer.
    pub(super) fn function(&self, caller: &Caller, pool: &PoolId) -> Result<Option<Url>, Fault> {
        if let Caller::Developer { .. } = caller {
            return Ok(None);
        }
        let events: Option<CognitoEvents> = self.storage.read(|tx| tx.document(pool))?;
        let handler = events.and_then(|mut events| events.events.remove(SYNC_TRIGGER));
        match handler {
            Some(handler) => Ok(local_url(&handler)),
            None => Ok(self.sync_trigger.clone()),
        }
    }
}

impl Snapshot {
    /// Reads a dataset, which need not exist.
    pub(super) fn read(tx: &Tx<'_>, call: &UpdateRecords) -> Result<Self, StorageError> {
        let mut snapshot = Self {
            count: 0,
            records: BTreeMap::new(),
        };
        let Some(dataset) = tx.dataset(&call.pool, &call.identity, &call.dataset)? else {
            return Ok(snapshot);
        };
        snapshot.count = dataset.sync_count;
        let mut after = Vec::new();
        loop {
            let page = tx.records(dataset.id, 0, &after, PAGE as i64)?;
            let is_last = page.len() < PAGE;
            if let Some(last) = page.last() {
                after = last.key.text().as_bytes().to_vec();
            }
            let records = page.into_iter();
            let records = records.map(|record| (record.key, (record.sync_count, record.value)));
            snapshot.records.extend(records);
            if is_last {
                return Ok(snapshot);
            }
        }
    }

    /// Asks a function, and returns the patches it leaves, changes and adds.
    pub(super) fn ask(
        &self,
        function: &Url,
        call: &UpdateRecords,
        region: &Region,
    ) -> Result<Vec<RecordPatch>, Fault> {
        let event = self
            .event(call, region)
            .map_err(|error| Fault::new(Code::InternalError, error.to_string()))?;
        let answer = lambda::invoke(function, &event)?;
        let answer: Answer = serde_json::from_slice(&answer)
            .map_err(|_| lambda::failed("the function's answer is not the event's form"))?;
        if !answer.keeps(call, region) {
            return Err(lambda::failed(
                "the function changed a field other than datasetRecords",
            ));
        }
        let mut patches = Vec::new();
        for (key, record) in answer.dataset_records.0 {
            let key = RecordKey::new(key)
                .map_err(|_| lambda::failed("the function added a key that cannot be"))?;
            patches.extend(self.patch(call, key, record)?);
        }
        Ok(patches)
    }

    /// Writes the event: all live records, and what becomes of them.
    fn event(&self, call: &UpdateRecords, region: &Region) -> serde_json::Result<Vec<u8>> {
        let mut records: BTreeMap<&RecordKey, EventRecord> = BTreeMap::new();
        for (key, (_, value)) in &self.records {
            if value.is_some() {
                let unchanged = EventRecord {
                    old_value: value.clone(),
                    new_value: value.clone(),
                    op: Some(PatchOp::Replace),
                };
                records.insert(key, unchanged);
            }
        }
        for patch in &call.body.record_patches {
            let old = self.records.get(&patch.key);
            let record = EventRecord {
                old_value: old.and_then(|(_, value)| value.clone()),
                new_value: match patch.op {
                    PatchOp::Replace => patch.value.clone(),
                    PatchOp::Remove => None,
                },
                op: Some(patch.op),
            };
            records.insert(&patch.key, record);
        }
        let mut json = String::new();
        for (key, record) in records {
            json.push(if json.is_empty() { '{' } else { ',' });
            json.push_str(&serde_json::to_string(key)?);
            json.push(':');
            json.push_str(&serde_json::to_string(&record)?);
        }
        json.push_str(if json.is_empty() { "{}" } else { "}" });
        serde_json::to_vec(&Event {
            version: VERSION,
            event_type: SYNC_TRIGGER,
            region: region.as_str(),
            identity_pool_id: &call.pool,
            identity_id: &call.identity,
            dataset_name: &call.dataset,
            dataset_records: RawValue::from_string(json)?,
        })
    }

    /// Returns what is to be done about one record of an answer: nothing, if it is not the user's
    /// and stays as it is.
    fn patch(
        &self,
        call: &UpdateRecords,
        key: RecordKey,
        record: Option<EventRecord>,
    ) -> Result<Option<RecordPatch>, Fault> {
        let value = record
            .filter(|record| record.op != Some(PatchOp::Remove))
            .and_then(|record| record.new_value);
        if value
            .as_ref()
            .is_some_and(|value| value.chars() > MAX_VALUE_CHARS)
        {
            return Err(lambda::failed("the function made a value too long"));
        }
        let mut sent = call.body.record_patches.iter();
        let sent = sent.find(|patch| patch.key == key);
        let known = self.records.get(&key);
        let current = known.and_then(|(_, value)| value.as_ref());
        if sent.is_none() && current == value.as_ref() {
            return Ok(None);
        }
        Ok(Some(RecordPatch {
            op: match value {
                Some(_) => PatchOp::Replace,
                None => PatchOp::Remove,
            },
            sync_count: match sent {
                Some(sent) => sent.sync_count,
                None => known.map_or(0, |(count, _)| *count),
            },
            device_last_modified_date: sent.and_then(|sent| sent.device_last_modified_date),
            key,
            value,
        }))
    }
}

impl Answer {
    /// Returns whether the fields that are not the function's are as they were sent.
    fn keeps(&self, call: &UpdateRecords, region: &Region) -> bool {
        let same =
            |field: &Option<String>, sent: &str| field.as_deref().is_none_or(|it| it == sent);
        self.version.is_none_or(|version| version == VERSION)
            && same(&self.event_type, SYNC_TRIGGER)
            && same(&self.region, region.as_str())
            && same(&self.identity_pool_id, call.pool.as_str())
            && same(&self.identity_id, call.identity.as_str())
            && same(&self.dataset_name, call.dataset.as_str())
    }
}

#[cfg(test)]
mod tests;
