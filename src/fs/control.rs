//! `.cognito`: files about the mount, a pool, an identity or a dataset.
//!
//! They are made when they are opened and belong to that one open, as in `/proc`. What is written
//! is applied when it is flushed. Invariant: nothing here is listed, and nothing can be created,
//! renamed or removed here, so that editors write in place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use super::attr::{Attr, AttrOptions, FileType};
use super::error::Error;
use super::file::{OpenFlags, Opened};
use super::inode::{Ino, ROOT};
use super::lookup::{FileSystem, Place};
use super::node::NodeKind;
use crate::store::{Dataset, Document, Identity, Parked};
use crate::wire::names::PoolId;

/// The longest text that can be written, in bytes: the service's configurations are far shorter.
const MAX_BYTES: usize = 1_048_575;

/// The directory of kept versions.
const PARKED: &str = "parked";

/// Why nothing can be made, renamed or removed in a `.cognito` directory.
pub(super) const FIXED: Error = Error::Forbidden("the files in .cognito are fixed");

const READ_ONLY: Error = Error::Forbidden("this file can be read only");

/// A file under `.cognito`.
#[derive(Clone, Debug)]
pub(super) enum ControlFile {
    Document(Document),
    /// `mount.json`: what is mounted, from where, as whom and how.
    Mount,
    /// `errors.log`: what failed last.
    Errors,
    /// `stats.json`: what the mount did and has to do.
    Stats,
    /// `parked.json`: all versions kept from being lost.
    AllParked,
    /// A version kept from being lost.
    Parked(Arc<Dataset>, Arc<Parked>),
}

/// An entry of a directory under `.cognito`.
#[derive(Clone, Debug)]
pub(super) enum ControlEntry {
    File(ControlFile),
    /// The directory of the versions kept of a dataset.
    Parked(Arc<Dataset>),
}

impl ControlEntry {
    pub(super) fn file_type(&self) -> FileType {
        match self {
            Self::File(_) => FileType::Regular,
            Self::Parked(_) => FileType::Directory,
        }
    }
}

impl From<ControlEntry> for NodeKind {
    fn from(entry: ControlEntry) -> Self {
        match entry {
            ControlEntry::File(file) => Self::ControlFile(file),
            ControlEntry::Parked(dataset) => Self::ParkedDirectory(dataset),
        }
    }
}

/// What a `.cognito` directory is about.
#[derive(Clone, Debug)]
pub(super) struct ControlDirectory {
    /// Whether it is about the mount as well.
    of_root: bool,
    of: Subject,
}

#[derive(Clone, Debug)]
enum Subject {
    Region,
    Pool(PoolId),
    Identity(Arc<Identity>),
    Dataset(Arc<Dataset>),
}

impl ControlDirectory {
    /// Returns the one of a directory; it has none of its own.
    pub(super) fn of(directory: Ino, place: Place) -> Option<Self> {
        let of = match place {
            Place::Region => Subject::Region,
            Place::Pool(pool) => Subject::Pool(pool),
            Place::Identity(identity) => Subject::Identity(identity),
            Place::Dataset(dataset) => Subject::Dataset(dataset),
            Place::Control(_) | Place::Parked(_) => return None,
        };
        Some(Self {
            of_root: directory == ROOT,
            of,
        })
    }

    /// Returns its entries.
    pub(super) fn entries(&self) -> Vec<(&'static str, ControlEntry)> {
        let documents = match &self.of {
            Subject::Region => vec![],
            Subject::Pool(pool) => vec![
                ("bulk-publish.json", Document::BulkPublish(pool.clone())),
                ("configuration.json", Document::Configuration(pool.clone())),
                ("events.json", Document::Events(pool.clone())),
                ("usage.json", Document::PoolUsage(pool.clone())),
            ],
            Subject::Identity(identity) => {
                vec![("usage.json", Document::IdentityUsage(identity.clone()))]
            }
            Subject::Dataset(dataset) => vec![
                ("dataset.json", Document::Dataset(dataset.clone())),
                ("records.json", Document::Records(dataset.clone())),
            ],
        };
        let documents = documents.into_iter();
        let file = |(name, document)| (name, ControlFile::Document(document));
        let mut files: Vec<_> = documents.map(file).collect();
        if self.of_root {
            files.push(("errors.log", ControlFile::Errors));
            files.push(("mount.json", ControlFile::Mount));
            files.push(("parked.json", ControlFile::AllParked));
            files.push(("stats.json", ControlFile::Stats));
        }
        let files = files.into_iter();
        let mut entries: Vec<_> = files
            .map(|(name, file)| (name, ControlEntry::File(file)))
            .collect();
        if let Subject::Dataset(dataset) = &self.of {
            entries.push((PARKED, ControlEntry::Parked(dataset.clone())));
        }
        entries
    }

