//! What a dataset's state makes of listings, dates and tokens.

use super::*;
use crate::sync::change::Kind;
use crate::sync::change::Unseen;
use crate::wire::timestamp::Timestamp;

fn listing(since: i64, records: Vec<Record>) -> Listing {
    Listing {
        since,
        exists: true,
        deleted_after: false,
        sync_count: records
            .iter()
            .map(|record| record.sync_count)
            .max()
            .unwrap_or(since),
        records,
        token: Some("token".to_owned()),
    }
}

fn record(sync_count: i64, date: Option<i64>, changed: i64) -> Record {
    Record {
        key: RecordKey::new("k").unwrap(),
        value: Some("v".into()),
        sync_count,
        last_modified_date: Some(Timestamp::from_millis(changed)),
        last_modified_by: None,
        device_last_modified_date: date.map(Timestamp::from_millis),
    }
}

#[test]
fn s15_a_device_date_that_stays_while_the_count_rises_is_not_believed() {
    let at = Instant::now();
    let key = RecordKey::new("k").unwrap();
    let mut state = DatasetState::default();
    for (count, date, changed, shown) in [
        (1, Some(100), 900, 100),
        // Some clients omit it, and the service keeps the old one.
        (2, Some(100), 1900, 1900),
        (3, Some(300), 2900, 300),
        (4, None, 3900, 3900),
        (5, None, 4900, 4900),
    ] {
        state.handle_listed(listing(count - 1, vec![record(count, date, changed)]), at);
        let modified = state.record(&key).map(|remote| remote.modified.as_millis());
        assert_eq!(modified, Some(shown), "count {count}");
    }
    // The same version listed again shows the same date.
    state.handle_listed(listing(0, vec![record(5, None, 4900)]), at);
    let modified = state.record(&key).map(|remote| remote.modified.as_millis());
    assert_eq!(modified, Some(4900));
}

#[test]
fn a_token_is_used_for_one_push() {
    let at = Instant::now();
    let mut state = DatasetState::default();
    state.handle_listed(listing(0, vec![record(1, None, 1)]), at);
    let stage = |state: &mut DatasetState, value: &str| {
        let key = RecordKey::new("k").unwrap();
        let base = state.base(&key);
        let (kind, modified) = (Kind::Whole(value.into()), Timestamp::from_millis(5));
        state.stage(vec![Change {
            key,
            base,
            kind,
            unseen: Unseen::Refuse,
            sent: Vec::new(),
            whole: None,
            left: None,
            modified,
        }]);
    };
    stage(&mut state, "a");
    assert!(matches!(state.next_step(at), Step::Update { .. }));
    state.handle_updated(vec![record(2, Some(5), 2)], at);
    stage(&mut state, "b");
    assert_eq!(state.next_step(at), Step::List { since: 2 });
    // Nor is one used that may have expired.
    state.handle_listed(listing(2, Vec::new()), at);
    let late = at + TOKEN_LIFE;
    assert_eq!(state.next_step(late), Step::List { since: 2 });
}

#[test]
fn a_group_nobody_waits_for_is_settled_when_its_update_was_not_sent() {
    let at = Instant::now();
    let mut state = DatasetState::default();
    state.handle_listed(listing(0, vec![record(1, None, 1)]), at);
    let key = RecordKey::new("k").unwrap();
    let ticket = state.stage(vec![Change {
        base: state.base(&key),
        key,
        kind: Kind::Whole("x".into()),
        unseen: Unseen::Refuse,
        sent: Vec::new(),
        whole: None,
        left: None,
        modified: Timestamp::from_millis(5),
    }]);
    assert!(matches!(state.next_step(at), Step::Update { .. }));
    assert!(!state.abandon(ticket));
    state.handle_not_sent();
    assert!(!state.has(ticket));
    assert_eq!(state.take_settled(), [(ticket, Err(Refusal::Lost))]);
}

#[test]
fn held_updates_let_listings_through() {
    let at = Instant::now();
    let mut state = DatasetState::default();
    state.handle_listed(listing(0, vec![record(1, None, 1)]), at);
    let key = RecordKey::new("k").unwrap();
    state.stage(vec![Change {
        base: state.base(&key),
        key,
        kind: Kind::Remove,
        unseen: Unseen::Refuse,
        sent: Vec::new(),
        whole: None,
        left: None,
        modified: Timestamp::from_millis(5),
    }]);
    let until = at + Duration::from_secs(1);
    state.hold_updates(until);
    assert_eq!(state.next_step(at), Step::Wait { until });
    state.want_list();
    assert_eq!(state.next_step(at), Step::List { since: 1 });
    assert!(matches!(state.next_step(until), Step::Update { .. }));
}

#[test]
fn s03_a_dataset_that_is_not_there_any_more_was_deleted_whatever_the_flag_says() {
    let at = Instant::now();
    let key = RecordKey::new("k").unwrap();
    let mut state = DatasetState::default();
    state.handle_listed(listing(0, vec![record(1, None, 1)]), at);
    let shown = state.base(&key);
    let gone = Listing {
        exists: false,
        sync_count: 0,
        ..listing(1, Vec::new())
    };
    state.handle_listed(gone, at);
    assert!(!state.exists() && state.record(&key).is_none());
    assert_ne!(state.base(&key).life, shown.life);
}
