//! Voices that are not ours: boto3, botocore and the AWS CLI. They call `cognitofs serve`, and
//! botocore reads what our client sends. The tests are Python, in `tests/conformance/`; here they
//! get their environment and a service each.

mod sent;

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use cognitofs::wire::identity::IdentityCall;
use cognitofs::wire::operation::Call;

const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance");

/// Returns the interpreter of the environment, which is made if need be, and once.
fn python() -> &'static str {
    static PYTHON: OnceLock<Result<String, String>> = OnceLock::new();
    let made = PYTHON.get_or_init(|| {
        let made = Command::new(format!("{TESTS}/environment"))
            .output()
            .unwrap();
        let told = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
        match made.status.success() {
            true => Ok(told(&made.stdout)),
            false => Err(told(&made.stderr)),
        }
    });
    match made {
        Ok(python) => python,
        Err(told) => panic!("no Python environment; run tests/run\n{told}"),
    }
}

/// `cognitofs serve` on a store of its own.
struct Served {
    process: Child,
    directory: tempfile::TempDir,
    /// What it says to set so that clients find it.
    environment: HashMap<String, String>,
}

impl Served {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_cognitofs"))
            .args(["serve", "--listen", "127.0.0.1:0", "--store"])
            .arg(directory.path().join("store"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.as_mut().unwrap()).lines();
        let lines = lines.map(Result::unwrap);
        let environment = lines
            .take_while(|line| !line.starts_with("unset"))
            .filter_map(|line| {
                let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
                Some((name.to_owned(), value.to_owned()))
            })
            .collect();
        Self {
            process,
            directory,
            environment,
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Runs the tests of a Python module, or of a class in it, in an environment that holds nothing of
/// the user's.
fn run(module: &str, home: &Path, environment: &HashMap<String, String>) {
    let ended = Command::new(python())
        .args(["-m", "unittest", "--verbose", module])
        .current_dir(TESTS)
        .env_clear()
        .envs(environment)
        .envs([
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("PATH", "/usr/bin:/bin"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
            ("PYTHONUTF8", "1"),
        ])
        .env("HOME", home)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    println!("{}{said}", String::from_utf8_lossy(&ended.stdout));
    let summary = said.lines().last().unwrap_or_default();
    assert!(
        ended.status.success() && summary == "OK",
        "{module}: {summary}"
    );
    assert!(!said.contains("\nRan 0 tests"), "{module} has no tests");
}

/// Tells the tests which operations we have.
fn operations() -> HashMap<String, String> {
    [
        ("COGNITOFS_SYNC_OPERATIONS", Call::NAMES),
        ("COGNITOFS_IDENTITY_OPERATIONS", IdentityCall::NAMES),
    ]
    .map(|(name, operations)| (name.to_owned(), operations.join(",")))
    .into()
}

fn run_served(module: &str) {
    let served = Served::start();
    let store = served.directory.path().join("store");
    let mut environment = operations();
    environment.extend(served.environment.clone());
    environment.insert("COGNITOFS_STORE".to_owned(), store.display().to_string());
    run(module, served.directory.path(), &environment);
}

#[test]
fn boto3_calls_every_operation() {
    run_served("boto3_operations");
}

#[test]
fn the_aws_cli_calls_every_operation_of_cognito_sync() {
    run_served("cli_operations.Sync");
}

#[test]
fn the_aws_cli_calls_every_operation_of_cognito_identity() {
    run_served("cli_operations.Identity");
}

#[test]
fn every_modelled_exception_that_can_be_reached_is_raised() {
    run_served("refusals");
}

#[test]
fn the_limits_are_those_of_the_model() {
    run_served("limits");
}

#[test]
fn the_sequences_of_the_live_tests_hold() {
    run_served("sequences");
}
