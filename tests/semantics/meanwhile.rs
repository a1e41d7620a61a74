//! What happens to a file while a change of it is on its way to the service (S8).

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use super::journal::{Journal, Writer, kill, parked};
use super::{close, errno, names, rewrite};
use crate::common::{Trouble, run};

#[test]
fn s08_a_file_made_again_stays_while_the_removal_before_it_is_made() {
    let journal = Journal::new();
    journal.bed.change("data", &[("k", Some("old"))]);
    let (mut mounted, dataset) = journal.mount();
    run(&dataset, "cat k");
    let slow = Trouble::Slow(Duration::from_millis(500));
    journal.bed.trouble("UpdateRecords", slow, 0, 1);
    fs::remove_file(dataset.join("k")).unwrap();
    let again = Writer::begin(&dataset.join("k"), "new");
    journal.wait_for("it is removed", || journal.remote("k").is_none());
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(names(&dataset), ["k"]);
    assert_eq!(fs::read_to_string(dataset.join("k")).unwrap(), "new\n");
    // What is closed now is sent by the next mount, over the tombstone that is ours.
    journal.cut();
    drop(again);
    let (_mounted, dataset) = journal.mount_again(&mut mounted);
    assert_eq!(parked(&dataset), []);
    assert_eq!(journal.remote("k").as_deref(), Some("new\n"));
}

#[test]
fn s08_a_file_made_again_is_sent_though_nobody_saw_that_the_removal_was_made() {
    let journal = Journal::new();
    journal.bed.change("data", &[("k", Some("old"))]);
    let (mut mounted, dataset) = journal.mount();
    run(&dataset, "cat k");
    let trickle = Trouble::Trickle(Duration::from_millis(200));
    journal.bed.trouble("UpdateRecords", trickle, 0, 1);
    fs::remove_file(dataset.join("k")).unwrap();
    let again = Writer::begin(&dataset.join("k"), "new");
    journal.wait_for("it is removed", || journal.remote("k").is_none());
    drop(again);
    let (_mounted, dataset) = journal.mount_again(&mut mounted);
    assert_eq!(parked(&dataset), []);
    assert_eq!(journal.remote("k").as_deref(), Some("new\n"));
}

#[test]
fn s08_an_earlier_text_is_sent_after_a_later_one_was_refused() {
    let journal = Journal::new();
    journal.bed.change("data", &[("k", Some("v"))]);
    let (_mounted, dataset) = journal.mount();
    rewrite(&dataset.join("k"), "good").unwrap();
    let mut file = OpenOptions::new()
        .append(true)
        .open(dataset.join("k"))
        .unwrap();
    file.write_all(b"\xff").unwrap();
    assert_eq!(errno(close(file)), libc::EILSEQ);
    journal.wait_for("it is sent", || {
        journal.remote("k").as_deref() == Some("good")
    });
    journal.wait_for("it is shown", || {
        fs::read(dataset.join("k")).is_ok_and(|text| text == b"good")
    });
}

#[test]
fn s08_a_truncation_that_is_refused_does_not_take_an_earlier_text_with_it() {
    let journal = Journal::new();
    journal.bed.change("data", &[("k", Some("v"))]);
    let (mounted, dataset) = journal.mount();
    journal.cut();
    rewrite(&dataset.join("k"), "\u{e9}").unwrap();
    // Of a file that is open for writing, the writer's close would tell.
    journal.wait_for("it is released", || mounted.requests(Some("release")) > 0);
    let cut = nix::unistd::truncate(&dataset.join("k"), 1);
    assert_eq!(cut, Err(nix::errno::Errno::EILSEQ));
    assert_eq!(fs::read_to_string(dataset.join("k")).unwrap(), "\u{e9}");
    journal.bed.calm();
    journal.wait_for("it is sent", || {
        journal.remote("k").as_deref() == Some("\u{e9}")
    });
}

#[test]
fn s08_a_listing_under_way_does_not_show_again_what_was_removed() {
    let journal = Journal::new();
    let keys: Vec<String> = (0..900).map(|n| format!("k{n:03}")).collect();
    let changes: Vec<_> = keys.iter().map(|key| (key.as_str(), Some("v"))).collect();
    journal.bed.change("data", &changes);
    let (_mounted, dataset) = journal.mount();
    journal.cut();
    let mut listing = fs::read_dir(&dataset).unwrap();
    listing.next().unwrap().unwrap();
    fs::remove_file(dataset.join("k899")).unwrap();
    // Entries that are looked at come with what they are.
    for entry in listing {
        let path = entry.unwrap().path();
        let gone = path.ends_with("k899");
        assert_eq!(fs::metadata(path).is_err(), gone);
    }
    assert!(!dataset.join("k899").exists());
}

