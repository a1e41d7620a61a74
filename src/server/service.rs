//! What the operations mean: an answer from a call, a caller, a time and the store.
//!
//! Invariant: nothing here reads a clock or a header; the only chance is in new ids, credentials
//! and session tokens.

mod bulk_publish;
mod changes;
mod configuration;
mod datasets;
mod devices;
mod identities;
mod identity_pools;
mod openid;
mod paging;
mod records;
mod tokens;
mod trigger;
mod usage;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use url::Url;

use crate::wire::fault::{Code, Fault};
use crate::wire::identity::IdentityCall;
use crate::wire::names::{IdentityId, PoolId, Region};
use crate::wire::operation::Call;
use crate::wire::timestamp::Timestamp;

use super::deliveries::Deliveries;
use super::random;
use super::storage::{DeveloperCredentials, Storage, StorageError};
use tokens::SessionTokens;

/// Who calls, as the signature said, and in which region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    Developer {
        /// 12 digits.
        account: String,
        region: Region,
    },
    User {
        pool: PoolId,
        identity: IdentityId,
        region: Region,
    },
}

impl Caller {
    /// Returns the region the call went to; pools of others are not there.
    pub fn region(&self) -> &Region {
        match self {
            Self::Developer { region, .. } | Self::User { region, .. } => region,
        }
    }

    /// Returns what is written into LastModifiedBy when no device is named.
    fn name(&self) -> &str {
        match self {
            Self::Developer { account, .. } => account,
            Self::User { identity, .. } => identity.as_str(),
        }
    }

    /// Refuses a user.
    fn must_be_developer(&self) -> Result<(), Fault> {
        match self {
            Self::Developer { .. } => Ok(()),
            Self::User { .. } => Err(Fault::new(
                Code::NotAuthorized,
                "the operation needs developer credentials",
            )),
        }
    }

    /// Refuses a developer.
    fn must_be_user(&self) -> Result<(), Fault> {
        match self {
            Self::User { .. } => Ok(()),
            Self::Developer { .. } => Err(Fault::new(
                Code::NotAuthorized,
                "the operation needs credentials of an identity",
            )),
        }
    }

    /// Refuses a user who asks for somebody else's data.
    fn must_own(&self, of_pool: &PoolId, of_identity: &IdentityId) -> Result<(), Fault> {
        match self {
            Self::User { pool, identity, .. } if pool != of_pool || identity != of_identity => {
                Err(Fault::new(
                    Code::NotAuthorized,
                    "mismatch between session identity id and request identity id",
                ))
            }
            _ => Ok(()),
        }
    }
}

/// How long things are good for.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    pub session_token: Duration,
    /// A user's credentials.
    pub credentials: Duration,
}

impl Default for Lifetimes {
    /// 15 minutes and 1 hour.
    fn default() -> Self {
        Self {
            session_token: Duration::from_secs(15 * 60),
            credentials: Duration::from_secs(60 * 60),
        }
    }
}

/// The local service.
pub struct Service {
    storage: Storage,
    tokens: SessionTokens,
    lifetimes: Lifetimes,
    deliveries: Deliveries,
    /// The pools whose bulk publish runs.
    publishing: Mutex<HashSet<PoolId>>,
    /// What is called for pools that have no function of their own.
    sync_trigger: Option<Url>,
}

impl Service {
    pub fn new(storage: Storage) -> Self {
        Self::with_lifetimes(storage, Lifetimes::default())
    }

    pub fn with_lifetimes(storage: Storage, lifetimes: Lifetimes) -> Self {
        Self {
            tokens: SessionTokens::new(storage.token_secret(), lifetimes.session_token),
            deliveries: Deliveries::new(storage.path().map(Deliveries::beside)),
            storage,
            lifetimes,
            publishing: Mutex::default(),
            sync_trigger: None,
        }
    }

