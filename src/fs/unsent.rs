//! What was done to a file and not sent yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::error::Error;
use super::file::record_of;
use super::inode::{Ino, Inodes};
use super::push::{Sent, add};
use crate::store::Slot;
use crate::sync::{Base, Left, Mark, Ticket};
use crate::wire::names::MAX_VALUE_CHARS;
use crate::wire::timestamp::Timestamp;

/// What was done to a file and not sent yet.
#[derive(Debug)]
pub(super) struct Unsent {
    pub(super) text: Vec<u8>,
    pub(super) kind: UnsentKind,
    /// What had been shown when it began.
    pub(super) base: Base,
    /// Whether a flush sends it: creation and truncation by open alone wait for more.
    pub(super) flushable: bool,
    pub(super) modified: Timestamp,
    /// Whether the mtime was set, not only moved by writing.
    pub(super) dated: bool,
    /// Whether a part of what was written did not fit: the rest must not be taken for the whole.
    pub(super) cut_short: bool,
    /// Rises with each change and is never used again, so that a push knows what it did not send.
    pub(super) generation: u64,
    /// The generation that could not be sent, as its writer was told, and why.
    pub(super) refused: Option<(u64, String)>,
    /// Where to ask what became of the last attempt, if it may have been made.
    pub(super) attempt: Option<(Ticket, Sent)>,
    /// What was sent since its base was: the service may have it.
    pub(super) sent: Vec<Mark>,
    /// What is being noted in the journal, and not sent meanwhile.
    noting: Option<(u64, Closed)>,
    /// What the journal has of it.
    pub(super) queued: Option<InJournal>,
    /// Set if an earlier process left it.
    pub(super) left: Option<Left>,
}

/// What the journal has of a file.
#[derive(Clone, Debug)]
pub(super) struct InJournal {
    /// Its place is that of the first text that the service does not have.
    pub(super) slot: Slot,
    pub(super) generation: u64,
    /// Its place once the service has what is being sent.
    pub(super) since: i64,
    /// Whether it is being sent, or was in vain.
    pub(super) is_taken: bool,
    /// The file as the journal has it, once it was changed since.
    pub(super) closed: Option<Box<Closed>>,
}

/// A file as it was closed.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    pub(super) text: Arc<[u8]>,
    kind: UnsentKind,
    modified: Timestamp,
    dated: bool,
}

/// A state of a file that can be sent.
pub(super) struct Version<'a> {
    pub(super) text: &'a [u8],
    pub(super) kind: UnsentKind,
    pub(super) modified: Timestamp,
    pub(super) generation: u64,
    cut_short: bool,
}

