//! The local service under load: `cargo bench --bench service`.
//!
//! It is the program itself, `cognitofs serve`, in a process of its own, with a store on a disk.
//! The load comes from this process, on the same machine, over connections that are kept. Every
//! request is signed anew, except those the API leaves unsigned. Phases are bounded in time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::Credentials;
use cognitofs::wire::identity::{
    GetCredentialsForIdentity, GetId, GotId, IdentityCredentials, IdentityPools, ListIdentityPools,
};
use cognitofs::wire::names::{DatasetName, IdentityId, PoolId, RecordKey};
use cognitofs::wire::operation::Operation;
use cognitofs::wire::records::{
    ListRecords, PatchOp, RecordPatch, Records, UpdateRecords, UpdateRecordsBody, UpdatedRecords,
};
use cognitofs::wire::sigv4::{Signable, sign};
use serde::de::DeserializeOwned;

const CLIENTS: usize = 16;
/// How long a phase of load lasts.
const PHASE: Duration = Duration::from_secs(5);
const RECORDS: usize = 100;
const IDENTITIES: usize = 100_000;
/// How long the identities may take to be made.
const FILLING: Duration = Duration::from_secs(120);

fn main() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    must_be_a_disk(directory.path());
    let cores = std::thread::available_parallelism().unwrap();
    println!("{cores} cores for both the service and the load, {CLIENTS} connections");
    println!("{}", wait_for_the_disk(directory.path()));
    println!("ListRecords of {RECORDS} records, each signed; required: 2000/s");
    listings(&directory.path().join("listings"));
    println!(
        "updates: a ListRecords for the token, an UpdateRecords of one record that is on disk"
    );
    println!("before the answer, both signed, count as one; required: 1000/s");
    for shape in [
        Shape::OwnIdentity,
        Shape::OwnDataset,
        Shape::OneDataset,
        Shape::Streamed,
    ] {
        updates(&directory.path().join(format!("{shape:?}")), shape);
    }
    println!("memory: it must not grow with what is stored");
    memory(&directory.path().join("memory"));
}

/// A file system in memory would make every commit look free.
fn must_be_a_disk(path: &Path) {
    let kind = nix::sys::statfs::statfs(path).unwrap().filesystem_type();
    assert_ne!(
        kind,
        nix::sys::statfs::TMPFS_MAGIC,
        "{} is no disk",
        path.display()
    );
}

/// Says how long the disk takes for what every commit waits for.
fn wait_for_the_disk(directory: &Path) -> String {
    let mut file = std::fs::File::create(directory.join("disk")).unwrap();
    let begun = Instant::now();
    for _ in 0..200 {
        file.write_all(&[0; 4096]).unwrap();
        file.sync_data().unwrap();
    }
    format!(
        "the disk takes {:?} to sync 4 KiB",
        begun.elapsed().div_f64(200.0)
    )
}

fn listings(store: &Path) {
    let server = Server::start(store);
    let user = server.user();
    let settings: DatasetName = "settings".parse().unwrap();
    let mut client = server.connect(&user.credentials);
    let keys: Vec<String> = (0..RECORDS).map(|number| format!("key-{number}")).collect();
    let mut writer = Writer::new(&user, &settings, keys);
    writer.update(&mut client);
    let list = writer.list(None);
    let listed: Records = client.call(&list);
    assert_eq!(listed.records.len(), RECORDS);
    let length = client.body.len();
    run("ListRecords", |_, goes_on| {
        let mut client = server.connect(&user.credentials);
        let mut times = Vec::new();
        while goes_on() {
            let begun = Instant::now();
            client.send(&list);
            // The session token differs, its length does not.
            assert_eq!(client.body.len(), length);
            times.push(begun.elapsed());
        }
        times
    });
}

/// Who writes what.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    /// Every client as an identity of its own.
    OwnIdentity,
    /// All as one identity, each to a dataset of its own.
    OwnDataset,
    /// All as one identity to one dataset, each to a record of its own.
    OneDataset,
    /// As identities of their own, and every update becomes a line of the stream's file.
    Streamed,
}

