//! The driver, where its journal or its threads are slower than what it waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use cognitofs::api::{
    Client, ClientOptions, CredentialsSource, Endpoints, Surroundings, Transport,
};
use cognitofs::cli::in_process::InProcess;
use cognitofs::server::service::Service;
use cognitofs::server::storage::Storage;
use cognitofs::store::journals::{Journals, MemoryDisk, NewParked};
use cognitofs::store::pending::{Continuation, Pending, PendingDataset, PendingOptions, Tickets};
use cognitofs::sync::Unseen;
use cognitofs::sync::pending::{Change, Commit, Event, Kind, Refusal, Ticket};
use cognitofs::wire::names::{IdentityId, PoolId, RecordKey};
use futures_util::future::BoxFuture;

use super::net::{NONE, Net, Weather};
use super::seeded::Seeded;

const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Nobody;

impl Continuation for Nobody {
    fn handle_noted(&self, _: &PendingDataset, _: Ticket) {}

    fn handle_not_noted(&self, _: &PendingDataset, _: Ticket, _: &Refusal) -> Vec<NewParked> {
        Vec::new()
    }

    fn handle(&self, _: &PendingDataset, _: &Event) -> Vec<NewParked> {
        Vec::new()
    }
}

/// A machine whose disk takes its time.
#[derive(Debug)]
struct Slow {
    seeded: Arc<Seeded>,
    disk: AtomicU64,
}

impl Surroundings for Slow {
    fn now(&self) -> Instant {
        self.seeded.now()
    }

    fn date(&self) -> SystemTime {
        self.seeded.date()
    }

    fn random(&self) -> u64 {
        self.seeded.random()
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn block(&self, work: Box<dyn FnOnce() + Send>) {
        let time = Duration::from_millis(self.disk.load(Ordering::Relaxed));
        if time.is_zero() {
            return work();
        }
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            work();
        });
    }
}

/// Two processes of one source.
struct Bench {
    slow: Arc<Slow>,
    own: Arc<Pending>,
    other: Arc<Pending>,
    place: (PoolId, IdentityId),
}

impl Bench {
    fn new(over_a_net: bool) -> Self {
        let seeded = Arc::new(Seeded::new(1));
        let service = Service::new(Storage::in_memory().unwrap());
        let id = |last: u32| format!("us-east-1:00000000-0000-4000-8000-{last:012}");
        let (pool, identity): (PoolId, IdentityId) =
            (id(1).parse().unwrap(), id(2).parse().unwrap());
        let now = seeded.date().into();
        service.add_identity_pool(&pool, "test", now).unwrap();
        service.add_identity(&pool, &identity, now).unwrap();
        let developer = service.developer_credentials();
        let (key, secret) = (&developer.access_key_id, &developer.secret_key);
        let credentials = cognitofs::api::Credentials::new(key, secret, None, None, "test");
        let in_process = Arc::new(InProcess::new(Arc::new(service), seeded.clone()));
        let disk = MemoryDisk::new();
        let transport: Arc<dyn Transport> = if over_a_net {
            Arc::new(Net::new(
                in_process,
                seeded.clone(),
                disk.process(),
                NONE,
                Arc::new(Weather::default()),
            ))
        } else {
            in_process
        };
        let slow = Arc::new(Slow {
            seeded: seeded.clone(),
            disk: AtomicU64::new(0),
        });
        let start = |name: &str| {
            let url = Some("http://localhost:1");
            let client = Client::new(ClientOptions {
                region: "us-east-1".parse().unwrap(),
                endpoints: Endpoints::find("us-east-1", url, |_| None).unwrap(),
                credentials: CredentialsSource::Fixed(credentials.clone()),
                concurrency: 4,
                timeout: TIMEOUT,
                surroundings: slow.clone(),
                transport: Some(transport.clone()),
            });
            let clock = seeded.clone();
            let journals = Journals::new(disk.process().disk(), move || clock.now());
            let deadline = seeded.now() + TIMEOUT;
            let journal = journals.open(name, now, deadline).unwrap();
            let kept = journals.parked(deadline).unwrap();
            let options = PendingOptions {
                timeout: TIMEOUT,
                ttl: Duration::from_millis(1),
                scratch: true,
            };
            Pending::new(
                client.unwrap(),
                (Arc::new(journal), Arc::new(kept)),
                Arc::new(Tickets::default()),
                options,
                Arc::new(Nobody),
            )
        };
        Self {
            own: start("own"),
            other: start("other"),
            slow,
            place: (pool, identity),
        }
    }

    fn dataset(&self, pending: &Arc<Pending>) -> Arc<PendingDataset> {
        let (pool, identity) = self.place.clone();
        pending.dataset(&(pool, identity, "d".parse().unwrap()))
    }

    fn set_disk(&self, millis: u64) {
        self.slow.disk.store(millis, Ordering::Relaxed);
    }
}

fn change(dataset: &PendingDataset, name: &str, kind: Kind) -> Change {
    let key = RecordKey::new(name).unwrap();
    Change {
        base: dataset.view(&key).base,
        key,
        kind,
        unseen: Unseen::Refuse,
        own: Vec::new(),
        left: None,
        modified: SystemTime::UNIX_EPOCH.into(),
    }
}

fn whole(text: &str) -> Kind {
    Kind::Whole(text.as_bytes().into())
}

fn value(dataset: &PendingDataset, name: &str) -> Option<String> {
    let value = dataset.view(&RecordKey::new(name).unwrap()).value?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

async fn make(
    dataset: &Arc<PendingDataset>,
    changes: Vec<Change>,
    commit: Commit,
) -> Result<(), cognitofs::store::Error> {
    let deadline = tokio::time::Instant::now().into_std() + TIMEOUT;
    dataset
        .change(changes, commit, false, deadline)
        .await
        .result
}

async fn refresh(dataset: &Arc<PendingDataset>) {
    tokio::time::sleep(Duration::from_millis(5)).await;
    let deadline = tokio::time::Instant::now().into_std() + TIMEOUT;
    dataset.refresh(deadline).await.unwrap();
}

/// Notes the rename of a record to its backup, as an editor does.
async fn back_up(dataset: &Arc<PendingDataset>, text: &str) {
    let set = change(dataset, "k~", whole(text));
    let removal = change(dataset, "k", Kind::Remove);
    make(dataset, vec![set, removal], Commit::Close)
        .await
        .unwrap();
}

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
