//! Directories: listed, made, removed.
//!
//! Datasets and identities are listed from a snapshot taken at opendir. Pools and regions stream:
//! a handle holds one page, so that the first entry comes with the first page.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::attr::FileType;
use super::control::{ControlEntry, FIXED};
use super::error::Error;
use super::inode::{Ino, ROOT};
use super::lookup::{
    Entry, FileSystem, Found, ID_TTL, Place, check_length, dataset_name, reconcile,
};
use super::name::{CONTROL, encode, encode_text};
use super::node::{DatasetNode, NodeKind, Standing};
use super::queue::record_id;
use crate::store::{self, Dataset, DatasetEntry, Identity};
use crate::wire::names::{DatasetName, PoolId, RecordKey};

/// One entry of a directory.
#[derive(Clone, Debug)]
pub struct DirEntry {
    pub name: String,
    /// Where the entry after this one begins.
    pub next_offset: u64,
    pub file_type: FileType,
    pub node: EntryNode,
}

/// Which inode an entry has.
#[derive(Clone, Copy, Debug)]
pub enum EntryNode {
    /// Given to the kernel with its attributes.
    Entry(Entry),
    /// Not asked for, or gone since the directory was opened.
    Unknown,
    /// `.` or `..`.
    Known(Ino),
}

/// An open directory.
#[derive(Debug)]
pub struct DirHandle {
    place: Place,
    cursor: tokio::sync::Mutex<Cursor>,
}

#[derive(Debug)]
enum Cursor {
    Datasets(Vec<DatasetEntry>),
    Records(Vec<(String, Option<RecordKey>)>),
    Control(Vec<(String, ControlEntry)>),
    Pages(Pages),
}

/// One page of a long listing.
#[derive(Debug, Default)]
struct Pages {
    names: Vec<String>,
    /// Where the page in hand begins, counted from the first entry.
    at: u64,
    next: Option<String>,
    read_any: bool,
    /// Where each page begins and how it is asked for, to find back.
    begins: BTreeMap<u64, Option<String>>,
}

/// `.` and `..` come first.
const DOTS: u64 = 2;
/// How many entries one answer has at most; the kernel's buffer holds fewer.
const BATCH: usize = 512;

impl FileSystem {
    /// Opens a directory. Its listing is made now, but for pools and regions, which stream.
    pub async fn opendir(&self, ino: Ino) -> Result<u64, Error> {
        let place = self.place(ino)?;
        let cursor = match &place {
            Place::Region | Place::Pool(_) => Cursor::Pages(Pages::default()),
            Place::Identity(identity) => {
                let datasets = identity.datasets(self.deadline()).await?;
                Cursor::Datasets(datasets)
            }
            Place::Dataset(dataset) => {
                self.refresh(dataset, self.deadline()).await?;
                if !dataset.exists() && !dataset.is_made() {
                    return Err(Error::NotFound);
                }
                Cursor::Records(self.record_names(ino, dataset))
            }
            Place::Control(directory) => {
                let entries = directory.entries().into_iter();
                let named = |(name, entry): (&str, _)| (name.to_owned(), entry);
                Cursor::Control(entries.map(named).collect())
            }
            Place::Parked(dataset) => {
                Cursor::Control(self.parked_files(dataset, self.deadline()).await?)
            }
        };
        let handle = self.new_handle();
        let directory = Arc::new(DirHandle {
            place,
            cursor: tokio::sync::Mutex::new(cursor),
        });
        self.lock_directories().insert(handle, directory);
        Ok(handle)
    }

    /// Closes a directory.
    pub fn releasedir(&self, handle: u64) {
        self.lock_directories().remove(&handle);
    }

