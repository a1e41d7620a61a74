//! Putting changes in line: what they take the place of, and what of them is held back.

use std::collections::BTreeSet;
use std::time::Instant;

use super::DatasetState;
use super::holding::begin_hold;
use crate::sync::change::{Left as Known, Shown};
use crate::sync::pending::barrier::{Barrier, Standing};
use crate::sync::pending::change::{Change, Digest, Kind, Ticket};
use crate::sync::pending::compose::Composition;
use crate::sync::pending::decide::{Refusal, check};
use crate::sync::pending::fingerprint::digest;
use crate::sync::pending::group::{Group, Noted, Places, Shape, carried};
use crate::sync::pending::note::{Hold, Note, NotedChange, Place};
use crate::sync::pending::planted::Planted;
use crate::wire::names::RecordKey;
use crate::wire::timestamp::Timestamp;

/// The most that one group takes in.
const MAX_CHANGES: usize = 128;
const MAX_BYTES: usize = 1024 * 1024;

/// When the caller of a change is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// When the service has it.
    Close,
    /// When the journal has it.
    Async,
}

/// How changes are staged.
#[derive(Clone, Copy, Debug)]
pub struct How {
    pub commit: Commit,
    /// Whether the file was made for its owner alone and had to be new.
    pub private: bool,
    pub now: Instant,
    pub date: Timestamp,
}

/// What is to be done for staged changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Staged {
    /// What the journal is to note, in one transaction, before anything else is done; then
    /// [`DatasetState::handle_noted`] or [`DatasetState::handle_not_noted`] is due, if there is
    /// anything in these two.
    pub notes: Vec<Note>,
    /// What the journal is to take out in the same transaction.
    pub replaced: Vec<Ticket>,
    /// Whether the caller is to wait for the outcome.
    pub waits: bool,
}

/// Changes, and why they are held back if they are.
pub(super) type Part = (Vec<Change>, Option<Hold>);

impl DatasetState {
    /// Puts changes that belong together in line, one a key. `fresh` gives tickets.
    ///
    /// Returns None while something of the same keys is being noted: the caller waits for that.
    ///
    /// # Errors
    /// What no record can be, and is not held back, is not put in line.
    pub fn stage(
        &mut self,
        ticket: Ticket,
        mut changes: Vec<Change>,
        how: How,
        barrier: &mut Barrier,
        fresh: &mut dyn FnMut() -> Ticket,
    ) -> Result<Option<Staged>, Refusal> {
        for change in &mut changes {
            change.base = self.normalized(change.base, &change.key);
        }
        let keys: BTreeSet<RecordKey> = changes.iter().map(|change| change.key.clone()).collect();
        let is_busy = |group: &Group| {
            let busy = matches!(group.noted, Noted::UnderWay { .. }) || group.replaced_by.is_some();
            busy && group.shares_a_key(&keys)
        };
        if self.groups.iter().any(is_busy) {
            return Ok(None);
        }
        let absorbed = self.absorbable(&keys);
        let (absorbed, changes) = match self.compose(&absorbed, &changes, barrier) {
            Some(composed) => (absorbed, composed),
            None => (Vec::new(), changes),
        };
        let was_passing = self.any_has_hold(&absorbed, Hold::Passing);
        let in_grace = self.any_has_hold(&absorbed, Hold::Grace);
        let parts = self.split(changes, how.private || was_passing, in_grace);
        for (changes, _) in parts.iter().filter(|(_, hold)| hold.is_none()) {
            changes.iter().try_for_each(|change| check(&change.kind))?;
        }
        if absorbed.is_empty() {
            self.end_holds_of(&keys, how.now);
        }
        Ok(Some(self.put(ticket, absorbed, parts, how, barrier, fresh)))
    }

