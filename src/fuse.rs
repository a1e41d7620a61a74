//! The kernel's door: takes a request, calls `fs`, replies, and logs a failure once.
//!
//! A request that memory can answer is answered on the thread that read it; one that must wait
//! becomes a task, so that a slow call holds up nobody else. Nothing here may panic, and what
//! panics all the same costs one request an EIO.

mod convert;

use std::ffi::OsStr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite,
    Request, TimeOrNow, WriteFlags,
};
use futures_util::FutureExt;

use self::convert::{attr_of_type, entry_number, file_attr, file_type, fopen_flags, open_flags};
use crate::fs::{
    Answering, Entry, EntryNode, Error, Failure, FileSystem, FileType, Found, Ino, NAME_MAX,
    RenameMode, SetAttr, errno,
};

/// Answers the kernel's requests from a [`FileSystem`].
#[derive(Clone, Debug)]
pub struct Adapter {
    fs: Arc<FileSystem>,
    runtime: tokio::runtime::Handle,
}

impl Adapter {
    pub fn new(fs: Arc<FileSystem>, runtime: tokio::runtime::Handle) -> Self {
        Self { fs, runtime }
    }

    /// Answers a request now if it can be, else in a task of its own.
    fn answer(&self, future: impl Future<Output = ()> + Send + 'static) {
        let _context = self.runtime.enter();
        let mut future = Box::pin(AssertUnwindSafe(future).catch_unwind());
        match future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => tracing::error!("an operation panicked"),
            Poll::Pending => {
                self.runtime.spawn(future.map(|ended| {
                    if ended.is_err() {
                        tracing::error!("an operation panicked");
                    }
                }));
            }
        }
    }
}

/// Requests that change nothing: the end of the mount does not wait for them.
const READING: &[&str] = &[
    "lookup",
    "getattr",
    "open",
    "read",
    "opendir",
    "readdir",
    "readdirplus",
    "releasedir",
    "statfs",
];

/// One request, for the log.
struct Operation {
    fs: Arc<FileSystem>,
    name: &'static str,
    ino: Ino,
    child: Option<String>,
    begun: Instant,
    _answering: Option<Answering>,
}

impl Drop for Operation {
    fn drop(&mut self) {
        self.fs.note_duration(self.begun.elapsed());
    }
}

impl Operation {
    fn new(adapter: &Adapter, name: &'static str, ino: INodeNo) -> Self {
        tracing::trace!(operation = name, ino = ino.0);
        Self {
            fs: adapter.fs.clone(),
            name,
            ino: ino.0,
            child: None,
            begun: Instant::now(),
            _answering: (!READING.contains(&name)).then(|| adapter.fs.answering()),
        }
    }

    /// Takes a name, which must be UTF-8.
    fn named(mut self, child: &OsStr) -> (Self, Result<String, Error>) {
        let name = child.to_str().map(str::to_owned);
        self.child = Some(child.to_string_lossy().into_owned());
        (self, name.ok_or(Error::NameNotText))
    }

    /// Logs a failure and returns its number.
    fn fail(&self, error: &Error) -> Errno {
        let number = errno(error);
        let path = self.fs.path(self.ino, self.child.as_deref());
        let reason = error.with_causes();
        if is_everyday(error) {
            tracing::debug!(operation = self.name, path, number, "{reason}");
        } else {
            tracing::warn!(operation = self.name, path, errno = number, "{reason}");
            self.fs.note_failure(Failure {
                at: SystemTime::now(),
                operation: self.name,
                path,
                errno: number,
                reason,
            });
        }
        Errno::from(std::io::Error::from_raw_os_error(number))
    }
}

