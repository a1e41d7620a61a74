//! A mount by the real program, in the foreground, taken away when it is dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;

use super::bed::Bed;

/// How long a mount may take to come or to go before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Mounted {
    pub path: PathBuf,
    pub log: PathBuf,
    child: Option<Child>,
}

/// The program, with the credentials of a bed's service.
pub fn program(bed: &Bed) -> Command {
    let developer = bed.service.developer_credentials();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cognitofs"));
    command
        .env("AWS_ACCESS_KEY_ID", &developer.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", &developer.secret_key)
        .env_remove("AWS_SESSION_TOKEN")
        .env_remove("AWS_PROFILE")
        .env("XDG_STATE_HOME", bed.directory.path().join("state"));
    command
}

impl Mounted {
    pub fn new(bed: &Bed, source: &str, options: &str) -> Self {
        Self::start(bed, source, options, program(bed))
    }

    /// Mounts as somebody else than the developer.
    pub fn with_credentials(
        bed: &Bed,
        source: &str,
        options: &str,
        credentials: &Credentials,
    ) -> Self {
        let mut command = program(bed);
        command
            .env("AWS_ACCESS_KEY_ID", credentials.access_key_id())
            .env("AWS_SECRET_ACCESS_KEY", credentials.secret_access_key())
            .env("AWS_SESSION_TOKEN", credentials.session_token().unwrap());
        Self::start(bed, source, options, command)
    }

    /// Mounts with more in the environment.
    pub fn with_environment(
        bed: &Bed,
        source: &str,
        options: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let mut command = program(bed);
        command.envs(environment.iter().copied());
        Self::start(bed, source, options, command)
    }

    fn start(bed: &Bed, source: &str, options: &str, mut command: Command) -> Self {
        let count = fs::read_dir(bed.directory.path()).unwrap().count();
        let path = bed.directory.path().join(format!("mount{count}"));
        fs::create_dir(&path).unwrap();
        let log = bed.directory.path().join(format!("log{count}"));
        command
            .args(["mount", "-f"])
            .env("COGNITOFS_LOG", "cognitofs=trace")
            .stderr(File::create(&log).unwrap());
        if !options.contains("endpoint=") {
            command.args(["-o", &format!("endpoint=http://{}", bed.address)]);
        }
        if !options.contains("state=") {
            // Two mounts of one source cannot share it.
            let state = bed.directory.path().join(format!("state{count}"));
            command.args(["-o", &format!("state={}", state.display())]);
        }
        if !options.is_empty() {
            command.args(["-o", options]);
        }
        let child = command.arg(source).arg(&path).spawn().unwrap();
        let mut mounted = Self {
            path,
            log,
            child: Some(child),
        };
        mounted.wait_until_mounted();
        mounted
    }

    fn wait_until_mounted(&mut self) {
        let begun = Instant::now();
        while !is_mounted(&self.path) {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            assert!(ended.is_none(), "the mount ended: {log}");
            assert!(begun.elapsed() < PATIENCE, "no mount: {log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Counts the requests the kernel made so far, by operation if one is named.
    pub fn requests(&self, operation: Option<&str>) -> usize {
        let log = self.log();
        let requests = log
            .lines()
            .filter(|line| line.contains("TRACE cognitofs::fuse"));
        let meant = |line: &&str| {
            operation.is_none_or(|name| line.contains(&format!("operation=\"{name}\"")))
        };
        requests.filter(meant).count()
    }

    /// Sends a signal to the daemon.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let id = nix::unistd::Pid::from_raw(i32::try_from(self.id()).unwrap());
        nix::sys::signal::kill(id, signal).unwrap();
    }

    /// Waits for the daemon to end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if begun.elapsed() > PATIENCE {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("the daemon did not end: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Unmounts as a user would, and returns how the daemon ended.
    pub fn unmount(&mut self) -> ExitStatus {
        let status = Command::new("umount").arg(&self.path).status().unwrap();
        assert!(status.success());
        self.wait()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A daemon that was killed leaves a dead mount.
        if is_mounted(&self.path) {
            let _ = Command::new("umount").arg("-l").arg(&self.path).output();
        }
        let Some(mut child) = self.child.take() else {
            return;
        };
        let begun = Instant::now();
        while child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if begun.elapsed() > PATIENCE {
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

pub fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let path = path.to_str().unwrap();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(1) == Some(path))
}

/// Runs a shell command in a directory.
pub fn shell(directory: &Path, command: &str) -> Output {
    let mut shell = Command::new("bash");
    shell.arg("-c").arg(command).current_dir(directory);
    shell.output().unwrap()
}

/// Runs a shell command that must succeed, and returns what it printed.
pub fn run(directory: &Path, command: &str) -> String {
    let output = shell(directory, command);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a test in a process of its own. A process that is started inherits every open file until it
/// is another program, and closes them then: which is a flush of what a test has open.
pub fn alone(test: &str, action: impl FnOnce()) {
    const MARK: &str = "COGNITOFS_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return action();
    }
    let mut tests = Command::new(std::env::current_exe().unwrap());
    tests.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    let output = tests.env(MARK, "1").output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{printed}");
    assert!(
        printed.contains("1 passed") && output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
