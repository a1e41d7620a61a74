//! Mount options: what follows `-o`.
//!
//! Invariant: `OPTIONS` is the only list of them; the parser, `--help` and the man page's test read
//! it. A later option overrides an earlier one.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::{getegid, geteuid};
use url::Url;

use super::values::{
    commit, concurrency, days, directory, duration, endpoint, group, guest, login, region, root,
    shown_commit, shown_days, shown_logins, shown_time, shown_unseen, text, timeout, umask, unseen,
    user,
};
use crate::api::Logins;
use crate::fs::CommitMode;
use crate::sync::Unseen;
use crate::wire::names::{Region, Scope};

/// One option that means something here.
pub struct MountOption {
    pub name: &'static str,
    /// What stands after its `=`; a flag has none.
    pub value: Option<&'static str>,
    pub help: &'static str,
    /// Takes the value, or says what it should have been.
    set: fn(&mut MountOptions, &str) -> Result<(), String>,
    /// Returns the values in force; a flag's is empty.
    show: fn(&MountOptions) -> Vec<String>,
}

macro_rules! options {
    ($($name:literal $(= $value:literal)?, $help:literal, $set:expr, $show:expr;)*) => {
        &[$(MountOption {
            name: $name,
            value: [$(Some($value),)? None][0],
            help: $help,
            set: $set,
            show: $show,
        }),*]
    };
}

/// The options that mean something here, in the order of `--help`.
pub const OPTIONS: &[MountOption] = options! {
    "ro", "read-only", |o, _| assign(&mut o.read_only, Ok(true)),
        |o| flag(o.read_only);
    "rw", "read and write (the default)", |o, _| assign(&mut o.read_only, Ok(false)),
        |o| flag(!o.read_only);
    "allow_other", "let other users in, as the modes of the files allow",
        |o, _| assign(&mut o.allow_other, Ok(true)),
        |o| flag(o.allow_other);
    "uid" = "USER", "owner of the files, a name or a number (default: you)",
        |o, value| assign(&mut o.uid, user(value).map(Some)),
        |o| vec![o.owner().to_string()];
    "gid" = "GROUP", "group of the files, a name or a number (default: yours)",
        |o, value| assign(&mut o.gid, group(value).map(Some)),
        |o| vec![o.group().to_string()];
    "umask" = "OCTAL", "permissions taken from 0777 and 0666 (default: 077)",
        |o, value| assign(&mut o.umask, umask(value)),
        |o| vec![format!("{:03o}", o.umask)];
    "root" = "PATH", "mount only POOL[/IDENTITY[/DATASET]] of the source",
        |o, value| assign(&mut o.root, root(value).map(Some)),
        |o| given(o.root.as_ref());
    "profile" = "NAME", "profile of the AWS configuration that holds the credentials",
        |o, value| assign(&mut o.profile, text(value, "the name of a profile").map(Some)),
        |o| given(o.profile.as_ref());
    "region" = "REGION", "region of the service (default: the source's)",
        |o, value| assign(&mut o.region, region(value).map(Some)),
        |o| given(o.region.as_ref());
    "endpoint" = "URL", "another service than AWS's: https, or http on this machine only",
        |o, value| assign(&mut o.endpoint, endpoint(value).map(Some)),
        |o| given(o.endpoint.as_ref());
    "identity" = "guest", "act as a guest of the pool, always the same one",
        |o, value| assign(&mut o.guest, guest(value)),
        |o| given(o.guest.then_some("guest"));
    "login" = "PROVIDER=FILE", "act as the user whose token of PROVIDER is in FILE",
        |o, value| login(value).map(|(provider, file)| { o.logins.0.insert(provider, file); }),
        |o| shown_logins(&o.logins);
    "ttl" = "TIME", "how long what was read counts as current (default: 5s; 0 always asks)",
        |o, value| assign(&mut o.ttl, duration(value)),
        |o| vec![shown_time(o.ttl)];
    "timeout" = "TIME", "how long any operation may take (default: 30s)",
        |o, value| assign(&mut o.timeout, timeout(value)),
        |o| vec![shown_time(o.timeout)];
    "concurrency" = "N", "how many calls of a service may be under way at a time (default: 16)",
        |o, value| assign(&mut o.concurrency, concurrency(value)),
        |o| vec![o.concurrency.to_string()];
    "commit" = "WHEN", "close: closing a file waits until it is sent (the default); async: it is sent afterwards",
        |o, value| assign(&mut o.commit, commit(value)),
        |o| vec![shown_commit(o.commit).to_owned()];
    "conflict" = "HOW", "auto: a save keeps aside what nobody here has seen (the default); strict: it fails",
        |o, value| assign(&mut o.unseen, unseen(value)),
        |o| vec![shown_unseen(o.unseen).to_owned()];
    "undo" = "DAYS", "keep every value that is replaced or removed here for so long (default: 0, none)",
        |o, value| assign(&mut o.undo, days(value)),
        |o| vec![shown_days(o.undo)];
    "state" = "DIR", "where to keep what must outlive the mount (default: ~/.local/state/cognitofs)",
        |o, value| assign(&mut o.state, directory(value).map(Some)),
        |o| given(o.state.as_ref().map(|path| path.display()));
    "noexec", "programs in the mount cannot be run", |o, _| assign(&mut o.no_exec, Ok(true)),
        |o| flag(o.no_exec);
    "exec", "programs in the mount can be run (the default)",
        |o, _| assign(&mut o.no_exec, Ok(false)),
        |o| flag(!o.no_exec);
    "noatime", "reading does not change times of access",
        |o, _| assign(&mut o.no_atime, Ok(true)),
        |o| flag(o.no_atime);
};

