//! ListRecords and UpdateRecords.
//!
//! Invariant: an update happens as a whole or not at all; it raises the dataset's count by one, and
//! every record it changes gets that count.

use std::collections::HashSet;

use crate::wire::fault::{Code, Fault};
use crate::wire::names::{DeviceId, RecordKey};
use crate::wire::records::{
    ListRecords, PatchOp, Record, RecordPatch, Records, UpdateRecords, UpdatedRecords,
};
use crate::wire::timestamp::Timestamp;

use super::super::storage::{RecordHead, StoredDataset, Tx};
use super::changes::Change;
use super::datasets::is_here;
use super::paging::{MAX_RESULTS, cut, last_key, page_size};
use super::tokens::{Bound, Nonce};
use super::trigger::Snapshot;
use super::{Caller, Service, not_found};

/// Datasets of an identity.
const MAX_DATASETS: i64 = 20;
/// Records of a dataset, tombstones not counted.
const MAX_RECORDS: i64 = 1024;
/// Bytes of keys and values of a dataset, tombstones not counted.
const MAX_DATA_STORAGE: i64 = 1024 * 1024;
/// How often a function is asked about one call.
const MAX_ASKED: usize = 3;

impl Service {
    /// Lists the records changed after a count, tombstones included. A dataset that is not there
    /// is no error: it is empty, and the session token of the answer is what makes it.
    pub(super) fn list_records(
        &self,
        call: &ListRecords,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<Records, Fault> {
        caller.must_own(&call.pool, &call.identity)?;
        let size = page_size(call.max_results, MAX_RESULTS)?;
        let after_key = last_key(call.next_token.as_deref())?;
        let after_count = call.last_sync_count.unwrap_or(0);
        if after_count < 0 {
            return Err(no_such_count(after_count));
        }
        let bound = Bound(&call.pool, &call.identity, &call.dataset);
        self.storage.read(|tx| {
            let sync_session_token = match &call.sync_session_token {
                Some(token) => {
                    let nonce = self.tokens.check(token, bound, now)?;
                    nonce.must_be_unused(tx)?;
                    token.clone()
                }
                None => self.tokens.issue(bound, now)?,
            };
            let mut answer = Records {
                sync_session_token: Some(sync_session_token),
                ..Records::default()
            };
            let dataset = match is_here(caller, &call.pool) {
                true => tx.dataset(&call.pool, &call.identity, &call.dataset)?,
                false => None,
            };
            let Some(dataset) = dataset else {
                return Ok(answer);
            };
            // A client that begins at 0 has nothing that a deletion could make stale.
            answer.dataset_deleted_after_requested_sync_count =
                after_count > 0 && dataset.deleted_at_count > after_count;
            if dataset.is_deleted {
                return Ok(answer);
            }
            if after_count > dataset.sync_count {
                return Err(no_such_count(after_count));
            }
            let mut records = tx.records(dataset.id, after_count, &after_key, size + 1)?;
            answer.next_token = cut(&mut records, size, |record| record.key.text().as_bytes());
            answer.count = records.len() as i64;
            answer.records = records;
            answer.dataset_exists = true;
            answer.dataset_sync_count = dataset.sync_count;
            answer.last_modified_by = Some(dataset.modified_by);
            Ok(answer)
        })
    }

    /// Changes records; makes the dataset if it is not there. A call without patches changes
    /// nothing and leaves the token unused.
    pub(super) fn update_records(
        &self,
        call: &UpdateRecords,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<UpdatedRecords, Fault> {
        caller.must_own(&call.pool, &call.identity)?;
        let body = &call.body;
        check_patches(&body.record_patches)?;
        let token = body.sync_session_token.as_deref().unwrap_or_default();
        let bound = Bound(&call.pool, &call.identity, &call.dataset);
        let nonce = self.tokens.check(token, bound, now)?;
        let write = Write {
            call,
            caller,
            device: body.device_id.as_ref().map(DeviceId::as_str),
            nonce,
            now,
        };
        let function = match body.record_patches.is_empty() {
            true => None,
            false => self.function(caller, &call.pool)?,
        };
        let Some(function) = function else {
            return self.write_records(&write, &body.record_patches, None);
        };
        for _ in 0..MAX_ASKED {
            let snapshot = self.storage.read(|tx| {
                write.must_fit(tx)?;
                Ok::<_, Fault>(Snapshot::read(tx, call)?)
            })?;
            let patches = snapshot.ask(&function, call, caller.region())?;
            match self.write_records(&write, &patches, Some(snapshot.count)) {
                Err(fault) if fault.code == Code::ConcurrentModification => {}
                written => return written,
            }
        }
        Err(Fault::new(
            Code::TooManyRequests,
            "the dataset changed whenever the function was asked",
        ))
    }

    /// Writes patches, if the dataset's counter is the expected one.
    fn write_records(
        &self,
        write: &Write<'_>,
        patches: &[RecordPatch],
        expected: Option<i64>,
    ) -> Result<UpdatedRecords, Fault> {
        let Write {
            call, device, now, ..
        } = *write;
        let (updated, is_told) = self.storage.write(|tx| {
            write.may_write(tx)?;
            if patches.is_empty() {
                return Ok((UpdatedRecords::default(), false));
            }
            write.nonce.use_up(tx, now)?;
            let (mut dataset, count_before) = open_dataset(tx, call, now)?;
            if expected.is_some_and(|expected| expected != dataset.sync_count) {
                return Err(Fault::new(Code::ConcurrentModification, "it changed"));
            }
            dataset.sync_count += 1;
            dataset.modified = now;
            dataset.modified_by = device.unwrap_or(write.caller.name()).to_owned();
            let records = patches
                .iter()
                .map(|patch| apply(tx, &mut dataset, count_before, patch))
                .collect::<Result<Vec<_>, Fault>>()?;
            check_limits(&dataset)?;
            tx.update_dataset(&dataset)?;
            let change = Change {
                pool: &call.pool,
                identity: &call.identity,
                dataset: &dataset,
                device,
                operation: PatchOp::Replace,
                records: &records,
            };
            let is_told = self.post(tx, &change)?;
            Ok::<_, Fault>((UpdatedRecords { records }, is_told))
        })?;
        if is_told {
            self.deliver();
        }
        Ok(updated)
    }
}

/// A call that was found well formed, and who makes it.
struct Write<'a> {
    call: &'a UpdateRecords,
    caller: &'a Caller,
    device: Option<&'a str>,
    nonce: Nonce,
    now: Timestamp,
}

impl Write<'_> {
    /// Refuses a used token and an identity that is not there.
    fn may_write(&self, tx: &Tx<'_>) -> Result<(), Fault> {
        let (pool, identity) = (&self.call.pool, &self.call.identity);
        self.nonce.must_be_unused(tx)?;
        match is_here(self.caller, pool) && tx.identity_exists(pool, identity)? {
            true => Ok(()),
            false => Err(not_found("Identity", identity.as_str())),
        }
    }

