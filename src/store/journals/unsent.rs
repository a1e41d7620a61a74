//! How much lies in a state directory unsent, for whoever sends nothing.

use super::Journals;
use super::disk::Name;
use super::error::JournalError;
use super::format::{Found, JOURNAL};
use super::loaded::Unsent;
use super::old;

impl Journals {
    /// Counts the changes that lie in all journals, of mounts that run and of those that have
    /// ended. Nothing is locked and nothing written.
    pub fn unsent(&self) -> Result<Unsent, JournalError> {
        let mut unsent = Unsent::default();
        for name in self.disk.storage().names()? {
            unsent.add(self.count(&name));
        }
        unsent.add(old::count(&self.disk));
        Ok(unsent)
    }

    fn count(&self, name: &str) -> Result<u64, JournalError> {
        let Some(database) = self.disk.storage().look(Name::Journal(name))? else {
            return Ok(0);
        };
        if database.identify(JOURNAL)? == Found::Empty {
            return Ok(0);
        }
        // Litter is never sent.
        let count = "SELECT count(*) FROM changes WHERE ticket NOT IN
                (SELECT ticket FROM groups WHERE hold = 'litter')";
        let count: i64 =
            database.read(|connection| connection.query_row(count, [], |row| row.get(0)))?;
        Ok(count.unsigned_abs())
    }
}

impl Unsent {
    fn add(&mut self, counted: Result<u64, JournalError>) {
        match counted {
            Ok(changes) => self.changes += changes,
            Err(error) => self.troubles.push(error),
        }
    }
}
