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

#[test]
fn s08_what_is_removed_while_its_sending_begins_stays_removed() {
    let journal = Journal::new();
    journal.bed.change("data", &[("k", Some("old"))]);
    let (_mounted, dataset) = journal.mount();
    run(&dataset, "cat *");
    let new = dataset.join("new");
    meanwhile(
        &journal,
        || rewrite(&new, "new").unwrap(),
        || fs::remove_file(&new).unwrap(),
    );
    sync(&dataset);
    assert_eq!(journal.remote("new"), None);
    meanwhile(
        &journal,
        || rewrite(&new, "new").unwrap(),
        || fs::rename(&new, dataset.join("other")).unwrap(),
    );
    sync(&dataset);
    assert_eq!(journal.remote("new"), None);
    assert_eq!(journal.remote("other").as_deref(), Some("new"));
    assert_eq!(parked(&dataset), []);
    assert_eq!(names(&dataset), ["k", "other"]);
}

#[test]
fn s09_what_was_sent_from_here_is_no_version_of_somebody_else() {
    for options in ["conflict=auto", "conflict=strict"] {
        let mut journal = Journal::new();
        journal.options += &format!(",{options}");
        let all = ["k", "l", "m"].map(|key| (key, Some("old")));
        journal.bed.change("data", &all);
        let (mounted, dataset) = journal.mount();
        run(&dataset, "cat *");
        let [k, l, m] = ["k", "l", "m"].map(|name| dataset.join(name));
        meanwhile(
            &journal,
            || rewrite(&k, "new").unwrap(),
            || fs::remove_file(&k).unwrap(),
        );
        sync(&dataset);
        assert_eq!(parked(&dataset), [], "{options}");
        assert_eq!(journal.remote("k"), None, "{options} {}", mounted.log());
        meanwhile(
            &journal,
            || rewrite(&l, "new").unwrap(),
            || fs::rename(&l, &m).unwrap(),
        );
        sync(&dataset);
        assert_eq!(parked(&dataset), [], "{options}");
        assert_eq!(journal.remote("l"), None, "{options} {}", mounted.log());
        assert_eq!(journal.remote("m").as_deref(), Some("new"));
    }
}

#[test]
fn s08_what_is_closed_while_the_text_before_is_sent_survives_a_kill() {
    let journal = Journal::new();
    journal
        .bed
        .change("data", &[("k", Some("old")), ("log", Some("1\n"))]);
    let (mut mounted, _) = journal.mount();
    for round in 0..3 {
        let dataset = journal.bed.dataset(&mounted, "data");
        run(&dataset, "cat *");
        let k = dataset.join("k");
        meanwhile(
            &journal,
            || match round {
                0 => rewrite(&k, "one").unwrap(),
                1 => drop(run(&dataset, "echo 2 >> log")),
                _ => fs::remove_file(&k).unwrap(),
            },
            || {
                match round {
                    0 => rewrite(&k, "two").unwrap(),
                    1 => drop(run(&dataset, "echo 3 >> log")),
                    _ => rewrite(&k, "three").unwrap(),
                }
                journal.cut();
            },
        );
        kill(&mut mounted);
        journal.bed.calm();
        (mounted, _) = journal.mount();
        let dataset = journal.bed.dataset(&mounted, "data");
        sync(&dataset);
        assert_eq!(parked(&dataset), [], "{round}");
    }
}

#[test]
fn s08_one_who_always_writes_holds_up_nobody() {
    let journal = Journal::new();
    journal
        .bed
        .change("data", &[("log", Some("")), ("gone", Some("v"))]);
    let (mounted, dataset) = journal.mount();
    run(&dataset, "cat *");
    let slow = Trouble::Slow(Duration::from_millis(100));
    journal.bed.trouble("UpdateRecords", slow, 0, 100_000);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut line = 0;
            while !is_over.load(Ordering::Relaxed) {
                line += 1;
                let log = OpenOptions::new().append(true).open(dataset.join("log"));
                let mut log = log.unwrap();
                writeln!(log, "{line}").unwrap();
                close(log).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        std::thread::sleep(Duration::from_secs(3));
        let begun = Instant::now();
        let other = dataset.with_file_name("other");
        fs::create_dir(&other).unwrap();
        rewrite(&other.join("k"), "v").unwrap();
        fs::remove_file(dataset.join("gone")).unwrap();
        let is_sent = || {
            let set = journal.bed.remote("other", "k").flatten();
            set.is_some() && journal.remote("gone").is_none()
        };
        while begun.elapsed() < Duration::from_secs(15) && !is_sent() {
            std::thread::sleep(Duration::from_millis(50));
        }
        let is_sent = is_sent();
        let synced = sync_all(&dataset);
        is_over.store(true, Ordering::Relaxed);
        assert!(is_sent, "{}", mounted.log());
        synced.unwrap();
    });
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

