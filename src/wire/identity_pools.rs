//! Identity pools as Cognito Identity keeps them, and the tokens it gives identities.
//!
//! <https://docs.aws.amazon.com/cognitoidentity/latest/APIReference/API_Operations.html>

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::names::{IdentityId, PoolId};
use super::operation::nullable;

/// Makes an identity pool.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CreateIdentityPool {
    #[serde(flatten)]
    pub options: PoolOptions,
}

/// What a pool is made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PoolOptions {
    /// 1 to 128 of letters, digits, spaces and `_ + = , . @ -`.
    pub identity_pool_name: String,
    /// Whether there are guests.
    pub allow_unauthenticated_identities: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_classic_flow: Option<bool>,
    /// At most 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supported_login_providers: Option<BTreeMap<String, String>>,
    /// 1 to 128 of letters, digits and `_ . -`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub developer_provider_name: Option<String>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        rename = "OpenIdConnectProviderARNs"
    )]
    pub open_id_connect_provider_arns: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cognito_identity_providers: Option<Vec<CognitoIdentityProvider>>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        rename = "SamlProviderARNs"
    )]
    pub saml_provider_arns: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_pool_tags: Option<BTreeMap<String, String>>,
}

/// A user pool that a pool's identities may log in with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CognitoIdentityProvider {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_side_token_check: Option<bool>,
}

/// Describes an identity pool.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeIdentityPool {
    pub identity_pool_id: PoolId,
}

/// An identity pool: the answer of [`CreateIdentityPool`] and of [`DescribeIdentityPool`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IdentityPool {
    pub identity_pool_id: PoolId,
    #[serde(flatten)]
    pub options: PoolOptions,
}

/// Removes identities, 1 to 60 at a time.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteIdentities {
    pub identity_ids_to_delete: Vec<IdentityId>,
}

/// The answer of [`DeleteIdentities`]: those that are still there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeletedIdentities {
    #[serde(deserialize_with = "nullable")]
    pub unprocessed_identity_ids: Vec<UnprocessedIdentityId>,
}

/// An identity that was not removed, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UnprocessedIdentityId {
    pub identity_id: IdentityId,
    /// `AccessDenied` or `InternalServerError`.
    pub error_code: String,
}

/// Gets a token that says who an identity is, good for 10 minutes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetOpenIdToken {
    pub identity_id: IdentityId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logins: Option<BTreeMap<String, String>>,
}

/// Finds or makes the identity of a developer's own user, and gets a token for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetOpenIdTokenForDeveloperIdentity {
    pub identity_pool_id: PoolId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_id: Option<IdentityId>,
    /// The user's name at the developer provider; tokens of public providers may come with it.
    pub logins: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal_tags: Option<BTreeMap<String, String>>,
    /// Seconds: 1 to 86,400, without it 900.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_duration: Option<i64>,
}

/// The answer of [`GetOpenIdToken`] and of [`GetOpenIdTokenForDeveloperIdentity`].
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OpenIdToken {
    pub identity_id: IdentityId,
    /// A JSON web token. As a login of `cognito-identity.amazonaws.com` it gets credentials.
    pub token: String,
}
