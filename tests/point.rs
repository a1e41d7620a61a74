//! Directories to mount on in tests, and what becomes of the daemons that serve them.
//!
//! Invariant: whatever a test does, its mounts and daemons are gone when its `Point` is dropped.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use cognitofs::mount::os;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything in these tests may take.
pub const SOON: Duration = Duration::from_secs(10);

/// A directory to mount on, with another beside it for state.
pub struct Point {
    directory: tempfile::TempDir,
    path: PathBuf,
}

impl Point {
    /// Makes one, unless this machine cannot mount; the test is then skipped.
    pub fn new() -> Option<Self> {
        if let Err(why) = os::check_machine(false) {
            eprintln!("SKIPPED: {why}");
            return None;
        }
        // Not below /tmp, where some programs behave differently.
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = directory
            .path()
            .canonicalize()
            .unwrap()
            .join("a mount,point");
        std::fs::create_dir(&path).unwrap();
        Some(Self { directory, path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path beside the mount point.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What is mounted.
    pub fn mounted(&self) -> Option<os::Entry> {
        os::topmost(&self.path).unwrap()
    }

    /// The daemons whose arguments name this mount point.
    pub fn daemons(&self) -> Vec<Pid> {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let named = |file: PathBuf, word: &[u8]| {
            let text = std::fs::read(file).unwrap_or_default();
            text.split(|&byte| byte == 0).any(|found| found == word)
        };
        processes
            .filter(|process| named(process.path().join("environ"), b"COGNITOFS_DAEMON=1"))
            .filter(|process| {
                let path = self.path.as_os_str().as_encoded_bytes();
                named(process.path().join("cmdline"), path)
            })
            .filter_map(|process| process.file_name().to_str()?.parse().ok())
            .map(Pid::from_raw)
            .collect()
    }

    /// The one daemon there should be.
    pub fn daemon(&self) -> Pid {
        let daemons = self.daemons();
        assert_eq!(daemons.len(), 1, "daemons: {daemons:?}");
        daemons[0]
    }

    /// Fails unless mounts and daemons are gone soon.
    pub fn assert_nothing_left(&self) {
        eventually("the mount to go", || self.mounted().is_none());
        eventually("the daemon to go", || self.daemons().is_empty());
    }
}

impl Drop for Point {
    fn drop(&mut self) {
        while let Ok(Some(_)) = os::topmost(&self.path) {
            if os::detach(&self.path).is_err() {
                break;
            }
        }
        for daemon in self.daemons() {
            let _ = kill(daemon, Signal::SIGKILL);
        }
    }
}

/// Waits for something that must come soon.
pub fn eventually(what: &str, mut happens: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !happens() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
