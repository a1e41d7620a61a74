//! What the service's answers mean: the state of one dataset, and what to send to change it.
//!
//! Invariant: pure. No async, no clock, no lock. The driver in `store` tells this module what
//! happened (`handle_*`), asks what to do next ([`DatasetState::next_step`]) and does it.

pub mod batch;
pub mod change;
pub mod conflict;
pub mod dataset;
pub mod exchange;
pub mod pending;
pub mod remote;

pub use change::{Base, Change, Kind, Left, Mark, Shown, Ticket, Unseen};
pub use conflict::Refusal;
pub use dataset::DatasetState;
pub use exchange::{Landed, Listing, Outcome, Replaced, Step};
pub use remote::Remote;
