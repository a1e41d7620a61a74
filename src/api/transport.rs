//! One pooled HTTP client. Request in, status and bytes out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Method, Url};

use super::endpoint::Endpoints;
use super::error::{Chained, Error};

/// The most an answer may hold: several datasets' worth.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
const LONGEST_CONNECT: Duration = Duration::from_secs(5);

/// A signed request.
pub(super) struct Outgoing {
    pub(super) method: &'static str,
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// An answer of whatever status.
pub(super) struct Incoming {
    pub(super) status: u16,
    pub(super) error_type: Option<String>,
    pub(super) request_id: Option<String>,
    /// The server's wish, in whole seconds.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Transport {
    http: reqwest::Client,
}

impl Transport {
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
        Ok(Self { http })
    }

    /// Sends a request and reads the whole answer, by `deadline` at the latest.
    pub(super) async fn send(
        &self,
        outgoing: Outgoing,
        deadline: Instant,
    ) -> Result<Incoming, Error> {
        let url = Url::parse(&outgoing.url)
            .map_err(|error| Error::Unsayable(format!("{}: {error}", outgoing.url)))?;
        let host = url.authority().to_owned();
        let path = outgoing.url.split('?').next().unwrap_or_default();
        if !path.ends_with(url.path()) && url.path() != "/" {
            // A path with a segment `.` or `..` would be sent, and signed, as another one.
            return Err(Error::Unsayable(
                "a dataset named . or .. cannot be named in a URL".to_owned(),
            ));
        }
        let method = Method::from_bytes(outgoing.method.as_bytes())
            .map_err(|error| Error::Unsayable(error.to_string()))?;
        let mut request = self.http.request(method, url).body(outgoing.body);
        for (name, value) in outgoing.headers {
            request = request.header(name, value);
        }
        let exchange = async {
            let answer = request.send().await?;
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
            let mut answer = answer;
            while let Some(chunk) = answer.chunk().await? {
                incoming.body.extend_from_slice(&chunk);
                if incoming.body.len() > MAX_ANSWER_BYTES {
                    break;
                }
            }
            Ok(incoming)
        };
        let incoming = match tokio::time::timeout_at(deadline.into(), exchange).await {
            Err(_) => return Err(Error::TimedOut { host, told: None }),
            Ok(Err(error)) => return Err(classify(error, host)),
            Ok(Ok(incoming)) => incoming,
        };
        if incoming.body.len() > MAX_ANSWER_BYTES {
            return Err(Error::Broken {
                host,
                source: Arc::from(Box::from("the answer is larger than any dataset")),
            });
        }
        Ok(incoming)
    }
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
