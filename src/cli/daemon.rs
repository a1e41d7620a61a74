//! Mounting in the background: the command runs itself once more as the daemon, and returns when
//! the daemon's mount answers.
//!
//! The two talk over a socket that is the daemon's standard input:
//!
//! ```text
//! daemon -> command   "ready", or "CODE CAUSE"
//! command -> daemon   "go", after it has seen the mount answer
//! daemon -> command   end of file, once it has let go of the command's terminal and stderr
//! ```
//!
//! Invariant: a daemon that has not been told to go takes its mount with it when the command fails,
//! is interrupted or is killed; so no mount and no process is left behind by a command that did not
//! succeed.

use std::env;
use std::ffi::OsString;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::unistd::{dup2_stderr, dup2_stdin, setsid};

use super::{ExitCode, Failure};

/// Set in the daemon's environment, where its arguments stay those the user wrote.
const MARK: &str = "COGNITOFS_DAEMON";

const READY: &str = "ready";
const GO: &str = "go";

/// How long a daemon that failed may take to end before it is killed.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// How long the daemon may take to let go of the command's stderr.
const LETTING_GO: Duration = Duration::from_secs(5);

/// Which of the two this process is.
pub(super) enum Role {
    Command,
    Daemon(Caller),
}

impl Role {
    /// Finds out, and makes a daemon independent of what it inherited. To be called before any
    /// thread is started.
    pub(super) fn of_this_process() -> Result<Self, Failure> {
        if env::var_os(MARK).is_none() {
            return Ok(Self::Command);
        }
        let inherited = io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .map_err(Failure::system)?;
        let channel = File::from(inherited);
        let kind = channel.metadata().map_err(Failure::system)?.file_type();
        if !kind.is_socket() {
            return Ok(Self::Command);
        }
        // No program that the daemon runs may inherit it.
        let null = File::open("/dev/null").map_err(Failure::system)?;
        dup2_stdin(&null).map_err(Failure::system)?;
        default_signals().map_err(Failure::system)?;
        die_with_command(true);
        Ok(Self::Daemon(Caller {
            channel: OwnedFd::from(channel).into(),
        }))
    }
}

/// Runs this program again as the daemon with the same arguments, and returns when its mount has
/// passed `answers`, or with the cause why there is none.
pub(super) fn launch(
    argv: &[OsString],
    answers: impl FnOnce() -> Result<(), String>,
) -> Result<ExitCode, Failure> {
    let (channel, theirs) = UnixStream::pair().map_err(Failure::system)?;
    let mut daemon = start(argv, theirs)
        .map_err(|error| Failure::system(format!("the daemon cannot be started: {error}")))?;
    let mut reader = BufReader::new(&channel);
    let failure = match listen(&mut reader) {
        None => return Err(died(&mut daemon)),
        Some(line) if line == READY => match answers() {
            Ok(()) => {
                if writeln!(&channel, "{GO}").is_err() {
                    return Err(died(&mut daemon));
                }
                let _ = channel.set_read_timeout(Some(LETTING_GO));
                let _ = reader.read_to_end(&mut Vec::new());
                return Ok(ExitCode::Success);
            }
            Err(cause) => Failure::mount(cause),
        },
        Some(line) => told(&line),
    };
    drop(channel);
    end(&mut daemon);
    Err(failure)
}

fn start(argv: &[OsString], channel: UnixStream) -> io::Result<Child> {
    close_on_exec();
    let mut command = Command::new(program());
    if let [name, arguments @ ..] = argv {
        command.arg0(name).args(arguments);
    }
    command
        .env(MARK, "1")
        .stdin(OwnedFd::from(channel))
        .stdout(Stdio::null())
        .spawn()
    // The command's copy of the channel closes here, so that the daemon's end is the last.
}

/// Returns this program. Its path keeps its name in ps(1); the link is for a file replaced since.
fn program() -> PathBuf {
    env::current_exe()
        .ok()
        .filter(|path| path.is_file())
        .unwrap_or_else(|| "/proc/self/exe".into())
}

fn listen(reader: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    let end = reader.read_until(b'\n', &mut line);
    let line = line.strip_suffix(b"\n")?;
    end.is_ok()
        .then(|| String::from_utf8_lossy(line).into_owned())
}

/// Reads `CODE CAUSE`.
fn told(line: &str) -> Failure {
    let (code, cause) = line.split_once(' ').unwrap_or(("", line));
    let code = match code {
        "1" => ExitCode::Usage,
        "32" => ExitCode::Mount,
        _ => ExitCode::System,
    };
    Failure::new(code, cause)
}

fn died(daemon: &mut Child) -> Failure {
    let how = match end(daemon) {
        Some(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("ended with exit code {code}"),
            (None, Some(number)) => format!("was killed by signal {number}"),
            (None, None) => "ended".into(),
        },
        None => "hung".into(),
    };
    Failure::system(format!("the daemon {how} before its mount was ready"))
}

