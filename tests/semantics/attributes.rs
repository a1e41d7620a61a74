//! Times and sizes (S15).

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, UNIX_EPOCH};

use crate::common::{Bed, Trouble, run, shell};

#[test]
fn s15_mtime_is_the_devices_date_and_does_not_jump() {
    let bed = Bed::new();
    bed.change("data", &[("theirs", Some("v"))]);
    let mounted = bed.mount("ttl=0");
    let dataset = bed.dataset(&mounted, "data");
    // Without a device date the service's own shows.
    let theirs = fs::metadata(dataset.join("theirs")).unwrap();
    let listed = bed.list("data");
    let record = &listed.records()[0];
    assert_eq!(theirs.mtime(), record.last_modified_date().unwrap().secs());
    fs::write(dataset.join("ours"), "v").unwrap();
    let before = fs::metadata(dataset.join("ours"))
        .unwrap()
        .modified()
        .unwrap();
    let listed = bed.list("data");
    let record = listed
        .records()
        .iter()
        .find(|record| record.key() == Some("ours"));
    let sent = record.unwrap().device_last_modified_date().unwrap();
    let shown = before.duration_since(UNIX_EPOCH).unwrap();
    // The SDK's floats are a little below.
    let sent = (sent.as_nanos() + 500_000) / 1_000_000;
    assert_eq!(shown.as_millis() as i128, sent);
    drop(mounted);
    let again = bed.mount("ttl=0");
    let path = bed.dataset(&again, "data").join("ours");
    assert_eq!(fs::metadata(path).unwrap().modified().unwrap(), before);
}

#[test]
fn s15_touch_and_cp_p_are_stored() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    run(&dataset, "touch -d '2020-02-02 02:02:02 UTC' k");
    assert_eq!(
        fs::metadata(dataset.join("k")).unwrap().mtime(),
        1_580_608_922
    );
    assert_eq!(bed.remote("data", "k"), Some(Some("v".to_owned())));
    let source = bed.directory.path().join("source");
    fs::write(&source, "copied").unwrap();
    run(
        &dataset,
        &format!("touch -d '2019-01-01 UTC' {}", source.display()),
    );
    let (_, calls) = bed.calls_of(|| run(&dataset, &format!("cp -p {} copy", source.display())));
    // The date rides in the same patch.
    assert_eq!(
        calls
            .iter()
            .filter(|call| **call == "UpdateRecords")
            .count(),
        1,
        "{calls:?}"
    );
    let (_, calls) = bed.calls_of(|| run(&dataset, "chmod 755 k; chown 1:1 k; chmod 700 ."));
    assert!(calls.is_empty(), "{calls:?}");
    drop(mounted);
    let again = bed.mount("");
    let dataset = bed.dataset(&again, "data");
    assert_eq!(
        fs::metadata(dataset.join("k")).unwrap().mtime(),
        1_580_608_922
    );
    assert_eq!(
        fs::metadata(dataset.join("copy")).unwrap().mtime(),
        1_546_300_800
    );
    assert_eq!(fs::read_to_string(dataset.join("copy")).unwrap(), "copied");
}

#[test]
fn s15_a_write_during_a_touch_keeps_the_value() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("one\n"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    fs::metadata(dataset.join("k")).unwrap();
    let slow = Trouble::Slow(Duration::from_millis(500));
    bed.trouble("UpdateRecords", slow, 0, 1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = File::open(&dataset).unwrap();
            let time = nix::sys::time::TimeSpec::new(1_500_000_000, 0);
            let flag = nix::sys::stat::UtimensatFlags::FollowSymlink;
            nix::sys::stat::utimensat(&file, "k", &time, &time, flag).unwrap();
        });
        std::thread::sleep(Duration::from_millis(200));
        run(&dataset, "echo two >> k");
    });
    assert_eq!(bed.remote("data", "k"), Some(Some("one\ntwo\n".to_owned())));
    assert_eq!(fs::read_to_string(dataset.join("k")).unwrap(), "one\ntwo\n");
}

#[test]
fn s15_df_shows_the_real_use() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("12345")), ("é", Some("x"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let shown = run(&dataset, "stat -f -c '%b %f %S %c %d' .");
    assert_eq!(shown, "1048576 1048567 1 1024 1022\n");
    assert_eq!(fs::metadata(dataset.join("k")).unwrap().len(), 5);
    assert!(shell(&mounted.path, "df .").status.success());
}
