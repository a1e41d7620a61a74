//! Changes that are sent after the close (S8), and what survives the death of the daemon.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{close, errno, names, rewrite};
use crate::common::{Bed, Mounted, Trouble, program, run};

pub(super) struct Journal {
    pub(super) bed: Bed,
    pub(super) options: String,
}

impl Journal {
    pub(super) fn new() -> Self {
        let bed = Bed::new();
        let state = bed.directory.path().join("journal");
        let options = format!("commit=async,timeout=5s,state={}", state.display());
        Self { bed, options }
    }

    pub(super) fn mount(&self) -> (Mounted, PathBuf) {
        let mounted = self.bed.mount(&self.options);
        let dataset = self.bed.dataset(&mounted, "data");
        (mounted, dataset)
    }

    /// Kills the daemon; the next one has the service again, and sends what was left.
    pub(super) fn mount_again(&self, mounted: &mut Mounted) -> (Mounted, PathBuf) {
        kill(mounted);
        self.bed.calm();
        let (mounted, dataset) = self.mount();
        File::open(&dataset).unwrap().sync_all().unwrap();
        (mounted, dataset)
    }

    /// Has nothing reach the service.
    pub(super) fn cut(&self) {
        self.bed
            .trouble("UpdateRecords", Trouble::Status(503), 0, 100_000);
    }

    pub(super) fn remote(&self, key: &str) -> Option<String> {
        self.bed.remote("data", key).flatten()
    }

