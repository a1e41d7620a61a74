//! The program as its users call it: arguments, exit codes, daemons, signals.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getsid};

use crate::point::{Point, eventually};

fn cognitofs() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("cognitofs"));
    command.env_remove("COGNITOFS_LOG");
    command
}

/// What a command says and its exit code.
fn told(command: &mut Command) -> (i32, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

fn state(point: &Point) -> std::path::PathBuf {
    point.beside("state")
}

/// A command about a mount of a local store on this point.
fn mount(point: &Point, words: &[&str]) -> Command {
    let mut command = cognitofs();
    command
        .env("STATE_DIRECTORY", state(point))
        .args(words)
        .arg({
            let mut source = std::ffi::OsString::from("local:");
            source.push(point.beside("store.db"));
            source
        })
        .arg(point.path());
    command
}

fn mounted() -> Option<Point> {
    let point = Point::new()?;
    assert_eq!(told(&mut mount(&point, &["mount"])), (0, String::new()));
    assert!(point.mounted().unwrap().is_cognitofs());
    Some(point)
}

fn umount(point: &Point) -> (i32, String) {
    told(cognitofs().arg("umount").arg(point.path()))
}

#[test]
fn wrong_arguments_are_told_what_is_right() {
    for (words, expected) in [
        (&["mount", "nonsense", "/m"][..], "cognito://REGION"),
        (&["mount", "us-east-1:x", "/m"], "REGION:UUID"),
        (
            &["mount", "-o", "tll=5", "local:", "/m"],
            "did you mean \"ttl\"?",
        ),
        (
            &["mount", "-o", "ro", "-o", "timeout=0", "local:", "/m"],
            "30s",
        ),
        (
            &["mount", "-o", "endpoint=http://example.com", "local:", "/m"],
            "https",
        ),
        (
            &[
                "mount",
                "-o",
                "root=us-east-1:0",
                "cognito://eu-west-1",
                "/m",
            ],
            "us-east-1",
        ),
        (
            &[
                "mount",
                "-o",
                "region=us-east-1",
                "cognito://eu-west-1",
                "/m",
            ],
            "region=us-east-1",
        ),
        (&["mount", "local:"], "MOUNTPOINT"),
        (
            &["local:", "/m", "-o", "regoin=x"],
            "did you mean \"region\"?",
        ),
        (&["local:", "/m", "-q"], "\"-q\""),
        (&["local:"], "SOURCE MOUNTPOINT"),
        (&["mont"], "mount"),
        (&[], "Usage"),
        (&["serve", "--listen", "0.0.0.0:80"], "127.0.0.1"),
        (&["serve", "--fault", "429@", "--store", "/x"], "--help"),
        (&["umount", "--timeout", "soon", "/m"], "500ms"),
    ] {
        let (code, text) = told(cognitofs().args(words));
        assert_eq!(code, 1, "{words:?}: {text}");
        assert!(text.contains(expected), "{words:?}: {text}");
    }
    let odd = OsStr::from_bytes(b"\xff\xfe");
    for words in [[OsStr::new("mount"), odd, odd], [odd, odd, odd]] {
        assert_eq!(told(cognitofs().args(words)).0, 1);
    }
}

#[test]
fn mount_calls_it_by_its_helpers_names() {
    for name in ["/sbin/mount.cognitofs", "mount.fuse.cognitofs"] {
        let mut helper = cognitofs();
        helper.arg0(name);
        let handed = "rw,nofail,_netdev,user,noexec,nosuid,nodev,ttl=5,dev,suid";
        helper.args([
            "us-east-1:0",
            "/nowhere",
            "-f",
            "-v",
            "-o",
            handed,
            "-t",
            "cognitofs",
        ]);
        assert_eq!(told(&mut helper), (0, String::new()));

        let mut helper = cognitofs();
        helper.arg0(name);
        let (code, text) = told(helper.args(["us-east-1:0", "/nowhere", "-f", "-o", "tll=5"]));
        assert_eq!(code, 1);
        assert_eq!(
            text,
            "cognitofs: unknown option \"tll\": did you mean \"ttl\"?\n"
        );

        let mut helper = cognitofs();
        helper.arg0(name);
        let (code, _) = told(helper.args(["us-east-1:0", "/nowhere", "-sf", "-o", "tll=5"]));
        assert_eq!(code, 0);
    }
}

#[test]
fn help_and_completions_are_printed() {
    let help = cognitofs().args(["mount", "--help"]).output().unwrap();
    assert!(help.status.success());
    let text = String::from_utf8(help.stdout).unwrap();
    for option in cognitofs::cli::options::OPTIONS {
        assert!(text.contains(option.help), "{}", option.name);
    }
    let script = cognitofs().args(["completions", "bash"]).output().unwrap();
    assert!(script.status.success());
    assert!(String::from_utf8(script.stdout).unwrap().contains("umount"));
    let version = cognitofs().arg("--version").output().unwrap();
    assert!(version.status.success());
}

#[test]
fn what_cannot_be_mounted_leaves_nothing_behind() {
    let Some(point) = Point::new() else { return };
    std::fs::remove_dir(point.path()).unwrap();
    for foreground in [&["mount"][..], &["mount", "-f"]] {
        let (code, text) = told(&mut mount(&point, foreground));
        assert_eq!(code, 32, "{text}");
        assert!(
            text.ends_with("there is no such directory: make it first (mkdir)\n"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    File::create(point.path()).unwrap();
    let (code, text) = told(&mut mount(&point, &["mount"]));
    assert_eq!(
        (code, text.contains("is not a directory")),
        (32, true),
        "{text}"
    );
    point.assert_nothing_left();
}

#[test]
fn a_mount_in_the_background_answers_and_is_on_its_own() {
    let Some(point) = mounted() else { return };
    // A new store has one pool.
    assert_eq!(std::fs::read_dir(point.path()).unwrap().count(), 1);
    let daemon = point.daemon();
    assert_eq!(getsid(Some(daemon)).unwrap(), daemon);
    let links = ["cwd", "fd/0", "fd/1", "fd/2"]
        .map(|link| std::fs::read_link(format!("/proc/{daemon}/{link}")).unwrap());
    assert_eq!(
        links[..3],
        ["/", "/dev/null", "/dev/null"].map(std::path::PathBuf::from)
    );
    assert!(
        links[3].starts_with(state(&point).canonicalize().unwrap()),
        "{links:?}"
    );
    assert!(links[3].ends_with("daemon.log"));

    let (code, text) = told(&mut mount(&point, &["mount"]));
    assert_eq!(
        (code, text.contains("already mounted")),
        (32, true),
        "{text}"
    );
    assert_eq!(point.daemon(), daemon);

    assert_eq!(umount(&point), (0, String::new()));
    point.assert_nothing_left();
    let (code, text) = umount(&point);
    assert_eq!(
        (code, text.contains("no cognitofs is mounted")),
        (32, true),
        "{text}"
    );
}

#[test]
fn a_daemon_inherits_no_lock() {
    let Some(point) = Point::new() else { return };
    let lock = File::create(point.beside("inherited")).unwrap();
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(r#"exec 9<&0; "$@""#)
        .arg("sh")
        .stdin(lock);
    let mount = mount(&point, &["mount"]);
    shell
        .arg(mount.get_program())
        .args(mount.get_args())
        .env("STATE_DIRECTORY", state(&point));
    assert_eq!(told(&mut shell), (0, String::new()));
    let files = std::fs::read_dir(format!("/proc/{}/fd", point.daemon())).unwrap();
    for file in files.flatten() {
        let link = std::fs::read_link(file.path()).unwrap_or_default();
        assert!(!link.ends_with("inherited"), "{link:?}");
    }
}

#[test]
fn a_plain_umount_ends_the_daemon() {
    let Some(point) = mounted() else { return };
    cognitofs::mount::os::unmount(point.path()).unwrap();
    point.assert_nothing_left();
}

#[test]
fn a_mount_in_use_is_not_unmounted_and_its_holder_is_named() {
    let Some(point) = mounted() else { return };
    let mut holder = Command::new("sleep")
        .arg("1000")
        .current_dir(point.path())
        .spawn()
        .unwrap();
    let (code, text) = umount(&point);
    assert_eq!(code, 32);
    let name = format!("in use, by sleep ({})\n", holder.id());
    assert!(text.ends_with(&name), "{text}");
    assert!(point.mounted().is_some());
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(umount(&point), (0, String::new()));
}

#[test]
fn s21_a_signal_detaches_even_a_busy_mount() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let Some(point) = mounted() else { return };
        let mut holder = Command::new("sleep")
            .arg("1000")
            .current_dir(point.path())
            .spawn()
            .unwrap();
        kill(point.daemon(), signal).unwrap();
        point.assert_nothing_left();
        holder.kill().unwrap();
        holder.wait().unwrap();
    }
}

#[test]
fn s21_a_dead_mount_is_replaced() {
    let Some(point) = mounted() else { return };
    let kill_daemon = || {
        let daemon = point.daemon();
        kill(daemon, Signal::SIGKILL).unwrap();
        // Its attributes are still remembered, its entries are not.
        eventually("the daemon to die", || {
            std::fs::read_dir(point.path()).is_err()
        });
        eventually("the daemon to go", || point.daemons().is_empty());
    };
    kill_daemon();
    assert_eq!(told(&mut mount(&point, &["mount"])), (0, String::new()));
    assert!(point.path().metadata().is_ok());
    let table = cognitofs::mount::os::table().unwrap();
    assert_eq!(
        table
            .iter()
            .filter(|entry| entry.mount_point == point.path())
            .count(),
        1
    );

    kill_daemon();
    assert_eq!(umount(&point), (0, String::new()));
    point.assert_nothing_left();
}

#[test]
fn s21_the_foreground_exits_0_when_nothing_is_left() {
    let Some(point) = Point::new() else { return };
    let mut child = mount(&point, &["mount", "-f"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the mount", || point.mounted().is_some());
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(point.mounted(), None);
}

/// A daemon whose command is the test.
fn daemon(point: &Point) -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let child = mount(point, &["mount"])
        .env("COGNITOFS_DAEMON", "1")
        .stdin(OwnedFd::from(theirs))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    (child, ours)
}

fn line(channel: &UnixStream) -> String {
    let mut line = String::new();
    BufReader::new(channel).read_line(&mut line).unwrap();
    line
}

#[test]
fn a_daemon_whose_command_fails_takes_its_mount_along() {
    let Some(point) = Point::new() else { return };
    let (mut child, channel) = daemon(&point);
    assert_eq!(line(&channel), "ready\n");
    assert!(point.mounted().is_some());
    drop(channel);
    child.wait().unwrap();
    point.assert_nothing_left();
}

#[test]
fn a_daemon_whose_command_went_first_never_mounts() {
    let Some(point) = Point::new() else { return };
    let (mut child, channel) = daemon(&point);
    drop(channel);
    child.wait().unwrap();
    point.assert_nothing_left();
}

#[test]
fn a_daemon_that_was_told_to_go_lets_go_of_everything() {
    let Some(point) = Point::new() else { return };
    let (mut child, mut channel) = daemon(&point);
    assert_eq!(line(&channel), "ready\n");
    channel.write_all(b"go\n").unwrap();
    let mut rest = Vec::new();
    channel.read_to_end(&mut rest).unwrap();
    child.stderr.take().unwrap().read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
    assert!(point.path().metadata().is_ok());
    assert_eq!(umount(&point), (0, String::new()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
