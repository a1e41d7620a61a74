//! Changes that were closed here and not sent yet, in the order in which they were made.
//!
//! Invariant: one row a record. A set that takes the place of another keeps its place in the order,
//! so that a removal behind it still waits for it.

use std::sync::Arc;
use std::time::Instant;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::{Journal, JournalError, Place};
use crate::sync::{Left, Mark};
use crate::wire::names::{DatasetName, IdentityId, PoolId, RecordKey};
use crate::wire::text::Text;
use crate::wire::timestamp::Timestamp;

/// What is to become of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueuedKind {
    Whole,
    /// The text behind these many bytes was added.
    Append {
        from: usize,
    },
    Edit,
    Times,
    Remove,
}

/// A change to be kept until it is sent.
#[derive(Clone, Debug)]
pub struct NewQueued {
    pub key: RecordKey,
    pub kind: QueuedKind,
    /// The whole text as it was shown here; empty for a date and a removal.
    pub text: Arc<[u8]>,
    /// The version it was made from; none if there was none.
    pub base: Option<i64>,
    /// What was known of the record at the service.
    pub left: Left,
    pub modified: Timestamp,
    /// What may have been sent of the same file before.
    pub sent: Vec<Mark>,
}

/// Where a change stands in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Another one each time a record's change is written.
    pub id: i64,
    /// Its place in the order of all changes.
    pub place: i64,
    /// Changes that succeed or fail together have the same.
    pub tie: Option<i64>,
}

/// A change that an earlier process left.
#[derive(Clone, Debug)]
pub struct Queued {
    pub pool: PoolId,
    pub identity: IdentityId,
    pub dataset: DatasetName,
    pub slot: Slot,
    pub change: NewQueued,
}

/// How changes are written that belong together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tie {
    /// Whether they succeed or fail together.
    pub new: bool,
    /// An older tie whose changes join them, or keep theirs if nothing is tied anew.
    pub old: Option<i64>,
}

impl Journal {
    /// Keeps changes, in one transaction; those of `dropped` records are forgotten.
    pub fn queue(
        &self,
        place: Place<'_>,
        changes: &[NewQueued],
        dropped: &[RecordKey],
        tie: Tie,
    ) -> Result<Vec<Slot>, JournalError> {
        let mut inner = self.inner();
        inner.pay()?;
        if !inner.reserve.renew(Instant::now()) {
            return Err(JournalError::NoRoom);
        }
        // From its beginning, so that it waits for whoever else has it.
        let immediate = TransactionBehavior::Immediate;
        let tx = inner.connection.transaction_with_behavior(immediate)?;
        // A set under another name stays where it was: before the removals that wait for it.
        let removed = changes
            .iter()
            .filter(|change| change.kind == QueuedKind::Remove);
        let mut moved = None;
        for key in removed.map(|change| &change.key).chain(dropped) {
            moved = earlier(moved, set_place(&tx, place, key)?);
        }
        for key in dropped {
            forget(&tx, place, key)?;
        }
        let mut slots: Vec<Slot> = Vec::new();
        for change in changes {
            let slot = put(&tx, place, change, moved)?;
            slots.push(slot);
        }
        let tied = match slots.first() {
            Some(first) if tie.new => Some(first.id),
            _ => tie.old,
        };
        if let Some(old) = tie.old.filter(|_| tie.new) {
            tx.execute(
                "UPDATE changes SET tie = ?1 WHERE tie = ?2",
                params![tied, old],
            )?;
        }
        for slot in &mut slots {
            slot.tie = tied;
            tx.execute(
                "UPDATE changes SET tie = ?1 WHERE id = ?2",
                params![tied, slot.id],
            )?;
        }
        tx.commit()?;
        Ok(slots)
    }

