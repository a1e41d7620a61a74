//! W1, W2 and W5: who waits for a group, whether it is noted, and what it takes the place of.

use super::bed::{Bed, append, bytes, key, whole};
use crate::sync::pending::dataset::Left;
use crate::sync::pending::{Base, Change, Commit, Kind, Outcome, Refusal, Ticket};
use crate::sync::{Shown, Unseen};
use crate::wire::fault::{Code, Fault};

#[test]
fn w1_what_is_not_noted_is_given_back_when_its_last_waiter_leaves() {
    let mut bed = Bed::having(&[("k", "old")]);
    let ticket = bed.close("k", whole("new"));
    assert_eq!(bed.leave(0, ticket), Left::Undecided);
    assert_eq!(bed.given_back(ticket).len(), 1);
    assert_eq!(bed.leave(0, ticket), Left::Decided);
    assert!(bed.drive().is_empty());
    assert_eq!(bed.view(0, "k").as_deref(), Some("old"));
}

#[test]
fn w1_what_is_noted_stays_when_its_last_waiter_leaves() {
    let mut bed = Bed::having(&[("k", "old")]);
    let ticket = bed.queue("k", whole("new"));
    assert!(bed.states[0].wait_for(ticket));
    assert_eq!(bed.leave(0, ticket), Left::Stays);
    assert_eq!(bed.outcome(ticket), None);
    assert_eq!(bed.drive(), ["k=new"]);
    assert!(bed.is_made(ticket));
}

#[test]
fn w1_what_is_in_flight_is_undecided_until_its_call_ends() {
    let mut bed = Bed::having(&[("k", "old")]);
    for answered in [true, false] {
        let ticket = bed.close("k", whole("new"));
        assert_eq!(bed.go(0).len(), 1);
        assert_eq!(bed.leave(0, ticket), Left::Undecided);
        assert_eq!(bed.outcome(ticket), None);
        match answered {
            true => bed.answer(0),
            false => drop(bed.lose(0)),
        }
        assert_eq!(bed.is_made(ticket), answered);
        if !answered {
            assert_eq!(bed.given_back(ticket)[0].own.len(), 1);
        }
    }
}

#[test]
fn w1_what_is_noted_and_in_flight_stays_whatever_comes_of_its_call() {
    let mut bed = Bed::having(&[("k", "old")]);
    let ticket = bed.queue("k", whole("new"));
    bed.states[0].wait_for(ticket);
    assert_eq!(bed.go(0), ["k=new"]);
    assert_eq!(bed.leave(0, ticket), Left::Stays);
    bed.lose(0);
    assert_eq!(bed.outcome(ticket), None);
    assert_eq!(bed.drive(), ["k=new"]);
}

#[test]
fn w1_what_is_left_while_it_is_being_noted_stays() {
    let mut bed = Bed::having(&[]);
    let change = bed.change(0, "k", whole("new"));
    let (ticket, staged) = bed.stage(0, vec![change], Commit::Async);
    assert_eq!(bed.leave(0, ticket), Left::Stays);
    bed.note(0, ticket, &staged.unwrap());
    assert_eq!(bed.drive(), ["k=new"]);
}

#[test]
fn w1_what_is_left_while_only_its_other_part_is_noted_is_given_back() {
    let mut bed = Bed::having(&[("k", "old")]);
    let moved = bed.queue_rename("k", "k~");
    let change = bed.change(0, "k", whole("new"));
    let (ticket, staged) = bed.stage(0, vec![change], Commit::Close);
    let staged = staged.unwrap();
    assert!(staged.waits && staged.notes.len() == 1, "{staged:?}");
    assert_eq!(bed.leave(0, ticket), Left::Undecided);
    bed.note(0, ticket, &staged);
    assert_eq!(bed.given_back(ticket).len(), 1);
    // The rename is as it was before, and the backup that was split from it is not.
    assert_eq!(bed.drive(), ["k~=old", "-k"]);
    assert!(bed.is_made(moved));
    assert!(bed.rows.is_empty(), "{:?}", bed.rows);
}

