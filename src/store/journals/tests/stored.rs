//! Files as they were stored once are read as they were meant, by this version and all later ones.
//!
//! `journal-2.db` was made by the version before. `journal-1.db` is the same in the format that one
//! had first, without a column.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::{Loaded, Parked, Side};
use super::parked::version;
use super::take::{take, take_wanted};
use super::*;
use crate::sync::Mark;
use crate::sync::pending::{Appended, Digest, Hold, Made, Sent};
use crate::wire::text::Text;

fn fixture(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/fixtures/journals").join(name)
}

/// Lays a stored file where it belongs.
fn laid_out(name: &str, to: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("journals")).unwrap();
    fs::copy(fixture(name), directory.path().join(to)).unwrap();
    directory
}

fn sent(count: i64) -> Sent {
    Sent {
        mark: Mark::new(Some(b"sent"), Timestamp::from_millis(1_700_000_000_001)),
        count,
        appended: (count == 5).then_some(Appended { whole: 4, text: 1 }),
    }
}

/// What lies in the journal of this version: each kind, each hold, and bytes that are no text.
fn notes() -> Vec<Note> {
    let mut append = change(
        "append",
        Kind::Append {
            text: b"\xfe!"[..].into(),
            whole: b"what was\xfe!"[..].into(),
        },
    );
    append.change.base.pending = Some(Made {
        ticket: Ticket(1),
        digest: Some(Digest::of(b"what was")),
    });
    append.sent = vec![sent(4), sent(5)];
    let mut edit = change("edit", Kind::Edit(b"\0\xff"[..].into()));
    edit.change.key = RecordKey::new(Text::from_bytes(b"\xed\xa0\x80".to_vec())).unwrap();
    edit.change.base.pending = Some(Made {
        ticket: Ticket(u64::MAX),
        digest: None,
    });
    edit.change.base.shown = Shown::Absent;
    edit.change.unseen = Unseen::Refuse;
    edit.known = Left {
        existed: false,
        sync_count: None,
    };
    let note = |ticket, changes, hold: Option<Hold>| Note {
        ticket: Ticket(ticket),
        changes,
        hold: hold.map(|hold| (hold, Timestamp::from_millis(1_700_000_000_002))),
        first_set: None,
    };
    vec![
        note(
            1,
            vec![change("whole", Kind::Whole(b"whole"[..].into()))],
            None,
        ),
        note(2, vec![append, change("times", Kind::Times)], None),
        note(3, vec![edit], Some(Hold::Litter)),
        note(
            u64::MAX,
            vec![change("remove", Kind::Remove)],
            Some(Hold::Grace),
        ),
        Note {
            first_set: Some(Place(-5)),
            ..note(
                4,
                vec![change("passing", Kind::Whole([].into()))],
                Some(Hold::Passing),
            )
        },
    ]
}

/// Makes files of this version now, as those were made that are stored. `COGNITOFS_STORED` names a
/// directory that they are copied to: a change of the format needs a version, and files of its own.
fn made_now() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::directory(directory.path()).unwrap();
    let journal = open(disk.clone(), "stored");
    journal.note(&somewhere(), &notes(), &[]).unwrap();
    let parked = door(disk).parked(soon()).unwrap();
    let at = Timestamp::from_millis(5);
    for (text, expires) in [(&b"\xff\0"[..], None), (b"later", Some(10))] {
        let version = version("k", text, expires);
        parked.park(&somewhere(), &version, at).unwrap();
    }
    drop((journal, parked));
    if let Some(to) = std::env::var_os("COGNITOFS_STORED") {
        let to = Path::new(&to);
        let from = |name| directory.path().join(name);
        fs::copy(from("journals/stored.db"), to.join("mount.db")).unwrap();
        fs::copy(from("parked.db"), to.join("parked.db")).unwrap();
    }
    directory
}

#[test]
fn a_stored_journal_of_this_version_is_read_as_one_made_now() {
    check_journal(&laid_out("mount-3.db", "journals/stored.db"));
    check_journal(&made_now());
}

