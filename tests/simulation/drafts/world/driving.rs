//! The other client, the driver with its answers, and the end.

use std::collections::BTreeSet;
use std::time::Duration;

use cognitofs::fs::drafts::{Effect, Extent, FileId};
use cognitofs::sync::pending::{Outcome, Refusal, Step};
use cognitofs::wire::fault::Fault;
use cognitofs::wire::names::RecordKey;
use cognitofs::wire::records::{Record, RecordPatch};
use proptest::test_runner::TestCaseError;

use super::{Answer, DATASET, TOKEN, World, name, text, tokens, value_of};

impl World {
    // The other client.

    pub(super) fn remote_write(&mut self, key: usize, adds: bool) {
        let key = name(key).key;
        let token = self.token('r');
        let old = self.server.value(&key).unwrap_or_default().to_owned();
        self.owed.insert(token.clone());
        let value = if adds {
            old + &token
        } else {
            self.owed.retain(|owed| !tokens(&old).contains(owed));
            token
        };
        self.remote_change(&key, Some(&value));
    }

    pub(super) fn remote_remove(&mut self, key: usize) {
        let key = name(key).key;
        if let Some(old) = self.server.value(&key).map(str::to_owned) {
            self.owed.retain(|owed| !tokens(&old).contains(owed));
            self.remote_change(&key, None);
        }
    }

    pub(super) fn remote_change(&mut self, key: &RecordKey, value: Option<&str>) {
        let date = self.date().as_millis();
        self.server.change(key, value, date);
        self.note_history();
    }

    pub(super) fn note_history(&mut self) {
        for record in self.server.records.values() {
            if let Some(value) = value_of(record) {
                let version = (record.key.clone(), record.sync_count);
                self.history.insert(version, value);
            }
        }
    }

    // The driver.

    pub(super) fn list(&mut self) {
        let listing = self.server.list(0);
        self.state
            .handle_listed(listing, self.now, self.now, &mut self.barrier);
        self.hear();
    }

    pub(super) fn leave(&mut self) {
        for ticket in std::mem::take(&mut self.awaited) {
            self.state.leave(ticket, &mut self.barrier);
            self.hear();
        }
    }

    pub(super) fn drive(&mut self, answers: &[Answer], steps: u32) -> Result<(), TestCaseError> {
        let mut answers = answers.iter().copied();
        for _ in 0..steps {
            match self.state.next_step(self.now, &mut self.barrier) {
                Step::List { since } => {
                    let listing = self.server.list(since);
                    self.state
                        .handle_listed(listing, self.now, self.now, &mut self.barrier);
                }
                Step::Update {
                    patches,
                    token,
                    replaced,
                } => {
                    for value in replaced.iter().filter(|value| !value.seen) {
                        self.parked.push(text(value.value.as_bytes()));
                    }
                    let answer = answers.next().unwrap_or(Answer::Made);
                    self.answer(&patches, &token, answer)?;
                }
                Step::Delete | Step::RefuseDeletion => unreachable!(),
                Step::Wait { until } => self.now = self.now.max(until),
                Step::Idle => {
                    self.hear();
                    return Ok(());
                }
            }
            self.hear();
        }
        Ok(())
    }

    pub(super) fn answer(
        &mut self,
        patches: &[RecordPatch],
        token: &str,
        answer: Answer,
    ) -> Result<(), TestCaseError> {
        self.server.refuses = u32::from(matches!(answer, Answer::Quota));
        let made = match answer {
            Answer::LostUnmade | Answer::Away => None,
            Answer::Made | Answer::LostMade | Answer::Quota => {
                Some(self.server.update(patches, token))
            }
            Answer::Triggered => Some(self.triggered(patches, token)),
        };
        self.note_history();
        self.check_server()?;
        let (state, barrier) = (&mut self.state, &mut self.barrier);
        match (answer, made) {
            (Answer::Away, _) => state.fail(Refusal::Lost, barrier),
            (_, Some(Err(fault))) => state.handle_refused(fault, barrier),
            (Answer::LostMade, _) | (_, None) => state.handle_lost(barrier),
            (_, Some(Ok(records))) => state.handle_updated(records, self.now, barrier),
        }
        Ok(())
    }

    /// Makes patches, and has a function of the service add to the first value.
    pub(super) fn triggered(
        &mut self,
        patches: &[RecordPatch],
        token: &str,
    ) -> Result<Vec<Record>, Fault> {
        let mut answer = self.server.update(patches, token)?;
        let has_value = |record: &&mut Record| record.value.is_some();
        if let Some(record) = answer.iter_mut().find(has_value) {
            let added = self.token('t');
            self.owed.insert(added.clone());
            record.value = value_of(record).map(|value| (value + &added).into());
            self.server
                .records
                .insert(record.key.clone(), record.clone());
        }
        Ok(answer)
    }

    /// Nothing is there twice.
    pub(super) fn check_server(&self) -> Result<(), TestCaseError> {
        for value in self.server.records.values().filter_map(value_of) {
            if tokens(&value).len() * TOKEN != value.len() {
                return Err(TestCaseError::fail(format!("doubled: {value}")));
            }
        }
        Ok(())
    }

    pub(super) fn hear(&mut self) {
        for event in self.state.take_events() {
            if std::env::var_os("COGNITOFS_TRACE").is_some() {
                eprintln!("  {event:?}");
            }
            let ticket = event.ticket;
            let is_decided = !matches!(event.outcome, Outcome::Waits(_));
            for told in event.aliases.iter().chain([&ticket]) {
                self.awaited.remove(told);
            }
            let effects = self.drafts.hear(DATASET, event);
            self.carry_out(effects);
            if is_decided {
                self.barrier.decide(ticket);
                self.state.forget(ticket);
            }
        }
    }

    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Park(parked) => self.parked.push(text(&parked.text)),
                Effect::Invalidate(_) | Effect::Superseded(_) => {}
            }
        }
    }

    /// All is closed and sent: what nobody took away is somewhere.
    pub fn end(mut self) -> Result<(), TestCaseError> {
        self.journal_is_full = false;
        for slot in 0..self.handles.len() {
            self.stage_of(slot, Extent::Flush)?;
            self.drive(&[], 60)?;
            self.release(slot)?;
            self.drive(&[], 60)?;
        }
        for _ in 0..3 {
            self.now += Duration::from_secs(60);
            self.list();
            self.drive(&[], 60)?;
        }
        let left: Vec<FileId> = self.drafts.drafts().collect();
        if !left.is_empty() || !self.state.is_settled() {
            return Err(TestCaseError::fail(format!("left: {left:?}")));
        }
        let values = self.server.records.values().filter_map(value_of);
        let found = values.chain(self.parked.iter().cloned());
        let found: BTreeSet<String> = found.flat_map(|value| tokens(&value)).collect();
        let lost: Vec<_> = self.owed.difference(&found).collect();
        if lost.is_empty() {
            Ok(())
        } else {
            Err(TestCaseError::fail(format!("lost: {lost:?}")))
        }
    }
}
