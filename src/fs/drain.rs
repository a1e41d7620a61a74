//! Sending what the journal holds: a dataset's changes together, removals after what they wait for.
//!
//! Invariant: a removal is sent only after every set that was noted before it has been taken,
//! whatever its dataset; so a move between datasets cannot lose both ends.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};

use super::error::Error;
use super::inode::{Ino, RecordId};
use super::lookup::FileSystem;
use super::push::Extent;
use crate::store::ErrorKind;

/// How many datasets are sent at a time.
const DATASETS: usize = 16;
/// How long nothing new must have come before sending begins, so that what belongs together goes
/// together; and how long it may be put off.
const QUIET: Duration = Duration::from_millis(100);
const PUT_OFF: Duration = Duration::from_secs(1);
/// The pauses between attempts when the service does not take anything.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// A file's change in the journal.
struct Noted {
    ino: Ino,
    place: i64,
    is_tied: bool,
    dataset: (String, String),
}

impl FileSystem {
    /// Sends what the journal holds, as it comes, for ever.
    pub async fn send_queue(self: Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        loop {
            if self.is_queue_empty() {
                self.queue_changed.notified().await;
            }
            self.let_gather().await;
            match self.send_round(self.deadline()).await {
                Ok(()) => {
                    pause = FIRST_PAUSE;
                    if !self.is_queue_empty() {
                        // What came meanwhile told so.
                        let told = self.queue_changed.notified();
                        let _ = tokio::time::timeout(LAST_PAUSE, told).await;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "changes wait to be sent");
                    tokio::select! {
                        () = tokio::time::sleep(pause) => pause = (pause * 2).min(LAST_PAUSE),
                        () = self.store.recovered() => pause = FIRST_PAUSE,
                    }
                }
            }
        }
    }

    fn is_queue_empty(&self) -> bool {
        let inodes = self.inodes();
        inodes.queue.is_empty() && inodes.loose.is_empty()
    }

    async fn let_gather(&self) {
        let begun = Instant::now();
        while begun.elapsed() < PUT_OFF {
            let more = tokio::time::timeout(QUIET, self.queue_changed.notified());
            if more.await.is_err() {
                return;
            }
        }
    }

