//! What can go wrong with a file, by what its user is told.

use crate::store;

/// Why an operation failed. [`errno`](super::errno) has its number.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("no such file or directory")]
    NotFound,
    #[error("it exists already")]
    Exists,
    #[error("not a directory")]
    NotADirectory,
    #[error("is a directory")]
    IsADirectory,
    #[error("not empty")]
    NotEmpty,
    /// Something that the service has no room for, such as a directory in a dataset.
    #[error("{0}")]
    NotPermitted(&'static str),
    /// Something that this file system keeps from everybody.
    #[error("{0}")]
    Forbidden(&'static str),
    #[error("rename and hard links stay within one dataset")]
    CrossesDatasets,
    #[error("a file name has at most 255 bytes")]
    NameTooLong,
    #[error("the name is not UTF-8")]
    NameNotText,
    #[error("{0}")]
    BadName(&'static str),
    #[error("the text is not UTF-8, and the service stores text only")]
    NotText,
    #[error("the value is not Unicode text")]
    Unreadable,
    #[error("more than 1,048,575 characters")]
    TooBig,
    /// The version that was opened is not the current one any more.
    #[error("changed elsewhere since it was looked up")]
    Superseded,
    /// A change of the content met a newer version.
    #[error("changed elsewhere since it was shown here; read it again first")]
    Stale(#[source] store::Error),
    /// A removal, a rename or a change of attributes met a newer version.
    #[error("changed elsewhere since it was shown here; read it again first")]
    Busy(#[source] store::Error),
    #[error("{0}")]
    Invalid(&'static str),
    /// The last writer closed a file that could not be sent.
    #[error(
        "not sent: what was written is kept in .cognito/parked, the file shows the service's value"
    )]
    Parked,
    /// The mount ended before a file was closed, or before what was closed could be sent.
    #[error("the mount ended before it could be sent")]
    Ended,
    #[error("the handle is not open")]
    BadHandle,
    #[error(transparent)]
    Store(store::Error),
}

impl Error {
    /// Returns what was wrong, with all causes, in one line.
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }

    /// Takes an error of a path operation: one the kernel would repeat after ESTALE, and succeed
    /// on a version nobody saw.
    pub(super) fn of_path(error: store::Error) -> Self {
        match error.kind() {
            store::ErrorKind::Stale => Self::Busy(error),
            _ => error.into(),
        }
    }
}

impl From<store::ErrorKind> for Error {
    fn from(kind: store::ErrorKind) -> Self {
        store::Error::from(kind).into()
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error.kind() {
            store::ErrorKind::Stale => Self::Stale(error),
            store::ErrorKind::NotFound
            | store::ErrorKind::Denied
            | store::ErrorKind::Unauthenticated
            | store::ErrorKind::NotEmpty
            | store::ErrorKind::Quota
            | store::ErrorKind::TooBig
            | store::ErrorKind::NotText
            | store::ErrorKind::Invalid
            | store::ErrorKind::NoSpace
            | store::ErrorKind::Throttled
            | store::ErrorKind::TimedOut
            | store::ErrorKind::Unreachable
            | store::ErrorKind::Failed => Self::Store(error),
        }
    }
}