    /// Returns all changes in their order.
    pub fn queued(&self) -> Result<Vec<Queued>, JournalError> {
        let inner = self.inner();
        let mut query = inner.connection.prepare(
            "SELECT id, place, tie, pool, identity, dataset, key, kind, appended_from, text, base,
                existed, modified, sent, sync_count
             FROM changes ORDER BY place, id",
        )?;
        let rows = query.query_map([], read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn forget(
    tx: &Connection,
    (pool, identity, dataset): Place<'_>,
    key: &RecordKey,
) -> rusqlite::Result<()> {
    tx.execute(
        "DELETE FROM changes WHERE pool = ?1 AND identity = ?2 AND dataset = ?3 AND key = ?4",
        params![
            pool.as_str(),
            identity.as_str(),
            dataset.as_str(),
            key.text().as_bytes()
        ],
    )?;
    Ok(())
}

/// Returns the place of what is to become of a record, unless it is to be removed.
fn set_place(
    tx: &Connection,
    (pool, identity, dataset): Place<'_>,
    key: &RecordKey,
) -> rusqlite::Result<Option<i64>> {
    let query = "SELECT place FROM changes WHERE pool = ?1 AND identity = ?2 AND dataset = ?3
            AND key = ?4 AND kind <> 'remove'";
    let of_key = params![
        pool.as_str(),
        identity.as_str(),
        dataset.as_str(),
        key.text().as_bytes()
    ];
    tx.query_row(query, of_key, |row| row.get(0)).optional()
}

fn earlier(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.into_iter().chain(other).min()
}

/// Writes a change; `moved` is the place of a set that it takes along.
fn put(
    tx: &Connection,
    place: Place<'_>,
    change: &NewQueued,
    moved: Option<i64>,
) -> rusqlite::Result<Slot> {
    let (pool, identity, dataset) = place;
    let key = change.key.text().as_bytes();
    let older = earlier(moved, set_place(tx, place, &change.key)?);
    forget(tx, place, &change.key)?;
    let (kind, from) = match change.kind {
        QueuedKind::Whole => ("whole", None),
        QueuedKind::Append { from } => ("append", Some(from as i64)),
        QueuedKind::Edit => ("edit", None),
        QueuedKind::Times => ("times", None),
        QueuedKind::Remove => ("remove", None),
    };
    let sent: Vec<u8> = change
        .sent
        .iter()
        .flat_map(|mark| mark.to_bytes())
        .collect();
    tx.execute(
        "INSERT INTO changes (place, pool, identity, dataset, key, kind, appended_from, text, base,
            existed, modified, sent, sync_count)
         VALUES (0, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            pool.as_str(),
            identity.as_str(),
            dataset.as_str(),
            key,
            kind,
            from,
            change.text,
            change.base,
            change.left.existed,
            change.modified.as_millis(),
            sent,
            change.left.sync_count,
        ],
    )?;
    let id = tx.last_insert_rowid();
    let place = older
        .filter(|_| change.kind != QueuedKind::Remove)
        .unwrap_or(id);
    tx.execute(
        "UPDATE changes SET place = ?1 WHERE id = ?2",
        params![place, id],
    )?;
    Ok(Slot {
        id,
        place,
        tie: None,
    })
}

fn read(row: &Row<'_>) -> rusqlite::Result<Queued> {
    let name = |at: usize| row.get::<_, String>(at);
    let key = RecordKey::new(Text::from_bytes(row.get(6)?)).map_err(|error| odd(6, error))?;
    let kind = match name(7)?.as_str() {
        "append" => QueuedKind::Append {
            from: usize::try_from(row.get::<_, i64>(8)?).map_err(|error| odd(8, error))?,
        },
        "edit" => QueuedKind::Edit,
        "times" => QueuedKind::Times,
        "remove" => QueuedKind::Remove,
        _ => QueuedKind::Whole,
    };
    let sent: Vec<u8> = row.get(13)?;
    let (sent, _) = sent.as_chunks();
    Ok(Queued {
        pool: name(3)?.parse().map_err(|error| odd(3, error))?,
        identity: name(4)?.parse().map_err(|error| odd(4, error))?,
        dataset: name(5)?.parse().map_err(|error| odd(5, error))?,
        slot: Slot {
            id: row.get(0)?,
            place: row.get(1)?,
            tie: row.get(2)?,
        },
        change: NewQueued {
            key,
            kind,
            text: row.get::<_, Vec<u8>>(9)?.into(),
            base: row.get(10)?,
            left: Left {
                existed: row.get(11)?,
                sync_count: row.get(14)?,
            },
            modified: Timestamp::from_millis(row.get(12)?),
            sent: sent.iter().map(Mark::from_bytes).collect(),
        },
    })
}

fn odd(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::super::super::queue::Rebased;
    use super::super::{Outcome, somewhere};
    use super::*;
    use crate::sync::{Base, Shown};

    fn change(key: &str, kind: QueuedKind, text: &str) -> NewQueued {
        NewQueued {
            key: RecordKey::new(key).unwrap(),
            kind,
            text: text.as_bytes().into(),
            base: Some(4),
            left: Left {
                existed: true,
                sync_count: Some(4),
            },
            modified: Timestamp::from_millis(7),
            sent: Vec::new(),
        }
    }

    #[test]
    fn s08_changes_outlive_the_process_in_their_order() {
        let directory = tempfile::tempdir().unwrap();
        let (pool, identity, dataset) = somewhere();
        let place = (&pool, &identity, &dataset);
        let none = Tie::default();
        {
            let journal = Journal::open(directory.path(), Instant::now()).unwrap();
            let queue = |change| journal.queue(place, &[change], &[], none).unwrap()[0];
            let first = queue(change("a", QueuedKind::Whole, "1"));
            queue(change("b", QueuedKind::Remove, ""));
            // A later text of the same record stays before the removal.
            let again = queue(change("a", QueuedKind::Append { from: 1 }, "12"));
            assert_eq!(again.place, first.place);
            assert_ne!(again.id, first.id);
            // What was settled is the older text: the newer one stays.
            let rebased = Rebased {
                id: again.id,
                base: Base {
                    life: 0,
                    shown: Shown::Version(5),
                },
                appended_from: Some(2),
            };
            let outcome = Outcome {
                dataset: somewhere(),
                ids: vec![first.id],
                rebased: Some(rebased),
                parked: None,
            };
            journal.settle(outcome).unwrap();
            queue(change("c", QueuedKind::Whole, "3"));
            // A removal goes to the end.
            queue(change("c", QueuedKind::Remove, ""));
        }
        let journal = Journal::open(directory.path(), Instant::now()).unwrap();
        let queued = journal.queued().unwrap();
        let told: Vec<_> = queued
            .iter()
            .map(|queued| {
                (
                    queued.change.key.as_str().unwrap(),
                    queued.change.kind,
                    queued.change.base,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("a", QueuedKind::Append { from: 2 }, Some(5)),
                ("b", QueuedKind::Remove, Some(4)),
                ("c", QueuedKind::Remove, Some(4)),
            ]
        );
        assert_eq!(*queued[0].change.text, *b"12");
    }

    #[test]
    fn s08_a_rename_of_what_was_renamed_joins_it() {
        let journal = Journal::in_memory().unwrap();
        let (pool, identity, dataset) = somewhere();
        let place = (&pool, &identity, &dataset);
        let tie = |old| Tie { new: true, old };
        let first = [
            change("b", QueuedKind::Whole, "v"),
            change("a", QueuedKind::Remove, ""),
        ];
        let slots = journal.queue(place, &first, &[], tie(None)).unwrap();
        let b = RecordKey::new("b").unwrap();
        let second = [change("c", QueuedKind::Whole, "v")];
        let again = journal
            .queue(place, &second, &[b], tie(slots[0].tie))
            .unwrap();
        let queued = journal.queued().unwrap();
        let told: Vec<_> = queued
            .iter()
            .map(|queued| (queued.change.key.as_str().unwrap(), queued.slot.tie))
            .collect();
        // The set stays before the removal.
        assert_eq!(told, [("c", again[0].tie), ("a", again[0].tie)]);
    }
}
