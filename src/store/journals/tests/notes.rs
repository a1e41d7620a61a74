//! What is noted is read again, and what cannot be read is told.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::super::{JournalError, MemoryDisk};
use super::vfs::{self, QUOTA};
use super::*;
use crate::store::ErrorKind;
use crate::sync::Mark;
use crate::sync::pending::{Appended, Digest, Hold, Made, Rebased, Sent, Settled};
use crate::wire::text::Text;

fn any_bytes() -> impl Strategy<Value = Arc<[u8]>> {
    vec(any::<u8>(), 0..40).prop_map(Into::into)
}

fn any_key() -> impl Strategy<Value = RecordKey> {
    let keys = vec(any::<u8>(), 1..30).prop_map(Text::from_bytes);
    keys.prop_filter_map("no key", |text| RecordKey::new(text).ok())
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_millis)
}

fn any_base() -> impl Strategy<Value = Base> {
    let shown =
        option::of(any::<i64>()).prop_map(|count| count.map_or(Shown::Absent, Shown::Version));
    let made = (any::<u64>(), option::of(any::<[u8; 32]>())).prop_map(|(ticket, digest)| Made {
        ticket: Ticket(ticket),
        digest: digest.map(Digest),
    });
    (any::<u32>(), shown, option::of(made)).prop_map(|(life, shown, pending)| Base {
        life,
        shown,
        pending,
    })
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        any_bytes().prop_map(Kind::Whole),
        (any_bytes(), any_bytes()).prop_map(|(text, whole)| Kind::Append { text, whole }),
        any_bytes().prop_map(Kind::Edit),
        Just(Kind::Times),
        Just(Kind::Remove),
    ]
}

fn any_left() -> impl Strategy<Value = Left> {
    (any::<bool>(), option::of(any::<i64>())).prop_map(|(existed, sync_count)| Left {
        existed,
        sync_count,
    })
}

fn any_sent() -> impl Strategy<Value = Sent> {
    (
        option::of(any_bytes()),
        any_time(),
        any::<i64>(),
        option::of((0..i64::MAX as u64, 0..i64::MAX as u64)),
    )
        .prop_map(|(value, at, count, appended)| Sent {
            appended: appended.map(|(whole, text)| Appended { whole, text }),
            mark: Mark::new(value.as_deref(), at),
            count,
        })
}

fn any_change() -> impl Strategy<Value = NotedChange> {
    let unseen = prop_oneof![Just(Unseen::Keep), Just(Unseen::Refuse)];
    let change = (any_key(), any_base(), any_kind(), unseen, any_time());
    let rest = (option::of(any_left()), any_left(), vec(any_sent(), 0..4));
    (change, rest).prop_map(
        |((key, base, kind, unseen, modified), (left, known, sent))| {
            let change = Change {
                key,
                base,
                own: Vec::new(),
                kind,
                unseen,
                left,
                modified,
            };
            NotedChange {
                change,
                known,
                sent,
            }
        },
    )
}

pub(super) fn any_note() -> impl Strategy<Value = Note> {
    let hold = prop_oneof![Just(Hold::Litter), Just(Hold::Passing), Just(Hold::Grace)];
    let held = option::of((hold, any_time()));
    let first = option::of(any::<i64>().prop_map(Place));
    (any::<u64>(), vec(any_change(), 0..5), held, first).prop_map(
        |(ticket, changes, hold, first_set)| Note {
            ticket: Ticket(ticket),
            changes,
            hold,
            first_set,
        },
    )
}

proptest! {
    #[test]
    fn any_note_is_read_as_it_was_noted(notes in vec(any_note(), 1..4)) {
        let journal = in_memory();
        let mut expected = Vec::new();
        for note in &notes {
            let places = journal.note(&somewhere(), std::slice::from_ref(note), &[]).unwrap();
            expected.retain(|group: &LoadedGroup| group.note.ticket != note.ticket);
            expected.push(read_of(&somewhere(), note, places[0]));
        }
        let loaded = journal.load().unwrap();
        prop_assert_eq!(loaded.unreadable, []);
        prop_assert_eq!(loaded.groups, expected);
    }
}

