//! Trouble on demand: what a network and a busy service do to a client, at the calls that were
//! asked for.
//!
//! Invariant: without rules nothing is delayed or changed, and nothing is drawn by lot.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::wire::fault::{Code, Fault};
use crate::wire::identity::IdentityCall;
use crate::wire::operation::Call;

use super::random;

/// How faults are written, for a command's help.
pub const GRAMMAR: &str = "\
A fault is KIND[@OPERATION][,p=PROBABILITY][,n=COUNT]. Without OPERATION, as the API spells it, it
befalls every call; with p= only some (0 to 1), with n= at most so many. KIND is one of
  latency=TIME   answer later by TIME, such as 200ms or 2s
  jitter=TIME    answer later by a random time of up to TIME
  ERROR          any error of the API by its name, such as ConcurrentModificationException;
                 nothing is applied
  429            TooManyRequestsException
  500            InternalErrorException
  reset-before   close the connection, nothing is applied
  reset-after    apply the call, then close the connection
  torn           apply the call, then break off within the answer
  hang           never answer
The file STORE.faults may hold more, one a line, # begins a comment; it is read again when it
changes.
Example: --fault latency=80ms --fault 429@UpdateRecords,p=0.1 --fault reset-after,n=1";

/// What befalls a call, and when.
#[derive(Debug)]
pub struct Rule {
    kind: Kind,
    operation: Option<&'static str>,
    /// 0 to 1.
    probability: f64,
    /// How often it may still strike.
    left: Option<AtomicU64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Latency(Duration),
    Jitter(Duration),
    Trouble(Trouble),
}

/// What happens to a call instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Another answer, and nothing is applied.
    Refuse(Fault),
    ResetBefore,
    ResetAfter,
    Torn,
    Hang,
}

/// What befalls one call.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) delay: Duration,
    pub(super) trouble: Option<Trouble>,
}

/// Why a text is no fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError(String);

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no fault; --help has their form", self.0)
    }
}

impl std::error::Error for RuleError {}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let read = || {
            let mut parts = text.trim().split(',');
            let first = parts.next()?;
            let (kind, operation) = match first.split_once('@') {
                Some((kind, operation)) => {
                    let mut names = Call::NAMES.iter().chain(IdentityCall::NAMES);
                    (kind, Some(names.find(|name| **name == operation)?))
                }
                None => (first, None),
            };
            let mut rule = Self {
                kind: read_kind(kind)?,
                operation: operation.copied(),
                probability: 1.0,
                left: None,
            };
            for part in parts {
                match part.split_once('=')? {
                    ("p", number) => rule.probability = number.parse().ok()?,
                    ("n", count) => rule.left = Some(AtomicU64::new(count.parse().ok()?)),
                    _ => return None,
                }
            }
            (0.0..=1.0).contains(&rule.probability).then_some(rule)
        };
        read().ok_or_else(|| RuleError(text.to_owned()))
    }
}

fn read_kind(text: &str) -> Option<Kind> {
    Some(match text {
        "429" => refuse(Code::TooManyRequests),
        "500" => refuse(Code::InternalError),
        "reset-before" => Kind::Trouble(Trouble::ResetBefore),
        "reset-after" => Kind::Trouble(Trouble::ResetAfter),
        "torn" => Kind::Trouble(Trouble::Torn),
        "hang" => Kind::Trouble(Trouble::Hang),
        _ => match text.split_once('=') {
            Some(("latency", time)) => Kind::Latency(read_time(time)?),
            Some(("jitter", time)) => Kind::Jitter(read_time(time)?),
            _ => refuse(Code::documented(text)?),
        },
    })
}

fn refuse(code: Code) -> Kind {
    Kind::Trouble(Trouble::Refuse(Fault::new(
        code,
        "a fault that was asked for",
    )))
}

/// Reads `200ms` or `2s`, of at most an hour.
fn read_time(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.strip_suffix('s')?, 1000),
    };
    let millis = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (millis <= 60 * 60 * 1000).then_some(Duration::from_millis(millis))
}

impl Rule {
    /// Returns whether it strikes this call, and counts it if so.
    fn strikes(&self, operation: &str) -> bool {
        let meant = self.operation.is_none_or(|it| it == operation);
        if !meant || (self.probability < 1.0 && lot() >= self.probability) {
            return false;
        }
        let less = |left: u64| left.checked_sub(1);
        let counted = self.left.as_ref().map(|left| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
                .is_ok()
        });
        counted.unwrap_or(true)
    }
}

