//! The rules of the file system, one test or more for each, named after it, on real mounts.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use nix::sys::signal::Signal;

use crate::common::{Bed, Mounted, Trouble, is_mounted, run, shell};
use crate::local_service::now;

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<String> = entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Writes as `echo > file` does: the descriptor is duplicated, so that a flush comes before the
/// first write; the error of the flush behind it is returned, which the shell would ignore.
fn rewrite(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    drop(file.try_clone()?);
    file.write_all(text.as_bytes())?;
    close(file)
}

/// Waits until a file reads so: the kernel releases a file after close has returned.
fn wait_for_text(path: &Path, expected: &str) {
    let begun = Instant::now();
    while fs::read_to_string(path).unwrap() != expected {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Closes a file and reports what close(2) returned, which dropping it would not.
fn close(file: File) -> std::io::Result<()> {
    nix::unistd::close(file).map_err(std::io::Error::from)
}

// Names.

#[test]
fn s01_every_key_has_one_name_and_every_name_one_key() {
    let bed = Bed::new();
    let keys = [
        "plain",
        "a/b",
        ".",
        "..",
        ".cognito",
        "%2F",
        "%252F",
        "100%",
        "a%25",
        "nul\0in",
        "é e\u{301}",
        " space ",
        "-rf",
        "new\nline",
        "%2E",
    ];
    let changes: Vec<(&str, Option<&str>)> = keys.iter().map(|key| (*key, Some(*key))).collect();
    bed.change("data", &changes);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    assert_eq!(names(&dataset).len(), keys.len());
    for key in keys {
        let name = cognitofs::fs::encode_text(key);
        assert_eq!(
            fs::read_to_string(dataset.join(&name)).unwrap(),
            key,
            "{name}"
        );
    }
    // And the other way round.
    fs::write(dataset.join("x%2Fy"), "slash").unwrap();
    assert_eq!(bed.remote("data", "x/y"), Some(Some("slash".to_owned())));
    fs::write(dataset.join("x%252Fy"), "escaped").unwrap();
    assert_eq!(
        bed.remote("data", "x%2Fy"),
        Some(Some("escaped".to_owned()))
    );
    let bad = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    assert_eq!(errno(fs::write(dataset.join(bad), "x")), libc::EILSEQ);
    assert_eq!(errno(fs::read(dataset.join(bad))), libc::EILSEQ);
}

#[test]
fn s01_cognito_is_reserved() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let (_, calls) = bed.calls_of(|| {
        assert_eq!(errno(fs::metadata(dataset.join(".cognito"))), libc::ENOENT);
        assert_eq!(
            errno(fs::metadata(mounted.path.join(".cognito"))),
            libc::ENOENT
        );
    });
    assert!(!calls.contains(&"ListDatasets"), "{calls:?}");
    assert_eq!(errno(File::create(dataset.join(".cognito"))), libc::EPERM);
    assert_eq!(names(&dataset), ["k"]);
}

#[test]
fn s02_long_keys_can_be_read_written_and_removed() {
    let bed = Bed::new();
    let long = "é".repeat(600);
    bed.change("data", &[(&long, Some("old")), ("short", Some("s"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let listed = names(&dataset);
    let name = listed.iter().find(|name| name.contains("%~")).unwrap();
    assert!(name.len() <= 255);
    let path = dataset.join(name);
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    fs::write(&path, "new").unwrap();
    assert_eq!(bed.remote("data", &long), Some(Some("new".to_owned())));
    fs::remove_file(&path).unwrap();
    assert_eq!(bed.remote("data", &long), Some(None));
    // By name none can be made.
    assert_eq!(
        errno(File::create(dataset.join("some%~0123"))),
        libc::EINVAL
    );
    assert_eq!(
        errno(File::create(dataset.join("x".repeat(256)))),
        libc::ENAMETOOLONG
    );
    assert!(File::create(dataset.join("x".repeat(255))).is_ok());
}

#[test]
fn s02_ids_are_names_in_their_canonical_spelling_only() {
    let bed = Bed::new();
    let mounted = bed.mount("");
    let upper = bed.pool.as_str().to_uppercase();
    for name in [
        upper.as_str(),
        "eu-west-1:1f0c",
        "us-east-1:xyz",
        "name",
        "%2F",
    ] {
        assert_eq!(
            errno(fs::metadata(mounted.path.join(name))),
            libc::ENOENT,
            "{name}"
        );
    }
}

// Reading.

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

// Writing.

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
    let bed = Bed::new();
    bed.change("data", &[("k", Some("old"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    bed.trouble("UpdateRecords", Trouble::Status(400), 0, usize::MAX);
    assert!(rewrite(&dataset.join("k"), "new").is_err());
    bed.calm();
    wait_for_text(&dataset.join("k"), "old");
    assert_eq!(bed.remote("data", "k"), Some(Some("old".to_owned())));
}

#[test]
fn s07_what_was_dropped_is_not_shown_for_the_rest_of_ttl() {
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
    assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
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

#[test]
fn s10_a_rename_is_one_update() {
    let bed = Bed::new();
    bed.change("data", &[("a", Some("A")), ("b", Some("B"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    run(&dataset, "cat a b");
    let (_, calls) = bed.calls_of(|| run(&dataset, "mv a c"));
    assert_eq!(
        calls
            .iter()
            .filter(|call| **call == "UpdateRecords")
            .count(),
        1
    );
    assert_eq!(bed.remote("data", "a"), Some(None));
    assert_eq!(bed.remote("data", "c"), Some(Some("A".to_owned())));
    // Over an existing file.
    let (_, calls) = bed.calls_of(|| run(&dataset, "mv -f c b"));
    assert_eq!(
        calls
            .iter()
            .filter(|call| **call == "UpdateRecords")
            .count(),
        1
    );
    assert_eq!(bed.remote("data", "b"), Some(Some("A".to_owned())));
    assert_eq!(names(&dataset), ["b"]);
}

#[test]
fn s10_an_open_file_follows_its_rename() {
    let bed = Bed::new();
    bed.change("data", &[("a", Some("A"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let mut file = OpenOptions::new()
        .write(true)
        .open(dataset.join("a"))
        .unwrap();
    file.write_all(b"unsent").unwrap();
    fs::rename(dataset.join("a"), dataset.join("b")).unwrap();
    assert_eq!(bed.remote("data", "b"), Some(Some("unsent".to_owned())));
    file.write_all(b" and more").unwrap();
    close(file).unwrap();
    assert_eq!(
        bed.remote("data", "b"),
        Some(Some("unsent and more".to_owned()))
    );
    assert_eq!(bed.remote("data", "a"), Some(None));
}

#[test]
fn s10_noreplace_and_exchange() {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    let bed = Bed::new();
    bed.change("data", &[("a", Some("A")), ("b", Some("BB"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let (a, b) = (dataset.join("a"), dataset.join("b"));
    let rename = |flags| renameat2(AT_FDCWD, &a, AT_FDCWD, &b, flags);
    assert_eq!(
        rename(RenameFlags::RENAME_NOREPLACE),
        Err(nix::Error::EEXIST)
    );
    let (result, calls) = bed.calls_of(|| rename(RenameFlags::RENAME_EXCHANGE));
    result.unwrap();
    assert_eq!(
        calls
            .iter()
            .filter(|call| **call == "UpdateRecords")
            .count(),
        1
    );
    assert_eq!(fs::read_to_string(&a).unwrap(), "BB");
    assert_eq!(fs::read_to_string(&b).unwrap(), "A");
    assert_eq!(bed.remote("data", "a"), Some(Some("BB".to_owned())));
}

#[test]
fn s10_across_datasets_mv_copies() {
    let bed = Bed::new();
    bed.change("one", &[("k", Some("v"))]);
    bed.change("two", &[("x", Some("y"))]);
    let mounted = bed.mount("");
    let identity = bed.dataset(&mounted, "");
    let cross = fs::rename(identity.join("one/k"), identity.join("two/k"));
    assert_eq!(errno(cross), libc::EXDEV);
    assert_eq!(
        errno(fs::rename(identity.join("one"), identity.join("three"))),
        libc::EXDEV
    );
    run(&identity, "mv one/k two/k");
    assert_eq!(bed.remote("two", "k"), Some(Some("v".to_owned())));
    assert_eq!(bed.remote("one", "k"), Some(None));
}

#[test]
fn s11_mkdir_is_local_until_the_first_record() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("");
    let identity = bed.dataset(&mounted, "");
    assert_eq!(names(&identity), ["data"]);
    let (_, calls) = bed.calls_of(|| fs::create_dir(identity.join("new")).unwrap());
    assert!(!calls.contains(&"UpdateRecords"));
    assert_eq!(names(&identity), ["data", "new"]);
    assert!(!bed.list("new").dataset_exists());
    fs::write(identity.join("new/first"), "x").unwrap();
    assert!(bed.list("new").dataset_exists());
    assert_eq!(errno(fs::create_dir(identity.join("new"))), libc::EEXIST);
    assert_eq!(
        errno(fs::create_dir(identity.join("not a name"))),
        libc::EINVAL
    );
}

#[test]
fn s11_rmdir_looks_once_more() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("ttl=60s");
    let identity = bed.dataset(&mounted, "");
    assert_eq!(
        errno(fs::remove_dir(identity.join("data"))),
        libc::ENOTEMPTY
    );
    fs::remove_file(identity.join("data/k")).unwrap();
    bed.change("data", &[("theirs", Some("v"))]);
    assert_eq!(
        errno(fs::remove_dir(identity.join("data"))),
        libc::ENOTEMPTY
    );
    bed.change("data", &[("theirs", None)]);
    fs::remove_dir(identity.join("data")).unwrap();
    assert!(!bed.list("data").dataset_exists());
    assert_eq!(names(&identity), [""; 0]);
    // One that was never sent is only forgotten.
    fs::create_dir(identity.join("brief")).unwrap();
    let file = File::create(identity.join("brief/f")).unwrap();
    assert_eq!(
        errno(fs::remove_dir(identity.join("brief"))),
        libc::ENOTEMPTY
    );
    fs::remove_file(identity.join("brief/f")).unwrap();
    drop(file);
    let (_, calls) = bed.calls_of(|| fs::remove_dir(identity.join("brief")).unwrap());
    assert!(!calls.contains(&"DeleteDataset"), "{calls:?}");
}

#[test]
fn s11_pools_identities_and_nested_directories_are_not_made() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("");
    let pool = mounted.path.join(bed.pool.as_str());
    let other = "us-east-1:00000000-0000-4000-8000-0000000000ff";
    assert_eq!(errno(fs::create_dir(mounted.path.join("x"))), libc::EPERM);
    assert_eq!(errno(fs::create_dir(pool.join("x"))), libc::EPERM);
    assert_eq!(
        errno(fs::remove_dir(pool.join(bed.identity.as_str()))),
        libc::EPERM
    );
    assert_eq!(
        errno(fs::create_dir(bed.dataset(&mounted, "data/nested"))),
        libc::EPERM
    );
    assert!(mounted.log().contains("a dataset holds records"));
    assert_eq!(errno(File::create(pool.join("file"))), libc::EPERM);
    // A restore never goes to a mistyped identity.
    let (result, calls) = bed.calls_of(|| fs::create_dir(pool.join(other).join("data")));
    assert_eq!(errno(result), libc::ENOENT);
    assert!(calls.contains(&"DescribeIdentity"), "{calls:?}");
    assert_eq!(errno(fs::read_dir(pool.join(other))), libc::ENOENT);
}

#[test]
fn s11_an_identity_without_data_is_checked_once() {
    let bed = Bed::new();
    let mounted = bed.mount("ttl=0");
    let identity = bed.dataset(&mounted, "");
    let (_, calls) = bed.calls_of(|| {
        assert_eq!(names(&identity), [""; 0]);
        assert_eq!(names(&identity), [""; 0]);
        fs::create_dir(identity.join("new")).unwrap();
    });
    let checks = calls.iter().filter(|call| **call == "DescribeIdentity");
    assert_eq!(checks.count(), 1, "{calls:?}");
}

#[test]
fn s13_what_cannot_be_carried_is_refused_before_it_is_sent() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let (_, calls) = bed.calls_of(|| {
        let mut file = File::create(dataset.join("big")).unwrap();
        let most = vec![b'x'; 1_048_575];
        file.write_all(&most).unwrap();
        assert_eq!(errno(file.write(b"y")), libc::EFBIG);
        file.seek(SeekFrom::Start(1 << 40)).unwrap();
        assert_eq!(errno(file.write(b"y")), libc::EFBIG);
        assert_eq!(errno(file.set_len(1_048_576)), libc::EFBIG);
        fs::remove_file(dataset.join("big")).unwrap();
        let mut file = File::create(dataset.join("bytes")).unwrap();
        file.write_all(b"\xff\xfe").unwrap();
        assert_eq!(errno(close(file)), libc::EILSEQ);
    });
    assert!(!calls.contains(&"UpdateRecords"), "{calls:?}");
    assert_eq!(names(&dataset), ["k"]);
}

#[test]
fn s13_the_service_decides_quotas() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("");
    let identity = bed.dataset(&mounted, "");
    let big = "x".repeat(700_000);
    fs::write(identity.join("data/one"), &big).unwrap();
    assert_eq!(
        errno(rewrite(&identity.join("data/two"), &big)),
        libc::EDQUOT
    );
    assert_eq!(errno(rewrite(&identity.join("data/k"), &big)), libc::EDQUOT);
    assert_eq!(bed.remote("data", "k"), Some(Some("v".to_owned())));
    wait_for_text(&identity.join("data/k"), "v");
    for n in 1..20 {
        bed.change(&format!("more{n}"), &[("k", Some("v"))]);
    }
    fs::create_dir(identity.join("twentyfirst")).unwrap();
    assert_eq!(
        errno(rewrite(&identity.join("twentyfirst/k"), "v")),
        libc::EDQUOT
    );
}

// Attributes.

#[test]
fn s15_mtime_is_the_devices_date_and_does_not_jump() {
    let bed = Bed::new();
    bed.change("data", &[("theirs", Some("v"))]);
    let mounted = bed.mount("ttl=0");
    let dataset = bed.dataset(&mounted, "data");
    // Without a device date the service's own shows.
    let theirs = fs::metadata(dataset.join("theirs")).unwrap();
    let listed = bed.list("data");
    let record = &listed.records()[0];
    assert_eq!(theirs.mtime(), record.last_modified_date().unwrap().secs());
    fs::write(dataset.join("ours"), "v").unwrap();
    let before = fs::metadata(dataset.join("ours"))
        .unwrap()
        .modified()
        .unwrap();
    let listed = bed.list("data");
    let record = listed
        .records()
        .iter()
        .find(|record| record.key() == Some("ours"));
    let sent = record.unwrap().device_last_modified_date().unwrap();
    let shown = before.duration_since(UNIX_EPOCH).unwrap();
    // The SDK's floats are a little below.
    let sent = (sent.as_nanos() + 500_000) / 1_000_000;
    assert_eq!(shown.as_millis() as i128, sent);
    drop(mounted);
    let again = bed.mount("ttl=0");
    let path = bed.dataset(&again, "data").join("ours");
    assert_eq!(fs::metadata(path).unwrap().modified().unwrap(), before);
}

#[test]
fn s15_touch_and_cp_p_are_stored() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    run(&dataset, "touch -d '2020-02-02 02:02:02 UTC' k");
    assert_eq!(
        fs::metadata(dataset.join("k")).unwrap().mtime(),
        1_580_608_922
    );
    assert_eq!(bed.remote("data", "k"), Some(Some("v".to_owned())));
    let source = bed.directory.path().join("source");
    fs::write(&source, "copied").unwrap();
    run(
        &dataset,
        &format!("touch -d '2019-01-01 UTC' {}", source.display()),
    );
    let (_, calls) = bed.calls_of(|| run(&dataset, &format!("cp -p {} copy", source.display())));
    // The date rides in the same patch.
    assert_eq!(
        calls
            .iter()
            .filter(|call| **call == "UpdateRecords")
            .count(),
        1,
        "{calls:?}"
    );
    let (_, calls) = bed.calls_of(|| run(&dataset, "chmod 755 k; chown 1:1 k; chmod 700 ."));
    assert!(calls.is_empty(), "{calls:?}");
    drop(mounted);
    let again = bed.mount("");
    let dataset = bed.dataset(&again, "data");
    assert_eq!(
        fs::metadata(dataset.join("k")).unwrap().mtime(),
        1_580_608_922
    );
    assert_eq!(
        fs::metadata(dataset.join("copy")).unwrap().mtime(),
        1_546_300_800
    );
    assert_eq!(fs::read_to_string(dataset.join("copy")).unwrap(), "copied");
}

#[test]
fn s15_a_write_during_a_touch_keeps_the_value() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("one\n"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    fs::metadata(dataset.join("k")).unwrap();
    let slow = Trouble::Slow(Duration::from_millis(500));
    bed.trouble("UpdateRecords", slow, 0, 1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = File::open(&dataset).unwrap();
            let time = nix::sys::time::TimeSpec::new(1_500_000_000, 0);
            let flag = nix::sys::stat::UtimensatFlags::FollowSymlink;
            nix::sys::stat::utimensat(&file, "k", &time, &time, flag).unwrap();
        });
        std::thread::sleep(Duration::from_millis(200));
        run(&dataset, "echo two >> k");
    });
    assert_eq!(bed.remote("data", "k"), Some(Some("one\ntwo\n".to_owned())));
    assert_eq!(fs::read_to_string(dataset.join("k")).unwrap(), "one\ntwo\n");
}

#[test]
fn s15_df_shows_the_real_use() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("12345")), ("é", Some("x"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let shown = run(&dataset, "stat -f -c '%b %f %S %c %d' .");
    assert_eq!(shown, "1048576 1048567 1 1024 1022\n");
    assert_eq!(fs::metadata(dataset.join("k")).unwrap().len(), 5);
    assert!(shell(&mounted.path, "df .").status.success());
}

// Trouble.

#[test]
fn s17_an_operation_ends_within_timeout() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    bed.change("other", &[("k", Some("v"))]);
    let mut mounted = bed.mount("timeout=2s,ttl=60s");
    let dataset = bed.dataset(&mounted, "data");
    fs::read(dataset.join("k")).unwrap();
    let file = OpenOptions::new()
        .write(true)
        .open(dataset.join("k"))
        .unwrap();
    (&file).write_all(b"new").unwrap();
    bed.trouble("*", Trouble::Hang, 0, usize::MAX);
    let begun = Instant::now();
    let other = bed.dataset(&mounted, "other").join("k");
    assert_eq!(errno(fs::read(&other)), libc::ETIMEDOUT);
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert!(begun.elapsed() < Duration::from_secs(4));
    // What memory holds is served, what it does not hold fails at once.
    assert_eq!(names(&dataset), ["k"]);
    let begun = Instant::now();
    assert_eq!(errno(fs::read(&other)), libc::EHOSTUNREACH);
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(errno(file.sync_all()), libc::EHOSTUNREACH);
    // SIGTERM ends it all the same, and says that something is left.
    mounted.signal(Signal::SIGTERM);
    let ended = mounted.wait();
    assert_eq!(ended.code(), Some(1), "{}", mounted.log());
    assert!(!is_mounted(&mounted.path));
    drop(file);
}

#[test]
fn s17_it_recovers_by_itself() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("timeout=1s");
    let path = bed.dataset(&mounted, "data").join("k");
    bed.trouble("*", Trouble::Hang, 0, 2);
    assert_eq!(errno(fs::read(&path)), libc::ETIMEDOUT);
    let begun = Instant::now();
    while fs::read(&path).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(15));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn s17_a_write_that_is_not_answered_is_sent_once() {
    let bed = Bed::new();
    bed.change("data", &[("log", Some("one\n"))]);
    let mounted = bed.mount("timeout=1s");
    let dataset = bed.dataset(&mounted, "data");
    fs::read(dataset.join("log")).unwrap();
    let mut file = OpenOptions::new()
        .append(true)
        .open(dataset.join("log"))
        .unwrap();
    file.write_all(b"two\n").unwrap();
    // It is carried out, nobody hears of it, and the list behind it hangs.
    bed.trouble("UpdateRecords", Trouble::LoseAnswer, 0, 1);
    bed.trouble("ListRecords", Trouble::Hang, 0, 1);
    assert!(file.sync_all().is_err());
    bed.calm();
    let begun = Instant::now();
    while file.sync_all().is_err() {
        assert!(begun.elapsed() < Duration::from_secs(15));
        std::thread::sleep(Duration::from_millis(50));
    }
    close(file).unwrap();
    assert_eq!(
        bed.remote("data", "log"),
        Some(Some("one\ntwo\n".to_owned()))
    );
}

#[test]
fn s17_what_memory_holds_outlives_the_network() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("timeout=1s,ttl=1s");
    let dataset = bed.dataset(&mounted, "data");
    fs::read(dataset.join("k")).unwrap();
    names(&bed.dataset(&mounted, ""));
    std::thread::sleep(Duration::from_millis(1100));
    bed.trouble("*", Trouble::Hang, 0, usize::MAX);
    // The first to ask finds out, which takes it as long as the timeout.
    let begun = Instant::now();
    let _ = fs::read(dataset.join("k"));
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(fs::read_to_string(dataset.join("k")).unwrap(), "v");
    assert_eq!(names(&dataset), ["k"]);
    assert_eq!(names(&bed.dataset(&mounted, "")), ["data"]);
    // But nothing can be written.
    assert_eq!(
        errno(rewrite(&dataset.join("k"), "new")),
        libc::EHOSTUNREACH
    );
}

#[test]
fn s18_throttling_and_broken_connections_are_retried() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("ttl=0");
    let path = bed.dataset(&mounted, "data").join("k");
    for trouble in [
        Trouble::Status(429),
        Trouble::Status(503),
        Trouble::LoseCall,
    ] {
        bed.trouble("ListRecords", trouble, 0, 2);
        assert_eq!(fs::read_to_string(&path).unwrap(), "v", "{trouble:?}");
    }
    bed.trouble("UpdateRecords", Trouble::Status(429), 0, 1);
    rewrite(&path, "new").unwrap();
    assert_eq!(bed.remote("data", "k"), Some(Some("new".to_owned())));
}

#[test]
fn s20_one_bad_record_spoils_nothing() {
    let bed = Bed::new();
    bed.change("data", &[("good", Some("v"))]);
    put_surrogates(&bed);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let listed = names(&dataset);
    assert_eq!(listed.len(), 3, "{listed:?}");
    assert_eq!(fs::read_to_string(dataset.join("good")).unwrap(), "v");
    assert_eq!(errno(fs::read(dataset.join("bad"))), libc::EILSEQ);
    let odd = listed.iter().find(|name| name.contains("%~")).unwrap();
    assert_eq!(fs::read_to_string(dataset.join(odd)).unwrap(), "odd key");
    run(&dataset, "ls -l");
    // It can be moved as it is, replaced and removed.
    run(&dataset, "mv bad moved");
    assert_eq!(errno(fs::read(dataset.join("moved"))), libc::EILSEQ);
    fs::write(dataset.join("moved"), "mended").unwrap();
    assert_eq!(bed.remote("data", "moved"), Some(Some("mended".to_owned())));
    fs::remove_file(dataset.join(odd)).unwrap();
    assert_eq!(names(&dataset), ["good", "moved"]);
}

/// Stores a value and a key that are no Unicode, as JavaScript clients can.
fn put_surrogates(bed: &Bed) {
    use cognitofs::wire::operation::Call;
    let developer = bed.service.developer("us-east-1".parse().unwrap());
    let (pool, identity) = (bed.pool.as_str(), bed.identity.as_str());
    let path = format!("/identitypools/{pool}/identities/{identity}/datasets/data");
    let token = bed.list("data").sync_session_token().unwrap().to_owned();
    let body = format!(
        r#"{{"SyncSessionToken":"{token}","RecordPatches":[
        {{"Op":"replace","Key":"bad","Value":"half \ud83d of it","SyncCount":0}},
        {{"Op":"replace","Key":"odd\ud83d","Value":"odd key","SyncCount":0}}]}}"#
    );
    let call = Call::parse("POST", &path, "", body.as_bytes()).unwrap();
    bed.service.call(&call, &developer, now()).unwrap();
}

#[test]
fn s20_one_bad_dataset_spoils_nothing() {
    let bed = Bed::new();
    bed.change("good", &[("k", Some("v"))]);
    let developer = bed.service.developer("us-east-1".parse().unwrap());
    let (pool, identity) = (bed.pool.as_str(), bed.identity.as_str());
    let base = format!("/identitypools/{pool}/identities/{identity}/datasets/..");
    let parse = cognitofs::wire::operation::Call::parse;
    let list = parse("GET", &format!("{base}/records"), "", b"").unwrap();
    let listed = bed.service.call(&list, &developer, now()).unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
    let body = format!(
        r#"{{"SyncSessionToken":{},"RecordPatches":[{{"Op":"replace","Key":"k","Value":"v","SyncCount":0}}]}}"#,
        listed["SyncSessionToken"]
    );
    let update = parse("POST", &base, "", body.as_bytes()).unwrap();
    bed.service.call(&update, &developer, now()).unwrap();
    let mounted = bed.mount("");
    let identity = bed.dataset(&mounted, "");
    assert_eq!(names(&identity), ["%2E.", "good"]);
    assert_eq!(names(&identity.join("good")), ["k"]);
    assert_eq!(errno(fs::read_dir(identity.join("%2E."))), libc::EINVAL);
}

#[test]
fn s21_every_way_out_is_clean() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut mounted = bed.mount("");
        let dataset = bed.dataset(&mounted, "data");
        rewrite(&dataset.join("k"), signal.as_str()).unwrap();
        mounted.signal(signal);
        assert_eq!(mounted.wait().code(), Some(0), "{}", mounted.log());
        assert!(!is_mounted(&mounted.path));
        assert_eq!(
            bed.remote("data", "k"),
            Some(Some(signal.as_str().to_owned()))
        );
    }
    let mut mounted = bed.mount("");
    assert_eq!(mounted.unmount().code(), Some(0));
    let mut mounted = bed.mount("");
    run(
        Path::new("/"),
        &format!("fusermount3 -u {}", mounted.path.display()),
    );
    assert_eq!(mounted.wait().code(), Some(0));
}

#[test]
fn s21_what_a_release_sends_is_waited_for() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    for way in ["cognitofs umount", "umount", "SIGTERM"] {
        let mut mounted = bed.mount("");
        let dataset = bed.dataset(&mounted, "data");
        run(&dataset, "printf full > k");
        let slow = Trouble::Slow(Duration::from_millis(700));
        bed.trouble("UpdateRecords", slow, 0, 1);
        // Close does not wait for a truncation by open alone.
        run(&dataset, ": > k");
        match way {
            "SIGTERM" => mounted.signal(Signal::SIGTERM),
            "umount" => {
                run(
                    Path::new("/"),
                    &format!("umount '{}'", mounted.path.display()),
                );
            }
            _ => {
                let mut umount = crate::common::program(&bed);
                let status = umount.arg("umount").arg(&mounted.path).status().unwrap();
                assert!(status.success());
                assert_eq!(bed.remote("data", "k"), Some(Some(String::new())));
            }
        }
        assert_eq!(mounted.wait().code(), Some(0), "{way}: {}", mounted.log());
        assert_eq!(bed.remote("data", "k"), Some(Some(String::new())), "{way}");
        bed.calm();
    }
}

#[test]
fn s21_a_dead_mount_is_replaced() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mut dead = bed.mount("");
    dead.signal(Signal::SIGKILL);
    dead.wait();
    assert_eq!(errno(fs::metadata(&dead.path)), libc::ENOTCONN);
    let output = crate::common::program(&bed)
        .args(["mount", "-o", &format!("endpoint=http://{}", bed.address)])
        .arg("cognito://us-east-1")
        .arg(&dead.path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let path = dead
        .path
        .join(bed.pool.as_str())
        .join(bed.identity.as_str());
    assert_eq!(names(&path), ["data"]);
    run(Path::new("/"), &format!("umount {}", dead.path.display()));
}

#[test]
fn s22_modes_are_private_unless_asked_otherwise() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("secret value"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&dataset), 0o700);
    assert_eq!(mode(&dataset.join("k")), 0o600);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts
        .lines()
        .find(|line| line.contains(mounted.path.to_str().unwrap()));
    let line = line.unwrap();
    assert!(
        line.contains("default_permissions") && line.contains("nosuid,nodev"),
        "{line}"
    );
    assert!(line.contains("fuse.cognitofs"), "{line}");
    let open = bed.mount("umask=022,uid=12,gid=34,allow_other");
    let dataset = bed.dataset(&open, "data");
    let shown = fs::metadata(dataset.join("k")).unwrap();
    assert_eq!(
        (shown.uid(), shown.gid(), mode(&dataset.join("k"))),
        (12, 34, 0o644)
    );
    assert_eq!(mode(&dataset), 0o755);
}

