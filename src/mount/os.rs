//! What differs from system to system: the table of mounts, taking a mount away, and what must be
//! there before one can be made.
//!
//! Invariant: nothing but `ask` walks into a mounted tree, so a mount whose daemon hangs holds up
//! nobody. Only the Linux half has ever been compiled and run; the other half is written
//! from the manual pages of macOS.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The type of our mounts in the kernel's table.
pub(super) const KIND: &str = "fuse.cognitofs";

/// One line of the kernel's table of mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Names the mount as long as it is there; zero where the system has no such number.
    pub id: u64,
    /// The mount it lies on.
    pub parent: u64,
    /// `MAJOR:MINOR`, as stat(2) tells it.
    pub device: OsString,
    pub mount_point: PathBuf,
    pub kind: OsString,
    pub source: OsString,
}

impl Entry {
    /// Says whether it is one of ours.
    pub fn is_cognitofs(&self) -> bool {
        self.kind == KIND
    }
}

/// Finds what is mounted on `path`, which must be canonical: the uppermost, if there are several.
pub fn topmost(path: &Path) -> io::Result<Option<Entry>> {
    Ok(uppermost(table()?, path))
}

fn uppermost(table: Vec<Entry>, path: &Path) -> Option<Entry> {
    let here: Vec<Entry> = table
        .into_iter()
        .filter(|entry| entry.mount_point == path)
        .collect();
    let covered: Vec<u64> = here.iter().map(|entry| entry.parent).collect();
    here.into_iter()
        .rev()
        .find(|entry| entry.id == 0 || !covered.contains(&entry.id))
}

/// Reads the kernel's table of mounts.
#[cfg(target_os = "linux")]
pub fn table() -> io::Result<Vec<Entry>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    Ok(text.split(|&byte| byte == b'\n').filter_map(line).collect())
}

/// Reads one line of proc_pid_mountinfo(5); optional fields end at a lone `-`.
#[cfg(target_os = "linux")]
fn line(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let parent = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = unescape(fields.next()?);
    let mount_point = unescape(fields.nth(1)?).into();
    fields.find(|&field| field == b"-")?;
    Some(Entry {
        id,
        parent,
        device,
        mount_point,
        kind: unescape(fields.next()?),
        source: unescape(fields.next()?),
    })
}

/// Undoes the kernel's `\040` for blanks, tabs, line ends and backslashes.
#[cfg(target_os = "linux")]
fn unescape(field: &[u8]) -> OsString {
    use std::os::unix::ffi::OsStringExt;

    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = |digit: &u8| (b'0'..=b'7').contains(digit);
        match tail {
            [a @ b'0'..=b'3', b, c, after @ ..] if *first == b'\\' && octal(b) && octal(c) => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(plain)
}

/// Reads the table from mount(8), whose lines are `SOURCE on PATH (TYPE, OPTIONS)`.
#[cfg(not(target_os = "linux"))]
pub fn table() -> io::Result<Vec<Entry>> {
    let output = Command::new("/sbin/mount").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let entry = |line: &str| {
        let (source, rest) = line.split_once(" on ")?;
        let (path, _) = rest.rsplit_once(" (")?;
        Some(Entry {
            id: 0,
            parent: 0,
            device: OsString::new(),
            mount_point: path.into(),
            kind: if rest.contains("cognitofs") {
                KIND.into()
            } else {
                OsString::new()
            },
            source: source.into(),
        })
    };
    Ok(text.lines().filter_map(entry).collect())
}

/// Says whether `path` is a directory, by asking its file system: what the kernel remembers of a
/// FUSE mount answers for a while after its daemon has died.
#[cfg(target_os = "linux")]
pub(super) fn ask(path: &Path) -> io::Result<bool> {
    use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};

    let answer = statx(
        CWD,
        path,
        AtFlags::STATX_FORCE_SYNC,
        StatxFlags::BASIC_STATS,
    )?;
    Ok(FileType::from_raw_mode(answer.stx_mode.into()) == FileType::Directory)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn ask(path: &Path) -> io::Result<bool> {
    Ok(path.metadata()?.is_dir())
}

/// Takes the mount out of the tree at once; files that are open in it stay usable as long as its
/// daemon lives.
#[cfg(target_os = "linux")]
pub fn detach(path: &Path) -> io::Result<()> {
    use nix::mount::MntFlags;

    take_away(path, MntFlags::MNT_DETACH, &["-u", "-z"])
}

/// Unmounts; `ResourceBusy` while anybody uses it.
#[cfg(target_os = "linux")]
pub fn unmount(path: &Path) -> io::Result<()> {
    take_away(path, nix::mount::MntFlags::empty(), &["-u"])
}

#[cfg(target_os = "linux")]
fn take_away(path: &Path, flags: nix::mount::MntFlags, words: &[&str]) -> io::Result<()> {
    use nix::errno::Errno;
    use nix::mount::{MntFlags, umount2};

    match umount2(path, flags | MntFlags::UMOUNT_NOFOLLOW) {
        // Only root may; others have a setuid program for it.
        Err(Errno::EPERM) => command(&fusermount(), words, path),
        result => Ok(result?),
    }
}

#[cfg(not(target_os = "linux"))]
pub fn detach(path: &Path) -> io::Result<()> {
    command(Path::new("/sbin/umount"), &["-f"], path)
}

#[cfg(not(target_os = "linux"))]
pub fn unmount(path: &Path) -> io::Result<()> {
    command(Path::new("/sbin/umount"), &[], path)
}

fn command(program: &Path, words: &[&str], path: &Path) -> io::Result<()> {
    let output = Command::new(program)
        .args(words)
        .arg("--")
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::other(MISSING_FUSERMOUNT),
            _ => error,
        })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text
        .lines()
        .next()
        .unwrap_or("unmounting failed")
        .trim()
        .to_owned();
    if text.contains("busy") {
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
    }
    Err(io::Error::other(text))
}

