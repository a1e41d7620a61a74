//! Sending what was written: one push of a file after another, and what becomes of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use super::errno::errno;
use super::error::Error;
use super::failures::Failure;
use super::inode::{Ino, Inodes, RecordId};
use super::lookup::FileSystem;
use super::node::{Gate, Standing};
use super::unsent::{InJournal, UnsentKind};
use crate::store::{Commit, Dataset, ErrorKind, NewlyParked, Rebased, Settled};
use crate::sync::{Change, Kind, Landed, Mark, Ticket};
use crate::wire::text::Text;
use crate::wire::timestamp::Timestamp;

/// How much a push sends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Not what creation and truncation by open alone did.
    Flushable,
    /// Everything, unless somebody has the file open for writing: that is his to finish.
    Closed,
    All,
    /// What the journal has.
    Queued,
}

/// What a push sends of a file.
struct Push {
    gate: Gate,
    dataset: Arc<Dataset>,
    /// The file's own, and the removals that a rename ties to it.
    changes: Vec<Change>,
    tied: Vec<(RecordId, i64)>,
    /// An earlier attempt whose outcome is not known.
    attempt: Option<Ticket>,
    sent: Sent,
}

/// Which state of a file was sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    generation: u64,
    /// None if only the date was sent.
    pub(super) text: Option<Arc<str>>,
    pub(super) modified: Timestamp,
    /// None if only the date was sent, of a value that is not known.
    mark: Option<Mark>,
}

impl FileSystem {
    /// Sends what is unsent in a file, one push of a file after another.
    pub(super) async fn push(
        &self,
        ino: Ino,
        extent: Extent,
        deadline: Instant,
    ) -> Result<(), Error> {
        while let Some(gate) = self.gate_of(ino) {
            let _one_push = self.lock_gate(ino, &gate, deadline).await?;
            self.push_through(&gate, ino, extent, deadline).await?;
            if self.gate_of(ino).is_none_or(|now| Arc::ptr_eq(&now, &gate)) {
                break;
            }
            // It got another name meanwhile.
        }
        Ok(())
    }

    /// Waits until no push is under way behind a gate of a file.
    ///
    /// # Errors
    /// At `deadline`, what the push was told last.
    pub(super) async fn lock_gate(
        &self,
        ino: Ino,
        gate: &Gate,
        deadline: Instant,
    ) -> Result<tokio::sync::OwnedMutexGuard<()>, Error> {
        let locked = tokio::time::timeout_at(deadline.into(), gate.clone().lock_owned());
        locked.await.map_err(|_| self.why_late(ino))
    }

    fn why_late(&self, ino: Ino) -> Error {
        let dataset = self
            .inodes()
            .record(ino)
            .map(|record| record.dataset.clone());
        dataset.map_or_else(
            || ErrorKind::TimedOut.into(),
            |dataset| dataset.why_late().into(),
        )
    }

    pub(super) fn gate_of(&self, ino: Ino) -> Option<Gate> {
        let inodes = self.inodes();
        inodes.record(ino).map(|record| record.gate.clone())
    }

    async fn push_through(
        &self,
        gate: &Gate,
        ino: Ino,
        extent: Extent,
        deadline: Instant,
    ) -> Result<(), Error> {
        loop {
            let next = self
                .next_push(ino, gate, extent)
                .inspect_err(|error| self.note_refused(ino, gate, None, error));
            let Some(push) = next? else {
                return Ok(());
            };
            let ticket = match push.attempt {
                Some(ticket) => ticket,
                None => push.dataset.submit(push.changes.clone()),
            };
            if extent == Extent::Queued {
                // Others of the same dataset go along.
                tokio::task::yield_now().await;
            }
            match push.dataset.outcome(ticket, deadline).await {
                Ok(landed) => {
                    let settled = self.land(ino, &push, landed);
                    self.settle_queued(&push.dataset, settled).await;
                    if extent == Extent::Queued && push.attempt.is_none() {
                        // What was closed meanwhile is sent with what else was.
                        return Ok(());
                    }
                }
                // The attempt before this one was not made after all.
                Err(Commit { ticket: None, .. }) if push.attempt.is_some() => {
                    self.note_attempt(ino, &push, None);
                }
                Err(Commit { error, ticket }) => {
                    if ticket.is_none() && push.attempt.is_none() {
                        self.note_not_made(ino, &push);
                    }
                    self.note_attempt(ino, &push, ticket);
                    let is_final = ticket.is_none() && error.kind().is_final();
                    let error = error.into();
                    self.note_refused(ino, gate, Some(push.sent.generation), &error);
                    if is_final {
                        self.give_up(ino, &push, &error).await;
                    }
                    return Err(error);
                }
            }
        }
    }