#[test]
fn s22_nothing_of_a_value_or_a_credential_is_logged() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("secret value"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    fs::read(dataset.join("k")).unwrap();
    rewrite(&dataset.join("k"), "another secret").unwrap();
    bed.trouble("UpdateRecords", Trouble::Status(400), 0, 1);
    rewrite(&dataset.join("k"), "third secret").unwrap_err();
    let log = mounted.log();
    assert!(log.contains("flush"), "{log}");
    for secret in ["secret", &bed.service.developer_credentials().secret_key] {
        assert!(!log.contains(secret));
    }
}

#[test]
fn a_denied_listing_is_a_warning_and_named_paths_work() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let credentials = bed.user_credentials();
    let source = format!("cognito://us-east-1/{}", bed.pool);
    let mounted = Mounted::with_credentials(&bed, &source, "", &credentials);
    assert!(
        mounted.log().contains("paths that are named"),
        "{}",
        mounted.log()
    );
    let mut listed = fs::read_dir(&mounted.path).unwrap();
    assert_eq!(errno(listed.next().unwrap()), libc::EACCES);
    let mine = mounted.path.join(bed.identity.as_str());
    assert_eq!(fs::read_to_string(mine.join("data/k")).unwrap(), "v");
    rewrite(&mine.join("data/k"), "mine").unwrap();
    assert_eq!(names(&mine), ["data"]);
    let other = "us-east-1:00000000-0000-4000-8000-0000000000ff";
    assert_eq!(
        errno(fs::read(mounted.path.join(other).join("data/k"))),
        libc::EACCES
    );
}

