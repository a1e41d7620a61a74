//! A file: the version it stands at, what was staged over that, and what was written since.

use std::sync::Arc;

use super::draft::{Draft, Written};
use super::{FileId, RecordName};
use crate::sync::Shown;
use crate::sync::pending::{Base, Digest, Made, Refusal, Ticket, View};
use crate::wire::timestamp::Timestamp;

/// Whether a file's name still leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Named,
    /// Another version has the name. What is written here meets it when it is sent.
    Superseded,
    /// It was removed, or replaced by a rename. What is written here is for those who have it open,
    /// and is never sent.
    Removed,
}

/// A version of a record, the service's or one that is pending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    base: Kept,
    /// Bytes of its value, which are not 4 GiB; None of a file that was created here, of which nothing
    /// was staged.
    pub(super) size: Option<u32>,
    /// Its value, kept while the file is open.
    pub(super) value: Option<Arc<[u8]>>,
    pub(super) modified: Timestamp,
    pub(super) changed: Timestamp,
}

/// Something staged that is not decided: what was written to the file, or its move to another name.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) ticket: Ticket,
    /// Whether the journal has it. What it does not have comes back if it fails.
    pub(super) noted: bool,
    /// Set if it came back, while what was staged over it is undecided.
    pub(super) back: Option<Back>,
    /// The file's name before.
    pub(super) name: RecordName,
    /// The version before.
    pub(super) before: Version,
    /// What a change of the version before is based on.
    pub(super) base: Base,
    /// What was written; None if the file was only moved.
    pub(super) written: Option<Written>,
}

/// How something staged came back.
#[derive(Clone, Debug)]
pub(super) struct Back {
    pub(super) why: Refusal,
    /// Whether it can never be made.
    pub(super) is_final: bool,
    /// Whether it was taken out of the journal, and is parked because of that.
    pub(super) is_kept: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct File {
    pub(super) name: RecordName,
    pub(super) standing: Standing,
    /// What it stands at: what was staged last, or the version that was looked up.
    pub(super) version: Version,
    /// What was shown of it when it lost its name, if that is not the version it stands at: seldom.
    pub(super) shown: Option<Box<Base>>,
    /// First things first; each stands on the one before.
    pub(super) links: Vec<Link>,
    pub(super) draft: Option<Box<Draft>>,
    /// Handles, and operations that need the value to stay in memory.
    pub(super) opens: u32,
    /// Those of them that may write: what the file's writer wrote is theirs.
    pub(super) writers: u32,
    /// Whether the kernel knows it.
    pub(super) known: bool,
}

/// A base as a file keeps it: there are many files, and few of them are pending.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    life: u32,
    shown: Shown,
    pending: Option<Box<Made>>,
}

impl From<Base> for Kept {
    fn from(base: Base) -> Self {
        Self {
            life: base.life,
            shown: base.shown,
            pending: base.pending.map(Box::new),
        }
    }
}

/// Returns how long a value is.
pub(super) fn length(value: &[u8]) -> u32 {
    u32::try_from(value.len()).unwrap_or(u32::MAX)
}

impl Version {
    /// Returns what a change of it is based on.
    pub(super) fn base(&self) -> Base {
        Base {
            life: self.base.life,
            shown: self.base.shown,
            pending: self.base.pending.as_deref().copied(),
        }
    }

    pub(super) fn set_base(&mut self, base: Base) {
        self.base = base.into();
    }

    /// Returns what is made of it by staging a change.
    pub(super) fn staged(&self, base: Base, whole: Option<Arc<[u8]>>, at: Timestamp) -> Self {
        let size = whole.as_ref().map(|whole| length(whole));
        Self {
            base: base.into(),
            size: size.or(self.size),
            value: whole.or_else(|| self.value.clone()),
            modified: at,
            changed: at,
        }
    }

    pub(super) fn of_view(view: &View) -> Self {
        Self {
            base: view.base.into(),
            size: view.value.as_ref().map(|value| length(value)),
            value: None,
            modified: view.modified,
            changed: view.changed,
        }
    }

