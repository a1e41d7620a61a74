//! W4: what was sent and has no answer.

use super::bed::{Bed, append, edit, key, whole};
use crate::sync::change::{Left, Mark};
use crate::sync::pending::fingerprint::{appended, is_of, is_version};
use crate::sync::pending::{
    Appended, Base, Change, Commit, Digest, Kind, Made, Refusal, Sent, Ticket,
};
use crate::sync::{Remote, Shown, Unseen};
use crate::wire::timestamp::Timestamp;

/// Gives up on what is being sent, and makes what was given back anew.
fn give_up_and_retry(bed: &mut Bed, ticket: Ticket) -> Ticket {
    bed.leave(0, ticket);
    let changes: Vec<Change> = bed.given_back(ticket);
    bed.put(0, changes, Commit::Close)
}

#[test]
fn w4_an_append_that_is_tried_again_is_not_doubled() {
    let mut bed = Bed::having(&[("k", "a;")]);
    let ticket = bed.close("k", append("a;", "b;"));
    assert_eq!(bed.go(0), ["k=a;b;"]);
    bed.leave(0, ticket);
    bed.lose_answer(0);
    let changes = bed.given_back(ticket);
    let again = bed.put(0, changes, Commit::Close);
    assert!(bed.drive().is_empty());
    assert!(bed.is_made(again));
    assert_eq!(bed.services[0].value("k"), Some("a;b;"));
}

#[test]
fn w4_an_append_that_others_added_to_is_not_doubled() {
    let mut bed = Bed::having(&[("k", "a;")]);
    let ticket = bed.queue("k", append("a;", "b;"));
    assert_eq!(bed.go_on(0), ["k=a;b;"]);
    bed.lose_answer(0);
    bed.other(0, "k", Some("a;b;x;"));
    assert!(bed.drive().is_empty());
    assert!(bed.is_made(ticket));
}

#[test]
fn w4_only_what_is_missing_of_a_longer_append_is_added() {
    let mut bed = Bed::having(&[("k", "a;")]);
    let ticket = bed.close("k", append("a;", "b;"));
    assert_eq!(bed.go(0).len(), 1);
    bed.leave(0, ticket);
    bed.lose_answer(0);
    let mut changes = bed.given_back(ticket);
    changes[0].kind = append("a;", "b;c;");
    bed.put(0, changes, Commit::Close);
    assert_eq!(bed.drive(), ["k=a;b;c;"]);
}

#[test]
fn w4_a_call_that_is_late_is_known_after_it_was_given_up() {
    for kind in [append("a;", "b;"), whole("b;"), edit("b;")] {
        let mut bed = Bed::having(&[("k", "a;")]);
        let ticket = bed.close("k", kind);
        assert_eq!(bed.go(0).len(), 1);
        bed.leave(0, ticket);
        let late = bed.lose(0);
        let changes = bed.given_back(ticket);
        let again = bed.put(0, changes, Commit::Close);
        // A listing shows nothing of it, and the second call meets the first.
        assert_eq!(bed.go(0).len(), 1);
        bed.services[0].update(&late).unwrap();
        bed.answer(0);
        assert!(bed.drive().is_empty());
        assert!(bed.is_made(again));
        assert_eq!(bed.services[0].count, 2);
    }
}

#[test]
fn w4_a_call_that_is_late_is_known_to_what_another_file_writes_of_it() {
    let mut bed = Bed::having(&[("k", "a;")]);
    let ticket = bed.close("k", edit("b;"));
    assert_eq!(bed.go(0).len(), 1);
    bed.leave(0, ticket);
    let late = bed.lose(0);
    bed.list(0);
    let later = bed.queue("k", edit("c;"));
    bed.services[0].update(&late).unwrap();
    // Nobody else wrote it.
    assert_eq!(bed.drive(), ["k=c;"]);
    assert!(bed.is_made(later));
}