    /// Ends the holds of what changes of these keys have to wait for.
    fn end_holds_of(&mut self, keys: &BTreeSet<RecordKey>, now: Instant) {
        let groups = self.groups.iter().filter(|group| group.shares_a_key(keys));
        for ticket in groups.map(|group| group.ticket).collect::<Vec<_>>() {
            self.end_holds(Some(ticket), now);
        }
    }

    fn any_has_hold(&self, groups: &[Ticket], hold: Hold) -> bool {
        let mut groups = self
            .groups
            .iter()
            .filter(|group| groups.contains(&group.ticket));
        groups.any(|group| group.hold.is_some_and(|held| held.hold == hold))
    }

    /// Returns the groups that changes of these keys take the place of: all that share a key, and
    /// all that share one with those, or none.
    fn absorbable(&self, keys: &BTreeSet<RecordKey>) -> Vec<Ticket> {
        let mut all_keys = keys.clone();
        let mut found: Vec<Ticket> = Vec::new();
        loop {
            let is_new =
                |group: &&Group| group.shares_a_key(&all_keys) && !found.contains(&group.ticket);
            let Some(group) = self.groups.iter().find(is_new) else {
                break;
            };
            if !group.may_be_absorbed(self.is_in_flight(group.ticket)) {
                return Vec::new();
            }
            found.push(group.ticket);
            all_keys.extend(group.keys());
        }
        let bytes: usize = self.absorbed(&found).map(Group::bytes).sum();
        let too_many = all_keys.len() > MAX_CHANGES || bytes > MAX_BYTES;
        // What takes the place of the same keys only makes no group larger than it is.
        match too_many && all_keys.len() > keys.len() {
            true => Vec::new(),
            false => found,
        }
    }

    fn absorbed<'a>(&'a self, tickets: &'a [Ticket]) -> impl Iterator<Item = &'a Group> {
        let of = |group: &&Group| tickets.contains(&group.ticket);
        self.groups.iter().filter(of)
    }

    /// Composes what is absorbed, in order, and then the changes; None if they stay apart.
    fn compose(
        &self,
        absorbed: &[Ticket],
        changes: &[Change],
        barrier: &Barrier,
    ) -> Option<Vec<Change>> {
        let mut composed = self.composed(absorbed)?;
        for change in changes {
            composed.lay(change, None, self.shown_digest(&change.key))?;
        }
        let first = self.absorbed(absorbed).filter_map(first_set).min();
        let reaches = |place| barrier.reaches_over_a_removal(place);
        let changes = composed.changes();
        let reaches_over = Shape::of(&changes) == Shape::Mixed && first.is_some_and(reaches);
        let drops = self.drops_what_was_moved(absorbed, &changes, barrier)
            || self.drops_a_move(absorbed, &changes, barrier)
            || self.forgets_a_move(absorbed, &changes, barrier);
        (!reaches_over && !drops).then_some(changes)
    }

    /// Composes groups, in order; None if they stay apart.
    pub(super) fn composed(&self, groups: &[Ticket]) -> Option<Composition> {
        let mut composed = Composition::default();
        for group in self.absorbed(groups) {
            for change in &group.changes {
                composed.lay(change, Some(group.ticket), self.shown_digest(&change.key))?;
            }
        }
        Some(composed)
    }

    /// Returns whether a value would be in no set any more that a removal waits for elsewhere.
    fn drops_what_was_moved(
        &self,
        absorbed: &[Ticket],
        changes: &[Change],
        barrier: &Barrier,
    ) -> bool {
        let carries = carried(changes);
        self.absorbed(absorbed).any(|group| {
            let dropped = carried(&group.changes);
            let mut dropped = dropped.into_iter().filter(|value| !carries.contains(value));
            let is_moved = |value, place| barrier.is_moved(place, value, absorbed);
            first_set(group).is_some_and(|place| dropped.any(|value| is_moved(value, place)))
        })
    }

