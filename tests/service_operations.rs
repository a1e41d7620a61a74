//! AWS's own SDK clients against the operations on pools, events, streams and devices.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_sdk_cognitosync::Client;
use aws_sdk_cognitosync::operation::get_bulk_publish_details::GetBulkPublishDetailsOutput;
use aws_sdk_cognitosync::operation::update_records::{UpdateRecordsError, UpdateRecordsOutput};
use aws_sdk_cognitosync::types::{
    BulkPublishStatus, CognitoStreams, Operation, Platform, PushSync, RecordPatch, StreamingStatus,
};
use serde_json::{Value, json};

use crate::local_service::LocalService;

const DATASET: &str = "settings";
const ROLE: &str = "arn:aws:iam::123456789012:role/r";
const APPLICATION: &str = "arn:aws:sns:us-east-1:123456789012:app/GCM/a";

fn push_sync() -> PushSync {
    PushSync::builder()
        .application_arns(APPLICATION)
        .role_arn(ROLE)
        .build()
}

fn streams(status: StreamingStatus) -> CognitoStreams {
    CognitoStreams::builder()
        .stream_name("s")
        .role_arn(ROLE)
        .streaming_status(status)
        .build()
}

async fn configure(local: &LocalService, push: PushSync, streams: CognitoStreams) {
    let set = local
        .sync(local.developer())
        .set_identity_pool_configuration();
    let set = set.identity_pool_id(local.pool.as_str()).push_sync(push);
    set.cognito_streams(streams).send().await.unwrap();
}

async fn set_trigger(local: &LocalService, function: &str) {
    let set = local.sync(local.developer()).set_cognito_events();
    let set = set.identity_pool_id(local.pool.as_str());
    set.events("SyncTrigger", function).send().await.unwrap();
}

async fn update(
    local: &LocalService,
    client: &Client,
    count: i64,
    device: Option<&str>,
) -> Result<UpdateRecordsOutput, UpdateRecordsError> {
    let (pool, identity) = (local.pool.as_str(), local.identity.as_str());
    let listed = client.list_records().identity_pool_id(pool);
    let listed = listed.identity_id(identity).dataset_name(DATASET);
    let listed = listed.send().await.unwrap();
    let patch = RecordPatch::builder().op(Operation::Replace).key("k");
    let patch = patch.value("v").sync_count(count).build().unwrap();
    let update = client.update_records().identity_pool_id(pool);
    let update = update.identity_id(identity).dataset_name(DATASET);
    let update = update.set_device_id(device.map(str::to_owned));
    let update = update.sync_session_token(listed.sync_session_token().unwrap());
    let updated = update.record_patches(patch).send().await;
    updated.map_err(|error| error.into_service_error())
}