#[test]
fn w4_what_a_call_without_an_answer_made_may_be_edited_after_a_restart() {
    let mut bed = Bed::having(&[("k", "a;")]);
    let first = bed.queue("k", append("a;", "b;"));
    assert_eq!(bed.go_on(0).len(), 1);
    bed.lose_answer(0);
    bed.restart();
    assert!(bed.drive().is_empty());
    assert!(bed.is_made(first));
    assert_eq!(bed.services[0].value("k"), Some("a;b;"));
}

#[test]
fn w4_the_rows_of_later_changes_hold_what_was_sent() {
    let mut bed = Bed::having(&[("k", "a;")]);
    let ticket = bed.close("k", append("a;", "b;"));
    assert_eq!(bed.go(0).len(), 1);
    bed.leave(0, ticket);
    let late = bed.lose(0);
    let changes = bed.given_back(ticket);
    let noted = bed.put(0, changes, Commit::Async);
    assert_eq!(bed.rows[&noted].note.changes[0].sent.len(), 1);
    bed.services[0].update(&late).unwrap();
    bed.restart();
    assert!(bed.drive().is_empty());
    assert_eq!(bed.services[0].value("k"), Some("a;b;"));
}

const OURS: Timestamp = Timestamp::from_millis(50);
const THEIRS: Timestamp = Timestamp::from_millis(60);

fn remote(value: &str, sync_count: i64, date: Option<Timestamp>) -> Remote {
    Remote {
        value: Some(value.into()),
        sync_count,
        device_date: date,
        modified: date.unwrap_or(OURS),
        changed: OURS,
    }
}

fn sent(value: &str, appended: bool) -> Sent {
    Sent {
        mark: Mark::new(Some(value.as_bytes()), OURS),
        count: 3,
        appended: appended.then_some(Appended {
            whole: value.len() as u64,
            text: 2,
        }),
    }
}

#[test]
fn w4_a_value_alone_proves_nothing_and_neither_does_a_date() {
    let sent = sent("v", false);
    assert!(is_version(&sent, &remote("v", 4, Some(OURS))));
    assert!(!is_version(&sent, &remote("v", 4, Some(THEIRS))));
    assert!(!is_version(&sent, &remote("v", 4, None)));
    assert!(!is_version(&sent, &remote("w", 4, Some(OURS))));
    assert!(!is_version(&sent, &remote("v", 3, Some(OURS))));
    assert!(!is_of(&sent, &remote("v+", 4, Some(THEIRS))));
}

#[test]
fn w4_an_append_is_known_by_the_whole_text_at_the_beginning() {
    let sent = sent("a;b;", true);
    assert!(is_of(&sent, &remote("a;b;", 4, Some(OURS))));
    assert!(is_of(&sent, &remote("a;b;c;", 5, Some(THEIRS))));
    // Others append the same lines.
    assert!(!is_of(&sent, &remote("a;b;", 4, Some(THEIRS))));
    assert!(!is_of(&sent, &remote("x;a;b;", 4, Some(OURS))));
    assert!(!is_of(&sent, &remote("a;b;c;", 3, Some(THEIRS))));
}

/// An append of `b;c;` behind `a;`, as it was shown under a count.
fn longer(count: i64, own: Vec<Sent>, left: Option<Left>) -> Change {
    Change {
        key: key("k"),
        base: Base {
            life: 0,
            shown: Shown::Version(count),
            pending: None,
        },
        kind: append("a;", "b;c;"),
        unseen: Unseen::Keep,
        own,
        left,
        modified: THEIRS,
    }
}

fn made_of(change: &Change, known: &[Sent], remote: &Remote) -> Option<usize> {
    let whole = change.kind.whole().unwrap();
    appended(change, (change.kind.added().unwrap(), whole), known, remote)
}