    /// Sends what the journal has of what lies below `directory`, again and again until the service
    /// has it, or something later.
    ///
    /// # Errors
    /// At `deadline`, why the last attempt failed.
    pub(super) async fn drain(&self, directory: Ino, deadline: Instant) -> Result<(), Error> {
        let removals = self.removals_below(directory);
        let mut pause = FIRST_PAUSE;
        loop {
            // What hangs elsewhere is not waited for, but for removals, which have to.
            let mut own = self.noted();
            own.retain(|noted| !noted.is_tied && self.inodes().is_below(noted.ino, directory));
            let mut sent = self.push_all(own, deadline).await;
            if self.has_queued_below(directory) {
                sent = sent.and(self.send_round(deadline).await);
            }
            if sent.is_err() && !self.has_queued_below(directory) {
                sent = Ok(());
            }
            if sent.is_ok() && !self.removals_below(directory).is_disjoint(&removals) {
                // A set that came meanwhile goes before them.
                sent = Err(self.why_waiting());
            }
            if sent.is_ok() || Instant::now() + pause >= deadline {
                return sent;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// Returns the removals below a directory, by their ids in the journal.
    fn removals_below(&self, directory: Ino) -> HashSet<i64> {
        let inodes = self.inodes();
        let loose = inodes.loose.values();
        let loose = loose.filter(|loose| inodes.is_loose_below(loose, directory));
        loose.map(|loose| loose.slot.id).collect()
    }

    /// Returns why something waits to be sent, as the service was heard to say.
    fn why_waiting(&self) -> Error {
        let datasets: Vec<_> = {
            let inodes = self.inodes();
            let files = inodes.queue.values().filter_map(|ino| inodes.record(*ino));
            let files = files.map(|record| &record.dataset);
            let loose = inodes.loose.values().map(|loose| &loose.dataset);
            files.chain(loose).cloned().collect()
        };
        let mut whys = datasets.iter().map(|dataset| dataset.why_late());
        let told = whys.find(|why| why.kind() != ErrorKind::TimedOut);
        told.map_or_else(|| ErrorKind::TimedOut.into(), Error::from)
    }

    fn has_queued_below(&self, directory: Ino) -> bool {
        let inodes = self.inodes();
        let mut files = inodes.queue.values();
        let mut loose = inodes.loose.values();
        files.any(|ino| inodes.is_below(*ino, directory))
            || loose.any(|loose| inodes.is_loose_below(loose, directory))
    }

    /// Tries to send everything once. It is not to be cancelled: what was sent is noted behind it.
    ///
    /// # Errors
    /// Why something is still to be sent.
    async fn send_round(&self, deadline: Instant) -> Result<(), Error> {
        let one_round = tokio::time::timeout_at(deadline.into(), self.rounds.lock());
        let _one_round = one_round.await.map_err(|_| self.why_waiting())?;
        let sets = self.noted();
        let (tied, plain): (Vec<_>, Vec<_>) = sets.into_iter().partition(|noted| noted.is_tied);
        let free = self.first_place(|_| true);
        // What hangs holds up no removal that does not wait for it.
        let (result, removed) = tokio::join!(
            self.push_all(plain, deadline),
            self.send_all_loose(free, deadline)
        );
        let mut result = result.and(removed);
        let waiting = self.first_place(|noted| !noted.is_tied);
        let free = tied.into_iter().filter(|noted| noted.place < waiting);
        result = result.and(self.push_all(free.collect(), deadline).await);
        let waiting = self.first_place(|_| true);
        result.and(self.send_all_loose(waiting, deadline).await)
    }

    /// Returns the changes of files, in their order.
    fn noted(&self) -> Vec<Noted> {
        let inodes = self.inodes();
        let noted = inodes.queue.values().filter_map(|ino| {
            let record = inodes.record(*ino)?;
            let queued = record.unsent.as_ref()?.queued.as_ref()?;
            Some(Noted {
                ino: *ino,
                place: queued.slot.place,
                is_tied: !inodes.tied_to(queued.slot.tie, &record.dataset).is_empty(),
                dataset: (
                    record.dataset.identity().id().to_string(),
                    record.dataset.name().to_string(),
                ),
            })
        });
        let mut noted: Vec<Noted> = noted.collect();
        noted.sort_by_key(|noted| noted.place);
        noted
    }

    /// Returns the place of the first change that is still to be sent.
    fn first_place(&self, of: impl Fn(&Noted) -> bool) -> i64 {
        let noted = self.noted();
        let first = noted.iter().find(|noted| of(noted));
        first.map_or(i64::MAX, |noted| noted.place)
    }

    async fn push_all(&self, noted: Vec<Noted>, deadline: Instant) -> Result<(), Error> {
        let mut datasets: HashMap<(String, String), Vec<Ino>> = HashMap::new();
        for noted in noted {
            datasets.entry(noted.dataset).or_default().push(noted.ino);
        }
        let sent = stream::iter(datasets.into_values()).map(|files| async move {
            let pushes = files
                .into_iter()
                .map(|ino| self.push(ino, Extent::Queued, deadline));
            first_failure(join_all(pushes).await)
        });
        first_failure(sent.buffer_unordered(DATASETS).collect().await)
    }

    /// Sends or parks what the journal has of an older file of a record than the one its name leads
    /// to, before its row is another's.
    ///
    /// # Errors
    /// Why it is still to be sent.
    pub(super) async fn send_older(
        &self,
        ino: Option<Ino>,
        id: &RecordId,
        deadline: Instant,
    ) -> Result<(), Error> {
        let older = self.inodes().queue.get(id).copied();
        match older.filter(|older| Some(*older) != ino) {
            Some(older) => first_failure(vec![self.push(older, Extent::All, deadline).await]),
            None => Ok(()),
        }
    }

    async fn send_all_loose(&self, before: i64, deadline: Instant) -> Result<(), Error> {
        let mut datasets: HashMap<(String, String), Vec<RecordId>> = HashMap::new();
        {
            let inodes = self.inodes();
            let free = inodes
                .loose
                .iter()
                .filter(|(_, loose)| loose.slot.place < before || !loose.hides());
            for (id, _) in free {
                let dataset = (id.0.to_string(), id.1.to_string());
                datasets.entry(dataset).or_default().push(id.clone());
            }
        }
        let sent = stream::iter(datasets.into_values()).map(|ids| async move {
            let sent = ids.iter().map(|id| self.send_loose(id, deadline));
            first_failure(join_all(sent).await)
        });
        first_failure(sent.buffer_unordered(DATASETS).collect().await)
    }
}

/// Returns why something is still to be sent; what was refused for good is not.
fn first_failure(results: Vec<Result<(), Error>>) -> Result<(), Error> {
    results.into_iter().find(is_to_be_sent).unwrap_or(Ok(()))
}

fn is_to_be_sent(result: &Result<(), Error>) -> bool {
    matches!(result, Err(Error::Store(error)) if !error.kind().is_final())
}
