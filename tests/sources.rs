//! What a source roots the mount at, where the service is found, and whose credentials are used.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{Bed, Mounted, Trouble, program, run};

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect()
}

/// Mounts in the background, as a user does, and says how it went: exit code and stderr.
fn mount(bed: &Bed, command: &mut Command, words: &[&str]) -> (i32, String, std::path::PathBuf) {
    let path = bed.directory.path().join("background");
    let _ = fs::create_dir(&path);
    let output = command
        .arg("mount")
        .args(words)
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), said, path)
}

fn unmount(path: &Path) {
    run(Path::new("/"), &format!("umount '{}'", path.display()));
}

#[test]
fn a_source_roots_the_mount() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let (pool, identity) = (bed.pool.as_str(), bed.identity.as_str());
    let region = "cognito://us-east-1";
    for (source, root, shown) in [
        (region.to_owned(), String::new(), pool),
        (format!("{region}/{pool}"), String::new(), identity),
        (format!("{region}/{pool}/{identity}"), String::new(), "data"),
        (
            format!("{region}/{pool}/{identity}/data"),
            String::new(),
            "k",
        ),
        (pool.to_owned(), String::new(), identity),
        (format!("{pool}/{identity}"), String::new(), "data"),
        (format!("{pool}/{identity}/data"), String::new(), "k"),
        (region.to_owned(), format!("root={pool}/{identity}"), "data"),
        (pool.to_owned(), format!("root={pool}/{identity}/data"), "k"),
    ] {
        let mounted = Mounted::new(&bed, &source, &root);
        assert_eq!(names(&mounted.path), [shown], "{source} {root}");
    }
}

#[test]
fn the_root_is_checked_with_one_call() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let (pool, identity) = (bed.pool.as_str(), bed.identity.as_str());
    for (source, call) in [
        ("cognito://us-east-1".to_owned(), "ListIdentityPools"),
        (pool.to_owned(), "ListIdentities"),
        (format!("{pool}/{identity}"), "ListDatasets"),
        (format!("{pool}/{identity}/data"), "ListRecords"),
    ] {
        let (mounted, calls) = bed.calls_of(|| Mounted::new(&bed, &source, ""));
        assert_eq!(calls, [call], "{source}");
        if call == "ListRecords" {
            // It is kept as the first snapshot.
            let (text, calls) = bed.calls_of(|| fs::read_to_string(mounted.path.join("k")));
            assert_eq!(text.unwrap(), "v");
            assert!(calls.is_empty(), "{calls:?}");
        }
    }
}

#[test]
fn what_is_not_there_is_not_mounted() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let endpoint = format!("endpoint=http://{}", bed.address);
    let (pool, identity) = (bed.pool.as_str(), bed.identity.as_str());
    let missing = "us-east-1:00000000-0000-4000-8000-0000000000ff";
    for source in [
        missing.to_owned(),
        format!("{pool}/{missing}"),
        format!("{pool}/{identity}/missing"),
    ] {
        let words = ["-o", &endpoint, &source];
        let (code, said, path) = mount(&bed, &mut program(&bed), &words);
        assert_eq!((code, said.lines().count()), (32, 1), "{said}");
        assert!(said.contains("not found"), "{said}");
        assert!(!crate::common::is_mounted(&path));
    }
}

#[test]
fn a_bad_signature_and_no_credentials_mount_nothing() {
    let bed = Bed::new();
    let endpoint = format!("endpoint=http://{}", bed.address);
    let words = ["-o", &endpoint, "cognito://us-east-1"];
    let mut forged = program(&bed);
    forged.env("AWS_SECRET_ACCESS_KEY", "wrong");
    let (code, said, path) = mount(&bed, &mut forged, &words);
    assert_eq!((code, said.lines().count()), (32, 1), "{said}");
    assert!(said.contains("InvalidSignatureException"), "{said}");
    assert!(!crate::common::is_mounted(&path));
    let mut nobody = program(&bed);
    nobody
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("HOME", bed.directory.path());
    let (code, said, _) = mount(&bed, &mut nobody, &words);
    assert_eq!((code, said.lines().count()), (32, 1), "{said}");
    assert!(said.contains("no AWS credentials"), "{said}");
}

#[test]
fn a_profile_and_the_environment_are_honoured() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let developer = bed.service.developer_credentials();
    let config = bed.directory.path().join("config");
    let text = format!(
        "[profile dev]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        developer.access_key_id, developer.secret_key
    );
    fs::write(&config, text).unwrap();
    for variables in [
        &["AWS_ENDPOINT_URL"][..],
        &[
            "AWS_ENDPOINT_URL_COGNITO_SYNC",
            "AWS_ENDPOINT_URL_COGNITO_IDENTITY",
        ],
    ] {
        let mut command = program(&bed);
        command
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY")
            .env("AWS_CONFIG_FILE", &config);
        for variable in variables {
            command.env(variable, format!("http://{}", bed.address));
        }
        let words = ["-o", "profile=dev", "cognito://us-east-1"];
        let (code, said, path) = mount(&bed, &mut command, &words);
        assert_eq!((code, said.as_str()), (0, ""), "{variables:?}");
        assert_eq!(names(&path), [bed.pool.as_str()]);
        unmount(&path);
    }
}

