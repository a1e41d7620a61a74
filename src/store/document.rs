//! Documents about a pool, an identity or a dataset: the service's answers as JSON text, and two of
//! them to be set.
//!
//! A document is an operation's answer with the API's own field names, always in the same order, and
//! dates in ISO 8601; what the answer lacks is left out. Invariant: a document is set only when every word
//! of it was understood.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::cache::Store;
use super::dataset::Dataset;
use super::error::{Error, ErrorKind};
use super::identity::Identity;
use crate::wire::bulk_publish::GetBulkPublishDetails;
use crate::wire::configuration::{
    GetIdentityPoolConfiguration, IdentityPoolConfiguration, IdentityPoolOptions,
    SetIdentityPoolConfiguration,
};
use crate::wire::datasets::DescribeDataset;
use crate::wire::events::{
    CognitoEvents, GetCognitoEvents, SetCognitoEvents, SetCognitoEventsBody,
};
use crate::wire::names::{PoolId, RecordKey};
use crate::wire::pools::{DescribeIdentityPoolUsage, DescribeIdentityUsage};
use crate::wire::records::{ListRecords, Record};
use crate::wire::text::Text;
use crate::wire::timestamp::Timestamp;

/// What a document is about.
#[derive(Clone, Debug)]
pub enum Document {
    /// DescribeIdentityPoolUsage.
    PoolUsage(PoolId),
    /// GetIdentityPoolConfiguration, SetIdentityPoolConfiguration.
    Configuration(PoolId),
    /// GetCognitoEvents, SetCognitoEvents.
    Events(PoolId),
    /// GetBulkPublishDetails.
    BulkPublish(PoolId),
    /// DescribeIdentityUsage.
    IdentityUsage(Arc<Identity>),
    /// DescribeDataset.
    Dataset(Arc<Dataset>),
    /// ListRecords, all pages: every record the dataset ever had, tombstones included, by key.
    Records(Arc<Dataset>),
}

impl Document {
    /// Returns whether it can be set.
    pub fn is_settable(&self) -> bool {
        matches!(self, Self::Configuration(_) | Self::Events(_))
    }
}

/// Why a text is not taken for a document.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("it is not valid JSON")]
    Json(#[source] serde_json::Error),
    #[error("it is not what this file holds")]
    Shape(#[from] serde_json::Error),
    #[error("it is not what this file holds: expected an object")]
    NotAnObject,
    #[error("{0}: there is no such field, or it has another form")]
    Unknown(String),
    #[error("IdentityPoolId: expected {0}, the pool this file belongs to")]
    OtherPool(PoolId),
    #[error("{field}: is missing; it cannot be taken away, {instead}")]
    Missing {
        field: &'static str,
        instead: &'static str,
    },
    #[error("Events: is missing; write {{}} for no events")]
    NoEvents,
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::because(ErrorKind::Invalid, refused)
    }
}

impl Store {
    /// Asks the service for a document.
    ///
    /// # Errors
    /// The service's own.
    pub async fn document(&self, document: &Document, deadline: Instant) -> Result<String, Error> {
        let client = self.client();
        match document {
            Document::PoolUsage(pool) => {
                let pool = pool.clone();
                let operation = DescribeIdentityPoolUsage { pool };
                text(&client.call(&operation, deadline).await?)
            }
            Document::Configuration(pool) => {
                let pool = pool.clone();
                let operation = GetIdentityPoolConfiguration { pool };
                text(&client.call(&operation, deadline).await?)
            }
            Document::Events(pool) => {
                let pool = pool.clone();
                let operation = GetCognitoEvents { pool };
                text(&client.call(&operation, deadline).await?)
            }
            Document::BulkPublish(pool) => {
                let pool = pool.clone();
                let operation = GetBulkPublishDetails { pool };
                text(&client.call(&operation, deadline).await?)
            }
            Document::IdentityUsage(identity) => {
                let operation = DescribeIdentityUsage {
                    pool: identity.pool().clone(),
                    identity: identity.id().clone(),
                };
                text(&client.call(&operation, deadline).await?)
            }
            Document::Dataset(dataset) => {
                let operation = DescribeDataset {
                    pool: dataset.identity().pool().clone(),
                    identity: dataset.identity().id().clone(),
                    dataset: dataset.name().clone(),
                };
                text(&client.call(&operation, deadline).await?)
            }
            Document::Records(dataset) => self.records(dataset, deadline).await,
        }
    }

