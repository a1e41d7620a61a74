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

use std::path::PathBuf;
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

    /// Does a piece of what was begun and left for later: deliveries that a crash held up, bulk
    /// publishes. Returns whether there may be more.
    pub fn go_on(&self, now: Timestamp) -> Result<bool, StorageError> {
        let is_stream_written = self.deliver();
        self.publish_more(is_stream_written, now)
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
        if self.storage.read(|tx| tx.has_pools())? {
            return Ok(());
        }
        self.storage.together(|| {
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
mod testing;
