//! W3: what a change may take in of what waits, and what the two come to.

use super::bed::{Bed, append, bytes, edit, key, whole};
use crate::sync::pending::{Change, Commit, Kind};

#[test]
fn w3_what_is_noted_is_absorbed_on_the_old_base() {
    let mut bed = Bed::having(&[("k", "old")]);
    bed.queue("k", whole("1"));
    bed.queue("k", append("1", "+"));
    bed.queue("k", Kind::Times);
    let last = bed.queue("k", append("1+", "+"));
    assert_eq!(bed.rows.keys().collect::<Vec<_>>(), [&last]);
    let change = &bed.rows[&last].note.changes[0].change;
    assert_eq!(change.base, {
        let mut base = change.base;
        base.shown = crate::sync::Shown::Version(1);
        base.pending = None;
        base
    });
    assert_eq!(bed.drive(), ["k=1++"]);
    assert_eq!(bed.services[0].count, 2);
}

#[test]
fn w3_two_appends_are_one_of_both_texts() {
    let mut bed = Bed::having(&[("k", "a;")]);
    bed.queue("k", append("a;", "b;"));
    bed.queue("k", append("a;b;", "c;"));
    assert_eq!(bed.rows.len(), 1);
    bed.other(0, "k", Some("a;x;"));
    bed.list(0);
    assert_eq!(bed.drive(), ["k=a;x;b;c;"]);
}

#[test]
fn w3_what_somebody_waits_for_is_not_absorbed() {
    let mut bed = Bed::having(&[("k", "old")]);
    let first = bed.queue("k", whole("1"));
    bed.states[0].wait_for(first);
    bed.queue("k", whole("2"));
    assert_eq!(bed.rows.len(), 2);
    assert_eq!(bed.drive(), ["k=1", "k=2"]);
    assert!(bed.is_made(first));
}

#[test]
fn w3_what_is_in_flight_or_has_no_answer_is_not_absorbed() {
    for unanswered in [false, true] {
        let mut bed = Bed::having(&[("k", "old")]);
        bed.queue("k", whole("1"));
        assert_eq!(bed.go_on(0), ["k=1"]);
        let late = unanswered.then(|| bed.lose(0));
        bed.queue("k", whole("2"));
        assert_eq!(bed.rows.len(), 2);
        match late {
            Some(late) => drop(bed.services[0].update(&late).unwrap()),
            None => bed.answer(0),
        }
        assert_eq!(bed.drive(), ["k=2"]);
    }
}

#[test]
fn w3_what_once_had_no_answer_is_not_absorbed_though_a_listing_lacks_it() {
    let mut bed = Bed::having(&[("k", "old")]);
    bed.queue("k", whole("1"));
    assert_eq!(bed.go_on(0), ["k=1"]);
    let late = bed.lose(0);
    bed.list(0);
    bed.queue("k", whole("2"));
    assert_eq!(bed.rows.len(), 2);
    bed.services[0].update(&late).unwrap();
    assert_eq!(bed.drive(), ["k=2"]);
    assert_eq!(bed.services[0].count, 3);
}

#[test]
fn w3_what_an_earlier_process_left_is_not_absorbed() {
    let mut bed = Bed::having(&[("k", "old")]);
    bed.queue("k", whole("1"));
    bed.restart();
    bed.list(0);
    bed.queue("k", whole("2"));
    assert_eq!(bed.rows.len(), 2);
    assert_eq!(bed.drive(), ["k=1", "k=2"]);
}

fn many(bed: &mut Bed, names: std::ops::Range<u32>) -> Vec<Change> {
    names
        .map(|at| bed.change(0, &format!("k{at}"), whole("1")))
        .collect()
}

#[test]
fn w3_a_group_takes_in_no_more_than_128_changes() {
    for (names, groups) in [(28..128, 1), (29..129, 2)] {
        let mut bed = Bed::having(&[]);
        let first = many(&mut bed, 0..100);
        bed.put(0, first, Commit::Async);
        let second = many(&mut bed, names);
        bed.put(0, second, Commit::Async);
        assert_eq!(bed.rows.len(), groups);
    }
}

#[test]
fn w3_a_group_takes_in_no_more_than_a_mebibyte_but_for_what_replaces_it() {
    let large = "x".repeat(600 * 1024);
    for (names, groups) in [(&["a", "c"][..], 2), (&["a", "b"], 1)] {
        let mut bed = Bed::having(&[]);
        let first = vec![
            bed.change(0, "a", whole(&large)),
            bed.change(0, "b", whole(&large)),
        ];
        bed.put(0, first, Commit::Async);
        let these = names.iter();
        let second = these.map(|name| bed.change(0, name, whole("1")));
        let second: Vec<Change> = second.collect();
        bed.put(0, second, Commit::Async);
        assert_eq!(bed.rows.len(), groups, "{names:?}");
    }
}

