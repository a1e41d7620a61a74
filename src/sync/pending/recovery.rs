//! What an earlier process left in its journal.

use std::collections::BTreeSet;
use std::time::Instant;

use super::barrier::Barrier;
use super::change::{Appended, Kind, Sent, Ticket, note_once};
use super::dataset::DatasetState;
use super::group::{Group, Noted, Places, Shape};
use super::note::{Hold, Note, Place};
use crate::sync::change::{Mark, Shown};
use crate::sync::pending::dataset::begin_hold;
use crate::wire::names::RecordKey;

/// A group that was read from a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub note: Note,
    pub places: Places,
}

/// A group of which something cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub ticket: Ticket,
    /// Where its first set may have been noted.
    pub place: Place,
}

/// Returns the groups that are kept back: what is based on something unreadable, on what is kept
/// back itself, and every removal noted behind it, whose value it may have carried. The rest goes on.
pub fn kept_back(groups: &[Recovered], unreadable: &[Unreadable]) -> BTreeSet<Ticket> {
    let mut kept: BTreeSet<Ticket> = unreadable.iter().map(|one| one.ticket).collect();
    let mut first = unreadable.iter().map(|one| one.place).min();
    loop {
        let stands_on_it = |group: &&Recovered| {
            let changes = group.note.changes.iter();
            let mut bases = changes.filter_map(|noted| noted.change.base.pending);
            let removes = |group: &Recovered| {
                let mut changes = group.note.changes.iter();
                changes.any(|noted| noted.change.kind == Kind::Remove)
            };
            let is_behind = first.is_some_and(|place| group.places.last > place);
            bases.any(|made| kept.contains(&made.ticket)) || (is_behind && removes(group))
        };
        let more: Vec<&Recovered> = groups
            .iter()
            .filter(|group| !kept.contains(&group.note.ticket))
            .filter(stands_on_it)
            .collect();
        if more.is_empty() {
            return kept;
        }
        let places = more.iter().filter_map(|group| group.places.first_set);
        first = first.into_iter().chain(places).min();
        kept.extend(more.iter().map(|group| group.note.ticket));
    }
}

impl DatasetState {
    /// Takes over what an earlier process left, in its order and before all else. It is made over
    /// what it was based on and nothing else, and known where it was made already. Holds begin anew.
    pub fn take_over(&mut self, left: Vec<Recovered>, now: Instant, barrier: &mut Barrier) {
        let tickets: Vec<Ticket> = left.iter().map(|group| group.note.ticket).collect();
        let groups: Vec<Group> = left
            .into_iter()
            .map(|left| self.revive(left, now))
            .collect();
        self.put_first(groups);
        for ticket in tickets {
            self.enter(ticket, barrier);
        }
    }

    fn revive(&mut self, left: Recovered, now: Instant) -> Group {
        let mut sent: Vec<(RecordKey, Sent)> = Vec::new();
        let mut changes = Vec::new();
        // What stands on another was not sent before that was made: then it would stand on what was made.
        let mut bases = left.note.changes.iter().map(|noted| noted.change.base);
        let may_be_sent = bases.all(|base| base.pending.is_none());
        for noted in left.note.changes {
            let mut change = noted.change;
            change.left = Some(noted.known);
            change.base.life = self.life();
            let count = match change.base.shown {
                Shown::Version(count) => count,
                Shown::Absent => noted.known.sync_count.unwrap_or(0),
            };
            let whole = change.kind.whole().cloned();
            let is_litter = matches!(left.note.hold, Some((Hold::Litter, _)));
            let is_telling = whole.is_some() || change.kind == Kind::Remove;
            if may_be_sent && !is_litter && is_telling {
                let own = Sent {
                    mark: Mark::new(whole.as_deref(), change.modified),
                    count,
                    appended: change.kind.added().map(|text| Appended {
                        whole: whole.as_ref().map_or(0, |whole| whole.len() as u64),
                        text: text.len() as u64,
                    }),
                };
                note_once(&mut change.own, own);
                sent.push((change.key.clone(), own));
            }
            for older in noted.sent {
                self.note_sent(&change.key, older);
            }
            changes.push(change);
        }
        for (key, sent) in &sent {
            self.note_sent(key, *sent);
        }
        let held = left.note.hold;
        Group {
            ticket: left.note.ticket,
            noted: Noted::Yes(left.places),
            awaited_as: BTreeSet::new(),
            gathers_since: now,
            not_before: None,
            hold: held.map(|(hold, since)| begin_hold(hold, now, since)),
            replaced_by: None,
            part_of: None,
            inherited: left
                .places
                .first_set
                .filter(|_| Shape::of(&changes) != Shape::Removals),
            refused: None,
            cohort: 0,
            attempts: 0,
            unanswered: false,
            // It may have been sent.
            lost: sent,
            changes,
        }
    }
}
