//! Mounts Amazon Cognito Sync as a file system: identity pools, identities and datasets are
//! directories, records are files. `ARCHITECTURE.md` has the map.

#![warn(unreachable_pub)]

pub mod cli;
pub mod mount;
pub mod wire;