/// Waits until the daemon has gone, which it does by itself; returns how, unless it had to be killed.
fn end(daemon: &mut Child) -> Option<std::process::ExitStatus> {
    let deadline = Instant::now() + LAST_WORDS;
    while Instant::now() < deadline {
        match daemon.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) => thread::sleep(Duration::from_millis(5)),
            Err(_) => return None,
        }
    }
    let _ = daemon.kill();
    let _ = daemon.wait();
    None
}

/// The command that waits for this daemon.
#[derive(Debug)]
pub(super) struct Caller {
    channel: UnixStream,
}

impl Caller {
    /// Says whether the command has ended, so that nobody wants the mount any more.
    pub(super) fn is_gone(&self) -> bool {
        // It sends nothing before it hears from us, so whatever can be read is the end.
        let look = || {
            self.channel.set_nonblocking(true)?;
            let end = (&self.channel).read(&mut [0])?;
            io::Result::Ok(end)
        };
        let alive = matches!(look(), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        let restored = self.channel.set_nonblocking(false).is_ok();
        !(alive && restored)
    }

    /// Tells the command why there is no mount.
    pub(super) fn failed(self, failure: &Failure) {
        let _ = writeln!(&self.channel, "{} {}", failure.code.number(), failure.cause);
    }

    /// Tells the command that the mount is there, and becomes a daemon of its own once the command
    /// has seen it: a session of its own, `/` as its directory, and `log` as its stderr.
    ///
    /// Returns false if the command has failed or gone; the mount must then be taken away.
    ///
    /// Not before the mount is there may the process group be left: an automount lets only the
    /// group of the mounting command through to the directory below it.
    pub(super) fn ready(self, log: Option<&Path>) -> bool {
        let _ = setsid();
        let heard = writeln!(&self.channel, "{READY}").is_ok()
            && listen(&mut BufReader::new(&self.channel)).as_deref() == Some(GO);
        if heard {
            if let Err(error) = let_go(log) {
                tracing::warn!("the daemon still holds what it inherited: {error}");
            }
            die_with_command(false);
        }
        heard
    }
}

fn let_go(log: Option<&Path>) -> io::Result<()> {
    let log = log.and_then(|path| {
        open_log(path)
            .map_err(|error| tracing::warn!("no log at {}: {error}", path.display()))
            .ok()
    });
    let stderr = match log {
        Some(log) => log,
        None => OpenOptions::new().write(true).open("/dev/null")?,
    };
    dup2_stderr(&stderr)?;
    env::set_current_dir("/")
}

fn open_log(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Appending, so that a log that somebody truncates does not become a hole.
    let file = options.append(true).create(true).mode(0o600).open(path)?;
    file.set_len(0)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Keeps the daemon from inheriting what a script left open: it would hold its locks and pipes for
/// as long as the mount lives.
fn close_on_exec() {
    #[cfg(target_os = "linux")]
    // SAFETY: it marks descriptors and closes none; a kernel older than 5.11 does nothing.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
    }
}

/// Undoes what a shell or nohup(1) has ignored or blocked.
fn default_signals() -> nix::Result<()> {
    for number in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        // SAFETY: the default action is no handler of ours, so nothing of ours runs in it.
        unsafe { signal(number, SigHandler::SigDfl) }?;
    }
    SigSet::empty().thread_set_mask()
}

/// Has the kernel send SIGTERM when the command ends. The channel tells it everywhere else, later.
fn die_with_command(die: bool) {
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_pdeathsig(die.then_some(Signal::SIGTERM));
    #[cfg(not(target_os = "linux"))]
    let _ = die;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (UnixStream, Caller) {
        let (command, channel) = UnixStream::pair().unwrap();
        (command, Caller { channel })
    }

    #[test]
    fn a_failure_is_told_in_one_line() {
        for code in [ExitCode::Usage, ExitCode::System, ExitCode::Mount] {
            let (command, caller) = pair();
            let failure = Failure::new(code, "no such pool\n  in us-east-1\n");
            caller.failed(&failure);
            let line = listen(&mut BufReader::new(&command)).unwrap();
            assert_eq!(told(&line), failure);
            assert_eq!(failure.cause, "no such pool; in us-east-1");
        }
    }

    #[test]
    fn a_daemon_notices_that_its_caller_has_gone() {
        let (command, caller) = pair();
        assert!(!caller.is_gone() && !caller.is_gone());
        drop(command);
        assert!(caller.is_gone());
    }

    #[test]
    fn half_a_line_is_none() {
        assert_eq!(listen(&mut &b"ready"[..]), None);
        assert_eq!(listen(&mut &b""[..]), None);
        assert_eq!(listen(&mut &b"ready\n"[..]).unwrap(), READY);
    }

    #[test]
    fn the_log_begins_anew_and_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, "old").unwrap();
        open_log(&path).unwrap();
        let metadata = path.metadata().unwrap();
        assert_eq!(
            (metadata.len(), metadata.permissions().mode() & 0o777),
            (0, 0o600)
        );
    }
}
