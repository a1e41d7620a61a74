//! What open files hold that is not staged, which version each file stands at, and what was shown
//! under each name: all of a mount, over the datasets' states.
//!
//! A file with something unsaid has a draft. A closed one is clean at a version, which may be
//! pending. What the core tells of a ticket is heard here, for all files, drafts and entries that
//! stand on it ([`Drafts::hear`]). What that asks of others comes back as [`Effect`]s.
//!
//! Invariants: pure. No async, no clock, no lock, no journal: dates are arguments. Bases come from
//! here and never from a listing. Between a `to_*` and its [`Drafts::staged`] nothing else happens:
//! the caller stages what it was given while it holds this table.
//!
//! It is public so that tests beside the crate can drive it together with the core. No operation
//! uses it yet.

mod continuation;
mod draft;
mod file;
mod naming;
mod shown;
mod staging;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::fs::Error;
use crate::sync::Unseen;
use crate::sync::pending::{Base, DatasetId, Ticket, View};
use crate::wire::names::RecordKey;
use crate::wire::timestamp::Timestamp;

use draft::Draft;
use file::{File, Version};
use naming::NameChange;
use shown::Shown;

pub use file::{Effect, Parked, Standing};
pub use naming::Target;
use staging::shown_as;
pub use staging::{Extent, Request};
pub use writing::Released;

/// Names a file inside. It is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u64);

/// A record, by its dataset.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordName {
    pub dataset: DatasetId,
    pub key: RecordKey,
}

/// What a file shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    pub size: u64,
    pub modified: Timestamp,
    pub changed: Timestamp,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Drafts {
    files: HashMap<FileId, File>,
    /// Which file each name leads to. An older one that is still open has none.
    names: HashMap<RecordName, FileId>,
    shown: Shown,
    /// Files that may stand on a ticket; those that were moved on are skipped.
    bound: HashMap<Ticket, BTreeSet<FileId>>,
    /// Names given and taken that can still be undone: their groups are neither made nor noted.
    changing: BTreeMap<Ticket, NameChange>,
    /// What is done about versions that nobody here has seen.
    unseen: Unseen,
    /// The last id of a file.
    last_file: u64,
    /// The last generation of a draft.
    last_generation: u64,
}

impl Drafts {
    pub fn new(unseen: Unseen) -> Self {
        Self {
            files: HashMap::new(),
            names: HashMap::new(),
            shown: Shown::new(),
            bound: HashMap::new(),
            changing: BTreeMap::new(),
            unseen,
            last_file: 0,
            last_generation: 0,
        }
    }

    /// Returns the file that a name leads to.
    pub fn named(&self, name: &RecordName) -> Option<FileId> {
        self.names.get(name).copied()
    }

    /// Returns a file's name; one that is not [`Standing::Named`] had it last.
    pub fn name_of(&self, id: FileId) -> Option<&RecordName> {
        self.files.get(&id).map(|file| &file.name)
    }

    pub fn standing(&self, id: FileId) -> Option<Standing> {
        self.files.get(&id).map(|file| file.standing)
    }

    /// Returns whether something was written to a file that is not staged.
    pub fn has_draft(&self, id: FileId) -> bool {
        self.files.get(&id).is_some_and(|file| file.draft.is_some())
    }

