//! Files are their owner's alone, no link is followed to one, and what is not ours is not touched.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::super::JournalError;
use super::parked::version;
use super::take::{listing, take_wanted};
use super::*;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

fn check_modes(directory: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        match path.is_dir() {
            true => {
                assert_eq!(mode(&path), 0o700, "{}", path.display());
                names.extend(check_modes(&path));
            }
            false => assert_eq!(mode(&path), 0o600, "{}", path.display()),
        }
    }
    names
}

fn use_all(directory: &Path) -> (MountJournal, super::super::ParkedFile) {
    let disk = Disk::directory(directory).unwrap();
    let journal = open(disk.clone(), "a");
    journal
        .note(&somewhere(), &[set(1, "a", "1")], &[])
        .unwrap();
    journal.mark_ending().unwrap();
    let parked = door(disk).parked(soon()).unwrap();
    let at = Timestamp::from_millis(5);
    parked
        .park(&somewhere(), &version("k", b"v", None), at)
        .unwrap();
    (journal, parked)
}

#[test]
fn h06_all_files_are_the_owners_alone() {
    let directory = tempfile::tempdir().unwrap();
    let used = use_all(directory.path());
    let mut names = check_modes(directory.path());
    names.sort();
    let expected = [
        "a.db",
        "a.db-shm",
        "a.db-wal",
        "a.ending",
        "a.lock",
        "a.reserve",
        "journals",
        "lock",
        "parked.db",
        "parked.db-shm",
        "parked.db-wal",
    ];
    assert_eq!(names, expected);
    // Those that are not are made so before anything is read or written.
    let journals = directory.path().join("journals");
    std::mem::forget(used.0);
    fs::remove_file(journals.join("a.lock")).unwrap();
    for file in listing(directory.path()).keys() {
        fs::set_permissions(file, Permissions::from_mode(0o666)).unwrap();
    }
    fs::set_permissions(&journals, Permissions::from_mode(0o755)).unwrap();
    let disk = Disk::directory(directory.path()).unwrap();
    let journal = open(disk.clone(), "b");
    let others = |_: &Whereabouts| false;
    take_wanted(&journal, &others, Instant::now()).unwrap();
    let parked = door(disk).parked(soon()).unwrap();
    // What nobody opened is the room that is set aside, and a mark without content.
    for name in ["a.reserve", "a.ending"] {
        fs::remove_file(journals.join(name)).unwrap();
    }
    check_modes(directory.path());
    drop(parked);
}

#[test]
fn h07_no_link_is_followed() {
    let elsewhere = tempfile::tempdir().unwrap();
    let theirs = elsewhere.path().join("theirs");
    fs::write(&theirs, "theirs").unwrap();
    fs::set_permissions(&theirs, Permissions::from_mode(0o644)).unwrap();
    let planted = [
        "lock",
        "journal.db",
        "parked.db",
        "journals/lock",
        "journals/a.lock",
        "journals/a.db",
        "journals/a.db-wal",
        "journals/a.reserve",
        "journals/a.ending",
    ];
    for name in planted {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("journals")).unwrap();
        symlink(&theirs, directory.path().join(name)).unwrap();
        let disk = Disk::directory(directory.path()).unwrap();
        let made = Timestamp::from_millis(1);
        // Whatever comes of it, what the link names stays as it is.
        for journal in ["a", "b"] {
            if let Ok(journal) = door(disk.clone()).open(journal, made, Instant::now()) {
                let _ = journal.note(&somewhere(), &[set(1, "a", "1")], &[]);
                let _ = journal.mark_ending();
                let _ = take_wanted(&journal, &|_| true, Instant::now());
            }
        }
        if let Ok(parked) = door(disk.clone()).parked(Instant::now()) {
            let at = Timestamp::from_millis(5);
            let _ = parked.park(&somewhere(), &version("k", b"v", None), at);
        }
        let _ = door(disk.clone()).unsent();
        assert_eq!(fs::read(&theirs).unwrap(), b"theirs", "{name}");
        assert_eq!(mode(&theirs), 0o644, "{name}");
    }
    // A directory that is a link is none of ours either.
    let directory = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), directory.path().join("journals")).unwrap();
    let disk = Disk::directory(directory.path()).unwrap();
    let opened = door(disk).open("a", Timestamp::from_millis(1), Instant::now());
    assert!(
        matches!(opened, Err(JournalError::File { .. })),
        "{opened:?}"
    );
    assert_eq!(listing(elsewhere.path()).len(), 1);
}

