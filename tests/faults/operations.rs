//! What needs the service, and how to see that it was done.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Stage;

/// An operation of the file system.
pub struct Operation {
    pub name: &'static str,
    /// Which call of it meets the fault.
    pub call: &'static str,
    pub prepare: fn(&Stage),
    pub act: fn(&Stage) -> io::Result<()>,
    /// Checks that it was done, once.
    pub done: fn(&Stage),
    /// Checks that nothing was done; None if nothing can be.
    undone: Option<fn(&Stage)>,
}

impl Operation {
    /// Whether it may have been done though no answer said so.
    pub fn changes(&self) -> bool {
        matches!(
            self.call,
            "UpdateRecords" | "DeleteDataset" | "SetCognitoEvents"
        )
    }

    /// Checks what is so after it was tried under a fault that has gone: it was done, or it was
    /// not and can be done now.
    pub fn check(&self, stage: &Stage, succeeded: bool, made: bool, fault: String) {
        if self.undone.is_some() && (succeeded || made) {
            (self.done)(stage);
            return;
        }
        if let Some(undone) = self.undone {
            undone(stage);
        }
        // What was under way ends first, and pauses between tries do.
        let begun = Instant::now();
        loop {
            let again = (self.act)(stage);
            let patience = Duration::from_secs(6);
            match again {
                Ok(()) => break,
                Err(_) if begun.elapsed() < patience => {}
                Err(error) => panic!("{fault}, {}, again: {error}", self.name),
            }
        }
        (self.done)(stage);
    }

    /// How many versions are kept.
    pub fn parked(&self, stage: &Stage) -> usize {
        let parked = stage.dataset().join(".cognito/parked");
        fs::read_dir(parked).unwrap().count()
    }
}

fn close(file: File) -> io::Result<()> {
    nix::unistd::close(file).map_err(io::Error::from)
}

fn write(path: &Path, text: &str, options: &mut OpenOptions) -> io::Result<()> {
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    close(file)
}

fn list(path: &Path) -> io::Result<()> {
    fs::read_dir(path)?.try_for_each(|entry| entry.map(drop))
}

fn read_all(stage: &Stage) {
    for key in ["k", "log"] {
        fs::read(stage.dataset().join(key)).unwrap();
    }
}

fn look_at_all(stage: &Stage) {
    list(&stage.identity()).unwrap();
    list(&stage.identity().join("bare")).unwrap();
    read_all(stage);
}

fn nothing(_: &Stage) {}

fn holds(stage: &Stage, key: &str, value: Option<&str>) {
    assert_eq!(stage.remote("data", key).as_deref(), value, "{key}");
}

const EVENTS: &str = ".cognito/events.json";

fn set_events(stage: &Stage) -> io::Result<()> {
    let path = stage.pool().join(EVENTS);
    // Another text each time, or nothing is sent.
    let text = format!(
        r#"{{"Events":{{"SyncTrigger":"arn:aws:lambda:us-east-1:1:function:f{}"}}}}"#,
        stage.identities
    );
    write(&path, &text, OpenOptions::new().write(true).truncate(true))
}

