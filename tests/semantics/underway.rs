//! What is done to a name while something of it is being sent, or waits to be (S8).

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::journal::{Journal, Writer, kill, parked};
use super::{close, rewrite};
use crate::common::{Trouble, run};

/// An `fsync` of a directory answers for what was closed in it, whoever writes to it since.
#[test]
fn s08_sync_sends_what_was_closed_though_it_is_being_rewritten() {
    let journal = Journal::new();
    journal
        .bed
        .change("data", &[("k", Some("v")), ("log", Some("one\n"))]);
    let (_mounted, dataset) = journal.mount();
    run(&dataset, "cat *");
    journal.cut();
    rewrite(&dataset.join("k"), "closed").unwrap();
    run(&dataset, "echo two >> log");
    let half = Writer::begin(&dataset.join("k"), "half");
    let mut log = OpenOptions::new()
        .append(true)
        .open(dataset.join("log"))
        .unwrap();
    log.write_all(b"three\n").unwrap();
    journal.bed.calm();
    File::open(&dataset).unwrap().sync_all().unwrap();
    assert_eq!(journal.remote("k").as_deref(), Some("closed"));
    assert_eq!(journal.remote("log").as_deref(), Some("one\ntwo\n"));
    assert_eq!(fs::read_to_string(dataset.join("k")).unwrap(), "half\n");
    // Others may go on with what was sent.
    journal
        .bed
        .change("data", &[("log", Some("one\ntwo\ntheirs\n"))]);
    drop(half);
    close(log).unwrap();
    File::open(&dataset).unwrap().sync_all().unwrap();
    assert_eq!(journal.remote("k").as_deref(), Some("half\n"));
    assert_eq!(
        journal.remote("log").as_deref(),
        Some("one\ntwo\ntheirs\nthree\n")
    );
    assert_eq!(parked(&dataset), []);
}

/// Under a name that is being sent, everything goes on: whether it is never answered, carried out
/// and not answered, or carried out late.
#[test]
fn s08_nothing_waits_for_a_push_that_hangs() {
    for trouble in [
        Trouble::Hang,
        Trouble::Trickle(Duration::from_secs(3)),
        Trouble::Slow(Duration::from_secs(2)),
    ] {
        let journal = Journal::new();
        let keys = ["gone", "again", "from", "over", "moved", "kept"];
        let old = keys.map(|key| (key, Some(key)));
        journal.bed.change("data", &old);
        let (mounted, dataset) = journal.mount();
        run(&dataset, "cat *");
        journal.bed.forget_calls();
        journal.bed.trouble("UpdateRecords", trouble, 0, 1);
        run(
            &dataset,
            "for k in *; do echo $k 1 > $k; done; echo 1 > new",
        );
        journal.bed.wait_for_call("UpdateRecords");
        let begun = Instant::now();
        run(
            &dataset,
            "rm gone new; rm again; echo 2 > again; mv from over; mv moved 2; mv 2 3; \
             echo more >> kept; touch -d @1000000000 kept",
        );
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(1), "{trouble:?}: {took:?}");
        let shown = "cat again over 3 kept; ls";
        let expected = "2\nfrom 1\nmoved 1\nkept 1\nmore\n3\nagain\nkept\nover\n";
        assert_eq!(run(&dataset, shown), expected);
        let begun = Instant::now();
        while let Err(error) = File::open(&dataset).unwrap().sync_all() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{error}");
        }
        assert_eq!(run(&dataset, shown), expected);
        let values = [
            ("gone", None),
            ("new", None),
            ("from", None),
            ("moved", None),
            ("2", None),
            ("again", Some("2\n")),
            ("over", Some("from 1\n")),
            ("3", Some("moved 1\n")),
            ("kept", Some("kept 1\nmore\n")),
        ];
        for (key, value) in values {
            assert_eq!(
                journal.remote(key).as_deref(),
                value,
                "{trouble:?} {key}\n{}",
                mounted.log()
            );
        }
        assert_eq!(parked(&dataset), [], "{trouble:?}");
    }
}

/// What the earlier process made, and somebody else saw and removed, stays removed.
#[test]
fn s08_what_was_made_and_removed_since_is_not_made_again() {
    let journal = Journal::new();
    journal
        .bed
        .change("data", &[("old", Some("v")), ("gone", Some("v"))]);
    journal.bed.change("data", &[("gone", None)]);
    let (mut mounted, dataset) = journal.mount();
    run(&dataset, "cat old");
    // Carried out, and the answer is never seen whole.
    let trickle = Trouble::Trickle(Duration::from_millis(200));
    journal.bed.trouble("UpdateRecords", trickle, 0, 100);
    run(&dataset, "echo new > new; echo again > gone");
    journal.wait_for("it is made", || {
        journal.remote("new").is_some() && journal.remote("gone").is_some()
    });
    kill(&mut mounted);
    journal.bed.calm();
    journal.bed.change("data", &[("new", None), ("gone", None)]);
    let (_mounted, dataset) = journal.mount();
    File::open(&dataset).unwrap().sync_all().unwrap();
    journal.wait_for("it is parked", || parked(&dataset).len() == 2);
    assert_eq!(journal.remote("new"), None);
    assert_eq!(journal.remote("gone"), None);
    let kept: Vec<String> = parked(&dataset).into_iter().map(|(_, text)| text).collect();
    assert_eq!(kept, ["again\n", "new\n"]);
}