    /// What was refused the first time it was sent is not the service's.
    fn note_not_made(&self, ino: Ino, push: &Push) {
        let mut inodes = self.inodes();
        let record = inodes.record_behind(ino, &push.gate);
        let unsent = record.and_then(|record| record.unsent.as_mut());
        if let (Some(unsent), Some(mark)) = (unsent, push.sent.mark) {
            unsent.sent.retain(|other| *other != mark);
        }
    }

    fn note_attempt(&self, ino: Ino, push: &Push, ticket: Option<Ticket>) {
        let mut inodes = self.inodes();
        let record = inodes.record_behind(ino, &push.gate);
        match (record.and_then(|record| record.unsent.as_mut()), ticket) {
            (Some(unsent), ticket) => {
                unsent.attempt = ticket.map(|ticket| (ticket, push.sent.clone()));
            }
            (None, Some(ticket)) => push.dataset.forget(ticket),
            (None, None) => {}
        }
    }

    /// Notes which state of a file its writer is told of that it could not be sent: the present
    /// one unless `generation` names it.
    pub(super) fn note_refused(&self, ino: Ino, gate: &Gate, generation: Option<u64>, why: &Error) {
        if let Some(record) = self.inodes().record_behind(ino, gate)
            && let Some(unsent) = &mut record.unsent
        {
            let generation = generation.unwrap_or(unsent.generation);
            unsent.refused = Some((generation, why.with_causes()));
        }
    }

