//! A mount as its files under `.cognito` tell of it.
//!
//! Invariant: a mount that does not answer holds nobody up for more than a few seconds.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Failure;
use crate::mount::os::{self, Entry};
use crate::mount::patiently;

/// What is read of `mount.json`.
#[derive(Debug, Deserialize)]
pub(super) struct About {
    pub(super) acting: Acting,
    pub(super) mounted_at: String,
    pub(super) process_id: u32,
}

#[derive(Debug, Deserialize)]
pub(super) struct Acting {
    #[serde(rename = "as")]
    pub(super) role: String,
    pub(super) profile: Option<String>,
    pub(super) identity: Option<String>,
}

/// What is read of `stats.json`.
#[derive(Debug, Deserialize)]
pub(super) struct Stats {
    pub(super) operations: BTreeMap<String, Calls>,
    /// Files with something unsent.
    pub(super) pending: u64,
    /// Those of them that could not be sent so far.
    pub(super) refused: u64,
    /// Why one of them could not.
    pub(super) reason: Option<String>,
    /// Versions kept until they are discarded.
    pub(super) parked: u64,
    pub(super) failures: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Calls {
    pub(super) calls: u64,
    pub(super) throttles: u64,
    pub(super) errors: BTreeMap<String, u64>,
}

/// A line of `parked.json`. Keys are not read: they need not be text.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Kept {
    /// The dataset's path below the mount.
    pub(super) dataset: PathBuf,
    /// In the dataset's `.cognito/parked`.
    pub(super) name: String,
    /// The record's file name.
    pub(super) record: String,
    pub(super) side: String,
    /// Bytes.
    pub(super) size: u64,
    pub(super) reason: String,
    pub(super) at: String,
    pub(super) expires: Option<String>,
}

/// A mount of ours.
#[derive(Clone, Debug)]
pub(super) struct Mounted {
    pub(super) path: PathBuf,
}

impl Mounted {
    /// Finds the mount that a path lies in, and the path below it. What is named need not be
    /// there.
    pub(super) fn containing(path: &Path) -> Result<(Self, PathBuf), Failure> {
        let told = |why: &str| Failure::usage(format!("{}: {why}", path.display()));
        let wanted = std::path::absolute(path).map_err(|error| told(&error.to_string()))?;
        let resolved = patiently(move || resolve(&wanted))?;
        let resolved = resolved.ok_or_else(|| told("does not answer"))?;
        let resolved = resolved.map_err(|error| told(&error.to_string()))?;
        let mounts = os::table().map_err(Failure::system)?.into_iter();
        let mounts = mounts.filter(|mount| resolved.starts_with(&mount.mount_point));
        // Of several on one path the last is the uppermost.
        let mount = mounts.max_by_key(|mount| mount.mount_point.components().count());
        let mount = mount.filter(Entry::is_cognitofs);
        let mount = mount.ok_or_else(|| told("does not lie in a mount of cognitofs"))?;
        let below = resolved.strip_prefix(&mount.mount_point);
        let below = below.unwrap_or(Path::new("")).to_owned();
        let path = mount.mount_point;
        Ok((Self { path }, below))
    }

    /// Returns the text of a file in the mount's own `.cognito`.
    pub(super) fn read(&self, name: &str) -> Result<String, Failure> {
        let file = self.path.join(".cognito").join(name);
        let told = |why: &str| Failure::mount(format!("{}: {why}", file.display()));
        let wanted = file.clone();
        let text = patiently(move || std::fs::read_to_string(wanted))?;
        let text = text.ok_or_else(|| told("does not answer"))?;
        text.map_err(|error| told(&error.to_string()))
    }

    pub(super) fn stats(&self) -> Result<Stats, Failure> {
        parse(&self.read("stats.json")?)
    }

    /// Returns all versions that are kept.
    pub(super) fn kept(&self) -> Result<Vec<Kept>, Failure> {
        parse(&self.read("parked.json")?)
    }
}

/// Reads what a mount says of itself.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    let parsed = serde_json::from_str(text);
    parsed.map_err(|error| Failure::system(format!("a mount of another version: {error}")))
}

/// Makes a path canonical as far as it is there.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut there = path;
    let mut behind: Vec<OsString> = Vec::new();
    loop {
        match there.canonicalize() {
            Ok(mut resolved) => {
                resolved.extend(behind.into_iter().rev());
                return Ok(resolved);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (Some(parent), Some(name)) = (there.parent(), there.file_name()) else {
                    return Err(error);
                };
                behind.push(name.to_owned());
                there = parent;
            }
            Err(error) => return Err(error),
        }
    }
}
