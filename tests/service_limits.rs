//! The API's limits, just inside and just outside, and bodies that are not the operation's.

use aws_sdk_cognitosync::operation::update_records::{UpdateRecordsError, UpdateRecordsOutput};
use aws_sdk_cognitosync::types::{Operation, RecordPatch};

use crate::local_service::LocalService;

struct Sent<'a> {
    dataset: &'a str,
    device: Option<&'a str>,
    patches: Vec<RecordPatch>,
}

fn patch(op: &str, key: &str, value: Option<&str>, count: i64) -> RecordPatch {
    let patch = RecordPatch::builder().op(Operation::from(op)).key(key);
    let patch = patch.set_value(value.map(str::to_owned)).sync_count(count);
    patch.build().unwrap()
}

/// An update of one record.
fn one(key: &str, value: &str) -> Sent<'static> {
    Sent {
        dataset: "settings",
        device: None,
        patches: vec![patch("replace", key, Some(value), 0)],
    }
}

async fn push(
    local: &LocalService,
    sent: Sent<'_>,
) -> Result<UpdateRecordsOutput, UpdateRecordsError> {
    let client = local.sync(local.developer());
    let (pool, identity) = (local.pool.as_str(), local.identity.as_str());
    let listed = client.list_records().identity_pool_id(pool);
    let listed = listed.identity_id(identity).dataset_name(sent.dataset);
    // A name that cannot be has no token either.
    let token = match listed.send().await {
        Ok(listed) => listed.sync_session_token().unwrap().to_owned(),
        Err(_) => "none".to_owned(),
    };
    let update = client.update_records().identity_pool_id(pool);
    let update = update.identity_id(identity).dataset_name(sent.dataset);
    let update = update.set_device_id(sent.device.map(str::to_owned));
    let update = update.set_record_patches(Some(sent.patches));
    let updated = update.sync_session_token(token).send().await;
    updated.map_err(|error| error.into_service_error())
}

#[tokio::test]
async fn what_is_just_inside_is_taken() {
    let (name, key, device) = ("n".repeat(128), "é".repeat(1024), "d".repeat(256));
    for sent in [
        Sent {
            dataset: &name,
            ..one("k", "v")
        },
        Sent {
            device: Some(&device),
            ..one("k", "v")
        },
        one(&key, ""),
        one("k", &"v".repeat(1_048_575)),
        Sent {
            patches: (0..1024)
                .map(|n| patch("replace", &n.to_string(), Some(""), 0))
                .collect(),
            ..one("", "")
        },
        Sent {
            patches: vec![patch("remove", "k", None, 0)],
            ..one("", "")
        },
    ] {
        let local = LocalService::start().await;
        let (dataset, device) = (sent.dataset.to_owned(), sent.device.is_some());
        let pushed = push(&local, sent).await;
        assert!(pushed.is_ok(), "{dataset} {device}: {pushed:?}");
    }
}

#[tokio::test]
async fn what_is_just_outside_is_a_validation_error() {
    let local = LocalService::start().await;
    let (name, device) = ("n".repeat(129), "d".repeat(257));
    for sent in [
        Sent {
            dataset: &name,
            ..one("k", "v")
        },
        Sent {
            dataset: "a b",
            ..one("k", "v")
        },
        Sent {
            device: Some(&device),
            ..one("k", "v")
        },
        one("", "v"),
        one(&"é".repeat(1025), ""),
        one("k", &"v".repeat(1_048_576)),
        Sent {
            patches: vec![patch("add", "k", Some("v"), 0)],
            ..one("", "")
        },
        Sent {
            patches: vec![patch("replace", "k", None, 0)],
            ..one("", "")
        },
        Sent {
            patches: vec![patch("replace", "k", Some("v"), -1)],
            ..one("", "")
        },
    ] {
        let refused = push(&local, sent).await.unwrap_err();
        assert!(refused.is_invalid_parameter_exception(), "{refused:?}");
        let message = refused.meta().message().unwrap_or_default();
        assert!(message.contains("validation error detected"), "{message}");
    }
    let listed = local.sync(local.developer()).list_datasets();
    let listed = listed.identity_pool_id(local.pool.as_str());
    let listed = listed.identity_id(local.identity.as_str()).send().await;
    assert_eq!(listed.unwrap().count(), 0);
}

#[tokio::test]
async fn a_quota_is_a_limit() {
    let local = LocalService::start().await;
    let too_large = one("kk", &"v".repeat(1_048_575));
    let refused = push(&local, too_large).await.unwrap_err();
    assert!(refused.is_limit_exceeded_exception(), "{refused:?}");
    for n in 0..21 {
        let name = n.to_string();
        let sent = Sent {
            dataset: &name,
            ..one("k", "v")
        };
        match push(&local, sent).await {
            Ok(_) => assert!(n < 20),
            Err(refused) => assert!(n == 20 && refused.is_limit_exceeded_exception()),
        }
    }
}

#[tokio::test]
async fn listings_take_1_or_more() {
    let local = LocalService::start().await;
    let client = local.sync(local.developer());
    let list = |max| {
        let list = client.list_datasets().identity_pool_id(local.pool.as_str());
        let list = list.identity_id(local.identity.as_str());
        list.max_results(max).send()
    };
    for max in [1, 64, 1024, 1025, i32::MAX] {
        assert!(list(max).await.is_ok(), "{max}");
    }
    for max in [0, -1, i32::MIN] {
        let refused = list(max).await.unwrap_err().into_service_error();
        assert!(refused.is_invalid_parameter_exception(), "{max}");
    }
}

#[tokio::test]
async fn a_session_token_is_good_where_it_was_given() {
    let local = LocalService::start().await;
    let client = local.sync(local.developer());
    let (pool, identity) = (local.pool.as_str(), local.identity.as_str());
    let anonymous = aws_credential_types::Credentials::new("none", "none", None, None, "test");
    let other = local.cognito_identity(anonymous).get_id();
    let other = other.identity_pool_id(pool).send().await.unwrap();
    let other = other.identity_id().unwrap();
    for (of, dataset) in [(other, "settings"), (identity, "other")] {
        let listed = client.list_records().identity_pool_id(pool);
        let listed = listed.identity_id(of).dataset_name(dataset);
        let listed = listed.send().await.unwrap();
        let update = client.update_records().identity_pool_id(pool);
        let update = update.identity_id(identity).dataset_name("settings");
        let update = update.sync_session_token(listed.sync_session_token().unwrap());
        let update = update.record_patches(patch("replace", "k", Some("v"), 0));
        let refused = update.send().await.unwrap_err().into_service_error();
        assert_eq!(
            refused.meta().message(),
            Some("SyncSessionToken not valid for these inputs")
        );
    }
}
