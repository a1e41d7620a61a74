//! Identity pools and identities as Cognito Sync counts them.

use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::names::{IdentityId, PoolId};
use super::operation::{Operation, Query, Request, names_one_pool, nullable, parse_ids};
use super::timestamp::{Timestamp, exponent};

/// <https://docs.aws.amazon.com/cognitosync/latest/APIReference/API_ListIdentityPoolUsage.html>
#[derive(Clone, Debug, Default)]
pub struct ListIdentityPoolUsage {
    pub next_token: Option<String>,
    pub max_results: Option<i64>,
}

impl ListIdentityPoolUsage {
    pub(super) fn parse(query: &Query<'_>) -> Result<Self, Fault> {
        Ok(Self {
            next_token: query.text("nextToken"),
            max_results: query.number("maxResults")?,
        })
    }
}

impl Operation for ListIdentityPoolUsage {
    const NAME: &'static str = "ListIdentityPoolUsage";
    type Answer = IdentityPoolUsages;

    fn request(&self) -> Request {
        Request::rest("GET", &["identitypools"])
            .query("nextToken", self.next_token.as_ref())
            .query("maxResults", self.max_results)
    }
}

/// The answer of [`ListIdentityPoolUsage`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IdentityPoolUsages {
    #[serde(deserialize_with = "nullable")]
    pub identity_pool_usages: Vec<IdentityPoolUsage>,
    #[serde(deserialize_with = "nullable")]
    pub max_results: i64,
    #[serde(deserialize_with = "nullable")]
    pub count: i64,
    pub next_token: Option<String>,
}

/// <https://docs.aws.amazon.com/cognitosync/latest/APIReference/API_IdentityPoolUsage.html>
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IdentityPoolUsage {
    pub identity_pool_id: PoolId,
    pub sync_sessions_count: Option<i64>,
    /// Bytes.
    pub data_storage: Option<i64>,
    #[serde(default, with = "exponent")]
    pub last_modified_date: Option<Timestamp>,
}

names_one_pool! {
    DescribeIdentityPoolUsage "GET" [] true -> DescribedIdentityPoolUsage
}

/// The answer of [`DescribeIdentityPoolUsage`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribedIdentityPoolUsage {
    pub identity_pool_usage: IdentityPoolUsage,
}

/// <https://docs.aws.amazon.com/cognitosync/latest/APIReference/API_DescribeIdentityUsage.html>
#[derive(Clone, Debug)]
pub struct DescribeIdentityUsage {
    pub pool: PoolId,
    pub identity: IdentityId,
}

impl DescribeIdentityUsage {
    pub(super) fn parse(pool: &str, identity: &str) -> Result<Self, Fault> {
        let (pool, identity) = parse_ids(pool, identity)?;
        Ok(Self { pool, identity })
    }
}

impl Operation for DescribeIdentityUsage {
    const NAME: &'static str = "DescribeIdentityUsage";
    type Answer = DescribedIdentityUsage;

    fn request(&self) -> Request {
        Request::rest(
            "GET",
            &[
                "identitypools",
                self.pool.as_str(),
                "identities",
                self.identity.as_str(),
            ],
        )
    }
}

/// The answer of [`DescribeIdentityUsage`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribedIdentityUsage {
    pub identity_usage: IdentityUsage,
}

/// <https://docs.aws.amazon.com/cognitosync/latest/APIReference/API_IdentityUsage.html>
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IdentityUsage {
    pub identity_id: IdentityId,
    pub identity_pool_id: PoolId,
    #[serde(default, with = "exponent")]
    pub last_modified_date: Option<Timestamp>,
    pub dataset_count: Option<i64>,
    /// Bytes.
    pub data_storage: Option<i64>,
}
