//! What an inode number stands for.

use std::sync::Arc;

use super::control::{ControlDirectory, ControlFile};
use super::inode::Ino;
use super::unsent::{InJournal, Unsent, UnsentKind, next_generation};
use crate::store::{Dataset, Identity, Slot};
use crate::sync::{Base, Change, Remote, Shown};
use crate::wire::names::{PoolId, RecordKey};
use crate::wire::text::Text;
use crate::wire::timestamp::Timestamp;

/// Held by whoever sends what is unsent of a file, or notes it in the journal.
pub(super) type Gate = Arc<tokio::sync::Mutex<()>>;

/// A file or directory the kernel knows.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) parent: Ino,
    pub(super) name: Arc<str>,
    /// How often the kernel was given it.
    pub(super) lookups: u64,
    pub(super) standing: Standing,
    pub(super) kind: NodeKind,
}

/// Whether a node's name still leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Named,
    /// A newer version has the name. What is written here meets it when it is sent.
    Superseded,
    /// It was removed, or replaced by a rename. What is written here is for those who have it
    /// open, and is never sent.
    Removed,
}

#[derive(Debug)]
pub(super) enum NodeKind {
    Region,
    Pool(PoolId),
    Identity(Arc<Identity>),
    Dataset(DatasetNode),
    Record(Box<RecordNode>),
    ControlDirectory(ControlDirectory),
    ControlFile(ControlFile),
    /// Versions kept of a dataset.
    ParkedDirectory(Arc<Dataset>),
}

#[derive(Debug)]
pub(super) struct DatasetNode {
    pub(super) dataset: Arc<Dataset>,
    pub(super) modified: Option<Timestamp>,
}

/// One version of a record and its local successors. A version made elsewhere gets a node of its
/// own, so that what the kernel has cached of this one is always right.
#[derive(Debug)]
pub(super) struct RecordNode {
    pub(super) dataset: Arc<Dataset>,
    pub(super) key: RecordKey,
    /// The version, by its count; absent for a file that was created here and not sent yet.
    pub(super) base: Base,
    /// Bytes of the version's value.
    pub(super) size: u64,
    pub(super) modified: Timestamp,
    pub(super) changed: Timestamp,
    /// The version's value, kept while the file is open.
    pub(super) content: Option<Text>,
    pub(super) unsent: Option<Unsent>,
    /// Handles, and operations that need the value to stay in memory.
    pub(super) opens: u32,
    pub(super) writers: u32,
    /// How often something unsent was dropped, so that whoever waited for it learns of it.
    pub(super) drops: u32,
    /// Lets one push of this file follow another. Each name that the file gets has its own: what is
    /// under way behind an older one does not concern it any more.
    pub(super) gate: Gate,
    /// Lets one note of this file in the journal follow another.
    pub(super) ledger: Gate,
}

impl RecordNode {
    pub(super) fn of_remote(
        dataset: Arc<Dataset>,
        key: RecordKey,
        remote: &Remote,
        base: Base,
    ) -> Self {
        let mut node = Self::empty(dataset, key, base, remote.modified);
        node.show(remote, base);
        node
    }

    /// A file that was just created here.
    pub(super) fn created(
        dataset: Arc<Dataset>,
        key: RecordKey,
        base: Base,
        now: Timestamp,
    ) -> Self {
        let mut node = Self::empty(dataset, key, base, now);
        node.unsent = Some(Unsent::new(UnsentKind::Whole, base, now));
        node
    }

    fn empty(dataset: Arc<Dataset>, key: RecordKey, base: Base, now: Timestamp) -> Self {
        Self {
            dataset,
            key,
            base,
            size: 0,
            modified: now,
            changed: now,
            content: None,
            unsent: None,
            opens: 0,
            writers: 0,
            drops: 0,
            gate: Arc::default(),
            ledger: Arc::default(),
        }
    }

    /// Takes on a version.
    pub(super) fn show(&mut self, remote: &Remote, base: Base) {
        let value = remote.value.as_ref();
        self.base = base;
        self.size = value.map_or(0, |value| value.as_bytes().len() as u64);
        self.modified = remote.modified;
        self.changed = remote.changed;
        self.content = match self.opens {
            0 => None,
            _ => remote.value.clone(),
        };
    }

    /// Is another record's file from now on, whose value the journal has.
    pub(super) fn take_name(&mut self, set: &Change, text: &[u8], slot: Slot) {
        let generation = next_generation();
        self.drop_unsent();
        let mut unsent = Unsent::new(UnsentKind::Whole, set.base, set.modified);
        unsent.sent = set.sent.clone();
        unsent.text = text.to_vec();
        unsent.flushable = true;
        unsent.dated = true;
        unsent.generation = generation;
        unsent.queued = Some(InJournal::new(slot, generation));
        self.key = set.key.clone();
        self.base = set.base;
        self.unsent = Some(unsent);
    }

    /// Drops what was not sent, and the interest in what became of it.
    pub(super) fn drop_unsent(&mut self) {
        let Some(unsent) = self.unsent.take() else {
            return;
        };
        self.drops += 1;
        if let Some((ticket, _)) = unsent.attempt {
            self.dataset.forget(ticket);
        }
    }

    /// Returns whether the value, as this mount shows it, is in memory.
    pub(super) fn has_text(&self) -> bool {
        let unsent = self.unsent.as_ref();
        self.content.is_some() || unsent.is_some_and(|unsent| unsent.kind != UnsentKind::Times)
    }

    /// Returns whether the service has, or had, the file's version.
    pub(super) fn is_sent(&self) -> bool {
        matches!(self.base.shown, Shown::Version(_))
    }

    /// Returns whether a version listed now is a newer one than this node's.
    pub(super) fn is_superseded_by(&self, listed: Base) -> bool {
        match (self.base.shown, listed.shown) {
            _ if self.base.life != listed.life => true,
            (Shown::Version(ours), Shown::Version(theirs)) => theirs > ours,
            (Shown::Version(_), Shown::Absent) => true,
            (Shown::Absent, Shown::Version(_)) => true,
            (Shown::Absent, Shown::Absent) => false,
        }
    }

    /// Returns the size and mtime to show.
    pub(super) fn shown_size_and_time(&self) -> (u64, Timestamp) {
        match &self.unsent {
            Some(unsent) if unsent.kind == UnsentKind::Times => (self.size, unsent.modified),
            Some(unsent) => (unsent.text.len() as u64, unsent.modified),
            None => (self.size, self.modified),
        }
    }
}
