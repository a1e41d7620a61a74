//! One dataset of two records, three handles, and all that may happen to them.

mod driving;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cognitofs::fs::drafts::{Drafts, Extent, FileId, RecordName, Request, Standing, Target};
use cognitofs::sync::pending::{
    Barrier, Base, Commit, DatasetId, DatasetState, How, Kind, Place as NotePlace, Refusal, Staged,
    Ticket,
};
use cognitofs::sync::{Shown, Unseen};
use cognitofs::wire::names::RecordKey;
use cognitofs::wire::records::Record;
use cognitofs::wire::timestamp::Timestamp;
use proptest::test_runner::TestCaseError;

use crate::service::Service;

const DATASET: DatasetId = DatasetId(1);
/// Bytes of a token.
const TOKEN: usize = 4;

#[derive(Clone, Copy, Debug)]
pub enum Mode {
    Read,
    ReadCreate,
    ReadTruncate,
    Write,
    WriteCreate,
    WriteTruncate,
    Append,
}

#[derive(Clone, Copy, Debug)]
pub enum Place {
    Start,
    Middle,
    End,
}

/// What comes of an update.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Made,
    /// It was made, and no answer came.
    LostMade,
    /// It was not, and no answer came.
    LostUnmade,
    /// The service has no room.
    Quota,
    /// The service cannot be asked.
    Away,
    /// A function of the service adds to every value.
    Triggered,
}

#[derive(Clone, Debug)]
pub enum Operation {
    Open {
        slot: usize,
        key: usize,
        mode: Mode,
    },
    Read(usize),
    Write {
        slot: usize,
        place: Place,
    },
    Truncate {
        slot: usize,
        tokens: u64,
    },
    Date(usize),
    Flush(usize),
    Sync(usize),
    Release(usize),
    /// Of one record to the other's name.
    Rename(usize),
    Exchange,
    Unlink(usize),
    RemoteWrite {
        key: usize,
        adds: bool,
    },
    RemoteRemove(usize),
    List,
    Run(Vec<Answer>),
    /// Whoever waits leaves.
    Leave,
    /// Whether the journal's disk is full from now on.
    FillJournal(bool),
}