fn check_journal(directory: &tempfile::TempDir) {
    let disk = Disk::directory(directory.path()).unwrap();
    // Without the file that is never sent.
    assert_eq!(door(disk.clone()).unsent().unwrap().changes, 5);
    let journal = open(disk, "next");
    let Loaded { groups, unreadable } = take_wanted(&journal, &|_| true, Instant::now())
        .unwrap()
        .loaded;
    assert_eq!(unreadable, []);
    // Its places are one after another below the first of our own: -5 and 1 to 5 become -5 to 0.
    let mut expected = Vec::new();
    for (at, mut note) in (0..).zip(notes()) {
        note.ticket = Ticket(100 + at);
        note.first_set = note.first_set.map(|_| Place(-5));
        for noted in &mut note.changes {
            let base = &mut noted.change.base;
            if let Some(made) = &mut base.pending {
                made.ticket = match made.ticket {
                    Ticket(1) => Ticket(100),
                    _ => Ticket(103),
                };
            }
        }
        expected.push(read_of(&somewhere(), &note, Place(at as i64 - 4)));
    }
    assert_eq!(groups, expected);
}

fn kept(id: i64, number: u32, text: &[u8], expires: Option<i64>) -> (Parked, Vec<u8>) {
    let new = version("k", text, expires);
    let parked = Parked {
        id,
        key: new.key,
        side: new.side,
        sync_count: new.sync_count,
        number,
        size: text.len() as u64,
        modified: new.modified,
        reason: new.reason,
        at: Timestamp::from_millis(5),
        expires: new.expires,
    };
    (parked, text.to_vec())
}

fn kept_in(disk: Disk) -> Vec<(Parked, Vec<u8>)> {
    let file = door(disk).parked(soon()).unwrap();
    let list = file.list(&somewhere()).unwrap();
    assert_eq!(list.unreadable, []);
    let texts = list.versions.into_iter().map(|version| {
        let text = file.text(version.id).unwrap().unwrap();
        (version, text)
    });
    texts.collect()
}

#[test]
fn stored_versions_of_this_version_are_read_as_those_made_now() {
    for directory in [laid_out("parked-3.db", "parked.db"), made_now()] {
        let disk = Disk::directory(directory.path()).unwrap();
        let expected = [kept(1, 1, b"\xff\0", None), kept(2, 2, b"later", Some(10))];
        assert_eq!(kept_in(disk), expected);
    }
}

/// What lies in the journals of the version before, by what it did: `a` was made and then renamed
/// to `b`, which takes its place; `c` got a date, `d` was added to, `e` edited and `f` removed.
fn check_old(name: &str, known: impl Fn(i64) -> Option<i64>) {
    let directory = laid_out(name, "journal.db");
    let disk = Disk::directory(directory.path()).unwrap();
    assert_eq!(door(disk.clone()).unsent().unwrap().changes, 6);
    let journal = open(disk.clone(), "next");
    let groups = take(&journal).loaded.groups;
    let left = |name: &str, kind: Kind, base: i64| {
        let mut noted = change(name, kind);
        noted.change.unseen = Unseen::Refuse;
        noted.change.modified = Timestamp::from_millis(1_700_000_000_000);
        noted.known.sync_count = known(base);
        noted.change.base.shown = match base {
            0 => Shown::Absent,
            count => Shown::Version(count),
        };
        noted.change.left = Some(noted.known);
        noted
    };
    let mut append = left(
        "d",
        Kind::Append {
            text: b"\xfe!"[..].into(),
            whole: b"what was\xfe!"[..].into(),
        },
        7,
    );
    append.sent = vec![sent(7)];
    let expected = [
        vec![left("c", Kind::Times, 6)],
        vec![
            left("b", Kind::Whole(b"whole"[..].into()), 0),
            left("a", Kind::Remove, 4),
        ],
        vec![append],
        vec![left("e", Kind::Edit(b"\0\xff"[..].into()), 8)],
        vec![left("f", Kind::Remove, 9)],
    ];
    let read: Vec<_> = groups
        .iter()
        .map(|group| group.note.changes.clone())
        .collect();
    assert_eq!(read, expected);
    assert!(groups.iter().all(|group| group.whereabouts == somewhere()));
    assert!(groups[1].first_set < groups[0].place, "{groups:?}");
    let (mut first, second) = (kept(1, 1, b"\xff\0", None), kept(2, 1, b"later", Some(10)));
    first.0.side = Side::Remote;
    assert_eq!(kept_in(disk), [first, second]);
    assert!(!directory.path().join("journal.db").exists());
}

#[test]
fn a_stored_journal_of_the_version_before_is_taken_over() {
    check_old("journal-2.db", Some);
}

#[test]
fn a_stored_journal_of_the_first_version_is_taken_over() {
    check_old("journal-1.db", |_| None);
}
