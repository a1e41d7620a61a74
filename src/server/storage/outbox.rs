//! What is to go out of the service, kept until it has gone, and the bulk publishes under way.
//!
//! Invariant: ids rise in the order of the changes and are never used again.

use rusqlite::{OptionalExtension, params};

use crate::wire::names::PoolId;

use super::{StorageError, Tx, stored};

/// A bulk publish under way.
pub(in super::super) struct StoredPublish {
    pub pool: PoolId,
    pub stream: String,
    /// The row of the last dataset that was published; 0 before the first.
    pub after: i64,
}

impl Tx<'_> {
    /// Keeps a JSON object until it has gone out.
    pub(in super::super) fn post(&self, json: &str) -> Result<(), StorageError> {
        self.0
            .prepare_cached("INSERT INTO outbox (json) VALUES (?1)")?
            .execute([json])?;
        Ok(())
    }

    /// Lists the first of what has to go out, with ids.
    pub(in super::super) fn outbox(&self, limit: i64) -> Result<Vec<(i64, String)>, StorageError> {
        let mut statement = self
            .0
            .prepare_cached("SELECT id, json FROM outbox ORDER BY id LIMIT ?1")?;
        let rows = statement.query_map([limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Forgets what has gone out, up to an id.
    pub(in super::super) fn clear_outbox(&self, last: i64) -> Result<(), StorageError> {
        self.0
            .prepare_cached("DELETE FROM outbox WHERE id <= ?1")?
            .execute([last])?;
        Ok(())
    }

    /// Returns one of the bulk publishes under way.
    pub(in super::super) fn bulk_publish(&self) -> Result<Option<StoredPublish>, StorageError> {
        let row = self
            .0
            .prepare_cached("SELECT pool, stream, after FROM bulk_publishes LIMIT 1")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        row.map(|(pool, stream, after)| {
            Ok(StoredPublish {
                pool: stored(pool)?,
                stream,
                after,
            })
        })
        .transpose()
    }

    /// Begins a bulk publish, or says how far it is.
    pub(in super::super) fn put_bulk_publish(
        &self,
        publish: &StoredPublish,
    ) -> Result<(), StorageError> {
        self.0
            .prepare_cached(
                "INSERT INTO bulk_publishes VALUES (?1, ?2, ?3) \
                 ON CONFLICT (pool) DO UPDATE SET after = excluded.after",
            )?
            .execute(params![
                publish.pool.as_str(),
                publish.stream,
                publish.after
            ])?;
        Ok(())
    }

    pub(in super::super) fn end_bulk_publish(&self, pool: &PoolId) -> Result<(), StorageError> {
        self.0
            .prepare_cached("DELETE FROM bulk_publishes WHERE pool = ?1")?
            .execute([pool.as_str()])?;
        Ok(())
    }
}
