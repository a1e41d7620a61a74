//! `cognitofs demo`: the local service, sample data and a mount in one command.

use super::args::DemoArgs;
use super::{ExitCode, Failure};

pub(super) fn run(_args: &DemoArgs) -> Result<ExitCode, Failure> {
    Err(Failure::system("demo is not built in yet"))
}