    /// Returns whether a removal would be none any more that waits for a set elsewhere.
    fn drops_a_move(&self, absorbed: &[Ticket], changes: &[Change], barrier: &Barrier) -> bool {
        let is_set = |key: &RecordKey| {
            let change = changes.iter().find(|change| change.key == *key);
            change.is_some_and(|change| change.kind.is_set())
        };
        self.absorbed(absorbed).any(|group| {
            let removals = group
                .changes
                .iter()
                .filter(|change| change.kind == Kind::Remove);
            let mut dropped = removals.filter(|change| is_set(&change.key));
            let last = group.places().map(|places| places.last);
            dropped.any(|change| {
                let waits = last.zip(self.removed_digest(change));
                waits.is_some_and(|(last, value)| barrier.is_carried(last, value, absorbed))
            })
        })
    }

    /// Returns whether a removal would be of another value than the one that was moved elsewhere: what
    /// carries that would not be known any more for what it waits for.
    fn forgets_a_move(&self, absorbed: &[Ticket], changes: &[Change], barrier: &Barrier) -> bool {
        // What is left of a key that never was a record is nothing, but its value may be a record's
        // that was moved there with it.
        let is_removed = |group: &Group, change: &Change| {
            let left = changes.iter().find(|left| left.key == change.key);
            left.map_or(group.changes.len() > 1, |left| left.kind == Kind::Remove)
        };
        let mut values = self.absorbed(absorbed).flat_map(|group| {
            let removed = group.changes.iter();
            let removed = removed.filter(|change| is_removed(group, change));
            removed.filter_map(|change| change.kind.whole())
        });
        let last = Place(i64::MAX);
        values.any(|value| barrier.is_carried(last, Digest::of(value), absorbed))
    }

    /// Returns the digest of the service's value.
    fn shown_digest(&self, key: &RecordKey) -> Option<Digest> {
        digest(self.records.get(key))
    }

    /// Puts parts in line, the first under the ticket that was staged.
    fn put(
        &mut self,
        ticket: Ticket,
        absorbed: Vec<Ticket>,
        parts: Vec<Part>,
        how: How,
        barrier: &mut Barrier,
        fresh: &mut dyn FnMut() -> Ticket,
    ) -> Staged {
        // Where nothing is left, what was noted is taken out, and nothing is sent.
        let is_noted = |(changes, hold): &Part| {
            how.commit == Commit::Async || hold.is_some() || changes.is_empty()
        };
        let waits = !is_noted(&parts[0]);
        let has_notes = parts.iter().any(is_noted);
        let mut staged = Staged {
            waits,
            // What is not for the journal takes the place of nothing before it is made.
            replaced: if waits { Vec::new() } else { absorbed.clone() },
            notes: Vec::new(),
        };
        for (at, part) in parts.into_iter().enumerate() {
            let notes = is_noted(&part);
            let (changes, hold) = part;
            let group = Group {
                ticket: if at == 0 { ticket } else { fresh() },
                noted: match has_notes {
                    true => Noted::UnderWay {
                        with: ticket,
                        notes,
                    },
                    false => Noted::No,
                },
                awaited_as: (at == 0 && waits).then_some(ticket).into_iter().collect(),
                hold: hold.map(|hold| begin_hold(hold, how.now, how.date)),
                part_of: (at > 0).then_some(ticket),
                ..self.fresh_group(&absorbed, changes, how)
            };
            // Where nothing is left there is nothing to note, and no removal to come.
            if !group.changes.is_empty() {
                staged.notes.extend(notes.then(|| self.note(&group)));
                self.announce(&group, barrier);
            }
            self.groups.push(group);
        }
        for group in &mut self.groups {
            if absorbed.contains(&group.ticket) {
                group.replaced_by = Some(ticket);
            }
        }
        if Planted::AbsorbedBeforeNoted.is_planted() {
            self.take_out_replaced(ticket, &[ticket], barrier);
        }
        staged
    }

