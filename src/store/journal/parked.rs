//! Versions kept from being lost: what was written here and not taken, and what was replaced
//! without anybody here having seen it.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Journal, JournalError, Place};
use crate::wire::names::{DatasetName, IdentityId, PoolId, RecordKey};
use crate::wire::text::Text;
use crate::wire::timestamp::Timestamp;

/// Whose version it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Written here.
    Local,
    /// The service's.
    Remote,
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
        }
    }
}

/// A version that is to be kept.
#[derive(Clone, Debug)]
pub struct NewParked {
    pub key: RecordKey,
    pub side: Side,
    /// The remote version's own count, or the one that a local version was made from; 0 for none.
    pub sync_count: i64,
    /// Any bytes: what was refused may have been no text.
    pub text: Vec<u8>,
    pub modified: Timestamp,
    /// Why it was kept, in one line.
    pub reason: String,
    /// When it may go.
    pub expires: Option<Timestamp>,
}

/// A version that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    pub id: i64,
    pub key: RecordKey,
    pub side: Side,
    pub sync_count: i64,
    /// Tells those of one key, side and count apart, from 1.
    pub number: u32,
    /// Bytes.
    pub size: u64,
    pub modified: Timestamp,
    pub reason: String,
    /// When it was kept.
    pub at: Timestamp,
    /// When it goes by itself, if it does.
    pub expires: Option<Timestamp>,
}

/// The dataset that a kept version belongs to.
pub type Whereabouts = (PoolId, IdentityId, DatasetName);

/// What is read of a version, in the order of [`read`].
const COLUMNS: &str =
    "id, key, side, sync_count, number, length(text), modified, reason, at, expires";

impl Journal {
    /// Returns the records of a dataset of which changes are still to be sent.
    pub fn changing(
        &self,
        (pool, identity, dataset): Place<'_>,
    ) -> Result<HashSet<RecordKey>, JournalError> {
        let inner = self.inner();
        let mut query = inner.connection.prepare_cached(
            "SELECT key FROM changes WHERE pool = ?1 AND identity = ?2 AND dataset = ?3",
        )?;
        let rows = query.query_map(
            params![pool.as_str(), identity.as_str(), dataset.as_str()],
            |row| row.get::<_, Vec<u8>>(0),
        )?;
        let keys: Vec<Vec<u8>> = rows.collect::<Result<_, _>>()?;
        let keys = keys.into_iter().map(Text::from_bytes);
        Ok(keys.filter_map(|key| RecordKey::new(key).ok()).collect())
    }

    /// Keeps a version. One that is kept already is not kept twice.
    pub fn park(
        &self,
        place: Place<'_>,
        new: &NewParked,
        at: Timestamp,
    ) -> Result<(), JournalError> {
        let mut inner = self.inner();
        inner.pay()?;
        inner.durably(|connection| park(connection, place, new, at))
    }

    /// Lists the versions kept of a dataset, by key, oldest first.
    pub fn parked(
        &self,
        (pool, identity, dataset): Place<'_>,
    ) -> Result<Vec<Parked>, JournalError> {
        let mut inner = self.inner();
        inner.pay_if_possible();
        let mut query = inner.connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM parked
             WHERE pool = ?1 AND identity = ?2 AND dataset = ?3 ORDER BY key, id"
        ))?;
        let rows = query.query_map(
            params![pool.as_str(), identity.as_str(), dataset.as_str()],
            read,
        )?;
        // A key that this version cannot read is left alone.
        rows.filter_map(Result::transpose)
            .collect::<Result<_, _>>()
            .map_err(Into::into)
    }

    /// Lists all versions that are kept, by dataset and key, oldest first.
    pub fn all_parked(&self) -> Result<Vec<(Whereabouts, Parked)>, JournalError> {
        let mut inner = self.inner();
        inner.pay_if_possible();
        let mut query = inner.connection.prepare_cached(&format!(
            "SELECT {COLUMNS}, pool, identity, dataset FROM parked
             ORDER BY pool, identity, dataset, key, id"
        ))?;
        let rows = query.query_map([], |row| Ok(whereabouts(row)?.zip(read(row)?)))?;
        // As above.
        rows.filter_map(Result::transpose)
            .collect::<Result<_, _>>()
            .map_err(Into::into)
    }

    /// Returns the bytes of a kept version, if it is still there.
    pub fn parked_text(&self, id: i64) -> Result<Option<Vec<u8>>, JournalError> {
        let inner = self.inner();
        let text =
            inner
                .connection
                .query_row("SELECT text FROM parked WHERE id = ?1", [id], |row| {
                    row.get(0)
                });
        Ok(text.optional()?)
    }

    /// Lets a kept version go. Returns whether it was there.
    pub fn discard_parked(&self, id: i64) -> Result<bool, JournalError> {
        let inner = self.inner();
        Ok(inner
            .connection
            .execute("DELETE FROM parked WHERE id = ?1", [id])?
            > 0)
    }

    /// Lets the kept versions go whose time is over.
    pub fn discard_expired(&self, now: Timestamp) -> Result<(), JournalError> {
        let inner = self.inner();
        inner
            .connection
            .execute("DELETE FROM parked WHERE expires <= ?1", [now.as_millis()])?;
        Ok(())
    }

    /// Returns how many versions are kept, but for those that go by themselves.
    pub fn parked_count(&self) -> Result<u64, JournalError> {
        let inner = self.inner();
        let count = "SELECT count(*) FROM parked WHERE expires IS NULL";
        Ok(inner
            .connection
            .query_row(count, [], |row| row.get::<_, i64>(0))?
            .unsigned_abs())
    }
}

