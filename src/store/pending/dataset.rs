//! The driver of one dataset: takes the lock, asks the pure state for the next step, drops the
//! lock, does it, takes the lock again.
//!
//! At most one exchange with the service is under way for a dataset. The task that makes it lives
//! only while there is something to do.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};

use super::super::cache::lock;
use super::super::error::{Error, ErrorKind};
use super::super::journals::{MountJournal, Whereabouts};
use super::Pending;
use super::running::Running;
use super::waiting::{Decided, Inner, Staging, Waiter};
use crate::sync::pending::recovery::Recovered;
use crate::sync::pending::{
    Change, Commit, DatasetId, DatasetState, How, Refusal, Staged, Step, Ticket, View,
};
use crate::wire::names::RecordKey;

/// The shortest pause after something that stays pending was tried in vain.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longer than any pause.
pub(super) const ANY_PAUSE: Duration = Duration::MAX;

/// What the caller of a change is told.
#[derive(Debug)]
pub struct Answer {
    /// Names the group, which a version it makes is called by until it is decided.
    pub ticket: Ticket,
    /// Why it is not made, or not known to be.
    pub result: Result<(), Error>,
}

/// Changes that are in line. [`PendingDataset::see_through`] is due at once: until then others of the
/// same keys wait.
#[derive(Debug)]
#[must_use]
pub struct InLine {
    ticket: Ticket,
    /// What the journal is to be asked.
    staged: Staged,
    /// Tells the outcome, if its caller is to wait for that.
    decided: Option<Decided>,
}

impl InLine {
    /// Names the group, which a version it makes is called by until it is decided.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }
}

/// A dataset of an identity, and what waits to be sent to it.
#[derive(Debug)]
pub struct PendingDataset {
    pending: Arc<Pending>,
    place: Whereabouts,
    inner: Mutex<Inner>,
    /// Ends a pause of the task that makes the exchanges.
    wake: Notify,
    /// Tells that a group was decided, or noted.
    pub(super) ended: Notify,
}

impl PendingDataset {
    pub(super) fn new(
        pending: Arc<Pending>,
        place: Whereabouts,
        (id, life): (DatasetId, u32),
    ) -> Arc<Self> {
        let state = DatasetState::new(id, life, pending.options.scratch);
        Arc::new(Self {
            pending,
            place,
            inner: Mutex::new(Inner::new(state)),
            wake: Notify::new(),
            ended: Notify::new(),
        })
    }

    pub fn place(&self) -> &Whereabouts {
        &self.place
    }

    /// Returns its name in the order of all groups.
    pub(super) fn id(&self) -> DatasetId {
        self.read(DatasetState::id)
    }

    /// Returns how many bytes it holds if it could be let go.
    pub(super) fn clean_bytes(&self) -> Option<usize> {
        let inner = self.lock();
        inner.is_clean().then(|| inner.state.bytes())
    }

    /// Forgets the records, if it can be let go. Returns which life of the dataset that was.
    pub(super) fn evict(&self) -> Option<u32> {
        let mut inner = self.lock();
        let is_evicted = inner.is_clean() && inner.state.evict();
        is_evicted.then(|| inner.state.life())
    }

