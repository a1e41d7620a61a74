//! Every fault at every operation that needs the service: what its caller is told and how soon,
//! what goes on meanwhile, and what is so afterwards.

mod names_and_certificates;
mod operations;
mod waiting;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::common::{Bed, Certificate, Door, Front, Meaning, Mounted, Names, Trouble};
use crate::local_service::now;
use operations::OPERATIONS;

const TIMEOUT: Duration = Duration::from_secs(1);
/// What a machine that is busy may add to an operation.
const BUSY: Duration = Duration::from_millis(400);
/// Several operations of one program, a probe that clears a suspicion.
const SLACK: Duration = Duration::from_millis(2500);
const OPTIONS: &str = "timeout=1s,ttl=60s";

/// What can befall the service.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Call(Trouble),
    /// Nothing listens any more.
    Refused,
    /// Connections break, and new ones meet this.
    Door(Door),
    /// Connections break, and the service's name means this.
    Name(Meaning),
}

/// How a mount gets to the bed.
enum Way {
    Direct,
    /// By a front and the door that is its usual one.
    Front(Front, Door),
    /// By a name, which leads to a front.
    Name(Names, Front),
}

/// Where an operation is tried.
pub struct Stage {
    bed: Bed,
    way: Way,
    mounted: Mounted,
    identities: u32,
}

impl Stage {
    fn new(fault: Fault) -> Self {
        Self::with(fault, OPTIONS)
    }

    fn with(fault: Fault, options: &str) -> Self {
        let bed = Bed::new();
        bed.change("warm", &[("k", Some("warm"))]);
        let (way, mounted) = match fault {
            Fault::Call(_) | Fault::Refused => (Way::Direct, bed.mount(options)),
            Fault::Door(_) => names_and_certificates::mount_by_tls(&bed, options),
            Fault::Name(_) => names_and_certificates::mount_by_name(&bed, options),
        };
        Self {
            bed,
            way,
            mounted,
            identities: 0,
        }
    }

    /// Goes to an identity that the mount has not seen, with a dataset that holds a file `k` and a
    /// file `log`, and another one that is empty.
    fn next(&mut self) {
        self.identities += 1;
        let id = format!("us-east-1:00000000-0000-4000-9000-{:012}", self.identities);
        self.bed.identity = id.parse().unwrap();
        let (pool, identity) = (self.bed.pool.clone(), self.bed.identity.clone());
        let service = &self.bed.service;
        service.add_identity(&pool, &identity, now()).unwrap();
        let records = [("k", Some("v")), ("log", Some("one\n"))];
        self.bed.change("data", &records);
        self.bed.change("bare", &[("k", Some("v"))]);
        self.bed.change("bare", &[("k", None)]);
    }

    pub fn pool(&self) -> PathBuf {
        self.mounted.path.join(self.bed.pool.as_str())
    }

    pub fn identity(&self) -> PathBuf {
        self.bed.dataset(&self.mounted, "")
    }

    pub fn dataset(&self) -> PathBuf {
        self.bed.dataset(&self.mounted, "data")
    }

    /// What the service holds.
    pub fn remote(&self, dataset: &str, key: &str) -> Option<String> {
        self.bed.remote(dataset, key).flatten()
    }

    /// The date that the device gave a record of the dataset, in seconds.
    pub fn modified(&self, key: &str) -> i64 {
        let listed = self.bed.list("data");
        let record = listed
            .records()
            .iter()
            .find(|record| record.key() == Some(key));
        record.unwrap().device_last_modified_date().unwrap().secs()
    }

    pub fn exists(&self, dataset: &str) -> bool {
        self.bed.list(dataset).dataset_exists()
    }

    /// Has a fault befall a call, or any for `*`.
    fn strike(&mut self, fault: Fault, call: &'static str, times: usize) {
        match (fault, &self.way) {
            (Fault::Call(trouble), _) => self.bed.trouble(call, trouble, 0, times),
            (Fault::Refused, _) => self.bed.refuse(),
            (Fault::Door(door), Way::Front(front, _)) => front.open(door),
            (Fault::Name(meaning), Way::Name(names, front)) => {
                names.mean(meaning);
                front.open(Door::Plain);
            }
            (fault, _) => panic!("{fault:?}: the mount goes another way"),
        }
    }

    /// Ends the fault.
    fn heal(&mut self) {
        self.bed.accept();
        match &self.way {
            Way::Direct => {}
            Way::Front(front, usual) => front.open(*usual),
            Way::Name(names, _) => names.mean(Meaning::Here),
        }
    }

    /// How many threads and open files the daemon has.
    fn held(&self) -> (usize, usize) {
        let count = |what: &str| {
            let path = format!("/proc/{}/{what}", self.mounted.id());
            fs::read_dir(path).unwrap().count()
        };
        (count("task"), count("fd"))
    }

