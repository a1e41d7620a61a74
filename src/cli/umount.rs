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
use super::{ExitCode, Failure};
use crate::mount::os::{self, Entry};
use crate::mount::{Place, State};

/// How long somebody may hold the mount for a moment (a shell's completion, an indexer).
const BUSY: Duration = Duration::from_secs(1);

/// How long the kernel may take to forget a mount.
const GONE: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(50);

/// How many of those who hold a mount are named.
const HOLDERS: usize = 5;

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
    let spinner = spinner();
    loop {
        match sync(path, deadline) {
            None => return Err(unfinished(path, timeout)),
            Some(Ok(())) => break,
            Some(Err(error)) => match error.raw_os_error().map(Errno::from_raw) {
                // It has nothing to send.
                Some(Errno::ENOSYS | Errno::EINVAL | Errno::EROFS) => break,
                Some(Errno::ETIMEDOUT | Errno::EAGAIN) if Instant::now() < deadline => {
                    thread::sleep(PAUSE);
                }
                Some(Errno::ETIMEDOUT | Errno::EAGAIN) => return Err(unfinished(path, timeout)),
                Some(Errno::EACCES) => {
                    return Err(Failure::mount(format!(
                        "{}: permission denied: if another user mounted it, unmount it as that \
                         user; plain umount(8) does not wait for what is pending",
                        path.display()
                    )));
                }
                _ => {
                    return Err(Failure::mount(format!(
                        "{}: what is pending cannot be sent ({error}), so it is still mounted; \
                         plain umount(8) does not wait for it",
                        path.display()
                    )));
                }
            },
        }
    }
    spinner.finish_and_clear();
    Ok(())
}

fn unfinished(path: &Path, timeout: Duration) -> Failure {
    Failure::mount(format!(
        "{}: not everything was sent within {timeout:?}, so it is still mounted: try again with a \
         longer --timeout; plain umount(8) does not wait for it",
        path.display()
    ))
}

/// Fsyncs the directory on a thread of its own: no signal ends an operation that a daemon works on.
fn sync(path: &Path, deadline: Instant) -> Option<io::Result<()>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let path = path.to_owned();
    let spawned = thread::Builder::new().name("sync".into()).spawn(move || {
        let _ = sender.send(File::open(path).and_then(|directory| directory.sync_all()));
    });
    if let Err(error) = spawned {
        return Some(Err(error));
    }
    match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(result) => Some(result),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => Some(Err(Errno::EIO.into())),
    }
}

fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} sending what is pending ({elapsed})");
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = style {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
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
    let holders = os::holders(path, HOLDERS);
    let by = match holders.is_empty() {
        true => String::new(),
        false => format!(", by {}", holders.join(", ")),
    };
    Failure::mount(format!(
        "{}: everything is sent, but it is in use{by}",
        path.display()
    ))
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
