//! Groups as rows, and rows as groups.
//!
//! Invariant: what this version does not know is never taken for something it knows. Such a group
//! is [`Unreadable`], and its rows stay as they are.

use std::borrow::Cow;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, Row, params};

use super::fingerprints;
use super::loaded::{Loaded, LoadedGroup, Unreadable, Whereabouts};
use crate::sync::pending::{
    Base, Change, Digest, Hold, Kind, Made, Note, NotedChange, Place, Ticket,
};
use crate::sync::{Left, Shown, Unseen};
use crate::wire::names::RecordKey;
use crate::wire::text::Text;
use crate::wire::timestamp::Timestamp;

/// How many characters of an unknown word are told.
const TOLD: usize = 40;

/// Bytes of a row or of what is to become one. Words are bytes too, as nobody vouches for them.
pub(super) type Bytes<'a> = Cow<'a, [u8]>;

/// A row of `groups`.
#[derive(Clone, Debug)]
pub(super) struct GroupRow<'a> {
    pub(super) ticket: i64,
    pub(super) pool: Bytes<'a>,
    pub(super) identity: Bytes<'a>,
    pub(super) dataset: Bytes<'a>,
    pub(super) first_set: i64,
    pub(super) place: i64,
    pub(super) hold: Option<Bytes<'a>>,
    pub(super) held_since: Option<i64>,
    /// The journal it was noted in first, and its ticket there, if that was another.
    pub(super) origin: Option<(Bytes<'a>, i64)>,
    /// How many changes it has.
    pub(super) size: i64,
}

/// A row of `changes`, but for the group it belongs to.
#[derive(Clone, Debug)]
pub(super) struct ChangeRow<'a> {
    pub(super) number: i64,
    pub(super) key: Bytes<'a>,
    pub(super) kind: Bytes<'a>,
    pub(super) bytes: Option<Bytes<'a>>,
    pub(super) whole: Option<Bytes<'a>>,
    pub(super) base_count: Option<i64>,
    pub(super) base_ticket: Option<i64>,
    pub(super) base_digest: Option<Bytes<'a>>,
    pub(super) unseen: Bytes<'a>,
    pub(super) existed: i64,
    pub(super) sync_count: Option<i64>,
    pub(super) modified: i64,
    pub(super) sent: Bytes<'a>,
}

pub(super) fn to_column(ticket: Ticket) -> i64 {
    ticket.0.cast_signed()
}

pub(super) fn to_ticket(column: i64) -> Ticket {
    Ticket(column.cast_unsigned())
}

/// Returns the columns of a base: count, ticket and digest.
pub(super) fn base_columns(base: &Base) -> (Option<i64>, Option<i64>, Option<&[u8]>) {
    let count = match base.shown {
        Shown::Absent => None,
        Shown::Version(count) => Some(count),
    };
    let pending = base.pending.as_ref();
    let digest = pending.and_then(|made| made.digest.as_ref());
    (
        count,
        pending.map(|made| to_column(made.ticket)),
        digest.map(|digest| &digest.0[..]),
    )
}

fn hold_name(hold: Hold) -> &'static str {
    match hold {
        Hold::Litter => "litter",
        Hold::Passing => "passing",
        Hold::Grace => "grace",
    }
}

impl<'a> GroupRow<'a> {
    pub(super) fn of(
        (pool, identity, dataset): &'a Whereabouts,
        note: &Note,
        place: Place,
    ) -> Self {
        Self {
            ticket: to_column(note.ticket),
            pool: pool.as_str().as_bytes().into(),
            identity: identity.as_str().as_bytes().into(),
            dataset: dataset.as_str().as_bytes().into(),
            first_set: note.first_set.unwrap_or(place).0,
            place: place.0,
            hold: note.hold.map(|(hold, _)| hold_name(hold).as_bytes().into()),
            held_since: note.hold.map(|(_, since)| since.as_millis()),
            origin: None,
            size: note.changes.len() as i64,
        }
    }

    /// Returns the dataset it belongs to, if that can be told.
    pub(super) fn whereabouts(&self) -> Option<Whereabouts> {
        let text = |bytes: &'_ [u8]| std::str::from_utf8(bytes).map(str::to_owned).ok();
        Some((
            text(&self.pool)?.parse().ok()?,
            text(&self.identity)?.parse().ok()?,
            text(&self.dataset)?.parse().ok()?,
        ))
    }

