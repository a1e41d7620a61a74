//! What happens while something else is under way: noting, sending, telling.

use std::time::{Duration, Instant};

use cognitofs::sync::Unseen;
use cognitofs::sync::pending::{
    Barrier, Change, Commit, DatasetId, DatasetState, Event, Hold, How, Kind, Outcome, Place,
    Refusal, Staged, Step, Ticket,
};
use cognitofs::wire::fault::{Code, Fault};
use cognitofs::wire::names::RecordKey;
use cognitofs::wire::timestamp::Timestamp;

use super::service::Service;

struct Bench {
    now: Instant,
    barrier: Barrier,
    states: Vec<DatasetState>,
    services: Vec<Service>,
    places: i64,
    tickets: u64,
}

impl Bench {
    fn new(datasets: u64) -> Self {
        let mut bench = Self {
            now: Instant::now() + Duration::from_secs(100),
            barrier: Barrier::default(),
            states: (0..datasets)
                .map(|id| DatasetState::new(DatasetId(id), 0, true))
                .collect(),
            services: (0..datasets).map(|_| Service::default()).collect(),
            places: 0,
            tickets: 0,
        };
        (0..bench.states.len()).for_each(|of| bench.list(of));
        bench
    }

    fn list(&mut self, of: usize) {
        self.states[of].want_list();
        let Step::List { since } = self.step(of) else {
            panic!("no listing");
        };
        let listing = self.services[of].list(since);
        self.states[of].handle_listed(listing, self.now, self.now, &mut self.barrier);
    }

    fn step(&mut self, of: usize) -> Step {
        self.states[of].next_step(self.now, &mut self.barrier)
    }

    fn change(&self, of: usize, name: &str, kind: Kind) -> Change {
        let key = key(name);
        Change {
            base: self.states[of].view(&key).base,
            key,
            kind,
            unseen: Unseen::Keep,
            own: Vec::new(),
            left: None,
            modified: Timestamp::from_millis(5),
        }
    }

    fn stage(&mut self, of: usize, changes: Vec<Change>, commit: Commit) -> (Ticket, Staged) {
        self.tickets += 10;
        let (ticket, mut last) = (Ticket(self.tickets), self.tickets);
        let how = How {
            commit,
            private: false,
            now: self.now,
            date: Timestamp::from_millis(5),
        };
        let mut fresh = || {
            last += 1;
            Ticket(last)
        };
        let staged = self.states[of].stage(ticket, changes, how, &mut self.barrier, &mut fresh);
        (ticket, staged.unwrap().unwrap())
    }

    fn noted(&mut self, of: usize, ticket: Ticket, staged: &Staged) {
        let first = self.places + 1;
        self.places += staged.notes.len() as i64;
        let places: Vec<Place> = (first..=self.places).map(Place).collect();
        self.states[of].handle_noted(ticket, &places, &mut self.barrier);
    }

    /// Makes a change that is in the journal at once.
    fn note(&mut self, of: usize, changes: Vec<Change>) -> Ticket {
        let (ticket, staged) = self.stage(of, changes, Commit::Async);
        self.noted(of, ticket, &staged);
        ticket
    }

    /// Sends what may go; returns what is sent.
    fn update(&mut self, of: usize) -> (Vec<cognitofs::wire::records::RecordPatch>, String) {
        self.now += Duration::from_millis(200);
        loop {
            match self.step(of) {
                Step::List { since } => {
                    let listing = self.services[of].list(since);
                    self.states[of].handle_listed(listing, self.now, self.now, &mut self.barrier);
                }
                Step::Update { patches, token, .. } => return (patches, token),
                step => panic!("{step:?}"),
            }
        }
    }

    fn send(&mut self, of: usize) {
        let (patches, token) = self.update(of);
        let answer = self.services[of].update(&patches, &token).unwrap();
        self.states[of].handle_updated(answer, self.now, &mut self.barrier);
    }

    /// Puts a record at the service, and forgets how it came there.
    fn put(&mut self, of: usize, name: &str, value: &str) {
        self.services[of].change(&key(name), Some(value), 5);
        self.list(of);
    }

    fn events(&mut self, of: usize) -> Vec<Event> {
        self.states[of].take_events()
    }
}

fn key(name: &str) -> RecordKey {
    RecordKey::new(name).unwrap()
}

fn whole(text: &str) -> Kind {
    Kind::Whole(text.as_bytes().into())
}

#[test]
fn a_removal_is_woken_though_the_set_it_waits_for_was_replaced_meanwhile() {
    let mut bench = Bench::new(2);
    bench.put(1, "old", "value");
    let copy = bench.change(0, "new", whole("value"));
    bench.note(0, vec![copy]);
    let removal = bench.change(1, "old", Kind::Remove);
    bench.note(1, vec![removal]);
    bench.now += Duration::from_millis(200);
    assert_eq!(bench.step(1), Step::Idle, "it waits for the set");
    let more = bench.change(
        0,
        "new",
        Kind::Append {
            text: b"more"[..].into(),
            whole: b"valuemore"[..].into(),
        },
    );
    // It is not absorbed, as the removal waits for its value; another set is.
    bench.note(0, vec![more]);
    let other = bench.change(0, "other", whole("1"));
    bench.note(0, vec![other]);
    let other = bench.change(0, "other", whole("2"));
    bench.note(0, vec![other]);
    bench.send(0);
    let mut woken = Vec::new();
    for event in bench.events(0) {
        woken.extend(bench.barrier.decide(event.ticket));
    }
    assert!(woken.contains(&DatasetId(1)), "{woken:?}");
}