fn lines(store: &Path) -> Vec<Value> {
    let mut path = store.as_os_str().to_owned();
    path.push(".events.jsonl");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Waits for a bulk publish as clients do.
async fn published_in_the_end(local: &LocalService) -> GetBulkPublishDetailsOutput {
    let begun = Instant::now();
    loop {
        let details = local.sync(local.developer()).get_bulk_publish_details();
        let details = details.identity_pool_id(local.pool.as_str());
        let details = details.send().await.unwrap();
        if details.bulk_publish_status() != Some(&BulkPublishStatus::InProgress) {
            return details;
        }
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_is_set_on_a_pool_outlives_the_service() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let local = LocalService::start_file(&store).await;
    let pool = local.pool.to_string();
    configure(&local, push_sync(), streams(StreamingStatus::Enabled)).await;
    let function = "arn:aws:lambda:us-east-1:123456789012:function:f";
    set_trigger(&local, function).await;
    let user = local.sync(local.user(local.identity.as_str()).await);
    let register = user.register_device().identity_pool_id(&pool);
    let register = register.identity_id(local.identity.as_str());
    let registered = register.platform(Platform::Gcm).token("t").send().await;
    let device = registered.unwrap().device_id().unwrap().to_owned();
    update(&local, &user, 0, None).await.unwrap();
    let subscribe = user.subscribe_to_dataset().identity_pool_id(&pool);
    let subscribe = subscribe.identity_id(local.identity.as_str());
    let subscribe = subscribe.dataset_name(DATASET).device_id(&device);
    subscribe.send().await.unwrap();
    let publish = local.sync(local.developer()).bulk_publish();
    let published = publish.identity_pool_id(&pool).send().await.unwrap();
    assert_eq!(published.identity_pool_id(), Some(pool.as_str()));
    let details = published_in_the_end(&local).await;
    assert_eq!(
        details.bulk_publish_status(),
        Some(&BulkPublishStatus::Succeeded)
    );
    drop(user);
    local.stop().await;

    let local = LocalService::start_file(&store).await;
    let client = local.sync(local.developer());
    let set = client.get_identity_pool_configuration();
    let set = set.identity_pool_id(&pool).send().await.unwrap();
    assert_eq!(set.push_sync(), Some(&push_sync()));
    assert_eq!(
        set.cognito_streams(),
        Some(&streams(StreamingStatus::Enabled))
    );
    let events = client.get_cognito_events().identity_pool_id(&pool);
    let events = events.send().await.unwrap();
    assert_eq!(events.events().unwrap()["SyncTrigger"], function);
    let details = client.get_bulk_publish_details().identity_pool_id(&pool);
    let details = details.send().await.unwrap();
    assert_eq!(
        details.bulk_publish_status(),
        Some(&BulkPublishStatus::Succeeded)
    );
    assert!(details.bulk_publish_start_time().is_some());
    assert!(details.bulk_publish_complete_time().is_some());
    let again = client.bulk_publish().identity_pool_id(&pool).send().await;
    let again = again.unwrap_err().into_service_error();
    assert!(again.is_already_streamed_exception());
    let usage = client
        .describe_identity_pool_usage()
        .identity_pool_id(&pool);
    let usage = usage.send().await.unwrap();
    assert_eq!(usage.identity_pool_usage().unwrap().data_storage(), Some(2));

    update(&local, &client, 1, None).await.unwrap();
    let user = local.sync(local.user(local.identity.as_str()).await);
    update(&local, &user, 2, Some(&device)).await.unwrap();
    let unsubscribe = user.unsubscribe_from_dataset().identity_pool_id(&pool);
    let unsubscribe = unsubscribe.identity_id(local.identity.as_str());
    let unsubscribe = unsubscribe.dataset_name(DATASET).device_id(&device);
    unsubscribe.send().await.unwrap();
    update(&local, &client, 3, None).await.unwrap();

    let lines = lines(&store);
    let kinds: Vec<_> = lines
        .iter()
        .map(|line| line["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["stream", "stream", "stream", "push", "stream", "stream"]
    );
    let mut record = lines[0]["record"].clone();
    assert!(record["lastModifiedDate"].take().is_i64());
    let synced = &mut record["kinesisSyncRecords"][0];
    assert!(synced["lastModifiedDate"].take().is_i64());
    assert_eq!(
        record,
        json!({
            "identityPoolId": pool,
            "identityId": local.identity,
            "dataSetName": DATASET,
            "operation": "replace",
            "kinesisSyncRecords": [{
                "key": "k", "value": "v", "syncCount": 1, "lastModifiedDate": null,
                "deviceLastModifiedDate": null, "op": "replace",
            }],
            "lastModifiedDate": null,
            "kinesisSyncRecordsURL": null,
            "payloadType": "Inline",
            "syncCount": 1,
        })
    );
    assert_eq!(lines[3]["deviceId"], device);
    assert_eq!(
        lines[3]["message"],
        json!({
            "source": "cognito-sync", "identityPoolId": pool, "identityId": local.identity,
            "datasetName": DATASET, "syncCount": 2,
        })
    );
}

#[tokio::test]
async fn refusals_are_the_modelled_exceptions() {
    let local = LocalService::start().await;
    let pool = local.pool.as_str();
    let developer = local.sync(local.developer());
    let user = local.sync(local.user(local.identity.as_str()).await);
    macro_rules! refused {
        ($call:expr, $is:ident) => {
            let error = $call.send().await.unwrap_err().into_service_error();
            assert!(error.$is(), "{error:?}");
        };
    }
    let missing = "us-east-1:00";
    refused!(
        user.bulk_publish().identity_pool_id(pool),
        is_not_authorized_exception
    );
    refused!(
        user.get_cognito_events().identity_pool_id(pool),
        is_not_authorized_exception
    );
    refused!(
        user.describe_identity_pool_usage().identity_pool_id(pool),
        is_not_authorized_exception
    );
    refused!(
        developer.bulk_publish().identity_pool_id(missing),
        is_resource_not_found_exception
    );
    refused!(
        developer
            .get_bulk_publish_details()
            .identity_pool_id(missing),
        is_resource_not_found_exception
    );
    refused!(
        developer
            .describe_identity_pool_usage()
            .identity_pool_id(missing),
        is_resource_not_found_exception
    );
    refused!(
        developer
            .get_identity_pool_configuration()
            .identity_pool_id("nonsense"),
        is_invalid_parameter_exception
    );
    refused!(
        developer.bulk_publish().identity_pool_id(pool),
        is_invalid_parameter_exception
    );
    let details = developer.get_bulk_publish_details().identity_pool_id(pool);
    let details = details.send().await.unwrap();
    assert_eq!(
        details.bulk_publish_status(),
        Some(&BulkPublishStatus::NotStarted)
    );

    let set = || {
        developer
            .set_identity_pool_configuration()
            .identity_pool_id(pool)
    };
    refused!(
        set().cognito_streams(CognitoStreams::builder().stream_name("").build()),
        is_invalid_parameter_exception
    );
    refused!(
        set().cognito_streams(streams(StreamingStatus::from("PAUSED"))),
        is_invalid_parameter_exception
    );
    refused!(
        set().push_sync(PushSync::builder().application_arns("arn").build()),
        is_invalid_parameter_exception
    );
    let events = || developer.set_cognito_events().identity_pool_id(pool);
    refused!(
        events().events("SyncTrigger", "http://example.com/"),
        is_invalid_parameter_exception
    );
    refused!(
        events().events("a", "").events("b", ""),
        is_invalid_parameter_exception
    );

    let register = |client: &Client, platform: Platform| {
        let register = client.register_device().identity_pool_id(pool);
        let register = register.identity_id(local.identity.as_str());
        register.platform(platform).token("t")
    };
    refused!(
        register(&user, Platform::Gcm),
        is_invalid_configuration_exception
    );
    configure(&local, push_sync(), streams(StreamingStatus::Disabled)).await;
    refused!(
        register(&developer, Platform::Gcm),
        is_not_authorized_exception
    );
    refused!(
        register(&user, Platform::Adm),
        is_invalid_configuration_exception
    );
    refused!(
        register(&user, Platform::from("FCM")),
        is_invalid_parameter_exception
    );
    let device = register(&user, Platform::Gcm).send().await.unwrap();
    let device = device.device_id().unwrap();
    let subscribe = |client: &Client, device: &str| {
        let subscribe = client.subscribe_to_dataset().identity_pool_id(pool);
        let subscribe = subscribe.identity_id(local.identity.as_str());
        subscribe.dataset_name(DATASET).device_id(device)
    };
    refused!(subscribe(&user, device), is_resource_not_found_exception);
    update(&local, &user, 0, None).await.unwrap();
    refused!(subscribe(&user, "nobody"), is_resource_not_found_exception);
    refused!(subscribe(&developer, device), is_not_authorized_exception);
    refused!(
        subscribe(&user, &"d".repeat(257)),
        is_invalid_parameter_exception
    );
    refused!(
        subscribe(&user, &"d".repeat(256)),
        is_resource_not_found_exception
    );
    let unsubscribe = user.unsubscribe_from_dataset().identity_pool_id(pool);
    let unsubscribe = unsubscribe.identity_id(local.identity.as_str());
    refused!(
        unsubscribe.dataset_name(DATASET).device_id("nobody"),
        is_resource_not_found_exception
    );
}

/// Answers every call with a status and a body.
fn function(status: u16, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 65_536]);
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            );
        }
    });
    url
}

