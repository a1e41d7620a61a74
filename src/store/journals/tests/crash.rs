//! The process is killed, or the power cut, at every write and every sync of a scenario; then the
//! real code reads what is left.

use std::collections::HashSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::parked::{tell_parked, version};
use super::recorded::{Change, Crash, Files, Log, begin, end, lay_out, tell as record};
use super::take::{take, take_wanted};
use super::*;
use crate::sync::pending::{Rebased, Settled};

/// What is in a state directory: the texts of all groups in their order, and of the kept versions.
type Content = (Vec<String>, Vec<String>);

/// What a scenario has done.
struct Scenario {
    root: TempDir,
    log: Log,
    /// What is there after each step, the first of them what is there before any.
    contents: Vec<Content>,
    /// Whether the groups that are there then survive a power cut.
    lasting: Vec<bool>,
}

/// What runs a scenario, and is told what it expects.
struct Run {
    root: TempDir,
    contents: Vec<Content>,
    lasting: Vec<bool>,
}

impl Run {
    fn begin() -> Self {
        super::vfs::install();
        let root = quick_directory();
        begin(&root.path().canonicalize().unwrap());
        Self {
            root,
            contents: Vec::new(),
            lasting: Vec::new(),
        }
    }

    fn path(&self) -> PathBuf {
        self.root.path().canonicalize().unwrap()
    }

    fn disk(&self) -> Disk {
        Disk::directory(self.root.path()).unwrap()
    }

    /// A step has returned.
    fn done(&mut self, groups: &[&str], parked: &[&str], lasting: bool) {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        self.contents.push((own(groups), own(parked)));
        self.lasting.push(lasting);
        record(&self.path(), Change::Done);
    }

    fn end(self) -> Scenario {
        Scenario {
            log: end(&self.path()),
            root: self.root,
            contents: self.contents,
            lasting: self.lasting,
        }
    }
}

/// Makes a directory where a sync costs nothing, if there is such a place.
fn quick_directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

impl Scenario {
    /// Crashes at every moment, each way. Syncs that are not `honoured` were none. Returns how many
    /// different directories were read.
    fn check(&self, honoured: impl Fn(&Path) -> bool) -> Result<usize, String> {
        let root = self.root.path().canonicalize().unwrap();
        let mut files = Files::default();
        let mut done = 0;
        let mut seen = HashSet::new();
        for (at, (path, change)) in self.log.iter().enumerate() {
            match change {
                Change::Done => done += 1,
                Change::Sync if !honoured(path) => {}
                change => files.change(path, change),
            }
            if done == 0 {
                continue;
            }
            let seeds = (0..3).map(|seed| Crash::Some(seed + 3 * at as u64));
            let power = [Crash::Strict, Crash::Bytes, Crash::Names];
            let crashes = power.into_iter().chain(seeds).chain([Crash::Kill]);
            for crash in crashes {
                let left = files.after(crash);
                let allowed = self.allowed(done, matches!(crash, Crash::Kill));
                let mut hasher = DefaultHasher::new();
                (&left, done, allowed.len()).hash(&mut hasher);
                if !seen.insert(hasher.finish()) {
                    continue;
                }
                let directory = quick_directory();
                lay_out(&left, &root, directory.path());
                let found = read(directory.path());
                let known = |(groups, parked): &Content| {
                    allowed.iter().any(|(allowed, _)| allowed == groups)
                        && self.kept(done).iter().any(|(_, kept)| kept == parked)
                };
                if !found.as_ref().is_ok_and(known) {
                    return Err(format!(
                        "{crash:?} at {at} of {}, {done} steps done: {found:?}, not {allowed:?}",
                        self.log.len()
                    ));
                }
            }
        }
        Ok(seen.len())
    }

    /// Returns what may be kept after so many steps. What is kept survives a power cut at once, so
    /// that it is there in whichever state the groups are.
    fn kept(&self, done: usize) -> &[Content] {
        self.allowed(done, true)
    }

    /// Returns what groups may be there after so many steps, the next of which may be under way.
    fn allowed(&self, done: usize, killed: bool) -> &[Content] {
        let lasting = |step: &usize| killed || self.lasting[*step];
        let first = (0..done).rev().find(lasting).unwrap_or(0);
        &self.contents[first..(done + 1).min(self.contents.len())]
    }
}