    /// Sets a document to `written`, where `shown` is what it was before. One that says the same
    /// is not sent.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for what is not the document's JSON, [`ErrorKind::Denied`] for a
    /// document that cannot be set, else the service's own. Nothing was changed then.
    pub async fn set_document(
        &self,
        document: &Document,
        shown: &str,
        written: &str,
        deadline: Instant,
    ) -> Result<(), Error> {
        let shown: Value = serde_json::from_str(shown).map_err(Refused::Json)?;
        let written: Value = serde_json::from_str(written).map_err(Refused::Json)?;
        if without_nulls(written.clone()) == shown {
            return Ok(());
        }
        match document {
            Document::Configuration(pool) => {
                let body = configuration(pool, &shown, &written)?;
                let pool = pool.clone();
                let operation = SetIdentityPoolConfiguration { pool, body };
                self.client().call(&operation, deadline).await?;
                Ok(())
            }
            Document::Events(pool) => {
                let body = events(&shown, &written)?;
                let pool = pool.clone();
                let operation = SetCognitoEvents { pool, body };
                self.client().call(&operation, deadline).await?;
                Ok(())
            }
            Document::PoolUsage(_)
            | Document::BulkPublish(_)
            | Document::IdentityUsage(_)
            | Document::Dataset(_)
            | Document::Records(_) => Err(ErrorKind::Denied.into()),
        }
    }
}

impl Store {
    async fn records(&self, dataset: &Dataset, deadline: Instant) -> Result<String, Error> {
        let mut operation = ListRecords {
            pool: dataset.identity().pool().clone(),
            identity: dataset.identity().id().clone(),
            dataset: dataset.name().clone(),
            last_sync_count: None,
            next_token: None,
            max_results: None,
            sync_session_token: None,
        };
        let mut records = BTreeMap::new();
        loop {
            let page = self.client().call(&operation, deadline).await?;
            // One that changes meanwhile may come twice; the later page has it as it is.
            records.extend(
                page.records
                    .into_iter()
                    .map(|record| (record.key.clone(), record)),
            );
            operation.next_token = page.next_token;
            if operation.next_token.is_none() {
                return pretty(&AllRecords {
                    dataset_exists: page.dataset_exists,
                    dataset_sync_count: page.dataset_sync_count,
                    last_modified_by: page.last_modified_by,
                    merged_dataset_names: page.merged_dataset_names,
                    records: records.into_values().map(Into::into).collect(),
                });
            }
        }
    }
}

fn configuration(
    pool: &PoolId,
    shown: &Value,
    written: &Value,
) -> Result<IdentityPoolOptions, Refused> {
    let read: IdentityPoolConfiguration = understood(written)?;
    if read.identity_pool_id.is_some_and(|other| other != *pool) {
        return Err(Refused::OtherPool(pool.clone()));
    }
    let lost = |field: &str, kept: bool| shown.get(field).is_some() && !kept;
    if lost("PushSync", read.push_sync.is_some()) {
        return Err(Refused::Missing {
            field: "PushSync",
            instead: "\"ApplicationArns\": [] turns it off",
        });
    }
    if lost("CognitoStreams", read.cognito_streams.is_some()) {
        return Err(Refused::Missing {
            field: "CognitoStreams",
            instead: "\"StreamingStatus\": \"DISABLED\" turns it off",
        });
    }
    Ok(IdentityPoolOptions {
        push_sync: read.push_sync,
        cognito_streams: read.cognito_streams,
    })
}

