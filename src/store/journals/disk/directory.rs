//! A state directory on a real disk.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::super::database::Database;
use super::super::error::JournalError;
use super::super::reserve::{Room, RoomInFile};
use super::files::{self, SIDES, beside, remove, sync_directory};
use super::image;
use super::{Held, Name, Removed, Storage, is_name};

/// How long SQLite waits for another process, which has a file for one transaction only.
const BUSY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Directory {
    /// Without a link in it, as SQLite wants it to follow none.
    root: PathBuf,
    journals: PathBuf,
}

impl Directory {
    pub(super) fn new(path: &Path) -> Result<Self, JournalError> {
        let root = path.canonicalize();
        let root = root.map_err(|error| JournalError::file(path, error))?;
        let journals = root.join("journals");
        Ok(Self { root, journals })
    }

    fn path(&self, name: Name<'_>) -> PathBuf {
        match name {
            Name::Journal(name) => self.journals.join(format!("{name}.db")),
            Name::Parked => self.root.join("parked.db"),
            Name::Old => self.root.join("journal.db"),
        }
    }

    /// Names a file that belongs to a journal.
    fn of_journal(&self, name: &str, suffix: &str) -> PathBuf {
        self.journals.join(format!("{name}.{suffix}"))
    }

    fn lock_path(&self, name: Name<'_>) -> PathBuf {
        match name {
            Name::Journal(name) => self.of_journal(name, "lock"),
            Name::Parked | Name::Old => self.root.join("lock"),
        }
    }

    /// Names all that goes with a journal, its lock last: until then nobody makes another.
    fn belongings(&self, name: Name<'_>) -> Vec<PathBuf> {
        let path = self.path(name);
        let mut all: Vec<PathBuf> = SIDES.iter().map(|side| beside(&path, side)).collect();
        match name {
            Name::Journal(name) => {
                all.extend(["reserve", "ending", "lock"].map(|part| self.of_journal(name, part)));
            }
            // A process of the version before may be waiting for its lock, which stays.
            Name::Old => all.push(self.root.join("reserve")),
            Name::Parked => {}
        }
        all
    }
}

impl Storage for Directory {
    fn names(&self) -> Result<BTreeSet<String>, JournalError> {
        let failed = |error| JournalError::file(&self.journals, error);
        let entries = match fs::read_dir(&self.journals) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries.map_err(failed)?,
        };
        let mut names = BTreeSet::new();
        for entry in entries {
            let file = entry.map_err(failed)?.file_name();
            let name = file.to_str().and_then(|file| file.split_once('.'));
            names.extend(
                name.filter(|(name, _)| is_name(name))
                    .map(|(name, _)| name.to_owned()),
            );
        }
        Ok(names)
    }

    fn try_hold_directory(&self) -> Result<Option<Held>, JournalError> {
        files::private_directory(&self.journals)
            .map_err(|error| JournalError::file(&self.journals, error))?;
        let path = self.journals.join("lock");
        let locked = files::try_lock(&path).map_err(|error| JournalError::file(&path, error))?;
        Ok(locked.map(|file| Held(Box::new(file))))
    }

    fn directory(&self) -> &Path {
        &self.journals
    }

    fn try_hold(&self, name: Name<'_>) -> Result<Option<Held>, JournalError> {
        let path = self.lock_path(name);
        let locked = files::try_lock(&path).map_err(|error| JournalError::file(&path, error))?;
        Ok(locked.map(|file| Held(Box::new(file))))
    }

    fn pause(&self, time: Duration) -> bool {
        std::thread::sleep(time);
        true
    }

    fn open(&self, name: Name<'_>) -> Result<Option<Database>, JournalError> {
        let path = self.path(name);
        let there = files::tighten_database(&path);
        match there.map_err(|error| JournalError::file(&path, error))? {
            true => connect(path).map(Some),
            false => Ok(None),
        }
    }

    fn make(&self, name: Name<'_>) -> Result<Database, JournalError> {
        let path = self.path(name);
        let failed = |error| JournalError::file(&path, error);
        if files::make_database(&path).map_err(failed)? {
            // SQLite syncs what is in a file, and not that it is there.
            let directory = path.parent().unwrap_or(&self.root);
            sync_directory(directory).map_err(failed)?;
        } else {
            files::tighten_database(&path).map_err(failed)?;
        }
        connect(path)
    }

    fn look(&self, name: Name<'_>) -> Result<Option<Database>, JournalError> {
        let path = self.path(name);
        let looked = image::look_at(&path)?;
        Ok(looked.map(|connection| Database::new(path, Arc::new(Mutex::new(connection)), None)))
    }

    fn is_half_made(&self, name: Name<'_>) -> bool {
        beside(&self.path(name), "-journal").exists()
    }

    fn remove(&self, name: Name<'_>) -> Removed {
        let path = self.path(name);
        if let Err(error) = remove(&path) {
            return Removed::Not(JournalError::file(&path, error));
        }
        let directory = path.parent().unwrap_or(&self.root);
        let rest = self.belongings(name);
        // If the power failed, the file without its log would be an older one.
        let gone =
            sync_directory(directory).and_then(|()| rest.iter().try_for_each(|path| remove(path)));
        match gone {
            Ok(()) => Removed::Whole,
            Err(error) => Removed::Partly(JournalError::file(&path, error)),
        }
    }

    fn mark_ending(&self, name: &str) -> Result<(), JournalError> {
        let path = self.of_journal(name, "ending");
        let made = files::private(&path);
        made.map_err(|error| JournalError::file(&path, error))?;
        Ok(())
    }

    fn is_ending(&self, name: &str) -> bool {
        self.of_journal(name, "ending").exists()
    }

    fn room(&self, name: &str) -> Box<dyn Room> {
        Box::new(RoomInFile(self.of_journal(name, "reserve")))
    }
}

fn connect(path: PathBuf) -> Result<Database, JournalError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let opened = Connection::open_with_flags(&path, flags)
        .and_then(|connection| connection.busy_timeout(BUSY).map(|()| connection));
    let connection = opened.map_err(|error| JournalError::of(&path, error))?;
    Ok(Database::new(path, Arc::new(Mutex::new(connection)), None))
}
