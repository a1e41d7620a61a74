//! A way to the local service without a socket: the client's requests, signed as they are, go
//! through the same code as those that came over HTTP.

use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::{Request, Response, header};
use futures_util::future::BoxFuture;

use crate::api::{Error, Incoming, Outgoing, Surroundings, Transport};
use crate::server::exchange::{self, Exchange};
use crate::server::service::Service;

/// Answers from a service in this process. The service goes by the date of the surroundings, and
/// does its work where they have it done: whoever gives up meanwhile does not know whether it was.
#[derive(Clone)]
pub struct InProcess {
    service: Arc<Service>,
    surroundings: Arc<dyn Surroundings>,
}

impl std::fmt::Debug for InProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InProcess").finish_non_exhaustive()
    }
}

impl InProcess {
    pub fn new(service: Arc<Service>, surroundings: Arc<dyn Surroundings>) -> Self {
        Self {
            service,
            surroundings,
        }
    }

    /// Does in the background what calls have left for later: those made here, or those of an
    /// earlier process with the same store.
    pub fn go_on(&self) {
        let Self {
            service,
            surroundings,
        } = self.clone();
        let task = async move {
            let piece = || {
                let (service, surroundings) = (service.clone(), surroundings.clone());
                move || exchange::go_on(&service, surroundings.date().into())
            };
            while surroundings.wait_for(piece()).await == Some(true) {}
        };
        self.surroundings.spawn(Box::pin(task));
    }

    async fn exchange(&self, outgoing: Outgoing) -> Result<Incoming, Error> {
        let (parts, body) = received(outgoing)?;
        let is_rpc = exchange::is_rpc(&parts);
        let (service, surroundings) = (self.service.clone(), self.surroundings.clone());
        let run = move || Exchange::run(&service, &parts, &body, surroundings.date().into());
        let exchange = self.surroundings.wait_for(run).await;
        let exchange = exchange.unwrap_or_else(|| Exchange::panicked(is_rpc));
        if exchange.leaves_work() {
            self.go_on();
        }
        Ok(answered(exchange.into_response()))
    }
}

impl Transport for InProcess {
    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<Incoming, Error>> {
        Box::pin(self.exchange(outgoing))
    }
}

/// Makes of a request what HTTP would have brought.
fn received(outgoing: Outgoing) -> Result<(Parts, Vec<u8>), Error> {
    let url = &outgoing.url;
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let mut request = Request::builder()
        .method(outgoing.method)
        .uri(target)
        .header(header::HOST, outgoing.host());
    for (name, value) in &outgoing.headers {
        request = request.header(name, value);
    }
    let request = request.body(outgoing.body);
    let request = request.map_err(|error| Error::Unsayable(error.to_string()))?;
    Ok(request.into_parts())
}

/// Makes of an answer what the client is told.
fn answered(response: Response<Vec<u8>>) -> Incoming {
    let (parts, body) = response.into_parts();
    let header = |name: &str| {
        let value = parts.headers.get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    Incoming {
        status: parts.status.as_u16(),
        error_type: header("x-amzn-errortype"),
        request_id: header("x-amzn-requestid"),
        retry_after: None,
        body,
    }
}
