//! Instants as the service writes them: epoch seconds, a JSON number with up to three decimals.

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Error, Serialize, Serializer};
use serde_json::value::RawValue;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Takes milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Returns milliseconds since the epoch.
    pub fn as_millis(self) -> i64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Ok(Self((seconds * 1000.0).round() as i64))
    }
}

/// Writes seconds with three decimals, as AWS's own mobile clients do.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sign = if self.0 < 0 { "-" } else { "" };
        let millis = self.0.unsigned_abs();
        raw(
            format!("{sign}{}.{:03}", millis / 1000, millis % 1000),
            serializer,
        )
    }
}

fn raw<S: Serializer>(number: String, serializer: S) -> Result<S::Ok, S::Error> {
    RawValue::from_string(number)
        .map_err(S::Error::custom)?
        .serialize(serializer)
}

/// The form of the service's answers: `1.412974057151E9`.
pub mod exponent {
    use super::{Deserialize, Deserializer, Serializer, Timestamp, raw};

    pub fn serialize<S: Serializer>(
        timestamp: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match timestamp {
            Some(timestamp) => raw(format!("{:E}", timestamp.0 as f64 / 1000.0), serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Option::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_documented_form() {
        for (json, millis) in [
            ("1.412974057151E9", 1_412_974_057_151),
            ("1412974057", 1_412_974_057_000),
            ("1412974057.5", 1_412_974_057_500),
            ("0", 0),
            ("-1.5", -1500),
        ] {
            let timestamp: Timestamp = serde_json::from_str(json).unwrap();
            assert_eq!(timestamp.as_millis(), millis, "{json}");
        }
        assert!(serde_json::from_str::<Timestamp>("\"2014\"").is_err());
    }

    #[test]
    fn writes_seconds_with_three_decimals() {
        let json = serde_json::to_string(&Timestamp::from_millis(1_412_974_057_051)).unwrap();
        assert_eq!(json, "1412974057.051");
        let json = serde_json::to_string(&Timestamp::from_millis(-1_500)).unwrap();
        assert_eq!(json, "-1.500");
    }
}
