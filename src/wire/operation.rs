//! The shape of every operation: how a request is written, and how it is read on the other side.
//!
//! Cognito Sync is REST-JSON: ids in the path, a few query parameters, a JSON body. The part of
//! Cognito Identity used here is JSON 1.1 RPC (see [`identity`](super::identity)).

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _};
use serde_json::value::RawValue;

use super::bulk_publish::{BulkPublish, GetBulkPublishDetails};
use super::configuration::{GetIdentityPoolConfiguration, SetIdentityPoolConfiguration};
use super::datasets::{DeleteDataset, DescribeDataset, ListDatasets};
use super::devices::{RegisterDevice, SubscribeToDataset, UnsubscribeFromDataset};
use super::events::{GetCognitoEvents, SetCognitoEvents};
use super::fault::{Code, Fault, VALIDATION_PREFIX};
use super::names::{IdentityId, PoolId};
use super::pools::{DescribeIdentityPoolUsage, DescribeIdentityUsage, ListIdentityPoolUsage};
use super::records::{ListRecords, UpdateRecords};

/// RFC 3986's unreserved characters stay; `:` becomes `%3A`, which signs as `%253A`.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The two services a pool lives in. They have hosts and signing names of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    CognitoSync,
    CognitoIdentity,
}

impl Service {
    /// Returns the name in the host and in the signature's scope.
    pub fn signing_name(self) -> &'static str {
        match self {
            Self::CognitoSync => "cognito-sync",
            Self::CognitoIdentity => "cognito-identity",
        }
    }
}

/// A request before it has a host and a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub service: Service,
    pub method: &'static str,
    /// Percent-encoded path and query, as they go on the wire.
    pub path: String,
    /// `X-Amz-Target`, for RPC only.
    pub target: Option<String>,
    /// Headers that only this operation has.
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// Begins a REST request; `segments` are encoded here.
    pub fn rest(method: &'static str, segments: &[&str]) -> Self {
        let mut path = String::new();
        for segment in segments {
            path.push('/');
            path.extend(utf8_percent_encode(segment, SEGMENT));
        }
        Self {
            service: Service::CognitoSync,
            method,
            path,
            target: None,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Adds a query parameter, unless it has no value.
    pub fn query(mut self, name: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            self.path
                .push(if self.path.contains('?') { '&' } else { '?' });
            self.path.push_str(name);
            self.path.push('=');
            self.path
                .extend(utf8_percent_encode(&value.to_string(), SEGMENT));
        }
        self
    }

    /// Adds a header, unless it has no value.
    pub fn header(mut self, name: &'static str, value: Option<&String>) -> Self {
        self.headers
            .extend(value.map(|value| (name, value.clone())));
        self
    }

    /// Sets the JSON body.
    pub fn json(mut self, body: &impl serde::Serialize) -> Self {
        self.body = serde_json::to_vec(body).expect("wire types are plain JSON");
        self
    }
}

/// One operation of the API: its request, and how its answer is read.
pub trait Operation: Send + Sync {
    /// The API's name for it.
    const NAME: &'static str;
    /// Whether it may be repeated when no answer came.
    const REPEATABLE: bool = true;
    /// Whether it carries no signature, as the API says of GetId.
    const UNSIGNED: bool = false;

    type Answer: DeserializeOwned + Send;

    fn request(&self) -> Request;
}

macro_rules! calls {
    ($($name:ident)*) => {
        /// A Cognito Sync request as the service reads it.
        #[derive(Clone, Debug)]
        pub enum Call {
            $($name($name),)*
        }

        impl Call {
            /// All operations of Cognito Sync.
            pub const NAMES: &[&str] = &[$($name::NAME),*];

            /// Returns the API's name for the operation.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => $name::NAME,)*
                }
            }
        }
    };
}

