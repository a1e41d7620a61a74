//! AWS's own SDK clients against the local service: the sequences that AWS's live tests assert of
//! the real one, and what a caller may do.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_cognitosync::Client;
use aws_sdk_cognitosync::error::ProvideErrorMetadata;
use aws_sdk_cognitosync::operation::list_records::{ListRecordsError, ListRecordsOutput};
use aws_sdk_cognitosync::operation::update_records::{UpdateRecordsError, UpdateRecordsOutput};
use aws_sdk_cognitosync::primitives::DateTime;
use aws_sdk_cognitosync::types::{Operation, RecordPatch};
use cognitofs::server::http::serve;
use cognitofs::server::service::Lifetimes;
use cognitofs::server::storage::{Storage, StorageError};

use crate::local_service::{LocalService, client};

const DATASET: &str = "settings";

fn replace(key: &str, value: &str, count: i64) -> RecordPatch {
    let patch = RecordPatch::builder().op(Operation::Replace).value(value);
    patch.key(key).sync_count(count).build().unwrap()
}

fn remove(key: &str, count: i64) -> RecordPatch {
    let patch = RecordPatch::builder().op(Operation::Remove);
    patch.key(key).sync_count(count).build().unwrap()
}

/// One device's view of the dataset.
struct Device {
    client: Client,
    pool: String,
    identity: String,
}

impl Device {
    fn new(local: &LocalService) -> Self {
        Self {
            client: local.sync(local.developer()),
            pool: local.pool.to_string(),
            identity: local.identity.to_string(),
        }
    }

    async fn list_with(
        &self,
        count: Option<i64>,
        token: Option<&str>,
    ) -> Result<ListRecordsOutput, ListRecordsError> {
        self.client
            .list_records()
            .identity_pool_id(&self.pool)
            .identity_id(&self.identity)
            .dataset_name(DATASET)
            .set_last_sync_count(count)
            .set_sync_session_token(token.map(str::to_owned))
            .send()
            .await
            .map_err(|error| error.into_service_error())
    }

    async fn list(&self, count: i64) -> ListRecordsOutput {
        self.list_with(Some(count), None).await.unwrap()
    }

    async fn push_with(
        &self,
        token: &str,
        patches: Vec<RecordPatch>,
    ) -> Result<UpdateRecordsOutput, UpdateRecordsError> {
        self.client
            .update_records()
            .identity_pool_id(&self.pool)
            .identity_id(&self.identity)
            .dataset_name(DATASET)
            .set_record_patches(Some(patches))
            .sync_session_token(token)
            .send()
            .await
            .map_err(|error| error.into_service_error())
    }

    /// Pushes with a new token.
    async fn push(
        &self,
        patches: Vec<RecordPatch>,
    ) -> Result<UpdateRecordsOutput, UpdateRecordsError> {
        let listed = self.list(0).await;
        self.push_with(listed.sync_session_token().unwrap(), patches)
            .await
    }

    async fn delete(&self) {
        self.client
            .delete_dataset()
            .identity_pool_id(&self.pool)
            .identity_id(&self.identity)
            .dataset_name(DATASET)
            .send()
            .await
            .unwrap();
    }

    /// Returns the names of the identity's datasets.
    async fn datasets(&self) -> Vec<String> {
        let listed = self.client.list_datasets().identity_pool_id(&self.pool);
        let listed = listed.identity_id(&self.identity).send().await.unwrap();
        assert_eq!(listed.count() as usize, listed.datasets().len());
        let names = listed.datasets().iter();
        names
            .map(|d| d.dataset_name().unwrap().to_owned())
            .collect()
    }
}

