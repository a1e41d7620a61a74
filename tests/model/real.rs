//! The real side: a service, a mount of it by the real program, and another client.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use cognitofs::wire::datasets::DeleteDataset;
use cognitofs::wire::fault::Fault;
use cognitofs::wire::names::RecordKey;
use cognitofs::wire::operation::Call;
use cognitofs::wire::records::{
    ListRecords, PatchOp, RecordPatch, Records, UpdateRecords, UpdateRecordsBody,
};
use nix::fcntl::{AT_FDCWD, PosixFadviseAdvice, RenameFlags, posix_fadvise, renameat2};
use nix::sys::signal::Signal;

use super::Settings;
use super::ops::{KEYS, Mode, SLOTS, Weather};
use super::reference::{Key, Parked, Record, Service};
use crate::common::{Bed, Mounted, Trouble, run as shell};
use crate::local_service::now;

/// One daemon, which serves many runs.
pub struct World {
    bed: Bed,
    mounted: Option<Mounted>,
    pub settings: Settings,
    runs: usize,
    /// Over all runs.
    pub steps: usize,
    pub checked: usize,
    pub kept: usize,
}

impl World {
    pub fn new(settings: Settings) -> Self {
        let mut world = Self {
            bed: Bed::new(),
            mounted: None,
            settings,
            runs: 0,
            steps: 0,
            checked: 0,
            kept: 0,
        };
        world.mount();
        world
    }

    /// What was done so far.
    pub fn told(&self) -> String {
        let Self {
            runs,
            steps,
            checked,
            kept,
            ..
        } = self;
        format!("{runs} runs, {steps} steps, {checked} values went, {kept} of them unseen and kept")
    }

    fn mount(&mut self) {
        let state = self.bed.directory.path().join("state");
        let options = format!("{},state={}", self.settings.options, state.display());
        self.mounted = Some(self.bed.mount(&options));
    }

    /// Kills the daemon and mounts again.
    fn remount(&mut self) {
        let mut dead = self.mounted.take().unwrap();
        dead.signal(Signal::SIGKILL);
        dead.wait();
        let path = dead.path.display();
        shell(std::path::Path::new("/"), &format!("umount -l '{path}'"));
        self.mount();
    }
}

/// A dataset of its own for one run.
pub struct Real<'a> {
    pub world: &'a mut World,
    dataset: String,
    /// Held open, so that a path costs one lookup.
    directory: Option<File>,
    pub handles: [Option<File>; SLOTS as usize],
}

impl<'a> Real<'a> {
    pub fn new(world: &'a mut World) -> Self {
        world.runs += 1;
        let dataset = format!("run{}", world.runs);
        Self {
            world,
            dataset,
            directory: None,
            handles: Default::default(),
        }
    }

    // Paths.

    fn full_path(&self) -> PathBuf {
        let mounted = self.world.mounted.as_ref().unwrap();
        self.world.bed.dataset(mounted, &self.dataset)
    }

    fn base(&self) -> PathBuf {
        match &self.directory {
            Some(directory) => format!("/proc/self/fd/{}", directory.as_raw_fd()).into(),
            None => self.full_path(),
        }
    }

    fn path(&self, key: Key) -> PathBuf {
        self.base().join(KEYS[usize::from(key)])
    }

    /// Holds the directory open if it is there.
    pub fn enter(&mut self, exists: bool) {
        if !exists {
            self.directory = None;
        } else if self.directory.is_none() {
            self.directory = File::open(self.full_path()).ok();
        }
    }

    // What is done here, by name.

    pub fn mkdir(&self) -> io::Result<()> {
        fs::create_dir(self.full_path())
    }

    pub fn rmdir(&mut self) -> io::Result<()> {
        self.directory = None;
        fs::remove_dir(self.full_path())
    }

    pub fn cut(&self, key: Key, size: u64) -> io::Result<()> {
        nix::unistd::truncate(&self.path(key), size as i64).map_err(io::Error::from)
    }

    pub fn touch(&self, key: Key, seconds: i64) -> io::Result<()> {
        use nix::sys::stat::{UtimensatFlags, utimensat};
        let time = nix::sys::time::TimeSpec::new(seconds, 0);
        let flags = UtimensatFlags::FollowSymlink;
        utimensat(AT_FDCWD, &self.path(key), &time, &time, flags).map_err(io::Error::from)
    }

