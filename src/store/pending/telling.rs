//! What follows from what happened: versions are kept, the journal is told, then everybody else.

use std::sync::Arc;
use std::time::Duration;

use super::super::cache::lock;
use super::super::error::{Error, ErrorKind};
use super::super::journals::{MountJournal, NewParked, Side, Whereabouts};
use super::Pending;
use super::dataset::PendingDataset;
use crate::sync::Shown;
use crate::sync::pending::{Change, Event, Outcome, Refusal, Settled, Ticket};
use crate::wire::timestamp::Timestamp;

/// How long after what is owed was tried it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What is to be kept of a group that was refused, and the rows that leave the journal then.
#[derive(Clone, Debug)]
pub(super) struct Owed {
    place: Whereabouts,
    versions: Vec<NewParked>,
    rows: Vec<Ticket>,
}

impl PendingDataset {
    /// Tells what happened, first things first. What was not told to everybody, as something
    /// panicked, is told again.
    pub(super) async fn tell(self: &Arc<Self>) {
        loop {
            let event = {
                let mut inner = self.lock();
                inner.take_events();
                inner.untold.front().cloned()
            };
            let Some(event) = event else {
                return;
            };
            self.tell_of(event).await;
        }
    }

    async fn tell_of(self: &Arc<Self>, event: Event) {
        self.note_outcome(&event).await;
        let telling = Telling {
            dataset: self,
            event,
        };
        if telling.is_final() {
            let versions = self.pending().continuation.handle(self, &telling.event);
            self.park(versions).await;
        }
    }

    /// Has the journal note what happened, once what is to be kept of it is kept. Where there is no
    /// room to keep that, its rows stay until there is; the rest is noted in any case, so that it
    /// neither waits for room nor comes after what happened later.
    async fn note_outcome(self: &Arc<Self>, event: &Event) {
        let Settled {
            removed: rows,
            rebased,
        } = event.settled.clone();
        let mut settled = Settled {
            removed: Vec::new(),
            rebased,
        };
        let mut owed = Owed {
            place: self.place().clone(),
            versions: Vec::new(),
            rows,
        };
        let mut kept = Ok(());
        if let Outcome::Refused(why, changes) = &event.outcome
            && owed.rows.contains(&event.ticket)
        {
            owed.versions = refused(changes, why);
            kept = self.keep(owed.versions.clone()).await;
            for kept_back in self.keep_removals_back(event) {
                settled.removed.extend(kept_back.removed);
                settled.rebased.extend(kept_back.rebased);
            }
        }
        if kept.is_ok() {
            settled.removed.append(&mut owed.rows);
        }
        self.pending().settle(settled).await;
        if let Err(error) = kept {
            tracing::warn!(%error, "what was refused waits for room to be kept");
            self.pending().owe(owed);
        }
    }

    /// Tells everybody but the journal and the continuation, who were told before.
    fn tell_others(self: &Arc<Self>, event: &Event, is_final: bool) {
        let result = match &event.outcome {
            Outcome::Made(_) => Ok(()),
            Outcome::Refused(why, _) | Outcome::GivenBack(why, _) | Outcome::Waits(why) => {
                Err(self.why(why))
            }
        };
        {
            let mut inner = self.lock();
            for ticket in &event.answered {
                inner.answer(*ticket, &result);
            }
            if is_final {
                inner.forget(event.ticket);
            }
        }
        if is_final {
            let waiting = lock(&self.pending().barrier).decide(event.ticket);
            self.pending().wake(waiting);
        }
        self.lock().untold.pop_front();
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
                inner.take_events();
                let mut barrier = lock(&self.pending().barrier);
                inner.state.keep_back(ticket, &mut barrier);
                drop(barrier);
                let events = inner.state.take_events();
                settled.extend(events.iter().map(|event| event.settled.clone()));
                inner.untold.extend(events);
            }
            dataset.go_on();
        }
        settled
    }
}

impl PendingDataset {
    /// Keeps versions that nothing else has. What there is no room for is kept as soon as there is
    /// some.
    pub async fn park(self: &Arc<Self>, versions: Vec<NewParked>) {
        if let Err(error) = self.keep(versions.clone()).await {
            tracing::warn!(%error, "a version waits for room to be kept");
            self.pending().owe(Owed {
                place: self.place().clone(),
                versions,
                rows: Vec::new(),
            });
        }
    }
}

/// Tells those who wait when it is dropped, so that they are told even if the continuation panics.
struct Telling<'a> {
    dataset: &'a Arc<PendingDataset>,
    event: Event,
}

