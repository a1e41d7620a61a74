//! A sample to try things on: the pools of a notes app, a game and a shop, with their users.
//!
//! Invariant: ids and contents are always the same, so that documentation can quote paths; only
//! the dates move with the day the sample is made. It is made as a whole or not at all.

use std::collections::HashMap;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::wire::fault::{Code, Fault};
use crate::wire::names::{DatasetName, DeviceId, IdentityId, NameError, PoolId, RecordKey};
use crate::wire::operation::Call;
use crate::wire::records::{
    ListRecords, PatchOp, RecordPatch, Records, UpdateRecords, UpdateRecordsBody, UpdatedRecords,
};
use crate::wire::text::Text;
use crate::wire::timestamp::Timestamp;

use super::random::uuid_of;
use super::service::{Caller, Service};

const REGION: &str = "us-east-1";
const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

/// The player whose game cut emoji in two: a key and a value are not Unicode.
const CUT_SHORT: usize = 1;

/// A key and its value, or none where the record was removed.
type Written = (Text, Option<Text>);

/// What a user's device wrote, by datasets.
type Writes = Vec<(&'static str, Vec<Written>)>;

/// Fills an empty store; does nothing if it has a pool already.
///
/// # Errors
/// A fault of the service, which then has none of the sample.
pub fn fill(service: &Service, now: Timestamp) -> Result<(), Fault> {
    if service.storage().read(|tx| tx.has_pools())? {
        return Ok(());
    }
    service.storage().together(|| {
        fill_pool(service, "notes", 14, now, notes)?;
        fill_pool(service, "game", 16, now, game)?;
        fill_pool(service, "shop", 10, now, shop)
    })
}

/// Returns the id of one of the sample's pools: `notes`, `game` or `shop`.
pub fn pool(name: &str) -> Result<PoolId, NameError> {
    sample_id(name).parse()
}

/// Returns the id of a pool's user; they are counted from 0.
pub fn identity(pool: &str, user: usize) -> Result<IdentityId, NameError> {
    sample_id(&format!("{pool}/{user}")).parse()
}

/// Returns where a record lies that is not text and cannot be opened in a mount.
pub fn not_text() -> Result<(PoolId, IdentityId, &'static str), NameError> {
    Ok((
        pool("game")?,
        identity("game", CUT_SHORT)?,
        "chat/last-message",
    ))
}

fn sample_id(name: &str) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(name)[..16]);
    format!("{REGION}:{}", uuid_of(bytes))
}

fn fill_pool(
    service: &Service,
    name: &str,
    users: usize,
    now: Timestamp,
    writes: fn(usize) -> [Writes; 2],
) -> Result<(), Fault> {
    let pool = pool(name).map_err(wrong)?;
    service.add_identity_pool(&pool, name, ago(now, 500 * DAY))?;
    for user in 0..users {
        let identity = identity(name, user).map_err(wrong)?;
        // Users came one after the other; each one's last visit is some days ago.
        let joined = ago(now, (480 - 29 * user as i64) * DAY);
        let last_visit = ago(now, (user as i64 * user as i64 % 37 + 1) * DAY);
        service.add_identity(&pool, &identity, joined)?;
        let mut writer = Writer {
            service,
            caller: Caller::User {
                pool: pool.clone(),
                identity: identity.clone(),
                region: pool.region(),
            },
            pool: &pool,
            identity: &identity,
            device: user
                .is_multiple_of(3)
                .then(|| format!("{name}-phone-{user}").parse().map_err(wrong))
                .transpose()?,
            time: joined,
        };
        for (visit, visited) in writes(user).into_iter().zip([joined, last_visit]) {
            writer.time = visited;
            for (dataset, records) in visit {
                writer.write(dataset, records)?;
            }
        }
    }
    Ok(())
}

fn ago(now: Timestamp, millis: i64) -> Timestamp {
    Timestamp::from_millis(now.as_millis().saturating_sub(millis))
}

/// The sample's own text broke a limit of the service, which its test would have shown.
fn wrong(error: NameError) -> Fault {
    Fault::new(Code::InternalError, error.to_string())
}

/// A user's device. Its clock moves on with every write.
struct Writer<'a> {
    service: &'a Service,
    caller: Caller,
    pool: &'a PoolId,
    identity: &'a IdentityId,
    device: Option<DeviceId>,
    time: Timestamp,
}

