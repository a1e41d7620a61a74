//! Names taken away and given: unlink and rename.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::control::FIXED;
use super::error::Error;
use super::file::{new_key, record_of};
use super::inode::{Ino, Inodes};
use super::lookup::{FileSystem, Found, Place, check_length};
use super::node::{NodeKind, RecordNode, Standing};
use super::push::Extent;
use super::queue::{record_id, removal_row};
use super::taken::{Taken, drop_unless_open, leave_journal, marks, may_be_sent};
use crate::store::{Dataset, NewQueued, QueuedKind, Settled, Tie, shown_count};
use crate::sync::{Change, Kind, Landed, Unseen};
use crate::wire::names::RecordKey;

/// What rename(2) does about a file that has the new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    Replace,
    /// RENAME_NOREPLACE: fail.
    NoReplace,
    /// RENAME_EXCHANGE: give it the old name.
    Exchange,
}

impl FileSystem {
    /// Removes a record. Unsent writes to it are cancelled.
    ///
    /// # Errors
    /// [`Error::Busy`] if it is no longer what was shown here.
    pub async fn unlink(&self, parent: Ino, name: &str) -> Result<(), Error> {
        let dataset = match self.place(parent)? {
            Place::Dataset(dataset) => dataset,
            Place::Control(_) => return Err(FIXED),
            Place::Parked(_) => return self.discard_parked(parent, name).await,
            Place::Region | Place::Pool(_) | Place::Identity(_) => {
                return Err(Error::IsADirectory);
            }
        };
        let deadline = self.deadline();
        let ino = self.known_child(parent, name, deadline).await?;
        let id = record_of(&mut self.inodes(), ino)?.id();
        self.send_older(Some(ino), &id, deadline).await?;
        let held = self.hold(ino, self.is_async(), deadline).await?;
        let (id, change, queued) = {
            let mut inodes = self.inodes();
            let record = record_of(&mut inodes, ino)?;
            let (id, looked_up) = (record.id(), record.base);
            let sent = marks(record, &held);
            let is_sent = may_be_sent(record, &sent);
            let begun = record.unsent.as_ref().map(|unsent| unsent.base);
            let base = begun.unwrap_or_else(|| inodes.base_at(ino, &id, looked_up));
            let record = record_of(&mut inodes, ino)?;
            let unsent = record.unsent.as_ref();
            let queued = unsent.and_then(|unsent| Some(unsent.queued.as_ref()?.slot.id));
            let change = Change {
                key: id.2.clone(),
                base,
                kind: Kind::Remove,
                unseen: self.store.options().unseen,
                sent,
                whole: None,
                left: None,
                modified: SystemTime::now().into(),
            };
            (id, is_sent.then_some(change), queued)
        };
        match (change, queued) {
            (Some(change), _) if self.is_async() => {
                self.enqueue_removal(parent, &dataset, change).await?;
            }
            (change, queued) => {
                if let Some(change) = change {
                    commit(&dataset, vec![change], deadline).await?;
                }
                let settled = Settled {
                    ids: queued.into_iter().collect(),
                    ..Settled::default()
                };
                self.settle_queued(&dataset, settled).await;
            }
        }
        let mut inodes = self.inodes();
        leave_journal(&mut inodes, ino);
        drop_unless_open(&mut inodes, ino);
        inodes.forget_shown(&id);
        inodes.detach_name(parent, name, Standing::Removed);
        Ok(())
    }