pub const OPERATIONS: &[Operation] = &[
    Operation {
        name: "the lookup of a dataset",
        call: "ListRecords",
        prepare: nothing,
        act: |stage| fs::metadata(stage.dataset()).map(drop),
        done: nothing,
        undone: None,
    },
    Operation {
        name: "the listing of a pool",
        call: "ListIdentities",
        prepare: nothing,
        act: |stage| list(&stage.pool()),
        done: nothing,
        undone: None,
    },
    Operation {
        name: "the listing of an identity",
        call: "ListDatasets",
        prepare: nothing,
        act: |stage| list(&stage.identity()),
        done: nothing,
        undone: None,
    },
    Operation {
        name: "the listing of a dataset",
        call: "ListRecords",
        prepare: |stage| list(&stage.identity()).unwrap(),
        act: |stage| list(&stage.dataset()),
        done: |stage| assert_eq!(fs::read_dir(stage.dataset()).unwrap().count(), 2),
        undone: None,
    },
    Operation {
        name: "open and read",
        call: "ListRecords",
        prepare: |stage| list(&stage.identity()).unwrap(),
        act: |stage| fs::read(stage.dataset().join("k")).map(drop),
        done: |stage| assert_eq!(fs::read(stage.dataset().join("k")).unwrap(), b"v"),
        undone: None,
    },
    Operation {
        name: "write and close",
        call: "UpdateRecords",
        prepare: read_all,
        act: |stage| {
            let path = stage.dataset().join("k");
            write(&path, "new", OpenOptions::new().write(true).truncate(true))
        },
        done: |stage| holds(stage, "k", Some("new")),
        undone: Some(|stage| holds(stage, "k", Some("v"))),
    },
    Operation {
        name: "append",
        call: "UpdateRecords",
        prepare: read_all,
        act: |stage| {
            let path = stage.dataset().join("log");
            write(&path, "two\n", OpenOptions::new().append(true))
        },
        done: |stage| holds(stage, "log", Some("one\ntwo\n")),
        undone: Some(|stage| holds(stage, "log", Some("one\n"))),
    },
    Operation {
        name: "unlink",
        call: "UpdateRecords",
        prepare: read_all,
        act: |stage| fs::remove_file(stage.dataset().join("k")),
        done: |stage| holds(stage, "k", None),
        undone: Some(|stage| holds(stage, "k", Some("v"))),
    },
    Operation {
        name: "rename",
        call: "UpdateRecords",
        prepare: read_all,
        act: |stage| fs::rename(stage.dataset().join("k"), stage.dataset().join("log")),
        done: |stage| {
            holds(stage, "k", None);
            holds(stage, "log", Some("v"));
        },
        undone: Some(|stage| {
            holds(stage, "k", Some("v"));
            holds(stage, "log", Some("one\n"));
        }),
    },
    Operation {
        name: "mkdir and a first write",
        call: "UpdateRecords",
        prepare: |stage| {
            look_at_all(stage);
            fs::create_dir(stage.identity().join("made")).unwrap();
        },
        act: |stage| {
            let path = stage.identity().join("made/first");
            write(&path, "first", OpenOptions::new().write(true).create(true))
        },
        done: |stage| assert_eq!(stage.remote("made", "first").as_deref(), Some("first")),
        undone: Some(|stage| assert!(!stage.exists("made"))),
    },
    Operation {
        name: "rmdir",
        call: "DeleteDataset",
        prepare: look_at_all,
        act: |stage| match fs::remove_dir(stage.identity().join("bare")) {
            // It was deleted by the first try, which was told that it failed.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            removed => removed,
        },
        done: |stage| assert!(!stage.exists("bare")),
        undone: None,
    },
    Operation {
        name: "touch",
        call: "UpdateRecords",
        prepare: read_all,
        act: |stage| {
            use nix::sys::stat::{UtimensatFlags, utimensat};
            let time = nix::sys::time::TimeSpec::new(1_500_000_000, 0);
            let path = stage.dataset().join("k");
            let flags = UtimensatFlags::FollowSymlink;
            let set = utimensat(nix::fcntl::AT_FDCWD, &path, &time, &time, flags);
            set.map_err(io::Error::from)
        },
        done: |stage| {
            assert_eq!(stage.modified("k"), 1_500_000_000);
            holds(stage, "k", Some("v"));
        },
        undone: Some(|stage| holds(stage, "k", Some("v"))),
    },
    Operation {
        name: "statfs",
        call: "ListRecords",
        prepare: |stage| list(&stage.identity()).unwrap(),
        act: |stage| {
            let path = CString::new(stage.dataset().as_os_str().as_bytes()).unwrap();
            nix::sys::statvfs::statvfs(path.as_c_str())
                .map(drop)
                .map_err(io::Error::from)
        },
        done: nothing,
        undone: None,
    },
    Operation {
        name: "the opening of a control file",
        call: "DescribeDataset",
        prepare: read_all,
        act: |stage| fs::read(stage.dataset().join(".cognito/dataset.json")).map(drop),
        done: nothing,
        undone: None,
    },
    Operation {
        name: "the writing of a control file",
        call: "SetCognitoEvents",
        prepare: nothing,
        act: set_events,
        done: |stage| {
            let events = fs::read_to_string(stage.pool().join(EVENTS)).unwrap();
            assert!(
                events.contains(&format!("f{}", stage.identities)),
                "{events}"
            );
        },
        undone: None,
    },
];
