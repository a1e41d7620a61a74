//! The session: a file system mounted, served, and taken away again.
//!
//! It knows `fuser` and nothing of the service. Invariant: however a session ends, no mount is left
//! behind without a daemon, and none that somebody else made since is touched.

use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use fuser::{Config, Filesystem, INodeNo, MountOption, Notifier, SessionACL};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

pub mod os;
mod point;

pub use point::{MountPoint, Place, State, patiently};

/// How long a detached mount that nobody uses may take to end, so that its last releases have
/// arrived before what is left is sent.
const QUIET: Duration = Duration::from_millis(500);

/// How much longer than its deadline a drain may take before it is given up.
const GRACE: Duration = Duration::from_secs(5);

/// Why nothing was mounted; each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("{0}: there is no such directory: make it first (mkdir)")]
    Missing(PathBuf),
    #[error("{0}: is not a directory")]
    NotDirectory(PathBuf),
    #[error("{path}: {why}")]
    Unusable { path: PathBuf, why: &'static str },
    #[error("{0}: does not answer; is it on a network mount that is gone?")]
    NoAnswer(PathBuf),
    #[error("{path}: already mounted ({by})")]
    AlreadyMounted { path: PathBuf, by: String },
    #[error("{path}: a dead mount is in the way: {why}")]
    Dead { path: PathBuf, why: String },
    /// The machine lacks something, or the kernel or fusermount3 refused.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    System(io::Error),
}

/// How a file system is mounted. `default_permissions`, `nosuid` and `nodev` are always in force.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// What mount(8) and df(1) show as the source. mount(8) -a compares it with fstab, so it is the
    /// source as the user wrote it.
    pub source: String,
    pub read_only: bool,
    /// Lets users other than the mounting one in, root included.
    pub allow_other: bool,
    pub no_exec: bool,
    pub no_atime: bool,
    /// How many threads read requests, at least 1. Linux only; elsewhere it is always one.
    pub threads: usize,
    /// Whether SIGTERM, SIGINT and SIGHUP end the session rather than the process, from before the
    /// mount until the process ends.
    pub signals: bool,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            source: "cognitofs".into(),
            read_only: false,
            allow_other: false,
            no_exec: false,
            no_atime: false,
            threads: 4,
            signals: false,
        }
    }
}

/// Mounts `fs` and serves it on threads of its own. It answers when this returns.
///
/// # Errors
/// Nothing is mounted then.
pub fn mount<F: Filesystem>(
    fs: F,
    point: &MountPoint,
    options: &SessionOptions,
) -> Result<Session, MountError> {
    let path = point.path().to_owned();
    let (sender, events) = mpsc::channel();
    // Before the mount: a signal between the two would leave a dead one.
    let signals = match options.signals {
        true => Some(forward_signals(sender.clone()).map_err(MountError::System)?),
        false => None,
    };
    // Two commands may have checked the same directory at the same time.
    if let Some(entry) = os::topmost(&path).map_err(MountError::System)?
        && entry.is_cognitofs()
    {
        return Err(MountError::AlreadyMounted {
            path,
            by: entry.source.to_string_lossy().into_owned(),
        });
    }
    let mut background =
        fuser::spawn_mount(fs, &path, &config(options)).map_err(|error| refused(&error))?;

    let notifier = background.notifier();
    let guard = mem::replace(&mut background.guard, thread::spawn(|| Ok(())));
    // Its drop and its join unmount whatever lies at the path by then, even when our own mount has
    // long gone and a new one has been made there.
    mem::forget(background);

    let session = Session {
        mounted: os::topmost(&path).ok().flatten(),
        path,
        events,
        sender: sender.clone(),
        notifier,
        _signals: signals,
        attached: true,
    };
    spawn("session", move || {
        let result = guard
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the session panicked")));
        let _ = sender.send(Event::Ended(result));
    })
    .map_err(MountError::System)?;
    Ok(session)
}

fn config(options: &SessionOptions) -> Config {
    // `Subtype` is dropped when root mounts without fusermount3; the bare word works both ways.
    let subtype = MountOption::CUSTOM("subtype=cognitofs".into());
    let mut words = vec![
        subtype,
        MountOption::FSName(fsname(&options.source)),
        MountOption::DefaultPermissions,
        MountOption::NoSuid,
        MountOption::NoDev,
    ];
    let optional = [
        (options.read_only, MountOption::RO),
        (options.no_exec, MountOption::NoExec),
        (options.no_atime, MountOption::NoAtime),
    ];
    words.extend(
        optional
            .into_iter()
            .filter(|(asked, _)| *asked)
            .map(|(_, word)| word),
    );

    let mut config = Config::default();
    config.mount_options = words;
    config.acl = match options.allow_other {
        true => SessionACL::All,
        false => SessionACL::Owner,
    };
    config.n_threads = Some(if cfg!(target_os = "linux") {
        options.threads.max(1)
    } else {
        1
    });
    config.clone_fd = cfg!(target_os = "linux");
    config
}

/// Root hands the name to mount(2) as it is, fusermount3 takes it from a list of options.
fn fsname(source: &str) -> String {
    match nix::unistd::geteuid().is_root() {
        true => source.to_owned(),
        false => source.replace('\\', r"\\").replace(',', r"\,"),
    }
}

/// Makes one line of what fuser says.
fn refused(error: &io::Error) -> MountError {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default().trim();
    MountError::Refused(match error.kind() {
        io::ErrorKind::PermissionDenied if text.contains("user_allow_other") => {
            os::REFUSED_ALLOW_OTHER.to_owned()
        }
        io::ErrorKind::NotFound => os::MISSING_FUSERMOUNT.to_owned(),
        _ if line.is_empty() => "mounting failed".to_owned(),
        // fuser tells the whole call; what went wrong stands at its end.
        _ => match line.rsplit_once("): ") {
            Some((call, why)) if call.contains("mount()") => {
                format!("the kernel refused the mount: {why}")
            }
            _ => line.to_owned(),
        },
    })
}

