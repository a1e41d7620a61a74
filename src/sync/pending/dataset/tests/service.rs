//! A dumb model of the service: one dataset.

use std::collections::BTreeMap;

use crate::wire::fault::Fault;
use crate::wire::names::RecordKey;
use crate::wire::records::{PatchOp, Record, RecordPatch};
use crate::wire::text::Text;
use crate::wire::timestamp::Timestamp;

/// A dataset as the service has it.
#[derive(Debug, Default)]
pub(super) struct Service {
    pub(super) records: BTreeMap<RecordKey, Record>,
    pub(super) count: i64,
    /// What a function of the service makes of the next value that is set.
    pub(super) trigger: Option<String>,
    /// What the next update is answered with, and is not made.
    pub(super) refuses: Option<Fault>,
}

/// Returns patches as `key=value` and `-key`.
pub(super) fn said(patches: &[RecordPatch]) -> Vec<String> {
    let say = |patch: &RecordPatch| {
        let key = patch.key.as_str().unwrap();
        match patch.value.as_ref().and_then(Text::as_str) {
            Some(value) => format!("{key}={value}"),
            None => format!("-{key}"),
        }
    };
    patches.iter().map(say).collect()
}

impl Service {
    pub(super) fn apply(&mut self, patches: &[RecordPatch]) -> Vec<Record> {
        self.count += 1;
        let mut answer = Vec::new();
        for patch in patches {
            let made = patch.value.as_ref().and_then(|_| self.trigger.take());
            let value = made.as_deref().map(Text::from).or(patch.value.clone());
            let record = Record {
                key: patch.key.clone(),
                value: value.filter(|_| patch.op == PatchOp::Replace),
                sync_count: self.count,
                last_modified_date: Some(Timestamp::from_millis(self.count)),
                last_modified_by: None,
                device_last_modified_date: patch.device_last_modified_date,
            };
            self.records.insert(patch.key.clone(), record.clone());
            answer.push(record);
        }
        answer
    }

    pub(super) fn update(&mut self, patches: &[RecordPatch]) -> Result<Vec<Record>, Fault> {
        if let Some(fault) = self.refuses.take() {
            return Err(fault);
        }
        for patch in patches {
            let record = self.records.get(&patch.key);
            let count = record.map_or(0, |record| record.sync_count);
            if count != patch.sync_count {
                let key = patch.key.as_str().unwrap();
                return Err(Fault::conflict(key, count, patch.sync_count));
            }
        }
        Ok(self.apply(patches))
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let key = RecordKey::new(name).unwrap();
        self.records.get(&key)?.value.as_ref()?.as_str()
    }
}
