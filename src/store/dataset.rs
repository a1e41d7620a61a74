//! The driver of one dataset: takes the lock, asks the pure state for the next step, drops the
//! lock, does it, takes the lock again.
//!
//! At most one exchange with the service is under way for a dataset. The task that makes it lives
//! only while there is something to do.

mod deletion;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::cache::{Store, lock};
use super::error::{Error, ErrorKind};
use super::identity::Identity;
use super::waiters::{Commit, Inner, Verdict, Waiter};
use crate::api;
use crate::sync::{
    Base, Change, DatasetState, Left, Listing, Remote, Replaced, Shown, Step, Ticket,
};
use crate::wire::names::{DatasetName, IdentityId, RecordKey};
use crate::wire::records::{ListRecords, RecordPatch, UpdateRecords, UpdateRecordsBody};
use crate::wire::timestamp::Timestamp;

/// How many records one page is asked to hold.
const PAGE: i64 = 1024;

/// How recent a listing must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Any that is younger than `ttl`.
    Ttl,
    /// One that begins after this moment.
    Now,
}

/// A record and what a change of it that begins now has as its base.
#[derive(Clone, Debug)]
pub struct Record {
    pub remote: Remote,
    pub base: Base,
}

/// A dataset of an identity.
#[derive(Debug)]
pub struct Dataset {
    identity: Arc<Identity>,
    name: DatasetName,
    inner: Mutex<Inner>,
    /// Lets a version be kept or let go after another.
    pub(super) keeping: tokio::sync::Mutex<()>,
    /// Ends a pause of the task that makes the exchanges.
    wake: tokio::sync::Notify,
}

impl Dataset {
    pub(super) fn new(identity: Arc<Identity>, name: DatasetName) -> Arc<Self> {
        let life = identity.store().life(identity.id(), &name);
        let inner = Inner {
            state: DatasetState::with_life(life),
            ..Inner::default()
        };
        Arc::new(Self {
            identity,
            name,
            inner: Mutex::new(inner),
            keeping: tokio::sync::Mutex::new(()),
            wake: tokio::sync::Notify::new(),
        })
    }

