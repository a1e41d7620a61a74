//! Room on the disk for what must be noted even when there is none left.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::private;

/// Enough for a value of the largest size, twice: SQLite writes it to its log first.
pub(super) const BYTES: usize = 8 * 1024 * 1024;
/// How long after one attempt to make it again the next may follow.
const AGAIN: Duration = Duration::from_secs(1);

/// A file of zeros beside the journal, removed when its room is needed.
#[derive(Debug)]
pub(super) struct Reserve {
    path: Option<PathBuf>,
    is_made: bool,
    /// When it was last made or could not be; never for a journal in memory.
    tried: Option<Instant>,
}

impl Reserve {
    /// A journal in memory needs none.
    pub(super) fn none() -> Self {
        Self {
            path: None,
            is_made: true,
            tried: None,
        }
    }

    /// Makes it, unless it is there. Where there is no room for it, it is made another time.
    pub(super) fn make(directory: &Path, now: Instant) -> Self {
        let mut reserve = Self {
            path: Some(directory.join("reserve")),
            is_made: false,
            tried: None,
        };
        reserve.fill(now);
        reserve
    }

    /// Gives the room up. Returns whether there was some.
    pub(super) fn spend(&mut self) -> bool {
        let Some(path) = &self.path else {
            return false;
        };
        std::mem::take(&mut self.is_made) && fs::remove_file(path).is_ok()
    }

    /// Makes it again if it was spent. Returns whether it is there.
    pub(super) fn renew(&mut self, now: Instant) -> bool {
        let since = |tried: Instant| now.saturating_duration_since(tried);
        if !self.is_made && self.tried.is_none_or(|tried| since(tried) >= AGAIN) {
            self.fill(now);
        }
        self.is_made
    }

    fn fill(&mut self, now: Instant) {
        let Some(path) = &self.path else {
            return;
        };
        self.tried = Some(now);
        self.is_made = fill(path).is_ok();
        if !self.is_made {
            // Half of it would be missed by others.
            let _ = fs::remove_file(path);
        }
    }
}

fn fill(path: &Path) -> io::Result<()> {
    let mut file = private(path)?;
    if file.metadata()?.len() == BYTES as u64 {
        return Ok(());
    }
    file.set_len(0)?;
    // A hole would hold no room.
    let zeros = [0; 64 * 1024];
    for _ in 0..BYTES / zeros.len() {
        file.write_all(&zeros)?;
    }
    Ok(())
}
