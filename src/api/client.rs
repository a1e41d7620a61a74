//! The typed client: one method, any operation.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::calls::{Calls, Exchanged};
use super::credentials::CredentialsSource;
use super::endpoint::Endpoints;
use super::error::{Chained, Error};
use super::limiter::{Limiter, Place};
use super::reachability::Reachability;
use super::retry;
use super::surroundings::Surroundings;
use super::transport::{Http, Outgoing, Transport};
use crate::wire::fault::Fault;
use crate::wire::names::Region;
use crate::wire::operation::{Operation, Request, Service};
use crate::wire::sigv4::{Signable, sign};

/// What a client is made of.
#[derive(Debug)]
pub struct ClientOptions {
    pub region: Region,
    pub endpoints: Endpoints,
    pub credentials: CredentialsSource,
    /// How many calls of a service may be under way at a time, at least 1.
    pub concurrency: u32,
    /// How long a call is waited for as a rule.
    pub timeout: Duration,
    pub surroundings: Arc<dyn Surroundings>,
    /// Another way to the services than the network.
    pub transport: Option<Arc<dyn Transport>>,
}

/// Calls the two services of one region as one caller.
#[derive(Debug)]
pub struct Client {
    region: Region,
    endpoints: Endpoints,
    credentials: CredentialsSource,
    surroundings: Arc<dyn Surroundings>,
    transport: Arc<dyn Transport>,
    sync: Way,
    identity: Way,
    calls: Arc<Calls>,
}

/// What is known of the way to a service.
#[derive(Debug)]
struct Way {
    reachability: Arc<Reachability>,
    limiter: Limiter,
    /// What came of the last call, if it keeps others from having their turn, and when.
    told: Mutex<Option<(Arc<Error>, Instant)>>,
}

impl Way {
    fn new(concurrency: u32, surroundings: &Arc<dyn Surroundings>) -> Self {
        Self {
            reachability: Arc::new(Reachability::new(surroundings.clone())),
            limiter: Limiter::new(concurrency.max(1)),
            told: Mutex::default(),
        }
    }

    fn note(&self, told: Option<(Arc<Error>, Instant)>) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }

    fn told(&self) -> Option<Arc<Error>> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.as_ref().map(|(error, _)| error.clone())
    }

    /// Returns what another call was told since `begun`, if it was to slow down: who waited for his
    /// turn meanwhile waited for that.
    fn throttled_since(&self, begun: Instant) -> Option<Arc<Error>> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let (error, _) = told.as_ref().filter(|(_, at)| *at >= begun)?;
        error.is_throttle().then(|| error.clone())
    }
}

impl Client {
    /// Makes a client; nothing is sent yet.
    pub fn new(options: ClientOptions) -> Result<Self, Error> {
        let transport = match options.transport {
            Some(transport) => transport,
            None => Arc::new(Http::new(&options.endpoints, options.timeout)?),
        };
        Ok(Self {
            region: options.region,
            endpoints: options.endpoints,
            credentials: options.credentials,
            transport,
            sync: Way::new(options.concurrency, &options.surroundings),
            identity: Way::new(options.concurrency, &options.surroundings),
            surroundings: options.surroundings,
            calls: Arc::default(),
        })
    }

    /// Has its calls counted together with another client's.
    pub fn counted_with(self, other: &Arc<Calls>) -> Self {
        Self {
            calls: other.clone(),
            ..self
        }
    }

    /// Returns the count of the calls made.
    pub fn calls(&self) -> &Arc<Calls> {
        &self.calls
    }

    /// Returns what it takes time, chance and tasks from.
    pub fn surroundings(&self) -> &Arc<dyn Surroundings> {
        &self.surroundings
    }

    /// Returns the region that is called.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Returns the pause before trying something again for the `attempt`th time.
    pub fn pause(&self, attempt: u32) -> Duration {
        retry::pause(attempt, retry::fraction(self.surroundings.random()))
    }

    /// Calls an operation and waits for its answer until `deadline`. Throttling, server errors and
    /// broken connections are retried until then, where a repetition does no harm.
    ///
    /// # Errors
    /// See [`Error`]. While the service is unreachable every call fails at once.
    pub async fn call<O: Operation>(
        &self,
        operation: &O,
        deadline: Instant,
    ) -> Result<O::Answer, Error> {
        self.call_telling(operation, deadline, |_| {}).await
    }

