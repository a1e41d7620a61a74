//! What all processes of a world share: the service, the disk, and the other client's view of both.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cognitofs::api::{
    Client, ClientOptions, Credentials, CredentialsSource, Endpoints, Surroundings, Transport,
};
use cognitofs::cli::in_process::InProcess;
use cognitofs::server::service::Service;
use cognitofs::server::storage::Storage;
use cognitofs::store::journals::{
    Journals, MemoryDisk, MountJournal, ParkedFile, Process, Whereabouts,
};
use cognitofs::store::pending::{Continuation, Pending, PendingOptions, Tickets};
use cognitofs::wire::datasets::DeleteDataset;
use cognitofs::wire::identity_pools::DeleteIdentities;
use cognitofs::wire::names::{IdentityId, PoolId};
use cognitofs::wire::records::{
    ListRecords, RecordPatch, Records, UpdateRecords, UpdateRecordsBody,
};

use super::net::{Faults, Net, OfProcess, Weather};
use super::operation::TIMEOUT;
use super::seeded::Seeded;

pub const DATASETS: usize = 3;

pub fn ids() -> (PoolId, IdentityId) {
    let id = |last: u32| format!("us-east-1:00000000-0000-4000-8000-{last:012}");
    (id(1).parse().unwrap(), id(2).parse().unwrap())
}

/// Returns where a dataset is, by its number.
pub fn place(of: usize) -> Whereabouts {
    let (pool, identity) = ids();
    (pool, identity, format!("d{of}").parse().unwrap())
}

/// See the module's documentation.
pub struct Source {
    pub seeded: Arc<Seeded>,
    pub transport: Arc<InProcess>,
    service: Arc<Service>,
    credentials: Credentials,
    pub disk: MemoryDisk,
    /// In so many of a hundred cases a process ends before or after it writes.
    crashes: Arc<AtomicU64>,
    /// How many processes ended so.
    pub crashed: Arc<AtomicU64>,
    pub weather: Arc<Weather>,
    /// Counts processes, which names their journals.
    started: AtomicU64,
}

/// One process, and how it is ended.
pub struct Living {
    pub pending: Arc<Pending>,
    pub journal: Arc<MountJournal>,
    pub kept: Arc<ParkedFile>,
    pub net: Arc<Net>,
    pub surroundings: Arc<OfProcess>,
    pub process: Process,
}