#[test]
fn w1_a_failure_is_told_to_who_waits_and_takes_away_only_what_is_not_noted() {
    let mut bed = Bed::having(&[("a", "1"), ("b", "1")]);
    let closed = bed.close("a", whole("2"));
    let noted = bed.queue("b", whole("2"));
    bed.states[0].wait_for(noted);
    let fault = Fault::new(Code::NotAuthorized, "no");
    let why = Refusal::Fault(fault.into());
    bed.states[0].fail(why.clone(), &mut bed.barrier);
    bed.take();
    assert!(matches!(bed.outcome(closed), Some(Outcome::GivenBack(..))));
    assert_eq!(bed.outcome(noted), Some(&Outcome::Waits(why)));
    assert_eq!(bed.drive(), ["b=2"]);
}

#[test]
fn w2_without_room_what_was_to_be_replaced_is_as_it_was() {
    let mut bed = Bed::having(&[("k", "old")]);
    let first = bed.queue("k", whole("1"));
    let change = bed.change(0, "k", whole("2"));
    let (second, staged) = bed.stage(0, vec![change.clone()], Commit::Async);
    assert_eq!(staged.unwrap().replaced, [first]);
    // Neither is sent meanwhile, nor is what is being noted shown.
    assert!(bed.go_on(0).is_empty());
    assert_eq!(bed.view(0, "k").as_deref(), Some("1"));
    // Nor is either absorbed: who comes next waits.
    assert_eq!(bed.stage(0, vec![change], Commit::Async).1, None);
    bed.not_note(0, second);
    assert_eq!(bed.view(0, "k").as_deref(), Some("1"));
    assert_eq!(bed.drive(), ["k=1"]);
    assert!(bed.is_made(first));
    assert!(bed.barrier.is_empty());
}

#[test]
fn w2_what_is_being_noted_or_is_not_for_the_journal_is_not_shown() {
    let mut bed = Bed::having(&[("k", "old"), ("j", "old")]);
    let change = bed.change(0, "k", whole("new"));
    let (ticket, staged) = bed.stage(0, vec![change], Commit::Async);
    bed.close("j", whole("new"));
    let shown = |bed: &Bed| ["k", "j"].map(|name| bed.view(0, name).unwrap());
    assert_eq!(shown(&bed), ["old", "old"]);
    bed.note(0, ticket, &staged.unwrap());
    assert_eq!(shown(&bed), ["new", "old"]);
}

#[test]
fn w2_a_removal_that_is_not_noted_is_none_in_the_order() {
    let mut bed = Bed::having(&[("k", "old"), ("j", "1")]);
    let change = bed.change(0, "k", Kind::Remove);
    let (ticket, _) = bed.stage(0, vec![change], Commit::Async);
    let first = crate::sync::pending::Place(0);
    assert!(bed.barrier.reaches_over_a_removal(first));
    bed.not_note(0, ticket);
    assert!(!bed.barrier.reaches_over_a_removal(first));
    assert_eq!(bed.view(0, "k").as_deref(), Some("old"));
}

#[test]
fn w2_who_waits_for_what_was_replaced_waits_for_its_successor() {
    let mut bed = Bed::having(&[("k", "old")]);
    let first = bed.queue("k", whole("1"));
    let second = bed.queue("k", whole("2"));
    let third = bed.queue("k", whole("3"));
    assert_eq!(bed.states[0].pending_of(first), [third]);
    assert!(bed.states[0].wait_for(first));
    // Somebody waits: it goes at once, and is not absorbed any more.
    assert_eq!(bed.go(0), ["k=3"]);
    bed.answer(0);
    let event = bed.events.last().unwrap();
    assert_eq!(event.ticket, third);
    assert_eq!(event.aliases, [second, first]);
    assert_eq!(bed.states[0].pending_of(first), []);
    assert_eq!(bed.leave(0, first), Left::Decided);
}

