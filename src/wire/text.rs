//! JSON strings as the service keeps them.
//!
//! JavaScript clients can store an unpaired surrogate, which no Rust `str` can hold. Such text is
//! kept byte for byte in WTF-8 and written back as the escape it came from.

use std::fmt;
use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{self, Serialize, Serializer};
use serde_json::value::RawValue;

/// A JSON string: Unicode text, or WTF-8 where it holds an unpaired surrogate.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Text {
    Unicode(Arc<str>),
    /// WTF-8 (<https://wtf-8.codeberg.page/>), never valid UTF-8.
    Surrogates(Arc<[u8]>),
}

impl Text {
    /// Returns the text, unless it is not Unicode.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Unicode(text) => Some(text),
            Self::Surrogates(_) => None,
        }
    }

    /// Returns the UTF-8 or WTF-8 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Unicode(text) => text.as_bytes(),
            Self::Surrogates(bytes) => bytes,
        }
    }

    /// Takes UTF-8 or WTF-8 bytes, as [`as_bytes`](Self::as_bytes) returned them.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Unicode(text.into()),
            Err(error) => Self::Surrogates(error.into_bytes().into()),
        }
    }

    /// Takes bytes that somebody wrote: UTF-8, or WTF-8 in which no two surrogates stand that are one
    /// character. None for all others.
    pub fn from_wtf8(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut after_high = false;
        while let Err(error) = std::str::from_utf8(rest) {
            after_high &= error.valid_up_to() == 0;
            rest = &rest[error.valid_up_to()..];
            let [0xed, second @ 0xa0..=0xbf, 0x80..=0xbf, after @ ..] = rest else {
                return None;
            };
            let is_high = *second < 0xb0;
            if after_high && !is_high {
                return None;
            }
            after_high = is_high;
            rest = after;
        }
        Some(Self::from_bytes(bytes.to_vec()))
    }

    /// Returns this text with another behind it. Two surrogates that meet become the character they
    /// are halves of.
    pub fn joined(&self, more: &Self) -> Self {
        let (first, second) = (self.as_bytes(), more.as_bytes());
        if let [head @ .., 0xed, high @ 0xa0..=0xaf, low] = first
            && let [0xed, second_high @ 0xb0..=0xbf, second_low, tail @ ..] = second
        {
            let half = |high: u8, low: u8| u32::from(high & 0x0f) << 6 | u32::from(low & 0x3f);
            let scalar =
                0x10000 + (half(*high, *low) << 10) + half(*second_high & 0xf, *second_low);
            let mut bytes = head.to_vec();
            let mut utf8 = [0; 4];
            let character = char::from_u32(scalar).unwrap_or(char::REPLACEMENT_CHARACTER);
            bytes.extend_from_slice(character.encode_utf8(&mut utf8).as_bytes());
            bytes.extend_from_slice(tail);
            return Self::from_bytes(bytes);
        }
        Self::from_bytes([first, second].concat())
    }

    /// Counts characters (code points), the unit of the API's length limits.
    pub fn chars(&self) -> usize {
        self.as_bytes()
            .iter()
            .filter(|byte| **byte & 0xc0 != 0x80)
            .count()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::Unicode(text.into())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::Unicode(text.into())
    }
}

impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Self {
        Self::Unicode(text)
    }
}

/// Shows the size only: values and keys are the user's and are never logged.
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.as_bytes().len())
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unicode(text) => serializer.serialize_str(text),
            Self::Surrogates(bytes) => RawValue::from_string(escape(bytes))
                .map_err(ser::Error::custom)?
                .serialize(serializer),
        }
    }
}

/// Writes WTF-8 as a JSON string in which every unpaired surrogate is a `\uXXXX` escape.
fn escape(bytes: &[u8]) -> String {
    let mut json = String::from("\"");
    let mut rest = bytes;
    while !rest.is_empty() {
        let (valid, after) = match std::str::from_utf8(rest) {
            Ok(valid) => (valid, &rest[rest.len()..]),
            Err(error) => {
                let (valid, after) = rest.split_at(error.valid_up_to());
                (std::str::from_utf8(valid).unwrap_or_default(), after)
            }
        };
        let quoted = serde_json::Value::from(valid).to_string();
        json.push_str(&quoted[1..quoted.len() - 1]);
        rest = match after {
            [0xed, second, third, tail @ ..] => {
                let unit = 0xd000 | (u16::from(second & 0x3f) << 6) | u16::from(third & 0x3f);
                json.push_str(&format!("\\u{unit:04x}"));
                tail
            }
            [_, tail @ ..] => {
                json.push_str("\\ufffd");
                tail
            }
            [] => after,
        };
    }
    json.push('"');
    json
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl Visitor<'_> for TextVisitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(text.into())
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text::from_bytes(bytes.to_vec()))
            }
        }

        deserializer.deserialize_bytes(TextVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpaired_surrogates_survive_both_ways() {
        for json in [
            r#""a\ud800b""#,
            r#""\udfff""#,
            r#""\ud83d plain \" and \\ \n""#,
        ] {
            let text: Text = serde_json::from_str(json).unwrap();
            assert!(text.as_str().is_none(), "{json}");
            assert_eq!(serde_json::to_string(&text).unwrap(), json);
            assert_eq!(Text::from_bytes(text.as_bytes().to_vec()), text);
        }
    }

    #[test]
    fn unicode_is_plain_text() {
        let text: Text = serde_json::from_str(r#""caf\u00e9 \ud83d\ude00 \u0000""#).unwrap();
        assert_eq!(text.as_str(), Some("café 😀 \0"));
        assert_eq!(text.chars(), 8);
    }

    #[test]
    fn f05_bytes_are_text_unless_two_surrogates_in_them_are_one_character() {
        let good: [&[u8]; 5] = [
            b"",
            "é".as_bytes(),
            b"a\xed\xa0\x80b",
            b"\xed\xb0\x80\xed\xa0\x80",
            b"\xed\xa0\x80\xed\xa0\x81",
        ];
        for bytes in good {
            assert_eq!(Text::from_wtf8(bytes).unwrap().as_bytes(), bytes);
        }
        let bad: [&[u8]; 5] = [
            b"\xed\xa0\x80\xed\xb0\x80",
            b"\xff",
            b"\xed\xa0",
            b"a\xc3",
            b"\xc0\x80",
        ];
        for bytes in bad {
            assert!(Text::from_wtf8(bytes).is_none(), "{bytes:?}");
        }
    }

    #[test]
    fn f05_halves_that_an_append_joins_are_one_character() {
        let (high, low) = ("a\u{0}", "z");
        let halves = |json: &str| serde_json::from_str::<Text>(json).unwrap();
        let joined = halves(r#""a\ud83d""#).joined(&halves(r#""\ude00z""#));
        assert_eq!(joined.as_str(), Some("a😀z"));
        let apart = halves(r#""\ude00""#).joined(&halves(r#""\ud83d""#));
        assert!(apart.as_str().is_none());
        assert_eq!(Text::from(high).joined(&low.into()).as_str(), Some("a\0z"));
    }

    #[test]
    fn only_strings_are_text() {
        for json in ["5", "null", "[1,2]", "{}", "true"] {
            assert!(serde_json::from_str::<Text>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn debug_shows_no_content() {
        assert_eq!(format!("{:?}", Text::from("secret")), "Text(6 bytes)");
    }
}
