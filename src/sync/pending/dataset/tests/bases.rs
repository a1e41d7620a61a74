//! B1 and B2: what a change is based on, and what that comes to.

use super::bed::{Bed, append, bytes, edit, key, whole};
use crate::sync::Shown;
use crate::sync::pending::resolution::Resolution;
use crate::sync::pending::{Base, Change, Commit, Digest, Kind, Made, Refusal, Step, Ticket};
use crate::wire::fault::{Code, Fault};

fn full() -> Option<Fault> {
    Some(Fault::new(Code::LimitExceeded, "full"))
}

/// Queues a whole write that is in flight, and a change based on it.
fn one_over_another(bed: &mut Bed, kind: Kind) -> (Ticket, Ticket) {
    let first = bed.queue("k", whole("1"));
    assert_eq!(bed.go_on(0), ["k=1"]);
    let second = bed.queue("k", kind);
    assert_eq!(bed.rows.len(), 2);
    (first, second)
}

fn base_of(bed: &Bed, ticket: Ticket) -> Base {
    bed.rows[&ticket].note.changes[0].change.base
}

#[test]
fn b1_a_base_becomes_the_version_made_if_that_is_what_was_shown() {
    let mut bed = Bed::having(&[("k", "old")]);
    let (first, second) = one_over_another(&mut bed, edit("1+"));
    let pending = Some(Made {
        ticket: first,
        digest: Some(Digest::of(b"1")),
    });
    assert_eq!(base_of(&bed, second).pending, pending);
    bed.answer(0);
    let base = base_of(&bed, second);
    assert_eq!((base.shown, base.pending), (Shown::Version(2), None));
    assert_eq!(bed.drive(), ["k=1+"]);
}

#[test]
fn b1_what_a_function_of_the_service_made_instead_was_shown_to_nobody() {
    let mut bed = Bed::having(&[("k", "old")]);
    let (_, second) = one_over_another(&mut bed, edit("1+"));
    bed.services[0].trigger = Some("changed".to_owned());
    bed.answer(0);
    assert_eq!(base_of(&bed, second).shown, Shown::Version(1));
    assert!(bed.drive().is_empty());
    assert_eq!(bed.refusal(second), Some(&Refusal::Stale));
    assert_eq!(bed.services[0].value("k"), Some("changed"));
}

#[test]
fn b1_a_base_on_what_is_refused_becomes_that_one_s_own() {
    let mut bed = Bed::having(&[("k", "old")]);
    let (first, second) = one_over_another(&mut bed, edit("1+"));
    bed.services[0].refuses = full();
    bed.answer(0);
    assert!(bed.refusal(first).is_some());
    // It is one key only: what stands on it goes on.
    assert_eq!(base_of(&bed, second).shown, Shown::Version(1));
    assert_eq!(bed.drive(), ["k=1+"]);
}

#[test]
fn b1_what_stands_on_a_refused_group_of_several_keys_is_refused_with_it() {
    let mut bed = Bed::having(&[("a", "1"), ("b", "2"), ("c", "3")]);
    let rename = bed.queue_rename("a", "b");
    assert_eq!(bed.go_on(0), ["b=1", "-a"]);
    let on_set = bed.queue("b", append("1", "+"));
    let on_removal = bed.queue("a", whole("new"));
    // What stands on those stands on the rename too: it would go behind what `b` was before.
    let on_append = bed.queue("b", append("1+", "+"));
    let aside = bed.queue("c", whole("4"));
    bed.services[0].refuses = full();
    bed.answer(0);
    assert!(matches!(bed.refusal(rename), Some(Refusal::Fault(_))));
    for ticket in [on_set, on_removal, on_append] {
        assert_eq!(bed.refusal(ticket), Some(&Refusal::Based), "{ticket:?}");
    }
    assert_eq!(bed.drive(), ["c=4"]);
    assert!(bed.is_made(aside));
    assert_eq!(bed.services[0].value("a"), Some("1"));
    assert_eq!(bed.services[0].value("b"), Some("2"));
}

#[test]
fn b1_each_key_of_a_group_is_resolved_by_itself() {
    let mut bed = Bed::having(&[("a", "1"), ("b", "2")]);
    bed.queue_rename("a", "b");
    let base = |bed: &Bed, name: &str| bed.states[0].view(&key(name)).base;
    let (on_a, on_b) = (base(&bed, "a"), base(&bed, "b"));
    assert_eq!(on_a.pending.unwrap().digest, None);
    assert_eq!(on_b.pending.unwrap().digest, Some(Digest::of(b"1")));
    assert_eq!(bed.go_on(0).len(), 2);
    bed.services[0].trigger = Some("changed".to_owned());
    bed.answer(0);
    let resolutions = &bed.events.last().unwrap().resolutions;
    let resolve = |name: &str, base| {
        let mut of_key = resolutions.iter().filter(|one| one.key == key(name));
        of_key.next().unwrap().resolve(base)
    };
    assert_eq!(resolve("a", on_a).shown, Shown::Absent);
    assert_eq!(resolve("b", on_b).shown, Shown::Version(2));
}

