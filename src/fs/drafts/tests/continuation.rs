//! What becomes of files when the core tells of a ticket.

use super::*;

#[test]
fn f1_a_final_refusal_takes_the_name_before_the_flush_is_answered() {
    let mut bed = Bed::new();
    let id = bed.open("k", "good", version(3));
    bed.drafts.open(id, None, false).unwrap();
    bed.write(id, 0, "BAD!");
    let (ticket, _) = bed.stage(id);
    let effects = bed.refused(ticket, false);
    assert_eq!(effects, [Effect::Invalidate(id), Effect::Superseded(id)]);
    // Its writer has his text; others who have it open read what they opened.
    assert_eq!(bed.read(id, true), "BAD!");
    assert_eq!(bed.read(id, false), "good");
    assert_eq!(bed.drafts.attributes(id, false).unwrap().modified, at(100));
    // Who looks it up gets the service's.
    assert_ne!(bed.look_up("k", "good", version(3)), id);
    assert_eq!(bed.drafts.last_shown(&name("k")), Some(version(3)));
}

#[test]
fn f1_the_refused_may_retry_and_is_parked_at_the_last_release() {
    let mut bed = Bed::new();
    let id = bed.open("k", "good", version(3));
    bed.write(id, 0, "BAD!");
    let (first, _) = bed.stage(id);
    bed.refused(first, false);
    let (second, change) = bed.stage(id);
    assert_eq!(change.base, version(3));
    bed.refused(second, false);
    let released = bed.drafts.release(id, true);
    assert!(!released.sends);
    assert_eq!(&*parked(&released.effects)[0].text, b"BAD!");
    // The kernel forgets it, and it is gone.
    bed.drafts.forget(id);
    assert_eq!(bed.drafts.standing(id), None);
}

#[test]
fn f1_what_was_in_the_journal_is_parked_at_once_and_not_again() {
    let mut bed = Bed::new();
    let id = bed.open("k", "good", version(3));
    bed.write(id, 0, "BAD!");
    let (ticket, _) = bed.stage(id);
    bed.drafts.noted(Ticket(ticket));
    let effects = bed.refused(ticket, true);
    assert_eq!(parked(&effects).len(), 1);
    assert_eq!(bed.read(id, true), "BAD!");
    assert!(parked(&bed.drafts.release(id, true).effects).is_empty());
}

#[test]
fn f1_a_closed_file_that_is_refused_is_parked_and_not_shown() {
    let mut bed = Bed::new();
    let id = bed.create("k");
    bed.add(id, "a");
    let (ticket, _) = bed.stage(id);
    bed.drafts.noted(Ticket(ticket));
    assert!(!bed.drafts.release(id, true).sends);
    let effects = bed.refused(ticket, true);
    assert_eq!(&*parked(&effects)[0].text, b"a");
    assert!(effects.contains(&Effect::Superseded(id)));
    assert_eq!(bed.drafts.named(&name("k")), None);
}

#[test]
fn f1_a_refused_text_with_more_written_since_is_one_draft_that_is_tried() {
    let mut bed = Bed::new();
    let id = bed.open("k", "good", version(3));
    bed.write(id, 0, "BAD!");
    let (ticket, _) = bed.stage(id);
    bed.write(id, 3, "?");
    bed.refused(ticket, false);
    assert_eq!(bed.drafts.standing(id), Some(Standing::Superseded));
    assert!(bed.drafts.release(id, true).sends);
    let request = bed.drafts.to_stage(id, Extent::Closed).unwrap().unwrap();
    assert_eq!(
        request.changes[0].kind,
        Kind::Edit(b"BAD?".as_slice().into())
    );
    assert_eq!(request.changes[0].base, version(3));
}

