//! Journals are taken over whole, once, in order, and nothing of them is lost on the way.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::{JournalError, MemoryDisk, Moment, Taken, Terms};
use super::*;
use crate::sync::pending::{Digest, Made, Settled};

/// Takes over what `wanted` says, with tickets from 100.
pub(super) fn take_wanted(
    journal: &MountJournal,
    wanted: &dyn Fn(&Whereabouts) -> bool,
    deadline: Instant,
) -> Result<Taken, JournalError> {
    let next = Cell::new(100 + 100 * journal.load()?.groups.len() as u64);
    let fresh = || Ticket(next.replace(next.get() + 1));
    let fresh = &fresh;
    let terms = Terms { wanted, fresh };
    // Another test's child has the locks of this process until it runs its program.
    for _ in 0..50 {
        match journal.take_over(&terms, deadline) {
            Err(JournalError::Busy(_)) => std::thread::sleep(Duration::from_millis(10)),
            taken => return taken,
        }
    }
    journal.take_over(&terms, deadline)
}

pub(super) fn take(journal: &MountJournal) -> Taken {
    let taken = take_wanted(journal, &|_| true, Instant::now()).unwrap();
    assert!(taken.troubles.is_empty(), "{taken:?}");
    assert_eq!(taken.loaded.unreadable, []);
    taken
}

fn based_on(mut note: Note, ticket: u64) -> Note {
    note.changes[0].change.base.pending = Some(Made {
        ticket: Ticket(ticket),
        digest: Some(Digest::of(b"shown")),
    });
    note
}

fn base_ticket(group: &LoadedGroup) -> Option<Ticket> {
    let base = group.note.changes[0].change.base;
    base.pending.map(|made| made.ticket)
}

fn opened(disk: &Disk, name: &str, made: i64) -> MountJournal {
    let made = Timestamp::from_millis(made);
    door(disk.clone()).open(name, made, soon()).unwrap()
}

/// Returns a real directory and one in memory, with what keeps them.
fn disks() -> Vec<(Disk, Option<tempfile::TempDir>)> {
    let directory = tempfile::tempdir().unwrap();
    let real = Disk::directory(directory.path()).unwrap();
    let memory = MemoryDisk::new().process().disk();
    vec![(real, Some(directory)), (memory, None)]
}

#[test]
fn orphans_are_taken_over_in_order_and_before_our_own() {
    for (disk, _directory) in disks() {
        let of = somewhere();
        let older = opened(&disk, "z", 1);
        older.note(&of, &[set(1, "a", "1")], &[]).unwrap();
        let newer = opened(&disk, "b", 2);
        let first = set(1, "b", "1");
        let again = Note {
            first_set: Some(Place(1)),
            ..based_on(set(3, "d", "3"), 2)
        };
        newer.note(&of, &[first, set(2, "c", "2")], &[]).unwrap();
        newer
            .note(&of, &[again, based_on(set(4, "e", "4"), 1)], &[Ticket(1)])
            .unwrap();
        drop((older, newer));

        let journal = opened(&disk, "n", 3);
        journal.note(&of, &[set(5, "f", "5")], &[]).unwrap();
        let taken = take(&journal);
        let texts = |told: Vec<(u64, String)>| -> Vec<String> {
            told.into_iter().map(|(_, text)| text).collect()
        };
        let groups = &taken.loaded.groups;
        assert_eq!(texts(tell(groups)), ["a=1", "c=2", "d=3", "e=4"]);
        assert_eq!(texts(told(&journal)), ["a=1", "c=2", "d=3", "e=4", "f=5"]);
        // What was noted again has its first place, before what was noted meanwhile.
        assert!(groups[2].first_set < groups[1].first_set);
        assert!(groups[0].place < groups[2].first_set);
        assert!(groups.iter().all(|group| group.place < Place(1)));
        // References go along; one to what is no longer there falls back.
        assert_eq!(base_ticket(&groups[2]), Some(groups[1].note.ticket));
        assert_eq!(base_ticket(&groups[3]), None);
        assert_eq!(
            groups[3].note.changes[0].change.base.shown,
            Shown::Version(4)
        );
        // There is nothing left to take.
        assert!(take(&journal).loaded.groups.is_empty());
        assert_eq!(disk.storage().names().unwrap().len(), 1);
        // The next mount takes all of it.
        let told_before = texts(told(&journal));
        drop(journal);
        let next = opened(&disk, "m", 4);
        assert_eq!(texts(tell(&take(&next).loaded.groups)), told_before);
    }
}

