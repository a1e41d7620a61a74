//! What a draft becomes, and when it is sent.

use super::*;
use crate::wire::names::MAX_VALUE_CHARS;

#[test]
fn s07_creation_and_truncation_by_open_are_not_flushed_but_released() {
    let mut bed = Bed::new();
    let view = view(None, absent());
    // `flock D/lk true`: nobody can write it.
    let made = bed.drafts.create(&name("lk"), &view, false, false, at(1));
    assert!(!bed.sends(made));
    assert!(bed.drafts.release(made, false).sends);
    let (_, changes) = {
        let request = bed.drafts.to_stage(made, Extent::Closed).unwrap();
        bed.put_in_line(request)
    };
    assert_eq!(changes[0].kind, whole(""));

    let cut = bed.open("k", "old", version(3));
    bed.truncate(cut);
    assert!(!bed.sends(cut));
    bed.add(cut, "new");
    assert_eq!(bed.stage(cut).1.kind, whole("new"));
}

#[test]
fn s07_a_truncation_by_open_over_what_was_written_goes_with_it() {
    let mut bed = Bed::new();
    let id = bed.open("k", "old", version(3));
    bed.add(id, "new");
    bed.truncate(id);
    assert!(bed.sends(id));
}

#[test]
fn s07_a_date_has_a_flush_send_what_open_made() {
    let mut bed = Bed::new();
    let id = bed.create("k");
    bed.drafts.set_modified(id, at(77)).unwrap();
    let (_, change) = bed.stage(id);
    assert_eq!((change.kind, change.modified), (whole(""), at(77)));
}

#[test]
fn s07_what_leaves_the_value_as_it_is_sends_nothing_unless_it_is_dated() {
    let mut bed = Bed::new();
    let id = bed.open("k", "abc", version(3));
    bed.write(id, 1, "b");
    assert_eq!(bed.drafts.attributes(id, true).unwrap().modified, at(10));
    assert!(!bed.sends(id));
    // T11: the date is the version's again, at once.
    assert_eq!(bed.drafts.attributes(id, true).unwrap().modified, at(100));
    bed.write(id, 1, "b");
    bed.drafts.set_modified(id, at(7)).unwrap();
    assert!(bed.sends(id));
}

#[test]
fn s07_what_came_back_is_sent_though_it_is_the_value_again() {
    let mut bed = Bed::new();
    let id = bed.open("k", "abc", version(3));
    bed.write(id, 0, "X");
    let (ticket, _) = bed.stage(id);
    bed.given_back(ticket);
    bed.write(id, 0, "a");
    assert_eq!(bed.text(id), "abc");
    assert!(bed.sends(id));
}

#[test]
fn s07_a_failed_flush_leaves_the_file_dirty_until_its_last_release() {
    let mut bed = Bed::new();
    let id = bed.open("k", "old", version(3));
    bed.write(id, 0, "OLD");
    let (first, change) = bed.stage(id);
    bed.given_back(first);
    // Nobody was told to look elsewhere.
    assert_eq!(bed.drafts.standing(id), Some(Standing::Named));
    let (second, again) = bed.stage(id);
    assert_eq!(again, change);
    bed.given_back(second);
    let released = bed.drafts.release(id, true);
    assert!(!released.sends, "its writer was told");
    let parked = parked(&released.effects);
    assert_eq!(parked.len(), 1);
    assert_eq!(
        (&*parked[0].text, parked[0].is_complete),
        (&b"OLD"[..], true)
    );
    assert_eq!(
        (parked[0].base, &parked[0].why),
        (version(3), &Refusal::Lost)
    );
    assert!(released.effects.contains(&Effect::Invalidate(id)));
    assert_eq!(bed.drafts.named(&name("k")), None);
}

#[test]
fn s07_what_was_written_after_the_failure_is_sent_at_the_release() {
    let mut bed = Bed::new();
    let id = bed.open("k", "old", version(3));
    bed.write(id, 0, "OLD");
    let (ticket, _) = bed.stage(id);
    bed.given_back(ticket);
    bed.write(id, 0, "o");
    assert!(bed.drafts.release(id, true).sends);
}

#[test]
fn s07_a_text_cut_short_is_not_parked_as_if_it_were_whole() {
    let mut bed = Bed::new();
    let id = bed.open("k", "good", version(3));
    bed.truncate(id);
    bed.add(id, &"x".repeat(MAX_VALUE_CHARS));
    let more = bed.drafts.write(id, None, b"y", at(11));
    assert!(matches!(more, Err(Error::TooBig)));
    let flushed = bed.drafts.to_stage(id, Extent::Flush);
    assert!(matches!(flushed, Err(Error::TooBig)));
    let Released { sends, effects } = bed.drafts.release(id, true);
    assert!(!sends);
    assert!(!parked(&effects)[0].is_complete);
}