/// An event that is no longer written loses its function, which an empty name says.
fn events(shown: &Value, written: &Value) -> Result<SetCognitoEventsBody, Refused> {
    let read: CognitoEvents = understood(written)?;
    if written.get("Events").is_none() {
        return Err(Refused::NoEvents);
    }
    let before: CognitoEvents = serde_json::from_value(shown.clone())?;
    let mut events = before.events;
    events.values_mut().for_each(String::clear);
    events.extend(read.events);
    Ok(SetCognitoEventsBody { events })
}

/// Reads a document, and makes sure that nothing in it was passed over.
fn understood<T: serde::de::DeserializeOwned + Serialize>(written: &Value) -> Result<T, Refused> {
    // A sequence of its fields would do for a struct.
    if !written.is_object() {
        return Err(Refused::NotAnObject);
    }
    let read: T = serde_json::from_value(written.clone())?;
    let back = serde_json::to_value(&read)?;
    match passed_over("", &without_nulls(written.clone()), &back) {
        Some(field) => Err(Refused::Unknown(field)),
        None => Ok(read),
    }
}

/// Returns the path of a field of `written` that `back` has not, or not so.
fn passed_over(path: &str, written: &Value, back: &Value) -> Option<String> {
    let (Some(fields), Some(back)) = (written.as_object(), back.as_object()) else {
        return (written != back).then(|| path.to_owned());
    };
    fields.iter().find_map(|(name, value)| {
        let path = match path {
            "" => name.clone(),
            path => format!("{path}.{name}"),
        };
        passed_over(&path, value, back.get(name).unwrap_or(&Value::Null))
    })
}

/// All records of a dataset. Values are written as the service sends them: one that is not Unicode
/// has its escapes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AllRecords {
    dataset_exists: bool,
    dataset_sync_count: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_modified_by: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    merged_dataset_names: Vec<String>,
    records: Vec<RecordFields>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RecordFields {
    key: RecordKey,
    /// None in a tombstone.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Text>,
    sync_count: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_modified_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_modified_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_last_modified_date: Option<String>,
}

impl From<Record> for RecordFields {
    fn from(record: Record) -> Self {
        Self {
            key: record.key,
            value: record.value,
            sync_count: record.sync_count,
            last_modified_date: record.last_modified_date.map(Timestamp::iso8601),
            last_modified_by: record.last_modified_by,
            device_last_modified_date: record.device_last_modified_date.map(Timestamp::iso8601),
        }
    }
}

fn text(answer: &impl Serialize) -> Result<String, Error> {
    let value = serde_json::to_value(answer);
    let value = value.map_err(|error| Error::because(ErrorKind::Failed, error))?;
    pretty(&without_nulls(dated(value)))
}

fn pretty(document: &impl Serialize) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(document);
    let mut text = text.map_err(|error| Error::because(ErrorKind::Failed, error))?;
    text.push('\n');
    Ok(text)
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            let kept = kept.map(|(name, value)| (name, without_nulls(value)));
            Value::Object(kept.collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(without_nulls).collect()),
        value => value,
    }
}

/// Writes dates as ISO 8601 has them. The API names them all `...Date` or `...Time`.
fn dated(value: Value) -> Value {
    let field = |(name, value): (String, Value)| {
        let is_date = name.ends_with("Date") || name.ends_with("Time");
        let value = match value.as_f64().filter(|_| is_date) {
            Some(seconds) => {
                let millis = (seconds * 1000.0).round() as i64;
                Value::String(Timestamp::from_millis(millis).iso8601())
            }
            None => dated(value),
        };
        (name, value)
    };
    match value {
        Value::Object(fields) => Value::Object(fields.into_iter().map(field).collect()),
        Value::Array(values) => Value::Array(values.into_iter().map(dated).collect()),
        value => value,
    }
}
