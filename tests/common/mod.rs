//! The test bed: the local service in this process, behind a tap that counts calls and makes
//! trouble, and real mounts of it by the real program.

mod bed;
mod mounted;
mod served;
mod tap;

pub use bed::Bed;
pub use mounted::{Mounted, alone, is_mounted, program, run, shell};
pub use served::Served;
pub use tap::Trouble;
