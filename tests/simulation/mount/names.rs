//! What is done to names.

use cognitofs::fs::Error;
use cognitofs::fs::drafts::{Drafts, Effect, FileId, RecordName, Request, Standing, Target};
use cognitofs::store::ErrorKind;
use cognitofs::store::journals::Whereabouts;
use cognitofs::store::pending::PendingDataset;
use cognitofs::wire::names::RecordKey;

use super::{Mount, Wish};

/// Who is told what a change of names takes away, and what it moves, in the moment in which it does.
pub struct Account<'a> {
    pub takes: &'a (dyn Fn(String) + Sync),
    pub moves: &'a (dyn Fn(String) + Sync),
}

impl Mount {
    /// Takes a name away.
    ///
    /// # Errors
    /// Why it is still there.
    pub async fn unlink(
        &self,
        place: &Whereabouts,
        key: &RecordKey,
        account: &Account<'_>,
    ) -> Result<(), Error> {
        let (dataset, deadline) = (self.pending.dataset(place), self.pending.deadline());
        dataset.refresh(deadline).await?;
        let name = Self::named(&dataset, key);
        let wish = |drafts: &mut Drafts| {
            if drafts.changing(&name).is_some() {
                return Ok(Wish::Later);
            }
            let file = self.find(drafts, &dataset, &name).ok_or(Error::NotFound)?;
            tell(drafts, &dataset, file, account.takes);
            let request = drafts.to_unlink(file, self.now())?;
            Ok(request.map_or(Wish::Nothing, Wish::Stage))
        };
        self.stage(&dataset, deadline, wish).await
    }

    /// Gives a file another name of its dataset.
    ///
    /// # Errors
    /// Why it has its name still.
    pub async fn rename(
        &self,
        place: &Whereabouts,
        (from, to): (&RecordKey, &RecordKey),
        account: &Account<'_>,
    ) -> Result<(), Error> {
        if from == to {
            return Ok(());
        }
        self.change_names(place, (from, to), |drafts, dataset, (from, to)| {
            let source = self.find(drafts, dataset, from).ok_or(Error::NotFound)?;
            let target = self.find(drafts, dataset, to);
            tell(drafts, dataset, source, account.moves);
            if let Some(target) = target {
                tell(drafts, dataset, target, account.takes);
            }
            let absent = || Target::Absent(to.clone(), dataset.view(&to.key).base);
            Ok(Naming::Rename(
                source,
                target.map_or_else(absent, Target::File),
            ))
        })
        .await
    }

    /// Swaps two names of a dataset.
    ///
    /// # Errors
    /// Why they are as they were.
    pub async fn exchange(
        &self,
        place: &Whereabouts,
        (one, other): (&RecordKey, &RecordKey),
        account: &Account<'_>,
    ) -> Result<(), Error> {
        if one == other {
            return Ok(());
        }
        self.change_names(place, (one, other), |drafts, dataset, (one, other)| {
            let one = self.find(drafts, dataset, one).ok_or(Error::NotFound)?;
            let other = self.find(drafts, dataset, other).ok_or(Error::NotFound)?;
            tell(drafts, dataset, one, account.moves);
            tell(drafts, dataset, other, account.moves);
            Ok(Naming::Exchange(one, other))
        })
        .await
    }

