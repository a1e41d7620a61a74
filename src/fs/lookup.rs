//! From a name to a node.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::attr::{Attr, AttrOptions, FileType};
use super::control::{ControlDirectory, ControlEntry, OpenControls};
use super::directory::DirHandle;
use super::error::Error;
use super::failures::{Failure, Failures};
use super::file::FileHandle;
use super::inode::{Ino, Inodes, ROOT};
use super::name::{CONTROL, Decoded, NAME_MAX, decode, encode, may_be_hashed};
use super::node::{DatasetNode, NodeKind, RecordNode, Standing};
use super::queue::{CommitMode, record_id};
use crate::store::{self, Dataset, Freshness, Identity, Record, Store};
use crate::wire::names::{DatasetName, PoolId, RecordKey, Scope};

/// How long the kernel may take a pool or an identity for granted.
pub(super) const ID_TTL: Duration = Duration::from_secs(3600);

/// The mounted tree.
#[derive(Debug)]
pub struct FileSystem {
    pub(super) store: Arc<Store>,
    pub(super) attrs: AttrOptions,
    pub(super) started: SystemTime,
    inodes: Mutex<Inodes>,
    pub(super) files: Mutex<HashMap<u64, FileHandle>>,
    pub(super) controls: OpenControls,
    pub(super) directories: Mutex<HashMap<u64, Arc<DirHandle>>>,
    handles: AtomicU64,
    /// How many files were dropped at their release, which nobody was told.
    pub(super) untold: AtomicUsize,
    /// How many operations that change something have not been answered.
    pub(super) unanswered: Arc<AtomicUsize>,
    /// The text of `mount.json`.
    pub(super) about: Arc<str>,
    pub(super) commit: CommitMode,
    /// Tells that the journal has something new to send.
    pub(super) queue_changed: tokio::sync::Notify,
    /// Lets one round of sending follow another.
    pub(super) rounds: tokio::sync::Mutex<()>,
    pub(super) failures: Failures,
    /// How long the longest operation took, in milliseconds.
    pub(super) longest: AtomicU64,
    invalidated: Sender<Ino>,
    invalidations: Mutex<Option<Receiver<Ino>>>,
}

/// An operation that has not been answered.
#[derive(Debug)]
pub struct Answering(Arc<AtomicUsize>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A node the kernel was given.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub attr: Attr,
    /// How long the name leads to this node.
    pub ttl: Duration,
}

/// What a lookup found.
#[derive(Clone, Copy, Debug)]
pub enum Found {
    Entry(Entry),
    /// Nothing, and how long that holds.
    Nothing(Duration),
}

/// What a directory is, taken out of the table.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Region,
    Pool(PoolId),
    Identity(Arc<Identity>),
    Dataset(Arc<Dataset>),
    Control(ControlDirectory),
    /// Versions kept of a dataset.
    Parked(Arc<Dataset>),
}

impl Place {
    /// Returns whether it is a directory under `.cognito`.
    pub(super) fn is_control(&self) -> bool {
        matches!(self, Self::Control(_) | Self::Parked(_))
    }
}

impl FileSystem {
    /// Makes the tree under `scope`; `about` is the text of `mount.json`.
    pub fn new(
        store: Arc<Store>,
        scope: &Scope,
        attrs: AttrOptions,
        commit: CommitMode,
        about: String,
    ) -> Self {
        let root = match scope {
            Scope::Region => NodeKind::Region,
            Scope::Pool(pool) => NodeKind::Pool(pool.clone()),
            Scope::Identity(pool, identity) => NodeKind::Identity(store.identity(pool, identity)),
            Scope::Dataset(pool, identity, name) => NodeKind::Dataset(DatasetNode {
                dataset: store.identity(pool, identity).dataset(name),
                modified: None,
            }),
        };
        let (invalidated, invalidations) = mpsc::channel();
        Self {
            store,
            attrs,
            started: SystemTime::now(),
            inodes: Mutex::new(Inodes::new(root)),
            files: Mutex::default(),
            controls: OpenControls::default(),
            directories: Mutex::default(),
            handles: AtomicU64::new(1),
            untold: AtomicUsize::new(0),
            unanswered: Arc::default(),
            about: about.into(),
            commit,
            queue_changed: tokio::sync::Notify::new(),
            rounds: tokio::sync::Mutex::new(()),
            failures: Failures::default(),
            longest: AtomicU64::new(0),
            invalidated,
            invalidations: Mutex::new(Some(invalidations)),
        }
    }