    /// What was told of the service not being reached, as lines of `errors.log`.
    fn told(&self) -> Vec<String> {
        let errors = fs::read_to_string(self.mounted.path.join(".cognito/errors.log")).unwrap();
        let told = errors.lines().filter(|line| line.contains("EHOSTUNREACH"));
        told.map(str::to_owned).collect()
    }

    /// Checks that no operation of the file system took longer than `timeout`, as the mount counts,
    /// and tells how long the longest took.
    fn tell(&self, fault: Fault) {
        let stats = fs::read(self.mounted.path.join(".cognito/stats.json")).unwrap();
        let stats: serde_json::Value = serde_json::from_slice(&stats).unwrap();
        let longest = stats["max_operation_milliseconds"].as_u64().unwrap();
        eprintln!(
            "{fault:?}: {} operations, the longest took {longest} ms",
            self.identities
        );
        let longest = Duration::from_millis(longest);
        assert!(longest < TIMEOUT + BUSY, "{fault:?}: {longest:?}");
    }

    /// Waits until the service can be reached again, as the mount sees it.
    fn recover(&mut self) {
        self.heal();
        let begun = Instant::now();
        let down = || {
            let listed = fs::read_dir(self.pool())
                .unwrap()
                .any(|entry| entry.is_err());
            listed || fs::read(self.pool().join(".cognito/usage.json")).is_err()
        };
        while down() {
            assert!(
                begun.elapsed() < Duration::from_secs(12),
                "no recovery: {}",
                self.mounted.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What memory holds is served at once.
fn is_usable(warm: &Path) {
    let begun = Instant::now();
    assert_eq!(fs::read_to_string(warm.join("k")).unwrap(), "warm");
    assert_eq!(fs::read_dir(warm).unwrap().count(), 1);
    let meanwhile = begun.elapsed();
    assert!(meanwhile < Duration::from_millis(500), "{meanwhile:?}");
}

/// Tries every operation under a fault that stays, and again when it has gone. `told` are the
/// numbers an operation may fail with; one whose change was made in spite of the fault, and is
/// found in a listing, may succeed.
fn try_all(fault: Fault, told: &[i32], made: bool) -> Stage {
    let mut stage = Stage::new(fault);
    let warm = stage.bed.dataset(&stage.mounted, "warm");
    is_usable(&warm);
    let mut held = None;
    for operation in OPERATIONS {
        stage.next();
        (operation.prepare)(&stage);
        stage.strike(fault, operation.call, usize::MAX);
        let begun = Instant::now();
        let tried = (operation.act)(&stage);
        let took = begun.elapsed();
        let name = operation.name;
        assert!(took < TIMEOUT + SLACK, "{fault:?}, {name}: {took:?}");
        let number = |error: &io::Error| error.raw_os_error().unwrap();
        let outcome = tried.as_ref().map_err(number);
        match outcome {
            Ok(()) => assert!(
                made && operation.changes(),
                "{fault:?}, {name}: it succeeds"
            ),
            Err(number) => assert!(told.contains(&number), "{fault:?}, {name}: {tried:?}"),
        }
        is_usable(&warm);
        stage.recover();
        operation.check(&stage, tried.is_ok(), made, format!("{fault:?}"));
        held.get_or_insert_with(|| stage.held());
    }
    let (threads, files) = held.unwrap();
    let begun = Instant::now();
    loop {
        let now = stage.held();
        if now.0 <= threads + 2 && now.1 <= files + 4 {
            break;
        }
        let patience = Duration::from_secs(5);
        assert!(begun.elapsed() < patience, "{now:?}, {threads} {files}");
        std::thread::sleep(Duration::from_millis(50));
    }
    stage.tell(fault);
    for line in stage.told() {
        assert!(!line.ends_with("cannot be reached"), "{fault:?}: {line}");
    }
    stage
}

/// Tries every operation under a fault that strikes once, and is not noticed.
fn try_once(trouble: Trouble) {
    let fault = Fault::Call(trouble);
    let mut stage = Stage::new(fault);
    for operation in OPERATIONS {
        stage.next();
        (operation.prepare)(&stage);
        stage.strike(fault, operation.call, 1);
        let tried = (operation.act)(&stage);
        assert!(tried.is_ok(), "{trouble:?}, {}: {tried:?}", operation.name);
        stage.bed.calm();
        (operation.done)(&stage);
        assert_eq!(operation.parked(&stage), 0, "{}", operation.name);
    }
}

const HANG: Fault = Fault::Call(Trouble::Hang);
const SLOW: Fault = Fault::Call(Trouble::Trickle(Duration::from_millis(400)));

#[test]
fn under_hang() {
    try_all(HANG, &[libc::ETIMEDOUT], false);
}

#[test]
fn under_reset_before() {
    try_once(Trouble::LoseCall);
    let fault = Fault::Call(Trouble::LoseCall);
    try_all(fault, &[libc::EIO, libc::ETIMEDOUT], false);
}

#[test]
fn under_reset_after() {
    try_once(Trouble::LoseAnswer);
    let fault = Fault::Call(Trouble::LoseAnswer);
    try_all(fault, &[libc::EIO, libc::ETIMEDOUT], true);
}

#[test]
fn under_torn() {
    try_once(Trouble::Torn);
    try_all(
        Fault::Call(Trouble::Torn),
        &[libc::EIO, libc::ETIMEDOUT],
        true,
    );
}

#[test]
fn under_garbage() {
    try_once(Trouble::Garbage);
    try_all(
        Fault::Call(Trouble::Garbage),
        &[libc::EIO, libc::ETIMEDOUT],
        true,
    );
}

#[test]
fn under_trickle() {
    try_all(SLOW, &[libc::ETIMEDOUT], true);
}

#[test]
fn under_throttled() {
    try_once(Trouble::Status(429));
    try_all(Fault::Call(Trouble::Status(429)), &[libc::EAGAIN], false);
}

#[test]
fn under_throttled_for_a_time() {
    let fault = Fault::Call(Trouble::RetryAfter(429, 1));
    try_all(fault, &[libc::EAGAIN], false);
}

#[test]
fn under_failing() {
    try_once(Trouble::Status(500));
    try_all(
        Fault::Call(Trouble::Status(500)),
        &[libc::EIO, libc::ETIMEDOUT],
        false,
    );
}

#[test]
fn under_refused() {
    try_all(Fault::Refused, &[libc::EHOSTUNREACH], false);
}

/// The first to ask finds out that the service is gone; all others are told so at once, and why.
#[test]
fn s17_while_the_service_is_gone_everything_fails_at_once() {
    let expired = Fault::Door(Door::Tls(Certificate::Expired));
    let unnamed = Fault::Name(Meaning::Nothing);
    for (fault, cause) in [
        (Fault::Refused, "Connection refused"),
        (HANG, "no answer from"),
        (expired, "certificate expired"),
        (unnamed, "Name or service not known"),
    ] {
        let mut stage = Stage::new(fault);
        let warm = stage.bed.dataset(&stage.mounted, "warm");
        is_usable(&warm);
        let mut identities = Vec::new();
        for operation in OPERATIONS {
            stage.next();
            (operation.prepare)(&stage);
            identities.push((stage.bed.identity.clone(), stage.identities));
        }
        stage.strike(fault, "*", usize::MAX);
        // Both services are found out about.
        assert!(list_pool(&stage).is_err());
        assert!(fs::read(stage.pool().join(".cognito/usage.json")).is_err());
        for (operation, (identity, number)) in OPERATIONS.iter().zip(identities) {
            (stage.bed.identity, stage.identities) = (identity, number);
            let begun = Instant::now();
            let tried = (operation.act)(&stage);
            let took = begun.elapsed();
            let name = operation.name;
            assert!(took < Duration::from_secs(1), "{name}: {took:?}");
            let number = tried.map_err(|error| error.raw_os_error());
            assert_eq!(number, Err(Some(libc::EHOSTUNREACH)), "{name}");
            is_usable(&warm);
        }
        // No probe takes it for being back.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(1) {
            assert!(list_pool(&stage).is_err(), "{fault:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        let told = stage.told();
        assert!(told.len() >= OPERATIONS.len(), "{fault:?}: {told:?}");
        assert!(told.iter().all(|line| line.contains(cause)), "{told:?}");
        stage.recover();
    }
}

fn list_pool(stage: &Stage) -> io::Result<()> {
    fs::read_dir(stage.pool())?.try_for_each(|entry| entry.map(drop))
}

/// What cannot be reached from the beginning is not mounted, and says why in time.
#[test]
fn s17_a_mount_of_what_cannot_be_reached_fails_in_time() {
    let bed = Bed::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = closed.local_addr().unwrap();
    drop(closed);
    for endpoint in [
        // It speaks no TLS; it accepts and says nothing; nobody listens; there is no such name.
        format!("https://{}", bed.address),
        format!("http://{}", silent.local_addr().unwrap()),
        format!("http://{refused}"),
        "https://cognito.invalid".to_owned(),
    ] {
        let point = bed.directory.path().join("point");
        fs::create_dir_all(&point).unwrap();
        let begun = Instant::now();
        let output = crate::common::program(&bed)
            .args(["mount", "-o", &format!("timeout=1s,endpoint={endpoint}")])
            .arg("cognito://us-east-1")
            .arg(&point)
            .output()
            .unwrap();
        let took = begun.elapsed();
        assert!(took < TIMEOUT + SLACK, "{endpoint}: {took:?}");
        assert_eq!(output.status.code(), Some(32), "{endpoint}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!said.is_empty(), "{endpoint}");
        assert!(!crate::common::is_mounted(&point), "{endpoint}");
    }
}
