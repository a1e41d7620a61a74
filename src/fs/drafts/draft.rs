//! What was written to an open file and is not staged yet.

use std::sync::Arc;

use crate::fs::Error;
use crate::fs::unsent::check_size;
use crate::sync::Unseen;
use crate::sync::pending::compose::{Composed, compose};
use crate::sync::pending::{Base, Change, Kind, Refusal, Sent};
use crate::wire::names::RecordKey;
use crate::wire::timestamp::Timestamp;

/// What a draft has become by what was done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Growth {
    /// Created, or truncated to nothing before its first write.
    Whole,
    /// Only written at its end, which was here.
    Append {
        from: usize,
    },
    Edit,
    /// Only its date was set. It has no text of its own.
    Times,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    /// Empty while only the date was set.
    text: Vec<u8>,
    growth: Growth,
    /// What was shown when it began: what its change is based on.
    pub(super) base: Base,
    /// The mtime that the file shows.
    pub(super) modified: Timestamp,
    /// Whether the mtime was set, not only moved by writing: such a draft is sent although its text
    /// is the version's.
    pub(super) dated: bool,
    /// Whether the file was made for its owner alone and had to be new.
    pub(super) private: bool,
    /// Whether open made it, by creating or truncating, and nothing was done since. A flush leaves
    /// it: shells flush before they write.
    pub(super) is_by_open: bool,
    /// Whether a part of what was written did not fit: the rest must not be taken for the whole.
    pub(super) is_cut_short: bool,
    /// Whether it was staged before and came back: the service may have it, or get it yet. So a
    /// removal of it must be sent, and it is sent even if its text is the version's again.
    pub(super) may_be_sent: bool,
    /// What was sent of it then, without an answer: its writer has seen such a version.
    pub(super) own: Vec<Sent>,
    /// Rises with each change and is never used again.
    pub(super) generation: u64,
    /// The generation that could not be sent, as its writer was told, and why. That one is not tried
    /// again when he closes the file.
    pub(super) told: Option<(u64, Refusal)>,
    /// The generation that is parked already.
    pub(super) kept: Option<u64>,
}

/// What was staged of a draft, until it is decided.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) kind: Kind,
    pub(super) modified: Timestamp,
    pub(super) dated: bool,
    pub(super) private: bool,
    /// What was sent of it without an answer.
    pub(super) own: Vec<Sent>,
    pub(super) generation: u64,
}

impl Draft {
    /// Begins one that changes nothing yet.
    pub(super) fn begun(base: Base, modified: Timestamp) -> Self {
        Self {
            text: Vec::new(),
            growth: Growth::Times,
            base,
            modified,
            dated: false,
            private: false,
            is_by_open: true,
            is_cut_short: false,
            may_be_sent: false,
            own: Vec::new(),
            generation: 0,
            told: None,
            kept: None,
        }
    }

    /// Begins that of a file that is created.
    pub(super) fn created(base: Base, now: Timestamp, private: bool, generation: u64) -> Self {
        Self {
            growth: Growth::Whole,
            private,
            generation,
            ..Self::begun(base, now)
        }
    }

    /// Returns its text, unless only the date was set.
    pub(super) fn text(&self) -> Option<&[u8]> {
        (self.growth != Growth::Times).then_some(&self.text[..])
    }

    /// Returns whether it has no text of its own yet.
    pub(super) fn lacks_text(&self) -> bool {
        self.growth == Growth::Times
    }

    /// Takes the text that is shown, which is about to be changed.
    pub(super) fn fill(&mut self, value: &[u8]) {
        self.text = value.to_vec();
    }

    /// Writes; `at` is None for the end of the text, wherever that is.
    ///
    /// Text that begins exactly at the end of another was added to it. One that begins an empty file
    /// was not: it is all there is, and is not to be put behind what somebody else has written.
    ///
    /// # Errors
    /// [`Error::TooBig`] if the value would have more than 1,048,575 characters.
    pub(super) fn write(&mut self, at: Option<u64>, data: &[u8]) -> Result<(), Error> {
        let end = self.text.len();
        let to_end = at.is_none();
        let at = at.map_or(end, |at| usize::try_from(at).unwrap_or(usize::MAX));
        let new_end = at.saturating_add(data.len());
        check_size(&self.text, data, at, new_end)?;
        let adds = to_end || (at == end && end > 0);
        self.growth = match self.growth {
            Growth::Whole => Growth::Whole,
            Growth::Times if adds => Growth::Append { from: end },
            Growth::Append { from } if adds => Growth::Append { from },
            Growth::Times | Growth::Append { .. } | Growth::Edit => Growth::Edit,
        };
        if new_end > end {
            self.text.resize(new_end, 0);
        }
        self.text[at..new_end].copy_from_slice(data);
        Ok(())
    }