#[test]
fn s22_plain_http_goes_nowhere_but_loopback() {
    let bed = Bed::new();
    let mount = |endpoint: &str| {
        crate::common::program(&bed)
            .args([
                "mount",
                "-o",
                &format!("endpoint={endpoint}"),
                "cognito://us-east-1",
            ])
            .arg(bed.directory.path())
            .output()
            .unwrap()
    };
    let refused = mount("http://192.0.2.1:80");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("https"));
}

// Numbers.

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

// Races and strange weather, each of which once lost or overwrote something.

#[test]
fn s09_a_write_through_an_older_version_meets_the_newer_one() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("0123456789"))]);
    let mounted = bed.mount("ttl=0");
    let path = bed.dataset(&mounted, "data").join("k");
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).open(&path).unwrap();
    file.read_to_string(&mut String::new()).unwrap();
    bed.change("data", &[("k", Some("abcdefghij"))]);
    fs::metadata(&path).unwrap();
    file.write_all_at(b"XX", 3).unwrap();
    assert_eq!(errno(file.sync_all()), libc::ESTALE);
    assert_eq!(errno(close(file)), libc::ESTALE);
    assert_eq!(bed.remote("data", "k"), Some(Some("abcdefghij".to_owned())));
}

#[test]
fn s09_a_logger_that_keeps_its_file_open_loses_nothing() {
    let bed = Bed::new();
    bed.change("data", &[("log", Some("one\n"))]);
    let mounted = bed.mount("ttl=60s");
    let path = bed.dataset(&mounted, "data").join("log");
    let reader = File::open(&path).unwrap();
    let mut logger = OpenOptions::new().append(true).open(&path).unwrap();
    bed.change("data", &[("log", Some("one\ntwo\n"))]);
    for line in ["three\n", "four\n"] {
        logger.write_all(line.as_bytes()).unwrap();
        logger.sync_all().unwrap();
    }
    // And one that opens it anew while others have the older version open.
    let mut again = OpenOptions::new().append(true).open(&path).unwrap();
    again.write_all(b"five\n").unwrap();
    close(again).unwrap();
    close(logger).unwrap();
    let all = "one\ntwo\nthree\nfour\nfive\n";
    assert_eq!(bed.remote("data", "log"), Some(Some(all.to_owned())));
    assert_eq!(fs::read_to_string(&path).unwrap(), all);
    drop(reader);
}

