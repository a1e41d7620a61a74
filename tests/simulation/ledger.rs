//! What may not be lost, doubled or brought back. Every text that is written holds tokens, such as
//! `w3;`, each of which is written once.

use std::collections::{BTreeMap, BTreeSet};

/// What may have become of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its writer was told that it is safe, or it is another client's.
    Kept,
    /// Its writer was told nothing, or that it failed.
    Unsure,
    /// As before, and somebody who saw it tried to replace or remove it.
    TakenUnsure,
    /// Somebody who saw it replaced or removed it, and was told that this is done.
    Gone,
    /// Somebody who saw it tried to.
    MayBeGone,
}

#[derive(Clone, Debug, Default)]
pub struct Ledger {
    fates: BTreeMap<String, Fate>,
    /// Tokens that the service had.
    seen: BTreeSet<String>,
    /// Set where writers are told that something is safe before the service has it: what another client
    /// saw and took away may be made once more then, as nobody knows that it was made.
    pub is_early: bool,
    /// Tokens that were written anew under another name, and may be on their way there.
    moved: BTreeSet<String>,
}

/// Returns the tokens in a text.
pub fn tokens(text: &str) -> BTreeSet<String> {
    text.split_inclusive(';').map(str::to_owned).collect()
}

impl Ledger {
    pub fn begin(&mut self, token: &str) {
        self.fates.insert(token.to_owned(), Fate::Unsure);
    }

    pub fn keep(&mut self, token: &str) {
        match self.fates.get_mut(token) {
            Some(fate @ Fate::Unsure) => *fate = Fate::Kept,
            Some(fate @ Fate::TakenUnsure) => *fate = Fate::MayBeGone,
            _ => {}
        }
    }

    /// Somebody who saw a text takes it away; `done` says whether he was told so.
    pub fn take(&mut self, text: &str, done: bool) {
        for token in tokens(text) {
            let done = done && !self.moved.contains(&token);
            let is_ours = !token.starts_with(['o', 't']);
            let fate = self.fates.entry(token).or_insert(Fate::Unsure);
            let done = done && !(is_ours && self.is_early);
            *fate = match (*fate, done) {
                (Fate::Gone, _) | (_, true) => Fate::Gone,
                (Fate::Unsure | Fate::TakenUnsure, false) => Fate::TakenUnsure,
                (Fate::Kept | Fate::MayBeGone, false) => Fate::MayBeGone,
            };
        }
    }

    /// Somebody who saw a text writes it anew, under another name: whoever takes it away where it is
    /// may not see it where it comes to be.
    pub fn move_away(&mut self, text: &str) {
        for token in tokens(text) {
            if let Some(fate) = self.fates.get_mut(&token)
                && *fate == Fate::Gone
            {
                *fate = Fate::MayBeGone;
            }
            self.moved.insert(token);
        }
    }

    /// Checks that what was there once, and nobody took away, is there or kept: what only waits to
    /// be sent does not count.
    pub fn watch(&mut self, values: &[&str], kept: &[String]) -> Result<(), String> {
        let there = |token: &str| values.iter().any(|value| value.contains(token));
        for (token, fate) in &mut self.fates {
            if there(token) {
                self.seen.insert(token.clone());
                // What a function of the service added is another's.
                if token.starts_with('t') && *fate == Fate::Unsure {
                    *fate = Fate::Kept;
                }
            } else if self.seen.contains(token) {
                // What left as litter may become a record again, and waits to be sent then.
                if kept.iter().any(|text| text.contains(token.as_str())) {
                    self.seen.remove(token);
                } else if *fate == Fate::Kept {
                    return Err(format!("{token} has left the service"));
                }
            }
        }
        Ok(())
    }

    /// Checks what is there at the end: `values` at the service, and what is `kept` beside.
    pub fn check(&self, values: &[&str], kept: &[String]) -> Result<(), String> {
        for (token, fate) in &self.fates {
            let times = |text: &str| text.matches(token.as_str()).count();
            let there: usize = values.iter().map(|value| times(value)).sum();
            let parked: usize = kept.iter().map(|text| times(text)).sum();
            if *fate == Fate::Kept && there + parked == 0 {
                return Err(format!("{token} is lost"));
            }
            if values.iter().any(|value| times(value) > 1) {
                return Err(format!("{token} is doubled"));
            }
            if *fate == Fate::Gone && there > 0 {
                return Err(format!("{token} is back"));
            }
        }
        Ok(())
    }
}
