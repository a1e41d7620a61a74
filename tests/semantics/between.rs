//! What comes between a change and its answer, or between two changes of a file.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

use super::{close, errno, names, rewrite};
use crate::common::{Bed, Trouble, run, shell};

/// Makes the next update take this long.
fn slow(bed: &Bed) {
    bed.forget_calls();
    let slow = Trouble::Slow(Duration::from_millis(800));
    bed.trouble("UpdateRecords", slow, 0, 1);
}

#[test]
fn s07_an_old_value_written_back_while_a_new_one_is_sent_is_sent_too() {
    let bed = Bed::new();
    bed.change("data", &[("state", Some("off"))]);
    let mounted = bed.mount("ttl=60s");
    let path = bed.dataset(&mounted, "data").join("state");
    fs::read(&path).unwrap();
    slow(&bed);
    std::thread::scope(|scope| {
        let on = scope.spawn(|| rewrite(&path, "on"));
        bed.wait_for_call("UpdateRecords");
        fs::write(&path, "off").unwrap();
        on.join().unwrap().unwrap();
    });
    assert_eq!(bed.remote("data", "state"), Some(Some("off".to_owned())));
}

#[test]
fn s09_what_is_about_to_be_replaced_stays_kept() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("shown"))]);
    let mounted = bed.mount("ttl=60s");
    let path = bed.dataset(&mounted, "data").join("k");
    fs::read(&path).unwrap();
    bed.change("data", &[("k", Some("theirs"))]);
    bed.forget_calls();
    let slow = Trouble::Slow(Duration::from_millis(800));
    // The first one is refused, which tells of their version.
    bed.trouble("UpdateRecords", slow, 1, 1);
    let parked = path.with_file_name(".cognito/parked");
    std::thread::scope(|scope| {
        let saved = scope.spawn(|| rewrite(&path, "ours"));
        while bed.calls() != ["UpdateRecords", "ListRecords", "UpdateRecords"] {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(names(&parked), ["k@2.remote"]);
        saved.join().unwrap().unwrap();
    });
    assert_eq!(names(&parked), ["k@2.remote"]);
}

#[test]
fn s13_what_did_not_fit_leaves_the_record_as_it_was() {
    let bed = Bed::new();
    let big = bed.directory.path().join("k");
    fs::write(&big, "x".repeat(2_000_000)).unwrap();
    run(bed.directory.path(), "tar cf k.tar k");
    let writers = [
        "cp ../../../../k k",
        "dd bs=64k of=k < ../../../../k",
        "cat ../../../../k | tee k",
        "cat ../../../../k > k",
        "cat ../../../../k >> k",
        "cat ../../../../k > t && mv t k",
        "tar xf ../../../../k.tar --overwrite",
        "python3 -c \"with open('k','w') as f: f.write('x'*2000000)\"",
    ];
    for (number, writer) in writers.iter().enumerate() {
        let dataset = format!("data{number}");
        bed.change(&dataset, &[("k", Some("old"))]);
        let mounted = bed.mount("");
        let path = bed.dataset(&mounted, &dataset).join("k");
        let output = shell(path.parent().unwrap(), writer);
        assert!(!output.status.success(), "{writer}");
        // Everything was released.
        assert_eq!(errno(File::open(path.with_file_name("none"))), libc::ENOENT);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(
            bed.remote(&dataset, "k"),
            Some(Some("old".to_owned())),
            "{writer}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "old", "{writer}");
    }
}

#[test]
fn s18_a_line_that_another_wrote_too_is_not_taken_for_ours() {
    let bed = Bed::new();
    bed.change("data", &[("log", Some("begin\n"))]);
    let mounts = [(); 2].map(|()| bed.mount("ttl=60s"));
    let path = |mount: usize| bed.dataset(&mounts[mount], "data").join("log");
    for mount in [0, 1] {
        fs::read(path(mount)).unwrap();
    }
    let append = |mount: usize| {
        let mut file = OpenOptions::new().append(true).open(path(mount)).unwrap();
        file.write_all(b"tick\n").unwrap();
        close(file)
    };
    bed.forget_calls();
    bed.trouble("UpdateRecords", Trouble::LoseCall, 0, 1);
    let slow = Trouble::Slow(Duration::from_millis(1500));
    bed.trouble("ListRecords", slow, 0, 1);
    std::thread::scope(|scope| {
        let ours = scope.spawn(|| append(0));
        bed.wait_for_call("ListRecords");
        append(1).unwrap();
        ours.join().unwrap().unwrap();
    });
    let all = "begin\ntick\ntick\n".to_owned();
    assert_eq!(bed.remote("data", "log"), Some(Some(all)));
}

#[test]
fn s10_a_backup_takes_its_name_back_when_a_save_was_refused() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("old"))]);
    let mounted = bed.mount("ttl=60s");
    let path = bed.dataset(&mounted, "data").join("k");
    let backup = path.with_file_name("k~");
    for turn in 0..40 {
        fs::rename(&path, &backup).unwrap();
        let full = Trouble::Fault("LimitExceededException");
        bed.trouble("UpdateRecords", full, 0, 1);
        assert_eq!(errno(rewrite(&path, "new")), libc::EDQUOT);
        let back = fs::rename(&backup, &path);
        assert!(back.is_ok(), "{turn}: {back:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    }
}

#[test]
fn s09_a_version_that_was_moved_unseen_is_kept_when_it_is_removed() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("shown"))]);
    let mounted = bed.mount("ttl=60s");
    let path = bed.dataset(&mounted, "data").join("k");
    fs::read(&path).unwrap();
    bed.change("data", &[("k", Some("theirs"))]);
    // As vim saves: it tries the directory, puts the old file aside, and removes it in the end.
    rewrite(&path.with_file_name("4913"), "").unwrap();
    fs::remove_file(path.with_file_name("4913")).unwrap();
    let backup = path.with_file_name("k~");
    fs::rename(&path, &backup).unwrap();
    rewrite(&path, "ours").unwrap();
    assert_eq!(bed.remote("data", "k~"), Some(Some("theirs".to_owned())));
    fs::remove_file(&backup).unwrap();
    let parked = path.with_file_name(".cognito/parked");
    let kept: Vec<_> = names(&parked)
        .iter()
        .map(|name| fs::read_to_string(parked.join(name)).unwrap())
        .collect();
    assert_eq!(kept, ["theirs"]);
}

#[test]
fn s09_a_version_stays_kept_while_a_lost_save_may_still_be_carried_out() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("shown"))]);
    let mounted = bed.mount("ttl=0,timeout=2s");
    let path = bed.dataset(&mounted, "data").join("k");
    fs::read(&path).unwrap();
    bed.change("data", &[("k", Some("theirs"))]);
    // The lookup shows their version to nobody; the save is lost, and carried out in the end.
    bed.trouble("UpdateRecords", Trouble::Late(Duration::from_secs(4)), 0, 1);
    bed.trouble("UpdateRecords", Trouble::LoseCall, 0, usize::MAX);
    assert_eq!(errno(rewrite(&path, "ours")), libc::EIO);
    let parked = path.with_file_name(".cognito/parked");
    names(&parked);
    let begun = Instant::now();
    while bed.remote("data", "k") != Some(Some("ours".to_owned())) {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(names(&parked).contains(&"k@2.remote".to_owned()));
}