/// Draws a number from 0 to 1, 1 not included. Without random numbers nothing strikes.
fn lot() -> f64 {
    let Ok(bytes) = random::bytes::<4>() else {
        return 1.0;
    };
    f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

/// The rules in force.
#[derive(Default)]
pub struct Faults {
    given: Vec<Rule>,
    control: Option<Control>,
}

/// Rules in a file.
struct Control {
    path: PathBuf,
    read: Mutex<Read>,
}

#[derive(Default)]
struct Read {
    /// The file's date and length when it was read; None while it is not there.
    stamp: Option<(SystemTime, u64)>,
    rules: Arc<Vec<Rule>>,
}

impl Faults {
    /// Takes rules, and a file that may hold more and need not exist.
    pub fn new(given: Vec<Rule>, control: Option<PathBuf>) -> Self {
        let control = control.map(|path| Control {
            path,
            read: Mutex::default(),
        });
        Self { given, control }
    }

    /// Returns what befalls a call, whose name is asked for only if there are rules. Delays add up;
    /// of troubles the first strikes.
    pub(super) fn plan(&self, operation: impl FnOnce() -> String) -> Plan {
        let control = self.control.as_ref().map(Control::rules);
        let more = control.as_deref().map(Vec::as_slice).unwrap_or_default();
        let mut plan = Plan::default();
        if self.given.is_empty() && more.is_empty() {
            return plan;
        }
        let operation = operation();
        for rule in self.given.iter().chain(more) {
            match &rule.kind {
                Kind::Trouble(_) if plan.trouble.is_some() => {}
                _ if !rule.strikes(&operation) => {}
                Kind::Latency(time) => plan.delay += *time,
                Kind::Jitter(time) => plan.delay += time.mul_f64(lot()),
                Kind::Trouble(trouble) => plan.trouble = Some(trouble.clone()),
            }
        }
        plan
    }
}

impl Control {
    /// Returns the file's rules. A file that cannot be read or understood leaves them as they were.
    fn rules(&self) -> Arc<Vec<Rule>> {
        let stamp =
            std::fs::metadata(&self.path).and_then(|file| Ok((file.modified()?, file.len())));
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = stamp.ok();
        if stamp != read.stamp {
            read.stamp = stamp;
            match self.parse(stamp.is_some()) {
                Ok(rules) => read.rules = Arc::new(rules),
                Err(error) => tracing::warn!(error, "the faults stay as they were"),
            }
        }
        read.rules.clone()
    }

    fn parse(&self, is_there: bool) -> Result<Vec<Rule>, String> {
        if !is_there {
            return Ok(Vec::new());
        }
        let text = std::fs::read_to_string(&self.path).map_err(|error| error.to_string())?;
        let lines = text
            .lines()
            .map(|line| line.split('#').next().unwrap_or(""));
        let lines = lines.map(str::trim).filter(|line| !line.is_empty());
        lines
            .map(|line| line.parse().map_err(|error: RuleError| error.to_string()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(rules: &[&str]) -> Faults {
        let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        Faults::new(rules, None)
    }

    #[test]
    fn rules_have_one_form() {
        for good in [
            "latency=200ms",
            "jitter=2s@ListRecords",
            "429@UpdateRecords,p=0.5,n=3",
            " 500 ",
            "reset-before",
            "reset-after,n=1",
            "torn,p=0",
            "hang,p=1",
            "ConcurrentModificationException@UpdateRecords,n=1",
            "ExternalServiceException@GetId",
        ] {
            assert!(good.parse::<Rule>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "latency",
            "latency=",
            "latency=5",
            "latency=-1s",
            "latency=3601s",
            "404",
            "Exception",
            "concurrentmodificationexception",
            "ConcurrentModificationException=1",
            "429@",
            "429,p=2",
            "429,p=-1",
            "429,p=NaN",
            "429,n=-1",
            "429,n",
            "429,x=1",
            "hang=1s",
        ] {
            assert!(bad.parse::<Rule>().is_err(), "{bad}");
        }
    }

    fn refused(code: Code) -> Option<Trouble> {
        match refuse(code) {
            Kind::Trouble(trouble) => Some(trouble),
            _ => None,
        }
    }

    #[test]
    fn delays_add_up_and_the_first_trouble_strikes() {
        let faults = faults(&[
            "latency=2s",
            "429@GetId,n=1",
            "latency=1s@ListRecords",
            "hang,n=2",
        ]);
        let plan = |operation: &str| {
            let Plan { delay, trouble } = faults.plan(|| operation.to_owned());
            (delay.as_secs(), trouble)
        };
        assert_eq!(plan("GetId"), (2, refused(Code::TooManyRequests)));
        assert_eq!(plan("ListRecords"), (3, Some(Trouble::Hang)));
        assert_eq!(plan("GetId"), (2, Some(Trouble::Hang)));
        assert_eq!(plan("GetId"), (2, None));
        let idle = Faults::default().plan(|| unreachable!("there are no rules"));
        assert_eq!(idle, Plan::default());
    }

    #[test]
    fn some_is_neither_none_nor_all() {
        let faults = faults(&["500,p=0.5"]);
        let struck = (0..1000)
            .filter(|_| faults.plan(|| "A".to_owned()).trouble.is_some())
            .count();
        assert!((300..700).contains(&struck), "{struck}");
    }

    #[test]
    fn the_file_is_read_again_when_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.faults");
        let faults = Faults::new(Vec::new(), Some(path.clone()));
        let trouble = || faults.plan(|| "A".to_owned()).trouble;
        assert_eq!(trouble(), None);
        std::fs::write(&path, "# none\n\n500 # all\n").unwrap();
        assert_eq!(trouble(), refused(Code::InternalError));
        std::fs::write(&path, "nonsense").unwrap();
        assert_eq!(trouble(), refused(Code::InternalError));
        std::fs::write(&path, "hang").unwrap();
        assert_eq!(trouble(), Some(Trouble::Hang));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(trouble(), None);
    }
}
