//! DescribeIdentityUsage, DescribeIdentityPoolUsage and ListIdentityPoolUsage.
//!
//! Invariant: the numbers are what is stored; sync sessions are not counted, as in every example
//! of the real service.

use crate::wire::fault::Fault;
use crate::wire::names::PoolId;
use crate::wire::pools::{
    DescribeIdentityPoolUsage, DescribeIdentityUsage, DescribedIdentityPoolUsage,
    DescribedIdentityUsage, IdentityPoolUsage, IdentityPoolUsages, IdentityUsage,
    ListIdentityPoolUsage,
};

use super::super::storage::{StorageError, Tx};
use super::configuration::must_exist;
use super::datasets::is_here;
use super::paging::{cut, last_name, page_size};
use super::{Caller, Service, not_found};

const DEFAULT_RESULTS: i64 = 64;

impl Service {
    pub(super) fn describe_identity_usage(
        &self,
        call: &DescribeIdentityUsage,
        caller: &Caller,
    ) -> Result<DescribedIdentityUsage, Fault> {
        caller.must_own(&call.pool, &call.identity)?;
        self.storage.read(|tx| {
            if !is_here(caller, &call.pool) || !tx.identity_exists(&call.pool, &call.identity)? {
                return Err(not_found("Identity", call.identity.as_str()));
            }
            let usage = tx.identity_usage(&call.pool, &call.identity)?;
            Ok(DescribedIdentityUsage {
                identity_usage: IdentityUsage {
                    identity_id: call.identity.clone(),
                    identity_pool_id: call.pool.clone(),
                    last_modified_date: usage.modified,
                    dataset_count: Some(usage.datasets),
                    data_storage: Some(usage.data_storage),
                },
            })
        })
    }

    pub(super) fn describe_identity_pool_usage(
        &self,
        call: &DescribeIdentityPoolUsage,
        caller: &Caller,
    ) -> Result<DescribedIdentityPoolUsage, Fault> {
        caller.must_be_developer()?;
        self.storage.read(|tx| {
            must_exist(tx, caller, &call.pool)?;
            Ok(DescribedIdentityPoolUsage {
                identity_pool_usage: pool_usage(tx, &call.pool)?,
            })
        })
    }

    /// Lists the region's pools, those without data too.
    pub(super) fn list_identity_pool_usage(
        &self,
        call: &ListIdentityPoolUsage,
        caller: &Caller,
    ) -> Result<IdentityPoolUsages, Fault> {
        caller.must_be_developer()?;
        let size = page_size(call.max_results, DEFAULT_RESULTS)?;
        let after = last_name::<PoolId>(call.next_token.as_deref())?;
        self.storage.read(|tx| {
            let mut pools = tx.pools(caller.region(), &after, size + 1)?;
            let next_token = cut(&mut pools, size, |pool| {
                pool.identity_pool_id.as_str().as_bytes()
            });
            let mut usages = Vec::with_capacity(pools.len());
            for pool in pools {
                usages.push(pool_usage(tx, &pool.identity_pool_id)?);
            }
            Ok(IdentityPoolUsages {
                max_results: size,
                count: usages.len() as i64,
                identity_pool_usages: usages,
                next_token,
            })
        })
    }
}

fn pool_usage(tx: &Tx<'_>, pool: &PoolId) -> Result<IdentityPoolUsage, StorageError> {
    let usage = tx.pool_usage(pool)?;
    Ok(IdentityPoolUsage {
        identity_pool_id: pool.clone(),
        sync_sessions_count: None,
        data_storage: Some(usage.data_storage),
        last_modified_date: usage.modified,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, at, replace};
    use super::*;
    use crate::wire::fault::Code;

    #[test]
    fn usage_is_what_is_stored() {
        let world = World::new();
        world.update(&[replace("key", "value", 0)]).unwrap();
        let usage: DescribedIdentityUsage = world
            .send(&world.developer, at(0), "GET", &world.path(""), b"")
            .unwrap();
        let usage = usage.identity_usage;
        assert_eq!(
            (usage.dataset_count, usage.data_storage),
            (Some(1), Some(8))
        );
        let pools = |caller: &Caller| {
            world.send::<IdentityPoolUsages>(caller, at(0), "GET", "/identitypools", b"")
        };
        let found = pools(&world.developer).unwrap();
        assert_eq!((found.count, found.max_results), (1, 64));
        assert_eq!(found.identity_pool_usages[0].data_storage, Some(8));
        assert_eq!(found.identity_pool_usages[0].sync_sessions_count, None);
        world.delete("settings").unwrap();
        let found = pools(&world.developer).unwrap();
        assert_eq!(found.identity_pool_usages[0].data_storage, Some(0));

        let describe = |caller: &Caller| {
            let path = format!("/identitypools/{}", world.pool);
            world.send::<DescribedIdentityPoolUsage>(caller, at(0), "GET", &path, b"")
        };
        let one = describe(&world.developer).unwrap().identity_pool_usage;
        assert_eq!(one.identity_pool_id, world.pool);
        assert_eq!(one.data_storage, Some(0));
        let refused = describe(&world.user()).unwrap_err();
        assert_eq!(refused.code, Code::NotAuthorized);

        let elsewhere = world.service.developer("eu-west-1".parse().unwrap());
        assert_eq!(pools(&elsewhere).unwrap().count, 0);
        let refused = pools(&world.user()).unwrap_err();
        assert_eq!(refused.code, Code::NotAuthorized);
    }
}
