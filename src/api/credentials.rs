//! Who is acting: AWS's whole credential chain, a user of Cognito, or fixed credentials of a local
//! store.

use std::time::{Duration, SystemTime};

use aws_config::Region;
use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::region::ProfileFileRegionProvider;
pub use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use tokio::sync::Mutex;

use super::client::Client;
use super::error::{Chained, Error};
use super::surroundings::Surroundings;
use super::transport::check_certificates;
use super::user::{Logins, User};
use crate::wire::names::{self, IdentityId};

/// How long before they expire credentials are replaced.
const EARLY: Duration = Duration::from_secs(5 * 60);

/// Where credentials come from.
#[derive(Debug)]
pub enum CredentialsSource {
    /// Nobody: for operations that carry no signature.
    Nobody,
    Fixed(Credentials),
    /// Whatever gives credentials for a while.
    Provider {
        provider: SharedCredentialsProvider,
        current: Mutex<Option<Credentials>>,
    },
}

impl CredentialsSource {
    /// Prepares the default chain: environment, profiles, SSO, process, web identity, container,
    /// instance. `profile` names a profile other than the default; what is configured for no region
    /// is for `region`.
    pub async fn chain(profile: Option<&str>, region: &names::Region) -> Result<Self, Error> {
        // AWS's own client takes it for granted that somebody is trusted.
        check_certificates()?;
        let mut loader = aws_config::defaults(aws_config::BehaviorVersion::latest());
        let mut of_profile = ProfileFileRegionProvider::builder();
        if let Some(profile) = profile {
            loader = loader.profile_name(profile);
            of_profile = of_profile.profile_name(profile);
        }
        // Else the instance's metadata are asked for one, which takes seconds where there are none.
        let regions = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
            .or_else(of_profile.build())
            .or_else(Region::new(region.to_string()));
        let loader = loader.region(regions);
        let config = loader.load().await;
        let provider = config
            .credentials_provider()
            .ok_or_else(|| Error::NoCredentials {
                reason: "none are configured".to_owned(),
            })?;
        Ok(Self::provider(provider))
    }

    /// Acts as an identity, whose credentials are asked for by `client`.
    pub fn user(client: Client, identity: IdentityId, logins: Logins) -> Self {
        Self::provider(SharedCredentialsProvider::new(User {
            client,
            identity,
            logins,
        }))
    }

    fn provider(provider: SharedCredentialsProvider) -> Self {
        Self::Provider {
            provider,
            current: Mutex::new(None),
        }
    }

    /// Returns credentials that are good for a while, or, when no others can be had, until they
    /// expire. They are fetched once for all who wait.
    ///
    /// # Errors
    /// [`Error::NoCredentials`] when none can be had.
    pub(super) async fn get(&self, surroundings: &dyn Surroundings) -> Result<Credentials, Error> {
        let (provider, current) = match self {
            Self::Nobody => {
                return Err(Error::NoCredentials {
                    reason: "nobody is acting".to_owned(),
                });
            }
            Self::Fixed(credentials) => return Ok(credentials.clone()),
            Self::Provider { provider, current } => (provider, current),
        };
        let mut current = current.lock().await;
        let date = surroundings.date();
        let good = current.as_ref().filter(|current| is_good(current, date));
        if let Some(credentials) = good {
            return Ok(credentials.clone());
        }
        let fresh = match (provider.provide_credentials().await, current.as_ref()) {
            (Ok(fresh), _) => fresh,
            (Err(error), Some(old)) if old.expiry() > Some(surroundings.date()) => {
                let error = Chained(&error).to_string();
                tracing::warn!(error, "credentials cannot be replaced before they expire");
                return Ok(old.clone());
            }
            (Err(error), _) => {
                return Err(Error::NoCredentials {
                    reason: Chained(&error).to_string(),
                });
            }
        };
        *current = Some(fresh.clone());
        Ok(fresh)
    }

    /// Forgets credentials that the service refused, so that the next call gets fresh ones.
    pub(super) async fn forget(&self) {
        if let Self::Provider { current, .. } = self {
            *current.lock().await = None;
        }
    }
}

fn is_good(credentials: &Credentials, date: SystemTime) -> bool {
    let expiry = credentials.expiry();
    expiry.is_none_or(|expiry| expiry > date + EARLY)
}
