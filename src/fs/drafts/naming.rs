//! Names given and taken: what of it is staged, and what moves here.
//!
//! What is closed moves as one group. What is being written moves with its file and is based on that
//! group; it is never sent by a rename, as half of it may be missing.

use std::sync::Arc;

use super::draft::change;
use super::file::{Effect, Link, Standing, on};
use super::staging::{Deed, Request, closed_value, shown_as};
use super::{Drafts, FileId, RecordName};
use crate::fs::Error;
use crate::sync::Unseen;
use crate::sync::pending::{Base, Change, Digest, Kind, Refusal, Sent, Ticket};
use crate::wire::timestamp::Timestamp;

/// A name that a file is to get.
#[derive(Clone, Debug)]
pub enum Target {
    /// It leads to a file.
    File(FileId),
    /// No file is shown under it; the base is that of its view.
    Absent(RecordName, Base),
}

/// A change of names.
#[derive(Clone, Debug)]
pub(super) struct Naming {
    /// Files that get other names.
    moves: Vec<Move>,
    /// The file that loses its name.
    removed: Option<FileId>,
}

/// A file that gets another name.
#[derive(Clone, Debug)]
struct Move {
    file: FileId,
    to: RecordName,
    /// What a change of the new name is based on.
    base: Base,
    /// What was shown of the file under its old name.
    shown: Base,
    /// Whether the group changes the new name.
    is_staged: bool,
}

/// What a change of names has to be undone by.
#[derive(Debug)]
pub(super) struct NameChange {
    /// Files whose standing was changed, and what it was.
    pub(super) files: Vec<(FileId, Standing)>,
    /// Names, which file they led to, and what was last shown under them.
    pub(super) names: Vec<(RecordName, Was)>,
    /// The file that lost its name for good once this cannot be undone.
    removed: Option<FileId>,
}

/// What a name led to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Was {
    file: Option<FileId>,
    shown: Option<Base>,
}

/// What is known of a file whose name is changed.
struct Taken {
    id: FileId,
    name: RecordName,
    /// The closed value, if there is one.
    value: Option<Arc<[u8]>>,
    modified: Timestamp,
    /// The version that it stands at.
    version: Base,
    /// What was shown of it.
    shown: Base,
    /// Whether the service may have a record of its name.
    may_be_there: bool,
    /// What was sent of its draft without an answer.
    own: Vec<Sent>,
}

impl Drafts {
    /// Takes a name away. Returns what is to be staged for it; None if the name is gone already, as
    /// nothing was ever staged of its file. What is unsaid of it is cancelled.
    ///
    /// # Errors
    /// [`Error::Superseded`] if the file is not known.
    pub fn to_unlink(&mut self, id: FileId, now: Timestamp) -> Result<Option<Request>, Error> {
        let shown = self.base_of(id)?;
        let file = self.file_mut(id)?;
        let naming = Naming {
            moves: Vec::new(),
            removed: Some(id),
        };
        let draft = file.draft.as_ref();
        let may_be_there = file.version.is_there() || draft.is_some_and(|draft| draft.may_be_sent);
        let own = draft.map_or_else(Vec::new, |draft| draft.own.clone());
        let key = file.name.key.clone();
        if !may_be_there {
            self.change_names(naming, None);
            return Ok(None);
        }
        let removal = change(&key, shown, Kind::Remove, self.unseen, now);
        Ok(Some(Request {
            changes: vec![Change { own, ..removal }],
            private: false,
            deed: Deed::Name(naming),
        }))
    }

    /// Gives a file another name of its dataset. Returns what is to be staged for it; None if it has
    /// the name already, as nothing of it was ever staged. `unseen` says what is done about a version
    /// that came to the new name meanwhile.
    ///
    /// # Errors
    /// [`Error::Superseded`] if the closed value is not in memory.
    pub fn to_rename(
        &mut self,
        source: FileId,
        target: Target,
        unseen: Unseen,
    ) -> Result<Option<Request>, Error> {
        let (to, base, removed) = match target {
            Target::File(id) => {
                let base = self.base_of(id)?;
                (self.file_mut(id)?.name.clone(), base, Some(id))
            }
            Target::Absent(name, base) => (name, base, None),
        };
        let taken = self.taken(source)?;
        let mut changes: Vec<Change> = self.moved(&taken, &to, base, unseen).into_iter().collect();
        let is_staged = !changes.is_empty();
        changes.extend(self.removal(&taken));
        let naming = Naming {
            moves: vec![Move {
                file: source,
                to,
                base,
                shown: taken.shown,
                is_staged,
            }],
            removed,
        };
        Ok(self.request(changes, naming))
    }

