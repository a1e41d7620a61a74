//! Sessions, mounted for real: how they begin, how they end, and what is left of them.

use std::fs::File;
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use cognitofs::mount::{self, Cause, MountError, MountPoint, Session, SessionOptions, State};
use fuser::{Errno, FileAttr, FileHandle, FileType, Filesystem, INodeNo, ReplyAttr, Request};

use crate::point::{Point, SOON, eventually};

/// A directory, as far as stat(2) can tell.
#[derive(Default)]
struct Hollow {
    /// Whether it refuses to be mounted.
    refuses: bool,
    /// What comes of each fsync in turn, with the time it takes; ENOSYS after the last.
    syncs: Mutex<Vec<(Duration, Result<(), Errno>)>>,
}

impl Filesystem for Hollow {
    fn init(&mut self, _: &Request, _: &mut fuser::KernelConfig) -> std::io::Result<()> {
        match self.refuses {
            true => Err(std::io::ErrorKind::InvalidData.into()),
            false => Ok(()),
        }
    }

    fn fsyncdir(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _datasync: bool,
        reply: fuser::ReplyEmpty,
    ) {
        match self.syncs.lock().unwrap().pop() {
            Some((time, result)) => {
                thread::sleep(time);
                match result {
                    Ok(()) => reply.ok(),
                    Err(errno) => reply.error(errno),
                }
            }
            None => reply.error(Errno::ENOSYS),
        }
    }

    fn getattr(&self, _: &Request, _: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let epoch = std::time::UNIX_EPOCH;
        reply.attr(
            &Duration::ZERO,
            &FileAttr {
                ino: INodeNo::ROOT,
                size: 0,
                blocks: 0,
                atime: epoch,
                mtime: epoch,
                ctime: epoch,
                crtime: epoch,
                kind: FileType::Directory,
                perm: 0o755,
                nlink: 2,
                uid: 0,
                gid: 0,
                rdev: 0,
                blksize: 512,
                flags: 0,
            },
        );
    }
}

fn mounted(point: &Point, options: &SessionOptions) -> Session {
    let place = MountPoint::prepare(point.path()).unwrap();
    mount::mount(Hollow::default(), &place, options).unwrap()
}

fn options(source: &str) -> SessionOptions {
    SessionOptions {
        source: source.into(),
        ..SessionOptions::default()
    }
}

#[test]
fn a_mount_answers_and_shows_its_source() {
    let Some(point) = Point::new() else { return };
    let source = "local:/some where,else";
    let session = mounted(
        &point,
        &SessionOptions {
            read_only: true,
            no_exec: true,
            no_atime: true,
            ..options(source)
        },
    );
    assert!(point.path().metadata().unwrap().is_dir());
    let entry = point.mounted().unwrap();
    assert!(entry.is_cognitofs());
    assert_eq!(entry.source, source);

    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table
        .lines()
        .find(|line| line.starts_with(&format!("{} ", entry.id)))
        .unwrap();
    for word in ["ro,nosuid,nodev,noexec,noatime", "default_permissions"] {
        assert!(line.contains(word), "{line}");
    }
    assert!(!line.contains("allow_other"), "{line}");
    drop(session);
    assert_eq!(point.mounted(), None);
}

#[test]
fn a_second_mount_is_refused() {
    let Some(point) = Point::new() else { return };
    let place = MountPoint::prepare(point.path()).unwrap();
    let _session = mounted(&point, &options("first"));
    let error = MountPoint::prepare(point.path()).unwrap_err();
    assert!(
        error.to_string().ends_with("already mounted (first)"),
        "{error}"
    );
    // Not even one that was checked before the first came.
    let error = mount::mount(Hollow::default(), &place, &options("second")).unwrap_err();
    assert!(
        matches!(error, MountError::AlreadyMounted { .. }),
        "{error}"
    );
    assert_eq!(point.mounted().unwrap().source, "first");
}

#[test]
fn a_file_system_that_refuses_leaves_no_mount() {
    let Some(point) = Point::new() else { return };
    let place = MountPoint::prepare(point.path()).unwrap();
    let error = mount::mount(
        Hollow {
            refuses: true,
            ..Hollow::default()
        },
        &place,
        &options("x"),
    )
    .unwrap_err();
    assert!(matches!(error, MountError::Refused(_)), "{error}");
    assert_eq!(point.mounted(), None);
}