    /// Calls an operation as [`call`](Self::call) does, and tells of each answer that has it tried
    /// again: those who wait for the call may have to end before it does.
    ///
    /// # Errors
    /// See [`call`](Self::call).
    pub async fn call_telling<O: Operation>(
        &self,
        operation: &O,
        deadline: Instant,
        tell: impl Fn(&Error),
    ) -> Result<O::Answer, Error> {
        self.call_while(operation, deadline, || true, tell).await
    }

    /// Calls an operation as [`call_telling`](Self::call_telling) does, and sends nothing any more
    /// once it is not `wanted`: those who wait for the call may come and go.
    ///
    /// # Errors
    /// [`Error::NoTurn`] when it is not wanted, else see [`call`](Self::call).
    pub async fn call_while<O: Operation>(
        &self,
        operation: &O,
        deadline: Instant,
        wanted: impl Fn() -> bool,
        tell: impl Fn(&Error),
    ) -> Result<O::Answer, Error> {
        let request = operation.request();
        let way = self.way(request.service);
        let begun = self.surroundings.now();
        let mut attempt = 0;
        let mut told: Option<Arc<Error>> = None;
        loop {
            let place = self.place(request.service, deadline).await;
            let place = place.and_then(|place| match wanted() {
                true => Ok(place),
                false => Err(self.no_turn(request.service)),
            });
            let place = place.map_err(|error| error.after(told.clone()))?;
            let mut exchanged = Exchanged::default();
            let answered = self.attempt::<O>(&request, &mut exchanged, deadline).await;
            let error = answered.as_ref().err().map(|(error, _)| error);
            self.calls.note(O::NAME, attempt > 0, exchanged, error);
            place.answered(error.is_some_and(Error::is_throttle));
            let (error, retry_after) = match answered {
                Ok(answer) => {
                    way.note(None);
                    return Ok(answer);
                }
                Err((error, retry_after)) => {
                    let earlier = told.take().or_else(|| way.throttled_since(begun));
                    (error.after(earlier), retry_after)
                }
            };
            attempt += 1;
            self.doubt(request.service, &error);
            let pause = self.pause(attempt).max(retry_after.unwrap_or_default());
            let now = self.surroundings.now();
            let time_left = deadline.saturating_duration_since(now);
            let again = retry::is_worth_retrying(&error, O::REPEATABLE)
                && pause < time_left
                && !(is_credentials(&error) && attempt > 1);
            let delays = error.is_throttle() || error.is_unsure();
            way.note(delays.then(|| (Arc::new(error.clone()), now)));
            if !again {
                return Err(error);
            }
            tracing::debug!(operation = O::NAME, attempt, %error, "trying again");
            tell(&error);
            told = Some(Arc::new(error));
            self.surroundings.sleep(pause).await;
        }
    }

    /// Waits until Cognito Sync, now or later lost, can be reached again.
    pub async fn recovered(&self) {
        self.sync.reachability.recovered().await;
    }

