//! W6: what removals and renames wait for, whatever the dataset.

use super::bed::{Bed, key, whole};
use crate::sync::pending::{Commit, Kind, Refusal, Ticket};
use crate::wire::fault::{Code, Fault};

/// Has datasets, each with one record `k` of the dataset's own value.
fn datasets(count: usize) -> Bed {
    let mut bed = Bed::with(count);
    for of in 0..count {
        bed.other(of, "k", Some(&format!("v{of}")));
        bed.list(of);
    }
    bed
}

/// Copies a record into another dataset and removes it, as `mv` does.
fn move_across(bed: &mut Bed, from: (usize, &str), to: (usize, &str)) -> (Ticket, Ticket) {
    let value = bed.view(from.0, from.1).unwrap();
    let copy = bed.queue_in(to.0, to.1, whole(&value));
    (copy, bed.queue_in(from.0, from.1, Kind::Remove))
}

fn full() -> Fault {
    Fault::new(Code::LimitExceeded, "full")
}

#[test]
fn w6_a_removal_waits_for_sets_of_other_datasets_noted_before_it() {
    let mut bed = datasets(2);
    bed.queue_in(1, "j", whole("1"));
    bed.queue_in(0, "k", Kind::Remove);
    assert!(bed.go_on(0).is_empty());
    assert_eq!(bed.go(1), ["j=1"]);
    // Not before it is decided.
    assert!(bed.go_on(0).is_empty());
    bed.answer(1);
    assert_eq!(bed.go(0), ["-k"]);
}

#[test]
fn w6_a_removal_waits_for_no_set_that_was_noted_after_it() {
    let mut bed = datasets(2);
    bed.queue_in(0, "k", Kind::Remove);
    bed.queue_in(1, "j", whole("1"));
    assert_eq!(bed.go_on(0), ["-k"]);
}

#[test]
fn w6_a_set_waits_for_nothing() {
    let mut bed = datasets(2);
    bed.queue_in(1, "j", whole("1"));
    bed.queue_in(0, "i", whole("1"));
    assert_eq!(bed.go_on(0), ["i=1"]);
}

#[test]
fn w6_a_set_that_replaces_an_older_one_is_waited_for_at_the_older_one_s_place() {
    let mut bed = datasets(2);
    bed.queue_in(1, "j", whole("1"));
    bed.queue_in(0, "k", Kind::Remove);
    bed.queue_in(1, "j", whole("2"));
    assert!(bed.go_on(0).is_empty());
    assert_eq!(bed.drive(), ["j=2", "-k"]);
}

#[test]
fn w6_a_removal_shares_a_call_with_all_earlier_sets_of_its_dataset() {
    let mut bed = datasets(1);
    bed.queue("j", whole("1"));
    bed.queue("k", Kind::Remove);
    assert_eq!(bed.go_on(0), ["j=1", "-k"]);
}

#[test]
fn w6_a_removal_shares_no_call_with_only_some_of_the_earlier_sets() {
    let mut bed = datasets(1);
    bed.queue("i", whole("1"));
    bed.states[0].wait_for(Ticket(1));
    assert_eq!(bed.go(0), ["i=1"]);
    let first_i = Ticket(1);
    // This one is behind one of its key that is in flight.
    bed.queue("i", whole("2"));
    bed.queue("j", whole("1"));
    bed.queue("k", Kind::Remove);
    bed.lose(0);
    assert_eq!(bed.go_on(0), ["i=1", "j=1"]);
    bed.answer(0);
    assert!(bed.is_made(first_i));
    assert_eq!(bed.go(0), ["i=2", "-k"]);
}

