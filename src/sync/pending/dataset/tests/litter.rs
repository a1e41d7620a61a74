//! L1, L2 and S12: editors' passing files.

use super::bed::{Bed, append, bytes, key, whole};
use crate::sync::exchange::Listing;
use crate::sync::pending::{Change, Commit, Hold, Kind, Refusal, Ticket};

fn hold(bed: &Bed, ticket: Ticket) -> Option<Hold> {
    bed.rows[&ticket].note.hold.map(|(hold, _)| hold)
}

#[test]
fn s12_a_new_file_is_held_by_its_name() {
    let mut bed = Bed::having(&[("k", "old")]);
    for (name, expected) in [
        (".k.swp", Some(Hold::Litter)),
        ("k~", Some(Hold::Litter)),
        ("#k#", Some(Hold::Litter)),
        ("j~", Some(Hold::Passing)),
        ("#j#", Some(Hold::Passing)),
        (".goutputstream-1", Some(Hold::Passing)),
        ("sedAb3dEf", None),
        ("j", None),
    ] {
        let ticket = bed.queue(name, whole("1"));
        assert_eq!(hold(&bed, ticket), expected, "{name}");
    }
    let change = bed.change(0, ".k.Ab3dEf", whole("1"));
    let (ticket, staged) = bed.stage_as(0, vec![change], Commit::Async, true);
    bed.note(0, ticket, &staged.unwrap().unwrap());
    assert_eq!(hold(&bed, ticket), Some(Hold::Passing));
}

#[test]
fn s12_what_is_held_is_in_the_journal_in_both_modes() {
    let mut bed = Bed::having(&[]);
    let swap = bed.close(".k.swp", whole("1"));
    let passing = bed.close(".goutputstream-1", whole("1"));
    assert!(bed.rows.contains_key(&swap) && bed.rows.contains_key(&passing));
    // And is not sent for anybody who waits.
    bed.states[0].wait_for(passing);
    assert!(bed.go_on(0).is_empty());
    assert_eq!(bed.view(0, ".k.swp").as_deref(), Some("1"));
}

#[test]
fn s12_vim_s_probe_is_passing_while_it_is_empty() {
    let mut bed = Bed::having(&[]);
    let probe = bed.queue("4913", whole(""));
    assert_eq!(hold(&bed, probe), Some(Hold::Passing));
    bed.queue("4913", Kind::Remove);
    assert!(bed.drive().is_empty() && bed.rows.is_empty());
    let other = bed.queue("4913", whole("1"));
    assert_eq!(hold(&bed, other), None);
}

#[test]
fn s12_a_passing_file_becomes_a_record_in_time() {
    let mut bed = Bed::having(&[]);
    bed.queue(".goutputstream-1", whole("1"));
    bed.wait(9_900);
    assert!(bed.go(0).is_empty());
    bed.wait(100);
    assert_eq!(bed.go(0), [".goutputstream-1=1"]);
}

#[test]
fn s12_a_passing_file_that_is_renamed_is_one_replace() {
    let mut bed = Bed::having(&[("k", "old")]);
    let change = bed.change(0, ".k.Ab3dEf", whole("new"));
    let (ticket, staged) = bed.stage_as(0, vec![change], Commit::Close, true);
    bed.note(0, ticket, &staged.unwrap().unwrap());
    bed.queue_rename(".k.Ab3dEf", "k");
    assert_eq!(bed.drive(), ["k=new"]);
    assert!(bed.rows.is_empty());
    assert_eq!(bed.services[0].count, 2);
}

#[test]
fn l1_a_record_that_is_called_like_litter_is_a_record() {
    let mut bed = Bed::having(&[(".k.swp", "old"), ("k", "1"), ("k~", "old")]);
    let swap = bed.queue(".k.swp", whole("new"));
    let backup = bed.queue("k~", append("old", "+"));
    assert_eq!((hold(&bed, swap), hold(&bed, backup)), (None, None));
    assert_eq!(bed.drive(), [".k.swp=new", "k~=old+"]);
}

#[test]
fn l1_a_record_that_is_renamed_to_a_litter_name_is_renamed() {
    let mut bed = Bed::having(&[("k", "old")]);
    let rename = bed.queue_rename("k", ".k.swp");
    assert_eq!(hold(&bed, rename), None);
    assert_eq!(bed.go_on(0), [".k.swp=old", "-k"]);
}

#[test]
fn l1_litter_that_is_renamed_to_an_ordinary_name_is_a_record() {
    let mut bed = Bed::having(&[]);
    bed.queue(".k.swp", whole("1"));
    bed.queue_rename(".k.swp", "k");
    assert_eq!(bed.states[0].litter(), 0);
    assert_eq!(bed.drive(), ["k=1"]);
}