    /// Waits until a service may be called.
    async fn place(&self, service: Service, deadline: Instant) -> Result<Place<'_>, Error> {
        let way = self.way(service);
        let reachability = &way.reachability;
        let unreachable = |source| Error::Unreachable {
            host: self.host(service),
            source,
        };
        let turn = async {
            if let Some(why) = reachability.why_down().await {
                return Err(unreachable(why));
            }
            tokio::select! {
                biased;
                // Those who have the places may wait for long.
                why = reachability.lost() => Err(unreachable(why)),
                place = way.limiter.place() => Ok(place),
            }
        };
        let turn = self.before(deadline, turn).await;
        turn.unwrap_or_else(|| Err(self.no_turn(service)))
    }

    /// Waits for what a call needs before it is made. What comes at the deadline comes too late:
    /// whoever waits for the call is told then that it was not made.
    async fn before<T>(&self, deadline: Instant, needed: impl Future<Output = T>) -> Option<T> {
        let needed = tokio::time::timeout_at(deadline.into(), needed).await;
        needed.ok().filter(|_| self.surroundings.now() < deadline)
    }

    fn no_turn(&self, service: Service) -> Error {
        Error::NoTurn {
            host: self.host(service),
            told: self.way(service).told(),
        }
    }

    async fn attempt<O: Operation>(
        &self,
        request: &Request,
        exchanged: &mut Exchanged,
        deadline: Instant,
    ) -> Result<O::Answer, (Error, Option<Duration>)> {
        let fail = |error| (error, None);
        let outgoing = self
            .prepare(request, O::UNSIGNED, deadline)
            .await
            .map_err(fail)?;
        let started = self.surroundings.now();
        exchanged.sent = outgoing.body.len() as u64;
        let incoming = self.transport.send_by(outgoing, deadline).await;
        exchanged.took = self.surroundings.now().saturating_duration_since(started);
        let incoming = incoming.map_err(fail)?;
        exchanged.received = incoming.body.len() as u64;
        tracing::debug!(
            operation = O::NAME,
            status = incoming.status,
            milliseconds = exchanged.took.as_millis() as u64,
            "called"
        );
        if incoming.status == 200 {
            // Operations without an answer may have an empty body.
            let body = match incoming.body.as_slice() {
                [] => b"{}",
                body => body,
            };
            return serde_json::from_slice(body).map_err(|error| {
                fail(Error::Garbled {
                    operation: O::NAME,
                    host: self.host(request.service),
                    source: Arc::new(error),
                })
            });
        }
        let fault = Fault::parse(
            incoming.status,
            incoming.error_type.as_deref(),
            incoming.request_id.as_deref(),
            &incoming.body,
        );
        if fault.is_credentials() {
            self.credentials.forget().await;
        }
        Err((Error::Fault(fault), incoming.retry_after))
    }

    async fn prepare(
        &self,
        request: &Request,
        unsigned: bool,
        deadline: Instant,
    ) -> Result<Outgoing, Error> {
        let url = format!("{}{}", self.endpoints.url(request.service), request.path);
        let mut headers = match &request.target {
            Some(target) => vec![
                (
                    "content-type".to_owned(),
                    "application/x-amz-json-1.1".to_owned(),
                ),
                ("x-amz-target".to_owned(), target.clone()),
            ],
            None => vec![("content-type".to_owned(), "application/json".to_owned())],
        };
        let own = request.headers.iter();
        headers.extend(own.map(|(name, value)| ((*name).to_owned(), value.clone())));
        if !unsigned {
            let credentials = self.credentials.get(&*self.surroundings);
            let credentials = self.before(deadline, credentials).await;
            let credentials = credentials.ok_or_else(|| Error::NoCredentials {
                reason: "the credential provider did not answer in time".to_owned(),
            })??;
            let borrowed: Vec<(&str, &str)> = headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            let signable = Signable {
                method: request.method,
                url: &url,
                headers: &borrowed,
                body: &request.body,
            };
            let signature = sign(
                signable,
                &credentials,
                self.region.as_str(),
                request.service.signing_name(),
                self.surroundings.date(),
            )
            .map_err(|error| Error::Unsayable(error.to_string()))?;
            headers.extend(signature);
        }
        let outgoing = Outgoing::new(request.method, &url, request.body.clone())?;
        Ok(Outgoing {
            headers,
            ..outgoing
        })
    }

    fn way(&self, service: Service) -> &Way {
        match service {
            Service::CognitoSync => &self.sync,
            Service::CognitoIdentity => &self.identity,
        }
    }

    /// Learns from an error whether a service can be reached.
    fn doubt(&self, service: Service, error: &Error) {
        if !matches!(error, Error::Unreachable { .. } | Error::TimedOut { .. }) {
            return;
        }
        tracing::info!(error = %Chained(error), "probing the service");
        let (transport, surroundings) = (self.transport.clone(), self.surroundings.clone());
        let url = format!("{}/", self.endpoints.url(service));
        let reachability = &self.way(service).reachability;
        reachability.doubt(error, move |patience| {
            let transport = transport.clone();
            let probe = Outgoing::new("GET", &url, Vec::new());
            let deadline = surroundings.now() + patience;
            async move { transport.send_by(probe?, deadline).await.map(drop) }
        });
    }

    fn host(&self, service: Service) -> String {
        let url = self.endpoints.url(service);
        url.rsplit('/').next().unwrap_or(url).to_owned()
    }
}

fn is_credentials(error: &Error) -> bool {
    matches!(error, Error::Fault(fault) if fault.is_credentials())
}