    pub(super) fn wait_for(&self, what: &str, done: impl Fn() -> bool) {
        let begun = Instant::now();
        while !done() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A process that has written to a file and holds it open. Held by this one, the file would be
/// closed whenever another test starts a program.
pub(super) struct Writer(Child);

impl Writer {
    pub(super) fn begin(path: &Path, text: &str) -> Self {
        let script = "import sys, time; f = open(sys.argv[1], 'w', buffering=1); \
            f.write(sys.argv[2] + chr(10)); print(flush=True); time.sleep(1000)";
        let mut python = Command::new("python3");
        python.args(["-c", script]).arg(path).arg(text);
        let mut child = python.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self(child)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

pub(super) fn kill(mounted: &mut Mounted) {
    mounted.signal(Signal::SIGKILL);
    mounted.wait();
}

pub(super) fn parked(dataset: &Path) -> Vec<(String, String)> {
    let directory = dataset.join(".cognito/parked");
    let text = |name: String| {
        let text = fs::read_to_string(directory.join(&name)).unwrap();
        (name, text)
    };
    names(&directory).into_iter().map(text).collect()
}

#[test]
fn s08_close_returns_before_the_service_has_it_and_sync_after() {
    let journal = Journal::new();
    journal.bed.change("data", &[("k", Some("old"))]);
    let (_mounted, dataset) = journal.mount();
    fs::read(dataset.join("k")).unwrap();
    let slow = Trouble::Slow(Duration::from_millis(700));
    journal.bed.trouble("UpdateRecords", slow, 0, 2);
    rewrite(&dataset.join("k"), "new").unwrap();
    rewrite(&dataset.join("other"), "too").unwrap();
    assert_eq!(journal.remote("k").as_deref(), Some("old"));
    assert_eq!(fs::read_to_string(dataset.join("k")).unwrap(), "new");
    assert_eq!(names(&dataset), ["k", "other"]);
    File::open(&dataset).unwrap().sync_all().unwrap();
    assert_eq!(journal.remote("k").as_deref(), Some("new"));
    assert_eq!(journal.remote("other").as_deref(), Some("too"));
    // fsync of a file waits for that file.
    let file = OpenOptions::new()
        .append(true)
        .open(dataset.join("k"))
        .unwrap();
    (&file).write_all(b"er").unwrap();
    file.sync_all().unwrap();
    assert_eq!(journal.remote("k").as_deref(), Some("newer"));
}

#[test]
fn s08_a_whole_directory_goes_in_few_calls() {
    let journal = Journal::new();
    let (_mounted, dataset) = journal.mount();
    fs::create_dir(&dataset).unwrap();
    let (_, calls) = journal.bed.calls_of(|| {
        for n in 0..200 {
            rewrite(&dataset.join(format!("k{n}")), &format!("value {n}")).unwrap();
        }
        File::open(&dataset).unwrap().sync_all().unwrap();
    });
    let updates = calls
        .iter()
        .filter(|call| **call == "UpdateRecords")
        .count();
    assert!(updates <= 4, "{calls:?}");
    assert_eq!(journal.remote("k199").as_deref(), Some("value 199"));
    let (_, calls) = journal.bed.calls_of(|| {
        run(dataset.parent().unwrap(), "rm -r data");
    });
    let updates = calls
        .iter()
        .filter(|call| **call == "UpdateRecords")
        .count();
    assert!(
        updates <= 3 && calls.contains(&"DeleteDataset"),
        "{calls:?}"
    );
    assert!(!journal.bed.list("data").dataset_exists());
}

#[test]
fn s08_what_was_closed_survives_kill_9() {
    let journal = Journal::new();
    let old: Vec<(&str, Option<&str>)> = [
        "whole",
        "log",
        "edit",
        "gone",
        "from",
        "over",
        "date",
        "untouched",
    ]
    .iter()
    .map(|key| (*key, Some("0123456789")))
    .collect();
    journal.bed.change("data", &old);
    let (mut mounted, dataset) = journal.mount();
    run(&dataset, "cat *");
    journal.cut();
    rewrite(&dataset.join("whole"), "new").unwrap();
    rewrite(&dataset.join("made"), "here").unwrap();
    run(
        &dataset,
        "printf more >> log; rm gone; mv from to; mv -f made over",
    );
    run(
        &dataset,
        "printf XX | dd of=edit bs=1 seek=3 conv=notrunc status=none",
    );
    run(
        &dataset,
        "touch -d @1000000000 date; printf made > made; mv made moved",
    );
    fs::create_dir(dataset.with_file_name("fresh")).unwrap();
    rewrite(&dataset.with_file_name("fresh").join("k"), "v").unwrap();
    let open = Writer::begin(&dataset.join("open"), "never closed");
    let shown = [
        ("date", "0123456789"),
        ("edit", "012XX56789"),
        ("log", "0123456789more"),
        ("moved", "made"),
        ("over", "here"),
        ("to", "0123456789"),
        ("untouched", "0123456789"),
        ("whole", "new"),
    ];
    let check = |dataset: &Path, open: bool| {
        let mut expected: Vec<&str> = shown.iter().map(|(name, _)| *name).collect();
        if open {
            expected.insert(4, "open");
        }
        assert_eq!(names(dataset), expected);
        for (name, text) in shown {
            assert_eq!(
                fs::read_to_string(dataset.join(name)).unwrap(),
                text,
                "{name}"
            );
        }
    };
    check(&dataset, true);
    kill(&mut mounted);
    drop(open);
    assert_eq!(journal.remote("whole").as_deref(), Some("0123456789"));
    // The next mount shows it from the first look, and sends it when it can.
    let (_mounted, dataset) = journal.mount();
    check(&dataset, false);
    assert_eq!(names(&dataset.with_file_name("fresh")), ["k"]);
    assert_eq!(journal.remote("whole").as_deref(), Some("0123456789"));
    journal.bed.calm();
    journal.wait_for("it is sent", || {
        journal.remote("whole").as_deref() == Some("new")
    });
    File::open(&dataset).unwrap().sync_all().unwrap();
    for (name, text) in shown {
        assert_eq!(journal.remote(name).as_deref(), Some(text), "{name}");
    }
    for name in ["gone", "from", "made", "open"] {
        assert_eq!(journal.remote(name), None, "{name}");
    }
    // The kernel is told behind the sync that the file is another one.
    let date = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    journal.wait_for("it has its date", || {
        fs::metadata(dataset.join("date"))
            .unwrap()
            .modified()
            .unwrap()
            == date
    });
    assert_eq!(
        journal.bed.remote("fresh", "k").flatten().as_deref(),
        Some("v")
    );
    check(&dataset, false);
    assert_eq!(parked(&dataset), []);
}

#[test]
fn s08_what_was_applied_before_the_kill_is_not_made_twice() {
    let journal = Journal::new();
    journal
        .bed
        .change("data", &[("k", Some("v")), ("log", Some("a\n"))]);
    let (mut mounted, dataset) = journal.mount();
    run(&dataset, "cat *");
    // Applied, and the answer is never seen.
    let late = Trouble::Late(Duration::from_millis(1));
    journal.bed.trouble("UpdateRecords", late, 0, 100);
    run(&dataset, "echo b >> log; echo new > k; rm -f nothing");
    journal.wait_for("it is applied", || {
        journal.remote("k").as_deref() == Some("new\n")
    });
    kill(&mut mounted);
    journal.bed.calm();
    let count = journal.bed.list("data").dataset_sync_count();
    let (mounted, dataset) = journal.mount();
    File::open(&dataset).unwrap().sync_all().unwrap();
    assert_eq!(journal.remote("log").as_deref(), Some("a\nb\n"));
    assert_eq!(
        journal.bed.list("data").dataset_sync_count(),
        count,
        "{}",
        mounted.log()
    );
    assert_eq!(parked(&dataset), []);
}

#[test]
fn s08_what_changed_elsewhere_meanwhile_is_never_overwritten_by_an_earlier_process() {
    let journal = Journal::new();
    journal.bed.change(
        "data",
        &[("a", Some("1")), ("b", Some("2")), ("c", Some("3"))],
    );
    let (mut mounted, dataset) = journal.mount();
    run(&dataset, "cat *");
    journal.cut();
    run(&dataset, "echo ours > a; echo more >> b; rm c");
    kill(&mut mounted);
    journal.bed.calm();
    journal.bed.change(
        "data",
        &[("a", Some("A")), ("b", Some("B")), ("c", Some("C"))],
    );
    let (_mounted, dataset) = journal.mount();
    File::open(&dataset).unwrap().sync_all().unwrap();
    journal.wait_for("it is parked", || parked(&dataset).len() == 2);
    let kept = [("a@1.local", "ours\n"), ("b@1.local", "2more\n")];
    let kept = kept.map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_eq!(parked(&dataset), kept);
    for (key, text) in [("a", "A"), ("b", "B"), ("c", "C")] {
        assert_eq!(journal.remote(key).as_deref(), Some(text));
        assert_eq!(fs::read_to_string(dataset.join(key)).unwrap(), text);
    }
}

#[test]
fn s08_a_removal_waits_for_every_set_before_it() {
    let journal = Journal::new();
    journal.bed.change("data", &[("k", Some("precious"))]);
    journal.bed.change("there", &[("x", Some("x"))]);
    let (mounted, dataset) = journal.mount();
    let there = dataset.with_file_name("there");
    run(&dataset, "cat k ../there/x");
    // The set goes to a dataset that is full.
    journal.bed.trouble(
        "UpdateRecords",
        Trouble::Fault("LimitExceededException"),
        0,
        1,
    );
    run(&dataset, "mv k ../there/k");
    journal.wait_for("it is refused", || !parked(&there).is_empty());
    File::open(&dataset).unwrap().sync_all().unwrap();
    assert_eq!(
        parked(&there),
        [("k@0.local".to_owned(), "precious".to_owned())]
    );
    // The removal behind it is held back.
    assert_eq!(journal.remote("k").as_deref(), Some("precious"));
    assert_eq!(fs::read_to_string(dataset.join("k")).unwrap(), "precious");
    assert!(!there.join("k").exists());
    let errors = fs::read_to_string(mounted.path.join(".cognito/errors.log")).unwrap();
    assert!(
        errors.contains(" close ") && errors.contains("EDQUOT"),
        "{errors}"
    );
    assert!(errors.contains(" unlink "), "{errors}");
    // In order, both arrive.
    let (_, calls) = journal.bed.calls_of(|| {
        run(&dataset, "mv k ../there/k");
        File::open(&dataset).unwrap().sync_all().unwrap();
    });
    assert_eq!(
        journal.bed.remote("there", "k").flatten().as_deref(),
        Some("precious")
    );
    assert_eq!(journal.remote("k"), None);
    let updates = calls
        .iter()
        .filter(|call| **call == "UpdateRecords")
        .count();
    assert_eq!(updates, 2, "{calls:?}");
}

#[test]
fn s08_denied_credentials_keep_the_queue() {
    let journal = Journal::new();
    journal.bed.change("data", &[("k", Some("v"))]);
    let (_mounted, dataset) = journal.mount();
    let denied = Trouble::Fault("NotAuthorizedException");
    journal.bed.trouble("UpdateRecords", denied, 0, 2);
    rewrite(&dataset.join("k"), "new").unwrap();
    journal.wait_for("it is sent", || {
        journal.remote("k").as_deref() == Some("new")
    });
    assert_eq!(parked(&dataset), []);
}

#[test]
fn s08_an_editor_saves_in_one_update() {
    let journal = Journal::new();
    journal.bed.change("data", &[("k", Some("one two\n"))]);
    let (_mounted, dataset) = journal.mount();
    for (save, text) in [
        ("sed -i s/two/three/ k", "one three\n"),
        ("jq -n 5 > t && mv t k", "5\n"),
        ("vim -es -u DEFAULTS -c '%s/5/6/' -c wq k </dev/null", "6\n"),
    ] {
        let (_, calls) = journal.bed.calls_of(|| {
            run(&dataset, save);
            File::open(&dataset).unwrap().sync_all().unwrap();
        });
        let updates = calls
            .iter()
            .filter(|call| **call == "UpdateRecords")
            .count();
        assert!(updates <= 2, "{save}: {calls:?}");
        assert_eq!(journal.remote("k").as_deref(), Some(text), "{save}");
        assert_eq!(names(&dataset), ["k"], "{save}");
    }
}

#[test]
fn s08_renames_in_a_row_and_names_used_again() {
    let journal = Journal::new();
    journal
        .bed
        .change("data", &[("a", Some("A")), ("b", Some("B"))]);
    let (mut mounted, dataset) = journal.mount();
    run(&dataset, "cat *");
    journal.cut();
    run(
        &dataset,
        "mv a t && mv b a && mv t b && mv b c && echo new > b && rm a",
    );
    let expected = [("b", "new\n"), ("c", "A")];
    let check = |dataset: &Path| {
        assert_eq!(names(dataset), expected.map(|(name, _)| name));
        for (name, text) in expected {
            assert_eq!(fs::read_to_string(dataset.join(name)).unwrap(), text);
        }
    };
    check(&dataset);
    kill(&mut mounted);
    let (_mounted, dataset) = journal.mount();
    check(&dataset);
    journal.bed.calm();
    journal.wait_for("it is sent", || {
        journal.remote("b").as_deref() == Some("new\n")
    });
    File::open(&dataset).unwrap().sync_all().unwrap();
    assert_eq!(journal.remote("c").as_deref(), Some("A"));
    assert_eq!((journal.remote("a"), journal.remote("t")), (None, None));
    check(&dataset);
    assert_eq!(parked(&dataset), []);
}

#[test]
fn s08_umount_sends_first() {
    let journal = Journal::new();
    journal.bed.change("data", &[("k", Some("v"))]);
    let (mut mounted, dataset) = journal.mount();
    for n in 0..20 {
        rewrite(&dataset.join(format!("k{n}")), "x").unwrap();
    }
    mounted.signal(Signal::SIGTERM);
    assert_eq!(mounted.wait().code(), Some(0), "{}", mounted.log());
    assert_eq!(journal.remote("k19").as_deref(), Some("x"));
}

#[test]
fn s21_what_cannot_be_sent_is_left_to_the_next_mount_and_told() {
    let journal = Journal::new();
    journal.bed.change("data", &[("k", Some("v"))]);
    let (mut mounted, dataset) = journal.mount();
    journal.cut();
    rewrite(&dataset.join("k"), "new").unwrap();
    let open = Writer::begin(&dataset.join("open"), "dirty");
    mounted.signal(Signal::SIGTERM);
    assert_eq!(mounted.wait().code(), Some(1), "{}", mounted.log());
    let log = mounted.log();
    drop(open);
    journal.bed.calm();
    let (_mounted, dataset) = journal.mount();
    journal.wait_for("it is sent", || {
        journal.remote("k").as_deref() == Some("new")
    });
    // What was open and dirty is kept.
    let expected = [("open@0.local".to_owned(), "dirty\n".to_owned())];
    assert_eq!(parked(&dataset), expected, "{log}");
}

#[test]
fn s08_a_text_that_cannot_be_noted_does_not_take_an_earlier_one_with_it() {
    let journal = Journal::new();
    journal.bed.change("data", &[("k", Some("v"))]);
    let (_mounted, dataset) = journal.mount();
    journal.cut();
    rewrite(&dataset.join("k"), "good").unwrap();
    let mut file = OpenOptions::new()
        .append(true)
        .open(dataset.join("k"))
        .unwrap();
    file.write_all(b"\xff").unwrap();
    assert_eq!(errno(close(file)), libc::EILSEQ);
    journal.bed.calm();
    journal.wait_for("it is sent", || {
        journal.remote("k").as_deref() == Some("good")
    });
}

#[test]
fn s08_the_next_mount_waits_for_the_daemon_of_the_last() {
    let journal = Journal::new();
    journal.bed.change("data", &[("k", Some("v"))]);
    let (first, dataset) = journal.mount();
    fs::read(dataset.join("k")).unwrap();
    let slow = Trouble::Slow(Duration::from_millis(800));
    journal.bed.trouble("UpdateRecords", slow, 0, 1);
    rewrite(&dataset.join("k"), "new").unwrap();
    // A plain umount cannot wait: the daemon sends on without its mount.
    run(
        journal.bed.directory.path(),
        &format!("umount {}", first.path.display()),
    );
    assert_eq!(journal.remote("k").as_deref(), Some("v"));
    let (second, dataset) = journal.mount();
    assert_eq!(journal.remote("k").as_deref(), Some("new"));
    assert_eq!(fs::read_to_string(dataset.join("k")).unwrap(), "new");
    assert_ne!(first.id(), second.id());
}

#[test]
fn s08_two_mounts_never_share_a_journal() {
    let journal = Journal::new();
    let (_mounted, _) = journal.mount();
    let point = journal.bed.directory.path().join("second");
    fs::create_dir(&point).unwrap();
    let output = program(&journal.bed)
        .args(["mount", "-f", "-o"])
        .arg(format!("endpoint=http://{}", journal.bed.address))
        .arg("-o")
        .arg(format!("{},timeout=1s", journal.options))
        .arg("cognito://us-east-1")
        .arg(&point)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("in use by another mount of this source"),
        "{told}"
    );
    // Another source, or one to be read only, is no matter.
    let other = journal.bed.pool.to_string();
    let mounted = Mounted::new(&journal.bed, &other, &journal.options);
    drop(mounted);
    drop(journal.bed.mount(&format!("{},ro", journal.options)));
}

#[test]
fn s08_the_umount_command_sends_first_and_stays_if_it_cannot() {
    let journal = Journal::new();
    journal.bed.change("data", &[("k", Some("v"))]);
    let (mut mounted, dataset) = journal.mount();
    let umount = |mounted: &Mounted| {
        let mut command = program(&journal.bed);
        command
            .args(["umount", "--timeout", "7"])
            .arg(&mounted.path);
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    journal.cut();
    rewrite(&dataset.join("k"), "new").unwrap();
    let (code, told) = umount(&mounted);
    assert_eq!(code, Some(32), "{told}");
    assert!(told.contains("data/k"), "{told}");
    assert_eq!(fs::read_to_string(dataset.join("k")).unwrap(), "new");
    let stats = fs::read_to_string(mounted.path.join(".cognito/stats.json")).unwrap();
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    assert_eq!(
        (&stats["pending"], &stats["refused"]),
        (&1.into(), &1.into())
    );
    journal.bed.calm();
    let (code, told) = umount(&mounted);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(mounted.wait().code(), Some(0), "{}", mounted.log());
    assert_eq!(journal.remote("k").as_deref(), Some("new"));
}
