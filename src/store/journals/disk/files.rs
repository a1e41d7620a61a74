//! Files that are their owner's alone, in directories that are too.
//!
//! Invariant: a file has mode 0600 before its first byte, and no link is followed to one.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

#[cfg(test)]
use super::super::tests::recorded::{self as watched, Change};

/// What is changed without SQLite. Only the tests of crashes want to know.
#[cfg(not(test))]
mod watched {
    use std::path::Path;

    pub(super) enum Change {
        Make,
        Remove,
        Sync,
    }

    pub(super) fn tell(_: &Path, _: Change) {}
}
#[cfg(not(test))]
use watched::Change;

/// What SQLite keeps beside a database.
pub(super) const SIDES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Opens a file, made if it was not there.
pub(in crate::store) fn private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    tighten_open(&file, |mode| file.set_permissions(mode))?;
    Ok(file)
}

/// Locks a file, made if it was not there, unless somebody else has it. The lock lasts as long as
/// the file is open, at most as long as the process.
pub(in crate::store) fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = private(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Makes an empty file for a database. Returns false if something of that name is there.
pub(super) fn make_database(path: &Path) -> io::Result<bool> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Ok(_) => {
            watched::tell(path, Change::Make);
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes from others what they may do with a database and the files beside it. Returns whether the
/// database is there.
pub(super) fn tighten_database(path: &Path) -> io::Result<bool> {
    for side in SIDES {
        tighten(&beside(path, side))?;
    }
    tighten(path)
}

/// Returns whether the file is there.
fn tighten(path: &Path) -> io::Result<bool> {
    // An ordinary descriptor would, when it is closed, take away the locks that SQLite has on the
    // file elsewhere in this process.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let same = format!("/proc/self/fd/{}", file.as_raw_fd());
    tighten_open(&file, |mode| fs::set_permissions(same, mode))?;
    Ok(true)
}

fn tighten_open(file: &File, set: impl FnOnce(Permissions) -> io::Result<()>) -> io::Result<()> {
    let metadata = expect_regular(file)?;
    if metadata.permissions().mode() & 0o177 != 0 {
        set(Permissions::from_mode(0o600))?;
    }
    Ok(())
}

pub(super) fn expect_regular(file: &File) -> io::Result<Metadata> {
    let metadata = file.metadata()?;
    match metadata.is_file() {
        true => Ok(metadata),
        false => {
            let told = "it is no regular file";
            Err(io::Error::new(io::ErrorKind::InvalidInput, told))
        }
    }
}

/// Makes a directory unless it is there.
pub(super) fn private_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return path.parent().map_or(Ok(()), sync_directory),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let directory = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(path)?;
    if directory.metadata()?.permissions().mode() & 0o077 != 0 {
        directory.set_permissions(Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Has the names in a directory survive a power cut.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    watched::tell(path, Change::Sync);
    Ok(())
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => watched::tell(path, Change::Remove),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Names a file that lies beside another.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