#[test]
fn w2_a_base_on_what_was_replaced_is_one_on_its_successor() {
    let mut bed = Bed::having(&[("k", "old")]);
    bed.queue("k", whole("1"));
    let base = bed.states[0].view(&key("k")).base;
    let second = bed.queue("k", append("1", "+"));
    let now = bed.states[0].normalized(base, &key("k"));
    assert_eq!(now.pending.unwrap().ticket, second);
    // But who saw the older text has not seen the newer one.
    assert_eq!(bed.go_on(0), ["k=1+"]);
    bed.states[0].handle_updated(Vec::new(), bed.now, &mut bed.barrier);
    let now = bed.states[0].normalized(base, &key("k"));
    assert_eq!((now.shown, now.pending), (Shown::Version(1), None));
}

#[test]
fn w2_what_is_not_for_the_journal_takes_the_place_of_what_is_once_it_is_made() {
    for made in [true, false] {
        let mut bed = Bed::having(&[("k", "old")]);
        let noted = bed.queue("k", whole("1"));
        let closed = bed.close("k", whole("2"));
        assert!(bed.rows.contains_key(&noted));
        assert_eq!(bed.go(0), ["k=2"]);
        if made {
            bed.answer(0);
            assert_eq!(bed.events.last().unwrap().settled.removed, [noted]);
            assert!(bed.drive().is_empty());
            assert!(bed.rows.is_empty() && bed.barrier.is_empty());
        } else {
            bed.leave(0, closed);
            bed.lose(0);
            assert_eq!(bed.drive(), ["k=1"]);
            assert!(bed.is_made(noted));
        }
    }
}

#[test]
fn w5_changes_are_given_back_with_their_own_base_and_an_append_with_its_whole_text() {
    let mut bed = Bed::having(&[("k", "a;")]);
    let change = bed.change(0, "k", append("a;", "b;"));
    let ticket = bed.put(0, vec![change.clone()], Commit::Close);
    // A listing tells of something newer: that is not what was shown.
    bed.other(0, "k", Some("a;x;"));
    bed.list(0);
    bed.leave(0, ticket);
    assert_eq!(bed.given_back(ticket), [change]);
}

#[test]
fn w5_a_base_on_what_is_given_back_is_the_given_back_change_s_own() {
    let mut bed = Bed::having(&[("k", "old")]);
    let own = bed.states[0].view(&key("k")).base;
    let closed = bed.close("k", whole("1"));
    let change = Change {
        key: key("k"),
        base: Base {
            pending: Some(crate::sync::pending::Made {
                ticket: closed,
                digest: Some(crate::sync::pending::Digest::of(b"1")),
            }),
            ..own
        },
        kind: Kind::Whole(bytes("2")),
        unseen: Unseen::Refuse,
        own: Vec::new(),
        left: None,
        modified: bed.date(),
    };
    let next = bed.put(0, vec![change], Commit::Close);
    bed.leave(0, closed);
    // Both are their writer's, who makes one of them on the base of the first.
    assert_eq!(bed.given_back(closed)[0].base, own);
    assert_eq!(bed.given_back(next)[0].base, own);
}

/// Has a rename to the backup name be noted, and what takes its place and leaves a backup.
fn split_rename(bed: &mut Bed) -> (Ticket, Ticket) {
    let rename = bed.queue_rename("k", "k~");
    let write = bed.queue("k", whole("new"));
    assert_eq!((bed.rows.len(), bed.states[0].litter()), (2, 1));
    (rename, write)
}

#[test]
fn w2_who_waits_for_what_was_split_is_told_what_became_of_what_is_sent() {
    let mut bed = Bed::having(&[("k", "old")]);
    let (rename, write) = split_rename(&mut bed);
    assert!(bed.states[0].wait_for(rename));
    bed.states[0].handle_deleted(bed.now, &mut bed.barrier);
    bed.take();
    let refused = |bed: &Bed| -> Vec<Ticket> {
        let of = bed.events.iter();
        of.flat_map(|event| event.answered.clone()).collect()
    };
    assert_eq!(bed.events.len(), 1, "the backup goes with the dataset");
    let backup = bed.events[0].ticket;
    assert_eq!(refused(&bed), [backup]);
    bed.drive();
    assert_eq!(bed.refusal(write), Some(&Refusal::Stale));
    assert_eq!(refused(&bed), [backup, rename, write]);
}