calls! {
    BulkPublish
    DeleteDataset
    DescribeDataset
    DescribeIdentityPoolUsage
    DescribeIdentityUsage
    GetBulkPublishDetails
    GetCognitoEvents
    GetIdentityPoolConfiguration
    ListDatasets
    ListIdentityPoolUsage
    ListRecords
    RegisterDevice
    SetCognitoEvents
    SetIdentityPoolConfiguration
    SubscribeToDataset
    UnsubscribeFromDataset
    UpdateRecords
}

impl Call {
    /// Reads a request; `path` is as received, percent-encoded.
    ///
    /// # Errors
    /// `UnknownOperationException` for a route the API does not have, `SerializationException` for
    /// a body that is not the operation's JSON, `InvalidParameterException` for an id, a name, a
    /// number or a field that breaks the API's limits.
    pub fn parse(method: &str, path: &str, query: &str, body: &[u8]) -> Result<Self, Fault> {
        let segments = path
            .strip_prefix('/')
            .unwrap_or(path)
            .split('/')
            .map(|segment| percent_decode_str(segment).decode_utf8())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| Fault::invalid("the path is not UTF-8"))?;
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        let query = Query::parse(query)?;
        match segments.as_slice() {
            ["identitypools"] if method == "GET" => {
                ListIdentityPoolUsage::parse(&query).map(Self::ListIdentityPoolUsage)
            }
            ["identitypools", pool, rest @ ..] => {
                Self::parse_in_pool(method, pool, rest, &query, body)
            }
            _ => Err(Fault::unknown_operation()),
        }
    }

    /// Reads what comes behind `/identitypools/POOL`.
    fn parse_in_pool(
        method: &str,
        pool: &str,
        rest: &[&str],
        query: &Query<'_>,
        body: &[u8],
    ) -> Result<Self, Fault> {
        match (method, rest) {
            ("GET", []) => {
                DescribeIdentityPoolUsage::parse(pool).map(Self::DescribeIdentityPoolUsage)
            }
            ("POST", ["bulkpublish"]) => BulkPublish::parse(pool).map(Self::BulkPublish),
            ("POST", ["getBulkPublishDetails"]) => {
                GetBulkPublishDetails::parse(pool).map(Self::GetBulkPublishDetails)
            }
            ("GET", ["configuration"]) => {
                GetIdentityPoolConfiguration::parse(pool).map(Self::GetIdentityPoolConfiguration)
            }
            ("POST", ["configuration"]) => SetIdentityPoolConfiguration::parse(pool, body)
                .map(Self::SetIdentityPoolConfiguration),
            ("GET", ["events"]) => GetCognitoEvents::parse(pool).map(Self::GetCognitoEvents),
            ("POST", ["events"]) => SetCognitoEvents::parse(pool, body).map(Self::SetCognitoEvents),
            // The one route that has the word in the singular.
            ("POST", ["identity", identity, "device"]) => {
                RegisterDevice::parse(pool, identity, body).map(Self::RegisterDevice)
            }
            (_, ["identities", identity, rest @ ..]) => {
                Self::parse_in_identity(method, pool, identity, rest, query, body)
            }
            _ => Err(Fault::unknown_operation()),
        }
    }

    /// Reads what comes behind `/identitypools/POOL/identities/IDENTITY`.
    fn parse_in_identity(
        method: &str,
        pool: &str,
        identity: &str,
        rest: &[&str],
        query: &Query<'_>,
        body: &[u8],
    ) -> Result<Self, Fault> {
        match (method, rest) {
            ("GET", []) => {
                DescribeIdentityUsage::parse(pool, identity).map(Self::DescribeIdentityUsage)
            }
            ("GET", ["datasets"]) => {
                ListDatasets::parse(pool, identity, query).map(Self::ListDatasets)
            }
            ("GET", ["datasets", name]) => {
                DescribeDataset::parse(pool, identity, name).map(Self::DescribeDataset)
            }
            ("DELETE", ["datasets", name]) => {
                DeleteDataset::parse(pool, identity, name).map(Self::DeleteDataset)
            }
            ("POST", ["datasets", name]) => {
                UpdateRecords::parse(pool, identity, name, body).map(Self::UpdateRecords)
            }
            ("GET", ["datasets", name, "records"]) => {
                ListRecords::parse(pool, identity, name, query).map(Self::ListRecords)
            }
            ("POST", ["datasets", name, "subscriptions", device]) => {
                SubscribeToDataset::parse(pool, identity, name, device)
                    .map(Self::SubscribeToDataset)
            }
            ("DELETE", ["datasets", name, "subscriptions", device]) => {
                UnsubscribeFromDataset::parse(pool, identity, name, device)
                    .map(Self::UnsubscribeFromDataset)
            }
            _ => Err(Fault::unknown_operation()),
        }
    }
}

