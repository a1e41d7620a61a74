//! How much lies in a state directory unsent, for whoever sends nothing.

use std::collections::HashMap;

use super::Journals;
use super::disk::Name;
use super::error::JournalError;
use super::format::{Found, JOURNAL};
use super::loaded::Unsent;
use super::old;
use super::rows::{Bytes, bytes_or_null};

/// How many changes each group has, by the journal it was noted in first and its ticket there.
pub(super) type ByOrigin = HashMap<(Bytes<'static>, i64), u64>;

impl Journals {
    /// Counts the changes that lie in all journals, of mounts that run and of those that have
    /// ended. What lies in two, as it was being taken over, counts once. Nothing is locked and
    /// nothing written.
    pub fn unsent(&self) -> Result<Unsent, JournalError> {
        let mut groups = ByOrigin::new();
        let mut troubles = Vec::new();
        let names = self.disk.storage().names()?;
        let journals = names.iter().map(|name| self.count(name));
        for counted in journals.chain([old::count(&self.disk)]) {
            match counted {
                Ok(counted) => groups.extend(counted),
                Err(error) => troubles.push(error),
            }
        }
        let changes = groups.values().sum();
        Ok(Unsent { changes, troubles })
    }

    fn count(&self, name: &str) -> Result<ByOrigin, JournalError> {
        let Some(database) = self.disk.storage().look(Name::Journal(name))? else {
            return Ok(ByOrigin::new());
        };
        if database.identify(JOURNAL)? == Found::Empty {
            return Ok(ByOrigin::new());
        }
        // Litter is never sent. What has no group any more is counted all the same.
        let count = "SELECT ticket, count(*), origin_journal, origin_ticket
             FROM changes LEFT JOIN groups USING (ticket)
             WHERE hold IS NOT 'litter' GROUP BY ticket";
        database.read(|connection| {
            let mut query = connection.prepare(count)?;
            let groups = query.query_map([], |row| {
                let origin = match bytes_or_null(row, 2)? {
                    Some(journal) => (journal, row.get(3)?),
                    None => (name.as_bytes().to_vec().into(), row.get(0)?),
                };
                Ok((origin, row.get::<_, i64>(1)?.unsigned_abs()))
            })?;
            groups.collect()
        })
    }
}
