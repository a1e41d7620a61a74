//! The order of all groups of a mount that are in its journal: what removals and renames wait for.
//!
//! A value may be moved from one dataset to another by a copy and a removal. So a removal is sent
//! only when every set that was noted before it has been decided, whatever its dataset. A rename
//! removes too, but waits for plain sets only, so that two renames never wait for each other.
//!
//! A group that takes the place of others stands where the first set of those was noted, and was noted
//! last itself: removals noted between the two wait for it. A rename is not put in line so that it
//! reaches over a removal (`reaches_over_a_removal`), but a removal may be noted while the rename is on
//! its way to the journal, and an earlier process may have left such a rename. Such a rename waits only
//! for what was noted before the first removal that it reaches over: what was noted later was not when
//! the rename was put in line, so that none who made the rename had been told of it.
//!
//! Invariant: nothing waits in a circle, as what is waited for always has a lower rank. The rank of
//! plain sets is where the first of them was noted; that of removals is where they were noted; that of a
//! rename is where it was noted or, if it reaches over removals, just below the first of those. So a
//! removal or a rename waits for plain sets noted below its own rank, and a removal for a rename that
//! began before it, whose rank is below its own by definition. A group waits for one of its own key only
//! if all of its sets were noted after that one: what takes the place of something takes the place of
//! all that share its keys, and what earlier processes left was noted before all else. No group ranks
//! below its first set, nor above where it was noted.

use std::collections::{BTreeMap, BTreeSet};

use super::change::{Digest, Ticket};
use super::group::{Places, Shape};
use super::note::Place;
use super::planted::Planted;

/// Names a dataset to the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatasetId(pub u64);

/// What is known of a group in the order.
#[derive(Clone, Debug)]
pub struct Standing {
    pub dataset: DatasetId,
    pub places: Places,
    pub shape: Shape,
    /// Litter is waited for by nobody.
    pub litter: bool,
    /// Whether it is held until a time, or until something waits for it.
    pub held: bool,
    /// The values that its sets carry.
    pub carries: Vec<Digest>,
    /// The values that its removals take away, as far as they are known.
    pub removes: Vec<Digest>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Barrier {
    groups: BTreeMap<Ticket, Standing>,
    /// Sets that are waited for, by dataset and place.
    sets: BTreeMap<DatasetId, BTreeMap<(Place, Ticket), Shape>>,
    /// Removals whose place is not known yet, and the values that they take away.
    under_way: BTreeMap<Ticket, (DatasetId, Vec<Digest>)>,
    /// Held groups that something waits for: their holds are to end.
    wanted: BTreeSet<(DatasetId, Ticket)>,
    /// Datasets in which something waits for another dataset.
    waiting: BTreeSet<DatasetId>,
    /// Whether another took the place of something since it was asked.
    replaced: bool,
}

impl Barrier {
    /// A removal of values is about to be noted.
    pub fn begin(&mut self, dataset: DatasetId, ticket: Ticket, removes: Vec<Digest>) {
        self.under_way.insert(ticket, (dataset, removes));
    }

    /// A group was not noted.
    pub fn cancel(&mut self, ticket: Ticket) {
        self.under_way.remove(&ticket);
    }

    /// A group was noted, or what is known of it has changed.
    pub fn insert(&mut self, ticket: Ticket, standing: Standing) {
        self.forget(ticket);
        self.under_way.remove(&ticket);
        if let Some(place) = standing.places.first_set.filter(|_| !standing.litter) {
            let sets = self.sets.entry(standing.dataset).or_default();
            sets.insert((place, ticket), standing.shape);
        }
        self.groups.insert(ticket, standing);
    }

    /// Another group took a group's place. What waited for the one may wait for the other: it is to
    /// look again.
    pub fn replace(&mut self, ticket: Ticket) {
        self.forget(ticket);
        self.replaced = true;
    }

    /// Returns the datasets in which something waited, if another took the place of something: each
    /// once.
    pub fn take_freed(&mut self) -> BTreeSet<DatasetId> {
        match std::mem::take(&mut self.replaced) {
            true => std::mem::take(&mut self.waiting),
            false => BTreeSet::new(),
        }
    }

    /// A group was decided. Returns the datasets in which something waited: it may go now.
    pub fn decide(&mut self, ticket: Ticket) -> BTreeSet<DatasetId> {
        self.forget(ticket);
        std::mem::take(&mut self.waiting)
    }

    fn forget(&mut self, ticket: Ticket) {
        let Some(standing) = self.groups.remove(&ticket) else {
            return;
        };
        self.wanted.remove(&(standing.dataset, ticket));
        if let Some(place) = standing.places.first_set
            && let Some(sets) = self.sets.get_mut(&standing.dataset)
        {
            sets.remove(&(place, ticket));
            if sets.is_empty() {
                self.sets.remove(&standing.dataset);
            }
        }
    }