#[tokio::test]
async fn a_function_decides_what_a_user_writes() {
    let local = LocalService::start().await;
    let user = local.sync(local.user(local.identity.as_str()).await);
    let developer = local.sync(local.developer());
    set_trigger(&local, &function(200, "nonsense")).await;
    let refused = update(&local, &user, 0, None).await.unwrap_err();
    assert!(refused.is_invalid_lambda_function_output_exception());
    set_trigger(&local, &function(429, "")).await;
    let refused = update(&local, &user, 0, None).await.unwrap_err();
    assert!(refused.is_lambda_throttled_exception());
    update(&local, &developer, 0, None).await.unwrap();
    let answer = r#"{"datasetRecords":{"k":{"newValue":"w","op":"replace"}}}"#;
    set_trigger(&local, &function(200, answer)).await;
    let updated = update(&local, &user, 1, None).await.unwrap();
    assert_eq!(updated.records()[0].value(), Some("w"));
    set_trigger(&local, "").await;
    let updated = update(&local, &user, 2, None).await.unwrap();
    assert_eq!(updated.records()[0].value(), Some("v"));
}

#[tokio::test]
async fn a_developers_user_logs_in_by_a_token() {
    let local = LocalService::start().await;
    let cognito = local.cognito_identity(local.developer());
    let made = cognito
        .create_identity_pool()
        .identity_pool_name("made here");
    let made = made.allow_unauthenticated_identities(false);
    let made = made.developer_provider_name("dev").send().await.unwrap();
    let pool = made.identity_pool_id().to_owned();
    let described = cognito.describe_identity_pool().identity_pool_id(&pool);
    let described = described.send().await.unwrap();
    assert_eq!(described.identity_pool_name(), "made here");
    assert_eq!(described.developer_provider_name(), Some("dev"));
    assert!(!described.allow_unauthenticated_identities());

    let token = cognito.get_open_id_token_for_developer_identity();
    let token = token.identity_pool_id(&pool).logins("dev", "ann");
    let token = token.send().await.unwrap();
    let identity = token.identity_id().unwrap().to_owned();
    let anonymous = Credentials::new("none", "none", None, None, "test");
    let anyone = local.cognito_identity(anonymous);
    let provider = "cognito-identity.amazonaws.com";
    let short = anyone.get_open_id_token().identity_id(&identity);
    let short = short.logins(provider, token.token().unwrap()).send().await;
    let short = short.unwrap();
    let issued = anyone.get_credentials_for_identity().identity_id(&identity);
    let issued = issued.logins(provider, short.token().unwrap()).send().await;
    let issued = issued.unwrap();
    let issued = issued.credentials().unwrap();
    let ann = Credentials::new(
        issued.access_key_id().unwrap(),
        issued.secret_key().unwrap(),
        issued.session_token().map(str::to_owned),
        None,
        "test",
    );
    let usage = local.sync(ann).describe_identity_usage();
    let usage = usage.identity_pool_id(&pool).identity_id(&identity);
    usage.send().await.unwrap();

    let delete = cognito
        .delete_identities()
        .identity_ids_to_delete(&identity);
    let delete = delete.identity_ids_to_delete("us-east-1:00");
    let deleted = delete.send().await.unwrap();
    assert_eq!(deleted.unprocessed_identity_ids().len(), 1);
    let gone = cognito.describe_identity().identity_id(&identity);
    let gone = gone.send().await.unwrap_err().into_service_error();
    assert!(gone.is_resource_not_found_exception());
}