fn updates(store: &Path, shape: Shape) {
    let server = Server::start(store);
    if shape == Shape::Streamed {
        let path = format!("/identitypools/{}/configuration", encode(&server.pool));
        let body = r#"{"CognitoStreams":{"StreamName":"s","RoleArn":"arn:aws:iam::1:role/r","StreamingStatus":"ENABLED"}}"#;
        let mut developer = server.connect(&server.developer);
        developer.exchange("POST", &path, None, body.as_bytes(), true);
    }
    let users = match shape {
        Shape::OwnIdentity | Shape::Streamed => CLIENTS,
        Shape::OwnDataset | Shape::OneDataset => 1,
    };
    let users: Vec<User> = (0..users).map(|_| server.user()).collect();
    let done = run(&format!("updates, {shape:?}"), |number, goes_on| {
        let user = &users[number % users.len()];
        let dataset = match shape {
            Shape::OwnDataset => format!("settings-{number}"),
            _ => "settings".to_owned(),
        };
        let mut client = server.connect(&user.credentials);
        let keys = vec![format!("key-{number}")];
        let mut writer = Writer::new(user, &dataset.parse().unwrap(), keys);
        let mut times = Vec::new();
        while goes_on() {
            let begun = Instant::now();
            writer.update(&mut client);
            times.push(begun.elapsed());
        }
        times
    });
    if shape == Shape::Streamed {
        let mut events = store.as_os_str().to_owned();
        events.push(".events.jsonl");
        let lines = std::fs::read_to_string(events).unwrap();
        assert_eq!(lines.lines().count(), done);
    }
}

fn memory(store: &Path) {
    let measure = |what: &str, server: &Server| {
        let user = server.user();
        let mut client = server.connect(&user.credentials);
        let mut writer = Writer::new(&user, &"settings".parse().unwrap(), vec!["k".to_owned()]);
        for _ in 0..200 {
            writer.update(&mut client);
        }
        println!("  {:>6} KiB resident, {what}", server.resident_kib());
    };
    let server = Server::start(store);
    measure("an empty store, after 200 updates", &server);
    // The first load leaves threads and buffers; from then on only the store grows.
    fill(&server, IDENTITIES / 10);
    measure("the same process with a tenth of the identities", &server);
    fill(&server, IDENTITIES - IDENTITIES / 10);
    measure("the same process with all of them", &server);
    drop(server);
    let server = Server::start(store);
    measure("started anew with them, after 200 updates", &server);
}

/// Makes identities by GetId.
fn fill(server: &Server, wanted: usize) {
    let begun = Instant::now();
    let asked = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 * CLIENTS {
            scope.spawn(|| {
                let mut anyone = server.connect(&server.developer);
                while asked.fetch_add(1, Ordering::Relaxed) < wanted {
                    assert!(begun.elapsed() < FILLING, "the service is too slow");
                    let _: GotId = anyone.call(&guest(&server.pool));
                }
            });
        }
    });
    println!(
        "  {wanted} identities made by GetId in {:.1?}",
        begun.elapsed()
    );
}

/// Runs clients for a phase and prints how often they did what they do. Each is given its number
/// and a question: whether to go on. It returns how long each of its turns took.
fn run(what: &str, client: impl Fn(usize, &dyn Fn() -> bool) -> Vec<Duration> + Sync) -> usize {
    let begun = Instant::now();
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let clients = (0..CLIENTS).map(|number| {
            let client = &client;
            scope.spawn(move || client(number, &|| begun.elapsed() < PHASE))
        });
        let clients: Vec<_> = clients.collect();
        let ended = clients
            .into_iter()
            .flat_map(|client| client.join().unwrap());
        ended.collect()
    });
    let took = begun.elapsed();
    times.sort();
    println!(
        "  {:>6.0}/s {what}: {} in {took:.1?}; half took at most {:.1?}, 99 of 100 {:.1?}",
        times.len() as f64 / took.as_secs_f64(),
        times.len(),
        times[times.len() / 2],
        times[times.len() * 99 / 100],
    );
    times.len()
}

/// A user's device: it knows one dataset as far as it has listed it.
struct Writer<'a> {
    user: &'a User,
    dataset: DatasetName,
    keys: Vec<String>,
    /// The count of the dataset's last listing, and that of our records.
    listed: i64,
    written: i64,
}

impl<'a> Writer<'a> {
    fn new(user: &'a User, dataset: &DatasetName, keys: Vec<String>) -> Self {
        Self {
            user,
            dataset: dataset.clone(),
            keys,
            listed: 0,
            written: 0,
        }
    }

    fn list(&self, last_sync_count: Option<i64>) -> ListRecords {
        ListRecords {
            pool: self.user.pool.clone(),
            identity: self.user.identity.clone(),
            dataset: self.dataset.clone(),
            last_sync_count,
            next_token: None,
            max_results: None,
            sync_session_token: None,
        }
    }

    /// Lists what is new, for the token, and writes all keys.
    fn update(&mut self, client: &mut Client) {
        let listed: Records = client.call(&self.list(Some(self.listed)));
        self.listed = listed.dataset_sync_count;
        let patches = self.keys.iter().map(|key| RecordPatch {
            op: PatchOp::Replace,
            key: RecordKey::new(key.clone()).unwrap(),
            value: Some(format!("{:0>64}", self.listed).into()),
            sync_count: self.written,
            device_last_modified_date: Some(SystemTime::now().into()),
        });
        let updated: UpdatedRecords = client.call(&UpdateRecords {
            pool: self.user.pool.clone(),
            identity: self.user.identity.clone(),
            dataset: self.dataset.clone(),
            client_context: None,
            body: UpdateRecordsBody {
                device_id: None,
                record_patches: patches.collect(),
                sync_session_token: listed.sync_session_token,
            },
        });
        assert_eq!(updated.records.len(), self.keys.len());
        self.written = updated.records[0].sync_count;
    }
}

