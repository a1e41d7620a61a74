//! Changes that the journal holds until the service has them (`commit=async`).
//!
//! A file keeps its unsent state; the journal has a copy of it. A removal has no file any more and
//! lives in a table of its own, which hides the record. Invariant: a record has one row in the
//! journal, and what `close` returned for has one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::error::Error;
use super::file::record_of;
use super::inode::{Ino, Inodes, RecordId};
use super::lookup::FileSystem;
use super::name::encode;
use super::node::{Gate, Standing};
use super::push::{Extent, add};
use super::unsent::UnsentKind;
use crate::store::{Commit, Dataset, NewQueued, QueuedKind, Settled, Slot, Tie, shown_count};
use crate::sync::{Base, Change, Kind, Left, Mark, Ticket, Unseen};
use crate::wire::names::RecordKey;
use crate::wire::text::Text;
use crate::wire::timestamp::Timestamp;

/// Whether close waits for the service or for the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitMode {
    Close,
    Async,
}

/// A change in the journal that has no file: a removal, or a date that an earlier process left.
#[derive(Debug)]
pub(super) struct Loose {
    pub(super) dataset: Arc<Dataset>,
    pub(super) key: RecordKey,
    /// [`Kind::Remove`] or [`Kind::Times`].
    pub(super) kind: Kind,
    pub(super) base: Base,
    pub(super) modified: Timestamp,
    pub(super) sent: Vec<Mark>,
    pub(super) left: Option<Left>,
    pub(super) slot: Slot,
    /// Where to ask what became of the last attempt, if it may have been made.
    pub(super) attempt: Option<Ticket>,
    /// Why it was tried in vain, if it was.
    pub(super) refused: Option<String>,
    /// Where the name was, to show it again if the removal is refused.
    pub(super) directory: Option<Ino>,
}

impl Loose {
    /// Returns what is sent of it, which may then have been made.
    pub(super) fn change(&mut self, unseen: Unseen) -> Change {
        let change = Change {
            key: self.key.clone(),
            base: self.base,
            kind: self.kind.clone(),
            unseen,
            sent: self.sent.clone(),
            whole: None,
            left: self.left,
            modified: self.modified,
        };
        if self.hides() {
            self.sent = self.marks();
        }
        change
    }

    /// Returns the marks of what may have been sent, or is sent in a moment, of a removal.
    fn marks(&self) -> Vec<Mark> {
        let mut marks = self.sent.clone();
        add(&mut marks, Mark::new(None, self.modified));
        marks
    }

    pub(super) fn hides(&self) -> bool {
        self.kind == Kind::Remove
    }
}

/// What is to be noted of a file in the journal.
struct Note {
    gate: Gate,
    dataset: Arc<Dataset>,
    id: RecordId,
    change: NewQueued,
    generation: u64,
    tie: Option<i64>,
}

enum Next {
    Nothing,
    Note(Box<Note>),
    /// It goes to the service at once: the journal has no place for it.
    Push,
}

impl FileSystem {
    pub(super) fn is_async(&self) -> bool {
        self.commit == CommitMode::Async
    }

    /// Returns what a removal in the journal is based on, if one hides a record, and what may have
    /// been sent of it.
    pub(super) fn removed(&self, dataset: &Dataset, key: &RecordKey) -> Option<(Base, Vec<Mark>)> {
        let inodes = self.inodes();
        let removal = inodes.loose.get(&record_id(dataset, key));
        let removal = removal.filter(|removal| removal.hides());
        removal.map(|removal| (removal.base, removal.marks()))
    }

    /// Returns whether the journal has something of a file.
    pub(super) fn is_queued(&self, ino: Ino) -> bool {
        let inodes = self.inodes();
        let unsent = inodes.record(ino).and_then(|record| record.unsent.as_ref());
        unsent.is_some_and(|unsent| unsent.queued.is_some())
    }

