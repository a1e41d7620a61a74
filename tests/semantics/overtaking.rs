//! What is noted in the journal while the file is being sent: which of both comes first is chance, and
//! nobody is to notice (S8).

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::journal::{Journal, kill, parked};
use super::{close, names, rewrite};
use crate::common::{Mounted, Trouble, run};

/// A process that keeps everybody from writing to the journal for a while, as if the disk were slow.
struct SlowDisk(Child);

impl SlowDisk {
    fn new(journal: &Journal) -> Self {
        let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); \
            print(flush=True); sys.stdin.readline(); c.execute('BEGIN IMMEDIATE'); \
            print(flush=True); sys.stdin.read()";
        let mut python = Command::new("python3");
        python.args(["-c", script]).arg(database(journal));
        let piped = python.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut slow = Self(piped.spawn().unwrap());
        slow.hear();
        slow
    }

    fn hear(&mut self) {
        let mut byte = [0];
        self.0
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut byte)
            .unwrap();
    }

    fn begin(&mut self) {
        writeln!(self.0.stdin.as_mut().unwrap()).unwrap();
        self.hear();
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn database(journal: &Journal) -> PathBuf {
    let state = journal.bed.directory.path().join("journal");
    let mut found = fs::read_dir(state).unwrap();
    found.next().unwrap().unwrap().path().join("journal.db")
}

/// Does something that waits for the disk while what was closed before is sent.
fn meanwhile(journal: &Journal, before: impl FnOnce(), action: impl FnOnce() + Send) {
    let mut slow = SlowDisk::new(journal);
    journal.bed.forget_calls();
    before();
    slow.begin();
    assert!(!journal.bed.calls().contains(&"UpdateRecords"));
    std::thread::scope(|scope| {
        let done = scope.spawn(action);
        std::thread::sleep(Duration::from_millis(700));
        drop(slow);
        done.join().unwrap();
    });
}

fn sync(dataset: &Path) {
    sync_all(dataset).unwrap();
}

fn sync_all(dataset: &Path) -> std::io::Result<()> {
    File::open(dataset)?.sync_all()
}

/// What is to be sent before it decides whether there is something to remove.
#[test]
fn s08_a_removal_is_not_taken_for_made_while_the_file_waits_to_be_sent() {
    let journal = Journal::new();
    journal.bed.change("data", &[("k", Some("v"))]);
    let (_mounted, dataset) = journal.mount();
    run(&dataset, "cat *");
    journal.bed.forget_calls();
    journal
        .bed
        .trouble("UpdateRecords", Trouble::Status(503), 0, 4);
    std::thread::scope(|scope| {
        rewrite(&dataset.join("new"), "v").unwrap();
        let synced = scope.spawn(|| sync(dataset.parent().unwrap()));
        journal.bed.wait_for_call("UpdateRecords");
        fs::remove_file(dataset.join("new")).unwrap();
        synced.join().unwrap();
    });
    sync(&dataset);
    assert_eq!(journal.remote("new"), None);
    assert_eq!(names(&dataset), ["k"]);
}
