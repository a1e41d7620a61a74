//! Counts, conflicts, tombstones, limits, and a comparison with a model of a dataset.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::testing::{MINUTE, World, at, remove, replace};
use super::*;
use crate::wire::operation::Call;

#[test]
fn every_call_is_one_count_and_its_records_get_it() {
    let world = World::new();
    let updated = world
        .update(&[replace("a", "1", 0), replace("b", "", 0)])
        .unwrap();
    assert_eq!(updated.records.len(), 2);
    assert!(updated.records.iter().all(|record| record.sync_count == 1));
    world.update(&[replace("b", "", 1)]).unwrap();
    let listed = world.list("lastSyncCount=1", at(0)).unwrap();
    assert_eq!((listed.count, listed.dataset_sync_count), (1, 2));
    assert_eq!(listed.records[0].key.as_str(), Some("b"));
    assert_eq!(listed.records[0].value, Some("".into()));
    assert_eq!(listed.records[0].sync_count, 2);
    assert_eq!(world.list("lastSyncCount=2", at(0)).unwrap().count, 0);
}

#[test]
fn an_old_count_fails_the_whole_update() {
    let world = World::new();
    world.update(&[replace("a", "1", 0)]).unwrap();
    world.update(&[replace("a", "2", 1)]).unwrap();
    for wrong in [0, 1, 3] {
        let fault = world
            .update(&[replace("new", "x", 0), replace("a", "3", wrong)])
            .unwrap_err();
        assert_eq!(fault.status, 409);
        assert_eq!(
            fault.message,
            format!("Current SyncCount for: a is: 2 not: {wrong}")
        );
    }
    let listed = world.list("", at(0)).unwrap();
    assert_eq!((listed.count, listed.dataset_sync_count), (1, 2));
    assert_eq!(listed.records[0].value, Some("2".into()));
    // For an unknown key any count up to the dataset's will do.
    let fault = world.update(&[replace("new", "x", 3)]).unwrap_err();
    assert_eq!(fault.message, "Current SyncCount for: new is: 0 not: 3");
    world.update(&[replace("new", "x", 2)]).unwrap();
}

#[test]
fn a_removed_record_leaves_a_tombstone() {
    let world = World::new();
    world.update(&[replace("a", "1", 0)]).unwrap();
    let removed = world.update(&[remove("a", 1), remove("b", 0)]).unwrap();
    assert!(removed.records.iter().all(|record| record.value.is_none()));
    let listed = world.list("", at(0)).unwrap();
    assert_eq!(listed.count, 2);
    assert!(listed.records.iter().all(|record| record.value.is_none()));
    let dataset = world.datasets("").unwrap().datasets.remove(0);
    assert_eq!(
        (dataset.num_records, dataset.data_storage),
        (Some(0), Some(0))
    );
    assert!(
        world
            .update(&[replace("a", "2", 0)])
            .unwrap_err()
            .is_conflict()
    );
    assert_eq!(
        world.update(&[replace("a", "2", 2)]).unwrap().records[0].sync_count,
        3
    );
}

#[test]
fn a_deletion_has_a_place_among_the_counts() {
    let world = World::new();
    let missing = world.list("lastSyncCount=5", at(0)).unwrap();
    assert!(!missing.dataset_exists && !missing.dataset_deleted_after_requested_sync_count);
    world.update(&[replace("a", "1", 0)]).unwrap();
    world.update(&[replace("a", "2", 1)]).unwrap();
    world.delete("settings").unwrap();
    for (from, deleted) in [(0, false), (1, true), (2, true), (3, false)] {
        let listed = world.list(&format!("lastSyncCount={from}"), at(0)).unwrap();
        assert_eq!((listed.count, listed.dataset_sync_count), (0, 0));
        assert!(!listed.dataset_exists);
        assert_eq!(
            listed.dataset_deleted_after_requested_sync_count, deleted,
            "{from}"
        );
    }
    assert!(
        world
            .update(&[replace("a", "3", 2)])
            .unwrap_err()
            .is_conflict()
    );
    assert_eq!(
        world.update(&[replace("a", "3", 0)]).unwrap().records[0].sync_count,
        4
    );
    for (from, deleted) in [(0, false), (2, true), (3, false), (4, false)] {
        let listed = world.list(&format!("lastSyncCount={from}"), at(0)).unwrap();
        assert!(listed.dataset_exists);
        assert_eq!(
            listed.dataset_deleted_after_requested_sync_count, deleted,
            "{from}"
        );
    }
}

