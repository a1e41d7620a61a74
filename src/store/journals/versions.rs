//! The table of versions kept from being lost: what was written here and not taken, and what was
//! replaced without anybody here having seen it.
//!
//! Invariant: a version of an unknown side, or one that cannot be read, is told and not guessed at.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Params, Row, ToSql, params};

use super::loaded::Whereabouts;
use super::rows::{is_of_the_row, told};
use crate::wire::names::{DatasetName, IdentityId, PoolId, RecordKey};
use crate::wire::text::Text;
use crate::wire::timestamp::Timestamp;

/// Keys and texts are BLOBs: neither need be UTF-8. Dates are epoch milliseconds.
pub(in crate::store) const TABLE: &str = "
CREATE TABLE parked (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    pool TEXT NOT NULL,
    identity TEXT NOT NULL,
    dataset TEXT NOT NULL,
    key BLOB NOT NULL,
    side TEXT NOT NULL,
    sync_count INTEGER NOT NULL,
    number INTEGER NOT NULL,
    text BLOB NOT NULL,
    modified INTEGER NOT NULL,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL,
    expires INTEGER
) STRICT;
CREATE INDEX parked_by_dataset ON parked (pool, identity, dataset, key);
";

/// What is written of a version, in the order in which [`park_values`] takes it.
const WRITTEN: &str =
    "pool, identity, dataset, key, side, sync_count, text, modified, reason, at, expires";
/// What is read of a version, in the order of [`read`] and [`whereabouts`].
const READ: &str = "id, key, side, sync_count, number, length(text), modified, reason, at, expires,
    pool, identity, dataset";

/// Which dataset.
pub(in crate::store) type Of<'a> = (&'a PoolId, &'a IdentityId, &'a DatasetName);

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

/// A version that is kept and cannot be read by this version of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableVersion {
    pub id: i64,
    /// None if that cannot be read either.
    pub whereabouts: Option<Whereabouts>,
    /// What is wrong with it. Nothing of a value or a key is in it.
    pub reason: String,
}

/// Versions that are kept.
#[derive(Clone, Debug)]
pub struct ParkedList<T> {
    pub versions: Vec<T>,
    pub unreadable: Vec<UnreadableVersion>,
}

/// Keeps a version. One that is kept already is kept from now on, and not twice.
pub(in crate::store) fn park(
    connection: &Connection,
    (pool, identity, dataset): Of<'_>,
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
    park_values(connection, values)
}

fn park_values(connection: &Connection, values: &[&dyn ToSql]) -> rusqlite::Result<()> {
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
        &format!(
            "INSERT INTO parked ({WRITTEN}, number)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 1 + coalesce(max(number), 0)
             FROM parked
             WHERE pool = ?1 AND identity = ?2 AND dataset = ?3 AND key = ?4
                AND side = ?5 AND sync_count = ?6"
        ),
        values,
    )?;
    Ok(())
}

/// The rows of a table of kept versions, as they are.
pub(super) struct Copies(Vec<Vec<Value>>);

impl Copies {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut query = connection.prepare(&format!("SELECT {WRITTEN} FROM parked ORDER BY id"))?;
        let columns = query.column_count();
        let rows = query.query_map([], |row| (0..columns).map(|at| row.get(at)).collect())?;
        Ok(Self(rows.collect::<Result<_, _>>()?))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps them in another table, those that are kept there already not twice.
    pub(super) fn park(&self, connection: &Connection) -> rusqlite::Result<()> {
        self.0.iter().try_for_each(|row| {
            let values: Vec<&dyn ToSql> = row.iter().map(|value| value as &dyn ToSql).collect();
            park_values(connection, &values)
        })
    }
}

/// Lists the versions kept of a dataset, by key, oldest first.
pub(in crate::store) fn list(
    connection: &Connection,
    (pool, identity, dataset): Of<'_>,
) -> rusqlite::Result<ParkedList<Parked>> {
    let query = format!(
        "SELECT {READ} FROM parked
         WHERE pool = ?1 AND identity = ?2 AND dataset = ?3 ORDER BY key, id"
    );
    let of = params![pool.as_str(), identity.as_str(), dataset.as_str()];
    select(connection, &query, of, |_, parked| parked)
}

