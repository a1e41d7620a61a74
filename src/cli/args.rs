//! The commands and their arguments.
//!
//! Invariant: arguments that name files or sources may be any bytes; only what must be text is text.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};
use clap_complete::Shell;

use super::{options, values};
use crate::wire::devices::Platform;
use crate::wire::names::DeviceId;

/// Mounts Amazon Cognito Sync as a file system: identity pools, identities and datasets are
/// directories, records are files.
#[derive(Debug, Parser)]
#[command(name = "cognitofs", version)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Mount(MountArgs),
    Umount(UmountArgs),
    Demo(DemoArgs),
    Serve(ServeArgs),
    Status(StatusArgs),
    Parked(ParkedArgs),
    Publish(PublishArgs),
    /// Register a user's device for push notifications, and choose what it is told about
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Print a completion script for a shell
    Completions {
        shell: Shell,
    },
}

/// Mount a source on a directory, and return once it answers
#[derive(Debug, clap::Args)]
#[command(after_help = options::help())]
pub struct MountArgs {
    /// Stay in the foreground
    #[arg(short, long)]
    pub foreground: bool,
    /// Mount options, separated by commas
    #[arg(short, value_name = "OPTIONS")]
    pub options: Vec<OsString>,
    /// cognito://REGION[/POOL[/IDENTITY[/DATASET]]], POOL[/IDENTITY[/DATASET]] or local:[FILE]
    pub source: OsString,
    /// A directory
    pub mountpoint: PathBuf,
}

/// Send what is pending, then unmount
#[derive(Debug, clap::Args)]
pub struct UmountArgs {
    /// How long to wait for what is pending
    #[arg(long, value_name = "TIME", default_value = "30", value_parser = values::duration)]
    pub timeout: Duration,
    pub mountpoint: PathBuf,
}

/// Try it out: the local service, sample data and a mount in one command
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// A directory; by default one is made
    pub mountpoint: Option<PathBuf>,
}

/// Run the local service alone, for any AWS SDK or the AWS CLI
#[derive(Debug, clap::Args)]
#[command(after_help = crate::server::faults::GRAMMAR)]
pub struct ServeArgs {
    /// Where to listen; it must be on this machine
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8730", value_parser = loopback)]
    pub listen: SocketAddr,
    /// The file that holds the data (default: the one that local: means)
    #[arg(long, value_name = "FILE")]
    pub store: Option<PathBuf>,
    /// Call this URL, http on this machine, at users' updates of pools without a SyncTrigger
    #[arg(long, value_name = "URL")]
    pub sync_trigger: Option<String>,
    /// Make trouble, as below; may be given more than once
    #[arg(long, value_name = "FAULT")]
    pub fault: Vec<String>,
}

/// Tell what is mounted, what is pending, what is parked and what failed
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// A mount; by default all
    pub mountpoint: Option<PathBuf>,
}

/// List, read, compare, put back or discard versions that were kept from being lost
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct ParkedArgs {
    #[command(subcommand)]
    pub action: Option<ParkedAction>,
    /// A mount, anything in it, or a file in .cognito/parked, to list
    pub path: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum ParkedAction {
    /// List what is kept of a path in a mount
    List {
        /// A mount or anything in it
        path: PathBuf,
    },
    /// Print a kept version
    Show {
        /// A file in .cognito/parked, or a record that one version is kept of
        path: PathBuf,
    },
    /// Compare the record, as it is now, with a kept version
    Diff {
        /// A file in .cognito/parked, or a record that one version is kept of
        path: PathBuf,
    },
    /// Make a kept version the record's value
    Keep {
        /// A file in .cognito/parked, or a record that one version is kept of
        path: PathBuf,
    },
    /// Let a kept version go
    Discard {
        /// A file in .cognito/parked, or a record that one version is kept of
        path: PathBuf,
    },
}

/// Send all datasets of a pool to its stream, and wait until that is done
#[derive(Debug, clap::Args)]
pub struct PublishArgs {
    /// Mount options, separated by commas: see `cognitofs mount --help`
    #[arg(short, value_name = "OPTIONS")]
    pub options: Vec<OsString>,
    /// A pool: POOL, cognito://REGION/POOL, or local:[FILE] with -o root=POOL
    pub source: OsString,
}

#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    Register(RegisterArgs),
    /// Tell a device about changes of a dataset by others
    Subscribe(SubscriptionArgs),
    /// Tell a device no more about a dataset
    Unsubscribe(SubscriptionArgs),
}

/// Register a device, and print its id
#[derive(Debug, clap::Args)]
pub struct RegisterArgs {
    /// Whose push notifications reach it
    #[arg(long, value_parser = platform())]
    pub platform: Platform,
    #[command(flatten)]
    pub token: TokenArgs,
    /// Mount options, separated by commas: identity=guest or login=PROVIDER=FILE, and others
    #[arg(short, value_name = "OPTIONS")]
    pub options: Vec<OsString>,
    /// POOL[/IDENTITY] as it is mounted
    pub source: OsString,
}

/// What the platform gave the device to be reached by.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub struct TokenArgs {
    /// What the platform gave the device; other users of this machine can see it in ps(1)
    #[arg(long)]
    pub token: Option<String>,
    /// A file that holds the token; - is standard input
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// Leaves the token out.
impl fmt::Debug for TokenArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenArgs").finish_non_exhaustive()
    }
}

#[derive(Debug, clap::Args)]
pub struct SubscriptionArgs {
    /// The id that `device register` printed
    #[arg(long, value_name = "ID", value_parser = device)]
    pub device: DeviceId,
    /// Mount options, separated by commas: identity=guest or login=PROVIDER=FILE, and others
    #[arg(short, value_name = "OPTIONS")]
    pub options: Vec<OsString>,
    /// POOL/IDENTITY/DATASET as it is mounted
    pub source: OsString,
}

fn platform() -> impl TypedValueParser<Value = Platform> {
    PossibleValuesParser::new(Platform::ALL.map(Platform::name)).try_map(|name| {
        let mut all = Platform::ALL.into_iter();
        all.find(|platform| platform.name() == name)
            .ok_or("no such platform")
    })
}

fn device(text: &str) -> Result<DeviceId, String> {
    text.parse()
        .map_err(|error: crate::wire::names::NameError| error.to_string())
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| "expected ADDRESS:PORT such as 127.0.0.1:8730")?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err("the local service is for this machine only: write 127.0.0.1:PORT".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_local_service_listens_on_this_machine_only() {
        assert!(loopback("127.0.0.1:0").is_ok() && loopback("[::1]:80").is_ok());
        assert!(loopback("0.0.0.0:80").is_err() && loopback("localhost").is_err());
    }
}