/// What mount(8), fstab and systemd hand to every helper; it is accepted and means nothing here.
const GENERIC: &[&str] = &[
    "_netdev",
    "_rnetdev",
    "async",
    "atime",
    "auto",
    "default_permissions",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "group",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noauto",
    "nodev",
    "nodiratime",
    "nofail",
    "noiversion",
    "nolazytime",
    "nomand",
    "nonempty",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nouser",
    "owner",
    "relatime",
    "silent",
    "strictatime",
    "suid",
    "sync",
    "user",
    "users",
];

const GENERIC_STARTS: &[&str] = &["x-", "X-", "comment=", "fsname=", "subtype=", "user="];

/// How a source is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOptions {
    pub read_only: bool,
    pub allow_other: bool,
    /// The files' owner, unless it is the mounting user.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Taken from the modes 0777 of directories and 0666 of files.
    pub umask: u16,
    pub root: Option<Scope>,
    pub profile: Option<String>,
    pub region: Option<Region>,
    /// `https`, or `http` to a loopback host.
    pub endpoint: Option<Url>,
    /// Whether a guest of the pool is acting.
    pub guest: bool,
    /// What a user of the pool logs in with; none leaves it to AWS's credentials.
    pub logins: Logins,
    /// Zero asks the service every time.
    pub ttl: Duration,
    /// Never zero.
    pub timeout: Duration,
    /// How many calls of a service may be under way at a time.
    pub concurrency: u32,
    pub commit: CommitMode,
    pub unseen: Unseen,
    /// None keeps nothing.
    pub undo: Option<Duration>,
    /// Absolute.
    pub state: Option<PathBuf>,
    pub no_exec: bool,
    pub no_atime: bool,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            allow_other: false,
            uid: None,
            gid: None,
            umask: 0o077,
            root: None,
            profile: None,
            region: None,
            endpoint: None,
            guest: false,
            logins: Logins::default(),
            ttl: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            concurrency: 16,
            commit: CommitMode::Close,
            unseen: Unseen::Keep,
            undo: None,
            state: None,
            no_exec: false,
            no_atime: false,
        }
    }
}

/// What is wrong with the options.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    #[error("the option {0:?} is not UTF-8")]
    NotText(OsString),
    #[error("unknown option {name:?}{}", hint(.nearest))]
    Unknown {
        name: String,
        nearest: Option<&'static str>,
    },
    #[error("a mount's options cannot be changed: unmount it and mount it again")]
    Remount,
    #[error("the option {name} needs a value: write {name}={metavar}")]
    NoValue {
        name: &'static str,
        metavar: &'static str,
    },
    #[error("the option {0} takes no value")]
    Unwanted(&'static str),
    #[error("{name}={value}: {expected}")]
    Value {
        name: &'static str,
        value: String,
        expected: String,
    },
}

fn hint(nearest: &Option<&'static str>) -> String {
    match nearest {
        Some(nearest) => format!(": did you mean {nearest:?}?"),
        None => ": see `cognitofs mount --help`".into(),
    }
}

impl MountOptions {
    /// Returns whether a user of the pool is acting, not whom AWS's credentials are of.
    pub fn is_user(&self) -> bool {
        self.guest || !self.logins.0.is_empty()
    }

    /// Returns whom the files belong to.
    pub fn owner(&self) -> u32 {
        self.uid.unwrap_or_else(|| geteuid().as_raw())
    }

    pub fn group(&self) -> u32 {
        self.gid.unwrap_or_else(|| getegid().as_raw())
    }

    /// Reads what followed each `-o`: options separated by commas, in whose values `\,` is a comma
    /// and `\\` a backslash. `sloppy` skips unknown ones.
    pub fn parse<S: AsRef<OsStr>>(lists: &[S], sloppy: bool) -> Result<Self, OptionError> {
        let mut options = Self::default();
        for list in lists {
            let list = list.as_ref();
            let text = list
                .to_str()
                .ok_or_else(|| OptionError::NotText(list.to_owned()))?;
            for word in split(text).iter().filter(|word| !word.is_empty()) {
                match options.take(word) {
                    Err(OptionError::Unknown { .. }) if sloppy => {}
                    result => result?,
                }
            }
        }
        Ok(options)
    }

