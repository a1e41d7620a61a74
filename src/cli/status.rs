//! `cognitofs status`: what mounts are up, and what they did and have to do.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::Serialize;
use serde_json::value::RawValue;

use super::args::StatusArgs;
use super::mounted::{About, Kept, Mounted, Stats, parse};
use super::{ExitCode, Failure};
use crate::mount::os::{self, Entry};
use crate::mount::{Place, State};

/// How many failures are shown.
const LAST: usize = 10;

/// What is known of a mount.
#[derive(Debug, Serialize)]
struct Report {
    mountpoint: String,
    /// As the user wrote it.
    source: String,
    /// `up`, `dead` (its daemon has gone) or `silent` (it does not answer).
    state: &'static str,
    /// What an answering mount says of itself: its `mount.json`, `stats.json` and `parked.json`.
    #[serde(flatten)]
    said: Option<Said>,
}

#[derive(Debug, Serialize)]
struct Said {
    mount: Box<RawValue>,
    stats: Box<RawValue>,
    parked: Box<RawValue>,
    /// The last lines of `errors.log`.
    failures: Vec<String>,
}

pub(super) fn run(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let reports = match &args.mountpoint {
        Some(path) => vec![one(path)?],
        None => all()?,
    };
    let mut code = ExitCode::Success;
    let mut text = String::new();
    for report in &reports {
        let (shown, found) = report.text()?;
        text += &shown;
        code = match (code, found) {
            (ExitCode::Mount, _) | (_, ExitCode::Mount) => ExitCode::Mount,
            (ExitCode::Success, found) => found,
            (code, _) => code,
        };
    }
    if args.json {
        text = serde_json::to_string_pretty(&reports).map_err(Failure::system)? + "\n";
    }
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::system(error)),
        _ if reports.is_empty() => Err(Failure::mount("no cognitofs is mounted")),
        _ => Ok(code),
    }
}

fn one(path: &Path) -> Result<Report, Failure> {
    let place = Place::find(path)?;
    let not_mounted = || {
        let path = place.path.display();
        Failure::mount(format!("{path}: no cognitofs is mounted there"))
    };
    let mount = place.mount.as_ref().filter(|mount| mount.is_cognitofs());
    let mount = mount.ok_or_else(not_mounted)?;
    match place.state {
        State::Refused(errno) => Err(Failure::mount(format!(
            "{}: {}",
            place.path.display(),
            errno.desc()
        ))),
        state => report(&place.path, mount, state),
    }
}

/// Reports of all mounts that the caller may look into.
fn all() -> Result<Vec<Report>, Failure> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for mount in os::table().map_err(Failure::system)? {
        if mount.is_cognitofs() && !paths.contains(&mount.mount_point) {
            paths.push(mount.mount_point);
        }
    }
    let mut reports = Vec::new();
    for path in paths {
        let Ok(place) = Place::find(&path) else {
            // It went meanwhile.
            continue;
        };
        match (place.mount, place.state) {
            (_, State::Refused(Errno::EACCES)) => {}
            (Some(mount), state) if mount.is_cognitofs() => match report(&path, &mount, state) {
                Ok(report) => reports.push(report),
                Err(_) if os::topmost(&path).is_ok_and(|on_top| on_top != Some(mount.clone())) => {}
                Err(_) => reports.push(report(&path, &mount, State::Silent)?),
            },
            _ => {}
        }
    }
    Ok(reports)
}

fn report(path: &Path, mount: &Entry, state: State) -> Result<Report, Failure> {
    let (state, said) = match state {
        State::Dead => ("dead", None),
        State::Silent => ("silent", None),
        State::Directory | State::File | State::Refused(_) => {
            let mounted = Mounted {
                path: path.to_owned(),
            };
            let said = Said {
                mount: parse(&mounted.read("mount.json")?)?,
                stats: parse(&mounted.read("stats.json")?)?,
                parked: parse(&mounted.read("parked.json")?)?,
                failures: last(&mounted.read("errors.log")?),
            };
            ("up", Some(said))
        }
    };
    Ok(Report {
        mountpoint: path.display().to_string(),
        source: mount.source.to_string_lossy().into_owned(),
        state,
        said,
    })
}

