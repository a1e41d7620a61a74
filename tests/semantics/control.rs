//! The files under `.cognito`: what they say, and what writing them does.

use std::fs::{self, File};
use std::path::PathBuf;

use serde_json::Value;

use super::{close, errno, names};
use crate::common::{Bed, Mounted, Trouble, run, shell};

const STREAM: &str = r#""CognitoStreams": {"RoleArn": "arn:aws:iam::123456789012:role/streams", "StreamName": "changes", "StreamingStatus": "ENABLED"}"#;

struct Control {
    bed: Bed,
    mounted: Mounted,
}

impl Control {
    fn new() -> Self {
        let bed = Bed::new();
        bed.change("data", &[("k", Some("v")), ("gone", Some("x"))]);
        bed.change("data", &[("gone", None)]);
        let mounted = bed.mount("");
        Self { bed, mounted }
    }

    fn root(&self) -> PathBuf {
        self.mounted.path.join(".cognito")
    }

    fn pool(&self) -> PathBuf {
        self.mounted
            .path
            .join(self.bed.pool.as_str())
            .join(".cognito")
    }

    fn identity(&self) -> PathBuf {
        self.bed.dataset(&self.mounted, ".cognito")
    }

    fn dataset(&self) -> PathBuf {
        self.bed.dataset(&self.mounted, "data").join(".cognito")
    }

    fn errors(&self) -> String {
        fs::read_to_string(self.root().join("errors.log")).unwrap()
    }
}

fn json(path: PathBuf) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Writes a file in one open and returns what close(2) said.
fn write(path: PathBuf, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = File::options().write(true).truncate(true).open(path)?;
    file.write_all(text.as_bytes())?;
    close(file)
}

#[test]
fn control_files_are_found_by_name_and_never_listed() {
    let control = Control::new();
    let mounted = &control.mounted.path;
    assert_eq!(names(mounted), [control.bed.pool.as_str()]);
    let found = run(
        mounted,
        "find . -name '.cognito'; ls -A .; grep -r . . | wc -l",
    );
    assert!(!found.contains(".cognito"), "{found}");
    assert_eq!(
        names(&control.root()),
        ["errors.log", "mount.json", "parked.json", "stats.json"]
    );
    assert_eq!(
        names(&control.pool()),
        [
            "bulk-publish.json",
            "configuration.json",
            "events.json",
            "usage.json"
        ]
    );
    assert_eq!(names(&control.identity()), ["usage.json"]);
    assert_eq!(
        names(&control.dataset()),
        ["dataset.json", "parked", "records.json"]
    );
    let listed = run(
        &control.pool(),
        "ls -l --time-style=+ events.json usage.json",
    );
    assert!(listed.starts_with("-rw------- 1 root root 0"), "{listed}");
    assert!(listed.contains("\n-r-------- 1 root root 0"), "{listed}");
    assert_eq!(
        errno(fs::metadata(control.pool().join("nothing"))),
        libc::ENOENT
    );
}

#[test]
fn control_a_mount_of_a_pool_has_the_files_of_both() {
    let bed = Bed::new();
    let mounted = Mounted::new(&bed, bed.pool.as_str(), "");
    let all = [
        "bulk-publish.json",
        "configuration.json",
        "errors.log",
        "events.json",
        "mount.json",
        "parked.json",
        "stats.json",
    ];
    let listed = names(&mounted.path.join(".cognito"));
    assert_eq!(listed[..7], all);
    assert_eq!(listed[7..], ["usage.json"]);
}

