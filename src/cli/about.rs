//! `mount.json`: what is mounted, from where, as whom and how.
//!
//! Invariant: no secret is in it; files that hold one are named.

use std::path::Path;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::connection::{Acting, Connection};
use super::options::{MountOptions, OPTIONS};
use super::source::Source;
use crate::wire::operation::Service;
use crate::wire::timestamp::Timestamp;

/// Returns the text of `mount.json`.
pub(super) fn about(
    source: &Source,
    options: &MountOptions,
    connection: &Connection,
    state: Option<&Path>,
) -> String {
    let endpoints = &connection.endpoints;
    let about = json!({
        "source": source.to_string(),
        "root": connection.scope.to_string(),
        "region": connection.client.region().as_str(),
        "endpoints": {
            "cognito_sync": endpoints.url(Service::CognitoSync),
            "cognito_identity": endpoints.url(Service::CognitoIdentity),
        },
        "acting": acting(&connection.acting, options),
        "options": in_force(options),
        "version": env!("CARGO_PKG_VERSION"),
        "process_id": std::process::id(),
        "mounted_at": Timestamp::from(SystemTime::now()).iso8601(),
        "state_directory": state.map(|state| state.display().to_string()),
    });
    format!("{about:#}\n")
}

fn acting(acting: &Acting, options: &MountOptions) -> Value {
    match acting {
        Acting::Developer => json!({"as": "developer"}),
        Acting::Chain { profile: None } => json!({"as": "default_chain"}),
        Acting::Chain {
            profile: Some(profile),
        } => json!({"as": "profile", "profile": profile}),
        Acting::Guest(identity) => json!({"as": "guest", "identity": identity.as_str()}),
        Acting::User(identity) => {
            let providers: Vec<_> = options.logins.0.keys().collect();
            json!({"as": "user", "identity": identity.as_str(), "providers": providers})
        }
    }
}

/// Every option as it would follow `-o`; null for one that is not in force.
fn in_force(options: &MountOptions) -> Map<String, Value> {
    let shown = |option: &super::options::MountOption| {
        (option.name.to_owned(), option.shown(options).into())
    };
    OPTIONS.iter().map(shown).collect()
}
