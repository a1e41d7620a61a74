//! The way to the service: request in, status and bytes out. One pooled HTTP client, unless
//! somebody gives another way.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use reqwest::{Method, Url};

use super::endpoint::Endpoints;
use super::error::{Chained, Error};

/// The most an answer may hold: several datasets' worth.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
const LONGEST_CONNECT: Duration = Duration::from_secs(5);

/// A request, signed if it has to be.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub method: &'static str,
    /// Its path and query are what was signed. The host goes with it, as a header of HTTP.
    pub url: Url,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Outgoing {
    /// Makes a request that its headers are to be added to.
    ///
    /// # Errors
    /// [`Error::Unsayable`] for what is no URL, and for a path that would go on the wire as another
    /// one than it was signed as.
    pub(super) fn new(method: &'static str, url: &str, body: Vec<u8>) -> Result<Self, Error> {
        let parsed =
            Url::parse(url).map_err(|error| Error::Unsayable(format!("{url}: {error}")))?;
        let path = url.split('?').next().unwrap_or_default();
        if !path.ends_with(parsed.path()) && parsed.path() != "/" {
            return Err(Error::Unsayable(
                "a dataset named . or .. cannot be named in a URL".to_owned(),
            ));
        }
        Ok(Self {
            method,
            url: parsed,
            headers: Vec::new(),
            body,
        })
    }

    /// Returns the host and the port it goes to.
    pub fn host(&self) -> &str {
        self.url.authority()
    }
}

/// An answer of whatever status.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub status: u16,
    pub error_type: Option<String>,
    pub request_id: Option<String>,
    /// The server's wish, in whole seconds.
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

/// A way to the service.
pub trait Transport: fmt::Debug + Send + Sync {
    /// Sends a request and reads the whole answer. Nobody waits for it longer than the call has
    /// time: then it is dropped, wherever it is.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if it is certain that nothing was sent, [`Error::Broken`] if it is
    /// not, [`Error::Unsayable`] for what this way cannot carry.
    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<Incoming, Error>>;
}

impl dyn Transport {
    /// Sends a request and reads the whole answer, by `deadline` at the latest.
    pub(super) async fn send_by(
        &self,
        outgoing: Outgoing,
        deadline: Instant,
    ) -> Result<Incoming, Error> {
        let host = outgoing.host().to_owned();
        let answered = tokio::time::timeout_at(deadline.into(), self.send(outgoing)).await;
        answered.unwrap_or(Err(Error::TimedOut { host, told: None }))
    }
}

/// The network.
#[derive(Debug)]
pub(super) struct Http(reqwest::Client);

impl Http {
    /// Makes a client for calls that are waited for as long as `timeout`.
    pub(super) fn new(endpoints: &Endpoints, timeout: Duration) -> Result<Self, Error> {
        let builder = reqwest::Client::builder()
            // A connection that is not made in time is found out before its call's deadline: then it
            // is certain that nothing was sent.
            .connect_timeout((timeout / 4).saturating_mul(3).min(LONGEST_CONNECT))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("cognitofs/", env!("CARGO_PKG_VERSION")));
        // A machine without any certificate can still have a local service.
        let builder = match endpoints.are_plain() {
            true => builder.tls_certs_only([]),
            false => builder,
        };
        let http = builder.build().map_err(|error| no_client(&error))?;
        Ok(Self(http))
    }

    async fn exchange(&self, outgoing: Outgoing) -> Result<Incoming, Error> {
        let host = outgoing.host().to_owned();
        let method = Method::from_bytes(outgoing.method.as_bytes())
            .map_err(|error| Error::Unsayable(error.to_string()))?;
        let mut request = self.0.request(method, outgoing.url).body(outgoing.body);
        for (name, value) in outgoing.headers {
            request = request.header(name, value);
        }
        let incoming = read_answer(request).await;
        let incoming = incoming.map_err(|error| classify(error, host.clone()))?;
        if incoming.body.len() > MAX_ANSWER_BYTES {
            return Err(Error::Broken {
                host,
                source: Arc::from(Box::from("the answer is larger than any dataset")),
            });
        }
        Ok(incoming)
    }
}

impl Transport for Http {
    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<Incoming, Error>> {
        Box::pin(self.exchange(outgoing))
    }
}

async fn read_answer(request: reqwest::RequestBuilder) -> reqwest::Result<Incoming> {
    let mut answer = request.send().await?;
    let header = |name: &str| {
        let value = answer.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let mut incoming = Incoming {
        status: answer.status().as_u16(),
        error_type: header("x-amzn-errortype"),
        request_id: header("x-amzn-requestid"),
        retry_after: header("retry-after")
            .and_then(|seconds| seconds.parse().ok())
            .map(Duration::from_secs),
        body: Vec::new(),
    };
    while let Some(chunk) = answer.chunk().await? {
        incoming.body.extend_from_slice(&chunk);
        if incoming.body.len() > MAX_ANSWER_BYTES {
            break;
        }
    }
    Ok(incoming)
}

/// Finds out whether this machine trusts anybody.
///
/// # Errors
/// Where it has no certificate of an authority.
pub(super) fn check_certificates() -> Result<(), Error> {
    let https = reqwest::Client::builder().build();
    https.map(drop).map_err(|error| no_client(&error))
}

fn no_client(error: &reqwest::Error) -> Error {
    Error::Unsayable(format!("no HTTP client: {}", Chained(error)))
}

fn classify(error: reqwest::Error, host: String) -> Error {
    // The URL holds ids of users; the host is said anyway.
    let error = error.without_url();
    if error.is_connect() {
        return Error::Unreachable {
            host,
            source: Arc::from(Box::from(why_unconnected(&error))),
        };
    }
    Error::Broken {
        host,
        source: Arc::new(error),
    }
}

/// Returns why no connection was made, without the two layers that only say that there is none.
fn why_unconnected(error: &dyn std::error::Error) -> String {
    let cause = error.source().and_then(|layer| layer.source());
    Chained(cause.unwrap_or(error)).to_string()
}
