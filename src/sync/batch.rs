//! Which staged groups go together in one UpdateRecords.
//!
//! A group is what must succeed or fail whole: one change, or the changes a rename ties together.

use std::collections::HashSet;

use super::change::{Change, Kind, Ticket};
use super::conflict::{Refusal, Verdict, decide, is_current};
use super::exchange::Replaced;
use super::remote::Remote;
use crate::wire::names::RecordKey;
use crate::wire::records::{PatchOp, RecordPatch};

/// The most patches in one call: a dataset's default record limit.
const MAX_PATCHES: usize = 1024;
/// The most bytes of keys and values in one call; one patch may exceed it alone.
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// Changes that wait to be sent.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) ticket: Ticket,
    pub(super) changes: Vec<Change>,
    /// Groups of different cohorts never share a call: so a refused batch is halved.
    pub(super) cohort: u64,
    /// How often the group was sent.
    pub(super) attempts: u32,
    /// Whether somebody still waits for the outcome. Without a waiter nothing is sent.
    pub(super) awaited: bool,
    /// Whether the last attempt's answer never came, so that a listing must tell.
    pub(super) unsure: bool,
    /// The patches of every attempt whose answer never came: a call may be carried out late.
    pub(super) lost: Vec<Vec<RecordPatch>>,
}

/// What became of a group when a batch was planned.
#[derive(Debug)]
pub(super) enum Planned {
    Send(Vec<RecordPatch>, Vec<Replaced>),
    Nothing,
    Refused(Refusal),
}

/// Decides every change of a group; one refusal refuses the group.
pub(super) fn plan_group<'a>(
    group: &Group,
    remote: impl Fn(&RecordKey) -> Option<&'a Remote>,
    (life, exists): (u32, bool),
) -> Planned {
    let mut patches = Vec::new();
    let mut replaced = Vec::new();
    for change in &group.changes {
        let record = remote(&change.key);
        let (op, value) = match decide(change, record, life, exists) {
            Verdict::Replace(value) => (PatchOp::Replace, Some(value)),
            Verdict::Remove => (PatchOp::Remove, None),
            Verdict::Nothing => continue,
            Verdict::Refuse(refusal) => return Planned::Refused(refusal),
        };
        if let Some(old) = record
            && let Some(old_value) = old
                .value
                .as_ref()
                .filter(|old| Some(*old) != value.as_ref())
        {
            let lives_on = matches!(change.kind, Kind::Append(_) | Kind::Times);
            replaced.push(Replaced {
                key: change.key.clone(),
                value: old_value.clone(),
                sync_count: old.sync_count,
                modified: old.modified,
                seen: lives_on || is_current(change, record, life),
            });
        }
        patches.push(RecordPatch {
            op,
            key: change.key.clone(),
            value,
            sync_count: record.map_or(0, |record| record.sync_count),
            device_last_modified_date: Some(change.modified),
        });
    }
    if patches.is_empty() {
        Planned::Nothing
    } else {
        Planned::Send(patches, replaced)
    }
}

/// The groups of one UpdateRecords and their patches.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) groups: Vec<(Ticket, Vec<RecordPatch>)>,
    pub(super) replaced: Vec<Replaced>,
    keys: HashSet<RecordKey>,
    count: usize,
    bytes: usize,
}

impl Batch {
    /// Returns whether a group has a key that a group before it has, and so waits for the next call:
    /// what is to be done about it is not known before.
    pub(super) fn puts_off(&mut self, group: &Group) -> bool {
        let clash = |change: &Change| self.keys.contains(&change.key);
        let waits = group.changes.iter().any(clash);
        if waits {
            self.reserve(group);
        }
        waits
    }

    /// A later group of the same key must not overtake this one.
    fn reserve(&mut self, group: &Group) {
        let keys = group.changes.iter().map(|change| change.key.clone());
        self.keys.extend(keys);
    }

    /// Takes a group in, unless it is full.
    pub(super) fn admit(
        &mut self,
        group: &Group,
        patches: Vec<RecordPatch>,
        replaced: Vec<Replaced>,
    ) {
        let bytes: usize = patches.iter().map(patch_bytes).sum();
        let full = self.count + patches.len() > MAX_PATCHES || self.bytes + bytes > MAX_BYTES;
        self.reserve(group);
        if full && !self.groups.is_empty() {
            return;
        }
        self.bytes += bytes;
        self.count += patches.len();
        self.groups.push((group.ticket, patches));
        self.replaced.extend(replaced);
    }

    /// Returns all patches, replaces before removes.
    pub(super) fn patches(&self) -> Vec<RecordPatch> {
        let all = || self.groups.iter().flat_map(|(_, patches)| patches);
        let of = |op| all().filter(move |patch| patch.op == op).cloned();
        of(PatchOp::Replace).chain(of(PatchOp::Remove)).collect()
    }

    /// Returns the group that has `key`.
    pub(super) fn owner_of(&self, key: &str) -> Option<Ticket> {
        let has = |patch: &RecordPatch| patch.key.as_str() == Some(key);
        let owner = self
            .groups
            .iter()
            .find(|(_, patches)| patches.iter().any(has));
        owner.map(|(ticket, _)| *ticket)
    }
}

fn patch_bytes(patch: &RecordPatch) -> usize {
    let value = patch
        .value
        .as_ref()
        .map_or(0, |value| value.as_bytes().len());
    patch.key.text().as_bytes().len() + value
}
