//! Kinds of worlds: what their users do, and what befalls them.

use cognitofs::sync::pending::Commit;

use super::net::{ANY, REFUSING, Strike, UNSURE};
use super::programs::Program;

/// What a kind of world is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Appends with fsyncs that time out.
    Appends,
    /// Calls without an answer, which are carried out after whatever was done since.
    Late,
    /// Close upon close of one name while the journal is slow or full.
    Closes,
    /// cp, mv and rm across datasets that refuse, deny, hang or conflict.
    Across,
    /// A function of the service or another client changes what was sent.
    Changed,
    /// Chains of renames and exchanges, of which some are refused.
    Chains,
    /// Several processes of one source, killed and started.
    Processes,
    /// What editors do, cut short.
    Editors,
    /// Two inodes of one name.
    Inodes,
    /// A dataset is deleted here and elsewhere, and made again.
    Deleted,
}

pub const ALL: [Kind; 10] = [
    Kind::Appends,
    Kind::Late,
    Kind::Closes,
    Kind::Across,
    Kind::Changed,
    Kind::Chains,
    Kind::Processes,
    Kind::Editors,
    Kind::Inodes,
    Kind::Deleted,
];

/// What a world of a kind is made of. Of lists one is drawn, all as likely; weights are of a hundred
/// steps.
#[derive(Clone, Copy, Debug)]
pub struct Ways {
    pub programs: &'static [(u64, Program)],
    pub names: &'static [&'static str],
    pub datasets: usize,
    pub commits: &'static [Commit],
    /// How many of a hundred calls meet trouble, and which.
    pub trouble: &'static [u64],
    pub strikes: &'static [Strike],
    /// How many of a hundred writes to the disk end their process.
    pub crashes: &'static [u64],
    /// How many of twenty writes to the disk take long.
    pub slow: &'static [u64],
    /// How many of a hundred updates a function of the service changes.
    pub function: &'static [u64],
    /// The longest pauses between steps, in milliseconds.
    pub pauses: &'static [u64],
    pub processes: usize,
    /// A process is killed.
    pub kills: u64,
    /// A process is asked to end.
    pub ends: u64,
    /// The disk becomes full, or has room again.
    pub full: u64,
    /// Another client writes or removes.
    pub other: u64,
    /// Another client deletes a dataset.
    pub deletes: u64,
    /// Whether counts begin again in a dataset that was deleted elsewhere.
    pub restarts: bool,
    /// A dataset begins or ceases to refuse everything.
    pub spells: u64,
}

use Program::{
    Append, Burst, Chain, Copy, Edit, Emacs, Exchange, Forget, Log, Move, Read, Recreate, Remove,
    RemoveDataset, Rename, Replace, SyncDataset, Touch, Twice, Vim, Write,
};

const BOTH: &[Commit] = &[Commit::Close, Commit::Async];

const USUAL: Ways = Ways {
    programs: &[
        (4, Write),
        (3, Append),
        (2, Edit),
        (2, Read),
        (1, Touch),
        (1, Remove),
        (1, Rename),
        (1, Exchange),
        (1, Copy),
        (1, Forget),
    ],
    names: &["a", "b", "k"],
    datasets: 1,
    commits: BOTH,
    trouble: &[0, 10, 40],
    strikes: ANY,
    crashes: &[0],
    slow: &[1],
    function: &[0],
    pauses: &[5, 100, 300, 4_000],
    processes: 1,
    kills: 1,
    ends: 1,
    full: 0,
    other: 6,
    deletes: 0,
    restarts: false,
    spells: 0,
};