    /// Returns what of a file is to be sent now.
    fn next_push(&self, ino: Ino, gate: &Gate, extent: Extent) -> Result<Option<Push>, Error> {
        let mut inodes = self.inodes();
        let removed = inodes.standing(ino) == Standing::Removed;
        let Some(record) = inodes.record_behind(ino, gate).filter(|_| !removed) else {
            return Ok(None);
        };
        let sent_before = record.is_sent();
        let Some(unsent) = &mut record.unsent else {
            return Ok(None);
        };
        let version = match extent {
            Extent::Queued => unsent.journaled(),
            Extent::Flushable => unsent.flushable.then(|| unsent.present()),
            Extent::Closed => (record.writers == 0).then(|| unsent.present()),
            Extent::All => Some(unsent.present()),
        };
        let Some(version) = version else {
            return Ok(None);
        };
        let times = version.kind == UnsentKind::Times;
        let text: Arc<str> = match times {
            true => "".into(),
            false => version.sendable()?.into(),
        };
        let content = record.content.as_ref().and_then(Text::as_str);
        let same = sent_before && !times && content == Some(&text);
        if same && !unsent.dated && unsent.attempt.is_none() && unsent.queued.is_none() {
            record.unsent = None;
            return Ok(None);
        }
        let kind = match version.kind {
            UnsentKind::Whole => Kind::Whole(text.clone().into()),
            UnsentKind::Append { from } => match text.get(from..) {
                Some(appended) => Kind::Append(appended.into()),
                None => return Err(Error::NotText),
            },
            UnsentKind::Edit => Kind::Edit(text.clone().into()),
            UnsentKind::Times => Kind::Times,
        };
        let (generation, modified) = (version.generation, version.modified);
        let mark = match times {
            true => {
                let listed = record.dataset.record(&record.key);
                let dated = listed.filter(|listed| listed.base == unsent.base);
                let dated = dated.and_then(|listed| listed.remote.value);
                dated.map(|value| Mark::new(Some(value.as_bytes()), modified))
            }
            false => Some(Mark::new(Some(text.as_bytes()), modified)),
        };
        let now = Sent {
            generation,
            text: (!times).then(|| text.clone()),
            modified,
            mark,
        };
        let (attempt, sent) = match unsent.attempt.take() {
            Some((ticket, sent)) => (Some(ticket), sent),
            None => (None, now),
        };
        let unseen = self.store.options().unseen;
        let change = Change {
            key: record.key.clone(),
            base: unsent.base,
            kind,
            unseen,
            sent: unsent.sent.clone(),
            whole: (!times).then(|| text.into()),
            left: unsent.left,
            modified,
        };
        let tie = unsent.queued.as_ref().and_then(|queued| queued.slot.tie);
        if let Some(queued) = unsent.queued.as_mut().filter(|_| attempt.is_none()) {
            queued.is_taken = true;
        }
        if let Some(mark) = sent.mark {
            add(&mut unsent.sent, mark);
        }
        let dataset = record.dataset.clone();
        let tied = inodes.tied_to(tie, &dataset);
        let mut changes = vec![change];
        let mut slots = Vec::new();
        for id in tied {
            if let Some(loose) = inodes.loose.get_mut(&id) {
                changes.push(loose.change(unseen));
                slots.push((id, loose.slot.id));
            }
        }
        Ok(Some(Push {
            gate: gate.clone(),
            changes,
            dataset,
            tied: slots,
            attempt,
            sent,
        }))
    }

    /// The service will never take what the journal has of a file: it is kept where its writer can
    /// find it, and what was to be removed after it stays.
    async fn give_up(&self, ino: Ino, push: &Push, why: &Error) {
        let (path, slot, settled) = {
            let mut inodes = self.inodes();
            let path = inodes.path(ino);
            let Some(record) = inodes.record_behind(ino, &push.gate) else {
                return;
            };
            let Some(unsent) = &record.unsent else {
                return;
            };
            let given_up = |queued: &&InJournal| queued.generation <= push.sent.generation;
            let Some(slot) = unsent.queued.as_ref().filter(given_up).map(|q| q.slot) else {
                return;
            };
            let parked = push.sent.text.as_ref().map(|text| NewlyParked {
                key: record.key.clone(),
                text: text.as_bytes().to_vec(),
                base: unsent.base,
                modified: push.sent.modified,
                reason: why.with_causes(),
            });
            let behind = inodes.removals_behind(slot.place);
            let behind = behind.iter().map(|(_, removal)| *removal);
            let settled = Settled {
                ids: std::iter::once(slot.id).chain(behind).collect(),
                rebased: None,
                parked,
            };
            (path, slot, settled)
        };
        // Before anything shows that it is gone.
        self.settle_queued(&push.dataset, settled).await;
        let (shown, behind) = {
            let mut inodes = self.inodes();
            if let Some(record) = inodes.record_behind(ino, &push.gate) {
                let id = record.id();
                let shows_sent = record.opens > 0;
                if let Some(unsent) = &mut record.unsent
                    // Unless a later text has its place by now.
                    && unsent.queued.take_if(|queued| queued.slot.id == slot.id).is_some()
                {
                    let is_dropped = unsent.generation == push.sent.generation;
                    if is_dropped && shows_sent {
                        // Whoever has it open sees what he wrote.
                        record.content = push.sent.text.clone().map(Into::into);
                    }
                    inodes.take_queued(&id, ino);
                    if is_dropped {
                        self.discard(&mut inodes, ino);
                        inodes.drop_if_unused(ino);
                    }
                }
            }
            let behind = inodes.removals_behind(slot.place);
            let shown = behind.iter();
            let shown = shown.filter_map(|(id, slot)| Self::reveal(&mut inodes, id, *slot));
            (shown.collect::<Vec<String>>(), behind)
        };
        self.note_untold("close", path, why);
        for path in shown {
            self.note_untold("unlink", path, why);
        }
        // Some may have come meanwhile.
        let settled = Settled {
            ids: behind.into_iter().map(|(_, slot)| slot).collect(),
            ..Settled::default()
        };
        self.settle_queued(&push.dataset, settled).await;
    }

