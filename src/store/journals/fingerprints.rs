//! Fingerprints of what was sent without an answer, as bytes.

use crate::sync::Mark;
use crate::sync::pending::Sent;

/// How they are written, in the first byte.
const ENCODING: u8 = 1;
/// How long the text of what is no append was.
const NO_APPEND: i64 = -1;
/// A mark, the count that was sent with it, and how long the text of an append was; the most
/// significant byte first.
const LENGTH: usize = Mark::LENGTH + 8 + 8;

pub(super) fn encode(sent: &[Sent]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + sent.len() * LENGTH);
    bytes.push(ENCODING);
    for sent in sent {
        bytes.extend(sent.mark.to_bytes());
        bytes.extend(sent.count.to_be_bytes());
        let appended = sent.appended.and_then(|length| i64::try_from(length).ok());
        bytes.extend(appended.unwrap_or(NO_APPEND).to_be_bytes());
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
            bytes.extend(NO_APPEND.to_be_bytes());
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
    let appended = number(Mark::LENGTH + 8);
    if appended < NO_APPEND {
        return Err(format!("a fingerprint is of an append of {appended} bytes"));
    }
    let read = Mark::from_bytes(&mark);
    // What is read as less than was written has something in it that this version does not know.
    if read.to_bytes() != mark {
        return Err("a fingerprint is of an unknown kind".to_owned());
    }
    Ok(Sent {
        mark: read,
        count: number(Mark::LENGTH),
        appended: u64::try_from(appended).ok(),
    })
}