    pub(super) fn entry(&self, name: &str) -> Option<ControlEntry> {
        let mut entries = self.entries().into_iter();
        entries.find_map(|(found, entry)| (found == name).then_some(entry))
    }
}

impl ControlFile {
    pub(super) fn is_settable(&self) -> bool {
        match self {
            Self::Document(document) => document.is_settable(),
            Self::Mount | Self::Errors | Self::Stats | Self::AllParked | Self::Parked(..) => false,
        }
    }

    /// Returns whether it is the same file as another of its name.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Parked(_, one), Self::Parked(_, other)) => one.id == other.id,
            (one, other) => std::mem::discriminant(one) == std::mem::discriminant(other),
        }
    }

    /// Returns what `stat` shows. The size of most is not known before they are opened.
    pub(super) fn attr(&self, ino: Ino, attrs: &AttrOptions, started: SystemTime) -> Attr {
        let mode = if self.is_settable() { 0o644 } else { 0o444 };
        let fixed = attrs.fixed(ino, FileType::Regular, mode, started);
        match self {
            Self::Parked(_, parked) => Attr {
                size: parked.size,
                modified: parked.modified.into(),
                changed: parked.at.into(),
                ..fixed
            },
            Self::Document(_) | Self::Mount | Self::Errors | Self::Stats | Self::AllParked => fixed,
        }
    }
}

/// An open file under `.cognito`.
#[derive(Debug)]
struct OpenControl {
    file: ControlFile,
    /// What it was when it was opened, or last applied.
    shown: Arc<[u8]>,
    text: Vec<u8>,
    append: bool,
    /// Whether something was written since: a truncation alone is only the beginning of a write.
    written: bool,
    /// Whether a part of what was written did not fit: the rest must not be taken for the whole.
    cut_short: bool,
}

/// Open files under `.cognito`, by handle.
#[derive(Debug, Default)]
pub(super) struct OpenControls(Mutex<HashMap<u64, OpenControl>>);

impl OpenControls {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, OpenControl>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        handle: u64,
        action: impl FnOnce(&mut OpenControl) -> Result<T, Error>,
    ) -> Result<T, Error> {
        action(self.lock().get_mut(&handle).ok_or(Error::BadHandle)?)
    }

    pub(super) fn read(&self, handle: u64, offset: u64, size: u32) -> Result<Vec<u8>, Error> {
        self.with(handle, |open| {
            let from = usize::try_from(offset).unwrap_or(usize::MAX);
            let from = from.min(open.text.len());
            let to = from.saturating_add(size as usize).min(open.text.len());
            Ok(open.text[from..to].to_vec())
        })
    }

    /// # Errors
    /// [`Error::TooBig`] over 1,048,575 bytes.
    pub(super) fn write(&self, handle: u64, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.with(handle, |open| {
            let offset = match open.append {
                true => open.text.len(),
                false => usize::try_from(offset).unwrap_or(usize::MAX),
            };
            let end = offset.saturating_add(data.len());
            if end > MAX_BYTES {
                open.cut_short = true;
                return Err(Error::TooBig);
            }
            if end > open.text.len() {
                open.text.resize(end, 0);
            }
            open.text[offset..end].copy_from_slice(data);
            open.written = true;
            Ok(())
        })
    }

    /// Cuts or extends the text of one open file.
    pub(super) fn truncate(&self, handle: u64, size: u64) -> Result<(), Error> {
        self.with(handle, |open| {
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            if size > MAX_BYTES {
                return Err(Error::TooBig);
            }
            open.text.resize(size, 0);
            open.written |= size > 0;
            open.cut_short &= size > 0;
            Ok(())
        })
    }

    /// Closes a handle; returns none if it was not one of these.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a file that was emptied, and then nothing was written: no flush can
    /// know that nothing will be.
    pub(super) fn release(&self, handle: u64) -> Option<Result<(), Error>> {
        let open = self.lock().remove(&handle)?;
        let emptied = open.text.is_empty() && !open.shown.is_empty();
        Some(match emptied && !open.written {
            true => Err(Error::Invalid("nothing was written, so nothing is changed")),
            false => Ok(()),
        })
    }
}