impl Writer<'_> {
    fn write(&mut self, dataset: &str, records: Vec<Written>) -> Result<(), Fault> {
        let dataset: DatasetName = dataset.parse().map_err(wrong)?;
        let edited = records.into_iter().map(|record| {
            self.time = ago(self.time, -7 * MINUTE);
            (record, self.time)
        });
        let edited: Vec<_> = edited.collect();
        self.time = ago(self.time, -MINUTE / 6);
        let listed: Records = self.send(&Call::ListRecords(ListRecords {
            pool: self.pool.clone(),
            identity: self.identity.clone(),
            dataset: dataset.clone(),
            last_sync_count: None,
            next_token: None,
            max_results: None,
            sync_session_token: None,
        }))?;
        let counts: HashMap<_, _> = listed
            .records
            .into_iter()
            .map(|record| (record.key, record.sync_count))
            .collect();
        let mut record_patches = Vec::new();
        for ((key, value), date) in edited {
            let key = RecordKey::new(key).map_err(wrong)?;
            record_patches.push(RecordPatch {
                op: match value {
                    Some(_) => PatchOp::Replace,
                    None => PatchOp::Remove,
                },
                value,
                sync_count: counts.get(&key).copied().unwrap_or(0),
                device_last_modified_date: Some(date),
                key,
            });
        }
        self.send::<UpdatedRecords>(&Call::UpdateRecords(UpdateRecords {
            pool: self.pool.clone(),
            identity: self.identity.clone(),
            dataset,
            client_context: None,
            body: UpdateRecordsBody {
                device_id: self.device.clone(),
                record_patches,
                sync_session_token: listed.sync_session_token,
            },
        }))?;
        Ok(())
    }

    fn send<T: serde::de::DeserializeOwned>(&self, call: &Call) -> Result<T, Fault> {
        let answer = self.service.call(call, &self.caller, self.time)?;
        serde_json::from_slice(&answer)
            .map_err(|error| Fault::new(Code::InternalError, error.to_string()))
    }
}

const NAMES: [&str; 8] = [
    "Ada Okafor",
    "Björn Lindqvist",
    "Chloé Dubois",
    "李明",
    "Mateo García",
    "佐藤花子",
    "Noor Haddad",
    "Zoë van Dijk",
];
const LANGUAGES: [&str; 8] = ["en", "sv", "fr", "zh", "es", "ja", "ar", "nl"];
const THEMES: [&str; 3] = ["dark", "light", "solarized"];

fn of<'a>(choices: &[&'a str], user: usize) -> &'a str {
    choices[user % choices.len()]
}

fn set(key: &str, value: impl ToString) -> Written {
    (key.into(), Some(value.to_string().into()))
}

fn removed(key: &str) -> Written {
    (key.into(), None)
}

/// Puts half of an emoji behind a text, as JavaScript's `substring` leaves it.
fn cut_short(text: &str) -> Text {
    Text::from_bytes([text.as_bytes(), b"\xed\xa0\xbd"].concat())
}

fn profile(user: usize) -> Vec<Written> {
    let name = of(&NAMES, user);
    vec![
        set("name", name),
        set("language", of(&LANGUAGES, user)),
        set(
            "avatar",
            json!({"shape": "circle", "hue": user * 47 % 360, "initial": name.chars().next()}),
        ),
    ]
}

/// Lines as an editor shows them, with a newline at the end.
fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

fn notes(user: usize) -> [Writes; 2] {
    let theme = of(&THEMES, user);
    let settings = json!({
        "theme": theme,
        "fontSize": 12 + user % 5,
        "spellcheck": user.is_multiple_of(2),
        "sidebar": {"open": true, "width": 240},
    });
    let mut first = vec![
        (
            "settings",
            vec![
                set("theme", theme),
                set("font-size", 12 + user % 5),
                set("layout.json", pretty(&settings)),
            ],
        ),
        ("profile", profile(user)),
        (
            "notes",
            vec![
                set(
                    "todo",
                    "- buy stamps\n- call the plumber\n- water the plants\n",
                ),
                set(
                    "recipes/pancakes",
                    "250 g flour\n2 eggs\n½ l milk\na pinch of salt\n",
                ),
                set("draft", ""),
                set(
                    "travel",
                    "Kyōto 京都: 清水寺, 伏見稲荷 🦊\nÎle de Ré: à vélo 🚲\n",
                ),
            ],
        ),
    ];
    if user > 0 {
        // Some users keep less than others; the first one has everything.
        first.truncate(1 + (user + 1) % 3);
    }
    let mut second = vec![("settings", vec![set("theme", of(&THEMES, user + 1))])];
    if first.len() == 3 {
        second.push((
            "notes",
            vec![
                set("todo", "- call the plumber\n- renew the passport\n"),
                set(
                    "meeting 2026-10",
                    "Attending: Ada, Björn, Chloé\n\n1. Budget\n2. Q4 dates\n",
                ),
                removed("draft"),
            ],
        ));
        second.push((
            "notes",
            vec![set("ideas", "café ☕ → a map of quiet places\n")],
        ));
    }
    [first, second]
}

