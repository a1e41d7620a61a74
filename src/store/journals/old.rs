//! The journal of the version before: one file for a whole state directory, with the kept versions
//! in it, and a row for each record.
//!
//! Invariant: it is read and never changed, but for rows that were taken from it.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row};
use sha2::{Digest, Sha256};

use super::database::Database;
use super::disk::{Disk, Held, Name};
use super::error::JournalError;
use super::fingerprints;
use super::format::header;
use super::mount::MountJournal;
use super::parked::ParkedFile;
use super::rows::{Bytes, ChangeRow, GroupRow, bytes};
use super::take::{Group, OLD_ORIGIN, Taking, Terms, close_as_it_is, leave};
use super::unsent::ByOrigin;
use super::versions::Copies;

/// `cogj`, in the file's header.
pub(in crate::store) const OLD_APPLICATION_ID: i64 = 0x636f_676a;

/// A row of its table of changes.
struct OldRow {
    id: i64,
    place: i64,
    /// Rows of the same are one group.
    tie: Option<i64>,
    pool: Bytes<'static>,
    identity: Bytes<'static>,
    dataset: Bytes<'static>,
    key: Bytes<'static>,
    kind: Bytes<'static>,
    appended_from: Option<i64>,
    /// The whole text, of an append too.
    text: Bytes<'static>,
    base: Option<i64>,
    existed: i64,
    modified: i64,
    /// Marks, one after another.
    sent: Bytes<'static>,
    sync_count: Option<i64>,
}

impl MountJournal {
    /// Takes over the journal of the version before, unless a process has it.
    pub(super) fn take_old(
        &self,
        terms: &Terms<'_>,
        directory: &Held,
        taking: &mut Taking,
    ) -> Result<(), JournalError> {
        let storage = self.disk.storage();
        // A file that is not ours is not even locked.
        let looked = storage.look(Name::Old)?;
        let Some(version) = looked.as_ref().map(identify).transpose()?.flatten() else {
            return Ok(());
        };
        drop(looked);
        let Some(_held) = storage.try_hold(Name::Old)? else {
            return Ok(());
        };
        let Some(database) = storage.open(Name::Old)? else {
            return Ok(());
        };
        let copies = database.read(Copies::read)?;
        if !copies.is_empty() {
            ParkedFile::make(&self.disk, directory)?.park_copies(&copies)?;
        }
        let rows = database.read(|connection| OldRow::all(connection, version))?;
        let (mut groups, mut ids) = (Vec::new(), Vec::new());
        let mut stays = false;
        for rows in tied(rows) {
            let group = group(&rows);
            if group
                .row
                .whereabouts()
                .is_some_and(|of| !(terms.wanted)(&of))
            {
                stays = true;
                continue;
            }
            ids.extend(rows.iter().map(|row| row.id));
            groups.push(group);
        }
        if groups.is_empty() && stays && copies.is_empty() {
            return Ok(());
        }
        self.move_in(groups, terms, taking, || match stays {
            true => leave(&database, |tx| forget(tx, &ids)),
            false => {
                close_as_it_is(database);
                storage.remove(Name::Old)
            }
        })
    }
}

/// Returns the version of the file; none if nothing was written to it yet. One without the tables
/// that were made last, as no release made it, is not ours.
fn identify(database: &Database) -> Result<Option<i64>, JournalError> {
    match database.read(header)? {
        (OLD_APPLICATION_ID, version @ 1..=2, _) if has_tables(database)? => Ok(Some(version)),
        (0, 0, true) => Ok(None),
        _ => Err(JournalError::Foreign(database.path().to_owned())),
    }
}

fn has_tables(database: &Database) -> Result<bool, JournalError> {
    let tables = "SELECT count(*) = 2 FROM sqlite_schema
         WHERE type = 'table' AND name IN ('parked', 'changes')";
    database.read(|connection| connection.query_row(tables, [], |row| row.get(0)))
}

/// Counts the changes in it.
pub(super) fn count(disk: &Disk) -> Result<ByOrigin, JournalError> {
    let Some(database) = disk.storage().look(Name::Old)? else {
        return Ok(ByOrigin::new());
    };
    let Some(version) = identify(&database)? else {
        return Ok(ByOrigin::new());
    };
    let rows = database.read(|connection| OldRow::all(connection, version))?;
    let groups = tied(rows).into_iter();
    let counted = |rows: Vec<OldRow>| Some((group(&rows).row.origin?, rows.len() as u64));
    Ok(groups.filter_map(counted).collect())
}

/// Removes what was taken over.
fn forget(tx: &Connection, ids: &[i64]) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM parked", [])?;
    let mut delete = tx.prepare("DELETE FROM changes WHERE id = ?1")?;
    ids.iter().try_for_each(|id| delete.execute([id]).map(drop))
}