#[test]
fn a_count_the_dataset_never_had_is_refused() {
    let world = World::new();
    world.update(&[replace("a", "1", 0)]).unwrap();
    for count in [2, -1] {
        let fault = world
            .list(&format!("lastSyncCount={count}"), at(0))
            .unwrap_err();
        assert_eq!(fault.status, 400);
        assert_eq!(
            fault.message,
            format!("No such SyncCount: {count} exists for this Dataset")
        );
    }
}

#[test]
fn a_token_is_good_for_one_update_of_its_dataset() {
    let world = World::new();
    let token = world.list("", at(0)).unwrap().sync_session_token.unwrap();
    let again = world
        .list(&format!("syncSessionToken={token}"), at(0))
        .unwrap();
    assert_eq!(again.sync_session_token.as_ref(), Some(&token));
    let update = |token: &str, patch, millis| {
        world
            .update_with(&world.developer, token, &[patch], at(millis))
            .map(|updated| updated.records[0].sync_count)
    };
    // A refused update leaves it good, and so does a write by somebody else.
    assert!(
        update(&token, replace("a", "1", 9), 0)
            .unwrap_err()
            .is_conflict()
    );
    world.update(&[replace("b", "1", 0)]).unwrap();
    assert_eq!(update(&token, replace("a", "1", 0), 0), Ok(2));
    for millis in [0, 14 * MINUTE, 16 * MINUTE, 200 * MINUTE] {
        let used = update(&token, replace("a", "2", 2), millis).unwrap_err();
        assert_eq!(used.message, "SyncSessionToken not valid for these inputs");
        assert_eq!((used.status, used.code), (400, Code::InvalidParameter));
    }
    let listed = world.list(&format!("syncSessionToken={token}"), at(0));
    assert!(listed.unwrap_err().is_session_token());

    let token = world.list("", at(0)).unwrap().sync_session_token.unwrap();
    let late = update(&token, replace("a", "2", 2), 15 * MINUTE).unwrap_err();
    assert!(late.is_session_token());
    let foreign = world.path(&format!("/datasets/other/records?syncSessionToken={token}"));
    let foreign = world.send::<Records>(&world.developer, at(0), "GET", &foreign, b"");
    assert!(foreign.unwrap_err().is_session_token());
    assert_eq!(update(&token, replace("a", "2", 2), 15 * MINUTE - 1), Ok(3));
}

#[test]
fn an_update_of_nothing_changes_nothing() {
    let world = World::new();
    assert!(world.update(&[]).unwrap().records.is_empty());
    assert!(!world.list("", at(0)).unwrap().dataset_exists);
}

#[test]
fn patches_that_no_dataset_could_take_are_refused() {
    let world = World::new();
    let mut no_value = replace("a", "1", 0);
    no_value.value = None;
    for patches in [
        vec![replace("a", "1", 0), remove("a", 0)],
        vec![no_value],
        vec![replace("a", "1", -1)],
    ] {
        let fault = world.update(&patches).unwrap_err();
        assert_eq!(fault.code, Code::InvalidParameter);
        assert!(fault.message.contains("validation error detected"));
    }
    assert!(!world.list("", at(0)).unwrap().dataset_exists);
}

