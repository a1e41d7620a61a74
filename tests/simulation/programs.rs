//! What users do with the files of a mount, and what they are told.
//!
//! Texts are made of tokens of six bytes, each written once, so that what is written over another text
//! takes whole tokens away.

mod checking;
mod editors;
mod moving;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cognitofs::api::Surroundings;
use cognitofs::fs::Error;
use cognitofs::store::journals::Whereabouts;
use cognitofs::sync::pending::Commit;
use cognitofs::wire::names::RecordKey;

use super::mount::{Account, Handle, Mode, Mount};
use super::operation::{TIMEOUT, Told};
use super::seeded::Seeded;
use super::source::place;

/// Bytes of a token.
const TOKEN: u64 = 6;
/// How much later than its deadline an operation may end: timers are of whole milliseconds.
const GRAIN: Duration = Duration::from_millis(20);

/// Something that a user of a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `echo > k`
    Write,
    /// The same, several times at once.
    Burst,
    /// `echo >> k`
    Append,
    /// Appends with an fsync each, tried again where it fails.
    Log,
    /// Changes a part of the text that was read.
    Edit,
    Read,
    Touch,
    Remove,
    Rename,
    /// Several renames and exchanges at once.
    Chain,
    Exchange,
    Copy,
    /// `mv` to another dataset.
    Move,
    /// Two handles of a name, opened one after the other, and closed in any order.
    Twice,
    /// Removes a name and makes it again.
    Recreate,
    Vim,
    /// Keeps the old text as its backup.
    Emacs,
    /// Writes a new file, which takes the name of the old one.
    Replace,
    /// `rm -r` of a dataset.
    RemoveDataset,
    SyncDataset,
    /// The kernel needs memory.
    Forget,
}

/// A user of a process.
#[derive(Clone)]
pub struct User {
    pub seeded: Arc<Seeded>,
    pub mount: Arc<Mount>,
    pub told: Arc<Mutex<Told>>,
    /// Names the process in the trace.
    pub process: usize,
    pub names: &'static [&'static str],
    pub datasets: usize,
    /// How many operations of the process have not ended.
    pub running: Arc<AtomicUsize>,
    /// What editors of the process have open: a second one leaves it alone, as of a swap file.
    pub edited: Arc<Mutex<BTreeSet<At>>>,
}

/// A file, by its dataset's number and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    pub dataset: usize,
    pub name: &'static str,
}

impl At {
    fn place(self) -> Whereabouts {
        place(self.dataset)
    }

    fn key(self) -> RecordKey {
        RecordKey::new(self.name).unwrap()
    }
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "d{}/{}", self.dataset, self.name)
    }
}

const WRITES: Mode = Mode {
    writes: true,
    creates: true,
    appends: false,
    private: false,
};
const APPENDS: Mode = Mode {
    appends: true,
    ..WRITES
};
const CHANGES: Mode = Mode {
    creates: false,
    ..WRITES
};
const READS: Mode = Mode {
    writes: false,
    creates: false,
    appends: false,
    private: false,
};