    pub(super) fn insert(&self, connection: &Connection) -> rusqlite::Result<()> {
        // A word goes in as the bytes it is: CAST checks nothing.
        let mut insert = connection.prepare_cached(
            "INSERT INTO groups (ticket, pool, identity, dataset, first_set, place, hold,
                held_since, origin_journal, origin_ticket, size)
             VALUES (?1, CAST(?2 AS TEXT), CAST(?3 AS TEXT), CAST(?4 AS TEXT), ?5, ?6,
                CAST(?7 AS TEXT), ?8, CAST(?9 AS TEXT), ?10, ?11)",
        )?;
        insert.execute(params![
            self.ticket,
            &*self.pool,
            &*self.identity,
            &*self.dataset,
            self.first_set,
            self.place,
            self.hold.as_deref(),
            self.held_since,
            self.origin.as_ref().map(|(journal, _)| &**journal),
            self.origin.as_ref().map(|(_, ticket)| *ticket),
            self.size,
        ])?;
        Ok(())
    }

    /// Reads all groups in the order of their last noting.
    pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<GroupRow<'static>>> {
        let mut query = connection.prepare_cached(
            "SELECT ticket, pool, identity, dataset, first_set, place, hold, held_since,
                origin_journal, origin_ticket, size
             FROM groups ORDER BY place",
        )?;
        let rows = query.query_map([], |row| {
            let origin = (bytes_or_null(row, 8)?, row.get::<_, Option<i64>>(9)?);
            Ok(GroupRow {
                ticket: row.get(0)?,
                pool: bytes(row, 1)?,
                identity: bytes(row, 2)?,
                dataset: bytes(row, 3)?,
                first_set: row.get(4)?,
                place: row.get(5)?,
                hold: bytes_or_null(row, 6)?,
                held_since: row.get(7)?,
                origin: origin.0.zip(origin.1),
                size: row.get(10)?,
            })
        })?;
        rows.collect()
    }

    fn hold(&self) -> Result<Option<(Hold, Timestamp)>, String> {
        let hold = match self.hold.as_deref() {
            None => None,
            Some(b"litter") => Some(Hold::Litter),
            Some(b"passing") => Some(Hold::Passing),
            Some(b"grace") => Some(Hold::Grace),
            Some(other) => return Err(format!("the hold {} is unknown", told(other))),
        };
        let since = self.held_since.map(Timestamp::from_millis);
        match hold.is_some() == since.is_some() {
            true => Ok(hold.zip(since)),
            false => Err("a hold and its beginning do not go together".to_owned()),
        }
    }

    fn to_note(&self, changes: &[ChangeRow<'_>]) -> Result<Note, String> {
        let numbers = changes.iter().map(|change| change.number);
        if !numbers.eq(0..self.size) {
            return Err(format!("{} changes of {}", changes.len(), self.size));
        }
        let changes = changes.iter().map(ChangeRow::to_change);
        Ok(Note {
            ticket: to_ticket(self.ticket),
            changes: changes.collect::<Result<_, _>>()?,
            hold: self.hold()?,
            first_set: Some(Place(self.first_set)),
        })
    }

    pub(super) fn unreadable(&self, changes: &[ChangeRow<'_>], reason: String) -> Unreadable {
        let whole = changes.len() as i64 == self.size;
        let known = |change: &&ChangeRow<'_>| KINDS.contains(&&*change.kind);
        let unknown = !whole || !changes.iter().all(|change| known(&change));
        let removes = |change: &ChangeRow<'_>| *change.kind == *b"remove";
        let keys = changes.iter().filter_map(|change| change.key().ok());
        Unreadable {
            ticket: to_ticket(self.ticket),
            whereabouts: self.whereabouts(),
            keys: keys.collect(),
            first_set: Place(self.first_set),
            place: Place(self.place),
            has_removals: unknown || changes.iter().any(removes),
            has_sets: unknown || !changes.iter().all(removes),
            reason,
        }
    }

    /// Reads a group and its changes.
    fn load(&self, connection: &Connection) -> rusqlite::Result<Result<LoadedGroup, Unreadable>> {
        let changes = match ChangeRow::of_group(connection, self.ticket) {
            Ok(changes) => changes,
            Err(error) if is_of_the_row(&error) => {
                return Ok(Err(self.unreadable(&[], error.to_string())));
            }
            Err(error) => return Err(error),
        };
        let Some(whereabouts) = self.whereabouts() else {
            let reason = "the names of pool, identity and dataset cannot be read".to_owned();
            return Ok(Err(self.unreadable(&changes, reason)));
        };
        Ok(match self.to_note(&changes) {
            Ok(note) => Ok(LoadedGroup {
                whereabouts,
                note,
                first_set: Place(self.first_set),
                place: Place(self.place),
            }),
            Err(reason) => Err(self.unreadable(&changes, reason)),
        })
    }
}

const KINDS: [&[u8]; 5] = [b"whole", b"append", b"edit", b"times", b"remove"];

impl<'a> ChangeRow<'a> {
    pub(super) fn of(number: usize, noted: &'a NotedChange) -> Self {
        let change = &noted.change;
        let (kind, bytes, whole): (&str, Option<&[u8]>, Option<&[u8]>) = match &change.kind {
            Kind::Whole(text) => ("whole", Some(text), None),
            Kind::Append { text, whole } => ("append", Some(text), Some(whole)),
            Kind::Edit(text) => ("edit", Some(text), None),
            Kind::Times => ("times", None, None),
            Kind::Remove => ("remove", None, None),
        };
        let unseen = match change.unseen {
            Unseen::Keep => "keep",
            Unseen::Refuse => "refuse",
        };
        let (base_count, base_ticket, base_digest) = base_columns(&change.base);
        Self {
            number: number as i64,
            key: change.key.text().as_bytes().into(),
            kind: kind.as_bytes().into(),
            bytes: bytes.map(Into::into),
            whole: whole.map(Into::into),
            base_count,
            base_ticket,
            base_digest: base_digest.map(Into::into),
            unseen: unseen.as_bytes().into(),
            existed: noted.known.existed.into(),
            sync_count: noted.known.sync_count,
            modified: change.modified.as_millis(),
            sent: fingerprints::encode(&noted.sent).into(),
        }
    }

    /// Returns about how many bytes it takes.
    pub(super) fn len(&self) -> usize {
        let optional = |bytes: &Option<Bytes<'_>>| bytes.as_ref().map_or(0, |bytes| bytes.len());
        self.key.len() + optional(&self.bytes) + optional(&self.whole) + self.sent.len()
    }

    pub(super) fn insert(&self, connection: &Connection, ticket: i64) -> rusqlite::Result<()> {
        let mut insert = connection.prepare_cached(
            "INSERT INTO changes (ticket, number, key, kind, bytes, whole, base_count, base_ticket,
                base_digest, unseen, existed, sync_count, modified, sent)
             VALUES (?1, ?2, ?3, CAST(?4 AS TEXT), ?5, ?6, ?7, ?8, ?9, CAST(?10 AS TEXT), ?11, ?12,
                ?13, ?14)",
        )?;
        insert.execute(params![
            ticket,
            self.number,
            &*self.key,
            &*self.kind,
            self.bytes.as_deref(),
            self.whole.as_deref(),
            self.base_count,
            self.base_ticket,
            self.base_digest.as_deref(),
            &*self.unseen,
            self.existed,
            self.sync_count,
            self.modified,
            &*self.sent,
        ])?;
        Ok(())
    }

    /// Reads the changes of a group.
    pub(super) fn of_group(
        connection: &Connection,
        ticket: i64,
    ) -> rusqlite::Result<Vec<ChangeRow<'static>>> {
        let mut query = connection.prepare_cached(
            "SELECT number, key, kind, bytes, whole, base_count, base_ticket, base_digest, unseen,
                existed, sync_count, modified, sent
             FROM changes WHERE ticket = ?1 ORDER BY number",
        )?;
        let rows = query.query_map([ticket], |row| {
            Ok(ChangeRow {
                number: row.get(0)?,
                key: bytes(row, 1)?,
                kind: bytes(row, 2)?,
                bytes: bytes_or_null(row, 3)?,
                whole: bytes_or_null(row, 4)?,
                base_count: row.get(5)?,
                base_ticket: row.get(6)?,
                base_digest: bytes_or_null(row, 7)?,
                unseen: bytes(row, 8)?,
                existed: row.get(9)?,
                sync_count: row.get(10)?,
                modified: row.get(11)?,
                sent: bytes(row, 12)?,
            })
        })?;
        rows.collect()
    }

    fn key(&self) -> Result<RecordKey, String> {
        let key = RecordKey::new(Text::from_bytes(self.key.to_vec()));
        key.map_err(|error| error.to_string())
    }

    fn kind(&self) -> Result<Kind, String> {
        let bytes = self.bytes.as_deref();
        let whole = self.whole.as_deref();
        Ok(match (&*self.kind, bytes, whole) {
            (b"whole", Some(text), None) => Kind::Whole(text.into()),
            (b"append", Some(text), Some(whole)) => Kind::Append {
                text: text.into(),
                whole: whole.into(),
            },
            (b"edit", Some(text), None) => Kind::Edit(text.into()),
            (b"times", None, None) => Kind::Times,
            (b"remove", None, None) => Kind::Remove,
            (known, _, _) if KINDS.contains(&known) => {
                return Err(format!(
                    "the texts are not those of the kind {}",
                    told(known)
                ));
            }
            (other, _, _) => return Err(format!("the kind {} is unknown", told(other))),
        })
    }

    fn base(&self) -> Result<Base, String> {
        let pending = match (self.base_ticket, self.base_digest.as_deref()) {
            (None, None) => None,
            (None, Some(_)) => return Err("a digest of a base without a ticket".to_owned()),
            (Some(ticket), digest) => {
                let digest = digest.map(|digest| {
                    let digest = digest.try_into().map(Digest);
                    digest.map_err(|_| "the digest of a base has a wrong length".to_owned())
                });
                Some(Made {
                    ticket: to_ticket(ticket),
                    digest: digest.transpose()?,
                })
            }
        };
        Ok(Base {
            // Lives are counted anew in each process.
            life: 0,
            shown: self.base_count.map_or(Shown::Absent, Shown::Version),
            pending,
        })
    }

    fn to_change(&self) -> Result<NotedChange, String> {
        let known = Left {
            existed: match self.existed {
                0 => false,
                1 => true,
                other => return Err(format!("a dataset that existed {other} times")),
            },
            sync_count: self.sync_count,
        };
        let change = Change {
            key: self.key()?,
            base: self.base()?,
            kind: self.kind()?,
            unseen: match &*self.unseen {
                b"keep" => Unseen::Keep,
                b"refuse" => Unseen::Refuse,
                other => {
                    return Err(format!(
                        "what is done about the unseen, {}, is unknown",
                        told(other)
                    ));
                }
            },
            own: Vec::new(),
            left: Some(known),
            modified: Timestamp::from_millis(self.modified),
        };
        Ok(NotedChange {
            change,
            known,
            sent: fingerprints::decode(&self.sent)?,
        })
    }
}

