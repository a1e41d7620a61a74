//! The operations of Cognito Identity.
//!
//! Invariant: a login, which is a provider and a token, belongs to one identity of a pool. Tokens
//! are not checked with their providers, they only tell users apart; but the service's own are.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use sha2::{Digest, Sha256};

use crate::wire::fault::{Code, Fault};
use crate::wire::identity::{
    Credentials, DescribeIdentity, GetCredentialsForIdentity, GetId, GotId, Identities,
    IdentityCredentials, IdentityDescription, IdentityPools, ListIdentities, ListIdentityPools,
    check_max_results,
};
use crate::wire::identity_pools::PoolOptions;
use crate::wire::names::{IdentityId, PoolId, Region};
use crate::wire::timestamp::Timestamp;

use super::super::random;
use super::super::storage::{StorageError, StoredCredentials, Tx};
use super::paging::{cut, last_name};
use super::{Service, after, new_id, not_found, openid};

const MAX_LOGINS: usize = 10;

/// How long expired credentials are still known as expired, and not as unknown.
const EXPIRED_MILLIS: i64 = 24 * 60 * 60 * 1000;

impl Service {
    pub(super) fn list_identity_pools(
        &self,
        call: &ListIdentityPools,
        region: &Region,
    ) -> Result<IdentityPools, Fault> {
        check_max_results(call.max_results)?;
        let after = last_name::<PoolId>(call.next_token.as_deref())?;
        let mut pools = self
            .storage
            .read(|tx| tx.pools(region, &after, call.max_results + 1))?;
        let next_token = cut(&mut pools, call.max_results, |pool| {
            pool.identity_pool_id.as_str().as_bytes()
        });
        Ok(IdentityPools {
            identity_pools: pools,
            next_token,
        })
    }

    pub(super) fn list_identities(
        &self,
        call: &ListIdentities,
        region: &Region,
    ) -> Result<Identities, Fault> {
        check_max_results(call.max_results)?;
        let pool = &call.identity_pool_id;
        let after = last_name::<IdentityId>(call.next_token.as_deref())?;
        let mut identities = self.storage.read(|tx| {
            if pool.region() != *region || !tx.pool_exists(pool)? {
                return Err(not_found("IdentityPool", pool.as_str()));
            }
            Ok(tx.identities(pool, &after, call.max_results + 1)?)
        })?;
        let next_token = cut(&mut identities, call.max_results, |identity| {
            identity.identity_id.as_str().as_bytes()
        });
        Ok(Identities {
            identity_pool_id: Some(pool.clone()),
            identities,
            next_token,
        })
    }

    pub(super) fn describe_identity(
        &self,
        call: &DescribeIdentity,
        region: &Region,
    ) -> Result<IdentityDescription, Fault> {
        let found = self.storage.read(|tx| tx.identity(&call.identity_id))?;
        match found {
            Some((pool, identity)) if pool.region() == *region => Ok(identity),
            _ => Err(not_found("Identity", call.identity_id.as_str())),
        }
    }

