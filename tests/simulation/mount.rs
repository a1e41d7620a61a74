//! A small file system over drafts and what is pending: what the kernel asks of a mount, without the
//! kernel.
//!
//! Rules: the table of drafts is locked before a dataset, and neither across an await. What is staged
//! is made and staged under one lock of the table. What something else has to end for is made anew
//! when that has ended: nothing that was read before is used after.

mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use cognitofs::api::Surroundings;
use cognitofs::fs::Error;
use cognitofs::fs::drafts::{Drafts, Effect, Extent, FileId, RecordName, Request, Standing};
use cognitofs::store::journals::{NewParked, Side, Whereabouts};
use cognitofs::store::pending::{Continuation, InLine, Pending, PendingDataset};
use cognitofs::store::{self, ErrorKind};
use cognitofs::sync::pending::{Base, Commit, Event, Refusal, Ticket};
use cognitofs::sync::{Shown, Unseen};
use cognitofs::wire::names::RecordKey;
use cognitofs::wire::timestamp::Timestamp;

pub use names::Account;

/// The table of drafts, which hears what becomes of groups.
#[derive(Debug)]
pub struct Files(Mutex<Drafts>);

/// See the module's documentation.
pub struct Mount {
    pub pending: Arc<Pending>,
    files: Arc<Files>,
    clock: Arc<dyn Surroundings>,
    pub commit: Commit,
    pub unseen: Unseen,
    /// Whether it has ended: what is unsaid then is parked, and nobody is told that it is safe.
    has_ended: AtomicBool,
    /// What the kernel knows, and how often it has each open. Taken last, for a moment.
    kernel: Mutex<Kernel>,
}

#[derive(Debug, Default)]
struct Kernel {
    known: BTreeSet<FileId>,
    opens: BTreeMap<FileId, u32>,
    /// How many handles may write to files of each name that were opened under it.
    writers: BTreeMap<RecordName, u32>,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mode {
    pub writes: bool,
    pub creates: bool,
    /// With O_APPEND.
    pub appends: bool,
    /// With O_EXCL and mode 0600.
    pub private: bool,
}

/// An open file.
#[derive(Clone, Debug)]
pub struct Handle {
    pub file: FileId,
    dataset: Arc<PendingDataset>,
    mode: Mode,
    /// The name that it was opened under.
    name: RecordName,
}

/// What somebody wants to stage.
enum Wish {
    Nothing,
    /// Something has to end before it can be told.
    Later,
    Stage(Request),
}

impl Files {
    pub fn new(unseen: Unseen) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Drafts::new(unseen))))
    }

    fn lock(&self) -> MutexGuard<'_, Drafts> {
        self.0.lock().unwrap()
    }
}

impl Continuation for Files {
    fn handle_noted(&self, _: &PendingDataset, ticket: Ticket) {
        self.lock().noted(ticket);
    }

    fn handle_not_noted(
        &self,
        dataset: &PendingDataset,
        ticket: Ticket,
        why: &Refusal,
    ) -> Vec<NewParked> {
        let id = dataset.read(|state| state.id());
        kept(self.lock().not_noted(id, ticket, why.clone()))
    }

    fn handle(&self, dataset: &PendingDataset, event: &Event) -> Vec<NewParked> {
        let id = dataset.read(|state| state.id());
        trace(event);
        kept(self.lock().hear(id, event.clone()))
    }
}

fn trace(what: &impl std::fmt::Debug) {
    if std::env::var_os("COGNITOFS_TRACE").is_some() {
        eprintln!("{what:?}");
    }
}

/// Returns what is to be kept. There is no kernel here that has cached anything.
fn kept(effects: Vec<Effect>) -> Vec<NewParked> {
    let kept = effects.into_iter().filter_map(|effect| match effect {
        Effect::Park(parked) => Some(NewParked {
            key: parked.name.key,
            side: Side::Local,
            sync_count: match parked.base.shown {
                Shown::Absent => 0,
                Shown::Version(count) => count,
            },
            text: parked.text.to_vec(),
            modified: parked.modified,
            reason: store::Error::from(parked.why).to_string(),
            expires: None,
        }),
        Effect::Invalidate(_) | Effect::Superseded(_) => None,
    });
    kept.collect()
}