/// Lists all versions that are kept, by dataset and key, oldest first.
pub(in crate::store) fn list_all(
    connection: &Connection,
) -> rusqlite::Result<ParkedList<(Whereabouts, Parked)>> {
    let query = format!("SELECT {READ} FROM parked ORDER BY pool, identity, dataset, key, id");
    select(connection, &query, [], |of, parked| (of, parked))
}

fn select<T>(
    connection: &Connection,
    query: &str,
    values: impl Params,
    listed: impl Fn(Whereabouts, Parked) -> T,
) -> rusqlite::Result<ParkedList<T>> {
    let mut list = ParkedList {
        versions: Vec::new(),
        unreadable: Vec::new(),
    };
    let mut query = connection.prepare_cached(query)?;
    let mut rows = query.query(values)?;
    while let Some(row) = rows.next()? {
        let whereabouts = whereabouts(row);
        match (read(row)?, whereabouts) {
            (Ok(parked), Some(of)) => list.versions.push(listed(of, parked)),
            (parked, whereabouts) => {
                let unknown = "the names of pool, identity and dataset cannot be read";
                list.unreadable.push(UnreadableVersion {
                    id: row.get(0)?,
                    whereabouts,
                    reason: parked.err().unwrap_or_else(|| unknown.to_owned()),
                });
            }
        }
    }
    Ok(list)
}

/// Returns the bytes of a kept version, if it is still there.
pub(in crate::store) fn text(
    connection: &Connection,
    id: i64,
) -> rusqlite::Result<Option<Vec<u8>>> {
    let mut query = connection.prepare_cached("SELECT text FROM parked WHERE id = ?1")?;
    query.query_row([id], |row| row.get(0)).optional()
}

/// Lets a kept version go. Returns whether it was there.
pub(in crate::store) fn discard(connection: &Connection, id: i64) -> rusqlite::Result<bool> {
    Ok(connection.execute("DELETE FROM parked WHERE id = ?1", [id])? > 0)
}

/// Lets the kept versions go whose time is over.
pub(in crate::store) fn discard_expired(
    connection: &Connection,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let expired = "DELETE FROM parked WHERE expires <= ?1";
    connection.execute(expired, [now.as_millis()])?;
    Ok(())
}

/// Returns whether one is kept whose time is over.
pub(super) fn has_expired(connection: &Connection, now: Timestamp) -> rusqlite::Result<bool> {
    let expired = "SELECT EXISTS (SELECT 1 FROM parked WHERE expires <= ?1)";
    connection.query_row(expired, [now.as_millis()], |row| row.get(0))
}

/// Returns how many versions are kept, but for those that go by themselves.
pub(in crate::store) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    let count = "SELECT count(*) FROM parked WHERE expires IS NULL";
    let count: i64 = connection.query_row(count, [], |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

/// The inner error is what is wrong with the row.
fn read(row: &Row<'_>) -> rusqlite::Result<Result<Parked, String>> {
    match read_known(row) {
        Err(error) if is_of_the_row(&error) => Ok(Err(error.to_string())),
        read => read,
    }
}

fn read_known(row: &Row<'_>) -> rusqlite::Result<Result<Parked, String>> {
    let side: String = row.get(2)?;
    let side = match side.as_str() {
        "local" => Side::Local,
        "remote" => Side::Remote,
        other => {
            return Ok(Err(format!(
                "the side {} is unknown",
                told(other.as_bytes())
            )));
        }
    };
    let key = match RecordKey::new(Text::from_bytes(row.get(1)?)) {
        Ok(key) => key,
        Err(error) => return Ok(Err(error.to_string())),
    };
    Ok(Ok(Parked {
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

fn whereabouts(row: &Row<'_>) -> Option<Whereabouts> {
    let column = |name| row.get::<_, String>(name).ok();
    Some((
        column("pool")?.parse().ok()?,
        column("identity")?.parse().ok()?,
        column("dataset")?.parse().ok()?,
    ))
}