    /// Finds the identity of the logins, and gives it those it did not have. Without logins, and
    /// for logins nobody has, it makes an identity.
    pub(super) fn get_id(&self, call: &GetId, now: Timestamp) -> Result<GotId, Fault> {
        let pool = &call.identity_pool_id;
        let logins = hashed(call.logins.as_ref())?;
        must_be_foreign(&logins)?;
        let account = call.account_id.as_deref().unwrap_or("0");
        if !has(1..=15, account) || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Fault::validation("AccountId: expected 1 to 15 digits"));
        }
        self.storage.write(|tx| {
            if !tx.pool_exists(pool)? {
                return Err(not_found("IdentityPool", pool.as_str()));
            }
            let options: Option<PoolOptions> = tx.document(pool)?;
            let closed = options.is_some_and(|made| !made.allow_unauthenticated_identities);
            if closed && logins.is_empty() {
                return Err(Fault::new(
                    Code::NotAuthorized,
                    "Unauthenticated access is not supported for this identity pool.",
                ));
            }
            let mut found: Option<IdentityId> = None;
            for (provider, hash) in &logins {
                let owner = tx.login(pool, provider, hash)?;
                match (&found, owner) {
                    (Some(found), Some(owner)) if *found != owner => {
                        return Err(Fault::new(
                            Code::ResourceConflict,
                            "the logins belong to different identities",
                        ));
                    }
                    (None, Some(owner)) => found = Some(owner),
                    _ => {}
                }
            }
            let identity_id = match found {
                Some(identity) => identity,
                None => {
                    let identity = new_id(&pool.region())?;
                    tx.insert_identity(pool, &identity, now)?;
                    identity
                }
            };
            for (provider, hash) in &logins {
                tx.add_login(pool, provider, hash, &identity_id, now)?;
            }
            Ok(GotId { identity_id })
        })
    }

    /// Issues credentials to a guest, or to who brings logins of the identity.
    pub(super) fn get_credentials_for_identity(
        &self,
        call: &GetCredentialsForIdentity,
        now: Timestamp,
    ) -> Result<IdentityCredentials, Fault> {
        let identity = &call.identity_id;
        let role = call.custom_role_arn.as_deref();
        if role.is_some_and(|role| !has(20..=2048, role)) {
            return Err(Fault::validation(
                "CustomRoleArn: expected 20 to 2048 characters",
            ));
        }
        self.storage.write(|tx| {
            let pool = self.log_in(tx, identity, call.logins.as_ref(), now)?;
            let issued = StoredCredentials {
                access_key_id: random::access_key_id("ASIA").map_err(StorageError::from)?,
                secret_key: random::secret_key().map_err(StorageError::from)?,
                session_token: random::session_token().map_err(StorageError::from)?,
                pool,
                identity: identity.clone(),
                expires: after(now, self.lifetimes.credentials),
            };
            let forget = now.as_millis().saturating_sub(EXPIRED_MILLIS);
            tx.insert_credentials(&issued, Timestamp::from_millis(forget))?;
            Ok(IdentityCredentials {
                identity_id: issued.identity,
                credentials: Credentials {
                    access_key_id: issued.access_key_id,
                    secret_key: issued.secret_key,
                    session_token: issued.session_token,
                    expiration: Some(issued.expires),
                },
            })
        })
    }

    /// Checks that who calls is a guest's identity, or brings logins of the identity, and returns
    /// the identity's pool.
    pub(super) fn log_in(
        &self,
        tx: &Tx<'_>,
        identity: &IdentityId,
        logins: Option<&BTreeMap<String, String>>,
        now: Timestamp,
    ) -> Result<PoolId, Fault> {
        let hashes = hashed(logins)?;
        let (pool, described) = tx
            .identity(identity)?
            .ok_or_else(|| not_found("Identity", identity.as_str()))?;
        if hashes.is_empty() && !described.logins.is_empty() {
            return Err(Fault::new(
                Code::NotAuthorized,
                format!("Access to Identity '{identity}' is forbidden."),
            ));
        }
        let secret = self.storage.token_secret();
        let own_token = logins.and_then(|logins| logins.get(openid::PROVIDER));
        for (provider, hash) in &hashes {
            let fits = match own_token.filter(|_| *provider == openid::PROVIDER) {
                Some(token) => openid::is_of(secret, token, identity, now),
                None => tx.login(&pool, provider, hash)?.as_ref() == Some(identity),
            };
            if !fits {
                return Err(Fault::new(
                    Code::NotAuthorized,
                    "Logins don't match. Please include at least one valid login for this \
                     identity or identity pool.",
                ));
            }
        }
        Ok(pool)
    }
}

/// Refuses the service's own tokens where they are no logins, as the service does: who has one was
/// told the identity with it.
///
/// <https://github.com/aws/aws-sdk-net/issues/420>
pub(super) fn must_be_foreign(logins: &[(&str, [u8; 32])]) -> Result<(), Fault> {
    match logins.iter().any(|(name, _)| *name == openid::PROVIDER) {
        false => Ok(()),
        true => Err(Fault::new(
            Code::NotAuthorized,
            "Invalid login token. Can't pass in a Cognito token.",
        )),
    }
}

fn has(characters: RangeInclusive<usize>, text: &str) -> bool {
    characters.contains(&text.chars().count())
}

