//! Faults that are planted on purpose, one at a time, so that tests can prove that they find such.
//!
//! Invariant: there is none in a release, and none on a thread that did not plant it.

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// What was sent without an answer is forgotten.
    FingerprintDropped,
    /// A removal waits for no set.
    RemovalBeforeSet,
    /// A listing makes a stale base current.
    BaseLaundered,
    /// A row leaves the journal before the service has the change.
    RowRemovedEarly,
    /// A group is gone before what takes its place is noted.
    AbsorbedBeforeNoted,
    /// A base becomes the version made, though nobody saw that.
    UnseenBase,
    /// A record is litter as it is called so.
    LitterByName,
    /// A journal is taken over from a process that lives.
    TakenOverWithoutLock,
    /// A version that nobody saw is kept after it was replaced.
    ReplacedBeforeKept,
    /// Of two appends that become one only the second is left.
    AppendWithoutFirst,
}

impl Planted {
    pub const ALL: [Self; 10] = [
        Self::FingerprintDropped,
        Self::RemovalBeforeSet,
        Self::BaseLaundered,
        Self::RowRemovedEarly,
        Self::AbsorbedBeforeNoted,
        Self::UnseenBase,
        Self::LitterByName,
        Self::TakenOverWithoutLock,
        Self::ReplacedBeforeKept,
        Self::AppendWithoutFirst,
    ];

    #[cfg(debug_assertions)]
    pub fn is_planted(self) -> bool {
        PLANTED.get() == Some(self)
    }

    #[cfg(not(debug_assertions))]
    pub const fn is_planted(self) -> bool {
        false
    }
}

#[cfg(debug_assertions)]
thread_local! {
    /// The fault of this thread's simulation.
    static PLANTED: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
}

/// Plants a fault on this thread, instead of the one before.
#[cfg(debug_assertions)]
pub fn plant(fault: Option<Planted>) {
    PLANTED.set(fault);
}