#[test]
fn what_is_not_ours_or_damaged_is_named_and_left_alone_and_the_rest_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::directory(directory.path()).unwrap();
    for name in ["good", "newer", "torn"] {
        let journal = open(disk.clone(), name);
        journal
            .note(&somewhere(), &[set(1, name, "1")], &[])
            .unwrap();
        if name == "newer" {
            let newer = "PRAGMA user_version = 4";
            journal.database.read(|tx| tx.execute_batch(newer)).unwrap();
        }
    }
    let journals = directory.path().join("journals");
    let other = rusqlite::Connection::open(journals.join("other.db")).unwrap();
    other.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(other);
    fs::write(journals.join("text.db"), "no database at all").unwrap();
    let torn = journals.join("torn.db");
    let mut bytes = fs::read(&torn).unwrap();
    for page in bytes.chunks_mut(4096).skip(1) {
        page.fill(0xaa);
    }
    fs::write(&torn, bytes).unwrap();
    let before = listing(&journals);

    let journal = open(disk.clone(), "b");
    let taken = take_wanted(&journal, &|_| true, Instant::now()).unwrap();
    assert_eq!(tell(&taken.loaded.groups), [(100, "good=1".into())]);
    let mut troubles: Vec<String> = taken.troubles.iter().map(ToString::to_string).collect();
    troubles.sort();
    assert_eq!(troubles.len(), 4, "{troubles:?}");
    for (trouble, name) in troubles
        .iter()
        .zip(["newer.db", "other.db", "text.db", "torn.db"])
    {
        assert!(
            trouble.contains(&format!("journals/{name}: is ")),
            "{trouble}"
        );
    }
    let after = listing(&journals);
    for (path, bytes) in before
        .iter()
        .filter(|(path, _)| path.extension() == Some("db".as_ref()))
    {
        if !path.ends_with("good.db") {
            assert_eq!(after.get(path), Some(bytes), "{}", path.display());
        }
    }
    let unsent = door(disk).unsent().unwrap();
    assert_eq!((unsent.changes, unsent.troubles.len()), (1, 4));

    let parked = directory.path().join("parked.db");
    fs::write(&parked, "no database at all").unwrap();
    let disk = Disk::directory(directory.path()).unwrap();
    let opened = door(disk).parked(soon()).unwrap_err();
    assert!(
        opened.to_string().contains("parked.db: is damaged"),
        "{opened}"
    );
    assert_eq!(fs::read(parked).unwrap(), b"no database at all");
}

#[test]
fn a_name_is_used_once_and_is_no_path() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::directory(directory.path()).unwrap();
    let made = Timestamp::from_millis(1);
    for name in ["", "../a", "a.b", "lock/", "a b"] {
        let opened = door(disk.clone()).open(name, made, Instant::now());
        assert!(opened.is_err(), "{name:?}");
    }
    let first = open(disk.clone(), "a");
    assert!(door(disk.clone()).open("a", made, Instant::now()).is_err());
    drop(first);
    assert!(door(disk).open("a", made, Instant::now()).is_err());
}

#[test]
fn damage_in_one_group_keeps_back_that_one_only() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::directory(directory.path()).unwrap();
    let journal = open(disk.clone(), "a");
    let long = "Z".repeat(40_000);
    for (ticket, text) in [(1, "1"), (2, &long), (3, "3")] {
        journal
            .note(&somewhere(), &[set(ticket, "k", text)], &[])
            .unwrap();
    }
    journal.close(soon()).unwrap();
    let path = directory.path().join("journals/a.db");
    let mut bytes = fs::read(&path).unwrap();
    for page in bytes
        .chunks_mut(4096)
        .filter(|page| page[4..].iter().all(|byte| *byte == b'Z'))
    {
        // It names the next page of the text.
        page[..4].fill(0xff);
    }
    fs::write(&path, bytes).unwrap();
    let journal = open(disk.clone(), "b");
    for times in 0..2 {
        let taken = take_wanted(&journal, &|_| true, Instant::now()).unwrap();
        assert!(taken.troubles[0].to_string().contains("a.db: is damaged"));
        assert_eq!(taken.loaded.groups.len(), [2, 0][times], "{taken:?}");
        assert_eq!(told(&journal), [(100, "k=1".into()), (102, "k=3".into())]);
        // It is told once, so that what has to wait for it does.
        let damaged = &taken.loaded.unreadable;
        assert_eq!(damaged.len(), [1, 0][times], "{taken:?}");
        for damaged in damaged {
            assert_eq!(damaged.whereabouts, Some(somewhere()));
            assert!(damaged.has_sets && damaged.place < taken.loaded.groups[1].place);
        }
    }
}
