//! Taking over the journals of processes that have ended.
//!
//! Invariant: a group is in our journal for good before it leaves its own, and whoever asked is
//! given it after it has left for good. So at any end of a process a group lies in one journal, or
//! in several with the same origin, of which the next to take over keeps one, and gives it out
//! when the journal of its origin is known to have it no longer.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::time::Instant;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::database::{Database, Lasting};
use super::disk::{Held, Name, Removed};
use super::error::JournalError;
use super::format::{Found, JOURNAL};
use super::loaded::{Taken, Unreadable, Whereabouts};
use super::mount::{MountJournal, ROW, lowest_place};
use super::rows::{self, ChangeRow, GroupRow, to_column};
use crate::sync::pending::Ticket;

/// How the origins begin that the version before has. No name of a journal does.
pub(super) const OLD_ORIGIN: &[u8] = b"old-";

/// On which terms journals are taken over.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// Whether groups of a dataset are taken; others stay where they are. A group whose dataset
    /// cannot be told is taken in any case, so that nothing that has to wait for it passes it.
    pub wanted: &'a dyn Fn(&Whereabouts) -> bool,
    /// Gives tickets that this process has not used.
    pub fresh: &'a dyn Fn() -> Ticket,
}

/// A group to be taken over.
#[derive(Debug)]
pub(super) struct Group {
    /// Its origin is set.
    pub(super) row: GroupRow<'static>,
    pub(super) changes: Vec<ChangeRow<'static>>,
    /// Why its changes cannot be read from the disk. Then it stays where it is, and is told of.
    pub(super) damage: Option<String>,
    /// Its places, to be compared with those of the same journal.
    pub(super) first_set: (i64, i64),
    pub(super) last: (i64, i64),
}

/// A journal that nobody holds, and is held now.
struct Orphan {
    name: String,
    /// When it was made, in epoch milliseconds.
    made: i64,
    database: Database,
    _held: Held,
}

/// What is in our journal of groups that are taken over.
#[derive(Default)]
struct Adopted {
    all: HashSet<i64>,
    /// Those that were not there.
    new: Vec<i64>,
    /// Those that stay where they are.
    damaged: Vec<Unreadable>,
}

/// What is known of one attempt to take over all journals.
#[derive(Default)]
pub(super) struct Taking {
    /// The groups that are ours now, by their tickets here.
    tickets: HashSet<i64>,
    /// The journals of which nobody knows what is still in them. The version before is
    /// [`OLD_ORIGIN`].
    unsure: HashSet<Vec<u8>>,
    damaged: Vec<Unreadable>,
    pub(super) ending: Vec<String>,
    pub(super) troubles: Vec<JournalError>,
}

impl MountJournal {
    /// Takes over what lies in journals that nobody holds, and in the journal of the version
    /// before. Waits until `deadline` for the directory and for journals whose processes are about
    /// to end; with one that is over it only looks. Running mounts ask again from time to time.
    ///
    /// # Errors
    /// Nothing was taken. What goes wrong with one journal is in what is returned.
    pub fn take_over(&self, terms: &Terms<'_>, deadline: Instant) -> Result<Taken, JournalError> {
        let mut taken = Taken::default();
        loop {
            let directory = match self.disk.hold(deadline, &self.clock) {
                Ok(directory) => directory,
                Err(error) if taken.is_empty() => return Err(error),
                Err(error) => {
                    taken.troubles.push(error);
                    break;
                }
            };
            let mut taking = Taking::default();
            if let Err(error) = self.take_all(terms, &directory, &mut taking) {
                taking.troubles.push(error);
            }
            let given = self.give_out(&taking, &mut taken);
            taken.loaded.unreadable.extend(taking.damaged);
            taken.ending = taking.ending;
            taken.troubles = taking.troubles;
            taken.troubles.extend(given.err());
            drop(directory);
            if taken.ending.is_empty() || !self.disk.wait(deadline, &self.clock) {
                break;
            }
        }
        taken.loaded.groups.sort_by_key(|group| group.place);
        taken.loaded.unreadable.sort_by_key(|group| group.place);
        Ok(taken)
    }

    fn take_all(
        &self,
        terms: &Terms<'_>,
        directory: &Held,
        taking: &mut Taking,
    ) -> Result<(), JournalError> {
        let mut orphans = self.find_orphans(taking)?;
        // Each goes before those that were taken before it.
        orphans.sort_by(|one, other| (other.made, &other.name).cmp(&(one.made, &one.name)));
        for orphan in orphans {
            let name = orphan.name.clone();
            if let Err(error) = self.take(orphan, terms, taking) {
                taking.doubt(name.as_bytes(), error);
            }
        }
        if let Err(error) = self.take_old(terms, directory, taking) {
            taking.doubt(OLD_ORIGIN, error);
        }
        Ok(())
    }

