//! The journals that are to take the journal's place, on a disk that is really full (S8).

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use cognitofs::store::journals::{
    Disk, JournalError, Journals, Loaded, MountJournal, Terms, Whereabouts,
};
use cognitofs::sync::pending::{Base, Change, Kind, Note, NotedChange, Settled, Ticket};
use cognitofs::sync::{Left, Shown, Unseen};
use cognitofs::wire::names::RecordKey;
use cognitofs::wire::timestamp::Timestamp;

use super::full_disk::Disk as SmallDisk;

/// Long enough that room is looked for again.
const AGAIN: Duration = Duration::from_millis(1_100);

fn somewhere() -> Whereabouts {
    let id = |last: u32| format!("us-east-1:00000000-0000-4000-8000-{last:012}");
    let parsed = (id(1).parse(), id(2).parse(), "data".parse());
    (parsed.0.unwrap(), parsed.1.unwrap(), parsed.2.unwrap())
}

fn group(ticket: u64) -> Note {
    let known = Left {
        existed: true,
        sync_count: Some(4),
    };
    let change = Change {
        key: RecordKey::new(format!("k{ticket}").as_str()).unwrap(),
        base: Base {
            life: 0,
            shown: Shown::Version(4),
            pending: None,
        },
        kind: Kind::Whole(text(ticket).into()),
        unseen: Unseen::Keep,
        own: Vec::new(),
        left: Some(known),
        modified: Timestamp::from_millis(7),
    };
    let sent = Vec::new();
    Note {
        ticket: Ticket(ticket),
        changes: vec![NotedChange {
            change,
            known,
            sent,
        }],
        hold: None,
        first_set: None,
    }
}

/// What a group sets its key to.
fn text(ticket: u64) -> Vec<u8> {
    let size = 1_000 + ticket as usize * 7_919 % 300_000;
    format!("{ticket};").repeat(size / 4).into_bytes()
}

/// Returns the keys of what was loaded, each of which has the value that was noted.
fn keys(loaded: &Loaded) -> BTreeSet<String> {
    assert_eq!(loaded.unreadable, []);
    let changes = loaded.groups.iter().flat_map(|group| &group.note.changes);
    let key = |noted: &NotedChange| {
        let key = noted.change.key.as_str().unwrap().to_owned();
        let ticket = key[1..].parse().unwrap();
        assert_eq!(noted.change.kind, Kind::Whole(text(ticket).into()));
        key
    };
    changes.map(key).collect()
}

/// Notes groups until there is no room. Returns which were taken.
fn note_until_full(journal: &MountJournal, from: u64) -> Vec<u64> {
    let mut taken = Vec::new();
    for ticket in from..from + 1_000 {
        match journal.note(&somewhere(), &[group(ticket)], &[]) {
            Ok(_) => taken.push(ticket),
            Err(JournalError::Full(_) | JournalError::NoRoom) => return taken,
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("there is room for everything");
}

fn settled(tickets: &[u64]) -> Settled {
    Settled {
        removed: tickets.iter().copied().map(Ticket).collect(),
        rebased: Vec::new(),
    }
}

#[test]
fn s08_a_full_disk_takes_nothing_that_was_noted_and_lets_go_of_what_was_settled() {
    let directory = tempfile::tempdir().unwrap();
    let small = SmallDisk::new(directory.path().join("small"), 96);
    fs::write(small.0.join("fill"), vec![1; 64 << 20]).unwrap();
    let disk = Disk::directory(&small.0).unwrap();
    let journals = Journals::new(disk, Instant::now);
    let deadline = Instant::now() + Duration::from_secs(60);
    let made = Timestamp::from_millis;
    let journal = journals.open("a", made(1), deadline).unwrap();

    let mut there = note_until_full(&journal, 1);
    assert!(there.len() > 40, "{there:?}");
    // What was set aside has room for what became of them, and for nothing new.
    let gone: Vec<u64> = there.drain(..30).collect();
    for gone in gone.chunks(3) {
        journal.settle(&settled(gone)).unwrap();
    }
    assert_eq!(journal.owed(), 0);
    journal.sync().unwrap();
    let refused = journal.note(&somewhere(), &[group(2_000)], &[]);
    assert!(matches!(refused, Err(JournalError::NoRoom)), "{refused:?}");
    let names = |tickets: &[u64]| -> BTreeSet<String> {
        tickets.iter().map(|ticket| format!("k{ticket}")).collect()
    };
    assert_eq!(keys(&journal.load().unwrap()), names(&there));
    let unsent = journals.unsent().unwrap();
    assert_eq!(unsent.changes, there.len() as u64, "{unsent:?}");

    small.free();
    std::thread::sleep(AGAIN);
    there.extend(note_until_full(&journal, 3_000));
    assert!(there.len() > 80, "{there:?}");
    assert_eq!(keys(&journal.load().unwrap()), names(&there));
    let (kept, gone) = there.split_at(20);
    journal.settle(&settled(gone)).unwrap();

    // The process ends; the next one cannot even begin, until the disk is a larger one.
    drop(journal);
    let next = journals.open("b", made(2), deadline);
    assert!(matches!(next, Err(JournalError::Full(_))), "{next:?}");
    assert_eq!(journals.unsent().unwrap().changes, kept.len() as u64);
    small.grow(256);
    let next = journals.open("c", made(3), deadline).unwrap();
    let fresh = Cell::new(10_000);
    let terms = Terms {
        wanted: &|_| true,
        fresh: &|| Ticket(fresh.replace(fresh.get() + 1)),
    };
    let taken = next.take_over(&terms, deadline).unwrap();
    assert!(taken.troubles.is_empty(), "{taken:?}");
    assert_eq!(keys(&taken.loaded), names(kept));
    next.note(&somewhere(), &[group(20_000)], &[]).unwrap();
}
