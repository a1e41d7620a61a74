//! The table of inodes. Numbers count up and are never reused.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use super::node::{Gate, Node, NodeKind, RecordNode, Standing};
use super::queue::Loose;
use crate::store::Dataset;
use crate::sync::Base;
use crate::wire::names::{DatasetName, IdentityId, RecordKey};

/// An inode number.
pub type Ino = u64;

/// The root of the mount.
pub const ROOT: Ino = 1;

/// How many records are remembered as shown.
const SHOWN: NonZeroUsize = NonZeroUsize::new(131_072).expect("not zero");

pub(super) type RecordId = (IdentityId, DatasetName, RecordKey);

/// All nodes, found by number and by name.
#[derive(Debug)]
pub(super) struct Inodes {
    nodes: HashMap<Ino, Node>,
    names: HashMap<Ino, HashMap<Arc<str>, Ino>>,
    last: Ino,
    /// Records with something unsent, under their directories; some may have been sent since.
    unsent: BTreeSet<(Ino, Ino)>,
    /// Which version's bytes were last served under a name. It outlives the nodes: no refresh,
    /// stat or eviction may move it.
    shown: LruCache<RecordId, Base>,
    /// Which file the journal's row of a record is of.
    pub(super) queue: HashMap<RecordId, Ino>,
    /// The journal's rows that have no file. A removal hides its record.
    pub(super) loose: HashMap<RecordId, Loose>,
}

impl Inodes {
    pub(super) fn new(root: NodeKind) -> Self {
        let root = Node {
            parent: ROOT,
            name: "".into(),
            lookups: 1,
            standing: Standing::Named,
            kind: root,
        };
        Self {
            nodes: HashMap::from([(ROOT, root)]),
            names: HashMap::new(),
            last: ROOT,
            unsent: BTreeSet::new(),
            shown: LruCache::new(SHOWN),
            queue: HashMap::new(),
            loose: HashMap::new(),
        }
    }

    pub(super) fn get(&self, ino: Ino) -> Option<&Node> {
        self.nodes.get(&ino)
    }

    pub(super) fn get_mut(&mut self, ino: Ino) -> Option<&mut Node> {
        self.nodes.get_mut(&ino)
    }

    pub(super) fn standing(&self, ino: Ino) -> Standing {
        let node = self.nodes.get(&ino);
        node.map_or(Standing::Removed, |node| node.standing)
    }

    pub(super) fn record(&self, ino: Ino) -> Option<&RecordNode> {
        match &self.nodes.get(&ino)?.kind {
            NodeKind::Record(record) => Some(record),
            _ => None,
        }
    }

    pub(super) fn record_mut(&mut self, ino: Ino) -> Option<&mut RecordNode> {
        match &mut self.nodes.get_mut(&ino)?.kind {
            NodeKind::Record(record) => Some(record),
            _ => None,
        }
    }

    /// Returns a record if it still is behind a gate.
    pub(super) fn record_behind(&mut self, ino: Ino, gate: &Gate) -> Option<&mut RecordNode> {
        let record = self.record_mut(ino)?;
        Arc::ptr_eq(&record.gate, gate).then_some(record)
    }

    /// Returns whether it is a file under `.cognito`.
    pub(super) fn is_control(&self, ino: Ino) -> bool {
        let node = self.nodes.get(&ino);
        node.is_some_and(|node| matches!(node.kind, NodeKind::ControlFile(_)))
    }

    pub(super) fn child(&self, parent: Ino, name: &str) -> Option<Ino> {
        self.names.get(&parent)?.get(name).copied()
    }

    /// Returns whether a removal hides a record.
    pub(super) fn is_hidden(&self, id: &RecordId) -> bool {
        self.loose.get(id).is_some_and(Loose::hides)
    }

    /// Returns the removals that a rename ties to a file of the same dataset.
    pub(super) fn tied_to(&self, tie: Option<i64>, dataset: &Arc<Dataset>) -> Vec<RecordId> {
        let Some(tie) = tie else {
            return Vec::new();
        };
        let tied = |loose: &Loose| {
            loose.slot.tie == Some(tie) && loose.hides() && Arc::ptr_eq(&loose.dataset, dataset)
        };
        let tied = self.loose.iter().filter(|(_, loose)| tied(loose));
        tied.map(|(id, _)| id.clone()).collect()
    }

    /// Ties what had one tie by another.
    pub(super) fn retie(&mut self, old: Option<i64>, new: Option<i64>) {
        let tied = |loose: &&mut Loose| old.is_some() && loose.slot.tie == old;
        for loose in self.loose.values_mut().filter(tied) {
            loose.slot.tie = new;
        }
    }

