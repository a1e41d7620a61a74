//! The shape of every operation: how a request is written, and how it is read on the other side.
//!
//! Cognito Sync is REST-JSON: ids in the path, a few query parameters, a JSON body. The part of
//! Cognito Identity used here is JSON 1.1 RPC (see [`identity`](super::identity)).

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::de::{Deserialize, DeserializeOwned, Deserializer};

use super::datasets::{DeleteDataset, DescribeDataset, ListDatasets};
use super::fault::{Code, Fault};
use super::pools::{DescribeIdentityUsage, ListIdentityPoolUsage};
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

/// A Cognito Sync request as the service reads it.
#[derive(Clone, Debug)]
pub enum Call {
    ListIdentityPoolUsage(ListIdentityPoolUsage),
    DescribeIdentityUsage(DescribeIdentityUsage),
    ListDatasets(ListDatasets),
    DescribeDataset(DescribeDataset),
    DeleteDataset(DeleteDataset),
    ListRecords(ListRecords),
    UpdateRecords(UpdateRecords),
}

impl Call {
    /// Reads a request; `path` is as received, percent-encoded.
    ///
    /// # Errors
    /// `UnknownOperationException` for a route the API does not have, `SerializationException` for
    /// a body that is not the operation's JSON, `InvalidParameterException` for an id, a name or a
    /// number that breaks the API's limits.
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
        match (method, segments.as_slice()) {
            ("GET", ["identitypools"]) => {
                ListIdentityPoolUsage::parse(&query).map(Self::ListIdentityPoolUsage)
            }
            ("GET", ["identitypools", pool, "identities", identity]) => {
                DescribeIdentityUsage::parse(pool, identity).map(Self::DescribeIdentityUsage)
            }
            ("GET", ["identitypools", pool, "identities", identity, "datasets"]) => {
                ListDatasets::parse(pool, identity, &query).map(Self::ListDatasets)
            }
            (
                _,
                [
                    "identitypools",
                    pool,
                    "identities",
                    identity,
                    "datasets",
                    name,
                ],
            ) => match method {
                "GET" => DescribeDataset::parse(pool, identity, name).map(Self::DescribeDataset),
                "DELETE" => DeleteDataset::parse(pool, identity, name).map(Self::DeleteDataset),
                "POST" => UpdateRecords::parse(pool, identity, name, body).map(Self::UpdateRecords),
                _ => Err(Fault::unknown_operation()),
            },
            (
                "GET",
                [
                    "identitypools",
                    pool,
                    "identities",
                    identity,
                    "datasets",
                    name,
                    "records",
                ],
            ) => ListRecords::parse(pool, identity, name, &query).map(Self::ListRecords),
            _ => Err(Fault::unknown_operation()),
        }
    }

    /// Returns the API's name for the operation.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ListIdentityPoolUsage(_) => ListIdentityPoolUsage::NAME,
            Self::DescribeIdentityUsage(_) => DescribeIdentityUsage::NAME,
            Self::ListDatasets(_) => ListDatasets::NAME,
            Self::DescribeDataset(_) => DescribeDataset::NAME,
            Self::DeleteDataset(_) => DeleteDataset::NAME,
            Self::ListRecords(_) => ListRecords::NAME,
            Self::UpdateRecords(_) => UpdateRecords::NAME,
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
    text.parse().map_err(|error: super::names::NameError| {
        Fault::invalid(&format!("1 validation error detected: {error}"))
    })
}

/// Reads a JSON body; what is not the operation's JSON is a `SerializationException`.
pub(super) fn parse_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(body).map_err(|error| Fault::new(Code::Serialization, error.to_string()))
}

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