/// The parameters behind the `?`.
pub struct Query<'a>(Vec<(&'a str, Cow<'a, str>)>);

impl<'a> Query<'a> {
    fn parse(query: &'a str) -> Result<Self, Fault> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value)
                .decode_utf8()
                .map_err(|_| Fault::invalid("the query is not UTF-8"))?;
            Ok((name, value))
        });
        decoded.collect::<Result<_, _>>().map(Self)
    }

    /// Returns a text parameter; an empty one counts as absent.
    pub fn text(&self, name: &str) -> Option<String> {
        let (_, value) = self.0.iter().find(|(found, _)| *found == name)?;
        (!value.is_empty()).then(|| value.to_string())
    }

    /// Returns a whole number.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Fault> {
        let number = self.text(name).map(|text| text.parse());
        number
            .transpose()
            .map_err(|_| Fault::invalid(&format!("{name} is not a whole number")))
    }
}

/// Reads a path segment as an id or a name.
pub(super) fn parse_name<T>(text: &str) -> Result<T, Fault>
where
    T: std::str::FromStr<Err = super::names::NameError>,
{
    text.parse()
        .map_err(|error: super::names::NameError| Fault::validation(&error.to_string()))
}

/// Reads the ids that most paths begin with.
pub(super) fn parse_ids(pool: &str, identity: &str) -> Result<(PoolId, IdentityId), Fault> {
    both(parse_name(pool), parse_name(identity))
}

/// Puts two results together; if limits are broken in both, both are told.
pub(super) fn both<A, B>(
    first: Result<A, Fault>,
    second: Result<B, Fault>,
) -> Result<(A, B), Fault> {
    match (first, second) {
        (Ok(first), Ok(second)) => Ok((first, second)),
        (Err(first), Err(second)) => Err(first.and(&second)),
        (Err(fault), Ok(_)) | (Ok(_), Err(fault)) => Err(fault),
    }
}

/// Reads a JSON body.
///
/// # Errors
/// `SerializationException` for what is not JSON or not of the operation's types,
/// `InvalidParameterException` for a field that is missing, null or beyond a limit of the model.
pub(super) fn parse_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice::<&RawValue>(body)
        .and_then(object)
        .map_err(|error| {
            let text = error.to_string();
            let limits = ["missing field", "unknown variant", "invalid type: null"];
            if text.starts_with(VALIDATION_PREFIX) {
                Fault::invalid(&text)
            } else if error.is_data() && limits.iter().any(|limit| text.starts_with(limit)) {
                Fault::validation(&text)
            } else {
                Fault::new(Code::Serialization, text)
            }
        })
}

/// Reads an object: a list of the fields' values, which serde takes for a struct too, is none.
fn object<T: DeserializeOwned>(json: &RawValue) -> serde_json::Result<T> {
    match json.get().starts_with('[') {
        true => Err(serde_json::Error::custom(
            "invalid type: a list, expected an object",
        )),
        false => serde_json::from_str(json.get()),
    }
}

