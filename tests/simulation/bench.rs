//! Two processes of one source, whose disk, network and continuation are as a test wants them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use cognitofs::api::{
    Client, ClientOptions, CredentialsSource, Endpoints, Error, Incoming, Outgoing, Surroundings,
    Transport,
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

pub const TIMEOUT: Duration = Duration::from_secs(5);
/// How many bytes a process keeps of what the service has.
pub const CACHE: usize = 1 << 20;

/// Calls whatever a test wants to happen when something is decided.
type Heard = Box<dyn Fn(&PendingDataset, &Event) + Send + Sync>;

/// Listens to what is noted and decided.
#[derive(Default)]
pub struct Listener {
    /// What is called at the next that is decided.
    heard: Mutex<Option<Heard>>,
    /// What the journal was said to have.
    noted: Mutex<Vec<Ticket>>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

impl Listener {
    /// Calls this once, at the next that is decided.
    pub fn once(&self, heard: impl Fn(&PendingDataset, &Event) + Send + Sync + 'static) {
        *self.heard.lock().unwrap() = Some(Box::new(heard));
    }

    /// Returns what the journal was said to have.
    pub fn noted(&self) -> Vec<Ticket> {
        self.noted.lock().unwrap().clone()
    }
}

impl Continuation for Listener {
    fn handle_noted(&self, _: &PendingDataset, ticket: Ticket) {
        self.noted.lock().unwrap().push(ticket);
    }

    fn handle_not_noted(&self, _: &PendingDataset, _: Ticket, _: &Refusal) -> Vec<NewParked> {
        Vec::new()
    }

    fn handle(&self, dataset: &PendingDataset, event: &Event) -> Vec<NewParked> {
        let heard = self.heard.lock().unwrap().take();
        if let Some(heard) = heard {
            heard(dataset, event);
        }
        Vec::new()
    }
}

/// What befalls the calls of an operation.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    /// It is not carried out, and there is no answer.
    Lost,
    /// It is carried out, and the connection breaks then.
    Unanswered,
    Refused(u16, &'static str),
    Slow(Duration),
}

/// The way to the service, as a test wants it.
#[derive(Debug)]
pub struct Line {
    inner: Arc<dyn Transport>,
    seeded: Arc<Seeded>,
    fates: Mutex<BTreeMap<&'static str, Fate>>,
    /// What was called, and when.
    calls: Mutex<Vec<(&'static str, Duration)>>,
}

impl Line {
    /// Has all calls of an operation meet a fate, or none any more.
    pub fn set(&self, operation: &'static str, fate: Option<Fate>) {
        let mut fates = self.fates.lock().unwrap();
        match fate {
            Some(fate) => fates.insert(operation, fate),
            None => fates.remove(operation),
        };
    }

    /// Takes the moments at which an operation was called.
    pub fn take(&self, operation: &str) -> Vec<Duration> {
        let mut calls = self.calls.lock().unwrap();
        let taken = calls.extract_if(.., |(called, _)| *called == operation);
        taken.map(|(_, at)| at).collect()
    }

