//! Session tokens: signed, so that handing one out writes nothing.
//!
//! Invariant: a token is good for one dataset until it expires. That it was used is in the store,
//! written with the update it was used for.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::wire::fault::{Code, Fault};
use crate::wire::names::{DatasetName, IdentityId, PoolId};
use crate::wire::timestamp::Timestamp;

use super::super::random;
use super::super::storage::{StorageError, Tx};
use super::after;

const NONCE: usize = 16;
const PAYLOAD: usize = NONCE + 8;

/// A token that is signed, of this dataset and not expired.
#[derive(Debug)]
pub(super) struct Nonce {
    bytes: [u8; NONCE],
    expires: Timestamp,
}

/// What a token is bound to.
#[derive(Clone, Copy)]
pub(super) struct Bound<'a>(
    pub(super) &'a PoolId,
    pub(super) &'a IdentityId,
    pub(super) &'a DatasetName,
);

pub(super) struct SessionTokens {
    secret: Vec<u8>,
    life: Duration,
}

impl SessionTokens {
    pub(super) fn new(secret: &[u8], life: Duration) -> Self {
        let secret = secret.to_vec();
        Self { secret, life }
    }

    /// Makes a token.
    pub(super) fn issue(&self, bound: Bound<'_>, now: Timestamp) -> Result<String, StorageError> {
        // The time is first: a token that begins with a dash is an option to the AWS CLI.
        let mut token = after(now, self.life).as_millis().to_be_bytes().to_vec();
        token.extend(random::bytes::<NONCE>()?);
        let signature = self.mac(bound, &token).finalize().into_bytes();
        token.extend(signature);
        Ok(URL_SAFE_NO_PAD.encode(token))
    }

    /// Checks a token; whether it was used is [`Nonce::must_be_unused`]'s to say.
    ///
    /// # Errors
    /// `InvalidParameterException` for one that is forged, expired or another dataset's.
    pub(super) fn check(
        &self,
        token: &str,
        bound: Bound<'_>,
        now: Timestamp,
    ) -> Result<Nonce, Fault> {
        let token = URL_SAFE_NO_PAD.decode(token).map_err(|_| not_valid())?;
        let (payload, signature) = token.split_at_checked(PAYLOAD).ok_or_else(not_valid)?;
        self.mac(bound, payload)
            .verify_slice(signature)
            .map_err(|_| not_valid())?;
        let (expires, nonce) = payload.split_first_chunk().ok_or_else(not_valid)?;
        let nonce = nonce.first_chunk().ok_or_else(not_valid)?;
        let expires = Timestamp::from_millis(i64::from_be_bytes(*expires));
        if now >= expires {
            return Err(not_valid());
        }
        Ok(Nonce {
            bytes: *nonce,
            expires,
        })
    }

    fn mac(&self, Bound(pool, identity, dataset): Bound<'_>, payload: &[u8]) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes a key of any length");
        // No id and no name holds a slash.
        mac.update(format!("session/{pool}/{identity}/{dataset}/").as_bytes());
        mac.update(payload);
        mac
    }
}

impl Nonce {
    /// Refuses a token that was used.
    pub(super) fn must_be_unused(&self, tx: &Tx<'_>) -> Result<(), Fault> {
        match tx.is_session_token_used(&self.bytes)? {
            true => Err(not_valid()),
            false => Ok(()),
        }
    }

    /// Uses the token up. What is forgotten expired an hour ago, so that a call that began before
    /// and ends after another's clean-up finds its token still used.
    pub(super) fn use_up(&self, tx: &Tx<'_>, now: Timestamp) -> Result<(), StorageError> {
        let hour_ago = now.as_millis().saturating_sub(60 * 60 * 1000);
        tx.use_session_token(&self.bytes, self.expires, Timestamp::from_millis(hour_ago))
    }
}

fn not_valid() -> Fault {
    Fault::new(
        Code::InvalidParameter,
        "SyncSessionToken not valid for these inputs",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_looks_like_an_option() {
        let pool = "us-east-1:ab".parse().unwrap();
        let identity = "us-east-1:cd".parse().unwrap();
        let dataset = "settings".parse().unwrap();
        let bound = Bound(&pool, &identity, &dataset);
        let tokens = SessionTokens::new(b"secret", Duration::from_secs(1));
        let now = Timestamp::from_millis(1_795_454_123_321);
        for _ in 0..1000 {
            let token = tokens.issue(bound, now).unwrap();
            assert!(!token.starts_with('-'), "{token}");
        }
    }

    #[test]
    fn a_token_is_of_one_dataset_and_one_secret() {
        let pool = "us-east-1:ab".parse().unwrap();
        let identity = "us-east-1:cd".parse().unwrap();
        let other_identity = "us-east-1:ce".parse().unwrap();
        let [settings, other]: [DatasetName; 2] = ["settings", "other"].map(|n| n.parse().unwrap());
        let bound = Bound(&pool, &identity, &settings);
        let tokens = SessionTokens::new(b"secret", Duration::from_secs(1));
        let now = Timestamp::from_millis(5000);
        let token = tokens.issue(bound, now).unwrap();
        assert_ne!(token, tokens.issue(bound, now).unwrap());
        let late = |millis: i64| Timestamp::from_millis(5000 + millis);
        assert!(tokens.check(&token, bound, late(999)).is_ok());
        assert!(tokens.check(&token, bound, late(1000)).is_err());
        for bound in [
            Bound(&pool, &identity, &other),
            Bound(&pool, &other_identity, &settings),
        ] {
            assert!(tokens.check(&token, bound, now).is_err());
        }
        let forger = SessionTokens::new(b"guess", Duration::from_secs(1));
        let forged = forger.issue(bound, now).unwrap();
        let mut longer = URL_SAFE_NO_PAD.decode(&token).unwrap();
        longer[NONCE + 3] ^= 1;
        let longer = URL_SAFE_NO_PAD.encode(longer);
        for garbage in ["", "x", "AAAA", "é", &forged, &longer, &token[..40]] {
            let fault = tokens.check(garbage, bound, now).unwrap_err();
            assert!(fault.is_session_token(), "{garbage}");
        }
    }
}