#[test]
fn s09_an_edit_behind_a_merged_append_does_not_overwrite_what_was_merged() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("mine\n"))]);
    let mounted = bed.mount("ttl=60s");
    let path = bed.dataset(&mounted, "data").join("k");
    fs::read(&path).unwrap();
    let mut options = OpenOptions::new();
    let mut appender = options.append(true).open(&path).unwrap();
    let editor = OpenOptions::new().write(true).open(&path).unwrap();
    bed.change("data", &[("k", Some("mine\ntheirs\n"))]);
    appender.write_all(b"more\n").unwrap();
    appender.sync_all().unwrap();
    editor.set_len(0).unwrap();
    (&editor).write_all(b"whole").unwrap();
    assert_eq!(errno(editor.sync_all()), libc::ESTALE);
    let merged = "mine\ntheirs\nmore\n".to_owned();
    assert_eq!(bed.remote("data", "k"), Some(Some(merged)));
}

#[test]
fn s09_two_mounts_append_and_no_line_is_lost() {
    let bed = Bed::new();
    bed.change("data", &[("log", Some(""))]);
    let mounts = [bed.mount("ttl=1s"), bed.mount("ttl=1s")];
    let append = |mount: usize, writer: usize| {
        let path = bed.dataset(&mounts[mount], "data").join("log");
        let mut kept = Vec::new();
        for line in 0..25 {
            let line = format!("{mount}-{writer}-{line}\n");
            let opened = OpenOptions::new().append(true).open(&path);
            let written = opened.and_then(|mut file| {
                file.write_all(line.as_bytes())?;
                close(file)
            });
            if written.is_ok() {
                kept.push(line);
            }
        }
        kept
    };
    let kept: Vec<String> = std::thread::scope(|scope| {
        let writers = [(0, 0), (0, 1), (1, 0)]
            .map(|(mount, writer)| scope.spawn(move || append(mount, writer)));
        writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect()
    });
    let remote = bed.remote("data", "log").unwrap().unwrap();
    assert!(kept.len() > 50, "{}", kept.len());
    for line in kept {
        assert_eq!(remote.matches(&line).count(), 1, "{line}");
    }
}

