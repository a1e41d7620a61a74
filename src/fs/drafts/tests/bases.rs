//! What was shown, and what changes are based on.

use super::*;

#[test]
fn b1_no_look_moves_what_was_shown() {
    let mut bed = Bed::new();
    let old = bed.open("k", "old", version(3));
    assert_eq!(bed.read(old, true), "old");
    let new = bed.open("k", "new", version(5));
    assert_ne!(old, new);
    bed.truncate(new);
    bed.add(new, "mine");
    assert_eq!(bed.stage(new).1.base, version(3));
}

#[test]
fn b1_what_was_never_read_is_based_on_what_was_looked_up() {
    let mut bed = Bed::new();
    let id = bed.open("k", "old", version(3));
    assert_eq!(bed.drafts.last_shown(&name("k")), None);
    bed.add(id, "mine");
    assert_eq!(bed.stage(id).1.base, version(3));
}

#[test]
fn b1_a_pending_version_is_resolved_when_it_is_made() {
    let mut bed = Bed::new();
    let id = bed.create("k");
    bed.add(id, "a");
    let (ticket, _) = bed.stage(id);
    let pending = on(ticket, Some("a"), absent());
    assert_eq!(bed.drafts.last_shown(&name("k")), Some(pending));
    let effects = bed.made(ticket, &[Some("a")], 1);
    assert_eq!(effects, []);
    assert_eq!(bed.drafts.last_shown(&name("k")), Some(version(1)));
    bed.add(id, "b");
    assert_eq!(bed.stage(id).1.base, version(1));
}

/// The core knows before the files are told. Whoever looks meanwhile sees the very version that was
/// shown, and so does what he writes then.
#[test]
fn b1_a_version_that_was_made_meanwhile_was_shown() {
    let mut bed = Bed::new();
    let id = bed.create("k");
    bed.add(id, "a");
    let (ticket, _) = bed.stage(id);
    bed.drafts.noted(Ticket(ticket));
    let view = view(Some("a"), version(1));
    let pending = on(ticket, Some("a"), absent());
    let normalized = |base| if base == pending { version(1) } else { base };
    let found = bed.drafts.look_up(&name("k"), &view, normalized);
    assert_eq!(found, Some(id));
    assert_eq!(bed.drafts.last_shown(&name("k")), Some(version(1)));
    bed.truncate(id);
    bed.add(id, "b");
    assert_eq!(bed.stage(id).1.base, version(1));
}

#[test]
fn b1_what_was_made_otherwise_was_not_shown() {
    let mut bed = Bed::new();
    let id = bed.open("k", "a", version(3));
    bed.truncate(id);
    bed.add(id, "b");
    let (ticket, _) = bed.stage(id);
    bed.made(ticket, &[Some("B")], 4);
    assert_eq!(bed.drafts.last_shown(&name("k")), Some(version(3)));
    // Reading shows it.
    assert_eq!(bed.read(id, true), "B");
    assert_eq!(bed.drafts.last_shown(&name("k")), Some(version(4)));
}

#[test]
fn b1_entries_and_files_follow_what_took_the_place_of_theirs() {
    let mut bed = Bed::new();
    let id = bed.create("k");
    bed.add(id, "a");
    let (first, _) = bed.stage(id);
    bed.drafts.noted(Ticket(first));
    // Another file reads the first, and is open while the second takes its place.
    bed.drafts.release(id, true);
    bed.drafts.forget(id);
    let other = bed.open("k", "a", on(first, Some("a"), absent()));
    bed.read(other, true);
    bed.add(other, "b");
    let (second, _) = bed.stage(other);
    bed.drafts.noted(Ticket(second));
    bed.made_over(second, &[first], &[Some("ab")], 1);
    assert_eq!(bed.drafts.last_shown(&name("k")), Some(version(1)));
    assert_eq!(bed.drafts.stands_on(other), None);
}

#[test]
fn b1_what_is_added_to_a_version_of_another_is_based_on_it_if_nothing_was_shown_before() {
    let mut bed = Bed::new();
    bed.drafts.note_shown(name("k"), absent());
    let id = bed.open("k", "theirs", version(6));
    bed.add(id, "!");
    assert_eq!(bed.stage(id).1.base, version(6));
    // What is written without regard to it takes its place, and is based on what was shown.
    bed.drafts.note_shown(name("l"), absent());
    let id = bed.open("l", "theirs", version(7));
    bed.truncate(id);
    bed.add(id, "mine");
    assert_eq!(bed.stage(id).1.base, absent());
}

#[test]
fn b2_what_is_written_to_the_services_version_is_not_laid_over_a_pending_one() {
    let mut bed = Bed::new();
    let id = bed.open("k", "old", version(3));
    bed.add(id, "mine");
    let (ticket, _) = bed.stage(id);
    bed.drafts.noted(Ticket(ticket));
    bed.drafts.release(id, true);
    // Another client was faster: ours will be refused, and is not shown any more.
    let other = bed.open("k", "theirs", version(6));
    bed.add(other, "!");
    assert_eq!(bed.stage(other).1.base, on(ticket, None, version(3)));
}

