//! The driver, where the service refuses, or does not answer, and where something panics.

use std::sync::Arc;
use std::time::Duration;

use cognitofs::store::pending::PendingDataset;
use cognitofs::store::{Error, ErrorKind};
use cognitofs::sync::pending::{Commit, Kind};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::bench::{Bench, Fate, TIMEOUT, change, make, refresh, value, whole};

const SECOND: Duration = Duration::from_secs(1);
/// Is told at once, and may be over later.
const DENIED: Fate = Fate::Refused(400, "AccessDeniedException");

/// Begins to delete a dataset, for as long as somebody has time.
fn delete(dataset: &Arc<PendingDataset>, time: Duration) -> JoinHandle<Result<(), Error>> {
    let (dataset, deadline) = (dataset.clone(), Instant::now() + time);
    tokio::spawn(async move { dataset.delete(deadline.into_std()).await })
}

/// Makes a dataset that has no record any more.
async fn emptied(dataset: &Arc<PendingDataset>) {
    refresh(dataset).await;
    for kind in [whole("one"), Kind::Remove] {
        let next = change(dataset, "k", kind);
        make(dataset, vec![next], Commit::Close).await.unwrap();
    }
}

async fn queue(dataset: &Arc<PendingDataset>, name: &str, text: &str) {
    let set = change(dataset, name, whole(text));
    make(dataset, vec![set], Commit::Async).await.unwrap();
}

/// Returns whether all is sent within a time.
async fn is_sent(bench: &Bench, time: Duration) -> bool {
    let deadline = Instant::now() + time;
    bench.own.drain(deadline.into_std()).await == 0
}