#[test]
fn b1_what_is_staged_while_an_outcome_is_on_its_way_is_resolved() {
    let mut bed = Bed::having(&[("k", "old")]);
    bed.queue("k", whole("1"));
    let change = bed.change(0, "k", edit("1+"));
    assert_eq!(bed.go_on(0), ["k=1"]);
    let patches = bed.in_flight(0);
    let records = bed.services[0].update(&patches).unwrap();
    bed.states[0].handle_updated(records, bed.now, &mut bed.barrier);
    // The event was not taken yet.
    let (ticket, staged) = bed.stage(0, vec![change], Commit::Async);
    let base = staged.as_ref().unwrap().notes[0].changes[0].change.base;
    assert_eq!((base.shown, base.pending), (Shown::Version(2), None));
    bed.note(0, ticket, &staged.unwrap());
    assert_eq!(bed.drive(), ["k=1+"]);
}

fn resolution(made: Option<(Option<Digest>, Base)>, otherwise: Base) -> Resolution {
    Resolution {
        key: key("k"),
        made,
        otherwise,
    }
}

fn version(life: u32, count: i64) -> Base {
    Base {
        life,
        shown: Shown::Version(count),
        pending: None,
    }
}

fn on(base: Base, digest: Option<Digest>) -> Base {
    Base {
        pending: Some(Made {
            ticket: Ticket(1),
            digest,
        }),
        ..base
    }
}

#[test]
fn b1_otherwise_it_is_the_later_of_what_lay_under_and_the_change_s_own() {
    let one = Some(Digest::of(b"1"));
    let refused = resolution(None, version(0, 3));
    assert_eq!(refused.resolve(on(version(0, 2), one)), version(0, 3));
    assert_eq!(refused.resolve(on(version(0, 5), one)), version(0, 5));
    assert_eq!(refused.resolve(on(version(1, 5), one)), version(0, 3));
    let absent = Base {
        life: 0,
        shown: Shown::Absent,
        pending: None,
    };
    assert_eq!(refused.resolve(on(absent, one)), version(0, 3));
    let made = resolution(Some((one, version(0, 9))), version(0, 3));
    assert_eq!(made.resolve(on(version(0, 3), one)), version(0, 9));
    assert_eq!(made.resolve(on(version(0, 3), None)), version(0, 3));
    let removed = resolution(Some((None, absent)), version(0, 3));
    assert_eq!(removed.resolve(on(version(0, 3), None)), absent);
    assert_eq!(removed.resolve(on(version(0, 3), one)), version(0, 3));
}

/// Returns a change of what was shown before anything was pending.
fn of_older_file(bed: &mut Bed, base: Base, kind: Kind) -> Change {
    let change = bed.change(0, "k", kind);
    Change { base, ..change }
}

#[test]
fn b2_two_files_of_one_key_never_compose_and_the_older_is_not_shown() {
    let mut bed = Bed::having(&[("k", "old")]);
    let base = bed.states[0].view(&key("k")).base;
    bed.queue("k", whole("1"));
    let change = of_older_file(&mut bed, base, whole("2"));
    let second = bed.put(0, vec![change], Commit::Async);
    assert_eq!(bed.rows.len(), 2);
    assert_eq!(bed.view(0, "k").as_deref(), Some("1"));
    assert_eq!(bed.go_on(0), ["k=1"]);
    bed.answer(0);
    // Its writer never saw what it takes the place of: that is kept.
    bed.list(0);
    let Step::Update { replaced, .. } = bed.step(0) else {
        panic!("it may go");
    };
    assert_eq!(replaced.len(), 1);
    assert!(!replaced[0].seen);
    assert_eq!(bed.states[0].in_flight(), [second]);
}

#[test]
fn b2_an_older_file_s_edit_is_refused() {
    let mut bed = Bed::having(&[("k", "old")]);
    let base = bed.states[0].view(&key("k")).base;
    bed.queue("k", whole("1"));
    let change = of_older_file(&mut bed, base, edit("old+"));
    let second = bed.put(0, vec![change], Commit::Async);
    assert_eq!(bed.drive(), ["k=1"]);
    assert_eq!(bed.refusal(second), Some(&Refusal::Stale));
}

#[test]
fn b2_the_version_of_a_waiting_append_or_date_is_the_count_under_it() {
    for (kind, shown, text) in [(append("old", "+"), 2, "new+"), (whole("mine"), 1, "mine")] {
        let mut bed = Bed::having(&[("k", "old")]);
        let ticket = bed.queue("k", kind);
        bed.other(0, "k", Some("new"));
        bed.list(0);
        let view = bed.states[0].view(&key("k"));
        assert_eq!(view.value.as_deref(), Some(text.as_bytes()));
        assert_eq!(view.base.shown, Shown::Version(shown));
        let made = view.base.pending.unwrap();
        assert_eq!(made.ticket, ticket);
        assert_eq!(made.digest, Some(Digest::of(text.as_bytes())));
    }
}