    /// Stages a change of two names, while the values of the files that have them are in memory.
    async fn change_names(
        &self,
        place: &Whereabouts,
        (one, other): (&RecordKey, &RecordKey),
        look: impl Fn(&mut Drafts, &PendingDataset, (&RecordName, &RecordName)) -> Result<Naming, Error>,
    ) -> Result<(), Error> {
        let (dataset, deadline) = (self.pending.dataset(place), self.pending.deadline());
        dataset.refresh(deadline).await?;
        let names = (Self::named(&dataset, one), Self::named(&dataset, other));
        let mut left = Left::default();
        let attempt = |drafts: &mut Drafts| {
            if drafts.changing(&names.0).is_some() || drafts.changing(&names.1).is_some() {
                return Ok(None);
            }
            let naming = look(drafts, &dataset, (&names.0, &names.1))?;
            let mut held = Vec::new();
            let mut line = Ok(None);
            for file in naming.files() {
                match Self::hold(drafts, &dataset, file, false) {
                    Ok(()) => held.push(file),
                    Err(error) => line = Err(error),
                }
            }
            if line.is_ok() {
                line = self
                    .request(drafts, naming)
                    .and_then(|request| match request {
                        Some(request) => {
                            let line = self.put(drafts, &dataset, request, deadline)?;
                            Ok(line.map(Some))
                        }
                        None => Ok(Some(None)),
                    });
            }
            for file in held {
                let released = drafts.release(file, false);
                left.effects.extend(released.effects);
                left.sends.extend(released.sends.then_some(file));
            }
            line
        };
        let line = self.until(&dataset, deadline, attempt).await;
        self.carry_out(&dataset, left.effects, deadline).await;
        for file in left.sends {
            self.send_closed(&dataset, file, deadline).await;
        }
        match line? {
            Some(line) => Ok(dataset.see_through(line, deadline).await?),
            None => Ok(()),
        }
    }

    fn request(&self, drafts: &mut Drafts, naming: Naming) -> Result<Option<Request>, Error> {
        match naming {
            Naming::Rename(source, target) => drafts.to_rename(source, target, self.unseen),
            Naming::Exchange(one, other) => drafts.to_exchange(one, other),
        }
    }

    /// Removes a dataset that nothing is in.
    ///
    /// # Errors
    /// [`ErrorKind::NotEmpty`] if something is, and why it is still there.
    pub async fn rmdir(&self, place: &Whereabouts) -> Result<(), Error> {
        let dataset = self.pending.dataset(place);
        let id = dataset.read(|state| state.id());
        {
            let drafts = self.files.lock();
            let is_in =
                |file: &FileId| drafts.name_of(*file).is_some_and(|name| name.dataset == id);
            let is_there = |file: FileId| drafts.standing(file) != Some(Standing::Removed);
            if drafts.drafts().filter(is_in).any(is_there) {
                return Err(ErrorKind::NotEmpty.into());
            }
        }
        Ok(dataset.delete(self.pending.deadline()).await?)
    }

    /// Waits until all that was closed in a dataset is at the service, litter excepted.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if that takes too long.
    pub async fn fsync_directory(&self, place: &Whereabouts) -> Result<(), Error> {
        let dataset = self.pending.dataset(place);
        let deadline = self.pending.deadline();
        dataset.end_holds(None);
        let settled = tokio::time::timeout_at(deadline.into(), dataset.settled()).await;
        settled.map_err(|_| ErrorKind::TimedOut.into())
    }
}

/// A change of two names.
enum Naming {
    Rename(FileId, Target),
    Exchange(FileId, FileId),
}

impl Naming {
    /// Returns the files whose values it needs.
    fn files(&self) -> Vec<FileId> {
        match self {
            Self::Rename(source, Target::File(target)) => vec![*source, *target],
            Self::Rename(source, Target::Absent(..)) => vec![*source],
            Self::Exchange(one, other) => vec![*one, *other],
        }
    }
}

/// What is to be done once values need not be in memory any more.
#[derive(Default)]
struct Left {
    effects: Vec<Effect>,
    sends: Vec<FileId>,
}

/// Tells what a file shows, and what is closed of it.
fn tell(drafts: &Drafts, dataset: &PendingDataset, file: FileId, to: &(dyn Fn(String) + Sync)) {
    let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    let name = drafts.name_of(file);
    let value = name.and_then(|name| dataset.view(&name.key).value);
    let texts = [drafts.text(file), drafts.closed_text(file)];
    let none = texts.iter().all(Option::is_none);
    texts.into_iter().flatten().map(text).for_each(to);
    value
        .filter(|_| none)
        .iter()
        .for_each(|value| to(text(value)));
}
