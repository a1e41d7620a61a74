//! Client, store and local service in one process, without a socket, on paused time: one seed is
//! one world.

#[path = "in_process/throttled.rs"]
mod throttled;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cognitofs::api::{
    Client, ClientOptions, Credentials, CredentialsSource, Endpoints, Error, Incoming, Outgoing,
    Surroundings, Transport,
};
use cognitofs::cli::in_process::InProcess;
use cognitofs::server::service::Service;
use cognitofs::server::storage::Storage;
use cognitofs::store::{Dataset, ErrorKind, Freshness, Journal, Store, StoreOptions};
use cognitofs::sync::{Change, Kind, Unseen};
use cognitofs::wire::bulk_publish::{BulkPublish, BulkPublishStatus, GetBulkPublishDetails};
use cognitofs::wire::configuration::{
    CognitoStreams, IdentityPoolOptions, SetIdentityPoolConfiguration, StreamingStatus,
};
use cognitofs::wire::names::RecordKey;
use cognitofs::wire::records::{
    ListRecords, PatchOp, RecordPatch, Records, UpdateRecords, UpdateRecordsBody,
};
use cognitofs::wire::text::Text;
use futures_util::future::{BoxFuture, join_all};

use crate::common::Seeded;
use crate::local_service::ids;

/// Runs a world to its end.
fn run<T>(seed: u64, world: impl AsyncFnOnce(Arc<Seeded>) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async { world(Arc::new(Seeded::new(seed))).await })
}

/// A service in memory with one pool and one identity.
fn service(seeded: &Seeded) -> Arc<Service> {
    let service = Service::new(Storage::in_memory().unwrap());
    let (pool, identity) = ids();
    let now = seeded.date().into();
    service.add_identity_pool(&pool, "test", now).unwrap();
    service.add_identity(&pool, &identity, now).unwrap();
    Arc::new(service)
}

fn developer(service: &Service) -> Credentials {
    let developer = service.developer_credentials();
    let (id, secret) = (&developer.access_key_id, &developer.secret_key);
    Credentials::new(id, secret, None, None, "test")
}

fn client(
    seeded: &Arc<Seeded>,
    transport: Arc<dyn Transport>,
    credentials: Credentials,
    concurrency: u32,
) -> Client {
    let url = Some("http://localhost:1");
    let options = ClientOptions {
        region: "us-east-1".parse().unwrap(),
        endpoints: Endpoints::find("us-east-1", url, |_| None).unwrap(),
        credentials: CredentialsSource::Fixed(credentials),
        concurrency,
        timeout: Duration::from_secs(30),
        surroundings: seeded.clone(),
        transport: Some(transport),
    };
    Client::new(options).unwrap()
}

fn store(client: Client, timeout: Duration) -> Arc<Store> {
    let options = StoreOptions {
        ttl: Duration::from_secs(1),
        timeout,
        unseen: Unseen::Keep,
        undo: None,
    };
    Store::new(client, Journal::in_memory().unwrap(), options)
}

fn dataset(store: &Arc<Store>, name: &str) -> Arc<Dataset> {
    let (pool, identity) = ids();
    let identity = store.identity(&pool, &identity);
    identity.dataset(&name.parse().unwrap())
}

fn list(name: &str) -> ListRecords {
    let (pool, identity) = ids();
    ListRecords {
        pool,
        identity,
        dataset: name.parse().unwrap(),
        last_sync_count: Some(0),
        next_token: None,
        max_results: None,
        sync_session_token: None,
    }
}

fn update(name: &str, listed: &Records, key: &str, value: &str) -> UpdateRecords {
    let (pool, identity) = ids();
    let patch = RecordPatch {
        op: PatchOp::Replace,
        key: RecordKey::new(key).unwrap(),
        value: Some(value.into()),
        sync_count: 0,
        device_last_modified_date: None,
    };
    UpdateRecords {
        pool,
        identity,
        dataset: name.parse().unwrap(),
        client_context: None,
        body: UpdateRecordsBody {
            device_id: None,
            record_patches: vec![patch],
            sync_session_token: listed.sync_session_token.clone(),
        },
    }
}

fn whole(dataset: &Dataset, seeded: &Seeded, key: &str, value: &str) -> Change {
    let key = RecordKey::new(key).unwrap();
    Change {
        base: dataset.base(&key),
        key,
        kind: Kind::Whole(value.into()),
        unseen: Unseen::Keep,
        sent: Vec::new(),
        whole: None,
        left: None,
        modified: seeded.date().into(),
    }
}

/// A way that takes its time, and now and then is asked to slow down.
#[derive(Debug)]
struct Slow {
    inner: InProcess,
    seeded: Arc<Seeded>,
}

impl Slow {
    async fn exchange(&self, outgoing: Outgoing) -> Result<Incoming, Error> {
        let (there, back) = (self.seeded.time(1, 90), self.seeded.time(1, 90));
        tokio::time::sleep(there).await;
        let answered = match self.seeded.below(4) {
            0 => Ok(too_many()),
            _ => self.inner.send(outgoing).await,
        };
        tokio::time::sleep(back).await;
        answered
    }
}

impl Transport for Slow {
    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<Incoming, Error>> {
        Box::pin(self.exchange(outgoing))
    }
}

