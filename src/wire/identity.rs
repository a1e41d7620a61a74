//! The part of Cognito Identity that a mount and its tests need. JSON 1.1 RPC: one route, the
//! operation in `X-Amz-Target`.
//!
//! <https://docs.aws.amazon.com/cognitoidentity/latest/APIReference/API_Operations.html>

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::identity_pools::{
    CreateIdentityPool, DeleteIdentities, DeletedIdentities, DescribeIdentityPool, GetOpenIdToken,
    GetOpenIdTokenForDeveloperIdentity, IdentityPool, OpenIdToken,
};
use super::names::{IdentityId, PoolId};
use super::operation::{Operation, Request, Service, nullable, parse_body};
use super::timestamp::{Timestamp, exponent};

const TARGET_PREFIX: &str = "AWSCognitoIdentityService.";

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident -> $answer:ident
        $(unsigned $unsigned:literal)? $(repeatable $repeatable:literal)?,)*) => {
        $(
            impl Operation for $name {
                const NAME: &'static str = stringify!($name);
                $(const UNSIGNED: bool = $unsigned;)?
                $(const REPEATABLE: bool = $repeatable;)?
                type Answer = $answer;

                fn request(&self) -> Request {
                    let request = Request {
                        service: Service::CognitoIdentity,
                        method: "POST",
                        path: "/".to_owned(),
                        target: Some(format!("{TARGET_PREFIX}{}", stringify!($name))),
                        headers: Vec::new(),
                        body: Vec::new(),
                    };
                    request.json(self)
                }
            }
        )*

        /// A Cognito Identity request as the service reads it.
        #[derive(Clone, Debug)]
        pub enum IdentityCall {
            $($name($name),)*
        }

        impl IdentityCall {
            /// The operations of Cognito Identity that there are here.
            pub const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// Reads a request from its `X-Amz-Target` and body.
            ///
            /// # Errors
            /// `UnknownOperationException` for a target there is not, `SerializationException`
            /// for a body that is not the operation's JSON.
            pub fn parse(target: &str, body: &[u8]) -> Result<Self, Fault> {
                match target.strip_prefix(TARGET_PREFIX) {
                    $(Some(stringify!($name)) => parse_body(body).map(Self::$name),)*
                    _ => Err(Fault::unknown_operation()),
                }
            }

            /// Returns the API's name for the operation.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)*
                }
            }

            /// Returns whether the operation carries no signature.
            pub fn is_unsigned(&self) -> bool {
                match self {
                    $(Self::$name(_) => <$name as Operation>::UNSIGNED,)*
                }
            }
        }
    };
}

operations! {
    ListIdentityPools -> IdentityPools,
    ListIdentities -> Identities,
    DescribeIdentity -> IdentityDescription,
    GetId -> GotId unsigned true,
    GetCredentialsForIdentity -> IdentityCredentials unsigned true,
    GetOpenIdToken -> OpenIdToken unsigned true,
    GetOpenIdTokenForDeveloperIdentity -> OpenIdToken,
    CreateIdentityPool -> IdentityPool repeatable false,
    DescribeIdentityPool -> IdentityPool,
    DeleteIdentities -> DeletedIdentities,
}

/// The most identities or pools one answer holds.
pub const MAX_RESULTS: i64 = 60;

/// Lists the region's identity pools.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListIdentityPools {
    /// 1 to 60.
    pub max_results: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// The answer of [`ListIdentityPools`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IdentityPools {
    #[serde(deserialize_with = "nullable")]
    pub identity_pools: Vec<IdentityPoolShort>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// A pool's id and name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IdentityPoolShort {
    pub identity_pool_id: PoolId,
    pub identity_pool_name: Option<String>,
}

/// Lists a pool's identities.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListIdentities {
    pub identity_pool_id: PoolId,
    /// 1 to 60.
    pub max_results: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hide_disabled: Option<bool>,
}

/// The answer of [`ListIdentities`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Identities {
    pub identity_pool_id: Option<PoolId>,
    #[serde(deserialize_with = "nullable")]
    pub identities: Vec<IdentityDescription>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// Describes one identity.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeIdentity {
    pub identity_id: IdentityId,
}

/// An identity, and the answer of [`DescribeIdentity`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IdentityDescription {
    pub identity_id: IdentityId,
    #[serde(default, deserialize_with = "nullable")]
    pub logins: Vec<String>,
    #[serde(default, with = "exponent")]
    pub creation_date: Option<Timestamp>,
    #[serde(default, with = "exponent")]
    pub last_modified_date: Option<Timestamp>,
}

/// Finds the identity of a user's logins; without logins it makes a new one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetId {
    pub identity_pool_id: PoolId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logins: Option<BTreeMap<String, String>>,
}

/// The answer of [`GetId`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GotId {
    pub identity_id: IdentityId,
}

/// Gets an identity's own credentials, good for one hour.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetCredentialsForIdentity {
    pub identity_id: IdentityId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logins: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_role_arn: Option<String>,
}

/// The answer of [`GetCredentialsForIdentity`].
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IdentityCredentials {
    pub identity_id: IdentityId,
    pub credentials: Credentials,
}

/// A user's credentials. The secret's field is `SecretKey` here, unlike in STS.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Credentials {
    pub access_key_id: String,
    pub secret_key: String,
    pub session_token: String,
    #[serde(default, with = "exponent")]
    pub expiration: Option<Timestamp>,
}

/// Checks `MaxResults` of a listing.
///
/// # Errors
/// `InvalidParameterException` outside 1 to 60.
pub fn check_max_results(max_results: i64) -> Result<(), Fault> {
    if (1..=MAX_RESULTS).contains(&max_results) {
        return Ok(());
    }
    Err(Fault::validation("MaxResults must be between 1 and 60"))
}