#[test]
fn pages_hold_every_record_once() {
    let world = World::new();
    let patches: Vec<_> = ["a", "b", "é", "😀", "z"]
        .map(|key| replace(key, key, 0))
        .into();
    world.update(&patches).unwrap();
    let mut seen = Vec::new();
    let mut query = "maxResults=2".to_owned();
    for pages in 1.. {
        let page = world.list(&query, at(0)).unwrap();
        assert_eq!(page.count as usize, page.records.len());
        seen.extend(page.records.into_iter().map(|record| record.key));
        let Some(token) = page.next_token else {
            assert_eq!(pages, 3);
            break;
        };
        let token = token.replace('+', "%2B").replace('=', "%3D");
        query = format!("maxResults=2&nextToken={token}");
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 5);
    let garbage = world.list("nextToken=%25", at(0)).unwrap_err();
    assert_eq!(garbage.code, Code::InvalidParameter);
}

#[test]
fn unpaired_surrogates_come_back_as_they_went() {
    let world = World::new();
    let token = world.list("", at(0)).unwrap().sync_session_token.unwrap();
    let body = format!(
        r#"{{"SyncSessionToken":"{token}","RecordPatches":[
            {{"Op":"replace","Key":"k\ud800","Value":"v\udfff","SyncCount":0}}]}}"#
    );
    let path = world.path("/datasets/settings");
    world
        .send::<UpdatedRecords>(&world.developer, at(0), "POST", &path, body.as_bytes())
        .unwrap();
    let list = Call::parse("GET", &format!("{path}/records"), "", b"").unwrap();
    let answer = world.service.call(&list, &world.developer, at(0)).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(
        answer.contains(r#""Key":"k\ud800","Value":"v\udfff""#),
        "{answer}"
    );
}

#[test]
fn quotas_are_limits() {
    let world = World::new();
    let many: Vec<_> = (0..1025).map(|n| replace(&format!("{n}"), "", 0)).collect();
    let fault = world.update(&many).unwrap_err();
    assert_eq!((fault.status, fault.code), (400, Code::LimitExceeded));
    world.update(&many[1..]).unwrap();
    // In one update a removal makes room for a new key.
    world
        .update(&[remove("1", 1), replace("x", "", 0)])
        .unwrap();

    let big = "x".repeat(1024 * 1024 - 2);
    let world = World::new();
    world.update(&[replace("é", &big[1..], 0)]).unwrap();
    let fault = world.update(&[replace("é", &big, 1), replace("k", "", 0)]);
    assert_eq!(fault.unwrap_err().code, Code::LimitExceeded);
    world
        .update(&[replace("é", &big[2..], 1), replace("k", "v", 0)])
        .unwrap();
}

#[test]
fn an_identity_has_twenty_datasets() {
    let world = World::new();
    let write = |name: &str| {
        let path = world.path(&format!("/datasets/{name}"));
        let listed: Records = world
            .send(
                &world.developer,
                at(0),
                "GET",
                &format!("{path}/records"),
                b"",
            )
            .unwrap();
        let body = serde_json::json!({
            "RecordPatches": [replace("k", "v", 0)],
            "SyncSessionToken": listed.sync_session_token,
        });
        let body = body.to_string();
        world.send::<UpdatedRecords>(&world.developer, at(0), "POST", &path, body.as_bytes())
    };
    for n in 0..20 {
        write(&format!("d{n}")).unwrap();
    }
    assert_eq!(write("one-more").unwrap_err().code, Code::LimitExceeded);
    world.delete("d7").unwrap();
    write("one-more").unwrap();
    assert_eq!(write("d7").unwrap_err().code, Code::LimitExceeded);
}

