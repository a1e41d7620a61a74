//! The only map from an error to its errno: exhaustive, no wildcard, and the same table stands in
//! `man/cognitofs.7`.

use super::error::Error;
use crate::store::ErrorKind;

/// Returns the errno for an error.
pub fn errno(error: &Error) -> i32 {
    match error {
        Error::NotFound => libc::ENOENT,
        Error::Exists => libc::EEXIST,
        Error::NotADirectory => libc::ENOTDIR,
        Error::IsADirectory => libc::EISDIR,
        Error::NotEmpty => libc::ENOTEMPTY,
        Error::NotPermitted(_) => libc::EPERM,
        Error::Forbidden(_) => libc::EACCES,
        Error::CrossesDatasets => libc::EXDEV,
        Error::NameTooLong => libc::ENAMETOOLONG,
        Error::NameNotText | Error::NotText | Error::Unreadable => libc::EILSEQ,
        Error::BadName(_) | Error::Invalid(_) => libc::EINVAL,
        Error::TooBig => libc::EFBIG,
        Error::Superseded | Error::Stale(_) => libc::ESTALE,
        Error::Busy(_) => libc::EBUSY,
        Error::Parked | Error::Ended => libc::EIO,
        Error::BadHandle => libc::EBADF,
        Error::Store(error) => match error.kind() {
            ErrorKind::NotFound => libc::ENOENT,
            ErrorKind::Denied | ErrorKind::Unauthenticated => libc::EACCES,
            ErrorKind::Stale => libc::ESTALE,
            ErrorKind::NotEmpty => libc::ENOTEMPTY,
            ErrorKind::Quota => libc::EDQUOT,
            ErrorKind::TooBig => libc::EFBIG,
            ErrorKind::NotText => libc::EILSEQ,
            ErrorKind::Invalid => libc::EINVAL,
            ErrorKind::NoSpace => libc::ENOSPC,
            ErrorKind::Throttled => libc::EAGAIN,
            ErrorKind::TimedOut => libc::ETIMEDOUT,
            ErrorKind::Unreachable => libc::EHOSTUNREACH,
            ErrorKind::Failed => libc::EIO,
        },
    }
}
