//! Each property by its name, with the core's events made up.

mod bases;
mod continuation;
mod naming;
mod writing;

use std::sync::Arc;

use super::{
    Drafts, Effect, Extent, FileId, Parked, RecordName, Released, Request, Standing, Target,
};
use crate::fs::Error;
use crate::sync::pending::{
    Base, Change, DatasetId, Digest, Event, Kind, Landed, Made, Outcome, Refusal, Resolution,
    Settled, Ticket, View,
};
use crate::sync::{Remote, Shown, Unseen};
use crate::wire::names::RecordKey;
use crate::wire::text::Text;
use crate::wire::timestamp::Timestamp;

const DATASET: DatasetId = DatasetId(1);

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn name(key: &str) -> RecordName {
    RecordName {
        dataset: DATASET,
        key: RecordKey::new(key).unwrap(),
    }
}

fn version(count: i64) -> Base {
    Base {
        life: 0,
        shown: Shown::Version(count),
        pending: None,
    }
}

fn absent() -> Base {
    Base {
        shown: Shown::Absent,
        ..version(0)
    }
}

fn on(ticket: u64, value: Option<&str>, under: Base) -> Base {
    Base {
        pending: Some(Made {
            ticket: Ticket(ticket),
            digest: value.map(|value| Digest::of(value.as_bytes())),
        }),
        ..under
    }
}

fn view(value: Option<&str>, base: Base) -> View {
    View {
        value: value.map(|value| value.as_bytes().into()),
        modified: at(100),
        changed: at(100),
        base,
    }
}

fn whole(text: &str) -> Kind {
    Kind::Whole(text.as_bytes().into())
}

fn append(text: &str, whole: &str) -> Kind {
    Kind::Append {
        text: text.as_bytes().into(),
        whole: whole.as_bytes().into(),
    }
}

/// Files, and what was staged of them.
struct Bed {
    drafts: Drafts,
    last: u64,
    staged: Vec<(Ticket, Vec<Change>)>,
}

impl Bed {
    fn new() -> Self {
        Self {
            drafts: Drafts::new(Unseen::Keep),
            last: 0,
            staged: Vec::new(),
        }
    }

    fn look_up(&mut self, key: &str, value: &str, base: Base) -> FileId {
        let view = view(Some(value), base);
        self.drafts.look_up(&name(key), &view, |base| base).unwrap()
    }

    fn open(&mut self, key: &str, value: &str, base: Base) -> FileId {
        let id = self.look_up(key, value, base);
        let value = Some(Arc::from(value.as_bytes()));
        self.drafts.open(id, value, true).unwrap();
        id
    }

    fn create(&mut self, key: &str) -> FileId {
        let view = view(None, absent());
        self.drafts.create(&name(key), &view, true, false, at(1))
    }

    /// Writes at the end, as with O_APPEND.
    fn add(&mut self, id: FileId, text: &str) {
        self.drafts
            .write(id, None, text.as_bytes(), at(10))
            .unwrap();
    }

    fn write(&mut self, id: FileId, at_byte: u64, text: &str) {
        self.drafts
            .write(id, Some(at_byte), text.as_bytes(), at(10))
            .unwrap();
    }

    fn truncate(&mut self, id: FileId) {
        self.drafts.truncate(id, 0, true, at(9)).unwrap();
    }

    fn put_in_line(&mut self, request: Option<Request>) -> (u64, Vec<Change>) {
        let request = request.unwrap();
        self.last += 1;
        let changes = request.changes.clone();
        self.staged.push((Ticket(self.last), changes.clone()));
        self.drafts.staged(request, Ticket(self.last));
        (self.last, changes)
    }

    fn stage(&mut self, id: FileId) -> (u64, Change) {
        let request = self.drafts.to_stage(id, Extent::Flush).unwrap();
        let (ticket, changes) = self.put_in_line(request);
        (ticket, changes[0].clone())
    }

    fn sends(&mut self, id: FileId) -> bool {
        self.drafts.to_stage(id, Extent::Flush).unwrap().is_some()
    }

    fn changes(&self, ticket: u64) -> Vec<Change> {
        let mut staged = self.staged.iter();
        let staged = staged.find(|(known, _)| known.0 == ticket);
        staged.unwrap().1.clone()
    }

    fn event(&mut self, event: Event) -> Vec<Effect> {
        self.drafts.hear(DATASET, event)
    }

    /// The group is made; the values are those of its keys, in order, with their count.
    fn made(&mut self, ticket: u64, values: &[Option<&str>], count: i64) -> Vec<Effect> {
        self.made_over(ticket, &[], values, count)
    }

    fn made_over(
        &mut self,
        ticket: u64,
        aliases: &[u64],
        values: &[Option<&str>],
        count: i64,
    ) -> Vec<Effect> {
        let mut landed = Vec::new();
        let mut resolutions = Vec::new();
        for (change, value) in self.changes(ticket).iter().zip(values) {
            let base = value.map_or(absent(), |_| version(count));
            landed.push(Landed {
                key: change.key.clone(),
                record: Some(remote(*value, count, change.modified)),
                base,
            });
            resolutions.push(Resolution {
                key: change.key.clone(),
                made: Some((value.map(|value| Digest::of(value.as_bytes())), base)),
                otherwise: change.base,
            });
        }
        self.event(Event {
            ticket: Ticket(ticket),
            aliases: aliases.iter().map(|alias| Ticket(*alias)).collect(),
            answered: aliases
                .iter()
                .chain([&ticket])
                .map(|told| Ticket(*told))
                .collect(),
            outcome: Outcome::Made(landed),
            resolutions,
            settled: Settled::default(),
        })
    }

    fn unmade(&mut self, ticket: u64, outcome: Outcome, noted: bool) -> Vec<Effect> {
        let changes = self.changes(ticket);
        let resolutions = changes.iter().map(|change| Resolution {
            key: change.key.clone(),
            made: None,
            otherwise: change.base,
        });
        self.event(Event {
            ticket: Ticket(ticket),
            aliases: Vec::new(),
            answered: vec![Ticket(ticket)],
            outcome,
            resolutions: resolutions.collect(),
            settled: Settled {
                removed: noted.then_some(Ticket(ticket)).into_iter().collect(),
                rebased: Vec::new(),
            },
        })
    }

    fn refused(&mut self, ticket: u64, noted: bool) -> Vec<Effect> {
        let outcome = Outcome::Refused(Refusal::Stale, self.changes(ticket));
        self.unmade(ticket, outcome, noted)
    }

    fn given_back(&mut self, ticket: u64) -> Vec<Effect> {
        let outcome = Outcome::GivenBack(Refusal::Lost, self.changes(ticket));
        self.unmade(ticket, outcome, false)
    }

    fn text(&self, id: FileId) -> &str {
        str::from_utf8(self.drafts.text(id).unwrap()).unwrap()
    }

    fn read(&mut self, id: FileId, own: bool) -> String {
        String::from_utf8(self.drafts.read(id, own).unwrap().to_vec()).unwrap()
    }
}

fn remote(value: Option<&str>, count: i64, modified: Timestamp) -> Remote {
    Remote {
        value: value.map(Text::from),
        sync_count: count,
        device_date: Some(modified),
        modified,
        changed: at(5000),
    }
}

fn parked(effects: &[Effect]) -> Vec<&Parked> {
    let parked = effects.iter().filter_map(|effect| match effect {
        Effect::Park(parked) => Some(parked),
        _ => None,
    });
    parked.collect()
}
