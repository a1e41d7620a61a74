//! Requests and answers as bytes on a socket: the forms AWS documents and clients are known to
//! send, and what no client should.

use aws_credential_types::Credentials;
use cognitofs::wire::sigv4::{Signable, sign};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::local_service::LocalService;

/// An answer as it came.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{}", self.body))
    }

    /// Checks that this is an error in the service's own form and returns its name.
    fn error(&self) -> &str {
        assert!(self.header("x-amzn-requestid").is_some());
        let kind = self.header("x-amzn-errortype").unwrap();
        let body = self.json();
        assert_eq!(body["__type"], kind);
        assert!(body["message"].is_string());
        kind
    }
}

/// Sends bytes and reads until the service closes the connection.
async fn exchange(local: &LocalService, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(local.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

fn write(method: &str, path: &str, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    [request.as_bytes(), body].concat()
}

fn signed(
    local: &LocalService,
    credentials: &Credentials,
    service: &str,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &[u8],
) -> Vec<(String, String)> {
    let host = local.address.to_string();
    let request = Signable {
        method,
        url: &format!("http://{host}{path}"),
        headers,
        body,
    };
    let time = std::time::SystemTime::now();
    let mut signed = sign(request, credentials, "us-east-1", service, time).unwrap();
    let host = ("host", host.as_str());
    let sent = headers.iter().chain([&host]);
    signed.extend(sent.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    signed
}

/// Sends a signed Cognito Sync request.
async fn send(local: &LocalService, method: &str, path: &str, body: &[u8]) -> Answer {
    let developer = local.developer();
    let route = (method, path);
    let headers = signed(local, &developer, "cognito-sync", route, &[], body);
    exchange(local, &write(method, path, &headers, body)).await
}

fn escaped(local: &LocalService, rest: &str) -> String {
    let (pool, identity) = (local.pool.as_str(), local.identity.as_str());
    format!("/identitypools/{pool}/identities/{identity}{rest}").replace(':', "%3A")
}

async fn update(local: &LocalService, patches: &str) -> Answer {
    let path = escaped(local, "/datasets/settings");
    let listed = send(local, "GET", &format!("{path}/records"), b"").await;
    let token = listed.json()["SyncSessionToken"].clone();
    let body = format!(r#"{{"SyncSessionToken":{token},"RecordPatches":[{patches}]}}"#);
    send(local, "POST", &path, body.as_bytes()).await
}

#[tokio::test]
async fn a_missing_dataset_has_the_documented_answer() {
    let local = LocalService::start().await;
    let path = escaped(&local, "/datasets/missing/records?lastSyncCount=0");
    let answer = send(&local, "GET", &path, b"").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.header("x-amzn-requestid").is_some());
    let mut answer = answer.json();
    let token = answer["SyncSessionToken"].take();
    assert!(!token.as_str().unwrap().is_empty());
    assert_eq!(
        answer,
        json!({
            "Count": 0,
            "DatasetDeletedAfterRequestedSyncCount": false,
            "DatasetExists": false,
            "DatasetSyncCount": 0,
            "LastModifiedBy": null,
            "MergedDatasetNames": [],
            "NextToken": null,
            "Records": [],
            "SyncSessionToken": null,
        })
    );
}

#[tokio::test]
async fn dates_are_exponents_and_absent_values_are_null() {
    let local = LocalService::start().await;
    let answer = update(
        &local,
        r#"{"Op":"replace","Key":"a","Value":"1","SyncCount":0,
            "DeviceLastModifiedDate":1412974057.151},
           {"Op":"remove","Key":"b","SyncCount":0}"#,
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let path = escaped(&local, "/datasets/settings/records");
    let listed = send(&local, "GET", &path, b"").await;
    for answer in [answer, listed] {
        let date = r#""DeviceLastModifiedDate":1.412974057151E9"#;
        assert!(answer.body.contains(date), "{}", answer.body);
        assert!(answer.body.contains(r#""DeviceLastModifiedDate":null"#));
        let (_, date) = answer.body.split_once(r#""LastModifiedDate":"#).unwrap();
        let date = date.split(',').next().unwrap();
        assert!(date.starts_with("1.") && date.ends_with("E9"), "{date}");
        let json = answer.json();
        let [a, b] = &json["Records"].as_array().unwrap()[..] else {
            panic!("{}", answer.body)
        };
        assert_eq!((&a["Value"], &a["SyncCount"]), (&json!("1"), &json!(1)));
        assert_eq!((&b["Value"], &b["SyncCount"]), (&Value::Null, &json!(1)));
        assert_eq!(a["LastModifiedBy"].as_str().unwrap().len(), 12);
    }
    let datasets = send(&local, "GET", &escaped(&local, "/datasets"), b"").await;
    let dataset = &datasets.json()["Datasets"][0];
    assert_eq!(dataset["DatasetName"], "settings");
    assert_eq!(dataset["IdentityId"], local.identity.as_str());
    assert_eq!(
        (&dataset["NumRecords"], &dataset["DataStorage"]),
        (&json!(1), &json!(2))
    );
    let pools = send(&local, "GET", "/identitypools?maxResults=1", b"").await;
    let pools = pools.json();
    assert_eq!(
        (&pools["Count"], &pools["MaxResults"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        pools["IdentityPoolUsages"][0]["SyncSessionsCount"],
        Value::Null
    );
    assert_eq!(pools["IdentityPoolUsages"][0]["DataStorage"], 2);
}

#[tokio::test]
async fn colons_may_be_raw_or_escaped_but_are_signed_as_sent() {
    let local = LocalService::start().await;
    let escaped = escaped(&local, "/datasets/settings/records?maxResults=1");
    let raw = escaped.replace("%3A", ":");
    for path in [&raw, &escaped] {
        let answer = send(&local, "GET", path, b"").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    for (sent, path) in [(&raw, &escaped), (&escaped, &raw)] {
        let developer = local.developer();
        let headers = signed(&local, &developer, "cognito-sync", ("GET", path), &[], b"");
        let answer = exchange(&local, &write("GET", sent, &headers, b"")).await;
        assert_eq!(answer.status, 403);
        assert_eq!(answer.error(), "InvalidSignatureException");
    }
}

/// Old Android clients send a target and an RPC content type on the REST paths.
#[tokio::test]
async fn a_target_on_a_rest_path_means_nothing() {
    let local = LocalService::start().await;
    let path = escaped(&local, "/datasets/settings/records");
    let old = [
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", "AWSCognitoSyncService.ListRecords"),
    ];
    let developer = local.developer();
    let headers = signed(
        &local,
        &developer,
        "cognito-sync",
        ("GET", &path),
        &old,
        b"",
    );
    let answer = exchange(&local, &write("GET", &path, &headers, b"")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["DatasetExists"], false);
}

#[tokio::test]
async fn identity_operations_are_told_by_their_target() {
    let local = LocalService::start().await;
    let call = async |target: &str, body: &Value, service: Option<&str>| {
        let body = body.to_string();
        let target = format!("AWSCognitoIdentityService.{target}");
        let headers = [
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", target.as_str()),
        ];
        let developer = local.developer();
        let headers = match service {
            Some(service) => {
                let route = ("POST", "/");
                signed(
                    &local,
                    &developer,
                    service,
                    route,
                    &headers,
                    body.as_bytes(),
                )
            }
            None => headers.map(|(n, v)| (n.to_owned(), v.to_owned())).into(),
        };
        exchange(&local, &write("POST", "/", &headers, body.as_bytes())).await
    };
    let pool = json!({"IdentityPoolId": local.pool, "MaxResults": 60});
    let listed = call("ListIdentities", &pool, Some("cognito-identity")).await;
    assert_eq!(listed.status, 200, "{}", listed.body);
    assert_eq!(
        listed.header("content-type"),
        Some("application/x-amz-json-1.1")
    );
    let identity = &listed.json()["Identities"][0];
    assert_eq!(identity["IdentityId"], local.identity.as_str());
    assert!(listed.body.contains("E9"));

    let unsigned = call("ListIdentities", &pool, None).await;
    assert_eq!(unsigned.status, 400);
    assert_eq!(unsigned.error(), "MissingAuthenticationTokenException");
    let mistaken = call("ListIdentities", &pool, Some("cognito-sync")).await;
    assert_eq!(mistaken.error(), "InvalidSignatureException");
    let unknown = call("MergeDeveloperIdentities", &pool, Some("cognito-identity")).await;
    assert_eq!(
        (unknown.status, unknown.error()),
        (400, "UnknownOperationException")
    );

    let issued = call(
        "GetCredentialsForIdentity",
        &json!({"IdentityId": local.identity}),
        None,
    )
    .await;
    let issued = issued.json();
    let credentials = &issued["Credentials"];
    assert!(
        credentials["AccessKeyId"]
            .as_str()
            .unwrap()
            .starts_with("ASIA")
    );
    assert_eq!(credentials["SecretKey"].as_str().unwrap().len(), 40);
    assert!(credentials["SessionToken"].is_string());
}

#[tokio::test]
async fn errors_have_the_documented_forms() {
    let local = LocalService::start().await;
    let conflict = update(
        &local,
        r#"{"Op":"replace","Key":"a","Value":"","SyncCount":7}"#,
    )
    .await;
    assert_eq!(
        (conflict.status, conflict.error()),
        (409, "ResourceConflictException")
    );
    assert_eq!(
        conflict.json()["message"],
        "Current SyncCount for: a is: 0 not: 7"
    );
    let date = r#"{"Op":"replace","Key":"a","Value":"","SyncCount":0,
                   "DeviceLastModifiedDate":"2014-10-10T20:47:37Z"}"#;
    let text = update(&local, date).await;
    assert_eq!((text.status, text.error()), (400, "SerializationException"));
    let words = "class java.lang.String can not be converted to milliseconds since epoch";
    assert!(text.body.contains(words), "{}", text.body);
    // A list of an object's values is no object, wherever it stands.
    let list = update(&local, r#"["replace","a","x",0,null]"#).await;
    assert_eq!((list.status, list.error()), (400, "SerializationException"));

    let pool = format!("/identitypools/{}", local.pool);
    for (path, body, error) in [
        ("/events", "{", "SerializationException"),
        ("/events", "[]", "SerializationException"),
        (
            "/events",
            r#"{"Events":{"a":{}}}"#,
            "SerializationException",
        ),
        ("/events", "{}", "InvalidParameterException"),
        (
            "/configuration",
            r#"{"PushSync":5}"#,
            "SerializationException",
        ),
        (
            "/events",
            r#"[{"SyncTrigger":""}]"#,
            "SerializationException",
        ),
        (
            "/configuration",
            r#"{"CognitoStreams":["s"]}"#,
            "SerializationException",
        ),
        (
            "/configuration",
            r#"{"PushSync":[]}"#,
            "SerializationException",
        ),
        ("/configuration", "[]", "SerializationException"),
        (
            "/identity/us-east-1:00/device",
            r#"["GCM","t"]"#,
            "SerializationException",
        ),
        ("/configuration", "", "SerializationException"),
        ("/identity/nobody/device", "{}", "InvalidParameterException"),
        ("/getbulkpublishdetails", "", "UnknownOperationException"),
        (
            "/identities/us-east-1:00/device",
            "{}",
            "UnknownOperationException",
        ),
    ] {
        let refused = send(&local, "POST", &format!("{pool}{path}"), body.as_bytes()).await;
        assert_eq!(refused.error(), error, "{path} {body}");
    }

    let missing = send(&local, "GET", &escaped(&local, "/datasets/x"), b"").await;
    assert_eq!(
        (missing.status, missing.error()),
        (404, "ResourceNotFoundException")
    );
    let name = send(&local, "GET", &escaped(&local, "/datasets/a%20b"), b"").await;
    assert_eq!(
        (name.status, name.error()),
        (400, "InvalidParameterException")
    );
    assert!(name.body.contains("validation error detected"));
    let route = send(&local, "PUT", "/identitypools", b"").await;
    assert_eq!(
        (route.status, route.error()),
        (404, "UnknownOperationException")
    );
    let host = [("host".to_owned(), "x".to_owned())];
    let unsigned = exchange(&local, &write("GET", "/identitypools", &host, b"")).await;
    assert_eq!(
        (unsigned.status, unsigned.error()),
        (403, "MissingAuthenticationTokenException")
    );
}

#[tokio::test]
async fn a_body_that_is_too_large_is_answered() {
    let local = LocalService::start().await;
    let body = vec![b'x'; 8 * 1024 * 1024 + 1];
    let path = escaped(&local, "/datasets/settings");
    let answer = send(&local, "POST", &path, &body).await;
    assert_eq!(
        (answer.status, answer.error()),
        (413, "RequestEntityTooLargeException")
    );
    let answer = send(&local, "POST", &path, &body[1..]).await;
    assert_eq!(
        (answer.status, answer.error()),
        (400, "SerializationException")
    );
}

#[tokio::test]
async fn nothing_a_stranger_sends_ends_the_service() {
    let local = LocalService::start().await;
    let developer = local.developer();
    for path in [
        "//",
        "/%",
        "/%00/%ff",
        "/identitypools/%2F%2F?%ff=%",
        "/?=&&=",
        "/?a=%C3%A9",
    ] {
        let answer = send(&local, "GET", path, b"\xff\0").await;
        assert!(
            (400..500).contains(&answer.status),
            "{path}: {}",
            answer.status
        );
        answer.error();
    }
    let credential = format!(
        "{}/20990101/us-east-1/cognito-sync",
        developer.access_key_id()
    );
    for authorization in [
        "",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=////, SignedHeaders=;;, Signature=é",
        &format!(
            "AWS4-HMAC-SHA256 Credential={credential}/aws4_request, SignedHeaders=host;x-amz-date;\u{1f600}, Signature=0"
        ),
    ] {
        for (path, method) in [("/identitypools", "GET"), ("*", "OPTIONS"), ("/", "POST")] {
            let headers = [
                ("host", "[::"),
                ("x-amz-date", "20990101T000000Z"),
                ("authorization", authorization),
                (
                    "x-amz-target",
                    "AWSCognitoIdentityService.ListIdentityPools",
                ),
            ];
            let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let body = br#"{"MaxResults":1}"#;
            let answer = exchange(&local, &write(method, path, &headers, body)).await;
            assert!((400..500).contains(&answer.status), "{authorization}");
            answer.error();
        }
    }
    let answer = send(&local, "GET", "/identitypools", b"").await;
    assert_eq!(answer.status, 200);
}
