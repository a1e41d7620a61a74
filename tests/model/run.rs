//! One run: every step on both sides, and then a look at both.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use super::ledger::Ledger;
use super::ops::{KEYS, Mode, Op, SLOTS};
use super::real::{Real, World};
use super::reference::{Handle, Key, Parked, Reference};

/// How long what the kernel does behind a close may take.
const PATIENCE: Duration = Duration::from_secs(2);

struct Run<'a> {
    real: Real<'a>,
    model: Reference,
    ledger: Ledger,
    /// Kept versions as last seen, by their file names.
    parked: BTreeMap<String, Parked>,
    /// Makes every text another one.
    texts: usize,
}

/// Runs operations on a dataset of their own.
///
/// # Errors
/// Where the two sides differ.
pub fn run(world: &mut World, ops: &[Op]) -> Result<(), String> {
    let keeps_unseen = world.settings.keeps_unseen;
    let mut run = Run {
        real: Real::new(world),
        model: Reference::new(keeps_unseen),
        ledger: Ledger::default(),
        parked: BTreeMap::new(),
        texts: 0,
    };
    let done = run.all(ops);
    run.real.end();
    run.real.world.checked += run.ledger.gone;
    run.real.world.kept += run.ledger.kept;
    done
}

impl Run<'_> {
    fn all(&mut self, ops: &[Op]) -> Result<(), String> {
        for (number, op) in ops.iter().enumerate() {
            self.step(op)
                .map_err(|why| format!("step {number}, {op:?}: {why}"))?;
            self.real.world.steps += 1;
        }
        for slot in 0..SLOTS {
            self.step(&Op::Close(slot))
                .map_err(|why| format!("the last close of {slot}: {why}"))?;
        }
        self.step(&Op::Sync)
            .map_err(|why| format!("the last sync: {why}"))?;
        // What is kept of a dataset can be seen while there is one.
        if !self.model.exists() {
            self.step(&Op::Mkdir)?;
        }
        for key in 0..KEYS.len() as Key {
            self.step(&Op::Read(key))
                .map_err(|why| format!("the last look at {key}: {why}"))?;
        }
        Ok(())
    }

    fn step(&mut self, op: &Op) -> Result<(), String> {
        if let Op::Weather(weather) = op {
            self.real.weather(*weather);
            return Ok(());
        }
        let by_others = matches!(op, Op::Set(_) | Op::Extend(_) | Op::Remove(_) | Op::Delete);
        let is_async = self.real.world.settings.is_async;
        if is_async && by_others {
            // Otherwise what becomes of both depends on when ours is sent.
            for slot in 0..SLOTS {
                self.step(&Op::Close(slot))?;
            }
            self.step(&Op::Sync)?;
        }
        let before = self.model.service.records.clone();
        let touched = self.act(op)?;
        self.real.calm();
        if matches!(op, Op::Kill) {
            self.ledger.forget();
        }
        self.real.enter(self.model.exists());
        self.model.look();
        // What somebody writes to is sent when he closes it.
        let is_written = |handle: &Handle| handle.write;
        let is_written = self.model.handles.iter().flatten().any(is_written);
        let is_sent = matches!(op, Op::Sync) && !is_written;
        self.settle(&touched, !is_async || is_sent)?;
        if is_async {
            // What nobody saw is never replaced, and what was is not to be kept.
            for key in touched.iter().filter(|_| by_others) {
                self.read(*key)?;
            }
        } else if !by_others {
            let after = self.real.service().records;
            let kept: Vec<Parked> = match self.model.exists() {
                true => self.parked.values().cloned().collect(),
                // They cannot be looked at now, and are when there is a dataset again.
                false => self.model.parked.iter().cloned().collect(),
            };
            self.ledger.check(&before, &after, &kept)?;
        }
        Ok(())
    }

    /// Waits until the sides agree: the kernel releases a file after close has returned.
    fn settle(&mut self, touched: &[Key], is_sent: bool) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let compared = self.compare(touched, is_sent);
            if compared.is_ok() || begun.elapsed() > PATIENCE {
                return compared;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn compare(&mut self, touched: &[Key], is_sent: bool) -> Result<(), String> {
        if is_sent {
            self.compare_service()?;
        }
        let files = self.model.files();
        let names = self.model.exists().then(|| files.keys().copied().collect());
        differs("the names", &names, &self.real.names())?;
        for key in touched {
            let Some(text) = files.get(key) else {
                let found = self.real.size(*key).map_err(|error| error.raw_os_error());
                differs("a size", &Err(Some(libc::ENOENT)), &found)?;
                continue;
            };
            if self.model.is_shown(*key) {
                let read = self.real.open(*key, Mode::Read).and_then(|file| {
                    let read = Real::read(&file);
                    Real::close(file)?;
                    read
                });
                let read = read.map_err(|error| format!("{key} cannot be read: {error}"))?;
                differs(
                    "a text and its size",
                    &(text.clone(), text.len() as u64),
                    &read,
                )?;
            } else {
                let size = self.real.size(*key).map_err(|error| error.to_string())?;
                differs("a size", &(text.len() as u64), &size)?;
            }
        }
        match self.model.exists() {
            true => self.compare_parked(),
            false => Ok(()),
        }
    }

    fn compare_service(&self) -> Result<(), String> {
        let (mut expected, mut service) = (self.model.service.clone(), self.real.service());
        if self.real.world.settings.is_async {
            // How many updates it was is not foretold, nor whether one was needed.
            for side in [&mut expected, &mut service] {
                side.count = 0;
                side.exists = !side.records.is_empty();
                side.records
                    .values_mut()
                    .for_each(|record| record.count = 0);
            }
        } else if !expected.exists {
            expected.count = 0;
        }
        differs("the service", &expected, &service)
    }

    fn compare_parked(&mut self) -> Result<(), String> {
        let names = self.real.parked_names();
        let mut parked = BTreeMap::new();
        for name in names {
            // The number tells which of several it is, and is another when one has gone.
            let known = self
                .parked
                .remove(&name)
                .filter(|_| !name.ends_with(char::is_numeric));
            let read = known.or_else(|| self.real.parked(&name));
            parked.insert(name, read.ok_or("a kept version went while it was read")?);
        }
        self.parked = parked;
        self.model.list_parked();
        let expected: Vec<_> = self.model.parked.iter().collect();
        let mut found: Vec<_> = self.parked.values().collect();
        found.sort();
        differs("what is kept", &expected, &found)
    }

    fn text(&mut self, kind: &str) -> String {
        self.texts += 1;
        format!("{kind}{} ", self.texts)
    }

    /// Does it on both sides, and returns the keys that are to be looked at.
    fn act(&mut self, op: &Op) -> Result<Vec<Key>, String> {
        let touched = match *op {
            Op::Write(key) => {
                let text = self.text("w");
                self.command(key, Mode::Truncate, Some((0, text)))?;
                vec![key]
            }
            Op::Empty(key) => {
                self.command(key, Mode::Truncate, None)?;
                vec![key]
            }
            Op::AppendTo(key) => {
                let text = self.text("+");
                self.command(key, Mode::Append, Some((0, text)))?;
                vec![key]
            }
            Op::EditAt(key, at) => {
                let text = self.text("e");
                self.command(key, Mode::Edit, Some((at, text)))?;
                vec![key]
            }
            Op::Cut(key, size) => {
                let (size, expected) = self.model.cut(key, size);
                same("truncate", expected, self.real.cut(key, size))?;
                vec![key]
            }
            Op::Touch(key, time) => {
                let time = 1_500_000_000 + i64::from(time);
                let expected = self.model.touch(key);
                same("utimens", expected, self.real.touch(key, time))?;
                if expected.is_ok() {
                    differs("the mtime", &time, &self.real.modified(key))?;
                }
                vec![key]
            }
            Op::Read(key) => {
                self.read(key)?;
                vec![key]
            }
            Op::Rename(from, to) => self.rename(from, to, true)?,
            Op::RenameNoReplace(from, to) => self.rename(from, to, false)?,
            Op::Unlink(key) => {
                let expected = self.model.unlink(key);
                same("unlink", expected, self.real.unlink(key))?;
                if expected.is_ok() {
                    self.ledger.let_go(key);
                }
                vec![key]
            }
            Op::Open(slot, key, mode) if self.real.handles[usize::from(slot)].is_none() => {
                let (model, real) = (self.model.open(key, mode), self.real.open(key, mode));
                self.model.handles[usize::from(slot)] = model.ok();
                let expected = model.map(drop);
                self.real.handles[usize::from(slot)] = same("open", expected, real)?;
                vec![key]
            }
            Op::Open(..) => vec![],
            Op::ReadOpen(_)
            | Op::WriteOpen(..)
            | Op::CutOpen(..)
            | Op::Fsync(_)
            | Op::Close(_)
            | Op::DropPages(_) => self.act_on_open(op)?,
            Op::Mkdir => {
                same("mkdir", self.model.mkdir(), self.real.mkdir())?;
                vec![]
            }
            Op::Rmdir => {
                same("rmdir", self.model.rmdir(), self.real.rmdir())?;
                vec![]
            }
            Op::Set(key) => {
                let text = self.text("s");
                self.set(key, text)
            }
            Op::Extend(key) => {
                let old = self.model.service.records.get(&key);
                let old = old.map_or(String::new(), |record| record.value.clone());
                let text = old + &self.text("x");
                self.set(key, text)
            }
            Op::Remove(key) if self.model.service.records.contains_key(&key) => {
                self.model.remove(key);
                self.real.change(key, None);
                vec![key]
            }
            Op::Delete if self.model.service.exists && self.real.service().exists => {
                self.model.delete();
                self.real.delete();
                vec![]
            }
            Op::Remove(_) | Op::Delete | Op::Weather(_) => vec![],
            Op::Sync => {
                if self.model.exists() {
                    same("fsync of the directory", Ok(()), self.real.sync())?;
                }
                (0..KEYS.len() as Key).collect()
            }
            Op::Kill => {
                if self.real.world.settings.is_async {
                    // A file that was only made is noted behind its close.
                    std::thread::sleep(Duration::from_millis(50));
                }
                self.model.kill();
                self.real.kill();
                if self.real.world.settings.is_async && self.model.files().is_empty() {
                    // A dataset is gone if it never had a record that was sent.
                    match (self.model.exists(), self.real.names().is_some()) {
                        (true, false) => self.model.delete(),
                        (false, true) => drop(self.model.mkdir()),
                        _ => {}
                    }
                }
                (0..KEYS.len() as Key).collect()
            }
        };
        Ok(touched)
    }

    fn rename(&mut self, from: Key, to: Key, replaces: bool) -> Result<Vec<Key>, String> {
        let expected = self.model.rename(from, to, replaces);
        same("rename", expected, self.real.rename(from, to, replaces))?;
        if expected.is_ok() && from != to {
            self.ledger.let_go(from);
        }
        Ok(vec![from, to])
    }

    fn set(&mut self, key: Key, text: String) -> Vec<Key> {
        self.real.change(key, Some(&text));
        self.model.set(key, text);
        vec![key]
    }

    /// Opens, writes and closes as a shell does, whose redirection closes a duplicate first.
    fn command(&mut self, key: Key, mode: Mode, write: Option<(u8, String)>) -> Result<(), String> {
        let (model, real) = (self.model.open(key, mode), self.real.open(key, mode));
        let Some(file) = same("open", model.map(drop), real)? else {
            return Ok(());
        };
        let handle = model.expect("they agree");
        if mode != Mode::Edit {
            let duplicate = file.try_clone().map_err(|error| error.to_string())?;
            same("dup", self.model.flush(handle), Real::close(duplicate))?;
        }
        if let Some((at, text)) = write {
            let at = self.model.write(handle, at, &text);
            let at = (!handle.append).then_some(at);
            same("write", Ok(()), Real::write(&file, at, &text))?;
        }
        same("close", self.model.close(handle), Real::close(file))?;
        Ok(())
    }

    /// A name was read: what the service has, or what was written here and not sent.
    fn note_read(&mut self, key: Key, text: &str) {
        let service = self.real.service();
        let record = service.records.get(&key);
        match record.is_some_and(|record| record.value == text) {
            true => self.ledger.show(key, text),
            false => self.ledger.show_old(key, text),
        }
    }

    fn read(&mut self, key: Key) -> Result<(), String> {
        let (model, real) = (
            self.model.open(key, Mode::Read),
            self.real.open(key, Mode::Read),
        );
        let Some(file) = same("open", model.map(drop), real)? else {
            return Ok(());
        };
        let handle = model.expect("they agree");
        let expected = self.model.read(handle);
        let (text, size) = Real::read(&file).map_err(|error| error.to_string())?;
        let expected = (expected.clone(), expected.len() as u64);
        differs("a text and its size", &expected, &(text.clone(), size))?;
        self.note_read(key, &text);
        same("close", self.model.close(handle), Real::close(file))?;
        Ok(())
    }

    fn act_on_open(&mut self, op: &Op) -> Result<Vec<Key>, String> {
        let (Op::ReadOpen(slot)
        | Op::WriteOpen(slot, _)
        | Op::CutOpen(slot, _)
        | Op::Fsync(slot)
        | Op::Close(slot)
        | Op::DropPages(slot)) = *op
        else {
            return Ok(vec![]);
        };
        let at = usize::from(slot);
        let (Some(handle), Some(file)) = (self.model.handles[at], self.real.handles[at].take())
        else {
            return Ok(vec![]);
        };
        let key = self.model.open_key(slot).expect("it is open");
        let kept = match *op {
            Op::ReadOpen(_) if matches!(file_mode(&file), Access::Reads) => {
                let clean = self.model.open_text(slot).is_some();
                let expected = self.model.read(handle);
                let (text, size) = Real::read(&file).map_err(|error| error.to_string())?;
                if clean {
                    let expected = (expected.clone(), expected.len() as u64);
                    differs(
                        "an open text and its size",
                        &expected,
                        &(text.clone(), size),
                    )?;
                    match self.model.is_named(handle) {
                        true => self.note_read(key, &text),
                        false => self.ledger.show_old(key, &text),
                    }
                }
                Some(file)
            }
            Op::WriteOpen(_, place) if handle.write => {
                let text = self.text("o");
                let place = self.model.write(handle, place, &text);
                let place = (!handle.append).then_some(place);
                same("write", Ok(()), Real::write(&file, place, &text))?;
                Some(file)
            }
            Op::CutOpen(_, size) if handle.write => {
                let size = self.model.cut_open(handle, size);
                same("ftruncate", Ok(()), file.set_len(size))?;
                Some(file)
            }
            Op::Fsync(_) => {
                same("fsync", self.model.fsync(handle), file.sync_all())?;
                Some(file)
            }
            Op::Close(_) => {
                self.model.handles[at] = None;
                same("close", self.model.close(handle), Real::close(file))?;
                None
            }
            Op::DropPages(_) => {
                Real::drop_pages(&file);
                Some(file)
            }
            _ => Some(file),
        };
        self.real.handles[at] = kept;
        Ok(vec![key])
    }
}

enum Access {
    Reads,
    Writes,
}

fn file_mode(file: &std::fs::File) -> Access {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL).unwrap());
    match flags & OFlag::O_ACCMODE {
        OFlag::O_WRONLY => Access::Writes,
        _ => Access::Reads,
    }
}

fn differs<T: PartialEq + std::fmt::Debug>(
    what: &str,
    expected: &T,
    found: &T,
) -> Result<(), String> {
    match expected == found {
        true => Ok(()),
        false => Err(format!("{what}: {found:?}, not {expected:?}")),
    }
}

/// Compares outcomes by errno; returns what both have.
fn same<T>(
    what: &str,
    expected: Result<(), i32>,
    found: io::Result<T>,
) -> Result<Option<T>, String> {
    let number = |error: &io::Error| error.raw_os_error().unwrap_or(-1);
    let outcome = found.as_ref().map(drop).map_err(number);
    differs(what, &expected, &outcome)?;
    Ok(found.ok())
}