#[derive(Clone, Copy, Debug)]
struct Handle {
    file: FileId,
    writes: bool,
    appends: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct World {
    state: DatasetState,
    barrier: Barrier,
    drafts: Drafts,
    server: Service,
    /// All values that the service ever had, by key and count.
    history: BTreeMap<(RecordKey, i64), String>,
    commit: Commit,
    now: Instant,
    /// The date of the next change, in milliseconds.
    date: i64,
    last_ticket: u64,
    last_place: i64,
    last_token: u32,
    handles: [Option<Handle>; 3],
    /// Tickets that somebody waits for.
    awaited: BTreeSet<Ticket>,
    journal_is_full: bool,
    /// Texts that were parked, ours and the service's.
    parked: Vec<String>,
    /// Tokens that nobody took away: they must be found in the end.
    owed: BTreeSet<String>,
    /// Texts that were staged under each key.
    staged: BTreeMap<RecordKey, BTreeSet<String>>,
    /// Values that were shown under each key, or written there.
    shown: BTreeMap<RecordKey, BTreeSet<String>>,
}

fn name(key: usize) -> RecordName {
    RecordName {
        dataset: DATASET,
        key: RecordKey::new(["a", "b"][key]).unwrap(),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn tokens(text: &str) -> BTreeSet<String> {
    let chunks = text.as_bytes().chunks(TOKEN);
    chunks.map(self::text).collect()
}

fn value_of(record: &Record) -> Option<String> {
    record.value.as_ref().map(|value| text(value.as_bytes()))
}

impl World {
    pub fn close() -> Self {
        Self::new(Commit::Close)
    }

    pub fn asynchronous() -> Self {
        Self::new(Commit::Async)
    }

    fn new(commit: Commit) -> Self {
        Self {
            state: DatasetState::new(DATASET, 0, false),
            barrier: Barrier::default(),
            drafts: Drafts::new(Unseen::Keep),
            server: Service::default(),
            history: BTreeMap::new(),
            commit,
            now: Instant::now(),
            date: 1_000_000,
            last_ticket: 0,
            last_place: 0,
            last_token: 0,
            handles: [None; 3],
            awaited: BTreeSet::new(),
            journal_is_full: false,
            parked: Vec::new(),
            owed: BTreeSet::new(),
            staged: BTreeMap::new(),
            shown: BTreeMap::new(),
        }
    }

    pub fn run(mut self, operations: Vec<Operation>) -> Result<(), TestCaseError> {
        self.try_all(operations)?;
        self.end()
    }

    pub fn try_all(&mut self, operations: Vec<Operation>) -> Result<(), TestCaseError> {
        for operation in operations {
            if std::env::var_os("COGNITOFS_TRACE").is_some() {
                eprintln!("{operation:?}");
            }
            self.act(operation)?;
            self.now += Duration::from_millis(40);
        }
        Ok(())
    }

    fn act(&mut self, operation: Operation) -> Result<(), TestCaseError> {
        match operation {
            Operation::Open { slot, key, mode } => self.open(slot, key, mode),
            Operation::Read(slot) => self.read(slot),
            Operation::Write { slot, place } => self.write(slot, place),
            Operation::Truncate { slot, tokens } => self.truncate(slot, tokens),
            Operation::Date(slot) => self.set_date(slot),
            Operation::Flush(slot) => self.stage_of(slot, Extent::Flush)?,
            Operation::Sync(slot) => self.stage_of(slot, Extent::All)?,
            Operation::Release(slot) => self.release(slot)?,
            Operation::Rename(key) => self.rename(key)?,
            Operation::Exchange => self.exchange()?,
            Operation::Unlink(key) => self.unlink(key)?,
            Operation::RemoteWrite { key, adds } => self.remote_write(key, adds),
            Operation::RemoteRemove(key) => self.remote_remove(key),
            Operation::List => self.list(),
            Operation::Run(answers) => self.drive(&answers, 12)?,
            Operation::Leave => self.leave(),
            Operation::FillJournal(full) => self.journal_is_full = full,
        }
        Ok(())
    }

    fn token(&mut self, kind: char) -> String {
        self.last_token += 1;
        format!("{kind}{:03}", self.last_token)
    }

    fn date(&mut self) -> Timestamp {
        self.date += 1;
        Timestamp::from_millis(self.date)
    }

    fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    fn note_shown(&mut self, key: &RecordKey, value: String) {
        self.shown.entry(key.clone()).or_default().insert(value);
    }

    // Files.

    fn find(&mut self, key: usize) -> Option<FileId> {
        if !self.state.is_listed() {
            self.list();
        }
        let name = name(key);
        let view = self.state.view(&name.key);
        let state = &self.state;
        let normalized = |base| state.normalized(base, &name.key);
        let found = self.drafts.look_up(&name, &view, normalized);
        if let Some(value) = view.value
            && self.drafts.last_shown(&name).is_none()
        {
            self.note_shown(&name.key, text(&value));
        }
        found
    }

    /// Has a file's value be in memory, while it is open.
    fn hold(&mut self, file: FileId, writes: bool) -> bool {
        let key = self.drafts.name_of(file).unwrap().key.clone();
        let value = self.state.view(&key).value;
        self.drafts.open(file, value, writes).is_ok()
    }

    fn open(&mut self, slot: usize, key: usize, mode: Mode) {
        if self.handles[slot].is_some() || self.drafts.changing(&name(key)).is_some() {
            return;
        }
        let writes = !matches!(mode, Mode::Read | Mode::ReadCreate | Mode::ReadTruncate);
        let creates = matches!(mode, Mode::ReadCreate | Mode::WriteCreate);
        let file = match self.find(key) {
            Some(file) if self.hold(file, writes) => file,
            None if creates => {
                let name = name(key);
                let (view, now) = (self.state.view(&name.key), self.date());
                self.drafts.create(&name, &view, writes, false, now)
            }
            _ => return,
        };
        if matches!(mode, Mode::ReadTruncate | Mode::WriteTruncate) {
            self.drop_text(file);
            let now = self.date();
            self.drafts.truncate(file, 0, true, now).unwrap();
        }
        self.handles[slot] = Some(Handle {
            file,
            writes,
            appends: matches!(mode, Mode::Append),
        });
    }

    /// Its writer takes all away that a file shows.
    fn drop_text(&mut self, file: FileId) {
        for gone in tokens(&self.peek(file)) {
            self.owed.remove(&gone);
        }
    }

    /// Returns what a file shows to its writers, without showing it.
    fn peek(&self, file: FileId) -> String {
        text(self.drafts.text(file).unwrap_or_default())
    }

    fn read(&mut self, slot: usize) {
        let Some(handle) = self.handles[slot] else {
            return;
        };
        let value = self.drafts.read(handle.file, handle.writes).unwrap();
        let value = text(value);
        if self.drafts.standing(handle.file) == Some(Standing::Named)
            && !self.drafts.has_draft(handle.file)
        {
            let key = self.drafts.name_of(handle.file).unwrap().key.clone();
            self.note_shown(&key, value);
        }
    }

    fn writer(&self, slot: usize) -> Option<Handle> {
        self.handles[slot].filter(|handle| handle.writes)
    }

    fn write(&mut self, slot: usize, place: Place) {
        let Some(handle) = self.writer(slot) else {
            return;
        };
        let (token, now) = (self.token('w'), self.date());
        let old = self.peek(handle.file);
        let at = match place {
            _ if handle.appends => None,
            Place::Start => Some(0),
            Place::Middle => Some(old.len() / TOKEN / 2 * TOKEN),
            Place::End => Some(old.len()),
        };
        let at = at.map(|at| at as u64);
        let written = self.drafts.write(handle.file, at, token.as_bytes(), now);
        written.unwrap();
        let new = tokens(&self.peek(handle.file));
        for gone in tokens(&old).difference(&new) {
            self.owed.remove(gone);
        }
        if self.drafts.standing(handle.file) != Some(Standing::Removed) {
            self.owed.insert(token);
        }
    }

    fn truncate(&mut self, slot: usize, count: u64) {
        let Some(handle) = self.writer(slot) else {
            return;
        };
        let old = tokens(&self.peek(handle.file));
        let size = count.min(old.len() as u64) * TOKEN as u64;
        let now = self.date();
        self.drafts.truncate(handle.file, size, false, now).unwrap();
        for gone in old.difference(&tokens(&self.peek(handle.file))) {
            self.owed.remove(gone);
        }
    }

    fn set_date(&mut self, slot: usize) {
        if let Some(handle) = self.handles[slot] {
            let now = self.date();
            self.drafts.set_modified(handle.file, now).unwrap();
        }
    }

    fn release(&mut self, slot: usize) -> Result<(), TestCaseError> {
        let Some(handle) = self.handles[slot].take() else {
            return Ok(());
        };
        self.close_handle(handle.file, handle.writes)
    }

    fn close_handle(&mut self, file: FileId, writes: bool) -> Result<(), TestCaseError> {
        let released = self.drafts.release(file, writes);
        self.carry_out(released.effects);
        if released.sends {
            self.stage_file(file, Extent::Closed)?;
        }
        Ok(())
    }

    // Staging.

    fn stage_of(&mut self, slot: usize, extent: Extent) -> Result<(), TestCaseError> {
        match self.handles[slot] {
            Some(handle) => self.stage_file(handle.file, extent),
            None => Ok(()),
        }
    }

    fn stage_file(&mut self, file: FileId, extent: Extent) -> Result<(), TestCaseError> {
        let Some(request) = self.drafts.to_stage(file, extent).unwrap() else {
            return Ok(());
        };
        let change = request.changes[0].clone();
        let own = self.drafts.standing(file) == Some(Standing::Named);
        // What is only added takes nothing away.
        if !matches!(change.kind, Kind::Append { .. }) {
            self.check_base(&change.key, change.base, own)?;
        }
        let (key, text) = (change.key, self.peek(file));
        // What is written over a version that nobody has read does not show it.
        let under = self.value(file);
        let shown = self.shown.get(&key);
        let is_seen = under.is_empty() || shown.is_some_and(|shown| shown.contains(&under));
        let is_seen = is_seen || matches!(change.kind, Kind::Whole(_));
        self.stage(request)?;
        let staged = self.staged.entry(key.clone()).or_default();
        staged.extend(tokens(&text));
        if is_seen {
            self.note_shown(&key, text);
        }
        Ok(())
    }

    /// What a change is based on was shown.
    fn check_base(&self, key: &RecordKey, base: Base, named: bool) -> Result<(), TestCaseError> {
        let base = self.state.normalized(base, key);
        let (None, Shown::Version(count), true) = (base.pending, base.shown, named) else {
            return Ok(());
        };
        let value = &self.history[&(key.clone(), count)];
        let shown = self.shown.get(key);
        let was_shown = shown.is_some_and(|shown| shown.contains(value));
        match was_shown {
            true => Ok(()),
            false => Err(TestCaseError::fail(format!("{value} was not shown"))),
        }
    }

    fn stage(&mut self, request: Request) -> Result<(), TestCaseError> {
        let ticket = self.ticket();
        let how = How {
            commit: self.commit,
            private: request.private,
            now: self.now,
            date: Timestamp::from_millis(self.date),
        };
        let last = &mut self.last_ticket;
        let mut fresh = || {
            *last += 1;
            Ticket(*last)
        };
        let staged = self.state.stage(
            ticket,
            request.changes.clone(),
            how,
            &mut self.barrier,
            &mut fresh,
        );
        let Ok(Some(staged)) = staged else {
            return Err(TestCaseError::fail(
                "nothing is being noted, and it is busy",
            ));
        };
        self.drafts.staged(request, ticket);
        self.note(ticket, &staged);
        Ok(())
    }

    fn note(&mut self, ticket: Ticket, staged: &Staged) {
        if staged.waits {
            self.awaited.insert(ticket);
        }
        if staged.notes.is_empty() && staged.replaced.is_empty() {
            return;
        }
        if self.journal_is_full {
            self.state.handle_not_noted(ticket, &mut self.barrier);
            let effects = self.drafts.not_noted(DATASET, ticket, Refusal::Lost);
            self.state.forget(ticket);
            self.carry_out(effects);
            return;
        }
        let mut places = Vec::new();
        for _ in &staged.notes {
            self.last_place += 1;
            places.push(NotePlace(self.last_place));
        }
        self.state.handle_noted(ticket, &places, &mut self.barrier);
        self.drafts.noted(ticket);
        self.hear();
    }

    // Names.

    fn can_change(&mut self) -> bool {
        (0..2).all(|key| self.drafts.changing(&name(key)).is_none())
    }

    fn rename(&mut self, key: usize) -> Result<(), TestCaseError> {
        if !self.can_change() {
            return Ok(());
        }
        let (Some(source), target) = (self.find(key), self.find(1 - key)) else {
            return Ok(());
        };
        if !self.hold(source, true) {
            return Ok(());
        }
        let to = name(1 - key);
        if let Some(target) = target {
            self.hold(target, false);
            self.take_away(target);
        }
        let moved = self.drafts.has_value(source).then(|| self.value(source));
        let absent = Target::Absent(to.clone(), self.state.view(&to.key).base);
        let aim = target.map_or(absent, Target::File);
        let request = self.drafts.to_rename(source, aim, Unseen::Keep).unwrap();
        if let Some(moved) = moved {
            self.note_shown(&to.key, moved);
        }
        if let Some(request) = request {
            self.stage(request)?;
        }
        if let Some(target) = target {
            self.close_handle(target, false)?;
        }
        self.close_handle(source, true)
    }

    fn exchange(&mut self) -> Result<(), TestCaseError> {
        if !self.can_change() {
            return Ok(());
        }
        let (Some(one), Some(other)) = (self.find(0), self.find(1)) else {
            return Ok(());
        };
        if !self.hold(one, true) || !self.hold(other, true) {
            return Ok(());
        }
        for (file, to) in [(one, 1), (other, 0)] {
            let value = self.value(file);
            self.note_shown(&name(to).key, value);
        }
        if let Some(request) = self.drafts.to_exchange(one, other).unwrap() {
            self.stage(request)?;
        }
        self.close_handle(one, true)?;
        self.close_handle(other, true)
    }

    fn unlink(&mut self, key: usize) -> Result<(), TestCaseError> {
        if !self.can_change() {
            return Ok(());
        }
        let Some(file) = self.find(key) else {
            return Ok(());
        };
        if !self.hold(file, false) {
            return Ok(());
        }
        self.take_away(file);
        let now = self.date();
        if let Some(request) = self.drafts.to_unlink(file, now).unwrap() {
            self.stage(request)?;
        }
        self.close_handle(file, false)
    }

    /// Its user takes away all that is under a file's name: what it shows, what it stands at, and
    /// what was staged there and last shown.
    fn take_away(&mut self, file: FileId) {
        let name = self.drafts.name_of(file).unwrap();
        let last_shown = self.drafts.last_shown(name);
        let is_pending = last_shown.is_some_and(|base| base.pending.is_some());
        let staged = self.staged.get(&name.key).filter(|_| is_pending);
        let mut gone = staged.cloned().unwrap_or_default();
        gone.extend(tokens(&self.peek(file)));
        gone.extend(tokens(&self.value(file)));
        self.owed.retain(|token| !gone.contains(token));
    }

    fn value(&self, file: FileId) -> String {
        text(self.drafts.closed_text(file).unwrap_or_default())
    }
}
