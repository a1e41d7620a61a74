//! The pure state of a dataset against a simple model of the service: whatever is changed on both
//! sides, whatever answers are lost, no value disappears that was not shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cognitofs::sync::{
    Base, Change, DatasetState, Kind, Listing, Outcome, Refusal, Replaced, Shown, Step, Ticket,
    Unseen,
};
use cognitofs::wire::fault::{Code, Fault};
use cognitofs::wire::names::RecordKey;
use cognitofs::wire::records::{PatchOp, Record, RecordPatch};
use cognitofs::wire::timestamp::Timestamp;
use proptest::prelude::*;

/// The service, as `service.md` has it.
#[derive(Debug, Default)]
struct Server {
    count: i64,
    deleted_at: i64,
    exists: bool,
    records: BTreeMap<String, (Option<String>, i64)>,
    /// Device dates, which other devices here do not send.
    dates: BTreeMap<String, Timestamp>,
    tokens: Vec<String>,
    last_token: u32,
    /// Every value that a patch replaced or removed: key, count, value, and what replaced it.
    replaced: Vec<(String, i64, String, Option<String>)>,
    /// Values that this quota refuses.
    refuses: Option<String>,
}

impl Server {
    fn list(&mut self, since: i64) -> Result<Listing, Fault> {
        if since > self.count {
            return Err(Fault::invalid(&format!(
                "No such SyncCount: {since} exists"
            )));
        }
        self.last_token += 1;
        let token = format!("token {}", self.last_token);
        self.tokens.push(token.clone());
        let listed = self.records.iter().filter(|(_, (_, count))| *count > since);
        let records = listed.map(|(key, (value, count))| {
            record(key, value.as_deref(), *count, self.dates.get(key).copied())
        });
        Ok(Listing {
            since,
            exists: self.exists,
            deleted_after: since > 0 && self.deleted_at > since,
            sync_count: if self.exists { self.count } else { 0 },
            records: records.collect(),
            token: Some(token),
        })
    }

    fn update(&mut self, patches: &[RecordPatch], token: &str) -> Result<Vec<Record>, Fault> {
        let Some(at) = self.tokens.iter().position(|known| known == token) else {
            return Err(Fault::invalid(
                "SyncSessionToken not valid for these inputs",
            ));
        };
        for patch in patches {
            let key = patch.key.as_str().unwrap();
            let known = self.records.get(key).map_or(0, |(_, count)| *count);
            if known != patch.sync_count {
                return Err(Fault::conflict(key, known, patch.sync_count));
            }
            let value = patch.value.as_ref().and_then(|value| value.as_str());
            if value.is_some() && value == self.refuses.as_deref() {
                return Err(Fault::new(Code::LimitExceeded, "too much"));
            }
        }
        self.tokens.remove(at);
        self.count += 1;
        self.exists = true;
        let mut answer = Vec::new();
        for patch in patches {
            let key = patch.key.as_str().unwrap().to_owned();
            let value = patch
                .value
                .as_ref()
                .map(|value| value.as_str().unwrap().to_owned());
            assert_eq!(value.is_none(), patch.op == PatchOp::Remove);
            if let Some((Some(old), count)) = self.records.get(&key) {
                let replaced = (key.clone(), *count, old.clone(), value.clone());
                self.replaced.push(replaced);
            }
            let date = patch.device_last_modified_date;
            answer.push(record(&key, value.as_deref(), self.count, date));
            self.dates.extend(date.map(|date| (key.clone(), date)));
            self.records.insert(key, (value, self.count));
        }
        Ok(answer)
    }

    /// Another device writes.
    fn set(&mut self, key: &str, value: Option<String>) {
        self.count += 1;
        self.exists = true;
        self.records.insert(key.to_owned(), (value, self.count));
        self.dates.remove(key);
    }

    /// Another device deletes the dataset.
    fn delete(&mut self) {
        if self.exists {
            self.count += 1;
            self.deleted_at = self.count;
            self.exists = false;
            self.records.clear();
            self.dates.clear();
        }
    }
}

