//! Real tools on a real mount: what people work with must do what it does on a disk.

use std::fs;
use std::path::Path;

use crate::common::{Bed, Trouble, run, shell};

fn has(tool: &str) -> bool {
    let found = shell(Path::new("/"), &format!("command -v {tool}"))
        .status
        .success();
    if !found {
        eprintln!("SKIPPED: {tool} is not installed; tests/run installs it");
    }
    found
}

fn remote(bed: &Bed, key: &str) -> Option<String> {
    bed.remote("data", key).flatten()
}

#[test]
fn vim_saves() {
    if !has("vim") {
        return;
    }
    let bed = Bed::new();
    bed.change("data", &[("todo", Some("buy milk\n"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    run(
        &dataset,
        "vim -es -u DEFAULTS -c '%s/milk/bread/' -c wq todo </dev/null",
    );
    assert_eq!(remote(&bed, "todo").as_deref(), Some("buy bread\n"));
    run(
        &dataset,
        "vim -es -u DEFAULTS -c 'call setline(1, \"new\")' -c wq fresh </dev/null",
    );
    assert_eq!(remote(&bed, "fresh").as_deref(), Some("new\n"));
    let left = fs::read_dir(&dataset).unwrap().count();
    assert_eq!(left, 2, "{}", run(&dataset, "ls -A"));
}

#[test]
fn sed_perl_and_jq_edit() {
    let bed = Bed::new();
    let json = r#"{"level":3}"#;
    bed.change("data", &[("k", Some("dark\n")), ("j", Some(json))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    run(&dataset, "sed -i s/dark/light/ k");
    assert_eq!(remote(&bed, "k").as_deref(), Some("light\n"));
    run(&dataset, "perl -pi -e 's/light/dim/' k");
    assert_eq!(remote(&bed, "k").as_deref(), Some("dim\n"));
    if has("jq") {
        run(&dataset, "jq .level=4 j > t && mv t j");
        assert_eq!(remote(&bed, "j").as_deref(), Some("{\n  \"level\": 4\n}\n"));
        assert_eq!(bed.remote("data", "t"), Some(None));
    }
}

#[test]
fn cp_out_and_in_and_diff() {
    let bed = Bed::new();
    bed.change(
        "data",
        &[
            ("a", Some("A")),
            ("b/c", Some("slash")),
            ("empty", Some("")),
        ],
    );
    bed.change("more", &[("ü", Some("Unicode ✓"))]);
    let mounted = bed.mount("");
    let identity = bed.dataset(&mounted, "");
    let backup = bed.directory.path().join("backup");
    let out = format!("cp -r . {0} && diff -r . {0}", backup.display());
    let (_, calls) = bed.calls_of(|| run(&identity, &out));
    // One listing of the datasets and one of each.
    assert_eq!(
        calls.iter().filter(|call| **call == "ListRecords").count(),
        2,
        "{calls:?}"
    );
    assert_eq!(
        calls.iter().filter(|call| **call == "ListDatasets").count(),
        1,
        "{calls:?}"
    );
    run(&identity, "rm -r data more");
    assert_eq!(run(&identity, "ls"), "");
    run(
        &identity,
        &format!("cp -r {}/. . && diff -r . {0}", backup.display()),
    );
    assert_eq!(bed.remote("data", "b/c"), Some(Some("slash".to_owned())));
    assert_eq!(bed.remote("data", "empty"), Some(Some(String::new())));
    assert_eq!(bed.remote("more", "ü"), Some(Some("Unicode ✓".to_owned())));
}

#[test]
fn rsync_there_and_back() {
    if !has("rsync") {
        return;
    }
    let bed = Bed::new();
    bed.change("data", &[("a", Some("A")), ("b", Some("B"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let copy = bed.directory.path().join("copy");
    run(&dataset, &format!("rsync -a ./ {}/", copy.display()));
    fs::write(copy.join("a"), "changed").unwrap();
    fs::write(copy.join("new"), "N").unwrap();
    run(&dataset, &format!("rsync -a {}/ ./", copy.display()));
    assert_eq!(remote(&bed, "a").as_deref(), Some("changed"));
    assert_eq!(remote(&bed, "new").as_deref(), Some("N"));
    // The second run finds nothing to do.
    let (said, calls) =
        bed.calls_of(|| run(&dataset, &format!("rsync -rtiO {}/ ./", copy.display())));
    assert_eq!(said, "");
    assert!(!calls.contains(&"UpdateRecords"), "{calls:?}");
}

#[test]
fn tar_there_and_back() {
    let bed = Bed::new();
    bed.change("data", &[("a", Some("A")), ("b", Some("B"))]);
    let mounted = bed.mount("");
    let identity = bed.dataset(&mounted, "");
    let archive = bed.directory.path().join("a.tar");
    run(&identity, &format!("tar cf {} data", archive.display()));
    run(&identity, "rm data/a && echo other > data/b");
    run(&identity, &format!("tar xf {}", archive.display()));
    assert_eq!(remote(&bed, "a").as_deref(), Some("A"));
    assert_eq!(remote(&bed, "b").as_deref(), Some("B"));
    run(&identity, &format!("tar df {}", archive.display()));
}

#[test]
fn grep_find_and_wc_read() {
    let bed = Bed::new();
    bed.change("data", &[("a", Some("needle\n")), ("b", Some("hay\n"))]);
    let mounted = bed.mount("");
    let found = run(&mounted.path, "grep -rl needle . | wc -l");
    assert_eq!(found.trim(), "1");
    assert_eq!(run(&mounted.path, "find . -type f | wc -l").trim(), "2");
    let dataset = bed.dataset(&mounted, "data");
    assert_eq!(run(&dataset, "cat a b | wc -c").trim(), "11");
}

#[test]
fn git_probes_and_python_work() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("one\ntwo\n"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let script = "import os\n\
        with open('k', 'r+') as f:\n\
        \x20   f.seek(4); f.write('TWO')\n\
        with open('k', 'a') as f: f.write('three\\n')\n\
        os.replace('k', 'l')\n\
        assert open('l').read() == 'one\\nTWO\\nthree\\n'\n\
        with open('t', 'x') as f: f.write('x')\n\
        os.link if False else os.unlink('t')\n";
    let file = bed.directory.path().join("script.py");
    fs::write(&file, script).unwrap();
    run(&dataset, &format!("python3 {}", file.display()));
    assert_eq!(remote(&bed, "l").as_deref(), Some("one\nTWO\nthree\n"));
}

/// A refused write must not look like success, and what the tool prints fits.
#[test]
fn tools_report_a_refused_write() {
    let refusals = [
        ("LimitExceededException", "Disk quota exceeded"),
        ("NotAuthorizedException", "Permission denied"),
        ("InvalidParameterException", "Invalid argument"),
    ];
    for (code, told) in refusals {
        let bed = Bed::new();
        bed.change("data", &[("k", Some("old\n"))]);
        let mounted = bed.mount("");
        let dataset = bed.dataset(&mounted, "data");
        let source = bed.directory.path().join("k");
        // Not of the old one's size: rsync would take it for the same.
        fs::write(&source, "brand new\n").unwrap();
        let beside = source.with_file_name("beside").display().to_string();
        let archive = source.with_file_name("archive.tar").display().to_string();
        let source = source.display().to_string();
        run(bed.directory.path(), &format!("tar cf {archive} k"));
        let mut commands = vec![
            format!("cp {source} k"),
            format!("cat {source} | tee k"),
            format!("dd if={source} of=k"),
            "sed -i s/old/new/ k".to_owned(),
            format!("cp {source} fresh && mv fresh k"),
            format!("cp {source} {beside} && mv -f {beside} k"),
            format!("tar xf {archive} --overwrite"),
            "python3 -c \"\nwith open('k','w') as f: f.write('new')\"".to_owned(),
            format!("install {source} k2"),
        ];
        if has("vim") {
            // In this mode it prints nothing.
            commands.push("vim -es -u DEFAULTS -c '%s/old/new/' -c wq k </dev/null".to_owned());
        }
        if has("rsync") {
            commands.push(format!("rsync {source} k"));
        }
        for command in commands {
            bed.calm();
            bed.trouble("UpdateRecords", Trouble::Fault(code), 0, usize::MAX);
            let output = shell(&dataset, &command);
            assert!(!output.status.success(), "{command} hid the error");
            let said = String::from_utf8_lossy(&output.stderr);
            if !command.starts_with("vim") {
                assert!(said.contains(told), "{command}: {said}");
            }
            bed.calm();
            assert_eq!(remote(&bed, "k").as_deref(), Some("old\n"), "{command}");
        }
    }
}
