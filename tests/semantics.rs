//! The rules of the file system, one test or more for each, named after it, on real mounts.

mod attributes;
mod between;
mod changes;
mod conflicts;
mod control;
mod crowds;
mod full_disk;
mod full_journals;
mod journal;
mod meanwhile;
mod names;
mod overtaking;
mod races;
mod reading;
mod trouble;
mod underway;
mod writing;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<String> = entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Writes as `echo > file` does: the descriptor is duplicated, so that a flush comes before the
/// first write; the error of the flush behind it is returned, which the shell would ignore.
fn rewrite(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    drop(file.try_clone()?);
    file.write_all(text.as_bytes())?;
    close(file)
}

/// Waits until a file reads so: the kernel releases a file after close has returned.
fn wait_for_text(path: &Path, expected: &str) {
    let begun = Instant::now();
    while fs::read_to_string(path).unwrap() != expected {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Closes a file and reports what close(2) returned, which dropping it would not.
fn close(file: File) -> std::io::Result<()> {
    nix::unistd::close(file).map_err(std::io::Error::from)
}