impl Mount {
    pub fn new(
        pending: Arc<Pending>,
        files: Arc<Files>,
        clock: Arc<dyn Surroundings>,
        commit: Commit,
        unseen: Unseen,
    ) -> Self {
        Self {
            pending,
            files,
            clock,
            commit,
            unseen,
            has_ended: AtomicBool::new(false),
            kernel: Mutex::default(),
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.date().into()
    }

    fn named(dataset: &PendingDataset, key: &RecordKey) -> RecordName {
        RecordName {
            dataset: dataset.read(|state| state.id()),
            key: key.clone(),
        }
    }

    /// Tries something under the lock of the table, again whenever something of a dataset has ended.
    async fn until<T>(
        &self,
        dataset: &Arc<PendingDataset>,
        deadline: Instant,
        mut attempt: impl FnMut(&mut Drafts) -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        loop {
            let happened = dataset.happened();
            if let Some(done) = attempt(&mut self.files.lock())? {
                return Ok(done);
            }
            let happened = tokio::time::timeout_at(deadline.into(), happened).await;
            happened.map_err(|_| Error::from(ErrorKind::TimedOut))?;
        }
    }

    /// Stages what is wished for, and sees it through.
    async fn stage(
        &self,
        dataset: &Arc<PendingDataset>,
        deadline: Instant,
        mut wish: impl FnMut(&mut Drafts) -> Result<Wish, Error>,
    ) -> Result<(), Error> {
        let line = self.until(dataset, deadline, |drafts| {
            Ok(match wish(drafts)? {
                Wish::Nothing => Some(None),
                Wish::Later => None,
                Wish::Stage(request) => self.put(drafts, dataset, request, deadline)?.map(Some),
            })
        });
        match line.await? {
            Some(line) => Ok(dataset.see_through(line, deadline).await?),
            None => Ok(()),
        }
    }

    fn put(
        &self,
        drafts: &mut Drafts,
        dataset: &Arc<PendingDataset>,
        request: Request,
        deadline: Instant,
    ) -> Result<Option<InLine>, Error> {
        let changes = request.changes.clone();
        let line = dataset.stage(changes, self.commit, request.private, deadline)?;
        if let Some(line) = &line {
            trace(&(line.ticket(), &request.changes));
            drafts.staged(request, line.ticket());
        }
        Ok(line)
    }

    /// Finds the file that is shown under a name, as a lookup does: the kernel knows it afterwards.
    fn find(
        &self,
        drafts: &mut Drafts,
        dataset: &PendingDataset,
        name: &RecordName,
    ) -> Option<FileId> {
        let file = dataset.read(|state| {
            let normalized = |base: Base| state.normalized(base, &name.key);
            drafts.look_up(name, &state.view(&name.key), normalized)
        });
        self.kernel.lock().unwrap().known.extend(file);
        file
    }

    /// Has a file's value be in memory, until it is [released](Drafts::release).
    fn hold(
        drafts: &mut Drafts,
        dataset: &PendingDataset,
        file: FileId,
        writes: bool,
    ) -> Result<(), Error> {
        let Some(name) = drafts.name_of(file).cloned() else {
            return Err(Error::Superseded);
        };
        let value = dataset.read(|state| {
            let view = state.view(&name.key);
            let normalized = |base: Base| state.normalized(base, &name.key);
            let is_its = drafts.stands_at(file, &view, normalized);
            view.value.filter(|_| is_its)
        });
        drafts.open(file, value, writes)
    }

    /// Opens a file.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Exists`] for a private one, and why it cannot be told.
    pub async fn open(
        &self,
        place: &Whereabouts,
        key: &RecordKey,
        mode: Mode,
    ) -> Result<Handle, Error> {
        let deadline = self.pending.deadline();
        let dataset = self.pending.dataset(place);
        dataset.refresh(deadline).await?;
        let name = Self::named(&dataset, key);
        let open = |drafts: &mut Drafts| {
            if drafts.changing(&name).is_some() {
                return Ok(None);
            }
            match self.find(drafts, &dataset, &name) {
                Some(_) if mode.private => Err(Error::Exists),
                Some(file) => {
                    Self::hold(drafts, &dataset, file, mode.writes)?;
                    Ok(Some(file))
                }
                None if mode.creates => {
                    let view = dataset.view(key);
                    let now = self.now();
                    Ok(Some(drafts.create(
                        &name,
                        &view,
                        mode.writes,
                        mode.private,
                        now,
                    )))
                }
                None => Err(Error::NotFound),
            }
        };
        let file = self.until(&dataset, deadline, open).await?;
        {
            let mut kernel = self.kernel.lock().unwrap();
            kernel.known.insert(file);
            *kernel.opens.entry(file).or_default() += 1;
            *kernel.writers.entry(name.clone()).or_default() += u32::from(mode.writes);
        }
        if mode.writes {
            dataset.set_open(key, true);
        }
        Ok(Handle {
            file,
            dataset,
            mode,
            name,
        })
    }

    /// Reads a file, which shows it.
    pub fn read(&self, handle: &Handle) -> Result<String, Error> {
        let mut drafts = self.files.lock();
        let text = drafts.read(handle.file, handle.mode.writes)?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// Returns a file's text as its writers see it, which shows it to nobody.
    pub fn text(&self, handle: &Handle) -> String {
        Self::peek(&self.files.lock(), handle.file)
    }

    fn peek(drafts: &Drafts, file: FileId) -> String {
        let text = drafts.text(file).unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }

    pub fn is_removed(&self, handle: &Handle) -> bool {
        self.files.lock().standing(handle.file) == Some(Standing::Removed)
    }

    /// # Errors
    /// As [`Drafts::write`].
    pub fn write(&self, handle: &Handle, at: u64, data: &str) -> Result<(), Error> {
        let at = (!handle.mode.appends).then_some(at);
        let mut drafts = self.files.lock();
        drafts.write(handle.file, at, data.as_bytes(), self.now())
    }

    /// # Errors
    /// As [`Drafts::truncate`].
    pub fn truncate(&self, handle: &Handle, size: u64, by_open: bool) -> Result<(), Error> {
        let mut drafts = self.files.lock();
        drafts.truncate(handle.file, size, by_open, self.now())
    }

    /// # Errors
    /// As [`Drafts::set_modified`].
    pub fn set_modified(&self, handle: &Handle, modified: Timestamp) -> Result<(), Error> {
        self.files.lock().set_modified(handle.file, modified)
    }

    /// What close(2) waits for, unless it is the last of a file that was only made.
    ///
    /// # Errors
    /// Why what was written is not safe.
    pub async fn flush(&self, handle: &Handle) -> Result<(), Error> {
        self.send(handle, Extent::Flush).await
    }

    /// # Errors
    /// Why what was written is not at the service.
    pub async fn fsync(&self, handle: &Handle) -> Result<(), Error> {
        let deadline = self.pending.deadline();
        self.send(handle, Extent::All).await?;
        let stands_on = self.files.lock().stands_on(handle.file);
        match stands_on {
            Some(ticket) if !handle.dataset.read(|state| state.is_held(ticket)) => {
                Ok(handle.dataset.outcome(ticket, deadline).await?)
            }
            _ => Ok(()),
        }
    }

    /// Sends what is unsaid of a file. What another has staged of it, and is not safe yet, is waited
    /// for: it may come back.
    async fn send(&self, handle: &Handle, extent: Extent) -> Result<(), Error> {
        let deadline = self.pending.deadline();
        let wish = |drafts: &mut Drafts| match drafts.to_stage(handle.file, extent)? {
            _ if self.has_ended.load(Ordering::Relaxed) => Err(Error::Ended),
            Some(request) => Ok(Wish::Stage(request)),
            None if drafts.unnoted(handle.file).is_some() => Ok(Wish::Later),
            None => Ok(Wish::Nothing),
        };
        self.stage(&handle.dataset, deadline, wish).await
    }

    /// Closes a file. Nobody is told what comes of it.
    pub async fn release(&self, handle: Handle) {
        let deadline = self.pending.deadline();
        let released = self.files.lock().release(handle.file, handle.mode.writes);
        self.note_closed(&handle);
        let dataset = &handle.dataset;
        self.carry_out(dataset, released.effects, deadline).await;
        if released.sends {
            self.send_closed(dataset, handle.file, deadline).await;
        }
    }

    /// Sends what no flush has sent of a file that nobody can write to any more. What cannot be put in
    /// line is given up.
    async fn send_closed(&self, dataset: &Arc<PendingDataset>, file: FileId, deadline: Instant) {
        let wish = |drafts: &mut Drafts| {
            let request = drafts.to_stage(file, Extent::Closed)?;
            Ok(request.map_or(Wish::Nothing, Wish::Stage))
        };
        if self.stage(dataset, deadline, wish).await.is_err() {
            let effects = {
                let mut drafts = self.files.lock();
                match drafts.to_stage(file, Extent::Closed) {
                    Ok(None) => Vec::new(),
                    Ok(Some(_)) | Err(_) => drafts.give_up(file, Refusal::Lost),
                }
            };
            self.carry_out(dataset, effects, deadline).await;
        }
    }

    /// Has versions be kept, and waits for that, but not longer than until a deadline.
    async fn carry_out(
        &self,
        dataset: &Arc<PendingDataset>,
        effects: Vec<Effect>,
        deadline: Instant,
    ) {
        let versions = kept(effects);
        if versions.is_empty() {
            return;
        }
        let (done, wait) = tokio::sync::oneshot::channel();
        let dataset = dataset.clone();
        self.clock.spawn(Box::pin(async move {
            dataset.park(versions).await;
            // One who gave up is not told.
            let _ = done.send(());
        }));
        // It goes on without anybody who waits.
        let _ = tokio::time::timeout_at(deadline.into(), wait).await;
    }

    fn note_closed(&self, handle: &Handle) {
        let mut kernel = self.kernel.lock().unwrap();
        if let Some(opens) = kernel.opens.get_mut(&handle.file) {
            *opens -= 1;
        }
        kernel.opens.retain(|_, opens| *opens > 0);
        if let Some(writers) = kernel.writers.get_mut(&handle.name) {
            *writers -= u32::from(handle.mode.writes);
            if *writers == 0 {
                kernel.writers.remove(&handle.name);
                drop(kernel);
                handle.dataset.set_open(&handle.name.key, false);
            }
        }
    }

    /// The kernel drops what it knows of files that nobody has open.
    pub fn forget(&self) {
        let mut drafts = self.files.lock();
        let mut kernel = self.kernel.lock().unwrap();
        let Kernel { known, opens, .. } = &mut *kernel;
        let unused = known.iter().copied();
        let unused: Vec<FileId> = unused.filter(|file| !opens.contains_key(file)).collect();
        known.retain(|file| opens.contains_key(file));
        drop(kernel);
        unused.into_iter().for_each(|file| drafts.forget(file));
    }

    /// Ends the mount: what is open and was changed is parked, what was closed is sent. Returns how
    /// much is left unsent.
    pub async fn end(&self, deadline: Instant) -> usize {
        let effects: Vec<Effect> = {
            let mut drafts = self.files.lock();
            self.has_ended.store(true, Ordering::Relaxed);
            let mut open: Vec<FileId> = drafts.drafts().collect();
            open.sort();
            let effects = open.into_iter();
            let effects = effects.flat_map(|file| drafts.give_up(file, Refusal::Lost));
            effects.collect()
        };
        for effect in effects {
            if let Effect::Park(parked) = &effect
                && let Some(dataset) = self.pending.by_id(parked.name.dataset)
            {
                self.carry_out(&dataset, vec![effect], deadline).await;
            }
        }
        self.pending.drain(deadline).await
    }

    /// Returns whether nothing is unsaid, and no name is being changed.
    pub fn is_clean(&self, names: &[RecordName]) -> bool {
        let drafts = self.files.lock();
        let changing = names.iter().any(|name| drafts.changing(name).is_some());
        drafts.drafts().next().is_none() && !changing
    }

    /// Returns how much of the table there is.
    pub fn count(&self) -> usize {
        self.files.lock().count()
    }
}

// What a test asks, and no kernel.
impl Mount {
    /// Returns what a change of a file that is being written is based on.
    pub fn base(&self, handle: &Handle) -> Option<Base> {
        let mut drafts = self.files.lock();
        let request = drafts.to_stage(handle.file, Extent::All).ok()??;
        let change = request.changes.first()?;
        let normalized = |base| {
            handle
                .dataset
                .read(|state| state.normalized(base, &change.key))
        };
        Some(normalized(change.base))
    }

    /// Describes the table.
    pub fn files(&self) -> String {
        format!("{:?}", self.files.lock())
    }

    /// Returns whether a file shows something that is held back.
    pub fn is_held(&self, handle: &Handle) -> bool {
        let stands_on = self.files.lock().stands_on(handle.file);
        stands_on.is_some_and(|ticket| handle.dataset.read(|state| state.is_held(ticket)))
    }
}