    /// A push was made: the file is the version it made, with what was written since.
    /// Returns what that means for the journal.
    fn land(&self, ino: Ino, push: &Push, landed: Vec<Landed>) -> Settled {
        let mut inodes = self.inodes();
        let mut settled = Settled::default();
        for (id, slot) in &push.tied {
            let loose = inodes.take_loose(id, *slot);
            settled.ids.extend(loose.map(|loose| loose.slot.id));
        }
        let standing = inodes.standing(ino);
        let Some(landed) = landed.into_iter().next() else {
            return settled;
        };
        let Some(record) = inodes.record_behind(ino, &push.gate) else {
            return settled;
        };
        let id = record.id();
        let mut is_queued = false;
        let value = landed
            .record
            .as_ref()
            .and_then(|remote| remote.value.as_ref());
        let sent = push.sent.text.as_deref();
        let as_sent = sent.is_none() || value.and_then(Text::as_str) == sent;
        // What was appended to a version that nobody here has read does not show it.
        let own = push.changes.first();
        let blind = own.is_some_and(|change| {
            matches!(change.kind, Kind::Append(_)) && change.base != record.base
        });
        if let Some(unsent) = &mut record.unsent {
            let all_sent = unsent.generation == push.sent.generation;
            unsent.land(push.sent.generation, sent.map(str::len));
            // A value that is not only ours was not shown: the base stays what it was.
            if as_sent && !blind {
                unsent.base = landed.base;
            }
            unsent.sent.clear();
            unsent.left = None;
            match unsent.queued.take() {
                Some(mut queued) if queued.generation > push.sent.generation => {
                    is_queued = true;
                    queued.slot.place = queued.since;
                    settled.rebased = as_sent.then_some(Rebased {
                        id: queued.slot.id,
                        base: unsent.base,
                        appended_from: sent.map(str::len),
                    });
                    unsent.queued = Some(queued);
                }
                queued => settled.ids.extend(queued.map(|queued| queued.slot.id)),
            }
            if all_sent {
                record.unsent = None;
            }
        }
        if !is_queued {
            inodes.take_queued(&id, ino);
        }
        // A removal that was to come before this is over.
        settled.ids.extend(inodes.drop_loose(&id));
        let Some(record) = inodes.record_mut(ino) else {
            return settled;
        };
        if as_sent {
            match &landed.record {
                Some(remote) => record.show(remote, landed.base),
                None => record.base = landed.base,
            }
            if standing == Standing::Named && !blind {
                inodes.note_shown(id, landed.base);
            }
            inodes.drop_if_unused(ino);
            return settled;
        }
        // More than was written here: this file stays what its writers see, and the name leads to
        // the new version.
        if let Some(sent) = &push.sent.text {
            record.size = sent.len() as u64;
            record.content = Some(sent.clone().into());
        }
        let appended = own.filter(|change| matches!(change.kind, Kind::Append(_)));
        if let Some(change) = appended.filter(|_| standing == Standing::Named) {
            // What it was put behind was not shown, and a later change is not to take it for that.
            inodes.note_shown(id, change.base);
        }
        self.supersede(&mut inodes, ino);
        inodes.drop_if_unused(ino);
        settled
    }

    /// A name leads to another version than its node's from now on.
    pub(super) fn supersede(&self, inodes: &mut Inodes, ino: Ino) {
        if let Some(node) = inodes.get(ino)
            && node.standing == Standing::Named
        {
            let (parent, name) = (node.parent, node.name.clone());
            inodes.detach_name(parent, &name, Standing::Superseded);
            self.invalidate(ino);
        }
    }