#[test]
fn an_unmount_ends_the_session_after_its_drain() {
    let Some(point) = Point::new() else { return };
    let session = mounted(&point, &options("x"));
    let path = point.path().to_owned();
    let umount = thread::spawn(move || mount::os::unmount(&path).unwrap());
    let limit = Duration::from_secs(3);
    let ending = session.wait(limit, move |deadline| {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(left <= limit && left > limit / 2);
        3
    });
    umount.join().unwrap();
    assert!(matches!(ending.cause, Cause::Unmounted));
    assert_eq!(ending.unsent, Some(3));
    assert!(!ending.is_clean());
}

#[test]
fn a_busy_mount_is_detached_before_the_drain() {
    let Some(point) = Point::new() else { return };
    let session = mounted(&point, &options("x"));
    let held = File::open(point.path()).unwrap();
    assert!(mount::os::unmount(point.path()).is_err());
    session.stopper().stop();
    let path = point.path().to_owned();
    let (sender, receiver) = mpsc::channel();
    let ending = session.wait(SOON, move |_| {
        sender.send(mount::os::topmost(&path).unwrap()).unwrap();
        // It still serves who holds it.
        held.metadata().map_or(1, |_| 0)
    });
    assert_eq!(receiver.recv().unwrap(), None);
    assert!(matches!(ending.cause, Cause::Stopped));
    assert!(ending.is_clean());
}

#[test]
fn a_drain_that_fails_is_not_clean() {
    let Some(point) = Point::new() else { return };
    let session = mounted(&point, &options("x"));
    session.stopper().stop();
    let ending = session.wait(SOON, |_| panic!("a drain that panics, on purpose"));
    assert_eq!(ending.unsent, None);
    assert!(!ending.is_clean());
}

#[test]
fn the_end_of_a_session_leaves_the_next_mount_alone() {
    let Some(point) = Point::new() else { return };
    let first = mounted(&point, &options("first"));
    mount::os::unmount(point.path()).unwrap();
    let second = mounted(&point, &options("second"));
    let ending = first.wait(SOON, |_| 0);
    assert!(matches!(ending.cause, Cause::Unmounted));
    assert_eq!(point.mounted().unwrap().source, "second");
    assert!(point.path().metadata().is_ok());

    // Nor does one that was taken away lazily and is stopped later.
    let third = {
        let _held = File::open(point.path()).unwrap();
        mount::os::detach(point.path()).unwrap();
        let third = mounted(&point, &options("third"));
        second.stopper().stop();
        second.wait(SOON, |_| 0);
        third
    };
    assert_eq!(point.mounted().unwrap().source, "third");
    drop(third);
    eventually("the last mount to go", || point.mounted().is_none());
}

#[test]
fn a_mount_is_found_through_a_link() {
    let Some(point) = Point::new() else { return };
    let link = point.beside("link");
    std::os::unix::fs::symlink(point.path(), &link).unwrap();
    let _session = mounted(&point, &options("x"));
    let place = mount::Place::find(&link).unwrap();
    assert_eq!(place.path, point.path());
    assert_eq!(place.state, State::Directory);
    assert!(place.mount.is_some());
    assert!(
        mount::Place::find(Path::new("/proc"))
            .unwrap()
            .mount
            .is_some()
    );
}

/// Runs `cognitofs umount`; returns its exit code and what it says.
fn umount(point: &Point, timeout: &str) -> (Option<i32>, String) {
    let output = std::process::Command::new(assert_cmd::cargo::cargo_bin!("cognitofs"))
        .args(["umount", "--timeout", timeout])
        .arg(point.path())
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn umount_waits_until_everything_is_sent() {
    let Some(point) = Point::new() else { return };
    let moment = Duration::from_millis(100);
    for (syncs, timeout, code, told) in [
        (vec![], "30", 0, ""),
        (vec![(moment, Ok(()))], "30", 0, ""),
        // The daemon's own time is over before that of the command.
        (
            vec![(moment, Ok(())), (moment, Err(Errno::ETIMEDOUT))],
            "30",
            0,
            "",
        ),
        (
            vec![(moment, Err(Errno::ETIMEDOUT))],
            "50ms",
            32,
            "not everything was sent",
        ),
        (
            vec![(moment, Err(Errno::EHOSTUNREACH))],
            "30",
            32,
            "cannot be sent",
        ),
    ] {
        let place = MountPoint::prepare(point.path()).unwrap();
        let hollow = Hollow {
            syncs: Mutex::new(syncs),
            ..Hollow::default()
        };
        let session = mount::mount(hollow, &place, &options("x")).unwrap();
        let (ended, text) = umount(&point, timeout);
        assert_eq!(ended, Some(code), "{text}");
        assert!(
            text.contains(told) && text.lines().count() == usize::from(code != 0),
            "{text}"
        );
        assert_eq!(point.mounted().is_some(), code != 0, "{text}");
        drop(session);
    }
}