/// Removes a group, if it is there.
pub(super) fn remove(connection: &Connection, ticket: i64) -> rusqlite::Result<()> {
    let mut changes = connection.prepare_cached("DELETE FROM changes WHERE ticket = ?1")?;
    changes.execute([ticket])?;
    let mut group = connection.prepare_cached("DELETE FROM groups WHERE ticket = ?1")?;
    group.execute([ticket])?;
    Ok(())
}

/// Reads the groups that are wanted, in their order.
pub(super) fn load(
    connection: &Connection,
    wanted: impl Fn(&GroupRow<'_>) -> bool,
) -> rusqlite::Result<Loaded> {
    let mut loaded = Loaded::default();
    for group in GroupRow::all(connection)?
        .iter()
        .filter(|group| wanted(group))
    {
        match group.load(connection)? {
            Ok(group) => loaded.groups.push(group),
            Err(unreadable) => loaded.unreadable.push(unreadable),
        }
    }
    Ok(loaded)
}

/// Tells changes whose group is missing. Nobody knows what they wait for, so all waits for them.
pub(super) fn load_strays(connection: &Connection) -> rusqlite::Result<Vec<Unreadable>> {
    let mut query = connection.prepare_cached(
        "SELECT DISTINCT ticket FROM changes WHERE ticket NOT IN (SELECT ticket FROM groups)",
    )?;
    let strays = query.query_map([], |row| {
        Ok(Unreadable {
            ticket: to_ticket(row.get(0)?),
            whereabouts: None,
            keys: Vec::new(),
            first_set: Place(i64::MIN),
            place: Place(i64::MIN),
            has_removals: true,
            has_sets: true,
            reason: "the group of a change is missing".to_owned(),
        })
    })?;
    strays.collect()
}

/// Says whether an error is about what a row holds, so that others may be read.
pub(super) fn is_of_the_row(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => code == ErrorCode::DatabaseCorrupt,
        None => true,
    }
}

pub(super) fn bytes(row: &Row<'_>, at: usize) -> rusqlite::Result<Bytes<'static>> {
    let value = row.get_ref(at)?;
    Ok(value.as_bytes()?.to_vec().into())
}

pub(super) fn bytes_or_null(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Bytes<'static>>> {
    match row.get_ref(at)? {
        ValueRef::Null => Ok(None),
        _ => bytes(row, at).map(Some),
    }
}

/// Makes an unknown word fit for a line of a log.
pub(super) fn told(word: &[u8]) -> String {
    let word = String::from_utf8_lossy(word);
    let short: String = word.chars().take(TOLD).collect();
    format!("{short:?}")
}
