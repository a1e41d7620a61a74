//! A dumb model of a dataset as a directory of files: what the rules S3, S4, S7, S9, S10 and S11
//! say becomes of it.

mod open;
mod sending;

use std::collections::{BTreeMap, BTreeSet};

use super::ops::{Mode, SLOTS};

pub type Key = u8;
type Ino = usize;

/// Which version of a record, in which life of the dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Base {
    life: u32,
    /// None for a record that is not there.
    count: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub value: String,
    pub count: i64,
}

/// What the service holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    pub exists: bool,
    pub count: i64,
    pub records: BTreeMap<Key, Record>,
}

/// A version that is kept: key, count, side, text.
pub type Parked = (Key, i64, &'static str, String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Whole,
    Append { from: usize },
    Edit,
    Times,
}

#[derive(Clone, Debug)]
struct Unsent {
    text: String,
    kind: Kind,
    base: Base,
    flushable: bool,
    dated: bool,
    refused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Named,
    Superseded,
    Removed,
}

#[derive(Clone, Debug)]
struct Node {
    key: Key,
    standing: Standing,
    base: Base,
    content: String,
    unsent: Option<Unsent>,
    opens: u32,
    writers: u32,
    /// A text that was dropped while the file was open: who reads on may see it still.
    dropped: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Handle {
    ino: Ino,
    pub write: bool,
    pub append: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Flushable,
    Closed,
    All,
}

enum Verdict {
    Replace(String),
    Remove,
    Nothing,
}

struct Wish {
    key: Key,
    base: Base,
    what: What,
    keeps_unseen: bool,
}

enum What {
    Whole(String),
    Edit(String),
    Append(String),
    Times,
    Remove,
}

#[derive(Default)]
pub struct Reference {
    keeps_unseen: bool,
    pub service: Service,
    pub parked: BTreeSet<Parked>,
    /// It was made here, and has no record yet.
    made: bool,
    life: u32,
    nodes: Vec<Node>,
    names: BTreeMap<Key, Ino>,
    shown: BTreeMap<Key, Base>,
    pub handles: [Option<Handle>; SLOTS as usize],
}

type Outcome<T> = Result<T, i32>;

impl Reference {
    pub fn new(keeps_unseen: bool) -> Self {
        Self {
            keeps_unseen,
            ..Self::default()
        }
    }

    // What other clients do.

    pub fn set(&mut self, key: Key, value: String) {
        self.service.count += 1;
        self.service.exists = true;
        self.made = false;
        let count = self.service.count;
        self.service.records.insert(key, Record { value, count });
    }

    pub fn remove(&mut self, key: Key) {
        self.service.count += 1;
        self.service.records.remove(&key);
    }

    pub fn delete(&mut self) {
        self.service.count += 1;
        self.service.exists = false;
        self.service.records.clear();
        self.life += 1;
        self.lose_names();
    }

    /// The daemon is killed.
    pub fn kill(&mut self) {
        self.lose_names();
        self.shown.clear();
        self.made = false;
        self.handles = Default::default();
    }

    fn lose_names(&mut self) {
        for ino in std::mem::take(&mut self.names).into_values() {
            self.nodes[ino].standing = Standing::Superseded;
        }
    }

    // What is to be seen.

    /// Whether there is a directory.
    pub fn exists(&self) -> bool {
        self.service.exists || self.made
    }

    /// The files in the directory and what they hold.
    pub fn files(&self) -> BTreeMap<Key, String> {
        let records = self.service.records.iter();
        let mut files: BTreeMap<Key, String> = records
            .map(|(key, record)| (*key, record.value.clone()))
            .collect();
        for (key, ino) in &self.names {
            if self.nodes[*ino].unsent.is_some() {
                files.insert(*key, self.text(*ino).to_owned());
            }
        }
        files
    }

    /// Whether reading a file now shows nothing that was not shown before.
    pub fn is_shown(&self, key: Key) -> bool {
        let record = self.service.records.get(&key);
        let dirty = self.names.get(&key).and_then(|ino| {
            let unsent = self.nodes[*ino].unsent.as_ref()?;
            Some(unsent.kind != Kind::Times)
        });
        let current = record.map(|record| self.current(record));
        dirty.unwrap_or(self.shown.get(&key).copied() == current)
    }

    /// What an open file shows; None if its text was dropped under it.
    pub fn open_text(&self, slot: u8) -> Option<&str> {
        let ino = self.handles[usize::from(slot)]?.ino;
        (!self.nodes[ino].dropped).then(|| self.text(ino))
    }

    /// Whether the name of an open file leads to it.
    pub fn is_named(&self, handle: Handle) -> bool {
        self.nodes[handle.ino].standing == Standing::Named
    }

    pub fn open_key(&self, slot: u8) -> Option<Key> {
        self.handles[usize::from(slot)].map(|handle| self.nodes[handle.ino].key)
    }

    /// Lets go the versions that the service has again, as listing them does.
    pub fn list_parked(&mut self) {
        let records = &self.service.records;
        self.parked.retain(|(key, _, _, text)| {
            records.get(key).is_none_or(|record| record.value != *text)
        });
    }

    fn text(&self, ino: Ino) -> &str {
        let node = &self.nodes[ino];
        match &node.unsent {
            Some(unsent) if unsent.kind != Kind::Times => &unsent.text,
            _ => &node.content,
        }
    }

    fn current(&self, record: &Record) -> Base {
        Base {
            life: self.life,
            count: Some(record.count),
        }
    }

    fn absent(&self) -> Base {
        Base {
            life: self.life,
            count: None,
        }
    }

    // Names.

