//! From our types to the kernel's and back.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::UNIX_EPOCH;

use fuser::{FileAttr, FopenFlags, INodeNo, OpenAccMode, OpenFlags};

use crate::fs::{Attr, EntryNode, FileType, Opened};

pub(super) fn open_flags(flags: OpenFlags) -> crate::fs::OpenFlags {
    let mode = flags.acc_mode();
    crate::fs::OpenFlags {
        read: mode != OpenAccMode::O_WRONLY,
        write: mode != OpenAccMode::O_RDONLY,
        append: flags.0 & libc::O_APPEND != 0,
        truncate: flags.0 & libc::O_TRUNC != 0,
        exclusive: flags.0 & libc::O_EXCL != 0,
    }
}

/// A record's inode is one version, so what the kernel has cached of it stays right. Only a
/// writable handle has something to flush.
pub(super) fn fopen_flags(opened: &Opened) -> FopenFlags {
    let cache = match opened.direct {
        true => FopenFlags::FOPEN_DIRECT_IO,
        false => FopenFlags::FOPEN_KEEP_CACHE,
    };
    match opened.writable {
        true => cache,
        false => cache | FopenFlags::FOPEN_NOFLUSH,
    }
}

/// Returns an entry's inode number; one that was not looked up shows a number made of its name.
pub(super) fn entry_number(parent: INodeNo, name: &str, node: EntryNode) -> INodeNo {
    match node {
        EntryNode::Entry(entry) => INodeNo(entry.attr.ino),
        EntryNode::Known(ino) => INodeNo(ino),
        EntryNode::Unknown => {
            let mut hasher = DefaultHasher::new();
            (parent.0, name).hash(&mut hasher);
            INodeNo(hasher.finish() | 1 << 63)
        }
    }
}

pub(super) fn file_type(file_type: FileType) -> fuser::FileType {
    match file_type {
        FileType::Directory => fuser::FileType::Directory,
        FileType::Regular => fuser::FileType::RegularFile,
    }
}

pub(super) fn attr_of_type(ino: INodeNo, kind: FileType) -> FileAttr {
    FileAttr {
        ino,
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: file_type(kind),
        perm: 0,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        size: attr.size,
        blocks: attr.size.div_ceil(512),
        atime: attr.modified,
        mtime: attr.modified,
        ctime: attr.changed,
        crtime: attr.changed,
        perm: attr.mode,
        nlink: match attr.file_type {
            FileType::Directory => 2,
            FileType::Regular => 1,
        },
        uid: attr.uid,
        gid: attr.gid,
        ..attr_of_type(INodeNo(attr.ino), attr.file_type)
    }
}