/// `TestDataCalls` of the .NET SDK's live tests.
#[tokio::test]
async fn a_dataset_lives_from_its_first_write_to_its_deletion() {
    let local = LocalService::start().await;
    let device = Device::new(&local);
    assert_eq!(device.datasets().await, [""; 0]);

    let listed = device.list(0).await;
    assert_eq!((listed.count(), listed.records().len()), (0, 0));
    assert!(!listed.dataset_exists());
    assert_eq!(listed.dataset_sync_count(), Some(0));
    assert!(!listed.dataset_deleted_after_requested_sync_count());
    assert_eq!(listed.last_modified_by(), None);
    assert!(listed.merged_dataset_names().is_empty());
    assert_eq!(listed.next_token(), None);
    let token = listed.sync_session_token().unwrap();
    assert!(!token.is_empty());

    let written = DateTime::from_secs_and_nanos(1_412_974_057, 151_000_000);
    let mut patches = vec![replace("theme", "dark", 0), replace("font é/😀", "", 0)];
    patches[0].device_last_modified_date = Some(written);
    let updated = device.push_with(token, patches).await.unwrap();
    assert_eq!(updated.records().len(), 2);
    assert!(updated.records().iter().all(|r| r.sync_count() == Some(1)));
    assert_eq!(device.datasets().await, [DATASET]);

    let listed = device.list(0).await;
    assert!(listed.dataset_exists());
    assert_eq!((listed.count(), listed.dataset_sync_count()), (2, Some(1)));
    let account = local.service.developer_credentials().account_id.as_str();
    assert_eq!(listed.last_modified_by(), Some(account));
    let [font, theme] = listed.records() else {
        panic!("{:?}", listed.records())
    };
    assert_eq!((font.key(), font.value()), (Some("font é/😀"), Some("")));
    assert_eq!(font.device_last_modified_date(), None);
    assert_eq!((theme.key(), theme.value()), (Some("theme"), Some("dark")));
    let date = theme.device_last_modified_date().unwrap();
    assert_eq!(date.to_millis().unwrap(), written.to_millis().unwrap());
    assert_eq!(theme.last_modified_by(), Some(account));

    let token = listed.sync_session_token().unwrap();
    let patches = vec![replace("theme", "dark", 1)];
    let updated = device.push_with(token, patches).await.unwrap();
    assert_eq!(updated.records()[0].sync_count(), Some(2));
    let listed = device.list(1).await;
    assert_eq!((listed.count(), listed.dataset_sync_count()), (1, Some(2)));

    let describe = || {
        let describe = device.client.describe_dataset().dataset_name(DATASET);
        let describe = describe.identity_pool_id(&device.pool);
        describe.identity_id(&device.identity).send()
    };
    let described = describe().await.unwrap();
    let dataset = described.dataset().unwrap();
    assert_eq!(dataset.num_records(), Some(2));
    assert_eq!(dataset.data_storage(), Some(9 + 12));
    assert_eq!(dataset.identity_id(), Some(device.identity.as_str()));
    device.delete().await;
    assert_eq!(device.datasets().await, [""; 0]);
    let missing = describe().await.unwrap_err().into_service_error();
    assert!(missing.is_resource_not_found_exception(), "{missing:?}");
    local.stop().await;
}

/// `testSyncSessionToken` of the iOS SDK's live tests.
#[tokio::test]
async fn a_session_token_is_good_for_listings_until_it_is_used() {
    let local = LocalService::start().await;
    let device = Device::new(&local);
    let listed = device.list(0).await;
    let token = listed.sync_session_token().unwrap();
    let again = device.list_with(None, Some(token)).await.unwrap();
    assert_eq!(again.sync_session_token(), Some(token));
    let pushed = device.push_with(token, vec![replace("k", "v", 0)]).await;
    pushed.unwrap();
    let listed = device.list_with(None, Some(token)).await.unwrap_err();
    assert!(listed.is_invalid_parameter_exception());
    assert_eq!(
        listed.message(),
        Some("SyncSessionToken not valid for these inputs")
    );
    let pushed = device.push_with(token, vec![replace("k", "w", 1)]).await;
    assert!(pushed.unwrap_err().is_invalid_parameter_exception());
    assert_eq!(device.list(0).await.records()[0].value(), Some("v"));
}

