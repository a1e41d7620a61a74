//! `cognitofs umount`: has everything that is pending sent, then takes the mount away.
//!
//! Invariant: a mount whose changes could not be sent stays, so that nobody takes it for done.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use nix::errno::Errno;

use super::args::UmountArgs;
use super::mounted::Mounted;
use super::{ExitCode, Failure};
use crate::mount::os::{self, Entry};
use crate::mount::{Place, State};

/// How long somebody may hold the mount for a moment (a shell's completion, an indexer).
const BUSY: Duration = Duration::from_secs(1);

/// How long the kernel may take to forget a mount.
const GONE: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(50);

/// How often what is pending is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// How many of those who hold a mount, or of what could not be sent, are named.
const NAMED: usize = 5;

pub(super) fn run(args: &UmountArgs) -> Result<ExitCode, Failure> {
    let Place { path, state, mount } = Place::find(&args.mountpoint)?;
    let Some(mount) = mount.filter(Entry::is_cognitofs) else {
        return Err(Failure::mount(format!(
            "{}: no cognitofs is mounted there",
            path.display()
        )));
    };
    match state {
        State::Dead => os::detach(&path).map_err(|error| refused(&path, &error))?,
        State::Silent => {
            return Err(Failure::mount(format!(
                "{}: does not answer; `umount -l` takes it away without waiting for it",
                path.display()
            )));
        }
        State::Directory | State::File | State::Refused(_) => {
            drain(&path, args.timeout)?;
            unmount(&path)?;
        }
    }
    wait_gone(&path, &mount)
}

/// Has the daemon send what is pending: an fsync of the root returns when it has. That the daemon
/// gives up after its own time is no reason to, as long as there is some of ours.
fn drain(path: &Path, timeout: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + timeout;
    let mounted = Mounted {
        path: path.to_owned(),
    };
    let progress = Progress::new(mounted.clone());
    let failed_before = failures(&mounted);
    let unsent = || unsent(&mounted, &failed_before);
    loop {
        match sync(path, deadline, &progress) {
            None => return Err(unfinished(path, timeout, &unsent())),
            Some(Ok(())) => break,
            Some(Err(error)) => match error.raw_os_error().map(Errno::from_raw) {
                // It has nothing to send.
                Some(Errno::ENOSYS | Errno::EINVAL | Errno::EROFS) => break,
                Some(Errno::ETIMEDOUT | Errno::EAGAIN) if Instant::now() < deadline => {
                    thread::sleep(PAUSE);
                }
                Some(Errno::ETIMEDOUT | Errno::EAGAIN) => {
                    return Err(unfinished(path, timeout, &unsent()));
                }
                Some(Errno::EACCES) => {
                    return Err(Failure::mount(format!(
                        "{}: permission denied: if another user mounted it, unmount it as that \
                         user; plain umount(8) does not wait for what is pending",
                        path.display()
                    )));
                }
                _ => {
                    return Err(Failure::mount(format!(
                        "{}: what is pending cannot be sent ({error}){}, so it is still mounted; \
                         plain umount(8) does not wait for it",
                        path.display(),
                        unsent()
                    )));
                }
            },
        }
    }
    progress.0.finish_and_clear();
    Ok(())
}

fn unfinished(path: &Path, timeout: Duration, unsent: &str) -> Failure {
    Failure::mount(format!(
        "{}: not everything was sent within {timeout:?}{unsent}, so it is still mounted: try again \
         with a longer --timeout; plain umount(8) does not wait for it",
        path.display()
    ))
}

/// Says what is pending, and why some of it could not be sent; nothing if the mount does not say.
fn unsent(mounted: &Mounted, failed_before: &[String]) -> String {
    let pending = mounted.stats().map_or(0, |stats| stats.pending);
    let mut told: Vec<String> = Vec::new();
    let failures = failures(mounted).into_iter();
    for line in failures.filter(|line| !failed_before.contains(line)) {
        // Behind when and what stand where and why.
        let failure = line.splitn(3, ' ').nth(2).unwrap_or(&line).to_owned();
        if !told.contains(&failure) && told.len() < NAMED {
            told.push(failure);
        }
    }
    match (pending, told.is_empty()) {
        (0, true) => String::new(),
        (pending, true) => format!(" (files pending: {pending})"),
        (pending, false) => format!(" (files pending: {pending}; {})", told.join("; ")),
    }
}

