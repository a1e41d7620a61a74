//! Why a journal, or the file of kept versions, cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, ffi};

use super::reserve;

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("{}: cannot be used", path.display())]
    File { path: PathBuf, source: io::Error },
    /// Another mount of the same source has not ended.
    #[error("{}: in use by another mount of this source; unmount that one, or give this one another state= directory", .0.display())]
    Locked(PathBuf),
    /// What others hold for a moment only was not free in time.
    #[error("{}: another process of cognitofs holds it for too long", .0.display())]
    Busy(PathBuf),
    #[error("{}: is not a journal of cognitofs, or one of a newer version", .0.display())]
    Foreign(PathBuf),
    #[error("{}: is damaged; move it away to mount without the changes and versions it holds", path.display())]
    Damaged {
        path: PathBuf,
        source: rusqlite::Error,
    },
    /// A part of the file that cannot be read stays in it.
    #[error("{}: a change in it cannot be read, and stays there: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    /// There is no room, or none for this user.
    #[error("the disk is full")]
    Full(#[source] rusqlite::Error),
    /// The little that is left is for what became of changes that were taken before.
    #[error("{} MiB cannot be set aside on the disk, which the journal needs", reserve::BYTES >> 20)]
    NoRoom,
    /// It was not noted, and is not remembered.
    #[error("the disk is full, and too much waits for room on it")]
    TooMuch,
    #[error("the journal cannot be read or written")]
    Database(#[source] rusqlite::Error),
    /// Only a process that is simulated can ask after its end.
    #[error("the process has ended")]
    Ended,
}

impl From<rusqlite::Error> for JournalError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(error),
            _ => Self::Database(error),
        }
    }
}

impl JournalError {
    pub(super) fn file(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::File { path, source }
    }

    /// Does what [`of`](Self::of) does for an error of a connection that was not used since. SQLite
    /// itself says "full" only where there is no room for anybody, and not of a quota.
    pub(super) fn by(connection: &Connection, path: &Path, error: rusqlite::Error) -> Self {
        // SAFETY: the connection is open.
        let number = unsafe { ffi::sqlite3_system_errno(connection.handle()) };
        match error.sqlite_error_code() {
            Some(ErrorCode::SystemIoFailure) if is_full(number) => Self::Full(error),
            _ => Self::of(path, error),
        }
    }

    /// Returns whether there was no room on the disk.
    pub(in crate::store) fn is_full(&self) -> bool {
        match self {
            Self::Full(_) | Self::NoRoom | Self::TooMuch => true,
            Self::File { source, .. } => source.raw_os_error().is_some_and(is_full),
            Self::Locked(_)
            | Self::Busy(_)
            | Self::Ended
            | Self::Foreign(_)
            | Self::Damaged { .. }
            | Self::Unreadable { .. }
            | Self::Database(_) => false,
        }
    }

    /// Names the file in an error that SQLite tells about its content.
    pub(super) fn of(path: &Path, error: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::Damaged {
                path,
                source: error,
            },
            Some(ErrorCode::DatabaseBusy) => Self::Busy(path),
            _ => error.into(),
        }
    }
}

/// Returns whether an error of the system is about room on the disk.
fn is_full(number: i32) -> bool {
    [libc::ENOSPC, libc::EDQUOT].contains(&number)
}