    /// Returns the paths of what the journal holds, for the log; of many only the first.
    pub(super) fn queued_paths(&self) -> Vec<String> {
        const TOLD: usize = 100;
        let inodes = self.inodes();
        let files = inodes.queue.values().map(|ino| inodes.path(*ino));
        let loose = inodes.loose.values().map(|loose| {
            let directory = loose.directory.map(|directory| inodes.path(directory));
            format!("{}/{}", directory.unwrap_or_default(), encode(&loose.key))
        });
        files.chain(loose).take(TOLD).collect()
    }

    /// Does with what is unsent of a file what close promises: sends it, or notes it in the
    /// journal.
    pub(super) async fn commit_file(
        &self,
        ino: Ino,
        extent: Extent,
        deadline: Instant,
    ) -> Result<(), Error> {
        match self.is_async() {
            true => self.enqueue(ino, extent, deadline).await,
            false => self.push(ino, extent, deadline).await,
        }
    }

    async fn enqueue(&self, ino: Ino, extent: Extent, deadline: Instant) -> Result<(), Error> {
        let ledger = match self.inodes().record(ino) {
            Some(record) => record.ledger.clone(),
            None => return Ok(()),
        };
        let one_note = self.lock_gate(ino, &ledger, deadline).await?;
        let gate = self.gate_of(ino);
        // What is not being sent yet waits until its successor is noted.
        let no_push = gate.clone().and_then(|gate| gate.try_lock_owned().ok());
        let next = self
            .next_note(ino, extent, no_push.is_none())
            .inspect_err(|error| {
                if let Some(gate) = &gate {
                    self.note_refused(ino, gate, None, error);
                }
            })?;
        let note = match next {
            Next::Nothing => return Ok(()),
            Next::Push => {
                // Whoever has the gate may wait for the ledger.
                drop((one_note, no_push));
                return self.push(ino, extent, deadline).await;
            }
            Next::Note(note) => *note,
        };
        let tie = Tie {
            new: false,
            old: note.tie,
        };
        let rows = vec![note.change];
        let queued = note.dataset.queue(rows, Vec::new(), tie).await;
        let slots = queued.map_err(|error| {
            let error = error.into();
            self.note_refused(ino, &note.gate, Some(note.generation), &error);
            error
        })?;
        let Some(slot) = slots.first().copied() else {
            return Ok(());
        };
        let noted = {
            let mut inodes = self.inodes();
            // A removal of the same record is over: its row is this one now.
            inodes.drop_loose(&note.id);
            let record = inodes.record_mut(ino);
            let unsent = record.and_then(|record| record.unsent.as_mut());
            let noted = unsent.is_some_and(|unsent| unsent.end_note(slot));
            if noted {
                inodes.queue.insert(note.id, ino);
            }
            noted
        };
        if !noted {
            // An fsync sent it meanwhile.
            let settled = Settled {
                ids: vec![slot.id],
                ..Settled::default()
            };
            self.settle_queued(&note.dataset, settled).await;
        }
        self.wake_queue();
        Ok(())
    }

