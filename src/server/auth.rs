//! Who signed a request.
//!
//! Invariant: nothing of a caller is believed before the signature over the request, as it was
//! received, has been made again with the caller's secret.

use std::time::{Duration, SystemTime};

use crate::wire::fault::{Code, Fault};
use crate::wire::operation::Service as Api;
use crate::wire::sigv4::{Authorization, Signable};
use crate::wire::timestamp::Timestamp;

use super::service::{Caller, Service};
use super::storage::StorageError;

/// Finds out who sent a request to an API.
///
/// # Errors
/// `MissingAuthenticationTokenException` and `IncompleteSignatureException` for a request that is
/// not signed, `UnrecognizedClientException` for an unknown access key or a wrong session token,
/// `InvalidSignatureException` for a signature that differs or is meant for another service,
/// `ExpiredTokenException` for a user's credentials past their life.
pub(super) fn caller(
    service: &Service,
    request: Signable<'_>,
    api: Api,
    now: Timestamp,
) -> Result<Caller, Fault> {
    let authorization = Authorization::parse(request.headers)?;
    let Ok(region) = authorization.region.parse() else {
        return Err(Fault::new(
            Code::IncompleteSignature,
            "Credential should be scoped to a valid region",
        ));
    };
    if authorization.service != api.signing_name() {
        return Err(Fault::new(
            Code::InvalidSignature,
            format!(
                "Credential should be scoped to correct service: '{}'.",
                api.signing_name()
            ),
        ));
    }
    let clock = system_time(now);
    let developer = service.developer_credentials();
    if authorization.access_key_id == developer.access_key_id {
        authorization.verify(request, &developer.secret_key, clock)?;
        return match authorization.session_token {
            None => Ok(service.developer(region)),
            Some(_) => Err(unrecognized()),
        };
    }
    let issued = service
        .storage()
        .read(|tx| tx.credentials(authorization.access_key_id))
        .map_err(|error: StorageError| Fault::from(error))?
        .ok_or_else(unrecognized)?;
    authorization.verify(request, &issued.secret_key, clock)?;
    if authorization.session_token != Some(&issued.session_token) {
        return Err(unrecognized());
    }
    if now >= issued.expires {
        return Err(Fault::new(
            Code::ExpiredToken,
            "The security token included in the request is expired",
        ));
    }
    Ok(Caller::User {
        pool: issued.pool,
        identity: issued.identity,
        region,
    })
}

fn unrecognized() -> Fault {
    Fault::new(
        Code::UnrecognizedClient,
        "The security token included in the request is invalid.",
    )
}

fn system_time(now: Timestamp) -> SystemTime {
    let millis = u64::try_from(now.as_millis()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::service::Lifetimes;
    use crate::server::storage::Storage;
    use crate::wire::identity::{IdentityCall, IdentityCredentials};
    use crate::wire::sigv4::sign;
    use aws_credential_types::Credentials;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const URL: &str = "http://127.0.0.1/identitypools";

    fn service() -> Service {
        Service::new(Storage::in_memory().unwrap())
    }

    fn call(
        service: &Service,
        key: &str,
        secret: &str,
        token: Option<&str>,
        scope: &str,
        now: Timestamp,
    ) -> Result<Caller, Fault> {
        let credentials = Credentials::new(key, secret, token.map(str::to_owned), None, "test");
        let request = Signable {
            method: "GET",
            url: URL,
            headers: &[],
            body: b"",
        };
        let mut headers =
            sign(request, &credentials, "us-east-1", scope, system_time(now)).unwrap();
        headers.push(("host".to_owned(), "127.0.0.1".to_owned()));
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let headers = headers.as_slice();
        caller(
            service,
            Signable { headers, ..request },
            Api::CognitoSync,
            now,
        )
    }

    #[test]
    fn the_developer_is_known_by_the_secret() {
        let service = service();
        let developer = service.developer_credentials().clone();
        let (key, secret) = (&developer.access_key_id, &developer.secret_key);
        let call = |key: &str, secret: &str, token, scope| {
            call(&service, key, secret, token, scope, NOW).map_err(|fault| fault.code)
        };
        assert_eq!(
            call(key, secret, None, "cognito-sync"),
            Ok(service.developer("us-east-1".parse().unwrap()))
        );
        for (key, secret, token, scope, code) in [
            (
                key.as_str(),
                "x",
                None,
                "cognito-sync",
                Code::InvalidSignature,
            ),
            (
                "AKIA",
                secret,
                None,
                "cognito-sync",
                Code::UnrecognizedClient,
            ),
            (
                key,
                secret,
                Some("x"),
                "cognito-sync",
                Code::UnrecognizedClient,
            ),
            (
                key,
                secret,
                None,
                "cognito-identity",
                Code::InvalidSignature,
            ),
        ] {
            assert_eq!(call(key, secret, token, scope), Err(code));
        }
    }

    #[test]
    fn a_user_is_known_for_an_hour() {
        let service = service();
        let pool = service
            .create_identity_pool(&"us-east-1".parse().unwrap(), "p", NOW)
            .unwrap();
        let identity = "us-east-1:aa".parse().unwrap();
        service.add_identity(&pool, &identity, NOW).unwrap();
        let body = serde_json::json!({"IdentityId": identity}).to_string();
        let get = IdentityCall::parse(
            "AWSCognitoIdentityService.GetCredentialsForIdentity",
            body.as_bytes(),
        );
        let answer = service.identity_call(&get.unwrap(), None, NOW).unwrap();
        let issued: IdentityCredentials = serde_json::from_slice(&answer).unwrap();
        let issued = issued.credentials;
        let hour = i64::try_from(Lifetimes::default().credentials.as_millis()).unwrap();
        let at = |millis| Timestamp::from_millis(NOW.as_millis() + millis);
        let call = |token: Option<&str>, now| {
            let (key, secret) = (&issued.access_key_id, &issued.secret_key);
            call(&service, key, secret, token, "cognito-sync", now).map_err(|fault| fault.code)
        };
        let token = Some(issued.session_token.as_str());
        let user = Caller::User {
            pool,
            identity,
            region: "us-east-1".parse().unwrap(),
        };
        assert_eq!(call(token, at(hour - 1)), Ok(user));
        assert_eq!(call(token, at(hour)), Err(Code::ExpiredToken));
        assert_eq!(call(None, NOW), Err(Code::UnrecognizedClient));
        assert_eq!(call(Some("x"), NOW), Err(Code::UnrecognizedClient));
    }
}