    /// A set was refused: returns the removals of the value it carried that were noted after it, or
    /// are being noted, by datasets. They are kept back.
    pub fn kept_back(&self, ticket: Ticket) -> Vec<(DatasetId, Ticket)> {
        let Some(refused) = self.groups.get(&ticket) else {
            return Vec::new();
        };
        let Some(place) = refused.places.first_set else {
            return Vec::new();
        };
        let is_of = |(other, standing): &(&Ticket, &Standing)| {
            let removes = standing.removes.iter();
            **other != ticket
                && standing.shape == Shape::Removals
                && standing.places.last > place
                && removes
                    .clone()
                    .any(|digest| refused.carries.contains(digest))
        };
        let kept = self.groups.iter().filter(is_of);
        let noted = kept.map(|(ticket, standing)| (standing.dataset, *ticket));
        let carried = |digest: &Digest| refused.carries.contains(digest);
        let under_way = self.under_way.iter();
        let under_way = under_way.filter(|(_, (_, removes))| removes.iter().any(carried));
        noted
            .chain(under_way.map(|(ticket, (dataset, _))| (*dataset, *ticket)))
            .collect()
    }

    /// Returns the groups that one with these places waits for, first those of one dataset, and of those
    /// the first first.
    pub fn awaited_by(&self, places: Places, shape: Shape) -> impl Iterator<Item = Ticket> {
        let end = match Planted::RemovalBeforeSet.is_planted() {
            true => Place(i64::MIN),
            false => self.end_of_waiting(places),
        };
        let before = move |sets| BTreeMap::range(sets, ..(end, Ticket(0)));
        let earlier = self.sets.values().flat_map(before);
        earlier
            .filter(move |(_, other)| is_waited_for(shape, **other))
            .map(|((_, ticket), _)| *ticket)
    }

    /// Returns the place before which sets are waited for: where a group was noted last, or the first
    /// removal that it reaches over.
    fn end_of_waiting(&self, places: Places) -> Place {
        let first_set = places.first_set.filter(|first| *first < places.last);
        let over = first_set
            .into_iter()
            .flat_map(|first| self.removals_after(first));
        over.chain([places.last]).min().unwrap_or(places.last)
    }

    /// Returns where the removals were noted that were noted after a place.
    fn removals_after(&self, place: Place) -> impl Iterator<Item = Place> {
        let removals = self.groups.values();
        let removals = removals.filter(|standing| standing.shape == Shape::Removals);
        let places = removals.map(|standing| standing.places.last);
        places.filter(move |last| *last > place)
    }

    /// Notes that something in a dataset waits for a group.
    pub fn note_waiting(&mut self, dataset: DatasetId, ticket: Ticket) {
        self.waiting.insert(dataset);
        if let Some(standing) = self.groups.get(&ticket).filter(|standing| standing.held) {
            self.wanted.insert((standing.dataset, ticket));
        }
    }

    /// A value is about to be removed while somebody waits: the holds of those that carry it end.
    pub fn want_carriers(&mut self, digest: Digest) {
        let carriers = self.groups.iter().filter(|(_, standing)| {
            standing.held && !standing.litter && standing.carries.contains(&digest)
        });
        let carriers = carriers.map(|(ticket, standing)| (standing.dataset, *ticket));
        self.wanted.extend(carriers.collect::<Vec<_>>());
    }

    /// Takes the groups whose holds are to end: each once.
    pub fn take_wanted(&mut self) -> BTreeSet<(DatasetId, Ticket)> {
        for (_, ticket) in &self.wanted {
            if let Some(standing) = self.groups.get_mut(ticket) {
                standing.held = false;
            }
        }
        std::mem::take(&mut self.wanted)
    }

    /// Returns whether a group that begins at a place and is noted now would reach over a removal.
    pub fn reaches_over_a_removal(&self, first_set: Place) -> bool {
        !self.under_way.is_empty() || self.removals_after(first_set).next().is_some()
    }

    /// Returns whether a value that a set carries which was noted here is taken away by a removal that
    /// was noted later. That one has to wait until the service has the value: a set that would carry
    /// another instead is none to wait for.
    pub fn is_moved(&self, first_set: Place, value: Digest, of: &[Ticket]) -> bool {
        let removes = |ticket: &Ticket, standing: &Standing| {
            !of.contains(ticket)
                && standing.places.last > first_set
                && standing.removes.contains(&value)
        };
        let mut under_way = self.under_way.values();
        under_way.any(|(_, removes)| removes.contains(&value))
            || self
                .groups
                .iter()
                .any(|(ticket, standing)| removes(ticket, standing))
    }

    /// Returns whether a value is carried by a set that was noted before a removal of it: the removal
    /// has to wait for that, and what takes its place would not.
    pub fn is_carried(&self, last: Place, value: Digest, of: &[Ticket]) -> bool {
        let mut groups = self.groups.iter();
        groups.any(|(ticket, standing)| {
            let is_before = standing.places.first_set.is_some_and(|place| place < last);
            !of.contains(ticket)
                && !standing.litter
                && is_before
                && standing.carries.contains(&value)
        })
    }

    /// Returns how many groups are in the order, or about to be.
    pub fn len(&self) -> usize {
        self.groups.len() + self.under_way.len()
    }

    /// Returns whether no group is in the order, nor about to be.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Returns whether a group of one shape waits for a set of another.
fn is_waited_for(waiting: Shape, set: Shape) -> bool {
    match waiting {
        Shape::Sets => false,
        Shape::Mixed => set == Shape::Sets,
        Shape::Removals => true,
    }
}
