//! Kept versions are shared by all mounts, kept once, and told truly.

use super::super::{MemoryDisk, NewParked, ParkedFile, Side};
use super::*;

pub(super) fn version(name: &str, text: &[u8], expires: Option<i64>) -> NewParked {
    NewParked {
        key: key(name),
        side: Side::Local,
        sync_count: 3,
        text: text.to_vec(),
        modified: Timestamp::from_millis(1),
        reason: "full".to_owned(),
        expires: expires.map(Timestamp::from_millis),
    }
}

/// Tells keys, numbers and texts.
pub(super) fn tell_parked(parked: &ParkedFile, of: &Whereabouts) -> Vec<(String, u32, Vec<u8>)> {
    let versions = parked.list(of).unwrap().versions;
    let told = versions.into_iter().map(|version| {
        let text = parked.text(version.id).unwrap().unwrap();
        (
            version.key.as_str().unwrap().to_owned(),
            version.number,
            text,
        )
    });
    told.collect()
}

fn check(one: &ParkedFile, other: &ParkedFile) {
    let of = somewhere();
    let at = Timestamp::from_millis(5);
    one.park(&of, &version("k", b"\xff\0", None), at).unwrap();
    let later = Timestamp::from_millis(6);
    other
        .park(&of, &version("k", b"\xff\0", None), later)
        .unwrap();
    one.park(&of, &version("k", b"other", None), at).unwrap();
    other
        .park(&of, &version("a", b"old", Some(10)), at)
        .unwrap();
    let expected = [
        ("a".to_owned(), 1, b"old".to_vec()),
        ("k".to_owned(), 1, b"\xff\0".to_vec()),
        ("k".to_owned(), 2, b"other".to_vec()),
    ];
    assert_eq!(tell_parked(one, &of), expected);
    let list = other.list(&of).unwrap().versions;
    // One that is kept already is kept from now on.
    assert_eq!(list[1].at, later);
    assert_eq!(
        (list[1].side, list[1].size, list[1].sync_count),
        (Side::Local, 2, 3)
    );
    let all = other.list_all().unwrap();
    assert!(all.versions.iter().map(|(_, version)| version).eq(&list));
    assert!(
        all.versions
            .iter()
            .all(|(whereabouts, _)| *whereabouts == of)
    );
    assert_eq!(one.count().unwrap(), 2);
    one.discard_expired(Timestamp::from_millis(9)).unwrap();
    assert_eq!(other.list(&of).unwrap().versions.len(), 3);
    one.discard_expired(Timestamp::from_millis(10)).unwrap();
    assert!(other.discard(list[1].id).unwrap());
    assert!(!one.discard(list[1].id).unwrap());
    assert_eq!(one.list(&of).unwrap().versions, list[2..]);
    assert_eq!(other.text(list[1].id).unwrap(), None);
}

#[test]
fn all_mounts_share_what_is_kept_and_it_is_kept_once() {
    let directory = tempfile::tempdir().unwrap();
    let door = || door(Disk::directory(directory.path()).unwrap());
    assert!(door().look_at_parked().unwrap().is_none());
    let (one, other) = (
        door().parked(soon()).unwrap(),
        door().parked(soon()).unwrap(),
    );
    check(&one, &other);
    let written = || {
        let mut files = super::take::listing(directory.path());
        // SQLite has its locks there.
        files.retain(|path, _| path.extension() != Some("db-shm".as_ref()));
        files
    };
    let before = written();
    let looked = door().look_at_parked().unwrap().unwrap();
    assert_eq!(looked.count().unwrap(), 1);
    assert_eq!(before, written());

    let memory = MemoryDisk::new();
    let parked = || super::door(memory.process().disk()).parked(soon()).unwrap();
    check(&parked(), &parked());
}

#[test]
fn p14_a_version_of_an_unknown_side_is_told_and_the_rest_is_listed() {
    let memory = MemoryDisk::new();
    let parked = door(memory.process().disk()).parked(soon()).unwrap();
    let at = Timestamp::from_millis(5);
    for name in ["a", "b", "c", "d"] {
        parked
            .park(&somewhere(), &version(name, b"v", None), at)
            .unwrap();
    }
    for spoil in [
        "UPDATE parked SET side = 'middle' WHERE key = x'62'",
        "UPDATE parked SET number = -1 WHERE key = x'63'",
        "UPDATE parked SET pool = 'nowhere' WHERE key = x'64'",
    ] {
        parked.database.read(|tx| tx.execute(spoil, [])).unwrap();
    }
    let list = parked.list_all().unwrap();
    assert_eq!(list.versions.len(), 1);
    let told: Vec<(i64, bool)> = list
        .unreadable
        .iter()
        .map(|version| (version.id, version.whereabouts.is_some()))
        .collect();
    assert_eq!(told, [(4, false), (2, true), (3, true)]);
    assert_eq!(list.unreadable[1].reason, "the side \"middle\" is unknown");
    let list = parked.list(&somewhere()).unwrap();
    assert_eq!((list.versions.len(), list.unreadable.len()), (1, 2));
    assert_eq!(parked.count().unwrap(), 4);
}
