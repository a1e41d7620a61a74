//! The journal of the version before is taken over, with the versions it keeps.

use rusqlite::Connection;

use super::super::{JournalError, Side};
use super::parked::tell_parked;
use super::take::{listing, take, take_wanted};
use super::*;
use crate::sync::Mark;
use crate::sync::pending::Sent;

/// Says what the version before made of its tables.
const OLD_TABLES: &str = include_str!("old_version_2.sql");

fn ids() -> (String, String) {
    let (pool, identity, _) = somewhere();
    (pool.to_string(), identity.to_string())
}

/// Makes a journal of the version before, with rows `(id, place, tie, key, kind, appended_from,
/// text, base, existed, modified, sent, sync_count)`.
pub(super) fn make_old(directory: &std::path::Path, rows: &[&str]) {
    let old = Connection::open(directory.join("journal.db")).unwrap();
    old.execute_batch(OLD_TABLES).unwrap();
    let (pool, identity) = ids();
    for row in rows {
        old.execute_batch(&format!(
            "INSERT INTO changes (pool, identity, dataset, id, place, tie, key, kind, appended_from,
                text, base, existed, modified, sent, sync_count)
             VALUES ('{pool}', '{identity}', 'data', {row})"
        ))
        .unwrap();
    }
}

pub(super) fn keep_in_old(directory: &std::path::Path, key: &str, side: &str, text: &str) {
    let old = Connection::open(directory.join("journal.db")).unwrap();
    let (pool, identity) = ids();
    old.execute_batch(&format!(
        "INSERT INTO parked (pool, identity, dataset, key, side, sync_count, number, text, modified,
            reason, at)
         VALUES ('{pool}', '{identity}', 'data', x'{key}', '{side}', 3, 1, x'{text}', 1, 'full', 5)"
    ))
    .unwrap();
}

#[test]
fn its_changes_become_groups_and_its_versions_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let mark = Mark::new(Some(b"v"), Timestamp::from_millis(9));
    let sent: String = mark
        .to_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    make_old(
        directory.path(),
        &[
            // A rename of `a`, whose set keeps its place before the removal of `b`.
            "4, 1, 4, x'63', 'whole', NULL, x'3163', 4, 1, 7, x'', 4",
            "5, 5, 4, x'61', 'remove', NULL, x'', 4, 1, 7, x'', 4",
            "2, 2, NULL, x'62', 'remove', NULL, x'', 2, 1, 7, x'', NULL",
            &format!("3, 3, NULL, x'64', 'append', 1, x'787978', NULL, 0, 7, x'{sent}', 0"),
            "6, 6, NULL, x'65', 'edit', NULL, x'ff', 8, 1, 7, x'', 8",
            "7, 7, NULL, x'66', 'times', NULL, x'', 8, 1, 7, x'', 8",
        ],
    );
    keep_in_old(directory.path(), "6b", "local", "ff00");
    keep_in_old(directory.path(), "6b", "remote", "31");
    std::fs::write(directory.path().join("reserve"), "").unwrap();
    let disk = Disk::directory(directory.path()).unwrap();
    assert_eq!(door(disk.clone()).unsent().unwrap().changes, 6);
    let old = std::fs::read(directory.path().join("journal.db")).unwrap();
    let journal = open(disk.clone(), "a");
    let taken = take(&journal).loaded.groups;
    let texts: Vec<String> = tell(&taken).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["b=-", "d=xyx", "c=1c a=-", "e=\u{fffd}", "f=-"]);
    assert!(taken[2].first_set < taken[0].place);
    let append = &taken[1].note.changes[0];
    assert_eq!(
        append.change.kind,
        Kind::Append {
            text: b"yx"[..].into(),
            whole: b"xyx"[..].into()
        }
    );
    assert_eq!(append.change.base.shown, Shown::Absent);
    assert_eq!(
        append.sent,
        [Sent {
            mark,
            count: 0,
            appended: None
        }]
    );
    assert_eq!(
        append.known,
        Left {
            existed: false,
            sync_count: Some(0)
        }
    );
    let remove = &taken[0].note.changes[0];
    assert_eq!(remove.change.base.shown, Shown::Version(2));
    assert_eq!(
        remove.known,
        Left {
            existed: true,
            sync_count: None
        }
    );
    assert_eq!(remove.change.unseen, Unseen::Refuse);

    let parked = door(disk.clone()).parked(soon()).unwrap();
    let kept = parked.list(&somewhere()).unwrap().versions;
    assert_eq!(
        kept.iter().map(|kept| kept.side).collect::<Vec<_>>(),
        [Side::Local, Side::Remote]
    );
    assert_eq!(kept[0].at, Timestamp::from_millis(5));
    assert_eq!(tell_parked(&parked, &somewhere())[0].2, b"\xff\0");
    for gone in ["journal.db", "journal.db-wal", "reserve"] {
        assert!(!directory.path().join(gone).exists(), "{gone}");
    }
    // As long as the file is still there, nothing counts twice.
    std::fs::write(directory.path().join("journal.db"), old).unwrap();
    assert_eq!(door(disk).unsent().unwrap().changes, 6);
}