    pub(super) fn pending(&self) -> &Arc<Pending> {
        &self.pending
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Returns what is shown of a key.
    pub fn view(&self, key: &RecordKey) -> View {
        self.lock().state.view(key)
    }

    /// Looks at the state, and changes nothing.
    pub fn read<T>(&self, look: impl FnOnce(&DatasetState) -> T) -> T {
        look(&self.lock().state)
    }

    /// Returns how many groups are pending, litter excepted.
    pub fn count(&self) -> usize {
        self.lock().state.pending().count()
    }

    pub(super) fn take_over(self: &Arc<Self>, left: Vec<Recovered>) {
        let now = self.pending.now();
        {
            let mut inner = self.lock();
            let mut barrier = lock(&self.pending.barrier);
            inner.state.take_over(left, now, &mut barrier);
        }
        self.go_on();
    }

    /// Ends holds: all but litter's, or one group's.
    pub fn end_holds(self: &Arc<Self>, of: Option<Ticket>) {
        let now = self.pending.now();
        self.lock().state.end_holds(of, now);
        self.go_on();
    }

    /// Says whether a file of a name is open for writing.
    pub fn set_open(self: &Arc<Self>, key: &RecordKey, open: bool) {
        self.lock().state.set_open(key, open);
        self.go_on();
    }

    /// Waits until nothing is pending, litter excepted, and what happened was told.
    pub async fn settled(&self) {
        loop {
            let ended = self.ended.notified();
            if self.lock().is_quiet() {
                return;
            }
            ended.await;
        }
    }

    /// Has the task look for something to do.
    pub(super) fn go_on(self: &Arc<Self>) {
        let mut inner = self.lock();
        self.start(&mut inner);
    }

    fn start(self: &Arc<Self>, inner: &mut Inner) {
        inner.poked = true;
        if inner.running {
            self.wake.notify_one();
            return;
        }
        inner.running = true;
        inner.trouble = None;
        let running = Running::new(self);
        let run = Box::pin(async move { running.run().await });
        self.pending.surroundings().spawn(run);
    }

    /// Waits for a listing that is younger than `ttl`, made once for all who wait. The records are
    /// there when it returns, and may be let go any time after.
    ///
    /// # Errors
    /// At `deadline`, what the service was heard to say; else why it cannot be listed.
    pub async fn refresh(self: &Arc<Self>, deadline: Instant) -> Result<(), Error> {
        loop {
            let listed = {
                let mut inner = self.lock();
                let (now, ttl) = (self.pending.now(), self.pending.options.ttl);
                if inner.state.freshness(now, ttl) > Duration::ZERO {
                    return Ok(());
                }
                self.await_listing(&mut inner, deadline)
            };
            match tokio::time::timeout_at(deadline.into(), listed).await {
                Ok(Ok(Ok(()))) if !self.read(DatasetState::is_listed) => {}
                Ok(Ok(result)) => return result,
                Ok(Err(_)) => return Err(ErrorKind::Failed.into()),
                Err(_) => return Err(self.lock().timed_out()),
            }
        }
    }

    /// Has a listing be made, unless one is under way.
    fn await_listing(
        self: &Arc<Self>,
        inner: &mut Inner,
        deadline: Instant,
    ) -> oneshot::Receiver<Result<(), Error>> {
        if !inner.listing {
            inner.state.want_list();
        }
        let wanted = inner.lists_begun + u64::from(!inner.listing);
        let (sender, receiver) = oneshot::channel();
        let waiter = Waiter { sender, deadline };
        inner.list_waiters.push((wanted, waiter));
        self.start(inner);
        receiver
    }

    /// Makes changes that belong together, one a key: with `commit=close` waits until the service
    /// has them, else until the journal does.
    pub async fn change(
        self: &Arc<Self>,
        changes: Vec<Change>,
        commit: Commit,
        private: bool,
        deadline: Instant,
    ) -> Answer {
        let ticket = self.pending.tickets.fresh();
        let result = match self
            .wait_in_line(ticket, changes, (commit, private), deadline)
            .await
        {
            Err(error) => Err(error),
            Ok(line) => self.see_through(line, deadline).await,
        };
        Answer { ticket, result }
    }

    /// Puts changes in line that belong together, one a key, as [`change`](Self::change) does. Returns
    /// None while others of the same keys are being noted: [`happened`](Self::happened) says when to
    /// try again, with changes made anew.
    ///
    /// # Errors
    /// What no record can be is refused; all is as it was.
    pub fn stage(
        self: &Arc<Self>,
        changes: Vec<Change>,
        commit: Commit,
        private: bool,
        deadline: Instant,
    ) -> Result<Option<InLine>, Error> {
        let ticket = self.pending.tickets.fresh();
        let how = (commit, private);
        self.put_in_line(&mut self.lock(), ticket, changes, how, deadline)
    }

    /// Ends when a group was decided, noted, or not noted, after this call.
    pub fn happened(&self) -> Notified<'_> {
        self.ended.notified()
    }

    /// Has the journal take what is in line, and waits as [`change`](Self::change) does.
    ///
    /// # Errors
    /// Why it is not made, or not known to be.
    pub async fn see_through(
        self: &Arc<Self>,
        line: InLine,
        deadline: Instant,
    ) -> Result<(), Error> {
        let InLine {
            ticket,
            staged,
            decided,
        } = line;
        self.pending.end_wanted_holds();
        if (!staged.notes.is_empty() || !staged.replaced.is_empty())
            && let Err(error) = self.note(ticket, staged, deadline).await
        {
            if let Some(decided) = decided {
                drop(decided);
                self.leave(&mut self.lock(), ticket);
            }
            return Err(error);
        }
        match decided {
            Some(decided) => {
                self.hurry(&mut self.lock());
                self.wait_for(ticket, decided, deadline).await
            }
            None => {
                self.go_on();
                Ok(())
            }
        }
    }