#[tokio::test(start_paused = true)]
async fn one_who_gives_up_leaves_the_deletion_to_those_who_have_time() {
    let bench = Bench::new(false);
    let own = bench.dataset(&bench.own);
    emptied(&own).await;
    bench.line.set("ListRecords", Some(Fate::Slow(2 * SECOND)));
    let (short, long) = (delete(&own, SECOND), delete(&own, 4 * SECOND));
    let error = short.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    long.await.unwrap().unwrap();
    assert_eq!(bench.line.take("DeleteDataset").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_once_nobody_waits_for_it() {
    let bench = Bench::new(false);
    let own = bench.dataset(&bench.own);
    emptied(&own).await;
    bench.line.set("ListRecords", Some(Fate::Slow(2 * SECOND)));
    delete(&own, SECOND).await.unwrap().unwrap_err();
    sleep(10 * SECOND).await;
    bench.line.set("ListRecords", None);
    bench.line.set("DeleteDataset", Some(Fate::Lost));
    let begun = bench.line.take("DeleteDataset").len();
    assert_eq!(begun, 0, "it was listed too late");
    delete(&own, SECOND).await.unwrap().unwrap_err();
    bench.line.take("DeleteDataset");
    sleep(60 * SECOND).await;
    assert_eq!(bench.line.take("DeleteDataset").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_without_an_answer_is_tried_again_after_growing_pauses() {
    let bench = Bench::new(false);
    let own = bench.dataset(&bench.own);
    emptied(&own).await;
    bench.line.set("DeleteDataset", Some(Fate::Lost));
    delete(&own, 20 * SECOND).await.unwrap().unwrap_err();
    let calls = bench.line.take("DeleteDataset");
    assert!((5..40).contains(&calls.len()), "{calls:?}");
    // It was carried out, and that is found out.
    bench.line.set("DeleteDataset", Some(Fate::Unanswered));
    delete(&own, 4 * SECOND).await.unwrap().unwrap();
    assert_eq!(bench.line.take("DeleteDataset").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wish_for_deletion_ends_with_its_answer() {
    let bench = Bench::new(false);
    let (own, other) = (bench.dataset(&bench.own), bench.dataset(&bench.other));
    emptied(&own).await;
    bench.line.set("DeleteDataset", Some(Fate::Slow(SECOND)));
    let first = delete(&own, 4 * SECOND);
    sleep(SECOND / 2).await;
    bench.line.set("ListRecords", Some(Fate::Slow(SECOND)));
    let second = delete(&own, 4 * SECOND);
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    // Somebody makes it again, and it is his.
    emptied(&other).await;
    sleep(10 * SECOND).await;
    assert_eq!(bench.line.take("DeleteDataset").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn w7_readers_who_are_refused_hold_up_nothing_that_waits_to_be_sent() {
    let bench = Bench::new(false);
    let own = bench.dataset(&bench.own);
    refresh(&own).await;
    bench.line.set("ListRecords", Some(DENIED));
    for _ in 0..10 {
        sleep(SECOND / 10).await;
        let deadline = Instant::now() + TIMEOUT;
        own.refresh(deadline.into_std()).await.unwrap_err();
    }
    bench.line.set("ListRecords", None);
    queue(&own, "k", "one").await;
    assert!(is_sent(&bench, SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn w7_those_who_wait_are_tried_at_once_and_others_wait_no_longer_for_that() {
    let bench = Bench::new(false);
    let own = bench.dataset(&bench.own);
    refresh(&own).await;
    bench.line.set("UpdateRecords", Some(DENIED));
    queue(&own, "k", "one").await;
    sleep(SECOND / 5).await;
    for count in 0..10 {
        let begun = Instant::now();
        let set = change(&own, "other", whole(&count.to_string()));
        make(&own, vec![set], Commit::Close).await.unwrap_err();
        assert!(begun.elapsed() < SECOND / 10, "{count}");
    }
    bench.line.set("UpdateRecords", None);
    assert!(is_sent(&bench, 3 * SECOND / 2).await);
}

#[tokio::test(start_paused = true)]
async fn w7_what_is_refused_is_tried_again_after_growing_pauses_whoever_reads_meanwhile() {
    let bench = Bench::new(false);
    let own = bench.dataset(&bench.own);
    refresh(&own).await;
    bench.line.set("UpdateRecords", Some(DENIED));
    queue(&own, "k", "one").await;
    for _ in 0..600 {
        sleep(SECOND / 5).await;
        refresh(&own).await;
    }
    let calls = bench.line.take("UpdateRecords");
    assert!((8..40).contains(&calls.len()), "{calls:?}");
    // Whoever waits sends what waits, and the pauses begin anew.
    bench.line.set("UpdateRecords", None);
    let set = change(&own, "other", whole("two"));
    make(&own, vec![set], Commit::Close).await.unwrap();
    assert!(is_sent(&bench, SECOND).await);
    bench.line.set("UpdateRecords", Some(DENIED));
    queue(&own, "k", "three").await;
    sleep(SECOND).await;
    bench.line.set("UpdateRecords", None);
    assert!(is_sent(&bench, 2 * SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn w7_a_listing_that_is_answered_ends_the_pause_after_those_that_were_not() {
    let bench = Bench::new(false);
    let own = bench.dataset(&bench.own);
    refresh(&own).await;
    sleep(10 * SECOND).await;
    bench.line.set("ListRecords", Some(DENIED));
    queue(&own, "k", "one").await;
    sleep(60 * SECOND).await;
    bench.line.set("ListRecords", None);
    refresh(&own).await;
    assert!(is_sent(&bench, SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_told_though_the_continuation_panics() {
    let bench = Bench::new(false);
    let own = bench.dataset(&bench.own);
    refresh(&own).await;
    bench.listener.once(|_, _| panic!("as the test wants"));
    let begun = Instant::now();
    let set = change(&own, "k", whole("one"));
    make(&own, vec![set], Commit::Close).await.unwrap();
    assert!(begun.elapsed() < SECOND);
    assert!(is_sent(&bench, SECOND).await);
    assert_eq!(value(&own, "k").as_deref(), Some("one"));
}

#[tokio::test(start_paused = true)]
async fn w6_a_removal_elsewhere_goes_though_the_continuation_panics_at_what_it_waits_for() {
    let bench = Bench::new(false);
    let (from, to) = (bench.named(&bench.own, "a"), bench.named(&bench.own, "b"));
    refresh(&from).await;
    let set = change(&from, "k", whole("one"));
    make(&from, vec![set], Commit::Close).await.unwrap();
    refresh(&to).await;
    queue(&to, "k", "one").await;
    let removal = change(&from, "k", Kind::Remove);
    make(&from, vec![removal], Commit::Async).await.unwrap();
    bench.listener.once(|_, _| panic!("as the test wants"));
    assert!(is_sent(&bench, 2 * SECOND).await);
    refresh(&from).await;
    assert_eq!(value(&from, "k"), None);
}

#[tokio::test(start_paused = true)]
async fn what_others_made_pending_meanwhile_is_sent_after_a_panic() {
    let bench = Bench::new(false);
    let own = bench.dataset(&bench.own);
    refresh(&own).await;
    bench.line.set("UpdateRecords", Some(Fate::Slow(SECOND)));
    queue(&own, "a", "one").await;
    sleep(SECOND / 2).await;
    queue(&own, "b", "two").await;
    bench.listener.once(|_, _| panic!("as the test wants"));
    sleep(SECOND).await;
    // Nobody asks for anything any more.
    sleep(5 * SECOND).await;
    let other = bench.dataset(&bench.other);
    refresh(&other).await;
    assert_eq!(value(&other, "b").as_deref(), Some("two"));
}

#[tokio::test(start_paused = true)]
async fn p20_nothing_is_listed_once_nobody_waits_for_it() {
    let bench = Bench::new(false);
    let own = bench.dataset(&bench.own);
    let throttled = Fate::Refused(429, "TooManyRequestsException");
    bench.line.set("ListRecords", Some(throttled));
    let wait = |time: Duration| {
        let (dataset, deadline) = (own.clone(), Instant::now() + time);
        tokio::spawn(async move { dataset.refresh(deadline.into_std()).await })
    };
    let (short, long) = (wait(SECOND), wait(2 * SECOND));
    for waiting in [short, long] {
        let error = waiting.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Throttled);
    }
    assert!(!bench.line.take("ListRecords").is_empty());
    sleep(TIMEOUT).await;
    let late = bench.line.take("ListRecords");
    assert!(late.is_empty(), "nobody waits: {late:?}");
    // Who comes later is told in his own time.
    let error = wait(SECOND).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
}
