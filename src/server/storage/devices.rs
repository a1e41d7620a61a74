//! Devices and the datasets they are told about.
//!
//! Invariant: a device is of one identity; its platform's token is kept as a hash.

use rusqlite::{OptionalExtension, params};

use crate::wire::devices::Platform;
use crate::wire::names::{DatasetName, DeviceId, IdentityId};

use super::{StorageError, Tx, stored};

impl Tx<'_> {
    /// Returns the device that registered with a token, and makes `new` one if there is none.
    pub(in super::super) fn register_device(
        &self,
        identity: &IdentityId,
        platform: Platform,
        token_hash: &[u8],
        new: &DeviceId,
    ) -> Result<DeviceId, StorageError> {
        self.0
            .prepare_cached("INSERT OR IGNORE INTO devices VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![
                new.as_str(),
                identity.as_str(),
                platform.name(),
                token_hash
            ])?;
        let id = self
            .0
            .prepare_cached(
                "SELECT id FROM devices \
                 WHERE identity = ?1 AND platform = ?2 AND token_hash = ?3",
            )?
            .query_row(
                params![identity.as_str(), platform.name(), token_hash],
                |row| row.get(0),
            )?;
        stored(id)
    }

    /// Returns the platform of an identity's device.
    pub(in super::super) fn device(
        &self,
        identity: &IdentityId,
        device: &DeviceId,
    ) -> Result<Option<Platform>, StorageError> {
        let platform: Option<String> = self
            .0
            .prepare_cached("SELECT platform FROM devices WHERE id = ?1 AND identity = ?2")?
            .query_row([device.as_str(), identity.as_str()], |row| row.get(0))
            .optional()?;
        platform.map(read_platform).transpose()
    }

    pub(in super::super) fn subscribe(
        &self,
        identity: &IdentityId,
        dataset: &DatasetName,
        device: &DeviceId,
    ) -> Result<(), StorageError> {
        self.0
            .prepare_cached("INSERT OR IGNORE INTO subscriptions VALUES (?1, ?2, ?3)")?
            .execute([identity.as_str(), dataset.as_str(), device.as_str()])?;
        Ok(())
    }

    pub(in super::super) fn unsubscribe(
        &self,
        identity: &IdentityId,
        dataset: &DatasetName,
        device: &DeviceId,
    ) -> Result<(), StorageError> {
        self.0
            .prepare_cached(
                "DELETE FROM subscriptions WHERE identity = ?1 AND dataset = ?2 AND device = ?3",
            )?
            .execute([identity.as_str(), dataset.as_str(), device.as_str()])?;
        Ok(())
    }

    /// Lists who is told about a dataset's changes.
    pub(in super::super) fn subscribers(
        &self,
        identity: &IdentityId,
        dataset: &DatasetName,
    ) -> Result<Vec<(DeviceId, Platform)>, StorageError> {
        let mut statement = self.0.prepare_cached(
            "SELECT devices.id, platform FROM subscriptions JOIN devices ON device = devices.id \
             WHERE subscriptions.identity = ?1 AND dataset = ?2 ORDER BY devices.id",
        )?;
        let rows = statement.query_map([identity.as_str(), dataset.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        rows.map(|row| {
            let (id, platform) = row?;
            Ok((stored(id)?, read_platform(platform)?))
        })
        .collect()
    }
}

fn read_platform(name: String) -> Result<Platform, StorageError> {
    serde_json::from_value(name.into()).map_err(|error| StorageError::Damaged(error.to_string()))
}
