//! What is said between a client and the service: ids, operations, records, faults, signatures.
//!
//! Invariant: pure. No I/O, no clock, no state; both sides of the wire share these types, and the
//! documented requests and answers in `tests/wire_vectors.rs` pin them from outside.

pub mod bulk_publish;
pub mod configuration;
pub mod datasets;
pub mod devices;
pub mod events;
pub mod fault;
pub mod identity;
pub mod identity_pools;
pub mod names;
pub mod operation;
pub mod pools;
pub mod records;
pub mod sigv4;
pub mod text;
pub mod timestamp;
