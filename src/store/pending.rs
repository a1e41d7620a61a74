//! What is not yet sent, of all datasets of a mount: their order, their journal, and who is told.
//!
//! Invariant: lock order is the table of datasets, then dataset, then order of groups; never two
//! datasets; none across an await.
//! A group is in the journal before its caller is answered, and out of it only when it was decided
//! and what is to be kept of it is kept. Nothing else uses it yet.

mod back_off;
mod dataset;
mod held;
mod running;
mod sending;
mod telling;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::cache::lock;
use super::error::{Error, ErrorKind};
use super::journals::{
    JournalError, Loaded, LoadedGroup, MountJournal, NewParked, ParkedFile, Terms, Whereabouts,
};
use crate::api::{Client, Surroundings};
use crate::sync::pending::recovery::{Recovered, Unreadable, kept_back};
use crate::sync::pending::{Barrier, DatasetId, Event, Places, Refusal, Ticket};

use dataset::FIRST_PAUSE;
pub use dataset::{Answer, InLine, PendingDataset};
use held::Datasets;
use telling::Owed;

/// How what is pending is treated.
#[derive(Clone, Copy, Debug)]
pub struct PendingOptions {
    /// How long any operation may take.
    pub timeout: Duration,
    /// How long a listing is served without asking again.
    pub ttl: Duration,
    /// Whether editors' files are held back.
    pub scratch: bool,
    /// How many bytes are kept of datasets of which nothing is pending.
    pub cache: usize,
}

/// Is told what became of groups, before whoever waits for them is answered. What it returns is kept
/// before that, too: nothing else has it.
pub trait Continuation: fmt::Debug + Send + Sync {
    /// The journal has what was staged under a ticket: it stays, whoever waits for it. Of what goes
    /// only while somebody waits, the journal may have a part that was split from it, which is not
    /// told.
    fn handle_noted(&self, dataset: &PendingDataset, ticket: Ticket);

    /// The journal could not take what was staged under a ticket: it is its writer's again.
    fn handle_not_noted(
        &self,
        dataset: &PendingDataset,
        ticket: Ticket,
        why: &Refusal,
    ) -> Vec<NewParked>;

    /// A group was decided, or its changes are its writer's again.
    fn handle(&self, dataset: &PendingDataset, event: &Event) -> Vec<NewParked>;
}

/// Makes tickets. No two of a process are the same.
#[derive(Debug, Default)]
pub struct Tickets(AtomicU64);

