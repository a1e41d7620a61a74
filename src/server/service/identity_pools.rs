//! Cognito Identity's pools, developer identities and the removal of identities.
//!
//! Invariant: what the model limits is checked before anything is written.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::wire::fault::{Code, Fault};
use crate::wire::identity_pools::{
    CognitoIdentityProvider, CreateIdentityPool, DeleteIdentities, DeletedIdentities,
    DescribeIdentityPool, GetOpenIdToken, GetOpenIdTokenForDeveloperIdentity, IdentityPool,
    OpenIdToken, PoolOptions, UnprocessedIdentityId,
};
use crate::wire::names::{IdentityId, PoolId, Region};
use crate::wire::timestamp::Timestamp;

use super::super::storage::Tx;
use super::identities::{hashed, must_be_foreign};
use super::{Service, new_id, not_found, openid};

const GUEST_TOKEN_LIFE: Duration = Duration::from_secs(10 * 60);
const DEVELOPER_TOKEN_SECONDS: i64 = 15 * 60;

impl Service {
    pub(super) fn create_described_pool(
        &self,
        call: &CreateIdentityPool,
        region: &Region,
        now: Timestamp,
    ) -> Result<IdentityPool, Fault> {
        let options = &call.options;
        check_options(options)?;
        self.storage.write(|tx| {
            let pool = new_id(region)?;
            tx.insert_pool(&pool, &options.identity_pool_name, now)?;
            tx.put_document(&pool, options)?;
            Ok(IdentityPool {
                identity_pool_id: pool,
                options: options.clone(),
            })
        })
    }

    pub(super) fn describe_identity_pool(
        &self,
        call: &DescribeIdentityPool,
        region: &Region,
    ) -> Result<IdentityPool, Fault> {
        let pool = &call.identity_pool_id;
        self.storage.read(|tx| {
            Ok(IdentityPool {
                identity_pool_id: pool.clone(),
                options: pool_options(tx, pool, region)?,
            })
        })
    }

    /// Removes identities with their logins, credentials, devices and data. One that is not in the
    /// region stays unprocessed.
    pub(super) fn delete_identities(
        &self,
        call: &DeleteIdentities,
        region: &Region,
    ) -> Result<DeletedIdentities, Fault> {
        let identities = &call.identity_ids_to_delete;
        if !(1..=60).contains(&identities.len()) {
            return Err(Fault::validation(
                "IdentityIdsToDelete: expected 1 to 60 entries",
            ));
        }
        self.storage.write(|tx| {
            let mut answer = DeletedIdentities::default();
            for identity in identities {
                match tx.identity(identity)? {
                    Some((pool, _)) if pool.region() == *region => tx.delete_identity(identity)?,
                    _ => answer.unprocessed_identity_ids.push(UnprocessedIdentityId {
                        identity_id: identity.clone(),
                        error_code: "AccessDenied".to_owned(),
                    }),
                }
            }
            Ok(answer)
        })
    }

    /// Issues a token to a guest, or to who brings logins of the identity.
    pub(super) fn get_open_id_token(
        &self,
        call: &GetOpenIdToken,
        now: Timestamp,
    ) -> Result<OpenIdToken, Fault> {
        let identity = &call.identity_id;
        self.storage.read(|tx| {
            let pool = self.log_in(tx, identity, call.logins.as_ref(), now)?;
            Ok(self.open_id_token(&pool, identity, now, GUEST_TOKEN_LIFE))
        })
    }

