//! What goes out of the service by itself: records of a stream and push notifications. Here they
//! go into a file, one JSON object a line, where a developer or a test can see them.
//!
//! Invariant: a line is in the store's outbox, written with its change, until it is durable in the
//! file. After a crash it may be there twice, with the same id. A file that cannot be written fails
//! no call. It is readable by its owner only.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::wire::devices::Platform;
use crate::wire::names::{DatasetName, DeviceId, IdentityId, PoolId, RecordKey};
use crate::wire::records::{PatchOp, Record};
use crate::wire::text::Text;
use crate::wire::timestamp::Timestamp;

use super::storage::{Storage, StorageError, Tx};

/// Lines written at a time.
const PAGE: i64 = 64;

/// One line of the file, which begins with its id.
#[derive(Debug, Serialize)]
#[serde(
    tag = "type",
    rename_all = "lowercase",
    rename_all_fields = "camelCase"
)]
pub(super) enum Delivery {
    /// To a Kinesis stream.
    Stream {
        stream_name: String,
        record: StreamRecord,
    },
    /// To a device, through SNS.
    Push {
        device_id: DeviceId,
        platform: Platform,
        message: PushMessage,
    },
}

/// One synchronization of a dataset. Dates are epoch milliseconds.
///
/// <https://docs.aws.amazon.com/cognito/latest/developerguide/cognito-streams.html>
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StreamRecord {
    pub identity_pool_id: PoolId,
    pub identity_id: IdentityId,
    /// The capital S is the documentation's.
    #[serde(rename = "dataSetName")]
    pub dataset_name: DatasetName,
    pub operation: PatchOp,
    pub kinesis_sync_records: Vec<StreamedRecord>,
    pub last_modified_date: i64,
    /// Always null: there is no S3 here.
    #[serde(rename = "kinesisSyncRecordsURL")]
    pub url: Option<String>,
    pub payload_type: &'static str,
    pub sync_count: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StreamedRecord {
    key: RecordKey,
    value: Option<Text>,
    sync_count: i64,
    last_modified_date: Option<i64>,
    device_last_modified_date: Option<i64>,
    op: PatchOp,
}

impl From<&Record> for StreamedRecord {
    fn from(record: &Record) -> Self {
        Self {
            key: record.key.clone(),
            value: record.value.clone(),
            sync_count: record.sync_count,
            last_modified_date: record.last_modified_date.map(Timestamp::as_millis),
            device_last_modified_date: record.device_last_modified_date.map(Timestamp::as_millis),
            op: match record.value {
                Some(_) => PatchOp::Replace,
                None => PatchOp::Remove,
            },
        }
    }
}

/// <https://docs.aws.amazon.com/cognito/latest/developerguide/push-sync.html>
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PushMessage {
    /// `cognito-sync`.
    pub source: &'static str,
    pub identity_pool_id: PoolId,
    pub identity_id: IdentityId,
    pub dataset_name: DatasetName,
    pub sync_count: i64,
}

/// Where deliveries go.
pub(super) struct Deliveries {
    path: Option<PathBuf>,
    file: Mutex<Option<File>>,
}

impl Deliveries {
    /// Returns deliveries into a file, which is made when it is first needed, or into nothing.
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        let file = Mutex::new(None);
        Self { path, file }
    }

    /// Returns the file beside a store.
    pub(super) fn beside(store: &Path) -> PathBuf {
        let mut path = store.as_os_str().to_owned();
        path.push(".events.jsonl");
        path.into()
    }

    /// Keeps what is to be sent, in the transaction of its change.
    pub(super) fn post(&self, tx: &Tx<'_>, deliveries: &[Delivery]) -> Result<(), StorageError> {
        if self.path.is_none() {
            return Ok(());
        }
        for delivery in deliveries {
            let json = serde_json::to_string(delivery)
                .map_err(|error| StorageError::Damaged(error.to_string()))?;
            tx.post(&json)?;
        }
        Ok(())
    }

    /// Appends all that was posted and is committed. What cannot be written stays for the next
    /// time.
    pub(super) fn send(&self, storage: &Storage) -> Result<(), StorageError> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let mut open = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let posted = storage.read(|tx| tx.outbox(PAGE))?;
            let Some((last, _)) = posted.last() else {
                return Ok(());
            };
            let lines: String = posted.iter().map(|(id, json)| line(*id, json)).collect();
            // A file that failed is opened again next time.
            let appended = append(open.take(), path, lines.as_bytes());
            *open = Some(appended.map_err(|source| StorageError::File {
                path: path.clone(),
                source,
            })?);
            storage.write(|tx| tx.clear_outbox(*last))?;
        }
    }
}

