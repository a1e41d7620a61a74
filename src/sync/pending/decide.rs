//! Conflicts are decided here, before anything is sent: a change's base against the count just
//! listed. The service's own refusal is the second net.

use std::sync::Arc;

use super::change::{Change, Kind, Sent};
use super::fingerprint::{appended, is_for, is_version};
use crate::sync::change::{Shown, Unseen};
use crate::sync::remote::Remote;
use crate::wire::fault::{Code, Fault};
use crate::wire::names::MAX_VALUE_CHARS;
use crate::wire::text::Text;

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The record, or its dataset, is no longer what was shown when the change began.
    Stale,
    /// The text is no text, or cannot be added to a value.
    NotText,
    /// The value would have more than 1,048,575 characters.
    TooBig,
    /// What the change is based on was refused, with other keys that belong to it.
    Based,
    /// A set that carried the value to be removed was refused.
    KeptBack,
    /// The dataset was deleted here, and an editor's own files with it.
    Deleted,
    /// The service said no.
    Fault(Arc<Fault>),
    /// No answer came, or the service could not be asked.
    Lost,
}

impl Refusal {
    /// Returns whether the same change can never be made, however often it is tried.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Stale
            | Self::NotText
            | Self::TooBig
            | Self::Based
            | Self::KeptBack
            | Self::Deleted => true,
            Self::Lost => false,
            Self::Fault(fault) => fault.is_conflict() || is_final(&fault.code),
        }
    }
}

fn is_final(code: &Code) -> bool {
    match code {
        Code::ResourceNotFound
        | Code::LimitExceeded
        | Code::InvalidParameter
        | Code::InvalidConfiguration
        | Code::InvalidIdentityPoolConfiguration
        | Code::Serialization
        | Code::ResourceConflict => true,
        Code::AccessDenied
        | Code::NotAuthorized
        | Code::ExpiredToken
        | Code::IncompleteSignature
        | Code::InvalidSignature
        | Code::MissingAuthenticationToken
        | Code::UnrecognizedClient
        | Code::LambdaThrottled
        | Code::Throttling
        | Code::TooManyRequests
        | Code::ConcurrentModification
        | Code::AlreadyStreamed
        | Code::DeveloperUserAlreadyRegistered
        | Code::DuplicateRequest
        | Code::ExternalService
        | Code::InternalError
        | Code::InternalFailure
        | Code::InvalidLambdaFunctionOutput
        | Code::ServiceUnavailable
        | Code::UnknownOperation
        | Code::Other(_) => false,
    }
}

/// What is to be done about one change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Replace(Text),
    Remove,
    /// The record already is as the change wants it.
    Nothing,
    Refuse(Refusal),
}

/// What a change is decided against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Against<'a> {
    /// As last listed; None if the service never had the key.
    pub(super) remote: Option<&'a Remote>,
    /// What was sent of the key without an answer.
    pub(super) sent: &'a [Sent],
    pub(super) life: u32,
    /// Whether the service has the dataset.
    pub(super) exists: bool,
}

impl Against<'_> {
    fn value(&self) -> Option<&Text> {
        self.remote?.value.as_ref()
    }

    /// Returns whether the record is what was shown, or was made of it here since.
    fn is_current(&self, change: &Change) -> bool {
        self.is_unchanged(change) || self.is_ours(change)
    }

    /// Returns whether the record has the count that was shown.
    fn is_unchanged(&self, change: &Change) -> bool {
        if change.base.life != self.life {
            return false;
        }
        match (change.base.shown, self.remote) {
            (Shown::Absent, _) => self.value().is_none() && !self.was_removed_since(change),
            (Shown::Version(shown), Some(remote)) => {
                remote.value.is_some() && remote.sync_count == shown
            }
            (Shown::Version(_), None) => false,
        }
    }

    /// Returns whether a record that an earlier process took for absent was made and removed since.
    fn was_removed_since(&self, change: &Change) -> bool {
        let known = change.left.and_then(|left| left.sync_count);
        known.is_some_and(|known| known != self.remote.map_or(0, |remote| remote.sync_count))
    }

    /// Returns whether what was sent of a change without an answer may have been made, and removed
    /// by somebody who saw it: that is not brought back.
    ///
    /// The call may as well be lost, and the version removed be the one that was shown: then a whole
    /// write would make the record anew. Nothing tells the two apart. A tombstone names neither the
    /// version it took the place of nor how many there were: its count is the dataset's, which rises
    /// with every change of any record. To send it again may bring back what somebody removed who saw
    /// it, and no count would ever say so; to refuse it keeps the text beside the record, where its
    /// writer is told and can put it back. So refusing is the only answer that is never wrong.
    fn may_be_taken_away(&self, change: &Change) -> bool {
        let Some(remote) = self.remote.filter(|remote| remote.value.is_none()) else {
            return false;
        };
        let mut own = change.own.iter();
        change.kind.is_set()
            && change.base.life == self.life
            && own.clone().any(|sent| remote.sync_count > sent.count)
            && !own.any(|sent| is_version(sent, remote))
    }

    /// Returns whether the record is what was sent from here over the same version, without an
    /// answer: nobody else wrote it.
    fn is_ours(&self, change: &Change) -> bool {
        let Some(remote) = self.remote.filter(|_| change.base.life == self.life) else {
            return false;
        };
        let of_base = |sent: &&Sent| is_for(sent, &change.base);
        self.sent
            .iter()
            .filter(of_base)
            .any(|sent| is_version(sent, remote))
    }

    /// Returns whether the change's writer has seen the record: it is what was shown to him, or what
    /// he wrote.
    pub(super) fn is_seen(&self, change: &Change) -> bool {
        // What was added to a version that he had not seen does not show him that.
        let shows = |sent: &&Sent| sent.appended.is_none() || is_for(sent, &change.base);
        let mut own = change.own.iter().filter(shows);
        self.is_unchanged(change)
            || self
                .remote
                .is_some_and(|remote| own.any(|sent| is_version(sent, remote)))
    }

    /// Returns how much of an append was made, if it was sent without an answer.
    fn appended(&self, change: &Change, texts: (&[u8], &[u8])) -> Option<usize> {
        let remote = self.remote.filter(|_| change.base.life == self.life)?;
        appended(change, texts, self.sent, remote)
    }
}

