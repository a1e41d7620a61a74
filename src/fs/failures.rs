//! What went wrong last, for those who were not told: `errors.log`.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use nix::errno::Errno;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How many failures are remembered.
const KEPT: usize = 1024;

/// An operation that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    pub at: SystemTime,
    /// As POSIX calls it.
    pub operation: &'static str,
    /// Below the mount.
    pub path: String,
    pub errno: i32,
    /// What was wrong, in our words and the service's.
    pub reason: String,
}

#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    /// The last, oldest first.
    last: VecDeque<Failure>,
    count: u64,
}

impl Failures {
    pub(super) fn note(&self, failure: Failure) {
        let mut noted = self.lock();
        if noted.last.len() >= KEPT {
            noted.last.pop_front();
        }
        noted.last.push_back(failure);
        noted.count += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many were noted, those that are forgotten among them.
    pub(super) fn count(&self) -> u64 {
        self.lock().count
    }

    /// Writes one line for each failure: when, what, where, which errno, why.
    pub(super) fn text(&self) -> String {
        let noted = self.lock();
        let mut text = String::new();
        for failure in &noted.last {
            let at = OffsetDateTime::from(failure.at).replace_nanosecond(0);
            let at = at.ok().and_then(|at| at.format(&Rfc3339).ok());
            let (operation, errno) = (failure.operation, Errno::from_raw(failure.errno));
            let path = failure.path.replace(char::is_control, "?");
            let reason = failure.reason.replace(char::is_control, " ");
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{} {operation} {path} {errno:?} {reason}",
                at.unwrap_or_default()
            );
        }
        text
    }
}
