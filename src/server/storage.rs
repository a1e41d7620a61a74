//! The store: one SQLite file, opened by one process.
//!
//! Invariant: what a write has returned from survives `kill -9` and a power cut, and the file is
//! readable by its owner only. Keys, values and listings are read page by page.

mod datasets;
mod devices;
mod identities;
mod outbox;
mod readers;
mod records;
mod schema;
mod settings;
mod writer;

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::wire::fault::{Code, Fault};

pub(super) use datasets::StoredDataset;
pub(super) use identities::StoredCredentials;
pub(super) use outbox::StoredPublish;
use readers::Readers;
pub(super) use records::RecordHead;
use writer::Writer;

/// Bytes of SQLite's smallest page. It would take a shorter file for an empty one, and overwrite it.
const SMALLEST_DATABASE: u64 = 512;

/// Why the store cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("{} is in use by another cognitofs process", .0.display())]
    InUse(PathBuf),
    #[error("{} is not a cognitofs store", .0.display())]
    NotAStore(PathBuf),
    #[error("{} was made by a newer cognitofs (its format is {version})", .path.display())]
    TooNew { path: PathBuf, version: i64 },
    #[error("{}", .path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the store is damaged: {0}")]
    Damaged(String),
    #[error("the store failed")]
    Database(#[from] rusqlite::Error),
    #[error("the store could not be written: {0}")]
    NotCommitted(String),
    #[error("no random numbers")]
    Random(#[from] getrandom::Error),
}

/// What a client is told is only that it was not its fault; the log has the cause.
impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        let error = &error as &dyn std::error::Error;
        tracing::error!(error, "the store failed");
        Self::new(Code::InternalError, "the local service's store failed")
    }
}

/// The developer's credentials, made with the store.
#[derive(Clone)]
pub struct DeveloperCredentials {
    /// 12 digits.
    pub account_id: String,
    pub access_key_id: String,
    pub secret_key: String,
}

impl std::fmt::Debug for DeveloperCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeveloperCredentials")
            .field("account_id", &self.account_id)
            .finish_non_exhaustive()
    }
}

/// The open store.
pub struct Storage {
    writer: Writer,
    /// None in memory, where the writer reads too.
    file: Option<StoreFile>,
    developer: DeveloperCredentials,
    token_secret: Vec<u8>,
}

struct StoreFile {
    path: PathBuf,
    readers: Readers,
    _claim: Claim,
}

/// A transaction, or a read of one moment. Its methods are in the submodules.
pub(super) struct Tx<'a>(&'a Connection);

impl Storage {
    /// Opens the store in a file; creates it, with its directories, if it is not there.
    ///
    /// # Errors
    /// [`StorageError::InUse`] while another `Storage` has the file open.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let file_error = |source| StorageError::File {
            path: path.to_owned(),
            source,
        };
        let directory = path.parent().filter(|parent| *parent != Path::new(""));
        let directory = directory.unwrap_or(Path::new("."));
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(directory).map_err(file_error)?;
        create(path).map_err(file_error)?;
        let length = path.metadata().map_err(file_error)?.len();
        if (1..SMALLEST_DATABASE).contains(&length) {
            return Err(StorageError::NotAStore(path.to_owned()));
        }

        let claim = Claim::new(path)?;
        let storage = connect(path).and_then(|connection| Self::prepare(connection, path));
        let mut storage = storage.map_err(|error| explain(error, path))?;
        // Not before it is known to be a store, and SQLite gives its WAL the same mode.
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(file_error)?;
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(file_error)?;
        storage.file = Some(StoreFile {
            path: path.to_owned(),
            readers: Readers::open(path)?,
            _claim: claim,
        });
        Ok(storage)
    }

    /// Makes a store that is gone when it is dropped.
    pub fn in_memory() -> Result<Self, StorageError> {
        Self::prepare(Connection::open_in_memory()?, Path::new(":memory:"))
    }

    fn prepare(mut connection: Connection, path: &Path) -> Result<Self, StorageError> {
        schema::check(&connection, path)?;
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")?;
        let (developer, token_secret) = schema::create_or_read(&mut connection)?;
        Ok(Self {
            writer: Writer::new(connection),
            file: None,
            developer,
            token_secret,
        })
    }

    /// Returns the credentials that may call everything.
    pub fn developer(&self) -> &DeveloperCredentials {
        &self.developer
    }

    /// Returns the store's file, unless it is in memory.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    pub(super) fn token_secret(&self) -> &[u8] {
        &self.token_secret
    }

    /// Reads what was committed.
    pub(super) fn read<T, E: From<StorageError>>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        match &self.file {
            Some(file) if !self.writer.is_held() => file.readers.read(work),
            _ => self.writer.read(work),
        }
    }

    /// Writes: all of it is on disk when this returns, or nothing of it.
    pub(super) fn write<T, E: From<StorageError>>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.writer.write(work)
    }

    /// Makes one transaction of all that `setup` writes, through any method of the service.
    /// Nobody else may write meanwhile: it is for filling a store before it is served.
    pub(super) fn together<T, E: From<StorageError>>(
        &self,
        setup: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.writer.together(setup)
    }
}

