//! What files, drafts and the table of what was shown do with what the core tells of a ticket: one
//! continuation, whether somebody waits for it or the journal has it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::draft::Draft;
use super::file::{Back, Effect, File, Link, Parked, Standing, Version, length};
use super::{Drafts, FileId, RecordName};
use crate::sync::pending::{
    Base, Change, DatasetId, Event, Landed, Outcome, Refusal, Resolution, Ticket,
};

/// What became of a ticket, as far as bases on it go.
#[derive(Debug)]
pub(super) struct Come {
    dataset: DatasetId,
    ticket: Ticket,
    /// Tickets whose groups this one took the place of.
    aliases: Vec<Ticket>,
    resolutions: Vec<Resolution>,
    landed: Vec<Landed>,
    /// What came back, as the core has it.
    changes: Vec<Change>,
}

/// What became of a version that stood at a ticket.
enum Adopted {
    /// It is another version's now, or none.
    No,
    Same,
    /// It has the value of the answer.
    Taken,
    /// The record is gone.
    Gone,
}

/// What came back of a file.
#[derive(Default)]
struct Unwound {
    /// Why, of what was staged last.
    why: Option<Refusal>,
    is_final: bool,
    /// Whether something written came back, and is a draft again.
    is_draft: bool,
    /// Whether the file had a new name that the journal had.
    was_moved: bool,
}

impl Come {
    /// What was staged under a ticket is not in line any more; `bases` are what it was based on.
    pub(super) fn undone(
        dataset: DatasetId,
        ticket: Ticket,
        bases: Vec<(RecordName, Base)>,
    ) -> Self {
        let resolution = |(name, otherwise): (RecordName, Base)| Resolution {
            key: name.key,
            made: None,
            otherwise,
        };
        Self {
            dataset,
            ticket,
            aliases: Vec::new(),
            resolutions: bases.into_iter().map(resolution).collect(),
            landed: Vec::new(),
            changes: Vec::new(),
        }
    }

    fn tickets(&self) -> impl Iterator<Item = Ticket> + '_ {
        std::iter::once(self.ticket).chain(self.aliases.iter().copied())
    }

    fn is_of(&self, ticket: Ticket) -> bool {
        self.tickets().any(|known| known == ticket)
    }

    fn stands(&self, base: Base) -> bool {
        base.pending.is_some_and(|made| self.is_of(made.ticket))
    }

    fn resolution(&self, name: &RecordName) -> Option<&Resolution> {
        let of_key = |one: &&Resolution| one.key == name.key;
        let mut resolutions = self.resolutions.iter();
        resolutions
            .find(of_key)
            .filter(|_| name.dataset == self.dataset)
    }

    /// Returns what a base comes to. What a replaced group made of other keys is another group's
    /// now: bases on those wait for that one.
    fn resolve(&self, name: &RecordName, base: Base) -> Base {
        let Some(made) = base.pending.filter(|made| self.is_of(made.ticket)) else {
            return base;
        };
        match self.resolution(name) {
            Some(resolution) => resolution.resolve(base),
            None if made.ticket == self.ticket => base.settled(),
            None => base,
        }
    }

    /// Has a version that stands at the ticket be what was made. `takes` says that it is to have the
    /// answer's value, if that is another than was shown.
    fn adopt(&self, version: &mut Version, name: &RecordName, takes: bool) -> Adopted {
        let seen = version
            .base()
            .pending
            .filter(|made| self.is_of(made.ticket));
        let (Some(seen), Some(resolution)) = (seen, self.resolution(name)) else {
            version.set_base(self.resolve(name, version.base()));
            return Adopted::No;
        };
        let landed = self.landed.iter().find(|landed| landed.key == name.key);
        let record = landed.and_then(|landed| landed.record.as_ref());
        let value = record.and_then(|record| record.value.as_ref());
        let made = resolution.made;
        version.set_base(resolution.resolve(version.base()));
        let Some((digest, base)) = made else {
            return Adopted::No;
        };
        let is_same = digest == seen.digest;
        if is_same || (takes && value.is_some()) {
            version.set_base(base);
            if let Some(record) = record {
                version.modified = record.modified;
                version.changed = record.changed;
            }
        }
        match value {
            _ if is_same => Adopted::Same,
            _ if !takes => Adopted::No,
            None => Adopted::Gone,
            Some(value) => {
                let bytes = value.as_bytes();
                version.size = Some(length(bytes));
                version.value = version.value.is_some().then(|| Arc::from(bytes));
                Adopted::Taken
            }
        }
    }
}

