//! What befalls the calls and the journal of a process, and where that makes a difference.

/// What befalls a call or a write of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not done, and its caller gets no answer.
    LostBefore,
    /// It is done, and its caller gets no answer.
    LostAfter,
    /// It is done when the next operation has ended, and its caller gets no answer.
    Late,
    /// The process ends before it.
    CrashBefore,
    /// The process ends after it.
    CrashAfter,
    /// There is no room for it, or the service's quota is reached.
    Refused,
}

pub const FAULTS: [Fault; 6] = [
    Fault::LostBefore,
    Fault::LostAfter,
    Fault::Late,
    Fault::CrashBefore,
    Fault::CrashAfter,
    Fault::Refused,
];

/// Those that differ where a journal is to take something.
pub const NOTING: &[Fault] = &[Fault::CrashBefore, Fault::CrashAfter, Fault::Refused];

/// Those that differ where a journal is told what was decided.
pub const SETTLING: &[Fault] = &[Fault::CrashBefore, Fault::CrashAfter];

/// Those that differ at a listing: it changes nothing, so that a process which ends after it might as
/// well end before.
pub const LISTING: &[Fault] = &[Fault::CrashBefore];
