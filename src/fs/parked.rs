//! `.cognito/parked`: versions kept from being lost, one file each, `NAME@COUNT.local` for what was
//! written here and `NAME@COUNT.remote` for what the service had.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::control::{ControlEntry, ControlFile, FIXED};
use super::error::Error;
use super::inode::Ino;
use super::lookup::{FileSystem, Place};
use super::name::encode_short;
use super::node::Standing;
use super::unsent::UnsentKind;
use crate::store::{Dataset, NewlyParked, Parked};

impl FileSystem {
    /// Lists the versions that are kept of a dataset, by name.
    pub(super) async fn parked_files(
        &self,
        dataset: &Arc<Dataset>,
        deadline: Instant,
    ) -> Result<Vec<(String, ControlEntry)>, Error> {
        let parked = dataset.parked(deadline).await?;
        let names = names(&parked).into_iter().zip(parked);
        let file =
            |parked| ControlEntry::File(ControlFile::Parked(dataset.clone(), Arc::new(parked)));
        Ok(names.map(|(name, parked)| (name, file(parked))).collect())
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
                if unsent.is_in_journal() {
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
            tracing::error!(%error, path = self.path(ino, None), "not sent, and not kept");
        }
    }

    /// Keeps what is still unsent when the mount ends, in files that are open among it.
    pub async fn park_all(&self) {
        let unsent = self.inodes().all_unsent();
        for ino in unsent {
            self.park(ino, &Error::Ended).await;
        }
    }
}

/// Returns the file names of kept versions, in their order. Where one base had several, a number
/// tells them apart.
fn names(parked: &[Parked]) -> Vec<String> {
    let mut seen: HashMap<String, u32> = HashMap::new();
    let name = |parked: &Parked| {
        let (count, side) = (parked.sync_count, parked.side.name());
        let tail = format!("@{count}.{side}");
        // Room for the number.
        let name = encode_short(&parked.key, tail.len() + ".4294967295".len()) + &tail;
        let times = seen.entry(name.clone()).or_default();
        *times += 1;
        match times {
            1 => name,
            times => format!("{name}.{times}"),
        }
    };
    parked.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::name::NAME_MAX;
    use crate::store::Side;
    use crate::wire::names::RecordKey;
    use crate::wire::timestamp::Timestamp;

    fn parked(key: &str, side: Side) -> Parked {
        Parked {
            id: 0,
            key: RecordKey::new(key).unwrap(),
            side,
            sync_count: 7,
            size: 0,
            modified: Timestamp::from_millis(0),
            reason: String::new(),
            at: Timestamp::from_millis(0),
            expires: false,
        }
    }

    #[test]
    fn every_kept_version_has_a_name_of_its_own() {
        let long = "x".repeat(300);
        let versions = [
            parked("a/b", Side::Local),
            parked("a/b", Side::Local),
            parked("a/b", Side::Remote),
            parked(&long, Side::Remote),
            parked(&"y".repeat(250), Side::Remote),
        ];
        let names = names(&versions);
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
