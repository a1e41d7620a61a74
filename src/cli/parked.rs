//! `cognitofs parked`: versions kept from being lost, listed, read, compared, put back and let go,
//! by the files of the mount alone.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use super::args::{ParkedAction, ParkedArgs};
use super::mounted::{Kept, Mounted};
use super::{ExitCode, Failure, complain};
use crate::mount::patiently;

/// The directory of the versions kept of a dataset, below it.
const PARKED: &str = ".cognito/parked";

pub(super) fn run(args: &ParkedArgs) -> Result<ExitCode, Failure> {
    match (&args.action, &args.path) {
        (Some(ParkedAction::List { path }), _) | (None, Some(path)) => list(path),
        (Some(ParkedAction::Show { path }), _) => show(&Chosen::find(path)?),
        (Some(ParkedAction::Diff { path }), _) => diff(&Chosen::find(path)?),
        (Some(ParkedAction::Keep { path }), _) => keep(&Chosen::find(path)?),
        (Some(ParkedAction::Discard { path }), _) => Chosen::find(path)?.discard(),
        (None, None) => Err(Failure::usage("name a path in a mount")),
    }
}

fn told(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::refused(format!("{}: {why}", path.display()))
}

/// What a path in a mount stands for.
#[derive(Debug, PartialEq, Eq)]
enum Meant {
    /// All that is kept of what lies there.
    Below(PathBuf),
    /// A file in a dataset's `.cognito/parked`.
    Version { dataset: PathBuf, name: String },
}

impl Meant {
    /// Reads a path below a mount. What stands under `.cognito` is about its directory.
    fn read(below: &Path) -> Self {
        let mut parts = below.components();
        let mut dataset = PathBuf::new();
        for part in parts.by_ref() {
            if part == Component::Normal(".cognito".as_ref()) {
                break;
            }
            dataset.push(part);
        }
        let directory = parts.next().map(Component::as_os_str);
        match (directory.and_then(|name| name.to_str()), parts.next()) {
            (Some("parked"), Some(name)) => Self::Version {
                dataset,
                name: name.as_os_str().to_string_lossy().into_owned(),
            },
            _ => Self::Below(dataset),
        }
    }

    fn is(&self, kept: &Kept) -> bool {
        match self {
            Self::Below(path) => kept.dataset.join(&kept.record).starts_with(path),
            Self::Version { dataset, name } => kept.dataset == *dataset && kept.name == *name,
        }
    }

    /// Returns whether it stands for a version or for one record's versions.
    fn is_of_one_record(&self, kept: &Kept) -> bool {
        match self {
            Self::Below(path) => kept.dataset.join(&kept.record) == *path,
            Self::Version { .. } => true,
        }
    }
}

/// Returns what is kept of a path.
fn find(mounted: &Mounted, meant: &Meant) -> Result<Vec<Kept>, Failure> {
    let mut kept = mounted.kept()?;
    kept.retain(|kept| meant.is(kept));
    let Some(first) = kept.first() else {
        return Ok(kept);
    };
    // Of one dataset it can be asked what the service has again, which is kept no longer.
    if kept.iter().all(|kept| kept.dataset == first.dataset) {
        let directory = mounted.path.join(&first.dataset).join(PARKED);
        let names = patiently(move || {
            let entries = fs::read_dir(directory)?;
            let names = entries.map(|entry| Ok(entry?.file_name()));
            names.collect::<io::Result<Vec<_>>>()
        });
        if let Ok(Some(Ok(names))) = names {
            kept.retain(|kept| names.iter().any(|name| name.to_str() == Some(&kept.name)));
        }
    }
    Ok(kept)
}

fn list(path: &Path) -> Result<ExitCode, Failure> {
    let (mounted, below) = Mounted::containing(path)?;
    let kept = find(&mounted, &Meant::read(&below))?;
    if kept.is_empty() {
        if let Err(error) = path.symlink_metadata() {
            return Err(told(path, error));
        }
        complain(&format!("{}: nothing is kept of it", path.display()));
    }
    let mut text = String::new();
    for dataset in kept.chunk_by(|one, other| one.dataset == other.dataset) {
        let directory = mounted.path.join(&dataset[0].dataset).join(PARKED);
        if !text.is_empty() {
            text.push('\n');
        }
        text += &format!("{}:\n", directory.display());
        text += &table(dataset);
    }
    print(text.as_bytes())
}