#[test]
fn s09_a_rename_does_not_replace_what_came_meanwhile() {
    for noreplace in [false, true] {
        let bed = Bed::new();
        bed.change("data", &[("a", Some("A")), ("z", Some("Z"))]);
        let mounted = bed.mount("ttl=60s");
        let dataset = bed.dataset(&mounted, "data");
        assert!(!dataset.join("b").exists());
        let file = OpenOptions::new()
            .write(true)
            .open(dataset.join("a"))
            .unwrap();
        (&file).write_all(b"B").unwrap();
        let slow = Trouble::Slow(Duration::from_millis(800));
        bed.trouble("UpdateRecords", slow, 0, 1);
        std::thread::scope(|scope| {
            let pushed = scope.spawn(|| file.sync_all());
            std::thread::sleep(Duration::from_millis(200));
            let renamed = scope.spawn(|| {
                use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
                let flags = match noreplace {
                    true => RenameFlags::RENAME_NOREPLACE,
                    false => RenameFlags::empty(),
                };
                let (from, to) = (dataset.join("a"), dataset.join("b"));
                renameat2(AT_FDCWD, &from, AT_FDCWD, &to, flags)
            });
            std::thread::sleep(Duration::from_millis(200));
            bed.change("data", &[("b", Some("UNSEEN"))]);
            pushed.join().unwrap().unwrap();
            let expected = match noreplace {
                true => nix::Error::EEXIST,
                false => nix::Error::EBUSY,
            };
            assert_eq!(renamed.join().unwrap(), Err(expected));
        });
        assert_eq!(bed.remote("data", "b"), Some(Some("UNSEEN".to_owned())));
    }
}