#[test]
fn w4_what_was_sent_of_a_change_itself_is_a_part_of_it_whatever_it_was_laid_over() {
    for (over, remote) in [
        ("a;b;", remote("a;b;", 4, Some(OURS))),
        ("x;b;", remote("x;b;", 4, Some(OURS))),
        ("x;b;", remote("x;b;y;", 5, Some(THEIRS))),
    ] {
        let known = [sent(over, true)];
        for count in [2, 3] {
            let own = longer(count, known.to_vec(), None);
            assert_eq!(made_of(&own, &known, &remote), Some(2), "{over} {count}");
            // Another file adds the same line.
            let other = longer(count, Vec::new(), None);
            assert_eq!(made_of(&other, &known, &remote), None, "{over} {count}");
        }
    }
    let own = longer(3, vec![sent("x;b;", true)], None);
    assert_eq!(made_of(&own, &[], &remote("x;", 4, Some(THEIRS))), None);
}

#[test]
fn w4_what_was_sent_of_what_an_earlier_process_left_is_known_by_its_text() {
    let left = Left {
        existed: true,
        sync_count: Some(3),
    };
    let made = |over: &str, value: &str| {
        let change = longer(3, Vec::new(), Some(left));
        let known = [sent(over, true)];
        made_of(&change, &known, &remote(value, 4, Some(OURS)))
    };
    assert_eq!(made("a;b;", "a;b;"), Some(2));
    // It was laid over what another had made of the record.
    assert_eq!(made("x;b;", "x;b;"), Some(2));
    // What its writer saw was not there before.
    assert_eq!(made("a;", "a;"), Some(0));
    assert_eq!(made("a;c;", "a;c;"), None);
}

#[test]
fn w4_an_append_that_was_laid_over_a_newer_version_is_not_doubled() {
    for more in ["b;", "b;c;"] {
        let mut bed = Bed::having(&[("k", "a;")]);
        let ticket = bed.close("k", append("a;", "b;"));
        bed.other(0, "k", Some("a;x;"));
        bed.list(0);
        assert_eq!(bed.go(0), ["k=a;x;b;"]);
        bed.leave(0, ticket);
        bed.lose_answer(0);
        let mut changes = bed.given_back(ticket);
        changes[0].kind = append("a;", more);
        bed.wait(1);
        changes[0].modified = bed.date();
        let again = bed.put(0, changes, Commit::Close);
        bed.drive();
        assert!(bed.is_made(again));
        let whole = format!("a;x;{more}");
        assert_eq!(bed.services[0].value("k"), Some(&whole[..]));
    }
}

#[test]
fn w4_an_append_is_made_though_another_file_sent_the_same_line() {
    let mut bed = Bed::having(&[("k", "a;")]);
    let older = bed.change(0, "k", append("a;", "b;"));
    let ticket = bed.close("k", append("a;", "b;"));
    assert_eq!(bed.go(0), ["k=a;b;"]);
    bed.leave(0, ticket);
    bed.lose_answer(0);
    bed.given_back(ticket);
    bed.put(0, vec![older], Commit::Close);
    assert_eq!(bed.drive(), ["k=a;b;b;"]);
}

#[test]
fn w4_the_same_line_behind_one_that_is_given_back_is_another() {
    let mut bed = Bed::having(&[("k", "a;")]);
    let ticket = bed.close("k", append("a;", "b;"));
    assert_eq!(bed.go(0), ["k=a;b;"]);
    let mut behind = bed.change(0, "k", append("a;b;", "b;"));
    behind.base.pending = Some(Made {
        ticket,
        digest: Some(Digest::of(b"a;b;")),
    });
    let behind = bed.put(0, vec![behind], Commit::Async);
    bed.leave(0, ticket);
    bed.lose_answer(0);
    let changes = bed.given_back(ticket);
    let again = bed.put(0, changes, Commit::Close);
    assert_eq!(bed.drive(), ["k=a;b;b;"]);
    assert!(bed.is_made(behind) && bed.is_made(again));
}

#[test]
fn w4_the_same_line_of_another_is_none_of_ours() {
    let mut bed = Bed::having(&[("k", "a;")]);
    let ticket = bed.queue("k", append("a;", "b;"));
    assert_eq!(bed.go_on(0).len(), 1);
    bed.lose(0);
    bed.other(0, "k", Some("a;b;"));
    assert_eq!(bed.drive(), ["k=a;b;b;"]);
    assert!(bed.is_made(ticket));
}

