//! The state of one dataset: what the service was last seen to hold, and, in order, what is to be
//! changed. `view` shows one over the other.
//!
//! Invariants: a record's count never goes back within one life of the dataset; a session token is
//! used for one push; a group that is neither noted nor awaited is never sent; what a group takes
//! the place of stays until that group is noted.

mod driving;
mod hearing;
mod holding;
mod settling;
mod staging;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::barrier::DatasetId;
use super::batch::Batch;
use super::change::{Base, Change, Made, Sent, Ticket};
use super::decide::{Against, Refusal};
use super::fingerprint::Fingerprints;
use super::group::Group;
use super::note::Settled;
use super::resolution::Resolution;
use crate::sync::change::Shown;
use crate::sync::remote::Remote;
use crate::wire::names::RecordKey;

pub use driving::Step;
pub(super) use holding::begin_hold;
pub use staging::{Commit, How, Staged};
pub use view::View;

/// How long a noted group waits for others to go with it.
pub const GATHER: Duration = Duration::from_millis(100);
/// How long an editor's passing file is held after its last close.
pub const PASSING: Duration = Duration::from_secs(10);
/// How long a record that was moved to its backup name may be written anew before that is sent.
pub const GRACE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
struct Listed {
    sync_count: i64,
    at: Instant,
}

/// A record after a change of it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landed {
    pub key: RecordKey,
    /// None if the service never had it, which a removal may find.
    pub record: Option<Remote>,
    /// What a change that begins now has as its base.
    pub base: Base,
}

/// What became of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was made; one record a change.
    Made(Vec<Landed>),
    /// It can never be made. What it was to set is to be kept.
    Refused(Refusal, Vec<Change>),
    /// It was not made, or nobody knows, and nobody waits for it any more: its changes are its
    /// writer's again.
    GivenBack(Refusal, Vec<Change>),
    /// It stays in the journal and is tried again; whoever waits for it is told why.
    Waits(Refusal),
}

/// What a state has to tell.
#[derive(Clone, Debug)]
pub struct Event {
    pub ticket: Ticket,
    /// Tickets whose groups this one took the place of: bases on them are bases on this one.
    pub aliases: Vec<Ticket>,
    /// The tickets whose waiters are to be told: this one, and those aliases of which nothing else is
    /// pending.
    pub answered: Vec<Ticket>,
    pub outcome: Outcome,
    /// What bases on the ticket come to; empty where it is still pending.
    pub resolutions: Vec<Resolution>,
    /// What the journal is to note of it. What is to be kept is kept first.
    pub settled: Settled,
}

/// What becomes of a group that nobody waits for any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It was decided meanwhile, or is not known.
    Decided,
    /// It goes on: it is in the journal, or somebody else waits for it.
    Stays,
    /// It is not, and an event tells what becomes of it: at once, or when its call has ended.
    Undecided,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct DatasetState {
    /// Its name in the order of all groups.
    id: DatasetId,
    /// Whether editors' files are held back.
    scratch: bool,
    /// The last listing; None if there was none, or its records were dropped.
    listed: Option<Listed>,
    /// Whether the service was last seen to have the dataset.
    exists: bool,
    /// How often it was seen to have been deleted. Bases of another life are stale.
    life: u32,
    /// What the service has, tombstones included.
    records: BTreeMap<RecordKey, Remote>,
    /// What the next push is made with, and when it came.
    token: Option<(String, Instant)>,
    list_wanted: bool,
    delete_wanted: bool,
    /// Before when nothing is sent, after something was sent in vain.
    held_off: Option<Instant>,
    /// What is to be changed, first things first.
    groups: Vec<Group>,
    /// What is being sent.
    in_flight: Option<Batch>,
    /// What was sent and has no answer.
    fingerprints: Fingerprints,
    /// The tickets that took the place of others, while they are pending or not yet taken notice
    /// of. A split gives one ticket several.
    successors: BTreeMap<Ticket, Vec<Ticket>>,
    /// What bases on decided tickets come to, until everybody who has such a base was told.
    resolutions: BTreeMap<Ticket, Vec<Resolution>>,
    /// Names under which a new file is open for writing: their grace goes on.
    open: BTreeSet<RecordKey>,
    /// What happened and was not taken yet.
    events: Vec<Event>,
    last_cohort: u64,
}