/// An answer that asks to slow down.
fn too_many() -> Incoming {
    Incoming {
        status: 429,
        error_type: Some("TooManyRequestsException".to_owned()),
        request_id: None,
        retry_after: None,
        body: br#"{"message":"too many"}"#.to_vec(),
    }
}

/// What happened in a world, and when.
struct Trace {
    seeded: Arc<Seeded>,
    lines: Mutex<Vec<String>>,
}

impl Trace {
    fn note(&self, operation: &str, result: &dyn std::fmt::Debug) {
        let at = self.seeded.age().as_millis();
        let line = format!("{at} {operation} {result:?}");
        self.lines.lock().unwrap().push(line);
    }
}

/// Several clients update and list; one dataset is changed by all, by way of the store.
async fn busy(seeded: Arc<Seeded>) -> Vec<String> {
    let service = service(&seeded);
    let slow = Slow {
        inner: InProcess::new(service.clone(), seeded.clone()),
        seeded: seeded.clone(),
    };
    let client = client(&seeded, Arc::new(slow), developer(&service), 3);
    let store = store(client, Duration::from_secs(60));
    let trace = Trace {
        seeded: seeded.clone(),
        lines: Mutex::default(),
    };
    let writers = (0..6).map(|number: u32| {
        let (store, trace, seeded) = (&store, &trace, &seeded);
        async move {
            let (key, value) = (format!("k{number}"), format!("v{number}"));
            let dataset = dataset(store, ["even", "odd"][number as usize % 2]);
            let deadline = store.deadline();
            let refreshed = dataset.refresh(Freshness::Ttl, deadline).await;
            trace.note("refresh", &refreshed.map_err(|error| error.kind()));
            let change = whole(&dataset, seeded, &key, &value);
            let landed = dataset.commit(vec![change], deadline).await;
            trace.note("commit", &landed.map_err(|commit| commit.error.kind()));
            let identity = dataset.identity();
            let listed = identity.datasets(deadline).await;
            trace.note("datasets", &listed.map_err(|error| error.kind()));
        }
    });
    join_all(writers).await;
    trace.lines.into_inner().unwrap()
}

#[test]
fn the_same_seed_makes_the_same_happen() {
    let traces: Vec<Vec<String>> = (0..8).map(|seed| run(seed, busy)).collect();
    for (seed, trace) in traces.iter().enumerate() {
        assert_eq!(trace.len(), 18, "{trace:#?}");
        assert_eq!(*trace, run(seed as u64, busy), "seed {seed}");
    }
    assert_ne!(traces[0], traces[1]);
}

#[test]
fn requests_are_signed_and_carried_out_without_a_socket() {
    run(1, async |seeded| {
        let service = service(&seeded);
        let way = Arc::new(InProcess::new(service.clone(), seeded.clone()));
        let client = client(&seeded, way, developer(&service), 4);
        let deadline = seeded.now() + Duration::from_secs(5);
        let listed = client.call(&list("data:1"), deadline).await.unwrap();
        let change = update("data:1", &listed, "a/b c?", "v");
        let updated = client.call(&change, deadline).await.unwrap();
        let listed = client.call(&list("data:1"), deadline).await.unwrap();
        assert_eq!(listed.records.len(), 1);
        assert_eq!(listed.records[0].value, Some(Text::from("v")));
        assert_eq!(listed.records[0].sync_count, updated.records[0].sync_count);
        // The service's dates are the world's, which has not lasted yet.
        assert_eq!(
            listed.records[0].last_modified_date,
            Some(seeded.date().into())
        );
    });
}

#[test]
fn a_signature_by_somebody_else_is_refused() {
    run(1, async |seeded| {
        let service = service(&seeded);
        let way = Arc::new(InProcess::new(service.clone(), seeded.clone()));
        let id = service.developer_credentials().access_key_id.clone();
        let stranger = Credentials::new(id, "wrong", None, None, "test");
        let client = client(&seeded, way, stranger, 4);
        let deadline = seeded.now() + Duration::from_secs(5);
        let refused = client.call(&list("data"), deadline).await.unwrap_err();
        assert_eq!(refused.name(), "InvalidSignatureException");
        let error = cognitofs::store::Error::from(refused);
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    });
}

#[test]
fn what_a_call_leaves_for_later_is_done() {
    run(1, async |seeded| {
        let service = service(&seeded);
        let way = Arc::new(InProcess::new(service.clone(), seeded.clone()));
        let client = client(&seeded, way, developer(&service), 4);
        let deadline = seeded.now() + Duration::from_secs(5);
        let (pool, _) = ids();
        let streams = CognitoStreams {
            stream_name: Some("s".to_owned()),
            role_arn: Some("arn:aws:iam::123456789012:role/r".to_owned()),
            streaming_status: Some(StreamingStatus::Enabled),
        };
        let configuration = SetIdentityPoolConfiguration {
            pool: pool.clone(),
            body: IdentityPoolOptions {
                push_sync: None,
                cognito_streams: Some(streams),
            },
        };
        client.call(&configuration, deadline).await.unwrap();
        let publish = BulkPublish { pool: pool.clone() };
        client.call(&publish, deadline).await.unwrap();
        // All else has its turn.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let details = GetBulkPublishDetails { pool };
        let details = client.call(&details, deadline).await.unwrap();
        assert_eq!(
            details.bulk_publish_status,
            Some(BulkPublishStatus::Succeeded)
        );
    });
}
