//! Races and strange weather, each of which once lost or overwrote something.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use nix::sys::signal::Signal;

use super::{close, errno, rewrite};
use crate::common::{Bed, Trouble, run, shell};

#[test]
fn s09_a_write_through_an_older_version_meets_the_newer_one() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("0123456789"))]);
    let mounted = bed.mount("ttl=0");
    let path = bed.dataset(&mounted, "data").join("k");
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).open(&path).unwrap();
    file.read_to_string(&mut String::new()).unwrap();
    bed.change("data", &[("k", Some("abcdefghij"))]);
    fs::metadata(&path).unwrap();
    file.write_all_at(b"XX", 3).unwrap();
    assert_eq!(errno(file.sync_all()), libc::ESTALE);
    assert_eq!(errno(close(file)), libc::ESTALE);
    assert_eq!(bed.remote("data", "k"), Some(Some("abcdefghij".to_owned())));
}

#[test]
fn s09_a_logger_that_keeps_its_file_open_loses_nothing() {
    let bed = Bed::new();
    bed.change("data", &[("log", Some("one\n"))]);
    let mounted = bed.mount("ttl=60s");
    let path = bed.dataset(&mounted, "data").join("log");
    let reader = File::open(&path).unwrap();
    let mut logger = OpenOptions::new().append(true).open(&path).unwrap();
    bed.change("data", &[("log", Some("one\ntwo\n"))]);
    for line in ["three\n", "four\n"] {
        logger.write_all(line.as_bytes()).unwrap();
        logger.sync_all().unwrap();
    }
    // And one that opens it anew while others have the older version open.
    let mut again = OpenOptions::new().append(true).open(&path).unwrap();
    again.write_all(b"five\n").unwrap();
    close(again).unwrap();
    close(logger).unwrap();
    let all = "one\ntwo\nthree\nfour\nfive\n";
    assert_eq!(bed.remote("data", "log"), Some(Some(all.to_owned())));
    assert_eq!(fs::read_to_string(&path).unwrap(), all);
    drop(reader);
}

#[test]
fn s09_an_edit_behind_a_merged_append_does_not_overwrite_what_was_merged() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("mine\n"))]);
    let mounted = bed.mount("ttl=60s,conflict=strict");
    let path = bed.dataset(&mounted, "data").join("k");
    fs::read(&path).unwrap();
    let mut options = OpenOptions::new();
    let mut appender = options.append(true).open(&path).unwrap();
    let editor = OpenOptions::new().write(true).open(&path).unwrap();
    bed.change("data", &[("k", Some("mine\ntheirs\n"))]);
    appender.write_all(b"more\n").unwrap();
    appender.sync_all().unwrap();
    editor.set_len(0).unwrap();
    (&editor).write_all(b"whole").unwrap();
    assert_eq!(errno(editor.sync_all()), libc::ESTALE);
    let merged = "mine\ntheirs\nmore\n".to_owned();
    assert_eq!(bed.remote("data", "k"), Some(Some(merged)));
}

#[test]
fn s09_two_mounts_append_and_no_line_is_lost() {
    let bed = Bed::new();
    bed.change("data", &[("log", Some(""))]);
    let mounts = [bed.mount("ttl=1s"), bed.mount("ttl=1s")];
    let append = |mount: usize, writer: usize| {
        let path = bed.dataset(&mounts[mount], "data").join("log");
        let mut kept = Vec::new();
        for line in 0..25 {
            let line = format!("{mount}-{writer}-{line}\n");
            let opened = OpenOptions::new().append(true).open(&path);
            let written = opened.and_then(|mut file| {
                file.write_all(line.as_bytes())?;
                close(file)
            });
            if written.is_ok() {
                kept.push(line);
            }
        }
        kept
    };
    let kept: Vec<String> = std::thread::scope(|scope| {
        let writers = [(0, 0), (0, 1), (1, 0)]
            .map(|(mount, writer)| scope.spawn(move || append(mount, writer)));
        writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect()
    });
    let remote = bed.remote("data", "log").unwrap().unwrap();
    assert!(kept.len() > 50, "{}", kept.len());
    for line in kept {
        assert_eq!(remote.matches(&line).count(), 1, "{line}");
    }
}

