//! Records: listed and updated. A removed record stays on the server as a tombstone, a record
//! without a value that keeps its sync count.

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::datasets::{dataset_path, parse_dataset};
use super::fault::Fault;
use super::names::{DatasetName, DeviceId, IdentityId, MAX_VALUE_CHARS, PoolId, RecordKey};
use super::operation::{Operation, Query, Request, nullable, objects, parse_body};
use super::text::Text;
use super::timestamp::{Timestamp, exponent};

/// <https://docs.aws.amazon.com/cognitosync/latest/APIReference/API_ListRecords.html>
#[derive(Clone, Debug)]
pub struct ListRecords {
    pub pool: PoolId,
    pub identity: IdentityId,
    pub dataset: DatasetName,
    /// Only records changed after this count are listed.
    pub last_sync_count: Option<i64>,
    pub next_token: Option<String>,
    pub max_results: Option<i64>,
    pub sync_session_token: Option<String>,
}

impl ListRecords {
    pub(super) fn parse(
        pool: &str,
        identity: &str,
        dataset: &str,
        query: &Query<'_>,
    ) -> Result<Self, Fault> {
        let (pool, identity, dataset) = parse_dataset(pool, identity, dataset)?;
        Ok(Self {
            pool,
            identity,
            dataset,
            last_sync_count: query.number("lastSyncCount")?,
            next_token: query.text("nextToken"),
            max_results: query.number("maxResults")?,
            sync_session_token: query.text("syncSessionToken"),
        })
    }
}

impl Operation for ListRecords {
    const NAME: &'static str = "ListRecords";
    type Answer = Records;

    fn request(&self) -> Request {
        let [pools, pool, identities, identity, datasets, dataset] =
            dataset_path(&self.pool, &self.identity, &self.dataset);
        Request::rest(
            "GET",
            &[
                pools, pool, identities, identity, datasets, dataset, "records",
            ],
        )
        .query("lastSyncCount", self.last_sync_count)
        .query("nextToken", self.next_token.as_ref())
        .query("maxResults", self.max_results)
        .query("syncSessionToken", self.sync_session_token.as_ref())
    }
}

/// The answer of [`ListRecords`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Records {
    #[serde(deserialize_with = "one_by_one")]
    pub records: Vec<Record>,
    pub next_token: Option<String>,
    #[serde(deserialize_with = "nullable")]
    pub count: i64,
    #[serde(deserialize_with = "nullable")]
    pub dataset_sync_count: i64,
    pub last_modified_by: Option<String>,
    #[serde(deserialize_with = "nullable")]
    pub merged_dataset_names: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub dataset_exists: bool,
    #[serde(deserialize_with = "nullable")]
    pub dataset_deleted_after_requested_sync_count: bool,
    pub sync_session_token: Option<String>,
}

/// <https://docs.aws.amazon.com/cognitosync/latest/APIReference/API_Record.html>
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Record {
    pub key: RecordKey,
    /// None in a tombstone.
    #[serde(default)]
    pub value: Option<Text>,
    #[serde(default, deserialize_with = "nullable")]
    pub sync_count: i64,
    #[serde(default, with = "exponent")]
    pub last_modified_date: Option<Timestamp>,
    #[serde(default)]
    pub last_modified_by: Option<String>,
    #[serde(default, with = "exponent")]
    pub device_last_modified_date: Option<Timestamp>,
}

/// Reads records one by one, so that an odd one does not take the listing with it: what is left
/// of it is its key and count, and a value that is not text.
fn one_by_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Record>, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Odd {
        key: RecordKey,
        #[serde(default, deserialize_with = "nullable")]
        sync_count: i64,
    }

    let raw: Vec<Box<RawValue>> = Option::deserialize(deserializer)?.unwrap_or_default();
    let read = |record: &RawValue| {
        serde_json::from_str(record.get()).or_else(|_| {
            let odd: Odd = serde_json::from_str(record.get())?;
            Ok(Record {
                key: odd.key,
                value: Some(Text::Surrogates(record.get().as_bytes().into())),
                sync_count: odd.sync_count,
                last_modified_date: None,
                last_modified_by: None,
                device_last_modified_date: None,
            })
        })
    };
    raw.iter()
        .map(|record| read(record))
        .collect::<Result<_, serde_json::Error>>()
        .map_err(D::Error::custom)
}

/// <https://docs.aws.amazon.com/cognitosync/latest/APIReference/API_UpdateRecords.html>
#[derive(Clone, Debug)]
pub struct UpdateRecords {
    pub pool: PoolId,
    pub identity: IdentityId,
    pub dataset: DatasetName,
    /// A header that the API documents as not implemented yet; the local service does not read it.
    pub client_context: Option<String>,
    pub body: UpdateRecordsBody,
}

/// What an [`UpdateRecords`] request has in its body.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateRecordsBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
    #[serde(default, deserialize_with = "objects")]
    pub record_patches: Vec<RecordPatch>,
    /// From the last ListRecords of this dataset; good for one push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_session_token: Option<String>,
}

impl UpdateRecords {
    pub(super) fn parse(
        pool: &str,
        identity: &str,
        dataset: &str,
        body: &[u8],
    ) -> Result<Self, Fault> {
        let (pool, identity, dataset) = parse_dataset(pool, identity, dataset)?;
        let update = Self {
            pool,
            identity,
            dataset,
            client_context: None,
            body: parse_body(body)?,
        };
        if update.body.sync_session_token.is_none() {
            return Err(Fault::validation("SyncSessionToken must not be null"));
        }
        let too_long = |patch: &RecordPatch| {
            let value = patch.value.as_ref();
            value.is_some_and(|value| value.chars() > MAX_VALUE_CHARS)
        };
        if update.body.record_patches.iter().any(too_long) {
            return Err(Fault::validation(
                "Value must have at most 1048575 characters",
            ));
        }
        Ok(update)
    }
}

impl Operation for UpdateRecords {
    const NAME: &'static str = "UpdateRecords";
    const REPEATABLE: bool = false;
    type Answer = UpdatedRecords;

    fn request(&self) -> Request {
        Request::rest(
            "POST",
            &dataset_path(&self.pool, &self.identity, &self.dataset),
        )
        .header("x-amz-client-context", self.client_context.as_ref())
        .json(&self.body)
    }
}

/// <https://docs.aws.amazon.com/cognitosync/latest/APIReference/API_RecordPatch.html>
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RecordPatch {
    pub op: PatchOp,
    pub key: RecordKey,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Text>,
    /// The count of the version that is replaced, 0 for a key the server has never seen.
    pub sync_count: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_last_modified_date: Option<Timestamp>,
}

/// What a patch does. An empty value is a value: removal is said, never inferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PatchOp {
    Replace,
    Remove,
}

/// The answer of [`UpdateRecords`]: the changed records with their new counts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdatedRecords {
    #[serde(deserialize_with = "one_by_one")]
    pub records: Vec<Record>,
}
