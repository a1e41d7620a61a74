//! Names given and taken.

use super::*;

fn rename(bed: &mut Bed, source: FileId, target: Target) -> Option<(u64, Vec<Change>)> {
    let request = bed.drafts.to_rename(source, target, Unseen::Keep).unwrap();
    request.map(|request| bed.put_in_line(Some(request)))
}

fn to_absent(key: &str) -> Target {
    Target::Absent(name(key), absent())
}

#[test]
fn f2_what_is_closed_moves_as_one_group() {
    let mut bed = Bed::new();
    let source = bed.open("k", "value", version(3));
    let target = bed.open("l", "old", version(7));
    let (ticket, changes) = rename(&mut bed, source, Target::File(target)).unwrap();
    let kinds: Vec<_> = changes
        .iter()
        .map(|change| {
            (
                change.key.as_str().unwrap(),
                change.kind.clone(),
                change.base,
            )
        })
        .collect();
    assert_eq!(
        kinds,
        [
            ("l", whole("value"), version(7)),
            ("k", Kind::Remove, version(3))
        ]
    );
    assert_eq!(bed.drafts.named(&name("l")), Some(source));
    assert_eq!(bed.drafts.standing(target), Some(Standing::Removed));
    assert_eq!(bed.drafts.changing(&name("k")), Some(Ticket(ticket)));
    bed.made(ticket, &[Some("value"), None], 8);
    assert_eq!(bed.drafts.changing(&name("k")), None);
    assert_eq!(bed.drafts.last_shown(&name("l")), Some(version(8)));
    assert_eq!(bed.look_up("l", "value", version(8)), source);
}

#[test]
fn f2_a_draft_moves_with_its_file_and_is_not_sent_by_that() {
    let mut bed = Bed::new();
    let source = bed.open("k", "value", version(3));
    bed.add(source, " half");
    let (ticket, changes) = rename(&mut bed, source, to_absent("l")).unwrap();
    assert_eq!(changes[0].kind, whole("value"));
    assert_eq!(bed.text(source), "value half");
    let (_, change) = bed.stage(source);
    assert_eq!(change.key, name("l").key);
    assert_eq!(change.kind, append(" half", "value half"));
    assert_eq!(change.base, on(ticket, Some("value"), absent()));
}

#[test]
fn f2_with_nothing_closed_a_file_only_gets_another_name() {
    let mut bed = Bed::new();
    let source = bed.create("k");
    bed.add(source, "new");
    let target = bed.open("l", "old", version(7));
    assert!(rename(&mut bed, source, Target::File(target)).is_none());
    assert_eq!(bed.drafts.named(&name("k")), None);
    assert_eq!(bed.drafts.standing(target), Some(Standing::Removed));
    let (_, change) = bed.stage(source);
    assert_eq!((change.base, change.kind), (version(7), whole("new")));
}

#[test]
fn f2_what_may_have_been_sent_is_removed_where_it_was() {
    let mut bed = Bed::new();
    let source = bed.create("k");
    bed.add(source, "new");
    let (ticket, _) = bed.stage(source);
    bed.given_back(ticket);
    let (_, changes) = rename(&mut bed, source, to_absent("l")).unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(
        (changes[0].key.clone(), &changes[0].kind),
        (name("k").key, &Kind::Remove)
    );
    assert_eq!(bed.stage(source).1.kind, whole("new"));
}

#[test]
fn f2_moving_a_version_does_not_show_it() {
    let mut bed = Bed::new();
    let old = bed.open("k", "old", version(3));
    bed.read(old, true);
    let new = bed.open("k", "new", version(5));
    let (ticket, changes) = rename(&mut bed, new, to_absent("l")).unwrap();
    assert_eq!(changes[1].base, version(3));
    bed.made(ticket, &[Some("new"), None], 6);
    assert_eq!(bed.drafts.last_shown(&name("l")), Some(absent()));
}

