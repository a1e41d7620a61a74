//! Mounts Amazon Cognito Sync as a file system: identity pools, identities and datasets are
//! directories, records are files. `ARCHITECTURE.md` has the map.

#![warn(unreachable_pub)]

pub mod api;
pub mod cli;
pub mod fs;
pub mod fuse;
pub mod mount;
pub mod server;
pub mod store;
pub mod sync;
pub mod wire;
