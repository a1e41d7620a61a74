//! What can come of a call besides its answer.

use std::sync::Arc;

use crate::wire::fault::Fault;

/// Why, as something else says it. Cheap to clone, for all who are told.
pub(super) type Source = Arc<dyn std::error::Error + Send + Sync>;

/// Why a call has no answer. Cheap to clone, for all who wait for it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The service refused it.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// No answer came before the deadline.
    #[error("no answer from {host} in time")]
    TimedOut {
        host: String,
        /// What was answered to the tries before the last.
        #[source]
        told: Option<Arc<Error>>,
    },
    /// Others that call it, or the credentials, took until the deadline, so nothing was sent.
    #[error("no turn to call {host} in time")]
    NoTurn {
        host: String,
        /// What was answered to the tries before, or to those who had their turn.
        #[source]
        told: Option<Arc<Error>>,
    },
    /// No connection could be made, so nothing was sent.
    #[error("{host} cannot be reached")]
    Unreachable {
        host: String,
        #[source]
        source: Source,
    },
    /// The connection broke: the request may or may not have been carried out.
    #[error("the connection to {host} broke")]
    Broken {
        host: String,
        #[source]
        source: Source,
    },
    /// The answer is not what the API documents.
    #[error("the answer to {operation} from {host} cannot be read")]
    Garbled {
        operation: &'static str,
        host: String,
        #[source]
        source: Source,
    },
    /// No credentials can be had.
    #[error("no AWS credentials: {reason}")]
    NoCredentials { reason: String },
    /// The request cannot be written down.
    #[error("{0}")]
    Unsayable(String),
}

impl Error {
    /// Returns the service's code, or a word for what was wrong on the way.
    pub fn name(&self) -> &str {
        match self {
            Self::Fault(fault) => fault.code.name(),
            Self::TimedOut { .. } => "timed_out",
            Self::NoTurn { .. } => "no_turn",
            Self::Unreachable { .. } => "unreachable",
            Self::Broken { .. } => "broken",
            Self::Garbled { .. } => "garbled",
            Self::NoCredentials { .. } => "no_credentials",
            Self::Unsayable(_) => "unsayable",
        }
    }

    /// Returns whether the service asks to slow down.
    pub fn is_throttle(&self) -> bool {
        matches!(self, Self::Fault(fault) if fault.is_throttle())
    }

    /// Returns the same error with what was told before it, where it says nothing but that time
    /// ran out.
    pub(super) fn after(self, earlier: Option<Arc<Self>>) -> Self {
        match self {
            Self::TimedOut { host, told } => Self::TimedOut {
                host,
                told: earlier.or(told),
            },
            Self::NoTurn { host, told } => Self::NoTurn {
                host,
                told: earlier.or(told),
            },
            error => error,
        }
    }

    /// Returns whether the service may have carried the request out all the same.
    pub fn is_unsure(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Broken { .. } | Self::Garbled { .. } => true,
            Self::Fault(fault) => fault.is_server_error(),
            Self::NoTurn { .. }
            | Self::Unreachable { .. }
            | Self::NoCredentials { .. }
            | Self::Unsayable(_) => false,
        }
    }
}

/// Shows an error with its causes.
pub(super) struct Chained<'a>(pub(super) &'a dyn std::error::Error);

impl std::fmt::Display for Chained<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
