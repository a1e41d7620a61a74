//! Files: opened, read, written, flushed, released.
//!
//! What was written lives on the node, not on the handle: two handles see each other's writes,
//! and a flush of either sends the whole.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use super::attr::{Attr, SetAttr, to_timestamp};
use super::error::Error;
use super::inode::{Ino, Inodes};
use super::lookup::{Entry, FileSystem, Found, Place, check_length};
use super::name::{Decoded, decode};
use super::node::{NodeKind, RecordNode, Unsent, UnsentKind};
use crate::store::{Commit, Dataset, ErrorKind, Freshness};
use crate::sync::{Change, Kind, Landed, Shown};
use crate::wire::names::{MAX_VALUE_CHARS, RecordKey};
use crate::wire::text::Text;
use crate::wire::timestamp::Timestamp;

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenFlags {
    pub read: bool,
    pub write: bool,
    /// Every write goes to the end, whatever its offset says.
    pub append: bool,
    pub truncate: bool,
    /// Fail if the file exists.
    pub exclusive: bool,
}

/// An open file.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    pub handle: u64,
    /// Whether a close of it can have something to send.
    pub writable: bool,
}

/// What a handle remembers; all else is on the node.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileHandle {
    ino: Ino,
    write: bool,
    append: bool,
}

/// How much a push sends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Not what creation and truncation by open alone did.
    Flushable,
    All,
}