#[tokio::test]
async fn an_expired_session_token_is_not_valid() {
    let lifetimes = Lifetimes {
        session_token: Duration::ZERO,
        ..Lifetimes::default()
    };
    let local = LocalService::start_with(Storage::in_memory().unwrap(), lifetimes).await;
    let device = Device::new(&local);
    let pushed = device.push(vec![replace("k", "v", 0)]).await.unwrap_err();
    assert_eq!(
        pushed.message(),
        Some("SyncSessionToken not valid for these inputs")
    );
}

/// `testInvalidDatasetNameFails` of the iOS SDK's live tests, and its neighbours.
#[tokio::test]
async fn a_missing_dataset_is_not_found_but_lists_empty() {
    let local = LocalService::start().await;
    let device = Device::new(&local);
    let describe = device.client.describe_dataset().dataset_name("missing");
    let describe = describe.identity_pool_id(&device.pool);
    let missing = describe.identity_id(&device.identity).send().await;
    let missing = missing.unwrap_err().into_service_error();
    assert!(missing.is_resource_not_found_exception());
    let delete = device.client.delete_dataset().dataset_name("missing");
    let delete = delete.identity_pool_id(&device.pool);
    let missing = delete.identity_id(&device.identity).send().await;
    let missing = missing.unwrap_err().into_service_error();
    assert!(missing.is_resource_not_found_exception());
    assert!(!device.list(0).await.dataset_exists());

    let stranger = Device {
        identity: "us-east-1:00000000-0000-4000-8000-00000000ffff".to_owned(),
        ..Device::new(&local)
    };
    assert_eq!(stranger.datasets().await, [""; 0]);
    let pushed = stranger.push(vec![replace("k", "v", 0)]).await;
    assert!(pushed.unwrap_err().is_resource_not_found_exception());
}

/// `testConflict`: another device writes between a device's listing and its push.
#[tokio::test]
async fn who_pushes_an_old_count_is_told_so() {
    let local = LocalService::start().await;
    let [ours, theirs] = [Device::new(&local), Device::new(&local)];
    ours.push(vec![replace("k", "1", 0)]).await.unwrap();
    let listed = ours.list(0).await;
    theirs.push(vec![replace("k", "2", 1)]).await.unwrap();
    let token = listed.sync_session_token().unwrap();
    let patches = vec![replace("other", "x", 0), replace("k", "3", 1)];
    let conflict = ours.push_with(token, patches).await.unwrap_err();
    assert!(conflict.is_resource_conflict_exception(), "{conflict:?}");
    assert_eq!(
        conflict.message(),
        Some("Current SyncCount for: k is: 2 not: 1")
    );
    let listed = ours.list(0).await;
    assert_eq!((listed.count(), listed.dataset_sync_count()), (1, Some(2)));
    let pushed = ours.push(vec![replace("k", "3", 2)]).await.unwrap();
    assert_eq!(pushed.records()[0].sync_count(), Some(3));
}

/// `testDatasetDeletedHandler` and `testDatasetDeletedHandlerOnResurrect`.
#[tokio::test]
async fn a_deleted_dataset_can_be_written_again() {
    let local = LocalService::start().await;
    let device = Device::new(&local);
    device.push(vec![replace("k", "1", 0)]).await.unwrap();
    device.push(vec![replace("k", "2", 1)]).await.unwrap();
    device.delete().await;
    let listed = device.list(2).await;
    assert!(!listed.dataset_exists());
    assert!(listed.dataset_deleted_after_requested_sync_count());
    assert_eq!(listed.dataset_sync_count(), Some(0));
    let pushed = device.push(vec![replace("k", "3", 0)]).await.unwrap();
    assert_eq!(pushed.records()[0].sync_count(), Some(4));
    let listed = device.list(2).await;
    assert!(listed.dataset_exists() && listed.dataset_deleted_after_requested_sync_count());
    let fresh = device.list(0).await;
    assert!(!fresh.dataset_deleted_after_requested_sync_count());
    assert_eq!((fresh.count(), fresh.dataset_sync_count()), (1, Some(4)));
}

