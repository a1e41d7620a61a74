//! Deciding groups for good: who is told, and what others are based on from then on.

use super::{DatasetState, Event, Landed, Outcome};
use crate::sync::pending::barrier::Barrier;
use crate::sync::pending::change::{Base, Change, Ticket, note_once};
use crate::sync::pending::decide::Refusal;
use crate::sync::pending::fingerprint::digest;
use crate::sync::pending::group::{Group, Noted};
use crate::sync::pending::note::{Rebased, Settled};
use crate::sync::pending::resolution::Resolution;
use crate::wire::names::RecordKey;

impl DatasetState {
    /// A group was made, or is made already.
    pub(super) fn settle_made(&mut self, ticket: Ticket, barrier: &mut Barrier) {
        let Some(at) = self.position(ticket) else {
            return;
        };
        let changes = self.groups[at].changes.clone();
        let landed = changes.iter().map(|change| Landed {
            key: change.key.clone(),
            record: self.records.get(&change.key).cloned(),
            base: self.base(&change.key),
        });
        let landed = landed.collect();
        for change in &changes {
            self.fingerprints
                .found(&change.key, self.records.get(&change.key));
        }
        self.settle(ticket, Outcome::Made(landed), barrier);
    }

    fn changes_of(&self, ticket: Ticket) -> Option<Vec<Change>> {
        Some(self.groups[self.position(ticket)?].changes.clone())
    }

    /// A group can never be made. One that is being noted is refused when it is noted, so that what
    /// the journal has of it is kept.
    pub(super) fn refuse_for(&mut self, ticket: Ticket, why: Refusal, barrier: &mut Barrier) {
        if let Some(group) = self.group_mut(ticket)
            && matches!(group.noted, Noted::UnderWay { .. })
        {
            group.refused.get_or_insert(why);
            return;
        }
        if let Some(changes) = self.changes_of(ticket) {
            self.settle(ticket, Outcome::Refused(why, changes), barrier);
        }
    }

    /// A removal is kept back, as what carried its value was refused.
    pub fn keep_back(&mut self, ticket: Ticket, barrier: &mut Barrier) {
        self.refuse_for(ticket, Refusal::KeptBack, barrier);
    }

    /// A group that is not noted is its writer's again.
    pub(super) fn give_back(&mut self, ticket: Ticket, why: Refusal, barrier: &mut Barrier) {
        if let Some(changes) = self.changes_of(ticket) {
            self.settle(ticket, Outcome::GivenBack(why, changes), barrier);
        }
    }

    /// What was composed to nothing is made.
    pub(super) fn settle_empty(&mut self, barrier: &mut Barrier) {
        let is_empty = |group: &&Group| group.changes.is_empty() && group.noted == Noted::No;
        let empty: Vec<Ticket> = self
            .groups
            .iter()
            .filter(is_empty)
            .map(|group| group.ticket)
            .collect();
        for ticket in empty {
            self.settle(ticket, Outcome::Made(Vec::new()), barrier);
        }
    }

    /// Drops litter, as its dataset goes.
    pub(super) fn drop_litter(&mut self, barrier: &mut Barrier) {
        let litter: Vec<Ticket> = self
            .groups
            .iter()
            .filter(|group| group.is_litter())
            .map(|group| group.ticket)
            .collect();
        for ticket in litter {
            self.refuse_for(ticket, Refusal::Deleted, barrier);
        }
    }

    pub(super) fn settle(&mut self, ticket: Ticket, outcome: Outcome, barrier: &mut Barrier) {
        let Some(at) = self.position(ticket) else {
            return;
        };
        let group = self.groups.remove(at);
        let resolutions = match outcome {
            Outcome::Made(_) => self.made(&group.changes),
            _ => {
                self.pass_on_sent(&group);
                self.undone(ticket, &group.changes)
            }
        };
        let mut settled = Settled::default();
        if matches!(group.noted, Noted::Yes(_)) {
            settled.removed.push(ticket);
        }
        match outcome {
            Outcome::Made(_) => settled
                .removed
                .extend(self.take_over_at_last(ticket, barrier)),
            _ => settled.removed.extend(self.undo_split(ticket, barrier)),
        }
        self.resolutions.insert(ticket, resolutions.clone());
        let dependents = self.rebase(&mut settled);
        let aliases = self.aliases(ticket);
        let decided = aliases.iter().copied().chain([ticket]);
        let answered = decided.filter(|ticket| self.pending_of(*ticket).is_empty());
        self.events.push(Event {
            ticket,
            answered: answered.collect(),
            aliases,
            outcome: outcome.clone(),
            resolutions,
            settled,
        });
        self.settle_dependents(&group, outcome, dependents, barrier);
    }

    /// What was sent of changes that are not made may have been made all the same: the writers of what
    /// stands on them have seen it too, and it is not brought back by them if somebody removed it.
    fn pass_on_sent(&mut self, group: &Group) {
        for sent in group.changes.iter().filter(|change| !change.own.is_empty()) {
            for at in 0..self.groups.len() {
                let stands_on = |change: &&Change| {
                    let pending = change.base.pending.filter(|_| change.key == sent.key);
                    pending.is_some_and(|made| self.follow(made.ticket, &sent.key) == group.ticket)
                };
                let mut changes = self.groups[at].changes.iter();
                if changes.any(|change| stands_on(&change))
                    && let Some(change) = self.groups[at].change_mut(&sent.key)
                {
                    for own in &sent.own {
                        note_once(&mut change.own, own.beneath());
                    }
                }
            }
        }
    }

