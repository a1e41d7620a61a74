//! A network that fails, records that are odd, the end of a mount (S17, S18, S20 to S22).

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{close, errno, names, rewrite};
use crate::common::{Bed, Mounted, Trouble, is_mounted, run};
use crate::local_service::now;

#[test]
fn s17_an_operation_ends_within_timeout() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    bed.change("other", &[("k", Some("v"))]);
    let mut mounted = bed.mount("timeout=2s,ttl=60s");
    let dataset = bed.dataset(&mounted, "data");
    fs::read(dataset.join("k")).unwrap();
    let file = OpenOptions::new()
        .write(true)
        .open(dataset.join("k"))
        .unwrap();
    (&file).write_all(b"new").unwrap();
    bed.trouble("*", Trouble::Hang, 0, usize::MAX);
    let begun = Instant::now();
    let other = bed.dataset(&mounted, "other").join("k");
    assert_eq!(errno(fs::read(&other)), libc::ETIMEDOUT);
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert!(begun.elapsed() < Duration::from_secs(4));
    // What memory holds is served, what it does not hold fails at once.
    assert_eq!(names(&dataset), ["k"]);
    // The listing whose first waiter gave up may still be under way, and times out for all.
    let begun = Instant::now();
    let mut tries = (0..3).map(|_| errno(fs::read(&other)));
    assert!(tries.any(|number| number == libc::EHOSTUNREACH));
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(errno(file.sync_all()), libc::EHOSTUNREACH);
    // SIGTERM ends it all the same, and says that something is left.
    mounted.signal(Signal::SIGTERM);
    let ended = mounted.wait();
    assert_eq!(ended.code(), Some(1), "{}", mounted.log());
    assert!(!is_mounted(&mounted.path));
    drop(file);
}

#[test]
fn s17_it_recovers_by_itself() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("timeout=1s");
    let path = bed.dataset(&mounted, "data").join("k");
    bed.trouble("*", Trouble::Hang, 0, 2);
    assert_eq!(errno(fs::read(&path)), libc::ETIMEDOUT);
    let begun = Instant::now();
    while fs::read(&path).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(15));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn s17_a_write_that_is_not_answered_is_sent_once() {
    let bed = Bed::new();
    bed.change("data", &[("log", Some("one\n"))]);
    let mounted = bed.mount("timeout=1s");
    let dataset = bed.dataset(&mounted, "data");
    fs::read(dataset.join("log")).unwrap();
    let mut file = OpenOptions::new()
        .append(true)
        .open(dataset.join("log"))
        .unwrap();
    file.write_all(b"two\n").unwrap();
    // It is carried out, nobody hears of it, and the list behind it hangs.
    bed.trouble("UpdateRecords", Trouble::LoseAnswer, 0, 1);
    bed.trouble("ListRecords", Trouble::Hang, 0, 1);
    assert!(file.sync_all().is_err());
    bed.calm();
    let begun = Instant::now();
    while file.sync_all().is_err() {
        assert!(begun.elapsed() < Duration::from_secs(15));
        std::thread::sleep(Duration::from_millis(50));
    }
    close(file).unwrap();
    assert_eq!(
        bed.remote("data", "log"),
        Some(Some("one\ntwo\n".to_owned()))
    );
}

#[test]
fn s17_what_memory_holds_outlives_the_network() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("timeout=1s,ttl=1s");
    let dataset = bed.dataset(&mounted, "data");
    fs::read(dataset.join("k")).unwrap();
    names(&bed.dataset(&mounted, ""));
    std::thread::sleep(Duration::from_millis(1100));
    bed.trouble("*", Trouble::Hang, 0, usize::MAX);
    // The first to ask finds out, which takes it as long as the timeout.
    let begun = Instant::now();
    let _ = fs::read(dataset.join("k"));
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(fs::read_to_string(dataset.join("k")).unwrap(), "v");
    assert_eq!(names(&dataset), ["k"]);
    assert_eq!(names(&bed.dataset(&mounted, "")), ["data"]);
    // But nothing can be written.
    assert_eq!(
        errno(rewrite(&dataset.join("k"), "new")),
        libc::EHOSTUNREACH
    );
}