/// The files that this process has open, by device and inode.
static CLAIMED: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

/// A file that nobody else in this process may open. SQLite keeps out other processes only.
struct Claim((u64, u64));

impl Claim {
    fn new(path: &Path) -> Result<Self, StorageError> {
        let file = path.metadata().map_err(|source| StorageError::File {
            path: path.to_owned(),
            source,
        })?;
        let id = (file.dev(), file.ino());
        let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
        match claimed.insert(id) {
            true => Ok(Self(id)),
            false => Err(StorageError::InUse(path.to_owned())),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.remove(&self.0);
    }
}

/// Opens a connection that shares the file with others of this process, and with no other process.
fn connect(path: &Path) -> Result<Connection, StorageError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(path, flags, c"unix-excl")?;
    connection.busy_timeout(Duration::ZERO)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Makes an empty file if there is none. One that is there is not opened: closing it again would
/// drop the locks that SQLite holds on it in this process (POSIX locks are the process's).
fn create(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Gives SQLite's two answers to a wrong file their names.
fn explain(error: StorageError, path: &Path) -> StorageError {
    match error {
        StorageError::Database(rusqlite::Error::SqliteFailure(cause, _)) => match cause.code {
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
                StorageError::InUse(path.to_owned())
            }
            ErrorCode::NotADatabase => StorageError::NotAStore(path.to_owned()),
            _ => error,
        },
        _ => error,
    }
}

/// Reads an id or a name that was checked before it was stored.
fn stored<T: std::str::FromStr>(text: String) -> Result<T, StorageError> {
    text.parse()
        .map_err(|_| StorageError::Damaged(format!("{text:?} is no id or name")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_store_is_private_and_has_one_user() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/store");
        let storage = Storage::open(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&directory.path().join("a/b/store-wal")), 0o600);
        assert_eq!(mode(&directory.path().join("a/b")), 0o700);
        assert!(matches!(
            Storage::open(&path),
            Err(StorageError::InUse(found)) if found == path
        ));
        let secret = storage.developer().secret_key.clone();
        drop(storage);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let storage = Storage::open(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(storage.developer().secret_key, secret);
    }

    #[test]
    fn a_file_of_somebody_else_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let text = directory.path().join("text");
        for length in [1, 5, 99, 100, 511, 512, 5000] {
            std::fs::write(&text, "x".repeat(length)).unwrap();
            let opened = Storage::open(&text).map(drop);
            assert!(
                matches!(opened, Err(StorageError::NotAStore(_))),
                "{length}: {opened:?}"
            );
            let after = std::fs::read_to_string(&text).unwrap();
            assert_eq!(after, "x".repeat(length));
            assert_eq!(mode(&text), 0o644);
        }

        let other = directory.path().join("other");
        let connection = Connection::open(&other).unwrap();
        connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
        drop(connection);
        let before = std::fs::read(&other).unwrap();
        assert!(matches!(
            Storage::open(&other),
            Err(StorageError::NotAStore(_))
        ));
        assert_eq!(std::fs::read(&other).unwrap(), before);
    }

    #[test]
    fn a_newer_format_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        drop(Storage::open(&path).unwrap());
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch("PRAGMA user_version = 99")
            .unwrap();
        drop(connection);
        assert!(matches!(
            Storage::open(&path),
            Err(StorageError::TooNew { version: 99, .. })
        ));
    }

    #[test]
    fn a_failed_transaction_leaves_nothing() {
        let storage = Storage::in_memory().unwrap();
        let pools = || storage.read(|tx| tx.has_pools()).unwrap();
        let pool = "us-east-1:ab".parse().unwrap();
        let now = crate::wire::timestamp::Timestamp::from_millis(0);
        let failed = storage.write(|tx| {
            tx.insert_pool(&pool, "x", now)?;
            Err::<(), _>(StorageError::Damaged(String::new()))
        });
        assert!(failed.is_err() && !pools());
        let failed = storage.together(|| {
            storage.write(|tx| tx.insert_pool(&pool, "x", now))?;
            Err::<(), _>(StorageError::Damaged(String::new()))
        });
        assert!(failed.is_err() && !pools());
        storage
            .together(|| storage.write(|tx| tx.insert_pool(&pool, "x", now)))
            .unwrap();
        assert!(pools());
    }
}
