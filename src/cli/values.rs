//! The values of options: users, durations, URLs.
//!
//! Invariant: an error says what was expected, for the option's name and the value to stand before.

use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::{Group, User};
use url::Url;

use crate::api::{Logins, parse_endpoint};
use crate::fs::CommitMode;
use crate::sync::Unseen;
use crate::wire::names::{Region, Scope};

/// Keeps every sum of a moment and a time within what the clock can hold.
const MAX_TIME: Duration = Duration::from_secs(366 * 24 * 3600);

pub(super) fn text(value: &str, expected: &str) -> Result<String, String> {
    match value.trim() {
        "" => Err(format!("expected {expected}")),
        _ => Ok(value.to_owned()),
    }
}

pub(super) fn user(value: &str) -> Result<u32, String> {
    let named = || {
        User::from_name(value)
            .ok()
            .flatten()
            .map(|user| user.uid.as_raw())
    };
    let id = value.parse().ok().or_else(named);
    id.ok_or_else(|| "there is no such user: write a name or a number".into())
}

pub(super) fn group(value: &str) -> Result<u32, String> {
    let named = || {
        Group::from_name(value)
            .ok()
            .flatten()
            .map(|group| group.gid.as_raw())
    };
    let id = value.parse().ok().or_else(named);
    id.ok_or_else(|| "there is no such group: write a name or a number".into())
}

pub(super) fn umask(value: &str) -> Result<u16, String> {
    let octal = value.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let mask = u16::from_str_radix(value, 8)
        .ok()
        .filter(|mask| octal && *mask <= 0o777);
    mask.ok_or_else(|| "expected octal digits such as 022, at most 777".into())
}

pub(super) fn root(value: &str) -> Result<Scope, String> {
    match value.parse() {
        Ok(Scope::Region) => Err("expected POOL[/IDENTITY[/DATASET]]".into()),
        Ok(scope) => Ok(scope),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn region(value: &str) -> Result<Region, String> {
    value
        .parse()
        .map_err(|_| "expected a region such as us-east-1".into())
}

pub(super) fn endpoint(value: &str) -> Result<Url, String> {
    parse_endpoint(value).map_err(|error| error.to_string())
}

pub(super) fn guest(value: &str) -> Result<bool, String> {
    match value {
        "guest" => Ok(true),
        _ => Err("expected guest; who logs in writes login=PROVIDER=FILE".into()),
    }
}

/// Reads `PROVIDER=FILE`. The file's path is made absolute, as a daemon changes its directory.
pub(super) fn login(value: &str) -> Result<(String, PathBuf), String> {
    let (provider, file) = value.split_once('=').unwrap_or_default();
    if provider.is_empty() || file.is_empty() {
        return Err("expected PROVIDER=FILE, such as accounts.google.com=/run/token".into());
    }
    let file = std::path::absolute(file).map_err(|error| error.to_string())?;
    Ok((provider.to_owned(), file))
}

pub(super) fn timeout(value: &str) -> Result<Duration, String> {
    match duration(value)? {
        Duration::ZERO => Err("an operation needs some time: write 30s or so".into()),
        time => Ok(time),
    }
}

pub(super) fn commit(value: &str) -> Result<CommitMode, String> {
    match value {
        "close" => Ok(CommitMode::Close),
        "async" => Ok(CommitMode::Async),
        _ => Err("expected close or async".into()),
    }
}

pub(super) fn unseen(value: &str) -> Result<Unseen, String> {
    match value {
        "auto" => Ok(Unseen::Keep),
        "strict" => Ok(Unseen::Refuse),
        _ => Err("expected auto or strict".into()),
    }
}

/// Reads a whole number of days; 0 is none.
pub(super) fn days(value: &str) -> Result<Option<Duration>, String> {
    match value.parse::<u32>() {
        Ok(0) => Ok(None),
        Ok(days) if days <= 366 => Ok(Some(Duration::from_secs(u64::from(days) * 24 * 3600))),
        _ => Err("expected a number of days, at most 366".into()),
    }
}

/// Makes a path absolute: the daemon changes its directory.
pub(super) fn directory(value: &str) -> Result<PathBuf, String> {
    std::path::absolute(value).map_err(|_| "expected a directory".into())
}

/// Reads `500ms`, `5s`, `2m`, `1h` or a whole number of seconds.
pub(super) fn duration(value: &str) -> Result<Duration, String> {
    let digits = value.len()
        - value
            .trim_start_matches(|digit: char| digit.is_ascii_digit())
            .len();
    let (number, unit) = value.split_at(digits);
    let milliseconds = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    let number: Option<u64> = number.parse().ok().filter(|_| milliseconds > 0);
    number
        .and_then(|number| number.checked_mul(milliseconds))
        .map(Duration::from_millis)
        .filter(|time| *time <= MAX_TIME)
        .ok_or_else(|| "expected a time such as 500ms, 5s or 2m, at most a year".into())
}

/// Reads how many calls may be under way.
pub(super) fn concurrency(value: &str) -> Result<u32, String> {
    let number = value.parse().ok();
    let number = number.filter(|number| (1..=1024).contains(number));
    number.ok_or_else(|| "expected a number of calls, 1 to 1024".into())
}

/// Writes a time as [`duration`] reads it.
pub(super) fn shown_time(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{}s", time.as_secs()),
        _ => format!("{}ms", time.as_millis()),
    }
}

pub(super) fn shown_days(time: Option<Duration>) -> String {
    let days = time.unwrap_or_default().as_secs() / (24 * 3600);
    days.to_string()
}

pub(super) fn shown_logins(logins: &Logins) -> Vec<String> {
    let login = |(provider, file): (&String, &PathBuf)| format!("{provider}={}", file.display());
    logins.0.iter().map(login).collect()
}

pub(super) fn shown_commit(commit: CommitMode) -> &'static str {
    match commit {
        CommitMode::Close => "close",
        CommitMode::Async => "async",
    }
}

pub(super) fn shown_unseen(unseen: Unseen) -> &'static str {
    match unseen {
        Unseen::Keep => "auto",
        Unseen::Refuse => "strict",
    }
}