    pub fn modified(&self, key: Key) -> i64 {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(self.path(key)).unwrap().mtime()
    }

    pub fn rename(&self, from: Key, to: Key, replaces: bool) -> io::Result<()> {
        let flags = match replaces {
            true => RenameFlags::empty(),
            false => RenameFlags::RENAME_NOREPLACE,
        };
        let (from, to) = (self.path(from), self.path(to));
        renameat2(AT_FDCWD, &from, AT_FDCWD, &to, flags).map_err(io::Error::from)
    }

    pub fn unlink(&self, key: Key) -> io::Result<()> {
        fs::remove_file(self.path(key))
    }

    /// Has everything sent that was closed.
    pub fn sync(&self) -> io::Result<()> {
        File::open(self.base())?.sync_all()
    }

    // What is done here, through an open file.

    pub fn open(&self, key: Key, mode: Mode) -> io::Result<File> {
        let mut options = OpenOptions::new();
        match mode {
            Mode::Read => options.read(true),
            Mode::Edit => options.read(true).write(true),
            Mode::Create => options.read(true).write(true).create(true).truncate(false),
            Mode::Append => options.append(true).create(true),
            Mode::Truncate => options.write(true).create(true).truncate(true),
        };
        options.open(self.path(key))
    }

    /// What an open file holds, and the size it says it has.
    pub fn read(file: &File) -> io::Result<(String, u64)> {
        let mut text = vec![0; 4096];
        let mut end = 0;
        loop {
            match file.read_at(&mut text[end..], end as u64)? {
                0 => break,
                read => end += read,
            }
        }
        text.truncate(end);
        let text = String::from_utf8(text).map_err(io::Error::other)?;
        Ok((text, file.metadata()?.len()))
    }

    pub fn write(mut file: &File, at: Option<usize>, text: &str) -> io::Result<()> {
        match at {
            Some(at) => file.write_all_at(text.as_bytes(), at as u64),
            None => file.write_all(text.as_bytes()),
        }
    }

    pub fn close(file: File) -> io::Result<()> {
        nix::unistd::close(file).map_err(io::Error::from)
    }

    pub fn drop_pages(file: &File) {
        posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
    }

    /// Kills the daemon and mounts again.
    pub fn kill(&mut self) {
        self.directory = None;
        // What was not closed is lost, and its writers see that.
        let handles = std::mem::take(&mut self.handles);
        self.world.remount();
        drop(handles);
    }

    pub fn weather(&self, weather: Weather) {
        let (trouble, times) = match weather {
            Weather::Throttled(times) => (Trouble::Status(429), times),
            Weather::Failing(times) => (Trouble::Status(500), times),
            Weather::LosesCalls(times) => (Trouble::LoseCall, times),
            Weather::LosesAnswers(times) => (Trouble::LoseAnswer, times),
        };
        self.world.bed.trouble("*", trouble, 0, usize::from(times));
    }

    pub fn calm(&self) {
        self.world.bed.calm();
    }

    // What is to be seen here.

