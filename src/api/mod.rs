//! How a request gets to the service: client, transport, credentials, retry.
//!
//! Invariant: knows operations and answers, nothing of datasets as state or of files. Every call
//! ends by its deadline. Time, chance, tasks and the way to the service are given to it.

mod calls;
mod client;
mod credentials;
mod endpoint;
mod error;
mod limiter;
mod reachability;
mod retry;
mod surroundings;
mod transport;
mod user;

pub use calls::{CallStats, Calls};
pub use client::{Client, ClientOptions};
pub use credentials::{Credentials, CredentialsSource};
pub use endpoint::{EndpointError, Endpoints, parse_endpoint};
pub use error::Error;
pub use surroundings::{Surroundings, System};
pub use transport::{Incoming, Outgoing, Transport};
pub use user::Logins;