#[test]
fn a_noting_replaces_and_a_settling_removes_and_rebases() {
    let journal = in_memory();
    let of = somewhere();
    let places = journal.note(&of, &[set(1, "a", "1"), set(2, "b", "2")], &[]);
    assert_eq!(places.unwrap(), [Place(1), Place(2)]);
    let again = Note {
        first_set: Some(Place(1)),
        ..set(3, "a", "3")
    };
    let unknown = Ticket(77);
    let places = journal.note(&of, &[again], &[Ticket(1), unknown]).unwrap();
    assert_eq!(places, [Place(3)]);
    assert_eq!(told(&journal), [(2, "b=2".into()), (3, "a=3".into())]);

    let rebased = Rebased {
        ticket: Ticket(3),
        key: key("a"),
        base: Base {
            life: 3,
            shown: Shown::Version(9),
            pending: None,
        },
        known: Left {
            existed: false,
            sync_count: None,
        },
        sent: vec![Sent {
            mark: Mark::new(None, Timestamp::from_millis(3)),
            count: 8,
            appended: None,
        }],
    };
    let gone = Rebased {
        ticket: unknown,
        ..rebased.clone()
    };
    let settled = Settled {
        removed: vec![Ticket(2), unknown],
        rebased: vec![rebased.clone(), gone],
    };
    journal.settle(&settled).unwrap();
    let loaded = journal.load().unwrap();
    let noted = &loaded.groups[0].note.changes[0];
    assert_eq!(loaded.groups.len(), 1);
    assert_eq!(loaded.groups[0].first_set, Place(1));
    assert_eq!(noted.change.base.shown, Shown::Version(9));
    assert_eq!((noted.known, &noted.sent), (rebased.known, &rebased.sent));
    // No place is given twice, though its group is gone.
    journal
        .settle(&Settled {
            removed: vec![Ticket(3)],
            rebased: Vec::new(),
        })
        .unwrap();
    let places = journal.note(&of, &[set(4, "c", "4")], &[]).unwrap();
    assert_eq!(places, [Place(4)]);
}

/// What a group stood on when it was written down may be settled before it comes.
#[test]
fn j3_a_group_that_comes_late_is_noted_on_what_its_base_came_to() {
    let journal = in_memory();
    let of = somewhere();
    journal.note(&of, &[set(1, "a", "1")], &[]).unwrap();
    let mut late = set(2, "a", "2");
    let base = &mut late.changes[0].change.base;
    base.pending = Some(Made {
        ticket: Ticket(1),
        digest: None,
    });
    let made = Base {
        life: 0,
        shown: Shown::Version(9),
        pending: None,
    };
    let rebased = |ticket| Rebased {
        ticket: Ticket(ticket),
        key: key("a"),
        base: made,
        known: Left {
            existed: true,
            sync_count: Some(9),
        },
        sent: Vec::new(),
    };
    let settled = Settled {
        removed: vec![Ticket(1)],
        rebased: vec![rebased(2), rebased(3)],
    };
    journal.settle(&settled).unwrap();
    journal.note(&of, &[late], &[]).unwrap();
    let loaded = journal.load().unwrap();
    assert_eq!(loaded.groups.len(), 1);
    let noted = &loaded.groups[0].note.changes[0];
    assert_eq!(noted.change.base, made);
    assert_eq!(noted.known.sync_count, Some(9));
    // It is noted so once.
    journal.note(&of, &[set(2, "a", "2")], &[]).unwrap();
    let loaded = journal.load().unwrap();
    let again = &loaded.groups[0].note.changes[0].change.base;
    assert_eq!(again.shown, set(2, "a", "2").changes[0].change.base.shown);
}

#[test]
fn on_a_full_disk_nothing_is_noted_and_what_was_settled_is_not_forgotten() {
    let memory = MemoryDisk::new();
    let journal = open(memory.process().disk(), "a");
    let of = somewhere();
    journal
        .note(&of, &[set(1, "a", "1"), set(2, "b", "2")], &[])
        .unwrap();
    memory.set_full(true);
    let refused = journal.note(&of, &[set(3, "a", "3")], &[Ticket(1)]);
    assert!(matches!(refused, Err(JournalError::Full(_))), "{refused:?}");
    let settled = Settled {
        removed: vec![Ticket(2)],
        rebased: Vec::new(),
    };
    assert!(matches!(
        journal.settle(&settled),
        Err(JournalError::Full(_))
    ));
    assert_eq!(journal.owed(), 1);
    assert_eq!(told(&journal), [(1, "a=1".into()), (2, "b=2".into())]);
    memory.set_full(false);
    journal.pay().unwrap();
    assert_eq!(journal.owed(), 0);
    assert_eq!(told(&journal), [(1, "a=1".into())]);
}

