//! Records and tombstones, and the session tokens that were used to write them.
//!
//! Invariant: a key is in a dataset at most once; a tombstone is a record whose value is NULL.

use rusqlite::{OptionalExtension, Row, params};

use crate::wire::names::RecordKey;
use crate::wire::records::Record;
use crate::wire::text::Text;
use crate::wire::timestamp::Timestamp;

use super::{StorageError, Tx};

/// What must be known of a record before it is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct RecordHead {
    pub sync_count: i64,
    /// Bytes of key and value; None for a tombstone.
    pub size: Option<i64>,
}

fn read(row: &Row<'_>) -> Result<Record, StorageError> {
    let key = RecordKey::new(Text::from_bytes(row.get(0)?))
        .map_err(|error| StorageError::Damaged(error.to_string()))?;
    let value: Option<Vec<u8>> = row.get(1)?;
    let device_modified: Option<i64> = row.get(5)?;
    Ok(Record {
        key,
        value: value.map(Text::from_bytes),
        sync_count: row.get(2)?,
        last_modified_date: Some(Timestamp::from_millis(row.get(3)?)),
        last_modified_by: Some(row.get(4)?),
        device_last_modified_date: device_modified.map(Timestamp::from_millis),
    })
}

impl Tx<'_> {
    pub(in super::super) fn record_head(
        &self,
        dataset: i64,
        key: &RecordKey,
    ) -> Result<Option<RecordHead>, StorageError> {
        Ok(self
            .0
            .prepare_cached(
                "SELECT sync_count, length(key) + length(value) FROM records \
                 WHERE dataset = ?1 AND key = ?2",
            )?
            .query_row(params![dataset, key.text().as_bytes()], |row| {
                Ok(RecordHead {
                    sync_count: row.get(0)?,
                    size: row.get(1)?,
                })
            })
            .optional()?)
    }

    /// Lists the records changed after `after_count`, tombstones included, whose keys come behind
    /// `after_key`.
    pub(in super::super) fn records(
        &self,
        dataset: i64,
        after_count: i64,
        after_key: &[u8],
        limit: i64,
    ) -> Result<Vec<Record>, StorageError> {
        let mut statement = self.0.prepare_cached(
            "SELECT key, value, sync_count, modified, modified_by, device_modified FROM records \
             WHERE dataset = ?1 AND sync_count > ?2 AND key > ?3 ORDER BY key LIMIT ?4",
        )?;
        let rows =
            statement.query_and_then(params![dataset, after_count, after_key, limit], read)?;
        rows.collect()
    }

    /// Writes a record over the one of its key.
    pub(in super::super) fn put_record(
        &self,
        dataset: i64,
        record: &Record,
    ) -> Result<(), StorageError> {
        self.0
            .prepare_cached(
                "INSERT INTO records \
                 (dataset, key, value, sync_count, modified, modified_by, device_modified) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (dataset, key) DO UPDATE SET \
                 value = excluded.value, sync_count = excluded.sync_count, \
                 modified = excluded.modified, modified_by = excluded.modified_by, \
                 device_modified = excluded.device_modified",
            )?
            .execute(params![
                dataset,
                record.key.text().as_bytes(),
                record.value.as_ref().map(Text::as_bytes),
                record.sync_count,
                record.last_modified_date.map(Timestamp::as_millis),
                record.last_modified_by,
                record.device_last_modified_date.map(Timestamp::as_millis)
            ])?;
        Ok(())
    }

    /// Erases a dataset's records, tombstones too.
    pub(in super::super) fn erase_records(&self, dataset: i64) -> Result<(), StorageError> {
        self.0
            .prepare_cached("DELETE FROM records WHERE dataset = ?1")?
            .execute([dataset])?;
        Ok(())
    }

    pub(in super::super) fn is_session_token_used(
        &self,
        nonce: &[u8],
    ) -> Result<bool, StorageError> {
        Ok(self
            .0
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM used_session_tokens WHERE nonce = ?1)")?
            .query_row([nonce], |row| row.get(0))?)
    }

    /// Remembers that a token was used, and forgets those that expired before `forget`.
    pub(in super::super) fn use_session_token(
        &self,
        nonce: &[u8],
        expires: Timestamp,
        forget: Timestamp,
    ) -> Result<(), StorageError> {
        self.0
            .prepare_cached("DELETE FROM used_session_tokens WHERE expires < ?1")?
            .execute([forget.as_millis()])?;
        self.0
            .prepare_cached("INSERT INTO used_session_tokens VALUES (?1, ?2)")?
            .execute(params![nonce, expires.as_millis()])?;
        Ok(())
    }
}