    /// Refuses what would be refused anyway, before a function is asked about it.
    fn must_fit(&self, tx: &Tx<'_>) -> Result<(), Fault> {
        self.may_write(tx)?;
        let call = self.call;
        let dataset = tx.dataset(&call.pool, &call.identity, &call.dataset)?;
        let dataset = dataset.filter(|dataset| !dataset.is_deleted);
        for patch in &call.body.record_patches {
            let head = match &dataset {
                Some(dataset) => tx.record_head(dataset.id, &patch.key)?,
                None => None,
            };
            let count = dataset.as_ref().map_or(0, |dataset| dataset.sync_count);
            must_be_current(head, count, patch)?;
        }
        Ok(())
    }
}

/// Refuses what no dataset could take.
fn check_patches(patches: &[RecordPatch]) -> Result<(), Fault> {
    let mut keys = HashSet::new();
    for patch in patches {
        let wrong = if !keys.insert(&patch.key) {
            "the same key is in two patches"
        } else if patch.op == PatchOp::Replace && patch.value.is_none() {
            "Value must not be null in a replace"
        } else if patch.sync_count < 0 {
            "SyncCount must be at least 0"
        } else {
            continue;
        };
        return Err(Fault::validation(wrong));
    }
    Ok(())
}

/// Returns the dataset an update goes to, made if need be, and the count it had in the eyes of
/// clients.
fn open_dataset(
    tx: &Tx<'_>,
    call: &UpdateRecords,
    now: Timestamp,
) -> Result<(StoredDataset, i64), Fault> {
    let (pool, identity) = (&call.pool, &call.identity);
    let mut dataset = match tx.dataset(pool, identity, &call.dataset)? {
        Some(dataset) if !dataset.is_deleted => {
            let count = dataset.sync_count;
            return Ok((dataset, count));
        }
        Some(deleted) => deleted,
        None => tx.insert_dataset(pool, identity, &call.dataset, now)?,
    };
    if tx.identity_usage(pool, identity)?.datasets >= MAX_DATASETS {
        return Err(limit("an identity has at most 20 datasets"));
    }
    dataset.is_deleted = false;
    dataset.created = now;
    Ok((dataset, 0))
}

