//! What was done to the files of a directory, in order, and what a crash at any moment leaves of
//! it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What was changed of a file or a directory.
#[derive(Clone, Debug)]
pub(in crate::store::journals) enum Change {
    /// An empty file of that name is there from now on.
    Make,
    Remove,
    /// Of a file its bytes, of a directory its names.
    Sync,
    Write(u64, Vec<u8>),
    Truncate(u64),
    /// A step of the test has returned. It is about no file.
    Done,
}

pub(super) type Log = Vec<(PathBuf, Change)>;

/// The directories that are recorded, and what was done in them. Locked for a moment by whatever
/// changes a file.
static LOGS: Mutex<BTreeMap<PathBuf, Log>> = Mutex::new(BTreeMap::new());

fn logs() -> MutexGuard<'static, BTreeMap<PathBuf, Log>> {
    LOGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Is told of what was changed, anywhere.
pub(in crate::store::journals) fn tell(path: &Path, change: Change) {
    for (root, log) in logs().iter_mut() {
        // What SQLite keeps for the processes that run is made anew.
        if path.starts_with(root) && path.extension().is_none_or(|end| end != "db-shm") {
            log.push((path.to_owned(), change.clone()));
        }
    }
}

/// Begins to record a directory.
pub(super) fn begin(root: &Path) {
    logs().insert(root.to_owned(), Log::new());
}

pub(super) fn end(root: &Path) -> Log {
    logs().remove(root).unwrap_or_default()
}

/// How much of what was not synced a power cut takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Crash {
    /// The process is killed: nothing.
    Kill,
    /// All of it.
    Strict,
    /// The bytes, and no name.
    Bytes,
    /// The names, and no byte.
    Names,
    /// One write or the other, by chance.
    Some(u64),
}

#[derive(Clone, Default)]
struct Inode {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// What was done since.
    unsynced: Vec<Change>,
}

/// The files of a directory while a log is gone through.
#[derive(Clone, Default)]
pub(super) struct Files {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    synced: BTreeMap<PathBuf, usize>,
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(at, written) => {
            let (at, end) = (*at as usize, *at as usize + written.len());
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[at..end].copy_from_slice(written);
        }
        Change::Truncate(length) => bytes.truncate(*length as usize),
        _ => {}
    }
}

impl Files {
    pub(super) fn change(&mut self, path: &Path, change: &Change) {
        match change {
            Change::Make => {
                self.names.insert(path.to_owned(), self.inodes.len());
                self.inodes.push(Inode::default());
            }
            Change::Remove => {
                self.names.remove(path);
            }
            Change::Sync => match self.names.get(path) {
                Some(inode) => {
                    let inode = &mut self.inodes[*inode];
                    inode.synced = inode.now.clone();
                    inode.unsynced.clear();
                }
                None => {
                    let within = |name: &PathBuf| name.parent() == Some(path);
                    self.synced.retain(|name, _| !within(name));
                    let now = self.names.iter().filter(|(name, _)| within(name));
                    self.synced
                        .extend(now.map(|(name, inode)| (name.clone(), *inode)));
                }
            },
            Change::Write(..) | Change::Truncate(_) => {
                if let Some(inode) = self.names.get(path) {
                    let inode = &mut self.inodes[*inode];
                    apply(&mut inode.now, change);
                    inode.unsynced.push(change.clone());
                }
            }
            Change::Done => {}
        }
    }

    /// Returns the files that are there after a crash.
    pub(super) fn after(&self, crash: Crash) -> BTreeMap<PathBuf, Vec<u8>> {
        let names = match crash {
            Crash::Kill | Crash::Names | Crash::Some(_) => &self.names,
            Crash::Strict | Crash::Bytes => &self.synced,
        };
        let bytes = |inode: &Inode| match crash {
            Crash::Kill | Crash::Bytes => inode.now.clone(),
            Crash::Strict | Crash::Names => inode.synced.clone(),
            Crash::Some(seed) => {
                let mut bytes = inode.synced.clone();
                for (at, change) in inode.unsynced.iter().enumerate() {
                    if mix(seed.wrapping_add(at as u64)).is_multiple_of(2) {
                        apply(&mut bytes, change);
                    }
                }
                bytes
            }
        };
        let files = names.iter();
        files
            .map(|(name, inode)| (name.clone(), bytes(&self.inodes[*inode])))
            .collect()
    }
}

/// SplitMix64.
fn mix(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Writes files that lay in one directory to another.
pub(super) fn lay_out(files: &BTreeMap<PathBuf, Vec<u8>>, from: &Path, to: &Path) {
    fs::create_dir_all(to.join("journals")).unwrap();
    for (path, bytes) in files {
        fs::write(to.join(path.strip_prefix(from).unwrap()), bytes).unwrap();
    }
}
