//! The service over HTTP/1.1, on loopback.
//!
//! Invariant: every HTTP request gets an answer in the service's own form, whatever is in it. Logged are the operation, the status and the time, nothing of what was sent.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::{StreamExt, stream};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::wire::bulk_publish::BulkPublish;
use crate::wire::fault::{Code, Fault};
use crate::wire::identity::IdentityCall;
use crate::wire::operation::{Call, Operation, Service as Api};
use crate::wire::sigv4::Signable;
use crate::wire::timestamp::Timestamp;

use super::auth;
use super::faults::{Faults, Trouble};
use super::random;
use super::service::{Caller, Service};

/// The largest body. A value of 1,048,575 characters, each of them escaped, fits.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// How much of a larger one is read and dropped, so that the client gets to read the answer.
const MAX_DRAINED: usize = 64 * 1024 * 1024;

/// Serves until `shutdown` is done; requests that have begun are answered.
///
/// # Errors
/// `InvalidInput` for a listener that other machines can reach.
pub async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    serve_with_faults(listener, service, Faults::default(), shutdown).await
}

/// Serves as [`serve`] does, and makes trouble where faults say so. What is delayed or hangs ends
/// with the service.
///
/// # Errors
/// `InvalidInput` for a listener that other machines can reach.
pub async fn serve_with_faults(
    listener: TcpListener,
    service: Arc<Service>,
    faults: Faults,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the local service listens on loopback only, not on {address}"),
        ));
    }
    let (end, ended) = watch::channel(());
    let (busy, mut idle) = mpsc::channel(1);
    let served = Served {
        service,
        faults: Arc::new(faults),
        ended,
        busy,
    };
    served.clone().go_on();
    axum::serve(listener, routes(served))
        .with_graceful_shutdown(async {
            shutdown.await;
            drop(end);
        })
        .await?;
    // Nobody sends: it is closed when nothing works with the service any more.
    idle.recv().await;
    Ok(())
}

/// What every request is given.
#[derive(Clone)]
struct Served {
    service: Arc<Service>,
    faults: Arc<Faults>,
    /// Closed when the service is to end.
    ended: watch::Receiver<()>,
    /// Held by all that works with the service.
    busy: mpsc::Sender<()>,
}

impl Served {
    /// Waits, unless the service ends before.
    async fn wait(&mut self, time: Duration) {
        // The channel says nothing until it is closed.
        let _ = tokio::time::timeout(time, self.ended.changed()).await;
    }

    /// Does in the background what the service has left for later, until the service is to end.
    fn go_on(self) {
        let Self {
            service,
            ended,
            busy,
            ..
        } = self;
        let piece = move || {
            let more = service.go_on(SystemTime::now().into());
            more.unwrap_or_else(|error| {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "what was left for later cannot be done");
                false
            })
        };
        tokio::spawn(async move {
            while ended.has_changed().is_ok()
                && let Ok(true) = tokio::task::spawn_blocking(piece.clone()).await
            {}
            drop(piece);
            drop(busy);
        });
    }
}

/// Returns the service as a router of one route: it takes every path as it was received.
pub fn router(service: Arc<Service>) -> Router {
    let (end, ended) = watch::channel(());
    let (busy, _) = mpsc::channel(1);
    let served = Served {
        service,
        faults: Arc::default(),
        ended,
        busy,
    };
    // It ends with its runtime.
    routes(served).layer(axum::Extension(Arc::new(end)))
}

fn routes(served: Served) -> Router {
    Router::new().fallback(answer).with_state(served)
}

async fn answer(State(mut served): State<Served>, request: Request) -> Response {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let is_rpc = identity_target(&parts).is_some();
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(fault) => return Exchange::failed(is_rpc, fault).finish(started),
    };
    let plan = served.faults.plan(|| operation_name(&parts, &body));
    if !plan.delay.is_zero() {
        served.wait(plan.delay).await;
    }
    let after = match plan.trouble {
        Some(Trouble::Refuse(fault)) => return Exchange::failed(is_rpc, fault).finish(started),
        Some(Trouble::ResetBefore) => return reset(),
        Some(Trouble::Hang) => {
            served.wait(Duration::MAX).await;
            return reset();
        }
        after => after,
    };
    let service = served.service.clone();
    let exchange = tokio::task::spawn_blocking(move || Exchange::run(&service, &parts, &body))
        .await
        .unwrap_or_else(|_| {
            Exchange::failed(is_rpc, Fault::new(Code::InternalError, "it panicked"))
        });
    if exchange.operation == BulkPublish::NAME && exchange.answer.is_ok() {
        served.go_on();
    }
    match (after, &exchange.answer) {
        (Some(Trouble::ResetAfter), _) => reset(),
        (Some(Trouble::Torn), Ok(body)) => torn(Bytes::copy_from_slice(&body[..body.len() / 2])),
        _ => exchange.finish(started),
    }
}