    /// Asks the service for the root, with one call, before anything is mounted. A dataset's
    /// listing is kept as its first snapshot.
    ///
    /// # Errors
    /// Whatever keeps the root from being listed.
    pub async fn check(&self) -> Result<(), store::Error> {
        let deadline = self.store.deadline();
        match self.place(ROOT) {
            Ok(Place::Region) => self.store.check_region().await,
            Ok(Place::Pool(pool)) => self.store.check_pool(&pool).await,
            Ok(Place::Identity(identity)) => identity.datasets(deadline).await.map(drop),
            Ok(Place::Dataset(dataset)) => {
                dataset.refresh(Freshness::Ttl, deadline).await?;
                match dataset.exists() {
                    true => Ok(()),
                    false => Err(store::ErrorKind::NotFound.into()),
                }
            }
            Ok(Place::Control(_) | Place::Parked(_)) | Err(_) => {
                Err(store::ErrorKind::Failed.into())
            }
        }
    }

    /// Has the end of the mount wait for an operation until the guard is dropped.
    pub fn answering(&self) -> Answering {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        Answering(self.unanswered.clone())
    }

    /// Takes note of an operation that failed, for `errors.log`.
    pub fn note_failure(&self, failure: Failure) {
        self.failures.note(failure);
    }

    /// Returns the inodes whose attributes the kernel is to forget, as they come. They can be taken
    /// once.
    pub fn take_invalidations(&self) -> Option<Receiver<Ino>> {
        let invalidations = self.invalidations.lock();
        invalidations.unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Has the kernel ask for an inode's attributes again: of one that no name leads to any more it is
    /// told so, and looks the name up.
    pub(super) fn invalidate(&self, ino: Ino) {
        // Without a listener the kernel finds out when their time is over.
        let _ = self.invalidated.send(ino);
    }

    pub(super) fn inodes(&self) -> MutexGuard<'_, Inodes> {
        self.inodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn new_handle(&self) -> u64 {
        self.handles.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns how long what was just asked for may be taken for granted.
    pub fn ttl(&self) -> Duration {
        self.store.options().ttl
    }

    pub(super) fn deadline(&self) -> Instant {
        self.store.deadline()
    }

    /// Returns what directory an inode is.
    pub(super) fn place(&self, ino: Ino) -> Result<Place, Error> {
        let inodes = self.inodes();
        let node = inodes.get(ino).ok_or(Error::Superseded)?;
        match &node.kind {
            NodeKind::Region => Ok(Place::Region),
            NodeKind::Pool(pool) => Ok(Place::Pool(pool.clone())),
            NodeKind::Identity(identity) => Ok(Place::Identity(identity.clone())),
            NodeKind::Dataset(node) => Ok(Place::Dataset(node.dataset.clone())),
            NodeKind::ControlDirectory(directory) => Ok(Place::Control(directory.clone())),
            NodeKind::ParkedDirectory(dataset) => Ok(Place::Parked(dataset.clone())),
            NodeKind::Record(_) | NodeKind::ControlFile(_) => Err(Error::NotADirectory),
        }
    }

    /// Returns a path below the mount, for the log.
    pub fn path(&self, ino: Ino, name: Option<&str>) -> String {
        let path = self.inodes().path(ino);
        match name {
            Some(name) if path == "/" => format!("/{name}"),
            Some(name) => format!("{path}/{name}"),
            None => path,
        }
    }

    /// Finds a name in a directory, and counts it as given to the kernel.
    ///
    /// # Errors
    /// [`Error::NameTooLong`] over 255 bytes, else why the directory cannot be read.
    pub async fn lookup(&self, parent: Ino, name: &str) -> Result<Found, Error> {
        self.find(parent, name, 1, self.deadline()).await
    }

    /// Finds a name in a directory; the kernel is given the node `given` times.
    pub(super) async fn find(
        &self,
        parent: Ino,
        name: &str,
        given: u64,
        deadline: Instant,
    ) -> Result<Found, Error> {
        check_length(name)?;
        let place = self.place(parent)?;
        if decode(name) == Decoded::Reserved {
            let control = ControlDirectory::of(parent, place).filter(|_| name == CONTROL);
            return Ok(match control.map(NodeKind::ControlDirectory) {
                Some(kind) => Found::Entry(self.directory_entry(parent, name, kind, ID_TTL, given)),
                None => Found::Nothing(ID_TTL),
            });
        }
        match place {
            Place::Region => match name.parse::<PoolId>() {
                Ok(pool) if pool.region() == *self.store.region() => Ok(Found::Entry(
                    self.directory_entry(parent, name, NodeKind::Pool(pool), ID_TTL, given),
                )),
                _ => Ok(Found::Nothing(ID_TTL)),
            },
            Place::Pool(pool) => match name.parse() {
                Ok(id) => {
                    let kind = NodeKind::Identity(self.store.identity(&pool, &id));
                    Ok(Found::Entry(
                        self.directory_entry(parent, name, kind, ID_TTL, given),
                    ))
                }
                Err(_) => Ok(Found::Nothing(ID_TTL)),
            },
            Place::Identity(identity) => {
                self.find_dataset(parent, name, &identity, (given, deadline))
                    .await
            }
            Place::Dataset(dataset) => {
                self.find_record(parent, name, &dataset, (given, deadline))
                    .await
            }
            Place::Control(directory) => Ok(match directory.entry(name) {
                Some(entry) => Found::Entry(self.control_entry(parent, name, entry, given)),
                None => Found::Nothing(ID_TTL),
            }),
            Place::Parked(dataset) => {
                let files = self.parked_files(&dataset, deadline).await?;
                let file = files.into_iter().find(|(found, _)| found == name);
                Ok(match file {
                    Some((_, file)) => Found::Entry(self.control_entry(parent, name, file, given)),
                    None => Found::Nothing(Duration::ZERO),
                })
            }
        }
    }

    async fn find_dataset(
        &self,
        parent: Ino,
        name: &str,
        identity: &Arc<Identity>,
        (given, deadline): (u64, Instant),
    ) -> Result<Found, Error> {
        let Some(dataset_name) = dataset_name(name) else {
            return Ok(Found::Nothing(ID_TTL));
        };
        let dataset = match identity.find(&dataset_name, deadline).await {
            Ok(dataset) => dataset,
            Err(error) if error.kind() == store::ErrorKind::NotFound => {
                self.inodes()
                    .detach_name(parent, name, Standing::Superseded);
                return Ok(Found::Nothing(identity.freshness()));
            }
            Err(error) => return Err(error.into()),
        };
        let ttl = match dataset.is_made() {
            true => self.store.options().ttl,
            false => dataset.freshness().max(identity.freshness()),
        };
        let kind = NodeKind::Dataset(DatasetNode {
            modified: dataset.modified(),
            dataset,
        });
        Ok(Found::Entry(
            self.directory_entry(parent, name, kind, ttl, given),
        ))
    }

    async fn find_record(
        &self,
        parent: Ino,
        name: &str,
        dataset: &Arc<Dataset>,
        (given, deadline): (u64, Instant),
    ) -> Result<Found, Error> {
        if let Some(entry) = self.unsent_entry(parent, name, given) {
            return Ok(Found::Entry(entry));
        }
        self.refresh(dataset, deadline).await?;
        let known = self.known_key(parent, name);
        let found = known.and_then(|key| Some((key.clone(), dataset.record(&key)?)));
        let found = found.or_else(|| find_record(dataset, name));
        let is_hidden = |key: &RecordKey| self.inodes().is_hidden(&record_id(dataset, key));
        let hidden = found.as_ref().is_some_and(|(key, _)| is_hidden(key));
        let Some((key, record)) = found.filter(|_| !hidden) else {
            let mut inodes = self.inodes();
            if !is_unsent(&inodes, parent, name) {
                inodes.detach_name(parent, name, Standing::Superseded);
            }
            // A removal that is given up shows it again.
            return Ok(Found::Nothing(match hidden {
                true => Duration::ZERO,
                false => dataset.freshness(),
            }));
        };
        let mut inodes = self.inodes();
        let ino = reconcile(&mut inodes, parent, name, dataset, key, &record);
        inodes.looked_up(ino, given);
        let attr = inodes.get(ino).map(|node| self.attr_of(ino, node));
        Ok(Found::Entry(Entry {
            attr: attr.ok_or(Error::NotFound)?,
            ttl: dataset.freshness(),
        }))
    }

    /// Returns the key of the node that has a name: a hash is not undone twice.
    fn known_key(&self, parent: Ino, name: &str) -> Option<RecordKey> {
        let inodes = self.inodes();
        let known = inodes.record(inodes.child(parent, name)?)?;
        Some(known.key.clone())
    }

    /// Brings a dataset up to date; while the service is unreachable, what memory holds serves: of one
    /// that was made here that is nothing.
    pub(super) async fn refresh(
        &self,
        dataset: &Arc<Dataset>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let known = || dataset.is_listed() || dataset.is_made();
        match dataset.refresh(Freshness::Ttl, deadline).await {
            Err(error) if error.kind() == store::ErrorKind::Unreachable && known() => Ok(()),
            result => Ok(result?),
        }
    }

    fn unsent_entry(&self, parent: Ino, name: &str, given: u64) -> Option<Entry> {
        let mut inodes = self.inodes();
        if !is_unsent(&inodes, parent, name) {
            return None;
        }
        let ino = inodes.child(parent, name)?;
        inodes.looked_up(ino, given);
        let attr = self.attr_of(ino, inodes.get(ino)?);
        let is_sent = inodes.record(ino).is_some_and(RecordNode::is_sent);
        let ttl = match is_sent {
            true => self.store.options().ttl,
            // Refused, it is there no more.
            false => Duration::ZERO,
        };
        Some(Entry { attr, ttl })
    }

    /// Returns an entry under `.cognito`. A file's size is not known before it is opened, and the
    /// kernel must not keep what a write made it believe.
    pub(super) fn control_entry(
        &self,
        parent: Ino,
        name: &str,
        entry: ControlEntry,
        given: u64,
    ) -> Entry {
        let ttl = match entry.file_type() {
            FileType::Regular => Duration::ZERO,
            FileType::Directory => ID_TTL,
        };
        self.directory_entry(parent, name, entry.into(), ttl, given)
    }

    /// Returns a directory's entry; the kernel is given the node `given` times.
    pub(super) fn directory_entry(
        &self,
        parent: Ino,
        name: &str,
        kind: NodeKind,
        ttl: Duration,
        given: u64,
    ) -> Entry {
        let mut inodes = self.inodes();
        let ino = self.directory_node(&mut inodes, parent, name, kind);
        inodes.looked_up(ino, given);
        let node = inodes.get(ino).expect("it was just found or made");
        let attr = self.attr_of(ino, node);
        Entry { attr, ttl }
    }

    /// Returns the inode of a directory, a new one if its name has none or another's.
    pub(super) fn directory_node(
        &self,
        inodes: &mut Inodes,
        parent: Ino,
        name: &str,
        kind: NodeKind,
    ) -> Ino {
        if let Some(ino) = inodes.child(parent, name)
            && let Some(node) = inodes.get_mut(ino)
        {
            match (&mut node.kind, &kind) {
                (NodeKind::Pool(_), NodeKind::Pool(_))
                | (NodeKind::Identity(_), NodeKind::Identity(_))
                | (NodeKind::ControlDirectory(_), NodeKind::ControlDirectory(_))
                | (NodeKind::ParkedDirectory(_), NodeKind::ParkedDirectory(_)) => return ino,
                (NodeKind::ControlFile(old), NodeKind::ControlFile(new)) if old.is(new) => {
                    return ino;
                }
                (NodeKind::Dataset(old), NodeKind::Dataset(new))
                    if Arc::ptr_eq(&old.dataset, &new.dataset) =>
                {
                    old.modified = new.modified.or(old.modified);
                    return ino;
                }
                _ => {}
            }
        }
        inodes.insert(parent, name, kind)
    }

    /// The kernel forgot a node `count` times.
    pub fn forget(&self, ino: Ino, count: u64) {
        self.inodes().forget(ino, count);
    }
}

/// # Errors
/// [`Error::NameTooLong`] over 255 bytes.
pub(super) fn check_length(name: &str) -> Result<(), Error> {
    match name.len() > NAME_MAX {
        true => Err(Error::NameTooLong),
        false => Ok(()),
    }
}

/// Returns the dataset a file name means, if it can mean one.
pub(super) fn dataset_name(name: &str) -> Option<DatasetName> {
    match decode(name) {
        Decoded::Key(text) => text.parse().ok(),
        Decoded::Hashed | Decoded::Reserved => None,
    }
}

/// Finds the record a file name means, as last listed.
pub(super) fn find_record(dataset: &Dataset, name: &str) -> Option<(RecordKey, Record)> {
    match decode(name) {
        Decoded::Key(text) => {
            let key = RecordKey::new(text).ok()?;
            let record = dataset.record(&key)?;
            Some((key, record))
        }
        Decoded::Hashed => {
            let key = dataset.find_key(|key| may_be_hashed(key) && encode(key) == name)?;
            let record = dataset.record(&key)?;
            Some((key, record))
        }
        Decoded::Reserved => None,
    }
}

/// Returns whether a name leads to a file with something unsent, which the service cannot know.
fn is_unsent(inodes: &Inodes, parent: Ino, name: &str) -> bool {
    let ino = inodes.child(parent, name);
    let record = ino.and_then(|ino| inodes.record(ino));
    record.is_some_and(|record| record.unsent.is_some())
}

/// Returns the inode of a listed record: the one its name has, unless the record is a newer
/// version.
pub(super) fn reconcile(
    inodes: &mut Inodes,
    parent: Ino,
    name: &str,
    dataset: &Arc<Dataset>,
    key: RecordKey,
    record: &Record,
) -> Ino {
    if let Some(ino) = inodes.child(parent, name)
        && let Some(known) = inodes.record(ino)
        && Arc::ptr_eq(&known.dataset, dataset)
        && (known.unsent.is_some() || !known.is_superseded_by(record.base))
    {
        return ino;
    }
    let node = RecordNode::of_remote(dataset.clone(), key, &record.remote, record.base);
    inodes.insert(parent, name, NodeKind::Record(Box::new(node)))
}