#[test]
fn s08_a_rename_of_a_version_that_was_not_looked_at_shows_at_once() {
    let journal = Journal::new();
    journal.bed.change("data", &[("k", Some("old"))]);
    let mounted = journal.bed.mount(&format!("{},ttl=60s", journal.options));
    let dataset = journal.bed.dataset(&mounted, "data");
    fs::metadata(dataset.join("k")).unwrap();
    journal.bed.change("data", &[("k", Some("newer"))]);
    rewrite(&dataset.join("other"), "x").unwrap();
    File::open(&dataset).unwrap().sync_all().unwrap();
    journal.cut();
    fs::rename(dataset.join("k"), dataset.join("m")).unwrap();
    assert_eq!(names(&dataset), ["m", "other"]);
    assert_eq!(fs::read_to_string(dataset.join("m")).unwrap(), "newer");
    journal.bed.calm();
    journal.wait_for("it is sent", || {
        journal.remote("m").as_deref() == Some("newer")
    });
    assert_eq!(fs::read_to_string(dataset.join("m")).unwrap(), "newer");
}

#[test]
fn s08_sync_of_a_dataset_does_not_wait_for_another() {
    let journal = Journal::new();
    journal.bed.change("data", &[("k", Some("v"))]);
    journal.bed.change("bad", &[("k", Some("v"))]);
    let (_mounted, dataset) = journal.mount();
    let bad = dataset.with_file_name("bad");
    run(&dataset, "cat k ../bad/k");
    journal.cut();
    rewrite(&bad.join("k"), "new").unwrap();
    std::thread::sleep(Duration::from_secs(1));
    journal.bed.calm();
    journal.bed.trouble(
        "UpdateRecords",
        Trouble::Fault("NotAuthorizedException"),
        0,
        10_000,
    );
    let begun = Instant::now();
    let refused = File::open(&bad).unwrap().sync_all();
    assert_eq!(errno(refused), libc::EACCES);
    assert!(begun.elapsed() < Duration::from_secs(7));
    let begun = Instant::now();
    File::open(&dataset).unwrap().sync_all().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(7));
    let mut text = String::new();
    File::open(bad.join("k"))
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "new");
}

#[test]
fn s08_what_async_left_is_taken_up_by_close_and_a_name_that_it_hides_can_be_used() {
    let journal = Journal::new();
    journal.bed.change(
        "data",
        &[("a", Some("A")), ("b", Some("B")), ("c", Some("C"))],
    );
    let (mut mounted, dataset) = journal.mount();
    run(&dataset, "cat *");
    journal.cut();
    run(&dataset, "rm b c; echo made > d");
    kill(&mut mounted);
    // Sets and removals left wait; what is done now goes through.
    let options = journal.options.replace("commit=async", "commit=close");
    journal.bed.calm();
    let slow = Trouble::Status(503);
    journal.bed.trouble("UpdateRecords", slow, 0, 3);
    let mut mounted = journal.bed.mount(&options);
    let dataset = journal.bed.dataset(&mounted, "data");
    assert_eq!(names(&dataset), ["a", "d"]);
    fs::rename(dataset.join("a"), dataset.join("b")).unwrap();
    rewrite(&dataset.join("c"), "again").unwrap();
    assert_eq!(names(&dataset), ["b", "c", "d"]);
    File::open(&dataset).unwrap().sync_all().unwrap();
    assert_eq!(names(&dataset), ["b", "c", "d"]);
    for (key, text) in [("b", "A"), ("c", "again"), ("d", "made\n")] {
        assert_eq!(
            journal.remote(key).as_deref(),
            Some(text),
            "{}",
            mounted.log()
        );
    }
    kill(&mut mounted);
    let mounted = journal.bed.mount(&options);
    assert_eq!(
        names(&journal.bed.dataset(&mounted, "data")),
        ["b", "c", "d"]
    );
    assert!(
        !mounted.log().contains("earlier mount"),
        "{}",
        mounted.log()
    );
}
