//! `cognitofs serve` as a process of its own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use aws_credential_types::Credentials;
use nix::unistd::Pid;

/// The process, killed when it is dropped.
pub struct Served {
    process: Child,
    pub url: String,
    /// The developer's.
    pub credentials: Credentials,
}

impl Served {
    /// Serves a store on a free port.
    pub fn start(store: &Path, options: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_cognitofs"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(options)
            .arg("--store")
            .arg(store)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.as_mut().unwrap()).lines();
        let mut variable = |name: &str| {
            let prefix = format!("export {name}=");
            let mut values = said
                .by_ref()
                .filter_map(|line| Some(line.unwrap().strip_prefix(&prefix)?.to_owned()));
            values.next().unwrap()
        };
        let url = variable("AWS_ENDPOINT_URL_COGNITO_SYNC");
        let key = variable("AWS_ACCESS_KEY_ID");
        let secret = variable("AWS_SECRET_ACCESS_KEY");
        Self {
            process,
            url,
            credentials: Credentials::new(key, secret, None, None, "test"),
        }
    }

    /// Returns the process, for signals.
    pub fn id(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).unwrap())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