    /// Returns that of a file that is created.
    pub(super) fn absent(base: Base, now: Timestamp) -> Self {
        Self {
            base: base.into(),
            size: None,
            value: None,
            modified: now,
            changed: now,
        }
    }

    /// Returns whether something was closed: there is a value, at the service or pending.
    pub(super) fn is_there(&self) -> bool {
        self.size.is_some()
    }

    /// Returns what a base on it says of its value; None if the value is not in memory.
    pub(super) fn digest(&self) -> Option<Option<Digest>> {
        if !self.is_there() {
            return Some(None);
        }
        let pending = self.base.pending.as_ref().and_then(|made| made.digest);
        let of_value = || self.value.as_ref().map(|value| Digest::of(value));
        pending.or_else(of_value).map(Some)
    }
}

impl File {
    pub(super) fn new(name: RecordName, version: Version) -> Self {
        Self {
            name,
            standing: Standing::Named,
            version,
            shown: None,
            links: Vec::new(),
            draft: None,
            opens: 0,
            writers: 0,
            known: true,
        }
    }

    /// Returns whether it shows something that the view of its record does not.
    pub(super) fn shows_own(&self) -> bool {
        self.draft.is_some() || self.links.iter().any(|link| !link.noted)
    }

    /// Returns whether nobody can reach it and it holds nothing of its own.
    pub(super) fn is_unused(&self) -> bool {
        !self.known && self.opens == 0 && !self.shows_own()
    }

    /// Another has its name, under which `shown` was shown last.
    pub(super) fn lose_name(&mut self, standing: Standing, shown: Option<Base>) {
        self.standing = standing;
        self.note_shown(shown.unwrap_or_else(|| self.version.base()));
    }

    /// Takes note of what was shown of it, which has no name.
    pub(super) fn note_shown(&mut self, shown: Base) {
        self.shown = (shown != self.version.base()).then(|| Box::new(shown));
    }

    /// Drops values that nobody reads any more.
    pub(super) fn drop_values(&mut self) {
        if self.opens > 0 || self.draft.is_some() {
            return;
        }
        // What is in the journal needs nobody to remember it: it is parked from there. But what lies
        // beneath it and is not there may come back, and is in what lies over it then.
        if self.links.iter().all(|link| link.noted) {
            self.links.clear();
        }
        // What is not in the journal is in no view: nobody else has its value.
        if self.links.is_empty() {
            self.version.value = None;
        }
        for link in &mut self.links {
            link.before.value = None;
        }
    }

    /// Returns the tickets that it stands on.
    pub(super) fn tickets(&self) -> Vec<Ticket> {
        let draft = self.draft.iter().map(|draft| draft.base);
        let links = self
            .links
            .iter()
            .flat_map(|link| [link.base, link.before.base()]);
        let bases = draft.chain(links).chain([self.version.base()]);
        let bases = bases.chain(self.shown.as_deref().copied());
        let pending = bases.filter_map(|base| base.pending);
        // What came back is decided.
        let links = self.links.iter().filter(|link| link.back.is_none());
        let links = links.map(|link| link.ticket);
        pending.map(|made| made.ticket).chain(links).collect()
    }
}

/// Returns a base on what a ticket makes of a key, over what `under` says was shown before.
pub(super) fn on(ticket: Ticket, digest: Option<Digest>, under: Base) -> Base {
    Base {
        pending: Some(Made { ticket, digest }),
        ..under
    }
}

/// Something that is to be done for a file beyond this table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The kernel is to drop the pages and attributes that it has of a file.
    Invalidate(FileId),
    /// A name leads to this file no more: it is to be looked up again.
    Superseded(FileId),
    /// A version is to be kept from being lost. What was in the journal is kept before its rows go.
    Park(Parked),
}

/// A version to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    pub name: RecordName,
    /// As its writer saw it.
    pub text: Arc<[u8]>,
    pub base: Base,
    pub modified: Timestamp,
    pub why: Refusal,
    /// False if a part of what was written did not fit: it is no version of the record.
    pub is_complete: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_under_200_bytes() {
        let size = size_of::<File>();
        assert!(size <= 160, "{size}");
    }
}