#[test]
fn b2_what_waits_is_shown_until_it_is_refused() {
    for (kind, shown) in [
        (edit("mine"), Some("mine")),
        (whole("mine"), Some("mine")),
        (append("old", "+"), Some("old+")),
        (Kind::Remove, None),
    ] {
        let mut bed = Bed::having(&[("k", "old")]);
        bed.unseen = crate::sync::Unseen::Refuse;
        // What an earlier process left is never made over another version.
        let ticket = bed.queue("k", kind.clone());
        bed.restart();
        bed.list(0);
        assert_eq!(bed.view(0, "k").as_deref(), shown);
        bed.other(0, "k", Some("new"));
        bed.list(0);
        assert_eq!(bed.view(0, "k").as_deref(), shown, "{kind:?}");
        // What is changed next is based on what is shown.
        let base = bed.states[0].view(&key("k")).base;
        assert_eq!(base.pending.map(|made| made.ticket), Some(ticket));
        assert_eq!(base.shown, Shown::Version(1));
        assert!(bed.drive().is_empty());
        assert_eq!(bed.refusal(ticket), Some(&Refusal::Stale));
        assert_eq!(bed.view(0, "k").as_deref(), Some("new"));
    }
}

#[test]
fn b2_what_waits_over_what_will_be_refused_is_shown() {
    let mut bed = Bed::having(&[("a", "1"), ("b", "2")]);
    let stale = bed.queue("b", edit("mine"));
    bed.states[0].wait_for(stale);
    let changes = vec![
        bed.change(0, "a", whole("mine")),
        bed.change(0, "b", whole("1")),
    ];
    let exchange = bed.put(0, changes, Commit::Async);
    bed.other(0, "b", Some("theirs"));
    bed.list(0);
    let shown = |bed: &Bed| ["a", "b"].map(|name| bed.view(0, name).unwrap());
    assert_eq!(shown(&bed), ["mine", "1"], "both halves of the exchange");
    let base = bed.states[0].view(&key("b")).base;
    assert_eq!(base.pending.map(|made| made.ticket), Some(exchange));
    bed.drive();
    assert_eq!(bed.refusal(stale), Some(&Refusal::Stale));
    assert_eq!(shown(&bed), ["mine", "1"]);
}

#[test]
fn b2_who_edits_what_he_removed_begins_it() {
    for absorbed in [true, false] {
        let mut bed = Bed::having(&[("k", "old")]);
        bed.queue("k", Kind::Remove);
        if !absorbed {
            assert_eq!(bed.go_on(0), ["-k"]);
        }
        let begun = bed.queue("k", edit("new"));
        assert_eq!(bed.view(0, "k").as_deref(), Some("new"));
        if !absorbed {
            bed.answer(0);
        }
        assert_eq!(bed.view(0, "k").as_deref(), Some("new"));
        assert_eq!(bed.drive(), ["k=new"]);
        assert!(bed.is_made(begun));
    }
}

#[test]
fn b1_a_moved_value_shows_nobody_what_was_written_elsewhere() {
    let mut bed = Bed::having(&[("a", "1"), ("b", "2")]);
    let changes = vec![
        bed.change(0, "b", Kind::Whole(bytes("1"))),
        bed.change(0, "a", Kind::Remove),
    ];
    bed.other(0, "a", Some("theirs"));
    bed.unseen = crate::sync::Unseen::Refuse;
    let changes: Vec<Change> = changes
        .into_iter()
        .map(|change| Change {
            unseen: crate::sync::Unseen::Refuse,
            ..change
        })
        .collect();
    let rename = bed.put(0, changes, Commit::Async);
    bed.list(0);
    assert!(bed.drive().is_empty());
    assert_eq!(bed.refusal(rename), Some(&Refusal::Stale));
    assert_eq!(bed.services[0].value("b"), Some("2"));
}

#[test]
fn s9_what_a_rename_moves_lives_on_though_another_wrote_the_same_since() {
    for (theirs, seen) in [("1", true), ("other", false)] {
        let mut bed = Bed::having(&[("a", "1")]);
        let changes = bed.rename(0, "a", "b");
        bed.other(0, "a", Some(theirs));
        bed.put(0, changes, Commit::Async);
        bed.list(0);
        bed.wait(100);
        let Step::Update { replaced, .. } = bed.step(0) else {
            panic!("it may go");
        };
        let [old] = &replaced[..] else {
            panic!("{replaced:?}");
        };
        assert_eq!((&old.key, old.seen), (&key("a"), seen), "{theirs}");
    }
}
