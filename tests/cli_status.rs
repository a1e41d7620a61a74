//! What is told of a mount: status, what is kept, what is pending, on real mounts by the real
//! program.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::common::{Bed, Mounted, Trouble, program, run};

struct Told {
    code: i32,
    out: String,
    error: String,
}

fn cognitofs(bed: &Bed, words: &[&str], path: Option<&Path>) -> Told {
    let Output {
        status,
        stdout,
        stderr,
    } = program(bed).args(words).args(path).output().unwrap();
    Told {
        code: status.code().unwrap(),
        out: String::from_utf8(stdout).unwrap(),
        error: String::from_utf8(stderr).unwrap(),
    }
}

fn control(mounted: &Mounted, name: &str) -> Value {
    let text = fs::read_to_string(mounted.path.join(".cognito").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn eventually(what: &str, mut happens: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !happens() {
        assert!(begun.elapsed() < Duration::from_secs(20), "no {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A mount where a save replaced `theirs`, which nobody had seen, by `ours`.
fn with_a_kept_version(options: &str) -> (Bed, Mounted, PathBuf) {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("shown\n")), ("other", Some("x"))]);
    let mounted = bed.mount(options);
    let dataset = bed.dataset(&mounted, "data");
    run(&dataset, "cat k");
    bed.change("data", &[("k", Some("theirs\n"))]);
    run(&dataset, "echo ours > k");
    (bed, mounted, dataset)
}

#[test]
fn stats_json_counts_what_was_done() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("value"))]);
    bed.forget_calls();
    let mounted = bed.mount("ttl=60s");
    let dataset = bed.dataset(&mounted, "data");
    bed.trouble("UpdateRecords", Trouble::Status(429), 0, 2);
    run(
        &dataset,
        "cat k; cat k; echo new > k; ! cat none; ! mkdir x",
    );
    let stats = control(&mounted, "stats.json");
    let operations = stats["operations"].as_object().unwrap();
    let calls = bed.calls();
    for (name, operation) in operations {
        let made = calls.iter().filter(|call| *call == name).count();
        assert_eq!(operation["calls"], made, "{name}: {stats}");
    }
    let update = &operations["UpdateRecords"];
    assert_eq!(update["calls"], 3, "{stats}");
    assert_eq!(
        (&update["retries"], &update["throttles"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(update["errors"], json!({"TooManyRequestsException": 2}));
    assert!(
        update["bytes_sent"].as_u64() > Some(3 * "new".len() as u64),
        "{stats}"
    );
    assert!(
        update["bytes_received"].as_u64() > Some("new".len() as u64),
        "{stats}"
    );
    let (total, max) = (&update["total_milliseconds"], &update["max_milliseconds"]);
    assert!(total.as_u64() >= max.as_u64(), "{stats}");
    assert_eq!(operations["ListRecords"]["errors"], json!({}));
    assert!(stats["cache"]["hits"].as_u64() >= Some(1), "{stats}");
    assert_eq!(stats["cache"]["misses"], 1, "{stats}");
    assert_eq!(stats["failures"], 1);
    assert_eq!(
        (&stats["pending"], &stats["parked"]),
        (&json!(0), &json!(0))
    );

    let mut open = File::create(dataset.join("open")).unwrap();
    open.write_all(b"not closed").unwrap();
    let stats = control(&mounted, "stats.json");
    assert_eq!(
        (&stats["pending"], &stats["refused"]),
        (&json!(1), &json!(0))
    );
    bed.trouble(
        "UpdateRecords",
        Trouble::Fault("LimitExceededException"),
        0,
        9,
    );
    open.sync_all().unwrap_err();
    let stats = control(&mounted, "stats.json");
    assert_eq!(
        (&stats["pending"], &stats["refused"]),
        (&json!(1), &json!(1))
    );
    let status = cognitofs(&bed, &["status"], Some(&mounted.path));
    assert!(
        status.code == 1 && status.out.contains("1 file, 1 tried in vain"),
        "{}",
        status.out
    );
    drop(open);
    eventually("version that is kept", || {
        let stats = control(&mounted, "stats.json");
        stats["parked"] == 1 && stats["pending"] == 0
    });
}

#[test]
fn mount_json_tells_everything_but_secrets() {
    let bed = Bed::new();
    let mounted = Mounted::new(&bed, bed.pool.as_str(), "ttl=1500ms,undo=3,profile=a\\,b");
    let about = control(&mounted, "mount.json");
    assert_eq!(about["source"], format!("cognito://us-east-1/{}", bed.pool));
    assert_eq!(
        (&about["root"], &about["region"]),
        (&json!(bed.pool.as_str()), &json!("us-east-1"))
    );
    let endpoint = format!("http://{}", bed.address);
    assert_eq!(
        about["endpoints"],
        json!({"cognito_sync": endpoint, "cognito_identity": endpoint})
    );
    assert_eq!(about["acting"], json!({"as": "profile", "profile": "a,b"}));
    let options = about["options"].as_object().unwrap();
    let names: Vec<_> = options.keys().map(String::as_str).collect();
    let mut all: Vec<_> = cognitofs::cli::options::OPTIONS
        .iter()
        .map(|o| o.name)
        .collect();
    all.sort_unstable();
    assert_eq!(names, all);
    for (name, shown) in [
        ("ttl", json!("ttl=1500ms")),
        ("undo", json!("undo=3")),
        ("profile", json!("profile=a\\,b")),
        ("rw", json!("rw")),
        ("ro", Value::Null),
        ("timeout", json!("timeout=30s")),
        ("login", Value::Null),
    ] {
        assert_eq!(options[name], shown, "{name}");
    }
    assert_eq!(about["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(about["process_id"], mounted.id());
    assert!(
        Path::new(about["state_directory"].as_str().unwrap())
            .join("journal.db")
            .exists()
    );
    let now = run(Path::new("/"), "date -u +%Y-%m-%d");
    assert!(
        about["mounted_at"]
            .as_str()
            .unwrap()
            .starts_with(now.trim())
    );
    let secret = &bed.service.developer_credentials().secret_key;
    assert!(!about.to_string().contains(secret.as_str()));

    let guest = bed.mount(&format!(
        "identity=guest,root={}/{}",
        bed.pool, bed.identity
    ));
    let acting = &control(&guest, "mount.json")["acting"];
    assert_eq!(
        acting,
        &json!({"as": "guest", "identity": bed.identity.as_str()})
    );
}

#[test]
fn status_tells_what_is_kept_and_what_failed() {
    let (bed, mounted, dataset) = with_a_kept_version("ttl=60s");
    let place = format!("{}/{}/data", bed.pool, bed.identity);
    run(&dataset, "! mkdir x");
    let status = cognitofs(&bed, &["status"], Some(&mounted.path));
    assert_eq!((status.code, status.error.as_str()), (1, ""));
    for told in [
        format!("{}: cognito://us-east-1 is up\n", mounted.path.display()),
        "\n  pending: nothing\n".to_owned(),
        format!("\n  parked: 1 version\n    {place}: 1\n"),
        "\n  failed: 1 operation, the last:\n".to_owned(),
        format!("Z mkdir /{place}/x EPERM "),
        "UpdateRecords ".to_owned(),
        format!(", process {}, by AWS's default credentials\n", mounted.id()),
    ] {
        assert!(status.out.contains(&told), "{told}: {}", status.out);
    }
    let status = cognitofs(&bed, &["status", "--json"], Some(&mounted.path));
    let reports: Value = serde_json::from_str(&status.out).unwrap();
    let report = &reports[0];
    assert_eq!(status.code, 1);
    assert_eq!(
        (&report["state"], &report["source"]),
        (&json!("up"), &json!("cognito://us-east-1"))
    );
    assert_eq!(report["mount"]["process_id"], mounted.id());
    assert_eq!(report["stats"]["parked"], 1);
    let kept = &report["parked"][0];
    assert_eq!(kept["name"], "k@2.remote");
    assert_eq!(
        (&kept["dataset"], &kept["record"], &kept["key"]),
        (&json!(place), &json!("k"), &json!("k"))
    );
    assert_eq!(
        (&kept["side"], &kept["sync_count"], &kept["size"]),
        (&json!("remote"), &json!(2), &json!(7))
    );
    assert_eq!(kept["expires"], Value::Null);
    assert!(kept["reason"].is_string() && kept["at"].as_str().unwrap().ends_with('Z'));
    assert!(report["failures"][0].as_str().unwrap().contains(" EPERM "));

    // Among all mounts it is there too.
    let all = cognitofs(&bed, &["status"], None);
    assert!(
        all.out.contains(&format!("{}: ", mounted.path.display())),
        "{}",
        all.out
    );

    fs::remove_file(dataset.join(".cognito/parked/k@2.remote")).unwrap();
    let status = cognitofs(&bed, &["status"], Some(&mounted.path));
    assert!(
        status.code == 0 && status.out.contains("\n  parked: nothing\n"),
        "{}",
        status.out
    );
}

#[test]
fn status_tells_what_is_not_up() {
    let bed = Bed::new();
    let none = cognitofs(&bed, &["status"], Some(bed.directory.path()));
    assert!(none.code == 32 && none.error.ends_with(": no cognitofs is mounted there\n"));
    let missing = cognitofs(&bed, &["status"], Some(Path::new("/no/such")));
    assert_eq!((missing.code, missing.error.lines().count()), (32, 1));

    let mut mounted = bed.mount("");
    mounted.signal(Signal::SIGSTOP);
    let begun = Instant::now();
    let silent = cognitofs(&bed, &["status"], Some(&mounted.path));
    mounted.signal(Signal::SIGCONT);
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert!(
        silent.code == 32 && silent.out.ends_with(" does not answer\n"),
        "{}",
        silent.out
    );

    mounted.signal(Signal::SIGKILL);
    mounted.wait();
    let dead = cognitofs(&bed, &["status", "--json"], Some(&mounted.path));
    let reports: Value = serde_json::from_str(&dead.out).unwrap();
    assert_eq!((dead.code, &reports[0]["state"]), (32, &json!("dead")));
    assert_eq!(reports[0].get("stats"), None);
    assert_eq!(cognitofs(&bed, &["umount"], Some(&mounted.path)).code, 0);
}

#[test]
fn parked_lists_shows_and_compares() {
    let (bed, mounted, dataset) = with_a_kept_version("ttl=60s");
    let kept = dataset.join(".cognito/parked/k@2.remote");
    let directory = format!("{}:\n", kept.parent().unwrap().display());
    let identity = dataset.parent().unwrap();
    for path in [&mounted.path, identity, &dataset, &dataset.join("k"), &kept] {
        for words in [&["parked"][..], &["parked", "list"]] {
            let list = cognitofs(&bed, words, Some(path));
            assert_eq!((list.code, list.error.as_str()), (0, ""), "{path:?}");
            let row = list
                .out
                .strip_prefix(&directory)
                .unwrap()
                .lines()
                .nth(1)
                .unwrap();
            let cells: Vec<_> = row.split_whitespace().collect();
            assert_eq!(
                (cells[0], cells[1], cells[3]),
                ("k@2.remote", "remote", "7"),
                "{row}"
            );
            assert!(row.ends_with("by somebody who had not seen it"), "{row}");
        }
    }
    let nothing = cognitofs(&bed, &["parked"], Some(&dataset.join("other")));
    assert!(
        nothing.code == 0 && nothing.out.is_empty() && nothing.error.contains("nothing is kept")
    );

    for path in [&kept, &dataset.join("k")] {
        let show = cognitofs(&bed, &["parked", "show"], Some(path));
        assert_eq!(
            (show.code, show.out.as_str()),
            (0, "theirs\n"),
            "{}",
            show.error
        );
        let diff = cognitofs(&bed, &["parked", "diff"], Some(path));
        assert_eq!(diff.code, 0, "{}", diff.error);
        assert!(
            diff.out.ends_with("@@ -1 +1 @@\n-ours\n+theirs\n"),
            "{}",
            diff.out
        );
    }
}

#[test]
fn parked_keep_puts_a_version_back() {
    let (bed, _mounted, dataset) = with_a_kept_version("ttl=60s");
    let kept = dataset.join(".cognito/parked/k@2.remote");
    // What cannot be written is not let go.
    bed.trouble(
        "UpdateRecords",
        Trouble::Fault("LimitExceededException"),
        0,
        9,
    );
    let refused = cognitofs(&bed, &["parked", "keep"], Some(&kept));
    assert_eq!((refused.code, refused.error.lines().count()), (1, 1));
    assert!(refused.error.contains("quota"), "{}", refused.error);
    assert_eq!(fs::read_to_string(&kept).unwrap(), "theirs\n");
    assert_eq!(bed.remote("data", "k").flatten().as_deref(), Some("ours\n"));
    bed.calm();
    let keep = cognitofs(&bed, &["parked", "keep"], Some(&kept));
    assert_eq!((keep.code, keep.error.as_str()), (0, ""));
    assert_eq!(
        bed.remote("data", "k").flatten().as_deref(),
        Some("theirs\n")
    );
    assert!(!kept.exists());
}

#[test]
fn parked_keep_keeps_what_it_replaces_unseen() {
    let (bed, _mounted, dataset) = with_a_kept_version("ttl=60s");
    bed.change("data", &[("k", Some("newest\n"))]);
    let keep = cognitofs(&bed, &["parked", "keep"], Some(&dataset.join("k")));
    assert_eq!((keep.code, keep.error.as_str()), (0, ""));
    assert_eq!(
        bed.remote("data", "k").flatten().as_deref(),
        Some("theirs\n")
    );
    let show = cognitofs(&bed, &["parked", "show"], Some(&dataset.join("k")));
    assert_eq!(show.out, "newest\n");
}

#[test]
fn parked_finds_records_by_any_name() {
    let long = "y".repeat(250);
    let keys = ["a@b@1.local", "a/b", long.as_str()];
    let bed = Bed::new();
    for key in keys {
        bed.change("data", &[(key, Some("shown"))]);
    }
    let mounted = bed.mount("ttl=60s");
    let dataset = bed.dataset(&mounted, "data");
    run(&dataset, "cat *");
    for key in keys {
        bed.change("data", &[(key, Some("theirs"))]);
    }
    run(&dataset, "for file in *; do echo ours > \"$file\"; done");
    let parked = control(&mounted, "parked.json");
    let parked = parked.as_array().unwrap();
    assert_eq!(parked.len(), 3);
    for kept in parked {
        let key = kept["key"].as_str().unwrap();
        let name = kept["name"].as_str().unwrap();
        assert_eq!(name.contains("%~"), key == long, "{name}");
        let file = dataset.join(".cognito/parked").join(name);
        let keep = cognitofs(&bed, &["parked", "keep"], Some(&file));
        assert_eq!((keep.code, keep.error.as_str()), (0, ""), "{name}");
        assert_eq!(bed.remote("data", key).flatten().as_deref(), Some("theirs"));
    }
    assert_eq!(control(&mounted, "parked.json"), json!([]));
}

#[test]
fn parked_works_wherever_the_root_lies() {
    for depth in 0..4 {
        let bed = Bed::new();
        bed.change("data", &[("k", Some("shown"))]);
        let place = [bed.pool.as_str(), bed.identity.as_str(), "data"];
        let mounted = match depth {
            0 => bed.mount("ttl=60s"),
            _ => bed.mount(&format!("ttl=60s,root={}", place[..depth].join("/"))),
        };
        let below = place[depth..].join("/");
        let dataset = mounted.path.join(&below);
        run(&dataset, "cat k");
        bed.change("data", &[("k", Some("theirs"))]);
        run(&dataset, "echo ours > k");
        assert_eq!(control(&mounted, "parked.json")[0]["dataset"], below);
        let list = cognitofs(&bed, &["parked"], Some(&mounted.path));
        assert!(list.out.contains("\nk@2.remote "), "{}", list.out);
        let keep = cognitofs(&bed, &["parked", "keep"], Some(&dataset.join("k")));
        assert_eq!((keep.code, keep.error.as_str()), (0, ""));
        let remote = bed.remote("data", "k").flatten();
        assert_eq!(remote.as_deref(), Some("theirs"));
    }
}

#[test]
fn parked_names_stay_when_another_goes() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("0123456789"))]);
    let mounted = bed.mount("ttl=60s");
    let path = bed.dataset(&mounted, "data").join("k");
    let parked = path.with_file_name(".cognito").join("parked");
    fs::read(&path).unwrap();
    // Two texts made from one version: neither is taken.
    bed.trouble(
        "UpdateRecords",
        Trouble::Fault("LimitExceededException"),
        0,
        99,
    );
    for (text, name) in [("A", "k@1.local"), ("B", "k@1.local.2")] {
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(text.as_bytes(), 0).unwrap();
        drop(file);
        eventually("version that is kept", || parked.join(name).exists());
    }
    let discard = |name: &str| cognitofs(&bed, &["parked", "discard"], Some(&parked.join(name)));
    let several = cognitofs(&bed, &["parked", "discard"], Some(&path));
    assert!(
        several.code == 1 && several.error.contains("k@1.local, k@1.local.2"),
        "{}",
        several.error
    );
    assert_eq!(discard("k@1.local").code, 0);
    assert_eq!(discard("k@1.local").code, 1);
    assert_eq!(
        fs::read_to_string(parked.join("k@1.local.2")).unwrap(),
        "B123456789"
    );
}