    /// A page of a mapping was written back: it has its place, and is no append.
    ///
    /// # Errors
    /// [`Error::TooBig`] as for [`write`](Self::write).
    pub(super) fn write_page(&mut self, at: u64, data: &[u8]) -> Result<(), Error> {
        self.write(Some(at), data)?;
        if self.growth != Growth::Whole {
            self.growth = Growth::Edit;
        }
        Ok(())
    }

    /// Cuts or extends it.
    ///
    /// # Errors
    /// [`Error::TooBig`] as for [`write`](Self::write).
    pub(super) fn truncate(&mut self, size: u64) -> Result<(), Error> {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        check_size(&self.text, &[], size, size)?;
        self.growth = match self.growth {
            Growth::Whole => Growth::Whole,
            Growth::Times if size == 0 => Growth::Whole,
            Growth::Times | Growth::Append { .. } | Growth::Edit => Growth::Edit,
        };
        self.text.resize(size, 0);
        self.is_cut_short = false;
        Ok(())
    }

    /// It was changed just now. `by_open` says that open did it: a flush sends it only if it would
    /// have sent what was there before.
    pub(super) fn touch(&mut self, now: Timestamp, by_open: bool, generation: u64) {
        self.modified = now;
        self.dated = false;
        self.is_by_open &= by_open;
        self.generation = generation;
    }

    /// Its date was set.
    pub(super) fn date(&mut self, modified: Timestamp, generation: u64) {
        self.touch(modified, false, generation);
        self.dated = true;
    }

    /// Returns whether its writer was told that it could not be sent, and has not changed it since.
    pub(super) fn is_told(&self) -> bool {
        let told = self.told.as_ref();
        told.is_some_and(|(generation, _)| *generation == self.generation)
    }

    /// Returns what is staged of it.
    pub(super) fn written(&self) -> Written {
        let whole = || Arc::from(&self.text[..]);
        Written {
            kind: match self.growth {
                Growth::Whole => Kind::Whole(whole()),
                Growth::Append { from } => Kind::Append {
                    text: self.text[from..].into(),
                    whole: whole(),
                },
                Growth::Edit => Kind::Edit(whole()),
                Growth::Times => Kind::Times,
            },
            modified: self.modified,
            dated: self.dated,
            private: self.private,
            own: self.own.clone(),
            generation: self.generation,
        }
    }

    /// Returns the change that sends it.
    pub(super) fn change(&self, key: &RecordKey, unseen: Unseen) -> Change {
        let written = self.written();
        Change {
            own: written.own,
            ..change(key, self.base, written.kind, unseen, written.modified)
        }
    }

    /// What was staged is its writer's again: it goes under what was written since, on its own base.
    pub(super) fn put_back(written: &Written, base: Base, since: Option<Self>) -> Self {
        let mut draft = since.unwrap_or_else(|| Self {
            is_by_open: false,
            generation: written.generation,
            ..Self::begun(base, written.modified)
        });
        let both = compose(&written.kind, &draft.written().kind, false);
        let kind = match both {
            Composed::One(kind) => kind,
            // Only removals stay apart from what follows them, or leave nothing, and none is staged
            // of a draft. Whatever else there should be: the later text has all that its writer sees.
            Composed::Two | Composed::Nothing => match draft.lacks_text() {
                true => written.kind.clone(),
                false => Kind::Edit(draft.text.as_slice().into()),
            },
        };
        draft.take(&kind);
        draft.base = base;
        draft.dated |= written.dated;
        draft.private |= written.private;
        draft.is_by_open = false;
        draft.may_be_sent = true;
        // What was sent of what follows was sent without this.
        draft.own.iter_mut().for_each(|sent| *sent = sent.beneath());
        draft.own.extend(&written.own);
        draft
    }

    fn take(&mut self, kind: &Kind) {
        self.growth = match kind {
            Kind::Whole(_) => Growth::Whole,
            Kind::Append { text, whole } => Growth::Append {
                from: whole.len().saturating_sub(text.len()),
            },
            Kind::Edit(_) => Growth::Edit,
            Kind::Times | Kind::Remove => Growth::Times,
        };
        if let Some(whole) = kind.whole() {
            self.text = whole.to_vec();
        }
    }
}

impl Written {
    /// Returns whether it has, where it is made, all that its writer saw: what was to lie beneath it
    /// needs no sending any more.
    pub(super) fn carries_all(&self) -> bool {
        matches!(self.kind, Kind::Whole(_) | Kind::Edit(_))
    }
}

/// Returns a change that is made in this process.
pub(super) fn change(
    key: &RecordKey,
    base: Base,
    kind: Kind,
    unseen: Unseen,
    modified: Timestamp,
) -> Change {
    Change {
        key: key.clone(),
        base,
        kind,
        unseen,
        own: Vec::new(),
        left: None,
        modified,
    }
}