fn record(key: &str, value: Option<&str>, sync_count: i64, date: Option<Timestamp>) -> Record {
    Record {
        key: RecordKey::new(key).unwrap(),
        value: value.map(Into::into),
        sync_count,
        last_modified_date: Some(Timestamp::from_millis(sync_count)),
        last_modified_by: None,
        device_last_modified_date: date,
    }
}

#[derive(Clone, Debug)]
enum Wish {
    Whole(String),
    Append(String),
    Edit(String),
    Times,
    Remove,
    Rename(u8),
}

/// What happens to the network during an update.
#[derive(Clone, Copy, Debug)]
enum Weather {
    Fine,
    LostBefore,
    LostAfter,
    /// Another device writes between our listing and our update.
    Race(u8),
}

#[derive(Clone, Debug)]
enum Event {
    /// Changes made together, and what happens on their way.
    Change(Vec<(u8, Wish)>, Weather),
    /// This mount lists the dataset and shows a key.
    Look(u8),
    Other(u8, Option<String>),
    OtherDeletes,
    /// This mount deletes the dataset if it is empty.
    Delete,
    Evict,
    Quota(Option<String>),
}

fn text() -> impl Strategy<Value = String> {
    "[a-c]{0,2}"
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        3 => text().prop_map(Wish::Whole),
        2 => "[x-z]{1,2}".prop_map(Wish::Append),
        2 => text().prop_map(Wish::Edit),
        1 => Just(Wish::Times),
        2 => Just(Wish::Remove),
        1 => (0u8..4).prop_map(Wish::Rename),
    ]
}

fn weather() -> impl Strategy<Value = Weather> {
    prop_oneof![
        5 => Just(Weather::Fine),
        1 => Just(Weather::LostBefore),
        1 => Just(Weather::LostAfter),
        1 => (0u8..4).prop_map(Weather::Race),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => (prop::collection::vec((0u8..4, wish()), 1..4), weather())
            .prop_map(|(changes, weather)| Event::Change(changes, weather)),
        3 => (0u8..4).prop_map(Event::Look),
        2 => (0u8..4, prop::option::weighted(0.8, text())).prop_map(|(k, v)| Event::Other(k, v)),
        1 => Just(Event::OtherDeletes),
        1 => Just(Event::Delete),
        1 => Just(Event::Evict),
        1 => prop::option::of(text()).prop_map(Event::Quota),
    ]
}

fn name(key: u8) -> String {
    format!("k{key}")
}

/// Drives a state to rest against the server; `weather` strikes the first update. Returns what was
/// to be kept, because nobody here had seen it.
fn drive(
    state: &mut DatasetState,
    server: &mut Server,
    mut weather: Weather,
    at: Instant,
) -> Vec<Replaced> {
    let mut kept = Vec::new();
    for round in 0.. {
        assert!(round < 100, "it does not come to rest");
        match state.next_step(at) {
            Step::Idle => return kept,
            Step::Delete => {
                let live = server.records.values().any(|(value, _)| value.is_some());
                assert!(!live, "a dataset with records is not deleted");
                server.delete();
                state.handle_deleted(at);
            }
            Step::RefuseDeletion => {}
            Step::Wait { .. } => panic!("nobody holds updates here"),
            Step::List { since } => match server.list(since) {
                Ok(listing) => state.handle_listed(listing, at),
                Err(fault) => {
                    assert!(fault.is_unknown_sync_count(), "{fault}");
                    state.handle_unknown_sync_count();
                }
            },
            Step::Update {
                patches,
                token,
                replaced,
            } => {
                kept.extend(replaced.into_iter().filter(|old| !old.seen));
                let strike = std::mem::replace(&mut weather, Weather::Fine);
                if let Weather::Race(key) = strike {
                    server.set(&name(key), Some("raced".to_owned()));
                }
                if let Weather::LostBefore = strike {
                    state.handle_lost();
                    continue;
                }
                match (server.update(&patches, &token), strike) {
                    (_, Weather::LostAfter) => state.handle_lost(),
                    (Ok(answer), _) => state.handle_updated(answer, at),
                    (Err(fault), _) => state.handle_refused(fault),
                }
            }
        }
    }
    kept
}