/// `testBrokenSyncCount`.
#[tokio::test]
async fn a_count_the_dataset_never_had_is_refused() {
    let local = LocalService::start().await;
    let device = Device::new(&local);
    device.push(vec![replace("k", "1", 0)]).await.unwrap();
    let refused = device.list_with(Some(2), None).await.unwrap_err();
    assert!(refused.is_invalid_parameter_exception());
    assert_eq!(
        refused.message(),
        Some("No such SyncCount: 2 exists for this Dataset")
    );
}

/// `testRemove`.
#[tokio::test]
async fn a_removed_record_stays_as_a_tombstone() {
    let local = LocalService::start().await;
    let device = Device::new(&local);
    device.push(vec![replace("k", "1", 0)]).await.unwrap();
    let removed = device.push(vec![remove("k", 1)]).await.unwrap();
    assert_eq!(removed.records()[0].value(), None);
    for from in [0, 1] {
        let listed = device.list(from).await;
        assert_eq!(listed.count(), 1);
        assert_eq!(listed.records()[0].value(), None);
        assert_eq!(listed.records()[0].sync_count(), Some(2));
    }
    let again = device.push(vec![replace("k", "2", 0)]).await.unwrap_err();
    assert!(again.is_resource_conflict_exception());
    device.push(vec![replace("k", "2", 2)]).await.unwrap();
}

#[tokio::test]
async fn too_much_is_a_limit() {
    let local = LocalService::start().await;
    let device = Device::new(&local);
    let patches = (0..1025).map(|n| replace(&n.to_string(), "", 0)).collect();
    let refused = device.push(patches).await.unwrap_err();
    assert!(refused.is_limit_exceeded_exception(), "{refused:?}");
    // The longest value the API has, in characters that JSON escapes.
    let longest = "\u{1}".repeat(1_048_575 - 1);
    let pushed = device.push(vec![replace("k", &longest, 0)]).await;
    pushed.unwrap();
    let listed = device.list(0).await;
    assert_eq!(listed.records()[0].value(), Some(longest.as_str()));
}

#[tokio::test]
async fn a_user_sees_nothing_but_the_own_identity() {
    let local = LocalService::start().await;
    let anonymous = Credentials::new("none", "none", None, None, "test");
    let cognito = local.cognito_identity(anonymous);
    let got = cognito.get_id().identity_pool_id(local.pool.as_str());
    let got = got.logins("accounts.example.com", "ann").send().await;
    let identity = got.unwrap().identity_id().unwrap().to_owned();
    assert_ne!(identity, local.identity.as_str());
    let again = cognito.get_id().identity_pool_id(local.pool.as_str());
    let again = again.logins("accounts.example.com", "ann").send().await;
    assert_eq!(again.unwrap().identity_id(), Some(identity.as_str()));
    let guest = cognito.get_credentials_for_identity();
    let refused = guest.identity_id(&identity).send().await.unwrap_err();
    assert!(refused.into_service_error().is_not_authorized_exception());
    let issue = cognito
        .get_credentials_for_identity()
        .identity_id(&identity);
    let issued = issue.logins("accounts.example.com", "ann").send().await;
    let issued = issued.unwrap();
    let issued = issued.credentials().unwrap();
    let user = Credentials::new(
        issued.access_key_id().unwrap(),
        issued.secret_key().unwrap(),
        issued.session_token().map(str::to_owned),
        None,
        "test",
    );

    let device = Device {
        client: local.sync(user.clone()),
        pool: local.pool.to_string(),
        identity: identity.clone(),
    };
    device.push(vec![replace("k", "v", 0)]).await.unwrap();
    let listed = device.list(0).await;
    assert_eq!(listed.last_modified_by(), Some(identity.as_str()));
    let usage = device.client.describe_identity_usage();
    let usage = usage.identity_pool_id(&device.pool).identity_id(&identity);
    let usage = usage.send().await.unwrap();
    assert_eq!(usage.identity_usage().unwrap().dataset_count(), 1);
    device.delete().await;

    let other = Device {
        client: local.sync(user.clone()),
        ..Device::new(&local)
    };
    let refused = other.list_with(None, None).await.unwrap_err();
    assert!(refused.is_not_authorized_exception(), "{refused:?}");
    let pools = device.client.list_identity_pool_usage().send().await;
    let refused = pools.unwrap_err().into_service_error();
    assert!(refused.is_not_authorized_exception());
    let cognito = local.cognito_identity(user);
    let identities = cognito.list_identities().max_results(60);
    let identities = identities.identity_pool_id(local.pool.as_str());
    let refused = identities.send().await.unwrap_err().into_service_error();
    assert!(refused.is_not_authorized_exception());
}

