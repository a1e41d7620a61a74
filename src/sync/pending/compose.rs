//! Two changes of one key, made into one.

use std::sync::Arc;

use super::change::{Base, Change, Digest, Kind, Made, Ticket, note_once};
use super::planted::Planted;
use crate::sync::change::Shown;
use crate::wire::names::RecordKey;
use crate::wire::text::Text;

/// What two changes come to, of which the second is based on what the first makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Composed {
    /// One change, on the base of the first.
    One(Kind),
    /// Nothing is left: the record was never the service's and is not to be.
    Nothing,
    /// They stay two, one after the other.
    Two,
}

/// Composes the kinds of two changes. `absent` says that the first was based on no record, and was
/// never sent.
pub fn compose(first: &Kind, second: &Kind, absent: bool) -> Composed {
    use Kind::{Append, Edit, Remove, Times, Whole};
    Composed::One(match (first, second) {
        // A whole text takes the place of whatever was before it, a removal included: the base
        // stays, so that the service gets one replace.
        (Whole(_) | Append { .. } | Edit(_) | Times | Remove, Whole(text)) => Whole(text.clone()),
        // What is added goes behind what the first makes, which its writer need not have seen so.
        (Whole(first), Append { text, .. }) => Whole(joined(first, text)),
        (Whole(_), Edit(whole)) => Whole(whole.clone()),
        (Whole(text), Times) => Whole(text.clone()),
        (Append { text, whole }, Append { text: more, .. }) => Append {
            text: match Planted::AppendWithoutFirst.is_planted() {
                true => more.clone(),
                false => joined(text, more),
            },
            whole: joined(whole, more),
        },
        // What an append began is this writer's as a whole.
        (Append { .. }, Edit(text)) if absent => Whole(text.clone()),
        (Append { .. }, Edit(text)) => Edit(text.clone()),
        (Append { text, whole }, Times) => Append {
            text: text.clone(),
            whole: whole.clone(),
        },
        (Edit(first), Append { text, .. }) => Edit(joined(first, text)),
        (Edit(_), Edit(whole)) => Edit(whole.clone()),
        (Edit(text), Times) => Edit(text.clone()),
        (Times, Append { text, whole }) => Append {
            text: text.clone(),
            whole: whole.clone(),
        },
        (Times, Edit(text)) => Edit(text.clone()),
        (Times, Times) => Times,
        (Whole(_) | Append { .. } | Edit(_) | Times, Remove) => match absent {
            true => return Composed::Nothing,
            false => Remove,
        },
        // Who adds to what he removed, or changes it, begins it.
        (Remove, Append { whole, .. } | Edit(whole)) => Whole(whole.clone()),
        (Remove, Times | Remove) => return Composed::Two,
    })
}

/// Changes laid one over the other, by key.
#[derive(Debug, Default)]
pub(super) struct Composition(Vec<Layer>);

#[derive(Debug)]
struct Layer {
    key: RecordKey,
    /// None where nothing is left.
    change: Option<Change>,
    /// What the first change was based on.
    base: Base,
    /// The group that made it so.
    maker: Option<Ticket>,
}

impl Composition {
    /// Lays a change over those of its key. `service` is the digest of the service's value.
    ///
    /// Returns None if they stay two: by their kinds, or because the change is not based on the
    /// very version it would be laid over. Two files of one name never become one.
    pub(super) fn lay(
        &mut self,
        change: &Change,
        maker: Option<Ticket>,
        service: Option<Digest>,
    ) -> Option<()> {
        let Some(layer) = self.0.iter_mut().find(|layer| layer.key == change.key) else {
            self.0.push(Layer {
                key: change.key.clone(),
                change: Some(change.clone()),
                base: change.base,
                maker,
            });
            return Some(());
        };
        if layer.made(service) != change.base.pending {
            return None;
        }
        layer.change = layer.over(change)?;
        layer.maker = maker;
        Some(())
    }

    /// Returns what a change of each key has as its base.
    pub(super) fn bases(
        &self,
        service: impl Fn(&RecordKey) -> Option<Digest>,
    ) -> Vec<(RecordKey, Base)> {
        let base = |layer: &Layer| Base {
            pending: layer.made(service(&layer.key)),
            ..layer.base
        };
        let layers = self.0.iter();
        layers
            .map(|layer| (layer.key.clone(), base(layer)))
            .collect()
    }

    /// Returns what is left.
    pub(super) fn changes(self) -> Vec<Change> {
        let changes = self.0.into_iter().map(|layer| layer.change);
        changes.flatten().collect()
    }
}

