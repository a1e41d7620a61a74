//! What is not yet sent, tried without a mount, a kernel or real time.

#[path = "../common/seeded.rs"]
mod seeded;

mod core_worlds;
mod driver;
mod histories;
mod ledger;
mod net;
mod overlaps;
mod process;
mod random;
mod service;
mod worlds;

/// Returns a number that the environment says.
fn from_environment(name: &str, default: u64) -> u64 {
    let value = std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok());
    value.unwrap_or(default)
}