    fn take(&mut self, word: &str) -> Result<(), OptionError> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        if let Some(option) = OPTIONS.iter().find(|option| option.name == name) {
            return option.apply(self, value);
        }
        if is_generic(word) {
            return Ok(());
        }
        match name {
            "remount" => Err(OptionError::Remount),
            _ => Err(OptionError::Unknown {
                name: name.to_owned(),
                nearest: nearest(name),
            }),
        }
    }
}

impl MountOption {
    /// Returns the option as it would follow `-o`, if it is in force.
    pub fn shown(&self, options: &MountOptions) -> Option<String> {
        let written = |value: String| match self.value {
            Some(_) => {
                let value = value.replace('\\', r"\\").replace(',', r"\,");
                format!("{}={value}", self.name)
            }
            None => self.name.to_owned(),
        };
        let words: Vec<_> = (self.show)(options).into_iter().map(written).collect();
        (!words.is_empty()).then(|| words.join(","))
    }

    fn apply(&self, options: &mut MountOptions, value: Option<&str>) -> Result<(), OptionError> {
        let name = self.name;
        let value = match (self.value, value) {
            (Some(metavar), None | Some("")) => return Err(OptionError::NoValue { name, metavar }),
            (None, Some(_)) => return Err(OptionError::Unwanted(name)),
            (_, value) => value.unwrap_or_default(),
        };
        (self.set)(options, value).map_err(|expected| OptionError::Value {
            name,
            value: value.to_owned(),
            expected,
        })
    }
}

/// Returns the lines of `--help` about the options.
pub fn help() -> String {
    let mut text = String::from("Options of -o:\n");
    for option in OPTIONS {
        let value = option
            .value
            .map_or_else(String::new, |value| format!("={value}"));
        text += &format!(
            "  {:<17} {}\n",
            format!("{}{value}", option.name),
            option.help
        );
    }
    text += "TIME is 500ms, 5s, 2m, 1h or a number of seconds. The generic options of mount(8) and \
             fstab(5),\nsuch as _netdev, nofail, noauto, user and x-*, are accepted. In a value a \
             comma is written \\,";
    text
}

fn is_generic(word: &str) -> bool {
    GENERIC.contains(&word) || GENERIC_STARTS.iter().any(|start| word.starts_with(start))
}

fn nearest(name: &str) -> Option<&'static str> {
    // A third of the letters wrong is another word.
    let limit = (name.chars().count() / 3).max(1);
    let names = OPTIONS.iter().map(|option| option.name);
    let distance = |known: &&str| strsim::damerau_levenshtein(name, known);
    let near = names
        .chain(GENERIC.iter().copied())
        .map(|known| (distance(&known), known));
    near.filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

fn split(list: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut letters = list.chars().peekable();
    while let Some(letter) = letters.next() {
        let escaped = match letter {
            '\\' => letters.next_if(|next| matches!(next, ',' | '\\')),
            ',' => {
                words.push(String::new());
                continue;
            }
            _ => None,
        };
        if let Some(word) = words.last_mut() {
            word.push(escaped.unwrap_or(letter));
        }
    }
    words
}

fn flag(is_set: bool) -> Vec<String> {
    given(is_set.then_some(""))
}

fn given(value: Option<impl ToString>) -> Vec<String> {
    value.iter().map(ToString::to_string).collect()
}

