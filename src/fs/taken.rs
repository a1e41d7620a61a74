//! Files held for a while, so that a name can be taken away or given.

use std::time::Instant;

use super::error::Error;
use super::file::record_of;
use super::inode::{Ino, Inodes};
use super::lookup::FileSystem;
use super::node::{Gate, RecordNode};
use super::unsent::UnsentKind;
use crate::store::{ErrorKind, Freshness, Record, Settled};
use crate::sync::{Base, Mark, Unseen};
use crate::wire::names::RecordKey;
use crate::wire::text::Text;
use crate::wire::timestamp::Timestamp;

/// A file as a rename takes it.
pub(super) struct Taken {
    pub(super) ino: Ino,
    pub(super) key: RecordKey,
    /// The value as this mount shows it, unsent writes included.
    pub(super) value: Text,
    pub(super) modified: Timestamp,
    pub(super) base: Base,
    /// Whether the service has it.
    pub(super) is_sent: bool,
    /// Whether the value is the node's, not a newer version's.
    pub(super) is_node: bool,
    /// What was shown of it, if the value is a newer version's that nobody here has seen.
    pub(super) shown_before: Option<Base>,
    /// What may have been sent of it before.
    pub(super) sent: Vec<Mark>,
    _held: Held,
}

pub(super) type Held = (
    Option<tokio::sync::OwnedMutexGuard<()>>,
    tokio::sync::OwnedMutexGuard<()>,
);

impl FileSystem {
    /// Takes one file, or two in the order of their numbers, so that two renames cannot wait for
    /// each other.
    pub(super) async fn take_both(
        &self,
        source: Ino,
        target: Option<Ino>,
        is_noted: bool,
        deadline: Instant,
    ) -> Result<(Taken, Option<Taken>), Error> {
        let take = |ino| self.take(ino, is_noted, deadline);
        match target {
            Some(target) if target < source => {
                let target = take(target).await?;
                Ok((take(source).await?, Some(target)))
            }
            Some(target) => {
                let source = take(source).await?;
                Ok((source, Some(take(target).await?)))
            }
            None => Ok((take(source).await?, None)),
        }
    }

    /// Has a file be sent and noted by nobody else for a while. A change that is noted in the journal
    /// does not wait for what is being sent: it is told of it by its [marks].
    pub(super) async fn hold(
        &self,
        ino: Ino,
        is_noted: bool,
        deadline: Instant,
    ) -> Result<Held, Error> {
        let (gate, ledger) = {
            let mut inodes = self.inodes();
            let record = record_of(&mut inodes, ino)?;
            (record.gate.clone(), record.ledger.clone())
        };
        let one_push = match is_noted {
            true => gate.try_lock_owned().ok(),
            false => Some(self.lock_gate(ino, &gate, deadline).await?),
        };
        let one_note = self.lock_gate(ino, &ledger, deadline).await?;
        Ok((one_push, one_note))
    }

    async fn take(&self, ino: Ino, is_noted: bool, deadline: Instant) -> Result<Taken, Error> {
        let held = self.hold(ino, is_noted, deadline).await?;
        let local = {
            let mut inodes = self.inodes();
            let record = record_of(&mut inodes, ino)?;
            local_value(record)?
        };
        let listed = match local {
            Some(_) => None,
            None => Some(self.listed(ino, deadline).await?),
        };
        let mut inodes = self.inodes();
        let record = record_of(&mut inodes, ino)?;
        let (id, looked_up) = (record.id(), record.base);
        let (_, mut modified) = record.shown_size_and_time();
        let sent = marks(record, &held);
        let is_sent = may_be_sent(record, &sent);
        let begun = record.unsent.as_ref().map(|unsent| unsent.base);
        let mut is_node = true;
        let newer = listed
            .as_ref()
            .filter(|newer| record.is_superseded_by(newer.base));
        let newer_base = newer.map(|newer| newer.base);
        if let Some(newer) = newer {
            if self.store.options().unseen == Unseen::Refuse {
                return Err(Error::Busy(ErrorKind::Stale.into()));
            }
            // What was shown is not in memory any more: what there is moves, whole.
            is_node = false;
            modified = newer.remote.modified;
        }
        let shown = inodes.base_at(ino, &id, looked_up);
        let base = newer_base.or(begun).unwrap_or(shown);
        let value = local.or_else(|| listed.and_then(|listed| listed.remote.value));
        Ok(Taken {
            ino,
            key: id.2,
            value: value.ok_or_else(|| Error::Busy(ErrorKind::Stale.into()))?,
            modified,
            base,
            is_sent,
            is_node,
            shown_before: newer_base.filter(|newer| *newer != shown).map(|_| shown),
            sent,
            _held: held,
        })
    }

    /// Returns the record a node stands for as last listed, in a newer version it may be.
    async fn listed(&self, ino: Ino, deadline: Instant) -> Result<Record, Error> {
        let (dataset, key) = {
            let mut inodes = self.inodes();
            let record = record_of(&mut inodes, ino)?;
            (record.dataset.clone(), record.key.clone())
        };
        if !dataset.is_listed() {
            dataset.refresh(Freshness::Now, deadline).await?;
        }
        let listed = dataset.record(&key);
        listed.ok_or_else(|| Error::Busy(ErrorKind::Stale.into()))
    }

    /// An update that has no form in the journal took the place of what it has of some files.
    pub(super) fn leave_journal_for(&self, taken: &[Option<&Taken>]) -> Settled {
        let mut inodes = self.inodes();
        let mut settled = Settled::default();
        for taken in taken.iter().flatten() {
            let record = inodes.record(taken.ino);
            let unsent = record.and_then(|record| record.unsent.as_ref());
            let queued = unsent.and_then(|unsent| unsent.queued.as_ref());
            settled.ids.extend(queued.map(|queued| queued.slot.id));
            leave_journal(&mut inodes, taken.ino);
        }
        settled
    }
}

/// Returns a file's value if it is in the node and can be sent.
fn local_value(record: &RecordNode) -> Result<Option<Text>, Error> {
    let unsent = record.unsent.as_ref();
    match unsent.filter(|unsent| unsent.kind != UnsentKind::Times) {
        Some(unsent) => Ok(Some(unsent.present().sendable()?.into())),
        None => Ok(record.content.clone()),
    }
}

/// The journal's row of a file's record is another's from now on, and what is being sent of it does
/// not concern the file any more.
pub(super) fn leave_journal(inodes: &mut Inodes, ino: Ino) {
    let Some(record) = inodes.record_mut(ino) else {
        return;
    };
    record.gate = Gate::default();
    if let Some(unsent) = &mut record.unsent {
        unsent.queued = None;
    }
    let id = record.id();
    inodes.take_queued(&id, ino);
}

/// What is unsent of a file that lost its name is kept for those who have it open.
pub(super) fn drop_unless_open(inodes: &mut Inodes, ino: Ino) {
    if let Some(record) = inodes.record_mut(ino).filter(|record| record.opens == 0) {
        record.drop_unsent();
    }
}

/// Returns the marks of what may be sent of a file while it is held.
pub(super) fn marks(record: &RecordNode, (one_push, _): &Held) -> Vec<Mark> {
    let unsent = record.unsent.as_ref();
    unsent.map_or_else(Vec::new, |unsent| unsent.marks(one_push.is_none()))
}

/// Returns whether the service may have a file's record.
pub(super) fn may_be_sent(record: &RecordNode, marks: &[Mark]) -> bool {
    let unsent = record.unsent.as_ref();
    let tried = unsent.is_some_and(|unsent| unsent.attempt.is_some());
    record.is_sent() || tried || !marks.is_empty()
}
