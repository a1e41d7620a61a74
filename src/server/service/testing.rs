//! A world of one pool and two identities, and calls in one line.

use super::*;
use crate::wire::datasets::{Datasets, DescribedDataset};
use crate::wire::records::{RecordPatch, Records, UpdateRecordsBody, UpdatedRecords};
use serde::de::DeserializeOwned;

pub(super) const MINUTE: i64 = 60_000;

pub(super) struct World {
    pub(super) service: Service,
    events: Option<tempfile::TempDir>,
    pub(super) developer: Caller,
    pub(super) pool: PoolId,
    pub(super) identity: IdentityId,
    pub(super) other: IdentityId,
}

pub(super) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

impl World {
    pub(super) fn new() -> Self {
        let service = Service::new(Storage::in_memory().unwrap());
        let region: Region = "us-east-1".parse().unwrap();
        let pool = service.create_identity_pool(&region, "p", at(0)).unwrap();
        let identity: IdentityId = "us-east-1:aa".parse().unwrap();
        let other: IdentityId = "us-east-1:bb".parse().unwrap();
        for id in [&identity, &other] {
            service.add_identity(&pool, id, at(0)).unwrap();
        }
        Self {
            developer: service.developer(region),
            service,
            events: None,
            pool,
            identity,
            other,
        }
    }

    /// A world that keeps what goes out of it.
    pub(super) fn with_events() -> Self {
        let mut world = Self::new();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events");
        world.service = world.service.with_events_file(path);
        world.events = Some(directory);
        world
    }

    /// What went out.
    pub(super) fn events(&self) -> Vec<serde_json::Value> {
        let path = self.events.as_ref().unwrap().path().join("events");
        let lines = std::fs::read_to_string(path).unwrap_or_default();
        lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Sends a developer's call about the pool.
    pub(super) fn pool_call(
        &self,
        method: &str,
        rest: &str,
        body: &serde_json::Value,
    ) -> Result<serde_json::Value, Fault> {
        let path = format!("/identitypools/{}/{rest}", self.pool);
        let body = body.to_string();
        self.send(&self.developer, at(0), method, &path, body.as_bytes())
    }

    pub(super) fn user(&self) -> Caller {
        Caller::User {
            pool: self.pool.clone(),
            identity: self.identity.clone(),
            region: self.pool.region(),
        }
    }

    pub(super) fn path(&self, rest: &str) -> String {
        format!(
            "/identitypools/{}/identities/{}{rest}",
            self.pool, self.identity
        )
    }

    pub(super) fn send<T: DeserializeOwned>(
        &self,
        caller: &Caller,
        now: Timestamp,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> Result<T, Fault> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let call = Call::parse(method, path, query, body)?;
        let answer = self.service.call(&call, caller, now)?;
        Ok(serde_json::from_slice(&answer).unwrap())
    }

    pub(super) fn list(&self, query: &str, now: Timestamp) -> Result<Records, Fault> {
        let path = self.path(&format!("/datasets/settings/records?{query}"));
        self.send(&self.developer, now, "GET", &path, b"")
    }

    pub(super) fn update_with(
        &self,
        caller: &Caller,
        token: &str,
        patches: &[RecordPatch],
        now: Timestamp,
    ) -> Result<UpdatedRecords, Fault> {
        let body = UpdateRecordsBody {
            device_id: None,
            record_patches: patches.to_vec(),
            sync_session_token: Some(token.to_owned()),
        };
        let body = serde_json::to_vec(&body).unwrap();
        let path = self.path("/datasets/settings");
        self.send(caller, now, "POST", &path, &body)
    }

    /// Updates with a new token.
    pub(super) fn update(&self, patches: &[RecordPatch]) -> Result<UpdatedRecords, Fault> {
        let token = self.list("", at(0))?.sync_session_token.unwrap();
        self.update_with(&self.developer, &token, patches, at(0))
    }

    pub(super) fn delete(&self, name: &str) -> Result<DescribedDataset, Fault> {
        let path = self.path(&format!("/datasets/{name}"));
        self.send(&self.developer, at(0), "DELETE", &path, b"")
    }

    pub(super) fn datasets(&self, query: &str) -> Result<Datasets, Fault> {
        let path = self.path(&format!("/datasets?{query}"));
        self.send(&self.developer, at(0), "GET", &path, b"")
    }
}

pub(super) fn replace(key: &str, value: &str, sync_count: i64) -> RecordPatch {
    let json = serde_json::json!({
        "Op": "replace", "Key": key, "Value": value, "SyncCount": sync_count,
    });
    serde_json::from_value(json).unwrap()
}

pub(super) fn remove(key: &str, sync_count: i64) -> RecordPatch {
    let json = serde_json::json!({"Op": "remove", "Key": key, "SyncCount": sync_count});
    serde_json::from_value(json).unwrap()
}
