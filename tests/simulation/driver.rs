//! The driver, where its journal or its threads are slower than what it waits for.

use std::time::Duration;

use cognitofs::sync::Unseen;
use cognitofs::sync::pending::{Commit, Kind};
use cognitofs::wire::names::RecordKey;

use super::bench::{Bench, Fate, TIMEOUT, back_up, change, make, refresh, value, whole};

#[tokio::test(start_paused = true)]
async fn what_is_refused_before_its_caller_waits_is_told() {
    let bench = Bench::new(false);
    let own = bench.dataset(&bench.own);
    refresh(&own).await;
    let first = change(&own, "k", whole("one"));
    make(&own, vec![first], Commit::Close).await.unwrap();
    refresh(&own).await;
    back_up(&own, "one").await;
    refresh(&own).await;
    // The backup is noted, and the change is refused as soon as that is done.
    let no_text = change(&own, "k", Kind::Whole(b"\xff"[..].into()));
    let told = make(&own, vec![no_text], Commit::Close).await;
    assert!(told.is_err(), "it is not made");
}

#[tokio::test(start_paused = true)]
async fn w2_what_goes_while_its_caller_waits_is_not_said_to_be_noted_with_its_backup() {
    let bench = Bench::new(false);
    let own = bench.dataset(&bench.own);
    refresh(&own).await;
    let first = change(&own, "k", whole("one"));
    make(&own, vec![first], Commit::Close).await.unwrap();
    refresh(&own).await;
    back_up(&own, "one").await;
    let backup = bench.listener.noted();
    assert_eq!(backup.len(), 1, "the rename is the journal's");
    bench.line.set("UpdateRecords", Some(Fate::Lost));
    let saved = change(&own, "k", whole("two"));
    assert!(make(&own, vec![saved], Commit::Close).await.is_err());
    assert_eq!(bench.listener.noted(), backup, "it was given back");
    assert_eq!(value(&own, "k~").as_deref(), Some("one"));
}

#[tokio::test(start_paused = true)]
async fn what_its_caller_was_told_has_failed_is_not_made_when_the_journal_is_late() {
    let bench = Bench::new(false);
    let (own, other) = (bench.dataset(&bench.own), bench.dataset(&bench.other));
    refresh(&other).await;
    let first = change(&other, "k", whole("one"));
    make(&other, vec![first], Commit::Close).await.unwrap();
    refresh(&own).await;
    back_up(&own, "one").await;
    own.set_open(&RecordKey::new("k").unwrap(), true);
    let ours = change(&own, "k", whole("two"));
    bench.set_disk(6_000);
    assert!(make(&own, vec![ours], Commit::Close).await.is_err());
    bench.set_disk(0);
    tokio::time::sleep(TIMEOUT).await;
    refresh(&other).await;
    assert_eq!(value(&other, "k").as_deref(), Some("one"));
    own.set_open(&RecordKey::new("k").unwrap(), false);
    let deadline = bench.own.deadline();
    assert_eq!(bench.own.drain(deadline).await, 0, "nothing is left");
}

#[tokio::test(start_paused = true)]
async fn what_waits_to_be_staged_knows_what_its_base_came_to() {
    let bench = Bench::new(true);
    let own = bench.dataset(&bench.own);
    refresh(&own).await;
    let first = change(&own, "a", whole("one"));
    make(&own, vec![first], Commit::Async).await.unwrap();
    tokio::time::sleep(Duration::from_millis(90)).await;
    let mut set = change(&own, "b", whole("one"));
    let removal = change(&own, "a", Kind::Remove);
    set.unseen = Unseen::Keep;
    bench.set_disk(1_000);
    let slow = change(&own, "b", whole("two"));
    let task = own.clone();
    let slow = tokio::spawn(async move { make(&task, vec![slow], Commit::Async).await });
    tokio::time::sleep(Duration::from_millis(2)).await;
    bench.set_disk(0);
    make(&own, vec![set, removal], Commit::Async).await.unwrap();
    slow.await.unwrap().unwrap();
    assert_eq!(bench.own.drain(bench.own.deadline()).await, 0);
    assert_eq!(value(&own, "a"), None, "nobody else changed it");
}

/// The task that sends may be about to end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_comes_while_the_driver_goes_to_rest_is_not_forgotten() {
    let bench = Bench::new(false);
    let own = bench.dataset(&bench.own);
    refresh(&own).await;
    let mut tasks = Vec::new();
    for task in 0..4 {
        let own = own.clone();
        tasks.push(tokio::spawn(async move {
            for count in 0..400 {
                let name = format!("k{task}");
                let next = change(&own, &name, whole(&count.to_string()));
                make(&own, vec![next], Commit::Close).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}
