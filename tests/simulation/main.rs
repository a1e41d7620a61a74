//! What is not yet sent, tried without a mount, a kernel or real time.

#[path = "../common/seeded.rs"]
mod seeded;

mod bench;
mod core_worlds;
mod drafts;
mod driver;
mod driver_troubles;
mod eviction;
mod faults;
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

/// Tries worlds that are always the same, or others from the seed that `COGNITOFS_SEED` says. `count` is
/// the environment's word for how many.
fn try_seeds(count: &str, usually: u64, try_seed: impl Fn(u64) -> Result<(), String>) {
    let count = from_environment(count).unwrap_or(usually);
    let first = from_environment("COGNITOFS_SEED").unwrap_or(0);
    for seed in first..first + count {
        if let Err(wrong) = try_seed(seed) {
            panic!("{wrong}");
        }
    }
}

/// Tries worlds from a seed that nobody knows before, for as many seconds as `COGNITOFS_SECONDS` says;
/// or as many as the environment's word `count` says, from the seed that `COGNITOFS_SEED` says. If the
/// environment says nothing, they are `usually` many and always the same. `test` names the test to
/// whoever tries a seed again.
fn try_for_a_while(
    test: &str,
    (count, usually): (&str, u64),
    try_seed: impl Fn(u64) -> Result<(), String>,
) {
    let date = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let unknown = date.map_or(0, |date| date.as_secs() << 20);
    let known = from_environment("COGNITOFS_SEED");
    let seconds = from_environment("COGNITOFS_SECONDS");
    let first = known.unwrap_or(if seconds.is_some() { unknown } else { KNOWN });
    let count = from_environment(count).or(known.map(|_| 1));
    let count = count.or(seconds.is_none().then_some(usually));
    let seconds = seconds.unwrap_or(0);
    let begun = std::time::Instant::now();
    let mut tried = 0;
    while match count {
        Some(count) => tried < count,
        None => begun.elapsed().as_secs() < seconds,
    } {
        let seed = first + tried;
        if let Err(wrong) = try_seed(seed) {
            let again = format!("COGNITOFS_SEED={seed} cargo test --test simulation -- {test}");
            panic!("{wrong}\nit is tried again by\n{again}");
        }
        tried += 1;
    }
    let seconds = begun.elapsed().as_secs();
    println!("{test}: {tried} worlds from seed {first} in {seconds} s");
}

/// The first seed of worlds that are always the same and that no other test has.
const KNOWN: u64 = 1 << 32;