    fn lookup(&mut self, key: Key) -> Outcome<Ino> {
        if !self.exists() {
            return Err(libc::ENOENT);
        }
        let known = self.names.get(&key).copied();
        if let Some(ino) = known.filter(|ino| self.nodes[*ino].unsent.is_some()) {
            return Ok(ino);
        }
        let Some(record) = self.service.records.get(&key).cloned() else {
            if let Some(ino) = known {
                self.supersede(ino);
            }
            return Err(libc::ENOENT);
        };
        let base = self.current(&record);
        if let Some(ino) = known.filter(|ino| self.nodes[*ino].base == base) {
            return Ok(ino);
        }
        Ok(self.insert(key, base, record.value))
    }

    fn insert(&mut self, key: Key, base: Base, content: String) -> Ino {
        if let Some(old) = self.names.get(&key) {
            self.supersede(*old);
        }
        self.nodes.push(Node {
            key,
            standing: Standing::Named,
            base,
            content,
            unsent: None,
            opens: 0,
            writers: 0,
            dropped: false,
        });
        self.names.insert(key, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    fn supersede(&mut self, ino: Ino) {
        let node = &mut self.nodes[ino];
        if node.standing == Standing::Named {
            node.standing = Standing::Superseded;
            self.names.remove(&node.key);
        }
    }

    /// Looks every name up, as listing the directory does.
    pub fn look(&mut self) {
        for key in 0..super::ops::KEYS.len() as u8 {
            let _ = self.lookup(key);
        }
    }

    fn base_at(&self, ino: Ino) -> Base {
        let node = &self.nodes[ino];
        match node.standing {
            Standing::Named => self.shown.get(&node.key).copied().unwrap_or(node.base),
            Standing::Superseded | Standing::Removed => node.base,
        }
    }

    // What is done here, by name.

    pub fn mkdir(&mut self) -> Outcome<()> {
        if self.exists() {
            return Err(libc::EEXIST);
        }
        self.made = true;
        Ok(())
    }

    pub fn rmdir(&mut self) -> Outcome<()> {
        if !self.exists() {
            return Err(libc::ENOENT);
        }
        let dirty = |node: &Node| node.unsent.is_some() && node.standing == Standing::Named;
        if !self.service.records.is_empty() || self.nodes.iter().any(dirty) {
            return Err(libc::ENOTEMPTY);
        }
        self.made = false;
        if self.service.exists {
            self.delete();
        }
        Ok(())
    }

    /// Returns the new size, which is one within the file, and the outcome.
    pub fn cut(&mut self, key: Key, size: u8) -> (u64, Outcome<()>) {
        let ino = match self.lookup(key) {
            Ok(ino) => ino,
            Err(error) => return (0, Err(error)),
        };
        let size = usize::from(size) % (self.text(ino).len() + 1);
        self.truncate(ino, size, true);
        (size as u64, self.send_at_once(ino))
    }

    pub fn touch(&mut self, key: Key) -> Outcome<()> {
        let ino = self.lookup(key)?;
        let unsent = self.begin_times(ino);
        touched(unsent);
        unsent.dated = true;
        self.send_at_once(ino)
    }

    fn send_at_once(&mut self, ino: Ino) -> Outcome<()> {
        if self.nodes[ino].writers > 0 {
            return Ok(());
        }
        let sent = self.push(ino, Extent::Closed);
        if sent.is_err() {
            self.park(ino);
            self.discard(ino);
        }
        sent.map_err(|_| libc::EBUSY)
    }

    pub fn unlink(&mut self, key: Key) -> Outcome<()> {
        let ino = self.lookup(key)?;
        let base = match &self.nodes[ino].unsent {
            Some(unsent) => unsent.base,
            None => self.base_at(ino),
        };
        if self.nodes[ino].base.count.is_some() {
            let wish = Wish {
                key,
                base,
                what: What::Remove,
                keeps_unseen: self.keeps_unseen,
            };
            self.update(vec![wish]).map_err(|_| libc::EBUSY)?;
        }
        self.shown.remove(&key);
        self.names.remove(&key);
        self.remove_node(ino);
        Ok(())
    }

    fn remove_node(&mut self, ino: Ino) {
        let node = &mut self.nodes[ino];
        node.standing = Standing::Removed;
        if node.opens == 0 {
            node.unsent = None;
        }
    }

    pub fn rename(&mut self, from: Key, to: Key, replaces: bool) -> Outcome<()> {
        let source = self.lookup(from)?;
        let target = self.lookup(to).ok();
        if target.is_some() && !replaces {
            return Err(libc::EEXIST);
        }
        if from == to {
            return Ok(());
        }
        let begun = |node: &Node| node.unsent.as_ref().map(|unsent| unsent.base);
        let base = |ino: Ino| begun(&self.nodes[ino]).unwrap_or_else(|| self.base_at(ino));
        let value = self.text(source).to_owned();
        let mut wishes = vec![Wish {
            key: to,
            base: target.map_or(self.absent(), base),
            what: What::Whole(value.clone()),
            keeps_unseen: self.keeps_unseen && replaces,
        }];
        if self.nodes[source].base.count.is_some() {
            wishes.push(Wish {
                key: from,
                base: base(source),
                what: What::Remove,
                keeps_unseen: self.keeps_unseen,
            });
        }
        self.update(wishes).map_err(|_| libc::EBUSY)?;
        if let Some(target) = target {
            self.remove_node(target);
        }
        self.shown.remove(&from);
        self.names.remove(&from);
        self.names.insert(to, source);
        let landed = self.current(&self.service.records[&to]);
        let node = &mut self.nodes[source];
        node.key = to;
        node.unsent = None;
        node.base = landed;
        node.content = value;
        self.shown.insert(to, landed);
        Ok(())
    }
}

fn touched(unsent: &mut Unsent) {
    unsent.flushable = true;
    unsent.dated = false;
    unsent.refused = false;
}