#[test]
fn s13_what_does_not_fit_is_refused_and_begins_nothing() {
    let mut bed = Bed::new();
    let id = bed.open("k", "good", version(3));
    let far = MAX_VALUE_CHARS as u64;
    assert!(matches!(
        bed.drafts.write(id, Some(far), b"y", at(11)),
        Err(Error::TooBig)
    ));
    assert!(matches!(
        bed.drafts.truncate(id, far + 1, false, at(11)),
        Err(Error::TooBig)
    ));
    assert!(!bed.drafts.has_draft(id));
}

#[test]
fn s09_what_is_only_written_at_the_end_is_an_append() {
    let mut bed = Bed::new();
    let id = bed.open("k", "ab", version(3));
    bed.add(id, "c");
    bed.write(id, 3, "d");
    assert_eq!(bed.stage(id).1.kind, append("cd", "abcd"));
    bed.write(id, 4, "e");
    bed.write(id, 0, "A");
    assert_eq!(bed.stage(id).1.kind, Kind::Edit(b"Abcde".as_slice().into()));
}

#[test]
fn s09_what_begins_an_empty_file_is_no_append_unless_it_is_opened_for_that() {
    let mut bed = Bed::new();
    let id = bed.open("k", "", version(3));
    bed.write(id, 0, "a");
    assert_eq!(bed.stage(id).1.kind, Kind::Edit(b"a".as_slice().into()));
    let other = bed.open("l", "", version(3));
    bed.add(other, "a");
    assert_eq!(bed.stage(other).1.kind, append("a", "a"));
}

#[test]
fn s09_a_mapping_appends_nothing_and_a_gap_is_no_append() {
    let mut bed = Bed::new();
    let id = bed.open("k", "ab", version(3));
    bed.drafts.write_page(id, 2, b"c", at(10)).unwrap();
    assert_eq!(bed.stage(id).1.kind, Kind::Edit(b"abc".as_slice().into()));
    bed.write(id, 4, "e");
    assert_eq!(
        bed.stage(id).1.kind,
        Kind::Edit(b"abc\0e".as_slice().into())
    );
}

#[test]
fn s09_only_what_is_emptied_before_its_first_write_is_whole() {
    let mut bed = Bed::new();
    let id = bed.open("k", "ab", version(3));
    bed.write(id, 0, "A");
    bed.drafts.truncate(id, 0, false, at(11)).unwrap();
    bed.add(id, "c");
    assert_eq!(bed.stage(id).1.kind, Kind::Edit(b"c".as_slice().into()));
}

#[test]
fn s15_a_date_alone_is_sent_as_that() {
    let mut bed = Bed::new();
    let id = bed.open("k", "ab", version(3));
    bed.drafts.set_modified(id, at(7)).unwrap();
    let (ticket, change) = bed.stage(id);
    assert_eq!((change.kind, change.modified), (Kind::Times, at(7)));
    bed.made(ticket, &[Some("ab")], 4);
    assert_eq!(bed.drafts.last_shown(&name("k")), Some(version(4)));
}

#[test]
fn w5_what_comes_back_goes_under_what_was_written_since() {
    let mut bed = Bed::new();
    let id = bed.open("k", "a", version(3));
    bed.add(id, "b");
    let (first, _) = bed.stage(id);
    bed.add(id, "c");
    let (second, change) = bed.stage(id);
    assert_eq!(change.base, on(first, Some("ab"), version(3)));
    bed.add(id, "d");
    // The one that stood on the first comes back with it.
    bed.given_back(first);
    bed.given_back(second);
    let (_, change) = bed.stage(id);
    assert_eq!(change.kind, append("bcd", "abcd"));
    assert_eq!(change.base, version(3));
}

#[test]
fn w5_what_the_journal_cannot_take_goes_back() {
    let mut bed = Bed::new();
    let id = bed.create("k");
    bed.add(id, "a");
    let (ticket, _) = bed.stage(id);
    bed.add(id, "b");
    let effects = bed.drafts.not_noted(DATASET, Ticket(ticket), Refusal::Lost);
    assert_eq!(effects, []);
    let (_, change) = bed.stage(id);
    assert_eq!((change.kind, change.base), (whole("ab"), absent()));
}

#[test]
fn w5_an_append_that_nobody_waits_for_is_parked_as_its_writer_saw_it() {
    let mut bed = Bed::new();
    let id = bed.open("k", "a", version(3));
    bed.add(id, "b");
    let (ticket, _) = bed.stage(id);
    assert!(!bed.drafts.release(id, true).sends);
    let effects = bed.given_back(ticket);
    assert_eq!(&*parked(&effects)[0].text, b"ab");
    assert_eq!(bed.drafts.standing(id), Some(Standing::Superseded));
}

#[test]
fn w5_text_that_only_an_append_stood_on_is_not_left_out() {
    let mut bed = Bed::new();
    let id = bed.open("k", "a", version(3));
    bed.add(id, "b");
    let (first, _) = bed.stage(id);
    bed.add(id, "c");
    let (second, _) = bed.stage(id);
    assert!(parked(&bed.refused(first, false)).is_empty());
    let effects = bed.made(second, &[Some("ac")], 4);
    assert_eq!(&*parked(&effects)[0].text, b"ab");
    assert_eq!(bed.text(id), "ac");
}
