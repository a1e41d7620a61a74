//! The journal of one mount.
//!
//! Invariant: what is owed is written before anything that comes later, so that a group that was
//! settled cannot outlive one that was noted after it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

use rusqlite::{Connection, params};

use super::database::{Database, Lasting};
use super::disk::{Disk, Held, Name, Removed, is_name};
use super::error::JournalError;
use super::format::JOURNAL;
use super::loaded::{Loaded, Whereabouts};
use super::reserve::Reserve;
use super::rows::{self, ChangeRow, GroupRow, base_columns, to_column};
use super::take::close_as_it_is;
use super::{Clock, Journals, fingerprints};
use crate::sync::pending::{Note, Place, Rebased, Settled, Ticket};
use crate::wire::timestamp::Timestamp;

/// How many bytes of the log call for a checkpoint.
const LONG_LOG: usize = 4 * 1024 * 1024;
/// How many pages of the log SQLite writes to the file by itself, should nobody else: 32 MiB.
const LONGEST_LOG: u32 = 8192;
/// About what a row takes of the log beside its bytes: a page of each table.
pub(super) const ROW: usize = 2 * 4096;

/// See the module's documentation. Its calls wait for the disk, [`sync`](Self::sync),
/// [`checkpoint`](Self::checkpoint) and [`take_over`](Self::take_over) long.
#[derive(Debug)]
pub struct MountJournal {
    pub(super) name: String,
    pub(super) disk: Disk,
    pub(super) clock: Clock,
    pub(super) database: Database,
    /// Held for a whole call, so that calls come one after another. Locked before the database.
    state: Mutex<State>,
    /// Says that the process lives. Given up when the file is closed.
    _held: Held,
}

/// What a journal has in memory.
#[derive(Debug)]
pub(super) struct State {
    /// The place of the next noting. No place is given twice.
    next: i64,
    /// What is to be written before anything else, first things first. It is bounded by what is
    /// noted, as nothing more is noted meanwhile.
    owed: VecDeque<Settled>,
    /// What groups stand on that are on their way here, by their tickets: what they stood on when they
    /// were written down is settled. It is noted with them, so that no process finds them without.
    early: HashMap<Ticket, Vec<Rebased>>,
    reserve: Reserve,
    /// Whether a power cut may take something.
    unsynced: bool,
    /// The groups of other journals that are damaged and were told of, by journal and ticket there.
    pub(super) damaged: HashSet<(String, i64)>,
    /// About how many bytes were written to the log since the last checkpoint.
    logged: usize,
}

impl Journals {
    /// Makes a journal of a name that is not used yet: letters and digits. Waits until `deadline`
    /// for the directory. `made` tells its age when it is taken over.
    pub fn open(
        &self,
        name: &str,
        made: Timestamp,
        deadline: Instant,
    ) -> Result<MountJournal, JournalError> {
        let refused = |kind| JournalError::file(Path::new(name), io::Error::from(kind));
        if !is_name(name) {
            return Err(refused(io::ErrorKind::InvalidInput));
        }
        let storage = self.disk.storage();
        let directory = self.disk.hold(deadline, &self.clock)?;
        if storage.names()?.contains(name) {
            return Err(refused(io::ErrorKind::AlreadyExists));
        }
        let held = storage.try_hold(Name::Journal(name))?;
        let held = held.ok_or_else(|| refused(io::ErrorKind::AlreadyExists))?;
        let database = storage.make(Name::Journal(name))?;
        let about = format!("INSERT INTO about VALUES ({}, 0);", made.as_millis());
        database.create(JOURNAL, &about)?;
        drop(directory);
        database
            .read(|connection| connection.pragma_update(None, "wal_autocheckpoint", LONGEST_LOG))?;
        let state = State {
            next: 1,
            owed: VecDeque::new(),
            early: HashMap::new(),
            reserve: Reserve::make(storage.room(name), (self.clock)()),
            unsynced: false,
            damaged: HashSet::new(),
            logged: 0,
        };
        Ok(MountJournal {
            name: name.to_owned(),
            disk: self.disk.clone(),
            clock: self.clock.clone(),
            database,
            state: Mutex::new(state),
            _held: held,
        })
    }
}