#[test]
fn f2_what_was_written_over_another_version_is_not_taken_away_with_the_one_that_moves() {
    let mut bed = Bed::new();
    let old = bed.open("k", "old", version(3));
    bed.write(old, 0, "OLD");
    let (first, _) = bed.stage(old);
    bed.drafts.noted(Ticket(first));
    // It would be refused, so the name shows the service's version.
    let new = bed.open("k", "new", version(5));
    let (_, changes) = rename(&mut bed, new, to_absent("l")).unwrap();
    assert_eq!(changes[1].base, on(first, None, version(3)));
}

#[test]
fn f2_an_exchange_is_two_wholes() {
    let mut bed = Bed::new();
    let one = bed.open("k", "K", version(3));
    let other = bed.open("l", "L", version(7));
    bed.add(one, "+");
    let request = bed.drafts.to_exchange(one, other).unwrap();
    let (ticket, changes) = bed.put_in_line(request);
    let found: Vec<_> = changes
        .iter()
        .map(|change| (&change.kind, change.base))
        .collect();
    assert_eq!(
        found,
        [(&whole("K"), version(7)), (&whole("L"), version(3))]
    );
    assert_eq!(bed.drafts.named(&name("l")), Some(one));
    let (_, change) = bed.stage(one);
    assert_eq!(change.base, on(ticket, Some("K"), version(7)));
    bed.made(ticket, &[Some("K"), Some("L")], 8);
    assert_eq!(bed.drafts.last_shown(&name("k")), Some(version(8)));
}

#[test]
fn f2_p4_an_exchange_with_nothing_closed_swaps_names_and_bases() {
    let mut bed = Bed::new();
    let removed = view(None, on(99, None, version(3)));
    let one = bed.drafts.create(&name("a"), &removed, true, false, at(1));
    bed.add(one, "A");
    let other = bed.create("b");
    bed.add(other, "B");
    assert!(bed.drafts.to_exchange(one, other).unwrap().is_none());
    let (_, first) = bed.stage(one);
    let (_, second) = bed.stage(other);
    assert_eq!((first.key, first.base), (name("b").key, absent()));
    assert_eq!((second.key, second.base), (name("a").key, removed.base));
    assert_eq!(second.kind, whole("B"));
}

#[test]
fn f2_an_exchange_with_one_that_is_not_closed_moves_the_other() {
    let mut bed = Bed::new();
    let created = bed.create("k");
    bed.add(created, "half");
    let closed = bed.open("l", "L", version(7));
    let request = bed.drafts.to_exchange(created, closed).unwrap();
    let (ticket, changes) = bed.put_in_line(request);
    let found: Vec<_> = changes
        .iter()
        .map(|change| (&change.kind, change.base))
        .collect();
    assert_eq!(
        found,
        [(&Kind::Remove, version(7)), (&whole("L"), absent())]
    );
    let (_, change) = bed.stage(created);
    assert_eq!(change.base, on(ticket, None, version(7)));
    assert_eq!(change.kind, whole("half"));
}

#[test]
fn f2_a_rename_that_fails_leaves_all_as_it_was() {
    let mut bed = Bed::new();
    let source = bed.open("k", "value", version(3));
    bed.read(source, true);
    bed.add(source, "1");
    let target = bed.open("l", "old", version(7));
    bed.add(target, "unsent");
    let (moved, _) = rename(&mut bed, source, Target::File(target)).unwrap();
    let (written, _) = bed.stage(source);
    bed.add(source, "2");
    bed.given_back(moved);
    bed.given_back(written);
    assert_eq!(bed.drafts.named(&name("k")), Some(source));
    assert_eq!(bed.drafts.named(&name("l")), Some(target));
    assert_eq!(bed.drafts.last_shown(&name("k")), Some(version(3)));
    assert_eq!(bed.text(target), "oldunsent");
    let (_, change) = bed.stage(source);
    assert_eq!((change.key, change.base), (name("k").key, version(3)));
    assert_eq!(change.kind, append("12", "value12"));
    assert_eq!(bed.stage(target).1.base, version(7));
}

