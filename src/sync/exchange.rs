//! What the state of a dataset and its driver say to each other.

use std::time::Instant;

use super::change::Base;
use super::conflict::Refusal;
use super::remote::Remote;
use crate::wire::names::RecordKey;
use crate::wire::records::{Record, RecordPatch};

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