#[test]
fn a_local_source_is_kept_in_its_file() {
    let bed = Bed::new();
    let source = format!("local:{}", bed.directory.path().join("store.db").display());
    let (code, said, path) = mount(&bed, &mut program(&bed), &[&source]);
    assert_eq!((code, said.as_str()), (0, ""));
    // A new store has one pool with one identity.
    let script = "cd */* && mkdir settings && echo dark > settings/theme && cat settings/theme";
    assert_eq!(run(&path, script), "dark\n");
    // The store is this mount's alone.
    let other = bed.directory.path().join("other");
    fs::create_dir(&other).unwrap();
    let mut second = program(&bed);
    let output = second
        .args(["mount", &source])
        .arg(&other)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("in use by another cognitofs process"),
        "{said}"
    );
    let umount = program(&bed).arg("umount").arg(&path).status().unwrap();
    assert!(umount.success());
    // The daemon closes the store behind the umount; the next mount waits for it.
    let (code, said, _) = mount(&bed, &mut program(&bed), &[&source]);
    assert_eq!((code, said.as_str()), (0, ""));
    assert_eq!(run(&path, "cat */*/settings/theme"), "dark\n");
    unmount(&path);
}

#[test]
fn the_demo_shows_a_believable_sample_and_cleans_up() {
    let bed = Bed::new();
    let path = bed.directory.path().join("demo");
    let mut demo = program(&bed)
        .arg("demo")
        .arg(&path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut out = std::io::BufReader::new(demo.stdout.take().unwrap());
    while !said.contains("Ctrl-C") {
        assert_ne!(
            std::io::BufRead::read_line(&mut out, &mut said).unwrap(),
            0,
            "{said}"
        );
    }
    assert!(said.contains(path.to_str().unwrap()));
    assert_eq!(names(&path).len(), 3);
    let identities: usize = run(&path, "ls -d */* | wc -l").trim().parse().unwrap();
    assert!(identities >= 24);
    let records: usize = run(&path, "find . -type f | wc -l").trim().parse().unwrap();
    assert!(records >= 100, "{records}");
    assert_ne!(run(&path, "find . -type f -empty"), "");
    assert_ne!(run(&path, "find . -name '*%2F*'"), "");
    assert_ne!(run(&path, "grep -rlP '[^\\x00-\\x7f]' us-east-1:ab*"), "");
    // One value is not text: only opening it fails. A key that is not text can be opened.
    let told = run(&path, "grep -r '' . 2>&1 >/dev/null || true");
    let odd = said.lines().find(|line| line.contains("/chat/")).unwrap();
    let odd = Path::new(odd.trim().strip_prefix("cat ").unwrap());
    let failed = fs::read(odd).unwrap_err().raw_os_error();
    assert_eq!(failed, Some(nix::libc::EILSEQ));
    let name = odd.strip_prefix(&path).unwrap().to_str().unwrap();
    assert!(told.lines().count() == 1 && told.contains(name), "{told}");
    let chat = odd.parent().unwrap();
    assert_eq!(names(chat).len(), 3);
    assert_eq!(run(chat, "cat *%~*"), "el capitán");
    // What it tells to try works, up to the editor.
    let tour: Vec<&str> = said
        .lines()
        .map(str::trim)
        .skip_while(|line| !line.starts_with("cd "))
        .take_while(|line| !line.is_empty())
        .filter(|line| !line.starts_with("vim") && !line.starts_with("cp"))
        .collect();
    assert!(tour.len() >= 6, "{tour:?}");
    let found = run(Path::new("/"), &format!("set -e\n{}", tour.join("\n")));
    assert!(found.contains("plumber"), "{found}");
    let id = nix::unistd::Pid::from_raw(i32::try_from(demo.id()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
    assert!(demo.wait().unwrap().success());
    assert!(!crate::common::is_mounted(&path));
    assert!(!path.exists());
}

#[test]
fn one_dead_endpoint_does_not_take_the_other_down() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mut command = program(&bed);
    command
        .env(
            "AWS_ENDPOINT_URL_COGNITO_SYNC",
            format!("http://{}", bed.address),
        )
        .env("AWS_ENDPOINT_URL_COGNITO_IDENTITY", "http://127.0.0.1:9");
    let source = format!("{}/{}", bed.pool, bed.identity);
    let words = ["-o", "ttl=0,timeout=1s", &source];
    let (code, said, path) = mount(&bed, &mut command, &words);
    assert_eq!((code, said.as_str()), (0, ""));
    let record = path.join("data/k");
    assert_eq!(fs::read_to_string(&record).unwrap(), "v");
    bed.trouble("ListRecords", Trouble::Hang, 0, 1);
    let _ = fs::read(&record);
    let begun = std::time::Instant::now();
    while fs::write(&record, "new").is_err()
        || bed.remote("data", "k").flatten().as_deref() != Some("new")
    {
        assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    }
    unmount(&path);
}