#[test]
fn a_journal_that_is_held_is_left_alone_and_one_that_ends_is_waited_for() {
    for (disk, _directory) in disks() {
        let living = opened(&disk, "a", 1);
        living.note(&somewhere(), &[set(1, "a", "1")], &[]).unwrap();
        let journal = opened(&disk, "b", 1);
        let taken = take(&journal);
        assert!(taken.loaded.groups.is_empty() && taken.ending.is_empty());
        living.mark_ending().unwrap();
        assert_eq!(take(&journal).ending, ["a"]);
        if disk.storage().pause(Duration::ZERO) {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(100));
                    drop(living);
                });
                let taken = take_wanted(&journal, &|_| true, soon()).unwrap();
                assert_eq!(taken.loaded.groups.len(), 1);
                assert!(taken.ending.is_empty());
            });
        }
    }
}

#[test]
fn what_is_not_wanted_stays_and_is_there_for_the_next() {
    for (disk, _directory) in disks() {
        let (ours, theirs) = (of_identity(2), of_identity(3));
        let orphan = opened(&disk, "a", 1);
        orphan.note(&ours, &[set(1, "a", "1")], &[]).unwrap();
        orphan.note(&theirs, &[set(2, "b", "2")], &[]).unwrap();
        drop(orphan);
        let journal = opened(&disk, "b", 2);
        let wanted = |of: &Whereabouts| *of == ours;
        let taken = take_wanted(&journal, &wanted, Instant::now()).unwrap();
        assert_eq!(tell(&taken.loaded.groups), [(100, "a=1".into())]);
        let settled = Settled {
            removed: vec![Ticket(100)],
            rebased: Vec::new(),
        };
        journal.settle(&settled).unwrap();
        let again = take_wanted(&journal, &wanted, Instant::now()).unwrap();
        assert!(again.loaded.groups.is_empty() && again.troubles.is_empty());
        let other = opened(&disk, "c", 3);
        assert_eq!(tell(&take(&other).loaded.groups), [(100, "b=2".into())]);
    }
}

#[test]
fn what_is_unreadable_is_taken_along_as_it_is() {
    for (disk, _directory) in disks() {
        let orphan = opened(&disk, "a", 1);
        orphan
            .note(&somewhere(), &[set(1, "a", "1"), set(2, "b", "2")], &[])
            .unwrap();
        for spoil in [
            "UPDATE changes SET kind = 'swap' WHERE ticket = 1",
            "UPDATE groups SET pool = CAST(x'ff' AS TEXT) WHERE ticket = 1",
        ] {
            orphan.database.read(|tx| tx.execute(spoil, [])).unwrap();
        }
        drop(orphan);
        for name in ["b", "c"] {
            let journal = opened(&disk, name, 2);
            let taken = take_wanted(&journal, &|_| true, Instant::now()).unwrap();
            assert!(taken.troubles.is_empty());
            assert_eq!(taken.loaded.groups.len(), 1);
            assert_eq!(taken.loaded.unreadable.len(), 1);
            let kept = "SELECT kind, bytes FROM changes WHERE kind = 'swap'";
            let kept: (String, Vec<u8>) = journal
                .database
                .read(|tx| tx.query_row(kept, [], |row| Ok((row.get(0)?, row.get(1)?))))
                .unwrap();
            assert_eq!(kept, ("swap".to_owned(), b"1".to_vec()));
        }
    }
}

#[test]
fn an_empty_journal_goes_with_its_mount() {
    for (disk, _directory) in disks() {
        let journal = opened(&disk, "a", 1);
        journal
            .note(&somewhere(), &[set(1, "a", "1")], &[])
            .unwrap();
        assert!(!journal.close(soon()).unwrap());
        let journal = opened(&disk, "b", 1);
        let taken = take(&journal);
        let removed = taken.loaded.groups.iter().map(|group| group.note.ticket);
        let settled = Settled {
            removed: removed.collect(),
            rebased: Vec::new(),
        };
        journal.settle(&settled).unwrap();
        assert!(journal.close(soon()).unwrap());
        assert!(disk.storage().names().unwrap().is_empty());
    }
}

#[test]
fn what_lies_unsent_is_counted_while_it_is_used_and_after() {
    for (disk, directory) in disks() {
        let count = || {
            let unsent = door(disk.clone()).unsent().unwrap();
            assert!(unsent.troubles.is_empty(), "{unsent:?}");
            unsent.changes
        };
        assert_eq!(count(), 0);
        let journal = opened(&disk, "a", 1);
        assert_eq!(count(), 0);
        journal
            .note(&somewhere(), &[set(1, "a", "1"), set(2, "b", "2")], &[])
            .unwrap();
        let litter = Note {
            hold: Some((
                crate::sync::pending::Hold::Litter,
                Timestamp::from_millis(0),
            )),
            ..set(3, "c", "3")
        };
        journal.note(&somewhere(), &[litter], &[]).unwrap();
        assert_eq!(count(), 2);
        journal.checkpoint().unwrap();
        assert_eq!(count(), 2);
        let before = directory
            .as_ref()
            .map(|directory| listing(directory.path()));
        assert_eq!(count(), 2);
        assert_eq!(
            before,
            directory
                .as_ref()
                .map(|directory| listing(directory.path()))
        );
        drop(journal);
        let before = directory
            .as_ref()
            .map(|directory| listing(directory.path()));
        assert_eq!(count(), 2);
        assert_eq!(
            before,
            directory
                .as_ref()
                .map(|directory| listing(directory.path()))
        );
    }
}