/// Returns an object as a line, with its id before its other fields.
fn line(id: i64, json: &str) -> String {
    let rest = json.strip_prefix('{').unwrap_or(json);
    format!("{{\"id\":{id},{rest}\n")
}

/// Appends lines durably.
fn append(open: Option<File>, path: &Path, lines: &[u8]) -> io::Result<File> {
    let mut file = match open {
        Some(file) => file,
        None => open_private(path)?,
    };
    file.write_all(lines)?;
    file.sync_data()?;
    Ok(file)
}

/// Opens the file to append to it. A last line that a crash has torn is ended; it comes again.
fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    let mut file = options.open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    // So that a new file's name is durable too.
    let directory = path.parent().filter(|parent| *parent != Path::new(""));
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
    let mut last = [b'\n'];
    if let Some(end) = file.metadata()?.len().checked_sub(1) {
        file.read_exact_at(&mut last, end)?;
    }
    if last != [b'\n'] {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push() -> Delivery {
        Delivery::Push {
            device_id: "d".parse().unwrap(),
            platform: Platform::ApnsSandbox,
            message: PushMessage {
                source: "cognito-sync",
                identity_pool_id: "us-east-1:ab".parse().unwrap(),
                identity_id: "us-east-1:cd".parse().unwrap(),
                dataset_name: "settings".parse().unwrap(),
                sync_count: 3,
            },
        }
    }

    fn post(deliveries: &Deliveries, storage: &Storage, count: usize) {
        let posted: Vec<_> = (0..count).map(|_| push()).collect();
        storage.write(|tx| deliveries.post(tx, &posted)).unwrap();
    }

    fn left(storage: &Storage) -> usize {
        storage.read(|tx| tx.outbox(1000)).unwrap().len()
    }

    #[test]
    fn lines_are_private_and_appended() {
        let directory = tempfile::tempdir().unwrap();
        let storage = Storage::in_memory().unwrap();
        let path = Deliveries::beside(&directory.path().join("store"));
        assert_eq!(path.file_name().unwrap(), "store.events.jsonl");
        let deliveries = Deliveries::new(Some(path.clone()));
        deliveries.send(&storage).unwrap();
        assert!(!path.exists());
        std::fs::write(&path, "torn").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        post(&deliveries, &storage, 2);
        deliveries.send(&storage).unwrap();
        post(&deliveries, &storage, 1);
        deliveries.send(&storage).unwrap();
        assert_eq!(left(&storage), 0);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (4, "torn"));
        assert_eq!(
            lines[3],
            r#"{"id":3,"type":"push","deviceId":"d","platform":"APNS_SANDBOX","message":{"source":"cognito-sync","identityPoolId":"us-east-1:ab","identityId":"us-east-1:cd","datasetName":"settings","syncCount":3}}"#
        );
    }

    #[test]
    fn what_cannot_be_written_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let storage = Storage::in_memory().unwrap();
        let path = directory.path().join("events");
        std::fs::create_dir(&path).unwrap();
        let deliveries = Deliveries::new(Some(path.clone()));
        let count = PAGE as usize + 1;
        post(&deliveries, &storage, count);
        assert!(deliveries.send(&storage).is_err());
        assert_eq!(left(&storage), count);
        std::fs::remove_dir(&path).unwrap();
        deliveries.send(&storage).unwrap();
        assert_eq!(left(&storage), 0);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), count);
        let nowhere = Deliveries::new(None);
        post(&nowhere, &storage, 1);
        assert_eq!(left(&storage), 0);
    }

    #[test]
    fn a_removal_and_an_unpaired_surrogate_are_written_as_they_are() {
        let records = [
            r#"{"Key":"a","SyncCount":2}"#,
            r#"{"Key":"b","Value":"\ud800"}"#,
        ];
        let records = records.map(|record| {
            let record: Record = serde_json::from_str(record).unwrap();
            StreamedRecord::from(&record)
        });
        let delivery = Delivery::Stream {
            stream_name: "s".to_owned(),
            record: StreamRecord {
                identity_pool_id: "us-east-1:ab".parse().unwrap(),
                identity_id: "us-east-1:cd".parse().unwrap(),
                dataset_name: "settings".parse().unwrap(),
                operation: PatchOp::Replace,
                kinesis_sync_records: records.into(),
                last_modified_date: 5,
                url: None,
                payload_type: "Inline",
                sync_count: 2,
            },
        };
        let line = serde_json::to_string(&delivery).unwrap();
        for part in [
            r#"{"key":"a","value":null,"syncCount":2,"#,
            r#""op":"remove"}"#,
            r#"{"key":"b","value":"\ud800","#,
            r#""dataSetName":"settings""#,
        ] {
            assert!(line.contains(part), "{line}");
        }
    }
}