fn last(log: &str) -> Vec<String> {
    let lines: Vec<_> = log.lines().map(str::to_owned).collect();
    lines[lines.len().saturating_sub(LAST)..].to_vec()
}

impl Report {
    /// Returns what a person reads, and the exit code that goes with it.
    fn text(&self) -> Result<(String, ExitCode), Failure> {
        let head = format!("{}: {}", self.mountpoint, self.source);
        let Some(said) = &self.said else {
            let why = match self.state {
                "dead" => "is dead: its daemon has gone; mount it again, or `cognitofs umount` it",
                _ => "does not answer",
            };
            return Ok((format!("{head} {why}\n"), ExitCode::Mount));
        };
        let about: About = parse(said.mount.get())?;
        let stats: Stats = parse(said.stats.get())?;
        let kept: Vec<Kept> = parse(said.parked.get())?;
        let mut text = format!("{head} is up\n");
        text += &format!(
            "  since {}, process {}, {}\n",
            about.mounted_at,
            about.process_id,
            acting(&about)
        );
        text += &match (stats.pending, stats.refused) {
            (0, _) => "  pending: nothing\n".to_owned(),
            (pending, 0) => format!("  pending: {}\n", counted(pending, "file")),
            (pending, refused) => format!(
                "  pending: {}, {refused} tried in vain: {}\n",
                counted(pending, "file"),
                stats.reason.as_deref().unwrap_or("for no known reason")
            ),
        };
        text += &parked(&kept);
        text += &match stats.failures {
            0 => "  failed: nothing\n".to_owned(),
            failures => format!("  failed: {}, the last:\n", counted(failures, "operation")),
        };
        for failure in &said.failures {
            text += &format!("    {failure}\n");
        }
        text += &calls(&stats);
        let code = match stats.parked + stats.refused {
            0 => ExitCode::Success,
            _ => ExitCode::Wanting,
        };
        Ok((text, code))
    }
}

fn acting(about: &About) -> String {
    let acting = &about.acting;
    let name = acting.profile.as_ref().or(acting.identity.as_ref());
    match (acting.role.as_str(), name) {
        ("default_chain", _) => "by AWS's default credentials".to_owned(),
        ("developer", _) => "as the local store's developer".to_owned(),
        (role, Some(name)) => format!("as {role} {name}"),
        (role, None) => format!("as {role}"),
    }
}

/// Says where versions are kept: for how many datasets, and in which.
fn parked(kept: &[Kept]) -> String {
    let (passing, staying): (Vec<_>, Vec<_>) = kept.iter().partition(|kept| kept.expires.is_some());
    let mut text = match (staying.len() as u64, passing.len() as u64) {
        (0, 0) => return "  parked: nothing\n".to_owned(),
        (staying, 0) => format!("  parked: {}\n", counted(staying, "version")),
        (0, passing) => format!("  parked: nothing but {passing} for undo\n"),
        (staying, passing) => {
            format!(
                "  parked: {}, and {passing} for undo\n",
                counted(staying, "version")
            )
        }
    };
    for datasets in staying.chunk_by(|one, other| one.dataset == other.dataset) {
        let path = match datasets[0].dataset.as_os_str().is_empty() {
            true => Path::new("."),
            false => &datasets[0].dataset,
        };
        text += &format!("    {}: {}\n", path.display(), datasets.len());
    }
    text
}

fn calls(stats: &Stats) -> String {
    let (mut calls, mut failed, mut throttled) = (0, 0, 0);
    let mut names = Vec::new();
    for (name, operation) in &stats.operations {
        calls += operation.calls;
        failed += operation.errors.values().sum::<u64>();
        throttled += operation.throttles;
        names.push(format!("{name} {}", operation.calls));
    }
    match calls {
        0 => "  calls: none\n".to_owned(),
        _ => format!(
            "  calls: {calls} ({}), {failed} failed, {throttled} throttled\n",
            names.join(", ")
        ),
    }
}

fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