    /// Swaps the names of two files. Returns what is to be staged for it, as
    /// [`to_rename`](Self::to_rename) does.
    ///
    /// # Errors
    /// [`Error::Superseded`] if a closed value is not in memory.
    pub fn to_exchange(&mut self, one: FileId, other: FileId) -> Result<Option<Request>, Error> {
        let (one, other) = (self.taken(one)?, self.taken(other)?);
        let mut changes = Vec::new();
        let mut moves = Vec::new();
        for (taken, place) in [(&one, &other), (&other, &one)] {
            let base = place.left_behind();
            let moved = self.moved(taken, &place.name, base, self.unseen);
            // Where nothing comes, what went from there is removed.
            let change = moved.or_else(|| self.removal(place));
            moves.push(Move {
                file: taken.id,
                to: place.name.clone(),
                base,
                shown: taken.shown,
                is_staged: change.is_some(),
            });
            changes.extend(change);
        }
        let naming = Naming {
            moves,
            removed: None,
        };
        Ok(self.request(changes, naming))
    }

    fn request(&mut self, changes: Vec<Change>, naming: Naming) -> Option<Request> {
        if changes.is_empty() {
            self.change_names(naming, None);
            return None;
        }
        Some(Request {
            changes,
            private: false,
            deed: Deed::Name(naming),
        })
    }

    fn taken(&mut self, id: FileId) -> Result<Taken, Error> {
        let shown = self.base_of(id)?;
        let file = self.file_mut(id)?;
        let value = closed_value(&file.version)?;
        let draft = file.draft.as_ref();
        let may_be_sent = draft.is_some_and(|draft| draft.may_be_sent);
        Ok(Taken {
            id,
            name: file.name.clone(),
            modified: file.version.modified,
            version: file.version.base(),
            may_be_there: value.is_some() || may_be_sent,
            own: draft.map_or_else(Vec::new, |draft| draft.own.clone()),
            shown,
            value,
        })
    }

    fn moved(&self, taken: &Taken, to: &RecordName, base: Base, unseen: Unseen) -> Option<Change> {
        let value = taken.value.clone()?;
        let kind = Kind::Whole(value);
        Some(change(&to.key, base, kind, unseen, taken.modified))
    }

    fn removal(&self, taken: &Taken) -> Option<Change> {
        let base = taken.left_behind();
        let key = &taken.name.key;
        let removal = || Change {
            own: taken.own.clone(),
            ..change(key, base, Kind::Remove, self.unseen, taken.modified)
        };
        taken.may_be_there.then(removal)
    }

    /// Has names lead to where they are to lead. Without a ticket nothing can undo it.
    pub(super) fn change_names(&mut self, naming: Naming, ticket: Option<Ticket>) {
        let changed = self.begin_change(&naming);
        for (name, _) in &changed.names {
            self.names.remove(name);
            self.shown.forget(name);
        }
        if let Some(removed) = naming.removed
            && let Some(file) = self.files.get_mut(&removed)
        {
            let was = changed.names.iter().find(|(name, _)| *name == file.name);
            file.lose_name(Standing::Removed, was.and_then(|(_, was)| was.shown));
            self.bind(removed);
        }
        for to in naming.moves {
            self.move_file(to, ticket);
        }
        match ticket {
            Some(ticket) => {
                self.changing.insert(ticket, changed);
            }
            None => self.end_change(&changed),
        }
    }