fn table(kept: &[Kept]) -> String {
    let row = |kept: &Kept| {
        let reason = match &kept.expires {
            Some(at) => format!("{} (until {at})", kept.reason),
            None => kept.reason.clone(),
        };
        [
            kept.name.clone(),
            kept.side.clone(),
            kept.at.clone(),
            kept.size.to_string(),
            reason,
        ]
        .map(|cell| cell.replace(char::is_control, "?"))
    };
    let head = ["NAME", "SIDE", "KEPT AT", "SIZE", "WHY"].map(str::to_owned);
    let rows: Vec<_> = [head].into_iter().chain(kept.iter().map(row)).collect();
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let widths = [0, 1, 2, 3].map(width);
    let line = |[name, side, at, size, why]: &[String; 5]| {
        format!(
            "{name:<0$}  {side:<1$}  {at:<2$}  {size:>3$}  {why}\n",
            widths[0], widths[1], widths[2], widths[3]
        )
    };
    rows.iter().map(line).collect()
}

/// The one version that a path stands for.
struct Chosen {
    /// The kept version's file.
    file: PathBuf,
    record: PathBuf,
    dataset: PathBuf,
}

impl Chosen {
    fn find(path: &Path) -> Result<Self, Failure> {
        let (mounted, below) = Mounted::containing(path)?;
        let meant = Meant::read(&below);
        let kept = find(&mounted, &meant)?;
        let kept = match &kept[..] {
            [] => return Err(told(path, "nothing is kept of it")),
            [kept] if meant.is_of_one_record(kept) => kept,
            several => {
                let names: Vec<_> = several.iter().take(5).map(|kept| &*kept.name).collect();
                let names = names.join(", ").replace(char::is_control, "?");
                return Err(told(
                    path,
                    format!("name one version in {PARKED}: there is {names}"),
                ));
            }
        };
        let dataset = mounted.path.join(&kept.dataset);
        Ok(Self {
            file: dataset.join(PARKED).join(&kept.name),
            record: dataset.join(&kept.record),
            dataset,
        })
    }

    fn read(&self) -> Result<Vec<u8>, Failure> {
        fs::read(&self.file).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound if !self.dataset.exists() => told(
                &self.dataset,
                "has been deleted elsewhere: mkdir it to get at what is kept of it, which sends \
                 nothing",
            ),
            _ => told(&self.file, error),
        })
    }

    fn discard(&self) -> Result<ExitCode, Failure> {
        self.read()?;
        self.let_go()
    }

    fn let_go(&self) -> Result<ExitCode, Failure> {
        match fs::remove_file(&self.file) {
            // What the service has again goes by itself.
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(told(&self.file, error)),
            _ => Ok(ExitCode::Success),
        }
    }
}

fn show(chosen: &Chosen) -> Result<ExitCode, Failure> {
    print(&chosen.read()?)
}

fn print(bytes: &[u8]) -> Result<ExitCode, Failure> {
    let mut out = io::stdout();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::system(error)),
        _ => Ok(ExitCode::Success),
    }
}

/// Shows what putting a version back would change.
fn diff(chosen: &Chosen) -> Result<ExitCode, Failure> {
    chosen.read()?;
    let record = match chosen.record.exists() {
        true => &chosen.record,
        false => Path::new("/dev/null"),
    };
    let ended = Command::new("diff")
        .args(["-a", "-u", "--"])
        .args([record, &chosen.file])
        .stdin(Stdio::null())
        .status();
    match ended.map(|status| status.code()) {
        Ok(Some(0 | 1)) => Ok(ExitCode::Success),
        Ok(_) => Err(told(&chosen.file, "cannot be compared")),
        Err(error) => Err(Failure::system(format!("diff: {error}"))),
    }
}

/// Makes a version the record's value. It is let go only when the service has it.
fn keep(chosen: &Chosen) -> Result<ExitCode, Failure> {
    if !chosen.dataset.exists() {
        fs::create_dir(&chosen.dataset).map_err(|error| told(&chosen.dataset, error))?;
    }
    let text = chosen.read()?;
    let write = || {
        let mut file = File::create(&chosen.record)?;
        file.write_all(&text)?;
        file.sync_all()
    };
    write().map_err(|error| {
        told(
            &chosen.record,
            format!("{error}; the version stays in {PARKED}"),
        )
    })?;
    chosen.let_go()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_which_versions_are_meant() {
        let below = |path: &str| Meant::Below(path.into());
        for (path, meant) in [
            ("", below("")),
            ("pool/id/data", below("pool/id/data")),
            ("data/k", below("data/k")),
            ("data/.cognito", below("data")),
            ("data/.cognito/parked", below("data")),
            ("data/.cognito/records.json", below("data")),
            (
                ".cognito/parked/a@b@1.local.2",
                Meant::Version {
                    dataset: "".into(),
                    name: "a@b@1.local.2".into(),
                },
            ),
        ] {
            assert_eq!(Meant::read(Path::new(path)), meant, "{path}");
        }
    }
}