    /// Puts changes in line; waits while others of the same keys are being noted. Whoever waits for
    /// the outcome does so from the same moment: it may be there in the next.
    async fn wait_in_line(
        self: &Arc<Self>,
        ticket: Ticket,
        changes: Vec<Change>,
        how: (Commit, bool),
        deadline: Instant,
    ) -> Result<InLine, Error> {
        let mut staging = None;
        loop {
            let ended = self.happened();
            {
                let mut inner = self.lock();
                let changes = changes.clone();
                let line = self.put_in_line(&mut inner, ticket, changes, how, deadline)?;
                if let Some(line) = line {
                    drop(inner);
                    return Ok(line);
                }
                if staging.is_none() {
                    staging = Some(Staging::begin(self, &mut inner));
                }
            }
            let ended = tokio::time::timeout_at(deadline.into(), ended).await;
            ended.map_err(|_| self.lock().timed_out())?;
        }
    }

    fn put_in_line(
        &self,
        inner: &mut Inner,
        ticket: Ticket,
        changes: Vec<Change>,
        (commit, private): (Commit, bool),
        deadline: Instant,
    ) -> Result<Option<InLine>, Error> {
        let surroundings = self.pending.surroundings();
        let how = How {
            commit,
            private,
            now: surroundings.now(),
            date: surroundings.date().into(),
        };
        let mut fresh = || self.pending.tickets.fresh();
        let mut barrier = lock(&self.pending.barrier);
        let staged = inner
            .state
            .stage(ticket, changes, how, &mut barrier, &mut fresh)?;
        let Some(staged) = staged else {
            return Ok(None);
        };
        let decided = staged.waits.then(|| inner.register(ticket, deadline));
        Ok(Some(InLine {
            ticket,
            staged,
            decided,
        }))
    }

