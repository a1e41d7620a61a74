//! Fingerprints of what was sent without an answer, as bytes.

use crate::sync::Mark;
use crate::sync::pending::Sent;

/// How they are written, in the first byte.
const ENCODING: u8 = 1;
/// A mark, and the count that was sent with it, the most significant byte first.
const LENGTH: usize = Mark::LENGTH + 8;

pub(super) fn encode(sent: &[Sent]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + sent.len() * LENGTH);
    bytes.push(ENCODING);
    for sent in sent {
        bytes.extend(sent.mark.to_bytes());
        bytes.extend(sent.count.to_be_bytes());
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
    let mut count = [0; 8];
    count.copy_from_slice(&bytes[Mark::LENGTH..]);
    let read = Mark::from_bytes(&mark);
    // What is read as less than was written has something in it that this version does not know.
    if read.to_bytes() != mark {
        return Err("a fingerprint is of an unknown kind".to_owned());
    }
    Ok(Sent {
        mark: read,
        count: i64::from_be_bytes(count),
    })
}
