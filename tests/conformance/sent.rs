//! What our client sends, once with all that a request may hold and once with what it must hold,
//! and the same in the model's words. botocore compares the two in `sent.py`.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use cognitofs::api::{Client, ClientOptions, Credentials, CredentialsSource, Endpoints, System};
use cognitofs::wire::bulk_publish::{BulkPublish, GetBulkPublishDetails};
use cognitofs::wire::configuration::{
    CognitoStreams, GetIdentityPoolConfiguration, IdentityPoolOptions, PushSync,
    SetIdentityPoolConfiguration, StreamingStatus,
};
use cognitofs::wire::datasets::{DeleteDataset, DescribeDataset, ListDatasets};
use cognitofs::wire::devices::{
    Platform, RegisterDevice, RegisterDeviceBody, SubscribeToDataset, UnsubscribeFromDataset,
};
use cognitofs::wire::events::{GetCognitoEvents, SetCognitoEvents, SetCognitoEventsBody};
use cognitofs::wire::identity::{
    DescribeIdentity, GetCredentialsForIdentity, GetId, ListIdentities, ListIdentityPools,
};
use cognitofs::wire::identity_pools::{
    CognitoIdentityProvider, CreateIdentityPool, DeleteIdentities, DescribeIdentityPool,
    GetOpenIdToken, GetOpenIdTokenForDeveloperIdentity, PoolOptions,
};
use cognitofs::wire::names::{DatasetName, DeviceId, IdentityId, PoolId, RecordKey};
use cognitofs::wire::operation::Operation;
use cognitofs::wire::pools::{
    DescribeIdentityPoolUsage, DescribeIdentityUsage, ListIdentityPoolUsage,
};
use cognitofs::wire::records::{
    ListRecords, PatchOp, RecordPatch, UpdateRecords, UpdateRecordsBody,
};
use cognitofs::wire::timestamp::Timestamp;
use serde_json::{Value, json};

const POOL: &str = "us-east-1:00000000-0000-4000-8000-000000000001";
const IDENTITY: &str = "us-east-1:00000000-0000-4000-8000-000000000002";
const DATASET: &str = "a.b:C-_9";
/// What has to be escaped, and what must not be.
const ODD: &str = "a/b c?d=e&f+g%20:h~i.j-k_l\u{e9}\u{1f600}";
const ROLE: &str = "arn:aws:iam::123456789012:role/r";
const APPLICATION: &str = "arn:aws:sns:us-east-1:123456789012:app/GCM/a";
const PROVIDER: &str = "arn:aws:iam::123456789012:oidc-provider/a";

/// Notes what comes, refuses it, and keeps it together with what was meant.
struct Recorder {
    client: Client,
    received: Arc<Mutex<Vec<Value>>>,
    noted: Vec<Value>,
}