    /// Has the journal take what was staged. It is noted even if nobody waits for it any more.
    async fn note(
        self: &Arc<Self>,
        ticket: Ticket,
        staged: Staged,
        deadline: Instant,
    ) -> Result<(), Error> {
        let (sender, noted) = oneshot::channel();
        let this = self.clone();
        let note = Box::pin(async move {
            // One who gave up is not told.
            let _ = sender.send(this.note_to_the_end(ticket, staged).await);
        });
        self.pending.surroundings().spawn(note);
        match tokio::time::timeout_at(deadline.into(), noted).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(ErrorKind::Failed.into()),
            Err(_) => Err(ErrorKind::TimedOut.into()),
        }
    }

    async fn note_to_the_end(
        self: &Arc<Self>,
        ticket: Ticket,
        staged: Staged,
    ) -> Result<(), Error> {
        let place = self.place.clone();
        // What only goes with it may be all that is for the journal.
        let is_noted = !staged.waits;
        let note =
            move |journal: &MountJournal| journal.note(&place, &staged.notes, &staged.replaced);
        let noted = self.pending.journal(note).await;
        {
            let mut inner = self.lock();
            // It happened before what may follow from this.
            inner.take_events();
            let mut barrier = lock(&self.pending.barrier);
            match &noted {
                Ok(places) => inner.state.handle_noted(ticket, places, &mut barrier),
                Err(_) => {
                    inner.state.handle_not_noted(ticket, &mut barrier);
                    inner.forget(ticket);
                }
            }
        }
        let freed = lock(&self.pending.barrier).take_freed();
        self.pending.wake(freed);
        let continuation = &self.pending.continuation;
        let versions = match &noted {
            Ok(_) => {
                if is_noted {
                    continuation.handle_noted(self, ticket);
                }
                Vec::new()
            }
            Err(_) => continuation.handle_not_noted(self, ticket, &Refusal::Lost),
        };
        self.park(versions).await;
        self.ended.notify_waiters();
        self.go_on();
        noted.map(drop)
    }

    /// Waits until a group is decided.
    ///
    /// # Errors
    /// Why it is not made; at `deadline`, what the service was heard to say.
    pub async fn outcome(self: &Arc<Self>, ticket: Ticket, deadline: Instant) -> Result<(), Error> {
        let decided = {
            let mut inner = self.lock();
            if !inner.state.wait_for(ticket) && !inner.is_untold(ticket) {
                return Ok(());
            }
            let decided = inner.register(ticket, deadline);
            self.hurry(&mut inner);
            decided
        };
        self.wait_for(ticket, decided, deadline).await
    }

    /// Somebody waits: what was tried in vain is tried again now.
    fn hurry(self: &Arc<Self>, inner: &mut Inner) {
        inner.back_off.hurry();
        self.start(inner);
    }

    async fn wait_for(
        self: &Arc<Self>,
        ticket: Ticket,
        mut decided: Decided,
        deadline: Instant,
    ) -> Result<(), Error> {
        if let Ok(result) = tokio::time::timeout_at(deadline.into(), &mut decided).await {
            return result.unwrap_or_else(|_| Err(ErrorKind::Failed.into()));
        }
        let mut inner = self.lock();
        if let Ok(result) = decided.try_recv() {
            return result;
        }
        drop(decided);
        self.leave(&mut inner, ticket);
        let error = inner.timed_out();
        self.start(&mut inner);
        Err(error)
    }

    /// Somebody who waited for a group has left.
    fn leave(&self, inner: &mut Inner, ticket: Ticket) {
        let waiters = inner.waiters.entry(ticket).or_default();
        waiters.retain(|waiter| !waiter.sender.is_closed());
        if waiters.is_empty() {
            inner.waiters.remove(&ticket);
            let mut barrier = lock(&self.pending.barrier);
            inner.state.leave(ticket, &mut barrier);
        }
    }

    /// Deletes the dataset, after one more look whether it is empty.
    ///
    /// # Errors
    /// [`ErrorKind::NotEmpty`] if it has records or changes under way.
    pub async fn delete(self: &Arc<Self>, deadline: Instant) -> Result<(), Error> {
        let mut deleted = {
            let mut inner = self.lock();
            let (sender, receiver) = oneshot::channel();
            inner.deletions.push(Waiter { sender, deadline });
            inner.want_deletion();
            self.start(&mut inner);
            receiver
        };
        match tokio::time::timeout_at(deadline.into(), &mut deleted).await {
            Ok(result) => result.unwrap_or_else(|_| Err(ErrorKind::Failed.into())),
            Err(_) => {
                let mut inner = self.lock();
                if let Ok(result) = deleted.try_recv() {
                    return result;
                }
                drop(deleted);
                inner.leave_deletion();
                Err(inner.timed_out())
            }
        }
    }

    pub(super) async fn run(self: &Arc<Self>) {
        loop {
            self.tell().await;
            let step = self.next_step();
            self.pending.end_wanted_holds();
            match step {
                Step::List { since } => self.list(since).await,
                Step::Update {
                    patches,
                    token,
                    replaced,
                } => {
                    self.keep_and_update(replaced, patches, token).await;
                }
                Step::Wait { until } => {
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep_until(until.into()) => {}
                        () = self.wake.notified() => {}
                    }
                }
                Step::Delete => self.make_deletion().await,
                Step::RefuseDeletion => {
                    self.lock()
                        .resolve_deletions(&Err(ErrorKind::NotEmpty.into()));
                }
                Step::Idle => {
                    if self.rests() {
                        lock(&self.pending.datasets).hold(self);
                        return;
                    }
                }
            }
        }
    }

    /// Returns whether there is nothing to do, nor to tell: then the task ends.
    fn rests(&self) -> bool {
        let mut inner = self.lock();
        inner.take_events();
        inner.running = inner.poked || !inner.untold.is_empty();
        !inner.running
    }

    fn next_step(&self) -> Step {
        let now = self.pending.now();
        let mut inner = self.lock();
        inner.poked = false;
        let held_off = inner.back_off.until().unwrap_or(now);
        inner.state.hold_off(held_off);
        if inner.delete_again.is_some_and(|at| at <= now) {
            inner.want_deletion();
        }
        let mut barrier = lock(&self.pending.barrier);
        let mut step = inner.state.next_step(now, &mut barrier);
        drop(barrier);
        if let Some(until) = inner.delete_again {
            step = not_after(step, until);
        }
        if let Step::List { .. } = step {
            inner.lists_begun += 1;
            inner.listing = true;
        }
        step
    }
}

/// Has the task look again at a moment, if it would wait for longer.
fn not_after(step: Step, until: Instant) -> Step {
    match step {
        Step::Idle => Step::Wait { until },
        Step::Wait { until: other } => Step::Wait {
            until: until.min(other),
        },
        step => step,
    }
}