#[test]
fn s09_a_rename_does_not_replace_what_came_meanwhile() {
    for (noreplace, options) in [(false, "ttl=60s,conflict=strict"), (true, "ttl=60s")] {
        let bed = Bed::new();
        bed.change("data", &[("a", Some("A")), ("z", Some("Z"))]);
        let mounted = bed.mount(options);
        let dataset = bed.dataset(&mounted, "data");
        assert!(!dataset.join("b").exists());
        let file = OpenOptions::new()
            .write(true)
            .open(dataset.join("a"))
            .unwrap();
        (&file).write_all(b"B").unwrap();
        bed.forget_calls();
        let slow = Trouble::Slow(Duration::from_millis(800));
        bed.trouble("UpdateRecords", slow, 0, 1);
        std::thread::scope(|scope| {
            let pushed = scope.spawn(|| file.sync_all());
            bed.wait_for_call("UpdateRecords");
            let renamed = scope.spawn(|| {
                use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
                let flags = match noreplace {
                    true => RenameFlags::RENAME_NOREPLACE,
                    false => RenameFlags::empty(),
                };
                let (from, to) = (dataset.join("a"), dataset.join("b"));
                renameat2(AT_FDCWD, &from, AT_FDCWD, &to, flags)
            });
            std::thread::sleep(Duration::from_millis(200));
            bed.change("data", &[("b", Some("UNSEEN"))]);
            pushed.join().unwrap().unwrap();
            let expected = match noreplace {
                true => nix::Error::EEXIST,
                false => nix::Error::EBUSY,
            };
            assert_eq!(renamed.join().unwrap(), Err(expected));
        });
        assert_eq!(bed.remote("data", "b"), Some(Some("UNSEEN".to_owned())));
    }
}

#[test]
fn s09_a_file_made_elsewhere_meanwhile_is_not_overwritten() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("ttl=60s,conflict=strict");
    let path = bed.dataset(&mounted, "data").join("new");
    assert!(!path.exists());
    bed.change("data", &[("new", Some("theirs"))]);
    assert_eq!(errno(rewrite(&path, "ours")), libc::ESTALE);
    assert_eq!(bed.remote("data", "new"), Some(Some("theirs".to_owned())));
}

#[test]
fn s11_a_write_during_rmdir_is_refused_or_refuses_it() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("ttl=0");
    let dataset = bed.dataset(&mounted, "data");
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .open(dataset.join("k"))
        .unwrap();
    file.read_to_string(&mut String::new()).unwrap();
    bed.change("data", &[("k", None)]);
    let slow = Trouble::Slow(Duration::from_millis(800));
    bed.trouble("DeleteDataset", slow, 0, 1);
    std::thread::scope(|scope| {
        let removed = scope.spawn(|| fs::remove_dir(&dataset));
        bed.wait_for_call("DeleteDataset");
        file.set_len(0).unwrap();
        file.write_all_at(b"new text", 0).unwrap();
        assert_eq!(errno(file.sync_all()), libc::ESTALE);
        removed.join().unwrap().unwrap();
    });
    assert!(!bed.list("data").dataset_exists());
}

#[test]
fn s18_an_append_that_is_carried_out_late_is_made_once() {
    let bed = Bed::new();
    bed.change("data", &[("log", Some("a\n"))]);
    let mounted = bed.mount("ttl=60s");
    let dataset = bed.dataset(&mounted, "data");
    fs::read(dataset.join("log")).unwrap();
    let late = Trouble::Late(Duration::from_millis(500));
    bed.trouble("UpdateRecords", late, 0, 1);
    let slow = Trouble::Slow(Duration::from_millis(1000));
    bed.trouble("UpdateRecords", slow, 0, 1);
    let mut file = OpenOptions::new()
        .append(true)
        .open(dataset.join("log"))
        .unwrap();
    file.write_all(b"b\n").unwrap();
    close(file).unwrap();
    assert_eq!(bed.remote("data", "log"), Some(Some("a\nb\n".to_owned())));
}

#[test]
fn s18_the_same_date_alone_is_no_proof() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("a"))]);
    let mounts = [(); 2].map(|()| bed.mount("ttl=60s,conflict=strict"));
    let path = |mount: usize| bed.dataset(&mounts[mount], "data").join("k");
    let write = |path: &Path, text: &str| -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
        file.write_all(text.as_bytes())?;
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000))?;
        close(file)
    };
    for mount in [0, 1] {
        fs::read(path(mount)).unwrap();
    }
    bed.forget_calls();
    bed.trouble("UpdateRecords", Trouble::LoseCall, 0, 1);
    let slow = Trouble::Slow(Duration::from_millis(2000));
    bed.trouble("ListRecords", slow, 0, 1);
    std::thread::scope(|scope| {
        let ours = scope.spawn(|| write(&path(0), "OURS"));
        bed.wait_for_call("ListRecords");
        write(&path(1), "THEIRS").unwrap();
        assert_eq!(errno(ours.join().unwrap()), libc::ESTALE);
    });
    assert_eq!(bed.remote("data", "k"), Some(Some("THEIRS".to_owned())));
}

