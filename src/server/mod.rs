//! The local service: Cognito Sync, and the part of Cognito Identity that a mount needs, over one
//! file. It answers AWS's own SDKs, and it is what `cognitofs serve`, `cognitofs demo` and `local:`
//! sources talk to.
//!
//! Invariant: uses `wire` and nothing else of this crate; what it has acknowledged is on disk.
//!
//! Where AWS does not document how the service behaves, this is what the local one does:
//!
//! - A session token is good for 15 minutes and for one UpdateRecords that changes something. A
//!   write by somebody else does not invalidate it, per-record sync counts decide. A used, foreign,
//!   forged or expired one is `SyncSessionToken not valid for these inputs`.
//! - A patch of a known record, tombstones included, must carry exactly its sync count. For a key
//!   the dataset does not have, any count up to the dataset's is accepted.
//! - Removing a key the dataset does not have makes a tombstone.
//! - A deleted dataset reports sync count 0; a hidden counter goes on when it is written again.
//! - Tombstones count neither as records nor as stored bytes.
//! - `LastModifiedBy` is the DeviceId if one was sent, else the identity id of a user, or the
//!   account id of a developer.
//! - An empty value is a value. An update without patches changes nothing and uses no token up; so
//!   does a refused one.
//! - A pool exists in the region its id names and nowhere else.
//! - Logins are not checked with their providers, they only tell users apart; there are no IAM
//!   policies beyond the developer's and a user's own data.
//! - Listings hold 1,024 records, 64 datasets or 64 pools unless asked otherwise, at most 1,024.

pub mod auth;
mod deliveries;
pub mod http;
mod lambda;
mod random;
pub mod sample;
pub mod service;
pub mod storage;