    /// Returns the files that have something unsaid.
    pub fn drafts(&self) -> impl Iterator<Item = FileId> + '_ {
        let drafts = self.files.iter().filter(|(_, file)| file.draft.is_some());
        drafts.map(|(id, _)| *id)
    }

    /// Returns how many files are remembered, and tickets that what was shown may stand on.
    pub fn count(&self) -> usize {
        self.files.len() + self.shown.pending()
    }

    /// Returns the ticket whose outcome is that of all that was staged of a file, if it has one that
    /// may be undecided.
    pub fn stands_on(&self, id: FileId) -> Option<Ticket> {
        let pending = self.files.get(&id)?.version.base().pending;
        pending.map(|made| made.ticket)
    }

    /// Returns the ticket of a change of a name that may yet be undone: a lookup waits for it.
    pub fn changing(&self, name: &RecordName) -> Option<Ticket> {
        let mut changes = self.changing.iter();
        let change =
            changes.find(|(_, change)| change.names.iter().any(|(known, _)| known == name));
        change.map(|(ticket, _)| *ticket)
    }

    /// Returns the version whose bytes were last served under a name.
    pub fn last_shown(&self, name: &RecordName) -> Option<Base> {
        self.shown.peek(name)
    }

    /// A version was shown under a name other than by reading a file: a name that was found absent
    /// was made by somebody else before it was created here.
    pub fn note_shown(&mut self, name: RecordName, base: Base) {
        self.shown.put(name, base);
    }

    /// Finds the file of a name, a new one if another version is shown now. What was written here
    /// keeps its name; None is returned where no file is shown. `normalized` is the core's.
    pub fn look_up(
        &mut self,
        name: &RecordName,
        view: &View,
        normalized: impl Fn(Base) -> Base,
    ) -> Option<FileId> {
        if let Some(id) = self.named(name)
            && let Some(file) = self.files.get_mut(&id)
        {
            if file.shows_own() {
                file.known = true;
                return Some(id);
            }
            let now = normalized(file.version.base());
            if view.is_there() && is_same(now, view.base) {
                file.version.set_base(view.base);
                file.version.modified = view.modified;
                file.version.changed = view.changed;
                file.known = true;
                // What was shown last may be this very version, made meanwhile.
                let shown = self.shown.peek(name);
                if shown.is_some_and(|shown| is_same(normalized(shown), view.base)) {
                    self.shown.put(name.clone(), view.base);
                }
                self.bind(id);
                return Some(id);
            }
            self.take_name(name, Standing::Superseded);
        }
        view.is_there()
            .then(|| self.insert(File::new(name.clone(), Version::of_view(view))))
    }

    /// Returns whether a file stands at the version of a view, so that its value is the view's.
    /// `normalized` is the core's.
    pub fn stands_at(&self, id: FileId, view: &View, normalized: impl Fn(Base) -> Base) -> bool {
        let file = self.files.get(&id);
        file.is_some_and(|file| is_same(normalized(file.version.base()), view.base))
    }

    /// Returns the ticket of what was staged of a file last, if the journal does not have it: it may
    /// be a draft again.
    pub fn unnoted(&self, id: FileId) -> Option<Ticket> {
        let mut links = self.files.get(&id)?.links.iter().rev();
        links.find(|link| !link.noted).map(|link| link.ticket)
    }

    /// Creates a file where none is shown; `absent` is the view of its name. It is open.
    pub fn create(
        &mut self,
        name: &RecordName,
        absent: &View,
        writes: bool,
        private: bool,
        now: Timestamp,
    ) -> FileId {
        self.take_name(name, Standing::Superseded);
        let version = Version::absent(absent.base, now);
        let mut file = File::new(name.clone(), version);
        let generation = self.next_generation();
        file.draft = Some(Box::new(Draft::created(
            absent.base,
            now,
            private,
            generation,
        )));
        file.opens = 1;
        file.writers = u32::from(writes);
        self.insert(file)
    }

    /// The kernel forgot a file.
    pub fn forget(&mut self, id: FileId) {
        if let Some(file) = self.files.get_mut(&id) {
            file.known = false;
        }
        self.drop_if_unused(id);
    }

    /// Opens a file; `value` is its version's, which need not be given if it [is in
    /// memory](Self::has_value).
    ///
    /// # Errors
    /// [`Error::Superseded`] if its name leads to another by now, or if the value is needed.
    pub fn open(
        &mut self,
        id: FileId,
        value: Option<Arc<[u8]>>,
        writes: bool,
    ) -> Result<(), Error> {
        let file = self.file_mut(id)?;
        if file.standing != Standing::Named {
            return Err(Error::Superseded);
        }
        file.version.value = file.version.value.take().or(value);
        if file.version.is_there() && file.version.value.is_none() {
            return Err(Error::Superseded);
        }
        file.opens += 1;
        file.writers += u32::from(writes);
        Ok(())
    }

    /// Returns whether a file's value is in memory.
    pub fn has_value(&self, id: FileId) -> bool {
        let file = self.files.get(&id);
        file.is_some_and(|file| !file.version.is_there() || file.version.value.is_some())
    }

    /// Returns what a file shows to those who may write it (`own`), or to others: what was refused
    /// is shown to its writers only.
    pub fn attributes(&self, id: FileId, own: bool) -> Option<Attributes> {
        let file = self.files.get(&id)?;
        let version = &file.version;
        let mut shown = Attributes {
            size: version.size.unwrap_or(0).into(),
            modified: version.modified,
            changed: version.changed,
        };
        if let Some(draft) = file.draft.as_ref().filter(|_| own || !is_refused(file)) {
            shown.size = draft.text().map_or(shown.size, |text| text.len() as u64);
            shown.modified = draft.modified;
            shown.changed = draft.modified.max(version.changed);
        }
        Some(shown)
    }

    /// Returns a file's bytes as [`attributes`](Self::attributes) has them. A version that is read
    /// under its name is shown from then on.
    ///
    /// # Errors
    /// [`Error::Superseded`] if the value is not in memory: it is never taken for empty.
    pub fn read(&mut self, id: FileId, own: bool) -> Result<&[u8], Error> {
        let file = self.files.get_mut(&id).ok_or(Error::Superseded)?;
        let is_hidden = !own && is_refused(file);
        let text = file.draft.as_ref().and_then(|draft| draft.text());
        if text.filter(|_| !is_hidden).is_none() && file.version.is_there() {
            match file.standing {
                Standing::Named => self.shown.put(file.name.clone(), file.version.base()),
                Standing::Superseded | Standing::Removed => file.shown = None,
            }
        }
        let draft = file.draft.as_ref().filter(|_| !is_hidden);
        let value = file.version.value.as_deref();
        let value = value.or((!file.version.is_there()).then_some(&[]));
        let text = draft.and_then(|draft| draft.text()).or(value);
        text.ok_or(Error::Superseded)
    }

    /// Returns a file's text as its writers see it, which does not show it to anybody.
    pub fn text(&self, id: FileId) -> Option<&[u8]> {
        let file = self.files.get(&id)?;
        let draft = file.draft.as_ref().and_then(|draft| draft.text());
        draft.or(file.version.value.as_deref())
    }

    /// Returns the value of the version that a file stands at, which does not show it to anybody.
    pub fn closed_text(&self, id: FileId) -> Option<&[u8]> {
        self.files.get(&id)?.version.value.as_deref()
    }

    fn file_mut(&mut self, id: FileId) -> Result<&mut File, Error> {
        self.files.get_mut(&id).ok_or(Error::Superseded)
    }

    fn insert(&mut self, file: File) -> FileId {
        self.last_file += 1;
        let id = FileId(self.last_file);
        self.names.insert(file.name.clone(), id);
        self.files.insert(id, file);
        self.bind(id);
        id
    }

    /// Takes a name away from its file, which lives on while the kernel or a handle has it.
    fn take_name(&mut self, name: &RecordName, standing: Standing) {
        let shown = self.shown.peek(name);
        if let Some(id) = self.names.remove(name) {
            if let Some(file) = self.files.get_mut(&id) {
                file.lose_name(standing, shown);
            }
            self.bind(id);
            self.drop_if_unused(id);
        }
    }

    fn drop_if_unused(&mut self, id: FileId) {
        let Some(file) = self.files.get_mut(&id) else {
            return;
        };
        file.drop_values();
        let is_changing = |change: &NameChange| change.files.iter().any(|(known, _)| *known == id);
        if !file.is_unused() || self.changing.values().any(is_changing) {
            return;
        }
        if self.names.get(&file.name) == Some(&id) {
            self.names.remove(&file.name);
        }
        let dropped = self.files.remove(&id);
        for ticket in dropped.iter().flat_map(File::tickets) {
            if let Entry::Occupied(mut bound) = self.bound.entry(ticket) {
                bound.get_mut().remove(&id);
                if bound.get().is_empty() {
                    bound.remove();
                }
            }
        }
    }

    /// Takes note of the tickets that a file stands on.
    fn bind(&mut self, id: FileId) {
        let tickets = self.files.get(&id).map(File::tickets);
        for ticket in tickets.into_iter().flatten() {
            self.bound.entry(ticket).or_default().insert(id);
        }
    }

    fn next_generation(&mut self) -> u64 {
        self.last_generation += 1;
        self.last_generation
    }

    /// Returns what a change of a file that begins now is based on: the version whose bytes were last
    /// served under its name, else the one that was looked up. An older version that is still open
    /// has its own, as the name shows another. What is written to another version than a pending one
    /// that was served is decided after that, and is not laid over it.
    fn base_of(&mut self, id: FileId) -> Result<Base, Error> {
        let file = self.files.get(&id).ok_or(Error::Superseded)?;
        if let Some(draft) = &file.draft {
            return Ok(draft.base);
        }
        let looked_up = file.version.base();
        let shown = match file.standing {
            Standing::Named => self.shown.get(&file.name),
            Standing::Superseded | Standing::Removed => file.shown.as_deref().copied(),
        };
        let shown = shown.unwrap_or(looked_up);
        Ok(shown_as(shown, is_same(looked_up, shown), shown))
    }
}

/// Returns whether a version is the one that is shown. Of pending ones the bytes decide: a group takes
/// the place of another, and its ticket is another then.
fn is_same(version: Base, shown: Base) -> bool {
    let same_bytes = match (version.pending, shown.pending) {
        (Some(ours), Some(theirs)) => ours.digest.is_some() && ours.digest == theirs.digest,
        (None, _) | (_, None) => false,
    };
    version == shown || (version.life == shown.life && same_bytes)
}

/// Returns whether a file's draft is a refused one, which its name does not show any more.
fn is_refused(file: &File) -> bool {
    let draft = file.draft.as_ref();
    file.standing == Standing::Superseded && draft.is_some_and(|draft| draft.told.is_some())
}
