//! Whoever waits in vain for a service that asks to slow down is told so, whatever it does at the
//! end of his time: that it hangs then is not news to him. And nothing is sent for him after that.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cognitofs::api::{Credentials, Error, Incoming, Outgoing, Surroundings, Transport};
use cognitofs::cli::in_process::InProcess;
use cognitofs::store::{self, ErrorKind, Freshness, Store};
use cognitofs::sync::{Change, Kind};
use cognitofs::wire::identity::DescribeIdentity;
use cognitofs::wire::records::Records;
use futures_util::future::{BoxFuture, join_all};

use super::{client, dataset, developer, list, run, service, store, too_many, update, whole};
use crate::common::Seeded;
use crate::local_service::ids;

const SEEDS: u64 = 500;

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Refresh(Freshness),
    Commit,
    Delete,
    List,
    Update,
    Describe,
    Datasets,
}

const ON_A_DATASET: &[Wish] = &[
    Wish::Refresh(Freshness::Ttl),
    Wish::Refresh(Freshness::Now),
    Wish::Commit,
    Wish::Delete,
];

const ALL: &[Wish] = &[
    Wish::Refresh(Freshness::Ttl),
    Wish::Refresh(Freshness::Now),
    Wish::Commit,
    Wish::Delete,
    Wish::List,
    Wish::Update,
    Wish::Describe,
    Wish::Datasets,
];

/// A service that asks to slow down.
#[derive(Debug)]
struct Throttling {
    seeded: Arc<Seeded>,
    /// Answers what only reads, where only writes are throttled.
    reads: Option<InProcess>,
    /// How many requests more are throttled before all hang; without a number none does.
    left: Mutex<Option<u64>>,
    waiting: Arc<Waiting>,
}

/// Those who wait, and what was sent when nobody did.
#[derive(Debug, Default)]
struct Waiting {
    /// Until when each of them waits.
    deadlines: Mutex<Vec<Instant>>,
    late: Mutex<Vec<String>>,
}

impl Waiting {
    fn note_sent(&self, seeded: &Seeded, outgoing: &Outgoing) {
        let now = seeded.now();
        let deadlines = self.deadlines.lock().unwrap();
        if !deadlines.iter().any(|deadline| now < *deadline) {
            let sent = format!("{:?} {} {}", seeded.age(), outgoing.method, outgoing.url);
            self.late.lock().unwrap().push(sent);
        }
    }
}

impl Throttling {
    async fn exchange(&self, outgoing: Outgoing) -> Result<Incoming, Error> {
        let is_read = outgoing.method == "GET";
        // A probe is for nobody: it finds out whether the service is there.
        let is_probe = is_read && outgoing.url.path() == "/";
        if !is_probe {
            self.waiting.note_sent(&self.seeded, &outgoing);
        }
        tokio::time::sleep(self.seeded.time(0, 150)).await;
        if let Some(reads) = self.reads.as_ref().filter(|_| is_read) {
            return reads.send(outgoing).await;
        }
        let hangs = match &mut *self.left.lock().unwrap() {
            Some(0) => true,
            Some(left) => {
                *left -= u64::from(!is_probe);
                false
            }
            None => false,
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(self.seeded.time(0, 150)).await;
        Ok(too_many())
    }
}

impl Transport for Throttling {
    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<Incoming, Error>> {
        Box::pin(self.exchange(outgoing))
    }
}

/// Where somebody waits.
struct World {
    seed: u64,
    seeded: Arc<Seeded>,
    store: Arc<Store>,
    /// Calls as the store does, and shares nothing else with it.
    client: cognitofs::api::Client,
    waiting: Arc<Waiting>,
}

/// What a seed decides.
struct Plan {
    only_writes: bool,
    hangs: bool,
    wishes: Vec<(Wish, Duration)>,
}

impl Plan {
    /// Where the service hangs at last, it has told everybody before: all begin together, with one
    /// dataset, or there is only one.
    fn new(seeded: &Seeded) -> Self {
        let only_writes = seeded.below(4) == 0;
        let hangs = seeded.below(2) == 0;
        let one_dataset = hangs && seeded.below(2) == 0;
        let (wishes, many) = match (hangs, one_dataset) {
            (true, false) => (ALL, 1),
            (true, true) => (ON_A_DATASET, 2 + seeded.below(3)),
            (false, _) => (ALL, 1 + seeded.below(5)),
        };
        let wish = |_| {
            let wish = wishes[seeded.below(wishes.len() as u64) as usize];
            let after = match hangs {
                true => Duration::ZERO,
                false => seeded.time(0, 12_000),
            };
            (wish, after)
        };
        Self {
            only_writes,
            hangs,
            wishes: (0..many).map(wish).collect(),
        }
    }
}

impl World {
    /// Makes a dataset that is there and empty, so that it can be deleted.
    async fn new(seed: u64, seeded: Arc<Seeded>, plan: &Plan) -> Self {
        let concurrency = 1 + seeded.below(6) as u32;
        let timeout = seeded.time(2_000, 9_000);
        let mut credentials = Credentials::new("id", "secret", None, None, "test");
        let mut reads = None;
        if plan.only_writes {
            let service = service(&seeded);
            credentials = developer(&service);
            let direct = InProcess::new(service, seeded.clone());
            let free = Arc::new(direct.clone());
            let free = client(&seeded, free, credentials.clone(), concurrency);
            make_empty(&store(free, timeout), &seeded).await;
            reads = Some(direct);
        }
        let waiting = Arc::new(Waiting::default());
        let left = plan.hangs.then(|| 1 + seeded.below(8));
        let way: Arc<dyn Transport> = Arc::new(Throttling {
            seeded: seeded.clone(),
            reads,
            left: Mutex::new(left),
            waiting: waiting.clone(),
        });
        let connect = || client(&seeded, way.clone(), credentials.clone(), concurrency);
        Self {
            seed,
            store: store(connect(), timeout),
            client: connect(),
            seeded,
            waiting,
        }
    }