/// Checks what became of one group.
fn check(
    changes: &[Change],
    outcome: &Outcome,
    server: &Server,
    before: &BTreeMap<String, (Option<String>, i64)>,
) -> Result<(), TestCaseError> {
    for (at, change) in changes.iter().enumerate() {
        let key = change.key.as_str().unwrap();
        let now = server.records.get(key).and_then(|(value, _)| value.clone());
        match outcome {
            Ok(landed) => {
                let record = landed[at].record.as_ref();
                let shown = record.and_then(|record| record.value.as_ref());
                let shown = shown.map(|value| value.as_str().unwrap().to_owned());
                // A record that was found as wished may have been changed since it was listed.
                let known = before.get(key).map(|(_, count)| *count);
                let raced = now.as_deref() == Some("raced");
                let found = raced || known == server.records.get(key).map(|(_, count)| *count);
                if !found {
                    prop_assert_eq!(&shown, &now, "the state shows what the service has");
                }
                let now = shown;
                match &change.kind {
                    Kind::Whole(value) | Kind::Edit(value) => {
                        prop_assert_eq!(now.as_deref(), value.as_str());
                    }
                    Kind::Append(text) => {
                        let now = now.unwrap_or_default();
                        prop_assert!(now.ends_with(text.as_ref()));
                        let old = before.get(key).and_then(|(value, _)| value.clone());
                        let once = [old.unwrap_or_default().as_str(), text].concat();
                        let raced = ["raced", text].concat();
                        prop_assert!(now == once || now == raced, "appended once: {}", now);
                    }
                    Kind::Times => prop_assert!(now.is_some()),
                    // What was absent when it was removed may have come since.
                    Kind::Remove => {
                        prop_assert!(now.is_none() || found);
                    }
                }
            }
            Err(Refusal::Fault(fault)) => prop_assert_eq!(&fault.code, &Code::LimitExceeded),
            Err(Refusal::Stale) => {}
            Err(other) => return Err(TestCaseError::fail(format!("{other:?}"))),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn nothing_disappears_that_was_neither_shown_nor_kept(
        events in prop::collection::vec(event(), 1..40),
        keeps in any::<bool>(),
    ) {
        let unseen = if keeps { Unseen::Keep } else { Unseen::Refuse };
        let start = Instant::now();
        let mut state = DatasetState::default();
        let mut server = Server::default();
        // What this mount has shown: the base a change has.
        let mut shown: BTreeMap<String, Base> = BTreeMap::new();
        for (second, event) in events.into_iter().enumerate() {
            let at = start + Duration::from_secs(second as u64);
            match event {
                Event::Look(key) => {
                    state.want_list();
                    drive(&mut state, &mut server, Weather::Fine, at);
                    let key = RecordKey::new(name(key)).unwrap();
                    shown.insert(key.as_str().unwrap().to_owned(), state.base(&key));
                    let listed = state.record(&key).and_then(|record| record.value.clone());
                    let held = server.records.get(key.as_str().unwrap());
                    let held = held.and_then(|(value, _)| value.clone());
                    prop_assert_eq!(listed.as_ref().and_then(|v| v.as_str()), held.as_deref());
                }
                Event::Other(key, value) => server.set(&name(key), value),
                Event::OtherDeletes => server.delete(),
                Event::Delete => {
                    state.want_deletion();
                    drive(&mut state, &mut server, Weather::Fine, at);
                    let live = server.records.values().any(|(value, _)| value.is_some());
                    prop_assert_eq!(live, state.records().next().is_some());
                }
                Event::Evict => {
                    state.evict();
                }
                Event::Quota(value) => server.refuses = value,
                Event::Change(wishes, weather) => {
                    let first = RecordKey::new("k0").unwrap();
                    let absent = Base { life: state.base(&first).life, shown: Shown::Absent };
                    let mut used = Vec::new();
                    let mut groups: Vec<(Ticket, Vec<Change>)> = Vec::new();
                    for (key, wish) in wishes {
                        let other = match wish { Wish::Rename(other) => other, _ => key };
                        if used.contains(&key) || used.contains(&other) {
                            continue;
                        }
                        used.extend([key, other]);
                        let change = |key: u8, kind| Change {
                            key: RecordKey::new(name(key)).unwrap(),
                            base: shown.get(&name(key)).copied().unwrap_or(absent),
                            kind,
                            unseen,
                            sent: Vec::new(),
                            whole: None,
                            left: None,
                            modified: Timestamp::from_millis(1_000_000 + second as i64),
                        };
                        let changes = match wish {
                            Wish::Whole(text) => vec![change(key, Kind::Whole(text.into()))],
                            Wish::Append(text) => {
                                vec![change(key, Kind::Append(Arc::from(text)))]
                            }
                            Wish::Edit(text) => vec![change(key, Kind::Edit(text.into()))],
                            Wish::Times => vec![change(key, Kind::Times)],
                            Wish::Remove => vec![change(key, Kind::Remove)],
                            Wish::Rename(other) if other == key => continue,
                            Wish::Rename(other) => vec![
                                change(other, Kind::Whole("moved".into())),
                                change(key, Kind::Remove),
                            ],
                        };
                        groups.push((state.stage(changes.clone()), changes));
                    }
                    let before = server.records.clone();
                    server.replaced.clear();
                    let kept = drive(&mut state, &mut server, weather, at);
                    let outcomes: BTreeMap<Ticket, Outcome> =
                        state.take_settled().into_iter().collect();
                    for (ticket, changes) in &groups {
                        let outcome = outcomes.get(ticket);
                        prop_assert!(outcome.is_some(), "every group is settled");
                        check(changes, outcome.unwrap(), &server, &before)?;
                        for (at, change) in changes.iter().enumerate() {
                            if let Some(Ok(landed)) = outcome {
                                let key = change.key.as_str().unwrap().to_owned();
                                shown.insert(key, landed[at].base);
                            }
                        }
                    }
                    // The promise: what was replaced had been shown, or was kept in the new value.
                    for (key, count, old, new) in &server.replaced {
                        let changes = groups.iter().flat_map(|(_, changes)| changes);
                        let change = changes.into_iter().find(|c| c.key.as_str() == Some(key));
                        let base = change.unwrap().base.shown;
                        let was_shown = base == Shown::Version(*count);
                        let lives_on = new.as_ref().is_some_and(|new| new.starts_with(old.as_str()));
                        let was_kept = kept.iter().any(|kept| {
                            let same = kept.key.as_str() == Some(key) && kept.sync_count == *count;
                            same && kept.value.as_str() == Some(old)
                        });
                        prop_assert!(was_shown || lives_on || was_kept, "{} {} {:?}", key, old, new);
                    }
                }
            }
        }
    }
}

/// A refused value fails alone; the others of its batch are sent again without it.
#[test]
fn s10_one_bad_record_in_a_batch_fails_alone() {
    let at = Instant::now();
    let mut server = Server {
        refuses: Some("bad".to_owned()),
        ..Server::default()
    };
    let mut state = DatasetState::default();
    let stage = |state: &mut DatasetState, key: &str, value: &str| {
        let key = RecordKey::new(key).unwrap();
        let base = state.base(&key);
        let kind = Kind::Whole(value.into());
        let modified = Timestamp::from_millis(0);
        state.stage(vec![Change {
            key,
            base,
            kind,
            unseen: Unseen::Refuse,
            sent: Vec::new(),
            whole: None,
            left: None,
            modified,
        }])
    };
    let good: Vec<Ticket> = (0..7)
        .map(|n| stage(&mut state, &format!("good{n}"), "x"))
        .collect();
    let bad = stage(&mut state, "bad", "bad");
    drive(&mut state, &mut server, Weather::Fine, at);
    let outcomes: BTreeMap<Ticket, Outcome> = state.take_settled().into_iter().collect();
    assert!(good.iter().all(|ticket| outcomes[ticket].is_ok()));
    assert!(matches!(outcomes[&bad], Err(Refusal::Fault(_))));
    assert_eq!(server.records.len(), 7);
}

/// Nothing is sent for a caller who was told that it failed, but what was sent is recognised.
#[test]
fn s18_an_abandoned_change_is_recognised_and_never_repeated() {
    let at = Instant::now();
    for applied in [false, true] {
        let mut server = Server::default();
        let mut state = DatasetState::default();
        let key = RecordKey::new("k").unwrap();
        let ticket = state.stage(vec![Change {
            base: state.base(&key),
            key: key.clone(),
            kind: Kind::Whole("x".into()),
            unseen: Unseen::Refuse,
            sent: Vec::new(),
            whole: None,
            left: None,
            modified: Timestamp::from_millis(0),
        }]);
        let Step::List { since } = state.next_step(at) else {
            panic!()
        };
        state.handle_listed(server.list(since).unwrap(), at);
        let Step::Update { patches, token, .. } = state.next_step(at) else {
            panic!()
        };
        if applied {
            server.update(&patches, &token).unwrap();
        }
        state.handle_lost();
        assert!(!state.abandon(ticket));
        assert_eq!(state.next_step(at), Step::Idle);
        assert!(state.await_again(ticket));
        assert!(!state.abandon(ticket));
        state.want_list();
        drive(&mut state, &mut server, Weather::Fine, at);
        let (settled, outcome) = state.take_settled().remove(0);
        assert_eq!(settled, ticket);
        assert_eq!(outcome.is_ok(), applied);
        assert_eq!(server.count, i64::from(applied));
    }
}

/// Found by the model: asked since 0, the service says nothing of a deletion in between.
#[test]
fn s03_a_deletion_that_no_flag_tells_of_is_noticed() {
    let at = Instant::now();
    let mut server = Server::default();
    let mut state = DatasetState::default();
    drive(&mut state, &mut server, Weather::Fine, at);
    state.want_list();
    drive(&mut state, &mut server, Weather::Fine, at);
    // Its count is not the one after the listed: the next listing asks since 0 again.
    server.set("other", None);
    let key = RecordKey::new("k").unwrap();
    state.stage(vec![Change {
        base: state.base(&key),
        key: key.clone(),
        kind: Kind::Whole("x".into()),
        unseen: Unseen::Refuse,
        sent: Vec::new(),
        whole: None,
        left: None,
        modified: Timestamp::from_millis(0),
    }]);
    drive(&mut state, &mut server, Weather::Fine, at);
    let before = state.base(&key);
    server.delete();
    server.set("other", None);
    state.want_list();
    drive(&mut state, &mut server, Weather::Fine, at);
    assert!(state.record(&key).is_none());
    assert_ne!(state.base(&key).life, before.life);
}

/// Found by the model: that the old name of a lost rename is gone may be another's doing.
#[test]
fn s18_a_removal_made_by_others_is_no_proof() {
    let at = Instant::now();
    let mut server = Server::default();
    let mut state = DatasetState::default();
    server.set("old", Some("v".to_owned()));
    state.want_list();
    drive(&mut state, &mut server, Weather::Fine, at);
    let change = |key: &str, kind| {
        let key = RecordKey::new(key).unwrap();
        let modified = Timestamp::from_millis(7);
        let base = state.base(&key);
        Change {
            key,
            base,
            kind,
            unseen: Unseen::Refuse,
            sent: Vec::new(),
            whole: None,
            left: None,
            modified,
        }
    };
    let changes = vec![
        change("new", Kind::Whole("v".into())),
        change("old", Kind::Remove),
    ];
    state.stage(changes);
    let Step::Update { .. } = state.next_step(at) else {
        panic!()
    };
    state.handle_lost();
    server.set("old", None);
    drive(&mut state, &mut server, Weather::Fine, at);
    assert!(state.take_settled().remove(0).1.is_ok());
    let value = server.records["new"].0.as_deref();
    assert_eq!(value, Some("v"));
}
