//! What others do: another client of the service, and the service itself.

use cognitofs::api::Surroundings;
use cognitofs::wire::names::RecordKey;
use cognitofs::wire::records::{PatchOp, RecordPatch};

use super::World;

impl World {
    /// Another client replaces, adds to or removes what it sees.
    pub(super) async fn other_writes(&self) {
        let client = self.source.other_client();
        let of = self.seeded.below(self.ways.datasets as u64) as usize;
        let names = self.ways.names;
        let name = names[self.seeded.below(names.len() as u64) as usize];
        let listed = self.source.list(&client, of).await;
        let key = RecordKey::new(name).unwrap();
        let record = listed.records.iter().find(|record| record.key == key);
        let old = record.and_then(|record| record.value.as_ref()?.as_str());
        let old = old.map(str::to_owned);
        let (token, value) = {
            let mut told = self.told.lock().unwrap();
            let token = told.token('o');
            let value = match (self.seeded.below(3), &old) {
                (0, Some(_)) => None,
                (1, Some(old)) => Some(format!("{old}{token}")),
                _ => Some(token.clone()),
            };
            let keeps = old.as_ref().zip(value.as_ref());
            let keeps = keeps.is_some_and(|(old, new)| new.starts_with(old.as_str()));
            if let Some(old) = old.as_ref().filter(|_| !keeps) {
                told.ledger.take(old, true);
            }
            (token, value)
        };
        let patch = RecordPatch {
            op: if value.is_some() {
                PatchOp::Replace
            } else {
                PatchOp::Remove
            },
            key,
            value: value.as_deref().map(Into::into),
            sync_count: record.map_or(0, |record| record.sync_count),
            device_last_modified_date: Some(self.seeded.date().into()),
        };
        self.trace(&format!("other: d{of}/{name} {old:?} -> {value:?}"));
        let session = listed.sync_session_token;
        self.source.update(&client, of, patch, session).await;
        if value.is_some() {
            self.told.lock().unwrap().ledger.keep(&token);
        }
    }

    /// Another client deletes a dataset, whatever is in it.
    pub(super) async fn other_deletes(&self) {
        let client = self.source.other_client();
        let of = self.seeded.below(self.ways.datasets as u64) as usize;
        let gone = if self.restarts {
            0..self.ways.datasets
        } else {
            of..of + 1
        };
        for of in gone {
            for record in self.source.list(&client, of).await.records {
                if let Some(old) = record.value.as_ref().and_then(|value| value.as_str()) {
                    // A late call that made a record fits again where none is.
                    self.told.lock().unwrap().ledger.take(old, false);
                }
            }
            self.trace(&format!("other: d{of} is deleted"));
        }
        self.source.delete(&client, of, self.restarts).await;
    }

    /// A dataset begins or ceases to refuse everything.
    pub(super) fn change_weather(&self) {
        let of = self.seeded.below(self.ways.datasets as u64);
        let strikes = self.ways.strikes;
        let strike = strikes[self.seeded.below(strikes.len() as u64) as usize];
        let strike = Some(strike).filter(|_| self.seeded.below(5) < 2);
        self.trace(&format!("weather: d{of} {strike:?}"));
        self.source.weather.set(format!("d{of}"), strike);
    }
}