impl Drafts {
    /// Hears what became of a ticket in a dataset. Nothing here stands on it any more after that, if
    /// it was decided.
    pub fn hear(&mut self, dataset: DatasetId, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        let is_kept = event.settled.removed.contains(&event.ticket);
        let mut come = Come {
            dataset,
            ticket: event.ticket,
            aliases: event.aliases,
            resolutions: event.resolutions,
            landed: Vec::new(),
            changes: Vec::new(),
        };
        // What was shown is resolved first: a file that loses its name takes that along.
        match event.outcome {
            Outcome::Waits(_) => {}
            Outcome::Made(landed) => {
                self.resolve_shown(&come);
                come.landed = landed;
                self.keep_names(come.ticket);
                self.come_made(&come, &mut effects);
            }
            Outcome::Refused(why, changes) => {
                if is_kept || !self.is_owned(&come) {
                    park(dataset, &changes, &why, &mut effects);
                }
                let back = Back {
                    why: why.clone(),
                    is_final: true,
                    is_kept,
                };
                come.changes = changes;
                self.resolve_shown(&come);
                self.undo_names(come.ticket, &why, &mut effects);
                self.come_back(&come, &back, &mut effects);
            }
            Outcome::GivenBack(why, changes) => {
                if !self.is_owned(&come) {
                    park(dataset, &changes, &why, &mut effects);
                }
                let back = Back {
                    is_final: why.is_final(),
                    why: why.clone(),
                    is_kept: false,
                };
                come.changes = changes;
                self.resolve_shown(&come);
                self.undo_names(come.ticket, &why, &mut effects);
                self.come_back(&come, &back, &mut effects);
            }
        }
        effects
    }

    /// Returns whether what was staged under a ticket is remembered here.
    fn is_owned(&self, come: &Come) -> bool {
        let ids = come.tickets().flat_map(|ticket| self.bound.get(&ticket));
        let files = ids.flatten().filter_map(|id| self.files.get(id));
        let mut links = files.flat_map(|file| &file.links);
        links.any(|link| come.is_of(link.ticket))
            || come.tickets().any(|t| self.changing.contains_key(&t))
    }

    /// Takes the files that may stand on a ticket.
    fn take_bound(&mut self, come: &Come) -> BTreeSet<FileId> {
        let tickets = come.tickets();
        let bound = tickets.filter_map(|ticket| self.bound.remove(&ticket));
        bound.flatten().collect()
    }

    /// Entries of what was shown that stand on a ticket come to what that came to.
    pub(super) fn resolve_shown(&mut self, come: &Come) {
        for ticket in come.tickets() {
            self.shown
                .resolve(ticket, |name, base| come.resolve(name, base));
        }
        for changing in self.changing.values_mut() {
            changing.resolve(|name, base| come.resolve(name, base));
        }
    }

    fn come_made(&mut self, come: &Come, effects: &mut Vec<Effect>) {
        for id in self.take_bound(come) {
            let Some(file) = self.files.get_mut(&id) else {
                continue;
            };
            let last = file.links.iter().rposition(|link| come.is_of(link.ticket));
            let made: Vec<Link> = file.links.drain(..last.map_or(0, |at| at + 1)).collect();
            park_left_out(&made, effects);
            let takes = file.standing == Standing::Named;
            let adopted = come.adopt(&mut file.version, &file.name, takes);
            file.settle_bases(come, takes);
            let has_own_text = file.draft.as_ref().is_some_and(|draft| !draft.lacks_text());
            match adopted {
                Adopted::Taken if !has_own_text => effects.push(Effect::Invalidate(id)),
                Adopted::Gone if file.draft.is_none() => self.show_service(id, effects),
                Adopted::Taken | Adopted::Gone | Adopted::Same | Adopted::No => {}
            }
            self.bind(id);
            self.drop_if_unused(id);
        }
    }

    /// What was staged under a ticket comes back to its files; others do not show it any more.
    pub(super) fn come_back(&mut self, come: &Come, back: &Back, effects: &mut Vec<Effect>) {
        for id in self.take_bound(come) {
            let Some(file) = self.files.get_mut(&id) else {
                continue;
            };
            let stood_at = come.stands(file.version.base());
            let mut is_own = false;
            for link in &mut file.links {
                if come.is_of(link.ticket) {
                    link.back = Some(back.clone());
                    link.note_sent(&come.changes);
                    is_own = true;
                }
            }
            come.adopt(&mut file.version, &file.name, false);
            file.settle_bases(come, false);
            let is_others = !is_own && stood_at && file.draft.is_none();
            if is_others && file.standing == Standing::Named {
                self.show_service(id, effects);
            }
            self.unwind(id, effects);
            self.bind(id);
            self.drop_if_unused(id);
        }
    }

