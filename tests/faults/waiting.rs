//! The faults under `commit=async`: every change is taken at once, waits, and is made once when the
//! fault has gone.

use std::fs::File;
use std::time::{Duration, Instant};

use super::operations::{OPERATIONS, Operation};
use super::{Fault, Stage, is_usable};
use crate::common::{Certificate, Door, Meaning, Trouble};

/// Less than `timeout`, which waiting for the service would take. A new dataset is looked at first,
/// and to find out that nobody answers takes three quarters of it.
const AT_ONCE: Duration = Duration::from_millis(900);

fn sync(stage: &Stage, operation: &Operation, fault: Fault) {
    let begun = Instant::now();
    while let Err(error) = File::open(stage.identity()).unwrap().sync_all() {
        let patience = Duration::from_secs(12);
        let name = operation.name;
        assert!(begun.elapsed() < patience, "{fault:?}, {name}: {error}");
    }
}

fn try_waiting(fault: Fault) {
    let mut stage = Stage::with(fault, "timeout=1s,ttl=60s,commit=async");
    let warm = stage.bed.dataset(&stage.mounted, "warm");
    is_usable(&warm);
    let changes = OPERATIONS.iter().filter(|op| op.call == "UpdateRecords");
    for operation in changes {
        stage.next();
        (operation.prepare)(&stage);
        stage.strike(fault, operation.call, usize::MAX);
        let begun = Instant::now();
        let tried = (operation.act)(&stage);
        let took = begun.elapsed();
        let name = operation.name;
        assert!(tried.is_ok(), "{fault:?}, {name}: {tried:?}");
        assert!(took < AT_ONCE, "{fault:?}, {name}: {took:?}");
        is_usable(&warm);
        // It is tried, in vain.
        std::thread::sleep(Duration::from_millis(300));
        stage.recover();
        sync(&stage, operation, fault);
        (operation.done)(&stage);
        assert_eq!(operation.parked(&stage), 0, "{fault:?}, {name}");
    }
    stage.tell(fault);
}

#[test]
fn s08_under_faults_of_calls_changes_wait() {
    for trouble in [
        Trouble::Hang,
        Trouble::LoseCall,
        Trouble::LoseAnswer,
        Trouble::Torn,
        Trouble::Garbage,
        Trouble::Trickle(Duration::from_millis(400)),
        Trouble::Status(429),
        Trouble::RetryAfter(429, 1),
        Trouble::Status(500),
    ] {
        try_waiting(Fault::Call(trouble));
    }
}

#[test]
fn s08_under_faults_of_the_network_changes_wait() {
    for fault in [
        Fault::Refused,
        Fault::Door(Door::Tls(Certificate::Expired)),
        Fault::Door(Door::Silent),
        Fault::Name(Meaning::Nothing),
        Fault::Name(Meaning::Silence),
    ] {
        try_waiting(fault);
    }
}