#[test]
fn s09_a_file_made_elsewhere_meanwhile_is_not_overwritten() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("ttl=60s");
    let path = bed.dataset(&mounted, "data").join("new");
    assert!(!path.exists());
    bed.change("data", &[("new", Some("theirs"))]);
    assert_eq!(errno(rewrite(&path, "ours")), libc::ESTALE);
    assert_eq!(bed.remote("data", "new"), Some(Some("theirs".to_owned())));
}

#[test]
fn s11_a_write_during_rmdir_is_refused_or_refuses_it() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("ttl=0");
    let dataset = bed.dataset(&mounted, "data");
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .open(dataset.join("k"))
        .unwrap();
    file.read_to_string(&mut String::new()).unwrap();
    bed.change("data", &[("k", None)]);
    let slow = Trouble::Slow(Duration::from_millis(800));
    bed.trouble("DeleteDataset", slow, 0, 1);
    std::thread::scope(|scope| {
        let removed = scope.spawn(|| fs::remove_dir(&dataset));
        std::thread::sleep(Duration::from_millis(300));
        file.set_len(0).unwrap();
        file.write_all_at(b"new text", 0).unwrap();
        assert_eq!(errno(file.sync_all()), libc::ESTALE);
        removed.join().unwrap().unwrap();
    });
    assert!(!bed.list("data").dataset_exists());
}