    /// Returns what is to be noted of a file; `is_sent` says that it may be sent meanwhile.
    fn next_note(&self, ino: Ino, extent: Extent, is_sent: bool) -> Result<Next, Error> {
        let mut inodes = self.inodes();
        let standing = inodes.standing(ino);
        let record = record_of(&mut inodes, ino)?;
        let Some(unsent) = &record.unsent else {
            return Ok(Next::Nothing);
        };
        let waits = match extent {
            Extent::Flushable => !unsent.flushable,
            Extent::Closed => record.writers > 0,
            Extent::All => false,
            Extent::Queued => true,
        };
        if waits || standing == Standing::Removed || unsent.is_in_journal() {
            return Ok(Next::Nothing);
        }
        let id = record.id();
        let times = unsent.kind == UnsentKind::Times;
        if !times {
            unsent.present().sendable()?;
        }
        let content = record.content.as_ref().map(Text::as_bytes);
        let same = record.is_sent() && !times && content == Some(unsent.text.as_slice());
        if same && !unsent.dated && unsent.attempt.is_none() && unsent.queued.is_none() {
            let record = record_of(&mut inodes, ino)?;
            record.unsent = None;
            return Ok(Next::Nothing);
        }
        let other = inodes.queue.get(&id).is_some_and(|owner| *owner != ino);
        if standing == Standing::Superseded || other {
            return Ok(Next::Push);
        }
        // The removal that this takes the place of may have been sent since, or is in a moment.
        let removal = inodes.loose.get(&id).filter(|removal| removal.hides());
        let sent = removal.map_or_else(Vec::new, Loose::marks);
        let record = record_of(&mut inodes, ino)?;
        let Some(unsent) = &mut record.unsent else {
            return Ok(Next::Nothing);
        };
        for mark in sent {
            add(&mut unsent.sent, mark);
        }
        let sent = unsent.marks(is_sent);
        let text = unsent.begin_note();
        let left = record.dataset.left(&record.key, unsent.base);
        let change = NewQueued {
            key: record.key.clone(),
            kind: match unsent.kind {
                UnsentKind::Whole => QueuedKind::Whole,
                UnsentKind::Append { from } => QueuedKind::Append { from },
                UnsentKind::Edit => QueuedKind::Edit,
                UnsentKind::Times => QueuedKind::Times,
            },
            text,
            base: shown_count(unsent.base),
            // Its base is still what the earlier process knew.
            left: unsent.left.unwrap_or(left),
            modified: unsent.modified,
            sent,
        };
        Ok(Next::Note(Box::new(Note {
            gate: record.gate.clone(),
            dataset: record.dataset.clone(),
            id,
            change,
            generation: unsent.generation,
            tie: unsent.queued.as_ref().and_then(|queued| queued.slot.tie),
        })))
    }

    /// Takes a file back to the text that the journal has of it, if it has one: a later one could
    /// not be noted.
    pub(super) fn go_back_to_journal(&self, ino: Ino) {
        let mut inodes = self.inodes();
        let record = inodes.record_mut(ino).filter(|record| record.writers == 0);
        if let Some(unsent) = record.and_then(|record| record.unsent.as_mut()) {
            unsent.go_back();
        }
    }

    /// Has what the journal holds sent soon.
    pub(super) fn wake_queue(&self) {
        self.queue_changed.notify_one();
    }

    /// Notes in the journal that a record is removed, which from now on is hidden.
    pub(super) async fn enqueue_removal(
        &self,
        parent: Ino,
        dataset: &Arc<Dataset>,
        change: Change,
    ) -> Result<(), Error> {
        let slots = dataset
            .queue(
                vec![removal_row(dataset, &change)],
                Vec::new(),
                Tie::default(),
            )
            .await?;
        if let Some(slot) = slots.first() {
            self.hide(&mut self.inodes(), parent, dataset, change, *slot);
        }
        self.wake_queue();
        Ok(())
    }

    /// Hides a record whose removal is in the journal.
    pub(super) fn hide(
        &self,
        inodes: &mut Inodes,
        parent: Ino,
        dataset: &Arc<Dataset>,
        change: Change,
        slot: Slot,
    ) {
        let id = record_id(dataset, &change.key);
        inodes.queue.remove(&id);
        let loose = Loose {
            dataset: dataset.clone(),
            key: change.key,
            kind: change.kind,
            base: change.base,
            modified: change.modified,
            sent: change.sent,
            left: change.left,
            slot,
            attempt: None,
            refused: None,
            directory: Some(parent),
        };
        inodes.drop_loose(&id);
        inodes.loose.insert(id, loose);
    }