impl Kind {
    pub fn ways(self) -> Ways {
        match self {
            Self::Appends => Ways {
                programs: &[
                    (8, Log),
                    (4, Append),
                    (1, Write),
                    (1, Read),
                    (1, Edit),
                    (1, Forget),
                ],
                names: &["a", "b"],
                trouble: &[20, 40, 60],
                strikes: UNSURE,
                ..USUAL
            },
            Self::Late => Ways {
                programs: &[
                    (4, Write),
                    (3, Append),
                    (2, Edit),
                    (3, Recreate),
                    (2, Remove),
                    (3, Rename),
                    (1, Exchange),
                    (1, Log),
                    (1, Forget),
                ],
                names: &["a", "b"],
                trouble: &[30, 60],
                strikes: UNSURE,
                kills: 5,
                other: 4,
                ..USUAL
            },
            Self::Closes => Ways {
                programs: &[
                    (8, Burst),
                    (2, Write),
                    (2, Append),
                    (1, Edit),
                    (1, Rename),
                    (1, Forget),
                ],
                names: &["a", "b"],
                slow: &[4, 10],
                crashes: &[0, 0, 2],
                full: 15,
                pauses: &[5, 50, 300],
                other: 2,
                ..USUAL
            },
            Self::Across => Ways {
                programs: &[
                    (4, Copy),
                    (6, Move),
                    (3, Remove),
                    (4, Write),
                    (1, Append),
                    (1, SyncDataset),
                    (1, Forget),
                ],
                datasets: 3,
                strikes: REFUSING,
                trouble: &[0, 5, 20],
                spells: 12,
                crashes: &[0, 0, 5],
                other: 3,
                ..USUAL
            },
            Self::Changed => Ways {
                programs: &[
                    (4, Write),
                    (4, Append),
                    (4, Edit),
                    (3, Rename),
                    (2, Exchange),
                    (2, Twice),
                    (2, Read),
                    (1, Touch),
                    (1, Forget),
                ],
                names: &["a", "b"],
                function: &[20, 60],
                trouble: &[0, 15],
                other: 25,
                ..USUAL
            },
            Self::Chains => Ways {
                programs: &[
                    (6, Chain),
                    (4, Write),
                    (2, Append),
                    (2, Edit),
                    (2, Recreate),
                    (1, Forget),
                ],
                names: &["a", "b", "c", "k"],
                strikes: ANY,
                trouble: &[5, 20, 50],
                slow: &[1, 4],
                ..USUAL
            },
            Self::Processes => Ways {
                processes: 3,
                kills: 10,
                ends: 4,
                crashes: &[0, 5, 40],
                datasets: 2,
                ..USUAL
            },
            Self::Editors => Ways {
                programs: &[
                    (6, Vim),
                    (4, Replace),
                    (3, Emacs),
                    (2, Append),
                    (1, Write),
                    (1, Edit),
                    (2, SyncDataset),
                    (1, Forget),
                ],
                names: &["a", "k"],
                crashes: &[0, 0, 5],
                kills: 5,
                ends: 4,
                other: 8,
                pauses: &[100, 1_000, 6_000],
                ..USUAL
            },
            Self::Inodes => Ways {
                programs: &[
                    (8, Twice),
                    (2, Edit),
                    (2, Write),
                    (1, Remove),
                    (1, Rename),
                    (2, Forget),
                ],
                names: &["a", "b"],
                trouble: &[0, 10, 30],
                other: 20,
                pauses: &[100, 1_500],
                ..USUAL
            },
            Self::Deleted => Ways {
                programs: &[
                    (4, Write),
                    (3, Append),
                    (2, Edit),
                    (1, Twice),
                    (1, Rename),
                    (1, Move),
                    (4, RemoveDataset),
                    (1, Read),
                    (1, Forget),
                ],
                datasets: 2,
                processes: 2,
                trouble: &[0, 10, 30],
                deletes: 8,
                other: 8,
                restarts: true,
                ..USUAL
            },
        }
    }

    /// Returns the kind of a name, or of a number from 1.
    pub fn find(name: &str) -> Option<Self> {
        let number = name.parse::<usize>().ok();
        let by_number = number.and_then(|number| ALL.get(number.wrapping_sub(1)).copied());
        let is_named = |kind: &&Self| format!("{kind:?}").eq_ignore_ascii_case(name);
        by_number.or_else(|| ALL.iter().find(is_named).copied())
    }
}
