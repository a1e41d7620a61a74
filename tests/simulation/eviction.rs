//! How much a process has in memory of what the service has, and what it never lets go.

use std::sync::Arc;
use std::time::Duration;

use cognitofs::store::pending::PendingDataset;
use cognitofs::sync::pending::{Commit, DatasetState, Kind};
use cognitofs::wire::names::RecordKey;
use tokio::time::sleep;

use super::bench::{Bench, CACHE, Fate, change, make, refresh, value, whole};

/// How many datasets others write.
const MANY: usize = 15;
/// How much is in each: six of them do not fit.
const TEXT: usize = CACHE / 6;

fn is_listed(dataset: &Arc<PendingDataset>) -> bool {
    dataset.read(DatasetState::is_listed)
}

/// Has another process write datasets that do not fit together.
async fn write_many(bench: &Bench) {
    for at in 0..MANY {
        let dataset = bench.named(&bench.other, &format!("d{at}"));
        refresh(&dataset).await;
        let text = "x".repeat(TEXT);
        make(
            &dataset,
            vec![change(&dataset, "k", whole(&text))],
            Commit::Close,
        )
        .await
        .unwrap();
    }
}

/// Reads them.
async fn read_many(bench: &Bench) {
    for at in 0..MANY {
        let dataset = bench.named(&bench.own, &format!("d{at}"));
        refresh(&dataset).await;
        assert_eq!(value(&dataset, "k").map(|text| text.len()), Some(TEXT));
        assert!(bench.own.cached() <= CACHE, "{}", bench.own.cached());
    }
}

#[tokio::test(start_paused = true)]
async fn those_asked_for_longest_ago_are_let_go_and_listed_again() {
    let bench = Bench::new(false);
    write_many(&bench).await;
    bench.line.take("ListRecords");
    read_many(&bench).await;
    assert_eq!(bench.line.take("ListRecords").len(), MANY);
    assert!(bench.own.cached() > CACHE / 2);
    let first = bench.named(&bench.own, "d0");
    assert!(!is_listed(&first));
    // Nobody has to ask for what is still there.
    for at in MANY - 5..MANY {
        let dataset = bench.named(&bench.own, &format!("d{at}"));
        assert_eq!(value(&dataset, "k").map(|text| text.len()), Some(TEXT));
    }
    let asked_for = bench.named(&bench.own, "d10");
    refresh(&first).await;
    refresh(&bench.named(&bench.own, "d1")).await;
    assert!(is_listed(&asked_for) && is_listed(&first));
    assert!(!is_listed(&bench.named(&bench.own, "d11")));
    assert_eq!(bench.line.take("ListRecords").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_pending_or_open_is_not_let_go() {
    let bench = Bench::new(false);
    write_many(&bench).await;
    let denied = Fate::Refused(400, "AccessDeniedException");
    bench.line.set("UpdateRecords", Some(denied));
    let names = ["queued", "open", "waiting"];
    for name in names {
        refresh(&bench.named(&bench.own, name)).await;
    }
    let queued = bench.named(&bench.own, "queued");
    make(
        &queued,
        vec![change(&queued, "k", whole("one"))],
        Commit::Async,
    )
    .await
    .unwrap();
    let key = RecordKey::new("k").unwrap();
    bench.named(&bench.own, "open").set_open(&key, true);
    drop(queued);
    sleep(Duration::from_secs(1)).await;
    read_many(&bench).await;
    assert_eq!(
        value(&bench.named(&bench.own, "queued"), "k").as_deref(),
        Some("one")
    );
    let is_there = |name| is_listed(&bench.named(&bench.own, name));
    assert_eq!(names.map(is_there), [true, true, false]);
    // When it is over, it is like all others.
    bench.line.set("UpdateRecords", None);
    assert_eq!(
        bench
            .own
            .drain(bench.own.deadline() + Duration::from_secs(60))
            .await,
        0
    );
    bench.named(&bench.own, "open").set_open(&key, false);
    read_many(&bench).await;
    assert_eq!(names.map(is_there), [false; 3]);
    let other = bench.named(&bench.other, "queued");
    refresh(&other).await;
    assert_eq!(value(&other, "k").as_deref(), Some("one"));
}

#[tokio::test(start_paused = true)]
async fn b1_a_base_of_a_dataset_that_was_let_go_is_not_one_of_its_next_life() {
    let bench = Bench::new(false);
    write_many(&bench).await;
    let own = bench.named(&bench.own, "mine");
    refresh(&own).await;
    for kind in [whole("one"), Kind::Remove, whole("two")] {
        make(&own, vec![change(&own, "k", kind)], Commit::Close)
            .await
            .unwrap();
    }
    let old = change(&own, "k", whole("three"));
    make(&own, vec![change(&own, "k", Kind::Remove)], Commit::Close)
        .await
        .unwrap();
    own.delete(bench.own.deadline()).await.unwrap();
    assert_eq!(own.read(DatasetState::life), 1);
    drop(own);
    read_many(&bench).await;
    // Somebody makes it again, with the same counts.
    let other = bench.named(&bench.other, "mine");
    refresh(&other).await;
    for kind in [whole("one"), Kind::Remove, whole("theirs")] {
        make(&other, vec![change(&other, "k", kind)], Commit::Close)
            .await
            .unwrap();
    }
    let own = bench.named(&bench.own, "mine");
    refresh(&own).await;
    assert_eq!(own.read(DatasetState::life), 1);
    make(&own, vec![old], Commit::Close).await.unwrap_err();
    assert_eq!(value(&own, "k").as_deref(), Some("theirs"));
}
