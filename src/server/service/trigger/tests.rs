//! What a function is shown, and what becomes of its answer.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::super::super::lambda::testing::{function, response};
use super::super::testing::{World, at, remove, replace};
use super::*;
use crate::wire::records::UpdatedRecords;

/// Makes a function the pool's, and returns the events it sees.
fn install(
    world: &World,
    answer: impl Fn(Value) -> Vec<u8> + Send + 'static,
) -> mpsc::Receiver<Value> {
    let (told, heard) = mpsc::channel();
    let url = function(move |body| {
        let event: Value = serde_json::from_slice(body).unwrap();
        // A test may not listen.
        let _ = told.send(event.clone());
        Some(answer(event))
    });
    let body = json!({"Events": {"SyncTrigger": url.as_str()}});
    world.pool_call("POST", "events", &body).unwrap();
    heard
}

fn ok(event: &Value) -> Vec<u8> {
    response(200, event.to_string().as_bytes())
}

fn push(world: &World, patches: &[RecordPatch]) -> Result<UpdatedRecords, Fault> {
    let token = world.list("", at(0)).unwrap().sync_session_token.unwrap();
    world.update_with(&world.user(), &token, patches, at(0))
}

/// The dataset's live records.
fn values(world: &World) -> Vec<(String, String)> {
    let listed = world.list("", at(0)).unwrap().records.into_iter();
    listed
        .filter_map(|record| {
            let value = record.value?.as_str()?.to_owned();
            Some((record.key.as_str()?.to_owned(), value))
        })
        .collect()
}

#[test]
fn the_event_is_the_documented_one() {
    let world = World::new();
    world
        .update(&[
            replace("a", "1", 0),
            replace("b", "2", 0),
            replace("gone", "", 0),
        ])
        .unwrap();
    world.update(&[remove("gone", 1)]).unwrap();
    let heard = install(&world, |event| ok(&event));
    let updated = push(&world, &[replace("a", "3", 1), remove("c", 0)]).unwrap();
    assert_eq!(updated.records.len(), 2);
    assert_eq!(
        heard.recv().unwrap(),
        json!({
            "version": 2,
            "eventType": "SyncTrigger",
            "region": "us-east-1",
            "identityPoolId": world.pool,
            "identityId": world.identity,
            "datasetName": "settings",
            "datasetRecords": {
                "a": {"oldValue": "1", "newValue": "3", "op": "replace"},
                "b": {"oldValue": "2", "newValue": "2", "op": "replace"},
                "c": {"oldValue": null, "newValue": null, "op": "remove"},
            },
        })
    );
    world.update(&[replace("a", "4", 3)]).unwrap();
    assert!(heard.try_recv().is_err(), "a developer's update");
}

#[test]
fn a_function_changes_removes_adds_and_ignores() {
    let world = World::new();
    world
        .update(&[
            replace("b", "2", 0),
            replace("c", "3", 0),
            replace("d", "4", 0),
        ])
        .unwrap();
    install(&world, |mut event| {
        let records = event["datasetRecords"].as_object_mut().unwrap();
        records["a"]["newValue"] = json!("changed");
        records["b"]["op"] = json!("remove");
        records["c"] = Value::Null;
        records.insert(
            "e".to_owned(),
            json!({"newValue": "added", "op": "replace"}),
        );
        records.remove("ignored");
        ok(&event)
    });
    let patches = [replace("a", "1", 0), replace("ignored", "x", 0)];
    let updated = push(&world, &patches).unwrap();
    assert_eq!(updated.records.len(), 4);
    assert!(updated.records.iter().all(|record| record.sync_count == 2));
    let expected = [("a", "changed"), ("d", "4"), ("e", "added")];
    assert_eq!(
        values(&world),
        expected.map(|(k, v)| (k.to_owned(), v.to_owned()))
    );
}

