//! What follows from what happened: versions are kept, the journal is told, then everybody else.

use std::sync::Arc;
use std::time::Duration;

use super::super::cache::lock;
use super::super::error::{Error, ErrorKind};
use super::super::journals::{MountJournal, NewParked, Side, Whereabouts};
use super::Pending;
use super::dataset::PendingDataset;
use crate::sync::Shown;
use crate::sync::pending::{Change, Event, Outcome, Refusal, Settled};
use crate::wire::timestamp::Timestamp;

/// How long after what is owed was tried it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What is to be noted of groups that were decided.
#[derive(Clone, Debug)]
pub(super) struct Owed {
    place: Whereabouts,
    /// What is kept first.
    versions: Vec<NewParked>,
    settled: Settled,
}

impl PendingDataset {
    /// Tells what happened, first things first.
    pub(super) async fn tell(self: &Arc<Self>) {
        loop {
            let event = {
                let mut inner = self.lock();
                let events = inner.state.take_events();
                inner.events.extend(events);
                match inner.events.is_empty() {
                    true => return,
                    false => {
                        inner.telling = true;
                        inner.events.remove(0)
                    }
                }
            };
            self.tell_of(event).await;
        }
    }

    async fn tell_of(self: &Arc<Self>, event: Event) {
        let was_noted = event.settled.removed.contains(&event.ticket);
        let mut versions = Vec::new();
        let mut settled = event.settled.clone();
        if let Outcome::Refused(why, changes) = &event.outcome
            && was_noted
        {
            versions = refused(changes, why);
            for kept_back in self.keep_removals_back(&event) {
                settled.removed.extend(kept_back.removed);
                settled.rebased.extend(kept_back.rebased);
            }
        }
        let owed = Owed {
            place: self.place().clone(),
            versions,
            settled,
        };
        self.pending().note_outcome(owed).await;
        let is_decided = !matches!(event.outcome, Outcome::Waits(_));
        if is_decided {
            let left = self.pending().continuation.handle(self, &event);
            self.keep_and_settle(left, Settled::default()).await;
        }
        let result = match &event.outcome {
            Outcome::Made(_) => Ok(()),
            Outcome::Refused(why, _) | Outcome::GivenBack(why, _) | Outcome::Waits(why) => {
                Err(self.why(why))
            }
        };
        {
            let mut inner = self.lock();
            for ticket in event.aliases.iter().chain([&event.ticket]) {
                inner.answer(*ticket, &result);
            }
            if is_decided {
                inner.forget(event.ticket);
            }
        }
        if is_decided {
            let waiting = lock(&self.pending().barrier).decide(event.ticket);
            self.pending().wake(waiting);
        }
        self.lock().telling = false;
        self.ended.notify_waiters();
    }

    /// Returns the error that says why a change was not made: what the service was heard to say, if
    /// it was not asked in the end.
    fn why(&self, refusal: &Refusal) -> Error {
        let trouble = self.lock().trouble.clone();
        match (refusal, trouble) {
            (Refusal::Lost, Some(trouble)) => trouble,
            (refusal, _) => refusal.clone().into(),
        }
    }

    pub(super) async fn keep(&self, versions: Vec<NewParked>) -> Result<(), Error> {
        self.pending().keep(self.place().clone(), versions).await
    }

    /// The removals of a value that was refused elsewhere are not made. Returns what the journal is to
    /// note of them when it notes the refusal; their own datasets tell of them, in their order.
    fn keep_removals_back(self: &Arc<Self>, event: &Event) -> Vec<Settled> {
        let kept_back = lock(&self.pending().barrier).kept_back(event.ticket);
        let mut settled = Vec::new();
        for (id, ticket) in kept_back {
            let Some(dataset) = self.pending().by_id(id) else {
                continue;
            };
            {
                let mut inner = dataset.lock();
                let earlier = inner.state.take_events();
                inner.events.extend(earlier);
                let mut barrier = lock(&self.pending().barrier);
                inner.state.keep_back(ticket, &mut barrier);
                drop(barrier);
                let events = inner.state.take_events();
                settled.extend(events.iter().map(|event| event.settled.clone()));
                inner.events.extend(events);
            }
            dataset.go_on();
        }
        settled
    }

    /// Keeps versions that nothing else has. What there is no room for is kept as soon as there is
    /// some.
    pub async fn park(&self, versions: Vec<NewParked>) {
        self.keep_and_settle(versions, Settled::default()).await;
    }

    /// Keeps versions, then has the journal note what became of groups. What cannot be done now is
    /// done later.
    pub(super) async fn keep_and_settle(&self, versions: Vec<NewParked>, settled: Settled) {
        let owed = Owed {
            place: self.place().clone(),
            versions,
            settled,
        };
        self.pending().note_outcome(owed).await;
    }
}

/// Returns the versions that are kept of changes that can never be made.
fn refused(changes: &[Change], why: &Refusal) -> Vec<NewParked> {
    let reason = Error::from(why.clone()).to_string();
    let version = |change: &Change| {
        Some(NewParked {
            key: change.key.clone(),
            side: Side::Local,
            sync_count: match change.base.shown {
                Shown::Absent => 0,
                Shown::Version(count) => count,
            },
            text: change.kind.whole()?.to_vec(),
            modified: change.modified,
            reason: reason.clone(),
            expires: None,
        })
    };
    changes.iter().filter_map(version).collect()
}

impl Pending {
    /// Keeps versions of a dataset.
    async fn keep(&self, place: Whereabouts, versions: Vec<NewParked>) -> Result<(), Error> {
        if versions.is_empty() {
            return Ok(());
        }
        let kept = self.kept.clone();
        let at: Timestamp = self.surroundings().date().into();
        let keep = move || {
            let mut versions = versions.iter();
            versions.try_for_each(|version| kept.park(&place, version, at))
        };
        match self.surroundings().wait_for(keep).await {
            Some(result) => Ok(result?),
            None => Err(ErrorKind::Failed.into()),
        }
    }

    /// Keeps what is to be kept of groups that were decided, and has the journal note it then. What
    /// cannot be kept for lack of room is kept as soon as there is some; its row stays until then.
    async fn note_outcome(self: &Arc<Self>, owed: Owed) {
        if owed.settled.is_empty() && owed.versions.is_empty() {
            return;
        }
        if let Err(error) = self.try_to_note(&owed).await {
            tracing::warn!(%error, "what was refused waits for room to be kept");
            let is_first = {
                let mut all = lock(&self.owed);
                all.push_back(owed);
                all.len() == 1
            };
            if is_first {
                let this = self.clone();
                let pay = Box::pin(async move { this.pay().await });
                self.surroundings().spawn(pay);
            }
        }
    }

    async fn try_to_note(&self, owed: &Owed) -> Result<(), Error> {
        self.keep(owed.place.clone(), owed.versions.clone()).await?;
        let settled = owed.settled.clone();
        let settle = move |journal: &MountJournal| journal.settle(&settled);
        if let Err(error) = self.journal(settle).await {
            // The journal remembers it, and notes it before anything else.
            tracing::debug!(%error, "what became of a change is not noted yet");
        }
        Ok(())
    }

    /// Tries to keep what is owed, again and again.
    async fn pay(self: Arc<Self>) {
        loop {
            self.surroundings().sleep(AGAIN).await;
            let Some(owed) = lock(&self.owed).front().cloned() else {
                return;
            };
            if self.try_to_note(&owed).await.is_ok() {
                let mut all = lock(&self.owed);
                all.pop_front();
                if all.is_empty() {
                    return;
                }
            }
        }
    }
}