fn assign<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn parse(list: &str) -> Result<MountOptions, OptionError> {
        MountOptions::parse(&[list], false)
    }

    fn told(list: &str) -> String {
        parse(list).unwrap_err().to_string()
    }

    /// Reads what is shown of options.
    fn shown_again(options: &MountOptions) -> MountOptions {
        let shown: Vec<_> = OPTIONS.iter().filter_map(|o| o.shown(options)).collect();
        MountOptions::parse(&shown, false).unwrap()
    }

    #[test]
    fn what_is_not_given_is_shown_as_it_is() {
        let options = MountOptions::default();
        let shown: Vec<_> = OPTIONS.iter().filter_map(|o| o.shown(&options)).collect();
        let (uid, gid) = (geteuid(), getegid());
        assert_eq!(
            shown.join(" "),
            format!(
                "rw uid={uid} gid={gid} umask=077 ttl=5s timeout=30s concurrency=16 commit=close conflict=auto undo=0 exec"
            )
        );
    }

    #[test]
    fn every_option_is_taken() {
        let options = parse(
            "ro,allow_other,uid=root,gid=0,umask=0022,root=a-1:0,profile=it\\,s\\\\,region=us-east-1,\
             endpoint=http://127.0.0.1:8000,identity=guest,login=a.b=/t=1,ttl=0,timeout=500ms,concurrency=3,commit=async,conflict=strict,undo=3,\
             state=/s,noexec,noatime,,",
        )
        .unwrap();
        let expected = MountOptions {
            read_only: true,
            allow_other: true,
            uid: Some(0),
            gid: Some(0),
            umask: 0o022,
            root: Some("a-1:0".parse().unwrap()),
            profile: Some("it,s\\".into()),
            region: Some("us-east-1".parse().unwrap()),
            endpoint: Some(Url::parse("http://127.0.0.1:8000").unwrap()),
            guest: true,
            logins: Logins([("a.b".into(), "/t=1".into())].into()),
            ttl: Duration::ZERO,
            timeout: Duration::from_millis(500),
            concurrency: 3,
            commit: CommitMode::Async,
            unseen: Unseen::Refuse,
            undo: Some(Duration::from_secs(3 * 24 * 3600)),
            state: Some("/s".into()),
            no_exec: true,
            no_atime: true,
        };
        assert_eq!(options, expected);
        assert_eq!(shown_again(&options), options);
        let lists = ["ro,ttl=1h", "rw", "ttl=2m"];
        let later = MountOptions::parse(&lists, false).unwrap();
        assert_eq!(
            later,
            MountOptions {
                ttl: Duration::from_secs(120),
                ..Default::default()
            }
        );
    }

    #[test]
    fn what_every_helper_is_handed_is_accepted() {
        let systemd = "rw,noatime,nosuid,nodev,dev,suid,nofail,_netdev,user=joe,users,noauto,\
             x-systemd.automount,x-gvfs-show,comment=hi,fsname=a,subtype=b,defaults,strictatime";
        assert_eq!(
            parse(systemd).unwrap(),
            MountOptions {
                no_atime: true,
                ..Default::default()
            }
        );
    }

    #[test]
    fn an_unknown_option_names_the_nearest() {
        for (wrong, right) in [
            ("tll=5", "ttl"),
            ("alow_other", "allow_other"),
            ("timout=3", "timeout"),
            ("nofial", "nofail"),
            ("regoin=x", "region"),
        ] {
            assert!(
                told(wrong).ends_with(&format!("did you mean {right:?}?")),
                "{}",
                told(wrong)
            );
        }
        assert!(told("quux").contains("--help"));
        assert!(told("remount,ro").contains("mount it again"));
        let sloppy = MountOptions::parse(&["quux,ro"], true).unwrap();
        assert!(sloppy.read_only);
        MountOptions::parse(&["ttl=soon"], true).unwrap_err();
    }

    #[test]
    fn a_bad_value_is_told_what_is_a_good_one() {
        for (list, told_of) in [
            ("ttl", "ttl=TIME"),
            ("profile=", "profile=NAME"),
            ("ro=1", "no value"),
            ("ttl=5x", "500ms"),
            ("ttl=-1", "500ms"),
            ("ttl=99999999999999999999", "500ms"),
            ("timeout=0", "needs some time"),
            ("concurrency=0", "1 to 1024"),
            ("concurrency=many", "1 to 1024"),
            ("identity=ada", "expected guest"),
            ("login=accounts.google.com", "PROVIDER=FILE"),
            ("login==/token", "PROVIDER=FILE"),
            ("umask=888", "octal"),
            ("umask=+77", "octal"),
            ("umask=7777", "octal"),
            ("uid=no such user", "no such user"),
            ("root=/", "POOL"),
            ("root=x", "REGION:UUID"),
            ("region=US", "us-east-1"),
            ("endpoint=example.com", "https://"),
            ("endpoint=ftp://example.com", "https"),
            ("endpoint=http://example.com", "use https"),
            ("endpoint=https://me:secret@example.com", "credentials"),
        ] {
            assert!(told(list).contains(told_of), "{list}: {}", told(list));
        }
        let odd = OsStr::from_bytes(b"ttl=\xff");
        let error = MountOptions::parse(&[odd], false).unwrap_err();
        assert!(matches!(error, OptionError::NotText(_)));
    }

    #[test]
    fn http_stays_on_this_machine() {
        for host in ["localhost", "127.1.2.3", "[::1]", "sync.localhost:80"] {
            assert!(parse(&format!("endpoint=http://{host}/")).is_ok(), "{host}");
        }
        for host in [
            "localhost.example.com",
            "0.0.0.0",
            "[::]",
            "10.0.0.1",
            "128.0.0.1",
        ] {
            assert!(
                parse(&format!("endpoint=http://{host}/")).is_err(),
                "{host}"
            );
        }
    }

    #[test]
    fn help_has_a_line_for_each() {
        for option in OPTIONS {
            let line = format!("\n  {}", option.name);
            assert!(help().contains(&line), "{}", option.name);
        }
    }
}