impl Version<'_> {
    /// Returns the text as it can be sent.
    pub(super) fn sendable(&self) -> Result<&str, Error> {
        match self.cut_short {
            true => Err(Error::TooBig),
            false => str::from_utf8(self.text).map_err(|_| Error::NotText),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnsentKind {
    /// Created, or truncated to nothing before its first write.
    Whole,
    /// Only written at its end, which was here.
    Append {
        from: usize,
    },
    Edit,
    Times,
}

/// Returns a file's unsent state with its text, begun now if there is none.
///
/// # Errors
/// [`Error::Superseded`] if the value is not in memory: it is never taken for empty.
pub(super) fn begin(inodes: &mut Inodes, ino: Ino) -> Result<&mut Unsent, Error> {
    let record = record_of(inodes, ino)?;
    let unsent = record.unsent.as_ref();
    let text = match unsent.is_some_and(|unsent| unsent.kind != UnsentKind::Times) {
        true => None,
        false => {
            let content = record.content.as_ref().ok_or(Error::Superseded)?;
            Some(content.as_bytes().to_vec())
        }
    };
    let unsent = begin_times(inodes, ino)?;
    if let Some(text) = text {
        unsent.text = text;
    }
    Ok(unsent)
}

/// Returns a file's unsent state, begun now if there is none; its text may not be in memory.
fn begin_times(inodes: &mut Inodes, ino: Ino) -> Result<&mut Unsent, Error> {
    let record = record_of(inodes, ino)?;
    if record.unsent.is_none() {
        let (id, looked_up) = (record.id(), record.base);
        let base = inodes.base_at(ino, &id, looked_up);
        inodes.note_unsent(ino);
        let record = record_of(inodes, ino)?;
        record.unsent = Some(Unsent::new(UnsentKind::Times, base, record.modified));
    }
    let record = record_of(inodes, ino)?;
    let unsent = record.unsent.as_mut().ok_or(Error::Superseded)?;
    unsent.set_aside();
    Ok(unsent)
}

/// Takes a change back that was begun and turned out not to be possible.
pub(super) fn take_back(inodes: &mut Inodes, ino: Ino) {
    if let Some(record) = inodes.record_mut(ino) {
        let begun =
            |unsent: &mut Unsent| unsent.kind == UnsentKind::Times && unsent.generation == 0;
        record.unsent.take_if(begun);
    }
}

/// A write did not fit behind what was written before it.
pub(super) fn cut_short(inodes: &mut Inodes, ino: Ino) {
    let record = inodes.record_mut(ino);
    let unsent = record.and_then(|record| record.unsent.as_mut());
    if let Some(unsent) = unsent.filter(|unsent| unsent.kind != UnsentKind::Times) {
        unsent.touch();
        unsent.cut_short = true;
    }
}

/// Cuts or extends a file in memory. `flushable` is false for a truncation by open.
pub(super) fn truncate(
    inodes: &mut Inodes,
    ino: Ino,
    size: u64,
    flushable: bool,
) -> Result<(), Error> {
    let unsent = begin(inodes, ino)?;
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if let Err(error) = check_size(&unsent.text, &[], size, size) {
        take_back(inodes, ino);
        return Err(error);
    }
    unsent.kind = match unsent.kind {
        UnsentKind::Whole => UnsentKind::Whole,
        UnsentKind::Times if size == 0 => UnsentKind::Whole,
        UnsentKind::Times | UnsentKind::Append { .. } | UnsentKind::Edit => UnsentKind::Edit,
    };
    unsent.text.resize(size, 0);
    unsent.cut_short = false;
    // What the journal has is sent as it is.
    let was_flushable = unsent.flushable && !unsent.is_in_journal();
    unsent.touch();
    unsent.flushable = was_flushable || flushable;
    Ok(())
}

/// Sets a file's mtime in memory.
pub(super) fn date(inodes: &mut Inodes, ino: Ino, modified: Timestamp) -> Result<(), Error> {
    let unsent = begin_times(inodes, ino)?;
    unsent.touch();
    unsent.modified = modified;
    unsent.dated = true;
    Ok(())
}

/// Returns a generation that nothing unsent had yet: what follows what was sent is not taken for it.
pub(super) fn next_generation() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

impl InJournal {
    pub(super) fn new(slot: Slot, generation: u64) -> Self {
        Self {
            slot,
            generation,
            since: slot.place,
            is_taken: false,
            closed: None,
        }
    }

    /// Returns what the journal has once it has another text in the place of this one.
    fn followed_by(&self, slot: Slot, generation: u64) -> Self {
        let place = self.slot.place;
        Self {
            since: if self.is_taken { slot.id } else { self.since },
            ..Self::new(Slot { place, ..slot }, generation)
        }
    }
}

impl Unsent {
    pub(super) fn new(kind: UnsentKind, base: Base, modified: Timestamp) -> Self {
        Self {
            text: Vec::new(),
            kind,
            base,
            flushable: false,
            modified,
            dated: false,
            cut_short: false,
            generation: 0,
            refused: None,
            attempt: None,
            sent: Vec::new(),
            noting: None,
            queued: None,
            left: None,
        }
    }

    /// Returns whether the journal has it as it is.
    pub(super) fn is_in_journal(&self) -> bool {
        let queued = self.queued.as_ref();
        queued.is_some_and(|queued| queued.generation == self.generation)
    }

    /// The present state is about to be noted in the journal. Returns its text.
    pub(super) fn begin_note(&mut self) -> Arc<[u8]> {
        let closed = self.closed();
        let text = closed.text.clone();
        self.noting = Some((self.generation, closed));
        text
    }

    /// The journal has the state that was to be noted, in which the file may not be any more. Returns
    /// false if the service has it as well by now.
    pub(super) fn end_note(&mut self, slot: Slot) -> bool {
        let Some((generation, closed)) = self.noting.take() else {
            return false;
        };
        let place = slot.id;
        let mut queued = match &self.queued {
            Some(before) => before.followed_by(slot, generation),
            // All before it was taken.
            None => InJournal::new(Slot { place, ..slot }, generation),
        };
        queued.closed = (self.generation != generation).then(|| Box::new(closed));
        self.queued = Some(queued);
        true
    }

    /// The service has what was sent: so many bytes of a state of the file, and what is noted of it
    /// until now need not be.
    pub(super) fn land(&mut self, generation: u64, length: Option<usize>) {
        if let Some(length) = length {
            self.append_behind(length);
        }
        self.noting.take_if(|(noted, _)| *noted <= generation);
        self.refused.take_if(|(refused, _)| *refused <= generation);
    }

    /// Keeps the state that the journal has, as the file is about to be changed.
    fn set_aside(&mut self) {
        if !self.is_in_journal() {
            return;
        }
        let closed = self.closed();
        if let Some(queued) = &mut self.queued {
            queued.closed = Some(Box::new(closed));
        }
    }

    /// Returns a copy of the present state.
    pub(super) fn closed(&self) -> Closed {
        Closed {
            text: self.text.as_slice().into(),
            kind: self.kind,
            modified: self.modified,
            dated: self.dated,
        }
    }

    /// Goes back to the state that the journal has, if it has one.
    pub(super) fn go_back(&mut self) {
        if self.is_in_journal() {
            return;
        }
        let Some(queued) = &mut self.queued else {
            return;
        };
        let Some(closed) = queued.closed.take() else {
            return;
        };
        self.generation = queued.generation;
        self.text = closed.text.to_vec();
        self.kind = closed.kind;
        self.modified = closed.modified;
        self.dated = closed.dated;
        self.cut_short = false;
    }

    /// The service has so many bytes of the text: of one that was only written at its end, the rest is
    /// still to be added.
    fn append_behind(&mut self, length: usize) {
        let queued = self.queued.as_mut();
        let closed = queued.and_then(|queued| queued.closed.as_mut());
        let noting = self.noting.as_mut().map(|(_, closed)| &mut closed.kind);
        let kinds = closed.map(|closed| &mut closed.kind).into_iter();
        for kind in kinds.chain(noting).chain([&mut self.kind]) {
            if let UnsentKind::Append { from } = kind {
                *from = length;
            }
        }
    }

    pub(super) fn present(&self) -> Version<'_> {
        Version {
            text: &self.text,
            kind: self.kind,
            modified: self.modified,
            generation: self.generation,
            cut_short: self.cut_short,
        }
    }

    /// Returns the state that the journal has, if it has one.
    pub(super) fn journaled(&self) -> Option<Version<'_>> {
        if self.is_in_journal() {
            return Some(self.present());
        }
        let queued = self.queued.as_ref()?;
        let closed = queued.closed.as_ref()?;
        Some(Version {
            text: &closed.text,
            kind: closed.kind,
            modified: closed.modified,
            generation: queued.generation,
            cut_short: false,
        })
    }

    /// Returns the marks of what may have been sent, with that of what the journal has if it `is_sent`
    /// now or in a moment.
    pub(super) fn marks(&self, is_sent: bool) -> Vec<Mark> {
        let mut marks = self.sent.clone();
        let text = self.journaled().filter(|_| is_sent);
        if let Some(text) = text.filter(|text| text.kind != UnsentKind::Times) {
            add(&mut marks, Mark::new(Some(text.text), text.modified));
        }
        marks
    }

    /// Returns whether its writer was told that it could not be sent, and has not changed it since. What
    /// the journal has is tried again.
    pub(super) fn is_refused(&self) -> bool {
        let refused = self.refused.as_ref();
        let refused = refused.is_some_and(|(generation, _)| *generation == self.generation);
        refused && !self.is_in_journal()
    }

    /// It was changed just now.
    pub(super) fn touch(&mut self) {
        self.modified = SystemTime::now().into();
        self.dated = false;
        self.flushable = true;
        self.generation = next_generation();
    }
}