impl FileSystem {
    /// Returns what file under `.cognito` an inode is, if it is one.
    pub(super) fn control_file(&self, ino: Ino) -> Option<ControlFile> {
        match &self.inodes().get(ino)?.kind {
            NodeKind::ControlFile(file) => Some(file.clone()),
            _ => None,
        }
    }

    /// Opens a file under `.cognito`: its text is made now, for this open alone.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a write to what can be read only, else why the service cannot say.
    pub(super) async fn open_control(
        &self,
        file: ControlFile,
        flags: OpenFlags,
        deadline: Instant,
    ) -> Result<Opened, Error> {
        if flags.write && !file.is_settable() {
            return Err(READ_ONLY);
        }
        let shown: Arc<[u8]> = match &file {
            ControlFile::Document(document) => {
                let text = self.store.document(document, deadline).await?;
                text.into_bytes().into()
            }
            ControlFile::Mount => self.about.as_bytes().into(),
            ControlFile::Errors => self.failures.text().into_bytes().into(),
            ControlFile::Stats => self.stats_text().await?.into_bytes().into(),
            ControlFile::AllParked => self.parked_text().await?.into_bytes().into(),
            ControlFile::Parked(dataset, parked) => {
                let text = dataset.parked_text(parked.id).await?;
                text.ok_or(Error::Superseded)?.into()
            }
        };
        let text = match flags.truncate {
            true => Vec::new(),
            false => shown.to_vec(),
        };
        let handle = self.new_handle();
        let open = OpenControl {
            file,
            shown,
            text,
            append: flags.append,
            written: false,
            cut_short: false,
        };
        self.controls.lock().insert(handle, open);
        Ok(Opened {
            handle,
            writable: flags.write,
            direct: true,
        })
    }

    /// Cuts or extends a file under `.cognito`; what was not opened to be written has no text.
    ///
    /// # Errors
    /// [`Error::Forbidden`] or [`Error::Invalid`] for one that is not open.
    pub(super) fn truncate_control(
        &self,
        file: &ControlFile,
        size: u64,
        handle: Option<u64>,
    ) -> Result<(), Error> {
        match handle {
            Some(handle) => self.controls.truncate(handle, size),
            None if file.is_settable() => Err(Error::Invalid("it is cut by who has it open only")),
            None => Err(READ_ONLY),
        }
    }

    /// Applies what was written to a file under `.cognito`.
    ///
    /// # Errors
    /// Why it is refused; nothing is changed then.
    pub(super) async fn apply_control(&self, handle: u64, deadline: Instant) -> Result<(), Error> {
        let (file, shown, text) = {
            let controls = self.controls.lock();
            let open = controls.get(&handle).ok_or(Error::BadHandle)?;
            if open.cut_short {
                return Err(Error::TooBig);
            }
            if !open.written {
                return Ok(());
            }
            (open.file.clone(), open.shown.clone(), open.text.clone())
        };
        let ControlFile::Document(document) = file else {
            return Err(READ_ONLY);
        };
        let before = std::str::from_utf8(&shown).map_err(|_| Error::NotText)?;
        let after = std::str::from_utf8(&text).map_err(|_| Error::NotText)?;
        let set = self.store.set_document(&document, before, after, deadline);
        set.await?;
        if let Some(open) = self.controls.lock().get_mut(&handle) {
            open.written = open.text != text;
            open.shown = text.into();
        }
        Ok(())
    }
}
