//! Names of files and keys (S1, S2).

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;

use super::{errno, names};
use crate::common::Bed;

#[test]
fn s01_every_key_has_one_name_and_every_name_one_key() {
    let bed = Bed::new();
    let keys = [
        "plain",
        "a/b",
        ".",
        "..",
        ".cognito",
        "%2F",
        "%252F",
        "100%",
        "a%25",
        "nul\0in",
        "é e\u{301}",
        " space ",
        "-rf",
        "new\nline",
        "%2E",
    ];
    let changes: Vec<(&str, Option<&str>)> = keys.iter().map(|key| (*key, Some(*key))).collect();
    bed.change("data", &changes);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    assert_eq!(names(&dataset).len(), keys.len());
    for key in keys {
        let name = cognitofs::fs::encode_text(key);
        assert_eq!(
            fs::read_to_string(dataset.join(&name)).unwrap(),
            key,
            "{name}"
        );
    }
    // And the other way round.
    fs::write(dataset.join("x%2Fy"), "slash").unwrap();
    assert_eq!(bed.remote("data", "x/y"), Some(Some("slash".to_owned())));
    fs::write(dataset.join("x%252Fy"), "escaped").unwrap();
    assert_eq!(
        bed.remote("data", "x%2Fy"),
        Some(Some("escaped".to_owned()))
    );
    let bad = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    assert_eq!(errno(fs::write(dataset.join(bad), "x")), libc::EILSEQ);
    assert_eq!(errno(fs::read(dataset.join(bad))), libc::EILSEQ);
}

#[test]
fn s01_cognito_is_reserved() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let (_, calls) = bed.calls_of(|| {
        assert!(fs::metadata(dataset.join(".cognito")).unwrap().is_dir());
    });
    assert!(!calls.contains(&"ListDatasets"), "{calls:?}");
    assert_eq!(errno(File::create(dataset.join(".cognito"))), libc::EISDIR);
    assert_eq!(names(&dataset), ["k"]);
}

#[test]
fn s02_long_keys_can_be_read_written_and_removed() {
    let bed = Bed::new();
    let long = "é".repeat(600);
    bed.change("data", &[(&long, Some("old")), ("short", Some("s"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let listed = names(&dataset);
    let name = listed.iter().find(|name| name.contains("%~")).unwrap();
    assert!(name.len() <= 255);
    let path = dataset.join(name);
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    fs::write(&path, "new").unwrap();
    assert_eq!(bed.remote("data", &long), Some(Some("new".to_owned())));
    fs::remove_file(&path).unwrap();
    assert_eq!(bed.remote("data", &long), Some(None));
    // By name none can be made.
    assert_eq!(
        errno(File::create(dataset.join("some%~0123"))),
        libc::EINVAL
    );
    assert_eq!(
        errno(File::create(dataset.join("x".repeat(256)))),
        libc::ENAMETOOLONG
    );
    assert!(File::create(dataset.join("x".repeat(255))).is_ok());
}

#[test]
fn s02_ids_are_names_in_their_canonical_spelling_only() {
    let bed = Bed::new();
    let mounted = bed.mount("");
    let upper = bed.pool.as_str().to_uppercase();
    for name in [
        upper.as_str(),
        "eu-west-1:1f0c",
        "us-east-1:xyz",
        "name",
        "%2F",
    ] {
        assert_eq!(
            errno(fs::metadata(mounted.path.join(name))),
            libc::ENOENT,
            "{name}"
        );
    }
}
