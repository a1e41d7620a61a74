//! What the state of a dataset and its driver say to each other.

use std::time::Instant;

use super::change::Base;
use super::conflict::Refusal;
use super::remote::Remote;
use crate::wire::names::RecordKey;
use crate::wire::records::{Record, RecordPatch};
use crate::wire::text::Text;
use crate::wire::timestamp::Timestamp;

/// All pages of one ListRecords.
#[derive(Debug, Default)]
pub struct Listing {
    /// The count that was asked for.
    pub since: i64,
    pub exists: bool,
    pub deleted_after: bool,
    /// The first page's: a change behind a page already read must show next time.
    pub sync_count: i64,
    pub records: Vec<Record>,
    /// The last page's.
    pub token: Option<String>,
}

/// What the driver is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    List {
        since: i64,
    },
    Update {
        patches: Vec<RecordPatch>,
        token: String,
        /// Values that will be gone. Those unseen are to be kept before the update is sent.
        replaced: Vec<Replaced>,
    },
    /// Delete the dataset, which was just listed and is empty.
    Delete,
    /// Do not delete it: it has records, or changes under way.
    RefuseDeletion,
    /// Nothing before this moment, unless something else is asked for.
    Wait {
        until: Instant,
    },
    Idle,
}

/// A value that an update takes the place of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    pub key: RecordKey,
    pub value: Text,
    pub sync_count: i64,
    pub modified: Timestamp,
    /// Whether it was shown here, or lives on in what takes its place.
    pub seen: bool,
}

/// A record after a change of it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landed {
    pub key: RecordKey,
    /// None if the service never had it, which a removal may find.
    pub record: Option<Remote>,
    pub base: Base,
}

/// What became of a group of changes; one `Landed` for each, in their order.
pub type Outcome = Result<Vec<Landed>, Refusal>;
