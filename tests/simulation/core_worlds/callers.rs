//! Callers whose changes are in line while others begin, and what all see meanwhile.

use cognitofs::sync::pending::{Change, Kind, Outcome, View};
use cognitofs::wire::names::RecordKey;

use super::super::ledger::tokens;
use super::super::process::{Begun, Crashed, Process, Told};
use super::{CoreWorld, DATASETS, NAMES, text};

/// Whose changes are in line.
pub(super) struct Caller {
    pub(super) journal: u64,
    pub(super) begun: Begun,
    pub(super) is_noted: bool,
    pub(super) token: Option<String>,
}

impl CoreWorld {
    /// Returns whether something of a text is on its way to the service as far as somebody knows.
    pub(super) fn is_under_way(&self, text: &str) -> bool {
        let rows = self.world.disk.rows.iter();
        let noted = rows.flat_map(|row| &row.note.changes);
        let wholes = noted.filter_map(|noted| noted.change.kind.whole());
        let written = wholes.map(|whole| String::from_utf8_lossy(whole).into_owned());
        let waiting = self
            .callers
            .iter()
            .filter_map(|caller| caller.token.clone());
        let mut under_way = written.chain(waiting);
        let tokens = tokens(text);
        under_way.any(|other| tokens.iter().any(|token| other.contains(token)))
    }

    /// Whoever has a version open hears what became of it. What is not made is nobody's version.
    pub(super) fn hear(&mut self, process: &mut Process) {
        for (of, event) in process.untold.drain(..) {
            if matches!(event.outcome, Outcome::Waits(_)) {
                continue;
            }
            self.open.retain_mut(|(journal, at, key, view)| {
                let of_process = (*journal, *at) == (process.journal, of);
                let Some(made) = view.base.pending.filter(|_| of_process) else {
                    return true;
                };
                let is_its = made.ticket == event.ticket;
                let mut resolutions = event.resolutions.iter();
                let resolution = resolutions.find(|one| one.key == *key);
                match resolution.filter(|_| is_its || event.aliases.contains(&made.ticket)) {
                    Some(resolution) => {
                        view.base = resolution.resolve(view.base);
                        resolution.made.is_some()
                    }
                    None => !is_its,
                }
            });
        }
    }

    /// What was noted is what is shown.
    pub(super) fn check_shown(
        &mut self,
        process: &Process,
        of: usize,
        shown: &[(RecordKey, View)],
    ) {
        for (key, expected) in shown {
            let view = process.states[of].view(key);
            // Where one is gone, another's may be there.
            let is_gone = !expected.is_there() && view.base != expected.base;
            if view.value != expected.value && !is_gone {
                let (is, was) = (text(&view), text(expected));
                let wrong = format!("{key:?} was noted as {was:?} and is shown as {is:?}");
                self.world.wrong.get_or_insert(wrong);
            }
        }
    }

    /// Has the journal take what a caller has in line, and then waits if the caller does and `waits`
    /// says so. Returns what the caller is told; nothing while he goes on waiting.
    pub(super) fn go_on(
        &mut self,
        process: &mut Process,
        caller: &mut Caller,
        waits: bool,
    ) -> Result<Option<Told>, Crashed> {
        if !caller.is_noted {
            if !process.note_begun(&mut self.world, &caller.begun)? {
                self.trace.push("is not noted".to_owned());
                self.hear(process);
                let (of, ticket) = (caller.begun.of, caller.begun.ticket);
                // What was written is a draft again, and is not what is shown.
                self.open.retain(|(journal, at, _, view)| {
                    let pending = view.base.pending.map(|made| made.ticket);
                    (*journal, *at, pending) != (process.journal, of, Some(ticket))
                });
                return Ok(Some(Told::Failed));
            }
            caller.is_noted = true;
        }
        if caller.begun.staged.waits && !waits {
            return Ok(None);
        }
        let told = process.see_through(&mut self.world, &caller.begun)?;
        self.trace.push(format!("{told:?}"));
        if told == Told::Done {
            let token = caller.token.iter();
            token.for_each(|token| self.world.ledger.keep(token));
        }
        Ok(Some(told))
    }

