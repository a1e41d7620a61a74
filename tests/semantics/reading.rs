//! Reading and listing (S3, S4, S5), and what it costs.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use super::{close, errno, names};
use crate::common::{Bed, Mounted, Trouble, run};
use crate::local_service::now;

#[test]
fn s03_within_ttl_memory_serves_and_after_it_one_call() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v")), ("other", Some("w"))]);
    let mounted = bed.mount("ttl=1s");
    let dataset = bed.dataset(&mounted, "data");
    let (_, calls) = bed.calls_of(|| fs::read_to_string(dataset.join("k")).unwrap());
    assert_eq!(calls, ["ListRecords"]);
    let (_, calls) = bed.calls_of(|| {
        for _ in 0..5 {
            assert_eq!(fs::read_to_string(dataset.join("other")).unwrap(), "w");
            assert_eq!(names(&dataset), ["k", "other"]);
        }
    });
    assert!(calls.is_empty(), "{calls:?}");
    bed.change("data", &[("k", Some("changed")), ("other", None)]);
    std::thread::sleep(Duration::from_millis(1100));
    let (_, calls) = bed.calls_of(|| {
        assert_eq!(fs::read_to_string(dataset.join("k")).unwrap(), "changed");
        assert_eq!(names(&dataset), ["k"]);
    });
    assert_eq!(calls, ["ListRecords"]);
}

#[test]
fn s03_a_tombstone_is_no_file_but_its_count_is_known() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    bed.change("data", &[("k", None)]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    assert_eq!(names(&dataset), [""; 0]);
    assert_eq!(errno(fs::read(dataset.join("k"))), libc::ENOENT);
    // The service would refuse count 0 for it.
    fs::write(dataset.join("k"), "again").unwrap();
    assert_eq!(bed.remote("data", "k"), Some(Some("again".to_owned())));
}

#[test]
fn s03_many_records_come_in_pages() {
    let bed = Bed::new();
    let big = "x".repeat(500);
    let keys: Vec<String> = (0..1500).map(|n| format!("key{n:04}")).collect();
    for chunk in keys.chunks(500) {
        // Over the service's default of 1,024 live records some are removed again.
        let set: Vec<(&str, Option<&str>)> = chunk
            .iter()
            .map(|key| (key.as_str(), Some(big.as_str())))
            .collect();
        bed.change("data", &set);
        let removed: Vec<(&str, Option<&str>)> = chunk
            .iter()
            .skip(200)
            .map(|key| (key.as_str(), None))
            .collect();
        bed.change("data", &removed);
    }
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let (listed, calls) = bed.calls_of(|| names(&dataset));
    assert_eq!(listed.len(), 600);
    assert_eq!(calls, ["ListRecords", "ListRecords"]);
}

#[test]
fn s03_a_deleted_and_remade_dataset_is_listed_anew() {
    let bed = Bed::new();
    bed.change("data", &[("old", Some("v"))]);
    let mounted = bed.mount("ttl=0");
    let dataset = bed.dataset(&mounted, "data");
    assert_eq!(names(&dataset), ["old"]);
    bed.delete("data");
    assert_eq!(errno(fs::read_dir(&dataset)), libc::ENOENT);
    bed.change("data", &[("new", Some("v"))]);
    assert_eq!(names(&dataset), ["new"]);
}

#[test]
fn s04_a_record_changed_elsewhere_is_a_new_inode() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("first version"))]);
    let mounted = bed.mount("ttl=0");
    let path = bed.dataset(&mounted, "data").join("k");
    let mut open = File::open(&path).unwrap();
    let before = open.metadata().unwrap();
    bed.change("data", &[("k", Some("second"))]);
    let after = fs::metadata(&path).unwrap();
    assert_ne!(before.ino(), after.ino());
    assert_eq!(after.len(), 6);
    assert!(after.mtime_nsec() != before.mtime_nsec() || after.mtime() > before.mtime());
    assert_eq!(fs::read_to_string(&path).unwrap(), "second");
    // Whoever has the old one open keeps it.
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, "first version");
    // What this mount writes is the same file.
    let ino = fs::metadata(&path).unwrap().ino();
    fs::write(&path, "third").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().ino(), ino);
}