#[test]
fn w6_a_removal_does_not_go_with_a_set_that_the_batch_has_no_room_for() {
    let mut bed = datasets(1);
    let large = "x".repeat(900 * 1024);
    for name in ["a", "b", "c"] {
        bed.queue(name, whole(&large));
    }
    bed.queue("k", Kind::Remove);
    let keys = |sent: Vec<String>| -> String {
        sent.iter()
            .map(|one| &one[..2])
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(keys(bed.go_on(0)), "a= b=");
    bed.answer(0);
    assert_eq!(keys(bed.go(0)), "c= -k");
}

#[test]
fn w6_a_rename_waits_for_plain_sets_only() {
    let mut bed = datasets(3);
    let changes = bed.rename(1, "k", "j");
    bed.put(1, changes, Commit::Async);
    let changes = bed.rename(0, "k", "j");
    bed.put(0, changes, Commit::Async);
    assert_eq!(bed.go_on(0), ["j=v0", "-k"]);
    bed.answer(0);
    bed.queue_in(2, "j", whole("1"));
    let changes = bed.rename(0, "j", "i");
    bed.put(0, changes, Commit::Async);
    assert!(bed.go_on(0).is_empty());
    assert_eq!(bed.drive(), ["j=v1", "-k", "j=1", "i=v0", "-j"]);
}

#[test]
fn w6_a_removal_waits_for_renames() {
    let mut bed = datasets(2);
    let changes = bed.rename(1, "k", "j");
    bed.put(1, changes, Commit::Async);
    bed.queue_in(0, "k", Kind::Remove);
    assert!(bed.go_on(0).is_empty());
    assert_eq!(bed.drive(), ["j=v1", "-k", "-k"]);
}

#[test]
fn w6_litter_is_waited_for_by_nobody() {
    let mut bed = datasets(2);
    bed.queue_in(1, ".k.swp", whole("1"));
    bed.queue_in(0, "k", Kind::Remove);
    assert_eq!(bed.go_on(0), ["-k"]);
}

#[test]
fn w6_a_passing_file_s_hold_ends_when_a_removal_waits_for_it() {
    let mut bed = datasets(2);
    bed.queue_in(1, ".goutputstream-1", whole("1"));
    assert!(bed.go_on(1).is_empty());
    bed.queue_in(0, "k", Kind::Remove);
    assert!(bed.go_on(0).is_empty());
    assert_eq!(bed.go(1), [".goutputstream-1=1"]);
    bed.answer(1);
    assert_eq!(bed.go(0), ["-k"]);
}

#[test]
fn w6_an_awaited_removal_waits_for_nothing() {
    let mut bed = datasets(2);
    bed.queue_in(1, "j", whole("1"));
    bed.close("k", Kind::Remove);
    assert_eq!(bed.go(0), ["-k"]);
}

#[test]
fn w6_an_awaited_removal_ends_the_holds_of_what_carries_its_value_and_no_others() {
    let mut bed = datasets(2);
    bed.queue_in(1, ".goutputstream-1", whole("v0"));
    bed.queue_in(1, ".goutputstream-2", whole("other"));
    bed.close("k", Kind::Remove);
    assert_eq!(bed.go(0), ["-k"]);
    assert_eq!(bed.go(1), [".goutputstream-1=v0"]);
}

#[test]
fn w6_a_refused_set_keeps_back_the_removals_of_its_value_and_no_others() {
    let mut bed = datasets(3);
    let (copy, removal) = move_across(&mut bed, (0, "k"), (1, "k0"));
    let other = bed.queue_in(2, "k", Kind::Remove);
    bed.services[1].refuses = Some(full());
    assert!(bed.go_on(0).is_empty());
    assert_eq!(bed.go(1), ["k0=v0"]);
    bed.answer(1);
    assert!(bed.refusal(copy).is_some());
    assert_eq!(bed.refusal(removal), Some(&Refusal::KeptBack));
    assert_eq!(bed.drive(), ["-k"]);
    assert!(bed.is_made(other));
    assert_eq!(bed.services[0].value("k"), Some("v0"));
    assert!(bed.barrier.is_empty());
}

#[test]
fn w6_a_set_refused_when_it_is_planned_keeps_back_a_removal_of_its_dataset() {
    let mut bed = datasets(1);
    let set = bed.change(0, "j~", Kind::Whole(b"\xff".as_slice().into()));
    let set = bed.put(0, vec![set], Commit::Async);
    bed.wait(10_000);
    bed.other(0, "h", Some("\u{ff}"));
    let other = bed.queue("k", Kind::Remove);
    assert_eq!(bed.go_on(0), ["-k"]);
    assert_eq!(bed.refusal(set), Some(&Refusal::NotText));
    bed.answer(0);
    assert!(bed.is_made(other));
}

#[test]
fn w6_a_refused_set_keeps_back_no_removal_that_was_noted_before_it() {
    let mut bed = datasets(2);
    let removal = bed.queue_in(0, "k", Kind::Remove);
    let set = bed.queue_in(1, "j", whole("v0"));
    bed.services[1].refuses = Some(full());
    assert_eq!(bed.go_on(1), ["j=v0"]);
    bed.answer(1);
    assert!(bed.refusal(set).is_some());
    assert_eq!(bed.drive(), ["-k"]);
    assert!(bed.is_made(removal));
}

/// Returns whether the service has a value somewhere.
fn has(bed: &Bed, value: &str) -> bool {
    let mut records = bed
        .services
        .iter()
        .flat_map(|service| service.records.values());
    records.any(|record| record.value.as_ref().and_then(|text| text.as_str()) == Some(value))
}

#[test]
fn w6_a_chain_of_moves_keeps_the_value_at_the_service_at_every_moment() {
    for back in [false, true] {
        let mut bed = datasets(3);
        move_across(&mut bed, (0, "k"), (1, "moved"));
        move_across(&mut bed, (1, "moved"), (2, "moved"));
        if back {
            move_across(&mut bed, (2, "moved"), (0, "k"));
        }
        let made = bed.drive_watching(|bed| assert!(has(bed, "v0"), "{:?}", bed.services));
        assert!(!made.is_empty());
        let at = |of: usize, name| bed.services[of].value(name);
        let places = [at(0, "k"), at(1, "moved"), at(2, "moved")];
        match back {
            false => assert_eq!(places, [None, None, Some("v0")]),
            true => assert_eq!(places, [Some("v0"), None, None]),
        }
        assert!(bed.rows.is_empty() && bed.barrier.is_empty());
    }
}

#[test]
fn w6_what_was_moved_is_written_anew_only_when_the_service_has_had_it() {
    let mut bed = datasets(2);
    move_across(&mut bed, (0, "k"), (1, "moved"));
    // The copy must not be taken in: the removal waits for it, and would go too early or too late.
    bed.queue_in(1, "moved", whole("new"));
    assert_eq!(bed.drive(), ["moved=v0", "-k", "moved=new"]);
}

#[test]
fn w6_no_rename_reaches_back_over_a_removal() {
    let mut bed = datasets(2);
    let first = bed.queue_in(0, "a", whole("1"));
    bed.queue_in(1, "k", Kind::Remove);
    let changes = bed.rename(0, "a", "k");
    let rename = bed.put(0, changes, Commit::Async);
    let places = bed.rows.get(&rename).map(|row| row.places);
    // Either it holds no set of before the removal, or it removes nothing.
    let removes = |ticket: &Ticket| {
        let changes = &bed.rows[ticket].note.changes;
        changes
            .iter()
            .any(|noted| noted.change.kind == Kind::Remove)
    };
    let places = places.unwrap();
    assert!(!removes(&rename) || places.first_set == Some(places.last));
    bed.drive();
    assert!(bed.is_made(rename) || bed.is_made(first));
    assert_eq!(bed.services[0].value("k"), Some("1"));
    assert_eq!(bed.services[0].value("a"), None);
}

#[test]
fn w6_a_rename_that_would_reach_over_a_removal_stays_apart() {
    let mut bed = datasets(2);
    let first = bed.queue_in(0, "k", whole("1"));
    bed.queue_in(1, "k", Kind::Remove);
    let changes = bed.rename(0, "k", "j");
    let rename = bed.put(0, changes, Commit::Async);
    assert!(bed.rows.contains_key(&first) && bed.rows.contains_key(&rename));
    assert_eq!(bed.drive(), ["k=1", "-k", "j=1", "-k"]);
    assert_eq!(bed.states[0].records[&key("j")].sync_count, 3);
}

#[test]
fn w6_nothing_waits_in_a_circle_where_a_removal_overtakes_a_rename_that_reaches_back() {
    for is_left in [false, true] {
        let mut bed = datasets(2);
        bed.queue_in(0, "k", whole("1"));
        let changes = bed.rename(0, "k", "j");
        let (rename, staged) = bed.stage(0, changes, Commit::Async);
        // The journal is slow to take the rename, which begins where the set did.
        let (_, removal) = move_across(&mut bed, (1, "k"), (1, "moved"));
        // This one stays behind the removal of its key.
        let set = bed.queue_in(1, "k", whole("new"));
        bed.note(0, rename, &staged.unwrap());
        let order = |ticket| bed.rows[&ticket].places;
        assert!(order(rename).first_set < Some(order(removal).last));
        assert!(order(removal).last < order(set).last && order(set).last < order(rename).last);
        if is_left {
            bed.restart();
        }
        let made = bed.drive();
        assert_eq!(made, ["moved=v1", "j=1", "-k", "-k", "k=new"]);
    }
}

#[test]
fn w6_a_rename_takes_in_what_no_removal_stands_behind() {
    let mut bed = datasets(2);
    let first = bed.queue_in(0, "k", whole("1"));
    bed.queue_rename("k", "j");
    assert!(!bed.rows.contains_key(&first));
    assert_eq!(bed.drive(), ["j=1", "-k"]);
}

#[test]
fn w6_a_record_written_anew_after_its_value_was_moved_waits_with_its_removal() {
    let mut bed = datasets(2);
    move_across(&mut bed, (0, "k"), (1, "moved"));
    // Composed with the removal it would be a set, which waits for nothing.
    bed.queue_in(0, "k", whole("new"));
    assert!(bed.go_on(0).is_empty());
    let made = bed.drive_watching(|bed| assert!(has(bed, "v0"), "{:?}", bed.services));
    assert_eq!(made, ["moved=v0", "-k", "k=new"]);
}
