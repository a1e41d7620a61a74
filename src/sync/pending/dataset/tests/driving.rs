//! W7: when something goes, and that nothing is listed for what may not.

use std::time::Duration;

use super::bed::{Bed, whole};
use crate::sync::pending::dataset::GATHER;
use crate::sync::pending::{Kind, Refusal, Step};
use crate::wire::fault::{Code, Fault};

#[test]
fn w7_what_is_noted_gathers_and_goes_by_itself() {
    let mut bed = Bed::having(&[]);
    bed.queue("a", whole("1"));
    let due = bed.now + GATHER;
    assert_eq!(bed.step(0), Step::Wait { until: due });
    bed.wait(60);
    bed.queue("b", whole("1"));
    assert_eq!(bed.step(0), Step::Wait { until: due });
    bed.now = due;
    // What came later goes along.
    assert_eq!(bed.go(0), ["a=1", "b=1"]);
}

#[test]
fn w7_gathering_counts_from_the_oldest_absorbed() {
    let mut bed = Bed::having(&[]);
    bed.queue("a", whole("1"));
    let due = bed.now + GATHER;
    for text in ["2", "3", "4"] {
        bed.wait(30);
        bed.queue("a", whole(text));
    }
    assert_eq!(bed.step(0), Step::Wait { until: due });
    bed.now = due;
    assert_eq!(bed.go(0), ["a=4"]);
}

#[test]
fn w7_what_somebody_waits_for_goes_at_once() {
    let mut bed = Bed::having(&[]);
    let noted = bed.queue("a", whole("1"));
    assert!(bed.go(0).is_empty());
    bed.states[0].wait_for(noted);
    assert_eq!(bed.go(0), ["a=1"]);
}

#[test]
fn w7_nothing_is_listed_for_what_may_not_go_now() {
    let mut bed = Bed::new();
    bed.queue("a", whole("1"));
    assert!(matches!(bed.step(0), Step::Wait { .. }));
    bed.queue(".goutputstream-1", whole("1"));
    bed.queue(".k.swp", whole("1"));
    bed.wait(200);
    assert_eq!(bed.step(0), Step::List { since: 0 });
    let mut bed = Bed::new();
    bed.queue(".goutputstream-1", whole("1"));
    bed.wait(200);
    assert!(matches!(bed.step(0), Step::Wait { .. }));
    let mut bed = Bed::new();
    bed.queue(".k.swp", whole("1"));
    bed.wait(24 * 3600 * 1000);
    assert_eq!(bed.step(0), Step::Idle);
}

#[test]
fn w7_nothing_is_listed_for_a_removal_that_waits_for_another_dataset() {
    let mut bed = Bed::with(2);
    bed.other(0, "k", Some("1"));
    bed.list(0);
    bed.queue_in(1, "j", whole("1"));
    bed.queue_in(0, "k", Kind::Remove);
    bed.wait(60_000);
    assert_eq!(bed.step(0), Step::Idle);
    assert_eq!(bed.listings, 1);
    // It is told when it may go.
    assert_eq!(bed.go(1), ["j=1"]);
    let ticket = bed.states[1].in_flight()[0];
    assert!(bed.barrier.decide(ticket).contains(&bed.states[0].id()));
}

#[test]
fn w7_nothing_is_sent_or_listed_while_it_is_held_off() {
    let mut bed = Bed::having(&[]);
    bed.queue("a", whole("1"));
    bed.wait(60_000);
    let until = bed.now + Duration::from_secs(3);
    bed.states[0].hold_off(until);
    assert_eq!(bed.step(0), Step::Wait { until });
    assert_eq!(bed.listings, 1);
    // What somebody asks for is listed all the same.
    bed.list(0);
    assert_eq!(bed.step(0), Step::Wait { until });
    bed.now = until;
    assert_eq!(bed.go(0), ["a=1"]);
}

#[test]
fn w7_an_unanswered_call_is_asked_after_only_when_it_is_not_held_off() {
    let mut bed = Bed::having(&[]);
    bed.queue("a", whole("1"));
    assert_eq!(bed.go_on(0), ["a=1"]);
    bed.lose(0);
    let until = bed.now + Duration::from_secs(3);
    bed.states[0].hold_off(until);
    assert_eq!(bed.step(0), Step::Wait { until });
    bed.now = until;
    assert!(matches!(bed.step(0), Step::List { .. }));
}

#[test]
fn w7_a_token_is_used_once_and_not_when_it_is_old() {
    let mut bed = Bed::having(&[]);
    bed.close("a", whole("1"));
    assert_eq!(bed.go(0), ["a=1"]);
    assert_eq!(bed.listings, 1);
    bed.answer(0);
    bed.close("a", whole("2"));
    assert_eq!(bed.go(0), ["a=2"]);
    assert_eq!(bed.listings, 2);
    bed.answer(0);
    bed.list(0);
    bed.wait(6000);
    bed.close("a", whole("3"));
    assert_eq!(bed.go(0), ["a=3"]);
    assert_eq!(bed.listings, 4);
}

#[test]
fn s10_a_batch_that_is_refused_without_a_name_is_halved() {
    let mut bed = Bed::having(&[]);
    let tickets: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .map(|name| bed.queue(name, whole("1")))
        .collect();
    let full = || Some(Fault::new(Code::LimitExceeded, "full"));
    bed.services[0].refuses = full();
    assert_eq!(bed.go_on(0).len(), 4);
    bed.answer(0);
    bed.services[0].refuses = full();
    assert_eq!(bed.go(0), ["a=1", "b=1"]);
    bed.answer(0);
    assert_eq!(bed.drive().len(), 4);
    assert!(tickets.iter().all(|ticket| bed.is_made(*ticket)));
}

#[test]
fn s10_the_group_of_the_key_that_is_named_is_decided_anew_and_the_others_go_on() {
    let mut bed = Bed::having(&[("a", "1"), ("b", "1")]);
    let change = bed.change(0, "a", super::bed::edit("2"));
    let stale = bed.put(0, vec![change], crate::sync::pending::Commit::Async);
    let other = bed.queue("b", whole("2"));
    assert_eq!(bed.go_on(0), ["a=2", "b=2"]);
    bed.other(0, "a", Some("x"));
    bed.answer(0);
    assert_eq!(bed.drive(), ["b=2"]);
    assert_eq!(bed.refusal(stale), Some(&Refusal::Stale));
    assert!(bed.is_made(other));
}

#[test]
fn s8_denied_credentials_keep_what_is_queued() {
    let mut bed = Bed::having(&[]);
    let ticket = bed.queue("a", whole("1"));
    bed.services[0].refuses = Some(Fault::new(Code::NotAuthorized, "no"));
    assert_eq!(bed.go_on(0), ["a=1"]);
    bed.answer(0);
    assert_eq!(bed.outcome(ticket), None);
    assert_eq!(bed.drive(), ["a=1"]);
}

#[test]
fn w7_what_a_slow_listing_brings_is_used() {
    let mut bed = Bed::having(&[]);
    bed.listing_takes = 6_000;
    bed.wait(6_000);
    bed.close("a", whole("1"));
    assert_eq!(bed.go(0), ["a=1"]);
    assert_eq!(bed.listings, 2);
}