/// What programs ask for all the time and handle themselves.
fn is_everyday(error: &Error) -> bool {
    matches!(
        error,
        Error::NotFound
            | Error::Exists
            | Error::NotEmpty
            | Error::NotADirectory
            | Error::IsADirectory
            | Error::CrossesDatasets
            | Error::Superseded
    )
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        for wanted in [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
        ] {
            if config.add_capabilities(wanted).is_err() {
                tracing::debug!(?wanted, "the kernel does not offer it");
            }
        }
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (operation, name) = Operation::new(self, "lookup", parent).named(name);
        self.answer(async move {
            let found = async { operation.fs.lookup(parent.0, &name?).await }.await;
            match found {
                Ok(Found::Entry(entry)) => reply_entry(reply, &entry),
                Ok(Found::Nothing(ttl)) if ttl > Duration::ZERO => {
                    // Inode 0 lets the kernel remember that there is nothing.
                    let nothing = attr_of_type(INodeNo(0), FileType::Regular);
                    reply.entry(&ttl, &nothing, Generation(0));
                }
                Ok(Found::Nothing(_)) => reply.error(Errno::ENOENT),
                Err(error) => reply.error(operation.fail(&error)),
            }
        });
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.fs.forget(ino.0, nlookup);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let operation = Operation::new(self, "getattr", ino);
        match self.fs.getattr(ino.0) {
            Ok((attr, ttl)) => reply.attr(&ttl, &file_attr(&attr)),
            Err(error) => reply.error(operation.fail(&error)),
        }
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let operation = Operation::new(self, "setattr", ino);
        let wanted = SetAttr {
            size,
            modified: mtime.map(|mtime| match mtime {
                TimeOrNow::SpecificTime(time) => time,
                TimeOrNow::Now => SystemTime::now(),
            }),
            handle: fh.map(|fh| fh.0),
        };
        self.answer(async move {
            match operation.fs.setattr(ino.0, wanted).await {
                Ok(attr) => reply.attr(&operation.fs.ttl(), &file_attr(&attr)),
                Err(error) => reply.error(operation.fail(&error)),
            }
        });
    }

    fn mknod(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        let (operation, _) = Operation::new(self, "mknod", parent).named(name);
        let error = Error::NotPermitted("records are regular files");
        reply.error(operation.fail(&error));
    }

    fn mkdir(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let (operation, name) = Operation::new(self, "mkdir", parent).named(name);
        self.answer(async move {
            let made = async { operation.fs.mkdir(parent.0, &name?).await }.await;
            match made {
                Ok(entry) => reply_entry(reply, &entry),
                Err(error) => reply.error(operation.fail(&error)),
            }
        });
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (operation, name) = Operation::new(self, "unlink", parent).named(name);
        self.answer(async move {
            let removed = async { operation.fs.unlink(parent.0, &name?).await }.await;
            reply_empty(reply, &operation, removed);
        });
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (operation, name) = Operation::new(self, "rmdir", parent).named(name);
        self.answer(async move {
            let removed = async { operation.fs.rmdir(parent.0, &name?).await }.await;
            reply_empty(reply, &operation, removed);
        });
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (operation, name) = Operation::new(self, "rename", parent).named(name);
        let new_name = newname
            .to_str()
            .map(str::to_owned)
            .ok_or(Error::NameNotText);
        let mode = if flags.is_empty() {
            Ok(RenameMode::Replace)
        } else if flags == RenameFlags::RENAME_NOREPLACE {
            Ok(RenameMode::NoReplace)
        } else if flags == RenameFlags::RENAME_EXCHANGE {
            Ok(RenameMode::Exchange)
        } else {
            Err(Error::Invalid("this rename is not supported"))
        };
        self.answer(async move {
            let renamed = async {
                let (name, new_name, mode) = (name?, new_name?, mode?);
                let fs = &operation.fs;
                fs.rename(parent.0, &name, newparent.0, &new_name, mode)
                    .await
            };
            let renamed = renamed.await;
            reply_empty(reply, &operation, renamed);
        });
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let operation = Operation::new(self, "open", ino);
        self.answer(async move {
            match operation.fs.open(ino.0, open_flags(flags)).await {
                Ok(opened) => {
                    reply.opened(FileHandle(opened.handle), fopen_flags(&opened));
                }
                Err(error) => reply.error(operation.fail(&error)),
            }
        });
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (operation, name) = Operation::new(self, "create", parent).named(name);
        self.answer(async move {
            let flags = open_flags(OpenFlags(flags));
            let created = async { operation.fs.create(parent.0, &name?, flags).await }.await;
            match created {
                Ok((entry, opened)) => reply.created(
                    &entry.ttl,
                    &file_attr(&entry.attr),
                    Generation(0),
                    FileHandle(opened.handle),
                    fopen_flags(&opened),
                ),
                Err(error) => reply.error(operation.fail(&error)),
            }
        });
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let operation = Operation::new(self, "read", ino);
        match self.fs.read(ino.0, fh.0, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(operation.fail(&error)),
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let operation = Operation::new(self, "write", ino);
        let mapped = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        match self.fs.write(ino.0, fh.0, offset, data, mapped) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(error) => reply.error(operation.fail(&error)),
        }
    }

    fn flush(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let operation = Operation::new(self, "flush", ino);
        self.answer(async move {
            let flushed = operation.fs.flush(ino.0, fh.0).await;
            reply_empty(reply, &operation, flushed);
        });
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let operation = Operation::new(self, "release", ino);
        self.answer(async move {
            let released = operation.fs.release(fh.0).await;
            reply_empty(reply, &operation, released);
        });
    }

    fn fsync(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let operation = Operation::new(self, "fsync", ino);
        self.answer(async move {
            let synced = operation.fs.fsync(ino.0, fh.0).await;
            reply_empty(reply, &operation, synced);
        });
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let operation = Operation::new(self, "opendir", ino);
        self.answer(async move {
            match operation.fs.opendir(ino.0).await {
                Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
                Err(error) => reply.error(operation.fail(&error)),
            }
        });
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let operation = Operation::new(self, "readdir", ino);
        self.answer(async move {
            match operation.fs.readdir(ino.0, fh.0, offset, false).await {
                Ok(entries) => {
                    for entry in entries {
                        let number = entry_number(ino, &entry.name, entry.node);
                        let kind = file_type(entry.file_type);
                        if reply.add(number, entry.next_offset, kind, &entry.name) {
                            break;
                        }
                    }
                    reply.ok();
                }
                Err(error) => reply.error(operation.fail(&error)),
            }
        });
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let operation = Operation::new(self, "readdirplus", ino);
        self.answer(async move {
            let entries = match operation.fs.readdir(ino.0, fh.0, offset, true).await {
                Ok(entries) => entries,
                Err(error) => return reply.error(operation.fail(&error)),
            };
            let mut full = false;
            for entry in entries {
                let (attr, ttl) = match entry.node {
                    EntryNode::Entry(found) => (file_attr(&found.attr), found.ttl),
                    // The kernel takes `.` and `..` for names only.
                    EntryNode::Known(ino) => {
                        let attr = attr_of_type(INodeNo(ino), entry.file_type);
                        (attr, Duration::ZERO)
                    }
                    EntryNode::Unknown => continue,
                };
                full = full
                    || reply.add(
                        attr.ino,
                        entry.next_offset,
                        &entry.name,
                        &ttl,
                        &attr,
                        Generation(0),
                    );
                if full && matches!(entry.node, EntryNode::Entry(_)) {
                    operation.fs.forget(attr.ino.0, 1);
                }
            }
            reply.ok();
        });
    }

    fn releasedir(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let _operation = Operation::new(self, "releasedir", ino);
        self.fs.releasedir(fh.0);
        reply.ok();
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let operation = Operation::new(self, "fsyncdir", ino);
        self.answer(async move {
            let synced = operation.fs.sync(ino.0).await;
            reply_empty(reply, &operation, synced);
        });
    }

    fn statfs(&self, _req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let operation = Operation::new(self, "statfs", ino);
        self.answer(async move {
            match operation.fs.statfs(ino.0).await {
                Ok(usage) => {
                    let free = usage.total_bytes - usage.used_bytes;
                    let free_records = usage.total_records - usage.used_records;
                    // Blocks of one byte: a dataset's quota is counted in bytes.
                    reply.statfs(
                        usage.total_bytes,
                        free,
                        free,
                        usage.total_records,
                        free_records,
                        1,
                        NAME_MAX as u32,
                        1,
                    );
                }
                Err(error) => reply.error(operation.fail(&error)),
            }
        });
    }
}

fn reply_entry(reply: ReplyEntry, entry: &Entry) {
    reply.entry(&entry.ttl, &file_attr(&entry.attr), Generation(0));
}

fn reply_empty(reply: ReplyEmpty, operation: &Operation, result: Result<(), Error>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(operation.fail(&error)),
    }
}