/// Reads a field that is a list of objects; null is an empty one.
pub(super) fn objects<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let objects: Vec<Box<RawValue>> = nullable(deserializer)?;
    let objects = objects.iter().map(|json| object(json));
    objects.collect::<Result<_, _>>().map_err(D::Error::custom)
}

/// Reads a field that is an object or null.
pub(super) fn optional_object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let json: Option<Box<RawValue>> = Option::deserialize(deserializer)?;
    let json = json.filter(|json| json.get() != "null");
    json.map(|json| object(&json))
        .transpose()
        .map_err(D::Error::custom)
}

/// Defines operations whose request is the pool's id and nothing else.
macro_rules! names_one_pool {
    ($($operation:ident $method:literal [$($tail:literal)?] $repeatable:literal -> $answer:ident)*) => {$(
        #[doc = concat!(
            "<https://docs.aws.amazon.com/cognitosync/latest/APIReference/API_",
            stringify!($operation),
            ".html>"
        )]
        #[derive(Clone, Debug)]
        pub struct $operation {
            pub pool: $crate::wire::names::PoolId,
        }

        impl $operation {
            pub(super) fn parse(pool: &str) -> Result<Self, $crate::wire::fault::Fault> {
                let pool = $crate::wire::operation::parse_name(pool)?;
                Ok(Self { pool })
            }
        }

        impl $crate::wire::operation::Operation for $operation {
            const NAME: &'static str = stringify!($operation);
            const REPEATABLE: bool = $repeatable;
            type Answer = $answer;

            fn request(&self) -> $crate::wire::operation::Request {
                let segments = ["identitypools", self.pool.as_str() $(, $tail)?];
                $crate::wire::operation::Request::rest($method, &segments)
            }
        }
    )*};
}
pub(super) use names_one_pool;

/// Reads a field that the service may leave out or send as null.
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colons_are_escaped_once_on_the_wire() {
        let request = Request::rest("GET", &["identitypools", "us-east-1:ab"])
            .query("nextToken", Some("a=b&c"))
            .query("maxResults", None::<u32>);
        assert_eq!(
            request.path,
            "/identitypools/us-east-1%3Aab?nextToken=a%3Db%26c"
        );
    }

    #[test]
    fn raw_and_escaped_colons_are_the_same_route() {
        for path in [
            "/identitypools/us-east-1:ab/identities/us-east-1:cd/datasets/x/records",
            "/identitypools/us-east-1%3Aab/identities/us-east-1%3acd/datasets/x/records",
        ] {
            let call = Call::parse("GET", path, "lastSyncCount=3&maxResults=", b"").unwrap();
            let Call::ListRecords(list) = call else {
                panic!("{path}")
            };
            assert_eq!(list.pool.as_str(), "us-east-1:ab");
            assert_eq!((list.last_sync_count, list.max_results), (Some(3), None));
        }
    }

    #[test]
    fn what_the_api_does_not_have_is_refused() {
        let records = "/identitypools/us-east-1:ab/identities/us-east-1:cd/datasets/x/records";
        for (method, path, query, code) in [
            ("GET", "/", "", Code::UnknownOperation),
            ("PUT", records, "", Code::UnknownOperation),
            (
                "GET",
                "/identitypools/us-east-1:ab/getBulkPublishDetails",
                "",
                Code::UnknownOperation,
            ),
            (
                "POST",
                "/identitypools/us-east-1:ab/identities/us-east-1:cd/device",
                "",
                Code::UnknownOperation,
            ),
            ("GET", "/identitypools/%ff", "", Code::InvalidParameter),
            ("GET", records, "lastSyncCount=x", Code::InvalidParameter),
            (
                "GET",
                "/identitypools/POOL/identities/us-east-1:cd/datasets",
                "",
                Code::InvalidParameter,
            ),
        ] {
            let fault = Call::parse(method, path, query, b"").unwrap_err();
            assert_eq!(fault.code, code, "{method} {path}");
        }
    }
}
