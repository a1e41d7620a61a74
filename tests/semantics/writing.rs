//! Writing: when it is sent, and what becomes of it (S7).

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use super::{close, rewrite, wait_for_text};
use crate::common::{Bed, Trouble, alone, run};

#[test]
fn s07_a_close_sends_the_whole_in_one_update() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("old"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    fs::metadata(dataset.join("k")).unwrap();
    let (_, calls) = bed.calls_of(|| run(&dataset, "echo new > k"));
    assert_eq!(calls, ["UpdateRecords"]);
    assert_eq!(bed.remote("data", "k"), Some(Some("new\n".to_owned())));
    let (_, calls) = bed.calls_of(|| run(&dataset, "rm k"));
    assert!(calls.len() <= 2, "{calls:?}");
    assert_eq!(bed.remote("data", "k"), Some(None));
}

#[test]
fn s07_creation_and_truncation_by_open_wait_for_the_write() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("old"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let file = File::create(dataset.join("k")).unwrap();
    let (_, calls) = bed.calls_of(|| {
        // As a shell's redirection flushes before it writes.
        drop(file.try_clone().unwrap());
    });
    assert!(!calls.contains(&"UpdateRecords"), "{calls:?}");
    assert_eq!(bed.remote("data", "k"), Some(Some("old".to_owned())));
    (&file).write_all(b"new").unwrap();
    close(file).unwrap();
    assert_eq!(bed.remote("data", "k"), Some(Some("new".to_owned())));
    // If no write comes it goes at the release, which close does not wait for.
    run(&dataset, ": > k; : > empty");
    let begun = Instant::now();
    while bed.remote("data", "k") != Some(Some(String::new()))
        || bed.remote("data", "empty") != Some(Some(String::new()))
    {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn s07_a_write_that_changes_nothing_sends_nothing() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("same\n"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    fs::read(dataset.join("k")).unwrap();
    let mtime = fs::metadata(dataset.join("k")).unwrap().mtime();
    let (_, calls) = bed.calls_of(|| run(&dataset, "echo same > k"));
    assert!(!calls.contains(&"UpdateRecords"), "{calls:?}");
    assert_eq!(fs::metadata(dataset.join("k")).unwrap().mtime(), mtime);
}

#[test]
fn s07_a_failed_flush_leaves_the_file_dirty_for_the_next() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("old"))]);
    let mounted = bed.mount("timeout=2s");
    let dataset = bed.dataset(&mounted, "data");
    let file = OpenOptions::new()
        .write(true)
        .open(dataset.join("k"))
        .unwrap();
    (&file).write_all(b"new").unwrap();
    bed.trouble("UpdateRecords", Trouble::Status(400), 0, 1);
    assert!(file.sync_all().is_err());
    assert_eq!(bed.remote("data", "k"), Some(Some("old".to_owned())));
    // It still shows what was written, and the next flush sends it.
    assert_eq!(fs::read_to_string(dataset.join("k")).unwrap(), "new");
    close(file).unwrap();
    assert_eq!(bed.remote("data", "k"), Some(Some("new".to_owned())));
}

#[test]
fn s07_what_is_unsent_at_the_last_release_gives_way_to_the_remote_value() {
    alone(
        "semantics::writing::s07_what_is_unsent_at_the_last_release_gives_way_to_the_remote_value",
        || {
            let bed = Bed::new();
            bed.change("data", &[("k", Some("old"))]);
            let mounted = bed.mount("");
            let dataset = bed.dataset(&mounted, "data");
            bed.trouble("UpdateRecords", Trouble::Status(400), 0, usize::MAX);
            assert!(rewrite(&dataset.join("k"), "new").is_err());
            bed.calm();
            wait_for_text(&dataset.join("k"), "old");
            assert_eq!(bed.remote("data", "k"), Some(Some("old".to_owned())));
        },
    );
}

#[test]
fn s07_what_was_dropped_is_not_shown_for_the_rest_of_ttl() {
    alone(
        "semantics::writing::s07_what_was_dropped_is_not_shown_for_the_rest_of_ttl",
        || {
            let bed = Bed::new();
            bed.change("data", &[("k", Some("old"))]);
            let mounted = bed.mount("ttl=60s");
            let path = bed.dataset(&mounted, "data").join("k");
            bed.trouble("UpdateRecords", Trouble::Status(400), 0, usize::MAX);
            assert!(rewrite(&path, "a longer text").is_err());
            let begun = Instant::now();
            while fs::metadata(&path).unwrap().len() != 3 {
                assert!(begun.elapsed() < Duration::from_secs(10));
                std::thread::sleep(Duration::from_millis(5));
            }
        },
    );
}

/// A name that leads to another version than the kernel was told is looked up again by `stat` too.
#[test]
fn s07_what_an_append_was_put_behind_shows_in_stat_at_once() {
    let bed = Bed::new();
    bed.change("data", &[("log", Some("a\n"))]);
    let mounted = bed.mount("ttl=60s");
    let path = bed.dataset(&mounted, "data").join("log");
    fs::read(&path).unwrap();
    bed.change("data", &[("log", Some("a\nb\n"))]);
    run(path.parent().unwrap(), "echo c >> log");
    assert_eq!(
        bed.remote("data", "log").flatten().as_deref(),
        Some("a\nb\nc\n")
    );
    let begun = Instant::now();
    while fs::metadata(&path).unwrap().len() != 6 {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn s07_closes_that_meet_go_together() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    fs::metadata(dataset.join("k")).unwrap();
    bed.trouble(
        "UpdateRecords",
        Trouble::Slow(Duration::from_millis(500)),
        0,
        1,
    );
    let (_, calls) = bed.calls_of(|| {
        std::thread::scope(|scope| {
            for n in 0..16 {
                let path = dataset.join(format!("file{n}"));
                scope.spawn(move || fs::write(path, format!("text {n}")).unwrap());
            }
        });
    });
    let updates = calls
        .iter()
        .filter(|call| **call == "UpdateRecords")
        .count();
    assert!(updates <= 4, "{calls:?}");
    for n in 0..16 {
        let key = format!("file{n}");
        assert_eq!(bed.remote("data", &key), Some(Some(format!("text {n}"))));
    }
}

#[test]
fn s07_a_mapping_dirtied_after_close_is_sent_at_release() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("hello"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let script = "import mmap,os\n\
        fd=os.open('k',os.O_RDWR)\n\
        m=mmap.mmap(fd,5)\n\
        os.close(fd)\n\
        m[0:1]=b'J'\n\
        m.close()";
    run(&dataset, &format!("python3 -c \"{script}\""));
    let begun = Instant::now();
    while bed.remote("data", "k") != Some(Some("Jello".to_owned())) {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