impl FileSystem {
    fn lock_files(&self) -> MutexGuard<'_, HashMap<u64, FileHandle>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, handle: u64) -> Result<FileHandle, Error> {
        self.lock_files()
            .get(&handle)
            .copied()
            .ok_or(Error::BadHandle)
    }

    /// Opens a file.
    ///
    /// # Errors
    /// [`Error::Superseded`] if a newer version has its name, so that the name is looked up again;
    /// [`Error::Unreadable`] for a value that is not Unicode, unless it is to be replaced.
    pub async fn open(&self, ino: Ino, flags: OpenFlags) -> Result<Opened, Error> {
        self.load(ino).await?;
        let mut inodes = self.inodes();
        let record = record_of(&mut inodes, ino)?;
        let unreadable = matches!(record.content, Some(Text::Surrogates(_)));
        if unreadable && record.unsent.is_none() && !flags.truncate {
            record.content = None;
            return Err(Error::Unreadable);
        }
        record.opens += 1;
        record.writers += u32::from(flags.write);
        let shows_nothing = flags.read && record.size == 0 && record.unsent.is_none();
        let (id, base) = (record.id(), record.base);
        if shows_nothing && record.is_sent() {
            // No read follows that could show it.
            inodes.note_shown(id, base);
        }
        if flags.truncate {
            truncate(&mut inodes, ino, 0, false)?;
        }
        Ok(self.open_handle(ino, flags))
    }

    fn open_handle(&self, ino: Ino, flags: OpenFlags) -> Opened {
        let handle = self.new_handle();
        let file = FileHandle {
            ino,
            write: flags.write,
            append: flags.append,
        };
        self.lock_files().insert(handle, file);
        Opened {
            handle,
            writable: flags.write,
        }
    }

    /// Gets a file's value into memory.
    async fn load(&self, ino: Ino) -> Result<(), Error> {
        let dataset = {
            let mut inodes = self.inodes();
            let attached = inodes.get(ino).is_some_and(|node| node.attached);
            let record = record_of(&mut inodes, ino)?;
            if record.content.is_some() || record.unsent.is_some() {
                return Ok(());
            }
            if !attached {
                return Err(Error::Superseded);
            }
            record.dataset.clone()
        };
        if !dataset.is_listed() {
            dataset.refresh(Freshness::Now, self.deadline()).await?;
        }
        let key = match self.inodes().record(ino) {
            Some(record) => record.key.clone(),
            None => return Err(Error::Superseded),
        };
        let listed = dataset.record(&key).ok_or(Error::Superseded)?;
        let mut inodes = self.inodes();
        let record = record_of(&mut inodes, ino)?;
        if record.is_superseded_by(listed.base) {
            return Err(Error::Superseded);
        }
        record.content = listed.remote.value;
        Ok(())
    }

    /// Creates a file, or opens the one that is there. It is not sent before something is written
    /// or the file is closed.
    ///
    /// # Errors
    /// [`Error::Exists`] if it does and `flags.exclusive` is set; [`Error::NotPermitted`]
    /// elsewhere than in a dataset.
    pub async fn create(
        &self,
        parent: Ino,
        name: &str,
        flags: OpenFlags,
    ) -> Result<(Entry, Opened), Error> {
        check_length(name)?;
        let Place::Dataset(dataset) = self.place(parent)? else {
            return Err(Error::NotPermitted("files are made in datasets only"));
        };
        let key = new_key(name)?;
        if let Found::Entry(entry) = self.lookup(parent, name).await? {
            let opened = match flags.exclusive {
                true => Err(Error::Exists),
                false => self.open(entry.attr.ino, flags).await,
            };
            if opened.is_err() {
                self.forget(entry.attr.ino, 1);
            }
            return Ok((entry, opened?));
        }
        let exists = dataset.exists();
        if !exists && !dataset.is_made() {
            return Err(Error::NotFound);
        }
        if !exists {
            dataset.identity().check_exists(self.deadline()).await?;
        }
        let base = dataset.base(&key);
        if base.shown != Shown::Absent {
            return Err(Error::Superseded);
        }
        let now = to_timestamp(SystemTime::now());
        let mut node = RecordNode::created(dataset, key, base, now);
        node.opens = 1;
        node.writers = u32::from(flags.write);
        let mut inodes = self.inodes();
        let ino = inodes.insert(parent, name, NodeKind::Record(Box::new(node)));
        inodes.looked_up(ino, 1);
        inodes.note_unsent(ino);
        let attr = inodes.get(ino).map(|node| self.attr_of(ino, node));
        drop(inodes);
        let entry = Entry {
            attr: attr.ok_or(Error::NotFound)?,
            ttl: self.store.options().ttl,
        };
        Ok((entry, self.open_handle(ino, flags)))
    }

    /// Reads at most `size` bytes from `offset` on.
    pub fn read(&self, ino: Ino, offset: u64, size: u32) -> Result<Vec<u8>, Error> {
        let mut inodes = self.inodes();
        let attached = inodes.get(ino).is_some_and(|node| node.attached);
        let record = record_of(&mut inodes, ino)?;
        let unsent = record.unsent.as_ref();
        let local = unsent.filter(|unsent| unsent.kind != UnsentKind::Times);
        let bytes = match (local, &record.content) {
            (Some(unsent), _) => unsent.text.as_slice(),
            (None, Some(content)) => content.as_bytes(),
            (None, None) => return Err(Error::BadHandle),
        };
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let to = from.saturating_add(size as usize).min(bytes.len());
        let read = bytes[from..to].to_vec();
        // An older version that is still open is not what the name shows.
        if local.is_none() && attached {
            let (id, base) = (record.id(), record.base);
            inodes.note_shown(id, base);
        }
        Ok(read)
    }

    /// Writes to the file in memory.
    ///
    /// # Errors
    /// [`Error::TooBig`] if the value would have more than 1,048,575 characters.
    pub fn write(&self, ino: Ino, handle: u64, offset: u64, data: &[u8]) -> Result<(), Error> {
        let append = self.handle(handle)?.append;
        let mut inodes = self.inodes();
        let unsent = begin(&mut inodes, ino)?;
        let end = unsent.text.len();
        let offset = match append {
            true => end,
            false => usize::try_from(offset).map_err(|_| Error::TooBig)?,
        };
        let new_end = offset.checked_add(data.len()).ok_or(Error::TooBig)?;
        check_size(&unsent.text, data, offset, new_end)?;
        unsent.kind = match unsent.kind {
            UnsentKind::Times if append => UnsentKind::Append { from: end },
            UnsentKind::Append { from } if append => UnsentKind::Append { from },
            UnsentKind::Whole => UnsentKind::Whole,
            UnsentKind::Times | UnsentKind::Append { .. } | UnsentKind::Edit => UnsentKind::Edit,
        };
        if new_end > end {
            unsent.text.resize(new_end, 0);
        }
        unsent.text[offset..new_end].copy_from_slice(data);
        unsent.touch();
        Ok(())
    }

    /// Sends what was written, if it was, and reports what became of it: close(2) returns it.
    pub async fn flush(&self, ino: Ino) -> Result<(), Error> {
        self.push(ino, Extent::Flushable).await
    }

    /// Sends everything that was done to the file.
    pub async fn fsync(&self, ino: Ino) -> Result<(), Error> {
        self.push(ino, Extent::All).await
    }

    /// Closes a handle. The last one that can write sends what no flush did; what cannot be sent
    /// then is dropped, and the file shows the remote value again. What a flush could not send
    /// is not tried again behind the back of a writer who was told.
    ///
    /// # Errors
    /// Why something was dropped. Nobody but the log hears of it.
    pub async fn release(&self, handle: u64) -> Result<(), Error> {
        let Some(file) = self.lock_files().remove(&handle) else {
            return Ok(());
        };
        let (last_writer, refused) = {
            let mut inodes = self.inodes();
            let record = record_of(&mut inodes, file.ino)?;
            record.writers = record.writers.saturating_sub(u32::from(file.write));
            let unsent = record.unsent.as_ref();
            let refused = unsent.is_some_and(|unsent| unsent.refused == Some(unsent.generation));
            (file.write && record.writers == 0, refused)
        };
        let sent = match last_writer {
            true if refused => Err(Error::Dropped),
            true => self.push(file.ino, Extent::All).await,
            false => Ok(()),
        };
        let mut inodes = self.inodes();
        let Some(record) = inodes.record_mut(file.ino) else {
            return sent;
        };
        record.opens = record.opens.saturating_sub(1);
        let last = record.opens == 0;
        if last {
            record.content = None;
        }
        // Refused, or of a file that was removed.
        if last || (last_writer && sent.is_err() && record.writers == 0) {
            self.discard(&mut inodes, file.ino);
        }
        inodes.drop_if_unused(file.ino);
        sent
    }

    /// Drops what could not be sent; the name leads to the remote version again.
    fn discard(&self, inodes: &mut Inodes, ino: Ino) {
        let Some(record) = inodes.record_mut(ino) else {
            return;
        };
        let Some(unsent) = record.unsent.take() else {
            return;
        };
        if let Some((ticket, _)) = unsent.attempt {
            record.dataset.forget(ticket);
        }
        if let Some(node) = inodes.get(ino).filter(|node| node.attached) {
            let (parent, name) = (node.parent, node.name.clone());
            inodes.detach_name(parent, &name);
        }
    }

    /// Changes a file's size or mtime. With the file open for writing it goes with the next
    /// flush, else it is sent at once. Mode and owner are not stored, and asking is no error.
    pub async fn setattr(&self, ino: Ino, wanted: SetAttr) -> Result<Attr, Error> {
        let is_record = self.inodes().record(ino).is_some();
        if is_record && (wanted.size.is_some() || wanted.modified.is_some()) {
            if wanted.size.is_some() {
                self.load(ino).await?;
            }
            let at_once = {
                let mut inodes = self.inodes();
                if let Some(size) = wanted.size {
                    truncate(&mut inodes, ino, size, true)?;
                }
                if let Some(modified) = wanted.modified {
                    date(&mut inodes, ino, to_timestamp(modified))?;
                }
                let record = record_of(&mut inodes, ino)?;
                record.writers == 0 && !wanted.through_handle
            };
            if at_once {
                self.set_at_once(ino).await?;
            }
        } else if is_record || wanted.size.is_none() {
            // Nothing of it is stored.
        } else {
            return Err(Error::IsADirectory);
        }
        let (attr, _) = self.getattr(ino)?;
        Ok(attr)
    }

    async fn set_at_once(&self, ino: Ino) -> Result<(), Error> {
        let sent = self.push(ino, Extent::All).await;
        let mut inodes = self.inodes();
        let record = record_of(&mut inodes, ino)?;
        if record.opens == 0 {
            record.content = None;
            if sent.is_err() {
                self.discard(&mut inodes, ino);
            }
        }
        sent.map_err(|error| match error {
            Error::Stale(source) => Error::Busy(source),
            other => other,
        })
    }

    /// Sends what is unsent in a file, one push of a file after another.
    async fn push(&self, ino: Ino, extent: Extent) -> Result<(), Error> {
        let deadline = self.deadline();
        let gate = match self.inodes().record(ino) {
            Some(record) => record.gate.clone(),
            None => return Ok(()),
        };
        let _one_push = lock_gate(&gate, deadline).await?;
        loop {
            let next = self
                .next_push(ino, extent)
                .inspect_err(|_| self.note_refused(ino));
            let Some(push) = next? else {
                return Ok(());
            };
            let ticket = match push.attempt {
                Some(ticket) => ticket,
                None => push.dataset.submit(vec![push.change.clone()]),
            };
            match push.dataset.outcome(ticket, deadline).await {
                Ok(landed) => self.land(ino, &push, landed),
                // The attempt before this one was not made after all.
                Err(Commit { ticket: None, .. }) if push.attempt.is_some() => {
                    self.note_attempt(ino, None);
                }
                Err(Commit { error, ticket }) => {
                    let attempt = ticket.map(|ticket| (ticket, push.sent.clone()));
                    self.note_attempt(ino, attempt);
                    self.note_refused(ino);
                    return Err(error.into());
                }
            }
        }
    }

    fn note_refused(&self, ino: Ino) {
        if let Some(record) = self.inodes().record_mut(ino)
            && let Some(unsent) = &mut record.unsent
        {
            unsent.refused = Some(unsent.generation);
        }
    }

    fn note_attempt(&self, ino: Ino, attempt: Option<(crate::sync::Ticket, Sent)>) {
        if let Some(record) = self.inodes().record_mut(ino)
            && let Some(unsent) = &mut record.unsent
        {
            unsent.attempt = attempt;
        }
    }

    /// Returns what of a file is to be sent now.
    fn next_push(&self, ino: Ino, extent: Extent) -> Result<Option<Push>, Error> {
        let mut inodes = self.inodes();
        let attached = inodes.get(ino).is_some_and(|node| node.attached);
        let record = record_of(&mut inodes, ino)?;
        let sent_before = record.is_sent();
        let Some(unsent) = &mut record.unsent else {
            return Ok(None);
        };
        if !attached {
            // Removed or replaced: what is written to it is seen by those who have it open.
            return Ok(None);
        }
        if extent == Extent::Flushable && !unsent.flushable {
            return Ok(None);
        }
        let text = std::str::from_utf8(&unsent.text).map_err(|_| Error::NotText)?;
        let content = record.content.as_ref().and_then(Text::as_str);
        let same = sent_before && unsent.kind != UnsentKind::Times && content == Some(text);
        if same && !unsent.dated && unsent.attempt.is_none() {
            record.unsent = None;
            return Ok(None);
        }
        let kind = match unsent.kind {
            UnsentKind::Whole => Kind::Whole(text.into()),
            UnsentKind::Append { from } => match text.get(from..) {
                Some(appended) => Kind::Append(appended.into()),
                None => return Err(Error::NotText),
            },
            UnsentKind::Edit => Kind::Edit(text.into()),
            UnsentKind::Times => Kind::Times,
        };
        let (attempt, sent) = match unsent.attempt.take() {
            Some((ticket, sent)) => (Some(ticket), sent),
            None => (
                None,
                Sent {
                    generation: unsent.generation,
                    text: text.into(),
                },
            ),
        };
        Ok(Some(Push {
            dataset: record.dataset.clone(),
            change: Change {
                key: record.key.clone(),
                base: unsent.base,
                kind,
                modified: unsent.modified,
            },
            attempt,
            sent,
        }))
    }

    /// A push was made: the file is the version it made, with what was written since.
    fn land(&self, ino: Ino, push: &Push, landed: Vec<Landed>) {
        let mut inodes = self.inodes();
        let Some(landed) = landed.into_iter().next() else {
            return;
        };
        let Some(record) = inodes.record_mut(ino) else {
            return;
        };
        let Some(unsent) = &mut record.unsent else {
            return;
        };
        let value = landed
            .record
            .as_ref()
            .and_then(|remote| remote.value.as_ref());
        let as_sent = unsent.kind == UnsentKind::Times
            || value.and_then(Text::as_str) == Some(push.sent.text.as_ref());
        if unsent.generation == push.sent.generation {
            record.unsent = None;
            if let Some(remote) = &landed.record {
                record.show(remote, landed.base);
            }
        } else {
            unsent.base = landed.base;
            if let UnsentKind::Append { from } = &mut unsent.kind {
                *from = push.sent.text.len();
            }
            record.base = landed.base;
        }
        if as_sent {
            let id = record.id();
            inodes.note_shown(id, landed.base);
        } else if let Some(node) = inodes.get(ino)
            && inodes
                .record(ino)
                .is_some_and(|record| record.unsent.is_none())
        {
            // More than was written here: what the kernel has cached is not the new version.
            let (parent, name) = (node.parent, node.name.clone());
            inodes.detach_name(parent, &name);
        }
    }

    /// Sends what was closed and not sent yet, and returns how many files are left unsent.
    pub async fn drain(&self) -> usize {
        let closed: Vec<Ino> = {
            let mut inodes = self.inodes();
            let unsent = inodes.all_unsent();
            let closed = |ino: &Ino| inodes.record(*ino).is_some_and(|record| record.opens == 0);
            unsent.into_iter().filter(closed).collect()
        };
        for ino in closed {
            if let Err(error) = self.push(ino, Extent::All).await {
                tracing::error!(%error, path = self.path(ino, None), "not sent");
            }
        }
        self.unsent()
    }

    /// Returns how many files have something unsent.
    pub fn unsent(&self) -> usize {
        self.inodes().all_unsent().len()
    }
}

