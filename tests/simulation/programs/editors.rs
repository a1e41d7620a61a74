//! What editors do when they save a file.

use cognitofs::fs::Error;

use super::{At, Program, User, WRITES};
use crate::ledger::tokens;
use crate::mount::{Account, Mode};

/// The name of a file's backup.
fn backup(name: &str) -> &'static str {
    match name {
        "a" => "a~",
        "b" => "b~",
        _ => "k~",
    }
}

/// What a text becomes by saving it: some of its tokens and a new one.
struct Saved {
    text: String,
    token: String,
    /// What its user takes away.
    gone: String,
}

impl User {
    pub(super) async fn save(&self, at: At, program: Program) -> Result<(), Error> {
        if !self.edited.lock().unwrap().insert(at) {
            return Ok(());
        }
        let saved = match program {
            Program::Vim => self.vim(at).await,
            Program::Emacs => self.emacs(at).await,
            _ => self.replace(at).await,
        };
        self.edited.lock().unwrap().remove(&at);
        saved
    }

    fn saved(&self, old: &str) -> Saved {
        let token = self.token('v');
        let all = tokens(old);
        let (gone, kept): (Vec<String>, Vec<String>) =
            all.into_iter().partition(|_| self.chance(20));
        Saved {
            text: kept.concat() + &token,
            token,
            gone: gone.concat(),
        }
    }

    /// Writes a whole text to a file that is made for it.
    async fn save_as(&self, at: At, saved: &Saved, mode: Mode) -> Result<(), Error> {
        let (handle, old) = self.open_emptied(at, mode).await?;
        // It is the text that is saved, or an older copy of it.
        self.moves(&old);
        self.moves(&saved.text);
        self.put(&handle, 0, &saved.text)?;
        if self.chance(30) {
            self.pause().await;
        }
        self.finish(handle, &saved.token, None).await
    }

    /// Removes a file whose text is another's too.
    async fn remove_copy(&self, at: At, of: &str) -> Result<(), Error> {
        let kept = tokens(of);
        let account = Account {
            takes: &|text| {
                let gone: String = tokens(&text).difference(&kept).cloned().collect();
                self.takes(&gone);
            },
            moves: &|_| {},
        };
        self.unlink(at, &account).await
    }

    async fn vim(&self, at: At) -> Result<(), Error> {
        let old = self.text_of(at).await?;
        let saved = self.saved(&old);
        let swap = At {
            name: ".k.swp",
            ..at
        };
        if let Ok((handle, _)) = self.open_emptied(swap, WRITES).await {
            self.put(&handle, 0, &self.token('s'))?;
            // Nobody needs it.
            let _ = self.flush(&handle).await;
            self.close(&handle).await;
        }
        let probe = At { name: "4913", ..at };
        if let Ok(handle) = self.open(probe, WRITES).await {
            self.close(&handle).await;
            // As vim does.
            let _ = self.remove(probe).await;
        }
        let kept = backup(at.name);
        if !old.is_empty() {
            self.rename(at, kept).await?;
        }
        if self.chance(20) {
            self.pause().await;
        }
        let written = self.save_as(at, &saved, WRITES).await;
        if written.is_ok() {
            self.takes(&saved.gone);
            let copy = At { name: kept, ..at };
            // It is gone if there was nothing before.
            let _ = self.remove_copy(copy, &(old + &saved.text)).await;
        }
        // It is litter.
        let _ = self.remove(swap).await;
        written
    }

    async fn emacs(&self, at: At) -> Result<(), Error> {
        let old = self.text_of(at).await?;
        let saved = self.saved(&old);
        if !old.is_empty() {
            self.rename(at, backup(at.name)).await?;
        }
        self.save_as(at, &saved, WRITES).await
    }

    async fn replace(&self, at: At) -> Result<(), Error> {
        let old = self.text_of(at).await?;
        let saved = self.saved(&old);
        let (name, private) = match self.seeded.below(3) {
            0 => (".goutputstream-AB12CD", false),
            1 => ("sedAb3dEf", true),
            _ => (".k.Ab3dEf", true),
        };
        let new = At { name, ..at };
        let mode = Mode { private, ..WRITES };
        self.save_as(new, &saved, mode).await?;
        if self.chance(20) {
            self.pause().await;
        }
        self.takes(&saved.gone);
        self.rename_over(new, at.name, &saved.text).await
    }
}