    /// Calls a function at the updates of every pool that has none of its own.
    ///
    /// # Errors
    /// The URL itself, unless it is plain http on this machine.
    pub fn with_sync_trigger(mut self, url: &str) -> Result<Self, String> {
        let local = configuration::local_url(url);
        self.sync_trigger = Some(local.ok_or_else(|| url.to_owned())?);
        Ok(self)
    }

    /// Sends deliveries to a file of one's own, not to the one beside the store.
    pub fn with_events_file(mut self, path: PathBuf) -> Self {
        self.deliveries = Deliveries::new(Some(path));
        self
    }

    /// Answers a Cognito Sync call with JSON.
    ///
    /// # Errors
    /// What the service would answer, by its own code.
    pub fn call(&self, call: &Call, caller: &Caller, now: Timestamp) -> Result<Vec<u8>, Fault> {
        match call {
            Call::BulkPublish(call) => json(&self.bulk_publish(call, caller, now)?),
            Call::DeleteDataset(call) => json(&self.delete_dataset(call, caller, now)?),
            Call::DescribeDataset(call) => json(&self.describe_dataset(call, caller)?),
            Call::DescribeIdentityPoolUsage(call) => {
                json(&self.describe_identity_pool_usage(call, caller)?)
            }
            Call::DescribeIdentityUsage(call) => json(&self.describe_identity_usage(call, caller)?),
            Call::GetBulkPublishDetails(call) => {
                json(&self.get_bulk_publish_details(call, caller)?)
            }
            Call::GetCognitoEvents(call) => json(&self.get_cognito_events(call, caller)?),
            Call::GetIdentityPoolConfiguration(call) => {
                json(&self.get_identity_pool_configuration(call, caller)?)
            }
            Call::ListDatasets(call) => json(&self.list_datasets(call, caller)?),
            Call::ListIdentityPoolUsage(call) => {
                json(&self.list_identity_pool_usage(call, caller)?)
            }
            Call::ListRecords(call) => json(&self.list_records(call, caller, now)?),
            Call::RegisterDevice(call) => json(&self.register_device(call, caller)?),
            Call::SetCognitoEvents(call) => json(&self.set_cognito_events(call, caller)?),
            Call::SetIdentityPoolConfiguration(call) => {
                json(&self.set_identity_pool_configuration(call, caller)?)
            }
            Call::SubscribeToDataset(call) => json(&self.subscribe_to_dataset(call, caller)?),
            Call::UnsubscribeFromDataset(call) => {
                json(&self.unsubscribe_from_dataset(call, caller)?)
            }
            Call::UpdateRecords(call) => json(&self.update_records(call, caller, now)?),
        }
    }

    /// Answers a Cognito Identity call with JSON. Calls that carry no signature need no caller;
    /// their region is the id's.
    pub fn identity_call(
        &self,
        call: &IdentityCall,
        caller: Option<&Caller>,
        now: Timestamp,
    ) -> Result<Vec<u8>, Fault> {
        let developer = || {
            let caller = caller.ok_or_else(|| {
                Fault::new(
                    Code::MissingAuthenticationToken,
                    "Missing Authentication Token",
                )
            })?;
            caller.must_be_developer()?;
            Ok::<_, Fault>(caller.region())
        };
        match call {
            IdentityCall::ListIdentityPools(call) => {
                json(&self.list_identity_pools(call, developer()?)?)
            }
            IdentityCall::ListIdentities(call) => json(&self.list_identities(call, developer()?)?),
            IdentityCall::DescribeIdentity(call) => {
                json(&self.describe_identity(call, developer()?)?)
            }
            IdentityCall::CreateIdentityPool(call) => {
                json(&self.create_described_pool(call, developer()?, now)?)
            }
            IdentityCall::DescribeIdentityPool(call) => {
                json(&self.describe_identity_pool(call, developer()?)?)
            }
            IdentityCall::DeleteIdentities(call) => {
                json(&self.delete_identities(call, developer()?)?)
            }
            IdentityCall::GetOpenIdToken(call) => json(&self.get_open_id_token(call, now)?),
            IdentityCall::GetOpenIdTokenForDeveloperIdentity(call) => {
                json(&self.get_open_id_token_for_developer_identity(call, developer()?, now)?)
            }
            IdentityCall::GetId(call) => json(&self.get_id(call, now)?),
            IdentityCall::GetCredentialsForIdentity(call) => {
                json(&self.get_credentials_for_identity(call, now)?)
            }
        }
    }

