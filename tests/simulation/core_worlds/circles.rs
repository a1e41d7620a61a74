//! Whether groups wait for each other.

use std::collections::BTreeMap;

use cognitofs::sync::pending::Ticket;

use super::super::process::Process;

/// Takes away what waits for nobody until nothing is left.
///
/// # Errors
/// The groups of a process that wait for each other for ever, or for one of those.
pub(super) fn check(process: &Process) -> Result<(), String> {
    let states = process.states.iter();
    let waiting = states.flat_map(|state| state.waiting(&process.barrier));
    let mut left: BTreeMap<Ticket, Vec<Ticket>> = waiting.collect();
    loop {
        let waits = |awaited: &[Ticket]| awaited.iter().any(|other| left.contains_key(other));
        let still = left.iter().filter(|(_, awaited)| waits(awaited));
        let still: BTreeMap<Ticket, Vec<Ticket>> = still
            .map(|(ticket, awaited)| (*ticket, awaited.clone()))
            .collect();
        if still.is_empty() {
            return Ok(());
        }
        if still.len() == left.len() {
            return Err(format!("these wait in a circle: {still:?}"));
        }
        left = still;
    }
}