/// Checks how long a value would be after `data` is put at `offset`.
pub(super) fn check_size(
    text: &[u8],
    data: &[u8],
    offset: usize,
    new_end: usize,
) -> Result<(), Error> {
    if new_end.max(text.len()) <= MAX_VALUE_CHARS {
        return Ok(());
    }
    let chars = |bytes: &[u8]| bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
    let before = &text[..offset.min(text.len())];
    let gap = offset.saturating_sub(text.len());
    let after = match data.is_empty() {
        true => &[][..],
        false => text.get(new_end..).unwrap_or_default(),
    };
    let total = chars(before)
        .saturating_add(gap)
        .saturating_add(chars(data))
        .saturating_add(chars(after));
    match total > MAX_VALUE_CHARS {
        true => Err(Error::TooBig),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Shown;

    fn appended(text: &str, from: usize) -> Unsent {
        let base = Base {
            life: 0,
            shown: Shown::Version(1),
        };
        let kind = UnsentKind::Append { from };
        let mut unsent = Unsent::new(kind, base, Timestamp::from_millis(0));
        unsent.text = text.into();
        unsent.touch();
        unsent
    }

    const SLOT: Slot = Slot {
        id: 7,
        place: 7,
        tie: None,
    };

    #[test]
    fn s08_what_lands_while_a_later_text_is_noted_is_not_appended_twice() {
        let mut unsent = appended("ab", 1);
        let sent = unsent.generation;
        unsent.text = "abc".into();
        unsent.touch();
        unsent.begin_note();
        unsent.land(sent, Some(2));
        // Somebody writes on before it is noted.
        unsent.text = "abcd".into();
        unsent.touch();
        assert!(unsent.end_note(SLOT));
        let journaled = unsent.journaled().unwrap();
        assert_eq!(journaled.text, b"abc");
        assert_eq!(journaled.kind, UnsentKind::Append { from: 2 });
    }

    #[test]
    fn s08_what_was_sent_while_it_was_noted_is_not_sent_again() {
        let mut unsent = appended("ab", 1);
        unsent.begin_note();
        unsent.land(unsent.generation, Some(2));
        unsent.text = "abc".into();
        unsent.touch();
        assert!(!unsent.end_note(SLOT));
        assert!(unsent.journaled().is_none());
    }
}
