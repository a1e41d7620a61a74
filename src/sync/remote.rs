//! A record as the service holds it, and what it tells of a patch whose answer was lost.

use super::batch::Group;
use super::change::{Change, Kind};
use crate::wire::records::{Record, RecordPatch};
use crate::wire::text::Text;
use crate::wire::timestamp::Timestamp;

/// A record as the service was last seen to hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// None in a tombstone.
    pub value: Option<Text>,
    pub sync_count: i64,
    pub device_date: Option<Timestamp>,
    /// The mtime to show.
    pub modified: Timestamp,
    /// The ctime to show: the service's own date.
    pub changed: Timestamp,
}

/// What a listed record says of a patch whose answer was lost.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    None,
    /// It is as the patch would have it, which others may have made it too.
    Alike,
    /// It is, and bears our own date to the millisecond; or it begins with the whole text an
    /// append made, unless it is that text of another date: others append the same lines. A date
    /// alone proves nothing: `cp -p` gives the same one everywhere.
    Signed,
}

pub(super) fn evidence(group: &Group, patch: &RecordPatch, remote: Option<&Remote>) -> Evidence {
    let Some(remote) = remote.filter(|remote| remote.sync_count > patch.sync_count) else {
        return Evidence::None;
    };
    let appends =
        |change: &Change| change.key == patch.key && matches!(change.kind, Kind::Append(_));
    let date = patch.device_last_modified_date;
    let ours_by_date = date.is_some() && remote.device_date == date;
    if group.changes.iter().any(appends)
        && let (Some(theirs), Some(ours)) = (&remote.value, &patch.value)
        && theirs.as_bytes().starts_with(ours.as_bytes())
    {
        let anothers = theirs == ours && remote.device_date.is_some() && !ours_by_date;
        return match anothers {
            true => Evidence::None,
            false => Evidence::Signed,
        };
    }
    match remote.value == patch.value {
        true if ours_by_date => Evidence::Signed,
        true => Evidence::Alike,
        false => Evidence::None,
    }
}

impl Remote {
    /// Reads a listed record. Some clients leave the device date as it was: a count that rises
    /// while the device date does not shows the service's date.
    pub(super) fn from_record(record: &Record, known: Option<&Self>) -> Self {
        let epoch = Timestamp::from_millis(0);
        let changed = record.last_modified_date.unwrap_or(epoch);
        let device_date = record.device_last_modified_date;
        let modified = match known {
            Some(known) if known.sync_count == record.sync_count => known.modified,
            Some(known) if known.device_date == device_date => changed,
            _ => device_date.unwrap_or(changed),
        };
        Self {
            value: record.value.clone(),
            sync_count: record.sync_count,
            device_date,
            modified,
            changed,
        }
    }

    /// Takes the answer's word for what was stored; a record that the answer lacks is taken as it
    /// was sent.
    pub(super) fn from_patch(
        patch: &RecordPatch,
        answer: Option<&Record>,
        sync_count: i64,
    ) -> Self {
        let sent = patch.device_last_modified_date;
        let modified = sent.unwrap_or(Timestamp::from_millis(0));
        let Some(record) = answer else {
            return Self {
                value: patch.value.clone(),
                sync_count,
                device_date: sent,
                modified,
                changed: modified,
            };
        };
        let device_date = record.device_last_modified_date;
        Self {
            value: record.value.clone(),
            sync_count: record.sync_count,
            device_date,
            modified: device_date.unwrap_or(modified),
            changed: record.last_modified_date.unwrap_or(modified),
        }
    }
}
