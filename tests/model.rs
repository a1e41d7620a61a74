//! Random operations through a real mount and through a dumb model of files, compared after every
//! step: the tree as the mount shows it, the service, and the versions that are kept. Above all, no
//! value disappears that was neither shown here nor kept. Of a mount that sends after the close, the
//! service is compared after a sync.
//!
//! A failure prints its operations as Rust; pasted into a test as `replay(KEEP, &[...])` they stay
//! one. `COGNITOFS_MODEL_RUNS` has more runs made than the 300 by default.

mod ledger;
mod loose;
mod ops;
mod real;
mod reference;
mod run;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use ops::Op::*;
use ops::{Mode, Op, ops};
use real::World;
use run::run;

/// How many operations a run has.
const STEPS: usize = 60;

/// How a mount of the test behaves.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Of the mount.
    options: &'static str,
    /// Whether what nobody saw is kept and replaced, or not replaced.
    keeps_unseen: bool,
    /// Whether changes are sent after the close.
    is_async: bool,
    /// Whether others change things while changes wait: then only losses are looked for.
    is_loose: bool,
    /// What they are called in a test.
    name: &'static str,
}

const KEEP: Settings = Settings {
    options: "ttl=0,conflict=auto",
    keeps_unseen: true,
    is_async: false,
    is_loose: false,
    name: "KEEP",
};
const REFUSE: Settings = Settings {
    options: "ttl=0,conflict=strict",
    keeps_unseen: false,
    is_async: false,
    is_loose: false,
    name: "REFUSE",
};
const ASYNC: Settings = Settings {
    options: "ttl=0,commit=async,conflict=auto",
    keeps_unseen: true,
    is_async: true,
    is_loose: false,
    name: "ASYNC",
};
const LOOSE: Settings = Settings {
    is_loose: true,
    name: "LOOSE",
    ..ASYNC
};

fn alone(test: &str, action: impl FnOnce()) {
    crate::common::alone(&format!("model::{test}"), action);
}

/// Makes runs, `of_all` in a hundred of those asked for.
/// The same operations each time, unless more are asked for: whoever changes something else is not to
/// find what chance brings.
fn runner(config: Config) -> TestRunner {
    match std::env::var_os("COGNITOFS_MODEL_RUNS") {
        Some(_) => TestRunner::new(config),
        None => {
            let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
            TestRunner::new_with_rng(config, rng)
        }
    }
}

fn check(settings: Settings, of_all: u32) {
    let runs = std::env::var("COGNITOFS_MODEL_RUNS").map_or(300, |runs| runs.parse().unwrap());
    let config = Config {
        cases: (runs * of_all / 100).max(1),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        max_shrink_time: 20_000,
        ..Config::default()
    };
    let kills = if settings.is_async { 4 } else { 1 };
    let world = std::cell::RefCell::new(World::new(settings));
    let tried = runner(config).run(&ops(STEPS, kills), |ops| {
        play(&mut world.borrow_mut(), &ops).map_err(TestCaseError::fail)
    });
    println!("{}", world.borrow().told());
    match tried {
        Ok(()) => {}
        Err(TestError::Fail(why, ops)) => {
            panic!("{why}\nreplay({}, &{ops:?});", settings.name)
        }
        Err(error) => panic!("{error}"),
    }
}

fn play(world: &mut World, ops: &[Op]) -> Result<(), String> {
    match world.settings.is_loose {
        true => loose::run(world, ops),
        false => run(world, ops),
    }
}

fn replay(settings: Settings, ops: &[Op]) {
    if let Err(why) = play(&mut World::new(settings), ops) {
        panic!("{why}");
    }
}

#[test]
fn what_nobody_saw_is_kept() {
    alone("what_nobody_saw_is_kept", || {
        check(KEEP, 30);
    });
}

#[test]
fn what_nobody_saw_is_not_replaced() {
    alone("what_nobody_saw_is_not_replaced", || {
        check(REFUSE, 30);
    });
}

#[test]
fn s08_what_was_closed_is_here_at_once_and_there_after_a_sync() {
    alone(
        "s08_what_was_closed_is_here_at_once_and_there_after_a_sync",
        || check(ASYNC, 20),
    );
}

