//! Names given and taken, and texts that are copied.

use cognitofs::fs::Error;

use super::{At, READS, User, WRITES};
use crate::ledger::tokens;
use crate::mount::Account;

impl User {
    pub(super) async fn rename(&self, at: At, to: &'static str) -> Result<(), Error> {
        self.rename_over(at, to, "").await
    }

    /// Renames over a file whose text, as far as its user knows, is `known` in the new one.
    pub(super) async fn rename_over(
        &self,
        at: At,
        to: &'static str,
        known: &str,
    ) -> Result<(), Error> {
        let known = tokens(known);
        let account = Account {
            takes: &|text| {
                let gone = tokens(&text);
                let gone: String = gone.difference(&known).cloned().collect();
                self.takes(&gone);
            },
            moves: &|text| self.moves(&text),
        };
        let (place, from) = (at.place(), at.key());
        let to_key = At { name: to, ..at }.key();
        let renaming = self.mount.rename(&place, (&from, &to_key), &account);
        self.call(format!("rename {at} to {to}"), renaming).await
    }

    pub(super) async fn exchange(&self, at: At, to: &'static str) -> Result<(), Error> {
        let account = Account {
            takes: &|text| self.takes(&text),
            moves: &|text| self.moves(&text),
        };
        let (place, from) = (at.place(), at.key());
        let to_key = At { name: to, ..at }.key();
        let exchanging = self.mount.exchange(&place, (&from, &to_key), &account);
        self.call(format!("exchange {at} and {to}"), exchanging)
            .await
    }

    pub(super) async fn chain(&self, at: At) -> Result<(), Error> {
        let mut all = Vec::new();
        let mut from = at;
        for _ in 0..2 + self.seeded.below(4) {
            let to = self.name();
            all.push(if self.chance(30) {
                self.clone()
                    .begin(move |user| async move { user.exchange(from, to).await })
            } else {
                self.clone()
                    .begin(move |user| async move { user.rename(from, to).await })
            });
            from = At { name: to, ..at };
        }
        futures_util::future::join_all(all).await;
        Ok(())
    }

    /// Copies a file. Returns its text.
    pub(super) async fn copy(&self, from: At, to: At) -> Result<String, Error> {
        let text = self.read(from).await?;
        if from == to {
            return Ok(text);
        }
        let (copy, old) = self.open_emptied(to, WRITES).await?;
        self.moves(&text);
        self.moves(&old);
        self.put(&copy, 0, &text)?;
        let copied = self.flush(&copy).await;
        self.close(&copy).await;
        copied.map(|()| text)
    }

    pub(super) async fn move_to(&self, from: At, to: At) -> Result<(), Error> {
        if from.dataset == to.dataset {
            return self.rename(from, to.name).await;
        }
        let copied = tokens(&self.copy(from, to).await?);
        let account = Account {
            takes: &|text| {
                let gone: String = tokens(&text).difference(&copied).cloned().collect();
                self.takes(&gone);
            },
            moves: &|_| {},
        };
        self.unlink(from, &account).await
    }

    /// Reads a file that may not be there.
    pub(super) async fn text_of(&self, at: At) -> Result<String, Error> {
        match self.open(at, READS).await {
            Ok(handle) => {
                let text = self.mount.read(&handle);
                self.close(&handle).await;
                text
            }
            Err(Error::NotFound) => Ok(String::new()),
            Err(error) => Err(error),
        }
    }
}