#[test]
fn b1_what_is_written_over_an_unread_version_does_not_show_it() {
    let mut bed = Bed::new();
    let old = bed.open("k", "old", version(3));
    bed.read(old, true);
    let new = bed.open("k", "new", version(5));
    bed.add(new, "a");
    let (first, change) = bed.stage(new);
    assert_eq!(change.base, version(3));
    bed.add(new, "b");
    let (_, change) = bed.stage(new);
    // It stands on the first, whatever is made of that, and has seen no more than before.
    assert_eq!(change.base, on(first, None, version(3)));
    bed.made(first, &[Some("newa")], 6);
    bed.truncate(new);
    assert_eq!(
        bed.drafts
            .to_stage(new, Extent::All)
            .unwrap()
            .unwrap()
            .changes[0]
            .base
            .shown,
        Shown::Version(3)
    );
}

#[test]
fn b1_the_read_shows_what_the_next_change_is_based_on() {
    let mut bed = Bed::new();
    let id = bed.open("k", "old", version(3));
    bed.read(id, true);
    bed.write(id, 0, "O");
    let (ticket, _) = bed.stage(id);
    bed.refused(ticket, false);
    assert_eq!(bed.drafts.last_shown(&name("k")), Some(version(3)));
    let new = bed.open("k", "new", version(5));
    bed.read(new, false);
    let removal = bed.drafts.to_unlink(new, at(20)).unwrap().unwrap();
    assert_eq!(removal.changes[0].base, version(5));
}

#[test]
fn b2_an_older_file_of_a_name_has_a_base_of_its_own() {
    let mut bed = Bed::new();
    let old = bed.open("k", "old", version(3));
    let new = bed.open("k", "new", version(5));
    bed.read(new, true);
    bed.add(old, "!");
    bed.add(new, "?");
    let (_, first) = bed.stage(old);
    let (_, second) = bed.stage(new);
    assert_eq!((first.base, second.base), (version(3), version(5)));
    // The older one shows nothing under the name.
    let shown = bed.drafts.last_shown(&name("k")).unwrap();
    assert_eq!(shown.pending.unwrap().ticket, Ticket(2));
}

#[test]
fn b2_what_lost_its_name_unread_has_not_shown_its_version() {
    let mut bed = Bed::new();
    let old = bed.open("k", "old", version(3));
    bed.read(old, true);
    let unread = bed.open("k", "new", version(5));
    bed.look_up("k", "newer", version(6));
    bed.truncate(unread);
    bed.add(unread, "mine");
    assert_eq!(bed.stage(unread).1.base, version(3));
}

#[test]
fn b2_t10_after_an_append_the_size_is_that_of_the_value_made() {
    let mut bed = Bed::new();
    let id = bed.open("k", "read6\n", version(3));
    bed.read(id, true);
    bed.add(id, "local\n");
    let (ticket, change) = bed.stage(id);
    assert_eq!(change.kind, append("local\n", "read6\nlocal\n"));
    let effects = bed.made(ticket, &[Some("elsewhere\nlocal\n")], 5);
    assert!(effects.contains(&Effect::Invalidate(id)));
    assert_eq!(bed.drafts.attributes(id, true).unwrap().size, 16);
    assert_eq!(bed.read(id, false), "elsewhere\nlocal\n");
}

#[test]
fn s04_a_pending_version_of_another_ticket_with_the_same_bytes_is_the_same_file() {
    let mut bed = Bed::new();
    let id = bed.look_up("k", "a", on(1, Some("a"), absent()));
    assert_eq!(bed.look_up("k", "a", on(2, Some("a"), absent())), id);
    assert_ne!(bed.look_up("k", "b", on(3, Some("b"), absent())), id);
}

#[test]
fn s15_the_date_does_not_jump_when_a_write_is_acknowledged() {
    let mut bed = Bed::new();
    let id = bed.open("k", "a", version(3));
    bed.add(id, "b");
    let before = bed.drafts.attributes(id, true).unwrap();
    let (ticket, _) = bed.stage(id);
    let between = bed.drafts.attributes(id, true).unwrap();
    bed.made(ticket, &[Some("ab")], 4);
    let after = bed.drafts.attributes(id, true).unwrap();
    assert_eq!(before.modified, at(10));
    assert_eq!((between.modified, after.modified), (at(10), at(10)));
    assert_eq!((between.size, after.size), (2, 2));
}

#[test]
fn b1_the_table_is_bounded_and_what_falls_out_is_as_if_it_was_not_read() {
    let mut bed = Bed::new();
    let id = bed.open("k", "old", version(3));
    bed.read(id, true);
    for other in 0..super::super::shown::MAX {
        let other = name(&format!("other {other}"));
        bed.drafts.note_shown(other, version(1));
    }
    assert_eq!(bed.drafts.last_shown(&name("k")), None);
    let new = bed.open("k", "new", version(5));
    bed.truncate(new);
    bed.add(new, "mine");
    assert_eq!(bed.stage(new).1.base, version(5));
}
