//! A service with one pool and one identity, and another client that changes the same data.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_sdk_cognitosync::types::{Operation, RecordPatch};
use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use cognitofs::server::http::router;
use cognitofs::server::service::Service;
use cognitofs::server::storage::Storage;
use cognitofs::wire::identity::{GetCredentialsForIdentity, IdentityCall, IdentityCredentials};
use cognitofs::wire::names::{IdentityId, PoolId};
use cognitofs::wire::operation::Call;
use cognitofs::wire::records::{ListRecords, Records};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::mounted::Mounted;
use super::tap::{Tap, Trouble};
use crate::local_service::{client, ids, now};

pub struct Bed {
    pub service: Arc<Service>,
    pub address: SocketAddr,
    pub pool: PoolId,
    pub identity: IdentityId,
    pub directory: tempfile::TempDir,
    tap: Arc<Tap>,
    app: Router,
    listening: JoinHandle<std::io::Result<()>>,
    runtime: Runtime,
}

impl Bed {
    pub fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let (pool, identity) = ids();
        let service = Arc::new(Service::new(Storage::in_memory().unwrap()));
        service.add_identity_pool(&pool, "test", now()).unwrap();
        service.add_identity(&pool, &identity, now()).unwrap();
        let tap = Arc::new(Tap::default());
        let tapped = tap.clone();
        let pass = move |request: Request, next: Next| Tap::pass(tapped.clone(), request, next);
        let app = router(service.clone()).layer(from_fn(pass));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.unwrap();
        let address = listener.local_addr().unwrap();
        let served = axum::serve(listener, app.clone());
        let listening = runtime.spawn(async move { served.await });
        // Not under /tmp, where vim makes no backups.
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Self {
            service,
            address,
            pool,
            identity,
            directory,
            tap,
            app,
            listening,
            runtime,
        }
    }

    /// From now on connections are refused, and those there are break with their next call.
    pub fn refuse(&mut self) {
        self.listening.abort();
        while !self.listening.is_finished() {
            std::thread::yield_now();
        }
        self.trouble("*", Trouble::LoseCall, 0, usize::MAX);
    }

    /// Takes connections again, and makes no more trouble.
    pub fn accept(&mut self) {
        self.calm();
        if self.listening.is_finished() {
            let listener = tokio::net::TcpListener::bind(self.address);
            let served = axum::serve(self.runtime.block_on(listener).unwrap(), self.app.clone());
            self.listening = self.runtime.spawn(async move { served.await });
        }
    }

    /// Mounts the identity's region with these options.
    pub fn mount(&self, options: &str) -> Mounted {
        Mounted::new(self, "cognito://us-east-1", options)
    }

    /// Returns the path of a dataset below a mount.
    pub fn dataset(&self, mounted: &Mounted, dataset: &str) -> PathBuf {
        let identity = mounted
            .path
            .join(self.pool.as_str())
            .join(self.identity.as_str());
        identity.join(dataset)
    }

    /// Returns the calls made so far, without probes.
    pub fn calls(&self) -> Vec<&'static str> {
        let mut calls = self.tap.calls();
        calls.retain(|call| *call != "probe");
        calls
    }

    /// Returns the calls that `action` makes.
    pub fn calls_of<T>(&self, action: impl FnOnce() -> T) -> (T, Vec<&'static str>) {
        self.tap.clear();
        let done = action();
        (done, self.calls())
    }

    /// Waits until an operation is called, counted from the last [`calls_of`](Self::calls_of).
    pub fn wait_for_call(&self, operation: &str) {
        let begun = Instant::now();
        while !self.calls().contains(&operation) {
            assert!(begun.elapsed() < Duration::from_secs(20), "no {operation}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns how many calls were under way at a time at most, counted as the calls are.
    pub fn most_at_a_time(&self) -> usize {
        self.tap.most()
    }

    /// Forgets the calls made so far.
    pub fn forget_calls(&self) {
        self.tap.clear();
    }

    pub fn trouble(&self, operation: &'static str, trouble: Trouble, after: usize, times: usize) {
        self.tap.trouble(operation, trouble, after, times);
    }

    /// Makes trouble for every call of a dataset.
    pub fn trouble_in(&self, dataset: &str, trouble: Trouble) {
        self.tap.trouble_in(dataset, trouble);
    }

    /// Does something while no call is carried out.
    pub fn undisturbed<T>(&self, action: impl FnOnce() -> T) -> T {
        self.tap.undisturbed(action)
    }

    pub fn calm(&self) {
        self.tap.calm();
    }

    pub fn sdk(&self) -> aws_sdk_cognitosync::Client {
        let developer = self.service.developer_credentials();
        let credentials = Credentials::new(
            &developer.access_key_id,
            &developer.secret_key,
            None,
            None,
            "test",
        );
        client(&format!("http://{}", self.address), credentials)
    }

    /// Returns the identity's own credentials.
    pub fn user_credentials(&self) -> Credentials {
        let call = IdentityCall::GetCredentialsForIdentity(GetCredentialsForIdentity {
            identity_id: self.identity.clone(),
            logins: None,
            custom_role_arn: None,
        });
        let answer = self.service.identity_call(&call, None, now()).unwrap();
        let answer: IdentityCredentials = serde_json::from_slice(&answer).unwrap();
        let user = answer.credentials;
        let token = Some(user.session_token);
        Credentials::new(user.access_key_id, user.secret_key, token, None, "test")
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// The service's view of a record; the outer None is a key it never had, the inner one a
    /// tombstone. Asked without a client, as some clients cannot read every value.
    pub fn remote(&self, dataset: &str, key: &str) -> Option<Option<String>> {
        let mut list = ListRecords {
            pool: self.pool.clone(),
            identity: self.identity.clone(),
            dataset: dataset.parse().unwrap(),
            last_sync_count: None,
            next_token: None,
            max_results: None,
            sync_session_token: None,
        };
        let caller = self.service.developer("us-east-1".parse().unwrap());
        loop {
            let answer = self
                .service
                .call(&Call::ListRecords(list.clone()), &caller, now());
            let answer: Records = serde_json::from_slice(&answer.unwrap()).unwrap();
            let mut records = answer.records.into_iter();
            if let Some(record) = records.find(|record| record.key.as_str() == Some(key)) {
                return Some(record.value.map(|value| value.as_str().unwrap().to_owned()));
            }
            list.next_token = answer.next_token;
            list.next_token.as_ref()?;
        }
    }

    /// Another client's ListRecords.
    pub fn list(
        &self,
        dataset: &str,
    ) -> aws_sdk_cognitosync::operation::list_records::ListRecordsOutput {
        let list = self.sdk().list_records();
        let list = list.identity_pool_id(self.pool.as_str());
        let list = list
            .identity_id(self.identity.as_str())
            .dataset_name(dataset);
        self.block_on(list.send()).unwrap()
    }

    /// Another client's change of some records; None removes.
    pub fn change(&self, dataset: &str, changes: &[(&str, Option<&str>)]) {
        let listed = self.list(dataset);
        let mut counts = HashMap::new();
        let list = self.sdk().list_records();
        let list = list.identity_pool_id(self.pool.as_str());
        let list = list
            .identity_id(self.identity.as_str())
            .dataset_name(dataset);
        let mut next = None;
        loop {
            let page = list.clone().set_next_token(next);
            let page = self.block_on(page.send()).unwrap();
            for record in page.records() {
                counts.insert(
                    record.key().unwrap().to_owned(),
                    record.sync_count().unwrap(),
                );
            }
            next = page.next_token().map(str::to_owned);
            if next.is_none() {
                break;
            }
        }
        let count = |key: &str| counts.get(key).copied().unwrap_or(0);
        let patches = changes.iter().map(|(key, value)| {
            let op = match value {
                Some(_) => Operation::Replace,
                None => Operation::Remove,
            };
            let patch = RecordPatch::builder()
                .op(op)
                .key(*key)
                .sync_count(count(key));
            patch.set_value(value.map(str::to_owned)).build().unwrap()
        });
        let update = self.sdk().update_records();
        let update = update.identity_pool_id(self.pool.as_str());
        let update = update
            .identity_id(self.identity.as_str())
            .dataset_name(dataset);
        let update = update.set_record_patches(Some(patches.collect()));
        let update = update.sync_session_token(listed.sync_session_token().unwrap());
        self.block_on(update.send()).unwrap();
    }

    /// Another client deletes a dataset.
    pub fn delete(&self, dataset: &str) {
        let delete = self.sdk().delete_dataset();
        let delete = delete.identity_pool_id(self.pool.as_str());
        let delete = delete
            .identity_id(self.identity.as_str())
            .dataset_name(dataset);
        self.block_on(delete.send()).unwrap();
    }

    /// Stores a value and a key that are no Unicode, as JavaScript clients can.
    pub fn put_surrogates(&self, dataset: &str) {
        let developer = self.service.developer("us-east-1".parse().unwrap());
        let (pool, identity) = (self.pool.as_str(), self.identity.as_str());
        let path = format!("/identitypools/{pool}/identities/{identity}/datasets/{dataset}");
        let token = self.list(dataset).sync_session_token().unwrap().to_owned();
        let body = format!(
            r#"{{"SyncSessionToken":"{token}","RecordPatches":[
            {{"Op":"replace","Key":"bad","Value":"half \ud83d of it","SyncCount":0}},
            {{"Op":"replace","Key":"odd\ud83d","Value":"odd key","SyncCount":0}}]}}"#
        );
        let call = Call::parse("POST", &path, "", body.as_bytes()).unwrap();
        self.service.call(&call, &developer, now()).unwrap();
    }
}
