//! The service's own errors: a code, a message, a request id.
//!
//! <https://docs.aws.amazon.com/cognitosync/latest/APIReference/CommonErrors.html>

use std::fmt;

use serde::Deserialize;

macro_rules! codes {
    ($($code:ident $name:literal $status:literal,)*) => {
        /// An error code of the service.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Code {
            $($code,)*
            /// One that the documentation does not name.
            Other(String),
        }

        impl Code {
            /// Returns the name on the wire.
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$code => $name,)*
                    Self::Other(name) => name,
                }
            }

            /// Returns the HTTP status the service gives it.
            pub fn status(&self) -> u16 {
                match self {
                    $(Self::$code => $status,)*
                    Self::Other(_) => 400,
                }
            }

            /// Returns the code that the documentation has by a name.
            pub fn documented(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$code),)*
                    _ => None,
                }
            }
        }
    };
}

impl Code {
    /// Reads a name: `ResourceConflictException:http://...` and `prefix#Name` too.
    fn parse(text: &str) -> Self {
        let name = text.split(':').next().unwrap_or_default();
        let name = name.rsplit('#').next().unwrap_or_default().trim();
        Self::documented(name).unwrap_or_else(|| Self::Other(name.to_owned()))
    }
}

codes! {
    AccessDenied "AccessDeniedException" 403,
    AlreadyStreamed "AlreadyStreamedException" 400,
    ConcurrentModification "ConcurrentModificationException" 400,
    DeveloperUserAlreadyRegistered "DeveloperUserAlreadyRegisteredException" 400,
    DuplicateRequest "DuplicateRequestException" 400,
    ExpiredToken "ExpiredTokenException" 403,
    ExternalService "ExternalServiceException" 400,
    IncompleteSignature "IncompleteSignatureException" 403,
    InternalError "InternalErrorException" 500,
    InternalFailure "InternalFailure" 500,
    InvalidConfiguration "InvalidConfigurationException" 400,
    InvalidIdentityPoolConfiguration "InvalidIdentityPoolConfigurationException" 400,
    InvalidLambdaFunctionOutput "InvalidLambdaFunctionOutputException" 400,
    InvalidParameter "InvalidParameterException" 400,
    InvalidSignature "InvalidSignatureException" 403,
    LambdaThrottled "LambdaThrottledException" 429,
    LimitExceeded "LimitExceededException" 400,
    MissingAuthenticationToken "MissingAuthenticationTokenException" 403,
    NotAuthorized "NotAuthorizedException" 403,
    ResourceConflict "ResourceConflictException" 409,
    ResourceNotFound "ResourceNotFoundException" 404,
    Serialization "SerializationException" 400,
    ServiceUnavailable "ServiceUnavailable" 503,
    Throttling "ThrottlingException" 429,
    TooManyRequests "TooManyRequestsException" 429,
    UnknownOperation "UnknownOperationException" 404,
    UnrecognizedClient "UnrecognizedClientException" 403,
}

/// An error as the service states it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    pub code: Code,
    pub message: String,
    pub status: u16,
    pub request_id: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code.name())?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        if let Some(id) = &self.request_id {
            write!(f, " (request {id})")?;
        }
        Ok(())
    }
}

