//! The promise itself, checked on what is seen of the real side alone: a value that a step of this
//! mount took from the service was shown here, lives on in what took its place, or is kept.

use std::collections::{BTreeMap, BTreeSet};

use super::reference::{Key, Parked, Record};

#[derive(Default)]
pub struct Ledger {
    /// What was read or written here, and under which name.
    shown: BTreeSet<(Key, String)>,
    /// Names that something was ever shown of. Of another, what was looked up is what was shown.
    known: BTreeSet<Key>,
    /// Values that went by a step of this mount, and those of them that nobody had seen.
    pub gone: usize,
    pub kept: usize,
}

impl Ledger {
    pub fn show(&mut self, key: Key, value: &str) {
        self.shown.insert((key, value.to_owned()));
        self.known.insert(key);
    }

    /// It is not what the name leads to at the service.
    pub fn show_old(&mut self, key: Key, value: &str) {
        self.shown.insert((key, value.to_owned()));
    }

    /// Its user took a name away: what comes under it is another file.
    pub fn let_go(&mut self, key: Key) {
        self.known.remove(&key);
    }

    /// The daemon was killed: it cannot know any more what it showed.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// Looks at what a step of this mount made of the service's records.
    pub fn check(
        &mut self,
        before: &BTreeMap<Key, Record>,
        after: &BTreeMap<Key, Record>,
        parked: &[Parked],
    ) -> Result<(), String> {
        for (key, old) in before {
            let new = after.get(key);
            if new.is_some_and(|new| new.count == old.count) {
                continue;
            }
            let value = &old.value;
            let seen = self.shown.contains(&(*key, value.clone())) || !self.known.contains(key);
            let lives_on = new.is_some_and(|new| new.value.starts_with(value));
            let moved = || after.values().any(|record| record.value == *value);
            let kept = || {
                let is_it = |kept: &Parked| kept.0 == *key && kept.3 == *value;
                parked.iter().any(is_it)
            };
            self.gone += 1;
            self.kept += usize::from(!seen && kept());
            if !(seen || lives_on || moved() || kept()) {
                return Err(format!("{value:?} of {key} was neither shown nor kept"));
            }
        }
        for (key, new) in after {
            let old = before.get(key);
            let changed = old.is_none_or(|old| old.count != new.count);
            let merged = old.is_some_and(|old| {
                let shown = self.shown.contains(&(*key, old.value.clone()));
                new.value.starts_with(&old.value) && !shown
            });
            if changed && !merged {
                self.show(*key, &new.value);
            }
        }
        Ok(())
    }
}
