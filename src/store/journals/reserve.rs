//! Room on the disk for what must be noted even when there is none left.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::disk::files;

/// Enough for a value of the largest size, twice: SQLite writes it to its log first. The tests here
/// open thousands of journals, none of them on a full disk.
pub(super) const BYTES: usize = match cfg!(test) {
    true => 64 * 1024,
    false => 8 * 1024 * 1024,
};
/// How long after one attempt to make it again the next may follow.
const AGAIN: Duration = Duration::from_secs(1);

/// A place where room can be set aside.
pub(in crate::store) trait Room: fmt::Debug + Send {
    /// Sets it aside, unless it is already. Nothing is left of an attempt that fails.
    fn fill(&self) -> io::Result<()>;

    fn give_up(&self) -> io::Result<()>;
}

/// Room set aside beside a journal, given up when it is needed.
#[derive(Debug)]
pub(in crate::store) struct Reserve {
    room: Box<dyn Room>,
    is_made: bool,
    /// When it was tried last, if it ever was in vain.
    tried: Option<Instant>,
}

impl Reserve {
    /// Makes it, unless it is there. Where there is no room for it, it is made another time.
    pub(in crate::store) fn make(room: Box<dyn Room>, now: Instant) -> Self {
        let is_made = room.fill().is_ok();
        Self {
            room,
            is_made,
            tried: Some(now),
        }
    }

    /// Returns what memory needs, which is never spent.
    pub(in crate::store) fn in_memory() -> Self {
        Self {
            room: Box::new(RoomInMemory),
            is_made: true,
            tried: None,
        }
    }

    /// Gives the room up. Returns whether there was some.
    pub(in crate::store) fn spend(&mut self) -> bool {
        std::mem::take(&mut self.is_made) && self.room.give_up().is_ok()
    }

    /// Makes it again if it was spent. Returns whether it is there.
    pub(in crate::store) fn renew(&mut self, now: Instant) -> bool {
        let is_late = |tried| now.saturating_duration_since(tried) >= AGAIN;
        if !self.is_made && self.tried.is_none_or(is_late) {
            self.tried = Some(now);
            self.is_made = self.room.fill().is_ok();
        }
        self.is_made
    }
}

/// A file of zeros.
#[derive(Debug)]
pub(in crate::store) struct RoomInFile(pub(in crate::store) PathBuf);

impl Room for RoomInFile {
    fn fill(&self) -> io::Result<()> {
        let mut file = files::private(&self.0)?;
        if file.metadata()?.len() == BYTES as u64 {
            return Ok(());
        }
        let filled = write_zeros(&mut file);
        if filled.is_err() {
            // Half of it would be missed by others.
            let _ = fs::remove_file(&self.0);
        }
        filled
    }

    fn give_up(&self) -> io::Result<()> {
        fs::remove_file(&self.0)
    }
}

fn write_zeros(file: &mut fs::File) -> io::Result<()> {
    file.set_len(0)?;
    // A hole would hold no room.
    let zeros = [0; 64 * 1024];
    for _ in 0..BYTES / zeros.len() {
        file.write_all(&zeros)?;
    }
    Ok(())
}

/// What is in memory needs none.
#[derive(Debug)]
pub(in crate::store) struct RoomInMemory;

impl Room for RoomInMemory {
    fn fill(&self) -> io::Result<()> {
        Ok(())
    }

    fn give_up(&self) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }
}
