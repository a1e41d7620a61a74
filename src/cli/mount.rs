//! `cognitofs mount`: from a source and its options to a mount that answers, and to its end.
//!
//! Invariant: everything that can be wrong with the arguments is found before anything is started,
//! and everything that can be wrong with this machine before the network is asked.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::sys::stat::{Mode, umask};

use super::connection;
use super::daemon::{self, Caller, Role};
use super::helper::MountRequest;
use super::options::MountOptions;
use super::source::Source;
use super::tree::Tree;
use super::{ExitCode, Failure, log_to_stderr, state};
use crate::mount::{
    self as session, Cause, Ending, MountPoint, Place, Session, SessionOptions, State,
};

/// What is to be mounted, read and checked.
struct Plan {
    source: Source,
    /// The source as the user wrote it.
    spelled: String,
    options: MountOptions,
    /// Absolute: the daemon changes its directory.
    mountpoint: PathBuf,
}

impl Plan {
    fn new(request: &MountRequest) -> Result<Self, Failure> {
        let (source, options) =
            connection::read(&request.source, &request.options, request.sloppy)?;
        Ok(Self {
            source,
            spelled: request.source.to_string_lossy().into_owned(),
            options,
            mountpoint: std::path::absolute(&request.mountpoint).map_err(Failure::usage)?,
        })
    }

    fn session_options(&self) -> SessionOptions {
        SessionOptions {
            source: self.spelled.clone(),
            read_only: self.options.read_only,
            allow_other: self.options.allow_other,
            no_exec: self.options.no_exec,
            no_atime: self.options.no_atime,
            signals: true,
            ..SessionOptions::default()
        }
    }
}

/// Sends what is left when the mount has gone: gets the time by which it must be done, and returns
/// how many changes it could not send.
type Drain = Box<dyn FnOnce(Instant) -> usize + Send>;

/// Runs the command in the foreground, in the background, or as the background's own process.
pub(super) fn run(request: MountRequest, argv: &[OsString]) -> Result<ExitCode, Failure> {
    let plan = Plan::new(&request)?;
    if request.fake {
        return Ok(ExitCode::Success);
    }
    let role = Role::of_this_process()?;
    // Whatever is made from here on is the user's alone.
    umask(Mode::from_bits_truncate(0o077));
    match role {
        Role::Command if request.foreground => {
            log_to_stderr("info", true);
            let (session, drain, _) = bring_up(&plan, None)?;
            tracing::info!(
                "{} is mounted at {}",
                plan.spelled,
                session.path().display()
            );
            Ok(serve(&plan, session, drain))
        }
        Role::Command => daemon::launch(argv, || answers(&plan.mountpoint)),
        Role::Daemon(caller) => {
            log_to_stderr("warn", false);
            Ok(in_background(&plan, caller))
        }
    }
}

fn in_background(plan: &Plan, caller: Caller) -> ExitCode {
    let (session, drain, state) = match bring_up(plan, Some(&caller)) {
        Ok(up) => up,
        Err(failure) => {
            caller.failed(&failure);
            return failure.code;
        }
    };
    if !caller.ready(state.as_deref().map(state::log_file).as_deref()) {
        session.stopper().stop();
    }
    serve(plan, session, drain)
}

/// Checks the machine and the directory, opens the tree, and mounts it.
fn bring_up(
    plan: &Plan,
    caller: Option<&Caller>,
) -> Result<(Session, Drain, Option<PathBuf>), Failure> {
    session::os::check_machine(plan.options.allow_other).map_err(Failure::mount)?;
    let point = MountPoint::prepare(&plan.mountpoint)?;
    let tree = Tree::open(&plan.source, &plan.options)?;
    if caller.is_some_and(Caller::is_gone) {
        return Err(Failure::mount("given up"));
    }
    let session = tree.mount(&point, &plan.session_options())?;
    let state = tree.state.clone();
    let drain = Box::new(move |deadline| tree.close(deadline));
    Ok((session, drain, state))
}

/// Serves until the end.
fn serve(plan: &Plan, session: Session, drain: Drain) -> ExitCode {
    let ending = session.wait(plan.options.timeout, drain);
    let Ending { cause, unsent } = &ending;
    match cause {
        Cause::Unmounted => tracing::info!("unmounted"),
        Cause::Signal(number) => tracing::info!("ended by signal {number}"),
        Cause::Stopped => tracing::info!("given up"),
        Cause::Failed(error) => tracing::error!("the session failed: {error}"),
    }
    match unsent {
        Some(0) => {}
        Some(count) => tracing::error!("{count} changes are left unsent"),
        None => tracing::error!("sending what was left did not come to an end"),
    }
    match ending.is_clean() {
        true => ExitCode::Success,
        false => ExitCode::Unsent,
    }
}

/// Looks at the mount as its users will.
fn answers(mountpoint: &Path) -> Result<(), String> {
    let place = Place::find(mountpoint).map_err(|error| error.to_string())?;
    let path = place.path.display();
    match (&place.mount, place.state) {
        (Some(mount), State::Directory) if mount.is_cognitofs() => Ok(()),
        (Some(mount), _) if mount.is_cognitofs() => {
            Err(format!("{path}: was mounted, and does not answer"))
        }
        _ => Err(format!("{path}: was mounted, and is so no more")),
    }
}
