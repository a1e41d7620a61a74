//! File names for record keys and dataset names, both ways.
//!
//! Invariant: every key has exactly one file name and every legal UTF-8 name exactly one key, but
//! for keys whose name would be longer than a name may be, and keys that are not Unicode: those
//! have a hash in their name, and are found by it among the records there are.

use sha2::{Digest, Sha256};

use crate::wire::names::RecordKey;

/// The longest file name, in bytes.
pub const NAME_MAX: usize = 255;
/// The directory about a directory. It is never a key's own name.
pub(super) const CONTROL: &str = ".cognito";

const HASH_MARK: &str = "%~";
/// Hexadecimal digits: 128 bits.
const HASH_DIGITS: usize = 32;
/// What follows `%` in an escape anywhere in a name: `/`, NUL and the hash mark.
const ANYWHERE: [&str; 3] = ["2F", "00", "~"];
/// What follows `%` in an escape that is the whole name: `.`, `..` and `.cognito`.
const WHOLE: [&str; 3] = ["2E", "2E.", "2Ecognito"];

/// What a file name says.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    Key(String),
    /// A name with a hash: it is compared with the names of the records there are.
    Hashed,
    /// `.`, `..` or `.cognito`.
    Reserved,
}

/// Returns the file name of a key.
pub fn encode(key: &RecordKey) -> String {
    let plain = key.as_str().map(encode_text);
    match plain {
        Some(name) if name.len() <= NAME_MAX => name,
        Some(name) => hashed(&name, key),
        None => hashed(&String::from_utf8_lossy(key.text().as_bytes()), key),
    }
}

/// Returns a name for a key that leaves `room` bytes of the longest name.
pub(super) fn encode_short(key: &RecordKey, room: usize) -> String {
    let name = encode(key);
    match name.len() + room <= NAME_MAX {
        true => name,
        false => hashed_within(&name, key, NAME_MAX - room),
    }
}

/// Returns whether a key's name can have a hash; most cannot, and hashing is slow.
pub(super) fn may_be_hashed(key: &RecordKey) -> bool {
    // An escape is three bytes for one, or two more.
    key.as_str().is_none_or(|text| text.len() * 3 > NAME_MAX)
}

/// Returns the file name of a text, however long.
pub fn encode_text(text: &str) -> String {
    if matches!(text, "." | ".." | CONTROL) {
        return format!("%2E{}", &text[1..]);
    }
    if is_escape(text, &WHOLE, |rest, tail| rest == tail) {
        return format!("%25{}", &text[1..]);
    }
    let mut name = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        match character {
            '/' => name.push_str("%2F"),
            '\0' => name.push_str("%00"),
            '%' if is_escape(&text[at..], &ANYWHERE, |rest, tail| rest.starts_with(tail)) => {
                name.push_str("%25");
            }
            _ => name.push(character),
        }
    }
    name
}

/// Reads a file name. Text is never normalised.
pub fn decode(name: &str) -> Decoded {
    if matches!(name, "." | ".." | CONTROL) {
        return Decoded::Reserved;
    }
    if is_escape(name, &WHOLE, |rest, tail| rest == tail) {
        let text = match name.strip_prefix("%2E") {
            Some(rest) => format!(".{rest}"),
            None => format!("%{}", &name[3..]),
        };
        return Decoded::Key(text);
    }
    let mut text = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let (literal, length) = if rest.starts_with("%2F") {
            ("/", 3)
        } else if rest.starts_with("%00") {
            ("\0", 3)
        } else if rest.starts_with(HASH_MARK) {
            return Decoded::Hashed;
        } else if is_escape(rest, &ANYWHERE, |rest, tail| rest.starts_with(tail)) {
            ("%", 3)
        } else {
            ("%", 1)
        };
        text.push_str(literal);
        rest = &rest[length..];
    }
    text.push_str(rest);
    Decoded::Key(text)
}