#[tokio::test]
async fn who_has_no_valid_secret_is_refused() {
    let lifetimes = Lifetimes {
        credentials: Duration::ZERO,
        ..Lifetimes::default()
    };
    let local = LocalService::start_with(Storage::in_memory().unwrap(), lifetimes).await;
    let key = local.developer().access_key_id().to_owned();
    let expired = local.cognito_identity(local.developer());
    let expired = expired.get_credentials_for_identity();
    let expired = expired.identity_id(local.identity.as_str());
    let expired = expired.send().await.unwrap();
    let expired = expired.credentials().unwrap();
    for (key, secret, token, code) in [
        (key.as_str(), "wrong", None, "InvalidSignatureException"),
        ("AKIANOBODY", "wrong", None, "UnrecognizedClientException"),
        (
            expired.access_key_id().unwrap(),
            expired.secret_key().unwrap(),
            expired.session_token(),
            "ExpiredTokenException",
        ),
    ] {
        let token = token.map(str::to_owned);
        let credentials = Credentials::new(key, secret, token, None, "test");
        let device = Device {
            client: local.sync(credentials.clone()),
            ..Device::new(&local)
        };
        let refused = device.list_with(None, None).await.unwrap_err();
        assert_eq!(refused.meta().code(), Some(code));
        let cognito = local.cognito_identity(credentials);
        let refused = cognito.list_identity_pools().max_results(1).send().await;
        let refused = refused.unwrap_err().into_service_error();
        assert_eq!(refused.meta().code(), Some(code));
    }
}

#[tokio::test]
async fn pools_and_identities_are_listed_page_by_page() {
    let local = LocalService::start().await;
    let cognito = local.cognito_identity(local.developer());
    let pool = local.pool.as_str();
    for _ in 0..4 {
        let guest = cognito.get_id().identity_pool_id(pool).send().await;
        guest.unwrap();
    }
    let mut seen = Vec::new();
    let mut token = None;
    loop {
        let page = cognito.list_identities().identity_pool_id(pool);
        let page = page.max_results(2).set_next_token(token).send().await;
        let page = page.unwrap();
        let ids = page.identities().iter();
        seen.extend(ids.map(|found| found.identity_id().unwrap().to_owned()));
        token = page.next_token().map(str::to_owned);
        if token.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 5);
    assert!(seen.is_sorted_by(|a, b| a < b));
    let described = cognito.describe_identity().identity_id(&seen[3]);
    let described = described.send().await.unwrap();
    assert!(described.creation_date().is_some());
    let missing = cognito.describe_identity().identity_id("us-east-1:00");
    let missing = missing.send().await.unwrap_err().into_service_error();
    assert!(missing.is_resource_not_found_exception());
    let pools = cognito.list_identity_pools().max_results(60).send().await;
    let pools = pools.unwrap();
    assert_eq!(pools.identity_pools()[0].identity_pool_id(), Some(pool));

    let device = Device::new(&local);
    device.push(vec![replace("key", "value", 0)]).await.unwrap();
    let usage = device.client.list_identity_pool_usage().max_results(1);
    let usage = usage.send().await.unwrap();
    assert_eq!((usage.count(), usage.max_results()), (1, 1));
    assert_eq!(usage.identity_pool_usages()[0].data_storage(), Some(8));
    let garbage = device.client.list_identity_pool_usage().next_token("?");
    let garbage = garbage.send().await.unwrap_err().into_service_error();
    assert!(garbage.is_invalid_parameter_exception());
}