impl MountJournal {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Notes groups of a dataset in place of others, all or nothing. Returns the places of this
    /// noting. A group that is noted again is replaced too.
    ///
    /// # Errors
    /// [`JournalError::Full`] or [`JournalError::NoRoom`] on a full disk; then all is as it was.
    pub fn note(
        &self,
        of: &Whereabouts,
        notes: &[Note],
        replaced: &[Ticket],
    ) -> Result<Vec<Place>, JournalError> {
        self.note_with(&mut self.state(), of, notes, replaced)
    }

    /// Does what [`note`](Self::note) does, unless another call is under way, which may take long.
    pub fn try_note(
        &self,
        of: &Whereabouts,
        notes: &[Note],
        replaced: &[Ticket],
    ) -> Option<Result<Vec<Place>, JournalError>> {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(self.note_with(&mut state, of, notes, replaced))
    }

    fn note_with(
        &self,
        state: &mut State,
        of: &Whereabouts,
        notes: &[Note],
        replaced: &[Ticket],
    ) -> Result<Vec<Place>, JournalError> {
        let noted = self.note_now(state, of, notes, replaced);
        if noted.is_err() {
            // They do not come.
            for note in notes {
                state.early.remove(&note.ticket);
            }
        }
        noted
    }

    fn note_now(
        &self,
        state: &mut State,
        of: &Whereabouts,
        notes: &[Note],
        replaced: &[Ticket],
    ) -> Result<Vec<Place>, JournalError> {
        self.pay_all(state)?;
        if !state.reserve.renew((self.clock)()) {
            return Err(JournalError::NoRoom);
        }
        let places = (state.next..).map(Place).take(notes.len());
        let places: Vec<Place> = places.collect();
        let early = |note: &Note| state.early.get(&note.ticket).into_iter().flatten();
        let logged = self.database.write(Lasting::Process, |tx| {
            for ticket in replaced {
                rows::remove(tx, to_column(*ticket))?;
            }
            let mut logged = replaced.len() * ROW;
            for (note, place) in notes.iter().zip(&places) {
                logged += put(tx, of, note, *place)?;
                for rebased in early(note) {
                    rebase(tx, rebased)?;
                }
            }
            Ok(logged)
        })?;
        for note in notes {
            state.early.remove(&note.ticket);
        }
        state.next += notes.len() as i64;
        state.wrote(logged);
        Ok(places)
    }

    /// Notes what became of groups, all or nothing. What cannot be noted now is remembered, and
    /// noted before anything else.
    ///
    /// # Errors
    /// Why it is not on the disk yet.
    pub fn settle(&self, settled: &Settled) -> Result<(), JournalError> {
        let mut state = self.state();
        if settled != &Settled::default() {
            state.owed.push_back(settled.clone());
        }
        self.pay_all(&mut state)
    }

    /// Notes what could not be noted before.
    ///
    /// # Errors
    /// Why it is not on the disk yet.
    pub fn pay(&self) -> Result<(), JournalError> {
        self.pay_all(&mut self.state())
    }

    /// Returns how many outcomes are not on the disk.
    pub fn owed(&self) -> usize {
        self.state().owed.len()
    }

    /// Has all that was noted and settled survive a power cut.
    pub fn sync(&self) -> Result<(), JournalError> {
        let mut state = self.state();
        self.pay_all(&mut state)?;
        if !state.unsynced {
            return Ok(());
        }
        // SQLite syncs what it writes only, and with it the log before it.
        self.database.write(Lasting::Power, |tx| {
            tx.execute("UPDATE about SET synced = synced + 1", [])
        })?;
        state.wrote(ROW);
        state.unsynced = false;
        Ok(())
    }

    /// Says whether the log is so long that it is to be written to the file, where nobody waits.
    pub fn is_checkpoint_due(&self) -> bool {
        self.state().logged >= LONG_LOG
    }

    /// Writes the log to the file, so that it begins anew.
    pub fn checkpoint(&self) -> Result<(), JournalError> {
        let mut state = self.state();
        self.database
            .read(|connection| connection.execute_batch("PRAGMA wal_checkpoint(PASSIVE)"))?;
        state.logged = 0;
        Ok(())
    }

