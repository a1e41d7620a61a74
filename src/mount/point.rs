//! The directory that becomes the root of a mount, checked before anything else is tried.
//!
//! Invariant: a `MountPoint` is canonical, was a usable directory a moment ago, and carried no
//! mount of ours. Looking at it never hangs, whatever is mounted there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, eaccess, geteuid};

use super::MountError;
use super::os::{self, Entry};

/// How long a path may take to answer; a dead network mount never does.
const PATIENCE: Duration = Duration::from_secs(5);

/// More dead mounts than this on one another are left alone.
const MAX_DEAD: usize = 16;

/// A directory that can be mounted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint(PathBuf);

impl MountPoint {
    /// Checks the directory. A dead mount that a killed daemon left there is taken away first.
    pub fn prepare(path: &Path) -> Result<Self, MountError> {
        for _ in 0..MAX_DEAD {
            let place = Place::find(path)?;
            match (&place.mount, place.state) {
                (Some(mount), State::Dead) if mount.is_cognitofs() => {
                    tracing::info!("replacing a dead mount at {}", place.path.display());
                    os::detach(&place.path).map_err(|error| MountError::Dead {
                        path: place.path.clone(),
                        why: error.to_string(),
                    })?;
                }
                (Some(mount), _) if mount.is_cognitofs() => {
                    return Err(MountError::AlreadyMounted {
                        path: place.path,
                        by: mount.source.to_string_lossy().into_owned(),
                    });
                }
                // Anything else that is mounted there, autofs above all, is mounted over.
                (_, State::Directory) => return place.usable(),
                (_, State::File) => return Err(MountError::NotDirectory(place.path)),
                (_, State::Dead) => {
                    return Err(MountError::Dead {
                        path: place.path,
                        why: "it is not ours: unmount it first".into(),
                    });
                }
                (_, State::Silent) => return Err(MountError::NoAnswer(place.path)),
                (_, State::Refused(errno)) => {
                    return Err(MountError::Unusable {
                        path: place.path,
                        why: errno.desc(),
                    });
                }
            }
        }
        Err(MountError::Dead {
            path: path.to_owned(),
            why: "too many lie on one another: unmount them first".into(),
        })
    }

    /// Returns the canonical path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// What lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Directory,
    File,
    /// A FUSE mount without a daemon.
    Dead,
    /// Does not answer.
    Silent,
    Refused(Errno),
}

/// A path as the kernel sees it, with what is mounted on it.
#[derive(Debug)]
pub struct Place {
    /// Canonical, as far as it could be found out.
    pub path: PathBuf,
    pub state: State,
    pub mount: Option<Entry>,
}

impl Place {
    /// Looks a path up, for at most a few seconds.
    pub fn find(path: &Path) -> Result<Self, MountError> {
        let absolute = std::path::absolute(path).map_err(MountError::System)?;
        let wanted = absolute.clone();
        let found = patiently(move || look(&wanted))?;
        let (path, state) = match found {
            None => (absolute, State::Silent),
            Some(Ok(found)) => found,
            Some(Err(Errno::ENOENT)) => return Err(MountError::Missing(absolute)),
            Some(Err(Errno::ENOTDIR)) => return Err(MountError::NotDirectory(absolute)),
            Some(Err(errno)) => (absolute, State::Refused(errno)),
        };
        let mount = os::topmost(&path).map_err(MountError::System)?;
        Ok(Self { path, state, mount })
    }

    fn usable(self) -> Result<MountPoint, MountError> {
        // Root's own path needs no permission; fusermount3 asks for both of anybody else.
        if !geteuid().is_root()
            && eaccess(
                &self.path,
                AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK,
            )
            .is_err()
        {
            return Err(MountError::Unusable {
                path: self.path,
                why: "you need write permission for a directory to mount on it",
            });
        }
        Ok(MountPoint(self.path))
    }
}

/// Runs `look` on a thread of its own and waits for it only a few seconds: the kernel may
/// hold that thread for ever.
pub fn patiently<T: Send + 'static>(
    look: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>, MountError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("look".into())
        .spawn(move || sender.send(look()))
        .map_err(MountError::System)?;
    Ok(receiver.recv_timeout(PATIENCE).ok())
}

fn look(path: &Path) -> Result<(PathBuf, State), Errno> {
    let canonical = match path.canonicalize() {
        Err(error) if errno(&error) == Errno::ENOTCONN => beside(path)?,
        result => result.map_err(|error| errno(&error))?,
    };
    let state = match os::ask(&canonical).map_err(|error| errno(&error)) {
        Ok(true) => State::Directory,
        Ok(false) => State::File,
        Err(Errno::ENOTCONN | Errno::ECONNABORTED) => State::Dead,
        Err(errno) => State::Refused(errno),
    };
    Ok((canonical, state))
}

/// Makes a path canonical without touching what lies at its end.
fn beside(path: &Path) -> Result<PathBuf, Errno> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::ENOTCONN);
    };
    let parent = parent.canonicalize().map_err(|error| errno(&error))?;
    Ok(parent.join(name))
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EIO as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_a_directory_that_exists() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::write(root.join("file"), "").unwrap();
        std::os::unix::fs::symlink(&root, root.join("link")).unwrap();

        assert_eq!(
            MountPoint::prepare(&root.join("link")).unwrap().path(),
            root
        );
        let missing = MountPoint::prepare(&root.join("none")).unwrap_err();
        assert!(matches!(missing, MountError::Missing(_)), "{missing}");
        for file in ["file", "file/below"] {
            let error = MountPoint::prepare(&root.join(file)).unwrap_err();
            assert!(matches!(error, MountError::NotDirectory(_)), "{error}");
        }
    }
}