    fn lock_directories(&self) -> std::sync::MutexGuard<'_, DirectoryHandles> {
        let directories = self.directories.lock();
        directories.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The names in a dataset: the records listed, and the files created here and not sent yet.
    fn record_names(&self, ino: Ino, dataset: &Dataset) -> Vec<(String, Option<RecordKey>)> {
        let records = dataset.records().into_iter();
        let mut inodes = self.inodes();
        let shown = records.filter(|(key, _)| !inodes.is_hidden(&record_id(dataset, key)));
        let mut names: BTreeMap<String, Option<RecordKey>> =
            shown.map(|(key, _)| (encode(&key), Some(key))).collect();
        for unsent in inodes.unsent_in(ino) {
            let node = inodes.get(unsent);
            if let Some(node) = node.filter(|node| node.standing == Standing::Named) {
                names.entry(node.name.to_string()).or_insert(None);
            }
        }
        names.into_iter().collect()
    }

    /// Reads entries from `offset` on, as many as are at hand. With `plus`, entries that have
    /// attributes are given to the kernel with them: [`forget`](Self::forget) those that are not
    /// passed on.
    pub async fn readdir(
        &self,
        ino: Ino,
        handle: u64,
        offset: u64,
        plus: bool,
    ) -> Result<Vec<DirEntry>, Error> {
        let directory = self.lock_directories().get(&handle).cloned();
        let directory = directory.ok_or(Error::BadHandle)?;
        let mut entries = self.dots(ino, offset);
        let mut cursor = directory.cursor.lock().await;
        let from = offset.saturating_sub(DOTS);
        match &mut *cursor {
            Cursor::Datasets(datasets) => {
                let Place::Identity(identity) = &directory.place else {
                    return Err(Error::BadHandle);
                };
                let batch = datasets.iter().enumerate().skip(clamp(from)).take(BATCH);
                for (at, dataset) in batch {
                    let name = encode_text(dataset.name.as_str());
                    let mut entry = entry(name, at as u64, FileType::Directory);
                    if plus {
                        entry.node = self.dataset_entry(ino, &entry.name, identity, dataset);
                    }
                    entries.push(entry);
                }
            }
            Cursor::Records(names) => {
                let Place::Dataset(dataset) = &directory.place else {
                    return Err(Error::BadHandle);
                };
                if plus && !dataset.is_listed() {
                    self.refresh(dataset, self.deadline()).await?;
                }
                let batch = names.iter().enumerate().skip(clamp(from));
                for (at, (name, key)) in batch {
                    if entries.len() >= BATCH {
                        break;
                    }
                    let mut entry = entry(name.clone(), at as u64, FileType::Regular);
                    if plus {
                        entry.node = self.record_entry(ino, name, dataset, key.as_ref());
                        if matches!(entry.node, EntryNode::Unknown) {
                            // Gone since; an answer without entries would end the listing.
                            continue;
                        }
                    }
                    entries.push(entry);
                }
            }
            Cursor::Control(controls) => {
                let batch = controls.iter().enumerate().skip(clamp(from)).take(BATCH);
                for (at, (name, control)) in batch {
                    let mut entry = entry(name.clone(), at as u64, control.file_type());
                    if plus {
                        let found = self.control_entry(ino, name, control.clone(), 1);
                        entry.node = EntryNode::Entry(found);
                    }
                    entries.push(entry);
                }
            }
            Cursor::Pages(pages) => {
                self.turn_to(&directory.place, pages, from).await?;
                let skip = clamp(from.saturating_sub(pages.at));
                for (at, name) in pages.names.iter().enumerate().skip(skip) {
                    let at = pages.at + at as u64;
                    let mut entry = entry(name.clone(), at, FileType::Directory);
                    if plus {
                        entry.node = self.id_entry(ino, name, &directory.place);
                    }
                    entries.push(entry);
                }
            }
        }
        Ok(entries)
    }

    fn dots(&self, ino: Ino, offset: u64) -> Vec<DirEntry> {
        let parent = self.inodes().get(ino).map_or(ROOT, |node| node.parent);
        let dots = [(".", ino), ("..", parent)].into_iter().zip(1..);
        dots.skip(clamp(offset))
            .map(|((name, ino), next_offset)| DirEntry {
                name: name.to_owned(),
                next_offset,
                file_type: FileType::Directory,
                node: EntryNode::Known(ino),
            })
            .collect()
    }

