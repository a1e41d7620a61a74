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
fn s07_an_old_value_written_back_while_a_new_one_is_sent_is_sent_too() {
    let bed = Bed::new();
    bed.change("data", &[("state", Some("off"))]);
    let mounted = bed.mount("ttl=60s");
    let path = bed.dataset(&mounted, "data").join("state");
    fs::read(&path).unwrap();
    slow(&bed);
    std::thread::scope(|scope| {
        let on = scope.spawn(|| rewrite(&path, "on"));
        bed.wait_for_call("UpdateRecords");
        fs::write(&path, "off").unwrap();
        on.join().unwrap().unwrap();
    });
    assert_eq!(bed.remote("data", "state"), Some(Some("off".to_owned())));
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
