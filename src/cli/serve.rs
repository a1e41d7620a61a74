//! `cognitofs serve`: the local service alone.

use std::io::Write;

use crate::server::faults::{Faults, Rule, RuleError};

use super::args::ServeArgs;
use super::local::LocalService;
use super::{ExitCode, Failure, log_to_stderr, state};

/// Serves until SIGINT or SIGTERM.
pub(super) fn run(args: &ServeArgs) -> Result<ExitCode, Failure> {
    log_to_stderr("warn", true);
    let store = match &args.store {
        Some(store) => store.clone(),
        None => state::default_store().map_err(Failure::system)?,
    };
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::system)?;
    runtime.block_on(async {
        let mut ended = Signals::new()?;
        let mut control = store.clone().into_os_string();
        control.push(".faults");
        let faults = Faults::new(args.faults()?, Some(control.into()));
        let trigger = args.sync_trigger.as_deref();
        let local = LocalService::start_with(&store, args.listen, trigger, faults).await?;
        local.furnish()?;
        let said = format!(
            "# Cognito Sync and Cognito Identity at {}, data in {}\n\
             # Paste this to point the AWS CLI or any SDK here:\n{}",
            local.url(),
            store.display(),
            local.environment()
        );
        let mut out = std::io::stdout();
        out.write_all(said.as_bytes())
            .and_then(|()| out.flush())
            .map_err(Failure::system)?;
        ended.next().await;
        local.stop().await;
        Ok(ExitCode::Success)
    })
}

impl ServeArgs {
    fn faults(&self) -> Result<Vec<Rule>, Failure> {
        let rules = self.fault.iter().map(|rule| rule.parse());
        rules
            .collect::<Result<_, RuleError>>()
            .map_err(Failure::usage)
    }
}

/// SIGINT and SIGTERM.
pub(super) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(Failure::system)?,
            terminate: signal(SignalKind::terminate()).map_err(Failure::system)?,
        })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
