//! What is not yet sent, tried without a mount, a kernel or real time.

mod histories;
mod ledger;
mod process;
mod service;
