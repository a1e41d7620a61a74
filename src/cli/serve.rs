//! `cognitofs serve`: the local service alone, until a signal ends it.

use super::args::ServeArgs;
use super::{ExitCode, Failure};

pub(super) fn run(_args: &ServeArgs) -> Result<ExitCode, Failure> {
    Err(Failure::system("serve is not built in yet"))
}
