//! Ids and names of the service. They are made by parsing and trusted from then on.
//!
//! Limits and patterns: <https://docs.aws.amazon.com/cognitosync/latest/APIReference/API_Operations.html>

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::fault::VALIDATION_PREFIX;
use super::text::Text;

/// The longest value a record can hold, in characters.
pub const MAX_VALUE_CHARS: usize = 1_048_575;

/// Why a text is not an id or a name of the service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct NameError {
    what: &'static str,
    why: &'static str,
}

fn name_error(what: &'static str, why: &'static str) -> NameError {
    NameError { what, why }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// An AWS region such as `us-east-1`.
    Region
);
name!(
    /// An identity pool id: `REGION:UUID` in lower case, at most 55 characters.
    PoolId
);
name!(
    /// An identity id: `REGION:UUID` in lower case, at most 55 characters.
    IdentityId
);
name!(
    /// A dataset name: 1 to 128 of `a-z A-Z 0-9 _ . : -`.
    DatasetName
);

name!(
    /// The id a device got when it was registered: 1 to 256 characters of any text.
    DeviceId
);

impl FromStr for DeviceId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.chars().count() {
            1..=256 => Ok(Self(text.into())),
            _ => Err(name_error("device id", "expected 1 to 256 characters")),
        }
    }
}

impl FromStr for Region {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let plain = text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !plain || !text.contains('-') || text.starts_with('-') || text.len() > 32 {
            return Err(name_error("region", "expected a name such as us-east-1"));
        }
        Ok(Self(text.into()))
    }
}

fn parse_id(what: &'static str, text: &str) -> Result<Arc<str>, NameError> {
    let expected = name_error(
        what,
        "expected REGION:UUID in lower case, at most 55 characters",
    );
    let (region, uuid) = text.split_once(':').ok_or_else(|| expected.clone())?;
    region.parse::<Region>().map_err(|_| expected.clone())?;
    let hexadecimal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
    if uuid.is_empty() || !uuid.bytes().all(hexadecimal) || text.len() > 55 {
        return Err(expected);
    }
    Ok(text.into())
}

impl FromStr for PoolId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        parse_id("identity pool id", text).map(Self)
    }
}

impl PoolId {
    /// Returns the region the pool lies in, which its id begins with.
    pub fn region(&self) -> Region {
        Region(self.0.split(':').next().unwrap_or_default().into())
    }
}

impl FromStr for IdentityId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        parse_id("identity id", text).map(Self)
    }
}

impl FromStr for DatasetName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
        if !(1..=128).contains(&text.len()) || !text.bytes().all(allowed) {
            return Err(name_error(
                "dataset name",
                "expected 1 to 128 of a-z A-Z 0-9 _ . : -",
            ));
        }
        Ok(Self(text.into()))
    }
}

/// What part of a region's tree is meant: all of it, or what lies under one pool, identity or
/// dataset. Written `POOL[/IDENTITY[/DATASET]]`; the empty text is the whole region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Region,
    Pool(PoolId),
    Identity(PoolId, IdentityId),
    Dataset(PoolId, IdentityId, DatasetName),
}

impl FromStr for Scope {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parts: Vec<&str> = text.trim_end_matches('/').split('/').collect();
        match parts[..] {
            [""] => Ok(Self::Region),
            [pool] => Ok(Self::Pool(pool.parse()?)),
            [pool, identity] => Ok(Self::Identity(pool.parse()?, identity.parse()?)),
            [pool, identity, dataset] => Ok(Self::Dataset(
                pool.parse()?,
                identity.parse()?,
                dataset.parse()?,
            )),
            _ => Err(name_error("path", "expected POOL[/IDENTITY[/DATASET]]")),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region => Ok(()),
            Self::Pool(pool) => write!(f, "{pool}"),
            Self::Identity(pool, identity) => write!(f, "{pool}/{identity}"),
            Self::Dataset(pool, identity, dataset) => write!(f, "{pool}/{identity}/{dataset}"),
        }
    }
}

/// A record's key: 1 to 1,024 characters of any text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey(Text);

impl RecordKey {
    /// The longest key, in characters.
    pub const MAX_CHARS: usize = 1024;

    /// Takes a key; an empty one and one of more than 1,024 characters are none.
    pub fn new(text: impl Into<Text>) -> Result<Self, NameError> {
        let text = text.into();
        if !(1..=Self::MAX_CHARS).contains(&text.chars()) {
            return Err(name_error("record key", "expected 1 to 1,024 characters"));
        }
        Ok(Self(text))
    }

    pub fn text(&self) -> &Text {
        &self.0
    }

    /// Returns the key, unless it is not Unicode.
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_str()
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl serde::Serialize for RecordKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for RecordKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Text::deserialize(deserializer)?).map_err(broken_limit)
    }
}

/// Says in JSON's own errors that the form was right and a limit was not; a request's reader tells
/// the two apart.
fn broken_limit<E: serde::de::Error>(error: NameError) -> E {
    E::custom(format_args!("{VALIDATION_PREFIX}{error}"))
}

macro_rules! serde_as_str {
    ($($name:ident),*) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(broken_limit)
            }
        }
    )*};
}

serde_as_str!(PoolId, IdentityId, DatasetName, DeviceId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_canonical() {
        let id = "us-east-1:1f0c5d8e-0000-4000-8000-0123456789ab";
        assert_eq!(id.parse::<PoolId>().unwrap().region().as_str(), "us-east-1");
        for bad in [
            "",
            "us-east-1",
            "us-east-1:",
            "US-EAST-1:1f0c5d8e-0000-4000-8000-0123456789ab",
            "us-east-1:1F0C5D8E-0000-4000-8000-0123456789ab",
            "us-east-1:1f0c/..",
            "us-east-1:1f0c5d8e-0000-4000-8000-0123456789ab-0123456789",
        ] {
            assert!(bad.parse::<IdentityId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn dataset_names_follow_the_pattern() {
        for good in ["settings", ".", "..", "a.us-east-1:12", &"x".repeat(128)] {
            assert!(good.parse::<DatasetName>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "é", &"x".repeat(129)] {
            assert!(bad.parse::<DatasetName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_scope_is_a_path() {
        for text in ["", "a-1:0", "a-1:0/a-1:1", "a-1:0/a-1:1/settings"] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        for bad in ["x", "a-1:0/x", "a-1:0/a-1:1/s/k", "/a-1:0"] {
            assert!(bad.parse::<Scope>().is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_counted_in_characters() {
        assert!(RecordKey::new("é".repeat(1024)).is_ok());
        assert!(RecordKey::new("é".repeat(1025)).is_err());
        assert!(RecordKey::new("").is_err());
    }
}
