//! A dumb model of the service: one dataset.

use std::collections::BTreeMap;

use cognitofs::sync::Listing;
use cognitofs::wire::fault::{Code, Fault};
use cognitofs::wire::names::RecordKey;
use cognitofs::wire::records::{PatchOp, Record, RecordPatch};
use cognitofs::wire::text::Text;
use cognitofs::wire::timestamp::Timestamp;

#[derive(Clone, Debug, Default)]
pub struct Service {
    pub records: BTreeMap<RecordKey, Record>,
    count: i64,
    tokens: u64,
    used: Vec<String>,
    /// Refuses as many updates.
    pub refuses: u32,
    /// What a function of the service adds to the next values that are set.
    pub trigger: Vec<String>,
}

impl Service {
    pub fn list(&mut self, since: i64) -> Listing {
        self.tokens += 1;
        let newer = self
            .records
            .values()
            .filter(|record| record.sync_count > since);
        Listing {
            since,
            exists: self.count > 0,
            deleted_after: false,
            sync_count: self.count,
            records: newer.cloned().collect(),
            token: Some(format!("t{}", self.tokens)),
        }
    }

    pub fn update(&mut self, patches: &[RecordPatch], token: &str) -> Result<Vec<Record>, Fault> {
        if self.used.iter().any(|used| used == token) {
            return Err(Fault::invalid(
                "SyncSessionToken not valid for these inputs",
            ));
        }
        if self.refuses > 0 {
            self.refuses -= 1;
            return Err(Fault::new(Code::LimitExceeded, "full"));
        }
        for patch in patches {
            let count = self
                .records
                .get(&patch.key)
                .map_or(0, |record| record.sync_count);
            if count != patch.sync_count {
                let key = patch.key.as_str().unwrap_or_default();
                return Err(Fault::conflict(key, count, patch.sync_count));
            }
        }
        self.used.push(token.to_owned());
        let mut patches = patches.to_vec();
        for patch in &mut patches {
            if let Some(value) = patch.value.as_mut().filter(|_| !self.trigger.is_empty()) {
                let added = self.trigger.remove(0);
                *value = value.joined(&added.as_str().into());
            }
        }
        Ok(self.apply(&patches))
    }

    fn apply(&mut self, patches: &[RecordPatch]) -> Vec<Record> {
        self.count += 1;
        let mut answer = Vec::new();
        for patch in patches {
            let record = Record {
                key: patch.key.clone(),
                value: patch.value.clone().filter(|_| patch.op == PatchOp::Replace),
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

    pub fn value(&self, key: &RecordKey) -> Option<&str> {
        self.records.get(key)?.value.as_ref()?.as_str()
    }

    /// Another client's change.
    pub fn change(&mut self, key: &RecordKey, value: Option<&str>, at: i64) {
        let patch = RecordPatch {
            op: if value.is_some() {
                PatchOp::Replace
            } else {
                PatchOp::Remove
            },
            key: key.clone(),
            value: value.map(Text::from),
            sync_count: 0,
            device_last_modified_date: Some(Timestamp::from_millis(at)),
        };
        self.apply(&[patch]);
    }
}