fn game(user: usize) -> [Writes; 2] {
    let inventory = json!([
        {"item": "lantern", "count": 1},
        {"item": "rope", "count": 2 + user % 3, "length": 7.5},
        {"item": "healing potion 🧪", "count": user % 4},
    ]);
    let first = vec![
        (
            "progress",
            vec![
                set("level", 1 + user % 4),
                set("coins", 100 + user * 37 % 900),
                set("inventory", pretty(&inventory)),
                set("checkpoint", json!({"map": "harbour", "x": 12.5, "y": -3})),
                set("tutorial", "done"),
            ],
        ),
        (
            "settings",
            vec![
                set("volume", format!("0.{}", user % 10)),
                set("controls", json!({"jump": "space", "use": "e", "map": "m"})),
                set("nickname", format!("{} ⚔️", of(&NAMES, user))),
            ],
        ),
    ];
    let mut second = vec![(
        "progress",
        vec![
            set("level", 5 + user % 30),
            set("coins", 1000 + user * 611 % 5000),
            set(
                "checkpoint",
                json!({"map": "glass desert", "x": 88, "y": 41.25}),
            ),
            removed("tutorial"),
        ],
    )];
    if user == CUT_SHORT {
        second.push((
            "chat",
            vec![
                set("draft", "gg, same time tomorrow?"),
                (
                    "last-message".into(),
                    Some(cut_short("see you at the harbour ")),
                ),
                (cut_short("nickname of Mateo "), Some("el capitán".into())),
            ],
        ));
    }
    if user.is_multiple_of(2) {
        second.push((
            "achievements",
            vec![
                set("first-blood", json!({"at": "level 1", "points": 5})),
                set("cartographer", json!({"at": "level 4", "points": 25})),
            ],
        ));
    }
    [first, second]
}

fn shop(user: usize) -> [Writes; 2] {
    let cart = json!({
        "currency": "EUR",
        "lines": [
            {"sku": "MUG-014", "name": "Mug “Fjäll”", "quantity": 1 + user % 3, "price": 14.5},
            {"sku": "TEE-203", "name": "抹茶 100 g", "quantity": 1, "price": 21},
        ],
    });
    let address = json!({
        "name": of(&NAMES, user),
        "street": format!("Rue de l'Église {}", 3 + user * 4),
        "city": "Genève",
        "country": "CH",
    });
    let first = vec![
        ("profile", profile(user)),
        (
            "cart",
            vec![
                set("cart.json", pretty(&cart)),
                set("coupon", format!("WELCOME{}", 10 + user)),
            ],
        ),
        (
            "preferences",
            vec![
                set("newsletter", user.is_multiple_of(2)),
                set("address/home", pretty(&address)),
                set("gift-note", ""),
            ],
        ),
    ];
    let second = vec![(
        "cart",
        vec![
            removed("coupon"),
            set("last-viewed", "MUG-014 TEE-203 BAG-007"),
        ],
    )];
    [first, second]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::storage::Storage;
    use crate::wire::datasets::{Datasets, ListDatasets};

    #[test]
    fn the_sample_is_always_the_same() {
        let id = |name: &str| pool(name).unwrap().to_string();
        assert_eq!(
            id("notes"),
            "us-east-1:ab5aa970-74c4-44a0-a320-57e704220d9a"
        );
        assert_eq!(id("game"), "us-east-1:6ca5cab7-7e70-4c78-bb4c-14b3d3bf26ba");
        assert_eq!(id("shop"), "us-east-1:8d9001d3-2c6a-403d-9592-1a77115050f3");
        let id = |name: &str| identity(name, 0).unwrap().to_string();
        assert_eq!(
            id("notes"),
            "us-east-1:1d1d1a73-61b6-4cd6-9589-a8f30ee72f44"
        );
    }

    #[test]
    fn a_store_is_filled_once() {
        let now = Timestamp::from_millis(1_795_000_000_000);
        let service = Service::new(Storage::in_memory().unwrap());
        fill(&service, now).unwrap();
        fill(&service, now).unwrap();
        let (pool, identity) = (pool("notes").unwrap(), identity("notes", 0).unwrap());
        let developer = service.developer(pool.region());
        let ask = |call| service.call(&call, &developer, now).unwrap();
        let datasets = ask(Call::ListDatasets(ListDatasets {
            pool: pool.clone(),
            identity: identity.clone(),
            next_token: None,
            max_results: None,
        }));
        let datasets: Datasets = serde_json::from_slice(&datasets).unwrap();
        assert_eq!(datasets.count, 3);
        let records = ask(Call::ListRecords(ListRecords {
            pool,
            identity,
            dataset: "notes".parse().unwrap(),
            last_sync_count: None,
            next_token: None,
            max_results: None,
            sync_session_token: None,
        }));
        let records: Records = serde_json::from_slice(&records).unwrap();
        assert_eq!(records.dataset_sync_count, 3);
        let tombstones = records
            .records
            .iter()
            .filter(|record| record.value.is_none());
        assert_eq!(tombstones.count(), 1);
        assert!(records.records.iter().any(|record| {
            record
                .value
                .as_ref()
                .is_some_and(|value| value.as_str() == Some(""))
                || record.key.as_str() == Some("recipes/pancakes")
        }));
        for record in &records.records {
            assert!(record.device_last_modified_date < Some(now));
            assert!(record.last_modified_date < Some(now));
        }
    }
}