    /// Returns a group that takes the place of others, and nothing else said of it.
    fn fresh_group(&self, absorbed: &[Ticket], changes: Vec<Change>, how: How) -> Group {
        let since = self
            .absorbed(absorbed)
            .map(|group| group.gathers_since)
            .min();
        let first = self.absorbed(absorbed).filter_map(first_set).min();
        Group {
            ticket: Ticket(0),
            noted: Noted::No,
            awaited_as: BTreeSet::new(),
            gathers_since: since.unwrap_or(how.now),
            not_before: None,
            hold: None,
            replaced_by: None,
            part_of: None,
            inherited: first.filter(|_| Shape::of(&changes) != Shape::Removals),
            refused: None,
            cohort: self.last_cohort,
            attempts: 0,
            unanswered: false,
            lost: Vec::new(),
            changes,
        }
    }

    /// Tells the order of removals that are to come.
    fn announce(&self, group: &Group, barrier: &mut Barrier) {
        if matches!(group.noted, Noted::UnderWay { notes: true, .. })
            && group.shape() == Shape::Removals
        {
            let removes = group.changes.iter();
            let removes = removes.filter_map(|change| self.removed_digest(change));
            barrier.begin(self.id, group.ticket, removes.collect());
        }
        if group.is_awaited() {
            let removals = group
                .changes
                .iter()
                .filter(|change| change.kind == Kind::Remove);
            for digest in removals.filter_map(|change| self.removed_digest(change)) {
                barrier.want_carriers(digest);
            }
        }
    }

    /// Returns what the journal is to keep of a group.
    fn note(&self, group: &Group) -> Note {
        let changes = group.changes.iter().map(|change| NotedChange {
            change: change.clone(),
            known: self.known(change),
            sent: self.fingerprints.of(&change.key).to_vec(),
        });
        Note {
            ticket: group.ticket,
            changes: changes.collect(),
            hold: group.hold.map(|held| (held.hold, held.since)),
            first_set: group.inherited,
        }
    }

    /// Returns what the next process is to know of a change, if this one leaves it.
    pub(super) fn known(&self, change: &Change) -> Known {
        if let Some(left) = change.left {
            return left;
        }
        let same_life = change.base.life == self.life;
        let is_new = same_life && !self.exists;
        let remote = self.records.get(&change.key);
        let count = remote.map_or(0, |remote| remote.sync_count);
        Known {
            existed: !is_new || change.base.shown != Shown::Absent,
            sync_count: self.listed.map(|_| count).filter(|_| same_life),
        }
    }

    /// The journal has what was staged under a ticket; `places` are those of its notes, in their
    /// order.
    pub fn handle_noted(&mut self, ticket: Ticket, places: &[Place], barrier: &mut Barrier) {
        let mut places = places.iter();
        let mut staged = Vec::new();
        let mut takes_over = false;
        for group in &mut self.groups {
            let Noted::UnderWay { with, notes } = group.noted else {
                continue;
            };
            if with != ticket {
                continue;
            }
            staged.push(group.ticket);
            takes_over |= notes && group.ticket == ticket;
            if notes && with == ticket {
                group.part_of = group.part_of.filter(|_| !takes_over);
            }
            let has_note = notes && !group.changes.is_empty();
            let place = has_note.then(|| places.next()).flatten();
            group.noted = match place {
                Some(place) => Noted::Yes(placed(group, *place)),
                None => Noted::No,
            };
        }
        if takes_over {
            self.take_out_replaced(ticket, &staged, barrier);
        }
        for ticket in staged {
            self.enter(ticket, barrier);
            self.go_on_noted(ticket, barrier);
        }
        self.settle_empty(barrier);
    }

