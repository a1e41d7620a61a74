//! A wish to change a record, and what was shown of the record when the wish began.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::sync::change::{Left, Mark, Shown, Unseen};
use crate::wire::names::RecordKey;
use crate::wire::timestamp::Timestamp;

/// Names a group of changes. Unique in the process, and so in its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// The SHA-256 of a value's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, third, fourth, ..] = self.0;
        write!(f, "{first:02x}{second:02x}{third:02x}{fourth:02x}")
    }
}

/// What was shown of a record when a change of it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Base {
    /// Which life of the dataset: it rises when the dataset is seen to have been deleted.
    pub life: u32,
    /// The service's version that was shown, or that lies under what was pending then.
    pub shown: Shown,
    /// Set if what was shown was not the service's yet.
    pub pending: Option<Made>,
}

/// What a group that is not sent makes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Made {
    pub ticket: Ticket,
    /// Of the value that was shown; None where the key was shown as absent.
    pub digest: Option<Digest>,
}

/// What is to become of a record. Texts are bytes: what is held back need not be a value, and is
/// checked when it is to be sent.
#[derive(Clone, PartialEq, Eq)]
pub enum Kind {
    /// A whole new value, written without regard to the old one.
    Whole(Arc<[u8]>),
    /// Text to add behind whatever value there is.
    Append {
        text: Arc<[u8]>,
        /// The whole value as its writer sees it.
        whole: Arc<[u8]>,
    },
    /// A value made by changing parts of the shown one.
    Edit(Arc<[u8]>),
    /// A new modification date only.
    Times,
    Remove,
}

impl Kind {
    /// Returns whether the record is there afterwards.
    pub fn is_set(&self) -> bool {
        !matches!(self, Self::Remove)
    }

    /// Returns the whole value as its writer sees it, if the change has one.
    pub fn whole(&self) -> Option<&Arc<[u8]>> {
        match self {
            Self::Whole(whole) | Self::Append { whole, .. } | Self::Edit(whole) => Some(whole),
            Self::Times | Self::Remove => None,
        }
    }

    /// Returns the text that an append adds.
    pub fn added(&self) -> Option<&Arc<[u8]>> {
        match self {
            Self::Append { text, .. } => Some(text),
            Self::Whole(_) | Self::Edit(_) | Self::Times | Self::Remove => None,
        }
    }

    /// Returns how many bytes it holds.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Whole(text) | Self::Edit(text) => text.len(),
            Self::Append { text, whole } => text.len() + whole.len(),
            Self::Times | Self::Remove => 0,
        }
    }
}

/// Shows sizes only: values are the user's and are never logged.
impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(text) => write!(f, "Whole({} bytes)", text.len()),
            Self::Append { text, whole } => {
                write!(f, "Append({} of {} bytes)", text.len(), whole.len())
            }
            Self::Edit(text) => write!(f, "Edit({} bytes)", text.len()),
            Self::Times => f.write_str("Times"),
            Self::Remove => f.write_str("Remove"),
        }
    }
}

/// A fingerprint: a version that was sent from here and has no answer. The call may be carried out
/// as long as the record has the count that was sent with it, minutes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub mark: Mark,
    /// The count that was sent, 0 for a record the service never had.
    pub count: i64,
    /// Set for an append.
    pub appended: Option<Appended>,
}

/// What was sent of an append, in bytes. Others may have added to it since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// How long the whole text was that was sent.
    pub whole: u64,
    /// How much of the text to add is made where that was made: its writer may add more meanwhile.
    pub text: u64,
}

impl Sent {
    /// Returns what is known of it to who writes another text behind: it is no beginning of that.
    pub fn beneath(self) -> Self {
        Self {
            appended: None,
            ..self
        }
    }
}

/// Notes something that was sent, once: a change may be tried in vain for hours.
pub(super) fn note_once<T: PartialEq>(known: &mut Vec<T>, sent: T) {
    if !known.contains(&sent) {
        known.push(sent);
    }
}

/// A change of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: RecordKey,
    pub base: Base,
    pub kind: Kind,
    pub unseen: Unseen,
    /// What was sent of it before without an answer: its writer has seen such a version.
    pub own: Vec<Sent>,
    /// Set for a change that an earlier process left: what that one knew of the record.
    pub left: Option<Left>,
    /// The mtime the file shows; it goes with the patch as its device date.
    pub modified: Timestamp,
}

impl Change {
    /// What it was based on was made, under a count: its writer has seen that, even if an earlier
    /// process left it.
    pub(super) fn stand_on(&mut self, sync_count: i64, exists: bool) {
        if let Some(left) = &mut self.left {
            left.sync_count = Some(sync_count);
            left.existed |= exists;
        }
    }
}