    /// Takes back what was staged of a file last, as far as it came back. Its writers have their text
    /// as a draft again. What can never be made is not shown under the name any more, and to others
    /// who have the file open only as it was before.
    fn unwind(&mut self, id: FileId, effects: &mut Vec<Effect>) {
        let Some(file) = self.files.get_mut(&id) else {
            return;
        };
        let is_going_on = file.draft.is_some();
        let unwound = file.unwind();
        let Some(why) = unwound.why else {
            return;
        };
        if file.standing == Standing::Removed {
            if file.opens == 0 {
                self.drop_draft(id);
            }
            return;
        }
        let is_theirs = file.writers > 0 || is_going_on;
        if unwound.is_draft && !is_theirs {
            effects.extend(self.give_up(id, why));
        } else if unwound.was_moved || (unwound.is_draft && unwound.is_final) {
            self.show_service(id, effects);
        }
    }
}

impl Link {
    /// Takes note of what may have been sent.
    fn note_sent(&mut self, changes: &[Change]) {
        let change = changes.iter().find(|change| change.key == self.name.key);
        if let (Some(written), Some(change)) = (&mut self.written, change) {
            written.own = change.own.clone();
        }
    }
}

impl File {
    /// Bases of what is over the version, and of what is under it, come to what a ticket came to.
    fn settle_bases(&mut self, come: &Come, takes: bool) {
        for link in &mut self.links {
            come.adopt(&mut link.before, &link.name, takes);
            link.base = come.resolve(&link.name, link.base);
        }
        if let Some(draft) = &mut self.draft {
            draft.base = come.resolve(&self.name, draft.base);
        }
        if let Some(shown) = &mut self.shown {
            **shown = come.resolve(&self.name, **shown);
        }
    }

    fn unwind(&mut self) -> Unwound {
        let mut unwound = Unwound::default();
        while let Some(link) = self.links.pop_if(|link| link.back.is_some()) {
            let Some(back) = link.back else {
                break;
            };
            let is_last = unwound.why.is_none();
            unwound.is_final |= back.is_final;
            unwound.why.get_or_insert_with(|| back.why.clone());
            match link.written {
                None if back.is_kept => unwound.was_moved = true,
                // All that it had went with the move, and is parked.
                Some(_) if unwound.was_moved => {}
                None => {
                    self.go_under(link.before);
                    self.name = link.name;
                    if let Some(draft) = &mut self.draft {
                        draft.base = link.base;
                    }
                }
                Some(written) => {
                    self.go_under(link.before);
                    let since = self.draft.take().map(|draft| *draft);
                    let mut draft = Draft::put_back(&written, link.base, since);
                    if is_last {
                        draft.told = Some((written.generation, back.why));
                        draft.kept = back.is_kept.then_some(written.generation);
                    }
                    self.draft = Some(Box::new(draft));
                    unwound.is_draft = true;
                }
            }
        }
        unwound
    }

    /// Goes back to the version before. Where its value is not in memory, nobody had opened that one:
    /// those who read see what they opened.
    fn go_under(&mut self, before: Version) {
        let opened = std::mem::replace(&mut self.version, before);
        if self.version.is_there() && self.version.value.is_none() {
            let base = self.version.base();
            self.version = opened;
            self.version.set_base(base);
        }
    }
}

/// Keeps what changes were to set.
fn park(dataset: DatasetId, changes: &[Change], why: &Refusal, effects: &mut Vec<Effect>) {
    for change in changes {
        if let Some(whole) = change.kind.whole() {
            effects.push(Effect::Park(Parked {
                name: RecordName {
                    dataset,
                    key: change.key.clone(),
                },
                text: whole.clone(),
                base: change.base,
                modified: change.modified,
                why: why.clone(),
                is_complete: true,
            }));
        }
    }
}

/// Keeps what came back and is not in what was made over it: text was only added there.
fn park_left_out(made: &[Link], effects: &mut Vec<Effect>) {
    for (at, link) in made.iter().enumerate() {
        let (Some(back), Some(written)) = (&link.back, &link.written) else {
            continue;
        };
        let has_all = |later: &Link| {
            let written = later.written.as_ref();
            later.back.is_none() && written.is_none_or(|written| written.carries_all())
        };
        if back.is_kept || made[at + 1..].iter().any(has_all) {
            continue;
        }
        if let Some(whole) = written.kind.whole() {
            effects.push(Effect::Park(Parked {
                name: link.name.clone(),
                text: whole.clone(),
                base: link.base,
                modified: written.modified,
                why: back.why.clone(),
                is_complete: true,
            }));
        }
    }
}
