//! The groups of one UpdateRecords and their patches.

use super::change::{Change, Kind, Ticket};
use super::decide::{Against, Refusal, Verdict, decide};
use super::group::Group;
use crate::sync::exchange::Replaced;
use crate::wire::names::RecordKey;
use crate::wire::records::{PatchOp, RecordPatch};
use crate::wire::text::Text;

/// The most patches in one call: a dataset's default record limit.
const MAX_PATCHES: usize = 1024;
/// The most bytes of keys and values in one call; one group may exceed it alone.
const MAX_BYTES: usize = 2 * 1024 * 1024;

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
    against: impl Fn(&RecordKey) -> Against<'a>,
) -> Planned {
    let mut patches = Vec::new();
    let mut replaced = Vec::new();
    for change in &group.changes {
        let against = against(&change.key);
        let (op, value) = match decide(change, against) {
            Verdict::Replace(value) => (PatchOp::Replace, Some(value)),
            Verdict::Remove => (PatchOp::Remove, None),
            Verdict::Nothing => continue,
            Verdict::Refuse(refusal) => return Planned::Refused(refusal),
        };
        replaced.extend(taken_away(change, value.as_ref(), against));
        patches.push(RecordPatch {
            op,
            key: change.key.clone(),
            value,
            sync_count: against.remote.map_or(0, |remote| remote.sync_count),
            device_last_modified_date: Some(change.modified),
        });
    }
    // What another of them carries lives on under that one's name.
    for old in &mut replaced {
        let carries = |patch: &RecordPatch| patch.value.as_ref() == Some(&old.value);
        old.seen |= patches.iter().any(carries);
    }
    match patches.is_empty() {
        true => Planned::Nothing,
        false => Planned::Send(patches, replaced),
    }
}

/// Returns the value that will be gone, if one will be.
fn taken_away(change: &Change, value: Option<&Text>, against: Against<'_>) -> Option<Replaced> {
    let old = against.remote?;
    let old_value = old.value.as_ref().filter(|old| Some(*old) != value)?;
    let lives_on = matches!(change.kind, Kind::Append { .. } | Kind::Times);
    Some(Replaced {
        key: change.key.clone(),
        value: old_value.clone(),
        sync_count: old.sync_count,
        modified: old.modified,
        seen: lives_on || against.is_seen(change),
    })
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) groups: Vec<(Ticket, Vec<RecordPatch>)>,
    pub(super) replaced: Vec<Replaced>,
    count: usize,
    bytes: usize,
}

impl Batch {
    pub(super) fn has(&self, ticket: Ticket) -> bool {
        self.groups.iter().any(|(flying, _)| *flying == ticket)
    }

    /// Takes a group in, unless it is full. Returns whether it did.
    pub(super) fn admit(
        &mut self,
        ticket: Ticket,
        patches: Vec<RecordPatch>,
        replaced: Vec<Replaced>,
    ) -> bool {
        let bytes: usize = patches.iter().map(patch_bytes).sum();
        let full = self.count + patches.len() > MAX_PATCHES || self.bytes + bytes > MAX_BYTES;
        if full && !self.groups.is_empty() {
            return false;
        }
        self.bytes += bytes;
        self.count += patches.len();
        self.groups.push((ticket, patches));
        self.replaced.extend(replaced);
        true
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
        let mut groups = self.groups.iter();
        let owner = groups.find(|(_, patches)| patches.iter().any(has));
        owner.map(|(ticket, _)| *ticket)
    }

    pub(super) fn tickets(&self) -> Vec<Ticket> {
        self.groups.iter().map(|(ticket, _)| *ticket).collect()
    }
}

fn patch_bytes(patch: &RecordPatch) -> usize {
    let value = patch
        .value
        .as_ref()
        .map_or(0, |value| value.as_bytes().len());
    patch.key.text().as_bytes().len() + value
}