    /// Finds the identity of a developer's user, or makes it, and issues a token for it.
    pub(super) fn get_open_id_token_for_developer_identity(
        &self,
        call: &GetOpenIdTokenForDeveloperIdentity,
        region: &Region,
        now: Timestamp,
    ) -> Result<OpenIdToken, Fault> {
        let seconds = call.token_duration.unwrap_or(DEVELOPER_TOKEN_SECONDS);
        if !(1..=86_400).contains(&seconds) {
            return Err(Fault::validation("TokenDuration: expected 1 to 86400"));
        }
        check_map("PrincipalTags", call.principal_tags.as_ref(), 50, 1..=256)?;
        let pool = &call.identity_pool_id;
        let logins = hashed(Some(&call.logins))?;
        must_be_foreign(&logins)?;
        let identity = self.storage.write(|tx| {
            let options = pool_options(tx, pool, region)?;
            let provider = options.developer_provider_name.as_deref();
            if !logins.iter().any(|(name, _)| Some(*name) == provider) {
                return Err(Fault::invalid(
                    "the Logins need a user of the identity pool's developer provider",
                ));
            }
            let mut found = match &call.identity_id {
                Some(identity) => match tx.identity(identity)? {
                    Some((of, _)) if of == *pool => Some(identity.clone()),
                    _ => return Err(not_found("Identity", identity.as_str())),
                },
                None => None,
            };
            for (name, hash) in &logins {
                match (&found, tx.login(pool, name, hash)?) {
                    (Some(found), Some(owner)) if *found != owner => {
                        return Err(taken(Some(*name) == provider));
                    }
                    (None, Some(owner)) => found = Some(owner),
                    _ => {}
                }
            }
            let identity = match found {
                Some(identity) => identity,
                None => {
                    let identity = new_id(region)?;
                    tx.insert_identity(pool, &identity, now)?;
                    identity
                }
            };
            for (name, hash) in &logins {
                tx.add_login(pool, name, hash, &identity, now)?;
            }
            Ok(identity)
        })?;
        let life = Duration::from_secs(seconds.unsigned_abs());
        Ok(self.open_id_token(pool, &identity, now, life))
    }

    fn open_id_token(
        &self,
        pool: &PoolId,
        identity: &IdentityId,
        now: Timestamp,
        life: Duration,
    ) -> OpenIdToken {
        OpenIdToken {
            identity_id: identity.clone(),
            token: openid::issue(self.storage.token_secret(), pool, identity, now, life),
        }
    }
}

/// Returns what a pool was made with. One that the service itself made takes guests.
fn pool_options(tx: &Tx<'_>, pool: &PoolId, region: &Region) -> Result<PoolOptions, Fault> {
    let name = tx.pool_name(pool)?.filter(|_| pool.region() == *region);
    let name = name.ok_or_else(|| not_found("IdentityPool", pool.as_str()))?;
    Ok(tx.document(pool)?.unwrap_or(PoolOptions {
        identity_pool_name: name,
        allow_unauthenticated_identities: true,
        allow_classic_flow: None,
        supported_login_providers: None,
        developer_provider_name: None,
        open_id_connect_provider_arns: None,
        cognito_identity_providers: None,
        saml_provider_arns: None,
        identity_pool_tags: None,
    }))
}

fn taken(by_developer: bool) -> Fault {
    match by_developer {
        true => Fault::new(
            Code::DeveloperUserAlreadyRegistered,
            "the user belongs to another identity",
        ),
        false => Fault::new(
            Code::ResourceConflict,
            "the logins belong to different identities",
        ),
    }
}

fn check_options(options: &PoolOptions) -> Result<(), Fault> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    check_text("IdentityPoolName", &options.identity_pool_name, |c| {
        is_word(c) || c.is_ascii_whitespace() || "+=,.@-".contains(c)
    })?;
    if let Some(name) = &options.developer_provider_name {
        check_text("DeveloperProviderName", name, |c| {
            is_word(c) || ".-".contains(c)
        })?;
    }
    let providers = options.supported_login_providers.as_ref();
    check_map("SupportedLoginProviders", providers, 10, 1..=128)?;
    for id in providers.into_iter().flat_map(BTreeMap::values) {
        check_text("SupportedLoginProviders", id, |c| {
            is_word(c) || ".;/-".contains(c)
        })?;
    }
    let tags = options.identity_pool_tags.as_ref();
    check_map("IdentityPoolTags", tags, 50, 0..=256)?;
    let arns = [
        &options.open_id_connect_provider_arns,
        &options.saml_provider_arns,
    ];
    for arn in arns.into_iter().flatten().flatten() {
        if !(20..=2048).contains(&arn.chars().count()) {
            return Err(Fault::validation(
                "a provider's ARN has 20 to 2048 characters",
            ));
        }
    }
    let user_pools = options.cognito_identity_providers.as_deref();
    for CognitoIdentityProvider {
        provider_name,
        client_id,
        ..
    } in user_pools.unwrap_or_default()
    {
        if let Some(name) = provider_name {
            check_text("ProviderName", name, |c| is_word(c) || ".:/-".contains(c))?;
        }
        if let Some(id) = client_id {
            check_text("ClientId", id, is_word)?;
        }
    }
    Ok(())
}