#[test]
fn control_files_say_what_the_operations_answer() {
    let control = Control::new();
    let pool = control.bed.pool.as_str();
    let usage = json(control.pool().join("usage.json"));
    assert_eq!(usage["IdentityPoolUsage"]["IdentityPoolId"], pool);
    assert_eq!(usage["IdentityPoolUsage"]["DataStorage"], 2);
    let usage = json(control.identity().join("usage.json"));
    assert_eq!(usage["IdentityUsage"]["DatasetCount"], 1);
    assert_eq!(
        json(control.pool().join("bulk-publish.json"))["BulkPublishStatus"],
        "NOT_STARTED"
    );
    assert_eq!(
        json(control.pool().join("events.json")),
        serde_json::json!({"Events": {}})
    );
    let dataset = json(control.dataset().join("dataset.json"));
    assert_eq!(dataset["Dataset"]["DatasetName"], "data");
    assert_eq!(dataset["Dataset"]["NumRecords"], 1);
    let created = dataset["Dataset"]["CreationDate"].as_str().unwrap();
    let date = created.strip_suffix('Z').unwrap();
    assert!(date.len() == 23 && date.as_bytes()[10] == b'T', "{created}");
    let now = run(&control.root(), "date -u +%Y-%m-%d");
    assert!(
        created.starts_with(now.trim()) || date.ends_with("59"),
        "{created}"
    );
    let records = json(control.dataset().join("records.json"));
    assert_eq!(records["DatasetSyncCount"], 2);
    let keys: Vec<&Value> = records["Records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["Key"])
        .collect();
    assert_eq!(keys, ["gone", "k"]);
    let [tombstone, record] = &records["Records"].as_array().unwrap()[..] else {
        panic!("{records}")
    };
    assert!(
        tombstone.get("Value").is_none() && tombstone["SyncCount"] == 2,
        "{records}"
    );
    assert_eq!(record["Value"], "v");
    assert!(record["LastModifiedBy"].is_string() && record["LastModifiedDate"].is_string());
    let about = json(control.root().join("mount.json"));
    assert_eq!(about["source"], "cognito://us-east-1");
}

#[test]
fn control_files_are_pretty_and_the_same_each_time() {
    let control = Control::new();
    write(
        control.pool().join("configuration.json"),
        &format!("{{{STREAM}}}"),
    )
    .unwrap();
    let text = run(
        &control.pool(),
        "cat configuration.json; cat configuration.json",
    );
    let (first, second) = text.split_at(text.len() / 2);
    assert_eq!(first, second);
    let stream = "  \"CognitoStreams\": {\n    \"RoleArn\": \"arn:aws:iam::123456789012:role/streams\",\n    \"StreamName\": \"changes\",\n    \"StreamingStatus\": \"ENABLED\"\n  }";
    assert!(
        first.starts_with("{\n") && first.contains(stream) && first.ends_with("}\n"),
        "{first}"
    );
}

#[test]
fn control_a_value_that_is_not_unicode_stands_in_records_json() {
    let control = Control::new();
    control.bed.put_surrogates("data");
    let text = fs::read_to_string(control.dataset().join("records.json")).unwrap();
    assert!(text.contains(r#""Value": "half \ud83d of it""#), "{text}");
    assert!(text.contains(r#""Key": "odd\ud83d""#), "{text}");
}

#[test]
fn control_tools_read_and_write_them() {
    let control = Control::new();
    let pool = control.pool();
    let trigger = "arn:aws:lambda:us-east-1:123456789012:function:merge";
    run(
        &pool,
        "cp events.json ../../../events.was && cat events.json | jq -e '.Events == {}'",
    );
    run(
        &pool,
        &format!(
            "jq '.Events.SyncTrigger = \"{trigger}\"' events.json > ../../../new && cp ../../../new events.json"
        ),
    );
    assert_eq!(
        json(pool.join("events.json"))["Events"]["SyncTrigger"],
        trigger
    );
    run(
        &pool,
        "diff ../../../new events.json && grep -q merge events.json && wc -l events.json",
    );
    run(
        &pool,
        "vim -es -u DEFAULTS -c '%s/merge/union/' -c wq events.json </dev/null",
    );
    assert_eq!(
        json(pool.join("events.json"))["Events"]["SyncTrigger"],
        trigger.replace("merge", "union")
    );
    // An event that is no longer there calls nothing.
    run(&pool, "cat ../../../events.was > events.json");
    assert_eq!(
        json(pool.join("events.json")),
        serde_json::json!({"Events": {}})
    );
    run(
        &pool,
        &format!("python3 - <<'end'\nopen('configuration.json', 'w').write('{{{STREAM}}}')\nend"),
    );
    assert_eq!(
        json(pool.join("configuration.json"))["CognitoStreams"]["StreamName"],
        "changes"
    );
    run(
        &pool,
        "sed s/ENABLED/DISABLED/ configuration.json > ../../../new && tee configuration.json < ../../../new && cp -r . ../../../copy && diff -r . ../../../copy",
    );
    assert_eq!(
        json(pool.join("configuration.json"))["CognitoStreams"]["StreamingStatus"],
        "DISABLED"
    );
}

#[test]
fn control_writing_back_what_was_read_is_not_sent() {
    let control = Control::new();
    let path = control.pool().join("configuration.json");
    write(path.clone(), &format!("{{{STREAM}}}")).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let compact = serde_json::from_str::<Value>(&text).unwrap().to_string();
    for same in [&text, &compact] {
        let (written, calls) = control.bed.calls_of(|| write(path.clone(), same));
        written.unwrap();
        assert_eq!(calls, ["GetIdentityPoolConfiguration"]);
    }
    let (_, calls) = control
        .bed
        .calls_of(|| File::options().write(true).truncate(true).open(&path));
    assert_eq!(calls, ["GetIdentityPoolConfiguration"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn control_what_is_refused_changes_nothing_and_says_why() {
    let control = Control::new();
    let configuration = control.pool().join("configuration.json");
    write(configuration.clone(), &format!("{{{STREAM}}}")).unwrap();
    let before = fs::read_to_string(&configuration).unwrap();
    for (text, why) in [
        ("", ""),
        ("{", "not valid JSON"),
        ("[]", "not what this file holds: expected an object"),
        (
            "{\"CognitoStreams\": [\"changes\"]}",
            "CognitoStreams: there is no such field, or it has",
        ),
        (
            "{\"CognitoStream\": {}}",
            "CognitoStream: there is no such field",
        ),
        (
            "{\"CognitoStreams\": {\"Name\": \"x\"}}",
            "CognitoStreams.Name: there is no such field",
        ),
        ("{\"PushSync\": {}}", "CognitoStreams: is missing"),
        (
            "{\"IdentityPoolId\": \"us-east-1:00000000-0000-0000-0000-000000000000\"}",
            "the pool this file belongs to",
        ),
        // The service's own words.
        (
            "{\"CognitoStreams\": {\"StreamName\": \"\"}}",
            "StreamName: expected 1 to 128",
        ),
    ] {
        let written = write(configuration.clone(), text);
        if why.is_empty() {
            // Nothing was written at all: the beginning of a write that never came.
            written.unwrap();
        } else {
            assert_eq!(errno(written), libc::EINVAL, "{text}");
            let errors = control.errors();
            let last = errors.lines().last().unwrap();
            let path = "/.cognito/configuration.json EINVAL";
            assert!(last.contains(path) && last.contains(why), "{text}: {last}");
        }
        assert_eq!(fs::read_to_string(&configuration).unwrap(), before);
    }
    let events = control.pool().join("events.json");
    for (text, why) in [
        ("{}", "Events: is missing"),
        ("{\"Events\": {\"a\": \"b\", \"c\": \"d\"}}", "at most 1"),
    ] {
        assert_eq!(errno(write(events.clone(), text)), libc::EINVAL);
        assert!(control.errors().contains(why), "{}", control.errors());
    }
    let refused = shell(
        &control.pool(),
        "echo nonsense > ../../../bad; cp ../../../bad events.json",
    );
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Invalid argument"));
    assert_eq!(
        errno(write(events.clone(), &"x".repeat(1024 * 1024 + 1))),
        libc::EFBIG
    );
}

#[test]
fn control_a_text_that_does_not_fit_is_not_taken_in_part() {
    use std::io::Write;
    let control = Control::new();
    let events = control.pool().join("events.json");
    let trigger = "{\"Events\": {\"SyncTrigger\": \"http://127.0.0.1:1/\"}}";
    let mut file = File::options().write(true).open(&events).unwrap();
    file.write_all(trigger.as_bytes()).unwrap();
    let more = file.write_all(&[b' '; 1024 * 1024]);
    assert_eq!(errno(more), libc::EFBIG);
    assert_eq!(errno(close(file)), libc::EFBIG);
    assert_eq!(json(events), serde_json::json!({"Events": {}}));
}

#[test]
fn control_a_file_that_is_only_emptied_stays_as_it_was_and_says_so() {
    let control = Control::new();
    let configuration = control.pool().join("configuration.json");
    write(configuration.clone(), &format!("{{{STREAM}}}")).unwrap();
    let before = fs::read_to_string(&configuration).unwrap();
    run(&control.pool(), ": > configuration.json");
    let begun = std::time::Instant::now();
    // The kernel releases a file after close has returned.
    while !control.errors().contains("nothing was written") {
        assert!(begun.elapsed().as_secs() < 10, "{}", control.errors());
    }
    let cut = nix::unistd::truncate(&configuration, 0);
    assert_eq!(cut, Err(nix::errno::Errno::EINVAL));
    let usage = control.pool().join("usage.json");
    assert_eq!(
        nix::unistd::truncate(&usage, 0),
        Err(nix::errno::Errno::EACCES)
    );
    assert_eq!(fs::read_to_string(&configuration).unwrap(), before);
}

#[test]
fn control_the_services_own_errno_comes_through() {
    let control = Control::new();
    control.bed.trouble(
        "SetCognitoEvents",
        Trouble::Fault("NotAuthorizedException"),
        0,
        9,
    );
    let events = control.pool().join("events.json");
    let text = "{\"Events\": {\"SyncTrigger\": \"\"}}";
    assert_eq!(errno(write(events.clone(), text)), libc::EACCES);
    control.bed.trouble(
        "GetCognitoEvents",
        Trouble::Fault("NotAuthorizedException"),
        0,
        9,
    );
    assert_eq!(errno(fs::read(&events)), libc::EACCES);
    control.bed.calm();
    assert_eq!(json(events), serde_json::json!({"Events": {}}));
}

#[test]
fn control_nothing_else_can_be_done_there() {
    let control = Control::new();
    let pool = control.pool();
    for path in [
        pool.join("usage.json"),
        pool.join("bulk-publish.json"),
        control.dataset().join("records.json"),
        control.root().join("mount.json"),
        control.root().join("parked.json"),
        control.root().join("stats.json"),
    ] {
        assert_eq!(
            errno(File::options().write(true).open(&path)),
            libc::EACCES,
            "{path:?}"
        );
        assert_eq!(errno(fs::remove_file(&path)), libc::EACCES, "{path:?}");
    }
    assert_eq!(errno(File::create(pool.join("new"))), libc::EACCES);
    assert_eq!(errno(fs::create_dir(pool.join("new"))), libc::EACCES);
    assert_eq!(errno(fs::remove_dir(&pool)), libc::EACCES);
    assert_eq!(
        errno(fs::rename(pool.join("events.json"), pool.join("x"))),
        libc::EACCES
    );
    let record = control.bed.dataset(&control.mounted, "data").join("k");
    assert_eq!(
        errno(fs::rename(&record, control.dataset().join("k"))),
        libc::EACCES
    );
    assert_eq!(errno(fs::create_dir(&pool)), libc::EEXIST);
    assert_eq!(fs::read_to_string(record).unwrap(), "v");
}

#[test]
fn control_errors_log_has_the_last_failures() {
    let control = Control::new();
    assert_eq!(control.errors(), "");
    let record = control.bed.dataset(&control.mounted, "data").join("k");
    let mut file = File::options().append(true).open(&record).unwrap();
    let written = std::io::Write::write_all(&mut file, &[0xff]);
    assert_eq!(errno(written.and_then(|()| close(file))), libc::EILSEQ);
    // What is everyday is not there.
    let _ = fs::metadata(record.with_file_name("nothing")).unwrap_err();
    let errors = control.errors();
    let (pool, identity) = (&control.bed.pool, &control.bed.identity);
    let line = errors.lines().next().unwrap();
    assert!(
        line.contains(&format!(
            "Z flush /{pool}/{identity}/data/k EILSEQ the text is not UTF-8"
        )),
        "{line}"
    );
}
