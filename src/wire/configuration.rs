//! What a pool does with changes: push notifications and a stream.
//!
//! Invariant: what was parsed keeps the model's limits and patterns.

use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::names::PoolId;
use super::operation::{
    Operation, Request, names_one_pool, nullable, optional_object, parse_body, parse_name,
};

names_one_pool! {
    GetIdentityPoolConfiguration "GET" ["configuration"] true -> IdentityPoolConfiguration
}

/// <https://docs.aws.amazon.com/cognitosync/latest/APIReference/API_SetIdentityPoolConfiguration.html>
#[derive(Clone, Debug)]
pub struct SetIdentityPoolConfiguration {
    pub pool: PoolId,
    pub body: IdentityPoolOptions,
}

/// What is set on a pool. A part that is absent is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IdentityPoolOptions {
    #[serde(
        deserialize_with = "optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    pub push_sync: Option<PushSync>,
    #[serde(
        deserialize_with = "optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    pub cognito_streams: Option<CognitoStreams>,
}

/// <https://docs.aws.amazon.com/cognitosync/latest/APIReference/API_PushSync.html>
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PushSync {
    /// SNS platform applications: `arn:aws:sns:REGION:ACCOUNT:app/PLATFORM/NAME`.
    #[serde(deserialize_with = "nullable")]
    pub application_arns: Vec<String>,
    /// 20 to 2,048 characters.
    pub role_arn: Option<String>,
}

/// <https://docs.aws.amazon.com/cognitosync/latest/APIReference/API_CognitoStreams.html>
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CognitoStreams {
    /// A Kinesis stream: 1 to 128 characters.
    pub stream_name: Option<String>,
    /// 20 to 2,048 characters.
    pub role_arn: Option<String>,
    pub streaming_status: Option<StreamingStatus>,
}

/// Whether changes go to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StreamingStatus {
    Enabled,
    Disabled,
}

/// The answer of [`GetIdentityPoolConfiguration`] and of [`SetIdentityPoolConfiguration`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IdentityPoolConfiguration {
    pub identity_pool_id: Option<PoolId>,
    pub push_sync: Option<PushSync>,
    pub cognito_streams: Option<CognitoStreams>,
}

impl SetIdentityPoolConfiguration {
    pub(super) fn parse(pool: &str, body: &[u8]) -> Result<Self, Fault> {
        let set = Self {
            pool: parse_name(pool)?,
            body: parse_body(body)?,
        };
        if let Some(push) = &set.body.push_sync {
            check_role(push.role_arn.as_deref())?;
            if !push.application_arns.iter().all(|arn| is_application(arn)) {
                return Err(Fault::validation(
                    "ApplicationArns: expected arn:aws:sns:REGION:ACCOUNT:app/PLATFORM/NAME",
                ));
            }
        }
        if let Some(streams) = &set.body.cognito_streams {
            check_role(streams.role_arn.as_deref())?;
            let length = streams.stream_name.as_deref().map(|n| n.chars().count());
            if length.is_some_and(|length| !(1..=128).contains(&length)) {
                return Err(Fault::validation(
                    "StreamName: expected 1 to 128 characters",
                ));
            }
        }
        Ok(set)
    }
}

impl Operation for SetIdentityPoolConfiguration {
    const NAME: &'static str = "SetIdentityPoolConfiguration";
    type Answer = IdentityPoolConfiguration;

    fn request(&self) -> Request {
        let segments = ["identitypools", self.pool.as_str(), "configuration"];
        Request::rest("POST", &segments).json(&self.body)
    }
}

fn check_role(arn: Option<&str>) -> Result<(), Fault> {
    let Some(arn) = arn else { return Ok(()) };
    let fits = arn.strip_prefix("arn:aws:iam::").is_some_and(|rest| {
        let (account, name) = rest.split_once(":role/").unwrap_or_default();
        is_number(account) && !name.contains(['\n', '\r'])
    });
    match fits && (20..=2048).contains(&arn.chars().count()) {
        true => Ok(()),
        false => Err(Fault::validation(
            "RoleArn: expected arn:aws:iam::ACCOUNT:role/NAME of 20 to 2048 characters",
        )),
    }
}

fn is_application(arn: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let platform = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let all =
        |text: &str, allowed: &dyn Fn(u8) -> bool| !text.is_empty() && text.bytes().all(allowed);
    let Some(rest) = arn.strip_prefix("arn:aws:sns:") else {
        return false;
    };
    let parts: Vec<&str> = rest.split([':', '/']).collect();
    let [region, account, "app", kind, name] = parts[..] else {
        return false;
    };
    rest.contains(":app/")
        && all(region, &plain)
        && is_number(account)
        && all(kind, &platform)
        && all(name, &named)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::super::fault::Code;
    use super::*;
    use serde_json::{Value, json};

    fn set(body: &Value) -> Result<SetIdentityPoolConfiguration, Code> {
        let body = body.to_string();
        SetIdentityPoolConfiguration::parse("us-east-1:ab", body.as_bytes())
            .map_err(|fault| fault.code)
    }

    #[test]
    fn limits_and_patterns_are_kept() {
        let role = |length: usize| format!("arn:aws:iam::1:role/{}", "r".repeat(length - 20));
        let push = |arn: &str| json!({"PushSync": {"ApplicationArns": [arn]}});
        let stream = |name: &str| json!({"CognitoStreams": {"StreamName": name}});
        for good in [
            json!({}),
            json!({"PushSync": null, "CognitoStreams": null}),
            json!({"PushSync": {"ApplicationArns": null, "RoleArn": role(20)}}),
            json!({"CognitoStreams": {"RoleArn": role(2048), "StreamingStatus": "DISABLED"}}),
            push("arn:aws:sns:us-east-1:1:app/GCM/a_b.c-D"),
            push("arn:aws:sns:x:12:app/APNS_SANDBOX/a"),
            stream("s"),
            stream(&"é".repeat(128)),
        ] {
            assert!(set(&good).is_ok(), "{good}");
        }
        for bad in [
            json!({"PushSync": {"RoleArn": role(2049)}}),
            json!({"PushSync": {"RoleArn": "arn:aws:iam::1:role"}}),
            json!({"PushSync": {"RoleArn": "arn:aws:iam::x:role/12345"}}),
            json!({"CognitoStreams": {"RoleArn": "arn:aws:iam::1:user/role/1"}}),
            json!({"CognitoStreams": {"StreamingStatus": "enabled"}}),
            push("arn:aws:sns:us-east-1:1:app:GCM:a"),
            push("arn:aws:sns:US:1:app/GCM/a"),
            push("arn:aws:sns:us-east-1::app/GCM/a"),
            push("arn:aws:sns:us-east-1:1:app/gcm/a"),
            push("arn:aws:sns:us-east-1:1:app/GCM/"),
            push("arn:aws:sns:us-east-1:1:app/GCM/a b"),
            stream(""),
            stream(&"s".repeat(129)),
        ] {
            assert_eq!(set(&bad).unwrap_err(), Code::InvalidParameter, "{bad}");
        }
        for wrong in [
            json!([1]),
            json!({"PushSync": "x"}),
            json!({"PushSync": {"ApplicationArns": "x"}}),
            json!({"CognitoStreams": {"StreamName": 5}}),
        ] {
            assert_eq!(set(&wrong).unwrap_err(), Code::Serialization, "{wrong}");
        }
    }
}
