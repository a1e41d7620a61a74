//! Many at a time: writers in one dataset and in many, and somebody who reads all of it.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{names, rewrite};
use crate::common::Bed;

/// 16 writers of one dataset, 16 of one each, and a reader of all, for both ways to commit.
#[test]
fn s07_s08_nothing_is_lost_in_a_crowd() {
    const WRITERS: usize = 16;
    const ROUNDS: usize = 12;
    for options in ["", "commit=async"] {
        let bed = Bed::new();
        let seed = |dataset: &str| bed.change(dataset, &[("log", Some(""))]);
        seed("shared");
        (0..WRITERS).for_each(|writer| seed(&format!("own{writer}")));
        let mounted = bed.mount(options);
        let identity = bed.dataset(&mounted, "");
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .flat_map(|writer| {
                    [format!("own{writer}"), "shared".to_owned()].map(|d| (writer, d))
                })
                .map(|(writer, dataset)| {
                    let directory = identity.join(dataset);
                    scope.spawn(move || {
                        use std::io::Write;
                        for round in 0..ROUNDS {
                            let own = directory.join(format!("file{writer}"));
                            rewrite(&own, &format!("{writer} {round}")).unwrap();
                            let temporary = directory.join(format!("temporary{writer}"));
                            rewrite(&temporary, &format!("moved {round}")).unwrap();
                            let moved = directory.join(format!("moved{writer}"));
                            fs::rename(&temporary, moved).unwrap();
                            let log = fs::File::options().append(true).open(directory.join("log"));
                            let mut log = log.unwrap();
                            log.write_all(format!("{writer} {round}\n").as_bytes())
                                .unwrap();
                            super::close(log).unwrap();
                        }
                    })
                })
                .collect();
            let reader = scope.spawn(|| {
                let mut read = 0;
                while !is_over.load(Ordering::Relaxed) {
                    for dataset in names(&identity) {
                        for name in names(&identity.join(&dataset)) {
                            // A name may be gone since it was listed.
                            read +=
                                usize::from(fs::read(identity.join(&dataset).join(name)).is_ok());
                        }
                    }
                }
                read
            });
            for writer in writers {
                writer.join().unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
            assert!(reader.join().unwrap() > 0);
        });
        fs::File::open(&identity).unwrap().sync_all().unwrap();
        let last = ROUNDS - 1;
        for writer in 0..WRITERS {
            for dataset in [format!("own{writer}"), "shared".to_owned()] {
                let remote = |key: String| bed.remote(&dataset, &key).flatten();
                assert_eq!(
                    remote(format!("file{writer}")),
                    Some(format!("{writer} {last}"))
                );
                assert_eq!(
                    remote(format!("moved{writer}")),
                    Some(format!("moved {last}"))
                );
                assert_eq!(remote(format!("temporary{writer}")), None);
                let log = remote("log".to_owned()).unwrap();
                for round in 0..ROUNDS {
                    let line = format!("{writer} {round}");
                    let times = log.lines().filter(|found| **found == line).count();
                    assert_eq!(times, 1, "{options} {dataset}: {line}");
                }
                let parked = identity.join(&dataset).join(".cognito/parked");
                assert_eq!(names(&parked), [""; 0], "{options} {dataset}");
            }
        }
    }
}
