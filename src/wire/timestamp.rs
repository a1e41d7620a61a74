//! Instants as the service writes them: epoch seconds, a JSON number with up to three decimals.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Error, Serialize, Serializer};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::FormatItem;
use time::macros::format_description;

const TEXT: &str = "class java.lang.String can not be converted to milliseconds since epoch";

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

    /// Writes it as ISO 8601 has it, in UTC, with milliseconds.
    pub fn iso8601(self) -> String {
        const FORM: &[FormatItem<'_>] = format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
        );
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000).ok();
        let written = time.and_then(|time| time.format(FORM).ok());
        // A date beyond year 9999 is shown as it came.
        written.unwrap_or_else(|| self.0.to_string())
    }
}

/// Cuts to whole milliseconds.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let millis = |distance: Duration| i64::try_from(distance.as_millis()).unwrap_or(i64::MAX);
        Self(match time.duration_since(UNIX_EPOCH) {
            Ok(since) => millis(since),
            Err(before) => -millis(before.duration()),
        })
    }
}

/// One that no clock can show is the epoch.
impl From<Timestamp> for SystemTime {
    fn from(timestamp: Timestamp) -> Self {
        let distance = Duration::from_millis(timestamp.0.unsigned_abs());
        let time = match timestamp.0 < 0 {
            true => UNIX_EPOCH.checked_sub(distance),
            false => UNIX_EPOCH.checked_add(distance),
        };
        time.unwrap_or(UNIX_EPOCH)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seconds;

        impl de::Visitor<'_> for Seconds {
            type Value = f64;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("epoch seconds")
            }

            fn visit_f64<E>(self, seconds: f64) -> Result<f64, E> {
                Ok(seconds)
            }

            fn visit_i64<E>(self, seconds: i64) -> Result<f64, E> {
                Ok(seconds as f64)
            }

            fn visit_u64<E>(self, seconds: u64) -> Result<f64, E> {
                Ok(seconds as f64)
            }

            /// In the service's own words: <https://github.com/aws/aws-sdk-php/issues/373>
            fn visit_str<E: de::Error>(self, _text: &str) -> Result<f64, E> {
                Err(E::custom(TEXT))
            }
        }

        let seconds = deserializer.deserialize_any(Seconds)?;
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

    #[test]
    fn system_times_keep_their_milliseconds() {
        for millis in [0, 1, -1, 1_412_974_057_151, -62_135_596_800_000] {
            let timestamp = Timestamp::from_millis(millis);
            assert_eq!(Timestamp::from(SystemTime::from(timestamp)), timestamp);
        }
        let between = UNIX_EPOCH + Duration::from_micros(1_999);
        assert_eq!(Timestamp::from(between).as_millis(), 1);
    }
}