    /// Somebody who has something in line goes on, or somebody waits for what was noted.
    pub(super) fn go_on_with_one(&mut self, process: &mut Process) -> Result<(), Crashed> {
        let own = |caller: &Caller| caller.journal == process.journal;
        let Some(at) = self.callers.iter().position(own) else {
            return self.wait_for_one(process);
        };
        let mut caller = self.callers.remove(at);
        let (of, ticket) = (caller.begun.of, caller.begun.ticket);
        self.trace.push(format!("{ticket:?} goes on"));
        let is_answered = process.answers.contains_key(&ticket);
        if caller.is_noted && !is_answered && self.random.percent(30) {
            self.trace.push(format!("{ticket:?} is left"));
            return process.leave(&mut self.world, of, ticket);
        }
        let waits = self.random.percent(50);
        if self.go_on(process, &mut caller, waits)?.is_none() {
            self.callers.push(caller);
        }
        Ok(())
    }

    fn wait_for_one(&mut self, process: &mut Process) -> Result<(), Crashed> {
        let own = self.tickets.iter();
        let own: Vec<_> = own
            .filter(|(journal, ..)| *journal == process.journal)
            .collect();
        if own.is_empty() {
            return Ok(());
        }
        let (_, of, ticket) = *self.random.pick(&own);
        self.trace.push(format!("waits for {ticket:?}"));
        process.wait_for(&mut self.world, of, ticket)
    }

    pub(super) fn go_on_with_all(&mut self, process: &mut Process) -> Result<(), Crashed> {
        let journal = process.journal;
        let own = |caller: &Caller| caller.journal == journal;
        while let Some(at) = self.callers.iter().position(own) {
            let mut caller = self.callers.remove(at);
            self.go_on(process, &mut caller, true)?;
        }
        Ok(())
    }

    /// Lists. What waits can be read as before until it is decided.
    pub(super) fn look(&mut self, process: &mut Process) -> Result<(), Crashed> {
        let keys = NAMES.map(|name| RecordKey::new(name).unwrap());
        let places = (0..DATASETS).flat_map(|of| keys.iter().map(move |key| (of, key)));
        let view = |process: &Process, of: usize, key| process.states[of].view(key);
        let pending = |view: &View| view.base.pending.map(|made| made.ticket);
        let mut before = Vec::new();
        for (of, key) in places {
            let state = &process.states[of];
            let remote = state.remote(key).and_then(|remote| remote.value.as_ref());
            let view = view(process, of, key);
            // A date has no text of its own, and litter hides no record.
            let is_own = view.value.as_deref() != remote.map(|value| value.as_bytes());
            if is_own && state.litter() == 0 {
                before.extend(pending(&view).map(|ticket| (of, key, ticket)));
            }
        }
        process.look(&mut self.world)?;
        for (of, key, ticket) in before {
            let is_pending = !process.states[of].pending_of(ticket).is_empty();
            if is_pending && pending(&view(process, of, key)) != Some(ticket) {
                let wrong = format!("{ticket:?} is pending and {key:?} does not show it");
                self.world.wrong.get_or_insert(wrong);
            }
        }
        Ok(())
    }
}

/// Returns what a change makes of what is shown.
pub(super) fn expected(process: &Process, of: usize, change: &Change) -> View {
    let view = process.states[of].view(&change.key);
    let value = match &change.kind {
        Kind::Whole(whole) | Kind::Edit(whole) => Some(whole.clone()),
        Kind::Append { text, .. } => {
            let before = view.value.as_deref().unwrap_or_default();
            Some([before, text].concat().into())
        }
        Kind::Times => view.value.clone(),
        Kind::Remove => None,
    };
    View {
        value,
        base: change.base,
        ..view
    }
}
