//! The test bed: the local service in this process, behind a tap that counts calls and makes
//! trouble, and real mounts of it by the real program; and surroundings for worlds without any.

mod bed;
mod certificates;
mod front;
mod mounted;
mod names;
mod seeded;
mod served;
mod tap;

pub use bed::Bed;
pub use certificates::Certificate;
pub use front::{Door, Front};
pub use mounted::{Mounted, alone, is_mounted, program, run, shell};
pub use names::{HOST, Meaning, Names};
pub use seeded::Seeded;
pub use served::Served;
pub use tap::Trouble;
