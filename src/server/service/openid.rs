//! OpenID tokens: JSON web tokens that say who an identity is.
//!
//! Invariant: a token is good for one identity until it expires. It is signed with the store's
//! secret (HS256), so only this store's service can check it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::wire::names::{IdentityId, PoolId};
use crate::wire::timestamp::Timestamp;

use super::after;

/// The provider whose tokens these are.
pub(super) const PROVIDER: &str = "cognito-identity.amazonaws.com";

/// What a token says. Dates are epoch seconds.
#[derive(Serialize, Deserialize)]
struct Claims {
    sub: IdentityId,
    aud: PoolId,
    iss: String,
    iat: i64,
    exp: i64,
}

/// Makes a token.
pub(super) fn issue(
    secret: &[u8],
    pool: &PoolId,
    identity: &IdentityId,
    now: Timestamp,
    life: Duration,
) -> String {
    let claims = Claims {
        sub: identity.clone(),
        aud: pool.clone(),
        iss: format!("https://{PROVIDER}"),
        iat: now.as_millis() / 1000,
        exp: after(now, life).as_millis() / 1000,
    };
    let claims = serde_json::json!(claims).to_string();
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let signature = mac(secret, &signed).finalize().into_bytes();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Returns whether a token is an identity's.
pub(super) fn is_of(secret: &[u8], token: &str, identity: &IdentityId, now: Timestamp) -> bool {
    let read = || {
        let (signed, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        mac(secret, signed).verify_slice(&signature).ok()?;
        let (_, claims) = signed.split_once('.')?;
        let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
        serde_json::from_slice::<Claims>(&claims).ok()
    };
    read().is_some_and(|claims| claims.sub == *identity && now.as_millis() / 1000 < claims.exp)
}

fn mac(secret: &[u8], signed: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    // Session tokens are signed with the same secret.
    mac.update(b"openid/");
    mac.update(signed.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_of_one_identity_until_it_expires() {
        let identity: IdentityId = "us-east-1:cd".parse().unwrap();
        let other: IdentityId = "us-east-1:ce".parse().unwrap();
        let pool = "us-east-1:ab".parse().unwrap();
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        let token = issue(b"s", &pool, &identity, at(5), Duration::from_secs(10));
        assert!(is_of(b"s", &token, &identity, at(14)));
        assert!(!is_of(b"s", &token, &identity, at(15)));
        assert!(!is_of(b"s", &token, &other, at(5)));
        assert!(!is_of(b"t", &token, &identity, at(5)));
        for garbage in [
            "",
            ".",
            "..",
            "a.b.c",
            &token[1..],
            &token[..token.len() - 2],
        ] {
            assert!(!is_of(b"s", garbage, &identity, at(5)), "{garbage}");
        }
    }
}
