//! The trouble that `serve --fault` makes, as AWS's own SDK meets it.

use std::time::{Duration, Instant};

use aws_sdk_cognitosync::error::SdkError;
use aws_sdk_cognitosync::operation::list_datasets::{ListDatasetsError, ListDatasetsOutput};
use aws_sdk_cognitosync::types::{Operation, RecordPatch};
use cognitofs::server::faults::Faults;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::Served;
use crate::local_service::{LocalService, client};

async fn start(rules: &[&str]) -> LocalService {
    let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    LocalService::start_with_faults(Faults::new(rules, None)).await
}

async fn list(local: &LocalService) -> Result<ListDatasetsOutput, SdkError<ListDatasetsError>> {
    let list = local.sync(local.developer()).list_datasets();
    let list = list.identity_pool_id(local.pool.as_str());
    list.identity_id(local.identity.as_str()).send().await
}

/// Writes a record; returns whether it was acknowledged.
async fn update(local: &LocalService) -> bool {
    let client = local.sync(local.developer());
    let (pool, identity) = (local.pool.as_str(), local.identity.as_str());
    let listed = client.list_records().identity_pool_id(pool);
    let listed = listed.identity_id(identity).dataset_name("settings");
    let listed = listed.send().await.unwrap();
    let patch = RecordPatch::builder().op(Operation::Replace).key("k");
    let patch = patch.value("v").sync_count(0).build().unwrap();
    let update = client.update_records().identity_pool_id(pool);
    let update = update.identity_id(identity).dataset_name("settings");
    let update = update.sync_session_token(listed.sync_session_token().unwrap());
    update.record_patches(patch).send().await.is_ok()
}

#[tokio::test]
async fn errors_are_the_services_own() {
    let local = start(&["429@ListDatasets,n=1", "500@ListDatasets,n=1"]).await;
    let throttled = list(&local).await.unwrap_err().into_service_error();
    assert!(throttled.is_too_many_requests_exception());
    let failed = list(&local).await.unwrap_err().into_service_error();
    assert!(failed.is_internal_error_exception());
    assert!(list(&local).await.is_ok());
}

#[tokio::test]
async fn a_reset_comes_before_or_after_the_change() {
    for (rule, count) in [
        ("reset-before@UpdateRecords", 0),
        ("429@UpdateRecords", 0),
        ("reset-after@UpdateRecords", 1),
        ("torn@UpdateRecords", 1),
    ] {
        let local = start(&[rule]).await;
        assert!(!update(&local).await, "{rule}");
        assert_eq!(list(&local).await.unwrap().count(), count, "{rule}");
    }
}

/// Not even its head.
#[tokio::test]
async fn a_reset_sends_nothing_of_an_answer() {
    for (rule, begins) in [
        ("reset-before", ""),
        ("reset-after", ""),
        ("latency=1ms", "HTTP/1.1 403 Forbidden\r\n"),
    ] {
        let local = start(&[rule]).await;
        let mut stream = TcpStream::connect(local.address).await.unwrap();
        let request = b"GET /identitypools HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // A connection that is reset is an error here, and has said nothing either.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(begins), "{rule}: {answer}");
        assert_eq!(answer.is_empty(), begins.is_empty(), "{rule}: {answer}");
    }
}

#[tokio::test]
async fn delays_are_waited_for_and_a_hang_ends_with_the_service() {
    let local = start(&[
        "latency=100ms@ListDatasets",
        "jitter=1ms",
        "hang@UpdateRecords",
    ])
    .await;
    let begun = Instant::now();
    list(&local).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(100));
    let hang = tokio::time::timeout(Duration::from_millis(200), update(&local));
    assert!(hang.await.is_err());
    let stopped = tokio::time::timeout(Duration::from_secs(10), local.stop());
    stopped.await.unwrap();
}

/// The program itself: faults of its arguments, and of the file beside the store.
#[tokio::test]
async fn serve_makes_the_trouble_it_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let faults = [
        "--fault",
        "429@ListDatasets,n=1",
        "--fault",
        "ConcurrentModificationException@SetIdentityPoolConfiguration",
    ];
    let served = Served::start(&store, &faults);
    let client = client(&served.url, served.credentials.clone());
    let pools = || client.list_identity_pool_usage().send();
    let datasets = client.list_datasets().identity_pool_id("us-east-1:00");
    let datasets = datasets.identity_id("us-east-1:00").send().await;
    let throttled = datasets.unwrap_err().into_service_error();
    assert!(throttled.is_too_many_requests_exception());
    let set = client.set_identity_pool_configuration();
    let set = set.identity_pool_id("us-east-1:00").send().await;
    let modified = set.unwrap_err().into_service_error();
    assert!(modified.is_concurrent_modification_exception());
    pools().await.unwrap();
    let control = directory.path().join("store.faults");
    std::fs::write(&control, "500@ListIdentityPoolUsage\n").unwrap();
    let failed = pools().await.unwrap_err().into_service_error();
    assert!(failed.is_internal_error_exception());
    std::fs::remove_file(&control).unwrap();
    pools().await.unwrap();
}
