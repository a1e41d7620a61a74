//! Acting as a user of a pool: guests, logins, and what only users may do, their devices.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_sdk_cognitosync::types::{Operation, PushSync, RecordPatch};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse;
use cognitofs::api::{Client, ClientOptions, CredentialsSource, Endpoints, Logins, System};
use cognitofs::server::http::router;
use cognitofs::server::service::{Lifetimes, Service};
use cognitofs::server::storage::Storage;
use cognitofs::wire::pools::DescribeIdentityUsage;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Bed, Mounted};
use crate::local_service::{LocalService, ids, now};

const TOKEN: &str = "what the platform gave the device";

/// A service whose pool pushes to GCM.
struct World {
    local: LocalService,
    directory: TempDir,
}

/// An exit code, and what was said where.
type Told = (i32, String, String);

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let local = LocalService::start_file(&directory.path().join("store")).await;
        let push = PushSync::builder()
            .application_arns("arn:aws:sns:us-east-1:123456789012:app/GCM/a")
            .role_arn("arn:aws:iam::123456789012:role/r")
            .build();
        let client = local.sync(local.developer());
        let set = client.set_identity_pool_configuration();
        let set = set.identity_pool_id(local.pool.as_str()).push_sync(push);
        set.send().await.unwrap();
        Self { local, directory }
    }

    /// The program of a user who has no AWS credentials.
    fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cognitofs"));
        command
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY")
            .env_remove("AWS_SESSION_TOKEN")
            .env_remove("AWS_PROFILE")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("HOME", self.directory.path())
            .env("XDG_STATE_HOME", self.directory.path())
            .env("COGNITOFS_LOG", "cognitofs=trace");
        command
    }

    fn device(&self, action: &str, words: &[&str], options: &str, source: &str) -> Told {
        let options = format!("endpoint=http://{},{options}", self.local.address);
        let mut command = self.program();
        command.args(["device", action]).args(words);
        told(command.args(["-o", &options, source]))
    }

    fn register(&self, options: &str, source: &str) -> Told {
        let words = ["--platform", "GCM", "--token", TOKEN];
        self.device("register", &words, options, source)
    }

    /// Another device of the same user writes a record.
    async fn write(&self, identity: &str, count: i64) {
        let client = self.local.sync(self.local.user(identity).await);
        let pool = self.local.pool.as_str();
        let list = client.list_records().identity_pool_id(pool);
        let list = list.identity_id(identity).dataset_name("d");
        let listed = list.send().await.unwrap();
        let patch = RecordPatch::builder().op(Operation::Replace).key("k");
        let patch = patch.value("v").sync_count(count).build().unwrap();
        let update = client.update_records().identity_pool_id(pool);
        let update = update.identity_id(identity).dataset_name("d");
        let update = update.sync_session_token(listed.sync_session_token().unwrap());
        update.record_patches(patch).send().await.unwrap();
    }

    fn pushed(&self) -> Vec<Value> {
        let lines = fs::read_to_string(self.directory.path().join("store.events.jsonl"));
        let lines = lines.unwrap_or_default();
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        lines
            .filter(|line: &Value| line["type"] == "push")
            .collect()
    }

    /// The files that name guests.
    fn guests(&self) -> Vec<PathBuf> {
        let directories = fs::read_dir(self.directory.path().join("cognitofs"));
        let directories = directories.into_iter().flatten().flatten();
        let guests = directories.map(|directory| directory.path().join("guest"));
        guests.filter(|guest| guest.exists()).collect()
    }
}