#[test]
fn an_open_during_a_release_finds_the_value() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("0123456789"))]);
    let mounted = bed.mount("ttl=60s");
    let path = bed.dataset(&mounted, "data").join("k");
    for turn in 0..400_u32 {
        fs::read(&path).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let letter = b'a' + (turn % 26) as u8;
        file.write_all_at(&[letter], 0).unwrap();
        close(file).unwrap();
        let expected = format!("{}123456789", char::from(letter));
        assert_eq!(bed.remote("data", "k"), Some(Some(expected)), "{turn}");
    }
}

#[test]
fn a_truncate_by_path_is_sent_whoever_reads_meanwhile() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("0123456789"))]);
    let mounted = bed.mount("ttl=60s");
    let path = bed.dataset(&mounted, "data").join("k");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    fs::read(&path).unwrap();
                }
            });
        }
        let truncated: Result<(), String> = (0..200).try_for_each(|turn: u16| {
            let size = usize::from(10 - turn % 2);
            let length = i64::try_from(size).unwrap();
            nix::unistd::truncate(&path, length).map_err(|error| error.to_string())?;
            match bed.remote("data", "k") {
                Some(Some(value)) if value.len() == size => Ok(()),
                other => Err(format!("turn {turn}: {other:?}")),
            }
        });
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(truncated, Ok(()));
    });
}

#[test]
fn a_mapping_of_an_append_handle_is_written_in_its_place() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("0123456789"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let script = "import mmap,os\n\
        fd=os.open('k',os.O_RDWR|os.O_APPEND)\n\
        m=mmap.mmap(fd,10)\n\
        m[0:2]=b'XY'\n\
        m.flush()\n\
        m.close()\n\
        os.close(fd)";
    run(&dataset, &format!("python3 -c \"{script}\""));
    assert_eq!(bed.remote("data", "k"), Some(Some("XY23456789".to_owned())));
}

#[test]
fn a_write_behind_a_touch_that_failed_keeps_the_value() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("0123456789"))]);
    let mounted = bed.mount("timeout=1s,ttl=60s");
    let dataset = bed.dataset(&mounted, "data");
    fs::metadata(dataset.join("k")).unwrap();
    bed.forget_calls();
    bed.trouble("UpdateRecords", Trouble::Hang, 0, 1);
    let file = std::thread::scope(|scope| {
        let touched = scope.spawn(|| shell(&dataset, "python3 -c 'import os; os.utime(\"k\")'"));
        bed.wait_for_call("UpdateRecords");
        let file = OpenOptions::new()
            .write(true)
            .open(dataset.join("k"))
            .unwrap();
        assert!(!touched.join().unwrap().status.success());
        file
    });
    bed.calm();
    file.write_all_at(b"X", 0).unwrap();
    let begun = Instant::now();
    while file.sync_all().is_err() {
        assert!(begun.elapsed() < Duration::from_secs(15));
    }
    assert_eq!(bed.remote("data", "k"), Some(Some("X123456789".to_owned())));
}

#[test]
fn a_denied_listing_does_not_stop_named_paths_after_a_miss() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("ttl=0");
    bed.trouble("ListDatasets", Trouble::Status(403), 0, usize::MAX);
    let missing = fs::metadata(bed.dataset(&mounted, "missing"));
    assert_eq!(errno(missing), libc::ENOENT);
    let path = bed.dataset(&mounted, "data").join("k");
    assert_eq!(fs::read_to_string(path).unwrap(), "v");
    fs::create_dir(bed.dataset(&mounted, "fresh")).unwrap();
}

#[test]
fn s17_one_slow_dataset_holds_up_no_other() {
    let bed = Bed::new();
    bed.change("slow", &[("k", None)]);
    bed.change("other", &[("k", Some("v"))]);
    let mounted = bed.mount("timeout=1s");
    bed.trouble("DeleteDataset", Trouble::Hang, 0, 1);
    let other = bed.dataset(&mounted, "other").join("k");
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| fs::remove_dir(bed.dataset(&mounted, "slow")));
        let begun = Instant::now();
        let mut turn = 0;
        while begun.elapsed() < Duration::from_millis(1500) {
            turn += 1;
            rewrite(&other, &format!("text {turn}")).unwrap();
        }
        assert_eq!(errno(slow.join().unwrap()), libc::ETIMEDOUT);
    });
}