/// Reads a directory as the next mount does.
fn read(directory: &Path) -> Result<Content, String> {
    let disk = Disk::directory(directory).map_err(|error| error.to_string())?;
    let old = directory.join("journal.db").exists();
    let alone = !old && disk.storage().names().is_ok_and(|names| names.len() == 1);
    let unsent = door(disk.clone()).unsent();
    let unsent = unsent.map_err(|error| error.to_string())?;
    let journal = door(disk.clone()).open("next", Timestamp::from_millis(9), soon());
    let journal = journal.map_err(|error| error.to_string())?;
    let taken = take_wanted(&journal, &|_| true, Instant::now());
    let taken = taken.map_err(|error| error.to_string())?;
    if !taken.troubles.is_empty() || !taken.loaded.unreadable.is_empty() {
        return Err(format!("{taken:?}"));
    }
    let changes = taken.loaded.groups.iter();
    let changes: u64 = changes.map(|group| group.note.changes.len() as u64).sum();
    // What is counted without SQLite is what SQLite reads.
    if alone && (unsent.changes != changes || changes > 0 && !unsent.troubles.is_empty()) {
        return Err(format!("{unsent:?} of {changes}"));
    }
    let groups = tell(&taken.loaded.groups).into_iter().map(|(_, text)| text);
    let parked = door(disk)
        .parked(soon())
        .map_err(|error| error.to_string())?;
    let parked = tell_parked(&parked, &somewhere()).into_iter();
    let text = |(key, _, text): (String, u32, Vec<u8>)| {
        format!("{key}={}", String::from_utf8_lossy(&text))
    };
    Ok((groups.collect(), parked.map(text).collect()))
}

fn removed(tickets: &[u64]) -> Settled {
    Settled {
        removed: tickets.iter().copied().map(Ticket).collect(),
        rebased: Vec::new(),
    }
}

/// A group of two changes.
fn pair(ticket: u64, text: &str) -> Note {
    let mut note = set(ticket, "x", text);
    note.changes.extend(set(ticket, "y", text).changes);
    note
}

fn noting() -> Scenario {
    let mut run = Run::begin();
    let journal = open(run.disk(), "a");
    let of = somewhere();
    run.done(&[], &[], true);
    journal.note(&of, &[set(1, "a", "1")], &[]).unwrap();
    run.done(&["a=1"], &[], false);
    journal
        .note(&of, &[pair(2, "2"), set(3, "b", "3")], &[])
        .unwrap();
    run.done(&["a=1", "x=2 y=2", "b=3"], &[], false);
    journal.sync().unwrap();
    run.done(&["a=1", "x=2 y=2", "b=3"], &[], true);
    journal
        .note(&of, &[pair(4, "4")], &[Ticket(1), Ticket(2)])
        .unwrap();
    run.done(&["b=3", "x=4 y=4"], &[], false);
    let noted = set(3, "b", "3").changes.remove(0);
    let rebased = Rebased {
        ticket: Ticket(3),
        key: noted.change.key,
        base: noted.change.base,
        known: noted.known,
        sent: noted.sent,
    };
    let settled = Settled {
        rebased: vec![rebased],
        ..removed(&[4])
    };
    journal.settle(&settled).unwrap();
    run.done(&["b=3"], &[], false);
    journal.checkpoint().unwrap();
    run.done(&["b=3"], &[], true);
    journal.note(&of, &[pair(5, "5")], &[]).unwrap();
    run.done(&["b=3", "x=5 y=5"], &[], false);
    journal.sync().unwrap();
    run.done(&["b=3", "x=5 y=5"], &[], true);
    drop(journal);
    run.done(&["b=3", "x=5 y=5"], &[], true);
    run.end()
}

fn taking_over() -> Scenario {
    let mut run = Run::begin();
    let of = somewhere();
    for (made, name) in [(1, "a"), (2, "b")] {
        let made = Timestamp::from_millis(made);
        let journal = door(run.disk()).open(name, made, soon()).unwrap();
        journal
            .note(&of, &[set(1, name, "1"), set(2, name, "0")], &[])
            .unwrap();
        // What is in the file is older than what is in its log.
        journal.checkpoint().unwrap();
        journal.note(&of, &[pair(3, name)], &[Ticket(2)]).unwrap();
        journal.sync().unwrap();
        // The process is killed: nothing is written at its end.
        std::mem::forget(journal);
        let path = run.path().join(format!("journals/{name}.lock"));
        fs::remove_file(path).unwrap();
    }
    let all = ["a=1", "x=a y=a", "b=1", "x=b y=b"];
    run.done(&all, &[], true);
    let journal = door(run.disk())
        .open("c", Timestamp::from_millis(3), soon())
        .unwrap();
    let taken = take(&journal).loaded.groups;
    run.done(&all, &[], true);
    journal.settle(&removed(&[taken[0].note.ticket.0])).unwrap();
    run.done(&all[1..], &[], false);
    journal.sync().unwrap();
    run.done(&all[1..], &[], true);
    let rest: Vec<u64> = taken[1..].iter().map(|group| group.note.ticket.0).collect();
    journal.settle(&removed(&rest)).unwrap();
    run.done(&[], &[], false);
    journal.close(soon()).unwrap();
    run.done(&[], &[], true);
    run.end()
}