#[tokio::test]
async fn only_loopback_is_served() {
    let local = LocalService::start().await;
    let everyone = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = serve(everyone, local.service.clone(), std::future::pending()).await;
    assert_eq!(
        refused.unwrap_err().kind(),
        std::io::ErrorKind::InvalidInput
    );
}

#[tokio::test]
async fn a_store_outlives_its_service() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let local = LocalService::start_file(&path).await;
    let key = local.developer();
    let device = Device::new(&local);
    device.push(vec![replace("k", "v", 0)]).await.unwrap();
    let token = device
        .list(0)
        .await
        .sync_session_token()
        .unwrap()
        .to_owned();
    let push = device.push_with(&token, vec![replace("k", "w", 1)]);
    push.await.unwrap();
    drop(device);
    local.stop().await;
    let local = LocalService::start_file(&path).await;
    assert_eq!(local.developer(), key);
    let device = Device::new(&local);
    assert_eq!(device.list(0).await.records()[0].value(), Some("w"));
    let reused = device.push_with(&token, vec![replace("k", "x", 2)]).await;
    assert!(reused.unwrap_err().is_invalid_parameter_exception());
}

/// Starts `cognitofs serve` on a store, and returns where it listens once it does.
fn serve_store(path: &Path) -> (Child, String) {
    let mut served = Command::new(env!("CARGO_BIN_EXE_cognitofs"))
        .args(["serve", "--listen", "127.0.0.1:0", "--store"])
        .arg(path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(served.stdout.as_mut().unwrap()).lines();
    let prefix = "export AWS_ENDPOINT_URL_COGNITO_SYNC=";
    let mut urls = lines.filter_map(|line| Some(line.unwrap().strip_prefix(prefix)?.to_owned()));
    let url = urls.next().unwrap();
    (served, url)
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let local = LocalService::start_file(&path).await;
    let credentials = local.developer();
    let mut device = Device::new(&local);
    local.stop().await;

    let (mut served, url) = serve_store(&path);
    let second = Storage::open(&path).map(drop);
    assert!(matches!(second, Err(StorageError::InUse(_))), "{second:?}");
    device.client = client(&url, credentials);
    let mut acknowledged = 0;
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        served.kill().unwrap();
        served.wait().unwrap();
    });
    loop {
        let Ok(listed) = device.list_with(Some(0), None).await else {
            break;
        };
        let token = listed.sync_session_token().unwrap();
        let value = (acknowledged + 1).to_string();
        let push = device.push_with(token, vec![replace("k", &value, acknowledged)]);
        let Ok(pushed) = push.await else {
            break;
        };
        acknowledged += 1;
        assert_eq!(pushed.records()[0].sync_count(), Some(acknowledged));
    }
    killer.join().unwrap();
    assert!(acknowledged > 0);

    let local = LocalService::start_file(&path).await;
    let listed = Device::new(&local).list(0).await;
    let count = listed.dataset_sync_count().unwrap();
    // The write that was under way may have been finished.
    assert!((acknowledged..=acknowledged + 1).contains(&count));
    assert_eq!(listed.records()[0].sync_count(), Some(count));
    assert_eq!(listed.records()[0].value(), Some(&*count.to_string()));
}
