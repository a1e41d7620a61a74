//! Bulk publishing: all of a pool's datasets to its stream, at most once in 24 hours.

use serde::{Deserialize, Serialize};

use super::names::PoolId;
use super::operation::names_one_pool;
use super::timestamp::{Timestamp, exponent};

names_one_pool! {
    BulkPublish "POST" ["bulkpublish"] false -> BulkPublishStarted
    GetBulkPublishDetails "POST" ["getBulkPublishDetails"] true -> BulkPublishDetails
}

/// The answer of [`BulkPublish`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BulkPublishStarted {
    pub identity_pool_id: Option<PoolId>,
}

/// The answer of [`GetBulkPublishDetails`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BulkPublishDetails {
    pub identity_pool_id: Option<PoolId>,
    #[serde(default, with = "exponent")]
    pub bulk_publish_start_time: Option<Timestamp>,
    #[serde(default, with = "exponent")]
    pub bulk_publish_complete_time: Option<Timestamp>,
    pub bulk_publish_status: Option<BulkPublishStatus>,
    /// Why the last one failed, if it did.
    pub failure_message: Option<String>,
}

/// How far the last bulk publish is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BulkPublishStatus {
    NotStarted,
    InProgress,
    Failed,
    Succeeded,
}