/// Puts together what succeeds or fails together.
fn tied(rows: Vec<OldRow>) -> Vec<Vec<OldRow>> {
    let mut groups: BTreeMap<(bool, i64), Vec<OldRow>> = BTreeMap::new();
    for row in rows {
        let tie = (row.tie.is_some(), row.tie.unwrap_or(row.id));
        groups.entry(tie).or_default().push(row);
    }
    groups.into_values().collect()
}

/// Makes a group of rows, of which there is at least one.
fn group(rows: &[OldRow]) -> Group {
    let first = &rows[0];
    let id = rows.iter().map(|row| row.id).min().unwrap_or(first.id);
    let sets = rows.iter().filter(|row| *row.kind != *b"remove");
    let last = rows
        .iter()
        .map(|row| row.place)
        .max()
        .unwrap_or(first.place);
    let first_set = sets.map(|row| row.place).min().unwrap_or(last);
    let changes = rows.iter().enumerate();
    let row = GroupRow {
        ticket: id,
        pool: first.pool.clone(),
        identity: first.identity.clone(),
        dataset: first.dataset.clone(),
        first_set,
        place: last,
        hold: None,
        held_since: None,
        origin: Some((origin(rows).into(), id)),
        size: rows.len() as i64,
    };
    Group {
        row,
        changes: changes.map(|(number, row)| row.to_change(number)).collect(),
        damage: None,
        // Several may have the place of a set that they took along.
        first_set: (first_set, id),
        last: (last, id),
    }
}

/// Names where rows come from by what they hold: a file that is made again counts its rows anew.
fn origin(rows: &[OldRow]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for row in rows {
        let numbers = [
            Some(row.id),
            Some(row.place),
            row.appended_from,
            row.base,
            Some(row.existed),
            Some(row.modified),
            row.sync_count,
        ];
        for number in numbers {
            hash.update([u8::from(number.is_some())]);
            hash.update(number.unwrap_or_default().to_be_bytes());
        }
        let names = [&row.pool, &row.identity, &row.dataset, &row.key];
        for bytes in names.into_iter().chain([&row.kind, &row.text, &row.sent]) {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        }
    }
    let digest = hash.finalize();
    let digits = digest[..16].iter().map(|byte| format!("{byte:02x}"));
    [OLD_ORIGIN, digits.collect::<String>().as_bytes()].concat()
}

impl OldRow {
    fn all(connection: &Connection, version: i64) -> rusqlite::Result<Vec<Self>> {
        let sync_count = match version {
            1 => "NULL",
            _ => "sync_count",
        };
        let mut query = connection.prepare(&format!(
            "SELECT id, place, tie, pool, identity, dataset, key, kind, appended_from, text, base,
                existed, modified, sent, {sync_count}
             FROM changes ORDER BY place, id"
        ))?;
        let rows = query.query_map([], Self::read)?;
        rows.collect()
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            place: row.get(1)?,
            tie: row.get(2)?,
            pool: bytes(row, 3)?,
            identity: bytes(row, 4)?,
            dataset: bytes(row, 5)?,
            key: bytes(row, 6)?,
            kind: bytes(row, 7)?,
            appended_from: row.get(8)?,
            text: bytes(row, 9)?,
            base: row.get(10)?,
            existed: row.get(11)?,
            modified: row.get(12)?,
            sent: bytes(row, 13)?,
            sync_count: row.get(14)?,
        })
    }

    /// What makes no sense is carried over so that it cannot be read there either.
    fn to_change(&self, number: usize) -> ChangeRow<'static> {
        let (text, whole) = match &*self.kind {
            b"append" => {
                let from = self
                    .appended_from
                    .and_then(|from| usize::try_from(from).ok());
                let text = from.and_then(|from| self.text.get(from..));
                (
                    text.map(|text| text.to_vec().into()),
                    Some(self.text.clone()),
                )
            }
            b"times" | b"remove" => (
                Some(self.text.clone()).filter(|text| !text.is_empty()),
                None,
            ),
            _ => (Some(self.text.clone()), None),
        };
        ChangeRow {
            number: number as i64,
            key: self.key.clone(),
            kind: self.kind.clone(),
            bytes: text,
            whole,
            base_count: self.base,
            base_ticket: None,
            base_digest: None,
            // Nothing of an earlier process is made over what it did not see.
            unseen: b"refuse".to_vec().into(),
            existed: self.existed,
            sync_count: self.sync_count,
            modified: self.modified,
            sent: self.fingerprints().into(),
        }
    }

    /// Each went with the count that the change was based on.
    fn fingerprints(&self) -> Vec<u8> {
        let count = self.base.unwrap_or(0);
        fingerprints::encode_marks(&self.sent, count)
    }
}