#[test]
fn what_nobody_waits_for_any_more_is_given_back_when_its_call_is_refused_for_now() {
    let mut bench = Bench::new(1);
    let change = bench.change(0, "k", whole("one"));
    let (ticket, _) = bench.stage(0, vec![change], Commit::Close);
    bench.update(0);
    bench.states[0].leave(ticket, &mut bench.barrier);
    let throttled = Fault::new(Code::TooManyRequests, "slow down");
    bench.states[0].handle_refused(throttled, &mut bench.barrier);
    let events = bench.events(0);
    let given_back = |event: &Event| matches!(event.outcome, Outcome::GivenBack(..));
    assert!(events.iter().any(given_back), "{events:?}");
    assert!(bench.states[0].is_settled());
    // The next change of the key is sent.
    let change = bench.change(0, "k", whole("two"));
    bench.stage(0, vec![change], Commit::Close);
    bench.send(0);
}

#[test]
fn what_is_refused_while_it_is_being_noted_is_kept() {
    let mut bench = Bench::new(1);
    bench.put(0, "from", "value");
    let set = bench.change(0, "to", whole("value"));
    let removal = bench.change(0, "from", Kind::Remove);
    bench.note(0, vec![set, removal]);
    bench.update(0);
    // It is based on the rename.
    let change = bench.change(0, "to", whole("new"));
    let (ticket, staged) = bench.stage(0, vec![change], Commit::Async);
    let full = Fault::new(Code::LimitExceeded, "full");
    bench.states[0].handle_refused(full, &mut bench.barrier);
    bench.noted(0, ticket, &staged);
    let events = bench.events(0);
    let event = events.iter().find(|event| event.ticket == ticket).unwrap();
    assert!(matches!(event.outcome, Outcome::Refused(Refusal::Based, _)));
    assert_eq!(
        event.settled.removed,
        [ticket],
        "its row goes when it is kept"
    );
}

#[test]
fn a_removal_that_is_being_noted_is_kept_back() {
    let mut bench = Bench::new(2);
    bench.put(1, "old", "value");
    let copy = bench.change(0, "new", whole("value"));
    let set = bench.note(0, vec![copy]);
    let removal = bench.change(1, "old", Kind::Remove);
    let (ticket, staged) = bench.stage(1, vec![removal], Commit::Async);
    bench.update(0);
    let full = Fault::new(Code::LimitExceeded, "full");
    bench.states[0].handle_refused(full, &mut bench.barrier);
    for (of, removal) in bench.barrier.kept_back(set) {
        bench.states[of.0 as usize].keep_back(removal, &mut bench.barrier);
    }
    bench.barrier.decide(set);
    bench.noted(1, ticket, &staged);
    let events = bench.events(1);
    assert!(
        matches!(
            &events[..],
            [Event {
                outcome: Outcome::Refused(Refusal::KeptBack, _),
                ..
            }]
        ),
        "{events:?}"
    );
}

#[test]
fn whoever_waits_for_what_another_took_the_place_of_is_told_that_it_waits() {
    let mut bench = Bench::new(1);
    let change = bench.change(0, "k", whole("one"));
    let first = bench.note(0, vec![change]);
    let change = bench.change(0, "k", whole("two"));
    let second = bench.note(0, vec![change]);
    assert!(bench.states[0].wait_for(first));
    bench.states[0].fail(Refusal::Lost, &mut bench.barrier);
    let events = bench.events(0);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].ticket, second);
    assert_eq!(events[0].aliases, [first]);
}

#[test]
fn what_nobody_waits_for_any_more_is_given_back_when_it_is_noted() {
    let mut bench = Bench::new(1);
    bench.put(0, "k", "old");
    let set = bench.change(0, "k~", whole("old"));
    let removal = bench.change(0, "k", Kind::Remove);
    let (backup, staged) = bench.stage(0, vec![set, removal], Commit::Close);
    assert_eq!(
        staged.notes[0].hold.map(|(hold, _)| hold),
        Some(Hold::Grace)
    );
    bench.noted(0, backup, &staged);
    let change = bench.change(0, "k", whole("new"));
    let (ticket, staged) = bench.stage(0, vec![change], Commit::Close);
    assert!(staged.waits && staged.notes.len() == 1);
    bench.states[0].leave(ticket, &mut bench.barrier);
    bench.noted(0, ticket, &staged);
    let events = bench.events(0);
    assert!(
        matches!(
            &events[..],
            [Event {
                outcome: Outcome::GivenBack(..),
                ..
            }]
        ),
        "{events:?}"
    );
    let pending: Vec<Ticket> = bench.states[0].pending().collect();
    assert_eq!(pending, [backup], "all is as it was");
}