#[test]
fn the_last_of_two_records_of_a_key_counts() {
    let world = World::new();
    install(&world, |_| {
        let twice = r#"{"datasetRecords":{"a":{"newValue":"1"},"a":{"newValue":"2"}}}"#;
        response(200, twice.as_bytes())
    });
    let updated = push(&world, &[replace("a", "0", 0)]).unwrap();
    assert_eq!(updated.records.len(), 1);
    assert_eq!(values(&world), [("a".to_owned(), "2".to_owned())]);
}

#[test]
fn an_answer_that_is_none_changes_nothing() {
    for (status, body, code) in [
        (200, "", Code::InvalidLambdaFunctionOutput),
        (200, "null", Code::InvalidLambdaFunctionOutput),
        (200, "{}", Code::InvalidLambdaFunctionOutput),
        (
            200,
            r#"{"datasetRecords":5}"#,
            Code::InvalidLambdaFunctionOutput,
        ),
        (
            200,
            r#"{"datasetRecords":{"":null}}"#,
            Code::InvalidLambdaFunctionOutput,
        ),
        (
            200,
            r#"{"datasetRecords":{"a":{"newValue":5}}}"#,
            Code::InvalidLambdaFunctionOutput,
        ),
        (
            200,
            r#"{"datasetRecords":{"a":{"op":"add"}}}"#,
            Code::InvalidLambdaFunctionOutput,
        ),
        (
            200,
            r#"{"datasetRecords":{},"datasetName":"other"}"#,
            Code::InvalidLambdaFunctionOutput,
        ),
        (500, "{}", Code::InvalidLambdaFunctionOutput),
        (429, "{}", Code::LambdaThrottled),
    ] {
        let world = World::new();
        install(&world, move |_| response(status, body.as_bytes()));
        let refused = push(&world, &[replace("a", "1", 0)]).unwrap_err();
        assert_eq!(refused.code, code, "{status} {body}");
        assert!(values(&world).is_empty());
    }
    let world = World::new();
    install(&world, |_| response(200, br#"{"datasetRecords":{}}"#));
    let updated = push(&world, &[replace("a", "1", 0)]).unwrap();
    assert!(updated.records.is_empty() && values(&world).is_empty());
}

#[test]
fn a_conflict_is_told_without_asking() {
    let world = World::new();
    world.update(&[replace("a", "1", 0)]).unwrap();
    let heard = install(&world, |event| ok(&event));
    assert!(
        push(&world, &[replace("a", "2", 0)])
            .unwrap_err()
            .is_conflict()
    );
    assert!(heard.try_recv().is_err());
}

#[test]
fn a_function_sees_what_was_written_while_it_thought() {
    let world = Arc::new(World::new());
    let meddler = Arc::new(Mutex::new(None::<Arc<World>>));
    let held = meddler.clone();
    let heard = install(&world, move |event| {
        if let Some(world) = held.lock().unwrap().take() {
            world.update(&[replace("b", "theirs", 0)]).unwrap();
        }
        ok(&event)
    });
    *meddler.lock().unwrap() = Some(world.clone());
    push(&world, &[replace("a", "1", 0)]).unwrap();
    assert_eq!(heard.recv().unwrap()["datasetRecords"].get("b"), None);
    let again = heard.recv().unwrap();
    assert_eq!(again["datasetRecords"]["b"]["oldValue"], "theirs");
    assert_eq!(values(&world).len(), 2);
}

#[test]
fn unpaired_surrogates_pass_through() {
    let world = World::new();
    let url = function(|body| Some(response(200, body)));
    let body = json!({"Events": {"SyncTrigger": url.as_str()}});
    world.pool_call("POST", "events", &body).unwrap();
    let patch = r#"{"Op":"replace","Key":"k\ud800","Value":"v\udfff","SyncCount":0}"#;
    let patch: RecordPatch = serde_json::from_str(patch).unwrap();
    let updated = push(&world, std::slice::from_ref(&patch)).unwrap();
    assert_eq!(updated.records[0].key, patch.key);
    assert_eq!(updated.records[0].value, patch.value);
}