#[test]
fn the_last_writer_is_the_device_else_the_caller() {
    let world = World::new();
    let write = |caller: &Caller, device: Option<&str>| {
        let token = world.list("", at(0)).unwrap().sync_session_token;
        let count = world.list("", at(0)).unwrap().dataset_sync_count;
        let body = serde_json::json!({
            "DeviceId": device,
            "RecordPatches": [replace("k", "v", count)],
            "SyncSessionToken": token,
        });
        let path = world.path("/datasets/settings");
        let body = body.to_string();
        world
            .send::<UpdatedRecords>(caller, at(5), "POST", &path, body.as_bytes())
            .unwrap();
        world.list("", at(0)).unwrap()
    };
    let account = world.service.developer_credentials().account_id.clone();
    for (caller, device, by) in [
        (&world.developer, None, account.as_str()),
        (&world.user(), None, world.identity.as_str()),
        (&world.user(), Some("phone"), "phone"),
    ] {
        let listed = write(caller, device);
        assert_eq!(listed.last_modified_by.as_deref(), Some(by));
        let record = &listed.records[0];
        assert_eq!(record.last_modified_by.as_deref(), Some(by));
        assert_eq!(record.last_modified_date, Some(at(5)));
        assert_eq!(record.device_last_modified_date, None);
    }
}

#[test]
fn only_an_identity_of_the_pool_and_region_can_be_written() {
    let world = World::new();
    let elsewhere = world.service.developer("eu-west-1".parse().unwrap());
    world.update(&[replace("a", "1", 0)]).unwrap();
    let path = world.path("/datasets/settings/records");
    let listed: Records = world.send(&elsewhere, at(0), "GET", &path, b"").unwrap();
    assert!(!listed.dataset_exists);
    let token = listed.sync_session_token.unwrap();
    let fault = world
        .update_with(&elsewhere, &token, &[replace("a", "1", 0)], at(0))
        .unwrap_err();
    assert_eq!((fault.status, fault.code), (404, Code::ResourceNotFound));

    let stranger = format!(
        "/identitypools/{}/identities/us-east-1:00/datasets/d",
        world.pool
    );
    let listed: Records = world
        .send(
            &world.developer,
            at(0),
            "GET",
            &format!("{stranger}/records"),
            b"",
        )
        .unwrap();
    let body = serde_json::json!({
        "RecordPatches": [replace("a", "1", 0)],
        "SyncSessionToken": listed.sync_session_token,
    });
    let fault = world
        .send::<UpdatedRecords>(
            &world.developer,
            at(0),
            "POST",
            &stranger,
            body.to_string().as_bytes(),
        )
        .unwrap_err();
    assert_eq!(fault.code, Code::ResourceNotFound);

    let others = path.replace(world.identity.as_str(), world.other.as_str());
    let fault = world.send::<Records>(&world.user(), at(0), "GET", &others, b"");
    let fault = fault.unwrap_err();
    assert_eq!(fault.code, Code::NotAuthorized);
    assert!(
        fault
            .message
            .starts_with("mismatch between session identity id")
    );
}

/// A dataset as a client would draw it on paper.
#[derive(Clone, Debug, Default)]
struct Model {
    exists: bool,
    counter: i64,
    deleted_at: i64,
    records: BTreeMap<String, (Option<String>, i64)>,
}

#[derive(Clone, Debug)]
enum Step {
    Update(Vec<(String, Option<String>, Sent)>),
    Delete,
    List(i64, i64),
}

/// Which count a patch carries.
#[derive(Clone, Copy, Debug)]
enum Sent {
    Known,
    Off(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let key = prop::sample::select(vec!["a", "b", "é", "/"]).prop_map(str::to_owned);
    let value = prop::option::weighted(0.7, "[a-zé]{0,3}");
    let sent = prop_oneof![6 => Just(Sent::Known), 1 => (-2i64..4).prop_map(Sent::Off)];
    let patches = prop::collection::vec((key, value, sent), 1..4);
    prop_oneof![
        6 => patches.prop_map(Step::Update),
        1 => Just(Step::Delete),
        3 => (0i64..12, 1i64..4).prop_map(|(from, size)| Step::List(from, size)),
    ]
}

impl Model {
    fn visible(&self) -> i64 {
        if self.exists { self.counter } else { 0 }
    }