impl Recorder {
    async fn start() -> Self {
        let received = Arc::new(Mutex::new(Vec::new()));
        let heard = received.clone();
        let app = Router::new().fallback(move |request: Request| {
            let heard = heard.clone();
            async move {
                let request = describe(request).await;
                heard.lock().unwrap().push(request);
                // So that it is not sent again.
                (StatusCode::BAD_REQUEST, r#"{"__type":"Noted"}"#)
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", Some("t/+=".into()), None, "");
        let options = ClientOptions {
            region: "us-east-1".parse().unwrap(),
            endpoints: Endpoints::find("us-east-1", Some(&url), |_| None).unwrap(),
            credentials: CredentialsSource::Fixed(credentials),
            concurrency: 16,
            timeout: Duration::from_secs(30),
            surroundings: Arc::new(System),
            transport: None,
        };
        Self {
            client: Client::new(options).unwrap(),
            received,
            noted: Vec::new(),
        }
    }

    /// Sends an operation; `input` is what it means.
    async fn send<O: Operation>(&mut self, all: bool, input: Value, operation: O) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let refused = self.client.call(&operation, deadline).await;
        assert!(refused.is_err(), "{}", O::NAME);
        let sent = std::mem::take(&mut *self.received.lock().unwrap());
        let [sent] = sent.as_slice() else {
            panic!("{} was sent {} times", O::NAME, sent.len())
        };
        self.noted
            .push(json!({"operation": O::NAME, "all": all, "input": input, "sent": sent}));
    }

    /// Sends an operation that has nothing to leave out.
    async fn send_only<O: Operation + Clone>(&mut self, input: Value, operation: O) {
        self.send(true, input.clone(), operation.clone()).await;
        self.send(false, input, operation).await;
    }
}

async fn describe(request: Request) -> Value {
    let (parts, body) = request.into_parts();
    let body: Bytes = to_bytes(body, usize::MAX).await.unwrap();
    let headers: serde_json::Map<String, Value> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
        .collect();
    json!({
        "method": parts.method.as_str(),
        "target": parts.uri.path_and_query().unwrap().as_str(),
        "headers": headers,
        "body": std::str::from_utf8(&body).unwrap(),
    })
}

fn pool() -> PoolId {
    POOL.parse().unwrap()
}

fn identity() -> IdentityId {
    IDENTITY.parse().unwrap()
}

fn dataset() -> DatasetName {
    DATASET.parse().unwrap()
}

fn device() -> DeviceId {
    ODD.parse().unwrap()
}

fn odd() -> Option<String> {
    Some(ODD.to_owned())
}

/// Adds the members of an object to another.
fn with(input: &Value, more: Value) -> Value {
    let mut input = input.clone();
    let Value::Object(more) = more else {
        panic!("{more}")
    };
    input.as_object_mut().unwrap().extend(more);
    input
}

async fn send_data_operations(recorder: &mut Recorder) {
    let in_identity = json!({"IdentityPoolId": POOL, "IdentityId": IDENTITY});
    let in_dataset = with(&in_identity, json!({"DatasetName": DATASET}));
    let (pool, identity, dataset) = (pool(), identity(), dataset());
    let mut datasets = ListDatasets {
        pool: pool.clone(),
        identity: identity.clone(),
        next_token: None,
        max_results: None,
    };
    recorder
        .send(false, in_identity.clone(), datasets.clone())
        .await;
    (datasets.next_token, datasets.max_results) = (odd(), Some(60));
    let input = with(&in_identity, json!({"NextToken": ODD, "MaxResults": 60}));
    recorder.send(true, input, datasets).await;

    let mut records = ListRecords {
        pool: pool.clone(),
        identity: identity.clone(),
        dataset: dataset.clone(),
        last_sync_count: None,
        next_token: None,
        max_results: None,
        sync_session_token: None,
    };
    recorder
        .send(false, in_dataset.clone(), records.clone())
        .await;
    records = ListRecords {
        last_sync_count: Some(i64::MAX),
        next_token: odd(),
        max_results: Some(1024),
        sync_session_token: odd(),
        ..records
    };
    let input = json!({
        "LastSyncCount": i64::MAX, "NextToken": ODD, "MaxResults": 1024, "SyncSessionToken": ODD,
    });
    recorder.send(true, with(&in_dataset, input), records).await;

    let mut update = UpdateRecords {
        pool: pool.clone(),
        identity: identity.clone(),
        dataset: dataset.clone(),
        client_context: None,
        body: UpdateRecordsBody {
            device_id: None,
            record_patches: Vec::new(),
            sync_session_token: odd(),
        },
    };
    // A list that is empty is sent, so it is in the input too.
    let input = json!({"SyncSessionToken": ODD, "RecordPatches": []});
    recorder
        .send(false, with(&in_dataset, input), update.clone())
        .await;
    update.client_context = Some("a context".to_owned());
    update.body.device_id = Some(device());
    update.body.record_patches = vec![
        RecordPatch {
            op: PatchOp::Replace,
            key: RecordKey::new(ODD).unwrap(),
            value: Some("\"\\\n\u{0}\u{7f}\u{2028}\u{1f600}".into()),
            sync_count: i64::MAX,
            device_last_modified_date: Some(Timestamp::from_millis(1_412_974_057_000)),
        },
        RecordPatch {
            op: PatchOp::Remove,
            key: RecordKey::new("k").unwrap(),
            value: None,
            sync_count: 0,
            device_last_modified_date: None,
        },
    ];
    let input = json!({
        "ClientContext": "a context", "DeviceId": ODD, "SyncSessionToken": ODD, "RecordPatches": [
            {"Op": "replace", "Key": ODD, "Value": "\"\\\n\u{0}\u{7f}\u{2028}\u{1f600}",
             "SyncCount": i64::MAX, "DeviceLastModifiedDate": 1_412_974_057},
            {"Op": "remove", "Key": "k", "SyncCount": 0},
        ],
    });
    recorder.send(true, with(&in_dataset, input), update).await;

    macro_rules! send_named {
        ($($operation:ident)*) => {$(
            let named = $operation {
                pool: pool.clone(),
                identity: identity.clone(),
                dataset: dataset.clone(),
            };
            recorder.send_only(in_dataset.clone(), named).await;
        )*};
    }
    send_named!(DescribeDataset DeleteDataset);
    macro_rules! send_subscription {
        ($($operation:ident)*) => {$(
            let subscription = $operation {
                pool: pool.clone(),
                identity: identity.clone(),
                dataset: dataset.clone(),
                device: device(),
            };
            let input = with(&in_dataset, json!({"DeviceId": ODD}));
            recorder.send_only(input, subscription).await;
        )*};
    }
    send_subscription!(SubscribeToDataset UnsubscribeFromDataset);
    let body = RegisterDeviceBody {
        platform: Platform::ApnsSandbox,
        token: ODD.to_owned(),
    };
    let register = RegisterDevice {
        pool: pool.clone(),
        identity: identity.clone(),
        body,
    };
    let input = with(
        &in_identity,
        json!({"Platform": "APNS_SANDBOX", "Token": ODD}),
    );
    recorder.send_only(input, register).await;
    let usage = DescribeIdentityUsage { pool, identity };
    recorder.send_only(in_identity, usage).await;
}

async fn send_pool_operations(recorder: &mut Recorder) {
    let in_pool = json!({"IdentityPoolId": POOL});
    macro_rules! send_pool {
        ($($operation:ident)*) => {$(
            recorder.send_only(in_pool.clone(), $operation { pool: pool() }).await;
        )*};
    }
    send_pool! {
        BulkPublish GetBulkPublishDetails GetCognitoEvents GetIdentityPoolConfiguration
        DescribeIdentityPoolUsage
    }
    let usages = ListIdentityPoolUsage::default();
    recorder.send(false, json!({}), usages).await;
    let usages = ListIdentityPoolUsage {
        next_token: odd(),
        max_results: Some(1),
    };
    let input = json!({"NextToken": ODD, "MaxResults": 1});
    recorder.send(true, input, usages).await;
    let events = [("SyncTrigger".to_owned(), ODD.to_owned())];
    let body = SetCognitoEventsBody {
        events: events.into(),
    };
    let set = SetCognitoEvents { pool: pool(), body };
    let input = with(&in_pool, json!({"Events": {"SyncTrigger": ODD}}));
    recorder.send_only(input, set).await;
    let mut set = SetIdentityPoolConfiguration {
        pool: pool(),
        body: IdentityPoolOptions::default(),
    };
    recorder.send(false, in_pool.clone(), set.clone()).await;
    set.body.push_sync = Some(PushSync {
        application_arns: vec![APPLICATION.to_owned()],
        role_arn: Some(ROLE.to_owned()),
    });
    set.body.cognito_streams = Some(CognitoStreams {
        stream_name: odd(),
        role_arn: Some(ROLE.to_owned()),
        streaming_status: Some(StreamingStatus::Enabled),
    });
    let input = json!({
        "PushSync": {"ApplicationArns": [APPLICATION], "RoleArn": ROLE},
        "CognitoStreams": {"StreamName": ODD, "RoleArn": ROLE, "StreamingStatus": "ENABLED"},
    });
    recorder.send(true, with(&in_pool, input), set).await;
}

async fn send_identity_operations(recorder: &mut Recorder) {
    let logins = || Some([("p".to_owned(), ODD.to_owned())].into());
    let asked = json!({"Logins": {"p": ODD}});
    let in_pool = json!({"IdentityPoolId": POOL});
    let of_identity = json!({"IdentityId": IDENTITY});
    macro_rules! send {
        ($all:literal $input:expr, $operation:ident { $($field:ident: $value:expr),* $(,)? }) => {
            recorder.send($all, $input, $operation { $($field: $value),* }).await;
        };
    }
    send!(false json!({"MaxResults": 60}), ListIdentityPools { max_results: 60, next_token: None });
    let input = json!({"MaxResults": 1, "NextToken": "a=="});
    send!(true input, ListIdentityPools { max_results: 1, next_token: Some("a==".to_owned()) });
    send!(false with(&in_pool, json!({"MaxResults": 60})), ListIdentities {
        identity_pool_id: pool(), max_results: 60, next_token: None, hide_disabled: None,
    });
    let input = json!({"MaxResults": 1, "NextToken": "a==", "HideDisabled": true});
    send!(true with(&in_pool, input), ListIdentities {
        identity_pool_id: pool(), max_results: 1, next_token: Some("a==".to_owned()),
        hide_disabled: Some(true),
    });
    let describe = DescribeIdentity {
        identity_id: identity(),
    };
    recorder.send_only(of_identity.clone(), describe).await;
    send!(false in_pool.clone(), GetId {
        identity_pool_id: pool(), account_id: None, logins: None,
    });
    let input = with(&in_pool, json!({"AccountId": "123456789012"}));
    send!(true with(&input, asked.clone()), GetId {
        identity_pool_id: pool(), account_id: Some("123456789012".to_owned()), logins: logins(),
    });
    send!(false of_identity.clone(), GetCredentialsForIdentity {
        identity_id: identity(), logins: None, custom_role_arn: None,
    });
    let input = with(&of_identity, json!({"CustomRoleArn": ROLE}));
    send!(true with(&input, asked.clone()), GetCredentialsForIdentity {
        identity_id: identity(), logins: logins(), custom_role_arn: Some(ROLE.to_owned()),
    });
    send!(false of_identity.clone(), GetOpenIdToken { identity_id: identity(), logins: None });
    send!(true with(&of_identity, asked.clone()), GetOpenIdToken {
        identity_id: identity(), logins: logins(),
    });
    send!(false with(&in_pool, asked.clone()), GetOpenIdTokenForDeveloperIdentity {
        identity_pool_id: pool(), identity_id: None, logins: logins().unwrap(),
        principal_tags: None, token_duration: None,
    });
    let input = json!({"IdentityId": IDENTITY, "PrincipalTags": {"a": "b"}, "TokenDuration": 60});
    send!(true with(&with(&in_pool, asked), input), GetOpenIdTokenForDeveloperIdentity {
        identity_pool_id: pool(), identity_id: Some(identity()), logins: logins().unwrap(),
        principal_tags: Some([("a".to_owned(), "b".to_owned())].into()),
        token_duration: Some(60),
    });
    let describe = DescribeIdentityPool {
        identity_pool_id: pool(),
    };
    recorder.send_only(in_pool, describe).await;
    let delete = DeleteIdentities {
        identity_ids_to_delete: vec![identity()],
    };
    let input = json!({"IdentityIdsToDelete": [IDENTITY]});
    recorder.send_only(input, delete).await;
    let options = PoolOptions {
        identity_pool_name: "a".to_owned(),
        allow_unauthenticated_identities: false,
        allow_classic_flow: None,
        supported_login_providers: None,
        developer_provider_name: None,
        open_id_connect_provider_arns: None,
        cognito_identity_providers: None,
        saml_provider_arns: None,
        identity_pool_tags: None,
    };
    let input = json!({"IdentityPoolName": "a", "AllowUnauthenticatedIdentities": false});
    send!(false input.clone(), CreateIdentityPool { options: options.clone() });
    let provider = CognitoIdentityProvider {
        provider_name: Some("a/b".to_owned()),
        client_id: Some("c".to_owned()),
        server_side_token_check: Some(true),
    };
    let texts = |key: &str, value: &str| Some([(key.to_owned(), value.to_owned())].into());
    let options = PoolOptions {
        allow_classic_flow: Some(true),
        supported_login_providers: texts("p", "q"),
        developer_provider_name: Some("dev".to_owned()),
        open_id_connect_provider_arns: Some(vec![PROVIDER.to_owned()]),
        cognito_identity_providers: Some(vec![provider]),
        saml_provider_arns: Some(vec![PROVIDER.to_owned()]),
        identity_pool_tags: texts("t", ""),
        ..options
    };
    let more = json!({
        "AllowClassicFlow": true, "SupportedLoginProviders": {"p": "q"},
        "DeveloperProviderName": "dev", "OpenIdConnectProviderARNs": [PROVIDER],
        "CognitoIdentityProviders": [
            {"ProviderName": "a/b", "ClientId": "c", "ServerSideTokenCheck": true},
        ],
        "SamlProviderARNs": [PROVIDER], "IdentityPoolTags": {"t": ""},
    });
    send!(true with(&input, more), CreateIdentityPool { options: options });
}

#[tokio::test]
async fn what_our_client_sends_is_what_botocore_sends() {
    let mut recorder = Recorder::start().await;
    send_data_operations(&mut recorder).await;
    send_pool_operations(&mut recorder).await;
    send_identity_operations(&mut recorder).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sent.json");
    std::fs::write(&path, serde_json::to_vec(&recorder.noted).unwrap()).unwrap();
    let mut environment = super::operations();
    environment.insert("SENT".to_owned(), path.display().to_string());
    super::run("sent", directory.path(), &environment);
}
