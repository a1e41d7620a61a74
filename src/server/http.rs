//! The service over HTTP/1.1, on loopback.
//!
//! Invariant: every HTTP request is answered as `exchange` has it, unless trouble was asked for.
//! Logged are the operation, the status and the time, nothing of what was sent.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use futures_util::{StreamExt, stream};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::wire::fault::Fault;
use crate::wire::operation::Call;

use super::exchange::{Exchange, MAX_BODY, go_on, identity_target, is_rpc, too_large};
use super::faults::{Faults, Trouble};
use super::service::Service;

/// How much of a body that is too large is read and dropped, so that the client gets to read the answer.
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
        let piece = move || go_on(&service, SystemTime::now().into());
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
    let is_rpc = is_rpc(&parts);
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(fault) => return finish(Exchange::failed(is_rpc, fault), started),
    };
    let plan = served.faults.plan(|| operation_name(&parts, &body));
    if !plan.delay.is_zero() {
        served.wait(plan.delay).await;
    }
    let after = match plan.trouble {
        Some(Trouble::Refuse(fault)) => return finish(Exchange::failed(is_rpc, fault), started),
        Some(Trouble::ResetBefore) => return reset(),
        Some(Trouble::Hang) => {
            served.wait(Duration::MAX).await;
            return reset();
        }
        after => after,
    };
    let service = served.service.clone();
    let run = move || Exchange::run(&service, &parts, &body, SystemTime::now().into());
    let exchange = tokio::task::spawn_blocking(run).await;
    let exchange = exchange.unwrap_or_else(|_| Exchange::panicked(is_rpc));
    if exchange.leaves_work() {
        served.go_on();
    }
    match (after, &exchange.answer) {
        (Some(Trouble::ResetAfter), _) => reset(),
        (Some(Trouble::Torn), Ok(body)) => torn(Bytes::copy_from_slice(&body[..body.len() / 2])),
        _ => finish(exchange, started),
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
    Err(too_large())
}

/// Logs an exchange and returns what is sent.
fn finish(exchange: Exchange, started: Instant) -> Response {
    let (status, error) = match &exchange.answer {
        Ok(_) => (200, None),
        Err(fault) => (fault.status, Some(fault.code.name())),
    };
    let elapsed = started.elapsed();
    tracing::info!(operation = exchange.operation, status, error, ?elapsed);
    exchange.into_response().map(Body::from)
}