    /// Returns the removals that were noted behind a place in the journal, with the ids of their rows.
    pub(super) fn removals_behind(&self, place: i64) -> Vec<(RecordId, i64)> {
        let behind = |loose: &Loose| loose.hides() && loose.slot.place > place;
        let behind = self.loose.iter().filter(|(_, loose)| behind(loose));
        behind
            .map(|(id, loose)| (id.clone(), loose.slot.id))
            .collect()
    }

    /// Takes a change without a file out, if it is still the one with that id.
    pub(super) fn take_loose(&mut self, id: &RecordId, slot: i64) -> Option<Loose> {
        let same = self
            .loose
            .get(id)
            .is_some_and(|loose| loose.slot.id == slot);
        match same {
            true => self.loose.remove(id),
            false => None,
        }
    }

    /// Takes a change without a file out, as another one has its place. Returns its row.
    pub(super) fn drop_loose(&mut self, id: &RecordId) -> Option<i64> {
        let loose = self.loose.remove(id)?;
        if let Some(ticket) = loose.attempt {
            loose.dataset.forget(ticket);
        }
        Some(loose.slot.id)
    }

    /// The journal has nothing of a record's file any more.
    pub(super) fn take_queued(&mut self, id: &RecordId, ino: Ino) {
        if self.queue.get(id) == Some(&ino) {
            self.queue.remove(id);
        }
    }

    /// Takes note that a record has something unsent.
    pub(super) fn note_unsent(&mut self, ino: Ino) {
        if let Some(node) = self.nodes.get(&ino) {
            self.unsent.insert((node.parent, ino));
        }
    }

    /// Returns the records of a directory that have something unsent.
    pub(super) fn unsent_in(&mut self, parent: Ino) -> Vec<Ino> {
        self.tidy_unsent();
        let range = self.unsent.range((parent, 0)..=(parent, Ino::MAX));
        range.map(|(_, ino)| *ino).collect()
    }

    /// Returns all records that have something unsent.
    pub(super) fn all_unsent(&mut self) -> Vec<Ino> {
        self.tidy_unsent();
        self.unsent.iter().map(|(_, ino)| *ino).collect()
    }

    fn tidy_unsent(&mut self) {
        let mut unsent = std::mem::take(&mut self.unsent);
        unsent.retain(|(_, ino)| {
            let node = self.nodes.get(ino);
            let node = node.filter(|node| node.standing != Standing::Removed);
            node.is_some_and(|node| match &node.kind {
                NodeKind::Record(record) => record.unsent.is_some(),
                _ => false,
            })
        });
        self.unsent = unsent;
    }

    /// Makes a node under a name; a node that had it loses it.
    pub(super) fn insert(&mut self, parent: Ino, name: &str, kind: NodeKind) -> Ino {
        self.detach_name(parent, name, Standing::Superseded);
        self.last += 1;
        let name: Arc<str> = name.into();
        let node = Node {
            parent,
            name: name.clone(),
            lookups: 0,
            standing: Standing::Named,
            kind,
        };
        self.nodes.insert(self.last, node);
        self.give_name(parent, name, self.last);
        self.last
    }

    /// Takes a node's name away; the node lives on while the kernel or a handle has it.
    pub(super) fn detach_name(&mut self, parent: Ino, name: &str, standing: Standing) {
        if let Some(ino) = self.take_name(parent, name) {
            if let Some(node) = self.nodes.get_mut(&ino) {
                node.standing = standing;
            }
            // What lay in a directory is not what another of its name holds.
            for child in self
                .names
                .remove(&ino)
                .into_iter()
                .flat_map(HashMap::into_values)
            {
                if let Some(node) = self.nodes.get_mut(&child) {
                    node.standing = Standing::Superseded;
                }
                self.drop_if_unused(child);
            }
            self.drop_if_unused(ino);
        }
    }