impl Telling<'_> {
    /// Returns whether the group is pending no longer.
    fn is_final(&self) -> bool {
        !matches!(self.event.outcome, Outcome::Waits(_))
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.dataset.tell_others(&self.event, self.is_final());
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

    /// Has the journal note what became of groups. What it cannot note now it remembers, and notes
    /// before anything else.
    async fn settle(&self, settled: Settled) {
        if settled.is_empty() {
            return;
        }
        let settle = move |journal: &MountJournal| journal.settle(&settled);
        if let Err(error) = self.journal(settle).await {
            tracing::debug!(%error, "what became of a change is not noted yet");
        }
    }

    /// Has something be kept as soon as there is room.
    fn owe(self: &Arc<Self>, owed: Owed) {
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

    /// Tries to keep what is owed, again and again.
    async fn pay(self: Arc<Self>) {
        loop {
            self.surroundings().sleep(AGAIN).await;
            let Some(owed) = lock(&self.owed).front().cloned() else {
                return;
            };
            if let Err(error) = self.keep(owed.place, owed.versions).await {
                tracing::debug!(%error, "what was refused is not kept yet");
                continue;
            }
            let settled = Settled {
                removed: owed.rows,
                ..Settled::default()
            };
            self.settle(settled).await;
            let mut all = lock(&self.owed);
            all.pop_front();
            if all.is_empty() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use futures_util::future::BoxFuture;

    use super::super::super::journals::{Journals, MemoryDisk};
    use super::super::{Continuation, PendingOptions, Tickets};
    use super::*;
    use crate::api::{
        Client, ClientOptions, Credentials, CredentialsSource, Endpoints, Incoming, Outgoing,
        Surroundings, System, Transport,
    };
    use crate::sync::pending::{Base, Kind, Note, NotedChange, Rebased};
    use crate::sync::{Left, Unseen};
    use crate::wire::names::RecordKey;

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

    impl Transport for Nobody {
        fn send(&self, _: Outgoing) -> BoxFuture<'_, Result<Incoming, crate::api::Error>> {
            Box::pin(std::future::pending())
        }
    }

    fn pending(disk: &MemoryDisk) -> Arc<Pending> {
        let credentials = Credentials::new("id", "secret", None, None, "test");
        let client = Client::new(ClientOptions {
            region: "us-east-1".parse().unwrap(),
            endpoints: Endpoints::find("us-east-1", Some("http://localhost:1"), |_| None).unwrap(),
            credentials: CredentialsSource::Fixed(credentials),
            concurrency: 4,
            timeout: TIMEOUT,
            surroundings: Arc::new(System),
            transport: Some(Arc::new(Nobody)),
        });
        let journals = Journals::new(disk.process().disk(), || System.now());
        let deadline = System.now() + TIMEOUT;
        let journal = journals.open("a", SystemTime::UNIX_EPOCH.into(), deadline);
        let kept = journals.parked(deadline).unwrap();
        let options = PendingOptions {
            timeout: TIMEOUT,
            ttl: TIMEOUT,
            scratch: false,
            cache: 1 << 20,
        };
        let files = (Arc::new(journal.unwrap()), Arc::new(kept));
        let tickets = Arc::new(Tickets::default());
        Pending::new(client.unwrap(), files, tickets, options, Arc::new(Nobody))
    }

    fn on(count: i64) -> Base {
        Base {
            life: 0,
            shown: Shown::Version(count),
            pending: None,
        }
    }

    fn change(base: Base) -> Change {
        Change {
            key: RecordKey::new("k").unwrap(),
            base,
            kind: Kind::Whole(b"text"[..].into()),
            unseen: Unseen::Refuse,
            own: Vec::new(),
            left: None,
            modified: Timestamp::from_millis(7),
        }
    }

    fn known() -> Left {
        Left {
            existed: true,
            sync_count: Some(4),
        }
    }

    fn rebased(count: i64) -> Rebased {
        Rebased {
            ticket: Ticket(2),
            key: RecordKey::new("k").unwrap(),
            base: on(count),
            known: known(),
            sent: Vec::new(),
        }
    }

    fn event(ticket: u64, outcome: Outcome, settled: Settled) -> Event {
        Event {
            ticket: Ticket(ticket),
            answered: vec![Ticket(ticket)],
            aliases: Vec::new(),
            outcome,
            resolutions: Vec::new(),
            settled,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn j3_a_base_that_waited_for_room_does_not_take_the_place_of_a_later_one() {
        let disk = MemoryDisk::new();
        let pending = pending(&disk);
        let id = |last: u32| format!("us-east-1:00000000-0000-4000-8000-{last:012}");
        let names = (id(1).parse(), id(2).parse(), "data".parse());
        let place = (names.0.unwrap(), names.1.unwrap(), names.2.unwrap());
        let dataset = pending.dataset(&place);
        let note = |ticket| Note {
            ticket: Ticket(ticket),
            changes: vec![NotedChange {
                change: change(on(4)),
                known: known(),
                sent: Vec::new(),
            }],
            hold: None,
            first_set: None,
        };
        let notes = [note(1), note(2)];
        pending.journal.note(&place, &notes, &[]).unwrap();
        disk.set_full(true);
        let settled = Settled {
            removed: vec![Ticket(1)],
            rebased: vec![rebased(5)],
        };
        let refused = Outcome::Refused(Refusal::TooBig, vec![change(on(4))]);
        dataset.tell_of(event(1, refused, settled)).await;
        let settled = Settled {
            removed: Vec::new(),
            rebased: vec![rebased(6)],
        };
        let made = Outcome::Made(Vec::new());
        dataset.tell_of(event(3, made, settled)).await;
        assert!(pending.kept.list(&place).unwrap().versions.is_empty());
        disk.set_full(false);
        pending.surroundings().sleep(AGAIN * 3).await;
        assert_eq!(pending.kept.list(&place).unwrap().versions.len(), 1);
        let rows = pending.rows().unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].note.ticket, Ticket(2));
        assert_eq!(rows[0].note.changes[0].change.base.shown, Shown::Version(6));
    }
}
