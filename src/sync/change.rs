//! A wish to change a record, with what was shown of it when the wish began.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::wire::names::RecordKey;
use crate::wire::text::Text;
use crate::wire::timestamp::Timestamp;

/// What this mount had shown of a record when a change of it began.
///
/// It lives with the change, never in the cache: a listing made only to get a token must not turn
/// a stale base into a current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// Which life of the dataset: it rises when the dataset is seen to have been deleted.
    pub life: u32,
    pub shown: Shown,
}

/// A version of a record, named by its sync count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shown {
    Absent,
    Version(i64),
}

/// What is to become of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole new value, written without regard to the old one.
    Whole(Text),
    /// Text to add behind whatever value there is.
    Append(Arc<str>),
    /// A value made by changing parts of the shown one.
    Edit(Text),
    /// A new modification date only.
    Times,
    Remove,
}

/// What is done about a version that nobody here has seen, where a whole write or a removal would
/// take its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// It is kept aside, and then replaced.
    Keep,
    /// The change is refused.
    Refuse,
}

/// What tells a version that was sent from here: its value, if it has one, and our own date to the
/// millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    digest: Option<[u8; 32]>,
    at: Timestamp,
}

impl Mark {
    /// How long one is in bytes.
    pub const LENGTH: usize = 1 + 32 + 8;

    /// Returns the mark of a value, or of a tombstone.
    pub fn new(value: Option<&[u8]>, at: Timestamp) -> Self {
        Self {
            digest: value.map(|value| Sha256::digest(value).into()),
            at,
        }
    }

    /// Returns its date.
    pub fn at(self) -> Timestamp {
        self.at
    }

    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[0] = u8::from(self.digest.is_some());
        bytes[1..33].copy_from_slice(&self.digest.unwrap_or_default());
        bytes[33..].copy_from_slice(&self.at.as_millis().to_be_bytes());
        bytes
    }

    pub fn from_bytes(bytes: &[u8; Self::LENGTH]) -> Self {
        let mut digest = [0; 32];
        digest.copy_from_slice(&bytes[1..33]);
        let mut at = [0; 8];
        at.copy_from_slice(&bytes[33..]);
        Self {
            digest: (bytes[0] == 1).then_some(digest),
            at: Timestamp::from_millis(i64::from_be_bytes(at)),
        }
    }
}

/// What an earlier process knew of a change it left. Such a change is never made over a version that
/// is not its base, nor twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Whether the service had the dataset.
    pub existed: bool,
    /// The record's sync count, a tombstone's among them, and 0 if the service never had it; None
    /// if that was not known.
    pub sync_count: Option<i64>,
}

/// A change of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: RecordKey,
    pub base: Base,
    pub kind: Kind,
    pub unseen: Unseen,
    /// What may have been sent of this file before: such a version is ours.
    pub sent: Vec<Mark>,
    /// The whole value as its writer sees it, of an append.
    pub whole: Option<Text>,
    /// Set for a change that an earlier process left.
    pub left: Option<Left>,
    /// The mtime the file shows; it goes with the patch as its device date.
    pub modified: Timestamp,
}

/// Names a staged group of changes until its outcome is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub(super) u64);