/// Decides a change whose base is the service's version.
pub(super) fn decide(change: &Change, against: Against<'_>) -> Verdict {
    let is_gone = was_deleted(change, &against) || against.may_be_taken_away(change);
    if change.base.pending.is_some() || is_gone {
        return Verdict::Refuse(Refusal::Stale);
    }
    match &change.kind {
        Kind::Whole(text) | Kind::Edit(text) => set(change, text, against),
        Kind::Append { text, whole } => append(change, (text, whole), against),
        Kind::Times => times(change, against),
        Kind::Remove => remove(change, against),
    }
}

/// Returns whether an earlier process left a change of a dataset that was deleted since.
fn was_deleted(change: &Change, against: &Against<'_>) -> bool {
    let existed = change.left.is_some_and(|left| left.existed);
    existed && !against.exists && change.kind.is_set()
}

/// Returns whether a change may be made although its base is not current.
fn may_overrule(change: &Change, against: &Against<'_>) -> bool {
    change.base.life == against.life && change.left.is_none()
}

fn set(change: &Change, text: &[u8], against: Against<'_>) -> Verdict {
    let value = match checked(text) {
        Ok(value) => value,
        Err(refusal) => return Verdict::Refuse(refusal),
    };
    if !against.is_unchanged(change) && against.value() == Some(&value) {
        return Verdict::Nothing;
    }
    let is_whole = matches!(change.kind, Kind::Whole(_));
    let overrules = is_whole && may_overrule(change, &against);
    // Removed elsewhere: nothing is there that a whole write could destroy.
    let destroys_nothing = against.value().is_none();
    let may = against.is_current(change)
        || (overrules && (destroys_nothing || change.unseen == Unseen::Keep));
    match may {
        true => Verdict::Replace(value),
        false => Verdict::Refuse(Refusal::Stale),
    }
}

fn append(change: &Change, (text, whole): (&[u8], &[u8]), against: Against<'_>) -> Verdict {
    let Some(theirs) = against.value() else {
        // Where there was nothing, an append begins the record.
        return match against.is_unchanged(change) {
            true => replace(checked(whole)),
            false => Verdict::Refuse(Refusal::Stale),
        };
    };
    if !against.is_unchanged(change)
        && let Some(made) = against.appended(change, (text, whole))
    {
        return match &text[made..] {
            [] => Verdict::Nothing,
            rest => replace(added(theirs, rest)),
        };
    }
    if against.is_unchanged(change) || may_overrule(change, &against) {
        return replace(added(theirs, text));
    }
    Verdict::Refuse(Refusal::Stale)
}

fn times(change: &Change, against: Against<'_>) -> Verdict {
    let dated = against.remote.and_then(|remote| remote.device_date) == Some(change.modified);
    match against.value() {
        Some(value) if against.is_current(change) => Verdict::Replace(value.clone()),
        Some(_) if change.left.is_some() && dated => Verdict::Nothing,
        _ => Verdict::Refuse(Refusal::Stale),
    }
}

fn remove(change: &Change, against: Against<'_>) -> Verdict {
    let overrules = may_overrule(change, &against) && change.unseen == Unseen::Keep;
    match against.value() {
        None => Verdict::Nothing,
        Some(_) if against.is_current(change) || overrules => Verdict::Remove,
        Some(_) => Verdict::Refuse(Refusal::Stale),
    }
}

fn replace(value: Result<Text, Refusal>) -> Verdict {
    value.map_or_else(Verdict::Refuse, Verdict::Replace)
}

/// Checks that a change can make a record, whatever it is made of: what its writer sees may be more
/// than a value may have, or no text. Halves of a character may be joined by an append.
///
/// # Errors
/// Why no record can have the text.
pub(super) fn check(kind: &Kind) -> Result<(), Refusal> {
    match kind {
        Kind::Whole(text) | Kind::Edit(text) => checked(text).map(drop),
        Kind::Append { text, whole } => match (checked(text), checked(whole)) {
            (Err(refusal), _) => Err(refusal),
            (_, Err(Refusal::TooBig)) => Err(Refusal::TooBig),
            _ => Ok(()),
        },
        Kind::Times | Kind::Remove => Ok(()),
    }
}

/// Returns the value that bytes are.
pub(super) fn checked(bytes: &[u8]) -> Result<Text, Refusal> {
    let value = Text::from_wtf8(bytes).ok_or(Refusal::NotText)?;
    match value.chars() > MAX_VALUE_CHARS {
        true => Err(Refusal::TooBig),
        false => Ok(value),
    }
}

/// Returns a value with more text behind it.
pub(super) fn added(value: &Text, more: &[u8]) -> Result<Text, Refusal> {
    let more = Text::from_wtf8(more).ok_or(Refusal::NotText)?;
    let whole = value.joined(&more);
    match whole.chars() > MAX_VALUE_CHARS {
        true => Err(Refusal::TooBig),
        false => Ok(whole),
    }
}