/// Refuses a patch whose count is not the record's.
fn must_be_current(
    head: Option<RecordHead>,
    dataset_count: i64,
    patch: &RecordPatch,
) -> Result<(), Fault> {
    let (current, fits) = match head {
        Some(head) => (head.sync_count, patch.sync_count == head.sync_count),
        None => (0, patch.sync_count <= dataset_count),
    };
    match fits {
        true => Ok(()),
        false => Err(conflict(&patch.key, current, patch.sync_count)),
    }
}

/// Changes one record.
fn apply(
    tx: &Tx<'_>,
    dataset: &mut StoredDataset,
    count_before: i64,
    patch: &RecordPatch,
) -> Result<Record, Fault> {
    let head = tx.record_head(dataset.id, &patch.key)?;
    must_be_current(head, count_before, patch)?;
    let record = Record {
        key: patch.key.clone(),
        value: match patch.op {
            PatchOp::Replace => patch.value.clone(),
            PatchOp::Remove => None,
        },
        sync_count: dataset.sync_count,
        last_modified_date: Some(dataset.modified),
        last_modified_by: Some(dataset.modified_by.clone()),
        device_last_modified_date: patch.device_last_modified_date,
    };
    if let Some(size) = head.and_then(|head| head.size) {
        dataset.num_records -= 1;
        dataset.data_storage -= size;
    }
    if let Some(value) = &record.value {
        dataset.num_records += 1;
        dataset.data_storage += (patch.key.text().as_bytes().len() + value.as_bytes().len()) as i64;
    }
    tx.put_record(dataset.id, &record)?;
    Ok(record)
}

fn check_limits(dataset: &StoredDataset) -> Result<(), Fault> {
    if dataset.num_records > MAX_RECORDS {
        return Err(limit("a dataset has at most 1024 records"));
    }
    if dataset.data_storage > MAX_DATA_STORAGE {
        return Err(limit("a dataset has at most 1048576 bytes"));
    }
    Ok(())
}

fn conflict(key: &RecordKey, server: i64, sent: i64) -> Fault {
    let key = String::from_utf8_lossy(key.text().as_bytes());
    Fault::conflict(&key, server, sent)
}

fn limit(message: &str) -> Fault {
    Fault::new(Code::LimitExceeded, message)
}

fn no_such_count(count: i64) -> Fault {
    Fault::invalid(&format!(
        "No such SyncCount: {count} exists for this Dataset"
    ))
}

#[cfg(test)]
mod tests;
