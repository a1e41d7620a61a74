//! POSIX meaning over the store: nodes, names, handles, directories, files.
//!
//! Invariant: every operation ends within the store's timeout. Knows nothing of HTTP, of patches
//! or of the kernel's protocol.

mod attr;
mod control;
mod directory;
/// Public for the tests that drive it together with the core; no operation uses it yet.
pub mod drafts;
mod drain;
mod errno;
mod error;
mod failures;
mod file;
mod inode;
mod lookup;
mod name;
mod node;
mod parked;
mod push;
mod queue;
mod rename;
mod stats;
mod take_up;
mod taken;
mod unsent;

pub use attr::{Attr, AttrOptions, FileType, SetAttr, SpaceUsage};
pub use directory::{DirEntry, DirHandle, EntryNode};
pub use errno::errno;
pub use error::Error;
pub use failures::Failure;
pub use file::{OpenFlags, Opened};
pub use inode::{Ino, ROOT};
pub use lookup::{Answering, Entry, FileSystem, Found};
pub use name::{Decoded, NAME_MAX, decode, encode, encode_text};
pub use queue::CommitMode;
pub use rename::RenameMode;
