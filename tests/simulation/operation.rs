//! What the users of a process do, and what they are told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cognitofs::api::Surroundings;
use cognitofs::store::journals::Whereabouts;
use cognitofs::store::pending::{Pending, PendingDataset};
use cognitofs::sync::Unseen;
use cognitofs::sync::pending::{Change, Commit, Kind, View};
use cognitofs::wire::names::RecordKey;

use super::ledger::Ledger;
use super::seeded::Seeded;

pub const NAMES: [&str; 5] = ["a", "b", "k", "k~", ".k.swp"];
/// How long an operation may take.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// What happened, in order.
#[derive(Debug, Default)]
pub struct Told {
    pub ledger: Ledger,
    pub trace: Vec<String>,
    pub wrong: Option<String>,
    /// How many tokens their writers were told are safe.
    pub acknowledged: u64,
    written: usize,
}

impl Told {
    pub fn say(&mut self, line: String) {
        if std::env::var_os("COGNITOFS_TRACE").is_some() {
            eprintln!("{line}");
        }
        self.trace.push(line);
    }

    pub fn token(&mut self, of: char) -> String {
        self.written += 1;
        let token = format!("{of}{:04};", self.written);
        self.ledger.begin(&token);
        token
    }
}

/// Something that a user of a process does.
pub struct Operation {
    pub seeded: Arc<Seeded>,
    pub pending: Arc<Pending>,
    pub told: Arc<Mutex<Told>>,
    pub place: Whereabouts,
    pub across: Whereabouts,
    pub commit: Commit,
    pub unseen: Unseen,
}

impl Operation {
    pub async fn run(self) {
        let begun = self.seeded.now();
        let deadline = begun + TIMEOUT;
        let dataset = self.pending.dataset(&self.place);
        if dataset.refresh(deadline).await.is_err() {
            return self.end(begun);
        }
        let name = |seeded: &Seeded| NAMES[seeded.below(NAMES.len() as u64) as usize];
        let key = RecordKey::new(name(&self.seeded)).unwrap();
        let view = dataset.view(&key);
        let old = text(&view);
        match (self.seeded.below(12), old) {
            (0..4, old) => {
                let token = self.token('w');
                let change = self.change(&key, &view, Kind::Whole(bytes(&token)));
                self.make(&dataset, vec![change], Some(token), old).await;
            }
            (4 | 5, old) => {
                let token = self.token('a');
                let whole = bytes(&(old.unwrap_or_default() + &token));
                let kind = Kind::Append {
                    text: bytes(&token),
                    whole,
                };
                let change = self.change(&key, &view, kind);
                self.make(&dataset, vec![change], Some(token), None).await;
            }
            (6, Some(old)) => {
                let token = self.token('e');
                let change = self.change(&key, &view, Kind::Edit(bytes(&token)));
                self.make(&dataset, vec![change], Some(token), Some(old))
                    .await;
            }
            (7, Some(old)) => {
                let change = self.change(&key, &view, Kind::Remove);
                self.make(&dataset, vec![change], None, Some(old)).await;
            }
            (8 | 9, Some(moved)) => {
                let to = RecordKey::new(name(&self.seeded)).unwrap();
                if to != key {
                    let over = dataset.view(&to);
                    self.told.lock().unwrap().ledger.move_away(&moved);
                    let set = self.change(&to, &over, Kind::Whole(bytes(&moved)));
                    let removal = self.change(&key, &view, Kind::Remove);
                    self.make(&dataset, vec![set, removal], None, text(&over))
                        .await;
                }
            }
            (10 | 11, Some(moved)) => self.move_across(&key, &view, moved).await,
            _ => {}
        }
        self.end(begun);
    }

    async fn move_across(&self, key: &RecordKey, view: &View, moved: String) {
        let other = self.pending.dataset(&self.across);
        if other.refresh(self.pending.deadline()).await.is_err() {
            return;
        }
        let over = other.view(key);
        self.told.lock().unwrap().ledger.move_away(&moved);
        let copy = self.change(key, &over, Kind::Whole(bytes(&moved)));
        if self.make(&other, vec![copy], None, text(&over)).await && self.place != self.across {
            let removal = self.change(key, view, Kind::Remove);
            let dataset = self.pending.dataset(&self.place);
            self.make(&dataset, vec![removal], None, None).await;
        }
    }

    fn token(&self, of: char) -> String {
        self.told.lock().unwrap().token(of)
    }

    fn change(&self, key: &RecordKey, view: &View, kind: Kind) -> Change {
        Change {
            key: key.clone(),
            base: view.base,
            kind,
            unseen: self.unseen,
            own: Vec::new(),
            left: None,
            modified: self.seeded.date().into(),
        }
    }

    /// Returns whether it was done, as far as its caller is told.
    async fn make(
        &self,
        dataset: &Arc<PendingDataset>,
        changes: Vec<Change>,
        token: Option<String>,
        taken: Option<String>,
    ) -> bool {
        let begun = self.seeded.now();
        let said = format!("{} {changes:?}", dataset.place().2.as_str());
        {
            let mut told = self.told.lock().unwrap();
            taken.iter().for_each(|text| told.ledger.take(text, false));
            let age = self.seeded.age().as_millis();
            told.trace
                .push(format!("{age}: {token:?} {taken:?} {said}"));
        }
        let deadline = self.pending.deadline();
        let answer = dataset.change(changes, self.commit, false, deadline).await;
        let mut told = self.told.lock().unwrap();
        let age = self.seeded.age().as_millis();
        let result = answer.result.as_ref().map_err(|error| error.kind());
        told.trace.push(format!("{age}: {token:?} {result:?}"));
        if self.seeded.now() > begun + TIMEOUT + Duration::from_millis(5) {
            told.wrong
                .get_or_insert(format!("it took too long: {said}"));
        }
        if answer.result.is_ok() {
            token.iter().for_each(|token| told.ledger.keep(token));
        }
        answer.result.is_ok()
    }

    fn end(&self, begun: std::time::Instant) {
        // Two calls of the file system, and a look before each.
        if self.seeded.now() > begun + 4 * TIMEOUT {
            let mut told = self.told.lock().unwrap();
            told.wrong
                .get_or_insert("an operation took too long".to_owned());
        }
    }
}

fn text(view: &View) -> Option<String> {
    let value = view.value.as_ref()?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

fn bytes(text: &str) -> Arc<[u8]> {
    text.as_bytes().into()
}
