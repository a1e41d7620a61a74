//! Changes that meet newer versions (S9).

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;

use super::{close, errno, rewrite, wait_for_text};
use crate::common::{Bed, Trouble, run};

#[test]
fn s09_a_stale_whole_write_overwrites_nothing() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("shown"))]);
    let mounted = bed.mount("ttl=60s");
    let path = bed.dataset(&mounted, "data").join("k");
    assert_eq!(fs::read_to_string(&path).unwrap(), "shown");
    bed.change("data", &[("k", Some("theirs"))]);
    assert_eq!(errno(rewrite(&path, "ours")), libc::ESTALE);
    assert_eq!(bed.remote("data", "k"), Some(Some("theirs".to_owned())));
    // Once it was read, it can be replaced.
    wait_for_text(&path, "theirs");
    rewrite(&path, "ours").unwrap();
    assert_eq!(bed.remote("data", "k"), Some(Some("ours".to_owned())));
}

#[test]
fn s09_neither_a_refresh_nor_a_stat_makes_a_stale_base_current() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("shown")), ("other", Some("x"))]);
    let mounted = bed.mount("ttl=0");
    let dataset = bed.dataset(&mounted, "data");
    let path = dataset.join("k");
    assert_eq!(fs::read_to_string(&path).unwrap(), "shown");
    bed.change("data", &[("k", Some("theirs"))]);
    run(&dataset, "ls -l");
    fs::metadata(&path).unwrap();
    assert_eq!(fs::read_to_string(dataset.join("other")).unwrap(), "x");
    assert_eq!(errno(rewrite(&path, "ours")), libc::ESTALE);
    assert_eq!(errno(fs::remove_file(&path)), libc::EBUSY);
    assert_eq!(errno(fs::rename(dataset.join("other"), &path)), libc::EBUSY);
    assert_eq!(errno(fs::rename(&path, dataset.join("new"))), libc::EBUSY);
    assert_eq!(bed.remote("data", "k"), Some(Some("theirs".to_owned())));
    assert_eq!(bed.remote("data", "other"), Some(Some("x".to_owned())));
}

#[test]
fn s09_an_append_is_applied_to_the_current_value() {
    let bed = Bed::new();
    bed.change("data", &[("log", Some("one\n"))]);
    let mounted = bed.mount("ttl=60s");
    let dataset = bed.dataset(&mounted, "data");
    assert_eq!(fs::read_to_string(dataset.join("log")).unwrap(), "one\n");
    bed.change("data", &[("log", Some("one\ntwo\n"))]);
    run(&dataset, "echo three >> log");
    assert_eq!(
        bed.remote("data", "log"),
        Some(Some("one\ntwo\nthree\n".to_owned()))
    );
    assert_eq!(
        fs::read_to_string(dataset.join("log")).unwrap(),
        "one\ntwo\nthree\n"
    );
}

#[test]
fn s09_an_edit_of_an_old_version_fails() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("0123456789"))]);
    let mounted = bed.mount("ttl=60s");
    let path = bed.dataset(&mounted, "data").join("k");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    file.read_to_string(&mut String::new()).unwrap();
    bed.change("data", &[("k", Some("abcdefghij"))]);
    file.write_all_at(b"XX", 3).unwrap();
    assert_eq!(errno(close(file)), libc::ESTALE);
    assert_eq!(bed.remote("data", "k"), Some(Some("abcdefghij".to_owned())));
}

#[test]
fn s09_a_deleted_dataset_is_not_made_again_by_a_pending_change() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("ttl=60s");
    let path = bed.dataset(&mounted, "data").join("k");
    fs::read(&path).unwrap();
    bed.delete("data");
    assert_eq!(errno(rewrite(&path, "new")), libc::ESTALE);
    assert!(!bed.list("data").dataset_exists());
}

#[test]
fn s09_a_lost_answer_is_recognised() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    for (command, expected) in [("echo new > k", "new\n"), ("echo more >> k", "new\nmore\n")] {
        bed.trouble("UpdateRecords", Trouble::LoseAnswer, 0, 1);
        let count = bed.list("data").dataset_sync_count();
        run(&dataset, command);
        assert_eq!(bed.remote("data", "k"), Some(Some(expected.to_owned())));
        assert_eq!(
            bed.list("data").dataset_sync_count(),
            count.map(|count| count + 1)
        );
    }
    bed.trouble("UpdateRecords", Trouble::LoseCall, 0, 1);
    run(&dataset, "echo last > k");
    assert_eq!(bed.remote("data", "k"), Some(Some("last\n".to_owned())));
}
