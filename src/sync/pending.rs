//! What is not yet sent: an ordered list of groups of changes over what the service has.
//!
//! Invariant: pure, as all of `sync`. Nothing in `store` or `fs` uses it yet.

pub mod change;
pub mod note;

pub use change::{Base, Change, Digest, Kind, Made, Sent, Ticket};
pub use note::{Hold, Note, NotedChange, Place, Rebased, Settled};