/// What a push sends of a file.
struct Push {
    dataset: Arc<Dataset>,
    change: Change,
    /// An earlier attempt whose outcome is not known.
    attempt: Option<crate::sync::Ticket>,
    sent: Sent,
}

/// Which state of a file was sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    generation: u64,
    text: Arc<str>,
}

pub(super) fn record_of(inodes: &mut Inodes, ino: Ino) -> Result<&mut RecordNode, Error> {
    let known = inodes.get(ino).is_some();
    match (inodes.record_mut(ino), known) {
        (Some(record), _) => Ok(record),
        (None, true) => Err(Error::IsADirectory),
        (None, false) => Err(Error::Superseded),
    }
}

pub(super) async fn lock_gate(
    gate: &Arc<tokio::sync::Mutex<()>>,
    deadline: Instant,
) -> Result<tokio::sync::OwnedMutexGuard<()>, Error> {
    let locked = tokio::time::timeout_at(deadline.into(), gate.clone().lock_owned());
    let timed_out = |_| Error::Store(ErrorKind::TimedOut.into());
    locked.await.map_err(timed_out)
}

/// Returns a file's unsent state, begun now if there is none.
fn begin(inodes: &mut Inodes, ino: Ino) -> Result<&mut Unsent, Error> {
    let record = record_of(inodes, ino)?;
    let bytes = record
        .content
        .as_ref()
        .map_or(&[][..], Text::as_bytes)
        .to_vec();
    match &mut record.unsent {
        Some(unsent) => {
            if unsent.kind == UnsentKind::Times {
                unsent.text = bytes;
            }
        }
        None => {
            let (id, looked_up) = (record.id(), record.base);
            let base = inodes.base_of(&id, looked_up);
            inodes.note_unsent(ino);
            let record = record_of(inodes, ino)?;
            record.unsent = Some(Unsent {
                text: bytes,
                kind: UnsentKind::Times,
                base,
                flushable: false,
                modified: record.modified,
                dated: false,
                generation: 0,
                refused: None,
                attempt: None,
            });
        }
    }
    let record = record_of(inodes, ino)?;
    record.unsent.as_mut().ok_or(Error::BadHandle)
}