#[test]
fn s08_nothing_is_lost_that_changes_while_changes_wait() {
    alone(
        "s08_nothing_is_lost_that_changes_while_changes_wait",
        || check(LOOSE, 20),
    );
}

/// `echo more >> log` shows nothing of what somebody else put there.
#[test]
fn s09_an_append_does_not_show_what_it_is_put_behind() {
    alone("s09_an_append_does_not_show_what_it_is_put_behind", || {
        for settings in [KEEP, REFUSE] {
            let begin = [Set(2), Read(2), Set(2), AppendTo(2)];
            replay(settings, &[&begin[..], &[Unlink(2)]].concat());
            replay(settings, &[&begin[..], &[AppendTo(2), Write(2)]].concat());
        }
    });
}

/// A file that is open when its dataset is deleted has nothing to do with one of its name in the
/// next.
#[test]
fn s09_a_file_of_a_deleted_dataset_keeps_its_base() {
    alone("s09_a_file_of_a_deleted_dataset_keeps_its_base", || {
        for settings in [KEEP, REFUSE] {
            let begin = [
                Set(0),
                Open(0, 0, Mode::Edit),
                Delete,
                Set(1),
                Set(0),
                Read(0),
            ];
            replay(
                settings,
                &[&begin[..], &[WriteOpen(0, 2), Close(0)]].concat(),
            );
        }
    });
}

/// That its dataset is gone is known from a listing of datasets, and a token for it is in hand.
#[test]
fn s09_a_new_file_does_not_make_a_deleted_dataset_again() {
    alone(
        "s09_a_new_file_does_not_make_a_deleted_dataset_again",
        || {
            for settings in [KEEP, REFUSE] {
                let deleted = [Set(0), Delete, Set(0), Open(0, 1, Mode::Truncate), Delete];
                replay(settings, &[&deleted[..], &[Close(0)]].concat());
            }
        },
    );
}

/// Whoever was refused has seen no more than before, and is refused again until he looks.
#[test]
fn s09_a_second_try_is_based_on_what_the_first_was() {
    alone("s09_a_second_try_is_based_on_what_the_first_was", || {
        for settings in [KEEP, REFUSE] {
            let refused = [
                Set(0),
                Open(0, 1, Mode::Create),
                Set(1),
                WriteOpen(0, 0),
                Close(0),
            ];
            replay(
                settings,
                &[&refused[..], &[Write(1), Read(1), Write(1)]].concat(),
            );
            replay(settings, &[&refused[..], &[Set(1), Rename(0, 1)]].concat());
        }
    });
}

/// What was never sent is not removed at the service.
#[test]
fn s09_a_file_that_was_refused_is_only_here() {
    alone("s09_a_file_that_was_refused_is_only_here", || {
        for settings in [KEEP, REFUSE] {
            let refused = [Set(0), Open(1, 2, Mode::Append), Extend(2), Fsync(1)];
            replay(settings, &[&refused[..], &[Unlink(2)]].concat());
        }
    });
}

/// What waits under a name that leads to another version by now is not given up with that.
#[test]
fn s08_what_waits_under_a_name_outlives_a_newer_version() {
    alone(
        "s08_what_waits_under_a_name_outlives_a_newer_version",
        || {
            let waits = [Set(1), Write(0), Delete, Read(1), Set(0)];
            replay(LOOSE, &[&waits[..], &[Rename(0, 2)]].concat());
            replay(LOOSE, &[&waits[..], &[Set(2), Rename(2, 0)]].concat());
        },
    );
}

/// What was appended while it had changed elsewhere shows nothing of that, nor does what is appended
/// next.
#[test]
fn s09_an_append_that_met_another_change_does_not_show_it() {
    alone(
        "s09_an_append_that_met_another_change_does_not_show_it",
        || {
            let met = [Set(2), AppendTo(2), Extend(2), Sync];
            replay(
                LOOSE,
                &[&met[..], &[AppendTo(2), Sync, Write(2), Sync]].concat(),
            );
        },
    );
}