pub(super) fn park(
    connection: &Connection,
    (pool, identity, dataset): Place<'_>,
    new: &NewParked,
    at: Timestamp,
) -> rusqlite::Result<()> {
    let values = params![
        pool.as_str(),
        identity.as_str(),
        dataset.as_str(),
        new.key.text().as_bytes(),
        new.side.name(),
        new.sync_count,
        new.text,
        new.modified.as_millis(),
        new.reason,
        at.as_millis(),
        new.expires.map(Timestamp::as_millis),
    ];
    // One that is kept already is kept from now on.
    let kept = connection.execute(
        "UPDATE parked SET at = ?10
         WHERE pool = ?1 AND identity = ?2 AND dataset = ?3 AND key = ?4
            AND side = ?5 AND sync_count = ?6 AND text = ?7
            AND (expires IS NULL OR ?11 IS NOT NULL)",
        values,
    )?;
    if kept > 0 {
        return Ok(());
    }
    connection.execute(
        "INSERT INTO parked
            (pool, identity, dataset, key, side, sync_count, text, modified, reason, at, expires,
             number)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 1 + coalesce(max(number), 0)
         FROM parked
         WHERE pool = ?1 AND identity = ?2 AND dataset = ?3 AND key = ?4
            AND side = ?5 AND sync_count = ?6",
        values,
    )?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<Option<Parked>> {
    let key = Text::from_bytes(row.get(1)?);
    let side: String = row.get(2)?;
    let side = match side.as_str() {
        "local" => Side::Local,
        _ => Side::Remote,
    };
    let Ok(key) = RecordKey::new(key) else {
        return Ok(None);
    };
    Ok(Some(Parked {
        id: row.get(0)?,
        key,
        side,
        sync_count: row.get(3)?,
        number: row.get(4)?,
        size: row.get::<_, i64>(5)?.unsigned_abs(),
        modified: Timestamp::from_millis(row.get(6)?),
        reason: row.get(7)?,
        at: Timestamp::from_millis(row.get(8)?),
        expires: row.get::<_, Option<i64>>(9)?.map(Timestamp::from_millis),
    }))
}

fn whereabouts(row: &Row<'_>) -> rusqlite::Result<Option<Whereabouts>> {
    let column = |name| row.get::<_, String>(name);
    let (pool, identity, dataset) = (column("pool")?, column("identity")?, column("dataset")?);
    let parsed = (pool.parse(), identity.parse(), dataset.parse());
    Ok(match parsed {
        (Ok(pool), Ok(identity), Ok(dataset)) => Some((pool, identity, dataset)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::somewhere;
    use super::*;
    use crate::api::System;

    #[test]
    fn what_is_kept_outlives_the_process_and_is_kept_once() {
        let directory = tempfile::tempdir().unwrap();
        let (pool, identity, dataset) = somewhere();
        let place = (&pool, &identity, &dataset);
        let at = Timestamp::from_millis(5);
        let new = |key: &str, text: &[u8], expires: Option<i64>| NewParked {
            key: RecordKey::new(key).unwrap(),
            side: Side::Local,
            sync_count: 3,
            text: text.to_vec(),
            modified: Timestamp::from_millis(1),
            reason: "full".to_owned(),
            expires: expires.map(Timestamp::from_millis),
        };
        {
            let journal = Journal::open(directory.path(), Instant::now(), &System).unwrap();
            for _ in 0..2 {
                journal.park(place, &new("k", b"\xff\0", None), at).unwrap();
            }
            journal.park(place, &new("k", b"other", None), at).unwrap();
            journal
                .park(place, &new("a", b"old", Some(10)), at)
                .unwrap();
        }
        let journal = Journal::open(directory.path(), Instant::now(), &System).unwrap();
        let parked = journal.parked(place).unwrap();
        let keys: Vec<_> = parked
            .iter()
            .filter_map(|parked| parked.key.as_str())
            .collect();
        assert_eq!(keys, ["a", "k", "k"]);
        let numbers: Vec<_> = parked.iter().map(|parked| parked.number).collect();
        assert_eq!(numbers, [1, 1, 2]);
        let all = journal.all_parked().unwrap();
        assert!(all.iter().all(|((of, _, _), _)| *of == pool));
        assert!(all.iter().map(|(_, parked)| parked).eq(&parked));
        assert_eq!(journal.parked_count().unwrap(), 2);
        assert_eq!(
            journal.parked_text(parked[1].id).unwrap().unwrap(),
            b"\xff\0"
        );
        assert_eq!(
            (parked[1].size, parked[1].sync_count, parked[1].at),
            (2, 3, at)
        );
        journal.discard_expired(Timestamp::from_millis(10)).unwrap();
        assert!(journal.discard_parked(parked[1].id).unwrap());
        assert!(!journal.discard_parked(parked[1].id).unwrap());
        assert_eq!(journal.parked(place).unwrap(), parked[2..]);
        assert_eq!(parked[2].number, 2);
    }
}
