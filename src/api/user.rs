//! A user's own credentials: those that Cognito Identity gives a guest, or who brings logins.
//!
//! Invariant: a token is read from its file each time it is needed, so that a renewed one counts,
//! and is never part of an error.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;

use super::client::Client;
use super::error::Error;
use crate::wire::identity::{GetCredentialsForIdentity, GetId};
use crate::wire::names::{IdentityId, PoolId};

/// How long it may take to get credentials; the call that needs them may have less time.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a user logs in with: for each provider, such as `accounts.google.com`, the file that holds
/// the token. Without any the user is a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logins(pub BTreeMap<String, PathBuf>);

impl Logins {
    fn tokens(&self) -> Result<Option<BTreeMap<String, String>>, Error> {
        let read = |(provider, file): (&String, &PathBuf)| {
            let unusable = |why: String| Error::NoCredentials {
                reason: format!("the token of {provider} in {}: {why}", file.display()),
            };
            let text = fs::read_to_string(file).map_err(|error| unusable(error.to_string()))?;
            match text.trim() {
                "" => Err(unusable("the file is empty".to_owned())),
                token => Ok((provider.clone(), token.to_owned())),
            }
        };
        let tokens: BTreeMap<_, _> = self.0.iter().map(read).collect::<Result<_, _>>()?;
        Ok((!tokens.is_empty()).then_some(tokens))
    }

    /// Asks for the identity of these logins in a pool. Without logins it is a new one each time.
    ///
    /// # Errors
    /// [`Error::NoCredentials`] for a file that holds no token; else see [`Client::call`].
    pub async fn identity(
        &self,
        client: &Client,
        pool: &PoolId,
        deadline: Instant,
    ) -> Result<IdentityId, Error> {
        let get = GetId {
            identity_pool_id: pool.clone(),
            account_id: None,
            logins: self.tokens()?,
        };
        Ok(client.call(&get, deadline).await?.identity_id)
    }
}

/// Gets an identity's credentials, which are good for an hour.
#[derive(Debug)]
pub(super) struct User {
    /// Needs no credentials, as the operations called by it carry no signature.
    pub(super) client: Client,
    pub(super) identity: IdentityId,
    pub(super) logins: Logins,
}

impl User {
    async fn get(&self) -> Result<Credentials, Error> {
        let get = GetCredentialsForIdentity {
            identity_id: self.identity.clone(),
            logins: self.logins.tokens()?,
            custom_role_arn: None,
        };
        let deadline = self.client.surroundings().now() + PATIENCE;
        let got = self.client.call(&get, deadline).await?;
        let issued = got.credentials;
        Ok(Credentials::new(
            issued.access_key_id,
            issued.secret_key,
            Some(issued.session_token),
            issued.expiration.map(SystemTime::from),
            "Cognito Identity",
        ))
    }
}

impl ProvideCredentials for User {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let get = async {
            self.get().await.map_err(|error| match error {
                // It is said again that there are none.
                Error::NoCredentials { reason } => CredentialsError::provider_error(reason),
                error => CredentialsError::provider_error(error),
            })
        };
        future::ProvideCredentials::new(get)
    }
}
