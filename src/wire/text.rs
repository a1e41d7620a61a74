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