#[test]
fn w2_who_waits_for_what_was_split_is_told_though_its_backup_stays() {
    let mut bed = Bed::having(&[("k", "old")]);
    let (rename, write) = split_rename(&mut bed);
    assert!(bed.states[0].wait_for(rename));
    assert_eq!(bed.go(0), ["k=new"]);
    bed.answer(0);
    assert!(bed.is_made(write));
    assert_eq!(bed.events.last().unwrap().answered, [rename, write]);
    // Nothing is left to wait for.
    assert!(!bed.states[0].wait_for(rename));
}

#[test]
fn w1_who_leaves_what_was_replaced_leaves_its_successor() {
    let mut bed = Bed::having(&[("k", "old")]);
    let (rename, _) = split_rename(&mut bed);
    assert!(bed.states[0].wait_for(rename));
    assert_eq!(bed.leave(0, rename), Left::Stays);
    // Nobody waits for it, so it may be absorbed.
    let last = bed.queue("k", whole("newer"));
    assert_eq!(bed.states[0].pending().collect::<Vec<_>>(), [last]);
    assert_eq!(bed.drive(), ["k=newer"]);
}

#[test]
fn w1_who_leaves_what_was_replaced_leaves_others_waiting() {
    let mut bed = Bed::having(&[("k", "old")]);
    let first = bed.queue("k", whole("1"));
    let second = bed.queue("k", whole("2"));
    assert!(bed.states[0].wait_for(first) && bed.states[0].wait_for(second));
    bed.leave(0, first);
    assert_eq!(bed.go(0), ["k=2"], "somebody waits: it goes at once");
}

#[test]
fn w2_who_waits_for_what_is_being_replaced_waits_for_its_successor() {
    let mut bed = Bed::having(&[("k", "old")]);
    let first = bed.queue("k", whole("1"));
    let change = bed.change(0, "k", whole("2"));
    let (second, staged) = bed.stage(0, vec![change], Commit::Async);
    assert!(bed.states[0].wait_for(first));
    bed.note(0, second, &staged.unwrap());
    assert_eq!(bed.go(0), ["k=2"], "somebody waits: it goes at once");
    bed.answer(0);
    assert_eq!(bed.events.last().unwrap().aliases, [first]);
}

#[test]
fn w2_a_base_on_what_was_not_noted_is_what_that_was_based_on() {
    for replaces in [true, false] {
        let mut bed = Bed::having(&[("k", "old")]);
        let under = match replaces {
            true => bed.queue("k", whole("1")),
            false => Ticket(0),
        };
        let change = bed.change(0, "k", whole("2"));
        let own = change.base;
        let (second, _) = bed.stage(0, vec![change], Commit::Async);
        let on_it = Change {
            base: Base {
                pending: Some(crate::sync::pending::Made {
                    ticket: second,
                    digest: Some(crate::sync::pending::Digest::of(b"2")),
                }),
                ..own
            },
            ..bed.change(0, "k", Kind::Edit(bytes("2+")))
        };
        bed.not_note(0, second);
        assert_eq!(bed.states[0].normalized(on_it.base, &key("k")), own);
        let third = bed.put(0, vec![on_it], Commit::Async);
        assert!(!bed.rows.contains_key(&under), "it takes its place");
        bed.states[0].forget(second);
        assert!(bed.states[0].resolutions.is_empty());
        assert_eq!(bed.drive(), ["k=2+"]);
        assert!(bed.is_made(third));
    }
}

#[test]
fn w5_a_base_on_what_is_given_back_is_on_what_comes_back_under_it() {
    let mut bed = Bed::having(&[("k", "old")]);
    bed.queue("k", whole("1"));
    let own = bed.states[0].view(&key("k")).base;
    let closed = bed.close("k", whole("2"));
    let on_it = Base {
        pending: Some(crate::sync::pending::Made {
            ticket: closed,
            digest: Some(crate::sync::pending::Digest::of(b"2")),
        }),
        ..own
    };
    bed.states[0].leave(closed, &mut bed.barrier);
    assert_eq!(bed.states[0].normalized(on_it, &key("k")), own);
}