#[test]
fn f2_a_refused_rename_that_was_answered_takes_the_name_and_is_parked() {
    let mut bed = Bed::new();
    let source = bed.open("k", "value", version(3));
    let (ticket, _) = rename(&mut bed, source, to_absent("l")).unwrap();
    bed.drafts.noted(Ticket(ticket));
    let effects = bed.refused(ticket, true);
    let parked = parked(&effects);
    assert_eq!(parked.len(), 1);
    assert_eq!(
        (&parked[0].name, &*parked[0].text),
        (&name("l"), &b"value"[..])
    );
    assert_eq!(bed.drafts.named(&name("l")), None);
    assert_eq!(bed.read(source, false), "value");
}

#[test]
fn s07_unlink_cancels_what_is_unsent_and_swallows_what_follows() {
    let mut bed = Bed::new();
    let id = bed.open("k", "value", version(3));
    bed.add(id, "unsent");
    let request = bed.drafts.to_unlink(id, at(20)).unwrap();
    let (ticket, changes) = bed.put_in_line(request);
    assert_eq!(
        (&changes[0].kind, changes[0].base),
        (&Kind::Remove, version(3))
    );
    bed.add(id, "more");
    assert!(!bed.sends(id));
    bed.made(ticket, &[None], 4);
    assert_eq!(
        bed.text(id),
        "valueunsentmore",
        "for those who have it open"
    );
    assert!(!bed.sends(id));
    let released = bed.drafts.release(id, true);
    assert_eq!(released, Released::default());
    assert!(!bed.drafts.has_draft(id));
}

#[test]
fn s07_unlink_of_what_was_never_staged_needs_no_change() {
    let mut bed = Bed::new();
    let id = bed.create("k");
    bed.add(id, "unsent");
    assert!(bed.drafts.to_unlink(id, at(20)).unwrap().is_none());
    assert_eq!(bed.drafts.named(&name("k")), None);
    assert!(!bed.sends(id));
}

#[test]
fn s07_an_unlink_that_fails_leaves_the_draft() {
    let mut bed = Bed::new();
    let id = bed.open("k", "value", version(3));
    bed.add(id, "unsent");
    let request = bed.drafts.to_unlink(id, at(20)).unwrap();
    let (ticket, _) = bed.put_in_line(request);
    bed.refused(ticket, false);
    assert_eq!(bed.drafts.named(&name("k")), Some(id));
    assert!(bed.sends(id));
}

#[test]
fn s07_what_was_closed_while_an_unlink_failed_is_parked() {
    let mut bed = Bed::new();
    let id = bed.open("k", "value", version(3));
    bed.add(id, "!");
    let request = bed.drafts.to_unlink(id, at(20)).unwrap();
    let (ticket, _) = bed.put_in_line(request);
    assert!(!bed.drafts.release(id, true).sends);
    let effects = bed.refused(ticket, false);
    assert_eq!(&*parked(&effects)[0].text, b"value!");
}

#[test]
fn f3_a_file_that_was_forgotten_while_it_had_no_name_is_dropped_when_it_has_it_again() {
    let mut bed = Bed::new();
    let id = bed.open("k", "value", version(3));
    bed.drafts.release(id, true);
    let request = bed.drafts.to_unlink(id, at(200)).unwrap();
    let (ticket, _) = bed.put_in_line(request);
    bed.drafts.forget(id);
    bed.given_back(ticket);
    assert_eq!(bed.drafts.count(), 0);
}

#[test]
fn f2_what_a_rename_was_noted_over_is_not_left_when_it_comes_back() {
    let mut bed = Bed::new();
    let id = bed.create("k");
    bed.add(id, "new");
    let (written, _) = bed.stage(id);
    let (moved, _) = rename(&mut bed, id, to_absent("l")).unwrap();
    bed.given_back(written);
    bed.drafts.noted(Ticket(moved));
    bed.drafts.release(id, true);
    bed.drafts.forget(id);
    bed.made(moved, &[Some("new"), None], 4);
    assert_eq!(bed.drafts.count(), 0);
}