/// Returns the lines of `errors.log` about what was to be sent.
fn failures(mounted: &Mounted) -> Vec<String> {
    let log = mounted.read("errors.log").unwrap_or_default();
    let lines = log.lines().filter(|line| line.contains("Z fsync /"));
    lines.map(str::to_owned).collect()
}

/// Fsyncs the directory on a thread of its own: no signal ends an operation that a daemon works on.
fn sync(path: &Path, deadline: Instant, progress: &Progress) -> Option<io::Result<()>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let path = path.to_owned();
    let spawned = thread::Builder::new().name("sync".into()).spawn(move || {
        let _ = sender.send(File::open(path).and_then(|directory| directory.sync_all()));
    });
    if let Err(error) = spawned {
        return Some(Err(error));
    }
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(left.min(LOOK)) {
            Ok(result) => return Some(result),
            Err(RecvTimeoutError::Timeout) if left <= LOOK => return None,
            Err(RecvTimeoutError::Timeout) => progress.look(),
            Err(RecvTimeoutError::Disconnected) => return Some(Err(Errno::EIO.into())),
        }
    }
}

/// What a terminal shows meanwhile.
struct Progress(ProgressBar, Mounted);

impl Progress {
    fn new(mounted: Mounted) -> Self {
        let style =
            ProgressStyle::with_template("{spinner} sending what is pending{msg} ({elapsed})");
        let spinner = ProgressBar::new_spinner();
        if let Ok(style) = style {
            spinner.set_style(style);
        }
        spinner.enable_steady_tick(Duration::from_millis(100));
        Self(spinner, mounted)
    }

    /// Shows how much is left, if anybody looks.
    fn look(&self) {
        if !self.0.is_hidden()
            && let Ok(stats) = self.1.stats()
        {
            self.0.set_message(format!(": {} left", stats.pending));
        }
    }
}

fn unmount(path: &Path) -> Result<(), Failure> {
    let deadline = Instant::now() + BUSY;
    loop {
        match os::unmount(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                if Instant::now() >= deadline {
                    return Err(busy(path));
                }
                thread::sleep(PAUSE);
            }
            // Somebody else has just unmounted it.
            Err(_) if os::topmost(path).is_ok_and(|mount| mount.is_none()) => return Ok(()),
            Err(error) => return Err(refused(path, &error)),
        }
    }
}

fn busy(path: &Path) -> Failure {
    let holders = os::holders(path, NAMED);
    let by = match holders.is_empty() {
        true => String::new(),
        false => format!(", by {}", holders.join(", ")),
    };
    let mounted = Mounted {
        path: path.to_owned(),
    };
    let sent = match mounted.stats().map_or(0, |stats| stats.pending) {
        0 => "everything is sent, but".to_owned(),
        open => format!("files that are open and not sent yet: {open};"),
    };
    Failure::mount(format!("{}: {sent} it is in use{by}", path.display()))
}

fn refused(path: &Path, error: &io::Error) -> Failure {
    Failure::mount(format!("{}: cannot be unmounted: {error}", path.display()))
}

fn wait_gone(path: &Path, mount: &Entry) -> Result<ExitCode, Failure> {
    let deadline = Instant::now() + GONE;
    while Instant::now() < deadline {
        let on_top = os::topmost(path).map_err(Failure::system)?;
        if on_top.as_ref() != Some(mount) {
            return Ok(ExitCode::Success);
        }
        thread::sleep(PAUSE);
    }
    Err(Failure::mount(format!(
        "{}: is still mounted",
        path.display()
    )))
}