#[test]
fn s05_a_listing_streams() {
    let bed = Bed::new();
    for n in 0..10_000 {
        let id = format!("us-east-1:00000000-0000-4000-9000-{n:012x}");
        bed.service
            .add_identity(&bed.pool, &id.parse().unwrap(), now())
            .unwrap();
    }
    let mounted = bed.mount("timeout=5s");
    // The second page never comes, and yet the first line does.
    bed.trouble("ListIdentities", Trouble::Hang, 1, usize::MAX);
    let mut ls = std::process::Command::new("stdbuf")
        .args(["-oL", "ls", "-U"])
        .arg(mounted.path.join(bed.pool.as_str()))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut first = [0; 46];
    ls.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert!(first.starts_with(b"us-east-1:0000"));
    assert_eq!(bed.calls().last(), Some(&"ListIdentities"));
    ls.wait().unwrap();
}

#[test]
fn s05_all_pages_of_identities_are_listed() {
    let bed = Bed::new();
    for n in 0..200 {
        let id = format!("us-east-1:00000000-0000-4000-9000-{n:012x}");
        bed.service
            .add_identity(&bed.pool, &id.parse().unwrap(), now())
            .unwrap();
    }
    let mounted = bed.mount("");
    let pool = mounted.path.join(bed.pool.as_str());
    let (listed, calls) = bed.calls_of(|| names(&pool));
    assert_eq!(listed.len(), 201);
    assert_eq!(calls, ["ListIdentities"; 4]);
    assert_eq!(run(&pool, "ls -l | wc -l"), "202\n");
}

#[test]
fn s05_a_named_path_lists_no_parent() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("");
    let path = bed.dataset(&mounted, "data").join("k");
    let (_, calls) = bed.calls_of(|| run(&mounted.path, &format!("cat '{}'", path.display())));
    assert_eq!(calls, ["ListRecords"]);
    let (_, calls) = bed.calls_of(|| run(&mounted.path, &format!("cat '{}'", path.display())));
    assert!(calls.is_empty());
}

#[test]
fn ls_l_of_a_thousand_records_is_one_call_and_few_requests() {
    let bed = Bed::new();
    let keys: Vec<String> = (0..1000).map(|n| format!("key{n:04}")).collect();
    let set: Vec<(&str, Option<&str>)> = keys
        .iter()
        .map(|key| (key.as_str(), Some("value")))
        .collect();
    bed.change("data", &set);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let before = mounted.requests(None);
    let command = format!("ls -l '{}' | wc -l", dataset.display());
    let (counted, calls) = bed.calls_of(|| run(Path::new("/"), &command));
    assert_eq!(counted, "1001\n");
    assert_eq!(calls, ["ListRecords"]);
    let requests = mounted.requests(None) - before;
    assert!(requests <= 20, "{requests} requests");
}

#[test]
fn an_unlinked_file_lives_on_for_those_who_have_it_open() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    let mut file = options.open(dataset.join("scratch")).unwrap();
    let (_, calls) = bed.calls_of(|| {
        fs::remove_file(dataset.join("scratch")).unwrap();
        file.write_all(b"still here").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "still here");
        close(file).unwrap();
    });
    assert!(!calls.contains(&"UpdateRecords"), "{calls:?}");
    assert_eq!(bed.remote("data", "scratch"), None);
}

#[test]
fn a_missing_dataset_costs_one_listing_and_then_nothing() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("");
    let identity = bed.dataset(&mounted, "");
    let (_, calls) = bed.calls_of(|| {
        for name in [".git", "HEAD", ".hg", "missing", "no such name"] {
            assert_eq!(errno(fs::metadata(identity.join(name))), libc::ENOENT);
        }
    });
    assert_eq!(calls, ["ListRecords", "ListDatasets"]);
}

#[test]
fn a_read_only_mount_writes_nothing() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted: Mounted = bed.mount("ro");
    let dataset = bed.dataset(&mounted, "data");
    assert_eq!(errno(File::create(dataset.join("new"))), libc::EROFS);
    assert_eq!(errno(fs::remove_file(dataset.join("k"))), libc::EROFS);
    assert_eq!(fs::read_to_string(dataset.join("k")).unwrap(), "v");
}