/// An identity and its own credentials.
struct User {
    pool: PoolId,
    identity: IdentityId,
    credentials: Credentials,
}

fn guest(pool: &PoolId) -> GetId {
    GetId {
        identity_pool_id: pool.clone(),
        account_id: None,
        logins: None,
    }
}

/// `cognitofs serve`, killed at the end.
struct Server {
    process: Child,
    address: String,
    developer: Credentials,
    pool: PoolId,
}

impl Server {
    fn start(store: &Path) -> Self {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_cognitofs"));
        let mut process = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--store"])
            .arg(store)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.as_mut().unwrap()).lines();
        let mut variable = |name: &str| {
            let prefix = format!("export {name}=");
            let value =
                lines.find_map(|line| Some(line.unwrap().strip_prefix(&prefix)?.to_owned()));
            value.unwrap()
        };
        let url = variable("AWS_ENDPOINT_URL_COGNITO_SYNC");
        let key = variable("AWS_ACCESS_KEY_ID");
        let secret = variable("AWS_SECRET_ACCESS_KEY");
        let developer = Credentials::new(key, secret, None, None, "bench");
        let address = url.strip_prefix("http://").unwrap().to_owned();
        let mut client = Client::new(&address, &developer);
        let pools: IdentityPools = client.call(&ListIdentityPools {
            max_results: 1,
            next_token: None,
        });
        Self {
            pool: pools.identity_pools[0].identity_pool_id.clone(),
            process,
            address,
            developer,
        }
    }

    fn connect(&self, credentials: &Credentials) -> Client {
        Client::new(&self.address, credentials)
    }

    /// Makes a guest.
    fn user(&self) -> User {
        let mut anyone = self.connect(&self.developer);
        let got: GotId = anyone.call(&guest(&self.pool));
        let issued: IdentityCredentials = anyone.call(&GetCredentialsForIdentity {
            identity_id: got.identity_id.clone(),
            logins: None,
            custom_role_arn: None,
        });
        let issued = issued.credentials;
        let token = Some(issued.session_token);
        User {
            pool: self.pool.clone(),
            identity: got.identity_id,
            credentials: Credentials::new(
                issued.access_key_id,
                issued.secret_key,
                token,
                None,
                "bench",
            ),
        }
    }

    /// Returns the memory the service occupies.
    fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).unwrap();
        let mut lines = status.lines();
        let resident = lines.find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        resident.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// One connection, kept open.
struct Client {
    stream: BufReader<TcpStream>,
    address: String,
    credentials: Credentials,
    /// Of the last answer.
    body: Vec<u8>,
}

impl Client {
    fn new(address: &str, credentials: &Credentials) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::new(stream),
            address: address.to_owned(),
            credentials: credentials.clone(),
            body: Vec::new(),
        }
    }

    fn call<O: Operation>(&mut self, operation: &O) -> O::Answer
    where
        O::Answer: DeserializeOwned,
    {
        self.send(operation);
        serde_json::from_slice(&self.body).unwrap()
    }

    fn send<O: Operation>(&mut self, operation: &O) {
        let request = operation.request();
        let target = request.target.as_deref();
        self.exchange(
            request.method,
            &request.path,
            target,
            &request.body,
            !O::UNSIGNED,
        );
    }

    fn exchange(
        &mut self,
        method: &str,
        path: &str,
        target: Option<&str>,
        body: &[u8],
        signed: bool,
    ) {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n",
            self.address,
            body.len()
        );
        if let Some(target) = target {
            head += &format!("x-amz-target: {target}\r\n");
        }
        if signed {
            let service = match target {
                Some(_) => "cognito-identity",
                None => "cognito-sync",
            };
            let request = Signable {
                method,
                url: &format!("http://{}{path}", self.address),
                headers: &[],
                body,
            };
            let credentials = &self.credentials;
            let now = SystemTime::now();
            let headers = sign(request, credentials, "us-east-1", service, now).unwrap();
            for (name, value) in headers {
                head += &format!("{name}: {value}\r\n");
            }
        }
        head += "\r\n";
        let mut sent = head.into_bytes();
        sent.extend_from_slice(body);
        self.stream.get_mut().write_all(&sent).unwrap();
        let status = self.line();
        let mut length = 0;
        loop {
            let line = self.line();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
        }
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body).unwrap();
        let said = String::from_utf8_lossy(&self.body);
        assert_eq!(status, "HTTP/1.1 200 OK", "{said}");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

fn encode(pool: &PoolId) -> String {
    pool.as_str().replace(':', "%3A")
}