    async fn reach(&self, outgoing: Outgoing) -> Result<Incoming, Error> {
        let operation = match outgoing.method {
            "DELETE" => "DeleteDataset",
            "POST" => "UpdateRecords",
            _ => "ListRecords",
        };
        let at = self.seeded.age();
        self.calls.lock().unwrap().push((operation, at));
        let fate = self.fates.lock().unwrap().get(operation).copied();
        let broken = || Error::Broken {
            host: "localhost".to_owned(),
            source: Arc::from(Box::from("connection reset")),
        };
        match fate {
            None => self.inner.send(outgoing).await,
            Some(Fate::Lost) => Err(broken()),
            Some(Fate::Unanswered) => {
                self.inner.send(outgoing).await?;
                Err(broken())
            }
            Some(Fate::Refused(status, code)) => Ok(Incoming {
                status,
                error_type: Some(code.to_owned()),
                request_id: None,
                retry_after: None,
                body: b"{}".to_vec(),
            }),
            Some(Fate::Slow(time)) => {
                tokio::time::sleep(time).await;
                self.inner.send(outgoing).await
            }
        }
    }
}

impl Transport for Line {
    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<Incoming, Error>> {
        Box::pin(self.reach(outgoing))
    }
}

/// A machine whose disk takes its time.
#[derive(Debug)]
pub struct Slow {
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
pub struct Bench {
    slow: Arc<Slow>,
    pub own: Arc<Pending>,
    pub other: Arc<Pending>,
    place: (PoolId, IdentityId),
    /// The way of the first to the service.
    pub line: Arc<Line>,
    /// Hears what is decided in both.
    pub listener: Arc<Listener>,
}

impl Bench {
    pub fn new(over_a_net: bool) -> Self {
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
        let in_process = InProcess::new(Arc::new(service), seeded.clone());
        let in_process = Arc::new(in_process);
        let disk = MemoryDisk::new();
        let transport: Arc<dyn Transport> = match over_a_net {
            true => Arc::new(Net::new(
                in_process,
                seeded.clone(),
                disk.process(),
                NONE,
                Arc::new(Weather::default()),
            )),
            false => in_process,
        };
        let line = Arc::new(Line {
            inner: transport.clone(),
            seeded: seeded.clone(),
            fates: Mutex::default(),
            calls: Mutex::default(),
        });
        let listener = Arc::new(Listener::default());
        let slow = Arc::new(Slow {
            seeded: seeded.clone(),
            disk: AtomicU64::new(0),
        });
        let start = |name: &str, transport: Arc<dyn Transport>| {
            let url = Some("http://localhost:1");
            let client = Client::new(ClientOptions {
                region: "us-east-1".parse().unwrap(),
                endpoints: Endpoints::find("us-east-1", url, |_| None).unwrap(),
                credentials: CredentialsSource::Fixed(credentials.clone()),
                concurrency: 4,
                timeout: TIMEOUT,
                surroundings: slow.clone(),
                transport: Some(transport),
            });
            let clock = seeded.clone();
            let journals = Journals::new(disk.process().disk(), move || clock.now());
            let deadline = seeded.now() + TIMEOUT;
            let journal = journals.open(name, now, deadline).unwrap();
            let kept = Arc::new(journals.parked(deadline).unwrap());
            let options = PendingOptions {
                timeout: TIMEOUT,
                ttl: Duration::from_millis(1),
                scratch: true,
                cache: CACHE,
            };
            Pending::new(
                client.unwrap(),
                (Arc::new(journal), kept),
                Arc::new(Tickets::default()),
                options,
                listener.clone(),
            )
        };
        Self {
            own: start("own", line.clone()),
            other: start("other", transport),
            slow,
            place: (pool, identity),
            line,
            listener: listener.clone(),
        }
    }

    pub fn dataset(&self, pending: &Arc<Pending>) -> Arc<PendingDataset> {
        self.named(pending, "d")
    }

    pub fn named(&self, pending: &Arc<Pending>, name: &str) -> Arc<PendingDataset> {
        let (pool, identity) = self.place.clone();
        pending.dataset(&(pool, identity, name.parse().unwrap()))
    }

    pub fn set_disk(&self, millis: u64) {
        self.slow.disk.store(millis, Ordering::Relaxed);
    }
}

pub fn change(dataset: &PendingDataset, name: &str, kind: Kind) -> Change {
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

pub fn whole(text: &str) -> Kind {
    Kind::Whole(text.as_bytes().into())
}

pub fn value(dataset: &PendingDataset, name: &str) -> Option<String> {
    let value = dataset.view(&RecordKey::new(name).unwrap()).value?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

pub async fn make(
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

pub async fn refresh(dataset: &Arc<PendingDataset>) {
    tokio::time::sleep(Duration::from_millis(5)).await;
    let deadline = tokio::time::Instant::now().into_std() + TIMEOUT;
    dataset.refresh(deadline).await.unwrap();
}

/// Notes the rename of a record to its backup, as an editor does.
pub async fn back_up(dataset: &Arc<PendingDataset>, text: &str) {
    let set = change(dataset, "k~", whole(text));
    let removal = change(dataset, "k", Kind::Remove);
    make(dataset, vec![set, removal], Commit::Close)
        .await
        .unwrap();
}