#[test]
fn s21_sigterm_waits_for_what_is_being_sent() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mut mounted = bed.mount("");
    let path = bed.dataset(&mounted, "data").join("k");
    fs::read(&path).unwrap();
    bed.forget_calls();
    let slow = Trouble::Slow(Duration::from_millis(1200));
    bed.trouble("UpdateRecords", slow, 0, 1);
    let writer = std::thread::spawn(move || rewrite(&path, "closing"));
    bed.wait_for_call("UpdateRecords");
    mounted.signal(Signal::SIGTERM);
    assert_eq!(mounted.wait().code(), Some(0), "{}", mounted.log());
    writer.join().unwrap().unwrap();
    assert_eq!(bed.remote("data", "k"), Some(Some("closing".to_owned())));
}

#[test]
fn s07_a_release_does_not_send_what_the_next_writer_has_begun() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("ttl=60s");
    let path = bed.dataset(&mounted, "data").join("k");
    fs::read(&path).unwrap();
    let count = || bed.list("data").dataset_sync_count().unwrap();
    let before = count();
    for turn in 0..300 {
        rewrite(&path, &format!("text {turn}")).unwrap();
    }
    assert_eq!(count(), before + 300);
}

#[test]
fn s09_what_came_behind_a_lost_rename_is_not_taken_for_shown() {
    let bed = Bed::new();
    bed.change("data", &[("a", Some("A"))]);
    let mounted = bed.mount("ttl=60s");
    let dataset = bed.dataset(&mounted, "data");
    fs::read(dataset.join("a")).unwrap();
    bed.forget_calls();
    bed.trouble("UpdateRecords", Trouble::LoseAnswer, 0, 1);
    let slow = Trouble::Slow(Duration::from_millis(1000));
    bed.trouble("ListRecords", slow, 0, 1);
    std::thread::scope(|scope| {
        let renamed = scope.spawn(|| fs::rename(dataset.join("a"), dataset.join("b")));
        bed.wait_for_call("ListRecords");
        bed.change("data", &[("b", Some("THEIRS"))]);
        renamed.join().unwrap().unwrap();
    });
    assert_eq!(fs::read_to_string(dataset.join("b")).unwrap(), "THEIRS");
    assert_eq!(bed.remote("data", "a"), Some(None));
}

#[test]
fn s18_an_append_given_up_is_still_looked_for() {
    let bed = Bed::new();
    bed.change("data", &[("log", Some("a\n"))]);
    let mounted = bed.mount("ttl=60s,timeout=3s");
    let path = bed.dataset(&mounted, "data").join("log");
    fs::read(&path).unwrap();
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    let late = Trouble::Late(Duration::from_millis(400));
    bed.trouble("UpdateRecords", late, 0, 1);
    let slow = Trouble::Slow(Duration::from_millis(800));
    bed.trouble("UpdateRecords", slow, 0, 1);
    bed.trouble("ListRecords", Trouble::Hang, 1, 1);
    file.write_all(b"x\n").unwrap();
    assert!(file.sync_all().is_err());
    bed.calm();
    let begun = Instant::now();
    while file.sync_all().is_err() {
        assert!(begun.elapsed() < Duration::from_secs(15));
    }
    assert_eq!(bed.remote("data", "log"), Some(Some("a\nx\n".to_owned())));
}

#[test]
fn s17_a_writers_pauses_hold_up_no_reader() {
    let bed = Bed::new();
    bed.change("data", &[("a", Some("A")), ("b", Some("B"))]);
    let mounted = bed.mount("ttl=0,timeout=8s");
    let dataset = bed.dataset(&mounted, "data");
    fs::read(dataset.join("a")).unwrap();
    bed.trouble("UpdateRecords", Trouble::Status(500), 0, usize::MAX);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| rewrite(&dataset.join("a"), "x"));
        let begun = Instant::now();
        let mut reads = 0;
        while begun.elapsed() < Duration::from_secs(6) {
            fs::read(dataset.join("b")).unwrap();
            reads += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
        // Pauses of seconds would leave a handful.
        assert!(reads > 50, "{reads}");
        assert!(writer.join().unwrap().is_err());
    });
}

#[test]
fn s21_what_a_last_release_drops_is_counted() {
    let bed = Bed::new();
    bed.change("data", &[("a", Some("A"))]);
    for signal in [None, Some(Signal::SIGTERM)] {
        let mut mounted = bed.mount("ttl=60s,timeout=1s");
        let dataset = bed.dataset(&mounted, "data");
        fs::read(dataset.join("a")).unwrap();
        bed.trouble("UpdateRecords", Trouble::Hang, 0, usize::MAX);
        run(&dataset, ": > f");
        let ended = match signal {
            None => mounted.unmount(),
            Some(signal) => {
                mounted.signal(signal);
                mounted.wait()
            }
        };
        assert_eq!(ended.code(), Some(1), "{signal:?}: {}", mounted.log());
        bed.calm();
    }
}