#[derive(Debug)]
enum Event {
    /// The kernel has let go of the mount, or the loop that serves it failed.
    Ended(io::Result<()>),
    Signal(i32),
    Stop,
    /// How much is left unsent; none if the drain panicked.
    Drained(Option<usize>),
}

/// A mounted file system that is being served. Dropping it detaches the mount.
#[derive(Debug)]
pub struct Session {
    path: PathBuf,
    /// Our line in the kernel's table.
    mounted: Option<os::Entry>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    notifier: Notifier,
    _signals: Option<Forwarding>,
    attached: bool,
}

/// Ends a session from another thread, as SIGTERM does.
#[derive(Clone, Debug)]
pub struct Stopper(Sender<Event>);

impl Stopper {
    pub fn stop(&self) {
        let _ = self.0.send(Event::Stop);
    }
}

/// Why a session ended.
#[derive(Debug)]
pub enum Cause {
    /// Somebody unmounted it.
    Unmounted,
    /// A signal's number.
    Signal(i32),
    Stopped,
    /// The threads that serve it gave up.
    Failed(io::Error),
}

/// How a session ended.
#[derive(Debug)]
pub struct Ending {
    pub cause: Cause,
    /// How many changes could not be sent; none if the drain did not come to an end.
    pub unsent: Option<usize>,
}

impl Ending {
    /// Says whether everything was sent.
    pub fn is_clean(&self) -> bool {
        self.unsent == Some(0) && !matches!(self.cause, Cause::Failed(_))
    }
}

impl Session {
    /// Returns where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has the kernel forget the attributes of inodes, as they come. Names are not taken back: for
    /// that the kernel waits for the directory, and whoever has it may wait for this process, which
    /// then could not even be killed.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn forget_attributes(
        &self,
        inodes: impl Iterator<Item = u64> + Send + 'static,
    ) -> io::Result<()> {
        /// Before the content: of that nothing is forgotten.
        const ATTRIBUTES: i64 = -1;
        let notifier = self.notifier.clone();
        spawn("invalidate", move || {
            for ino in inodes {
                // One the kernel does not have is forgotten already.
                let _ = notifier.inval_inode(INodeNo(ino), ATTRIBUTES, 0);
            }
        })
    }

    /// Returns what ends this session from another thread.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.sender.clone())
    }

    /// Serves until it is unmounted, stopped, or told to end by a signal; then detaches the mount,
    /// calls `drain` with the time by which it must be done (now and `limit`), which returns how
    /// much is left unsent, and returns.
    ///
    /// Files that are open stay usable while `drain` runs, and fail with ENOTCONN once the process
    /// has gone. A further signal does not cut the drain short: it would lose what is not yet kept.
    pub fn wait<D>(mut self, limit: Duration, drain: D) -> Ending
    where
        D: FnOnce(Instant) -> usize + Send + 'static,
    {
        let cause = match self.events.recv() {
            Ok(Event::Ended(Ok(()))) => Cause::Unmounted,
            Ok(Event::Ended(Err(error))) => Cause::Failed(error),
            Ok(Event::Signal(signal)) => Cause::Signal(signal),
            Ok(Event::Stop | Event::Drained(_)) | Err(_) => Cause::Stopped,
        };
        let deadline = Instant::now() + limit;
        let ended = matches!(cause, Cause::Unmounted | Cause::Failed(_));
        if !matches!(cause, Cause::Unmounted) {
            self.detach();
        }
        self.attached = false;
        if !ended {
            self.next(Instant::now() + QUIET.min(limit), |event| {
                matches!(event, Event::Ended(_)).then_some(())
            });
        }
        Ending {
            cause,
            unsent: self.drain(deadline, drain),
        }
    }

    fn drain<D>(&self, deadline: Instant, drain: D) -> Option<usize>
    where
        D: FnOnce(Instant) -> usize + Send + 'static,
    {
        let sender = self.sender.clone();
        spawn("drain", move || {
            let left = catch_unwind(AssertUnwindSafe(|| drain(deadline))).ok();
            let _ = sender.send(Event::Drained(left));
        })
        .ok()?;
        self.next(deadline + GRACE, |event| match event {
            Event::Drained(left) => Some(left),
            _ => None,
        })
        .flatten()
    }

    /// Waits for an event that `pick` takes; others are dropped.
    fn next<T>(&self, until: Instant, pick: impl Fn(Event) -> Option<T>) -> Option<T> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) => {
                    if let Some(picked) = pick(event) {
                        return Some(picked);
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Takes our mount away, busy or not, and nobody else's.
    fn detach(&self) {
        match os::topmost(&self.path) {
            Ok(None) => return,
            Ok(on_top) if on_top != self.mounted => {
                tracing::warn!("{}: another mount lies on ours", self.path.display());
                return;
            }
            Ok(Some(_)) | Err(_) => {}
        }
        if let Err(error) = os::detach(&self.path) {
            tracing::error!("{} could not be detached: {error}", self.path.display());
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.attached {
            self.detach();
        }
    }
}

/// Ends the thread that forwards signals. They stay harmless: a process whose session has ended is
/// about to end itself, with a code that says more.
#[derive(Debug)]
struct Forwarding(Handle);

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn forward_signals(sender: Sender<Event>) -> io::Result<Forwarding> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let handle = Forwarding(signals.handle());
    spawn("signals", move || {
        for signal in signals.forever() {
            if sender.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    })?;
    Ok(handle)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map(drop)
}