/// A tombstone that was known is no removal since.
#[test]
fn s08_what_was_made_over_a_tombstone_is_sent_by_the_next_mount() {
    let journal = Journal::new();
    journal
        .bed
        .change("data", &[("old", Some("v")), ("gone", Some("v"))]);
    journal.bed.change("data", &[("gone", None)]);
    let (mut mounted, dataset) = journal.mount();
    journal.cut();
    run(&dataset, "echo again > gone; echo new > new");
    kill(&mut mounted);
    // Twice, the second time after it was changed in between.
    let (mut mounted, dataset) = journal.mount();
    run(&dataset, "echo more >> gone");
    let (_mounted, dataset) = journal.mount_again(&mut mounted);
    assert_eq!(journal.remote("gone").as_deref(), Some("again\nmore\n"));
    assert_eq!(journal.remote("new").as_deref(), Some("new\n"));
    assert_eq!(parked(&dataset), []);
}

/// An exchange of names is sent at once, with what was closed before.
#[test]
fn s10_an_exchange_leaves_nothing_in_the_journal() {
    let journal = Journal::new();
    journal
        .bed
        .change("data", &[("a", Some("A")), ("b", Some("B"))]);
    let (mut mounted, dataset) = journal.mount();
    run(&dataset, "cat a b");
    let slow = Trouble::Slow(Duration::from_millis(600));
    journal.bed.trouble("UpdateRecords", slow, 0, 2);
    rewrite(&dataset.join("a"), "queued").unwrap();
    rewrite(&dataset.join("b"), "too").unwrap();
    let (a, b) = (dataset.join("a"), dataset.join("b"));
    renameat2(AT_FDCWD, &a, AT_FDCWD, &b, RenameFlags::RENAME_EXCHANGE).unwrap();
    assert_eq!(journal.remote("a").as_deref(), Some("too"));
    assert_eq!(journal.remote("b").as_deref(), Some("queued"));
    File::open(&dataset).unwrap().sync_all().unwrap();
    kill(&mut mounted);
    let (mounted, dataset) = journal.mount();
    assert!(
        !mounted.log().contains("earlier mount"),
        "{}",
        mounted.log()
    );
    assert_eq!(run(&dataset, "cat a b"), "tooqueued");
    assert_eq!(parked(&dataset), []);
}

/// The backup of a version that nobody here has seen may go, the version not.
#[test]
fn s09_a_version_that_was_moved_unseen_is_kept_when_its_new_name_goes() {
    let journal = Journal::new();
    journal.bed.change("data", &[("k", Some("shown"))]);
    let options = format!("{},ttl=60s", journal.options);
    let mounted = journal.bed.mount(&options);
    let dataset = journal.bed.dataset(&mounted, "data");
    run(&dataset, "cat k");
    journal.bed.change("data", &[("k", Some("unseen"))]);
    // An update of something else lists it.
    rewrite(&dataset.join("other"), "x").unwrap();
    File::open(&dataset).unwrap().sync_all().unwrap();
    journal.cut();
    run(&dataset, "mv k k~; echo saved > k; rm k~");
    journal.bed.calm();
    File::open(&dataset).unwrap().sync_all().unwrap();
    assert_eq!(journal.remote("k").as_deref(), Some("saved\n"));
    assert_eq!(journal.remote("k~"), None);
    let kept = ("k@2.remote".to_owned(), "unseen".to_owned());
    assert_eq!(parked(&dataset), [kept]);
}

/// What was tried in vain before does not hold up the next writer either.
#[test]
fn s08_nothing_waits_for_a_push_that_is_tried_again_and_hangs() {
    let journal = Journal::new();
    journal.bed.change("data", &[("k", Some("v"))]);
    let options = journal.options.replace("timeout=5s", "timeout=2s");
    let mounted = journal.bed.mount(&options);
    let dataset = journal.bed.dataset(&mounted, "data");
    run(&dataset, "cat k");
    journal.bed.forget_calls();
    journal
        .bed
        .trouble("UpdateRecords", Trouble::Status(503), 0, 1);
    journal.bed.trouble("UpdateRecords", Trouble::Hang, 0, 1);
    rewrite(&dataset.join("k"), "1").unwrap();
    let updates = || {
        let calls = journal.bed.calls();
        calls
            .iter()
            .filter(|call| **call == "UpdateRecords")
            .count()
    };
    journal.wait_for("it is tried again", || updates() == 2);
    let begun = Instant::now();
    run(&dataset, "echo 2 > k; mv k m; echo 3 > k; cat k m");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    journal.wait_for("it is sent", || {
        File::open(&dataset).unwrap().sync_all().is_ok()
    });
    assert_eq!(journal.remote("k").as_deref(), Some("3\n"));
    assert_eq!(journal.remote("m").as_deref(), Some("2\n"));
    assert_eq!(parked(&dataset), []);
}