impl Layer {
    fn made(&self, service: Option<Digest>) -> Option<Made> {
        let made = |ticket| Made {
            ticket,
            digest: self.digest(service),
        };
        self.maker.map(made)
    }

    /// Returns the digest of what the key is shown as.
    fn digest(&self, service: Option<Digest>) -> Option<Digest> {
        match &self.change.as_ref()?.kind {
            Kind::Whole(whole) | Kind::Append { whole, .. } | Kind::Edit(whole) => {
                Some(Digest::of(whole))
            }
            Kind::Times => service,
            Kind::Remove => None,
        }
    }

    /// Returns the layer's change with another over it; None if they stay two.
    fn over(&self, change: &Change) -> Option<Option<Change>> {
        let absent = self.base.shown == Shown::Absent && self.base.pending.is_none();
        let first = self
            .change
            .as_ref()
            .map_or(&Kind::Remove, |first| &first.kind);
        match compose(first, &change.kind, absent) {
            Composed::One(kind) => {
                let first = self.change.as_ref();
                let mut own = first.map_or_else(Vec::new, |first| first.own.clone());
                let is_behind = first.is_some_and(|first| first.kind.added().is_some());
                for sent in &change.own {
                    note_once(&mut own, if is_behind { sent.beneath() } else { *sent });
                }
                Some(Some(Change {
                    kind,
                    own,
                    base: self.base,
                    ..change.clone()
                }))
            }
            Composed::Nothing => Some(None),
            Composed::Two => None,
        }
    }
}

/// Returns bytes with more behind them: two halves of a character become one.
fn joined(first: &[u8], second: &[u8]) -> Arc<[u8]> {
    match (Text::from_wtf8(first), Text::from_wtf8(second)) {
        (Some(first), Some(second)) => first.joined(&second).as_bytes().into(),
        _ => [first, second].concat().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds() -> Vec<Kind> {
        vec![
            Kind::Whole(b"w".as_slice().into()),
            Kind::Append {
                text: b"t".as_slice().into(),
                whole: b"rt".as_slice().into(),
            },
            Kind::Edit(b"e".as_slice().into()),
            Kind::Times,
            Kind::Remove,
        ]
    }

    /// What a record comes to; None if the change cannot be made of it.
    fn apply(kind: &Kind, record: Option<Vec<u8>>) -> Option<Option<Vec<u8>>> {
        Some(match (kind, record) {
            (Kind::Whole(text) | Kind::Edit(text), _) => Some(text.to_vec()),
            (Kind::Append { text, .. }, Some(record)) => Some([&record[..], text].concat()),
            (Kind::Append { whole, .. }, None) => Some(whole.to_vec()),
            (Kind::Times, Some(record)) => Some(record),
            (Kind::Remove, Some(_)) => None,
            (Kind::Times | Kind::Remove, None) => return None,
        })
    }

    /// The second change as its writer makes it, who sees what the first makes.
    fn seen(second: Kind, made: &Option<Vec<u8>>) -> Kind {
        match second {
            Kind::Append { text, .. } => Kind::Append {
                whole: [made.as_deref().unwrap_or_default(), &text].concat().into(),
                text,
            },
            kind => kind,
        }
    }

    #[test]
    fn w3_every_pair_comes_to_what_the_two_come_to() {
        for record in [None, Some(b"r".to_vec())] {
            for first in kinds() {
                let first = seen(first, &record);
                let Some(made) = apply(&first, record.clone()) else {
                    continue;
                };
                for second in kinds() {
                    let second = seen(second, &made);
                    let both = apply(&second, made.clone());
                    match (compose(&first, &second, record.is_none()), both) {
                        (Composed::One(one), Some(both)) => {
                            let made = apply(&one, record.clone());
                            // To remove what is not there is nothing.
                            assert_eq!(made.unwrap_or_default(), both, "{first:?} {second:?}");
                        }
                        (Composed::Nothing, Some(both)) => assert!(both.is_none()),
                        (Composed::Two, both) => assert!(both.is_none(), "{first:?} {second:?}"),
                        (composed, None) => panic!("{first:?} {second:?}: {composed:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn w3_what_is_at_the_service_or_may_be_is_removed_there() {
        let whole = Kind::Whole(b"w".as_slice().into());
        let gone = compose(&whole, &Kind::Remove, false);
        assert_eq!(gone, Composed::One(Kind::Remove));
        assert_eq!(compose(&whole, &Kind::Remove, true), Composed::Nothing);
    }
}
