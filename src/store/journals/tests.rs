//! Tests of the journals, and what they have in common.

mod crash;
mod files;
mod notes;
mod old;
mod parked;
mod processes;
pub(super) mod recorded;
mod stored;
mod take;
mod vfs;

use std::time::{Duration, Instant};

use super::{Disk, Journals, LoadedGroup, MemoryDisk, MountJournal, Whereabouts};
use crate::sync::pending::{Base, Change, Kind, Note, NotedChange, Place, Ticket};
use crate::sync::{Left, Shown, Unseen};
use crate::wire::names::RecordKey;
use crate::wire::timestamp::Timestamp;

/// Longer than anything takes that is held for a moment.
const LONG: Duration = Duration::from_secs(60);

fn soon() -> Instant {
    Instant::now() + LONG
}

fn of_identity(last: u32) -> Whereabouts {
    let id = |last: u32| format!("us-east-1:00000000-0000-4000-8000-{last:012}");
    let parsed = (id(1).parse(), id(last).parse(), "data".parse());
    (parsed.0.unwrap(), parsed.1.unwrap(), parsed.2.unwrap())
}

fn somewhere() -> Whereabouts {
    of_identity(2)
}

fn key(text: &str) -> RecordKey {
    RecordKey::new(text).unwrap()
}

fn change(name: &str, kind: Kind) -> NotedChange {
    let known = Left {
        existed: true,
        sync_count: Some(4),
    };
    let change = Change {
        own: Vec::new(),
        key: key(name),
        base: Base {
            life: 0,
            shown: Shown::Version(4),
            pending: None,
        },
        kind,
        unseen: Unseen::Keep,
        left: Some(known),
        modified: Timestamp::from_millis(7),
    };
    NotedChange {
        change,
        known,
        sent: Vec::new(),
    }
}

/// A group that sets one record.
fn set(ticket: u64, name: &str, text: &str) -> Note {
    Note {
        ticket: Ticket(ticket),
        changes: vec![change(name, Kind::Whole(text.as_bytes().into()))],
        hold: None,
        first_set: None,
    }
}

/// What is read of a note.
fn read_of(of: &Whereabouts, note: &Note, place: Place) -> LoadedGroup {
    let mut note = note.clone();
    let first_set = note.first_set.unwrap_or(place);
    note.first_set = Some(first_set);
    for noted in &mut note.changes {
        noted.change.left = Some(noted.known);
        noted.change.base.life = 0;
    }
    LoadedGroup {
        whereabouts: of.clone(),
        note,
        first_set,
        place,
    }
}

fn door(disk: Disk) -> Journals {
    Journals::new(disk, Instant::now)
}

fn open(disk: Disk, name: &str) -> MountJournal {
    let made = Timestamp::from_millis(1);
    door(disk).open(name, made, soon()).unwrap()
}

fn in_memory() -> MountJournal {
    open(MemoryDisk::new().process().disk(), "a")
}

/// Tells groups apart by their tickets and the keys and texts of their changes.
fn told(journal: &MountJournal) -> Vec<(u64, String)> {
    let loaded = journal.load().unwrap();
    assert_eq!(loaded.unreadable, []);
    tell(&loaded.groups)
}

fn tell(groups: &[LoadedGroup]) -> Vec<(u64, String)> {
    let one = |noted: &NotedChange| {
        let whole = noted.change.kind.whole();
        let text = whole.map_or("-".into(), |text| {
            String::from_utf8_lossy(text).into_owned()
        });
        format!("{}={text}", noted.change.key.as_str().unwrap())
    };
    let all = groups.iter().map(|group| {
        let changes: Vec<String> = group.note.changes.iter().map(one).collect();
        (group.note.ticket.0, changes.join(" "))
    });
    all.collect()
}
