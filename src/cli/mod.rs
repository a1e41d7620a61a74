//! The command line: it reads what the user wrote, puts the other modules together, and ends with
//! one line and one exit code.
//!
//! Invariant: whatever fails is told in one line on stderr, and every way out is an `ExitCode`.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process;

use clap::{CommandFactory, Parser};
use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;

use crate::mount::MountError;

mod about;
pub mod args;
mod connection;
mod daemon;
mod demo;
mod device;
mod guest;
mod helper;
pub mod in_process;
mod local;
mod mount;
mod mounted;
pub mod options;
mod parked;
mod publish;
mod serve;
pub mod source;
pub mod state;
mod status;
mod tree;
mod umount;
mod values;

use args::{Args, Command};

/// How the program ends, as mount(8) has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    Success,
    /// Wrong arguments, options or permissions.
    Usage,
    /// The machine failed: out of memory, no processes, a broken disk.
    System,
    /// Nothing was mounted, or the mount could not be taken away.
    Mount,
    /// The mount has gone, and something it should have sent was not.
    Unsent,
    /// The service refused what it was asked for, could not be asked, or failed at it.
    Refused,
    /// Something is kept from being lost, or could not be sent, and wants somebody's attention.
    Wanting,
    /// Ctrl-C.
    Interrupted,
}

impl ExitCode {
    /// Returns the number the shell sees.
    pub fn number(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Usage | Self::Unsent | Self::Refused | Self::Wanting => 1,
            Self::System => 2,
            Self::Mount => 32,
            Self::Interrupted => 130,
        }
    }
}

/// A command that failed: its exit code, and one line for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    code: ExitCode,
    cause: String,
}

impl Failure {
    fn new(code: ExitCode, cause: impl Display) -> Self {
        let cause = cause.to_string();
        let lines: Vec<&str> = cause
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        Self {
            code,
            cause: lines.join("; "),
        }
    }

    fn usage(cause: impl Display) -> Self {
        Self::new(ExitCode::Usage, cause)
    }

    fn system(cause: impl Display) -> Self {
        Self::new(ExitCode::System, cause)
    }

    fn mount(cause: impl Display) -> Self {
        Self::new(ExitCode::Mount, cause)
    }

    fn refused(cause: impl Display) -> Self {
        Self::new(ExitCode::Refused, cause)
    }

    /// Makes of a refusal a mount that cannot be.
    fn of_mount(self) -> Self {
        match self.code {
            ExitCode::Refused => Self::mount(self.cause),
            _ => self,
        }
    }
}

impl From<MountError> for Failure {
    fn from(error: MountError) -> Self {
        match error {
            MountError::System(error) => Self::system(error),
            error => Self::mount(error),
        }
    }
}

/// Runs the command line `argv`, whose first word says under which name the program was called.
pub fn run(argv: impl IntoIterator<Item = OsString>) -> process::ExitCode {
    let argv: Vec<OsString> = argv.into_iter().collect();
    let code = dispatch(&argv).unwrap_or_else(|failure| {
        complain(&failure.cause);
        failure.code
    });
    process::ExitCode::from(code.number())
}

fn dispatch(argv: &[OsString]) -> Result<ExitCode, Failure> {
    let args = match helper::is_called(argv) {
        true => match helper::parse(&argv[1..])? {
            helper::Call::Mount(request) => return mount::run(request, argv),
            helper::Call::Help => Args::try_parse_from(["cognitofs", "mount", "--help"]),
            helper::Call::Version => Args::try_parse_from(["cognitofs", "--version"]),
        },
        false => Args::try_parse_from(argv),
    };
    let args = match args {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return Ok(if error.use_stderr() {
                ExitCode::Usage
            } else {
                ExitCode::Success
            });
        }
    };
    match args.command {
        Command::Mount(args) => mount::run(args.into(), argv),
        Command::Umount(args) => umount::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Parked(args) => parked::run(&args),
        Command::Publish(args) => publish::run(&args),
        Command::Device(command) => device::run(&command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "cognitofs", &mut script);
            io::stdout().write_all(&script).map_err(Failure::system)?;
            Ok(ExitCode::Success)
        }
    }
}

/// Returns a runtime that lasts as long as the process. To end one is to wait for all its threads,
/// and for a name server that does not answer one of them.
fn runtime() -> Result<&'static Runtime, Failure> {
    let runtime = Runtime::new().map_err(Failure::system)?;
    Ok(Box::leak(Box::new(runtime)))
}

/// Shows an error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // An error that shows its cause itself has said it.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Says what is wrong; when even that fails there is nobody left to tell.
fn complain(cause: &str) {
    let _ = writeln!(io::stderr(), "cognitofs: {cause}");
}

/// Sends the log to stderr: what COGNITOFS_LOG asks for, else our own messages from `level` up.
fn log_to_stderr(level: &str, coloured: bool) {
    let filter = EnvFilter::try_from_env("COGNITOFS_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("cognitofs={level}")));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(coloured && io::stderr().is_terminal())
        .try_init();
}
