//! What is done to open files, and how they are closed.

use super::draft::Draft;
use super::file::{Effect, Parked, Standing};
use super::{Drafts, FileId};
use crate::fs::Error;
use crate::sync::pending::Refusal;
use crate::wire::timestamp::Timestamp;

/// What is to be done after a handle was closed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Whether something is to be staged that no flush has sent.
    pub sends: bool,
    pub effects: Vec<Effect>,
}

impl Drafts {
    /// Writes to a file; `at` is None for its end, wherever that is, as O_APPEND has it.
    ///
    /// # Errors
    /// [`Error::TooBig`] if the value would have more than 1,048,575 characters.
    pub fn write(
        &mut self,
        id: FileId,
        at: Option<u64>,
        data: &[u8],
        now: Timestamp,
    ) -> Result<(), Error> {
        let written = self.change(id, |draft| draft.write(at, data), now, false);
        self.note_cut(id, written)
    }

    /// The kernel writes a mapping's page back: it has its place, whichever handle it comes by.
    ///
    /// # Errors
    /// [`Error::TooBig`] as for [`write`](Self::write).
    pub fn write_page(
        &mut self,
        id: FileId,
        at: u64,
        data: &[u8],
        now: Timestamp,
    ) -> Result<(), Error> {
        let written = self.change(id, |draft| draft.write_page(at, data), now, false);
        self.note_cut(id, written)
    }

    /// Cuts or extends a file. `by_open` says that open does it: a flush does not send that.
    ///
    /// # Errors
    /// [`Error::TooBig`] as for [`write`](Self::write).
    pub fn truncate(
        &mut self,
        id: FileId,
        size: u64,
        by_open: bool,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.change(id, |draft| draft.truncate(size), now, by_open)
    }

    /// Sets a file's date.
    ///
    /// # Errors
    /// [`Error::Superseded`] if the file is not known.
    pub fn set_modified(&mut self, id: FileId, modified: Timestamp) -> Result<(), Error> {
        let mut draft = self.begin(id)?;
        draft.date(modified, self.next_generation());
        self.put(id, draft)
    }

    fn change(
        &mut self,
        id: FileId,
        change: impl FnOnce(&mut Draft) -> Result<(), Error>,
        now: Timestamp,
        by_open: bool,
    ) -> Result<(), Error> {
        let mut draft = self.begin(id)?;
        if draft.lacks_text() {
            let file = self.file_mut(id)?;
            match (&file.version.value, file.version.is_there()) {
                (Some(value), _) => draft.fill(value),
                (None, false) => {}
                (None, true) => return self.refuse(id, draft, Error::Superseded),
            }
        }
        match change(&mut draft) {
            Ok(()) => {
                draft.touch(now, by_open, self.next_generation());
                self.put(id, draft)
            }
            Err(error) => self.refuse(id, draft, error),
        }
    }

    /// Takes a file's draft, or begins one.
    fn begin(&mut self, id: FileId) -> Result<Box<Draft>, Error> {
        let base = self.base_of(id)?;
        let file = self.file_mut(id)?;
        let modified = file.version.modified;
        let begun = || Box::new(Draft::begun(base, modified));
        Ok(file.draft.take().unwrap_or_else(begun))
    }

    fn put(&mut self, id: FileId, draft: Box<Draft>) -> Result<(), Error> {
        self.file_mut(id)?.draft = Some(draft);
        self.bind(id);
        Ok(())
    }

    /// Nothing was done. A draft that changes nothing was only begun for it.
    fn refuse(&mut self, id: FileId, draft: Box<Draft>, error: Error) -> Result<(), Error> {
        if draft.generation > 0 {
            self.put(id, draft)?;
        }
        Err(error)
    }

    /// A write that did not fit behind what was written before leaves that without its end.
    fn note_cut(&mut self, id: FileId, written: Result<(), Error>) -> Result<(), Error> {
        if matches!(written, Err(Error::TooBig)) {
            let generation = self.next_generation();
            let draft = self.file_mut(id)?.draft.as_mut();
            if let Some(draft) = draft.filter(|draft| !draft.lacks_text()) {
                draft.is_cut_short = true;
                draft.is_by_open = false;
                draft.generation = generation;
            }
        }
        written
    }

    /// Closes a handle; `wrote` says that it could write. What no flush has sent is to be sent once
    /// nobody can write any more, whatever this handle could do. What its writer was told of, or
    /// what is not whole, is parked instead: the file shows the service's value again.
    pub fn release(&mut self, id: FileId, wrote: bool) -> Released {
        let mut released = Released::default();
        let Some(file) = self.files.get_mut(&id) else {
            return released;
        };
        file.opens = file.opens.saturating_sub(1);
        file.writers = file.writers.saturating_sub(u32::from(wrote));
        if file.standing == Standing::Removed && file.opens == 0 && !self.may_return(id) {
            // What was written to it was for those who had it open.
            self.drop_draft(id);
        }
        let is_last = |file: &&super::File| file.writers == 0 && file.standing != Standing::Removed;
        let file = self.files.get(&id).filter(is_last);
        if let Some(draft) = file.and_then(|file| file.draft.as_ref()) {
            let told = draft.told.as_ref().filter(|_| draft.is_told());
            let told = told.map(|(_, why)| why.clone());
            match told.or(draft.is_cut_short.then_some(Refusal::TooBig)) {
                Some(why) => released.effects = self.give_up(id, why),
                None => released.sends = true,
            }
        }
        self.drop_if_unused(id);
        released
    }

    /// A file's draft cannot be sent, and nobody tries again: it is parked, and the file shows the
    /// service's value again, at once and to every reader.
    pub fn give_up(&mut self, id: FileId, why: Refusal) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(file) = self.files.get_mut(&id) else {
            return effects;
        };
        if file.standing == Standing::Removed {
            return effects;
        }
        let Some(draft) = file.draft.take() else {
            return effects;
        };
        let is_kept = draft.kept == Some(draft.generation);
        // A date alone is nothing to keep.
        if let Some(text) = draft.text().filter(|_| !is_kept) {
            effects.push(Effect::Park(Parked {
                name: file.name.clone(),
                text: text.into(),
                base: draft.base,
                modified: draft.modified,
                why,
                is_complete: !draft.is_cut_short,
            }));
        }
        self.show_service(id, &mut effects);
        self.drop_if_unused(id);
        effects
    }

    /// A file's name leads to the service's value from now on, and what the kernel has cached of the
    /// file is dropped.
    pub(super) fn show_service(&mut self, id: FileId, effects: &mut Vec<Effect>) {
        let Some(file) = self.files.get(&id) else {
            return;
        };
        effects.push(Effect::Invalidate(id));
        if file.standing == Standing::Named {
            let name = file.name.clone();
            effects.push(Effect::Superseded(id));
            self.take_name(&name, Standing::Superseded);
        }
    }

    pub(super) fn drop_draft(&mut self, id: FileId) {
        if let Some(file) = self.files.get_mut(&id) {
            file.draft = None;
        }
    }

    /// Returns whether a file's name was taken by something that may yet be undone.
    fn may_return(&self, id: FileId) -> bool {
        let mut changes = self.changing.values();
        changes.any(|change| change.files.iter().any(|(known, _)| *known == id))
    }
}