    /// Waits for what somebody wishes, and checks how that ends.
    async fn grant(&self, wish: Wish, after: Duration, hangs: bool) {
        tokio::time::sleep(after).await;
        let most = self.store.options().timeout.as_millis() as u64;
        let patience = match self.seeded.below(3) {
            // Long enough to be told once.
            0 => self.seeded.time(1_000, most),
            _ => Duration::from_millis(most),
        };
        let deadline = self.seeded.now() + patience;
        self.waiting.deadlines.lock().unwrap().push(deadline);
        let ended = self.end(wish, deadline).await;
        let now = self.seeded.now();
        let mut deadlines = self.waiting.deadlines.lock().unwrap();
        let own = deadlines.iter().position(|other| *other == deadline);
        deadlines.swap_remove(own.unwrap());
        let told = format!("seed {}: {wish:?} for {patience:?}: {ended:?}", self.seed);
        assert!(now <= deadline, "{told}, {:?} too late", now - deadline);
        let Err(error) = ended else {
            return;
        };
        match error.kind() {
            ErrorKind::Throttled => {}
            // A call of somebody else hung before, and the probe after it as well.
            ErrorKind::Unreachable if hangs && now < deadline => {}
            // What only reads was answered.
            ErrorKind::NotEmpty if wish == Wish::Delete && now < deadline => {}
            _ => panic!("{told}"),
        }
    }

    async fn end(&self, wish: Wish, deadline: Instant) -> Result<(), store::Error> {
        let name = "data";
        let dataset = dataset(&self.store, name);
        match wish {
            Wish::Refresh(freshness) => dataset.refresh(freshness, deadline).await,
            Wish::Commit => {
                let key = format!("k{}", self.seeded.below(3));
                let change = whole(&dataset, &self.seeded, &key, "v");
                let landed = dataset.commit(vec![change], deadline).await;
                landed.map(drop).map_err(|commit| commit.error)
            }
            Wish::Delete => dataset.delete(deadline).await,
            Wish::List => Ok(self.client.call(&list(name), deadline).await.map(drop)?),
            Wish::Update => {
                let listed = Records {
                    sync_session_token: Some("token".to_owned()),
                    ..Records::default()
                };
                let change = update(name, &listed, "k", "v");
                Ok(self.client.call(&change, deadline).await.map(drop)?)
            }
            Wish::Describe => {
                let (_, identity_id) = ids();
                let describe = DescribeIdentity { identity_id };
                Ok(self.client.call(&describe, deadline).await.map(drop)?)
            }
            Wish::Datasets => dataset.identity().datasets(deadline).await.map(drop),
        }
    }
}

async fn make_empty(store: &Arc<Store>, seeded: &Seeded) {
    let dataset = dataset(store, "data");
    let set = whole(&dataset, seeded, "k", "v");
    dataset.commit(vec![set], store.deadline()).await.unwrap();
    let remove = Change {
        kind: Kind::Remove,
        ..whole(&dataset, seeded, "k", "")
    };
    let removed = dataset.commit(vec![remove], store.deadline()).await;
    removed.unwrap();
}

/// Lives through a world, and for a while after everybody was told.
async fn live(seed: u64, seeded: Arc<Seeded>) {
    let plan = Plan::new(&seeded);
    let world = World::new(seed, seeded, &plan).await;
    let wishes = plan.wishes.iter();
    let granted = wishes.map(|(wish, after)| world.grant(*wish, *after, plan.hangs));
    join_all(granted).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let late = world.waiting.late.lock().unwrap();
    assert!(late.is_empty(), "seed {seed}: nobody waits: {late:#?}");
}

#[test]
fn p20_whoever_waits_in_vain_is_told_that_the_service_is_throttling() {
    for seed in 0..SEEDS {
        run(seed, async |seeded| live(seed, seeded).await);
    }
}