    /// Reads all groups.
    pub fn load(&self) -> Result<Loaded, JournalError> {
        let _state = self.state();
        self.database.read(|connection| {
            let mut loaded = rows::load(connection, |_| true)?;
            loaded.unreadable.extend(rows::load_strays(connection)?);
            Ok(loaded)
        })
    }

    /// Has other mounts know that this one is about to end, and leaves what it has not sent.
    pub fn mark_ending(&self) -> Result<(), JournalError> {
        self.disk.storage().mark_ending(&self.name)
    }

    /// Ends the use of the journal. It is removed if nothing is in it, else it is the next mount's.
    /// Waits until `deadline` for the directory. Returns whether it was removed.
    pub fn close(self, deadline: Instant) -> Result<bool, JournalError> {
        self.pay()?;
        let _directory = self.disk.hold(deadline, &self.clock)?;
        let is_empty = "SELECT NOT EXISTS (SELECT 1 FROM groups)
                AND NOT EXISTS (SELECT 1 FROM changes)";
        let is_empty =
            |connection: &Connection| connection.query_row(is_empty, [], |row| row.get(0));
        if !self.database.read(is_empty)? {
            return Ok(false);
        }
        let Self {
            name,
            disk,
            database,
            _held,
            ..
        } = self;
        close_as_it_is(database);
        match disk.storage().remove(Name::Journal(&name)) {
            Removed::Whole => Ok(true),
            Removed::Partly(error) | Removed::Not(error) => Err(error),
        }
    }

    /// A panic leaves nothing half done in it.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pay_all(&self, state: &mut State) -> Result<(), JournalError> {
        while let Some(settled) = state.owed.front() {
            let mut written = self.write_settled(settled);
            if written.is_err() && state.reserve.spend() {
                written = self.write_settled(settled);
            }
            for rebased in written? {
                state.early.entry(rebased.ticket).or_default().push(rebased);
            }
            let logged = (settled.removed.len() + settled.rebased.len()) * ROW;
            state.owed.pop_front();
            state.wrote(logged);
        }
        Ok(())
    }

    /// Returns what is of groups that are not here yet.
    fn write_settled(&self, settled: &Settled) -> Result<Vec<Rebased>, JournalError> {
        self.database.write(Lasting::Process, |tx| {
            for ticket in &settled.removed {
                rows::remove(tx, to_column(*ticket))?;
            }
            let mut early = Vec::new();
            for rebased in &settled.rebased {
                if !rebase(tx, rebased)? {
                    early.push(rebased.clone());
                }
            }
            Ok(early)
        })
    }
}

impl State {
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.unsynced = true;
        self.logged = self.logged.saturating_add(bytes);
    }
}

/// Writes a group. Returns about how many bytes that takes of the log.
fn put(tx: &Connection, of: &Whereabouts, note: &Note, place: Place) -> rusqlite::Result<usize> {
    let row = GroupRow::of(of, note, place);
    rows::remove(tx, row.ticket)?;
    row.insert(tx)?;
    let mut logged = ROW;
    for (number, change) in note.changes.iter().enumerate() {
        let change = ChangeRow::of(number, change);
        change.insert(tx, row.ticket)?;
        logged += ROW + change.len();
    }
    Ok(logged)
}

/// Returns whether the change is here.
fn rebase(tx: &Connection, rebased: &Rebased) -> rusqlite::Result<bool> {
    let (count, ticket, digest) = base_columns(&rebased.base);
    let mut update = tx.prepare_cached(
        "UPDATE changes SET base_count = ?1, base_ticket = ?2, base_digest = ?3, existed = ?4,
            sync_count = ?5, sent = ?6
         WHERE ticket = ?7 AND key = ?8",
    )?;
    let rows = update.execute(params![
        count,
        ticket,
        digest,
        rebased.known.existed,
        rebased.known.sync_count,
        fingerprints::encode(&rebased.sent),
        to_column(rebased.ticket),
        rebased.key.text().as_bytes(),
    ])?;
    Ok(rows > 0)
}

/// Returns the lowest place of a journal's groups, and at most the first that is given.
pub(super) fn lowest_place(connection: &Connection) -> rusqlite::Result<i64> {
    let lowest = "SELECT min(min(place), min(first_set)) FROM groups";
    let lowest: Option<i64> = connection.query_row(lowest, [], |row| row.get(0))?;
    Ok(lowest.unwrap_or(1).min(1))
}
