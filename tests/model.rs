//! Random operations through a real mount and through a dumb model of files, compared after every
//! step: the tree as the mount shows it, the service, and the versions that are kept. Above all, no
//! value disappears that was neither shown here nor kept.
//!
//! A failure prints its operations as Rust; pasted into a test as `replay(KEEP, &[...])` they stay
//! one. `COGNITOFS_MODEL_RUNS` has more runs made than the 300 by default.

mod ledger;
mod ops;
mod real;
mod reference;
mod run;

use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

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
}

const KEEP: Settings = Settings {
    options: "ttl=0,conflict=auto",
    keeps_unseen: true,
};
const REFUSE: Settings = Settings {
    options: "ttl=0,conflict=strict",
    keeps_unseen: false,
};

fn alone(test: &str, action: impl FnOnce()) {
    crate::common::alone(&format!("model::{test}"), action);
}

fn check(settings: Settings) {
    let runs = std::env::var("COGNITOFS_MODEL_RUNS").map_or(300, |runs| runs.parse().unwrap());
    let config = Config {
        cases: runs / 2,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        max_shrink_time: 20_000,
        ..Config::default()
    };
    let world = std::cell::RefCell::new(World::new(settings));
    let tried = TestRunner::new(config).run(&ops(STEPS), |ops| {
        run(&mut world.borrow_mut(), &ops).map_err(TestCaseError::fail)
    });
    println!("{}", world.borrow().told());
    match tried {
        Ok(()) => {}
        Err(TestError::Fail(why, ops)) => {
            let name = if settings.keeps_unseen {
                "KEEP"
            } else {
                "REFUSE"
            };
            panic!("{why}\nreplay({name}, &{ops:?});")
        }
        Err(error) => panic!("{error}"),
    }
}

fn replay(settings: Settings, ops: &[Op]) {
    let mut world = World::new(settings);
    if let Err(why) = run(&mut world, ops) {
        panic!("{why}");
    }
}

#[test]
fn what_nobody_saw_is_kept() {
    alone("what_nobody_saw_is_kept", || {
        check(KEEP);
    });
}

#[test]
fn what_nobody_saw_is_not_replaced() {
    alone("what_nobody_saw_is_not_replaced", || {
        check(REFUSE);
    });
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
