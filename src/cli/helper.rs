//! The calls that mount(8), mount.fuse3(8), fstab and systemd make:
//! `mount.cognitofs SOURCE MOUNTPOINT [-sfnvr] [-N NAMESPACE] [-t TYPE] [-o OPTIONS]...`.
//!
//! Invariant: any bytes may stand in any argument.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::Failure;
use super::args::MountArgs;
use super::source::Source;

/// What is to be mounted where, whoever asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MountRequest {
    pub(super) source: OsString,
    pub(super) mountpoint: PathBuf,
    /// What followed each `-o`.
    pub(super) options: Vec<OsString>,
    pub(super) foreground: bool,
    /// Checks the arguments and mounts nothing.
    pub(super) fake: bool,
    /// Skips unknown options.
    pub(super) sloppy: bool,
}

impl From<MountArgs> for MountRequest {
    fn from(args: MountArgs) -> Self {
        Self {
            source: args.source,
            mountpoint: args.mountpoint,
            options: args.options,
            foreground: args.foreground,
            ..Self::default()
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Call {
    Mount(MountRequest),
    Help,
    Version,
}

/// Says whether `argv` is a helper's: by the program's name, or because a source stands where a
/// command would (mount.fuse3 calls `cognitofs SOURCE MOUNTPOINT -o OPTIONS`).
pub(super) fn is_called(argv: &[OsString]) -> bool {
    let name = argv
        .first()
        .and_then(|program| Path::new(program).file_name());
    let helper = |name: &OsStr| name == "mount.cognitofs" || name == "mount.fuse.cognitofs";
    let is_source = |word: &OsString| !word.as_bytes().starts_with(b"-") && Source::is_meant(word);
    name.is_some_and(helper) || argv.get(1).is_some_and(is_source)
}

/// Reads a helper's arguments, those after the program's name.
pub(super) fn parse(arguments: &[OsString]) -> Result<Call, Failure> {
    let mut request = MountRequest::default();
    let mut places = Vec::new();
    let mut read_only = false;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let letters = match argument.as_bytes() {
            b"--help" => return Ok(Call::Help),
            b"--version" => return Ok(Call::Version),
            b"--" => {
                places.extend(rest.by_ref());
                break;
            }
            [b'-', letters @ ..] if !letters.is_empty() => letters,
            _ => {
                places.push(argument);
                continue;
            }
        };
        for (index, letter) in letters.iter().enumerate() {
            match letter {
                b'f' => request.fake = true,
                b's' => request.sloppy = true,
                b'r' => read_only = true,
                b'n' | b'v' | b'w' => {}
                b'h' => return Ok(Call::Help),
                b'V' => return Ok(Call::Version),
                b'o' | b'N' | b't' => {
                    let value = match &letters[index + 1..] {
                        [] => rest.next().cloned(),
                        glued => Some(OsString::from_vec(glued.to_vec())),
                    };
                    let value = value.ok_or_else(|| wrong(argument, "needs a value"))?;
                    if *letter == b'o' {
                        request.options.push(value);
                    }
                    break;
                }
                _ => return Err(wrong(argument, "is unknown")),
            }
        }
    }
    let [source, mountpoint] = places[..] else {
        return Err(Failure::usage(
            "expected SOURCE MOUNTPOINT [-o OPTIONS]: see `cognitofs --help`",
        ));
    };
    request.source = source.clone();
    request.mountpoint = mountpoint.into();
    if read_only {
        request.options.push("ro".into());
    }
    Ok(Call::Mount(request))
}

fn wrong(argument: &OsStr, what: &str) -> Failure {
    Failure::usage(format!(
        "the argument {argument:?} {what}: see `cognitofs --help`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    fn request(text: &str) -> MountRequest {
        match parse(&words(text)).unwrap() {
            Call::Mount(request) => request,
            call => panic!("{call:?}"),
        }
    }

    #[test]
    fn a_helper_is_known_by_its_name_or_its_source() {
        for argv in [
            "/sbin/mount.cognitofs x y",
            "mount.fuse.cognitofs",
            "cognitofs local:f /m",
            "cognitofs cognito://us-east-1 /m",
            "/usr/bin/cognitofs us-east-1:0 /m -o ro",
        ] {
            assert!(is_called(&words(argv)), "{argv}");
        }
        for argv in [
            "cognitofs",
            "cognitofs mount local:f /m",
            "cognitofs -o a:b",
            "mount /a b",
        ] {
            assert!(!is_called(&words(argv)), "{argv}");
        }
        assert!(!is_called(&[]));
    }

    #[test]
    fn what_mount_hands_over_is_read() {
        let measured = request("SRC /m -v -o rw,noatime,nofail -t cognitofs -o ttl=5");
        assert_eq!(measured.options, words("rw,noatime,nofail ttl=5"));
        assert_eq!(
            (measured.source, measured.mountpoint),
            ("SRC".into(), "/m".into())
        );
        assert!(!measured.fake && !measured.sloppy && !measured.foreground);

        let grouped = request("-sfnvr -N ns -oa,b SRC /m");
        assert!(grouped.fake && grouped.sloppy);
        assert_eq!(grouped.options, words("a,b ro"));
        assert_eq!(request("-- -SRC /m").source, "-SRC");
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for bad in [
            "SRC",
            "SRC /m /n",
            "SRC /m -o",
            "SRC /m -x",
            "SRC /m --long",
        ] {
            assert!(parse(&words(bad)).is_err(), "{bad}");
        }
        assert_eq!(parse(&words("--help")).unwrap(), Call::Help);
        let odd = [
            OsString::from_vec(b"-\xff".to_vec()),
            "SRC".into(),
            "/m".into(),
        ];
        assert!(parse(&odd).is_err());
    }
}
