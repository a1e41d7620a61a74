//! Datasets, their counters and what they use.
//!
//! Invariant: a dataset's counter never falls, not even when the dataset is deleted.

use rusqlite::{OptionalExtension, Row, params};

use crate::wire::names::{DatasetName, IdentityId, PoolId};
use crate::wire::timestamp::Timestamp;

use super::{StorageError, Tx, stored};

/// A dataset that exists or once did.
#[derive(Clone, Debug)]
pub(in super::super) struct StoredDataset {
    /// The row; records hang on it.
    pub id: i64,
    pub name: DatasetName,
    pub is_deleted: bool,
    pub sync_count: i64,
    /// The count its last deletion had, 0 if it was never deleted.
    pub deleted_at_count: i64,
    pub created: Timestamp,
    pub modified: Timestamp,
    pub modified_by: String,
    /// Without tombstones.
    pub num_records: i64,
    /// Bytes of keys and values, without tombstones.
    pub data_storage: i64,
}

/// What the datasets of an identity or a pool amount to.
pub(in super::super) struct Usage {
    pub datasets: i64,
    /// Bytes.
    pub data_storage: i64,
    /// The last write or deletion.
    pub modified: Option<Timestamp>,
}

const COLUMNS: &str = "id, name, is_deleted, sync_count, deleted_at_count, created, modified, \
                       modified_by, num_records, data_storage";

fn read(row: &Row<'_>) -> Result<StoredDataset, StorageError> {
    Ok(StoredDataset {
        id: row.get(0)?,
        name: stored(row.get(1)?)?,
        is_deleted: row.get(2)?,
        sync_count: row.get(3)?,
        deleted_at_count: row.get(4)?,
        created: Timestamp::from_millis(row.get(5)?),
        modified: Timestamp::from_millis(row.get(6)?),
        modified_by: row.get(7)?,
        num_records: row.get(8)?,
        data_storage: row.get(9)?,
    })
}

fn read_usage(row: &Row<'_>) -> rusqlite::Result<Usage> {
    let modified: Option<i64> = row.get(2)?;
    Ok(Usage {
        datasets: row.get(0)?,
        data_storage: row.get(1)?,
        modified: modified.map(Timestamp::from_millis),
    })
}

impl Tx<'_> {
    /// Returns a dataset, deleted ones included.
    pub(in super::super) fn dataset(
        &self,
        pool: &PoolId,
        identity: &IdentityId,
        name: &DatasetName,
    ) -> Result<Option<StoredDataset>, StorageError> {
        self.0
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM datasets WHERE pool = ?1 AND identity = ?2 AND name = ?3"
            ))?
            .query_row([pool.as_str(), identity.as_str(), name.as_str()], |row| {
                Ok(read(row))
            })
            .optional()?
            .transpose()
    }

    /// Makes a dataset's row, as if it had been deleted before it was ever written.
    pub(in super::super) fn insert_dataset(
        &self,
        pool: &PoolId,
        identity: &IdentityId,
        name: &DatasetName,
        now: Timestamp,
    ) -> Result<StoredDataset, StorageError> {
        self.0
            .prepare_cached(
                "INSERT INTO datasets (pool, identity, name, is_deleted, sync_count, \
                 deleted_at_count, created, modified, modified_by, num_records, data_storage) \
                 VALUES (?1, ?2, ?3, 1, 0, 0, ?4, ?4, '', 0, 0)",
            )?
            .execute(params![
                pool.as_str(),
                identity.as_str(),
                name.as_str(),
                now.as_millis()
            ])?;
        Ok(StoredDataset {
            id: self.0.last_insert_rowid(),
            name: name.clone(),
            is_deleted: true,
            sync_count: 0,
            deleted_at_count: 0,
            created: now,
            modified: now,
            modified_by: String::new(),
            num_records: 0,
            data_storage: 0,
        })
    }

    pub(in super::super) fn update_dataset(
        &self,
        dataset: &StoredDataset,
    ) -> Result<(), StorageError> {
        self.0
            .prepare_cached(
                "UPDATE datasets SET is_deleted = ?2, sync_count = ?3, deleted_at_count = ?4, \
                 created = ?5, modified = ?6, modified_by = ?7, num_records = ?8, \
                 data_storage = ?9 WHERE id = ?1",
            )?
            .execute(params![
                dataset.id,
                dataset.is_deleted,
                dataset.sync_count,
                dataset.deleted_at_count,
                dataset.created.as_millis(),
                dataset.modified.as_millis(),
                dataset.modified_by,
                dataset.num_records,
                dataset.data_storage
            ])?;
        Ok(())
    }

    /// Lists the identity's datasets behind `after`.
    pub(in super::super) fn datasets(
        &self,
        pool: &PoolId,
        identity: &IdentityId,
        after: &str,
        limit: i64,
    ) -> Result<Vec<StoredDataset>, StorageError> {
        let mut statement = self.0.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM datasets WHERE pool = ?1 AND identity = ?2 AND name > ?3 \
             AND NOT is_deleted ORDER BY name LIMIT ?4"
        ))?;
        let rows = params![pool.as_str(), identity.as_str(), after, limit];
        let rows = statement.query_and_then(rows, read)?;
        rows.collect()
    }

    /// Lists datasets of any identity of a pool whose rows come behind `after`.
    pub(in super::super) fn pool_datasets(
        &self,
        pool: &PoolId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<(IdentityId, StoredDataset)>, StorageError> {
        let mut statement = self.0.prepare_cached(&format!(
            "SELECT {COLUMNS}, identity FROM datasets WHERE pool = ?1 AND id > ?2 \
             AND NOT is_deleted ORDER BY id LIMIT ?3"
        ))?;
        let rows = statement.query_and_then(params![pool.as_str(), after, limit], |row| {
            Ok((stored(row.get(10)?)?, read(row)?))
        })?;
        rows.collect()
    }

    /// Sums up an identity's datasets.
    pub(in super::super) fn identity_usage(
        &self,
        pool: &PoolId,
        identity: &IdentityId,
    ) -> Result<Usage, StorageError> {
        Ok(self
            .0
            .prepare_cached(
                "SELECT count(*) FILTER (WHERE NOT is_deleted), \
                 coalesce(sum(data_storage), 0), max(modified) \
                 FROM datasets WHERE pool = ?1 AND identity = ?2",
            )?
            .query_row([pool.as_str(), identity.as_str()], read_usage)?)
    }

    /// Sums up a pool's datasets.
    pub(in super::super) fn pool_usage(&self, pool: &PoolId) -> Result<Usage, StorageError> {
        Ok(self
            .0
            .prepare_cached(
                "SELECT count(*) FILTER (WHERE NOT is_deleted), \
                 coalesce(sum(data_storage), 0), max(modified) FROM datasets WHERE pool = ?1",
            )?
            .query_row([pool.as_str()], read_usage)?)
    }
}
