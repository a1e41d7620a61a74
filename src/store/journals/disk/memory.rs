//! A state directory in memory, for simulations: many small ones, used and left by processes that
//! are simulated too, which may end at any change of a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ffi};

use super::super::database::{Database, Gate};
use super::super::error::JournalError;
use super::super::reserve::Room;
use super::{Disk, Held, Hold, Name, Removed, Storage};

/// A state directory in memory. Clones are the same one.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<World>);

/// One process that uses it, until it [crashes](Self::crash). Clones are the same one.
#[derive(Clone)]
pub struct Process {
    world: Arc<World>,
    number: u64,
}

/// When a hook is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing is changed yet.
    Before,
    /// It is changed, and whoever did it does not know.
    After,
}

/// A change of a file: a transaction, or that it is made, marked or removed.
#[derive(Debug)]
pub struct Written<'a> {
    pub process: &'a Process,
    pub file: &'a Path,
    pub moment: Moment,
}

type Hook = Arc<dyn Fn(&Written<'_>) + Send + Sync>;

#[derive(Default)]
struct World {
    /// All that the directory is. Never held while a hook or a transaction runs.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<PathBuf, Arc<Mutex<Connection>>>,
    /// By name, the process that holds it, and which of its holds it is.
    held: BTreeMap<PathBuf, (u64, u64)>,
    /// The journals that are marked as ending.
    ending: BTreeSet<String>,
    /// Whether every change is refused for want of room.
    full: bool,
    /// The processes that have crashed.
    ended: BTreeSet<u64>,
    /// Counts processes and holds.
    last: u64,
    hook: Option<Hook>,
}

impl State {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl World {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDisk").finish_non_exhaustive()
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Process").field(&self.number).finish()
    }
}

impl MemoryDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a process.
    pub fn process(&self) -> Process {
        let number = self.0.state().next();
        Process {
            world: self.0.clone(),
            number,
        }
    }

    /// Has every change refused as a full disk does, or no longer.
    pub fn set_full(&self, full: bool) {
        self.0.state().full = full;
    }

    /// Has a hook called before and after every change. It may crash the process.
    pub fn on_write(&self, hook: impl Fn(&Written<'_>) + Send + Sync + 'static) {
        self.0.state().hook = Some(Arc::new(hook));
    }
}

impl Process {
    /// Returns the directory as this process has it.
    pub fn disk(&self) -> Disk {
        Disk(Arc::new(self.clone()))
    }

    /// Ends the process: what it has open refuses everything, and what it held is free.
    pub fn crash(&self) {
        let mut state = self.world.state();
        state.ended.insert(self.number);
        state.held.retain(|_, (process, _)| *process != self.number);
    }

    /// Returns whether it has crashed.
    pub fn has_ended(&self) -> bool {
        self.world.state().ended.contains(&self.number)
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, JournalError> {
        let state = self.world.state();
        match state.ended.contains(&self.number) {
            true => Err(JournalError::Ended),
            false => Ok(state),
        }
    }

    fn tell(&self, file: &Path, moment: Moment) -> Result<(), JournalError> {
        let hook = self.state()?.hook.clone();
        if let Some(hook) = hook {
            let process = self;
            hook(&Written {
                process,
                file,
                moment,
            });
        }
        self.pass()
    }

    /// Changes the directory itself.
    fn change(&self, file: &Path, change: impl FnOnce(&mut State)) -> Result<(), JournalError> {
        self.before(file)?;
        change(&mut *self.state()?);
        self.after(file)
    }

    fn try_hold_path(&self, path: PathBuf) -> Result<Option<Held>, JournalError> {
        let mut state = self.state()?;
        if state.held.contains_key(&path) {
            return Ok(None);
        }
        let hold = state.next();
        state.held.insert(path.clone(), (self.number, hold));
        drop(state);
        let world = self.world.clone();
        Ok(Some(Held(Box::new(HeldInMemory { world, path, hold }))))
    }

    fn database(&self, path: PathBuf, connection: Arc<Mutex<Connection>>) -> Database {
        Database::new(path, connection, Some(Arc::new(self.clone())))
    }
}

fn full() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None)
}

