//! Drafts, the table of what was shown and the continuation over the real core, against a service in
//! memory and a journal that notes at once: whatever is done to files, by another client, and by the
//! network, no text that was acknowledged is lost, none is doubled, and what a change is based on was
//! shown.
//!
//! Texts are made of tokens of four bytes, each written once. So it can be told what became of each.

mod world;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use world::{Answer, Mode, Operation, Place, World};

fn operation() -> impl Strategy<Value = Operation> {
    let slot = 0..3_usize;
    let key = 0..2_usize;
    let mode = prop::sample::select(vec![
        Mode::Read,
        Mode::ReadCreate,
        Mode::ReadTruncate,
        Mode::Write,
        Mode::WriteCreate,
        Mode::WriteTruncate,
        Mode::Append,
    ]);
    let place = prop::sample::select(vec![Place::Start, Place::Middle, Place::End]);
    let answer = prop::sample::select(vec![
        Answer::Made,
        Answer::Made,
        Answer::Made,
        Answer::LostMade,
        Answer::LostUnmade,
        Answer::Quota,
        Answer::Away,
        Answer::Triggered,
    ]);
    prop_oneof![
        6 => (slot.clone(), key.clone(), mode).prop_map(|(slot, key, mode)| Operation::Open {
            slot,
            key,
            mode
        }),
        3 => slot.clone().prop_map(Operation::Read),
        8 => (slot.clone(), place).prop_map(|(slot, place)| Operation::Write { slot, place }),
        2 => (slot.clone(), 0..3_u64).prop_map(|(slot, tokens)| Operation::Truncate { slot, tokens }),
        1 => slot.clone().prop_map(Operation::Date),
        5 => slot.clone().prop_map(Operation::Flush),
        2 => slot.clone().prop_map(Operation::Sync),
        4 => slot.prop_map(Operation::Release),
        2 => key.clone().prop_map(Operation::Rename),
        1 => Just(Operation::Exchange),
        2 => key.clone().prop_map(Operation::Unlink),
        1 => key.clone().prop_map(Operation::RemoteRemove),
        3 => (key, any::<bool>()).prop_map(|(key, adds)| Operation::RemoteWrite { key, adds }),
        3 => Just(Operation::List),
        8 => prop::collection::vec(answer, 1..4).prop_map(Operation::Run),
        2 => Just(Operation::Leave),
        1 => any::<bool>().prop_map(Operation::FillJournal),
    ]
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    prop::collection::vec(operation(), 1..40)
}

/// Returns how many worlds of each kind are tried; `COGNITOFS_DRAFTS` says otherwise.
fn config() -> ProptestConfig {
    let cases = std::env::var("COGNITOFS_DRAFTS").ok();
    ProptestConfig {
        cases: cases.map_or(1500, |cases| cases.parse().unwrap()),
        failure_persistence: None,
        // The same ones each time, unless more are asked for.
        rng_seed: match std::env::var_os("COGNITOFS_DRAFTS") {
            Some(_) => RngSeed::Random,
            None => RngSeed::Fixed(1),
        },
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn f1_w5_no_text_is_lost_or_doubled_while_callers_wait(operations in operations()) {
        World::close().run(operations)?;
    }

    #[test]
    fn f1_b1_no_text_is_lost_or_doubled_in_the_journal(operations in operations()) {
        World::asynchronous().run(operations)?;
    }
}

/// An append to a version that nobody has read does not show it: what is written over it next may not
/// take the place of what is there.
#[test]
fn b1_an_append_to_an_unread_version_does_not_show_it() {
    use Operation::{Flush, List, Open, Read, RemoteWrite, Run, Sync, Write};
    let open = |slot, mode| Open { slot, key: 0, mode };
    let remote = RemoteWrite {
        key: 0,
        adds: false,
    };
    for mut world in [World::close(), World::asynchronous()] {
        let end = Place::End;
        world
            .try_all(vec![
                remote.clone(),
                open(0, Mode::Read),
                Read(0),
                remote.clone(),
                List,
                open(1, Mode::Append),
                Write {
                    slot: 1,
                    place: end,
                },
                Flush(1),
                Run(vec![Answer::Made]),
                open(2, Mode::WriteTruncate),
                Write {
                    slot: 2,
                    place: end,
                },
                Sync(2),
            ])
            .unwrap();
        world.end().unwrap();
    }
}

/// A record is exchanged under a version that nobody has read, and another client's is shown there:
/// what is removed then is that one, and not what the exchange brings.
#[test]
fn b1_a_removal_of_what_is_shown_does_not_take_away_what_an_exchange_brings_there() {
    use Operation::{Exchange, List, Open, Release, RemoteWrite, Unlink, Write};
    let remote = |key| RemoteWrite { key, adds: false };
    let mut world = World::asynchronous();
    world
        .try_all(vec![
            remote(1),
            Open {
                slot: 0,
                key: 1,
                mode: Mode::Write,
            },
            Write {
                slot: 0,
                place: Place::Start,
            },
            remote(1),
            Release(0),
            remote(0),
            List,
            Exchange,
            Unlink(1),
        ])
        .unwrap();
    world.end().unwrap();
}