    fn id_entry(&self, parent: Ino, name: &str, place: &Place) -> EntryNode {
        let kind = match place {
            Place::Region => name.parse().ok().map(NodeKind::Pool),
            Place::Pool(pool) => {
                let id = name.parse().ok();
                id.map(|id| NodeKind::Identity(self.store.identity(pool, &id)))
            }
            Place::Identity(_) | Place::Dataset(_) | Place::Control(_) | Place::Parked(_) => None,
        };
        kind.map_or(EntryNode::Unknown, |kind| {
            EntryNode::Entry(self.directory_entry(parent, name, kind, ID_TTL, 1))
        })
    }

    fn dataset_entry(
        &self,
        parent: Ino,
        name: &str,
        identity: &Arc<Identity>,
        listed: &DatasetEntry,
    ) -> EntryNode {
        let dataset = identity.dataset(&listed.name);
        let ttl = match dataset.is_made() {
            true => self.ttl(),
            false => identity.freshness(),
        };
        let kind = NodeKind::Dataset(DatasetNode {
            dataset,
            modified: listed.modified,
        });
        EntryNode::Entry(self.directory_entry(parent, name, kind, ttl, 1))
    }

    fn record_entry(
        &self,
        parent: Ino,
        name: &str,
        dataset: &Arc<Dataset>,
        key: Option<&RecordKey>,
    ) -> EntryNode {
        let listed = key.and_then(|key| Some((key, dataset.record(key)?)));
        let mut inodes = self.inodes();
        let is_hidden = key.is_some_and(|key| inodes.is_hidden(&record_id(dataset, key)));
        let ino = match listed.filter(|_| !is_hidden) {
            Some((key, record)) => {
                let key = key.clone();
                Some(reconcile(&mut inodes, parent, name, dataset, key, &record))
            }
            None => inodes.child(parent, name),
        };
        let Some(ino) = ino else {
            return EntryNode::Unknown;
        };
        inodes.looked_up(ino, 1);
        match inodes.get(ino) {
            Some(node) => EntryNode::Entry(Entry {
                attr: self.attr_of(ino, node),
                ttl: dataset.freshness(),
            }),
            None => EntryNode::Unknown,
        }
    }

    /// Brings the page with entry `from` into hand, or an empty one behind the end.
    async fn turn_to(&self, place: &Place, pages: &mut Pages, from: u64) -> Result<(), Error> {
        if from < pages.at
            && let Some((at, token)) = pages.begins.range(..=from).next_back()
        {
            let (at, token) = (*at, token.clone());
            self.read_page(place, pages, at, token).await?;
        }
        while from >= pages.at + pages.names.len() as u64 {
            let at = pages.at + pages.names.len() as u64;
            let token = match (pages.read_any, pages.next.clone()) {
                (false, _) => None,
                (true, Some(token)) => Some(token),
                (true, None) => return Ok(()),
            };
            self.read_page(place, pages, at, token).await?;
        }
        Ok(())
    }

    async fn read_page(
        &self,
        place: &Place,
        pages: &mut Pages,
        at: u64,
        token: Option<String>,
    ) -> Result<(), Error> {
        let (names, next) = match place {
            Place::Region => {
                let page = self.store.pools(token.clone()).await?;
                let names = page.entries.iter().map(PoolId::to_string);
                (names.collect(), page.next)
            }
            Place::Pool(pool) => {
                let page = self.store.identities(pool, token.clone()).await?;
                (
                    page.entries.iter().map(ToString::to_string).collect(),
                    page.next,
                )
            }
            Place::Identity(_) | Place::Dataset(_) | Place::Control(_) | Place::Parked(_) => {
                return Err(Error::BadHandle);
            }
        };
        pages.begins.insert(at, token);
        *pages = Pages {
            names,
            at,
            next,
            read_any: true,
            begins: std::mem::take(&mut pages.begins),
        };
        Ok(())
    }