#[test]
fn what_lies_unsent_is_counted_once_in_the_middle_of_a_take_over() {
    let memory = MemoryDisk::new();
    let count = || door(memory.process().disk()).unsent().unwrap().changes;
    let ended = opened(&memory.process().disk(), "a", 1);
    let groups = [set(1, "a", "1"), set(2, "b", "2")];
    ended.note(&somewhere(), &groups, &[]).unwrap();
    drop(ended);
    let next = opened(&memory.process().disk(), "b", 2);
    memory.on_write(|written| {
        if written.moment == Moment::After && written.file.ends_with("b.db") {
            written.process.crash();
        }
    });
    let taken = take_wanted(&next, &|_| true, Instant::now());
    assert!(taken.is_ok_and(|taken| !taken.troubles.is_empty()));
    assert_eq!(memory.process().disk().storage().names().unwrap().len(), 2);
    assert_eq!(count(), 2);
}

#[test]
fn what_lies_unsent_is_counted_right_while_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::directory(directory.path()).unwrap();
    let journal = opened(&disk, "a", 1);
    let group = |ticket: u64| {
        let mut note = set(ticket, "a", &"x".repeat(ticket as usize * 977 % 20_000));
        note.changes.extend(set(ticket, "b", "y").changes);
        note.changes.extend(set(ticket, "c", "z").changes);
        note
    };
    journal.note(&somewhere(), &[group(0)], &[]).unwrap();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for ticket in 1..400 {
                let replaced = [Ticket(ticket - 1)];
                journal
                    .note(&somewhere(), &[group(ticket)], &replaced)
                    .unwrap();
                if ticket % 7 == 0 {
                    journal.checkpoint().unwrap();
                }
            }
        });
        while !writing.is_finished() {
            let unsent = door(disk.clone()).unsent().unwrap();
            for trouble in &unsent.troubles {
                assert!(matches!(trouble, JournalError::Busy(_)), "{unsent:?}");
            }
            assert!(
                unsent.changes == 3 || !unsent.troubles.is_empty(),
                "{unsent:?}"
            );
        }
    });
}

/// Returns all files below a directory with what they hold.
pub(super) fn listing(directory: &std::path::Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(listing(&path)),
            false => {
                found.insert(path.clone(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Has a process end at one change of a file after another, until it ends by itself; the next takes
/// over what is there, and every group is there once.
#[test]
fn nothing_is_lost_or_doubled_wherever_a_process_ends() {
    for at in 0.. {
        let memory = MemoryDisk::new();
        let first = memory.process();
        for (made, name) in [(1, "a"), (2, "b")] {
            let journal = opened(&first.disk(), name, made);
            let groups = [set(1, name, "1"), set(2, name, "2")];
            journal.note(&somewhere(), &groups, &[]).unwrap();
        }
        let doomed = memory.process();
        let moments = Arc::new(AtomicUsize::new(0));
        let counted = moments.clone();
        memory.on_write(move |written| {
            if counted.fetch_add(1, Ordering::Relaxed) == at {
                written.process.crash();
            }
        });
        let opened_by = |process: &super::super::Process, name| {
            let made = Timestamp::from_millis(3);
            door(process.disk()).open(name, made, Instant::now())
        };
        let journal = opened_by(&doomed, "c");
        let taken = journal.and_then(|journal| {
            let taken = take_wanted(&journal, &|_| true, Instant::now())?;
            Ok((taken, journal))
        });
        let survived = moments.load(Ordering::Relaxed) <= at;
        memory.on_write(|_| ());
        let given_out = taken.map_or(0, |(taken, _journal)| taken.loaded.groups.len());
        let next = opened_by(&memory.process(), "d").unwrap();
        let texts: Vec<String> = tell(&take(&next).loaded.groups)
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        assert_eq!(texts, ["a=1", "a=2", "b=1", "b=2"], "at {at}");
        if survived {
            assert_eq!(given_out, 4);
            assert!(at > 8, "{at} changes");
            return;
        }
    }
}
