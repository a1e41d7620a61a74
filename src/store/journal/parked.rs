//! Versions kept from being lost, in the journal of a mount.

use std::collections::HashSet;

use rusqlite::params;

use super::super::journals::{UnreadableVersion, versions};
use super::{Journal, JournalError, NewParked, Parked, Place, Whereabouts};
use crate::wire::names::RecordKey;
use crate::wire::text::Text;
use crate::wire::timestamp::Timestamp;

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
        inner.durably(|connection| versions::park(connection, place, new, at))
    }

    /// Lists the versions kept of a dataset, by key, oldest first.
    pub fn parked(&self, place: Place<'_>) -> Result<Vec<Parked>, JournalError> {
        let mut inner = self.inner();
        inner.pay_if_possible();
        let list = versions::list(&inner.connection, place)?;
        tell(&list.unreadable);
        Ok(list.versions)
    }

    /// Lists all versions that are kept, by dataset and key, oldest first.
    pub fn all_parked(&self) -> Result<Vec<(Whereabouts, Parked)>, JournalError> {
        let mut inner = self.inner();
        inner.pay_if_possible();
        let list = versions::list_all(&inner.connection)?;
        tell(&list.unreadable);
        Ok(list.versions)
    }

    /// Returns the bytes of a kept version, if it is still there.
    pub fn parked_text(&self, id: i64) -> Result<Option<Vec<u8>>, JournalError> {
        Ok(versions::text(&self.inner().connection, id)?)
    }

    /// Lets a kept version go. Returns whether it was there.
    pub fn discard_parked(&self, id: i64) -> Result<bool, JournalError> {
        Ok(versions::discard(&self.inner().connection, id)?)
    }

    /// Lets the kept versions go whose time is over.
    pub fn discard_expired(&self, now: Timestamp) -> Result<(), JournalError> {
        Ok(versions::discard_expired(&self.inner().connection, now)?)
    }

    /// Returns how many versions are kept, but for those that go by themselves.
    pub fn parked_count(&self) -> Result<u64, JournalError> {
        Ok(versions::count(&self.inner().connection)?)
    }
}

/// A version that cannot be read is left alone.
fn tell(unreadable: &[UnreadableVersion]) {
    for version in unreadable {
        let (id, reason) = (version.id, &version.reason);
        tracing::warn!(id, reason, "a kept version cannot be read");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::{Side, somewhere};
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