    /// Returns the credentials that may call everything, in every region.
    pub fn developer_credentials(&self) -> &DeveloperCredentials {
        self.storage.developer()
    }

    /// Returns the developer as a caller.
    pub fn developer(&self, region: Region) -> Caller {
        Caller::Developer {
            account: self.storage.developer().account_id.clone(),
            region,
        }
    }

    pub(super) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Makes a pool that takes guests.
    pub fn create_identity_pool(
        &self,
        region: &Region,
        name: &str,
        now: Timestamp,
    ) -> Result<PoolId, StorageError> {
        let pool = new_id(region)?;
        self.add_identity_pool(&pool, name, now)?;
        Ok(pool)
    }

    /// Makes a pool with a given id.
    pub fn add_identity_pool(
        &self,
        pool: &PoolId,
        name: &str,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        self.storage.write(|tx| tx.insert_pool(pool, name, now))
    }

    /// Gives a store without pools one pool with one identity, so that there is somewhere to write.
    pub fn furnish(&self, region: &Region, now: Timestamp) -> Result<(), StorageError> {
        self.storage.together(|| {
            if self.storage.read(|tx| tx.has_pools())? {
                return Ok(());
            }
            let pool = self.create_identity_pool(region, "local", now)?;
            self.add_identity(&pool, &new_id(region)?, now)
        })
    }

    /// Makes a guest's identity with a given id.
    pub fn add_identity(
        &self,
        pool: &PoolId,
        identity: &IdentityId,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        self.storage
            .write(|tx| tx.insert_identity(pool, identity, now))
    }
}

/// Makes an id in a region.
fn new_id<T: std::str::FromStr>(region: &Region) -> Result<T, StorageError> {
    let id = format!("{region}:{}", random::uuid()?);
    id.parse()
        .map_err(|_| StorageError::Damaged(format!("{id} is no id")))
}

fn json(answer: &impl serde::Serialize) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(answer).map_err(|error| Fault::new(Code::InternalError, error.to_string()))
}

/// Returns the time after a duration.
fn after(now: Timestamp, duration: Duration) -> Timestamp {
    let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(now.as_millis().saturating_add(millis))
}

fn not_found(what: &str, id: &str) -> Fault {
    Fault::new(Code::ResourceNotFound, format!("{what} '{id}' not found."))
}

#[cfg(test)]
mod testing {
    //! A world of one pool and two identities, and calls in one line.

    use super::*;
    use crate::wire::datasets::{Datasets, DescribedDataset};
    use crate::wire::records::{RecordPatch, Records, UpdateRecordsBody, UpdatedRecords};
    use serde::de::DeserializeOwned;

    pub(super) const MINUTE: i64 = 60_000;

    pub(super) struct World {
        pub(super) service: Service,
        events: Option<tempfile::TempDir>,
        pub(super) developer: Caller,
        pub(super) pool: PoolId,
        pub(super) identity: IdentityId,
        pub(super) other: IdentityId,
    }