#[test]
fn s18_an_append_that_is_carried_out_late_is_made_once() {
    let bed = Bed::new();
    bed.change("data", &[("log", Some("a\n"))]);
    let mounted = bed.mount("ttl=60s");
    let dataset = bed.dataset(&mounted, "data");
    fs::read(dataset.join("log")).unwrap();
    let late = Trouble::Late(Duration::from_millis(500));
    bed.trouble("UpdateRecords", late, 0, 1);
    let slow = Trouble::Slow(Duration::from_millis(1000));
    bed.trouble("UpdateRecords", slow, 0, 1);
    let mut file = OpenOptions::new()
        .append(true)
        .open(dataset.join("log"))
        .unwrap();
    file.write_all(b"b\n").unwrap();
    close(file).unwrap();
    assert_eq!(bed.remote("data", "log"), Some(Some("a\nb\n".to_owned())));
}

#[test]
fn s18_the_same_date_alone_is_no_proof() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("a"))]);
    let mounts = [bed.mount("ttl=60s"), bed.mount("ttl=60s")];
    let path = |mount: usize| bed.dataset(&mounts[mount], "data").join("k");
    let write = |path: &Path, text: &str| -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
        file.write_all(text.as_bytes())?;
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000))?;
        close(file)
    };
    for mount in [0, 1] {
        fs::read(path(mount)).unwrap();
    }
    bed.trouble("UpdateRecords", Trouble::LoseCall, 0, 1);
    let slow = Trouble::Slow(Duration::from_millis(1000));
    bed.trouble("ListRecords", slow, 0, 1);
    std::thread::scope(|scope| {
        let ours = scope.spawn(|| write(&path(0), "OURS"));
        std::thread::sleep(Duration::from_millis(400));
        write(&path(1), "THEIRS").unwrap();
        assert_eq!(errno(ours.join().unwrap()), libc::ESTALE);
    });
    assert_eq!(bed.remote("data", "k"), Some(Some("THEIRS".to_owned())));
}