#[test]
fn s18_throttling_and_broken_connections_are_retried() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("ttl=0");
    let path = bed.dataset(&mounted, "data").join("k");
    for trouble in [
        Trouble::Status(429),
        Trouble::Status(503),
        Trouble::LoseCall,
    ] {
        bed.trouble("ListRecords", trouble, 0, 2);
        assert_eq!(fs::read_to_string(&path).unwrap(), "v", "{trouble:?}");
    }
    bed.trouble("UpdateRecords", Trouble::Status(429), 0, 1);
    rewrite(&path, "new").unwrap();
    assert_eq!(bed.remote("data", "k"), Some(Some("new".to_owned())));
}

/// Reads a record of each of many datasets at the same time.
fn read_many(bed: &Bed, mounted: &Mounted, datasets: &[String]) -> usize {
    bed.forget_calls();
    std::thread::scope(|scope| {
        for name in datasets {
            let path = bed.dataset(mounted, name).join("k");
            scope.spawn(move || assert_eq!(fs::read_to_string(path).unwrap(), "v"));
        }
    });
    bed.most_at_a_time()
}

#[test]
fn s18_concurrency_is_bounded_and_less_under_throttling() {
    let bed = Bed::new();
    let datasets: Vec<String> = (0..20).map(|n| format!("data{n}")).collect();
    for name in &datasets {
        bed.change(name, &[("k", Some("v"))]);
    }
    let slow = Trouble::Slow(Duration::from_millis(100));
    let mounted = bed.mount("ttl=0,concurrency=12");
    bed.trouble("ListRecords", slow, 0, usize::MAX);
    assert_eq!(read_many(&bed, &mounted, &datasets), 12);
    // A storm ends with few calls under way, and nobody is told of it.
    bed.calm();
    bed.trouble("ListRecords", Trouble::Status(429), 0, 12);
    bed.trouble("ListRecords", slow, 0, usize::MAX);
    read_many(&bed, &mounted, &datasets[..3]);
    let after = read_many(&bed, &mounted, &datasets[..12]);
    assert!(after < 8, "{after}");
    // And when it is over, with more again.
    bed.calm();
    for _ in 0..10 {
        read_many(&bed, &mounted, &datasets);
    }
    bed.trouble("ListRecords", slow, 0, usize::MAX);
    assert_eq!(read_many(&bed, &mounted, &datasets), 12);
}

#[test]
fn s20_one_bad_record_spoils_nothing() {
    let bed = Bed::new();
    bed.change("data", &[("good", Some("v"))]);
    bed.put_surrogates("data");
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let listed = names(&dataset);
    assert_eq!(listed.len(), 3, "{listed:?}");
    assert_eq!(fs::read_to_string(dataset.join("good")).unwrap(), "v");
    assert_eq!(errno(fs::read(dataset.join("bad"))), libc::EILSEQ);
    let odd = listed.iter().find(|name| name.contains("%~")).unwrap();
    assert_eq!(fs::read_to_string(dataset.join(odd)).unwrap(), "odd key");
    run(&dataset, "ls -l");
    // It can be moved as it is, replaced and removed.
    run(&dataset, "mv bad moved");
    assert_eq!(errno(fs::read(dataset.join("moved"))), libc::EILSEQ);
    fs::write(dataset.join("moved"), "mended").unwrap();
    assert_eq!(bed.remote("data", "moved"), Some(Some("mended".to_owned())));
    fs::remove_file(dataset.join(odd)).unwrap();
    assert_eq!(names(&dataset), ["good", "moved"]);
}