fn parking() -> Scenario {
    let mut run = Run::begin();
    let of = somewhere();
    let journal = open(run.disk(), "a");
    journal
        .note(&of, &[set(1, "a", "1"), set(2, "b", "2")], &[])
        .unwrap();
    journal.sync().unwrap();
    run.done(&["a=1", "b=2"], &[], true);
    let parked = door(run.disk()).parked(soon()).unwrap();
    run.done(&["a=1", "b=2"], &[], true);
    let at = Timestamp::from_millis(5);
    parked.park(&of, &version("a", b"1", None), at).unwrap();
    run.done(&["a=1", "b=2"], &["a=1"], true);
    journal.settle(&removed(&[1])).unwrap();
    run.done(&["b=2"], &["a=1"], false);
    parked.park(&of, &version("b", b"2", None), at).unwrap();
    run.done(&["b=2"], &["a=1", "b=2"], false);
    journal.settle(&removed(&[2])).unwrap();
    run.done(&[], &["a=1", "b=2"], false);
    journal.sync().unwrap();
    run.done(&[], &["a=1", "b=2"], true);
    run.end()
}

fn taking_over_the_old() -> Scenario {
    let mut run = Run::begin();
    let rows = [
        "1, 1, NULL, x'61', 'whole', NULL, x'31', 4, 1, 7, x'', 4",
        "2, 2, 2, x'78', 'whole', NULL, x'32', 4, 1, 7, x'', 4",
        "3, 3, 2, x'79', 'whole', NULL, x'32', 4, 1, 7, x'', 4",
    ];
    super::old::make_old(&run.path(), &rows);
    super::old::keep_in_old(&run.path(), "6b", "local", "6b");
    // Nobody has told that it is there: the tests made it.
    record(&run.path(), Change::Sync);
    let all = ["a=1", "x=2 y=2"];
    run.done(&all, &["k=k"], true);
    let journal = open(run.disk(), "c");
    let taken = take(&journal).loaded.groups;
    run.done(&all, &["k=k"], true);
    journal.settle(&removed(&[taken[0].note.ticket.0])).unwrap();
    journal.sync().unwrap();
    run.done(&all[1..], &["k=k"], true);
    run.end()
}

fn check_all(scenario: &Scenario) {
    let checked = scenario.check(|_| true);
    let checked = checked.unwrap_or_else(|error| panic!("{error}"));
    assert!(checked > 20, "{checked}");
}

#[test]
fn noted_groups_survive_whole_and_once() {
    check_all(&noting());
}

#[test]
fn nothing_is_lost_while_a_journal_is_taken_over() {
    check_all(&taking_over());
}

#[test]
fn a_version_is_kept_whenever_its_row_is_gone() {
    check_all(&parking());
}

#[test]
fn nothing_is_lost_while_the_version_before_is_taken_over() {
    check_all(&taking_over_the_old());
}

/// A test that cannot fail proves nothing: without a sync each of them does.
#[test]
fn without_a_sync_something_is_lost() {
    let ends = |path: &Path, end: &str| path.to_str().is_some_and(|path| path.ends_with(end));
    let taking = taking_over();
    let copied = taking.check(|path| !ends(path, "c.db-wal"));
    assert!(copied.is_err_and(|error| error.contains("not")));
    let removed = taking.check(|path| !ends(path, "/journals"));
    assert!(removed.is_err());
    let parked = parking().check(|path| !ends(path, "parked.db-wal"));
    assert!(parked.is_err());
    let noted = noting().check(|path| !ends(path, "a.db-wal"));
    assert!(noted.is_err());
    let old = taking_over_the_old().check(|path| !ends(path, "c.db-wal"));
    assert!(old.is_err());
}