/// The kernel forgets a directory, and what was removed in it waits still.
#[test]
fn s08_sync_waits_for_a_removal_in_a_directory_that_was_forgotten() {
    let journal = Journal::new();
    journal
        .bed
        .change("data", &[("k", Some("v")), ("l", Some("v"))]);
    let (_mounted, dataset) = journal.mount();
    run(&dataset, "cat *");
    let slow = Trouble::Slow(Duration::from_millis(1500));
    journal.bed.trouble("UpdateRecords", slow, 0, 1);
    fs::remove_file(dataset.join("k")).unwrap();
    if let Err(error) = fs::write("/proc/sys/vm/drop_caches", "2") {
        eprintln!("SKIPPED: the kernel cannot be made to forget: {error}");
        return;
    }
    std::thread::sleep(Duration::from_millis(300));
    sync(&dataset);
    assert_eq!(journal.remote("k"), None);
}

/// The first attempt was in vain, and the second has no answer either.
#[test]
fn s08_nothing_waits_for_a_push_that_hangs_again() {
    let mut journal = Journal::new();
    journal.options = journal.options.replace("timeout=5s", "timeout=2s");
    let old = ["k", "log", "gone"].map(|key| (key, Some("old")));
    journal.bed.change("data", &old);
    let (mounted, dataset) = journal.mount();
    run(&dataset, "cat *");
    journal.bed.forget_calls();
    journal
        .bed
        .trouble("UpdateRecords", Trouble::Hang, 0, 100_000);
    run(&dataset, "for k in *; do echo 1 > $k; done");
    let updates = || {
        let calls = journal.bed.calls();
        calls
            .iter()
            .filter(|call| **call == "UpdateRecords")
            .count()
    };
    journal.wait_for("it is tried again", || updates() > 1);
    let begun = Instant::now();
    run(&dataset, "echo 2 > k; echo 2 >> log; rm gone; touch log");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?} {}", mounted.log());
    journal.bed.calm();
    journal.wait_for("it is sent", || sync_all(&dataset).is_ok());
    assert_eq!(journal.remote("log").as_deref(), Some("1\n2\n"));
    assert_eq!(journal.remote("k").as_deref(), Some("2\n"));
    assert_eq!(journal.remote("gone"), None);
    assert_eq!(parked(&dataset), []);
}

/// A text is closed while the one before is refused.
#[test]
fn s08_what_is_closed_behind_a_refused_text_does_not_stay_in_the_journal() {
    let mut journal = Journal::new();
    journal.options += ",conflict=strict";
    journal.bed.change("data", &[("k", Some("old"))]);
    let (mounted, dataset) = journal.mount();
    run(&dataset, "cat *");
    journal.bed.change("data", &[("k", Some("theirs"))]);
    let mut slow = SlowDisk::new(&journal);
    journal.bed.forget_calls();
    let late = Trouble::Slow(Duration::from_secs(1));
    journal.bed.trouble("ListRecords", late, 0, 1);
    let k = dataset.join("k");
    let file = OpenOptions::new().write(true).truncate(true).open(&k);
    let mut file = file.unwrap();
    rewrite(&k, "one").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    journal.bed.wait_for_call("ListRecords");
    file.write_all(b"two").unwrap();
    slow.begin();
    std::thread::scope(|scope| {
        let closed = scope.spawn(|| close(file));
        std::thread::sleep(Duration::from_millis(1500));
        drop(slow);
        closed.join().unwrap().unwrap();
    });
    journal.wait_for("both are refused", || parked(&dataset).len() == 2);
    sync(&dataset);
    assert_eq!(rows(&journal), 0, "{}", mounted.log());
    assert_eq!(journal.remote("k").as_deref(), Some("theirs"));
}

/// Returns how many changes the journal has.
fn rows(journal: &Journal) -> usize {
    let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
        print(c.execute('SELECT count(*) FROM changes').fetchone()[0])";
    let mut python = Command::new("python3");
    let counted = python.args(["-c", script]).arg(database(journal)).output();
    let counted = String::from_utf8(counted.unwrap().stdout).unwrap();
    counted.trim().parse().unwrap()
}

/// `program > file` empties the file, and the shell closes a copy of its descriptor: that is not
/// what takes the place of a text that was closed.
#[test]
fn s07_a_truncation_alone_does_not_take_the_place_of_what_was_closed() {
    let journal = Journal::new();
    journal.bed.change("data", &[("k", Some("old"))]);
    let (mut mounted, dataset) = journal.mount();
    run(&dataset, "cat *");
    journal.cut();
    rewrite(&dataset.join("k"), "closed").unwrap();
    let script = "import os, time; f = os.open('k', os.O_WRONLY | os.O_TRUNC); \
        os.close(os.dup(f)); print(flush=True); time.sleep(1000)";
    let mut python = Command::new("python3");
    let python = python.args(["-c", script]).current_dir(&dataset);
    let mut python = SlowDisk(python.stdout(Stdio::piped()).spawn().unwrap());
    python.hear();
    kill(&mut mounted);
    drop(python);
    journal.bed.calm();
    let (_mounted, dataset) = journal.mount();
    sync(&dataset);
    assert_eq!(journal.remote("k").as_deref(), Some("closed"));
}

