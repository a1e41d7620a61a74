//! What a base on a pending change comes to when that change is decided.

use super::change::{Base, Digest};
use super::planted::Planted;
use crate::sync::change::Shown;
use crate::wire::names::RecordKey;

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    pub key: RecordKey,
    /// The version that was made, by its value and its name; None if none was.
    pub made: Option<(Option<Digest>, Base)>,
    /// What the change itself was based on.
    pub otherwise: Base,
}

impl Resolution {
    /// Resolves a base on the change. Only who saw the very version that was made has seen it: a
    /// function of the service may have changed what was sent.
    pub fn resolve(&self, base: Base) -> Base {
        let seen = base.pending.and_then(|made| made.digest);
        match self.made {
            Some((digest, made)) if digest == seen || Planted::UnseenBase.is_planted() => made,
            _ => self.unseen(base),
        }
    }

    /// Returns the later of what lay under the change when it was shown, and of what the change was
    /// based on: who sees the one over the other has seen both.
    fn unseen(&self, base: Base) -> Base {
        match (base.shown, self.otherwise.shown) {
            (Shown::Version(seen), Shown::Version(own))
                if base.life == self.otherwise.life && seen > own =>
            {
                Base {
                    shown: base.shown,
                    ..self.otherwise
                }
            }
            _ => self.otherwise,
        }
    }
}

impl Base {
    /// Returns the base without what was pending over it.
    pub fn settled(self) -> Self {
        Self {
            pending: None,
            ..self
        }
    }
}
