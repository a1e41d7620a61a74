//! Changes that meet newer versions (S9).

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{close, errno, names, rewrite, wait_for_text};
use crate::common::{Bed, Trouble, run};

#[test]
fn s09_strict_a_stale_whole_write_overwrites_nothing() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("shown"))]);
    let mounted = bed.mount("ttl=60s,conflict=strict");
    let path = bed.dataset(&mounted, "data").join("k");
    assert_eq!(fs::read_to_string(&path).unwrap(), "shown");
    bed.change("data", &[("k", Some("theirs"))]);
    assert_eq!(errno(rewrite(&path, "ours")), libc::ESTALE);
    assert_eq!(bed.remote("data", "k"), Some(Some("theirs".to_owned())));
    wait_for_parked(&path, &[("k@1.local", "ours")]);
    // Once it was read, it can be replaced.
    wait_for_text(&path, "theirs");
    rewrite(&path, "ours").unwrap();
    assert_eq!(bed.remote("data", "k"), Some(Some("ours".to_owned())));
    // What the service has is kept no longer.
    wait_for_parked(&path, &[]);
}

/// What the dataset's directory of kept versions holds.
fn parked(record: &Path) -> Vec<(String, String)> {
    let directory = record.with_file_name(".cognito").join("parked");
    let text = |name: String| {
        let text = fs::read_to_string(directory.join(&name)).unwrap();
        (name, text)
    };
    names(&directory).into_iter().map(text).collect()
}

/// Waits until just these versions are kept: they are when the kernel has released the file, which
/// is after close has returned.
fn wait_for_parked(record: &Path, expected: &[(&str, &str)]) {
    let begun = Instant::now();
    let own = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    let expected: Vec<_> = expected.iter().map(own).collect();
    loop {
        let found = parked(record);
        if found == expected {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{found:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn s09_a_save_over_an_unseen_version_keeps_it() {
    let bed = Bed::new();
    let saves = [
        "echo ours > k",
        "printf 'ours\n' | tee k",
        "sed -i s/shown/ours/ k",
        "jq -n -r '\"ours\"' > t && mv t k",
        "printf 'ours\n' > ../../../../t && cp ../../../../t k",
        "printf 'ours\n' > ../../../../t && rsync ../../../../t k",
        "python3 -c 'open(\"k\", \"w\").write(\"ours\\n\")'",
    ];
    for (number, save) in saves.iter().enumerate() {
        let dataset = format!("data{number}");
        bed.change(&dataset, &[("k", Some("shown\n"))]);
        let mounted = bed.mount("ttl=60s");
        let path = bed.dataset(&mounted, &dataset).join("k");
        assert_eq!(fs::read_to_string(&path).unwrap(), "shown\n");
        bed.change(&dataset, &[("k", Some("theirs"))]);
        run(path.parent().unwrap(), save);
        let remote = bed.remote(&dataset, "k").flatten();
        assert_eq!(remote.as_deref(), Some("ours\n"), "{save}");
        wait_for_parked(&path, &[("k@2.remote", "theirs")]);
    }
}

#[test]
fn s09_a_removal_and_a_rename_keep_what_nobody_saw() {
    let bed = Bed::new();
    bed.change(
        "data",
        &[
            ("a", Some("1")),
            ("b", Some("2")),
            ("c", Some("3")),
            ("d", Some("4")),
        ],
    );
    let mounted = bed.mount("ttl=60s");
    let dataset = bed.dataset(&mounted, "data");
    run(&dataset, "cat *");
    bed.change(
        "data",
        &[("a", Some("A")), ("b", Some("B")), ("c", Some("C"))],
    );
    run(&dataset, "rm a");
    assert_eq!(bed.remote("data", "a"), Some(None));
    wait_for_parked(&dataset.join("a"), &[("a@2.remote", "A")]);
    run(&dataset, "mv d b");
    assert_eq!(bed.remote("data", "b"), Some(Some("4".to_owned())));
    run(&dataset, "mv c e");
    assert_eq!(bed.remote("data", "c"), Some(None));
    // What is there moves, as on a disk.
    assert_eq!(bed.remote("data", "e"), Some(Some("C".to_owned())));
    wait_for_parked(
        &dataset.join("a"),
        &[("a@2.remote", "A"), ("b@2.remote", "B")],
    );
    // One is let go by removing it.
    run(&dataset, "rm .cognito/parked/b@2.remote");
    wait_for_parked(&dataset.join("a"), &[("a@2.remote", "A")]);
    // Put back, it is what the service has.
    run(&dataset, "cp .cognito/parked/a@2.remote a");
    wait_for_parked(&dataset.join("a"), &[]);
    assert_eq!(bed.remote("data", "a"), Some(Some("A".to_owned())));
}

#[test]
fn s09_what_is_kept_survives_the_mount() {
    let bed = Bed::new();
    let state = bed.directory.path().join("kept").display().to_string();
    bed.change("data", &[("k", Some("shown"))]);
    let mounted = bed.mount(&format!("ttl=60s,state={state}"));
    let path = bed.dataset(&mounted, "data").join("k");
    fs::read(&path).unwrap();
    bed.change("data", &[("k", Some("theirs"))]);
    rewrite(&path, "ours").unwrap();
    drop(mounted);
    let mounted = bed.mount(&format!("state={state}"));
    let path = bed.dataset(&mounted, "data").join("k");
    wait_for_parked(&path, &[("k@2.remote", "theirs")]);
    let kept = path.with_file_name(".cognito/parked/k@2.remote");
    let metadata = fs::metadata(&kept).unwrap();
    assert_eq!((metadata.len(), metadata.mode() & 0o777), (6, 0o400));
    assert_eq!(
        errno(OpenOptions::new().write(true).open(&kept)),
        libc::EACCES
    );
}

#[test]
fn s09_undo_keeps_what_is_replaced_and_removed() {
    let bed = Bed::new();
    bed.change("data", &[("a", Some("old")), ("b", Some("gone"))]);
    let mounted = bed.mount("undo=7");
    let dataset = bed.dataset(&mounted, "data");
    run(
        &dataset,
        "cat a b; echo new > a; echo newer > a; rm b; echo more >> a",
    );
    let kept: Vec<_> = parked(&dataset.join("a"));
    let kept: Vec<_> = kept.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(kept, ["old", "new\n", "newer\n", "gone"]);
}

#[test]
fn s09_neither_a_refresh_nor_a_stat_makes_a_stale_base_current() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("shown")), ("other", Some("x"))]);
    let mounted = bed.mount("ttl=0,conflict=strict");
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
    wait_for_parked(&path, &[("k@1.local", "012XX56789")]);
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
    bed.change("data", &[("other", Some("x"))]);
    wait_for_parked(&path, &[("k@1.local", "new")]);
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
