//! What is done at random.

use proptest::prelude::*;

/// Names of records.
pub const KEYS: [&str; 4] = ["a", "b", "c", "d"];
/// How many files can be open at a time.
pub const SLOTS: u8 = 3;

/// How a file is opened that stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Read,
    /// For reading and writing; it must be there.
    Edit,
    /// For reading and writing, made if it is not there.
    Create,
    Append,
    Truncate,
}

/// What happens to the next calls of the step it comes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    Throttled(u8),
    Failing(u8),
    LosesCalls(u8),
    LosesAnswers(u8),
}

/// One step. Numbers stand for keys, slots, and places in a text, each modulo what there is.
#[derive(Clone, Debug)]
pub enum Op {
    /// A whole file, as `echo text > key` writes it.
    Write(u8),
    /// A whole file without anything in it.
    Empty(u8),
    /// `echo text >> key`
    AppendTo(u8),
    /// A part of a file in its middle.
    EditAt(u8, u8),
    /// truncate(2)
    Cut(u8, u8),
    /// `touch -d`
    Touch(u8, u8),
    Read(u8),
    Rename(u8, u8),
    RenameNoReplace(u8, u8),
    Unlink(u8),
    Open(u8, u8, Mode),
    ReadOpen(u8),
    WriteOpen(u8, u8),
    CutOpen(u8, u8),
    Fsync(u8),
    Close(u8),
    /// The kernel forgets the pages of an open file.
    DropPages(u8),
    Mkdir,
    Rmdir,
    /// Another client writes, appends, removes, deletes the dataset.
    Set(u8),
    Extend(u8),
    Remove(u8),
    Delete,
    /// fsync(2) of the directory.
    Sync,
    /// Of the next step.
    Weather(Weather),
    /// The daemon is killed, and the mount made again.
    Kill,
}

fn weather() -> impl Strategy<Value = Weather> {
    prop_oneof![
        1 => (1..3u8).prop_map(Weather::Throttled),
        1 => (1..3u8).prop_map(Weather::Failing),
        2 => Just(Weather::LosesCalls(1)),
        4 => Just(Weather::LosesAnswers(1)),
    ]
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        Just(Mode::Read),
        Just(Mode::Edit),
        Just(Mode::Create),
        Just(Mode::Append),
        Just(Mode::Truncate),
    ]
}

fn op(kills: u32) -> impl Strategy<Value = Op> {
    let key = || 0..KEYS.len() as u8;
    let slot = || 0..SLOTS;
    let place = || 0..12u8;
    prop_oneof![
        8 => key().prop_map(Op::Write),
        1 => key().prop_map(Op::Empty),
        6 => key().prop_map(Op::AppendTo),
        4 => (key(), place()).prop_map(|(key, at)| Op::EditAt(key, at)),
        2 => (key(), place()).prop_map(|(key, size)| Op::Cut(key, size)),
        2 => (key(), place()).prop_map(|(key, time)| Op::Touch(key, time)),
        6 => key().prop_map(Op::Read),
        5 => (key(), key()).prop_map(|(from, to)| Op::Rename(from, to)),
        2 => (key(), key()).prop_map(|(from, to)| Op::RenameNoReplace(from, to)),
        4 => key().prop_map(Op::Unlink),
        10 => (slot(), key(), mode()).prop_map(|(slot, key, mode)| Op::Open(slot, key, mode)),
        5 => slot().prop_map(Op::ReadOpen),
        12 => (slot(), place()).prop_map(|(slot, at)| Op::WriteOpen(slot, at)),
        4 => (slot(), place()).prop_map(|(slot, size)| Op::CutOpen(slot, size)),
        4 => slot().prop_map(Op::Fsync),
        8 => slot().prop_map(Op::Close),
        1 => slot().prop_map(Op::DropPages),
        2 => Just(Op::Mkdir),
        1 => Just(Op::Rmdir),
        12 => key().prop_map(Op::Set),
        4 => key().prop_map(Op::Extend),
        5 => key().prop_map(Op::Remove),
        1 => Just(Op::Delete),
        2 => weather().prop_map(Op::Weather),
        2 => Just(Op::Sync),
        1 => prop_oneof![2 => Just(Op::Mkdir), kills => Just(Op::Kill)],
    ]
}

/// `kills` of `kills` + 2 in a hundred steps or so are a [`Op::Kill`].
pub fn ops(count: usize, kills: u32) -> impl Strategy<Value = Vec<Op>> {
    // Without a dataset little can be done.
    let rest = prop::collection::vec(op(kills), count - 1);
    (0..KEYS.len() as u8, rest).prop_map(|(key, mut ops)| {
        ops.insert(0, Op::Set(key));
        ops
    })
}
