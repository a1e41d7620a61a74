-- The tables of the version before, as it made them.
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE parked (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    pool TEXT NOT NULL,
    identity TEXT NOT NULL,
    dataset TEXT NOT NULL,
    key BLOB NOT NULL,
    side TEXT NOT NULL,
    sync_count INTEGER NOT NULL,
    number INTEGER NOT NULL,
    text BLOB NOT NULL,
    modified INTEGER NOT NULL,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL,
    expires INTEGER
) STRICT;
CREATE INDEX parked_by_dataset ON parked (pool, identity, dataset, key);

CREATE TABLE changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    place INTEGER NOT NULL,
    tie INTEGER,
    pool TEXT NOT NULL,
    identity TEXT NOT NULL,
    dataset TEXT NOT NULL,
    key BLOB NOT NULL,
    kind TEXT NOT NULL,
    appended_from INTEGER,
    text BLOB NOT NULL,
    base INTEGER,
    existed INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    sent BLOB NOT NULL,
    sync_count INTEGER,
    UNIQUE (pool, identity, dataset, key)
) STRICT;
PRAGMA application_id = 1668245354;
PRAGMA user_version = 2;
COMMIT;