/// Returns whether `text` begins with `%`, any number of `25`, and one of `tails`.
fn is_escape(text: &str, tails: &[&str], matches: impl Fn(&str, &str) -> bool) -> bool {
    let Some(mut rest) = text.strip_prefix('%') else {
        return false;
    };
    loop {
        if tails.iter().any(|tail| matches(rest, tail)) {
            return true;
        }
        match rest.strip_prefix("25") {
            Some(shorter) => rest = shorter,
            None => return false,
        }
    }
}

/// Cuts a name short and puts the key's hash behind it.
fn hashed(name: &str, key: &RecordKey) -> String {
    hashed_within(name, key, NAME_MAX)
}

fn hashed_within(name: &str, key: &RecordKey, length: usize) -> String {
    // Such a name is itself no escape, so what is cut off must not leave a NUL or a slash.
    let name = name.replace(['/', '\0'], "_");
    let mut end = length - HASH_MARK.len() - HASH_DIGITS;
    end = end.min(name.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let mut short = name[..end].to_owned();
    short.push_str(HASH_MARK);
    for byte in &Sha256::digest(key.text().as_bytes())[..HASH_DIGITS / 2] {
        short.push_str(&format!("{byte:02x}"));
    }
    short
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::text::Text;

    fn key(text: &str) -> RecordKey {
        RecordKey::new(text).unwrap()
    }

    #[test]
    fn s01_the_documented_examples() {
        for (text, name) in [
            ("theme", "theme"),
            ("100%", "100%"),
            ("a%25", "a%25"),
            ("a/b", "a%2Fb"),
            ("a\0b", "a%00b"),
            (".", "%2E"),
            ("..", "%2E."),
            (".cognito", "%2Ecognito"),
            ("...", "..."),
            (".hidden", ".hidden"),
            ("%2F", "%252F"),
            ("%252F", "%25252F"),
            ("%2f", "%2f"),
            ("%2E", "%252E"),
            ("%2E.", "%252E."),
            ("%2Ex", "%2Ex"),
            ("x%2E", "x%2E"),
            ("%~", "%25~"),
            ("%/", "%%2F"),
            ("%25/", "%25%2F"),
            ("e\u{301}", "e\u{301}"),
        ] {
            assert_eq!(encode(&key(text)), name);
            assert_eq!(decode(name), Decoded::Key(text.to_owned()), "{name}");
        }
        for name in [".", "..", ".cognito"] {
            assert_eq!(decode(name), Decoded::Reserved);
        }
    }

    #[test]
    fn s02_long_and_odd_keys_have_a_name_of_their_own() {
        let long = encode(&key(&"é/".repeat(500)));
        assert!(
            long.len() <= NAME_MAX && long.starts_with("é%2Fé"),
            "{long}"
        );
        assert_eq!(decode(&long), Decoded::Hashed);
        assert_ne!(long, encode(&key(&"é/".repeat(501))));
        let odd = RecordKey::new(Text::from_bytes(b"a\xed\xa0\x80/b".to_vec())).unwrap();
        let name = encode(&odd);
        assert_eq!(decode(&name), Decoded::Hashed);
        assert!(!name.contains('/'), "{name}");
    }

    /// Text in which escapes, and what almost is one, are frequent.
    fn text() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("%"),
            Just("25"),
            Just("2F"),
            Just("2E"),
            Just("00"),
            Just("~"),
            Just("."),
            Just("cognito"),
            Just("/"),
            Just("\0"),
            Just("é"),
            Just("😀"),
            Just("a"),
        ];
        prop_oneof![
            prop::collection::vec(part, 1..10).prop_map(|parts| parts.concat()),
            "\\PC{1,40}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn s01_every_key_has_one_name(text in text()) {
            let name = encode_text(&text);
            prop_assert!(!name.contains('/') && !name.contains('\0'));
            prop_assert_eq!(decode(&name), Decoded::Key(text));
        }

        #[test]
        fn s01_every_name_has_one_key(name in text()) {
            let name = name.replace(['/', '\0'], "");
            if let (false, Decoded::Key(text)) = (name.is_empty(), decode(&name)) {
                prop_assert_eq!(encode_text(&text), name);
            }
        }
    }
}