/// Takes the tokens out of logins: what is stored is a hash of each.
pub(super) fn hashed(
    logins: Option<&BTreeMap<String, String>>,
) -> Result<Vec<(&str, [u8; 32])>, Fault> {
    let logins: Vec<_> = logins.into_iter().flatten().collect();
    if logins.len() > MAX_LOGINS {
        return Err(Fault::validation("Logins must have at most 10 entries"));
    }
    if logins
        .iter()
        .any(|(provider, token)| !has(1..=128, provider) || !has(1..=50_000, token))
    {
        return Err(Fault::validation(
            "a login is a provider of 1 to 128 characters and a token of 1 to 50000",
        ));
    }
    let hash = |token: &String| Sha256::digest(token.as_bytes()).into();
    Ok(logins
        .into_iter()
        .map(|(provider, token)| (provider.as_str(), hash(token)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, at};
    use super::*;
    use crate::wire::identity::IdentityCall;
    use serde_json::{Value, json};

    fn ask(world: &World, operation: &str, body: &Value) -> Result<Value, Fault> {
        let target = format!("AWSCognitoIdentityService.{operation}");
        let call = IdentityCall::parse(&target, body.to_string().as_bytes())?;
        let caller = Some(&world.developer).filter(|_| !call.is_unsigned());
        let answer = world.service.identity_call(&call, caller, at(0))?;
        Ok(serde_json::from_slice(&answer).unwrap())
    }

    #[test]
    fn a_login_is_one_identity_and_a_guest_is_always_new() {
        let world = World::new();
        let get = |logins: Value| {
            let body = json!({"IdentityPoolId": world.pool, "Logins": logins});
            ask(&world, "GetId", &body).map(|got| got["IdentityId"].clone())
        };
        assert_ne!(get(Value::Null).unwrap(), get(Value::Null).unwrap());
        let ann = get(json!({"p": "ann"})).unwrap();
        let bob = get(json!({"p": "bob"})).unwrap();
        assert_eq!(get(json!({"p": "ann"})).unwrap(), ann);
        assert_ne!(ann, bob);
        assert_eq!(get(json!({"p": "ann", "q": "ann"})).unwrap(), ann);
        assert_eq!(get(json!({"q": "ann"})).unwrap(), ann);
        let both = get(json!({"p": "bob", "q": "ann"})).unwrap_err();
        assert_eq!(both.code, Code::ResourceConflict);
        let described = ask(&world, "DescribeIdentity", &json!({"IdentityId": ann})).unwrap();
        assert_eq!(described["Logins"], json!(["p", "q"]));

        let credentials = |logins: Value| {
            let body = json!({"IdentityId": ann, "Logins": logins});
            ask(&world, "GetCredentialsForIdentity", &body)
        };
        assert!(credentials(json!({"p": "ann"})).is_ok());
        for wrong in [Value::Null, json!({"p": "bob"}), json!({"p": "eve"})] {
            let fault = credentials(wrong).unwrap_err();
            assert_eq!(fault.code, Code::NotAuthorized);
        }
    }

    #[test]
    fn listings_are_paged_and_of_one_region() {
        let world = World::new();
        let list = |token: Value| {
            let body = json!({
                "IdentityPoolId": world.pool, "MaxResults": 1, "NextToken": token,
            });
            ask(&world, "ListIdentities", &body).unwrap()
        };
        let page = list(Value::Null);
        assert_eq!(page["Identities"][0]["IdentityId"], json!(world.identity));
        let page = list(page["NextToken"].clone());
        assert_eq!(page["Identities"][0]["IdentityId"], json!(world.other));
        assert_eq!(page.get("NextToken"), None);
        let pools = ask(&world, "ListIdentityPools", &json!({"MaxResults": 60})).unwrap();
        assert_eq!(pools["IdentityPools"].as_array().unwrap().len(), 1);
        for (operation, body, code) in [
            (
                "ListIdentityPools",
                json!({"MaxResults": 61}),
                Code::InvalidParameter,
            ),
            (
                "ListIdentities",
                json!({"MaxResults": 1, "IdentityPoolId": "us-east-1:00"}),
                Code::ResourceNotFound,
            ),
            (
                "DescribeIdentity",
                json!({"IdentityId": "us-east-1:00"}),
                Code::ResourceNotFound,
            ),
            (
                "GetId",
                json!({"IdentityPoolId": "us-east-1:00"}),
                Code::ResourceNotFound,
            ),
        ] {
            let fault = ask(&world, operation, &body).unwrap_err();
            assert_eq!(fault.code, code, "{operation}");
        }
    }
}