#[test]
fn l1_a_rename_to_the_backup_name_is_sent_after_its_grace() {
    let mut bed = Bed::having(&[("k", "old")]);
    let rename = bed.queue_rename("k", "k~");
    assert_eq!(hold(&bed, rename), Some(Hold::Grace));
    bed.wait(4_900);
    assert!(bed.go(0).is_empty());
    bed.wait(100);
    assert_eq!(bed.go(0), ["k~=old", "-k"]);
}

#[test]
fn l1_the_grace_lasts_while_the_new_file_is_open() {
    let mut bed = Bed::having(&[("k", "old")]);
    bed.queue_rename("k", "k~");
    bed.states[0].set_open(&key("k"), true);
    bed.wait(60_000);
    assert!(bed.go(0).is_empty());
    bed.queue("k", whole("new"));
    bed.states[0].set_open(&key("k"), false);
    assert_eq!(bed.drive(), ["k=new"]);
    let mut bed = Bed::having(&[("k", "old")]);
    bed.queue_rename("k", "k~");
    bed.states[0].set_open(&key("k"), true);
    bed.wait(60_000);
    bed.states[0].set_open(&key("k"), false);
    assert_eq!(bed.go(0), ["k~=old", "-k"]);
}

#[test]
fn l1_the_grace_covers_a_rename_over_a_record_and_both_go_then() {
    let mut bed = Bed::having(&[("k", "old"), ("k~", "older")]);
    let rename = bed.queue_rename("k", "k~");
    assert_eq!(hold(&bed, rename), Some(Hold::Grace));
    bed.queue("k", whole("new"));
    assert_eq!(bed.states[0].litter(), 0);
    let mut made = bed.drive();
    made.sort();
    assert_eq!(made, ["k=new", "k~=old"]);
    assert_eq!(bed.services[0].count, 3);
}

#[test]
fn l1_a_backup_that_was_changed_is_a_record() {
    let mut bed = Bed::having(&[("k", "old")]);
    bed.queue_rename("k", "k~");
    bed.queue("k~", append("old", "+"));
    bed.queue("k", whole("new"));
    assert_eq!(bed.states[0].litter(), 0);
    let mut made = bed.drive();
    made.sort();
    assert_eq!(made, ["k=new", "k~=old+"]);
    assert_eq!(bed.services[0].count, 2);
}

#[test]
fn l1_a_backup_of_what_another_wrote_since_is_a_record() {
    let mut bed = Bed::having(&[("k", "old")]);
    bed.queue_rename("k", "k~");
    bed.other(0, "k", Some("theirs"));
    bed.list(0);
    bed.queue("k", whole("new"));
    assert_eq!(bed.states[0].litter(), 0);
    bed.drive();
    assert_eq!(bed.services[0].value("k~"), Some("old"));
}

#[test]
fn l1_a_backup_that_was_not_made_in_grace_is_a_record() {
    let mut bed = Bed::having(&[("k", "old")]);
    let changes = vec![
        bed.change(0, "k~", whole("old")),
        bed.change(0, "k", whole("new")),
    ];
    bed.put(0, changes, Commit::Async);
    assert_eq!(bed.states[0].litter(), 0);
    assert_eq!(bed.drive(), ["k~=old", "k=new"]);
}

#[test]
fn l1_litter_never_hides_a_record_made_elsewhere() {
    let mut bed = Bed::having(&[("k", "1")]);
    bed.queue(".k.swp", whole("mine"));
    assert_eq!(bed.view(0, ".k.swp").as_deref(), Some("mine"));
    bed.other(0, ".k.swp", Some("theirs"));
    bed.list(0);
    assert_eq!(bed.view(0, ".k.swp").as_deref(), Some("theirs"));
    // What is written there then is a record's next version.
    bed.queue(".k.swp", whole("more"));
    bed.drive();
    assert_eq!(bed.services[0].value(".k.swp"), Some("more"));
}

#[test]
fn l1_litter_is_not_unsent() {
    let mut bed = Bed::having(&[]);
    bed.queue(".k.swp", whole("mine"));
    assert!(bed.states[0].is_settled());
    assert_eq!(bed.states[0].pending().count(), 0);
    assert_eq!(bed.states[0].litter(), 1);
    bed.queue("k", whole("1"));
    assert!(!bed.states[0].is_settled());
}

#[test]
fn l1_litter_goes_with_its_dataset() {
    for here in [true, false] {
        let mut bed = Bed::having(&[("k", "1")]);
        let litter = bed.queue(".k.swp", whole("mine"));
        match here {
            true => bed.states[0].handle_deleted(bed.now, &mut bed.barrier),
            false => {
                let gone = Listing::default();
                bed.states[0].handle_listed(gone, bed.now, bed.now, &mut bed.barrier);
            }
        }
        bed.take();
        assert_eq!(bed.refusal(litter), Some(&Refusal::Deleted));
        assert!(bed.rows.is_empty() && bed.barrier.is_empty());
        assert_eq!(bed.view(0, ".k.swp"), None);
    }
}

