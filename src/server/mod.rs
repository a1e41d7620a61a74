//! The local service: Cognito Sync, and the part of Cognito Identity that a mount needs, over one
//! file. It answers AWS's own SDKs, and it is what `cognitofs serve`, `cognitofs demo` and `local:`
//! sources talk to.
//!
//! It has all 17 operations of Cognito Sync and 10 of Cognito Identity.
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
//! - An empty value is a value. An update without patches changes nothing and uses no token up; nor
//!   does a refused one.
//! - A pool exists in the region its id names and nowhere else.
//! - Logins are not checked with their providers, they only tell users apart; there are no IAM
//!   policies beyond the developer's and a user's own data. The service's own tokens are checked
//!   where credentials are asked for; GetId refuses them, as the real one is reported to do.
//! - SetIdentityPoolConfiguration leaves a part that is absent as it is, an empty one takes it away;
//!   a stream that is enabled needs a name and a role. Roles and ARNs need the right form only.
//! - BulkPublish needs a stream that is enabled, else `InvalidParameterException`. It goes on
//!   in the background, and after a restart where it was; it sends one record a dataset, without
//!   tombstones.
//! - Stream records and push notifications are lines of `STORE.events.jsonl`; records are never too
//!   long for a stream. A deletion is told too, as a `remove` without records. After a crash the
//!   last ones may be there twice, with the same id.
//! - A device is its platform, its token and its identity: the same ones, the same DeviceId. A
//!   subscription needs a dataset that exists, and outlives its deletion. To end one that is not
//!   there is no error.
//! - The only event is SyncTrigger. A function is called if it is plain http on this machine; the
//!   name of any other is kept and never called.
//! - A function sees unchanged records as `replace` with old and new value alike, and no tombstones
//!   the user did not write. What its answer omits is not written. A conflict is told without
//!   asking; if somebody wrote meanwhile, it is asked again, at most three times.
//! - A function that is throttled, too slow or not there is a `LambdaThrottledException`, any other
//!   failure an `InvalidLambdaFunctionOutputException`.
//! - DeleteIdentities removes an identity's data too; one that is not there is `AccessDenied`.
//! - OpenID tokens are signed with the store's own secret, so nobody else can check them.
//! - Listings hold 1,024 records, 64 datasets or 64 pools unless asked otherwise, at most 1,024.

pub mod auth;
mod deliveries;
pub mod exchange;
pub mod faults;
pub mod http;
mod lambda;
mod random;
pub mod sample;
pub mod service;
pub mod storage;