#[test]
fn w4_the_same_date_of_another_is_none_of_ours() {
    let mut bed = Bed::having(&[("k", "a;")]);
    let ticket = bed.queue("k", edit("b;"));
    let date = bed.rows[&ticket].note.changes[0].change.modified;
    assert_eq!(bed.go_on(0).len(), 1);
    bed.lose(0);
    bed.other_dated(0, "k", Some("x;"), date);
    assert!(bed.drive().is_empty());
    assert_eq!(bed.refusal(ticket), Some(&Refusal::Stale));
}

#[test]
fn w4_what_was_sent_is_dropped_once_the_count_has_moved_past_it() {
    let mut bed = Bed::having(&[("k", "a;")]);
    let ticket = bed.close("k", edit("b;"));
    assert_eq!(bed.go(0).len(), 1);
    bed.leave(0, ticket);
    let late = bed.lose(0);
    bed.list(0);
    // It may yet be carried out.
    assert!(!bed.states[0].evict());
    assert_eq!(bed.states[0].fingerprints.of(&key("k")).len(), 1);
    bed.other(0, "k", Some("x;"));
    bed.list(0);
    assert!(bed.services[0].update(&late).is_err());
    assert!(bed.states[0].fingerprints.is_empty());
    assert!(bed.states[0].evict());
}

#[test]
fn w4_a_removal_without_an_answer_is_known() {
    let mut bed = Bed::having(&[("k", "a;")]);
    bed.unseen = Unseen::Refuse;
    let ticket = bed.close("k", Kind::Remove);
    assert_eq!(bed.go(0), ["-k"]);
    bed.lose_answer(0);
    assert!(bed.drive().is_empty());
    assert!(bed.is_made(ticket));
}

#[test]
fn w4_a_retry_of_a_late_whole_write_is_not_made_over_what_another_wrote_since() {
    let mut bed = Bed::having(&[("k", "a;")]);
    bed.unseen = Unseen::Refuse;
    let ticket = bed.close("k", whole("b;"));
    assert_eq!(bed.go(0).len(), 1);
    bed.lose_answer(0);
    bed.other(0, "k", Some("x;"));
    let again = give_up_and_retry(&mut bed, ticket);
    assert!(bed.drive().is_empty());
    assert_eq!(bed.refusal(again), Some(&Refusal::Stale));
    assert_eq!(bed.services[0].value("k"), Some("x;"));
}

#[test]
fn w4_what_is_sent_in_vain_for_hours_is_remembered_once() {
    let mut bed = Bed::having(&[("k", "a;")]);
    let ticket = bed.queue("k", append("a;", "b;"));
    for _ in 0..50 {
        assert_eq!(bed.go_on(0), ["k=a;b;"]);
        bed.lose(0);
    }
    let group = &bed.states[0].groups[0];
    assert_eq!((group.lost.len(), group.changes[0].own.len()), (1, 1));
    assert_eq!(bed.states[0].fingerprints.of(&key("k")).len(), 1);
    assert_eq!(bed.drive(), ["k=a;b;"]);
    assert!(bed.is_made(ticket));
}

#[test]
fn w4_what_stands_on_a_change_that_may_be_taken_away_does_not_bring_it_back() {
    for kind in [append("a;", "b;"), edit("a;b;"), whole("c;")] {
        let mut bed = Bed::having(&[]);
        let first = bed.queue("k", whole("a;"));
        assert_eq!(bed.go_on(0), ["k=a;"]);
        bed.lose_answer(0);
        // Somebody who saw it removes it.
        bed.other(0, "k", None);
        let second = bed.queue("k", kind);
        assert!(bed.drive().is_empty());
        for ticket in [first, second] {
            assert_eq!(bed.refusal(ticket), Some(&Refusal::Stale));
        }
        assert_eq!(bed.services[0].value("k"), None);
    }
}