#[test]
fn a_quota_that_is_reached_is_a_full_disk() {
    vfs::install();
    let directory = tempfile::tempdir().unwrap();
    // Whenever it is asked, it is late enough to try again.
    let (begun, asked) = (Instant::now(), AtomicU64::new(0));
    let clock = move || begun + Duration::from_secs(asked.fetch_add(1, Ordering::Relaxed));
    let journals = Journals::new(Disk::directory(directory.path()).unwrap(), clock);
    let journal = journals
        .open("a", Timestamp::from_millis(1), soon())
        .unwrap();
    let of = somewhere();
    journal.note(&of, &[set(1, "a", "1")], &[]).unwrap();
    let reserve = directory.path().join("journals/a.reserve");
    assert!(reserve.exists());
    QUOTA.set(true);
    let refused = journal.note(&of, &[set(2, "b", "2")], &[]);
    let settled = Settled {
        removed: vec![Ticket(1)],
        rebased: Vec::new(),
    };
    let owed = journal.settle(&settled);
    QUOTA.set(false);
    assert!(matches!(refused, Err(JournalError::Full(_))), "{refused:?}");
    assert!(matches!(owed, Err(JournalError::Full(_))), "{owed:?}");
    assert!(!reserve.exists(), "it is what is given up first");
    journal.note(&of, &[set(3, "c", "3")], &[]).unwrap();
    assert_eq!(told(&journal), [(3, "c=3".into())]);
    assert!(reserve.exists());
    for number in [libc::EDQUOT, libc::ENOSPC] {
        let refused = std::io::Error::from_raw_os_error(number);
        let told = crate::store::Error::from(JournalError::file(Path::new("a"), refused));
        assert_eq!(told.kind(), ErrorKind::NoSpace);
    }
}

#[test]
fn p14_what_this_version_does_not_know_is_unreadable_and_the_rest_is_read() {
    let spoilt = [
        (
            "UPDATE changes SET kind = 'swap'",
            "the kind \"swap\" is unknown",
        ),
        ("UPDATE changes SET unseen = 'ask'", "unknown"),
        (
            "UPDATE changes SET sent = x'0100'",
            "the fingerprints have 2 bytes",
        ),
        ("UPDATE changes SET sent = x'02'", "unknown way"),
        ("UPDATE changes SET sent = x''", "unknown way"),
        ("UPDATE changes SET base_digest = x'00'", "without a ticket"),
        (
            "UPDATE changes SET base_digest = x'00', base_ticket = 1",
            "wrong length",
        ),
        ("UPDATE changes SET existed = 2", "existed"),
        ("UPDATE changes SET key = x''", "record key"),
        ("UPDATE changes SET whole = x'00'", "not those of the kind"),
        ("UPDATE changes SET number = 5", "1 changes of 1"),
        ("DELETE FROM changes", "0 changes of 1"),
        (
            "UPDATE groups SET hold = 'later', held_since = 1",
            "the hold \"later\"",
        ),
        ("UPDATE groups SET held_since = 1", "do not go together"),
        ("UPDATE groups SET pool = 'nowhere'", "names"),
    ];
    for (how, told) in spoilt {
        let journal = in_memory();
        for (ticket, name) in [(1, "a"), (2, "b"), (3, "c")] {
            journal
                .note(&somewhere(), &[set(ticket, name, "1")], &[])
                .unwrap();
        }
        let spoil = |tx: &rusqlite::Connection| tx.execute(&format!("{how} WHERE ticket = 2"), []);
        journal.database.read(spoil).unwrap();
        let loaded = journal.load().unwrap();
        assert_eq!(
            tell(&loaded.groups),
            [(1, "a=1".into()), (3, "c=1".into())],
            "{how}"
        );
        let [unreadable] = &loaded.unreadable[..] else {
            panic!("{how}: {loaded:?}");
        };
        assert_eq!((unreadable.ticket, unreadable.place), (Ticket(2), Place(2)));
        assert!(unreadable.has_sets, "{how}");
        assert!(unreadable.reason.contains(told), "{how}: {unreadable:?}");
    }
}

#[test]
fn a_change_without_its_group_is_told() {
    let journal = in_memory();
    journal
        .note(&somewhere(), &[set(1, "a", "1")], &[])
        .unwrap();
    let spoil = |tx: &rusqlite::Connection| tx.execute("DELETE FROM groups", []);
    journal.database.read(spoil).unwrap();
    let loaded = journal.load().unwrap();
    assert_eq!(loaded.unreadable[0].ticket, Ticket(1));
    assert!(loaded.unreadable[0].has_removals);
}