    /// Makes a dataset. It is real to this mount at once and to the service with its first record.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] elsewhere than in an identity.
    pub async fn mkdir(&self, parent: Ino, name: &str) -> Result<Entry, Error> {
        check_length(name)?;
        let identity = match self.place(parent)? {
            Place::Identity(identity) => identity,
            Place::Dataset(_) => {
                return Err(Error::NotPermitted(
                    "a dataset holds records; it has no directories",
                ));
            }
            Place::Control(_) | Place::Parked(_) => return Err(FIXED),
            Place::Region | Place::Pool(_) => {
                return Err(Error::NotPermitted(
                    "identity pools and identities are not made here",
                ));
            }
        };
        let dataset_name = new_dataset_name(name)?;
        let deadline = self.deadline();
        match identity.find(&dataset_name, deadline).await {
            Ok(_) => return Err(Error::Exists),
            Err(error) if error.kind() == store::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        identity.check_exists(deadline).await?;
        Ok(self.made_directory(parent, name, &identity, &dataset_name))
    }

    fn made_directory(
        &self,
        parent: Ino,
        name: &str,
        identity: &Arc<Identity>,
        dataset_name: &DatasetName,
    ) -> Entry {
        let kind = NodeKind::Dataset(DatasetNode {
            dataset: identity.make(dataset_name),
            modified: None,
        });
        self.directory_entry(parent, name, kind, self.ttl(), 1)
    }

    /// Deletes a dataset that has no records, after one more look.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] while it has records or unsent files.
    pub async fn rmdir(&self, parent: Ino, name: &str) -> Result<(), Error> {
        if name == CONTROL {
            return Err(FIXED);
        }
        let identity = match self.place(parent)? {
            Place::Identity(identity) => identity,
            Place::Dataset(_) => return Err(Error::NotADirectory),
            Place::Control(_) | Place::Parked(_) => return Err(FIXED),
            Place::Region | Place::Pool(_) => {
                return Err(Error::NotPermitted(
                    "identity pools and identities are not removed here",
                ));
            }
        };
        let deadline = self.deadline();
        let Found::Entry(entry) = self.find(parent, name, 0, deadline).await? else {
            return Err(Error::NotFound);
        };
        let ino = entry.attr.ino;
        let dataset_name = dataset_name(name).ok_or(Error::NotFound)?;
        if !self.inodes().unsent_in(ino).is_empty() {
            return Err(Error::NotEmpty);
        }
        let dataset = identity.dataset(&dataset_name);
        if self.is_async() {
            // A removal waits for every set that was made before it, wherever.
            self.drain(ROOT, deadline).await?;
        }
        let deleted = dataset.delete(deadline).await;
        deleted.map_err(|error| match error.kind() {
            store::ErrorKind::NotEmpty => Error::NotEmpty,
            _ => Error::of_path(error),
        })?;
        self.inodes().detach_name(parent, name, Standing::Removed);
        Ok(())
    }
}

type DirectoryHandles = std::collections::HashMap<u64, Arc<DirHandle>>;

fn clamp(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn entry(name: String, at: u64, file_type: FileType) -> DirEntry {
    DirEntry {
        name,
        next_offset: at + DOTS + 1,
        file_type,
        node: EntryNode::Unknown,
    }
}

fn new_dataset_name(name: &str) -> Result<DatasetName, Error> {
    let found = dataset_name(name).ok_or(Error::BadName(
        "a dataset's name has 1 to 128 of a-z A-Z 0-9 _ . : -",
    ))?;
    match found.as_str() {
        "." | ".." => Err(Error::BadName("a dataset named . or .. has no URL")),
        _ => Ok(found),
    }
}
