//! How a world ends, and what must be true then.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;
use std::time::Duration;

use cognitofs::api::Surroundings;
use cognitofs::fs::drafts::RecordName;
use cognitofs::store::pending::Pending;
use cognitofs::sync::pending::Hold;
use cognitofs::wire::names::RecordKey;

use super::{LAST, Lived, Mounted, World};
use crate::net::{LATEST, NONE};
use crate::operation::TIMEOUT;
use crate::source::{DATASETS, place};

const HOUR: Duration = Duration::from_secs(3600);
/// Longer than a listing is served without asking again.
const STALE: Duration = Duration::from_millis(1_500);

/// The service's values by dataset and key, and their counts.
type Values = BTreeMap<(usize, String), (String, i64)>;

impl World {
    /// Ends all trouble, lets late calls arrive, and checks what is left.
    pub(super) async fn finish(&mut self, slots: Vec<Option<Mounted>>) -> Result<Lived, String> {
        self.trace("all trouble ends");
        self.source.calm_down();
        let mut left: Vec<Mounted> = slots.into_iter().flatten().collect();
        left.iter().for_each(|process| process.living.net.heal());
        left.iter()
            .for_each(|process| process.living.surroundings.slow_down(0));
        tokio::time::sleep(LATEST + TIMEOUT).await;
        left.retain(|process| !process.living.process.has_ended());
        for process in &left {
            let who = format!("p{}", process.number);
            let running = process.running.load(Ordering::Relaxed);
            if running > 0 {
                return Err(format!("{running} operations of {who} have not ended"));
            }
            if !process
                .mount
                .is_clean(&self.all_names(&process.living.pending))
            {
                return Err(format!("{who} has drafts, or changes names"));
            }
            self.drain(&process.living.pending, &who).await?;
        }
        for process in left.iter().filter(|_| !self.restarts) {
            self.check_shown(process).await?;
        }
        for process in left {
            process.living.kill();
        }
        let last = self.start(LAST, NONE).await.ok_or("no last process")?;
        self.drain(&last.living.pending, "the last").await?;
        if !self.restarts {
            self.check_shown(&last).await?;
        }
        self.check_left(&last).await
    }

    async fn drain(&self, pending: &Pending, who: &str) -> Result<(), String> {
        match pending.drain(self.seeded.now() + HOUR).await {
            0 => Ok(()),
            left => Err(format!("{left} groups of {who} are left: {pending:?}")),
        }
    }

    fn all_names(&self, pending: &std::sync::Arc<Pending>) -> Vec<RecordName> {
        let mut names = Vec::new();
        for of in 0..DATASETS {
            let dataset = pending.dataset(&place(of)).read(|state| state.id());
            names.extend(self.ways.names.iter().map(|name| RecordName {
                dataset,
                key: RecordKey::new(*name).unwrap(),
            }));
        }
        names
    }

    async fn values(&self) -> Values {
        let client = self.source.other_client();
        let mut values = Values::new();
        for of in 0..DATASETS {
            for record in self.source.list(&client, of).await.records {
                if let Some(value) = record.value.as_ref().and_then(|value| value.as_str()) {
                    let key = record.key.as_str().unwrap_or_default().to_owned();
                    values.insert((of, key), (value.to_owned(), record.sync_count));
                }
            }
        }
        values
    }

    /// A mount shows what the service has, and what it shows is what the next change is based on.
    async fn check_shown(&self, process: &Mounted) -> Result<(), String> {
        tokio::time::sleep(STALE).await;
        let user = self.user(process);
        for of in 0..self.ways.datasets {
            for name in self.ways.names {
                let values = self.values().await;
                let there = values.get(&(of, (*name).to_owned()));
                user.check(of, name, there)
                    .await
                    .map_err(|why| format!("p{}: d{of}/{name}: {why}", process.number))?;
            }
        }
        self.drain(&process.living.pending, "a mount that was checked")
            .await?;
        process.mount.forget();
        // What stands on litter stands on something that is pending.
        let litter = |of: usize| {
            let dataset = process.living.pending.dataset(&place(of));
            dataset.read(|state| state.litter())
        };
        match (0..DATASETS).map(litter).sum::<usize>() {
            0 => {}
            _ => return Ok(()),
        }
        match process.mount.count() {
            0 => Ok(()),
            _ => {
                let (who, files) = (process.number, process.mount.files());
                Err(format!("p{who} remembers {files}"))
            }
        }
    }

    /// Nothing is lost, doubled or back, and no row is left but litter.
    async fn check_left(&self, last: &Mounted) -> Result<Lived, String> {
        let values = self.values().await;
        let mut kept = Vec::new();
        for (whereabouts, version) in last.living.kept.list_all().unwrap().versions {
            let text = last.living.kept.text(version.id).unwrap();
            let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
            // It is let go by whoever lists what is kept, as the service has it.
            let key = version.key.as_str().unwrap_or_default();
            let is_equal = |of: &usize| {
                let value = values.get(&(*of, key.to_owned()));
                place(*of) == whereabouts && value.is_some_and(|(value, _)| *value == text)
            };
            if !(0..DATASETS).any(|of| is_equal(&of)) {
                kept.push(text);
            }
        }
        for group in last.living.pending.rows().unwrap() {
            if !matches!(group.note.hold, Some((Hold::Litter, _))) {
                return Err(format!("a row is left: {:?}", group.note));
            }
            let changes = group.note.changes.iter();
            let wholes = changes.filter_map(|noted| noted.change.kind.whole());
            kept.extend(wholes.map(|whole| String::from_utf8_lossy(whole).into_owned()));
        }
        let told = self.told.lock().unwrap();
        if let Some(wrong) = &told.wrong {
            return Err(wrong.clone());
        }
        let texts: Vec<&str> = values.values().map(|(value, _)| value.as_str()).collect();
        if !self.restarts {
            told.ledger.check(&texts, &kept)?;
        }
        let mut digest = DefaultHasher::new();
        (&told.trace, &values, self.seeded.age()).hash(&mut digest);
        Ok(Lived {
            digest: digest.finish(),
            crashes: self.killed + self.source.crashed.load(Ordering::Relaxed),
            acknowledged: told.acknowledged,
        })
    }
}