    /// Gives a node another name in its directory.
    pub(super) fn rename(&mut self, ino: Ino, new_name: &str) {
        let Some(node) = self.nodes.get(&ino) else {
            return;
        };
        let (parent, old_name) = (node.parent, node.name.clone());
        if self.child(parent, &old_name) == Some(ino) {
            self.take_name(parent, &old_name);
        }
        self.detach_name(parent, new_name, Standing::Removed);
        let new_name: Arc<str> = new_name.into();
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.name = new_name.clone();
            node.standing = Standing::Named;
        }
        self.give_name(parent, new_name, ino);
    }

    fn give_name(&mut self, parent: Ino, name: Arc<str>, ino: Ino) {
        self.names.entry(parent).or_default().insert(name, ino);
    }

    fn take_name(&mut self, parent: Ino, name: &str) -> Option<Ino> {
        let names = self.names.get_mut(&parent)?;
        let ino = names.remove(name);
        if names.is_empty() {
            self.names.remove(&parent);
        }
        ino
    }

    /// Swaps two names of a directory.
    pub(super) fn exchange(&mut self, parent: Ino, one: &str, other: &str) {
        let (Some(first), Some(second)) = (self.child(parent, one), self.child(parent, other))
        else {
            return;
        };
        for (ino, name) in [(first, other), (second, one)] {
            let name: Arc<str> = name.into();
            if let Some(node) = self.nodes.get_mut(&ino) {
                node.name = name.clone();
            }
            self.give_name(parent, name, ino);
        }
    }

    /// The kernel was given a node `count` times more.
    pub(super) fn looked_up(&mut self, ino: Ino, count: u64) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.lookups += count;
        }
    }

    /// The kernel forgot a node `count` times.
    pub(super) fn forget(&mut self, ino: Ino, count: u64) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.lookups = node.lookups.saturating_sub(count);
        }
        self.drop_if_unused(ino);
    }

    /// Drops a node that nobody can reach and that holds nothing of its own.
    pub(super) fn drop_if_unused(&mut self, ino: Ino) {
        let Some(node) = self.nodes.get(&ino) else {
            return;
        };
        // What is named below it must be found again.
        let has_children = self.names.contains_key(&ino);
        let holds = match &node.kind {
            NodeKind::Region
            | NodeKind::Pool(_)
            | NodeKind::ControlDirectory(_)
            | NodeKind::ControlFile(_)
            | NodeKind::ParkedDirectory(_) => false,
            NodeKind::Identity(identity) => identity.has_made(),
            NodeKind::Dataset(dataset) => {
                node.standing == Standing::Named && dataset.dataset.is_made()
            }
            NodeKind::Record(record) => record.opens > 0 || record.unsent.is_some(),
        };
        if node.lookups > 0 || holds || has_children || ino == ROOT {
            return;
        }
        let (parent, name) = (node.parent, node.name.clone());
        if self.child(parent, &name) == Some(ino) {
            self.take_name(parent, &name);
        }
        self.nodes.remove(&ino);
        self.drop_if_unused(parent);
    }

    /// Returns a path below the mount, for the log.
    pub(super) fn path(&self, ino: Ino) -> String {
        let mut parts = Vec::new();
        let mut at = ino;
        while at != ROOT
            && let Some(node) = self.nodes.get(&at)
        {
            parts.push(node.name.as_ref());
            at = node.parent;
        }
        parts.push("");
        parts.reverse();
        match parts.len() {
            1 => "/".to_owned(),
            _ => parts.join("/"),
        }
    }

    /// Returns whether a node is a directory or lies in it.
    pub(super) fn is_below(&self, ino: Ino, directory: Ino) -> bool {
        let mut at = ino;
        while at != directory && at != ROOT {
            let Some(node) = self.nodes.get(&at) else {
                break;
            };
            at = node.parent;
        }
        // What lies nowhere any more lies below the root.
        at == directory || directory == ROOT
    }

    /// Returns whether a change that has no file lies in a directory. The kernel may have forgotten the
    /// one that it was made in, and got another.
    pub(super) fn is_loose_below(&self, loose: &Loose, directory: Ino) -> bool {
        let identity = loose.dataset.identity();
        match self.nodes.get(&directory).map(|node| &node.kind) {
            Some(NodeKind::Region) => true,
            Some(NodeKind::Pool(pool)) => identity.pool() == pool,
            Some(NodeKind::Identity(of)) => identity.id() == of.id(),
            Some(NodeKind::Dataset(of)) => {
                let of = &of.dataset;
                identity.id() == of.identity().id() && loose.dataset.name() == of.name()
            }
            _ => false,
        }
    }

    /// Returns what a change of this record has as its base: the version whose bytes were last
    /// served under its name, else the one that was looked up.
    fn base_of(&mut self, record: &RecordId, looked_up: Base) -> Base {
        self.shown.get(record).copied().unwrap_or(looked_up)
    }

    /// Returns what a change of a node's record has as its base: an older version has its own, as
    /// the name shows a newer one.
    pub(super) fn base_at(&mut self, ino: Ino, record: &RecordId, looked_up: Base) -> Base {
        match self.standing(ino) {
            Standing::Named => self.base_of(record, looked_up),
            Standing::Superseded | Standing::Removed => looked_up,
        }
    }

    /// Bytes of this version were served.
    pub(super) fn note_shown(&mut self, record: RecordId, base: Base) {
        self.shown.put(record, base);
    }

    /// The record is gone, and its user knows.
    pub(super) fn forget_shown(&mut self, record: &RecordId) {
        self.shown.pop(record);
    }
}

impl RecordNode {
    pub(super) fn id(&self) -> RecordId {
        (
            self.dataset.identity().id().clone(),
            self.dataset.name().clone(),
            self.key.clone(),
        )
    }
}