fn told(command: &mut Command) -> Told {
    let output = command.output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guests_device_is_told_about_changes_by_others() {
    let world = World::new().await;
    let pool = world.local.pool.to_string();
    let (code, device, err) = world.register("identity=guest", &pool);
    assert_eq!((code, device.lines().count()), (0, 1), "{err}");
    let device = device.trim();
    let guests = world.guests();
    let guest = fs::read_to_string(&guests[0]).unwrap();
    let guest = guest.trim();
    let expected = format!("cognitofs: registered for {pool}/{guest}\n");
    assert!(err.ends_with(&expected), "{err}");
    assert!(!err.contains(TOKEN), "{err}");
    let mode = guests[0].metadata().unwrap().permissions().mode();
    assert_eq!((guests.len(), mode & 0o777), (1, 0o600));
    // The same token of the same guest is the same device.
    let (_, again, _) = world.register("identity=guest", &format!("cognito://us-east-1/{pool}"));
    assert_eq!(again.trim(), device);
    assert_eq!(world.guests(), guests);

    let dataset = format!("{pool}/{guest}/d");
    let words = ["--device", device];
    let subscribe = |action| world.device(action, &words, "identity=guest", &dataset);
    let (code, out, err) = subscribe("subscribe");
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("not found"), "{err}");

    world.write(guest, 0).await;
    let (code, out, err) = subscribe("subscribe");
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    world.write(guest, 1).await;
    let pushed = world.pushed();
    assert_eq!(pushed.len(), 1, "{pushed:?}");
    assert_eq!(pushed[0]["deviceId"], device);
    assert_eq!(pushed[0]["message"]["identityId"], guest);
    assert_eq!(pushed[0]["message"]["datasetName"], "d");

    let (code, out, err) = subscribe("unsubscribe");
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    world.write(guest, 2).await;
    assert_eq!(world.pushed().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_ask_at_once_are_the_same_guest() {
    let world = World::new().await;
    let pool = world.local.pool.as_str();
    let devices = std::thread::scope(|scope| {
        let register = || world.register("identity=guest", pool);
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(register)).collect();
        let told = threads.into_iter().map(|thread| thread.join().unwrap());
        told.collect::<Vec<_>>()
    });
    for (code, device, err) in &devices {
        assert_eq!((*code, device), (0, &devices[0].1), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_needs_is_told() {
    let world = World::new().await;
    let pool = world.local.pool.to_string();
    let identity = format!("{pool}/{}", world.local.identity);
    for (options, source, expected) in [
        ("ttl=1", pool.as_str(), "identity=guest"),
        ("identity=guest", "cognito://us-east-1", "name POOL"),
        ("identity=guest,login=p=/t", &pool, "a guest has no logins"),
        ("identity=guest,profile=x", &pool, "leave one of them out"),
        (
            "identity=guest",
            &format!("{identity}/d"),
            "name POOL/IDENTITY",
        ),
        ("identity=guest", "us-east-1:00", "not found"),
        ("ttl=1", &identity, "no AWS credentials"),
        (
            "login=p=/no/such/token",
            &pool,
            "the token of p in /no/such/token",
        ),
    ] {
        let (code, out, err) = world.register(options, source);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        let last = err.lines().last().unwrap();
        assert!(last.contains(expected), "{options} {source}: {err}");
    }
    let developer = world.local.developer();
    let endpoint = format!("endpoint=http://{}", world.local.address);
    let words = ["device", "register", "--platform", "GCM", "--token", "t"];
    let mut refused = world.program();
    refused
        .args(words)
        .args(["-o", &endpoint, &identity])
        .env("AWS_ACCESS_KEY_ID", developer.access_key_id())
        .env("AWS_SECRET_ACCESS_KEY", developer.secret_access_key());
    let (code, out, err) = told(&mut refused);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    for expected in ["NotAuthorizedException", "login=PROVIDER=FILE"] {
        assert!(err.contains(expected), "{err}");
    }

    let words = ["--platform", "ADM", "--token", "t"];
    let (code, _, err) = world.device("register", &words, "identity=guest", &pool);
    assert_eq!(code, 1);
    assert!(err.contains("set PushSync"), "{err}");
    let words = ["--platform", "FCM", "--token", "t"];
    let (code, _, err) = world.device("register", &words, "identity=guest", &pool);
    assert_eq!((code, err.contains("APNS_SANDBOX")), (1, true), "{err}");
    let (code, _, err) = world.device("subscribe", &["--device", "d"], "ttl=1", &identity);
    assert_eq!((code, err.contains("/DATASET")), (1, true), "{err}");
    assert_eq!(world.guests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_can_be_kept_from_others() {
    let world = World::new().await;
    let pool = world.local.pool.to_string();
    let file = world.directory.path().join("token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let (_, device, _) = world.register("identity=guest", &pool);
    let from = |file: &str| {
        let words = ["--platform", "GCM", "--token-file", file];
        world.device("register", &words, "identity=guest", &pool)
    };
    assert_eq!(from(file.to_str().unwrap()).1, device);
    let (code, _, err) = from("/no/such/file");
    assert_eq!((code, err.contains("/no/such/file")), (1, true), "{err}");
    let (code, _, err) = from("/dev/null");
    assert_eq!(
        (code, err.contains("the token is empty")),
        (1, true),
        "{err}"
    );
    let words = ["--platform", "GCM"];
    let (code, _, err) = world.device("register", &words, "identity=guest", &pool);
    assert_eq!((code, err.contains("--token-file")), (1, true), "{err}");

    let endpoint = format!("endpoint=http://{},identity=guest", world.local.address);
    let mut piped = world.program();
    let words = [
        "device",
        "register",
        "--platform",
        "GCM",
        "--token-file",
        "-",
    ];
    piped.args(words).args(["-o", &endpoint, &pool]);
    let child = piped.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    writeln!(child.stdin.take().unwrap(), "{TOKEN}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), device);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_its_users_own_identity() {
    let world = World::new().await;
    let pool = world.local.pool.to_string();
    let login = |name: &str| {
        let file = world.directory.path().join(name);
        fs::write(&file, format!("token of {name}\n")).unwrap();
        format!("login=accounts.example.com={}", file.display())
    };
    let identity = |told: Told| {
        let (code, _, err) = told;
        assert_eq!(code, 0, "{err}");
        assert!(!err.contains("token of"), "{err}");
        err.trim().rsplit('/').next().unwrap().to_owned()
    };
    let ann = identity(world.register(&login("ann"), &pool));
    assert_eq!(identity(world.register(&login("ann"), &pool)), ann);
    assert_ne!(identity(world.register(&login("bob"), &pool)), ann);
    assert!(world.guests().is_empty());

    let named = format!("{pool}/{ann}");
    let (code, device, err) = world.register(&login("ann"), &named);
    assert_eq!((code, device.lines().count()), (0, 1), "{err}");
    let (code, _, err) = world.register(&login("bob"), &named);
    assert_eq!(
        (code, err.contains("the logins are those of")),
        (1, true),
        "{err}"
    );
    // Who knows a guest's id is the guest, and Ann is none.
    let (code, _, err) = world.register("identity=guest", &named);
    assert_eq!(
        (code, err.contains("NotAuthorizedException")),
        (1, true),
        "{err}"
    );
    let (code, _, err) = world.register(
        "identity=guest",
        &format!("{pool}/{}", world.local.identity),
    );
    assert_eq!(code, 0, "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_store_has_guests_too() {
    let world = World::new().await;
    let store = world.directory.path().join("store");
    let source = format!("local:{}", store.display());
    let root = format!("root={}", world.local.pool);
    let World { local, directory } = world;
    local.stop().await;
    let register = |options: &str, source: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cognitofs"));
        command
            .args(["device", "register", "--platform", "GCM", "--token", "t"])
            .args(["-o", options, source])
            .env("XDG_STATE_HOME", directory.path())
            .env_remove("COGNITOFS_LOG");
        told(&mut command)
    };
    let guest = format!("{root},identity=guest");
    let (code, device, err) = register(&guest, &source);
    assert_eq!((code, device.lines().count()), (0, 1), "{err}");
    assert_eq!(register(&guest, &source).1, device);
    let (code, _, err) = register(&guest, &format!("{source}.missing"));
    assert_eq!((code, err.contains("no such store")), (1, true), "{err}");
    let named = format!("{root}/{}", ids().1);
    let (code, _, err) = register(&named, &source);
    assert_eq!(
        (code, err.contains("not the developer's")),
        (1, true),
        "{err}"
    );
}

#[test]
fn a_guest_mounts_what_is_the_guests() {
    let bed = Bed::new();
    bed.change("others", &[("k", Some("v"))]);
    let pool = bed.pool.to_string();
    let state = bed.directory.path().join("guests").display().to_string();
    let options = format!("identity=guest,state={state}");
    let (mounted, calls) = bed.calls_of(|| Mounted::new(&bed, &pool, &options));
    assert_eq!(
        calls[..3],
        ["GetId", "GetCredentialsForIdentity", "ListDatasets"]
    );
    assert_eq!(fs::read_dir(&mounted.path).unwrap().count(), 0);
    fs::create_dir(mounted.path.join("mine")).unwrap();
    fs::write(mounted.path.join("mine/k"), "v").unwrap();
    drop(mounted);

    let (again, calls) = bed.calls_of(|| Mounted::new(&bed, &pool, &options));
    assert_eq!(calls, ["GetCredentialsForIdentity", "ListDatasets"]);
    assert_eq!(fs::read_to_string(again.path.join("mine/k")).unwrap(), "v");
    drop(again);
    let own = format!("{pool}/{}", bed.identity);
    let named = Mounted::new(&bed, &own, "identity=guest");
    assert_eq!(
        fs::read_to_string(named.path.join("others/k")).unwrap(),
        "v"
    );
}

/// A client of a service that gives credentials `times` times, for so long, and how often it was
/// asked for them.
async fn counted(life: Duration, times: usize) -> (Client, Arc<Mutex<usize>>) {
    let lifetimes = Lifetimes {
        credentials: life,
        ..Lifetimes::default()
    };
    let service = Service::with_lifetimes(Storage::in_memory().unwrap(), lifetimes);
    let (pool, identity) = ids();
    service.add_identity_pool(&pool, "test", now()).unwrap();
    service.add_identity(&pool, &identity, now()).unwrap();
    let issued = Arc::new(Mutex::new(0));
    let count = issued.clone();
    let pass = move |request: Request, next: Next| {
        let count = count.clone();
        async move {
            if request.headers().contains_key("x-amz-target") {
                let asked = {
                    let mut count = count.lock().unwrap();
                    *count += 1;
                    *count
                };
                if asked > times {
                    return StatusCode::BAD_REQUEST.into_response();
                }
                // Long enough for others to ask as well.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            next.run(request).await
        }
    };
    let app = router(Arc::new(service)).layer(from_fn(pass));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let client = |credentials| {
        let options = ClientOptions {
            region: "us-east-1".parse().unwrap(),
            endpoints: Endpoints::find("us-east-1", Some(&url), |_| None).unwrap(),
            credentials,
            concurrency: 16,
            timeout: Duration::from_secs(30),
            surroundings: Arc::new(System),
            transport: None,
        };
        Client::new(options).unwrap()
    };
    let nobody = client(CredentialsSource::Nobody);
    let user = CredentialsSource::user(nobody, identity, Logins::default());
    (client(user), issued)
}

async fn ask(client: &Client) {
    let (pool, identity) = ids();
    let ask = DescribeIdentityUsage { pool, identity };
    let deadline = Instant::now() + Duration::from_secs(20);
    client.call(&ask, deadline).await.unwrap();
}

#[tokio::test]
async fn s19_credentials_are_got_once_for_all_who_wait() {
    let (client, issued) = counted(Duration::from_secs(3600), 1).await;
    futures_util::future::join_all((0..8).map(|_| ask(&client))).await;
    assert_eq!(*issued.lock().unwrap(), 1);
}

#[tokio::test]
async fn s19_credentials_that_end_soon_are_replaced_before() {
    let (client, issued) = counted(Duration::from_secs(60), 2).await;
    ask(&client).await;
    ask(&client).await;
    assert_eq!(*issued.lock().unwrap(), 2);
    // While there are no others they are good to their end.
    ask(&client).await;
    assert_eq!(*issued.lock().unwrap(), 3);
}
