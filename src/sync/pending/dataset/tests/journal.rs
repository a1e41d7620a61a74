//! J3 and S8: what the journal is told, and what the next process makes of it.

use std::collections::BTreeSet;

use super::bed::{Bed, append, edit, key, whole};
use crate::sync::change::Left;
use crate::sync::pending::recovery::{Recovered, Unreadable, kept_back};
use crate::sync::pending::{Commit, Kind, Place, Refusal, Ticket};
use crate::sync::{Shown, Unseen};
use crate::wire::fault::{Code, Fault};

#[test]
fn j3_what_stood_on_a_change_is_rebased_as_that_one_s_row_goes() {
    let mut bed = Bed::having(&[("k", "old")]);
    let first = bed.queue("k", whole("1"));
    assert_eq!(bed.go_on(0), ["k=1"]);
    let second = bed.queue("k", edit("2"));
    bed.answer(0);
    let event = bed.events.last().unwrap();
    assert_eq!(event.settled.removed, [first]);
    let [rebased] = &event.settled.rebased[..] else {
        panic!("{event:?}");
    };
    assert_eq!((rebased.ticket, &rebased.key), (second, &key("k")));
    assert_eq!(rebased.base.shown, Shown::Version(2));
    assert_eq!(rebased.base.pending, None);
    assert_eq!(rebased.known.sync_count, Some(2));
    // So it is made by the next process, whichever of the two was on the disk.
    bed.restart();
    assert_eq!(bed.drive(), ["k=2"]);
}

#[test]
fn j3_what_is_being_noted_while_its_base_is_decided_is_noted_on_what_that_came_to() {
    let mut bed = Bed::having(&[("k", "old")]);
    bed.queue("k", whole("1"));
    assert_eq!(bed.go_on(0), ["k=1"]);
    let change = bed.change(0, "k", edit("2"));
    let (ticket, staged) = bed.stage(0, vec![change], Commit::Async);
    bed.answer(0);
    let rebased = &bed.events.last().unwrap().settled.rebased;
    assert_eq!(rebased.len(), 1);
    assert_eq!(rebased[0].ticket, ticket);
    assert_eq!(rebased[0].base.shown, Shown::Version(2));
    bed.note(0, ticket, &staged.unwrap());
    // Should the process end now, the next one finds no row of what it stood on.
    bed.restart();
    assert_eq!(bed.drive(), ["k=2"]);
    assert!(bed.is_made(ticket));
}

#[test]
fn j3_what_goes_leaves_neither_row_nor_place_in_the_order() {
    let mut bed = Bed::having(&[("a", "1"), ("b", "2")]);
    bed.queue_rename("a", "c");
    bed.queue("b", Kind::Remove);
    bed.queue("d", whole("4"));
    bed.drive();
    assert!(bed.rows.is_empty() && bed.barrier.is_empty());
    assert!(bed.states[0].groups.is_empty());
    assert!(bed.states[0].successors.is_empty() && bed.states[0].resolutions.is_empty());
}

/// Returns what is on the disk, as the next process reads it.
fn read(bed: &Bed) -> Vec<Recovered> {
    let rows = bed.rows.values();
    rows.map(|row| Recovered {
        note: row.note.clone(),
        places: row.places,
    })
    .collect()
}

fn kept(bed: &Bed, ticket: Ticket, place: i64) -> BTreeSet<Ticket> {
    let place = Place(place);
    kept_back(&read(bed), &[Unreadable { ticket, place }])
}

#[test]
fn j3_an_unreadable_row_keeps_back_what_stands_on_it_and_removals_behind_it() {
    let mut bed = Bed::having(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]);
    let before = bed.queue("d", Kind::Remove);
    let bad = bed.queue("a", whole("x"));
    let place = bed.rows[&bad].places.last.0;
    bed.states[0].wait_for(bad);
    let on_it = bed.queue("a", append("x", "+"));
    bed.states[0].wait_for(on_it);
    let on_that = bed.queue("a", append("x+", "+"));
    let behind = bed.queue("b", Kind::Remove);
    let set = bed.queue("c", whole("5"));
    bed.rows.remove(&bad);
    let kept = kept(&bed, bad, place);
    assert_eq!(kept, BTreeSet::from([bad, on_it, on_that, behind]));
    assert!(!kept.contains(&before) && !kept.contains(&set));
}

#[test]
fn j3_nothing_is_kept_back_if_all_can_be_read() {
    let mut bed = Bed::having(&[("a", "1")]);
    bed.queue("b", whole("x"));
    bed.queue("a", Kind::Remove);
    assert!(kept_back(&read(&bed), &[]).is_empty());
}

#[test]
fn j3_a_group_that_is_kept_back_keeps_back_the_removals_of_what_it_carried() {
    let mut bed = Bed::having(&[("a", "1"), ("b", "2"), ("c", "3")]);
    // A rename that began before the unreadable row, and stands on it.
    let bad = bed.queue("a", whole("x"));
    bed.states[0].wait_for(bad);
    let rename = bed.queue_rename("a", "d");
    let removal = bed.queue("c", Kind::Remove);
    let place = bed.rows[&bad].places.last.0;
    bed.rows.remove(&bad);
    let all = BTreeSet::from([bad, rename, removal]);
    assert_eq!(kept(&bed, bad, place), all);
}