#[test]
fn s20_one_bad_dataset_spoils_nothing() {
    let bed = Bed::new();
    bed.change("good", &[("k", Some("v"))]);
    let developer = bed.service.developer("us-east-1".parse().unwrap());
    let (pool, identity) = (bed.pool.as_str(), bed.identity.as_str());
    let base = format!("/identitypools/{pool}/identities/{identity}/datasets/..");
    let parse = cognitofs::wire::operation::Call::parse;
    let list = parse("GET", &format!("{base}/records"), "", b"").unwrap();
    let listed = bed.service.call(&list, &developer, now()).unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
    let body = format!(
        r#"{{"SyncSessionToken":{},"RecordPatches":[{{"Op":"replace","Key":"k","Value":"v","SyncCount":0}}]}}"#,
        listed["SyncSessionToken"]
    );
    let update = parse("POST", &base, "", body.as_bytes()).unwrap();
    bed.service.call(&update, &developer, now()).unwrap();
    let mounted = bed.mount("");
    let identity = bed.dataset(&mounted, "");
    assert_eq!(names(&identity), ["%2E.", "good"]);
    assert_eq!(names(&identity.join("good")), ["k"]);
    assert_eq!(errno(fs::read_dir(identity.join("%2E."))), libc::EINVAL);
}

#[test]
fn s21_every_way_out_is_clean() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut mounted = bed.mount("");
        let dataset = bed.dataset(&mounted, "data");
        rewrite(&dataset.join("k"), signal.as_str()).unwrap();
        mounted.signal(signal);
        assert_eq!(mounted.wait().code(), Some(0), "{}", mounted.log());
        assert!(!is_mounted(&mounted.path));
        assert_eq!(
            bed.remote("data", "k"),
            Some(Some(signal.as_str().to_owned()))
        );
    }
    let mut mounted = bed.mount("");
    assert_eq!(mounted.unmount().code(), Some(0));
    let mut mounted = bed.mount("");
    run(
        Path::new("/"),
        &format!("fusermount3 -u {}", mounted.path.display()),
    );
    assert_eq!(mounted.wait().code(), Some(0));
}

#[test]
fn s21_what_a_release_sends_is_waited_for() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    for way in ["cognitofs umount", "umount", "SIGTERM"] {
        let mut mounted = bed.mount("");
        let dataset = bed.dataset(&mounted, "data");
        run(&dataset, "printf full > k");
        let slow = Trouble::Slow(Duration::from_millis(700));
        bed.trouble("UpdateRecords", slow, 0, 1);
        // Close does not wait for a truncation by open alone.
        run(&dataset, ": > k");
        match way {
            "SIGTERM" => mounted.signal(Signal::SIGTERM),
            "umount" => {
                run(
                    Path::new("/"),
                    &format!("umount '{}'", mounted.path.display()),
                );
            }
            _ => {
                let mut umount = crate::common::program(&bed);
                let status = umount.arg("umount").arg(&mounted.path).status().unwrap();
                assert!(status.success());
                assert_eq!(bed.remote("data", "k"), Some(Some(String::new())));
            }
        }
        assert_eq!(mounted.wait().code(), Some(0), "{way}: {}", mounted.log());
        assert_eq!(bed.remote("data", "k"), Some(Some(String::new())), "{way}");
        bed.calm();
    }
}

#[test]
fn s21_a_dead_mount_is_replaced() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mut dead = bed.mount("");
    dead.signal(Signal::SIGKILL);
    dead.wait();
    assert_eq!(errno(fs::metadata(&dead.path)), libc::ENOTCONN);
    let output = crate::common::program(&bed)
        .args(["mount", "-o", &format!("endpoint=http://{}", bed.address)])
        .arg("cognito://us-east-1")
        .arg(&dead.path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let path = dead
        .path
        .join(bed.pool.as_str())
        .join(bed.identity.as_str());
    assert_eq!(names(&path), ["data"]);
    run(Path::new("/"), &format!("umount {}", dead.path.display()));
}

