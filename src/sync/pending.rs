//! What is not yet sent: an ordered list of groups of changes over what the service has.
//!
//! Invariant: pure, as all of `sync`. Nothing in `store` or `fs` uses it yet.

pub mod barrier;
mod batch;
pub mod change;
pub mod compose;
pub mod dataset;
pub mod decide;
mod fingerprint;
pub mod group;
pub mod note;
pub mod planted;
pub mod recovery;
pub mod resolution;
pub mod scratch;

pub use barrier::{Barrier, DatasetId};
pub use change::{Appended, Base, Change, Digest, Kind, Made, Sent, Ticket};
pub use dataset::{Commit, DatasetState, Event, How, Landed, Left, Outcome, Staged, Step, View};
pub use decide::Refusal;
pub use group::{Places, Shape};
pub use note::{Hold, Note, NotedChange, Place, Rebased, Settled};
pub use resolution::Resolution;
