//! Where state lies on this machine: the default local store, and one directory a mount.
//!
//! Invariant: what is made here is its owner's alone (directories 0700, files 0600).

use std::env;
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::unistd::{User, geteuid};
use sha2::{Digest, Sha256};

use super::source::Source;

/// Why there is no place for state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("there is no home directory to keep state in: set HOME or STATE_DIRECTORY")]
    Homeless,
    #[error("the state directory {0} cannot be made: {1}")]
    Make(PathBuf, io::Error),
}

/// Returns the state directory, made if it was not there: `$STATE_DIRECTORY`, which systemd sets,
/// else `$XDG_STATE_HOME/cognitofs`, else `~/.local/state/cognitofs`, and for root without HOME
/// `/var/lib/cognitofs`.
pub fn state_directory() -> Result<PathBuf, StateError> {
    let root = geteuid().is_root();
    let path = locate(|name| env::var_os(name), root, passwd_home).ok_or(StateError::Homeless)?;
    make(path)
}

/// Returns the file that `local:` alone means.
pub fn default_store() -> Result<PathBuf, StateError> {
    Ok(state_directory()?.join("local.db"))
}

/// Returns the directory of one mount, made if it was not there: below `given`, else below the
/// [`state_directory`]. Only a local service has no `endpoint`: what is kept for one service is
/// never sent to another.
pub fn mount_directory(
    given: Option<&Path>,
    endpoint: &str,
    source: &Source,
) -> Result<PathBuf, StateError> {
    let state = match given {
        Some(given) => make(given.to_owned())?,
        None => state_directory()?,
    };
    let mut hash = Sha256::new();
    hash.update(endpoint);
    hash.update([0]);
    hash.update(source.to_string());
    let name: String = hash.finalize()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    make(state.join(name))
}

/// Returns the log of a mount's daemon.
pub fn log_file(mount_directory: &Path) -> PathBuf {
    mount_directory.join("daemon.log")
}

/// Returns the file that names the guest of a pool at an endpoint.
pub fn guest_file(mount_directory: &Path) -> PathBuf {
    mount_directory.join("guest")
}

fn make(path: PathBuf) -> Result<PathBuf, StateError> {
    match DirBuilder::new().recursive(true).mode(0o700).create(&path) {
        Ok(()) => Ok(path),
        Err(error) => Err(StateError::Make(path, error)),
    }
}

fn locate(
    variable: impl Fn(&str) -> Option<OsString>,
    root: bool,
    home: impl Fn() -> Option<PathBuf>,
) -> Option<PathBuf> {
    // The base directory specification has relative paths ignored.
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let given = |name| variable(name).map(PathBuf::from).and_then(absolute);
    // systemd separates several by colons; the first is ours.
    let first = |paths: OsString| env::split_paths(&paths).next();
    if let Some(path) = variable("STATE_DIRECTORY")
        .and_then(first)
        .and_then(absolute)
    {
        return Some(path);
    }
    if let Some(base) = given("XDG_STATE_HOME") {
        return Some(base.join("cognitofs"));
    }
    match given("HOME") {
        None if root => Some("/var/lib/cognitofs".into()),
        named => Some(named.or_else(home)?.join(".local/state/cognitofs")),
    }
}

fn passwd_home() -> Option<PathBuf> {
    User::from_uid(geteuid())
        .ok()
        .flatten()
        .map(|user| user.dir)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn located(variables: &[(&str, &str)], root: bool) -> Option<PathBuf> {
        let find = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        };
        locate(find, root, || {
            (!root).then(|| PathBuf::from("/home/passwd"))
        })
    }

    #[test]
    fn the_directory_follows_the_environment() {
        let all = [
            ("STATE_DIRECTORY", "/s:/t"),
            ("XDG_STATE_HOME", "/x"),
            ("HOME", "/h"),
        ];
        for (variables, root, expected) in [
            (&all[..], false, "/s"),
            (&all[1..], true, "/x/cognitofs"),
            (&all[2..], true, "/h/.local/state/cognitofs"),
            (&[], true, "/var/lib/cognitofs"),
            (&[("HOME", "")], true, "/var/lib/cognitofs"),
            (
                &[("XDG_STATE_HOME", "relative")],
                false,
                "/home/passwd/.local/state/cognitofs",
            ),
        ] {
            assert_eq!(located(variables, root).unwrap(), Path::new(expected));
        }
    }

    #[test]
    fn every_mount_has_a_directory_of_its_own() {
        let state = tempfile::tempdir().unwrap();
        let below = state.path().join("made");
        let make = |endpoint, source: &str| {
            let source = Source::parse(source.as_ref()).unwrap();
            mount_directory(Some(&below), endpoint, &source).unwrap()
        };
        let one = make("https://one", "cognito://us-east-1");
        assert_eq!(one, make("https://one", "cognito://us-east-1"));
        assert_ne!(one, make("http://127.0.0.1:1", "cognito://us-east-1"));
        assert_ne!(one, make("https://one", "cognito://us-east-2"));
        assert_eq!(one.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }
}
