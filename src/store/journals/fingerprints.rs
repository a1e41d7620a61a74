//! Fingerprints of what was sent without an answer, as bytes.

use crate::sync::Mark;
use crate::sync::pending::{Appended, Sent};

/// How they are written, in the first byte.
const ENCODING: u8 = 1;
/// What is said of texts where there is no append.
const NO_APPEND: i64 = -1;
/// A mark, the count that was sent with it, and, of an append, how long the whole text was and how much
/// of what is to be added was made with it; the most significant byte first.
const LENGTH: usize = Mark::LENGTH + 8 + 8 + 8;

pub(super) fn encode(sent: &[Sent]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + sent.len() * LENGTH);
    bytes.push(ENCODING);
    for sent in sent {
        bytes.extend(sent.mark.to_bytes());
        bytes.extend(sent.count.to_be_bytes());
        let lengths = sent.appended.and_then(|appended| {
            let whole = i64::try_from(appended.whole).ok()?;
            Some([whole, i64::try_from(appended.text).ok()?])
        });
        for length in lengths.unwrap_or([NO_APPEND; 2]) {
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes
}

/// Takes marks as they were written one after another, each sent with the same count. Bytes that
/// are no marks are kept, and cannot be read.
pub(super) fn encode_marks(marks: &[u8], count: i64) -> Vec<u8> {
    let mut bytes = vec![ENCODING];
    for mark in marks.chunks(Mark::LENGTH) {
        bytes.extend(mark);
        if mark.len() == Mark::LENGTH {
            bytes.extend(count.to_be_bytes());
            bytes.extend([NO_APPEND; 2].map(i64::to_be_bytes).concat());
        }
    }
    bytes
}

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Sent>, String> {
    let Some((&ENCODING, rest)) = bytes.split_first() else {
        return Err("the fingerprints are written in an unknown way".to_owned());
    };
    let (each, []) = rest.as_chunks::<LENGTH>() else {
        return Err(format!("the fingerprints have {} bytes", bytes.len()));
    };
    each.iter().map(decode_one).collect()
}

fn decode_one(bytes: &[u8; LENGTH]) -> Result<Sent, String> {
    let mut mark = [0; Mark::LENGTH];
    mark.copy_from_slice(&bytes[..Mark::LENGTH]);
    let number = |from: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[from..from + 8]);
        i64::from_be_bytes(number)
    };
    let appended = match (number(Mark::LENGTH + 8), number(Mark::LENGTH + 16)) {
        (NO_APPEND, NO_APPEND) => None,
        (whole @ 0.., text @ 0..) => Some(Appended {
            whole: whole.unsigned_abs(),
            text: text.unsigned_abs(),
        }),
        (whole, text) => {
            let why = format!("a fingerprint is of an append of {text} bytes of {whole}");
            return Err(why);
        }
    };
    let read = Mark::from_bytes(&mark);
    // What is read as less than was written has something in it that this version does not know.
    if read.to_bytes() != mark {
        return Err("a fingerprint is of an unknown kind".to_owned());
    }
    Ok(Sent {
        mark: read,
        count: number(Mark::LENGTH),
        appended,
    })
}
