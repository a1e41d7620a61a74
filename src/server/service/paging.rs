//! Pages of a listing: how many entries, and where the next one begins.
//!
//! Invariant: a NextToken is the base64 of the last key of its page, as the real service's are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::wire::fault::Fault;

/// The most entries of one page.
pub(super) const MAX_RESULTS: i64 = 1024;

/// Returns the size of a page; more than 1,024 counts as 1,024.
pub(super) fn page_size(asked: Option<i64>, default: i64) -> Result<i64, Fault> {
    match asked {
        None => Ok(default),
        Some(size) if size >= 1 => Ok(size.min(MAX_RESULTS)),
        Some(_) => Err(Fault::validation("MaxResults must be at least 1")),
    }
}

/// Reads a NextToken; without one the listing begins before every key.
pub(super) fn last_key(token: Option<&str>) -> Result<Vec<u8>, Fault> {
    match token.map(|token| STANDARD.decode(token)) {
        None => Ok(Vec::new()),
        Some(Ok(key)) if !key.is_empty() => Ok(key),
        Some(_) => Err(invalid_token()),
    }
}

/// Reads a NextToken that is the base64 of an id or a name; without one, returns "".
pub(super) fn last_name<T: std::str::FromStr>(token: Option<&str>) -> Result<String, Fault> {
    if token.is_none() {
        return Ok(String::new());
    }
    let name = String::from_utf8(last_key(token)?).map_err(|_| invalid_token())?;
    match name.parse::<T>() {
        Ok(_) => Ok(name),
        Err(_) => Err(invalid_token()),
    }
}

fn invalid_token() -> Fault {
    Fault::invalid("NextToken is not valid")
}

/// Takes the entry too many off a listing that was asked for one more than a page, and returns the
/// token for what follows.
pub(super) fn cut<T>(entries: &mut Vec<T>, size: i64, key: impl Fn(&T) -> &[u8]) -> Option<String> {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if entries.len() <= size {
        return None;
    }
    entries.truncate(size);
    entries.last().map(|last| STANDARD.encode(key(last)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::names::DatasetName;

    #[test]
    fn pages_are_clamped() {
        assert_eq!(page_size(None, 64).unwrap(), 64);
        assert_eq!(page_size(Some(5000), 64).unwrap(), 1024);
        assert!(page_size(Some(0), 64).is_err());
        assert!(page_size(Some(-1), 64).is_err());
    }

    #[test]
    fn garbage_is_no_token() {
        for garbage in ["", "%", "c", "/w=="] {
            assert!(
                last_name::<DatasetName>(Some(garbage)).is_err(),
                "{garbage}"
            );
        }
        let token = STANDARD.encode("settings");
        assert_eq!(last_name::<DatasetName>(Some(&token)).unwrap(), "settings");
        assert_eq!(last_name::<DatasetName>(None).unwrap(), "");
        assert_eq!(last_key(Some("/w==")).unwrap(), [0xff]);
    }

    #[test]
    fn the_last_page_has_no_token() {
        let mut entries = vec!["a", "b"];
        assert_eq!(cut(&mut entries, 2, |entry| entry.as_bytes()), None);
        let token = cut(&mut entries, 1, |entry| entry.as_bytes());
        assert_eq!((entries, token.as_deref()), (vec!["a"], Some("YQ==")));
    }
}
