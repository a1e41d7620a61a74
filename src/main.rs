//! The program; `cli` is all of it.

use std::process::ExitCode;

fn main() -> ExitCode {
    cognitofs::cli::run(std::env::args_os())
}