#[test]
fn l1_without_scratch_nothing_is_held() {
    let mut bed = Bed::having(&[("k", "old")]);
    bed.states[0].scratch = false;
    let swap = bed.queue(".k.swp", whole("1"));
    assert_eq!(hold(&bed, swap), None);
    bed.queue_rename("k", "k~");
    assert_eq!(bed.go_on(0), [".k.swp=1", "k~=old", "-k"]);
}

#[test]
fn l2_held_bytes_that_are_no_text_are_refused_when_they_become_a_record() {
    let mut bed = Bed::having(&[("k", "old")]);
    let bad = || Kind::Whole(b"\xff\xfe".as_slice().into());
    let held = bed.queue(".goutputstream-1", bad());
    let shown = bed.states[0].view(&key(".goutputstream-1")).value;
    assert_eq!(shown.as_deref(), Some(&b"\xff\xfe"[..]));
    let changes = vec![
        bed.change(0, "k", bad()),
        bed.change(0, ".goutputstream-1", Kind::Remove),
    ];
    for commit in [Commit::Async, Commit::Close] {
        let (_, staged) = bed.stage_as(0, changes.clone(), commit, false);
        assert_eq!(staged, Err(Refusal::NotText));
    }
    // It is held as before, and is refused when its hold ends.
    let shown = bed.states[0].view(&key(".goutputstream-1")).value;
    assert_eq!(shown.as_deref(), Some(&b"\xff\xfe"[..]));
    assert!(bed.go_on(0).is_empty());
    assert_eq!(bed.refusal(held), None);
    assert!(bed.drive().is_empty());
    assert_eq!(bed.refusal(held), Some(&Refusal::NotText));
    assert_eq!(bed.services[0].value("k"), Some("old"));
}

#[test]
fn l2_holds_begin_anew_after_a_restart() {
    let mut bed = Bed::having(&[]);
    bed.queue(".goutputstream-1", whole("1"));
    bed.wait(9_000);
    bed.restart();
    bed.wait(9_000);
    assert!(bed.go(0).is_empty());
    bed.wait(1_000);
    assert_eq!(bed.go(0), [".goutputstream-1=1"]);
}

#[test]
fn l2_the_end_of_the_mount_ends_all_holds_but_litter_s() {
    let mut bed = Bed::having(&[("k", "old")]);
    bed.queue(".goutputstream-1", whole("1"));
    bed.queue_rename("k", "k~");
    bed.queue(".k.swp", whole("1"));
    bed.states[0].end_holds(None, bed.now);
    assert_eq!(bed.go(0), [".goutputstream-1=1", "k~=old", "-k"]);
    bed.answer(0);
    assert!(bed.drive().is_empty());
    assert_eq!(bed.states[0].litter(), 1);
}

#[test]
fn l2_the_end_of_one_hold_ends_no_other() {
    let mut bed = Bed::having(&[]);
    let first = bed.queue(".goutputstream-1", whole("1"));
    bed.queue(".goutputstream-2", whole("2"));
    bed.states[0].end_holds(Some(first), bed.now);
    assert_eq!(bed.go(0), [".goutputstream-1=1"]);
}

#[test]
fn l2_litter_that_an_earlier_process_left_is_written_anew_in_its_place() {
    let mut bed = Bed::having(&[]);
    bed.queue(".k.swp", whole("1"));
    bed.restart();
    bed.list(0);
    assert_eq!(bed.view(0, ".k.swp").as_deref(), Some("1"));
    let again = bed.queue(".k.swp", append("1", "+"));
    assert_eq!(bed.rows.keys().collect::<Vec<_>>(), [&again]);
    assert_eq!(hold(&bed, again), Some(Hold::Litter));
    let litter: Vec<&Change> = bed.rows[&again]
        .note
        .changes
        .iter()
        .map(|noted| &noted.change)
        .collect();
    assert_eq!(litter[0].kind, Kind::Whole(bytes("1+")));
}

#[test]
fn l1_a_backup_that_was_split_off_is_not_written_before_that_is_made_or_undone() {
    for made in [true, false] {
        let mut bed = Bed::having(&[("k", "old")]);
        bed.queue_rename("k", "k~");
        let change = bed.change(0, "k", whole("new"));
        let closed = bed.put(0, vec![change], Commit::Close);
        assert_eq!(bed.go(0), ["k=new"]);
        for name in ["k", "k~"] {
            let change = bed.change(0, name, whole("mine"));
            let (_, staged) = bed.stage(0, vec![change], Commit::Async);
            assert_eq!(staged, None, "{name}");
        }
        if made {
            bed.answer(0);
        } else {
            bed.leave(0, closed);
            bed.lose(0);
        }
        bed.queue("k~", whole("mine"));
        assert_eq!(bed.view(0, "k~").as_deref(), Some("mine"));
        bed.drive();
        assert_eq!(bed.view(0, "k~").as_deref(), Some("mine"));
        let there = bed.services[0].value("k~");
        assert_eq!(there.is_none(), made, "litter, or what was renamed");
    }
}