/// Cuts or extends a file in memory. `flushable` is false for a truncation by open.
fn truncate(inodes: &mut Inodes, ino: Ino, size: u64, flushable: bool) -> Result<(), Error> {
    let unsent = begin(inodes, ino)?;
    let size = usize::try_from(size).map_err(|_| Error::TooBig)?;
    check_size(&unsent.text, &[], size, size)?;
    unsent.kind = match unsent.kind {
        UnsentKind::Whole => UnsentKind::Whole,
        UnsentKind::Times if size == 0 => UnsentKind::Whole,
        UnsentKind::Times | UnsentKind::Append { .. } | UnsentKind::Edit => UnsentKind::Edit,
    };
    unsent.text.resize(size, 0);
    let was_flushable = unsent.flushable;
    unsent.touch();
    unsent.flushable = was_flushable || flushable;
    Ok(())
}

/// Sets a file's mtime in memory.
fn date(inodes: &mut Inodes, ino: Ino, modified: Timestamp) -> Result<(), Error> {
    let unsent = begin(inodes, ino)?;
    unsent.touch();
    unsent.modified = modified;
    unsent.dated = true;
    Ok(())
}

impl Unsent {
    /// It was changed just now.
    fn touch(&mut self) {
        self.modified = to_timestamp(SystemTime::now());
        self.dated = false;
        self.flushable = true;
        self.generation += 1;
    }
}

