//! One request's way through the service, whatever carried it here: HTTP, or a caller in the same
//! process.
//!
//! Invariant: every request gets an answer in the service's own form, whatever is in it. Nothing
//! here reads a clock.

use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};

use crate::wire::bulk_publish::BulkPublish;
use crate::wire::fault::{Code, Fault};
use crate::wire::identity::IdentityCall;
use crate::wire::operation::{Call, Operation, Service as Api};
use crate::wire::sigv4::Signable;
use crate::wire::timestamp::Timestamp;

use super::auth;
use super::random;
use super::service::{Caller, Service};

/// The largest body. A value of 1,048,575 characters, each of them escaped, fits.
pub(super) const MAX_BODY: usize = 8 * 1024 * 1024;

/// A request that was carried out or refused.
#[derive(Debug)]
pub struct Exchange {
    /// `-` if the request named none that there is.
    pub(super) operation: &'static str,
    /// Cognito Identity's form of requests and answers, not Cognito Sync's.
    is_rpc: bool,
    pub(super) answer: Result<Vec<u8>, Fault>,
}

impl Exchange {
    /// Carries a request out, or finds out why not; it waits for the store. Its path, query and
    /// headers are as they were received, the `host` that was signed among them.
    pub fn run(service: &Service, parts: &Parts, body: &[u8], now: Timestamp) -> Self {
        if body.len() > MAX_BODY {
            return Self::failed(is_rpc(parts), too_large());
        }
        let request = Received { parts, body, now };
        let mut operation = "-";
        let target = identity_target(parts);
        let answer = match target {
            Some(target) => request.identity(service, target, &mut operation),
            None => request.sync(service, &mut operation),
        };
        Self::new(operation, target.is_some(), answer)
    }

    /// What came of a request that was not even looked at.
    pub(super) fn failed(is_rpc: bool, fault: Fault) -> Self {
        Self::new("-", is_rpc, Err(fault))
    }

    /// What came of a request that [`run`](Self::run) panicked at; see [`is_rpc`].
    pub fn panicked(is_rpc: bool) -> Self {
        Self::failed(is_rpc, Fault::new(Code::InternalError, "it panicked"))
    }

    fn new(operation: &'static str, is_rpc: bool, mut answer: Result<Vec<u8>, Fault>) -> Self {
        if let (true, Err(fault)) = (is_rpc, &mut answer)
            && fault.status < 500
        {
            // Cognito Identity has no other status for what is the client's fault.
            fault.status = 400;
        }
        Self {
            operation,
            is_rpc,
            answer,
        }
    }

    /// Returns whether it left work for later, which [`go_on`] does.
    pub fn leaves_work(&self) -> bool {
        self.operation == BulkPublish::NAME && self.answer.is_ok()
    }

    /// Returns what is sent.
    pub fn into_response(self) -> Response<Vec<u8>> {
        let (status, kind, body) = match self.answer {
            Ok(body) => (StatusCode::OK, None, body),
            Err(fault) => {
                let body = serde_json::json!({
                    "__type": fault.code.name(),
                    "message": fault.message,
                });
                let status = StatusCode::from_u16(fault.status);
                (
                    status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                    HeaderValue::from_str(fault.code.name()).ok(),
                    body.to_string().into_bytes(),
                )
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(match self.is_rpc {
                true => "application/x-amz-json-1.1",
                false => "application/json",
            }),
        );
        if let Some(kind) = kind {
            headers.insert(HeaderName::from_static("x-amzn-errortype"), kind);
        }
        let id = random::uuid().unwrap_or_default();
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert(HeaderName::from_static("x-amzn-requestid"), id);
        }
        response
    }
}

/// A request as it was received, and when.
#[derive(Clone, Copy)]
struct Received<'a> {
    parts: &'a Parts,
    body: &'a [u8],
    now: Timestamp,
}

impl Received<'_> {
    fn identity(
        self,
        service: &Service,
        target: &HeaderValue,
        operation: &mut &'static str,
    ) -> Result<Vec<u8>, Fault> {
        let call = IdentityCall::parse(target.to_str().unwrap_or_default(), self.body)?;
        *operation = call.name();
        let caller = match call.is_unsigned() {
            true => None,
            false => Some(self.authenticate(service, Api::CognitoIdentity)?),
        };
        service.identity_call(&call, caller.as_ref(), self.now)
    }

    fn sync(self, service: &Service, operation: &mut &'static str) -> Result<Vec<u8>, Fault> {
        let caller = self.authenticate(service, Api::CognitoSync)?;
        let (method, uri) = (self.parts.method.as_str(), &self.parts.uri);
        let query = uri.query().unwrap_or_default();
        let call = Call::parse(method, uri.path(), query, self.body)?;
        *operation = call.name();
        service.call(&call, &caller, self.now)
    }

    fn authenticate(self, service: &Service, api: Api) -> Result<Caller, Fault> {
        let headers = self.parts.headers.iter();
        let readable =
            headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let headers: Vec<(&str, &str)> = readable.collect();
        let path = self.parts.uri.path_and_query();
        let path = path.map_or("/", |path| path.as_str());
        // The host that is signed is the header's; this one only makes the URL whole.
        let url = format!("http://localhost{path}");
        let request = Signable {
            method: self.parts.method.as_str(),
            url: &url,
            headers: &headers,
            body: self.body,
        };
        auth::caller(service, request, api, self.now)
    }
}

/// Does a piece of what calls have left for later. Returns whether there may be more.
pub fn go_on(service: &Service, now: Timestamp) -> bool {
    service.go_on(now).unwrap_or_else(|error| {
        let error = &error as &dyn std::error::Error;
        tracing::error!(error, "what was left for later cannot be done");
        false
    })
}

/// Returns whether a request has Cognito Identity's form.
pub fn is_rpc(parts: &Parts) -> bool {
    identity_target(parts).is_some()
}

/// Returns the target of a Cognito Identity request. Old Android clients send one on the REST paths
/// too, where it means nothing.
pub(super) fn identity_target(parts: &Parts) -> Option<&HeaderValue> {
    let target = parts.headers.get("x-amz-target");
    target.filter(|_| parts.method == "POST" && parts.uri.path() == "/")
}

/// Refuses a body of more than [`MAX_BODY`].
pub(super) fn too_large() -> Fault {
    let mut fault = Fault::new(
        Code::Other("RequestEntityTooLargeException".to_owned()),
        format!("the body is larger than {MAX_BODY} bytes"),
    );
    fault.status = 413;
    fault
}