/// An operation that has not ended.
struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl User {
    pub async fn run(self, program: Program) {
        let at = self.somewhere();
        self.say(format!("{program:?} {at}"));
        // What goes wrong is what users are told, which is in the trace.
        let _ = match program {
            Program::Write => self.write(at).await,
            Program::Burst => self.burst(at).await,
            Program::Append => self.append(at).await,
            Program::Log => self.log(at).await,
            Program::Edit => self.edit(at).await,
            Program::Read => self.read(at).await.map(drop),
            Program::Touch => self.touch(at).await,
            Program::Remove => self.remove(at).await,
            Program::Rename => self.rename(at, self.name()).await,
            Program::Chain => self.chain(at).await,
            Program::Exchange => self.exchange(at, self.name()).await,
            Program::Copy => self.copy(at, self.elsewhere(at)).await.map(drop),
            Program::Move => self.move_to(at, self.elsewhere(at)).await,
            Program::Twice => self.twice(at).await,
            Program::Recreate => self.recreate(at).await,
            Program::Vim | Program::Emacs | Program::Replace => self.save(at, program).await,
            Program::RemoveDataset => self.remove_dataset(at.dataset).await,
            Program::SyncDataset => {
                let place = at.place();
                let synced = self.mount.fsync_directory(&place);
                self.call(format!("sync d{}", at.dataset), synced).await
            }
            Program::Forget => {
                self.mount.forget();
                Ok(())
            }
        };
    }

    fn name(&self) -> &'static str {
        self.names[self.seeded.below(self.names.len() as u64) as usize]
    }

    fn somewhere(&self) -> At {
        At {
            dataset: self.seeded.below(self.datasets as u64) as usize,
            name: self.name(),
        }
    }

    fn elsewhere(&self, at: At) -> At {
        let other = self.seeded.below(self.datasets as u64) as usize;
        if other == at.dataset {
            At {
                name: self.name(),
                ..at
            }
        } else {
            At {
                dataset: other,
                ..at
            }
        }
    }

    fn chance(&self, percent: u64) -> bool {
        self.seeded.below(100) < percent
    }

    async fn pause(&self) {
        let longest = [5, 50, 400, 2_500][self.seeded.below(4) as usize];
        let pause = self.seeded.time(0, longest);
        tokio::time::sleep(pause).await;
    }

    fn say(&self, line: String) {
        let age = self.seeded.age().as_millis();
        let mut told = self.told.lock().unwrap();
        told.say(format!("{age}: p{} {line}", self.process));
    }

    /// Waits for an operation, which is to end in time.
    async fn call<T>(
        &self,
        what: String,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.running.fetch_add(1, Ordering::Relaxed);
        let running = Running(&self.running);
        let begun = self.seeded.now();
        let result = call.await;
        drop(running);
        let lasted = self.seeded.now() - begun;
        let said = result.as_ref().map(|_| ()).map_err(ToString::to_string);
        self.say(format!("{what}: {said:?} after {} ms", lasted.as_millis()));
        if lasted > TIMEOUT + GRAIN {
            let wrong = format!("{what} lasts {} ms", lasted.as_millis());
            self.told.lock().unwrap().wrong.get_or_insert(wrong);
        }
        result
    }

    fn token(&self, of: char) -> String {
        self.told.lock().unwrap().token(of)
    }

    fn takes(&self, text: &str) {
        self.told.lock().unwrap().ledger.take(text, false);
    }

    fn moves(&self, text: &str) {
        self.told.lock().unwrap().ledger.move_away(text);
    }

    async fn open(&self, at: At, mode: Mode) -> Result<Handle, Error> {
        let (place, key) = (at.place(), at.key());
        let opening = self.mount.open(&place, &key, mode);
        self.call(format!("open {at}"), opening).await
    }

    /// Opens a file as O_TRUNC does, which takes away what it shows.
    async fn open_emptied(&self, at: At, mode: Mode) -> Result<(Handle, String), Error> {
        let handle = self.open(at, mode).await?;
        let old = self.mount.text(&handle);
        self.takes(&old);
        if let Err(error) = self.mount.truncate(&handle, 0, true) {
            self.close(&handle).await;
            return Err(error);
        }
        Ok((handle, old))
    }

    /// Writes over what is there.
    fn put(&self, handle: &Handle, at: u64, text: &str) -> Result<(), Error> {
        let old = self.mount.text(handle);
        let from = (at as usize).min(old.len());
        let to = (at as usize + text.len()).min(old.len());
        self.takes(&old[from..to]);
        self.say(format!("writes {text} at {at} of {old}"));
        self.note_wrong(self.mount.write(handle, at, text))
    }

    /// Writes behind what is there.
    fn add(&self, handle: &Handle, text: &str) -> Result<(), Error> {
        self.say(format!("adds {text} to {}", self.mount.text(handle)));
        let end = self.mount.text(handle).len() as u64;
        self.note_wrong(self.mount.write(handle, end, text))
    }

    /// What is open can be written to.
    fn note_wrong(&self, written: Result<(), Error>) -> Result<(), Error> {
        if let Err(error) = &written {
            let wrong = format!("a file that is open cannot be written to: {error}");
            self.told.lock().unwrap().wrong.get_or_insert(wrong);
        }
        written
    }

    async fn flush(&self, handle: &Handle) -> Result<(), Error> {
        let what = format!("flush {:?}", handle.file);
        self.call(what, self.mount.flush(handle)).await
    }

    async fn fsync(&self, handle: &Handle) -> Result<(), Error> {
        let what = format!("fsync {:?}", handle.file);
        self.call(what, self.mount.fsync(handle)).await
    }

    async fn close(&self, handle: &Handle) {
        let what = format!("release {:?}", handle.file);
        let release = async {
            self.mount.release(handle.clone()).await;
            Ok(())
        };
        // Nobody is told what comes of it.
        let _ = self.call(what, release).await;
    }

    /// A writer who was told before that his text could not be sent is told that nothing of it is
    /// unsent: that vouches for what the file still has.
    fn acknowledge_later(&self, handle: &Handle, tokens: &str) {
        let text = self.mount.text(handle);
        let there = super::ledger::tokens(tokens).into_iter();
        let there: String = there
            .filter(|token| text.contains(token.as_str()))
            .collect();
        self.acknowledge(handle, &there, None);
    }

    /// A writer was told that what he wrote is safe, which is `tokens`, and what it took the place of is
    /// gone.
    fn acknowledge(&self, handle: &Handle, tokens: &str, taken: Option<&str>) {
        if self.mount.is_removed(handle) {
            return;
        }
        let mut told = self.told.lock().unwrap();
        for token in super::ledger::tokens(tokens) {
            told.ledger.keep(&token);
            told.acknowledged += 1;
        }
        if let Some(taken) = taken.filter(|_| self.mount.commit == Commit::Close) {
            told.ledger.take(taken, true);
        }
    }

    /// Flushes, at times with an fsync before or another try, and closes.
    async fn finish(&self, handle: Handle, tokens: &str, taken: Option<&str>) -> Result<(), Error> {
        let mut result = Ok(());
        for attempt in 0..1 + self.seeded.below(2) {
            result = if self.chance(25) {
                self.fsync(&handle).await
            } else {
                self.flush(&handle).await
            };
            if result.is_ok() {
                match attempt {
                    0 => self.acknowledge(&handle, tokens, taken),
                    _ => self.acknowledge_later(&handle, tokens),
                }
                break;
            }
        }
        self.close(&handle).await;
        result
    }

    async fn write(&self, at: At) -> Result<(), Error> {
        let (handle, old) = self.open_emptied(at, WRITES).await?;
        if self.chance(30) {
            self.pause().await;
        }
        let token = self.token('w');
        self.put(&handle, 0, &token)?;
        let is_plain = !at.name.contains(['~', '.']);
        self.finish(
            handle,
            &token,
            Some(&old).filter(|_| is_plain).map(|old| &**old),
        )
        .await
    }

    async fn burst(&self, at: At) -> Result<(), Error> {
        let mut all = Vec::new();
        for _ in 0..2 + self.seeded.below(4) {
            all.push(match self.seeded.below(3) {
                0 => self
                    .clone()
                    .begin(move |user| async move { user.append(at).await }),
                1 => self
                    .clone()
                    .begin(move |user| async move { user.edit(at).await }),
                _ => self
                    .clone()
                    .begin(move |user| async move { user.write(at).await }),
            });
            self.pause().await;
        }
        futures_util::future::join_all(all).await;
        Ok(())
    }

    /// Begins something beside.
    fn begin<F: Future<Output = Result<(), Error>> + Send + 'static>(
        self,
        what: impl FnOnce(Self) -> F,
    ) -> futures_util::future::BoxFuture<'static, Result<(), Error>> {
        Box::pin(what(self))
    }

    async fn append(&self, at: At) -> Result<(), Error> {
        let handle = self.open(at, APPENDS).await?;
        if self.chance(30) {
            self.pause().await;
        }
        let token = self.token('a');
        self.add(&handle, &token)?;
        self.finish(handle, &token, None).await
    }

    async fn log(&self, at: At) -> Result<(), Error> {
        let handle = self.open(at, APPENDS).await?;
        let (mut unsafe_yet, mut failed) = (String::new(), false);
        for _ in 0..2 + self.seeded.below(5) {
            let token = self.token('a');
            unsafe_yet += &token;
            self.add(&handle, &token)?;
            for _ in 0..1 + self.seeded.below(3) {
                if self.fsync(&handle).await.is_ok() {
                    match failed {
                        false => self.acknowledge(&handle, &unsafe_yet, None),
                        true => self.acknowledge_later(&handle, &unsafe_yet),
                    }
                    (unsafe_yet, failed) = (String::new(), false);
                    break;
                }
                failed = true;
            }
            self.pause().await;
        }
        self.finish(handle, if failed { "" } else { &unsafe_yet }, None)
            .await
    }

    async fn edit(&self, at: At) -> Result<(), Error> {
        let handle = self.open(at, CHANGES).await?;
        if let Ok(text) = self.mount.read(&handle) {
            self.say(format!("reads {text}"));
        }
        self.pause().await;
        let count = self.mount.text(&handle).len() as u64 / TOKEN;
        let token = self.token('e');
        let place = self.seeded.below(count.max(1)) * TOKEN;
        self.put(&handle, place, &token)?;
        self.finish(handle, &token, None).await
    }

    async fn read(&self, at: At) -> Result<String, Error> {
        let handle = self.open(at, READS).await?;
        let text = self.mount.read(&handle);
        self.say(format!("reads {text:?} of {at}"));
        self.close(&handle).await;
        text
    }

    async fn touch(&self, at: At) -> Result<(), Error> {
        let handle = self.open(at, CHANGES).await?;
        self.mount
            .set_modified(&handle, self.seeded.date().into())?;
        self.finish(handle, "", None).await
    }

    async fn remove(&self, at: At) -> Result<(), Error> {
        let account = Account {
            takes: &|text| self.takes(&text),
            moves: &|_| {},
        };
        self.unlink(at, &account).await
    }

    async fn unlink(&self, at: At, account: &Account<'_>) -> Result<(), Error> {
        let (place, key) = (at.place(), at.key());
        let unlinking = self.mount.unlink(&place, &key, account);
        self.call(format!("unlink {at}"), unlinking).await
    }

    async fn recreate(&self, at: At) -> Result<(), Error> {
        // Whether it is there is not asked.
        let _ = self.remove(at).await;
        if self.chance(50) {
            self.pause().await;
        }
        self.write(at).await
    }

    async fn twice(&self, at: At) -> Result<(), Error> {
        let one = self.open(at, APPENDS).await?;
        let first = self.token('a');
        self.add(&one, &first)?;
        let mut flushed = false;
        if self.chance(40) {
            flushed = self.flush(&one).await.is_ok();
        }
        self.pause().await;
        if self.chance(30) {
            // Its name may lead to another file afterwards.
            let _ = if self.chance(50) {
                self.remove(at).await
            } else {
                self.rename(at, self.name()).await
            };
        }
        let other = match self.open(at, WRITES).await {
            Ok(other) => other,
            Err(_) => return self.finish(one, &first, None).await,
        };
        let second = self.token('w');
        if self.chance(50) {
            self.add(&other, &second)?
        } else {
            self.put(&other, 0, &second)?
        }
        if flushed {
            self.acknowledge(&one, &first, None);
        }
        let (one, other) = if self.chance(50) {
            ((one, first), (other, second))
        } else {
            ((other, second), (one, first))
        };
        if self.chance(50) {
            let finishing = [one, other].map(|(handle, token)| {
                self.clone()
                    .begin(move |user| async move { user.finish(handle, &token, None).await })
            });
            futures_util::future::join_all(finishing).await;
            Ok(())
        } else {
            // The other is closed whatever is told of the first.
            let _ = self.finish(one.0, &one.1, None).await;
            self.finish(other.0, &other.1, None).await
        }
    }

    async fn remove_dataset(&self, of: usize) -> Result<(), Error> {
        for name in self.names {
            // What is not there need not be removed.
            let _ = self.remove(At { dataset: of, name }).await;
        }
        let dataset = place(of);
        self.call(format!("rmdir d{of}"), self.mount.rmdir(&dataset))
            .await
    }
}