    /// Takes note of how things are before names are changed.
    fn begin_change(&self, naming: &Naming) -> NameChange {
        let moved = naming.moves.iter().map(|to| to.file);
        let ids: Vec<FileId> = moved.chain(naming.removed).collect();
        let files = ids.iter().filter_map(|id| Some((id, self.files.get(id)?)));
        let mut names: Vec<RecordName> = files.clone().map(|(_, file)| file.name.clone()).collect();
        names.extend(naming.moves.iter().map(|to| to.to.clone()));
        names.sort();
        names.dedup();
        let was = |name: RecordName| {
            let was = Was {
                file: self.named(&name),
                shown: self.shown.peek(&name),
            };
            (name, was)
        };
        NameChange {
            files: files.map(|(id, file)| (*id, file.standing)).collect(),
            names: names.into_iter().map(was).collect(),
            removed: naming.removed,
        }
    }

    fn move_file(&mut self, to: Move, ticket: Option<Ticket>) {
        let Some(file) = self.files.get_mut(&to.file) else {
            return;
        };
        let before = file.version.clone();
        let digest = before.value.as_deref().map(Digest::of);
        let digest = digest.filter(|_| before.is_there());
        let pending = ticket.filter(|_| to.is_staged);
        file.version.set_base(match pending {
            Some(ticket) => on(ticket, digest, to.base),
            None => to.base,
        });
        // Moving a version that was not shown does not show it.
        let is_seen = to.shown == before.base();
        let base = shown_as(file.version.base(), is_seen, to.base);
        if let Some(draft) = &mut file.draft {
            draft.base = base;
        }
        let name = std::mem::replace(&mut file.name, to.to.clone());
        if before.is_there() {
            self.shown.put(to.to.clone(), base);
        }
        file.standing = Standing::Named;
        file.shown = None;
        if let Some(ticket) = ticket {
            file.links.push(Link {
                ticket,
                noted: false,
                back: None,
                name,
                base: to.shown,
                before,
                written: None,
            });
        }
        self.names.insert(to.to, to.file);
        self.bind(to.file);
    }

    /// A change of names is in the journal, or was made: it stays.
    pub(super) fn keep_names(&mut self, ticket: Ticket) {
        if let Some(changed) = self.changing.remove(&ticket) {
            self.end_change(&changed);
        }
    }

    fn end_change(&mut self, changed: &NameChange) {
        if let Some(id) = changed.removed {
            let file = self.files.get(&id);
            if file.is_some_and(|file| file.opens == 0 && file.standing == Standing::Removed) {
                self.drop_draft(id);
            }
        }
        for (id, _) in &changed.files {
            self.drop_if_unused(*id);
        }
    }

    /// A change of names was not made: names lead to where they led. The files get their old names
    /// when what was staged of them comes back.
    pub(super) fn undo_names(&mut self, ticket: Ticket, why: &Refusal, effects: &mut Vec<Effect>) {
        let Some(changed) = self.changing.remove(&ticket) else {
            return;
        };
        for (name, was) in changed.names {
            self.take_name(&name, Standing::Superseded);
            if let Some(id) = was.file.filter(|id| self.files.contains_key(id)) {
                self.names.insert(name.clone(), id);
            }
            match was.shown {
                Some(base) => self.shown.put(name, base),
                None => self.shown.forget(&name),
            }
        }
        for (id, standing) in changed.files {
            let Some(file) = self.files.get_mut(&id) else {
                continue;
            };
            let was_closed = file.standing == Standing::Removed && file.opens == 0;
            file.standing = standing;
            if standing == Standing::Named {
                file.shown = None;
            }
            if was_closed {
                // Its writers closed it while it had no name.
                effects.extend(self.give_up(id, why.clone()));
            }
            // The kernel may have forgotten it meanwhile.
            self.drop_if_unused(id);
        }
    }
}

impl Taken {
    /// Returns what a change is based on that takes the place of what moves away.
    ///
    /// What was written here over another version than the one that moves does not move. It is not to
    /// go with that change: it is decided before.
    fn left_behind(&self) -> Base {
        let is_moved = self.value.is_none() || self.shown == self.version;
        match self.shown.pending {
            Some(made) if !is_moved => on(made.ticket, None, self.shown),
            _ => self.shown,
        }
    }
}

impl NameChange {
    /// What names showed before stands on what became of a ticket.
    pub(super) fn resolve(&mut self, resolve: impl Fn(&RecordName, Base) -> Base) {
        for (name, was) in &mut self.names {
            was.shown = was.shown.map(|base| resolve(name, base));
        }
    }
}