    /// Sends a change that has no file. One that is refused for good is given up, and the record
    /// shows again.
    pub(super) async fn send_loose(&self, id: &RecordId, deadline: Instant) -> Result<(), Error> {
        let (dataset, ticket, slot, operation) = {
            let mut inodes = self.inodes();
            let Some(loose) = inodes.loose.get_mut(id) else {
                return Ok(());
            };
            let ticket = loose.attempt.unwrap_or_else(|| {
                let change = loose.change(self.store.options().unseen);
                loose.dataset.submit(vec![change])
            });
            let operation = match loose.hides() {
                true => "unlink",
                false => "setattr",
            };
            (loose.dataset.clone(), ticket, loose.slot, operation)
        };
        tokio::task::yield_now().await;
        let outcome = dataset.outcome(ticket, deadline).await;
        let result = match outcome {
            Ok(landed) => Ok(landed.first().map(|landed| landed.base)),
            Err(Commit { error, ticket }) => {
                let mut inodes = self.inodes();
                let loose = inodes
                    .loose
                    .get_mut(id)
                    .filter(|loose| loose.slot.id == slot.id);
                match (loose, ticket) {
                    (Some(loose), ticket) => {
                        loose.attempt = ticket;
                        loose.refused = Some(Error::from(error.clone()).with_causes());
                    }
                    (None, Some(ticket)) => dataset.forget(ticket),
                    (None, None) => {}
                }
                if !error.kind().is_final() || ticket.is_some() {
                    return Err(error.into());
                }
                Err(Error::of_path(error))
            }
        };
        match &result {
            Err(error) => {
                let shown = Self::reveal(&mut self.inodes(), id, slot.id);
                if let Some(path) = shown {
                    self.note_untold(operation, path, error);
                }
            }
            Ok(base) => self.land_loose(id, slot.id, *base),
        }
        let settled = Settled {
            ids: vec![slot.id],
            ..Settled::default()
        };
        self.settle_queued(&dataset, settled).await;
        result.map(drop)
    }

    /// A change that has no file was made.
    fn land_loose(&self, id: &RecordId, slot: i64, base: Option<Base>) {
        let mut inodes = self.inodes();
        let Some(loose) = inodes.take_loose(id, slot) else {
            return;
        };
        let directory = loose.directory;
        let Some(ino) = directory.and_then(|at| inodes.child(at, &encode(&loose.key))) else {
            return;
        };
        if !loose.hides() {
            // It shows the version before.
            self.supersede(&mut inodes, ino);
            return;
        }
        // A file that was made again meanwhile is made over nothing.
        if let (Some(record), Some(base)) = (inodes.record_mut(ino), base)
            && let Some(unsent) = &mut record.unsent
        {
            unsent.base = base;
            record.base = base;
        }
    }

    /// Shows a record again whose removal is given up. Returns its path.
    pub(super) fn reveal(inodes: &mut Inodes, id: &RecordId, slot: i64) -> Option<String> {
        let loose = inodes.take_loose(id, slot)?;
        let name = encode(&loose.key);
        Some(match loose.directory {
            Some(directory) => format!("{}/{name}", inodes.path(directory)),
            None => name,
        })
    }

    /// Takes note of the failure of what was promised and could not be done.
    pub(super) fn note_untold(&self, operation: &'static str, path: String, why: &Error) {
        let reason = why.with_causes();
        tracing::warn!(operation, path, "{reason}");
        self.failures.note(super::Failure {
            at: std::time::SystemTime::now(),
            operation,
            path,
            errno: super::errno(why),
            reason,
        });
        self.untold.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes in the journal what became of changes, now or when it can be written.
    pub(super) async fn settle_queued(&self, dataset: &Dataset, settled: Settled) {
        if let Err(error) = dataset.settle(settled).await {
            tracing::error!(%error, "the journal cannot be written now");
        }
    }
}

/// Returns the row of a removal.
pub(super) fn removal_row(dataset: &Dataset, change: &Change) -> NewQueued {
    NewQueued {
        key: change.key.clone(),
        kind: QueuedKind::Remove,
        text: Arc::default(),
        base: shown_count(change.base),
        left: dataset.left(&change.key, change.base),
        modified: change.modified,
        sent: change.sent.clone(),
    }
}

pub(super) fn record_id(dataset: &Dataset, key: &RecordKey) -> RecordId {
    (
        dataset.identity().id().clone(),
        dataset.name().clone(),
        key.clone(),
    )
}
