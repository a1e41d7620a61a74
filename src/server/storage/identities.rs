//! Pools, identities, their logins and their credentials.
//!
//! Invariant: listings are in the order of ids and start behind the given one; a login's token is
//! kept as a hash.

use rusqlite::{OptionalExtension, params};

use crate::wire::identity::{IdentityDescription, IdentityPoolShort};
use crate::wire::names::{IdentityId, PoolId, Region};
use crate::wire::timestamp::Timestamp;

use super::{StorageError, Tx, stored};

/// A user's credentials as they were issued.
pub(in super::super) struct StoredCredentials {
    pub access_key_id: String,
    pub secret_key: String,
    pub session_token: String,
    pub pool: PoolId,
    pub identity: IdentityId,
    pub expires: Timestamp,
}

impl Tx<'_> {
    pub(in super::super) fn has_pools(&self) -> Result<bool, StorageError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM pools)";
        Ok(self.0.query_row(sql, [], |row| row.get(0))?)
    }

    pub(in super::super) fn insert_pool(
        &self,
        pool: &PoolId,
        name: &str,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        self.0
            .prepare_cached("INSERT INTO pools VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![
                pool.as_str(),
                pool.region().as_str(),
                name,
                now.as_millis()
            ])?;
        Ok(())
    }

    pub(in super::super) fn pool_exists(&self, pool: &PoolId) -> Result<bool, StorageError> {
        Ok(self
            .0
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM pools WHERE id = ?1)")?
            .query_row([pool.as_str()], |row| row.get(0))?)
    }

    /// Lists the region's pools behind `after`.
    pub(in super::super) fn pools(
        &self,
        region: &Region,
        after: &str,
        limit: i64,
    ) -> Result<Vec<IdentityPoolShort>, StorageError> {
        let mut statement = self.0.prepare_cached(
            "SELECT id, name FROM pools WHERE region = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
        )?;
        let rows = statement.query_map(params![region.as_str(), after, limit], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        rows.map(|row| {
            let (id, name) = row?;
            Ok(IdentityPoolShort {
                identity_pool_id: stored(id)?,
                identity_pool_name: Some(name),
            })
        })
        .collect()
    }

    pub(in super::super) fn insert_identity(
        &self,
        pool: &PoolId,
        identity: &IdentityId,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        self.0
            .prepare_cached("INSERT INTO identities VALUES (?1, ?2, ?3, ?3)")?
            .execute(params![pool.as_str(), identity.as_str(), now.as_millis()])?;
        Ok(())
    }

    pub(in super::super) fn identity_exists(
        &self,
        pool: &PoolId,
        identity: &IdentityId,
    ) -> Result<bool, StorageError> {
        Ok(self
            .0
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM identities WHERE pool = ?1 AND id = ?2)")?
            .query_row([pool.as_str(), identity.as_str()], |row| row.get(0))?)
    }

    /// Returns the pool an identity lies in, and the identity.
    pub(in super::super) fn identity(
        &self,
        identity: &IdentityId,
    ) -> Result<Option<(PoolId, IdentityDescription)>, StorageError> {
        let row = self
            .0
            .prepare_cached("SELECT pool, created, modified FROM identities WHERE id = ?1")?
            .query_row([identity.as_str()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        let Some((pool, created, modified)) = row else {
            return Ok(None);
        };
        let description = self.describe(identity.clone(), created, modified)?;
        Ok(Some((stored(pool)?, description)))
    }

    /// Lists the pool's identities behind `after`.
    pub(in super::super) fn identities(
        &self,
        pool: &PoolId,
        after: &str,
        limit: i64,
    ) -> Result<Vec<IdentityDescription>, StorageError> {
        let mut statement = self.0.prepare_cached(
            "SELECT id, created, modified FROM identities \
             WHERE pool = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
        )?;
        let rows = statement.query_map(params![pool.as_str(), after, limit], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
        rows.map(|row| {
            let (id, created, modified) = row?;
            self.describe(stored(id)?, created, modified)
        })
        .collect()
    }

    fn describe(
        &self,
        identity: IdentityId,
        created: i64,
        modified: i64,
    ) -> Result<IdentityDescription, StorageError> {
        let mut statement = self.0.prepare_cached(
            "SELECT DISTINCT provider FROM logins WHERE identity = ?1 ORDER BY provider",
        )?;
        let logins = statement.query_map([identity.as_str()], |row| row.get(0))?;
        let logins = logins.collect::<Result<_, _>>()?;
        Ok(IdentityDescription {
            identity_id: identity,
            logins,
            creation_date: Some(Timestamp::from_millis(created)),
            last_modified_date: Some(Timestamp::from_millis(modified)),
        })
    }

    /// Removes an identity and all that hangs on it: logins, credentials, devices, data.
    pub(in super::super) fn delete_identity(
        &self,
        identity: &IdentityId,
    ) -> Result<(), StorageError> {
        for sql in [
            "DELETE FROM subscriptions WHERE identity = ?1",
            "DELETE FROM devices WHERE identity = ?1",
            "DELETE FROM credentials WHERE identity = ?1",
            "DELETE FROM logins WHERE identity = ?1",
            "DELETE FROM records WHERE dataset IN (SELECT id FROM datasets WHERE identity = ?1)",
            "DELETE FROM datasets WHERE identity = ?1",
            "DELETE FROM identities WHERE id = ?1",
        ] {
            self.0.prepare_cached(sql)?.execute([identity.as_str()])?;
        }
        Ok(())
    }

    pub(in super::super) fn pool_name(
        &self,
        pool: &PoolId,
    ) -> Result<Option<String>, StorageError> {
        Ok(self
            .0
            .prepare_cached("SELECT name FROM pools WHERE id = ?1")?
            .query_row([pool.as_str()], |row| row.get(0))
            .optional()?)
    }

    /// Returns the identity a login belongs to.
    pub(in super::super) fn login(
        &self,
        pool: &PoolId,
        provider: &str,
        token_hash: &[u8],
    ) -> Result<Option<IdentityId>, StorageError> {
        let found = self
            .0
            .prepare_cached(
                "SELECT identity FROM logins \
                 WHERE pool = ?1 AND provider = ?2 AND token_hash = ?3",
            )?
            .query_row(params![pool.as_str(), provider, token_hash], |row| {
                row.get(0)
            })
            .optional()?;
        found.map(stored).transpose()
    }

    /// Adds a login to an identity; one it already has stays.
    pub(in super::super) fn add_login(
        &self,
        pool: &PoolId,
        provider: &str,
        token_hash: &[u8],
        identity: &IdentityId,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let added = self
            .0
            .prepare_cached("INSERT OR IGNORE INTO logins VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![
                pool.as_str(),
                provider,
                token_hash,
                identity.as_str()
            ])?;
        if added > 0 {
            self.0
                .prepare_cached("UPDATE identities SET modified = max(modified, ?2) WHERE id = ?1")?
                .execute(params![identity.as_str(), now.as_millis()])?;
        }
        Ok(())
    }

    /// Keeps issued credentials, and forgets those that expired before `forget`.
    pub(in super::super) fn insert_credentials(
        &self,
        issued: &StoredCredentials,
        forget: Timestamp,
    ) -> Result<(), StorageError> {
        self.0
            .prepare_cached("DELETE FROM credentials WHERE expires < ?1")?
            .execute([forget.as_millis()])?;
        self.0
            .prepare_cached("INSERT INTO credentials VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![
                issued.access_key_id,
                issued.secret_key,
                issued.session_token,
                issued.pool.as_str(),
                issued.identity.as_str(),
                issued.expires.as_millis()
            ])?;
        Ok(())
    }

    pub(in super::super) fn credentials(
        &self,
        access_key_id: &str,
    ) -> Result<Option<StoredCredentials>, StorageError> {
        let row = self
            .0
            .prepare_cached(
                "SELECT secret_key, session_token, pool, identity, expires \
                 FROM credentials WHERE access_key_id = ?1",
            )?
            .query_row([access_key_id], |row| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                ))
            })
            .optional()?;
        let Some((secret_key, session_token, pool, identity, expires)) = row else {
            return Ok(None);
        };
        Ok(Some(StoredCredentials {
            access_key_id: access_key_id.to_owned(),
            secret_key,
            session_token,
            pool: stored(pool)?,
            identity: stored(identity)?,
            expires: Timestamp::from_millis(expires),
        }))
    }
}