impl Tickets {
    pub fn fresh(&self) -> Ticket {
        Ticket(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Pending {
    client: Client,
    journal: Arc<MountJournal>,
    kept: Arc<ParkedFile>,
    options: PendingOptions,
    tickets: Arc<Tickets>,
    continuation: Arc<dyn Continuation>,
    /// What removals and renames wait for. Taken last, for a moment.
    barrier: Mutex<Barrier>,
    /// What is to be kept of refused groups as soon as there is room on the disk, first things
    /// first. Taken alone.
    owed: Mutex<VecDeque<Owed>>,
    /// The datasets in memory. Taken before any of theirs.
    datasets: Mutex<Datasets>,
}

impl Pending {
    pub fn new(
        client: Client,
        (journal, kept): (Arc<MountJournal>, Arc<ParkedFile>),
        tickets: Arc<Tickets>,
        options: PendingOptions,
        continuation: Arc<dyn Continuation>,
    ) -> Arc<Self> {
        Arc::new(Self {
            client,
            journal,
            kept,
            options,
            tickets,
            continuation,
            barrier: Mutex::default(),
            owed: Mutex::default(),
            datasets: Mutex::new(Datasets::new(options.cache)),
        })
    }

    pub fn options(&self) -> PendingOptions {
        self.options
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    fn surroundings(&self) -> &Arc<dyn Surroundings> {
        self.client.surroundings()
    }

    fn now(&self) -> Instant {
        self.surroundings().now()
    }

    /// Returns when an operation that begins now must have ended.
    pub fn deadline(&self) -> Instant {
        self.now() + self.options.timeout
    }

    /// Returns a dataset; whether it exists is not asked.
    pub fn dataset(self: &Arc<Self>, place: &Whereabouts) -> Arc<PendingDataset> {
        let make = |id, life| PendingDataset::new(self.clone(), place.clone(), (id, life));
        lock(&self.datasets).find(place, make)
    }

    /// Returns how many bytes are in memory of datasets of which nothing is pending.
    pub fn cached(&self) -> usize {
        lock(&self.datasets).bytes()
    }

    fn all(&self) -> Vec<Arc<PendingDataset>> {
        lock(&self.datasets).all()
    }

    /// Returns a dataset that was asked for before, and is in memory.
    pub fn by_id(&self, id: DatasetId) -> Option<Arc<PendingDataset>> {
        lock(&self.datasets).by_id(id)
    }

    /// Has datasets look whether something may go now.
    fn wake(&self, ids: BTreeSet<DatasetId>) {
        for dataset in ids.into_iter().filter_map(|id| self.by_id(id)) {
            dataset.go_on();
        }
    }

    /// Ends the holds of what others wait for.
    fn end_wanted_holds(&self) {
        let wanted = lock(&self.barrier).take_wanted();
        for (id, ticket) in wanted {
            if let Some(dataset) = self.by_id(id) {
                dataset.end_holds(Some(ticket));
            }
        }
    }

    /// Takes over what earlier processes left in journals that nobody holds. Returns how many groups
    /// are kept back, because something cannot be read.
    ///
    /// # Errors
    /// Why the journals cannot be read.
    pub async fn take_over(self: &Arc<Self>, deadline: Instant) -> Result<usize, Error> {
        let tickets = self.tickets.clone();
        let take = move |journal: &MountJournal| {
            let terms = Terms {
                wanted: &|_| true,
                fresh: &|| tickets.fresh(),
            };
            journal.take_over(&terms, deadline)
        };
        let taken = self.journal(take).await?;
        for trouble in &taken.troubles {
            tracing::warn!(%trouble, "a journal stays as it is");
        }
        Ok(self.put_first(taken.loaded))
    }

    fn put_first(self: &Arc<Self>, loaded: Loaded) -> usize {
        let unreadable = loaded.unreadable.iter().map(|group| Unreadable {
            ticket: group.ticket,
            place: group.first_set,
        });
        let unreadable: Vec<Unreadable> = unreadable.collect();
        let groups: Vec<(Whereabouts, Recovered)> =
            loaded.groups.into_iter().map(recovered).collect();
        let all: Vec<Recovered> = groups.iter().map(|(_, group)| group.clone()).collect();
        let kept = kept_back(&all, &unreadable);
        let mut by_place: BTreeMap<Whereabouts, Vec<Recovered>> = BTreeMap::new();
        for (place, group) in groups {
            if !kept.contains(&group.note.ticket) {
                by_place.entry(place).or_default().push(group);
            }
        }
        for (place, groups) in by_place {
            self.dataset(&place).take_over(groups);
        }
        kept.len()
    }

    /// Ends all holds but litter's, and waits until everything is decided, at most until a deadline.
    /// Returns how many groups are left.
    pub async fn drain(&self, deadline: Instant) -> usize {
        for dataset in self.all() {
            dataset.end_holds(None);
        }
        let mut left = 0;
        for dataset in self.all() {
            let ended = tokio::time::timeout_at(deadline.into(), dataset.settled()).await;
            left += if ended.is_err() {
                dataset.count().max(1)
            } else {
                0
            };
        }
        while !lock(&self.owed).is_empty() && self.now() < deadline {
            self.surroundings().sleep(FIRST_PAUSE).await;
        }
        left + lock(&self.owed).len()
    }

    /// Returns what lies in the journal.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn rows(&self) -> Result<Vec<LoadedGroup>, Error> {
        Ok(self.journal.load()?.groups)
    }

    /// Asks the journal, which waits for the disk, on a thread that may.
    async fn journal<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&MountJournal) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, Error> {
        let journal = self.journal.clone();
        let asked = self.surroundings().wait_for(move || ask(&journal)).await;
        match asked {
            Some(answer) => Ok(answer?),
            // It panicked, which was told where panics are.
            None => Err(ErrorKind::Failed.into()),
        }
    }
}

fn recovered(group: LoadedGroup) -> (Whereabouts, Recovered) {
    let mut changes = group.note.changes.iter();
    let has_sets = changes.any(|noted| noted.change.kind.is_set());
    let places = Places {
        first_set: has_sets.then_some(group.first_set),
        last: group.place,
    };
    let note = group.note;
    (group.whereabouts, Recovered { note, places })
}