    /// Sends what its last writer closed below a directory and was not sent yet; what is being sent
    /// is waited for.
    ///
    /// # Errors
    /// Why the first of those that could not be sent was not.
    pub async fn sync(&self, directory: Ino) -> Result<(), Error> {
        let deadline = self.deadline();
        let closed: Vec<Ino> = {
            let mut inodes = self.inodes();
            let unsent = inodes.all_unsent();
            let closed = |ino: &Ino| {
                let record = inodes.record(*ino);
                let unsent = record.filter(|record| record.writers == 0);
                let unsent = unsent.and_then(|record| record.unsent.as_ref());
                unsent.is_some_and(|unsent| unsent.queued.is_none())
                    && inodes.is_below(*ino, directory)
            };
            unsent.into_iter().filter(closed).collect()
        };
        let mut first = Ok(());
        for ino in closed {
            let sent = self.push(ino, Extent::Closed, deadline).await;
            if let Err(error) = &sent {
                self.note_unsent(self.path(ino, None), error);
            }
            first = first.and(sent);
        }
        let drained = self.drain(directory, deadline).await;
        if let Err(error) = &drained {
            for path in self.queued_paths() {
                self.note_unsent(path, error);
            }
        }
        // What was given up must not end with this process.
        let kept = self.store.pay().await.map_err(Error::from);
        first.and(drained).and(kept)
    }

    fn note_unsent(&self, path: String, error: &Error) {
        tracing::error!(%error, path, "not sent");
        self.note_failure(Failure {
            at: SystemTime::now(),
            operation: "fsync",
            path,
            errno: errno(error),
            reason: error.with_causes(),
        });
    }

    /// Returns how many files were dropped at their release, which nobody was told.
    pub fn untold(&self) -> usize {
        self.untold.load(Ordering::Relaxed)
    }

    /// Returns for how many changes it could not be written down, for lack of room on the disk, what
    /// became of them.
    pub async fn owed(&self) -> usize {
        match self.store.pay().await {
            Ok(()) => 0,
            Err(error) => {
                tracing::error!(%error, "the journal cannot be written");
                self.store.owed()
            }
        }
    }

    /// Returns how many files have something unsent.
    pub fn unsent(&self) -> usize {
        let mut inodes = self.inodes();
        inodes.all_unsent().len() + inodes.loose.len()
    }

    /// Drops what could not be sent, but for what the journal has; the name leads to the remote
    /// version again.
    pub(super) fn discard(&self, inodes: &mut Inodes, ino: Ino) {
        let named = inodes.standing(ino) == Standing::Named;
        let Some(record) = inodes.record_mut(ino) else {
            return;
        };
        let unsent = record.unsent.as_ref();
        let unsent = unsent.filter(|unsent| !unsent.is_in_journal());
        if let Some(base) = unsent.map(|unsent| unsent.base) {
            let id = record.id();
            record.drop_unsent();
            // Its writer has not seen more than that, and may try again.
            record.base = base;
            if named {
                inodes.note_shown(id, base);
            }
            self.supersede(inodes, ino);
        }
    }

    /// Waits until nothing is being sent any more and those who wait for it have been answered, at
    /// most until `deadline`.
    pub async fn settle(&self, deadline: Instant) {
        let unsent = self.inodes().all_unsent();
        for ino in unsent {
            let gate = self.inodes().record(ino).map(|record| record.gate.clone());
            if let Some(gate) = gate {
                // Whether it ends in time or not, it is counted afterwards.
                let _ = self.lock_gate(ino, &gate, deadline).await;
            }
        }
        while self.unanswered.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Adds a mark that is not there yet.
pub(super) fn add(marks: &mut Vec<Mark>, mark: Mark) {
    if !marks.contains(&mark) {
        marks.push(mark);
    }
}