    /// What was not for the journal takes the place of what is in it once it is made.
    fn take_over_at_last(&mut self, ticket: Ticket, barrier: &mut Barrier) -> Vec<Ticket> {
        let mut by = vec![ticket];
        for group in self
            .groups
            .iter_mut()
            .filter(|group| group.part_of == Some(ticket))
        {
            group.part_of = None;
            by.push(group.ticket);
        }
        self.take_out_replaced(ticket, &by, barrier)
    }

    /// What a group was to take the place of is as it was, and what was split from it is not.
    fn undo_split(&mut self, ticket: Ticket, barrier: &mut Barrier) -> Vec<Ticket> {
        self.revive_replaced(ticket);
        let parts = self
            .groups
            .iter()
            .filter(|group| group.part_of == Some(ticket));
        let parts: Vec<Ticket> = parts.map(|group| group.ticket).collect();
        self.groups.retain(|group| !parts.contains(&group.ticket));
        for part in &parts {
            barrier.replace(*part);
        }
        parts
    }

    /// Returns what bases on changes come to that were made.
    fn made(&self, changes: &[Change]) -> Vec<Resolution> {
        let of = |change: &Change| Resolution {
            key: change.key.clone(),
            made: Some((
                digest(self.records.get(&change.key)),
                self.base(&change.key),
            )),
            otherwise: change.base,
        };
        changes.iter().map(of).collect()
    }

    /// Returns what bases on changes of a ticket come to that are not made: what they were to take
    /// the place of is as it was.
    pub(super) fn undone(&self, ticket: Ticket, changes: &[Change]) -> Vec<Resolution> {
        let composed = self.composed(&self.replaced_by(ticket));
        let under = composed.map(|composed| composed.bases(|key| digest(self.records.get(key))));
        let mut bases = under.unwrap_or_default();
        for change in changes {
            if bases.iter().all(|(key, _)| *key != change.key) {
                bases.push((change.key.clone(), change.base));
            }
        }
        let of = |(key, otherwise)| Resolution {
            key,
            made: None,
            otherwise,
        };
        bases.into_iter().map(of).collect()
    }

    /// Returns the tickets whose groups the one of this ticket took the place of.
    pub(super) fn aliases(&self, ticket: Ticket) -> Vec<Ticket> {
        let mut found = Vec::new();
        let mut wanted = vec![ticket];
        while let Some(next) = wanted.pop() {
            for (old, successors) in &self.successors {
                if successors.contains(&next) && !found.contains(old) {
                    found.push(*old);
                    wanted.push(*old);
                }
            }
        }
        found
    }

    /// Has all changes stand on what their bases are today. Returns the groups of those that stood
    /// on something that was decided.
    fn rebase(&mut self, settled: &mut Settled) -> Vec<Ticket> {
        let mut dependents = Vec::new();
        for at in 0..self.groups.len() {
            for change in 0..self.groups[at].changes.len() {
                let Change { base, key, .. } = &self.groups[at].changes[change];
                let now = self.normalized(*base, key);
                if now == *base {
                    continue;
                }
                let made = self.stands_on_made(*base, key);
                let known = self.remote(key).map_or(0, |remote| remote.sync_count);
                let exists = self.exists;
                let group = &mut self.groups[at];
                group.changes[change].base = now;
                if made {
                    group.changes[change].stand_on(known, exists);
                }
                dependents.push(group.ticket);
                // What is on its way to the journal is noted with that.
                if matches!(
                    group.noted,
                    Noted::Yes(_) | Noted::UnderWay { notes: true, .. }
                ) {
                    settled.rebased.push(self.rebased(at, change));
                }
            }
        }
        dependents.dedup();
        dependents
    }

    /// Returns whether the version was made that a base on a pending change stands for.
    fn stands_on_made(&self, base: Base, key: &RecordKey) -> bool {
        let Some(seen) = base.pending else {
            return false;
        };
        let ticket = self.follow(seen.ticket, key);
        let resolutions = self.resolutions.get(&ticket).into_iter().flatten();
        let mut of_key = resolutions.filter(|one| one.key == *key);
        of_key.any(|one| one.made.is_some_and(|(digest, _)| digest == seen.digest))
    }

    fn rebased(&self, group: usize, change: usize) -> Rebased {
        let group = &self.groups[group];
        let change = &group.changes[change];
        Rebased {
            ticket: group.ticket,
            key: change.key.clone(),
            base: change.base,
            known: self.known(change),
            sent: self.fingerprints.of(&change.key).to_vec(),
        }
    }

    /// What stands on a refused group of several keys cannot be made without it, nor can what stands
    /// on that: an append would go behind another file's text. What is not noted, and stands on what
    /// is its writer's again, is his too: he makes one of the two.
    fn settle_dependents(
        &mut self,
        group: &Group,
        outcome: Outcome,
        dependents: Vec<Ticket>,
        barrier: &mut Barrier,
    ) {
        for dependent in dependents {
            match &outcome {
                Outcome::Refused(why, _) if group.changes.len() > 1 || *why == Refusal::Based => {
                    self.refuse_for(dependent, Refusal::Based, barrier);
                }
                Outcome::GivenBack(why, _) if self.is_unnoted(dependent) => {
                    self.give_back(dependent, why.clone(), barrier);
                }
                _ => self.enter(dependent, barrier),
            }
        }
    }

    fn is_unnoted(&self, ticket: Ticket) -> bool {
        let at = self.position(ticket);
        at.is_some_and(|at| self.groups[at].noted == Noted::No) && !self.is_in_flight(ticket)
    }
}
