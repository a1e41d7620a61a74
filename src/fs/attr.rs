//! What `stat` and `df` show.

use std::time::{Duration, SystemTime};

use super::error::Error;
use super::inode::Ino;
use super::lookup::{FileSystem, ID_TTL};
use super::node::{Node, NodeKind, Standing};

/// A dataset's default quotas, <https://docs.aws.amazon.com/cognito/latest/developerguide/limits.html>.
const QUOTA_BYTES: u64 = 1024 * 1024;
const QUOTA_RECORDS: u64 = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    Directory,
    Regular,
}

/// What `stat` shows.
#[derive(Clone, Copy, Debug)]
pub struct Attr {
    pub ino: Ino,
    pub file_type: FileType,
    /// Bytes.
    pub size: u64,
    pub modified: SystemTime,
    pub changed: SystemTime,
    /// Permission bits.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
}

/// Whom files belong to, and who may use them.
#[derive(Clone, Copy, Debug)]
pub struct AttrOptions {
    pub uid: u32,
    pub gid: u32,
    /// Permission bits that are taken away.
    pub umask: u16,
}

impl AttrOptions {
    /// What is not stored anywhere has no size and one date.
    pub(super) fn fixed(&self, ino: Ino, file_type: FileType, mode: u16, at: SystemTime) -> Attr {
        Attr {
            mode: mode & !self.umask,
            ..self.attr(ino, file_type, 0, at, at)
        }
    }

    pub(super) fn attr(
        &self,
        ino: Ino,
        file_type: FileType,
        size: u64,
        modified: SystemTime,
        changed: SystemTime,
    ) -> Attr {
        let full = match file_type {
            FileType::Directory => 0o777,
            FileType::Regular => 0o666,
        };
        Attr {
            ino,
            file_type,
            size,
            modified,
            changed,
            mode: full & !self.umask,
            uid: self.uid,
            gid: self.gid,
        }
    }
}

/// What is to be changed of a file's attributes. Mode and owner are not stored.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// Bytes.
    pub size: Option<u64>,
    pub modified: Option<SystemTime>,
    /// The open file it came through (`ftruncate`), which a close will follow.
    pub handle: Option<u64>,
}

/// What `df` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceUsage {
    pub total_bytes: u64,
    pub used_bytes: u64,
    pub total_records: u64,
    pub used_records: u64,
}

impl SpaceUsage {
    /// What a dataset uses of the default quota.
    pub(super) fn of_dataset(bytes: usize, records: usize) -> Self {
        let (bytes, records) = (bytes as u64, records as u64);
        Self {
            total_bytes: QUOTA_BYTES.max(bytes),
            used_bytes: bytes,
            total_records: QUOTA_RECORDS.max(records),
            used_records: records,
        }
    }

    /// Above datasets there is no quota to speak of.
    pub(super) fn boundless() -> Self {
        Self {
            total_bytes: 1 << 50,
            used_bytes: 0,
            total_records: 1 << 40,
            used_records: 0,
        }
    }
}

impl FileSystem {
    /// Returns what `stat` shows, and how long it holds.
    ///
    /// # Errors
    /// [`Error::Superseded`] if a newer version has its name and nobody has this one open: then the
    /// kernel looks the name up again.
    pub fn getattr(&self, ino: Ino) -> Result<(Attr, Duration), Error> {
        let is_left = {
            let inodes = self.inodes();
            let record = inodes.record(ino);
            inodes.standing(ino) == Standing::Superseded
                && record.is_some_and(|record| record.opens == 0)
        };
        match is_left {
            true => Err(Error::Superseded),
            false => self.attr(ino),
        }
    }

    pub(super) fn attr(&self, ino: Ino) -> Result<(Attr, Duration), Error> {
        let inodes = self.inodes();
        let node = inodes.get(ino).ok_or(Error::Superseded)?;
        let ttl = match &node.kind {
            NodeKind::Region
            | NodeKind::Pool(_)
            | NodeKind::Identity(_)
            | NodeKind::ControlDirectory(_)
            | NodeKind::ParkedDirectory(_) => ID_TTL,
            NodeKind::ControlFile(_) => Duration::ZERO,
            NodeKind::Dataset(_) => self.store.options().ttl,
            NodeKind::Record(record) => record.dataset.freshness(),
        };
        Ok((self.attr_of(ino, node), ttl))
    }

    pub(super) fn attr_of(&self, ino: Ino, node: &Node) -> Attr {
        let (file_type, size, modified, changed) = match &node.kind {
            NodeKind::ControlDirectory(_) => {
                let mode = 0o555;
                return self
                    .attrs
                    .fixed(ino, FileType::Directory, mode, self.started);
            }
            NodeKind::ControlFile(file) => return file.attr(ino, &self.attrs, self.started),
            NodeKind::ParkedDirectory(_) => {
                let mode = 0o755;
                return self
                    .attrs
                    .fixed(ino, FileType::Directory, mode, self.started);
            }
            NodeKind::Region | NodeKind::Pool(_) | NodeKind::Identity(_) => {
                (FileType::Directory, 0, self.started, self.started)
            }
            NodeKind::Dataset(dataset) => {
                let modified = dataset.modified.map_or(self.started, Into::into);
                (FileType::Directory, 0, modified, modified)
            }
            NodeKind::Record(record) => {
                let (size, modified) = record.shown_size_and_time();
                let changed = match &record.unsent {
                    Some(unsent) => unsent.modified.max(record.changed),
                    None => record.changed,
                };
                let times = (modified.into(), changed.into());
                (FileType::Regular, size, times.0, times.1)
            }
        };
        self.attrs.attr(ino, file_type, size, modified, changed)
    }

    /// Returns what `df` shows: in a dataset its use of the default quota.
    pub async fn statfs(&self, ino: Ino) -> Result<SpaceUsage, Error> {
        let dataset = {
            let inodes = self.inodes();
            match inodes.get(ino).map(|node| &node.kind) {
                Some(NodeKind::Dataset(node)) => node.dataset.clone(),
                Some(NodeKind::Record(record)) => record.dataset.clone(),
                _ => return Ok(SpaceUsage::boundless()),
            }
        };
        self.refresh(&dataset, self.deadline()).await?;
        let (bytes, records) = dataset.usage();
        Ok(SpaceUsage::of_dataset(bytes, records))
    }
}