/// Checks a text of 1 to 128 characters.
fn check_text(what: &str, text: &str, allowed: impl Fn(char) -> bool) -> Result<(), Fault> {
    match (1..=128).contains(&text.chars().count()) && text.chars().all(allowed) {
        true => Ok(()),
        false => Err(Fault::validation(&format!(
            "{what}: expected 1 to 128 characters of its pattern"
        ))),
    }
}

/// Checks a map whose keys have 1 to 128 characters.
fn check_map(
    what: &str,
    map: Option<&BTreeMap<String, String>>,
    max: usize,
    value: std::ops::RangeInclusive<usize>,
) -> Result<(), Fault> {
    let Some(map) = map else { return Ok(()) };
    let fits = map.len() <= max
        && map.iter().all(|(key, text)| {
            (1..=128).contains(&key.chars().count()) && value.contains(&text.chars().count())
        });
    match fits {
        true => Ok(()),
        false => Err(Fault::validation(&format!(
            "{what}: expected at most {max} entries, keys of 1 to 128 characters and values of \
             {} to {}",
            value.start(),
            value.end()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, at, replace};
    use super::*;
    use crate::wire::identity::IdentityCall;
    use serde_json::{Value, json};

    fn ask(world: &World, now: i64, operation: &str, body: &Value) -> Result<Value, Fault> {
        let target = format!("AWSCognitoIdentityService.{operation}");
        let call = IdentityCall::parse(&target, body.to_string().as_bytes())?;
        let caller = Some(&world.developer).filter(|_| !call.is_unsigned());
        let answer = world.service.identity_call(&call, caller, at(now))?;
        Ok(serde_json::from_slice(&answer).unwrap())
    }

    fn code(answer: Result<Value, Fault>) -> String {
        answer.unwrap_err().code.name().to_owned()
    }

    fn closed_pool(world: &World) -> Value {
        let body = json!({
            "IdentityPoolName": "my pool", "AllowUnauthenticatedIdentities": false,
            "DeveloperProviderName": "dev", "SupportedLoginProviders": {"p": "x"},
        });
        let made = ask(world, 0, "CreateIdentityPool", &body).unwrap();
        let pool = made["IdentityPoolId"].clone();
        let described = ask(
            world,
            0,
            "DescribeIdentityPool",
            &json!({"IdentityPoolId": pool}),
        )
        .unwrap();
        assert_eq!(described, made);
        assert_eq!(described["DeveloperProviderName"], "dev");
        pool
    }

    #[test]
    fn a_developers_user_gets_credentials_by_a_token() {
        let world = World::new();
        let pool = closed_pool(&world);
        let guest = ask(&world, 0, "GetId", &json!({"IdentityPoolId": pool}));
        assert_eq!(code(guest), "NotAuthorizedException");
        let token = |user: &str, identity: Value, duration: Value| {
            let body = json!({
                "IdentityPoolId": pool, "Logins": {"dev": user}, "IdentityId": identity,
                "TokenDuration": duration,
            });
            ask(&world, 0, "GetOpenIdTokenForDeveloperIdentity", &body)
        };
        let ann = token("ann", Value::Null, Value::Null).unwrap();
        let again = token("ann", Value::Null, json!(86_400)).unwrap();
        assert_eq!(ann["IdentityId"], again["IdentityId"]);
        let bob = token("bob", Value::Null, json!(1)).unwrap();
        assert_ne!(ann["IdentityId"], bob["IdentityId"]);
        let stolen = token("bob", ann["IdentityId"].clone(), Value::Null);
        assert_eq!(code(stolen), "DeveloperUserAlreadyRegisteredException");
        for duration in [0, 86_401] {
            let wrong = token("ann", Value::Null, json!(duration));
            assert_eq!(code(wrong), "InvalidParameterException");
        }
        let public = json!({"IdentityPoolId": pool, "Logins": {"p": "x"}});
        let public = ask(&world, 0, "GetOpenIdTokenForDeveloperIdentity", &public);
        assert_eq!(code(public), "InvalidParameterException");

        let credentials = |operation: &str, now: i64, identity: &Value, token: &Value| {
            let body = json!({"IdentityId": identity, "Logins": {openid::PROVIDER: token}});
            ask(&world, now, operation, &body)
        };
        for operation in ["GetCredentialsForIdentity", "GetOpenIdToken"] {
            let id = &ann["IdentityId"];
            assert!(credentials(operation, 899_000, id, &ann["Token"]).is_ok());
            let late = credentials(operation, 900_000, id, &ann["Token"]);
            assert_eq!(code(late), "NotAuthorizedException");
            let bobs = credentials(operation, 0, id, &bob["Token"]);
            assert_eq!(code(bobs), "NotAuthorizedException");
        }
        // Nor does a token, real or not, find or make an identity.
        for token in [&ann["Token"], &json!("x")] {
            for operation in ["GetId", "GetOpenIdTokenForDeveloperIdentity"] {
                let logins = json!({"dev": "ann", openid::PROVIDER: token});
                let body = json!({"IdentityPoolId": pool, "Logins": logins});
                let refused = ask(&world, 0, operation, &body);
                assert_eq!(code(refused), "NotAuthorizedException", "{operation}");
            }
        }
    }

    #[test]
    fn pools_keep_the_models_limits() {
        let world = World::new();
        let create = |field: &str, value: Value| {
            let mut body = json!({"IdentityPoolName": "p", "AllowUnauthenticatedIdentities": true});
            body[field] = value;
            ask(&world, 0, "CreateIdentityPool", &body)
        };
        let providers = |count: usize| {
            let entries = (0..count).map(|n| (n.to_string(), json!("x")));
            Value::Object(entries.collect())
        };
        for (field, value) in [
            ("IdentityPoolName", json!("a b_+=,.@-1")),
            ("IdentityPoolName", json!("x".repeat(128))),
            ("DeveloperProviderName", json!("a.b-c_")),
            ("SupportedLoginProviders", providers(10)),
            ("OpenIdConnectProviderARNs", json!(["a".repeat(20)])),
            ("SamlProviderARNs", json!(["a".repeat(2048)])),
            (
                "CognitoIdentityProviders",
                json!([{"ProviderName": "a/b:c", "ClientId": "x"}]),
            ),
            ("IdentityPoolTags", json!({"k": ""})),
        ] {
            let made = create(field, value.clone()).unwrap();
            assert_eq!(made[field], value, "{field}");
        }
        for (field, value) in [
            ("IdentityPoolName", json!("")),
            ("IdentityPoolName", json!("a/b")),
            ("IdentityPoolName", json!("x".repeat(129))),
            ("IdentityPoolName", Value::Null),
            ("DeveloperProviderName", json!("a b")),
            ("SupportedLoginProviders", providers(11)),
            ("SupportedLoginProviders", json!({"p": "a b"})),
            ("OpenIdConnectProviderARNs", json!(["a".repeat(19)])),
            ("SamlProviderARNs", json!(["a".repeat(2049)])),
            ("CognitoIdentityProviders", json!([{"ClientId": "a-b"}])),
            ("IdentityPoolTags", json!({"k": "x".repeat(257)})),
        ] {
            assert_eq!(
                code(create(field, value)),
                "InvalidParameterException",
                "{field}"
            );
        }
    }

    #[test]
    fn a_deleted_identity_is_gone_with_its_data() {
        let world = World::new();
        world.update(&[replace("a", "1", 0)]).unwrap();
        let delete = |ids: Value| {
            ask(
                &world,
                0,
                "DeleteIdentities",
                &json!({"IdentityIdsToDelete": ids}),
            )
        };
        let left = delete(json!([world.identity, "us-east-1:00"])).unwrap();
        assert_eq!(
            left["UnprocessedIdentityIds"],
            json!([{"IdentityId": "us-east-1:00", "ErrorCode": "AccessDenied"}])
        );
        assert_eq!(world.datasets("").unwrap().count, 0);
        let described = json!({"IdentityId": world.identity});
        let missing = ask(&world, 0, "DescribeIdentity", &described);
        assert_eq!(code(missing), "ResourceNotFoundException");
        assert_eq!(code(delete(json!([]))), "InvalidParameterException");
        let many = vec!["us-east-1:00"; 61];
        assert_eq!(code(delete(json!(many))), "InvalidParameterException");
        assert!(delete(json!(many[1..])).is_ok());
    }
}