    /// Gives a record another key in its dataset, in one update.
    ///
    /// # Errors
    /// [`Error::CrossesDatasets`] to another directory and for directories, [`Error::Busy`] if
    /// either file is no longer what was shown here.
    pub async fn rename(
        &self,
        parent: Ino,
        name: &str,
        new_parent: Ino,
        new_name: &str,
        mode: RenameMode,
    ) -> Result<(), Error> {
        check_length(new_name)?;
        let dataset = match self.place(parent)? {
            Place::Control(_) | Place::Parked(_) => return Err(FIXED),
            _ if self.place(new_parent)?.is_control() => return Err(FIXED),
            Place::Dataset(dataset) if parent == new_parent => dataset,
            Place::Dataset(_) | Place::Identity(_) => return Err(Error::CrossesDatasets),
            Place::Region | Place::Pool(_) => {
                return Err(Error::NotPermitted("ids cannot be changed"));
            }
        };
        let deadline = self.deadline();
        let source = self.known_child(parent, name, deadline).await?;
        // The kernel has just looked the new name up: one without a node was shown to be absent,
        // and looking again might show what comes meanwhile.
        let known = self.inodes().child(parent, new_name);
        let target = match known {
            Some(ino) => self.standing_child(ino, parent, new_name, deadline).await?,
            None => None,
        };
        let absent = dataset.absent_base();
        let new_key = match target {
            Some(ino) => record_of(&mut self.inodes(), ino)?.key.clone(),
            None => new_key(new_name)?,
        };
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => return Err(Error::Exists),
            (RenameMode::Exchange, None) => return Err(Error::NotFound),
            _ => {}
        }
        if target == Some(source) {
            return Ok(());
        }
        if !self.is_async() || mode == RenameMode::Exchange {
            // An update of both has no form in the journal.
            for ino in [Some(source), target].into_iter().flatten() {
                if self.is_queued(ino) {
                    self.push(ino, Extent::All, deadline).await?;
                }
            }
        }
        let old_id = record_of(&mut self.inodes(), source)?.id();
        let new_id = record_id(&dataset, &new_key);
        for (ino, id) in [(Some(source), old_id), (target, new_id)] {
            self.send_older(ino, &id, deadline).await?;
        }
        let is_noted = self.is_async() && mode != RenameMode::Exchange;
        let both = self.take_both(source, target, is_noted, deadline).await;
        let (source, target) = match both {
            // What was refused of the new name's file was dropped before it could be taken.
            Err(_)
                if target.is_some()
                    && mode == RenameMode::Replace
                    && self.inodes().child(parent, new_name).is_none() =>
            {
                self.take_both(source, None, is_noted, deadline).await?
            }
            both => both?,
        };
        if mode == RenameMode::Exchange
            && let Some(target) = &target
        {
            return self
                .exchange(
                    parent,
                    (name, &source),
                    (new_name, target),
                    (&dataset, deadline),
                )
                .await;
        }
        let target_base = match &target {
            Some(target) => target.base,
            None => self
                .removed(&dataset, &new_key)
                .map_or(absent, |(base, _)| base),
        };
        let unseen = match mode {
            // What came meanwhile is not to be replaced.
            RenameMode::NoReplace => Unseen::Refuse,
            RenameMode::Replace | RenameMode::Exchange => self.store.options().unseen,
        };
        let mut changes = vec![Change {
            key: new_key.clone(),
            base: target_base,
            kind: Kind::Whole(source.value.clone()),
            unseen,
            sent: match &target {
                Some(target) => target.sent.clone(),
                None => self
                    .removed(&dataset, &new_key)
                    .map_or_else(Vec::new, |(_, sent)| sent),
            },
            whole: None,
            left: None,
            modified: source.modified,
        }];
        if source.is_sent {
            changes.push(Change {
                key: source.key.clone(),
                base: source.base,
                kind: Kind::Remove,
                unseen: self.store.options().unseen,
                sent: source.sent.clone(),
                whole: None,
                left: None,
                modified: source.modified,
            });
        }
        if self.is_async() && source.value.as_str().is_some() {
            return self
                .enqueue_rename(
                    (parent, new_name),
                    &dataset,
                    (&source, target.as_ref()),
                    changes,
                )
                .await;
        }
        let landed = commit(&dataset, changes, deadline).await;
        let landed = landed.map_err(|error| match error {
            Error::Busy(_) if mode == RenameMode::NoReplace && dataset.has(&new_key) => {
                Error::Exists
            }
            error => error,
        })?;
        let mut settled = self.leave_journal_for(&[Some(&source), target.as_ref()]);
        let removal = {
            let mut inodes = self.inodes();
            if let Some(target) = &target {
                drop_unless_open(&mut inodes, target.ino);
            }
            if let Some(record) = inodes.record(source.ino) {
                let id = record.id();
                inodes.forget_shown(&id);
            }
            inodes.rename(source.ino, new_name);
            // An earlier process may have left a removal of what has the name now.
            let removal = inodes.drop_loose(&record_id(&dataset, &new_key));
            self.land_renamed(&mut inodes, new_key, &source, landed.first());
            removal
        };
        settled.ids.extend(removal);
        self.settle_queued(&dataset, settled).await;
        Ok(())
    }

    /// Notes a rename in the journal: the new name's value, and that the old name is gone.
    async fn enqueue_rename(
        &self,
        (parent, new_name): (Ino, &str),
        dataset: &Arc<Dataset>,
        (source, target): (&Taken, Option<&Taken>),
        changes: Vec<Change>,
    ) -> Result<(), Error> {
        let mut changes = changes.into_iter();
        let (Some(set), removal) = (changes.next(), changes.next()) else {
            return Err(Error::NotFound);
        };
        let old = {
            let inodes = self.inodes();
            let record = inodes.record(source.ino);
            let unsent = record.and_then(|record| record.unsent.as_ref());
            unsent.and_then(|unsent| unsent.queued.as_ref()?.slot.tie)
        };
        let tie = Tie {
            new: removal.is_some() || old.is_some(),
            old,
        };
        let whole = NewQueued {
            key: set.key.clone(),
            kind: QueuedKind::Whole,
            text: source.value.as_bytes().into(),
            base: shown_count(set.base),
            left: dataset.left(&set.key, set.base),
            modified: set.modified,
            sent: set.sent.clone(),
        };
        let dropped = match removal {
            Some(_) => Vec::new(),
            None => vec![source.key.clone()],
        };
        let removed = removal
            .as_ref()
            .map(|removal| removal_row(dataset, removal));
        let rows = std::iter::once(whole).chain(removed).collect();
        if source.shown_before.is_some() {
            // Whoever removes it next need not see that either.
            let Taken {
                key, value, base, ..
            } = source;
            let kept = dataset.keep_unseen(key, value, *base, source.modified);
            kept.await.map_err(Error::of_path)?;
        }
        let slots = dataset.queue(rows, dropped, tie).await;
        let slots = slots.map_err(Error::of_path)?;
        let mut slots = slots.into_iter();
        let Some(slot) = slots.next() else {
            return Err(Error::NotFound);
        };
        let mut inodes = self.inodes();
        if let Some(target) = target {
            leave_journal(&mut inodes, target.ino);
            drop_unless_open(&mut inodes, target.ino);
        }
        leave_journal(&mut inodes, source.ino);
        inodes.retie(old, slot.tie);
        if let (Some(removal), Some(slot)) = (removal, slots.next()) {
            let id = record_id(dataset, &removal.key);
            inodes.forget_shown(&id);
            self.hide(&mut inodes, parent, dataset, removal, slot);
        }
        let id = record_id(dataset, &set.key);
        inodes.drop_loose(&id);
        let ino = match source.is_node {
            true => {
                inodes.rename(source.ino, new_name);
                source.ino
            }
            false => {
                // A version of its own, so a file of its own.
                self.supersede(&mut inodes, source.ino);
                inodes.detach_name(parent, new_name, Standing::Removed);
                let record =
                    RecordNode::created(dataset.clone(), set.key.clone(), set.base, set.modified);
                inodes.insert(parent, new_name, NodeKind::Record(Box::new(record)))
            }
        };
        if let Some(record) = inodes.record_mut(ino) {
            record.take_name(&set, source.value.as_bytes(), slot);
        }
        inodes.queue.insert(id, ino);
        inodes.note_unsent(ino);
        drop(inodes);
        self.wake_queue();
        Ok(())
    }

    async fn exchange(
        &self,
        parent: Ino,
        (name, source): (&str, &Taken),
        (new_name, target): (&str, &Taken),
        (dataset, deadline): (&Arc<Dataset>, Instant),
    ) -> Result<(), Error> {
        let swapped = |to: &Taken, from: &Taken| Change {
            key: to.key.clone(),
            base: to.base,
            kind: Kind::Whole(from.value.clone()),
            unseen: self.store.options().unseen,
            sent: to.sent.clone(),
            whole: None,
            left: None,
            modified: from.modified,
        };
        let changes = vec![swapped(target, source), swapped(source, target)];
        let landed = commit(dataset, changes, deadline).await?;
        let settled = self.leave_journal_for(&[Some(source), Some(target)]);
        self.settle_queued(dataset, settled).await;
        let mut inodes = self.inodes();
        inodes.exchange(parent, name, new_name);
        let (moved, back) = (target.key.clone(), source.key.clone());
        self.land_renamed(&mut inodes, moved, source, landed.first());
        self.land_renamed(&mut inodes, back, target, landed.get(1));
        Ok(())
    }

    /// A renamed file is the version the update made, if that has the value that was sent: what
    /// somebody else made of it meanwhile is another version, which nobody has seen.
    fn land_renamed(
        &self,
        inodes: &mut Inodes,
        key: RecordKey,
        taken: &Taken,
        landed: Option<&Landed>,
    ) {
        let ino = taken.ino;
        let Some(record) = inodes.record_mut(ino) else {
            return;
        };
        record.key = key;
        record.drop_unsent();
        let remote = landed.and_then(|landed| Some((landed.base, landed.record.as_ref()?)));
        match remote {
            Some((base, remote))
                if taken.is_node && remote.value.as_ref() == Some(&taken.value) =>
            {
                record.show(remote, base);
                let id = record.id();
                inodes.note_shown(id, base);
            }
            _ => {
                let id = record.id();
                if let Some(shown) = taken.shown_before {
                    // Moving it has not shown it.
                    inodes.note_shown(id, shown);
                }
                self.supersede(inodes, ino);
            }
        }
    }

    /// Returns the node a name leads to; it is looked up if the kernel never did.
    async fn known_child(&self, parent: Ino, name: &str, deadline: Instant) -> Result<Ino, Error> {
        if let Some(ino) = self.inodes().child(parent, name) {
            return Ok(ino);
        }
        match self.find(parent, name, 0, deadline).await? {
            Found::Entry(entry) => Ok(entry.attr.ino),
            Found::Nothing(_) => Err(Error::NotFound),
        }
    }

    /// Returns the node a name leads to once what was refused of the one it led to is dropped.
    async fn standing_child(
        &self,
        ino: Ino,
        parent: Ino,
        name: &str,
        deadline: Instant,
    ) -> Result<Option<Ino>, Error> {
        self.wait_until_dropped(ino, deadline).await?;
        match self.known_child(parent, name, deadline).await {
            Ok(ino) => Ok(Some(ino)),
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

async fn commit(
    dataset: &Arc<Dataset>,
    changes: Vec<Change>,
    deadline: Instant,
) -> Result<Vec<Landed>, Error> {
    let landed = dataset.commit(changes, deadline).await;
    landed.map_err(|commit| {
        if let Some(ticket) = commit.ticket {
            dataset.forget(ticket);
        }
        Error::of_path(commit.error)
    })
}
