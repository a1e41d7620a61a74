//! Random ids and secrets, from the operating system.
//!
//! Invariant: nothing here is guessable or repeated; a failing source is an error, never a default.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use getrandom::Error;

/// Returns random bytes.
pub(super) fn bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// Returns a version 4 UUID in lower case.
pub(super) fn uuid() -> Result<String, Error> {
    Ok(uuid_of(bytes()?))
}

/// Writes 16 bytes as a version 4 UUID; 6 of their bits are the version's.
pub(super) fn uuid_of(bytes: [u8; 16]) -> String {
    let mut number = u128::from_be_bytes(bytes);
    number = number & !(0xf << 76) | 4 << 76;
    number = number & !(0b11 << 62) | 0b10 << 62;
    let digits = format!("{number:032x}");
    let parts = [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ];
    parts.join("-")
}

/// Returns an access key id: `AKIA` for long-lived keys, `ASIA` for those of a session.
pub(super) fn access_key_id(prefix: &str) -> Result<String, Error> {
    const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let letters = bytes::<16>()?.map(|byte| char::from(BASE32[usize::from(byte % 32)]));
    Ok(prefix.chars().chain(letters).collect())
}

/// Returns a secret access key of 40 characters.
pub(super) fn secret_key() -> Result<String, Error> {
    Ok(STANDARD.encode(bytes::<30>()?))
}

/// Returns a session token of 128 characters.
pub(super) fn session_token() -> Result<String, Error> {
    Ok(STANDARD.encode(bytes::<96>()?))
}

/// Returns an account id of 12 digits.
pub(super) fn account_id() -> Result<String, Error> {
    let number = u64::from_be_bytes(bytes()?);
    Ok(format!("{}", 100_000_000_000 + number % 900_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_forms_of_the_service() {
        assert_eq!(uuid_of([0; 16]), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid_of([255; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_ne!(uuid().unwrap(), uuid().unwrap());
        assert_eq!(access_key_id("AKIA").unwrap().len(), 20);
        assert_eq!(secret_key().unwrap().len(), 40);
        assert_eq!(session_token().unwrap().len(), 128);
        assert_eq!(account_id().unwrap().len(), 12);
    }
}
