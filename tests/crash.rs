//! Kills the daemon at random moments under a stream of writes: what was closed is in the service
//! afterwards, byte for byte.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::common::{Bed, Mounted, Trouble};

/// How many daemons are killed in a run of the tests; `COGNITOFS_CRASHES` has more.
const CRASHES: usize = 100;
/// How many processes of writing go on at the same time, each in a dataset of its own.
const WRITERS: usize = 4;
const KEYS: u64 = 6;

/// A source of random numbers that can be begun again.
struct Random(u64);

impl Random {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// What a key may hold: what was closed last, or what was being written when the daemon died.
#[derive(Clone, Debug, Default)]
struct Allowed(Vec<Option<String>>);

fn closed(path: &Path, text: &str, append: bool) -> std::io::Result<()> {
    let mut options = File::options();
    options
        .create(true)
        .write(true)
        .append(append)
        .truncate(!append);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    nix::unistd::close(file).map_err(Into::into)
}

/// Changes one key at random. Returns what the key holds when the change was made; the outer error
/// is the end of the daemon, with what it may hold then.
fn change(
    directory: &Path,
    allowed: &mut BTreeMap<String, Allowed>,
    rng: &mut Random,
    number: u32,
) -> Result<(), ()> {
    let name = |rng: &mut Random| format!("k{}", rng.below(KEYS));
    let key = name(rng);
    let path = directory.join(&key);
    let now = |allowed: &BTreeMap<String, Allowed>, key: &str| {
        let Allowed(values) = allowed.get(key).cloned().unwrap_or_default();
        values.first().cloned().flatten()
    };
    let before = now(allowed, &key);
    let text = format!("{number}: {}\n", "x".repeat(rng.below(2000) as usize));
    let (wanted, done): (Vec<(String, Option<String>)>, _) = match rng.below(10) {
        0..5 => (vec![(key, Some(text.clone()))], closed(&path, &text, false)),
        5..7 => {
            let whole = before.clone().unwrap_or_default() + &text;
            (vec![(key, Some(whole))], closed(&path, &text, true))
        }
        7 if before.is_some() => (vec![(key, None)], fs::remove_file(&path)),
        8..10 if before.is_some() => {
            let other = name(rng);
            if other == key {
                return Ok(());
            }
            let done = fs::rename(&path, directory.join(&other));
            (vec![(key, None), (other, before)], done)
        }
        _ => return Ok(()),
    };
    match done {
        Ok(()) => {
            for (key, value) in wanted {
                allowed.insert(key, Allowed(vec![value]));
            }
            Ok(())
        }
        Err(_) => {
            for (key, value) in wanted {
                let Allowed(values) = allowed.entry(key).or_default();
                if values.is_empty() {
                    values.push(None);
                }
                values.push(value);
            }
            Err(())
        }
    }
}

#[test]
fn s08_no_crash_loses_what_was_closed() {
    let wanted = std::env::var("COGNITOFS_CRASHES").ok();
    let crashes = wanted.map_or(CRASHES, |wanted| wanted.parse().unwrap());
    let seed = std::env::var("COGNITOFS_SEED").ok();
    let seed = seed.map_or_else(random_seed, |seed| seed.parse().unwrap());
    eprintln!("COGNITOFS_SEED={seed}");
    let mut rng = Random(seed);
    let bed = Bed::new();
    let state = bed.directory.path().join("journal");
    let options = format!("commit=async,state={}", state.display());
    let worlds: Vec<Mutex<BTreeMap<String, Allowed>>> =
        (0..WRITERS).map(|_| Mutex::default()).collect();
    let (mut written, mut checked) = (0, 0);
    for crash in 0..crashes {
        let mut mounted = bed.mount(&options);
        let weather = match rng.below(5) {
            0 => Some(Trouble::Slow(Duration::from_millis(30))),
            1 => Some(Trouble::LoseAnswer),
            2 => Some(Trouble::Late(Duration::from_millis(40))),
            3 => Some(Trouble::Status(503)),
            _ => None,
        };
        if let Some(trouble) = weather {
            bed.trouble("UpdateRecords", trouble, 0, 1 + rng.below(100) as usize);
        }
        let pause = Duration::from_millis(5 + rng.below(400));
        look(&bed, &mounted, &worlds);
        let seeds: Vec<u64> = (0..WRITERS).map(|_| rng.next()).collect();
        let is_over = AtomicBool::new(false);
        let counts: Vec<u32> = std::thread::scope(|scope| {
            let writers: Vec<_> = worlds
                .iter()
                .zip(seeds)
                .enumerate()
                .map(|(writer, (world, seed))| {
                    let directory = dataset(&bed, &mounted, writer);
                    let is_over = &is_over;
                    scope.spawn(move || {
                        let mut rng = Random(seed);
                        let mut world = world.lock().unwrap();
                        let _ = fs::create_dir(&directory);
                        let mut number = 0;
                        while !is_over.load(Ordering::Relaxed) {
                            number += 1;
                            if change(&directory, &mut world, &mut rng, number).is_err() {
                                break;
                            }
                        }
                        number
                    })
                })
                .collect();
            std::thread::sleep(pause);
            mounted.signal(Signal::SIGKILL);
            mounted.wait();
            is_over.store(true, Ordering::Relaxed);
            writers
                .into_iter()
                .map(|writer| writer.join().unwrap())
                .collect()
        });
        written += counts.iter().sum::<u32>();
        drop(mounted);
        bed.calm();
        // Not each time: a crash may come before the last one's changes were sent.
        if crash % 5 == 4 || crash + 1 == crashes {
            checked += check(&bed, &options, &worlds);
        }
    }
    eprintln!("{crashes} crashes, {written} changes, {checked} records checked");
    assert!(written > 100 && checked > 0);
}

fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

/// The next mount shows what was closed from the first look, sent or not.
fn look(bed: &Bed, mounted: &Mounted, worlds: &[Mutex<BTreeMap<String, Allowed>>]) {
    for (writer, world) in worlds.iter().enumerate() {
        let directory = dataset(bed, mounted, writer);
        for (key, Allowed(values)) in world.lock().unwrap().iter_mut() {
            let shown = fs::read_to_string(directory.join(key)).ok();
            assert!(
                values.contains(&shown),
                "data{writer}/{key}: {shown:?} is none of {values:?}\n{}",
                mounted.log()
            );
            *values = vec![shown];
        }
    }
}

fn dataset(bed: &Bed, mounted: &Mounted, writer: usize) -> PathBuf {
    bed.dataset(mounted, &format!("data{writer}"))
}

/// Mounts once more, waits until all is sent, and compares the service with what was written.
fn check(bed: &Bed, options: &str, worlds: &[Mutex<BTreeMap<String, Allowed>>]) -> usize {
    let mounted = bed.mount(options);
    let begun = Instant::now();
    while let Err(error) = File::open(&mounted.path).unwrap().sync_all() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{error}");
    }
    let mut checked = 0;
    for (writer, world) in worlds.iter().enumerate() {
        let mut world = world.lock().unwrap();
        let name = format!("data{writer}");
        let parked = dataset(bed, &mounted, writer).join(".cognito/parked");
        let kept: Vec<_> = fs::read_dir(&parked)
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        let kept: Vec<_> = kept
            .iter()
            .map(|entry| (entry.file_name(), fs::read_to_string(entry.path())))
            .collect();
        assert!(
            kept.is_empty(),
            "{name}: {kept:?}\n{}\n{:?}",
            fs::read_to_string(parked.with_file_name("records.json")).unwrap(),
            world
        );
        for (key, Allowed(values)) in world.iter_mut() {
            let found = bed.remote(&name, key).flatten();
            assert!(
                values.contains(&found),
                "{name}/{key}: {found:?} is none of {values:?}\n{}",
                mounted.log()
            );
            let shown = fs::read_to_string(dataset(bed, &mounted, writer).join(key)).ok();
            assert_eq!(shown, found, "{name}/{key}");
            *values = vec![found];
            checked += 1;
        }
    }
    checked
}
