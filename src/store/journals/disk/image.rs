//! What a database holds at one moment, put together in memory from its file and its log.
//!
//! SQLite itself would take locks to tell, and write an index of the log if there is none. Whoever
//! only looks can do without: as long as the log is the same one, it holds every page that is being
//! written to the file. File format: <https://www.sqlite.org/fileformat2.html#walformat>.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::{Connection, MAIN_DB, ffi};

use super::super::error::JournalError;
use super::files::{self, beside};

/// How often a file is read anew whose log began anew meanwhile.
const LOOKS: usize = 10;
/// Bytes of SQLite's smallest page.
const SHORTEST: usize = 512;
const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// Returns a connection to a copy of a database in memory; none if there is no such file.
///
/// The file is opened and closed, and with that SQLite loses the locks that it has on it in this
/// process. Whoever holds a journal needs none of them; the file of kept versions does.
pub(super) fn look_at(path: &Path) -> Result<Option<Connection>, JournalError> {
    let failed = |error| JournalError::file(path, error);
    for _ in 0..LOOKS {
        let before = read(&beside(path, "-wal"), LOG_HEADER as u64).map_err(failed)?;
        let Some(image) = read(path, u64::MAX).map_err(failed)? else {
            return Ok(None);
        };
        let log = read(&beside(path, "-wal"), u64::MAX).map_err(failed)?;
        let (before, log) = (before.unwrap_or_default(), log.unwrap_or_default());
        // Without a whole header there is nothing in it yet.
        if before.len() == LOG_HEADER && !log.starts_with(&before) {
            continue;
        }
        if before.len() < LOG_HEADER && log.len() >= LOG_HEADER {
            continue;
        }
        let opened = open(overlaid(image, &log));
        return opened
            .map(Some)
            .map_err(|error| JournalError::of(path, error));
    }
    Err(JournalError::Busy(path.to_owned()))
}

/// Reads the beginning of a file, if it is there.
fn read(path: &Path, length: u64) -> io::Result<Option<Vec<u8>>> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    files::expect_regular(&file)?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Opens an image, whose header is made to tell of no log. One without a byte has no table yet.
fn open(mut image: Vec<u8>) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open_in_memory()?;
    if image.is_empty() {
        return Ok(connection);
    }
    // SQLite would take anything that is short for a file that is not written yet.
    if image.len() < SHORTEST || !image.starts_with(b"SQLite format 3\0") {
        let error = ffi::Error::new(ffi::SQLITE_NOTADB);
        return Err(rusqlite::Error::SqliteFailure(error, None));
    }
    image[18..20].fill(1);
    connection.deserialize_read_exact(MAIN_DB, &*image, image.len(), true)?;
    Ok(connection)
}

/// Puts the pages of a log over those of the file, up to the last transaction that is whole.
fn overlaid(mut image: Vec<u8>, log: &[u8]) -> Vec<u8> {
    let Some((header, frames)) = log.split_at_checked(LOG_HEADER) else {
        return image;
    };
    let big = match word(header, 0) {
        0x377f_0682 => false,
        0x377f_0683 => true,
        _ => return image,
    };
    let page_size = word(header, 2) as usize;
    let mut sum = summed((0, 0), &header[..24], big);
    let is_page = page_size.is_power_of_two() && (512..=65536).contains(&page_size);
    if !is_page || sum != (word(header, 6), word(header, 7)) {
        return image;
    }
    // The pages of a transaction that is not whole yet.
    let mut pages: Vec<(usize, &[u8])> = Vec::new();
    for frame in frames.chunks_exact(FRAME_HEADER + page_size) {
        let (head, page) = frame.split_at(FRAME_HEADER);
        sum = summed(summed(sum, &head[..8], big), page, big);
        let number = word(head, 0) as usize;
        // What is left of the log before it has other salts.
        if head[8..16] != header[16..24] || sum != (word(head, 4), word(head, 5)) || number == 0 {
            break;
        }
        pages.push((number, page));
        let size = word(head, 1) as usize;
        if size > 0 {
            let room = pages
                .iter()
                .map(|(number, _)| *number)
                .max()
                .unwrap_or(0)
                .max(size);
            image.resize(image.len().max(room * page_size), 0);
            for (number, page) in pages.drain(..) {
                image[(number - 1) * page_size..][..page_size].copy_from_slice(page);
            }
            image.truncate(size * page_size);
        }
    }
    image
}

/// Returns a number of four bytes, the most significant first.
fn word(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[4 * at..][..4]);
    u32::from_be_bytes(word)
}

/// Goes on with a checksum over bytes that are a multiple of eight.
fn summed((mut one, mut two): (u32, u32), bytes: &[u8], big: bool) -> (u32, u32) {
    let (words, _) = bytes.as_chunks::<4>();
    let number = |word: [u8; 4]| match big {
        true => u32::from_be_bytes(word),
        false => u32::from_le_bytes(word),
    };
    for pair in words.chunks_exact(2) {
        one = one.wrapping_add(number(pair[0])).wrapping_add(two);
        two = two.wrapping_add(number(pair[1])).wrapping_add(one);
    }
    (one, two)
}
