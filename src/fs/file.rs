//! Files: opened, read, written, flushed, released.
//!
//! What was written lives on the node, not on the handle: two handles see each other's writes,
//! and a flush of either sends the whole.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::attr::{Attr, SetAttr};
use super::control::FIXED;
use super::error::Error;
use super::inode::{Ino, Inodes};
use super::lookup::{Entry, FileSystem, Found, Place, check_length};
use super::name::{Decoded, decode};
use super::node::{NodeKind, RecordNode, Standing};
use super::push::Extent;
use super::unsent::{Unsent, UnsentKind, begin, check_size, cut_short, date, take_back, truncate};
use crate::store::Freshness;
use crate::sync::Shown;
use crate::wire::names::RecordKey;
use crate::wire::text::Text;

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
    /// Whether the kernel must not cache its content.
    pub direct: bool,
}

/// What a handle remembers; all else is on the node.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileHandle {
    ino: Ino,
    write: bool,
    append: bool,
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
        let deadline = self.deadline();
        match self.control_file(ino) {
            Some(file) => self.open_control(file, flags, deadline).await,
            None => self.open_by(ino, flags, deadline).await,
        }
    }

    async fn open_by(
        &self,
        ino: Ino,
        flags: OpenFlags,
        deadline: Instant,
    ) -> Result<Opened, Error> {
        if flags.write {
            self.wait_until_dropped(ino, deadline).await?;
        }
        let mut inodes = self.loaded(ino, deadline).await?;
        if inodes.standing(ino) == Standing::Superseded {
            return Err(Error::Superseded);
        }
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

    /// Waits while what the last writer was told of is dropped: it is not to go with what is
    /// written next.
    pub(super) async fn wait_until_dropped(
        &self,
        ino: Ino,
        deadline: Instant,
    ) -> Result<(), Error> {
        let gate = {
            let inodes = self.inodes();
            let record = inodes.record(ino).filter(|record| record.writers == 0);
            let unsent = record.filter(|record| {
                let unsent = record.unsent.as_ref();
                unsent.is_some_and(Unsent::is_refused)
            });
            unsent.map(|record| record.gate.clone())
        };
        if let Some(gate) = gate {
            self.lock_gate(ino, &gate, deadline).await?;
        }
        Ok(())
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
            direct: false,
        }
    }

    /// Gets a file's value into memory, and returns while it is there.
    async fn loaded(&self, ino: Ino, deadline: Instant) -> Result<MutexGuard<'_, Inodes>, Error> {
        let (dataset, key) = {
            let mut inodes = self.inodes();
            let standing = inodes.standing(ino);
            let record = record_of(&mut inodes, ino)?;
            if record.has_text() {
                return Ok(inodes);
            }
            if standing != Standing::Named {
                return Err(Error::Superseded);
            }
            (record.dataset.clone(), record.key.clone())
        };
        if !dataset.is_listed() {
            dataset.refresh(Freshness::Now, deadline).await?;
        }
        let listed = dataset.record(&key).ok_or(Error::Superseded)?;
        let mut inodes = self.inodes();
        let record = record_of(&mut inodes, ino)?;
        if !record.has_text() {
            if record.is_superseded_by(listed.base) {
                return Err(Error::Superseded);
            }
            record.content = listed.remote.value;
        }
        Ok(inodes)
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
        let dataset = match self.place(parent)? {
            Place::Dataset(dataset) => dataset,
            Place::Control(_) | Place::Parked(_) => return Err(FIXED),
            Place::Region | Place::Pool(_) | Place::Identity(_) => {
                return Err(Error::NotPermitted("files are made in datasets only"));
            }
        };
        let key = new_key(name)?;
        let absent = match self.inodes().child(parent, name) {
            Some(_) => None,
            None => Some(dataset.absent_base()),
        };
        let deadline = self.deadline();
        if let Found::Entry(entry) = self.find(parent, name, 1, deadline).await? {
            let ino = entry.attr.ino;
            if let Some(absent) = absent {
                // The kernel creates what it was shown to be absent: this one was made meanwhile.
                let mut inodes = self.inodes();
                let id = record_of(&mut inodes, ino)?.id();
                inodes.note_shown(id, absent);
            }
            let opened = match flags.exclusive {
                true => Err(Error::Exists),
                false => self.open_by(ino, flags, deadline).await,
            };
            if opened.is_err() {
                self.forget(ino, 1);
            }
            return Ok((entry, opened?));
        }
        let exists = dataset.exists();
        if !exists && !dataset.is_made() {
            return Err(Error::NotFound);
        }
        if !exists {
            dataset.identity().check_exists(deadline).await?;
        }
        let removed = self.removed(&dataset, &key);
        let base = match &removed {
            Some((base, _)) => *base,
            None => dataset.base(&key),
        };
        if removed.is_none() && base.shown != Shown::Absent {
            return Err(Error::Superseded);
        }
        let now = SystemTime::now().into();
        let mut node = RecordNode::created(dataset, key, base, now);
        if let (Some(unsent), Some((_, sent))) = (&mut node.unsent, removed) {
            unsent.sent = sent;
        }
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
            // Refused, it is there no more.
            ttl: Duration::ZERO,
        };
        Ok((entry, self.open_handle(ino, flags)))
    }

    /// Reads at most `size` bytes from `offset` on.
    pub fn read(&self, ino: Ino, handle: u64, offset: u64, size: u32) -> Result<Vec<u8>, Error> {
        let mut inodes = self.inodes();
        if inodes.is_control(ino) {
            return self.controls.read(handle, offset, size);
        }
        let named = inodes.standing(ino) == Standing::Named;
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
        if local.is_none() && named {
            let (id, base) = (record.id(), record.base);
            inodes.note_shown(id, base);
        }
        Ok(read)
    }

    /// Writes to the file in memory; `mapped` says that the kernel writes a mapping's page back.
    ///
    /// # Errors
    /// [`Error::TooBig`] if the value would have more than 1,048,575 characters.
    pub fn write(
        &self,
        ino: Ino,
        handle: u64,
        offset: u64,
        data: &[u8],
        mapped: bool,
    ) -> Result<(), Error> {
        if self.inodes().is_control(ino) {
            return self.controls.write(handle, offset, data);
        }
        // A page of a mapping has its place, whichever handle it comes by.
        let append = self.handle(handle)?.append && !mapped;
        let mut inodes = self.inodes();
        let unsent = begin(&mut inodes, ino)?;
        let end = unsent.text.len();
        let offset = match append {
            true => end,
            false => usize::try_from(offset).unwrap_or(usize::MAX),
        };
        let new_end = offset.saturating_add(data.len());
        if let Err(error) = check_size(&unsent.text, data, offset, new_end) {
            take_back(&mut inodes, ino);
            cut_short(&mut inodes, ino);
            return Err(error);
        }
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
    pub async fn flush(&self, ino: Ino, handle: u64) -> Result<(), Error> {
        let deadline = self.deadline();
        let control = self.inodes().is_control(ino);
        match control {
            true => self.apply_control(handle, deadline).await,
            false => self.commit_file(ino, Extent::Flushable, deadline).await,
        }
    }

    /// Sends everything that was done to the file.
    pub async fn fsync(&self, ino: Ino, handle: u64) -> Result<(), Error> {
        let deadline = self.deadline();
        let control = self.inodes().is_control(ino);
        match control {
            true => self.apply_control(handle, deadline).await,
            false => {
                if self.is_async() {
                    // Should this process end, the next one sends it.
                    self.commit_file(ino, Extent::All, deadline).await?;
                }
                self.push(ino, Extent::All, deadline).await
            }
        }
    }

    /// Closes a handle. The last one that can write sends what no flush did; what cannot be sent
    /// then is parked, and the file shows the remote value again. What a flush could not send
    /// is not tried again behind the back of a writer who was told.
    ///
    /// # Errors
    /// Why something was parked. Nobody but the log hears of it.
    pub async fn release(&self, handle: u64) -> Result<(), Error> {
        if let Some(released) = self.controls.release(handle) {
            return released;
        }
        let Some(file) = self.lock_files().remove(&handle) else {
            return Ok(());
        };
        let (last_writer, refused, _dropping) = {
            let mut inodes = self.inodes();
            let record = record_of(&mut inodes, file.ino)?;
            record.writers = record.writers.saturating_sub(u32::from(file.write));
            let refused = record.unsent.as_ref().is_some_and(Unsent::is_refused);
            let last_writer = file.write && record.writers == 0;
            let gate = record.gate.clone();
            let dropping = (last_writer && refused).then(|| gate.try_lock_owned().ok());
            (last_writer, refused, dropping)
        };
        let sent = match last_writer {
            true if refused => Err(Error::Parked),
            true => {
                let deadline = self.deadline();
                self.commit_file(file.ino, Extent::Closed, deadline).await
            }
            false => Ok(()),
        };
        if let Err(error) = &sent {
            self.park(file.ino, error).await;
            self.go_back_to_journal(file.ino);
        }
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
            if sent.is_err() && !refused {
                self.untold.fetch_add(1, Ordering::Relaxed);
            }
        }
        inodes.drop_if_unused(file.ino);
        sent
    }

    /// Changes a file's size or mtime. With the file open for writing it goes with the next
    /// flush, else it is sent at once. Mode and owner are not stored, and asking is no error.
    pub async fn setattr(&self, ino: Ino, wanted: SetAttr) -> Result<Attr, Error> {
        let is_record = self.inodes().record(ino).is_some();
        if let Some(file) = self.control_file(ino) {
            if let Some(size) = wanted.size {
                self.truncate_control(&file, size, wanted.handle)?;
            }
        } else if is_record && (wanted.size.is_some() || wanted.modified.is_some()) {
            self.set_record(ino, wanted).await?;
        } else if !is_record && wanted.size.is_some() {
            return Err(Error::IsADirectory);
        }
        let (attr, _) = self.attr(ino)?;
        Ok(attr)
    }

    async fn set_record(&self, ino: Ino, wanted: SetAttr) -> Result<(), Error> {
        let deadline = self.deadline();
        let (at_once, drops) = {
            let mut inodes = match wanted.size {
                Some(_) => self.loaded(ino, deadline).await?,
                None => self.inodes(),
            };
            let superseded = inodes.standing(ino) == Standing::Superseded;
            let record = record_of(&mut inodes, ino)?;
            if superseded && record.writers == 0 {
                return Err(Error::Superseded);
            }
            let at_once = record.writers == 0 && wanted.handle.is_none();
            let drops = record.drops;
            if let Some(size) = wanted.size {
                truncate(&mut inodes, ino, size, true)?;
            }
            if let Some(modified) = wanted.modified {
                date(&mut inodes, ino, modified.into())?;
            }
            // Nobody's release may drop this before it is sent.
            record_of(&mut inodes, ino)?.opens += 1;
            (at_once, drops)
        };
        let sent = match at_once {
            true => self.commit_file(ino, Extent::Closed, deadline).await,
            false => Ok(()),
        };
        if let Err(error) = &sent {
            self.park(ino, error).await;
            self.go_back_to_journal(ino);
        }
        let mut inodes = self.inodes();
        let record = record_of(&mut inodes, ino)?;
        let dropped = at_once && record.drops != drops;
        record.opens = record.opens.saturating_sub(1);
        let last = record.opens == 0;
        if last {
            record.content = None;
        }
        if sent.is_err() && (last || record.writers == 0) {
            self.discard(&mut inodes, ino);
        }
        inodes.drop_if_unused(ino);
        match sent {
            Err(Error::Stale(source)) => Err(Error::Busy(source)),
            Ok(()) if dropped => Err(Error::Parked),
            sent => sent,
        }
    }
}

pub(super) fn record_of(inodes: &mut Inodes, ino: Ino) -> Result<&mut RecordNode, Error> {
    let known = inodes.get(ino).is_some();
    match (inodes.record_mut(ino), known) {
        (Some(record), _) => Ok(record),
        (None, true) => Err(Error::IsADirectory),
        (None, false) => Err(Error::Superseded),
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
