//! What is set on a pool as a whole: JSON documents, one of a kind a pool.
//!
//! Invariant: a document reads as what it was written from; one that is not there is its type's
//! default.

use rusqlite::OptionalExtension;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire::bulk_publish::BulkPublishDetails;
use crate::wire::configuration::IdentityPoolOptions;
use crate::wire::events::CognitoEvents;
use crate::wire::identity_pools::PoolOptions;
use crate::wire::names::PoolId;

use super::{StorageError, Tx};

/// A type that is kept with pools.
pub(in super::super) trait Document: Serialize + DeserializeOwned {
    const KIND: &'static str;
}

impl Document for IdentityPoolOptions {
    const KIND: &'static str = "configuration";
}

impl Document for CognitoEvents {
    const KIND: &'static str = "events";
}

impl Document for BulkPublishDetails {
    const KIND: &'static str = "bulk publish";
}

impl Document for PoolOptions {
    const KIND: &'static str = "identity pool";
}

impl Tx<'_> {
    pub(in super::super) fn document<T: Document>(
        &self,
        pool: &PoolId,
    ) -> Result<Option<T>, StorageError> {
        let json: Option<String> = self
            .0
            .prepare_cached("SELECT json FROM pool_documents WHERE pool = ?1 AND kind = ?2")?
            .query_row([pool.as_str(), T::KIND], |row| row.get(0))
            .optional()?;
        json.map(|json| serde_json::from_str(&json))
            .transpose()
            .map_err(|error| StorageError::Damaged(error.to_string()))
    }

    /// Writes a document over the one of its kind.
    pub(in super::super) fn put_document<T: Document>(
        &self,
        pool: &PoolId,
        document: &T,
    ) -> Result<(), StorageError> {
        let json = serde_json::to_string(document)
            .map_err(|error| StorageError::Damaged(error.to_string()))?;
        self.0
            .prepare_cached(
                "INSERT INTO pool_documents VALUES (?1, ?2, ?3) \
                 ON CONFLICT (pool, kind) DO UPDATE SET json = excluded.json",
            )?
            .execute([pool.as_str(), T::KIND, &json])?;
        Ok(())
    }
}
