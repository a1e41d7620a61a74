//! How a request gets to the service: client, transport, credentials, retry.
//!
//! Invariant: knows operations and answers, nothing of datasets as state or of files. Every call
//! ends by its deadline.

mod calls;
mod client;
mod credentials;
mod endpoint;
mod error;
mod limiter;
mod reachability;
mod retry;
mod transport;
mod user;

pub use calls::{CallStats, Calls};
pub use client::{Client, ClientOptions};
pub use credentials::{Credentials, CredentialsSource};
pub use endpoint::{EndpointError, Endpoints, parse_endpoint};
pub use error::Error;
pub use user::Logins;
