//! What each property of pending changes forbids, one test or more a property.

mod bases;
mod bed;
mod composing;
mod deciding;
mod driving;
mod fingerprints;
mod journal;
mod litter;
mod order;
mod service;
mod waiting;
