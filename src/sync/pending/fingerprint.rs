//! What was sent and has no answer, as long as it may be carried out.
//!
//! A call carries the count that a record had when it was sent; the service carries it out only
//! while the record still has that count. So a fingerprint is of use until the record's count has
//! moved past it, and from then on only as long as the record is that very version.

use std::collections::BTreeMap;

use super::change::{Appended, Base, Change, Digest, Sent, note_once};
use crate::sync::change::{Mark, Shown};
use crate::sync::remote::Remote;
use crate::wire::names::RecordKey;
use crate::wire::records::RecordPatch;
use crate::wire::text::Text;

/// The fingerprints of a dataset's keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Fingerprints(BTreeMap<RecordKey, Vec<Sent>>);

impl Fingerprints {
    pub(super) fn of(&self, key: &RecordKey) -> &[Sent] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, key: &RecordKey, sent: Sent) {
        note_once(self.0.entry(key.clone()).or_default(), sent);
    }

    /// Drops those of a key that can tell nothing any more, now that the service has `remote`.
    pub(super) fn prune(&mut self, key: &RecordKey, remote: Option<&Remote>) {
        if let Some(known) = self.0.get_mut(key) {
            let count = remote.map_or(0, |remote| remote.sync_count);
            known.retain(|sent| {
                count <= sent.count || remote.is_some_and(|remote| is_of(sent, remote))
            });
            if known.is_empty() {
                self.0.remove(key);
            }
        }
    }

    /// Drops those of a key whose version was found, and told to whoever sent it.
    pub(super) fn found(&mut self, key: &RecordKey, remote: Option<&Remote>) {
        let count = remote.map_or(0, |remote| remote.sync_count);
        if let Some(known) = self.0.get_mut(key) {
            known.retain(|sent| count <= sent.count);
            if known.is_empty() {
                self.0.remove(key);
            }
        }
    }

    /// The dataset is another one: only what made a record may still be carried out.
    pub(super) fn begin_life(&mut self) {
        for known in self.0.values_mut() {
            known.retain(|sent| sent.count == 0);
        }
        self.0.retain(|_, known| !known.is_empty());
    }
}

/// Returns the fingerprint of a patch that was sent for a change.
pub(super) fn fingerprint(change: &Change, patch: &RecordPatch) -> Sent {
    let value = patch.value.as_ref().map(Text::as_bytes);
    let appended = |text: &[u8]| Appended {
        whole: value.map_or(0, |value| value.len() as u64),
        text: text.len() as u64,
    };
    Sent {
        mark: Mark::new(value, change.modified),
        count: patch.sync_count,
        appended: change.kind.added().map(|text| appended(text)),
    }
}

/// Returns whether a record is the version that was sent. A value alone proves nothing, and neither
/// does a date: `cp -p` gives the same one everywhere.
pub(super) fn is_version(sent: &Sent, remote: &Remote) -> bool {
    let value = remote.value.as_ref().map(Text::as_bytes);
    let same = |at| Mark::new(value, at) == sent.mark;
    remote.sync_count > sent.count && remote.device_date.is_some_and(same)
}

/// Returns whether a record is the version that was sent, or, of an append, begins with it.
pub(super) fn is_of(sent: &Sent, remote: &Remote) -> bool {
    is_version(sent, remote) || begins_with(sent, remote)
}

/// Returns whether a record begins with the whole text of an append. Others append the same lines:
/// the very text of another date is another's.
fn begins_with(sent: &Sent, remote: &Remote) -> bool {
    let value = remote.value.as_ref().map(Text::as_bytes);
    let (Some(length), Some(value)) = (sent.appended, value) else {
        return false;
    };
    let length = usize::try_from(length.whole).unwrap_or(usize::MAX);
    let is_longer = value.len() > length || remote.device_date.is_none();
    let begun = value
        .get(..length)
        .filter(|_| is_longer && remote.sync_count > sent.count);
    begun.is_some_and(|begun| Mark::new(Some(begun), sent.mark.at()) == sent.mark)
}

/// Returns whether what was sent was to take the place of what a change is based on.
pub(super) fn is_for(sent: &Sent, base: &Base) -> bool {
    match base.shown {
        Shown::Version(count) => count == sent.count,
        // What was added to nothing is all there is.
        Shown::Absent => sent
            .appended
            .is_none_or(|appended| appended.whole == appended.text),
    }
}

/// Returns how much of the text of an append the service has, in bytes, if what was sent of it
/// without an answer was carried out. `sent` is what was sent of the key: where an earlier process left
/// the change, nothing else tells what was sent of that.
pub(super) fn appended(
    change: &Change,
    (text, whole): (&[u8], &[u8]),
    sent: &[Sent],
    remote: &Remote,
) -> Option<usize> {
    let own = change.own.iter().filter(|sent| is_of(sent, remote));
    let own = own.filter_map(|sent| usize::try_from(sent.appended?.text).ok());
    let own = own.filter(|made| *made <= text.len());
    let of_left = sent.iter().filter(|_| change.left.is_some());
    let of_left = of_left.filter(|sent| is_of(sent, remote));
    let of_left = of_left.filter_map(|sent| {
        let value = remote.value.as_ref()?.as_bytes();
        let appended = sent.appended?;
        let begun = value.get(..usize::try_from(appended.whole).ok()?)?;
        let added = usize::try_from(appended.text).ok()?;
        if is_for(sent, &change.base) && whole.starts_with(begun) {
            // What its writer saw may have ended there.
            return Some((begun.len() + text.len()).saturating_sub(whole.len()));
        }
        let is_beginning = text.get(..added)? == begun.get(begun.len().checked_sub(added)?..)?;
        is_beginning.then_some(added)
    });
    own.chain(of_left).max()
}

/// Returns the digest of a record's value, if it has one.
pub(super) fn digest(remote: Option<&Remote>) -> Option<Digest> {
    let value = remote?.value.as_ref()?;
    Some(Digest::of(value.as_bytes()))
}
