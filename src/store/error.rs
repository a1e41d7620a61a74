//! What can go wrong with remote data, by what it means to whoever wanted it.

use std::sync::Arc;

use super::journal::JournalError;
use crate::api;
use crate::sync::{Refusal, pending};
use crate::wire::fault::{Code, Fault};

/// What an error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no such pool, identity or dataset.
    NotFound,
    /// The caller may not do that.
    Denied,
    /// The service does not know the caller, or there are no credentials.
    Unauthenticated,
    /// The record, or its dataset, is no longer what was shown here.
    Stale,
    /// A dataset that is to be deleted has records.
    NotEmpty,
    /// A quota of the service is reached.
    Quota,
    /// More than 1,048,575 characters.
    TooBig,
    /// The value is not Unicode text.
    NotText,
    /// The service, or this side of it, calls the request invalid.
    Invalid,
    /// There is no room on this machine's disk.
    NoSpace,
    /// The service asks to slow down.
    Throttled,
    /// No answer in time.
    TimedOut,
    /// No connection.
    Unreachable,
    /// Anything else.
    Failed,
}

/// An error and the service's own words, if it said any. Cheap to clone, for all who waited.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(super) fn because(
        kind: ErrorKind,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self {
            kind,
            source: Some(Arc::new(source)),
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.kind {
            ErrorKind::NotFound => "not found",
            ErrorKind::Denied => "access denied",
            ErrorKind::Unauthenticated => "not let in",
            ErrorKind::Stale => "changed elsewhere since it was shown here",
            ErrorKind::NotEmpty => "the dataset has records",
            ErrorKind::Quota => "a quota of the service is reached",
            ErrorKind::TooBig => "more than 1,048,575 characters",
            ErrorKind::NotText => "not Unicode text",
            ErrorKind::Invalid => "invalid",
            ErrorKind::NoSpace => "this machine's disk is full",
            ErrorKind::Throttled => "the service is throttling",
            ErrorKind::TimedOut => "no answer in time",
            ErrorKind::Unreachable => "the service cannot be reached",
            ErrorKind::Failed => "the service failed",
        })
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.source.as_ref()?;
        Some(source.as_ref())
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, source: None }
    }
}

impl From<api::Error> for Error {
    fn from(error: api::Error) -> Self {
        Self::because(call_kind(&error), error)
    }
}

/// Returns what an error of a call means. Where time ran out, that is what was told last.
fn call_kind(error: &api::Error) -> ErrorKind {
    match error {
        api::Error::Fault(fault) => fault_kind(fault),
        api::Error::TimedOut { told, .. } | api::Error::NoTurn { told, .. } => match told {
            Some(told) => call_kind(told),
            None => ErrorKind::TimedOut,
        },
        api::Error::Unreachable { .. } => ErrorKind::Unreachable,
        api::Error::Broken { .. } | api::Error::Garbled { .. } => ErrorKind::Failed,
        api::Error::NoCredentials { .. } => ErrorKind::Unauthenticated,
        api::Error::Unsayable(_) => ErrorKind::Invalid,
    }
}

impl From<JournalError> for Error {
    fn from(error: JournalError) -> Self {
        let kind = if error.is_full() {
            ErrorKind::NoSpace
        } else {
            ErrorKind::Failed
        };
        Self::because(kind, error)
    }
}

impl From<pending::Refusal> for Error {
    fn from(refusal: pending::Refusal) -> Self {
        match refusal {
            pending::Refusal::Stale | pending::Refusal::Based | pending::Refusal::KeptBack => {
                ErrorKind::Stale.into()
            }
            pending::Refusal::Deleted => ErrorKind::NotFound.into(),
            pending::Refusal::NotText => ErrorKind::NotText.into(),
            pending::Refusal::TooBig => ErrorKind::TooBig.into(),
            pending::Refusal::Lost => ErrorKind::Failed.into(),
            pending::Refusal::Fault(fault) => Self {
                kind: fault_kind(&fault),
                source: Some(fault),
            },
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Stale => ErrorKind::Stale.into(),
            Refusal::NotText => ErrorKind::NotText.into(),
            Refusal::TooBig => ErrorKind::TooBig.into(),
            Refusal::Lost => ErrorKind::Failed.into(),
            Refusal::Fault(fault) => Self {
                kind: fault_kind(&fault),
                source: Some(fault),
            },
        }
    }
}

fn fault_kind(fault: &Fault) -> ErrorKind {
    if fault.is_conflict() {
        return ErrorKind::Stale;
    }
    match fault.code {
        Code::ResourceNotFound => ErrorKind::NotFound,
        Code::AccessDenied | Code::NotAuthorized => ErrorKind::Denied,
        Code::ExpiredToken
        | Code::IncompleteSignature
        | Code::InvalidSignature
        | Code::MissingAuthenticationToken
        | Code::UnrecognizedClient => ErrorKind::Unauthenticated,
        Code::LimitExceeded => ErrorKind::Quota,
        Code::InvalidConfiguration
        | Code::InvalidIdentityPoolConfiguration
        | Code::InvalidParameter
        | Code::Serialization => ErrorKind::Invalid,
        Code::LambdaThrottled | Code::Throttling | Code::TooManyRequests => ErrorKind::Throttled,
        Code::ResourceConflict | Code::ConcurrentModification => ErrorKind::Stale,
        Code::AlreadyStreamed
        | Code::DeveloperUserAlreadyRegistered
        | Code::DuplicateRequest
        | Code::ExternalService
        | Code::InternalError
        | Code::InternalFailure
        | Code::InvalidLambdaFunctionOutput
        | Code::ServiceUnavailable
        | Code::UnknownOperation
        | Code::Other(_) => ErrorKind::Failed,
    }
}