impl Gate for Process {
    fn pass(&self) -> Result<(), JournalError> {
        self.state().map(drop)
    }

    fn before(&self, file: &Path) -> Result<(), JournalError> {
        self.tell(file, Moment::Before)?;
        match self.state()?.full {
            true => Err(JournalError::Full(full())),
            false => Ok(()),
        }
    }

    fn after(&self, file: &Path) -> Result<(), JournalError> {
        self.tell(file, Moment::After)
    }
}

struct HeldInMemory {
    world: Arc<World>,
    path: PathBuf,
    hold: u64,
}

impl Hold for HeldInMemory {}

impl fmt::Debug for HeldInMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.path).finish()
    }
}

impl Drop for HeldInMemory {
    fn drop(&mut self) {
        let mut state = self.world.state();
        // A crash has freed it, and it may be another's now.
        if state
            .held
            .get(&self.path)
            .is_some_and(|(_, hold)| *hold == self.hold)
        {
            state.held.remove(&self.path);
        }
    }
}

fn path(name: Name<'_>) -> PathBuf {
    match name {
        Name::Journal(name) => format!("journals/{name}.db").into(),
        Name::Parked => "parked.db".into(),
        Name::Old => "journal.db".into(),
    }
}

impl Storage for Process {
    fn names(&self) -> Result<BTreeSet<String>, JournalError> {
        let state = self.state()?;
        let names = state.files.keys().filter_map(|path| {
            let name = path.strip_prefix("journals").ok()?;
            Some(name.file_stem()?.to_str()?.to_owned())
        });
        Ok(names.collect())
    }

    fn try_hold_directory(&self) -> Result<Option<Held>, JournalError> {
        self.try_hold_path("journals/lock".into())
    }

    fn directory(&self) -> &Path {
        Path::new("journals")
    }

    fn try_hold(&self, name: Name<'_>) -> Result<Option<Held>, JournalError> {
        self.try_hold_path(path(name))
    }

    /// Time is simulated too, and not here.
    fn pause(&self, _: Duration) -> bool {
        false
    }

    fn open(&self, name: Name<'_>) -> Result<Option<Database>, JournalError> {
        let path = path(name);
        let file = self.state()?.files.get(&path).cloned();
        Ok(file.map(|file| self.database(path, file)))
    }

    fn make(&self, name: Name<'_>) -> Result<Database, JournalError> {
        if let Some(found) = self.open(name)? {
            return Ok(found);
        }
        let path = path(name);
        let connection = Arc::new(Mutex::new(Connection::open_in_memory()?));
        let file = connection.clone();
        self.change(&path, |state| {
            state.files.insert(path.clone(), file);
        })?;
        Ok(self.database(path, connection))
    }

    fn look(&self, name: Name<'_>) -> Result<Option<Database>, JournalError> {
        self.open(name)
    }

    fn is_half_made(&self, _: Name<'_>) -> bool {
        false
    }

    fn remove(&self, name: Name<'_>) -> Removed {
        let path = path(name);
        // A removal needs no room, so it is not refused for want of it.
        let removed = self.tell(&path, Moment::Before).and_then(|()| self.state());
        match removed {
            Ok(mut state) => {
                state.files.remove(&path);
                if let Name::Journal(name) = name {
                    state.ending.remove(name);
                }
            }
            Err(error) => return Removed::Not(error),
        }
        match self.after(&path) {
            Ok(()) => Removed::Whole,
            Err(error) => Removed::Partly(error),
        }
    }

    fn mark_ending(&self, name: &str) -> Result<(), JournalError> {
        self.change(&path(Name::Journal(name)), |state| {
            state.ending.insert(name.to_owned());
        })
    }

    fn is_ending(&self, name: &str) -> bool {
        self.world.state().ending.contains(name)
    }

    fn room(&self, _: &str) -> Box<dyn Room> {
        Box::new(RoomOfProcess(self.clone()))
    }
}

/// Room that is there as long as the disk is not full.
#[derive(Debug)]
struct RoomOfProcess(Process);

impl Room for RoomOfProcess {
    fn fill(&self) -> io::Result<()> {
        match self.0.world.state().full {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    fn give_up(&self) -> io::Result<()> {
        Ok(())
    }
}