impl DatasetState {
    /// Begins in the life that was seen last, so that older bases stay what they were.
    pub fn new(id: DatasetId, life: u32, scratch: bool) -> Self {
        Self {
            id,
            scratch,
            listed: None,
            exists: false,
            life,
            records: BTreeMap::new(),
            token: None,
            list_wanted: false,
            delete_wanted: false,
            held_off: None,
            groups: Vec::new(),
            in_flight: None,
            fingerprints: Fingerprints::default(),
            successors: BTreeMap::new(),
            resolutions: BTreeMap::new(),
            open: BTreeSet::new(),
            events: Vec::new(),
            last_cohort: 0,
        }
    }

    pub fn id(&self) -> DatasetId {
        self.id
    }

    /// Returns which life of the dataset this is.
    pub fn life(&self) -> u32 {
        self.life
    }

    /// Returns whether the service has the dataset.
    pub fn exists(&self) -> bool {
        self.exists
    }

    /// Returns whether it was ever listed, and not evicted since.
    pub fn is_listed(&self) -> bool {
        self.listed.is_some()
    }

    /// Returns what is left of the last listing's `ttl`.
    pub fn freshness(&self, now: Instant, ttl: Duration) -> Duration {
        let Some(listed) = &self.listed else {
            return Duration::ZERO;
        };
        ttl.saturating_sub(now.saturating_duration_since(listed.at))
    }

    /// Returns a record of the service's, tombstones included.
    pub fn remote(&self, key: &RecordKey) -> Option<&Remote> {
        self.records.get(key)
    }

    /// Returns all keys that may be shown: the service's and those of changes.
    pub fn keys(&self) -> BTreeSet<RecordKey> {
        let records = self.records.keys().cloned();
        records
            .chain(self.groups.iter().flat_map(Group::keys))
            .collect()
    }

    /// Returns whether nothing waits to be sent, editors' own files excepted.
    pub fn is_settled(&self) -> bool {
        self.groups.iter().all(Group::is_litter)
    }

    /// Returns whether something is sent though nobody waits for it.
    pub fn goes_by_itself(&self) -> bool {
        let mut groups = self.groups.iter();
        groups.any(|group| group.places().is_some() && !group.is_litter())
    }