#[test]
fn parked_reaches_what_is_kept_of_a_deleted_dataset() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("ttl=0");
    let path = bed.dataset(&mounted, "data").join("k");
    fs::read(&path).unwrap();
    let mut file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    bed.delete("data");
    file.write_all(b"typed").unwrap();
    file.sync_all().unwrap_err();
    drop(file);
    eventually("version that is kept", || {
        control(&mounted, "stats.json")["parked"] == 1
    });
    let list = cognitofs(&bed, &["parked"], Some(&mounted.path));
    assert!(list.out.contains("k@1.local"), "{}", list.out);
    let show = cognitofs(&bed, &["parked", "show"], Some(&path));
    assert!(
        show.code == 1 && show.error.contains("mkdir it"),
        "{}",
        show.error
    );
    let keep = cognitofs(&bed, &["parked", "keep"], Some(&path));
    assert_eq!((keep.code, keep.error.as_str()), (0, ""));
    assert_eq!(bed.remote("data", "k").flatten().as_deref(), Some("typed"));
}

#[test]
fn parked_tells_what_is_wrong_in_one_line() {
    let (bed, mounted, dataset) = with_a_kept_version("ttl=60s");
    let parked = dataset.join(".cognito/parked");
    for (words, path, told) in [
        (
            &["parked"][..],
            bed.directory.path(),
            "does not lie in a mount of cognitofs",
        ),
        (&["parked"], &mounted.path.join("none"), "No such file"),
        (&["parked", "show"], &dataset, "name one version"),
        (&["parked", "discard"], &mounted.path, "name one version"),
        (
            &["parked", "show"],
            &dataset.join("other"),
            "nothing is kept of it",
        ),
        (
            &["parked", "keep"],
            &parked.join("k@9.remote"),
            "nothing is kept of it",
        ),
    ] {
        let wrong = cognitofs(&bed, words, Some(path));
        assert_eq!(
            (wrong.code, wrong.error.lines().count()),
            (1, 1),
            "{}",
            wrong.error
        );
        assert!(wrong.error.contains(told), "{}", wrong.error);
    }
    assert_eq!(control(&mounted, "stats.json")["parked"], 1);
}

#[test]
fn umount_says_what_could_not_be_sent_and_leaves_the_mount() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mut mounted = bed.mount("timeout=2s");
    let dataset = bed.dataset(&mounted, "data");
    bed.trouble(
        "UpdateRecords",
        Trouble::Slow(Duration::from_millis(1500)),
        0,
        1,
    );
    // Sent when it is released, which close does not wait for.
    run(&dataset, ": > new");
    let early = cognitofs(&bed, &["umount", "--timeout", "100ms"], Some(&mounted.path));
    assert_eq!(
        (early.code, early.error.lines().count()),
        (32, 1),
        "{}",
        early.error
    );
    assert!(
        early
            .error
            .contains("not everything was sent within 100ms (files pending: 1)"),
        "{}",
        early.error
    );
    assert_eq!(fs::read_to_string(dataset.join("k")).unwrap(), "v");
    let done = cognitofs(&bed, &["umount"], Some(&mounted.path));
    assert_eq!((done.code, done.error.as_str()), (0, ""));
    assert!(mounted.wait().success());
    assert_eq!(bed.remote("data", "new"), Some(Some(String::new())));
}