    /// Does what could not be done to a group while it was being noted: it may have been refused, or
    /// have nobody who waits for it any more.
    fn go_on_noted(&mut self, ticket: Ticket, barrier: &mut Barrier) {
        let Some(group) = self.group_mut(ticket) else {
            return;
        };
        if let Some(why) = group.refused.take() {
            self.refuse_for(ticket, why, barrier);
        } else if group.noted == Noted::No && !group.is_awaited() && !group.changes.is_empty() {
            self.give_back(ticket, Refusal::Lost, barrier);
        }
    }

    /// Takes out what a group took the place of. Returns what it was.
    pub(super) fn take_out_replaced(
        &mut self,
        ticket: Ticket,
        by: &[Ticket],
        barrier: &mut Barrier,
    ) -> Vec<Ticket> {
        let replaced = self.replaced_by(ticket);
        let awaited_as = self.absorbed(&replaced).map(|group| &group.awaited_as);
        let awaited_as: BTreeSet<Ticket> = awaited_as.flatten().copied().collect();
        self.groups
            .retain(|group| !replaced.contains(&group.ticket));
        let is_sent = |group: &&mut Group| by.contains(&group.ticket) && group.hold.is_none();
        for group in self.groups.iter_mut().filter(is_sent) {
            group.awaited_as.extend(&awaited_as);
        }
        for old in &replaced {
            barrier.replace(*old);
            self.successors.insert(*old, by.to_vec());
        }
        replaced
    }

    pub(super) fn replaced_by(&self, ticket: Ticket) -> Vec<Ticket> {
        let groups = self.groups.iter();
        let replaced = groups.filter(|group| group.replaced_by == Some(ticket));
        replaced.map(|group| group.ticket).collect()
    }

    /// Lets those be as they were that a group was to take the place of.
    pub(super) fn revive_replaced(&mut self, ticket: Ticket) {
        for group in &mut self.groups {
            if group.replaced_by == Some(ticket) {
                group.replaced_by = None;
            }
        }
    }

    /// Has the order know a noted group as it is now.
    pub(in crate::sync::pending) fn enter(&mut self, ticket: Ticket, barrier: &mut Barrier) {
        let Some(at) = self.position(ticket) else {
            return;
        };
        let group = &self.groups[at];
        let Some(places) = group.places() else {
            return;
        };
        let removals = group
            .changes
            .iter()
            .filter(|change| change.kind == Kind::Remove);
        let removes = removals.filter_map(|change| self.removed_digest(change));
        let standing = Standing {
            dataset: self.id,
            places,
            shape: group.shape(),
            litter: group.is_litter(),
            held: group.hold.is_some(),
            carries: carried(&group.changes),
            removes: removes.collect(),
        };
        barrier.insert(ticket, standing);
    }

    /// Returns the digest of the value that a removal takes away, as far as it is known.
    pub(super) fn removed_digest(&self, change: &Change) -> Option<Digest> {
        match change.base.pending {
            Some(made) => made.digest,
            None => self.shown_digest(&change.key),
        }
    }

    /// What was staged under a ticket cannot be noted: all is as it was before, and the changes are
    /// their writer's. What bases on them come to is kept until [`DatasetState::forget`].
    pub fn handle_not_noted(&mut self, ticket: Ticket, barrier: &mut Barrier) {
        let is_of =
            |group: &Group| matches!(group.noted, Noted::UnderWay { with, .. } if with == ticket);
        let mut changes = Vec::new();
        for group in self.groups.iter().filter(|group| is_of(group)) {
            barrier.cancel(group.ticket);
            changes.extend(group.changes.iter().cloned());
        }
        self.groups.retain(|group| !is_of(group));
        let undone = self.undone(ticket, &changes);
        self.resolutions.insert(ticket, undone);
        self.revive_replaced(ticket);
    }
}

fn first_set(group: &Group) -> Option<Place> {
    group.places()?.first_set
}

fn placed(group: &Group, place: Place) -> Places {
    let has_sets = Shape::of(&group.changes) != Shape::Removals;
    Places {
        first_set: has_sets.then(|| group.inherited.unwrap_or(place)),
        last: place,
    }
}
