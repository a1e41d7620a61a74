//! No room on this machine's disk for the journal (S8, S13): an error at close, and no loss.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::journal::{Journal, kill, parked};
use super::{errno, rewrite};
use crate::common::{Trouble, run, shell};

/// A small disk, taken away when it is dropped.
pub(super) struct Disk(pub(super) PathBuf);

impl Disk {
    pub(super) fn new(path: PathBuf, mebibytes: u32) -> Self {
        fs::create_dir(&path).unwrap();
        let disk = Self(path);
        disk.mount(&["-t", "tmpfs", "tmpfs"], &format!("size={mebibytes}m"));
        disk
    }

    pub(super) fn grow(&self, mebibytes: u32) {
        self.mount(&[], &format!("remount,size={mebibytes}m"));
    }

    fn mount(&self, what: &[&str], options: &str) {
        let mut mount = Command::new("mount");
        let mount = mount.args(what).args(["-o", options]).arg(&self.0);
        assert!(mount.status().unwrap().success());
    }

    /// Leaves no room but for what programs have set aside.
    fn fill(&self) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.0.join("fill"))
            .unwrap();
        let mut size = 1 << 20;
        while size > 0 {
            match file.write(&vec![1; size]) {
                Ok(written) if written > 0 => {}
                _ => size /= 2,
            }
        }
    }

    /// Leaves no room at all.
    fn fill_all(&self) {
        self.fill();
        let mut entries = fs::read_dir(&self.0).unwrap();
        let state = entries.find_map(|entry| entry.ok().filter(|entry| entry.path().is_dir()));
        fs::remove_file(state.unwrap().path().join("reserve")).unwrap();
        self.fill();
    }

    pub(super) fn free(&self) {
        fs::remove_file(self.0.join("fill")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn on_small_disk() -> (Journal, Disk) {
    let journal = Journal::new();
    let disk = Disk::new(journal.bed.directory.path().join("journal"), 24);
    journal
        .bed
        .change("data", &[("k", Some("old")), ("other", Some("old"))]);
    (journal, disk)
}

/// Takes room away until the journal's own is used up.
fn use_up(journal: &Journal, disk: &Disk, dataset: &Path) {
    disk.fill();
    let text = "x".repeat(100_000);
    journal.wait_for("there is no room", || {
        rewrite(&dataset.join("more"), &text).is_err()
    });
}

#[test]
fn s08_a_full_disk_is_an_error_at_close_and_loses_nothing() {
    let (journal, disk) = on_small_disk();
    let (mut mounted, dataset) = journal.mount();
    run(&dataset, "cat *");
    journal.cut();
    rewrite(&dataset.join("k"), "closed").unwrap();
    disk.fill();
    let text = "x".repeat(500_000);
    let closed = rewrite(&dataset.join("big"), &text);
    assert_eq!(errno(closed), libc::ENOSPC);
    // What was written is kept all the same.
    journal.wait_for("it is kept", || parked(&dataset).len() == 1);
    assert_eq!(parked(&dataset), [("big@0.local".to_owned(), text)]);
    let said = shell(&dataset, "cp k copy");
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("No space left on device"), "{said}");
    // What was closed before is sent, and is over, though it can hardly be noted.
    journal.bed.calm();
    File::open(&dataset).unwrap().sync_all().unwrap();
    assert_eq!(journal.remote("k").as_deref(), Some("closed"));
    journal.bed.change("data", &[("k", Some("theirs"))]);
    kill(&mut mounted);
    disk.free();
    let (mounted, dataset) = journal.mount();
    assert!(!mounted.log().contains("earlier mount"));
    File::open(&dataset).unwrap().sync_all().unwrap();
    assert_eq!(journal.remote("k").as_deref(), Some("theirs"));
    let kept: Vec<String> = parked(&dataset).into_iter().map(|(name, _)| name).collect();
    assert!(kept.iter().all(|name| !name.starts_with("k@")), "{kept:?}");
    rewrite(&dataset.join("k"), "again").unwrap();
}

#[test]
fn s08_what_is_refused_on_a_full_disk_is_kept() {
    let (journal, disk) = on_small_disk();
    let (_mounted, dataset) = journal.mount();
    run(&dataset, "cat *");
    journal.cut();
    let text = "y".repeat(200_000);
    rewrite(&dataset.join("k"), &text).unwrap();
    use_up(&journal, &disk, &dataset);
    journal.bed.calm();
    let quota = Trouble::Fault("LimitExceededException");
    journal.bed.trouble("UpdateRecords", quota, 0, 100);
    let kept = ("k@1.local".to_owned(), text);
    journal.wait_for("it is kept", || parked(&dataset).contains(&kept));
    journal.bed.calm();
    assert_eq!(fs::read_to_string(dataset.join("k")).unwrap(), "old");
    assert_eq!(journal.remote("k").as_deref(), Some("old"));
}

/// Others took even what was set aside: the mount knows what it has to note, and goes on.
#[test]
fn s08_what_cannot_be_noted_at_all_is_noted_when_there_is_room() {
    for frees in [true, false] {
        let (journal, disk) = on_small_disk();
        let (mut mounted, dataset) = journal.mount();
        run(&dataset, "cat *");
        journal.cut();
        let text = "y".repeat(200_000);
        rewrite(&dataset.join("k"), &text).unwrap();
        disk.fill_all();
        journal.bed.calm();
        let quota = Trouble::Fault("LimitExceededException");
        journal.bed.trouble("UpdateRecords", quota, 0, 100);
        journal.wait_for("it is refused", || {
            fs::read_to_string(dataset.join("k")).is_ok_and(|text| text == "old")
        });
        journal.bed.calm();
        // A sync tells, and so does the end.
        let synced = File::open(&mounted.path).unwrap().sync_all();
        assert_eq!(errno(synced), libc::ENOSPC);
        let kept = ("k@1.local".to_owned(), text);
        if frees {
            disk.free();
            File::open(&mounted.path).unwrap().sync_all().unwrap();
            assert!(parked(&dataset).contains(&kept));
            std::thread::sleep(Duration::from_secs(1));
            rewrite(&dataset.join("k"), "again").unwrap();
            assert!(mounted.unmount().success());
        } else {
            assert_eq!(mounted.unmount().code(), Some(1));
            assert!(mounted.log().contains("the journal cannot be written"));
            disk.free();
            // The row is there still: it is refused again, as it would be.
            journal.bed.trouble("UpdateRecords", quota, 0, 100);
            let (_mounted, dataset) = journal.mount();
            journal.wait_for("it is kept", || parked(&dataset).contains(&kept));
            journal.bed.calm();
        }
    }
}

/// What nobody saw is not replaced while it cannot be kept.
#[test]
fn s09_on_a_full_disk_nothing_unseen_is_replaced() {
    let (journal, disk) = on_small_disk();
    let options = journal
        .options
        .replace("commit=async", "commit=close,ttl=60s");
    let mounted = journal.bed.mount(&options);
    let dataset = journal.bed.dataset(&mounted, "data");
    run(&dataset, "cat *");
    let theirs = "t".repeat(300_000);
    journal.bed.change("data", &[("k", Some(&theirs))]);
    disk.fill_all();
    let saved = rewrite(&dataset.join("k"), "ours");
    assert_eq!(errno(saved), libc::ENOSPC);
    assert_eq!(journal.remote("k").as_deref(), Some(&*theirs));
    let removed = fs::remove_file(dataset.join("k"));
    assert_eq!(errno(removed), libc::ENOSPC);
    assert_eq!(journal.remote("k").as_deref(), Some(&*theirs));
    disk.free();
    File::open(&mounted.path).unwrap().sync_all().unwrap();
    // What was typed is kept since there is room.
    assert_eq!(
        parked(&dataset),
        [("k@1.local".to_owned(), "ours".to_owned())]
    );
}