/// A date that was set, though nobody heard the answer.
#[test]
fn s08_a_date_that_an_earlier_process_set_is_no_failure() {
    let journal = Journal::new();
    journal.bed.change("data", &[("k", Some("v"))]);
    let (mut mounted, dataset) = journal.mount();
    run(&dataset, "cat k");
    journal.bed.forget_calls();
    let trickle = Trouble::Trickle(Duration::from_millis(200));
    journal.bed.trouble("UpdateRecords", trickle, 0, 100);
    run(&dataset, "touch -d @1000000000 k");
    journal.bed.wait_for_call("UpdateRecords");
    std::thread::sleep(Duration::from_millis(200));
    let (mounted, _) = journal.mount_again(&mut mounted);
    let failures = fs::read_to_string(mounted.path.join(".cognito/errors.log"));
    assert_eq!(failures.unwrap(), "");
    assert_eq!(rows(&journal), 0);
}

/// Who the user of a pool is can change; the journal is the source's.
#[test]
fn s08_what_one_guest_left_is_neither_shown_to_another_nor_sent() {
    let journal = Journal::new();
    let options = format!("{},identity=guest", journal.options);
    let source = format!("cognito://us-east-1/{}", journal.bed.pool);
    let mount = || Mounted::new(&journal.bed, &source, &options);
    let mut mounted = mount();
    fs::create_dir(mounted.path.join("data")).unwrap();
    journal.cut();
    rewrite(&mounted.path.join("data/k"), "mine").unwrap();
    kill(&mut mounted);
    let guest = guest(&journal);
    fs::rename(&guest, guest.with_extension("old")).unwrap();
    journal.bed.calm();
    let mut mounted = mount();
    assert_eq!(names(&mounted.path), [] as [&str; 0]);
    assert!(mounted.unmount().success());
    fs::rename(guest.with_extension("old"), &guest).unwrap();
    let mut mounted = mount();
    assert_eq!(
        fs::read_to_string(mounted.path.join("data/k")).unwrap(),
        "mine"
    );
    assert!(mounted.unmount().success());
    let mounted = mount();
    assert_eq!(
        fs::read_to_string(mounted.path.join("data/k")).unwrap(),
        "mine"
    );
}

/// Returns the file that names the guest.
fn guest(journal: &Journal) -> PathBuf {
    let state = journal.bed.directory.path().join("journal");
    let directories = fs::read_dir(state).unwrap();
    let mut files = directories.map(|directory| directory.unwrap().path().join("guest"));
    files.find(|file| file.exists()).unwrap()
}

/// What hangs in one dataset holds up no removal of another that was noted before.
#[test]
fn s08_a_removal_does_not_wait_for_what_came_after_it() {
    let journal = Journal::new();
    journal.bed.change("data", &[("gone", Some("v"))]);
    journal.bed.change("other", &[("k", Some("v"))]);
    let options = journal.options.replace("timeout=5s", "timeout=1s");
    let mounted = journal.bed.mount(&options);
    let dataset = journal.bed.dataset(&mounted, "data");
    run(&dataset, "cat gone ../other/k");
    journal.bed.forget_calls();
    // The first round, which has the removal alone, comes to nothing.
    let denied = Trouble::Fault("AccessDeniedException");
    journal.bed.trouble("UpdateRecords", denied, 0, 1);
    run(&dataset, "rm gone");
    journal.bed.wait_for_call("UpdateRecords");
    journal.bed.trouble_in("other", Trouble::Hang);
    run(&dataset, "echo x > ../other/k");
    journal.wait_for("it is removed", || journal.remote("gone").is_none());
}

/// What moves a record on and on does not let the removal of its first name overtake it.
#[test]
fn s08_a_removal_waits_for_a_set_under_its_next_name() {
    let journal = Journal::new();
    journal.bed.change("data", &[("f", Some("precious"))]);
    journal.bed.change("there", &[("x", Some("x"))]);
    let (_mounted, dataset) = journal.mount();
    let there = dataset.with_file_name("there");
    run(&dataset, "cat f ../there/x");
    journal.cut();
    run(&dataset, "mv f ../there/f; mv ../there/f ../there/g");
    journal.bed.calm();
    let quota = Trouble::Fault("LimitExceededException");
    journal.bed.trouble("UpdateRecords", quota, 0, 1);
    journal.wait_for("it is refused", || !parked(&there).is_empty());
    sync(&dataset);
    assert_eq!(journal.remote("f").as_deref(), Some("precious"));
    assert_eq!(fs::read_to_string(dataset.join("f")).unwrap(), "precious");
}