#[test]
fn s22_modes_are_private_unless_asked_otherwise() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("secret value"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&dataset), 0o700);
    assert_eq!(mode(&dataset.join("k")), 0o600);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts
        .lines()
        .find(|line| line.contains(mounted.path.to_str().unwrap()));
    let line = line.unwrap();
    assert!(
        line.contains("default_permissions") && line.contains("nosuid,nodev"),
        "{line}"
    );
    assert!(line.contains("fuse.cognitofs"), "{line}");
    let open = bed.mount("umask=022,uid=12,gid=34,allow_other");
    let dataset = bed.dataset(&open, "data");
    let shown = fs::metadata(dataset.join("k")).unwrap();
    assert_eq!(
        (shown.uid(), shown.gid(), mode(&dataset.join("k"))),
        (12, 34, 0o644)
    );
    assert_eq!(mode(&dataset), 0o755);
}

#[test]
fn s22_nothing_of_a_value_or_a_credential_is_logged() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("secret value"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    fs::read(dataset.join("k")).unwrap();
    rewrite(&dataset.join("k"), "another secret").unwrap();
    bed.trouble("UpdateRecords", Trouble::Status(400), 0, 1);
    rewrite(&dataset.join("k"), "third secret").unwrap_err();
    let log = mounted.log();
    assert!(log.contains("flush"), "{log}");
    for secret in ["secret", &bed.service.developer_credentials().secret_key] {
        assert!(!log.contains(secret));
    }
}

#[test]
fn a_denied_listing_is_a_warning_and_named_paths_work() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let credentials = bed.user_credentials();
    let source = format!("cognito://us-east-1/{}", bed.pool);
    let mounted = Mounted::with_credentials(&bed, &source, "", &credentials);
    assert!(
        mounted.log().contains("paths that are named"),
        "{}",
        mounted.log()
    );
    let mut listed = fs::read_dir(&mounted.path).unwrap();
    assert_eq!(errno(listed.next().unwrap()), libc::EACCES);
    let mine = mounted.path.join(bed.identity.as_str());
    assert_eq!(fs::read_to_string(mine.join("data/k")).unwrap(), "v");
    rewrite(&mine.join("data/k"), "mine").unwrap();
    assert_eq!(names(&mine), ["data"]);
    let other = "us-east-1:00000000-0000-4000-8000-0000000000ff";
    assert_eq!(
        errno(fs::read(mounted.path.join(other).join("data/k"))),
        libc::EACCES
    );
}

#[test]
fn s22_plain_http_goes_nowhere_but_loopback() {
    let bed = Bed::new();
    let mount = |endpoint: &str| {
        crate::common::program(&bed)
            .args([
                "mount",
                "-o",
                &format!("endpoint={endpoint}"),
                "cognito://us-east-1",
            ])
            .arg(bed.directory.path())
            .output()
            .unwrap()
    };
    let refused = mount("http://192.0.2.1:80");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("https"));
}

/// Whatever the kernel is to be told of a directory that somebody waits in, the daemon can be killed.
#[test]
fn s21_a_daemon_can_be_killed_whoever_waits_for_it() {
    let bed = Bed::new();
    bed.change("data", &[("gone", Some("v")), ("k", Some("v"))]);
    let mut mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    run(&dataset, "cat *");
    let file = OpenOptions::new().write(true).open(dataset.join("k"));
    let mut file = file.unwrap();
    bed.forget_calls();
    bed.trouble("UpdateRecords", Trouble::Hang, 0, usize::MAX);
    std::thread::scope(|scope| {
        // It has the directory while it waits for its answer.
        let removed = scope.spawn(|| fs::remove_file(dataset.join("gone")));
        bed.wait_for_call("UpdateRecords");
        // What is dropped has its name lead to the service's version again.
        file.write_all(b"\xff").unwrap();
        assert_eq!(errno(close(file)), libc::EILSEQ);
        std::thread::sleep(Duration::from_millis(300));
        mounted.signal(Signal::SIGKILL);
        mounted.wait();
        assert_eq!(errno(removed.join().unwrap()), libc::ECONNABORTED);
    });
}