    /// Returns the tickets that are still pending, litter excepted, first things first.
    pub fn pending(&self) -> impl Iterator<Item = Ticket> + '_ {
        let sent = self.groups.iter().filter(|group| !group.is_litter());
        sent.map(|group| group.ticket)
    }

    /// Returns how many groups are held as litter.
    pub fn litter(&self) -> usize {
        self.groups.iter().filter(|group| group.is_litter()).count()
    }

    /// Returns the groups that are being sent.
    pub fn in_flight(&self) -> Vec<Ticket> {
        self.in_flight
            .as_ref()
            .map(Batch::tickets)
            .unwrap_or_default()
    }

    /// Returns whether nothing happened that was not taken.
    pub fn has_told(&self) -> bool {
        self.events.is_empty()
    }

    /// Returns whether a ticket was decided, and is neither forgotten nor among those that were told.
    pub fn is_untold(&self, ticket: Ticket, told: &[Ticket]) -> bool {
        let mut wanted = vec![ticket];
        while let Some(next) = wanted.pop() {
            if self.resolutions.contains_key(&next) && !told.contains(&next) {
                return true;
            }
            wanted.extend(self.successors.get(&next).into_iter().flatten());
        }
        false
    }

    /// Takes what happened.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Returns whether nothing is lost with it but what the service has: nothing is pending, may yet
    /// be carried out, is open or waits to be told, and no base stands on what was decided.
    pub fn is_clean(&self) -> bool {
        self.groups.is_empty()
            && self.in_flight.is_none()
            && self.fingerprints.is_empty()
            && self.open.is_empty()
            && self.events.is_empty()
            && self.resolutions.is_empty()
            && self.successors.is_empty()
    }

    /// Forgets the records, unless more would be lost with them. Bases are not kept here, so none is
    /// lost.
    pub fn evict(&mut self) -> bool {
        if !self.is_clean() {
            return false;
        }
        self.listed = None;
        self.token = None;
        self.records.clear();
        true
    }

    /// Returns how many bytes of keys and values the records hold.
    pub fn bytes(&self) -> usize {
        let bytes = |(key, remote): (&RecordKey, &Remote)| {
            let value = remote.value.as_ref();
            key.text().as_bytes().len() + value.map_or(0, |value| value.as_bytes().len())
        };
        self.records.iter().map(bytes).sum()
    }

    /// Notes what an earlier process may have sent.
    pub(super) fn note_sent(&mut self, key: &RecordKey, sent: Sent) {
        self.fingerprints.add(key, sent);
    }

    /// Puts groups before all others.
    pub(super) fn put_first(&mut self, groups: Vec<Group>) {
        self.groups.splice(0..0, groups);
    }

    fn position(&self, ticket: Ticket) -> Option<usize> {
        self.groups.iter().position(|group| group.ticket == ticket)
    }

    fn group_mut(&mut self, ticket: Ticket) -> Option<&mut Group> {
        self.groups.iter_mut().find(|group| group.ticket == ticket)
    }

    fn is_in_flight(&self, ticket: Ticket) -> bool {
        self.in_flight
            .as_ref()
            .is_some_and(|batch| batch.has(ticket))
    }

    fn against<'a>(&'a self, key: &RecordKey) -> Against<'a> {
        Against {
            remote: self.records.get(key),
            sent: self.fingerprints.of(key),
            life: self.life,
            exists: self.exists,
        }
    }

    /// Returns what a change of the service's record that begins now has as its base.
    fn base(&self, key: &RecordKey) -> Base {
        let there = self
            .records
            .get(key)
            .filter(|remote| remote.value.is_some());
        Base {
            life: self.life,
            shown: there.map_or(Shown::Absent, |remote| Shown::Version(remote.sync_count)),
            pending: None,
        }
    }

    /// Returns the group that a ticket means for a key today.
    fn follow(&self, ticket: Ticket, key: &RecordKey) -> Ticket {
        let mut now = ticket;
        while let Some(successors) = self.successors.get(&now) {
            let has = |ticket: &&Ticket| {
                let group = self.position(**ticket).map(|at| &self.groups[at]);
                let resolved = self.resolutions.get(*ticket);
                group.is_some_and(|group| group.has(key))
                    || resolved.is_some_and(|all| all.iter().any(|one| one.key == *key))
                    || self.successors.contains_key(*ticket)
            };
            match successors.iter().find(has).or(successors.first()) {
                Some(next) => now = *next,
                None => break,
            }
        }
        now
    }

    /// Returns a base as it is today: on the group that took the ticket's place, or, if the ticket
    /// was decided, on what came of it.
    pub fn normalized(&self, base: Base, key: &RecordKey) -> Base {
        let Some(made) = base.pending else {
            return base;
        };
        let ticket = self.follow(made.ticket, key);
        if let Some(resolutions) = self.resolutions.get(&ticket) {
            let of_key = resolutions.iter().find(|one| one.key == *key);
            return match of_key {
                // What it was resolved to may stand on another ticket.
                Some(resolution) => self.normalized(resolution.resolve(base), key),
                None => base.settled(),
            };
        }
        match self.position(ticket) {
            Some(at) if self.groups[at].has(key) => Base {
                pending: Some(Made { ticket, ..made }),
                ..base
            },
            _ => base.settled(),
        }
    }

    /// Everybody who had a base on a ticket knows what came of it.
    pub fn forget(&mut self, ticket: Ticket) {
        self.resolutions.remove(&ticket);
        self.successors.retain(|_, successors| {
            successors.retain(|successor| *successor != ticket);
            !successors.is_empty()
        });
    }
}
