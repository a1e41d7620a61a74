//! `cognitofs publish`, as its users call it.

use std::collections::VecDeque;
use std::io::Read;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use aws_credential_types::Credentials;
use aws_sdk_cognitosync::primitives::{DateTime, DateTimeFormat};
use aws_sdk_cognitosync::types::{CognitoStreams, StreamingStatus};
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::local_service::LocalService;
use crate::point::eventually;

struct World {
    local: LocalService,
    directory: TempDir,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let local = LocalService::start_file(&directory.path().join("store")).await;
        Self { local, directory }
    }

    async fn enable_stream(&self) {
        let streams = CognitoStreams::builder()
            .stream_name("s")
            .role_arn("arn:aws:iam::123456789012:role/r")
            .streaming_status(StreamingStatus::Enabled)
            .build();
        let client = self.local.sync(self.local.developer());
        let set = client.set_identity_pool_configuration();
        let set = set.identity_pool_id(self.local.pool.as_str());
        set.cognito_streams(streams).send().await.unwrap();
    }

    fn publish(&self, credentials: &Credentials, source: &str) -> Output {
        let mut command = publish(&format!("http://{}", self.local.address), source);
        command
            .env("AWS_ACCESS_KEY_ID", credentials.access_key_id())
            .env("AWS_SECRET_ACCESS_KEY", credentials.secret_access_key());
        if let Some(token) = credentials.session_token() {
            command.env("AWS_SESSION_TOKEN", token);
        }
        command.output().unwrap()
    }

    fn streamed(&self) -> usize {
        let lines = std::fs::read_to_string(self.directory.path().join("store.events.jsonl"));
        lines.unwrap_or_default().lines().count()
    }
}

fn publish(endpoint: &str, source: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cognitofs"));
    command
        .args(["publish", "-o", &format!("endpoint={endpoint}"), source])
        .env("AWS_ACCESS_KEY_ID", "a")
        .env("AWS_SECRET_ACCESS_KEY", "s")
        .env_remove("AWS_SESSION_TOKEN")
        .env_remove("AWS_PROFILE")
        .env_remove("COGNITOFS_LOG");
    command
}