#[test]
fn s8_what_was_noted_is_sent_by_the_next_process() {
    let mut bed = Bed::having(&[("a", "1"), ("b", "2"), ("c", "3")]);
    bed.queue("a", append("1", "+"));
    bed.queue("b", Kind::Remove);
    bed.queue_rename("c", "d");
    bed.restart();
    let mut made = bed.drive();
    made.sort();
    assert_eq!(made, ["-b", "-c", "a=1+", "d=3"]);
    assert!(bed.rows.is_empty());
}

#[test]
fn s8_what_was_made_before_the_end_is_not_made_again() {
    let mut bed = Bed::having(&[("a", "1"), ("b", "2"), ("c", "3")]);
    bed.queue("a", append("1", "+"));
    bed.queue("b", whole("x"));
    bed.queue("c", Kind::Remove);
    assert_eq!(bed.go_on(0).len(), 3);
    let call = bed.in_flight(0);
    bed.services[0].update(&call).unwrap();
    bed.restart();
    assert!(bed.drive().is_empty());
    assert!(bed.events.iter().all(|event| bed.is_made(event.ticket)));
    assert_eq!(bed.events.len(), 3);
}

#[test]
fn s8_what_stands_on_what_was_made_before_the_end_is_made() {
    for (first, then) in [(Kind::Remove, whole("2")), (whole("x"), edit("x2"))] {
        let mut bed = Bed::having(&[("a", "1")]);
        bed.queue("a", first.clone());
        assert_eq!(bed.go_on(0).len(), 1);
        let call = bed.in_flight(0);
        let second = bed.queue("a", then.clone());
        bed.services[0].update(&call).unwrap();
        bed.restart();
        bed.drive();
        assert!(bed.is_made(second), "{first:?}, {then:?}");
    }
}

#[test]
fn s8_what_an_earlier_process_left_is_never_made_over_another_version() {
    for kind in [whole("x"), edit("x"), Kind::Remove, append("1", "+")] {
        let mut bed = Bed::having(&[("a", "1")]);
        let ticket = bed.queue("a", kind.clone());
        bed.other(0, "a", Some("theirs"));
        bed.restart();
        assert!(bed.drive().is_empty(), "{kind:?}");
        assert_eq!(bed.refusal(ticket), Some(&Refusal::Stale), "{kind:?}");
    }
}

#[test]
fn s8_a_record_that_was_made_and_removed_since_is_not_made_by_what_was_left() {
    let mut bed = Bed::having(&[("a", "1")]);
    let ticket = bed.queue("b", whole("x"));
    bed.other(0, "b", Some("theirs"));
    bed.other(0, "b", None);
    bed.restart();
    assert!(bed.drive().is_empty());
    assert_eq!(bed.refusal(ticket), Some(&Refusal::Stale));
}

#[test]
fn s8_the_journal_knows_what_this_process_knew() {
    let mut bed = Bed::having(&[("a", "1")]);
    bed.unseen = Unseen::Refuse;
    let old = bed.queue("a", whole("x"));
    let new = bed.queue("b", whole("x"));
    let known = |ticket: Ticket| bed.rows[&ticket].note.changes[0].known;
    let left = |count| Left {
        existed: true,
        sync_count: Some(count),
    };
    assert_eq!((known(old), known(new)), (left(1), left(0)));
    let mut bed = Bed::new();
    bed.list(0);
    let first = bed.queue("a", whole("x"));
    let known = bed.rows[&first].note.changes[0].known;
    assert!(!known.existed);
}

#[test]
fn j3_what_is_refused_while_it_is_being_noted_leaves_no_row() {
    let mut bed = Bed::having(&[("a", "1"), ("b", "2")]);
    let rename = bed.queue_rename("a", "b");
    assert_eq!(bed.go_on(0).len(), 2);
    let change = bed.change(0, "b", append("1", "+"));
    let (ticket, staged) = bed.stage(0, vec![change], Commit::Async);
    bed.services[0].refuses = Some(Fault::new(Code::LimitExceeded, "full"));
    bed.answer(0);
    assert!(bed.refusal(rename).is_some());
    bed.note(0, ticket, &staged.unwrap());
    assert_eq!(bed.refusal(ticket), Some(&Refusal::Based));
    assert!(bed.drive().is_empty());
    assert!(bed.rows.is_empty() && bed.barrier.is_empty());
}

#[test]
fn j3_litter_that_is_being_noted_as_its_dataset_goes_leaves_no_row() {
    let mut bed = Bed::having(&[("k", "1")]);
    let old = bed.queue(".k.swp", whole("1"));
    let change = bed.change(0, ".k.swp", whole("2"));
    let (new, staged) = bed.stage(0, vec![change], Commit::Async);
    bed.states[0].handle_deleted(bed.now, &mut bed.barrier);
    bed.take();
    bed.note(0, new, &staged.unwrap());
    for ticket in [old, new] {
        assert_eq!(bed.refusal(ticket), Some(&Refusal::Deleted));
    }
    assert!(bed.rows.is_empty() && bed.barrier.is_empty());
    assert_eq!(bed.states[0].litter(), 0);
}