#[test]
fn an_open_during_a_release_finds_the_value() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("0123456789"))]);
    let mounted = bed.mount("ttl=60s");
    let path = bed.dataset(&mounted, "data").join("k");
    for turn in 0..400_u32 {
        fs::read(&path).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let letter = b'a' + (turn % 26) as u8;
        file.write_all_at(&[letter], 0).unwrap();
        close(file).unwrap();
        let expected = format!("{}123456789", char::from(letter));
        assert_eq!(bed.remote("data", "k"), Some(Some(expected)), "{turn}");
    }
}

#[test]
fn a_truncate_by_path_is_sent_whoever_reads_meanwhile() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("0123456789"))]);
    let mounted = bed.mount("ttl=60s");
    let path = bed.dataset(&mounted, "data").join("k");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    fs::read(&path).unwrap();
                }
            });
        }
        let truncated: Result<(), String> = (0..200).try_for_each(|turn: u16| {
            let size = usize::from(10 - turn % 2);
            let length = i64::try_from(size).unwrap();
            nix::unistd::truncate(&path, length).map_err(|error| error.to_string())?;
            match bed.remote("data", "k") {
                Some(Some(value)) if value.len() == size => Ok(()),
                other => Err(format!("turn {turn}: {other:?}")),
            }
        });
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(truncated, Ok(()));
    });
}

#[test]
fn a_mapping_of_an_append_handle_is_written_in_its_place() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("0123456789"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let script = "import mmap,os\n\
        fd=os.open('k',os.O_RDWR|os.O_APPEND)\n\
        m=mmap.mmap(fd,10)\n\
        m[0:2]=b'XY'\n\
        m.flush()\n\
        m.close()\n\
        os.close(fd)";
    run(&dataset, &format!("python3 -c \"{script}\""));
    assert_eq!(bed.remote("data", "k"), Some(Some("XY23456789".to_owned())));
}

#[test]
fn a_write_behind_a_touch_that_failed_keeps_the_value() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("0123456789"))]);
    let mounted = bed.mount("timeout=1s,ttl=60s");
    let dataset = bed.dataset(&mounted, "data");
    fs::metadata(dataset.join("k")).unwrap();
    bed.trouble("UpdateRecords", Trouble::Hang, 0, 1);
    let file = std::thread::scope(|scope| {
        let touched = scope.spawn(|| shell(&dataset, "python3 -c 'import os; os.utime(\"k\")'"));
        std::thread::sleep(Duration::from_millis(300));
        let file = OpenOptions::new()
            .write(true)
            .open(dataset.join("k"))
            .unwrap();
        assert!(!touched.join().unwrap().status.success());
        file
    });
    bed.calm();
    file.write_all_at(b"X", 0).unwrap();
    let begun = Instant::now();
    while file.sync_all().is_err() {
        assert!(begun.elapsed() < Duration::from_secs(15));
    }
    assert_eq!(bed.remote("data", "k"), Some(Some("X123456789".to_owned())));
}

#[test]
fn a_denied_listing_does_not_stop_named_paths_after_a_miss() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("ttl=0");
    bed.trouble("ListDatasets", Trouble::Status(403), 0, usize::MAX);
    let missing = fs::metadata(bed.dataset(&mounted, "missing"));
    assert_eq!(errno(missing), libc::ENOENT);
    let path = bed.dataset(&mounted, "data").join("k");
    assert_eq!(fs::read_to_string(path).unwrap(), "v");
    fs::create_dir(bed.dataset(&mounted, "fresh")).unwrap();
}

#[test]
fn s17_one_slow_dataset_holds_up_no_other() {
    let bed = Bed::new();
    bed.change("slow", &[("k", None)]);
    bed.change("other", &[("k", Some("v"))]);
    let mounted = bed.mount("timeout=1s");
    bed.trouble("DeleteDataset", Trouble::Hang, 0, 1);
    let other = bed.dataset(&mounted, "other").join("k");
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| fs::remove_dir(bed.dataset(&mounted, "slow")));
        let begun = Instant::now();
        let mut turn = 0;
        while begun.elapsed() < Duration::from_millis(1500) {
            turn += 1;
            rewrite(&other, &format!("text {turn}")).unwrap();
        }
        assert_eq!(errno(slow.join().unwrap()), libc::ETIMEDOUT);
    });
}

#[test]
fn s21_sigterm_waits_for_what_is_being_sent() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mut mounted = bed.mount("");
    let path = bed.dataset(&mounted, "data").join("k");
    fs::read(&path).unwrap();
    let slow = Trouble::Slow(Duration::from_millis(1200));
    bed.trouble("UpdateRecords", slow, 0, 1);
    let writer = std::thread::spawn(move || rewrite(&path, "closing"));
    std::thread::sleep(Duration::from_millis(300));
    mounted.signal(Signal::SIGTERM);
    assert_eq!(mounted.wait().code(), Some(0), "{}", mounted.log());
    writer.join().unwrap().unwrap();
    assert_eq!(bed.remote("data", "k"), Some(Some("closing".to_owned())));
}
