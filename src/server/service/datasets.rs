//! ListDatasets, DescribeDataset and DeleteDataset.
//!
//! Invariant: a deleted dataset is not seen, but its row goes on counting.

use crate::wire::datasets::{
    Dataset, Datasets, DeleteDataset, DescribeDataset, DescribedDataset, ListDatasets,
};
use crate::wire::fault::Fault;
use crate::wire::names::{DatasetName, IdentityId, PoolId};
use crate::wire::records::PatchOp;
use crate::wire::timestamp::Timestamp;

use super::super::storage::{StoredDataset, Tx};
use super::changes::Change;
use super::paging::{cut, last_name, page_size};
use super::{Caller, Service, not_found};

const DEFAULT_RESULTS: i64 = 64;

impl Service {
    /// Lists an identity's datasets. An identity or a pool that is not there has none.
    pub(super) fn list_datasets(
        &self,
        call: &ListDatasets,
        caller: &Caller,
    ) -> Result<Datasets, Fault> {
        caller.must_own(&call.pool, &call.identity)?;
        let size = page_size(call.max_results, DEFAULT_RESULTS)?;
        let after = last_name::<DatasetName>(call.next_token.as_deref())?;
        if !is_here(caller, &call.pool) {
            return Ok(Datasets::default());
        }
        let mut datasets = self
            .storage
            .read(|tx| tx.datasets(&call.pool, &call.identity, &after, size + 1))?;
        let next_token = cut(&mut datasets, size, |dataset| {
            dataset.name.as_str().as_bytes()
        });
        Ok(Datasets {
            count: datasets.len() as i64,
            datasets: datasets
                .into_iter()
                .map(|dataset| describe(&call.identity, dataset))
                .collect(),
            next_token,
        })
    }

    pub(super) fn describe_dataset(
        &self,
        call: &DescribeDataset,
        caller: &Caller,
    ) -> Result<DescribedDataset, Fault> {
        caller.must_own(&call.pool, &call.identity)?;
        let dataset = self
            .storage
            .read(|tx| existing(tx, caller, &call.pool, &call.identity, &call.dataset))?;
        Ok(DescribedDataset {
            dataset: describe(&call.identity, dataset),
        })
    }

    /// Deletes a dataset with its records and tombstones. The deletion has a sync count of its own.
    pub(super) fn delete_dataset(
        &self,
        call: &DeleteDataset,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<DescribedDataset, Fault> {
        caller.must_own(&call.pool, &call.identity)?;
        let (dataset, is_told) = self.storage.write(|tx| {
            let dataset = existing(tx, caller, &call.pool, &call.identity, &call.dataset)?;
            tx.erase_records(dataset.id)?;
            let deleted = StoredDataset {
                is_deleted: true,
                sync_count: dataset.sync_count + 1,
                deleted_at_count: dataset.sync_count + 1,
                modified: now,
                modified_by: caller.name().to_owned(),
                num_records: 0,
                data_storage: 0,
                ..dataset.clone()
            };
            tx.update_dataset(&deleted)?;
            let change = Change {
                pool: &call.pool,
                identity: &call.identity,
                dataset: &deleted,
                device: None,
                operation: PatchOp::Remove,
                records: &[],
            };
            let is_told = self.post(tx, &change)?;
            Ok::<_, Fault>((dataset, is_told))
        })?;
        if is_told {
            self.deliver();
        }
        Ok(DescribedDataset {
            dataset: describe(&call.identity, dataset),
        })
    }
}

/// Returns whether a pool, if there is one, lies in the region the call went to.
pub(super) fn is_here(caller: &Caller, pool: &PoolId) -> bool {
    pool.region() == *caller.region()
}

pub(super) fn existing(
    tx: &Tx<'_>,
    caller: &Caller,
    pool: &PoolId,
    identity: &IdentityId,
    name: &DatasetName,
) -> Result<StoredDataset, Fault> {
    let dataset = match is_here(caller, pool) {
        true => tx.dataset(pool, identity, name)?,
        false => None,
    };
    dataset
        .filter(|dataset| !dataset.is_deleted)
        .ok_or_else(|| not_found("Dataset", name.as_str()))
}

fn describe(identity: &IdentityId, dataset: StoredDataset) -> Dataset {
    Dataset {
        identity_id: Some(identity.clone()),
        dataset_name: dataset.name,
        creation_date: Some(dataset.created),
        last_modified_date: Some(dataset.modified),
        last_modified_by: Some(dataset.modified_by),
        data_storage: Some(dataset.data_storage),
        num_records: Some(dataset.num_records),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, at, replace};
    use super::*;
    use crate::wire::fault::Code;

    #[test]
    fn a_dataset_is_described_until_it_is_deleted() {
        let world = World::new();
        world.update(&[replace("é", "12", 0)]).unwrap();
        let datasets = world.datasets("").unwrap();
        assert_eq!((datasets.count, datasets.next_token), (1, None));
        let dataset = &datasets.datasets[0];
        assert_eq!(dataset.identity_id.as_ref(), Some(&world.identity));
        assert_eq!(
            (dataset.data_storage, dataset.num_records),
            (Some(4), Some(1))
        );
        assert_eq!(
            world.delete("settings").unwrap().dataset.num_records,
            Some(1)
        );
        assert_eq!(world.datasets("").unwrap().count, 0);
        let missing = world.delete("settings").unwrap_err();
        assert_eq!(missing.code, Code::ResourceNotFound);
        let path = world.path("/datasets/settings");
        let missing = world
            .send::<DescribedDataset>(&world.developer, at(0), "GET", &path, b"")
            .unwrap_err();
        assert_eq!(missing.code, Code::ResourceNotFound);
    }

    #[test]
    fn pages_hold_every_dataset_once() {
        let world = World::new();
        for name in ["a", "b", "c"] {
            let path = world.path(&format!("/datasets/{name}"));
            let listed: crate::wire::records::Records = world
                .send(
                    &world.developer,
                    at(0),
                    "GET",
                    &format!("{path}/records"),
                    b"",
                )
                .unwrap();
            let body = serde_json::json!({
                "RecordPatches": [replace("k", "v", 0)],
                "SyncSessionToken": listed.sync_session_token,
            });
            world
                .send::<serde_json::Value>(
                    &world.developer,
                    at(0),
                    "POST",
                    &path,
                    body.to_string().as_bytes(),
                )
                .unwrap();
        }
        let page = world.datasets("maxResults=2").unwrap();
        assert_eq!(page.count, 2);
        let token = page.next_token.unwrap();
        let page = world
            .datasets(&format!("maxResults=2&nextToken={token}"))
            .unwrap();
        assert_eq!((page.count, page.next_token), (1, None));
        assert_eq!(page.datasets[0].dataset_name.as_str(), "c");
        let garbage = world.datasets("nextToken=%25").unwrap_err();
        assert_eq!(garbage.code, Code::InvalidParameter);
    }
}