/// Checks how long a value would be after `data` is put at `offset`.
fn check_size(text: &[u8], data: &[u8], offset: usize, new_end: usize) -> Result<(), Error> {
    if new_end.max(text.len()) <= MAX_VALUE_CHARS {
        return Ok(());
    }
    let chars = |bytes: &[u8]| bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
    let before = &text[..offset.min(text.len())];
    let gap = offset.saturating_sub(text.len());
    let after = match data.is_empty() {
        true => &[][..],
        false => text.get(new_end..).unwrap_or_default(),
    };
    let total = chars(before)
        .saturating_add(gap)
        .saturating_add(chars(data))
        .saturating_add(chars(after));
    match total > MAX_VALUE_CHARS {
        true => Err(Error::TooBig),
        false => Ok(()),
    }
}

/// Returns the key a new file's name means.
pub(super) fn new_key(name: &str) -> Result<RecordKey, Error> {
    match decode(name) {
        Decoded::Key(text) => {
            RecordKey::new(text).map_err(|_| Error::BadName("a key has 1 to 1,024 characters"))
        }
        Decoded::Hashed => Err(Error::BadName(
            "a name with %~ stands for a key too long to be created by name",
        )),
        Decoded::Reserved => Err(Error::NotPermitted("this name is reserved")),
    }
}
