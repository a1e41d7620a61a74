//! The store's tables, and what is made with them: the developer's credentials and the secret
//! that session tokens are signed with.
//!
//! Invariant: `user_version` names the format; a file that is not ours is never written.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::super::random;
use super::{DeveloperCredentials, StorageError};

/// `cogf`, in the file's header.
const APPLICATION_ID: i64 = 0x636f_6766;

/// The format of this program: the first one and its upgrades.
const VERSION: i64 = 1 + UPGRADES.len() as i64;

/// Format 1. Keys and values are BLOBs: WTF-8 is not always UTF-8. Dates are epoch milliseconds.
const TABLES: &str = "
CREATE TABLE account (
    account_id TEXT NOT NULL,
    access_key_id TEXT NOT NULL,
    secret_key TEXT NOT NULL,
    token_secret BLOB NOT NULL
) STRICT;

CREATE TABLE pools (
    id TEXT PRIMARY KEY,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX pools_by_region ON pools (region, id);

CREATE TABLE identities (
    pool TEXT NOT NULL REFERENCES pools (id),
    id TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    PRIMARY KEY (pool, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE logins (
    pool TEXT NOT NULL,
    provider TEXT NOT NULL,
    token_hash BLOB NOT NULL,
    identity TEXT NOT NULL REFERENCES identities (id),
    PRIMARY KEY (pool, provider, token_hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX logins_by_identity ON logins (identity, provider);

CREATE TABLE credentials (
    access_key_id TEXT PRIMARY KEY,
    secret_key TEXT NOT NULL,
    session_token TEXT NOT NULL,
    pool TEXT NOT NULL,
    identity TEXT NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX credentials_by_expiry ON credentials (expires);

-- A deleted dataset keeps its row, and in it its counter.
CREATE TABLE datasets (
    id INTEGER PRIMARY KEY,
    pool TEXT NOT NULL,
    identity TEXT NOT NULL,
    name TEXT NOT NULL,
    is_deleted INTEGER NOT NULL,
    sync_count INTEGER NOT NULL,
    deleted_at_count INTEGER NOT NULL,
    created INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    modified_by TEXT NOT NULL,
    num_records INTEGER NOT NULL,
    data_storage INTEGER NOT NULL,
    UNIQUE (pool, identity, name)
) STRICT;

-- A tombstone has no value.
CREATE TABLE records (
    dataset INTEGER NOT NULL REFERENCES datasets (id),
    key BLOB NOT NULL,
    sync_count INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    modified_by TEXT NOT NULL,
    device_modified INTEGER,
    value BLOB,
    UNIQUE (dataset, key)
) STRICT;

CREATE TABLE used_session_tokens (
    nonce BLOB PRIMARY KEY,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX used_session_tokens_by_expiry ON used_session_tokens (expires);
";

/// What makes each format from the one before. They are never changed: stores have gone through them.
const UPGRADES: [&str; 2] = [
    "
-- What is set on a pool as a whole.
CREATE TABLE pool_documents (
    pool TEXT NOT NULL REFERENCES pools (id),
    kind TEXT NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (pool, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE devices (
    id TEXT PRIMARY KEY,
    identity TEXT NOT NULL REFERENCES identities (id),
    platform TEXT NOT NULL,
    token_hash BLOB NOT NULL,
    UNIQUE (identity, platform, token_hash)
) STRICT, WITHOUT ROWID;

-- They outlive their dataset, which may be written again.
CREATE TABLE subscriptions (
    identity TEXT NOT NULL,
    dataset TEXT NOT NULL,
    device TEXT NOT NULL REFERENCES devices (id),
    PRIMARY KEY (identity, dataset, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX subscriptions_by_device ON subscriptions (device);
CREATE INDEX credentials_by_identity ON credentials (identity);
",
    "
-- What goes out, written with its change.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    json TEXT NOT NULL
) STRICT;

-- Those under way, and the last dataset that each has sent.
CREATE TABLE bulk_publishes (
    pool TEXT PRIMARY KEY REFERENCES pools (id),
    stream TEXT NOT NULL,
    after INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

UPDATE pool_documents
SET json = json_set(json, '$.BulkPublishStatus', 'FAILED',
    '$.FailureMessage', 'the service ended before it was done')
WHERE kind = 'bulk publish' AND json ->> '$.BulkPublishStatus' = 'IN_PROGRESS';
",
];

fn pragma(connection: &Connection, name: &str) -> Result<i64, StorageError> {
    Ok(connection.pragma_query_value(None, name, |row| row.get(0))?)
}

/// Checks, without writing, that the file is new or a store of this format or an older one.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), StorageError> {
    let objects: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let application_id = pragma(connection, "application_id")?;
    if objects == 0 && application_id == 0 {
        return Ok(());
    }
    let version = pragma(connection, "user_version")?;
    if application_id != APPLICATION_ID {
        return Err(StorageError::NotAStore(path.to_owned()));
    }
    if !(1..=VERSION).contains(&version) {
        let path = path.to_owned();
        return Err(StorageError::TooNew { path, version });
    }
    Ok(())
}

/// Makes the tables if the file is new, upgrades them if it is old, and reads what was made with
/// them.
pub(super) fn create_or_read(
    connection: &mut Connection,
) -> Result<(DeveloperCredentials, Vec<u8>), StorageError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut version = pragma(&transaction, "user_version")?;
    if version == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.execute(
            "INSERT INTO account VALUES (?1, ?2, ?3, ?4)",
            params![
                random::account_id()?,
                random::access_key_id("AKIA")?,
                random::secret_key()?,
                random::bytes::<32>()?,
            ],
        )?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        version = 1;
    }
    let done = usize::try_from(version - 1).unwrap_or_default();
    for upgrade in UPGRADES.iter().skip(done) {
        transaction.execute_batch(upgrade)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    let account = transaction
        .query_row(
            "SELECT account_id, access_key_id, secret_key, token_secret FROM account",
            [],
            |row| {
                let developer = DeveloperCredentials {
                    account_id: row.get(0)?,
                    access_key_id: row.get(1)?,
                    secret_key: row.get(2)?,
                };
                Ok((developer, row.get(3)?))
            },
        )
        .optional()?;
    transaction.commit()?;
    account.ok_or_else(|| StorageError::Damaged("it has no account".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::Storage;
    use super::*;
    use crate::wire::bulk_publish::{BulkPublishDetails, BulkPublishStatus};
    use crate::wire::names::{IdentityId, PoolId};

    /// A store as the first format's program left it.
    fn first_format(path: &Path) {
        let connection = Connection::open(path).unwrap();
        connection.execute_batch(TABLES).unwrap();
        connection
            .execute_batch(
                "INSERT INTO account VALUES ('123456789012', 'AKIAX', 'secret', x'00');
                 INSERT INTO pools VALUES ('us-east-1:ab', 'us-east-1', 'p', 5);
                 INSERT INTO identities VALUES ('us-east-1:ab', 'us-east-1:cd', 5, 5);
                 INSERT INTO datasets VALUES
                     (7, 'us-east-1:ab', 'us-east-1:cd', 'settings', 0, 9, 0, 5, 6, 'x', 1, 2);
                 INSERT INTO records VALUES (7, x'6b', 9, 6, 'x', NULL, x'76');",
            )
            .unwrap();
        connection
            .pragma_update(None, "application_id", APPLICATION_ID)
            .unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
    }

    #[test]
    fn an_old_store_is_upgraded_with_its_data() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        first_format(&path);
        let pool: PoolId = "us-east-1:ab".parse().unwrap();
        let identity: IdentityId = "us-east-1:cd".parse().unwrap();
        for _ in 0..2 {
            let storage = Storage::open(&path).unwrap();
            assert_eq!(storage.developer().access_key_id, "AKIAX");
            storage
                .write(|tx| {
                    let name = "settings".parse().unwrap();
                    let dataset = tx.dataset(&pool, &identity, &name)?.unwrap();
                    assert_eq!((dataset.id, dataset.sync_count), (7, 9));
                    let records = tx.records(7, 0, b"", 10)?;
                    assert_eq!(records[0].value.as_ref().unwrap().as_str(), Some("v"));
                    tx.put_document(&pool, &crate::wire::events::CognitoEvents::default())
                })
                .unwrap();
        }
        let connection = Connection::open(&path).unwrap();
        assert_eq!(pragma(&connection, "user_version").unwrap(), VERSION);
    }

    #[test]
    fn a_bulk_publish_of_the_second_format_was_cut_short() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        first_format(&path);
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(UPGRADES[0]).unwrap();
        connection.pragma_update(None, "user_version", 2).unwrap();
        connection
            .execute_batch(
                r#"INSERT INTO pool_documents VALUES
                    ('us-east-1:ab', 'bulk publish', '{"BulkPublishStatus":"IN_PROGRESS"}')"#,
            )
            .unwrap();
        drop(connection);
        let storage = Storage::open(&path).unwrap();
        let pool: PoolId = "us-east-1:ab".parse().unwrap();
        let details: Option<BulkPublishDetails> = storage.read(|tx| tx.document(&pool)).unwrap();
        let details = details.unwrap();
        assert_eq!(details.bulk_publish_status, Some(BulkPublishStatus::Failed));
        assert!(details.failure_message.is_some());
    }
}