#[test]
fn w3_an_exchange_of_what_waits_is_one_update() {
    let mut bed = Bed::having(&[("a", "1"), ("b", "2")]);
    bed.queue("a", whole("one"));
    let changes = vec![
        bed.change(0, "a", whole("2")),
        bed.change(0, "b", whole("one")),
    ];
    bed.put(0, changes, Commit::Async);
    assert_eq!(bed.rows.len(), 1);
    bed.queue("a", append("2", "+"));
    assert_eq!(bed.rows.len(), 1);
    assert_eq!(bed.view(0, "b").as_deref(), Some("one"));
    assert_eq!(bed.go_on(0), ["a=2+", "b=one"]);
}

#[test]
fn w3_a_record_moved_away_and_back_is_as_it_was() {
    let mut bed = Bed::having(&[("a", "1")]);
    bed.queue_rename("a", "b");
    bed.queue_rename("b", "a");
    assert_eq!(bed.view(0, "a").as_deref(), Some("1"));
    assert_eq!(bed.view(0, "b"), None);
    assert_eq!(bed.drive(), ["a=1"]);
}

#[test]
fn w3_vim_s_backup_and_new_file_are_one_replace_on_the_old_base() {
    for commit in [Commit::Async, Commit::Close] {
        let mut bed = Bed::having(&[("k", "old")]);
        bed.queue_rename("k", "k~");
        let change = bed.change(0, "k", whole("new"));
        let ticket = bed.put(0, vec![change], commit);
        assert_eq!(bed.go_on(0), ["k=new"]);
        assert_eq!(bed.states[0].records[&key("k")].sync_count, 1);
        bed.answer(0);
        assert!(bed.is_made(ticket));
        assert!(bed.drive().is_empty());
        assert_eq!(bed.view(0, "k~").as_deref(), Some("old"));
        assert_eq!(bed.states[0].litter(), 1);
        assert_eq!(bed.rows.len(), 1);
    }
}

#[test]
fn w3_a_record_made_and_removed_is_nothing_if_it_was_never_sent() {
    let mut bed = Bed::having(&[]);
    bed.queue("k", whole("1"));
    let removal = bed.queue("k", Kind::Remove);
    assert!(bed.is_made(removal));
    assert!(bed.rows.is_empty() && bed.barrier.is_empty());
    assert!(bed.drive().is_empty());
    assert_eq!(bed.listings, 1);
}

#[test]
fn w3_a_record_made_and_removed_is_removed_if_it_was_sent() {
    let mut bed = Bed::having(&[]);
    bed.queue("k", whole("1"));
    assert_eq!(bed.go_on(0), ["k=1"]);
    let late = bed.lose(0);
    bed.list(0);
    let removal = bed.queue("k", Kind::Remove);
    assert_eq!(bed.outcome(removal), None);
    bed.services[0].update(&late).unwrap();
    assert_eq!(bed.drive(), ["-k"]);
}

#[test]
fn w3_an_edit_of_what_was_removed_begins_it() {
    let mut bed = Bed::having(&[("k", "old")]);
    bed.queue("k", Kind::Remove);
    bed.queue("k", edit("1"));
    assert_eq!(bed.rows.len(), 1);
    assert_eq!(bed.drive(), ["k=1"]);
}

#[test]
fn w3_an_append_to_what_was_removed_begins_it() {
    let mut bed = Bed::having(&[("k", "old")]);
    bed.queue("k", Kind::Remove);
    let append = Kind::Append {
        text: bytes("1"),
        whole: bytes("1"),
    };
    bed.queue("k", append);
    assert_eq!(bed.drive(), ["k=1"]);
}

#[test]
fn w3_what_was_never_sent_is_removed_without_a_call_in_both_modes() {
    for (name, commit) in [
        (".k.swp", Commit::Close),
        (".goutputstream-1", Commit::Close),
        (".k.swp", Commit::Async),
    ] {
        let mut bed = Bed::new();
        bed.close(name, whole("1"));
        let change = bed.change(0, name, Kind::Remove);
        let removal = bed.put(0, vec![change], commit);
        assert!(bed.is_made(removal), "{name} {commit:?}");
        assert!(bed.rows.is_empty() && bed.barrier.is_empty());
        assert!(bed.drive().is_empty());
        assert_eq!((bed.listings, bed.view(0, name)), (0, None));
    }
}

#[test]
fn w3_without_room_a_held_file_is_not_removed() {
    let mut bed = Bed::new();
    let held = bed.close(".k.swp", whole("1"));
    let change = bed.change(0, ".k.swp", Kind::Remove);
    let (removal, staged) = bed.stage(0, vec![change], Commit::Close);
    let staged = staged.unwrap();
    assert_eq!((&staged.replaced[..], staged.waits), (&[held][..], false));
    bed.not_note(0, removal);
    assert_eq!(bed.view(0, ".k.swp").as_deref(), Some("1"));
    assert!(bed.rows.contains_key(&held));
}
