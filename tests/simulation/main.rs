//! What is not yet sent, tried without a mount, a kernel or real time.

#[path = "../common/seeded.rs"]
mod seeded;

mod bench;
mod core_worlds;
mod drafts;
mod driver;
mod driver_troubles;
mod eviction;
mod function;
mod histories;
mod kinds;
mod ledger;
mod mount;
mod mounts;
mod net;
mod operation;
mod overlaps;
mod process;
mod programs;
mod random;
mod service;
mod source;
mod worlds;

/// Returns a number that the environment says.
fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Tries worlds that are always the same, and a tenth more from a seed that nobody knows before; or
/// all from the one that `COGNITOFS_SEED` says. `count` is the environment's word for how many.
fn try_seeds(count: &str, usually: u64, try_seed: impl Fn(u64) -> Result<(), String>) {
    let count = from_environment(count).unwrap_or(usually);
    let date = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let unknown = date.map_or(0, |date| date.as_secs() << 20);
    let seeds = match from_environment("COGNITOFS_SEED") {
        Some(first) => (first..first + count).chain(0..0),
        None => (0..count).chain(unknown..unknown + count / 10),
    };
    for seed in seeds {
        if let Err(wrong) = try_seed(seed) {
            panic!("{wrong}");
        }
    }
}

/// Tries worlds from a seed that nobody knows before, for as many seconds as `COGNITOFS_SECONDS` says;
/// or as many as `COGNITOFS_WORLDS` says, from the seed that `COGNITOFS_SEED` says.
fn try_for_a_while(try_seed: impl Fn(u64) -> Result<(), String>) {
    let date = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let unknown = date.map_or(0, |date| date.as_secs() << 20);
    let first = from_environment("COGNITOFS_SEED");
    let seconds = from_environment("COGNITOFS_SECONDS").unwrap_or(SECONDS);
    let usually = first.map_or(u64::MAX, |_| 1);
    let count = from_environment("COGNITOFS_WORLDS").unwrap_or(usually);
    let begun = std::time::Instant::now();
    let mut tried = 0;
    let is_open = count < u64::MAX;
    while tried < count && (is_open || begun.elapsed().as_secs() < seconds) {
        if let Err(wrong) = try_seed(first.unwrap_or(unknown) + tried) {
            panic!("{wrong}");
        }
        tried += 1;
    }
    println!("{tried} worlds in {} s", begun.elapsed().as_secs());
}

/// How long random worlds are tried.
const SECONDS: u64 = 10;