pub(super) const MISSING_FUSERMOUNT: &str = "fusermount3 is missing, and only root can mount \
     without it: install it (Debian, Ubuntu: apt-get install fuse3)";

/// Returns the path of fusermount3, or its bare name where there is none.
fn fusermount() -> PathBuf {
    const NAME: &str = "fusermount3";

    if let Some(path) = std::env::var_os("FUSERMOUNT_PATH") {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(NAME))
        .find(|program| program.is_file())
        .unwrap_or_else(|| NAME.into())
}

/// Checks what a mount needs of this machine; the error is one line that says what to do.
#[cfg(target_os = "linux")]
pub fn check_machine(allow_other: bool) -> Result<(), String> {
    use std::fs::OpenOptions;

    OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .map_err(|error| device_fault(&error))?;
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    if !fusermount().is_file() {
        return Err(MISSING_FUSERMOUNT.into());
    }
    // When the file cannot be read, fusermount3 is left to decide.
    let allowed = |text: String| text.lines().any(|line| line.trim() == "user_allow_other");
    if allow_other && !std::fs::read_to_string("/etc/fuse.conf").map_or(true, allowed) {
        return Err(REFUSED_ALLOW_OTHER.into());
    }
    Ok(())
}

pub(super) const REFUSED_ALLOW_OTHER: &str = "allow_other is root's to grant: have \
     `user_allow_other` written into /etc/fuse.conf, or mount without allow_other";

#[cfg(target_os = "linux")]
fn device_fault(error: &io::Error) -> String {
    let refused = error.kind() == io::ErrorKind::PermissionDenied;
    if refused && !nix::unistd::geteuid().is_root() {
        return "/dev/fuse may not be opened by you: as root, `chmod 666 /dev/fuse`".into();
    }
    let what = match error.kind() {
        io::ErrorKind::NotFound => "is missing".to_owned(),
        _ => format!("cannot be opened ({error})"),
    };
    format!(
        "/dev/fuse {what}: load it with `modprobe fuse`; a container is started with `--device \
         /dev/fuse`, and often with `--cap-add SYS_ADMIN`"
    )
}

/// Checks nothing: macFUSE says itself what it lacks.
#[cfg(not(target_os = "linux"))]
pub fn check_machine(_allow_other: bool) -> Result<(), String> {
    Ok(())
}

/// Names processes that hold the tree under `path`, as `NAME (PID)`, at most `limit`: those whose
/// directory, root, program or open files lie in it, as far as the caller may look.
#[cfg(target_os = "linux")]
pub fn holders(path: &Path, limit: usize) -> Vec<String> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|process| process.ok())
        .filter(|process| is_number(&process.file_name()))
        .filter(|process| holds(&process.path(), path))
        .take(limit)
        .map(|process| {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let id = process.file_name();
            format!("{} ({})", name.trim(), id.to_string_lossy())
        })
        .collect()
}

#[cfg(target_os = "linux")]
fn is_number(name: &OsStr) -> bool {
    name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
}

/// Reads links only, which asks nothing of the file system they point into.
#[cfg(target_os = "linux")]
fn holds(process: &Path, path: &Path) -> bool {
    let inside = |link: PathBuf| std::fs::read_link(link).is_ok_and(|to| to.starts_with(path));
    let files = || std::fs::read_dir(process.join("fd")).into_iter().flatten();
    ["cwd", "root", "exe"]
        .iter()
        .any(|link| inside(process.join(link)))
        || files().any(|file| file.is_ok_and(|file| inside(file.path())))
}

#[cfg(not(target_os = "linux"))]
pub fn holders(_path: &Path, _limit: usize) -> Vec<String> {
    Vec::new()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_read() {
        let text = br"36 25 0:41 / /mnt/a\040b\134c rw,nosuid shared:1 master:2 - fuse.cognitofs local:x\011y rw";
        let entry = line(text).unwrap();
        assert_eq!((entry.id, entry.parent), (36, 25));
        assert_eq!(entry.device, "0:41");
        assert_eq!(entry.mount_point, Path::new("/mnt/a b\\c"));
        assert_eq!(entry.source, "local:x\ty");
        assert!(entry.is_cognitofs());
        for bad in [
            &b""[..],
            b"36 25",
            b"x y z",
            b"36 25 0:41 / /mnt rw shared:1",
        ] {
            assert_eq!(line(bad), None);
        }
    }

    #[test]
    fn of_several_mounts_on_a_path_the_uppermost_counts() {
        let entry = |id, parent, kind: &str| Entry {
            id,
            parent,
            device: "0:1".into(),
            mount_point: "/m".into(),
            kind: kind.into(),
            source: "s".into(),
        };
        let stacked = vec![entry(30, 20, KIND), entry(20, 1, "autofs")];
        assert_eq!(uppermost(stacked, Path::new("/m")).unwrap().id, 30);
        assert_eq!(uppermost(Vec::new(), Path::new("/m")), None);
    }

    #[test]
    fn this_process_holds_its_directory() {
        let here = std::env::current_dir().unwrap();
        let holders = holders(&here, usize::MAX);
        let id = format!("({})", std::process::id());
        assert!(
            holders.iter().any(|holder| holder.ends_with(&id)),
            "{holders:?}"
        );
    }
}