impl Source {
    /// Begins a world in which so many of a hundred writes end their process.
    pub fn new(seeded: Arc<Seeded>, crashes: u64) -> Self {
        let service = Service::new(Storage::in_memory().unwrap());
        let (pool, identity) = ids();
        let now = seeded.date().into();
        service.add_identity_pool(&pool, "test", now).unwrap();
        service.add_identity(&pool, &identity, now).unwrap();
        let developer = service.developer_credentials();
        let (id, secret) = (&developer.access_key_id, &developer.secret_key);
        let credentials = Credentials::new(id, secret, None, None, "test");
        let service = Arc::new(service);
        let transport = Arc::new(InProcess::new(service.clone(), seeded.clone()));
        let disk = MemoryDisk::new();
        let crashes = Arc::new(AtomicU64::new(crashes));
        let crashed = Arc::new(AtomicU64::new(0));
        let (dice, percent, count) = (seeded.clone(), crashes.clone(), crashed.clone());
        disk.on_write(move |written| {
            if dice.below(100) < percent.load(Ordering::Relaxed) {
                written.process.crash();
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self {
            transport,
            service,
            credentials,
            disk,
            crashes,
            crashed,
            weather: Arc::default(),
            started: AtomicU64::new(0),
            seeded,
        }
    }

    /// No process ends by itself any more.
    pub fn calm_down(&self) {
        self.disk.set_full(false);
        self.crashes.store(0, Ordering::Relaxed);
        self.weather.clear();
    }

    pub fn client(
        &self,
        transport: Arc<dyn Transport>,
        surroundings: Arc<dyn Surroundings>,
    ) -> Client {
        let url = Some("http://localhost:1");
        let options = ClientOptions {
            region: "us-east-1".parse().unwrap(),
            endpoints: Endpoints::find("us-east-1", url, |_| None).unwrap(),
            credentials: CredentialsSource::Fixed(self.credentials.clone()),
            concurrency: 4,
            timeout: TIMEOUT,
            surroundings,
            transport: Some(transport),
        };
        Client::new(options).unwrap()
    }

    /// Returns a client whose calls meet nothing.
    pub fn other_client(&self) -> Client {
        self.client(self.transport.clone(), self.seeded.clone())
    }

    /// Starts a process, which takes over nothing yet; None if it ended while it did.
    pub fn begin(&self, faults: Faults, continuation: Arc<dyn Continuation>) -> Option<Living> {
        let number = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        let surroundings = Arc::new(OfProcess::new(self.seeded.clone()));
        let process = self.disk.process();
        let (transport, seeded) = (self.transport.clone(), self.seeded.clone());
        let weather = self.weather.clone();
        let net = Arc::new(Net::new(
            transport,
            seeded,
            process.clone(),
            faults,
            weather,
        ));
        let clock = self.seeded.clone();
        let journals = Journals::new(process.disk(), move || clock.now());
        let deadline = self.seeded.now() + TIMEOUT;
        let made = self.seeded.date().into();
        let journal = journals.open(&format!("j{number}"), made, deadline).ok()?;
        let journal = Arc::new(journal);
        let kept = Arc::new(journals.parked(deadline).ok()?);
        let client = self.client(net.clone(), surroundings.clone());
        let options = PendingOptions {
            timeout: TIMEOUT,
            ttl: Duration::from_secs(1),
            scratch: true,
            // Whatever can go goes.
            cache: 1,
        };
        let pending = Pending::new(
            client,
            (journal.clone(), kept.clone()),
            Arc::new(Tickets::default()),
            options,
            continuation,
        );
        Some(Living {
            pending,
            journal,
            kept,
            net,
            surroundings,
            process,
        })
    }

    pub async fn list(&self, client: &Client, of: usize) -> Records {
        let (pool, identity, dataset) = place(of);
        let list = ListRecords {
            pool,
            identity,
            dataset,
            last_sync_count: Some(0),
            next_token: None,
            max_results: None,
            sync_session_token: None,
        };
        let deadline = self.seeded.now() + TIMEOUT;
        client.call(&list, deadline).await.unwrap()
    }

    /// The other client makes a change on the listing that it saw last.
    pub async fn update(
        &self,
        client: &Client,
        of: usize,
        patch: RecordPatch,
        token: Option<String>,
    ) {
        let (pool, identity, dataset) = place(of);
        let update = UpdateRecords {
            pool,
            identity,
            dataset,
            client_context: None,
            body: UpdateRecordsBody {
                device_id: None,
                record_patches: vec![patch],
                sync_session_token: token,
            },
        };
        let deadline = self.seeded.now() + TIMEOUT;
        client.call(&update, deadline).await.unwrap();
    }

    /// The other client deletes a dataset. If its counts begin again after that, all datasets go.
    pub async fn delete(&self, client: &Client, of: usize, restarts: bool) {
        let (pool, identity, dataset) = place(of);
        let deadline = self.seeded.now() + TIMEOUT;
        if restarts {
            let identities = DeleteIdentities {
                identity_ids_to_delete: vec![identity.clone()],
            };
            client.call(&identities, deadline).await.unwrap();
            let now = self.seeded.date().into();
            self.service.add_identity(&pool, &identity, now).unwrap();
            return;
        }
        let deletion = DeleteDataset {
            pool,
            identity,
            dataset,
        };
        // It may not be there.
        let _ = client.call(&deletion, deadline).await;
    }
}

impl Living {
    /// Nothing of it happens any more.
    pub fn kill(self) {
        self.process.crash();
        self.surroundings.end();
    }
}