    /// Reads what is ours now.
    fn give_out(&self, taking: &Taking, taken: &mut Taken) -> Result<(), JournalError> {
        if taking.tickets.is_empty() {
            return Ok(());
        }
        let given =
            |row: &GroupRow<'_>| taking.tickets.contains(&row.ticket) && taking.is_sure(row);
        let loaded = self
            .database
            .read(|connection| rows::load(connection, given))?;
        taken.loaded.groups.extend(loaded.groups);
        taken.loaded.unreadable.extend(loaded.unreadable);
        Ok(())
    }

    /// Opens the journals that nobody holds, and removes what is left of those that are empty.
    fn find_orphans(&self, taking: &mut Taking) -> Result<Vec<Orphan>, JournalError> {
        let storage = self.disk.storage();
        let mut orphans = Vec::new();
        for name in storage
            .names()?
            .into_iter()
            .filter(|name| *name != self.name)
        {
            let found = match storage.try_hold(Name::Journal(&name)) {
                Ok(Some(held)) => self.find_orphan(&name, held),
                Ok(None) if storage.is_ending(&name) => {
                    taking.ending.push(name);
                    continue;
                }
                Ok(None) => continue,
                Err(error) => Err(error),
            };
            match found {
                Ok(orphan) => orphans.extend(orphan),
                Err(error) => taking.doubt(name.as_bytes(), error),
            }
        }
        Ok(orphans)
    }

    fn find_orphan(&self, name: &str, held: Held) -> Result<Option<Orphan>, JournalError> {
        let storage = self.disk.storage();
        // A file that is not ours is not opened to be written.
        if !storage.is_half_made(Name::Journal(name))
            && let Some(looked) = storage.look(Name::Journal(name))?
        {
            looked.identify(JOURNAL)?;
        }
        if let Some(database) = storage.open(Name::Journal(name))?
            && database.identify(JOURNAL)? == Found::Ours
        {
            let made = "SELECT min(made) FROM about";
            let made: Option<i64> =
                database.read(|connection| connection.query_row(made, [], |row| row.get(0)))?;
            return Ok(Some(Orphan {
                name: name.to_owned(),
                made: made.unwrap_or(i64::MIN),
                database,
                _held: held,
            }));
        }
        // Its process ended while it made or removed it.
        match storage.remove(Name::Journal(name)) {
            Removed::Whole => Ok(None),
            Removed::Partly(error) | Removed::Not(error) => Err(error),
        }
    }

    fn take(
        &self,
        orphan: Orphan,
        terms: &Terms<'_>,
        taking: &mut Taking,
    ) -> Result<(), JournalError> {
        let Orphan {
            name,
            database,
            _held,
            ..
        } = orphan;
        let strays = database.read(rows::load_strays)?;
        let mut stays = !strays.is_empty();
        if let Some(stray) = strays.into_iter().next() {
            taking
                .troubles
                .push(unreadable(database.path(), stray.reason));
        }
        let mut groups = Vec::new();
        for row in database.read(GroupRow::all)? {
            if row.whereabouts().is_some_and(|of| !(terms.wanted)(&of)) {
                stays = true;
                continue;
            }
            match database.read(|connection| ChangeRow::of_group(connection, row.ticket)) {
                Ok(changes) => groups.push(group(row, changes, &name)),
                // Damage in one place need not keep back the rest.
                Err(error @ JournalError::Damaged { .. }) => {
                    stays = true;
                    if self.state().damaged.insert((name.clone(), row.ticket)) {
                        groups.push(Group {
                            damage: Some(error.to_string()),
                            ..group(row, Vec::new(), &name)
                        });
                    }
                    taking.troubles.push(error);
                }
                Err(error) => return Err(error),
            }
        }
        if groups.is_empty() && stays {
            return Ok(());
        }
        let whole = groups.iter().filter(|group| group.damage.is_none());
        let tickets: Vec<i64> = whole.map(|group| group.row.ticket).collect();
        self.move_in(groups, terms, taking, || match stays {
            true => leave(&database, |tx| {
                tickets
                    .iter()
                    .try_for_each(|ticket| rows::remove(tx, *ticket))
            }),
            false => {
                close_as_it_is(database);
                self.disk.storage().remove(Name::Journal(&name))
            }
        })
    }

    /// Puts groups into our journal, and has them `leave` where they were.
    pub(super) fn move_in(
        &self,
        groups: Vec<Group>,
        terms: &Terms<'_>,
        taking: &mut Taking,
        leave: impl FnOnce() -> Removed,
    ) -> Result<(), JournalError> {
        let mut state = self.state();
        self.pay_all(&mut state)?;
        let size = groups.iter().map(Group::len).sum();
        let adopted = self.adopt(groups, terms)?;
        state.wrote(size);
        match leave() {
            Removed::Whole => {}
            Removed::Partly(error) => taking.troubles.push(error),
            Removed::Not(error) => {
                // They are still there, so they are not given out, and not kept twice.
                self.database.write(Lasting::Power, |tx| {
                    let mut new = adopted.new.iter();
                    new.try_for_each(|ticket| rows::remove(tx, *ticket))
                })?;
                return Err(error);
            }
        }
        taking.tickets.extend(adopted.all);
        taking.damaged.extend(adopted.damaged);
        Ok(())
    }

