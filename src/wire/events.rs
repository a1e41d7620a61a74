//! Which function is called at which event of a pool.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::names::PoolId;
use super::operation::{Operation, Request, names_one_pool, nullable, parse_body, parse_name};

/// The one event there is: an UpdateRecords with a user's credentials.
pub const SYNC_TRIGGER: &str = "SyncTrigger";

/// The most events of a pool.
pub const MAX_EVENTS: usize = 1;

/// Event types and the functions they call.
pub type Events = BTreeMap<String, String>;

names_one_pool! {
    GetCognitoEvents "GET" ["events"] true -> CognitoEvents
}

/// The answer of [`GetCognitoEvents`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CognitoEvents {
    #[serde(deserialize_with = "nullable")]
    pub events: Events,
}

/// <https://docs.aws.amazon.com/cognitosync/latest/APIReference/API_SetCognitoEvents.html>
#[derive(Clone, Debug)]
pub struct SetCognitoEvents {
    pub pool: PoolId,
    pub body: SetCognitoEventsBody,
}

/// What a [`SetCognitoEvents`] request has in its body. An event that is not named keeps its
/// function; an empty function takes an event's away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SetCognitoEventsBody {
    pub events: Events,
}

/// An answer without fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {}

impl SetCognitoEvents {
    pub(super) fn parse(pool: &str, body: &[u8]) -> Result<Self, Fault> {
        let set = Self {
            pool: parse_name(pool)?,
            body: parse_body(body)?,
        };
        if set.body.events.len() > MAX_EVENTS {
            return Err(Fault::validation("Events: expected at most 1 entry"));
        }
        Ok(set)
    }
}

impl Operation for SetCognitoEvents {
    const NAME: &'static str = "SetCognitoEvents";
    type Answer = Done;

    fn request(&self) -> Request {
        let segments = ["identitypools", self.pool.as_str(), "events"];
        Request::rest("POST", &segments).json(&self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault::Code;
    use super::*;

    #[test]
    fn there_is_at_most_one_event() {
        let set = |body: &str| {
            SetCognitoEvents::parse("us-east-1:ab", body.as_bytes()).map_err(|fault| fault.code)
        };
        assert!(set(r#"{"Events":{}}"#).is_ok());
        assert!(set(r#"{"Events":{"SyncTrigger":"arn"}}"#).is_ok());
        for (body, code) in [
            (r#"{"Events":{"a":"","b":""}}"#, Code::InvalidParameter),
            ("{}", Code::InvalidParameter),
            (r#"{"Events":null}"#, Code::InvalidParameter),
            (r#"{"Events":{"a":5}}"#, Code::Serialization),
            (r#"{"Events":[]}"#, Code::Serialization),
            ("", Code::Serialization),
        ] {
            assert_eq!(set(body).unwrap_err(), code, "{body}");
        }
    }
}
