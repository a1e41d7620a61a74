//! Real processes that take over the same journals at once, some of them killed on the way: every
//! group ends in one journal, once.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::take::{take, take_wanted};
use super::*;

/// Names the state directory to the process that is started.
const DIRECTORY: &str = "COGNITOFS_TEST_JOURNALS";
/// Names the journal that it makes.
const NAME: &str = "COGNITOFS_TEST_JOURNAL";

/// How many times they start; `COGNITOFS_CRASHES` has more.
fn rounds() -> usize {
    let given = env::var("COGNITOFS_CRASHES").ok();
    given.and_then(|given| given.parse().ok()).unwrap_or(8)
}

/// What a process does that is started: it waits for the start, takes over what is there, says so,
/// and ends without having sent anything.
#[test]
fn a_process_that_takes_over() {
    let (Some(directory), Ok(name)) = (env::var_os(DIRECTORY), env::var(NAME)) else {
        return;
    };
    let directory = Path::new(&directory);
    while !directory.join("start").exists() {
        std::thread::yield_now();
    }
    let disk = Disk::directory(directory).unwrap();
    let journal = open(disk, &name);
    let taken = take_wanted(&journal, &|_| true, soon()).unwrap();
    assert!(taken.troubles.is_empty(), "{taken:?}");
    let texts: Vec<String> = tell(&taken.loaded.groups)
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    fs::write(directory.join(format!("{name}.taken")), texts.join("\n")).unwrap();
    // The other takes over nothing of this one as long as it lives.
    std::mem::forget(journal);
}

fn start(directory: &Path, name: &str) -> Child {
    let test = "store::journals::tests::processes::a_process_that_takes_over";
    Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(DIRECTORY, directory)
        .env(NAME, name)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Leaves journals, and returns the texts of their groups.
fn leave(disk: &Disk) -> Vec<String> {
    let mut texts = Vec::new();
    for name in ["o1", "o2", "o3", "o4"] {
        let journal = open(disk.clone(), name);
        for ticket in 1..=5 {
            let text = format!("{name}{ticket}");
            journal
                .note(&somewhere(), &[set(ticket, "k", &text)], &[])
                .unwrap();
            texts.push(format!("k={text}"));
        }
    }
    texts
}

fn all_there(disk: &Disk) -> Vec<String> {
    let journal = open(disk.clone(), "last");
    let taken = take(&journal).loaded.groups;
    let mut texts: Vec<String> = tell(&taken).into_iter().map(|(_, text)| text).collect();
    texts.sort();
    texts
}

#[test]
fn two_that_start_at_once_share_what_is_there() {
    for _ in 0..rounds() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::directory(directory.path()).unwrap();
        let expected = leave(&disk);
        let mut children = ["p", "q"].map(|name| start(directory.path(), name));
        fs::write(directory.path().join("start"), "").unwrap();
        for child in &mut children {
            assert!(child.wait().unwrap().success());
        }
        let taken = ["p", "q"].map(|name| {
            fs::read_to_string(directory.path().join(format!("{name}.taken"))).unwrap()
        });
        let mut given: Vec<&str> = taken.iter().flat_map(|taken| taken.lines()).collect();
        given.sort_unstable();
        // One that ended early may have been taken over by the other.
        given.dedup();
        assert_eq!(given, expected);
        assert_eq!(all_there(&disk), expected);
    }
}

#[test]
fn one_that_is_killed_on_the_way_loses_and_doubles_nothing() {
    for round in 0..rounds() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::directory(directory.path()).unwrap();
        let expected = leave(&disk);
        let mut children = ["p", "q"].map(|name| start(directory.path(), name));
        // Long enough for both to have come as far as the start, usually.
        std::thread::sleep(Duration::from_millis(60));
        fs::write(directory.path().join("start"), "").unwrap();
        std::thread::sleep(Duration::from_millis(4 * round as u64));
        let victim = Pid::from_raw(children[0].id().try_into().unwrap());
        kill(victim, Signal::SIGKILL).unwrap();
        children[0].wait().unwrap();
        assert!(children[1].wait().unwrap().success());
        assert_eq!(all_there(&disk), expected);
    }
}
