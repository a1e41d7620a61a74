//! `.cognito/parked`: versions kept from being lost, one file each, `NAME@COUNT.local` for what was
//! written here and `NAME@COUNT.remote` for what the service had.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde::Serialize;

use super::control::{ControlEntry, ControlFile, FIXED};
use super::errno::errno;
use super::error::Error;
use super::failures::Failure;
use super::inode::{Ino, ROOT};
use super::lookup::{FileSystem, Place};
use super::name::{encode, encode_short, encode_text};
use super::node::Standing;
use super::stats::pretty;
use super::unsent::UnsentKind;
use crate::store::{Dataset, NewlyParked, Parked, Whereabouts};
use crate::wire::names::RecordKey;
use crate::wire::timestamp::Timestamp;

impl FileSystem {
    /// Lists the versions that are kept of a dataset, by name.
    pub(super) async fn parked_files(
        &self,
        dataset: &Arc<Dataset>,
        deadline: Instant,
    ) -> Result<Vec<(String, ControlEntry)>, Error> {
        let parked = dataset.parked(deadline).await?;
        let file = |parked| {
            let name = file_name(&parked);
            let file = ControlFile::Parked(dataset.clone(), Arc::new(parked));
            (name, ControlEntry::File(file))
        };
        Ok(parked.into_iter().map(file).collect())
    }

    /// Returns the text of `parked.json`: all versions that are kept of what is mounted.
    pub(super) async fn parked_text(&self) -> Result<String, Error> {
        let root = self.place(ROOT)?;
        let all = self.store.all_parked().await?;
        let line = |(dataset, parked): &(Whereabouts, Parked)| {
            Some(ParkedLine {
                dataset: path_below(&root, dataset)?,
                name: file_name(parked),
                record: encode(&parked.key),
                key: parked.key.clone(),
                side: parked.side.name(),
                sync_count: parked.sync_count,
                size: parked.size,
                reason: parked.reason.clone(),
                at: parked.at.iso8601(),
                expires: parked.expires.map(Timestamp::iso8601),
            })
        };
        let lines: Vec<_> = all.iter().filter_map(line).collect();
        pretty(&lines)
    }

    /// Lets a kept version go.
    pub(super) async fn discard_parked(&self, parent: Ino, name: &str) -> Result<(), Error> {
        let Place::Parked(dataset) = self.place(parent)? else {
            return Err(FIXED);
        };
        let files = self.parked_files(&dataset, self.deadline()).await?;
        let file = files.into_iter().find(|(found, _)| found == name);
        let Some((_, ControlEntry::File(ControlFile::Parked(dataset, parked)))) = file else {
            return Err(Error::NotFound);
        };
        dataset.discard_parked(parked.id).await?;
        self.inodes().detach_name(parent, name, Standing::Removed);
        Ok(())
    }

    /// Keeps a copy of what is unsent in a file, before it is dropped. What was removed is not
    /// kept, and a date alone is nothing to keep.
    pub(super) async fn park(&self, ino: Ino, why: &Error) {
        let kept = {
            let inodes = self.inodes();
            let named = inodes.standing(ino) != Standing::Removed;
            let record = inodes.record(ino).filter(|_| named);
            record.and_then(|record| {
                let unsent = record.unsent.as_ref();
                let unsent = unsent.filter(|unsent| unsent.kind != UnsentKind::Times)?;
                let nothing = unsent.cut_short && unsent.text.is_empty();
                if unsent.is_in_journal() || nothing {
                    return None;
                }
                let refused = unsent.refused.as_ref();
                let parked = NewlyParked {
                    key: record.key.clone(),
                    text: unsent.text.clone(),
                    base: unsent.base,
                    modified: unsent.modified,
                    reason: refused.map_or_else(|| why.with_causes(), |(_, why)| why.clone()),
                };
                Some((record.dataset.clone(), parked))
            })
        };
        if let Some((dataset, parked)) = kept
            && let Err(error) = dataset.park(parked).await
        {
            self.note_unkept(self.path(ino, None), error.into());
        }
    }

    /// What could not be sent is kept in memory only, until there is room for it on the disk.
    fn note_unkept(&self, path: String, error: Error) {
        tracing::error!(%error, path, "not sent, and not kept on the disk yet");
        self.note_failure(Failure {
            at: SystemTime::now(),
            operation: "park",
            path,
            errno: errno(&error),
            reason: error.with_causes(),
        });
    }

    /// Keeps what is still unsent when the mount ends, in files that are open among it.
    pub async fn park_all(&self) {
        let unsent = self.inodes().all_unsent();
        for ino in unsent {
            self.park(ino, &Error::Ended).await;
        }
    }
}

/// A kept version in `parked.json`.
#[derive(Debug, Serialize)]
struct ParkedLine {
    /// The dataset's path below the mount.
    dataset: String,
    /// In the dataset's `.cognito/parked`.
    name: String,
    /// The record's file name.
    record: String,
    key: RecordKey,
    side: &'static str,
    sync_count: i64,
    /// Bytes.
    size: u64,
    reason: String,
    at: String,
    /// None if it stays until it is discarded.
    expires: Option<String>,
}

/// Returns the path of a dataset below a mount, unless it lies elsewhere.
pub(super) fn path_below(root: &Place, (pool, identity, dataset): &Whereabouts) -> Option<String> {
    let name = encode_text(dataset.as_str());
    match root {
        Place::Region => Some(format!("{pool}/{identity}/{name}")),
        Place::Pool(of) => (of == pool).then(|| format!("{identity}/{name}")),
        Place::Identity(of) => (of.id() == identity).then_some(name),
        Place::Dataset(of) => {
            let here = of.identity().id() == identity && of.name() == dataset;
            here.then(String::new)
        }
        Place::Control(_) | Place::Parked(_) => None,
    }
}

/// Returns the file name of a kept version. It stays the same for as long as the version is kept.
fn file_name(parked: &Parked) -> String {
    let (count, side) = (parked.sync_count, parked.side.name());
    let tail = match parked.number {
        1 => format!("@{count}.{side}"),
        number => format!("@{count}.{side}.{number}"),
    };
    encode_short(&parked.key, tail.len()) + &tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::name::NAME_MAX;
    use crate::store::Side;

    fn parked(key: &str, side: Side, number: u32) -> Parked {
        Parked {
            id: 0,
            key: RecordKey::new(key).unwrap(),
            side,
            sync_count: 7,
            number,
            size: 0,
            modified: Timestamp::from_millis(0),
            reason: String::new(),
            at: Timestamp::from_millis(0),
            expires: None,
        }
    }

    #[test]
    fn every_kept_version_has_a_name_of_its_own() {
        let long = "x".repeat(300);
        let versions = [
            parked("a/b", Side::Local, 1),
            parked("a/b", Side::Local, 2),
            parked("a/b", Side::Remote, 1),
            parked(&long, Side::Remote, u32::MAX),
            parked(&"y".repeat(250), Side::Remote, 1),
        ];
        let names = versions.each_ref().map(file_name);
        assert_eq!(
            names[..3],
            ["a%2Fb@7.local", "a%2Fb@7.local.2", "a%2Fb@7.remote"]
        );
        for name in &names {
            assert!(name.len() <= NAME_MAX, "{name}");
        }
        assert!(names[3].contains("%~") && names[4].contains("%~"));
    }
}