    /// The names in the directory; None if it is not there.
    pub fn names(&self) -> Option<Vec<Key>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.base()).ok()? {
            let name = entry.ok()?.file_name();
            let key = KEYS.iter().position(|key| **key == *name);
            names.push(key.expect("a name of ours") as Key);
        }
        names.sort_unstable();
        Some(names)
    }

    pub fn size(&self, key: Key) -> io::Result<u64> {
        Ok(fs::metadata(self.path(key))?.len())
    }

    /// The names of kept versions.
    pub fn parked_names(&self) -> Vec<String> {
        let path = self.base().join(".cognito/parked");
        let entries = fs::read_dir(path).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect()
    }

    /// A kept version, by its name. None if it has gone since.
    pub fn parked(&self, name: &str) -> Option<Parked> {
        let path = self.base().join(".cognito/parked").join(name);
        let text = fs::read_to_string(path).ok()?;
        let (key, tail) = name.split_once('@').unwrap();
        let mut tail = tail.split('.');
        let count = tail.next().unwrap().parse().unwrap();
        let side = match tail.next().unwrap() {
            "local" => "local",
            "remote" => "remote",
            other => panic!("{other}"),
        };
        let key = KEYS.iter().position(|known| *known == key).unwrap();
        Some((key as Key, count, side, text))
    }

    // The other client.

    fn call(&self, call: &Call) -> Vec<u8> {
        self.try_call(call).unwrap()
    }

    fn try_call(&self, call: &Call) -> Result<Vec<u8>, Fault> {
        let service = &self.world.bed.service;
        let caller = service.developer("us-east-1".parse().unwrap());
        service.call(call, &caller, now())
    }

    fn list(&self) -> Records {
        let listed = self.call(&Call::ListRecords(ListRecords {
            pool: self.world.bed.pool.clone(),
            identity: self.world.bed.identity.clone(),
            dataset: self.dataset.parse().unwrap(),
            last_sync_count: None,
            next_token: None,
            max_results: None,
            sync_session_token: None,
        }));
        serde_json::from_slice(&listed).unwrap()
    }

    /// What the service holds.
    pub fn service(&self) -> Service {
        let listed = self.list();
        let mut records = BTreeMap::new();
        for record in listed.records {
            let Some(value) = record.value else { continue };
            let key = KEYS.iter().position(|key| record.key.as_str() == Some(key));
            let value = value.as_str().unwrap().to_owned();
            let count = record.sync_count;
            records.insert(key.unwrap() as Key, Record { value, count });
        }
        Service {
            exists: listed.dataset_exists,
            count: listed.dataset_sync_count,
            records,
        }
    }

    /// Sets a record, or removes it.
    pub fn change(&self, key: Key, value: Option<&str>) {
        self.try_change(key, &mut |_| value.map(str::to_owned))
            .unwrap();
    }

    /// Makes a record's value another, or removes the record; returns the value it had.
    pub fn change_with(
        &self,
        key: Key,
        mut make: impl FnMut(Option<&str>) -> Option<String>,
    ) -> Option<String> {
        loop {
            // The mount may be sending at the same time.
            if let Ok(old) = self.try_change(key, &mut make) {
                return old;
            }
        }
    }

    fn try_change(
        &self,
        key: Key,
        make: &mut dyn FnMut(Option<&str>) -> Option<String>,
    ) -> Result<Option<String>, Fault> {
        let listed = self.list();
        let key = RecordKey::new(KEYS[usize::from(key)]).unwrap();
        let known = listed.records.iter().find(|record| record.key == key);
        let old = known.and_then(|known| known.value.as_ref()?.as_str().map(str::to_owned));
        let value = make(old.as_deref());
        if value.is_none() && old.is_none() {
            return Ok(None);
        }
        let patch = RecordPatch {
            op: match value {
                Some(_) => PatchOp::Replace,
                None => PatchOp::Remove,
            },
            value: value.map(Into::into),
            sync_count: known.map_or(0, |known| known.sync_count),
            device_last_modified_date: None,
            key,
        };
        self.try_call(&Call::UpdateRecords(UpdateRecords {
            pool: self.world.bed.pool.clone(),
            identity: self.world.bed.identity.clone(),
            dataset: self.dataset.parse().unwrap(),
            client_context: None,
            body: UpdateRecordsBody {
                device_id: None,
                record_patches: vec![patch],
                sync_session_token: listed.sync_session_token,
            },
        }))?;
        Ok(old)
    }

    /// Leaves nothing to the next run.
    pub fn end(&mut self) {
        self.calm();
        // What is refused holds removals back, of the next run as well.
        let _ = self.sync();
        if self.service().exists {
            self.delete();
        }
    }

    /// Another client looks at the dataset and deletes it, with nothing between.
    pub fn look_and_delete(&self) -> Service {
        self.world.bed.undisturbed(|| {
            let there = self.service();
            if there.exists {
                self.delete();
            }
            there
        })
    }

    pub fn delete(&self) {
        self.call(&Call::DeleteDataset(DeleteDataset {
            pool: self.world.bed.pool.clone(),
            identity: self.world.bed.identity.clone(),
            dataset: self.dataset.parse().unwrap(),
        }));
    }
}