    pub fn name(&self) -> &DatasetName {
        &self.name
    }

    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        self.identity.store()
    }

    pub(super) fn key(&self) -> (IdentityId, DatasetName) {
        (self.identity.id().clone(), self.name.clone())
    }

    /// Returns whether the last listing is younger than `ttl`.
    pub fn is_fresh(&self) -> bool {
        let ttl = self.store().options().ttl;
        lock(&self.inner).state.is_fresh(self.store().now(), ttl)
    }

    /// Returns what is left of the last listing's `ttl`.
    pub fn freshness(&self) -> Duration {
        let ttl = self.store().options().ttl;
        lock(&self.inner).state.freshness(self.store().now(), ttl)
    }

    /// Returns whether the service was last seen to have it.
    pub fn exists(&self) -> bool {
        lock(&self.inner).state.exists()
    }

    /// Returns whether it was made here and has no record yet.
    pub fn is_made(&self) -> bool {
        self.identity.is_made(&self.name)
    }

    /// Returns a record as last listed.
    pub fn record(&self, key: &RecordKey) -> Option<Record> {
        let inner = lock(&self.inner);
        let remote = inner.state.record(key)?.clone();
        let base = inner.state.base(key);
        Some(Record { remote, base })
    }

    /// Returns the base of a change of a key that was just seen to be absent.
    pub fn absent_base(&self) -> Base {
        Base {
            life: lock(&self.inner).state.life(),
            shown: Shown::Absent,
        }
    }

    /// Returns what the next process is to know of a change with this base, if this one leaves it.
    pub fn left(&self, key: &RecordKey, base: Base) -> Left {
        let is_made = self.is_made();
        let inner = lock(&self.inner);
        let state = &inner.state;
        let same_life = base.life == state.life();
        let is_new = same_life && !state.exists() && (state.is_listed() || is_made);
        Left {
            existed: !is_new || base.shown != Shown::Absent,
            sync_count: state.sync_count(key).filter(|_| same_life),
        }
    }

    /// Returns a key that `wanted` is true of.
    pub fn find_key(&self, wanted: impl Fn(&RecordKey) -> bool) -> Option<RecordKey> {
        let inner = lock(&self.inner);
        let mut keys = inner.state.records().map(|(key, _)| key);
        keys.find(|key| wanted(key)).cloned()
    }

    /// Returns whether a change of `key` is on its way, or may be.
    pub(super) fn is_changing(&self, key: &RecordKey) -> bool {
        lock(&self.inner).state.is_changing(key)
    }

    /// Returns what a change of `key` that begins now has as its base.
    pub fn base(&self, key: &RecordKey) -> Base {
        lock(&self.inner).state.base(key)
    }

    /// Returns whether there is a record with `key`, as last listed.
    pub fn has(&self, key: &RecordKey) -> bool {
        lock(&self.inner).state.record(key).is_some()
    }

    /// Returns all records as last listed, by key.
    pub fn records(&self) -> Vec<(RecordKey, Record)> {
        let inner = lock(&self.inner);
        let record = |(key, remote): (&RecordKey, &Remote)| {
            let base = inner.state.base(key);
            let remote = remote.clone();
            (key.clone(), Record { remote, base })
        };
        inner.state.records().map(record).collect()
    }

    /// Returns when the service last saw a record change.
    pub fn modified(&self) -> Option<Timestamp> {
        lock(&self.inner).state.modified()
    }

    /// Returns whether the records are in memory, however old the listing is.
    pub fn is_listed(&self) -> bool {
        lock(&self.inner).state.is_listed()
    }

    /// Drops the outcome of changes that nobody will ask for any more.
    pub fn forget(&self, ticket: Ticket) {
        let mut inner = lock(&self.inner);
        if inner.outcomes.remove(&ticket).is_none() && inner.state.has(ticket) {
            inner.forgotten.insert(ticket);
        }
    }

    /// Returns how many bytes of keys and values, and how many records, it holds.
    pub fn usage(&self) -> (usize, usize) {
        let inner = lock(&self.inner);
        (inner.state.bytes(), inner.state.records().count())
    }

    /// It was just made here, as it was seen not to be there: that it has no records need not be asked.
    pub(super) fn note_made(&self) {
        let now = self.store().now();
        lock(&self.inner).state.handle_absent(now);
    }

    /// A listing of datasets lacks it: it is looked at before anything is sent to it.
    pub(super) fn note_absent(&self) {
        lock(&self.inner).state.drop_token();
    }

    pub(super) fn evict(&self) {
        lock(&self.inner).state.evict();
    }

    /// Waits for a listing that is recent enough, made once for all who wait.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] at `deadline`, else why it cannot be listed.
    pub async fn refresh(
        self: &Arc<Self>,
        freshness: Freshness,
        deadline: Instant,
    ) -> Result<(), Error> {
        let listed = {
            let mut inner = lock(&self.inner);
            let ttl = self.store().options().ttl;
            let now = self.store().now();
            let hit = freshness == Freshness::Ttl && inner.state.is_fresh(now, ttl);
            self.store().uses.note(hit);
            if hit {
                return Ok(());
            }
            let joins = inner.listing && freshness == Freshness::Ttl;
            if !joins {
                inner.state.want_list();
            }
            let wanted = inner.lists_begun + u64::from(!joins);
            let (sender, receiver) = oneshot::channel();
            let waiter = Waiter { sender, deadline };
            inner.list_waiters.push((wanted, waiter));
            self.start(&mut inner);
            receiver
        };
        match tokio::time::timeout_at(deadline.into(), listed).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(ErrorKind::Failed.into()),
            Err(_) => Err(self.why_late()),
        }
    }

    /// Returns why somebody waited for this dataset in vain until his deadline.
    pub fn why_late(&self) -> Error {
        lock(&self.inner).timed_out()
    }

    /// Notes what a call was told that goes on.
    fn note_trouble(&self, error: &api::Error) {
        lock(&self.inner).trouble = Some(error.clone().into());
    }

    /// Puts changes that must succeed or fail together in line, and returns where to ask for
    /// their outcome.
    pub fn submit(self: &Arc<Self>, changes: Vec<Change>) -> Ticket {
        lock(&self.inner).state.stage(changes)
    }

    /// Waits until changes were made or refused; one [`Landed`] for each change.
    ///
    /// # Errors
    /// See [`Commit`].
    pub async fn outcome(self: &Arc<Self>, ticket: Ticket, deadline: Instant) -> Verdict {
        let mut receiver = {
            let mut inner = lock(&self.inner);
            if let Some(verdict) = inner.outcomes.remove(&ticket) {
                return verdict;
            }
            if !inner.state.await_again(ticket) {
                return Err(gone());
            }
            let (sender, receiver) = oneshot::channel();
            inner.waiters.insert(ticket, Waiter { sender, deadline });
            self.start(&mut inner);
            receiver
        };
        if let Ok(verdict) = tokio::time::timeout_at(deadline.into(), &mut receiver).await {
            return verdict.unwrap_or_else(|_| Err(gone()));
        }
        let mut inner = lock(&self.inner);
        if let Ok(verdict) = receiver.try_recv() {
            return verdict;
        }
        inner.waiters.remove(&ticket);
        let undecided = !inner.state.abandon(ticket);
        Err(Commit {
            error: inner.timed_out(),
            ticket: undecided.then_some(ticket),
        })
    }

    /// Makes changes that must succeed or fail together.
    ///
    /// # Errors
    /// See [`Commit`].
    pub async fn commit(self: &Arc<Self>, changes: Vec<Change>, deadline: Instant) -> Verdict {
        let ticket = self.submit(changes);
        self.outcome(ticket, deadline).await
    }

    fn start(self: &Arc<Self>, inner: &mut Inner) {
        if inner.running {
            self.wake.notify_one();
        } else {
            inner.running = true;
            inner.trouble = None;
            let running = Running(self.clone());
            let run = Box::pin(async move { running.0.run().await });
            self.store().surroundings().spawn(run);
        }
    }

    async fn run(self: &Arc<Self>) {
        let mut again = 0;
        loop {
            match self.next_step() {
                Step::List { since } => self.list(since).await,
                Step::Update {
                    patches,
                    token,
                    replaced,
                } => match self.keep_and_update(replaced, patches, token).await {
                    Sent::Answered => again = 0,
                    Sent::Again => {
                        again += 1;
                        let until = self.store().now() + self.pause(again);
                        lock(&self.inner).state.hold_updates(until);
                    }
                },
                Step::Wait { until } => {
                    // Whoever wants a listing meanwhile wakes it.
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep_until(until.into()) => {}
                        () = self.wake.notified() => {}
                    }
                }
                Step::Delete => match self.make_deletion().await {
                    Sent::Answered => again = 0,
                    Sent::Again => {
                        again += 1;
                        let pause = self.pause(again);
                        tokio::select! {
                            biased;
                            () = self.store().surroundings().sleep(pause) => {}
                            () = self.wake.notified() => {}
                        }
                    }
                },
                Step::RefuseDeletion => {
                    lock(&self.inner).resolve_deletions(&Err(ErrorKind::NotEmpty.into()));
                }
                Step::Idle => return,
            }
        }
    }

    /// Returns how long to wait before something is tried again: whoever comes meanwhile must still
    /// have his turn in time.
    fn pause(&self, again: u32) -> Duration {
        let store = self.store();
        store.client().pause(again).min(store.options().timeout / 4)
    }

    fn next_step(&self) -> Step {
        let mut inner = lock(&self.inner);
        let step = inner.state.next_step(self.store().now());
        inner.deliver();
        match step {
            Step::Idle => inner.running = false,
            Step::List { .. } => {
                inner.lists_begun += 1;
                inner.listing = true;
            }
            Step::Update { .. } | Step::Delete | Step::RefuseDeletion | Step::Wait { .. } => {}
        }
        step
    }

    /// Bases outlive this object, so the life they belong to must as well.
    fn note_life(&self) {
        let life = lock(&self.inner).state.life();
        self.store().note_life(self.identity.id(), &self.name, life);
    }

    async fn list(self: &Arc<Self>, since: i64) {
        let at = self.store().now();
        let listed = self.list_pages(since, self.store().deadline()).await;
        let bytes = {
            let mut inner = lock(&self.inner);
            inner.listing = false;
            match listed {
                Ok(listing) => {
                    inner.state.handle_listed(listing, at);
                    inner.note_listed();
                }
                Err(api::Error::Fault(fault)) if fault.is_unknown_sync_count() && since > 0 => {
                    inner.state.handle_unknown_sync_count();
                }
                Err(error) => inner.fail(error.into()),
            }
            inner.deliver();
            if inner.state.is_listed() {
                let done = inner.lists_begun;
                inner.resolve_lists(done, &Ok(()));
            }
            inner.state.bytes()
        };
        self.note_life();
        if self.exists() {
            self.store().note_seen(self.identity.id());
            self.identity.note_exists(&self.name);
        }
        self.store().note_kept(self, bytes);
    }

    async fn list_pages(&self, since: i64, deadline: Instant) -> Result<Listing, api::Error> {
        let mut listing = Listing {
            since,
            ..Listing::default()
        };
        let mut operation = ListRecords {
            pool: self.identity.pool().clone(),
            identity: self.identity.id().clone(),
            dataset: self.name.clone(),
            last_sync_count: Some(since),
            next_token: None,
            max_results: Some(PAGE),
            sync_session_token: None,
        };
        let mut first = true;
        loop {
            let wanted = || lock(&self.inner).is_awaited(self.store().now());
            let page = self
                .store()
                .client()
                .call_while(&operation, deadline, wanted, |error| {
                    self.note_trouble(error);
                })
                .await?;
            if first {
                listing.sync_count = page.dataset_sync_count;
                first = false;
            }
            listing.exists = page.dataset_exists;
            listing.deleted_after |= page.dataset_deleted_after_requested_sync_count;
            listing.records.extend(page.records);
            listing.token = page.sync_session_token;
            operation.next_token = page.next_token;
            if operation.next_token.is_none() {
                return Ok(listing);
            }
        }
    }

    /// Nothing that nobody here has seen is replaced before it is kept.
    async fn keep_and_update(
        self: &Arc<Self>,
        replaced: Vec<Replaced>,
        patches: Vec<RecordPatch>,
        token: String,
    ) -> Sent {
        if let Err(error) = self.keep_replaced(replaced).await {
            let mut inner = lock(&self.inner);
            inner.state.handle_not_sent();
            inner.fail(error);
            inner.deliver();
            return Sent::Answered;
        }
        self.update(patches, token).await
    }

    async fn update(self: &Arc<Self>, patches: Vec<RecordPatch>, token: String) -> Sent {
        let operation = UpdateRecords {
            pool: self.identity.pool().clone(),
            identity: self.identity.id().clone(),
            dataset: self.name.clone(),
            client_context: None,
            body: UpdateRecordsBody {
                device_id: None,
                record_patches: patches,
                sync_session_token: Some(token),
            },
        };
        let sent_at = self.store().now();
        let deadline = lock(&self.inner).update_deadline();
        let deadline = deadline.unwrap_or_else(|| self.store().deadline());
        let wanted = || lock(&self.inner).is_update_awaited(self.store().now());
        let answer = self
            .store()
            .client()
            .call_while(&operation, deadline, wanted, |error| {
                self.note_trouble(error);
            })
            .await;
        let mut created = None;
        let sent = {
            let mut inner = lock(&self.inner);
            let existed = inner.state.exists();
            inner.trouble = None;
            let sent = match answer {
                Ok(answer) => {
                    if !existed {
                        let dates = answer.records.iter();
                        created = dates.filter_map(|record| record.last_modified_date).max();
                    }
                    inner.state.handle_updated(answer.records, sent_at);
                    Sent::Answered
                }
                Err(error) if error.is_unsure() => {
                    tracing::warn!(%error, "no telling whether an update was made");
                    inner.trouble = Some(error.into());
                    inner.state.handle_lost();
                    Sent::Again
                }
                Err(api::Error::Fault(fault)) => {
                    // Those behind it in line wait for the same.
                    let throttled = fault.is_throttle().then(|| fault.clone());
                    inner.trouble = throttled.map(|fault| api::Error::from(fault).into());
                    let again = fault.is_conflict() || fault.is_session_token();
                    inner.state.handle_refused(fault);
                    match again {
                        true => Sent::Again,
                        false => Sent::Answered,
                    }
                }
                Err(error) => {
                    inner.state.handle_not_sent();
                    inner.fail(error.into());
                    Sent::Answered
                }
            };
            inner.deliver();
            sent
        };
        if let Some(modified) = created {
            self.store().note_seen(self.identity.id());
            self.identity.note_created(&self.name, modified);
        }
        sent
    }
}

/// The task that makes the exchanges. However it ends, nobody is left waiting for it.
struct Running(Arc<Dataset>);

impl Drop for Running {
    fn drop(&mut self) {
        let mut inner = lock(&self.0.inner);
        if std::thread::panicking() {
            inner.running = false;
            inner.listing = false;
            inner.state.handle_lost();
            inner.fail(ErrorKind::Failed.into());
        }
    }
}

/// What came of sending an update or a deletion.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Answered,
    /// It may have to be sent again, after a pause.
    Again,
}

fn gone() -> Commit {
    Commit {
        error: ErrorKind::Failed.into(),
        ticket: None,
    }
}