impl Fault {
    /// Makes a fault with its code's own HTTP status.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            status: code.status(),
            code,
            message: message.into(),
            request_id: None,
        }
    }

    /// Makes an `InvalidParameterException`.
    pub fn invalid(message: &str) -> Self {
        Self::new(Code::InvalidParameter, message)
    }

    /// Makes the `InvalidParameterException` of a limit of the model that was broken.
    pub fn validation(wrong: &str) -> Self {
        Self::invalid(&format!("{VALIDATION_PREFIX}{wrong}"))
    }

    /// Tells of another broken limit too; any other fault stays as it is.
    pub(super) fn and(mut self, other: &Self) -> Self {
        if let (Some((count, wrong)), Some((more, too))) = (self.broken(), other.broken()) {
            let count = count + more;
            self.message = format!("{count} validation errors detected: {wrong}; {too}");
        }
        self
    }

    /// Returns how many limits were broken, and which.
    fn broken(&self) -> Option<(usize, &str)> {
        let (count, rest) = self.message.split_once(" validation error")?;
        let (_, wrong) = rest.split_once(" detected: ")?;
        Some((count.parse().ok()?, wrong))
    }

    /// Makes the answer to a route or a target the API does not have.
    pub fn unknown_operation() -> Self {
        Self::new(Code::UnknownOperation, "no such operation")
    }

    /// Makes the answer to a patch that carries an old sync count.
    pub fn conflict(key: &str, server: i64, sent: i64) -> Self {
        Self::new(
            Code::ResourceConflict,
            format!("{CONFLICT_PREFIX} {key} is: {server} not: {sent}"),
        )
    }

    /// Reads an error answer: the code from `x-amzn-ErrorType`, else from the body's `__type`,
    /// else from the HTTP status.
    pub fn parse(
        status: u16,
        error_type: Option<&str>,
        request_id: Option<&str>,
        body: &[u8],
    ) -> Self {
        #[derive(Default, Deserialize)]
        struct Body {
            #[serde(rename = "__type")]
            kind: Option<String>,
            #[serde(alias = "Message")]
            message: Option<String>,
        }

        let body: Body = serde_json::from_slice(body).unwrap_or_default();
        let code = match error_type.or(body.kind.as_deref()) {
            Some(name) => Code::parse(name),
            None => match status {
                403 => Code::AccessDenied,
                404 => Code::ResourceNotFound,
                409 => Code::ResourceConflict,
                429 => Code::TooManyRequests,
                503 => Code::ServiceUnavailable,
                500.. => Code::InternalFailure,
                _ => Code::Other(format!("HTTP {status}")),
            },
        };
        Self {
            code,
            message: body.message.unwrap_or_default(),
            status,
            request_id: request_id.map(str::to_owned),
        }
    }

    /// Returns whether a patch's sync count was not the server's. One report has it as a 400.
    pub fn is_conflict(&self) -> bool {
        self.code == Code::ResourceConflict || self.message.starts_with(CONFLICT_PREFIX)
    }

    /// Returns the key a conflict names. Keys may hold anything, so the text is cut at its last
    /// ` is: `.
    pub fn conflicting_key(&self) -> Option<&str> {
        let rest = self.message.strip_prefix(CONFLICT_PREFIX)?;
        let (key, _) = rest.rsplit_once(" is: ")?;
        Some(key.strip_prefix(' ').unwrap_or(key))
    }

    /// Returns whether the session token, not the change, was refused.
    pub fn is_session_token(&self) -> bool {
        self.code == Code::InvalidParameter && self.message.contains("SyncSessionToken")
    }

    /// Returns whether a listing was asked for a count the dataset never had.
    pub fn is_unknown_sync_count(&self) -> bool {
        self.code == Code::InvalidParameter && self.message.starts_with("No such SyncCount")
    }

    /// Returns whether the service asks to slow down.
    pub fn is_throttle(&self) -> bool {
        self.status == 429
            || matches!(
                self.code,
                Code::TooManyRequests | Code::Throttling | Code::LambdaThrottled
            )
    }

    /// Returns whether the service itself failed.
    pub fn is_server_error(&self) -> bool {
        self.status >= 500
    }

    /// Returns whether fresh credentials may mend it.
    pub fn is_credentials(&self) -> bool {
        matches!(self.code, Code::ExpiredToken | Code::UnrecognizedClient)
    }
}

/// What the text of a broken limit begins with.
pub(super) const VALIDATION_PREFIX: &str = "1 validation error detected: ";

const CONFLICT_PREFIX: &str = "Current SyncCount for:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_names_the_code_before_the_body() {
        let body = br#"{"message":"no","__type":"x#LimitExceededException"}"#;
        let header = Some("ResourceConflictException:http://internal.amazon.com/");
        let fault = Fault::parse(409, header, Some("id"), body);
        assert_eq!(fault.code, Code::ResourceConflict);
        assert_eq!(
            fault.to_string(),
            "ResourceConflictException: no (request id)"
        );
        let fault = Fault::parse(400, None, None, body);
        assert_eq!(fault.code, Code::LimitExceeded);
        assert_eq!(
            Fault::parse(502, None, None, b"<html>").code,
            Code::InternalFailure
        );
    }

    #[test]
    fn broken_limits_are_counted() {
        let faults = ["a: no", "b: no", "c: no"].map(Fault::validation);
        let [first, second, third] = faults;
        assert_eq!(first.message, "1 validation error detected: a: no");
        let all = first.clone().and(&second.and(&third));
        assert_eq!(
            all.message,
            "3 validation errors detected: a: no; b: no; c: no"
        );
        let other = Fault::invalid("no");
        assert_eq!(other.clone().and(&all), other);
        assert_eq!(first.clone().and(&other), first);
    }

    #[test]
    fn a_conflict_names_its_key() {
        for key in ["theme", "a is: 3 not: 4", ""] {
            let fault = Fault::conflict(key, 7, 3);
            assert!(fault.is_conflict());
            assert_eq!(fault.conflicting_key(), Some(key));
        }
        let unity = Fault::invalid("Current SyncCount for: k is: 2 not: 1");
        assert!(unity.is_conflict());
        assert_eq!(unity.conflicting_key(), Some("k"));
    }
}
