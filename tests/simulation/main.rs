//! What is not yet sent, tried without a mount, a kernel or real time.

mod core_worlds;
mod drafts;
mod histories;
mod ledger;
mod process;
mod random;
mod service;