#[test]
fn f1_a_refusal_that_is_not_final_changes_nothing() {
    let mut bed = Bed::new();
    let id = bed.open("k", "a", version(3));
    bed.add(id, "b");
    let (ticket, _) = bed.stage(id);
    bed.drafts.noted(Ticket(ticket));
    let shown = bed.drafts.last_shown(&name("k"));
    let effects = bed.unmade(ticket, Outcome::Waits(Refusal::Lost), false);
    assert_eq!(effects, []);
    assert_eq!(bed.drafts.last_shown(&name("k")), shown);
    assert_eq!(bed.drafts.stands_on(id), Some(Ticket(ticket)));
    assert_eq!(bed.drafts.named(&name("k")), Some(id));
}

#[test]
fn f1_a_file_takes_the_value_that_a_trigger_made() {
    let mut bed = Bed::new();
    let id = bed.open("k", "a", version(3));
    bed.truncate(id);
    bed.add(id, "sent");
    let (ticket, _) = bed.stage(id);
    let effects = bed.made(ticket, &[Some("changed")], 4);
    assert!(effects.contains(&Effect::Invalidate(id)));
    assert_eq!(bed.drafts.named(&name("k")), Some(id));
    assert_eq!(bed.read(id, true), "changed");
}

#[test]
fn f1_a_draft_on_what_a_trigger_changed_keeps_its_text_and_an_older_base() {
    let mut bed = Bed::new();
    let id = bed.open("k", "a", version(3));
    bed.truncate(id);
    bed.add(id, "sent");
    let (ticket, _) = bed.stage(id);
    bed.write(id, 0, "S");
    let effects = bed.made(ticket, &[Some("changed")], 4);
    assert!(!effects.contains(&Effect::Invalidate(id)));
    assert_eq!(bed.text(id), "Sent");
    assert_eq!(bed.stage(id).1.base, version(3));
}

#[test]
fn f1_all_files_at_a_ticket_hear_of_it() {
    let mut bed = Bed::new();
    let writer = bed.create("k");
    bed.add(writer, "a");
    let (ticket, _) = bed.stage(writer);
    bed.drafts.noted(Ticket(ticket));
    bed.drafts.release(writer, true);
    bed.drafts.forget(writer);
    // The kernel asks anew, and gets another file of the pending version.
    let pending = on(ticket, Some("a"), absent());
    let reader = bed.open("k", "a", pending);
    let effects = bed.refused(ticket, true);
    assert_eq!(&*parked(&effects)[0].text, b"a");
    assert!(effects.contains(&Effect::Superseded(reader)));
    assert_eq!(bed.read(reader, false), "a", "what it opened");
    assert_eq!(bed.drafts.stands_on(reader), None);
}

#[test]
fn f1_another_file_clean_at_the_ticket_is_clean_at_what_was_made() {
    let mut bed = Bed::new();
    let pending = on(9, Some("a"), version(3));
    let reader = bed.open("k", "a", pending);
    bed.staged.push((
        Ticket(9),
        vec![super::super::draft::change(
            &name("k").key,
            version(3),
            whole("a"),
            Unseen::Keep,
            at(55),
        )],
    ));
    let effects = bed.made(9, &[Some("a")], 4);
    assert!(!effects.contains(&Effect::Invalidate(reader)));
    assert_eq!(bed.look_up("k", "a", version(4)), reader);
}

#[test]
fn f1_a_record_that_a_trigger_removed_is_looked_up_again() {
    let mut bed = Bed::new();
    let id = bed.open("k", "a", version(3));
    bed.add(id, "b");
    let (ticket, _) = bed.stage(id);
    let effects = bed.made(ticket, &[None], 4);
    assert!(effects.contains(&Effect::Superseded(id)));
}

#[test]
fn b1_nothing_stands_on_a_ticket_that_was_refused() {
    let mut bed = Bed::new();
    let id = bed.open("k", "good", version(3));
    bed.write(id, 0, "BAD!");
    let (first, _) = bed.stage(id);
    bed.refused(first, false);
    let (second, _) = bed.stage(id);
    bed.made(second, &[Some("BAD!")], 4);
    bed.drafts.release(id, true);
    bed.drafts.forget(id);
    assert_eq!(bed.drafts.count(), 0);
}