    /// Copies groups before all others, but for those that are here already.
    fn adopt(&self, groups: Vec<Group>, terms: &Terms<'_>) -> Result<Adopted, JournalError> {
        if groups.is_empty() {
            return Ok(Adopted::default());
        }
        self.database.write(Lasting::Power, |tx| {
            let here = origins(tx)?;
            let mut adopted = Adopted::default();
            // What the tickets of the other journal are here.
            let mut tickets = HashMap::new();
            let mut new = Vec::new();
            for group in groups {
                let ticket = match group
                    .row
                    .origin
                    .as_ref()
                    .and_then(|origin| here.get(origin))
                {
                    Some(ticket) => *ticket,
                    None => to_column((terms.fresh)()),
                };
                tickets.insert(group.row.ticket, ticket);
                if adopted.all.insert(ticket) && !here.values().any(|here| *here == ticket) {
                    new.push(group);
                }
            }
            let lowest = lowest_place(tx)?;
            let places = place_below(lowest, &new);
            for group in &mut new {
                let row = &mut group.row;
                row.ticket = tickets[&row.ticket];
                row.first_set = places[&group.first_set];
                row.place = places[&group.last];
                if let Some(reason) = group.damage.take() {
                    adopted.damaged.push(row.unreadable(&[], reason));
                    continue;
                }
                row.insert(tx)?;
                for change in &mut group.changes {
                    change.rebase(&tickets);
                    change.insert(tx, row.ticket)?;
                }
                adopted.new.push(row.ticket);
            }
            Ok(adopted)
        })
    }
}

impl Taking {
    /// Tells what is wrong with a journal, in which anything may still be.
    fn doubt(&mut self, name: &[u8], error: JournalError) {
        self.unsure.insert(name.into());
        self.troubles.push(error);
    }

    /// Says whether a group is no longer where it comes from.
    fn is_sure(&self, row: &GroupRow<'_>) -> bool {
        let origin = row.origin.as_ref();
        origin.is_none_or(|(journal, _)| match journal.starts_with(OLD_ORIGIN) {
            true => !self.unsure.contains(OLD_ORIGIN),
            false => !self.unsure.contains(&**journal),
        })
    }
}

impl Group {
    /// Returns about how many bytes it takes of the log.
    fn len(&self) -> usize {
        ROW + self
            .changes
            .iter()
            .map(|change| ROW + change.len())
            .sum::<usize>()
    }
}

impl Taken {
    fn is_empty(&self) -> bool {
        self.loaded.groups.is_empty() && self.loaded.unreadable.is_empty()
    }
}

impl ChangeRow<'_> {
    /// Has the base name what it is made of by its ticket here. If that is no longer there, what
    /// was shown under it is the base.
    fn rebase(&mut self, tickets: &HashMap<i64, i64>) {
        self.base_ticket = self
            .base_ticket
            .and_then(|ticket| tickets.get(&ticket).copied());
        if self.base_ticket.is_none() {
            self.base_digest = None;
        }
    }
}

fn group(row: GroupRow<'static>, changes: Vec<ChangeRow<'static>>, journal: &str) -> Group {
    let noted_there = || (journal.as_bytes().to_vec().into(), row.ticket);
    let origin = row.origin.clone().unwrap_or_else(noted_there);
    Group {
        first_set: (row.first_set, 0),
        last: (row.place, 0),
        row: GroupRow {
            origin: Some(origin),
            ..row
        },
        changes,
        damage: None,
    }
}

/// Returns the tickets of the groups that came from elsewhere.
fn origins(tx: &Connection) -> rusqlite::Result<HashMap<(rows::Bytes<'static>, i64), i64>> {
    let all = GroupRow::all(tx)?.into_iter();
    Ok(all
        .filter_map(|row| Some((row.origin?, row.ticket)))
        .collect())
}

/// Gives places below the lowest of our own, in the order of those that groups have.
fn place_below(lowest: i64, groups: &[Group]) -> HashMap<(i64, i64), i64> {
    let places = groups
        .iter()
        .flat_map(|group| [group.first_set, group.last]);
    let places: BTreeSet<(i64, i64)> = places.collect();
    let first = lowest.saturating_sub_unsigned(places.len() as u64);
    places.into_iter().zip(first..).collect()
}

/// Removes from a file what was taken from it.
pub(super) fn leave(
    database: &Database,
    remove: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> Removed {
    match database.write(Lasting::Power, remove) {
        Ok(()) => Removed::Whole,
        Err(error) => Removed::Not(error),
    }
}

/// Has a file that is removed next be closed without being written.
pub(super) fn close_as_it_is(database: Database) {
    let close = |connection: &Connection| {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
    };
    // Otherwise it is written for nothing, and no harm is done.
    let _ = database.read(close);
}

pub(super) fn unreadable(path: &Path, reason: String) -> JournalError {
    let path = path.to_owned();
    JournalError::Unreadable { path, reason }
}