    fn patches(&self, changes: &[(String, Option<String>, Sent)]) -> Vec<RecordPatch> {
        changes
            .iter()
            .map(|(key, value, sent)| {
                let known = self.records.get(key).map_or(0, |(_, count)| *count);
                let count = match sent {
                    Sent::Known => known,
                    Sent::Off(by) => (known + by).max(0),
                };
                match value {
                    Some(value) => replace(key, value, count),
                    None => remove(key, count),
                }
            })
            .collect()
    }

    /// Returns the status the service should answer.
    fn update(&mut self, patches: &[RecordPatch]) -> u16 {
        let mut after = self.clone();
        after.exists = true;
        after.counter += 1;
        for (index, patch) in patches.iter().enumerate() {
            if patches[..index]
                .iter()
                .any(|earlier| earlier.key == patch.key)
            {
                return 400;
            }
        }
        for patch in patches {
            let key = patch.key.as_str().unwrap().to_owned();
            let accepted = match self.records.get(&key) {
                Some((_, count)) => patch.sync_count == *count,
                None => patch.sync_count <= self.visible(),
            };
            if !accepted {
                return 409;
            }
            let value = patch
                .value
                .as_ref()
                .map(|value| value.as_str().unwrap().to_owned());
            after.records.insert(key, (value, after.counter));
        }
        *self = after;
        200
    }

    fn delete(&mut self) -> u16 {
        if !self.exists {
            return 404;
        }
        self.counter += 1;
        self.deleted_at = self.counter;
        self.exists = false;
        self.records.clear();
        200
    }
}

fn status<T>(answer: &Result<T, Fault>) -> u16 {
    answer.as_ref().map_or_else(|fault| fault.status, |_| 200)
}

fn check_listing(world: &World, model: &Model, from: i64, size: i64) {
    let mut query = format!("lastSyncCount={from}&maxResults={size}");
    let mut seen = BTreeMap::new();
    loop {
        let page = world.list(&query, at(0));
        if model.exists && from > model.counter {
            assert!(page.unwrap_err().is_unknown_sync_count());
            return;
        }
        let page = page.unwrap();
        assert_eq!(page.dataset_exists, model.exists);
        assert_eq!(page.dataset_sync_count, model.visible());
        assert_eq!(
            page.dataset_deleted_after_requested_sync_count,
            from > 0 && model.deleted_at > from
        );
        assert!(page.records.len() <= size as usize);
        for record in page.records {
            let value = record.value.map(|value| value.as_str().unwrap().to_owned());
            let key = record.key.as_str().unwrap().to_owned();
            assert_eq!(seen.insert(key, (value, record.sync_count)), None);
        }
        let Some(token) = page.next_token else {
            break;
        };
        let token = token.replace('+', "%2B").replace('/', "%2F");
        query = format!("lastSyncCount={from}&maxResults={size}&nextToken={token}");
    }
    let mut expected = model.records.clone();
    expected.retain(|_, (_, count)| *count > from);
    assert_eq!(seen, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_service_is_the_model(steps in prop::collection::vec(step(), 1..25)) {
        let world = World::new();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Update(changes) => {
                    let patches = model.patches(&changes);
                    let answer = world.update(&patches);
                    prop_assert_eq!(status(&answer), model.update(&patches));
                }
                Step::Delete => prop_assert_eq!(status(&world.delete("settings")), model.delete()),
                Step::List(from, size) => check_listing(&world, &model, from, size),
            }
            check_listing(&world, &model, 0, 3);
            let usage = world.datasets("").unwrap().datasets.pop();
            let live = model.records.iter().filter_map(|(key, (value, _))| {
                value.as_ref().map(|value| (key.len() + value.len()) as i64)
            });
            let live: Vec<i64> = live.collect();
            prop_assert_eq!(usage.is_some(), model.exists);
            if let Some(usage) = usage {
                prop_assert_eq!(usage.num_records, Some(live.len() as i64));
                prop_assert_eq!(usage.data_storage, Some(live.iter().sum()));
            }
        }
    }
}
