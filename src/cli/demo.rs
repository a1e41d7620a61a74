//! `cognitofs demo`: the local service, sample data and a mount in one command.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::args::DemoArgs;
use super::local::LocalService;
use super::options::MountOptions;
use super::source::{Place, Source};
use super::tree::Tree;
use super::{ExitCode, Failure, log_to_stderr, state};
use crate::mount::{self, MountPoint, SessionOptions};
use crate::server::sample;
use crate::wire::names::Scope;

/// How long what is left to send may take at the end.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs until Ctrl-C or an unmount.
pub(super) fn run(args: &DemoArgs) -> Result<ExitCode, Failure> {
    log_to_stderr("warn", true);
    mount::os::check_machine(false).map_err(Failure::mount)?;
    let directory = Directory::prepare(args.mountpoint.as_deref())?;
    let point = MountPoint::prepare(&directory.path)?;
    let store = state::state_directory()
        .map_err(Failure::system)?
        .join("demo.db");

    let runtime = super::runtime()?;
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let local = runtime.block_on(LocalService::start(&store, any_port))?;
    sample::fill(&local.service, SystemTime::now().into()).map_err(Failure::system)?;
    let environment = local.environment();
    let source = Source {
        place: Place::Local {
            store: store.clone(),
        },
        scope: Scope::Region,
    };
    let tree = Tree::open_with(&source, &MountOptions::default(), runtime, local)?;
    let options = SessionOptions {
        source: source.to_string(),
        signals: true,
        ..SessionOptions::default()
    };
    let session = tree.mount(&point, &options)?;
    let said = introduction(&directory.path, &store, &environment)?;
    let mut out = std::io::stdout();
    // Without a reader the mount is still of use.
    let _ = out.write_all(said.as_bytes()).and_then(|()| out.flush());
    let ending = session.wait(LIMIT, move |deadline| tree.close(deadline));
    drop(directory);
    match ending.is_clean() {
        true => Ok(ExitCode::Success),
        false => Ok(ExitCode::Unsent),
    }
}

/// The mount point; if it was made here it is removed at the end.
struct Directory {
    path: PathBuf,
    made: bool,
}

impl Directory {
    fn prepare(given: Option<&Path>) -> Result<Self, Failure> {
        let path = match (given, std::env::home_dir()) {
            (Some(given), _) => given.to_owned(),
            (None, Some(home)) => home.join("cognitofs-demo"),
            (None, None) => PathBuf::from("cognitofs-demo"),
        };
        let path = std::path::absolute(path).map_err(Failure::usage)?;
        // What is there, a dead mount among it, is the mount's to judge.
        let made = match fs::create_dir(&path) {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => given.is_none(),
            Err(error) => {
                return Err(Failure::mount(format!("{}: {error}", path.display())));
            }
        };
        Ok(Self { path, made })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.made {
            // Only if it is empty; files of somebody else stay.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

fn introduction(path: &Path, store: &Path, environment: &str) -> Result<String, Failure> {
    let pool = sample::pool("notes").map_err(Failure::system)?;
    let user = sample::identity("notes", 0).map_err(Failure::system)?;
    let (odd_pool, odd_user, odd) = sample::not_text().map_err(Failure::system)?;
    let mount = path.display();
    let store = store.display();
    let export: String = environment
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect();
    Ok(format!(
        "\
A sample of Cognito Sync is mounted at {mount}
Its data are kept in {store}

In another terminal:

    cd {mount}/{pool}/{user}
    ls -l *                              # datasets and their records
    cat settings/theme                   # read a record
    echo dark > settings/theme           # change it
    vim notes/todo
    sed -i s/dark/light/ settings/theme
    grep -r plumber ..                   # search all users of the app
    cp -r . ~/backup && diff -r . ~/backup

One record of another app is not text: a client in JavaScript has cut an emoji in two. It is listed,
and to read it, or to copy that user, reports an error:

    cat {mount}/{odd_pool}/{odd_user}/{odd}

The service behind it speaks AWS's protocol. To see the same records with the AWS CLI or an SDK:

{export}    aws cognito-sync list-records --identity-pool-id {pool} \\
        --identity-id {user} --dataset-name settings

Ctrl-C ends it.
"
    ))
}
