//! What is left when the service is killed while it is written to.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_cognitosync::Client;
use aws_sdk_cognitosync::types::{CognitoStreams, Operation, RecordPatch, StreamingStatus};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::Served;
use crate::local_service::{LocalService, client, ids};

const WRITERS: usize = 12;
/// Updates that are acknowledged before the service is killed.
const UPDATES: usize = 50;

/// A dataset and the last two values that were sent to it.
#[derive(Clone, Debug, Default)]
struct Writer {
    acknowledged: i64,
    sent: i64,
}

fn dataset(number: usize) -> String {
    format!("dataset-{number}")
}

/// Returns a dataset's count, a token, and its record's value.
async fn list(client: &Client, number: usize) -> Option<(i64, String, i64)> {
    let (pool, identity) = ids();
    let list = client.list_records().identity_pool_id(pool.as_str());
    let list = list.identity_id(identity.as_str());
    let listed = list.dataset_name(dataset(number)).send().await.ok()?;
    let value = listed.records().first().and_then(|record| record.value());
    Some((
        listed.dataset_sync_count().unwrap(),
        listed.sync_session_token().unwrap().to_owned(),
        value.map_or(0, |value| value.parse().unwrap()),
    ))
}

/// Counts a record up until nobody answers. Who is told of the last update kills the service.
async fn write(client: Client, number: usize, done: Arc<AtomicUsize>, served: Pid) -> Writer {
    let (pool, identity) = ids();
    let mut writer = Writer::default();
    while let Some((count, token, value)) = list(&client, number).await {
        writer.acknowledged = writer.acknowledged.max(value);
        writer.sent = value + 1;
        let patch = RecordPatch::builder().op(Operation::Replace).key("k");
        let patch = patch.value(writer.sent.to_string()).sync_count(count);
        let update = client.update_records().identity_pool_id(pool.as_str());
        let update = update.identity_id(identity.as_str());
        let update = update.dataset_name(dataset(number));
        let update = update.sync_session_token(token);
        let update = update.record_patches(patch.build().unwrap());
        if update.send().await.is_ok() {
            writer.acknowledged = writer.sent;
            if done.fetch_add(1, Ordering::Relaxed) == UPDATES {
                kill(served, Signal::SIGKILL).unwrap();
            }
        }
    }
    writer
}

/// Returns the changes that the stream's file tells of, and how many lines are doubles.
fn streamed(store: &Path) -> (BTreeSet<(String, i64)>, usize) {
    let mut path = store.as_os_str().to_owned();
    path.push(".events.jsonl");
    let mut told = BTreeSet::new();
    let mut ids = BTreeSet::new();
    let mut doubles = 0;
    for line in std::fs::read_to_string(path).unwrap_or_default().lines() {
        // A line that the crash tore comes again.
        let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else {
            continue;
        };
        let record = &line["record"];
        let dataset = record["dataSetName"].as_str().unwrap().to_owned();
        let is_new = told.insert((dataset, record["syncCount"].as_i64().unwrap()));
        assert_eq!(ids.insert(line["id"].as_i64().unwrap()), is_new, "{line}");
        doubles += usize::from(!is_new);
    }
    (told, doubles)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_update_is_lost_by_a_kill() {
    kill_under_load(StreamingStatus::Disabled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_delivery_is_lost_by_a_kill() {
    kill_under_load(StreamingStatus::Enabled).await;
}

async fn kill_under_load(streaming: StreamingStatus) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = directory.path().join("store");
    let local = LocalService::start_file(&store).await;
    let streams = CognitoStreams::builder().stream_name("s");
    let streams = streams.role_arn("arn:aws:iam::123456789012:role/r");
    let streams = streams.streaming_status(streaming.clone()).build();
    let configure = local.sync(local.developer());
    let configure = configure.set_identity_pool_configuration();
    let configure = configure.identity_pool_id(local.pool.as_str());
    configure.cognito_streams(streams).send().await.unwrap();
    local.stop().await;

    let mut served = Served::start(&store, &[]);
    for round in 0..8 {
        let done = Arc::new(AtomicUsize::new(0));
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let client = client(&served.url, served.credentials.clone());
                tokio::spawn(write(client, number, done.clone(), served.id()))
            })
            .collect();
        let mut left = Vec::new();
        for writer in writers {
            left.push(writer.await.unwrap());
        }
        served = Served::start(&store, &[]);
        let client = client(&served.url, served.credentials.clone());
        let mut changes = BTreeSet::new();
        for (number, writer) in left.iter().enumerate() {
            let (count, _, value) = list(&client, number).await.unwrap();
            let kept = [writer.acknowledged, writer.sent];
            assert!(kept.contains(&value), "{round}: {value} of {writer:?}");
            changes.extend((1..=count).map(|count| (dataset(number), count)));
        }
        assert!(changes.len() > UPDATES * round);
        if streaming == StreamingStatus::Disabled {
            continue;
        }
        let begun = Instant::now();
        while streamed(&store).0 != changes {
            let (told, doubles) = streamed(&store);
            let missing: Vec<_> = changes.difference(&told).collect();
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{round}: {missing:?}, {doubles} doubles"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
