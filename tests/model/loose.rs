//! A run in which another client changes things at any time, also while changes of this mount wait
//! to be sent. What comes of each is not foretold; but no value may disappear.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use super::ops::{KEYS, Mode, Op, SLOTS};
use super::real::{Real, World};
use super::reference::Key;

/// How long sending in the background, and what the kernel does behind a close, may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was done to a file that is open.
struct Slot {
    key: Key,
    mode: Mode,
    /// What was written and not closed or synced.
    texts: BTreeSet<String>,
    /// Its name was taken away: nothing is promised any more.
    is_unlinked: bool,
}

struct Run<'a> {
    real: Real<'a>,
    slots: [Option<Slot>; SLOTS as usize],
    /// What was closed here under a name and nobody destroyed since.
    ours: [BTreeSet<String>; KEYS.len()],
    /// What the other client put there and did not replace itself.
    theirs: BTreeSet<String>,
    /// What was read here, or looked up under a name that nothing was ever read of.
    shown: BTreeSet<String>,
    known: [bool; KEYS.len()],
    /// Makes every text another one.
    count: usize,
}

/// Runs operations on a dataset of their own.
///
/// # Errors
/// Which value is lost.
pub fn run(world: &mut World, ops: &[Op]) -> Result<(), String> {
    let mut run = Run {
        real: Real::new(world),
        slots: Default::default(),
        ours: Default::default(),
        theirs: BTreeSet::new(),
        shown: BTreeSet::new(),
        known: Default::default(),
        count: 0,
    };
    let done = run.all(ops);
    run.real.end();
    done
}