    pub(super) fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    impl World {
        pub(super) fn new() -> Self {
            let service = Service::new(Storage::in_memory().unwrap());
            let region: Region = "us-east-1".parse().unwrap();
            let pool = service.create_identity_pool(&region, "p", at(0)).unwrap();
            let identity: IdentityId = "us-east-1:aa".parse().unwrap();
            let other: IdentityId = "us-east-1:bb".parse().unwrap();
            for id in [&identity, &other] {
                service.add_identity(&pool, id, at(0)).unwrap();
            }
            Self {
                developer: service.developer(region),
                service,
                events: None,
                pool,
                identity,
                other,
            }
        }

        /// A world that keeps what goes out of it.
        pub(super) fn with_events() -> Self {
            let mut world = Self::new();
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("events");
            world.service = world.service.with_events_file(path);
            world.events = Some(directory);
            world
        }

        /// What went out.
        pub(super) fn events(&self) -> Vec<serde_json::Value> {
            let path = self.events.as_ref().unwrap().path().join("events");
            let lines = std::fs::read_to_string(path).unwrap_or_default();
            lines
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        }

        /// Sends a developer's call about the pool.
        pub(super) fn pool_call(
            &self,
            method: &str,
            rest: &str,
            body: &serde_json::Value,
        ) -> Result<serde_json::Value, Fault> {
            let path = format!("/identitypools/{}/{rest}", self.pool);
            let body = body.to_string();
            self.send(&self.developer, at(0), method, &path, body.as_bytes())
        }

        pub(super) fn user(&self) -> Caller {
            Caller::User {
                pool: self.pool.clone(),
                identity: self.identity.clone(),
                region: self.pool.region(),
            }
        }

        pub(super) fn path(&self, rest: &str) -> String {
            format!(
                "/identitypools/{}/identities/{}{rest}",
                self.pool, self.identity
            )
        }

        pub(super) fn send<T: DeserializeOwned>(
            &self,
            caller: &Caller,
            now: Timestamp,
            method: &str,
            path: &str,
            body: &[u8],
        ) -> Result<T, Fault> {
            let (path, query) = path.split_once('?').unwrap_or((path, ""));
            let call = Call::parse(method, path, query, body)?;
            let answer = self.service.call(&call, caller, now)?;
            Ok(serde_json::from_slice(&answer).unwrap())
        }

        pub(super) fn list(&self, query: &str, now: Timestamp) -> Result<Records, Fault> {
            let path = self.path(&format!("/datasets/settings/records?{query}"));
            self.send(&self.developer, now, "GET", &path, b"")
        }

        pub(super) fn update_with(
            &self,
            caller: &Caller,
            token: &str,
            patches: &[RecordPatch],
            now: Timestamp,
        ) -> Result<UpdatedRecords, Fault> {
            let body = UpdateRecordsBody {
                device_id: None,
                record_patches: patches.to_vec(),
                sync_session_token: Some(token.to_owned()),
            };
            let body = serde_json::to_vec(&body).unwrap();
            let path = self.path("/datasets/settings");
            self.send(caller, now, "POST", &path, &body)
        }

        /// Updates with a new token.
        pub(super) fn update(&self, patches: &[RecordPatch]) -> Result<UpdatedRecords, Fault> {
            let token = self.list("", at(0))?.sync_session_token.unwrap();
            self.update_with(&self.developer, &token, patches, at(0))
        }

        pub(super) fn delete(&self, name: &str) -> Result<DescribedDataset, Fault> {
            let path = self.path(&format!("/datasets/{name}"));
            self.send(&self.developer, at(0), "DELETE", &path, b"")
        }

        pub(super) fn datasets(&self, query: &str) -> Result<Datasets, Fault> {
            let path = self.path(&format!("/datasets?{query}"));
            self.send(&self.developer, at(0), "GET", &path, b"")
        }
    }

    pub(super) fn replace(key: &str, value: &str, sync_count: i64) -> RecordPatch {
        let json = serde_json::json!({
            "Op": "replace", "Key": key, "Value": value, "SyncCount": sync_count,
        });
        serde_json::from_value(json).unwrap()
    }

    pub(super) fn remove(key: &str, sync_count: i64) -> RecordPatch {
        let json = serde_json::json!({"Op": "remove", "Key": key, "SyncCount": sync_count});
        serde_json::from_value(json).unwrap()
    }
}