/// The exit code, and what was said where.
fn told(output: Output) -> (i32, String, String) {
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_is_published_once_in_24_hours() {
    let world = World::new().await;
    world.enable_stream().await;
    let pool = world.local.pool.as_str();
    let client = world.local.sync(world.local.developer());
    let listed = client.list_records().identity_pool_id(pool);
    let listed = listed.identity_id(world.local.identity.as_str());
    let listed = listed.dataset_name("d").send().await.unwrap();
    let patch = aws_sdk_cognitosync::types::RecordPatch::builder()
        .op(aws_sdk_cognitosync::types::Operation::Replace)
        .key("k")
        .value("v")
        .sync_count(0);
    let update = client.update_records().identity_pool_id(pool);
    let update = update.identity_id(world.local.identity.as_str());
    let update = update
        .dataset_name("d")
        .record_patches(patch.build().unwrap());
    let update = update.sync_session_token(listed.sync_session_token().unwrap());
    update.send().await.unwrap();
    assert_eq!(world.streamed(), 1);

    let (code, out, err) = told(world.publish(&world.local.developer(), pool));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let last = out.lines().last().unwrap();
    let expected = format!("cognito://us-east-1/{pool}: published (");
    assert!(last.starts_with(&expected), "{out}");
    assert_eq!(world.streamed(), 2);

    let details = client.get_bulk_publish_details().identity_pool_id(pool);
    let details = details.send().await.unwrap();
    let ended = details.bulk_publish_complete_time().unwrap().secs();
    let iso = |seconds| {
        let time = DateTime::from_secs(seconds);
        time.fmt(DateTimeFormat::DateTime).unwrap()
    };
    let (code, out, err) = told(world.publish(&world.local.developer(), pool));
    assert_eq!(
        (code, out.as_str(), err.lines().count()),
        (1, "", 1),
        "{err}"
    );
    let next = iso(ended + 24 * 60 * 60);
    for expected in [
        format!("published at {}", iso(ended)),
        format!("possible at {next}, in 2"),
        " min\n".to_owned(),
    ] {
        assert!(err.contains(&expected), "{expected}: {err}");
    }
    assert_eq!(world.streamed(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_published_is_told() {
    let world = World::new().await;
    let pool = world.local.pool.to_string();
    let developer = world.local.developer();
    let user = world.local.user(world.local.identity.as_str()).await;
    let forged = Credentials::new(developer.access_key_id(), "x", None, None, "test");
    for (credentials, source, expected) in [
        (&developer, pool.as_str(), "set CognitoStreams"),
        (&developer, &pool, ".cognito/configuration.json"),
        (&developer, "us-east-1:00", "not found"),
        (&developer, "cognito://us-east-1", "name POOL"),
        (
            &developer,
            &format!("{pool}/{}", world.local.identity),
            "name POOL",
        ),
        (&user, &pool, "access denied"),
        (&forged, &pool, "InvalidSignatureException"),
    ] {
        let (code, out, err) = told(world.publish(credentials, source));
        assert_eq!(
            (code, out.as_str(), err.lines().count()),
            (1, "", 1),
            "{err}"
        );
        assert!(err.contains(expected), "{expected}: {err}");
    }
    let mut guest = publish("http://127.0.0.1:1", &pool);
    let (code, _, err) = told(guest.args(["-o", "identity=guest"]).output().unwrap());
    assert_eq!((code, err.contains("leave identity=")), (1, true), "{err}");
    let mut nobody = publish("http://127.0.0.1:1", &pool);
    let (code, _, err) = told(nobody.output().unwrap());
    assert_eq!(
        (code, err.contains("cannot be reached")),
        (1, true),
        "{err}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_store_is_published_and_never_made() {
    let world = World::new().await;
    world.enable_stream().await;
    let root = format!("root={}", world.local.pool);
    world.local.stop().await;
    let publish = |file: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cognitofs"));
        let source = format!("local:{}", world.directory.path().join(file).display());
        command.args(["publish", "-o", &root, &source]);
        told(command.output().unwrap())
    };
    let (code, out, err) = publish("store");
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains(": published ("), "{out}");
    let (code, _, err) = publish("missing");
    assert_eq!((code, err.contains("no such store")), (1, true), "{err}");
    assert!(!world.directory.path().join("missing").exists());
}

/// What a service says about a bulk publish, one answer after the other; the last one stays.
struct Script {
    begin: (u16, &'static str),
    details: Mutex<VecDeque<Value>>,
    asked: Mutex<usize>,
}

async fn scripted(begin: (u16, &'static str), details: &[Value]) -> (String, Arc<Script>) {
    let script = Arc::new(Script {
        begin,
        details: Mutex::new(details.iter().cloned().collect()),
        asked: Mutex::new(0),
    });
    let told = script.clone();
    let answer = async move |request: Request| -> Response {
        if !request.uri().path().ends_with("/getBulkPublishDetails") {
            let (status, error) = told.begin;
            let status = StatusCode::from_u16(status).unwrap();
            return (status, [("x-amzn-errortype", error)], "{}").into_response();
        }
        *told.asked.lock().unwrap() += 1;
        let mut details = told.details.lock().unwrap();
        let now = match details.len() {
            1 => details[0].clone(),
            _ => details.pop_front().unwrap(),
        };
        now.to_string().into_response()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    (endpoint, script)
}

fn state(name: &str) -> Value {
    json!({"BulkPublishStatus": name, "BulkPublishStartTime": 1.7e9})
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_under_way_is_followed_to_its_end() {
    let all = ["NOT_STARTED", "IN_PROGRESS", "IN_PROGRESS", "SUCCEEDED"].map(state);
    for (begin, details) in [
        ((200, ""), &all[..]),
        ((400, "DuplicateRequestException"), &all[..]),
        ((400, "AlreadyStreamedException"), &all[1..]),
    ] {
        let (endpoint, _) = scripted(begin, details).await;
        let (code, out, err) = told(publish(&endpoint, "us-east-1:00").output().unwrap());
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        let states: Vec<&str> = out
            .lines()
            .map(|line| {
                line.strip_prefix("cognito://us-east-1/us-east-1:00: ")
                    .unwrap()
            })
            .collect();
        let expected: &[&str] = match begin.1 {
            "" => &["not started", "in progress", "published"],
            "DuplicateRequestException" => &[
                "one is under way already",
                "not started",
                "in progress",
                "published",
            ],
            _ => &["in progress", "published"],
        };
        assert_eq!(states, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_one_is_told_with_the_services_words() {
    let mut failed = state("FAILED");
    failed["FailureMessage"] = json!("the stream s does not exist");
    let (endpoint, _) = scripted((200, ""), &[state("IN_PROGRESS"), failed]).await;
    let (code, out, err) = told(publish(&endpoint, "us-east-1:00").output().unwrap());
    assert_eq!(code, 1, "{out}{err}");
    assert!(
        err.ends_with("the bulk publish failed: the stream s does not exist\n"),
        "{err}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_to_the_call_is_not_taken_for_a_failure() {
    let (endpoint, script) =
        scripted((500, "InternalErrorException"), &[state("NOT_STARTED")]).await;
    let (code, _, err) = told(publish(&endpoint, "us-east-1:00").output().unwrap());
    assert_eq!(
        (code, err.contains("it may have begun")),
        (1, true),
        "{err}"
    );
    assert_eq!(*script.asked.lock().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_leaves_it_to_the_service() {
    let (endpoint, script) = scripted((200, ""), &[state("IN_PROGRESS")]).await;
    let mut command = publish(&endpoint, "us-east-1:00");
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("a question how far it is", || {
        *script.asked.lock().unwrap() > 1
    });
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut err = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    for expected in ["goes on at the service", ".cognito/bulk-publish.json"] {
        assert!(err.contains(expected), "{err}");
    }
}