impl Run<'_> {
    fn all(&mut self, ops: &[Op]) -> Result<(), String> {
        for (number, op) in ops.iter().enumerate() {
            self.act(op)
                .map_err(|why| format!("step {number}, {op:?}: {why}"))?;
            if !matches!(op, Op::Weather(_)) {
                self.real.calm();
            }
            self.real.world.steps += 1;
        }
        for slot in 0..SLOTS {
            self.act(&Op::Close(slot))?;
        }
        // What is kept of a dataset can be seen while there is one.
        let _ = self.real.mkdir();
        self.real.sync().map_err(|error| error.to_string())?;
        self.check().map_err(|why| format!("the last look: {why}"))
    }

    /// Looks for every value that must be somewhere.
    fn check(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let lost = self.lost();
            if lost.is_none() || begun.elapsed() > PATIENCE {
                self.real.world.checked += self.theirs.len();
                return lost.map_or(Ok(()), Err);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn lost(&self) -> Option<String> {
        let there = self.real.service().records;
        let names = self.real.parked_names();
        let kept = names.iter().filter_map(|name| self.real.parked(name));
        let there = there.into_values().map(|record| record.value);
        let texts: Vec<String> = there.chain(kept.map(|kept| kept.3)).collect();
        let is_there = |value: &str| texts.iter().any(|text| text.contains(value));
        let was_shown = |value: &str| self.shown.iter().any(|text| text.contains(value));
        let theirs = self.theirs.iter().map(|text| ("theirs", text));
        let theirs = theirs.filter(|(_, text)| !was_shown(text));
        // What somebody writes to is sent when he closes it.
        let is_written = |key: usize| {
            let mut slots = self.slots.iter().flatten();
            slots.any(|slot| usize::from(slot.key) == key && slot.mode != Mode::Read)
        };
        let ours = self.ours.iter().enumerate();
        let ours = ours.filter(|(key, _)| !is_written(*key));
        let ours = ours.flat_map(|(_, texts)| texts.iter().map(|text| ("ours", text)));
        let mut lost = theirs.chain(ours).filter(|(_, text)| !is_there(text));
        let (whose, text) = lost.next()?;
        Some(format!("{text:?}, {whose}, is lost; there is {texts:?}"))
    }

    fn text(&mut self, kind: &str) -> String {
        self.count += 1;
        format!("{kind}{} ", self.count)
    }

    fn value(&self, key: Key) -> Option<String> {
        let mut records = self.real.service().records;
        records.remove(&key).map(|record| record.value)
    }

    /// A name that nothing was read of shows what a lookup finds.
    fn look(&mut self, key: Key) {
        if !self.known[usize::from(key)] {
            self.shown.extend(self.value(key));
        }
    }

    /// What was written under a name is destroyed by its user.
    fn destroy(&mut self, key: Key) {
        self.ours[usize::from(key)].clear();
        for slot in self.slots.iter_mut().flatten() {
            if slot.key == key {
                slot.texts.clear();
            }
        }
    }

    fn unlinked(&mut self, key: Key) {
        self.destroy(key);
        self.known[usize::from(key)] = false;
        for slot in self.slots.iter_mut().flatten() {
            slot.is_unlinked |= slot.key == key;
        }
    }

    /// The other client replaced or removed a value.
    fn replaced(&mut self, value: &str) {
        self.theirs.retain(|text| !value.contains(text.as_str()));
        for ours in &mut self.ours {
            ours.retain(|text| !value.contains(text.as_str()));
        }
    }

    fn set(&mut self, key: Key, extends: bool) {
        let text = self.text(if extends { "x" } else { "s" });
        let mut value = String::new();
        let old = self.real.change_with(key, |old| {
            value = match old.filter(|_| extends) {
                Some(old) => old.to_owned() + &text,
                None => text.clone(),
            };
            Some(value.clone())
        });
        match old {
            Some(old) if !extends => self.replaced(&old),
            Some(old) => {
                self.theirs.remove(&old);
            }
            None => {}
        }
        self.theirs.insert(value);
    }

    fn act(&mut self, op: &Op) -> Result<(), String> {
        let keys: &[Key] = match op {
            Op::Write(key)
            | Op::Empty(key)
            | Op::AppendTo(key)
            | Op::EditAt(key, _)
            | Op::Cut(key, _)
            | Op::Touch(key, _)
            | Op::Unlink(key)
            | Op::Open(_, key, _) => &[*key],
            Op::Rename(from, to) | Op::RenameNoReplace(from, to) => &[*from, *to],
            _ => &[],
        };
        keys.iter().for_each(|key| self.look(*key));
        self.act_there_or_here(op)?;
        keys.iter().for_each(|key| self.look(*key));
        Ok(())
    }

    fn act_there_or_here(&mut self, op: &Op) -> Result<(), String> {
        match *op {
            Op::Write(key) => {
                let text = self.text("w");
                self.command(key, Mode::Truncate, Some((0, text)));
            }
            Op::Empty(key) => self.command(key, Mode::Truncate, None),
            Op::AppendTo(key) => {
                let text = self.text("+");
                self.command(key, Mode::Append, Some((0, text)));
            }
            Op::EditAt(key, at) => {
                let text = self.text("e");
                self.command(key, Mode::Edit, Some((at, text)));
            }
            Op::Cut(key, size) => {
                let _ = self.real.cut(key, size.into());
                self.destroy(key);
            }
            Op::Touch(key, time) => {
                let _ = self.real.touch(key, 1_500_000_000 + i64::from(time));
            }
            Op::Read(key) => {
                if let Ok(file) = self.real.open(key, Mode::Read) {
                    if let Ok((text, _)) = Real::read(&file) {
                        self.shown.insert(text);
                        self.known[usize::from(key)] = true;
                    }
                    let _ = Real::close(file);
                }
            }
            Op::Rename(from, to) => self.rename(from, to, true),
            Op::RenameNoReplace(from, to) => self.rename(from, to, false),
            Op::Unlink(key) => {
                if self.real.unlink(key).is_ok() {
                    self.unlinked(key);
                }
            }
            Op::Open(..)
            | Op::ReadOpen(_)
            | Op::WriteOpen(..)
            | Op::CutOpen(..)
            | Op::Fsync(_)
            | Op::Close(_)
            | Op::DropPages(_) => self.act_on_open(op),
            Op::Mkdir => {
                let _ = self.real.mkdir();
            }
            Op::Rmdir => {
                if self.real.rmdir().is_ok() {
                    self.known = Default::default();
                }
            }
            Op::Set(key) => self.set(key, false),
            Op::Extend(key) => self.set(key, true),
            Op::Remove(key) => {
                if let Some(old) = self.real.change_with(key, |_| None) {
                    self.replaced(&old);
                }
            }
            Op::Delete => {
                // What the daemon sends between a look and a deletion would be seen by nobody.
                let there = self.real.look_and_delete();
                if there.exists {
                    // What was written here may have been refused since, and shown nothing.
                    self.known = Default::default();
                    for record in there.records.into_values() {
                        self.replaced(&record.value);
                    }
                }
            }
            Op::Weather(weather) => self.real.weather(weather),
            Op::Sync => {
                if self.real.sync().is_ok() {
                    self.real.calm();
                    return self.check();
                }
            }
            Op::Kill => {
                self.slots = Default::default();
                self.known = Default::default();
                self.real.kill();
            }
        }
        Ok(())
    }

    fn rename(&mut self, from: Key, to: Key, replaces: bool) {
        let before = self.value(from);
        if self.real.rename(from, to, replaces).is_err() || from == to {
            return;
        }
        // Whoever gives a value a new name has it shown under that.
        self.shown.extend(before);
        let moved = std::mem::take(&mut self.ours[usize::from(from)]);
        self.unlinked(from);
        self.unlinked(to);
        self.ours[usize::from(to)] = moved;
        self.known[usize::from(to)] = true;
        for slot in self.slots.iter_mut().flatten() {
            if slot.key == from {
                slot.key = to;
            }
        }
    }

    /// Opens, writes and closes.
    fn command(&mut self, key: Key, mode: Mode, write: Option<(u8, String)>) {
        let Ok(file) = self.real.open(key, mode) else {
            return;
        };
        if mode != Mode::Append {
            self.destroy(key);
        }
        let text = write.as_ref().map(|(_, text)| text.clone());
        let written = write.map_or(Ok(()), |(at, text)| {
            let at = place(&file, mode, at)?;
            Real::write(&file, at, &text)
        });
        if Real::close(file).is_ok() && written.is_ok() {
            self.ours[usize::from(key)].extend(text);
            self.known[usize::from(key)] = true;
        }
    }

    fn act_on_open(&mut self, op: &Op) {
        let (Op::Open(slot, ..)
        | Op::ReadOpen(slot)
        | Op::WriteOpen(slot, _)
        | Op::CutOpen(slot, _)
        | Op::Fsync(slot)
        | Op::Close(slot)
        | Op::DropPages(slot)) = *op
        else {
            return;
        };
        let at = usize::from(slot);
        let (Some(mut slot), Some(file)) = (self.slots[at].take(), self.real.handles[at].take())
        else {
            if let Op::Open(_, key, mode) = *op
                && let Ok(file) = self.real.open(key, mode)
            {
                if mode == Mode::Truncate {
                    self.destroy(key);
                }
                self.real.handles[at] = Some(file);
                self.slots[at] = Some(Slot {
                    key,
                    mode,
                    texts: BTreeSet::new(),
                    is_unlinked: false,
                });
            }
            return;
        };
        let reads = matches!(slot.mode, Mode::Read | Mode::Edit | Mode::Create);
        let writes = slot.mode != Mode::Read;
        match *op {
            Op::ReadOpen(_) if reads => {
                if let Ok((text, _)) = Real::read(&file) {
                    self.shown.insert(text);
                }
            }
            Op::WriteOpen(_, place_at) if writes => {
                let text = self.text("o");
                if slot.mode != Mode::Append {
                    self.destroy(slot.key);
                    slot.texts.clear();
                }
                let written = place(&file, slot.mode, place_at)
                    .and_then(|place| Real::write(&file, place, &text));
                if written.is_ok() && !slot.is_unlinked {
                    slot.texts.insert(text);
                }
            }
            Op::CutOpen(_, size) if writes => {
                self.destroy(slot.key);
                slot.texts.clear();
                let _ = file.set_len(size.into());
            }
            Op::Fsync(_) => {
                let synced = file.sync_all();
                if synced.is_ok() {
                    self.ours[usize::from(slot.key)].append(&mut slot.texts);
                }
            }
            Op::Close(_) => {
                if Real::close(file).is_ok() {
                    self.ours[usize::from(slot.key)].append(&mut slot.texts);
                }
                return;
            }
            Op::DropPages(_) => Real::drop_pages(&file),
            _ => {}
        }
        self.slots[at] = Some(slot);
        self.real.handles[at] = Some(file);
    }
}

/// Where in a file a write goes; None at its end.
fn place(file: &File, mode: Mode, at: u8) -> io::Result<Option<usize>> {
    if mode == Mode::Append {
        return Ok(None);
    }
    let size = file.metadata()?.len() as usize;
    Ok(Some(usize::from(at) % (size + 1)))
}