#[test]
fn what_makes_no_sense_in_it_is_unreadable_and_the_rest_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    make_old(
        directory.path(),
        &[
            "1, 1, NULL, x'61', 'swap', NULL, x'31', 4, 1, 7, x'', 4",
            "2, 2, NULL, x'62', 'append', 9, x'31', 4, 1, 7, x'', 4",
            "3, 3, NULL, x'63', 'whole', NULL, x'31', 4, 1, 7, x'00', 4",
            "4, 4, NULL, x'64', 'whole', NULL, x'31', 4, 1, 7, x'', 4",
        ],
    );
    keep_in_old(directory.path(), "6b", "middle", "31");
    let disk = Disk::directory(directory.path()).unwrap();
    let journal = open(disk.clone(), "a");
    let taken = take_wanted(&journal, &|_| true, Instant::now()).unwrap();
    assert!(taken.troubles.is_empty(), "{taken:?}");
    assert_eq!(tell(&taken.loaded.groups), [(103, "d=1".into())]);
    let reasons: Vec<&str> = taken
        .loaded
        .unreadable
        .iter()
        .map(|unreadable| &*unreadable.reason)
        .collect();
    assert_eq!(
        reasons,
        [
            "the kind \"swap\" is unknown",
            "the texts are not those of the kind \"append\"",
            "the fingerprints have 2 bytes"
        ]
    );
    let parked = door(disk).parked(soon()).unwrap();
    assert_eq!(parked.list_all().unwrap().unreadable.len(), 1);
}

#[test]
fn one_that_is_in_use_or_not_ours_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    make_old(
        directory.path(),
        &["4, 4, NULL, x'64', 'whole', NULL, x'31', 4, 1, 7, x'', 4"],
    );
    let disk = Disk::directory(directory.path()).unwrap();
    let journal = open(disk.clone(), "a");
    let lock = std::fs::File::create(directory.path().join("lock")).unwrap();
    lock.lock().unwrap();
    assert!(take(&journal).loaded.groups.is_empty());
    let others = |_: &Whereabouts| false;
    drop(lock);
    let taken = take_wanted(&journal, &others, Instant::now()).unwrap();
    assert!(taken.loaded.groups.is_empty() && taken.troubles.is_empty());
    assert_eq!(door(disk.clone()).unsent().unwrap().changes, 1);

    let old = Connection::open(directory.path().join("journal.db")).unwrap();
    old.execute_batch("PRAGMA user_version = 4").unwrap();
    drop(old);
    let before = listing(directory.path());
    let taken = take_wanted(&journal, &|_| true, Instant::now()).unwrap();
    assert!(taken.loaded.groups.is_empty());
    assert!(
        matches!(&taken.troubles[..], [JournalError::Foreign(path)] if path.ends_with("journal.db"))
    );
    assert_eq!(before, listing(directory.path()));
}