/// Returns the name of the operation a request is for, or `-`.
fn operation_name(parts: &Parts, body: &[u8]) -> String {
    if let Some(target) = identity_target(parts) {
        let target = target.to_str().unwrap_or_default();
        return target.rsplit('.').next().unwrap_or_default().to_owned();
    }
    let query = parts.uri.query().unwrap_or_default();
    let call = Call::parse(parts.method.as_str(), parts.uri.path(), query, body);
    call.map_or_else(|_| "-".to_owned(), |call| call.name().to_owned())
}

/// Returns the target of a Cognito Identity request. Old Android clients send one on the REST paths
/// too, where it means nothing.
fn identity_target(parts: &Parts) -> Option<&HeaderValue> {
    let target = parts.headers.get("x-amz-target");
    target.filter(|_| parts.method == "POST" && parts.uri.path() == "/")
}

/// Returns an answer of which nothing is sent: its body fails before its head is, and the
/// connection is closed.
fn reset() -> Response {
    let failed = stream::once(async { Err::<Bytes, _>(asked_for()) });
    Response::new(Body::from_stream(failed))
}

/// Returns an answer that breaks off after its first bytes, which closes the connection.
fn torn(begun: Bytes) -> Response {
    let begun = stream::once(async { Ok(begun) });
    let end = stream::once(async {
        // So that what is written before it is sent.
        tokio::time::sleep(Duration::from_millis(1)).await;
        Err(asked_for())
    });
    Response::new(Body::from_stream(begun.chain(end)))
}

fn asked_for() -> io::Error {
    io::Error::other("a fault that was asked for")
}

/// Reads a body of at most [`MAX_BODY`].
async fn read_body(body: Body) -> Result<Bytes, Fault> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    let mut total: usize = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Fault::invalid("the body ends early"))?;
        total = total.saturating_add(chunk.len());
        if total <= MAX_BODY {
            bytes.extend_from_slice(&chunk);
        } else if total <= MAX_DRAINED {
            bytes = Vec::new();
        } else {
            break;
        }
    }
    if total <= MAX_BODY {
        return Ok(bytes.into());
    }
    let mut fault = Fault::new(
        Code::Other("RequestEntityTooLargeException".to_owned()),
        format!("the body is larger than {MAX_BODY} bytes"),
    );
    fault.status = 413;
    Err(fault)
}

/// A request's way through the service.
struct Exchange {
    operation: &'static str,
    /// Cognito Identity's form of requests and answers, not Cognito Sync's.
    is_rpc: bool,
    answer: Result<Vec<u8>, Fault>,
}

impl Exchange {
    fn failed(is_rpc: bool, fault: Fault) -> Self {
        Self {
            operation: "-",
            is_rpc,
            answer: Err(fault),
        }
    }

    fn run(service: &Service, parts: &Parts, body: &[u8]) -> Self {
        let now = SystemTime::now().into();
        let target = identity_target(parts);
        let mut exchange = Self {
            operation: "-",
            is_rpc: target.is_some(),
            answer: Ok(Vec::new()),
        };
        exchange.answer = match target {
            Some(target) => exchange.identity(service, parts, target, body, now),
            None => exchange.sync(service, parts, body, now),
        };
        exchange
    }

    fn identity(
        &mut self,
        service: &Service,
        parts: &Parts,
        target: &HeaderValue,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Vec<u8>, Fault> {
        let call = IdentityCall::parse(target.to_str().unwrap_or_default(), body)?;
        self.operation = call.name();
        let caller = match call.is_unsigned() {
            true => None,
            false => Some(authenticate(
                service,
                parts,
                body,
                Api::CognitoIdentity,
                now,
            )?),
        };
        service.identity_call(&call, caller.as_ref(), now)
    }

    fn sync(
        &mut self,
        service: &Service,
        parts: &Parts,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Vec<u8>, Fault> {
        let caller = authenticate(service, parts, body, Api::CognitoSync, now)?;
        let query = parts.uri.query().unwrap_or_default();
        let call = Call::parse(parts.method.as_str(), parts.uri.path(), query, body)?;
        self.operation = call.name();
        service.call(&call, &caller, now)
    }

    /// Logs the exchange and returns what is sent.
    fn finish(mut self, started: Instant) -> Response {
        if let (true, Err(fault)) = (self.is_rpc, &mut self.answer)
            && fault.status < 500
        {
            // Cognito Identity has no other status for what is the client's fault.
            fault.status = 400;
        }
        let (status, error) = match &self.answer {
            Ok(_) => (200, None),
            Err(fault) => (fault.status, Some(fault.code.name())),
        };
        let elapsed = started.elapsed();
        tracing::info!(operation = self.operation, status, error, ?elapsed);
        self.into_response()
    }

    fn into_response(self) -> Response {
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
        let mut response = Response::new(Body::from(body));
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

fn authenticate(
    service: &Service,
    parts: &Parts,
    body: &[u8],
    api: Api,
    now: Timestamp,
) -> Result<Caller, Fault> {
    let headers: Vec<(&str, &str)> = parts
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .collect();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    // The host that is signed is the header's; this one only makes the URL whole.
    let url = format!("http://localhost{path}");
    let request = Signable {
        method: parts.method.as_str(),
        url: &url,
        headers: &headers,
        body,
    };
    auth::caller(service, request, api, now)
}
