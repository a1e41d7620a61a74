//! What comes between a change and its answer, or between two changes of a file.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::time::Duration;

use super::{close, errno, names, rewrite};
use crate::common::{Bed, Trouble, run, shell};

/// Makes the next update take this long.
fn slow(bed: &Bed) {
    bed.forget_calls();
    let slow = Trouble::Slow(Duration::from_millis(800));
    bed.trouble("UpdateRecords", slow, 0, 1);
}

#[test]
fn s09_what_is_about_to_be_replaced_stays_kept() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("shown"))]);
    let mounted = bed.mount("ttl=60s");
    let path = bed.dataset(&mounted, "data").join("k");
    fs::read(&path).unwrap();
    bed.change("data", &[("k", Some("theirs"))]);
    bed.forget_calls();
    let slow = Trouble::Slow(Duration::from_millis(800));
    // The first one is refused, which tells of their version.
    bed.trouble("UpdateRecords", slow, 1, 1);
    let parked = path.with_file_name(".cognito/parked");
    std::thread::scope(|scope| {
        let saved = scope.spawn(|| rewrite(&path, "ours"));
        while bed.calls() != ["UpdateRecords", "ListRecords", "UpdateRecords"] {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(names(&parked), ["k@2.remote"]);
        saved.join().unwrap().unwrap();
    });
    assert_eq!(names(&parked), ["k@2.remote"]);
}
