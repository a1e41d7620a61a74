//! Datasets: listed, described, deleted. There is no call that creates one; the first
//! UpdateRecords does.

use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::names::{DatasetName, IdentityId, PoolId};
use super::operation::{Operation, Query, Request, both, nullable, parse_ids, parse_name};
use super::timestamp::{Timestamp, exponent};

/// <https://docs.aws.amazon.com/cognitosync/latest/APIReference/API_ListDatasets.html>
#[derive(Clone, Debug)]
pub struct ListDatasets {
    pub pool: PoolId,
    pub identity: IdentityId,
    pub next_token: Option<String>,
    pub max_results: Option<i64>,
}

impl ListDatasets {
    pub(super) fn parse(pool: &str, identity: &str, query: &Query<'_>) -> Result<Self, Fault> {
        let (pool, identity) = parse_ids(pool, identity)?;
        Ok(Self {
            pool,
            identity,
            next_token: query.text("nextToken"),
            max_results: query.number("maxResults")?,
        })
    }
}

impl Operation for ListDatasets {
    const NAME: &'static str = "ListDatasets";
    type Answer = Datasets;

    fn request(&self) -> Request {
        Request::rest(
            "GET",
            &[
                "identitypools",
                self.pool.as_str(),
                "identities",
                self.identity.as_str(),
                "datasets",
            ],
        )
        .query("nextToken", self.next_token.as_ref())
        .query("maxResults", self.max_results)
    }
}

/// The answer of [`ListDatasets`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Datasets {
    #[serde(deserialize_with = "nullable")]
    pub datasets: Vec<Dataset>,
    #[serde(deserialize_with = "nullable")]
    pub count: i64,
    pub next_token: Option<String>,
}

/// <https://docs.aws.amazon.com/cognitosync/latest/APIReference/API_Dataset.html>
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Dataset {
    pub identity_id: Option<IdentityId>,
    pub dataset_name: DatasetName,
    #[serde(default, with = "exponent")]
    pub creation_date: Option<Timestamp>,
    #[serde(default, with = "exponent")]
    pub last_modified_date: Option<Timestamp>,
    pub last_modified_by: Option<String>,
    /// Bytes.
    pub data_storage: Option<i64>,
    pub num_records: Option<i64>,
}

macro_rules! names_one_dataset {
    ($($operation:ident $name:literal $method:literal $doc:literal $answer:ident)*) => {$(
        #[doc = $doc]
        #[derive(Clone, Debug)]
        pub struct $operation {
            pub pool: PoolId,
            pub identity: IdentityId,
            pub dataset: DatasetName,
        }

        impl $operation {
            pub(super) fn parse(pool: &str, identity: &str, dataset: &str) -> Result<Self, Fault> {
                let (pool, identity, dataset) = parse_dataset(pool, identity, dataset)?;
                Ok(Self { pool, identity, dataset })
            }
        }

        impl Operation for $operation {
            const NAME: &'static str = $name;
            const REPEATABLE: bool = matches!($method.as_bytes(), b"GET");
            type Answer = $answer;

            fn request(&self) -> Request {
                Request::rest($method, &dataset_path(&self.pool, &self.identity, &self.dataset))
            }
        }
    )*};
}

names_one_dataset! {
    DescribeDataset "DescribeDataset" "GET"
    "<https://docs.aws.amazon.com/cognitosync/latest/APIReference/API_DescribeDataset.html>"
    DescribedDataset

    DeleteDataset "DeleteDataset" "DELETE"
    "<https://docs.aws.amazon.com/cognitosync/latest/APIReference/API_DeleteDataset.html>"
    DescribedDataset
}

pub(super) fn dataset_path<'a>(
    pool: &'a PoolId,
    identity: &'a IdentityId,
    dataset: &'a DatasetName,
) -> [&'a str; 6] {
    [
        "identitypools",
        pool.as_str(),
        "identities",
        identity.as_str(),
        "datasets",
        dataset.as_str(),
    ]
}

/// Reads the ids and the name of a dataset's path.
pub(super) fn parse_dataset(
    pool: &str,
    identity: &str,
    dataset: &str,
) -> Result<(PoolId, IdentityId, DatasetName), Fault> {
    let ids = parse_ids(pool, identity);
    let ((pool, identity), dataset) = both(ids, parse_name(dataset))?;
    Ok((pool, identity, dataset))
}

/// The answer of [`DescribeDataset`] and of [`DeleteDataset`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribedDataset {
    pub dataset: Dataset,
}
