//! From drafts to changes: what is staged, and what remains here until it is decided.

use std::sync::Arc;

use super::continuation::Come;
use super::draft::{Draft, Written};
use super::file::{Back, Effect, Link, Standing, Version, on};
use super::naming::Naming;
use super::{Drafts, FileId, is_same};
use crate::fs::Error;
use crate::sync::Shown;
use crate::sync::pending::{Base, Change, DatasetId, Digest, Kind, Made, Refusal, Ticket};

/// How much of a file is staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Not what creation and truncation by open alone did.
    Flush,
    /// Everything, unless somebody has the file open for writing: that is his to finish.
    Closed,
    All,
}

/// Changes to be staged as one group.
#[derive(Clone, Debug)]
pub struct Request {
    pub changes: Vec<Change>,
    /// Whether the file was made for its owner alone and had to be new.
    pub private: bool,
    pub(super) deed: Deed,
}

/// What a group is made of.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    Write(FileId, Written, Option<Digest>),
    Name(Naming),
}

impl Drafts {
    /// Returns what is to be staged of a file; None if nothing is. A draft that leaves the value as
    /// it is and sets no date is dropped: there is nothing to send.
    ///
    /// # Errors
    /// [`Error::TooBig`] if a part of the text is missing; [`Error::Superseded`] if the value is
    /// needed and not in memory.
    pub fn to_stage(&mut self, id: FileId, extent: Extent) -> Result<Option<Request>, Error> {
        let unseen = self.unseen;
        let file = self.file_mut(id)?;
        let is_wanted = |draft: &&Draft| match extent {
            Extent::Flush => !draft.is_by_open,
            Extent::Closed => file.writers == 0,
            Extent::All => true,
        };
        let is_removed = file.standing == Standing::Removed;
        let draft = file.draft.as_deref().filter(is_wanted);
        let Some(draft) = draft.filter(|_| !is_removed) else {
            return Ok(None);
        };
        if draft.is_cut_short {
            return Err(Error::TooBig);
        }
        let value = file.version.value.as_deref();
        let is_same = draft
            .text()
            .is_some_and(|text| file.version.is_there() && value == Some(text));
        if is_same && !draft.dated && !draft.may_be_sent {
            file.draft = None;
            self.drop_if_unused(id);
            return Ok(None);
        }
        let mut change = draft.change(&file.name.key, unseen);
        change.base = base_of_change(&change, &file.version);
        let digest = match change.kind.whole() {
            Some(whole) => Some(Digest::of(whole)),
            None => file.version.digest().ok_or(Error::Superseded)?,
        };
        let written = Written {
            kind: change.kind.clone(),
            ..draft.written()
        };
        Ok(Some(Request {
            private: written.private,
            changes: vec![change],
            deed: Deed::Write(id, written, digest),
        }))
    }

    /// The core has put what was asked for in line under a ticket. Files are clean at what it makes,
    /// and what is written from now on is based on that.
    pub fn staged(&mut self, request: Request, ticket: Ticket) {
        match request.deed {
            Deed::Write(id, written, digest) => self.write_staged(id, written, digest, ticket),
            Deed::Name(naming) => self.change_names(naming, Some(ticket)),
        }
    }

    fn write_staged(
        &mut self,
        id: FileId,
        written: Written,
        digest: Option<Digest>,
        ticket: Ticket,
    ) {
        let Some(file) = self.files.get_mut(&id) else {
            return;
        };
        let Some(draft) = file.draft.take() else {
            return;
        };
        let before = file.version.clone();
        let keeps = matches!(written.kind, Kind::Append { .. } | Kind::Times);
        let under = if keeps { before.base() } else { draft.base };
        let whole = written.kind.whole().cloned();
        file.version = before.staged(on(ticket, digest, under), whole, draft.modified);
        // What was written over a version that nobody here has read does not show it.
        let is_seen = matches!(written.kind, Kind::Whole(_)) || draft.base == before.base();
        let shown = shown_as(file.version.base(), is_seen, draft.base);
        file.links.push(Link {
            ticket,
            noted: false,
            back: None,
            name: file.name.clone(),
            before,
            base: draft.base,
            written: Some(written),
        });
        match file.standing {
            Standing::Named => self.shown.put(file.name.clone(), shown),
            Standing::Superseded | Standing::Removed => file.note_shown(shown),
        }
        self.bind(id);
    }

    /// The journal has what was staged under a ticket. A name that was changed is no longer changed
    /// back.
    pub fn noted(&mut self, ticket: Ticket) {
        for id in self.bound.get(&ticket).cloned().unwrap_or_default() {
            let file = self.files.get_mut(&id);
            let links = file.into_iter().flat_map(|file| &mut file.links);
            for link in links.filter(|link| link.ticket == ticket) {
                link.noted = true;
            }
        }
        self.keep_names(ticket);
        for id in self.bound.get(&ticket).cloned().unwrap_or_default() {
            self.drop_if_unused(id);
        }
    }

    /// The journal could not take what was staged under a ticket: it is its writer's again, and the
    /// core knows nothing of it any more.
    pub fn not_noted(&mut self, dataset: DatasetId, ticket: Ticket, why: Refusal) -> Vec<Effect> {
        let mut effects = Vec::new();
        let come = Come::undone(dataset, ticket, self.bases_under(ticket));
        self.resolve_shown(&come);
        self.undo_names(ticket, &why, &mut effects);
        let back = Back {
            why,
            is_final: false,
            is_kept: false,
        };
        self.come_back(&come, &back, &mut effects);
        effects
    }

    /// Returns what was based on what before a ticket was staged.
    fn bases_under(&self, ticket: Ticket) -> Vec<(super::RecordName, Base)> {
        let ids = self.bound.get(&ticket).into_iter().flatten();
        let files = ids.filter_map(|id| self.files.get(id));
        let links = files.flat_map(|file| &file.links);
        let of_ticket = links.filter(|link| link.ticket == ticket);
        of_ticket
            .map(|link| (link.name.clone(), link.base))
            .collect()
    }
}

/// Returns what a change is based on. What is only added to a version takes nothing away: where nothing
/// was shown before, it is based on that version, of which nothing is made again if it is removed
/// meanwhile.
fn base_of_change(change: &Change, version: &Version) -> Base {
    let adds = matches!(change.kind, Kind::Append { .. });
    let was_absent = change.base.shown == Shown::Absent && version.is_there();
    if adds && was_absent && !is_same(version.base(), change.base) {
        version.base()
    } else {
        change.base
    }
}

/// Returns the base of what is changed next under a name, once `version` was staged there. If that has
/// more in it than its writer saw, nobody has seen it: such a base comes to what was shown `before`,
/// whatever is made of the ticket.
pub(super) fn shown_as(version: Base, is_seen: bool, before: Base) -> Base {
    match version.pending {
        Some(Made { ticket, .. }) if !is_seen => on(ticket, None, before),
        _ => version,
    }
}

/// Returns the value of a closed file, which a change of its name moves.
pub(super) fn closed_value(version: &Version) -> Result<Option<Arc<[u8]>>, Error> {
    match (version.is_there(), &version.value) {
        (false, _) => Ok(None),
        (true, Some(value)) => Ok(Some(value.clone())),
        (true, None) => Err(Error::Superseded),
    }
}
