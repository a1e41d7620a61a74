//! Between the clients and the service: every call is noted by its name, and some meet trouble.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is never answered.
    Hang,
    /// It is carried out, and the connection breaks before the answer.
    LoseAnswer,
    /// The connection breaks before it is carried out.
    LoseCall,
    /// It is answered with this status and nothing else.
    Status(u16),
    /// An error by its code, with status 400.
    Fault(&'static str),
    /// The connection breaks now, and it is carried out later.
    Late(Duration),
    /// It is answered late.
    Slow(Duration),
    /// It is carried out, and the connection breaks in the middle of the answer.
    Torn,
    /// It is carried out, and answered with what is no JSON.
    Garbage,
    /// It is carried out, and a byte of the answer comes each time so long has passed.
    Trickle(Duration),
    /// It is answered with a status, and the wish that it be tried again after so many seconds.
    RetryAfter(u16, u64),
}

struct Wanted {
    operation: &'static str,
    /// A part of the path, such as a dataset's.
    within: String,
    trouble: Trouble,
    /// How many calls pass before it strikes.
    after: usize,
    /// How many calls it strikes.
    times: usize,
}

#[derive(Default)]
pub struct Tap {
    calls: Mutex<Vec<&'static str>>,
    under_way: AtomicUsize,
    most: AtomicUsize,
    wanted: Mutex<Vec<Wanted>>,
    serving: tokio::sync::RwLock<()>,
}

impl Tap {
    pub fn calls(&self) -> Vec<&'static str> {
        self.calls.lock().unwrap().clone()
    }

    pub fn clear(&self) {
        self.calls.lock().unwrap().clear();
        self.most.store(0, Ordering::Relaxed);
    }

    /// How many calls were under way at a time, at most.
    pub fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// Makes trouble for `times` calls of `operation`, or of any for `*`, after letting `after`
    /// pass.
    pub fn trouble(&self, operation: &'static str, trouble: Trouble, after: usize, times: usize) {
        self.wanted.lock().unwrap().push(Wanted {
            operation,
            within: String::new(),
            trouble,
            after,
            times,
        });
    }

    /// Makes trouble for every call of a dataset.
    pub fn trouble_in(&self, dataset: &str, trouble: Trouble) {
        self.wanted.lock().unwrap().push(Wanted {
            operation: "*",
            within: format!("/datasets/{dataset}"),
            trouble,
            after: 0,
            times: usize::MAX,
        });
    }

    pub fn calm(&self) {
        self.wanted.lock().unwrap().clear();
    }

    fn strike(&self, operation: &str, path: &str) -> Option<Trouble> {
        let mut wanted = self.wanted.lock().unwrap();
        let meant = |wanted: &&mut Wanted| {
            let is_named = wanted.operation == "*" || wanted.operation == operation;
            is_named && path.contains(&wanted.within) && wanted.times > 0
        };
        let wanted = wanted.iter_mut().find(meant)?;
        if wanted.after > 0 {
            wanted.after -= 1;
            return None;
        }
        wanted.times -= 1;
        Some(wanted.trouble)
    }

    async fn serve(&self, next: Next, request: Request) -> Response {
        let _one_of_many = self.serving.read().await;
        next.run(request).await
    }

    /// Does something while no call is carried out.
    pub fn undisturbed<T>(&self, action: impl FnOnce() -> T) -> T {
        let _alone = self.serving.blocking_write();
        action()
    }

    pub async fn pass(tap: Arc<Self>, request: Request, next: Next) -> Response {
        let operation = name(&request);
        tap.calls.lock().unwrap().push(operation);
        let before = tap.under_way.fetch_add(1, Ordering::Relaxed);
        tap.most.fetch_max(before + 1, Ordering::Relaxed);
        let _one_of_them = Leaving(tap.clone());
        match tap.strike(operation, request.uri().path()) {
            None => tap.serve(next, request).await,
            Some(Trouble::Hang) => std::future::pending().await,
            Some(Trouble::LoseCall) => broken(),
            Some(Trouble::LoseAnswer) => {
                tap.serve(next, request).await;
                broken()
            }
            Some(Trouble::Status(status)) => StatusCode::from_u16(status).unwrap().into_response(),
            Some(Trouble::Fault(code)) => {
                let header = [("x-amzn-errortype", code)];
                (StatusCode::BAD_REQUEST, header, "{}").into_response()
            }
            Some(Trouble::Late(pause)) => {
                tokio::spawn(async move {
                    tokio::time::sleep(pause).await;
                    tap.serve(next, request).await;
                });
                broken()
            }
            Some(Trouble::Slow(pause)) => {
                tokio::time::sleep(pause).await;
                tap.serve(next, request).await
            }
            Some(Trouble::Torn) => {
                let (mut head, body) = bytes(tap.serve(next, request).await).await;
                let half = body.slice(..body.len() / 2);
                head.headers.remove("content-length");
                let broken = Err(std::io::Error::other("the tap is closed"));
                let body = futures_util::stream::iter([Ok(half), broken]);
                Response::from_parts(head, Body::from_stream(body))
            }
            Some(Trouble::Garbage) => {
                tap.serve(next, request).await;
                "{\"Records\": [{\"Key\"".into_response()
            }
            Some(Trouble::Trickle(pause)) => {
                let (head, body) = bytes(tap.serve(next, request).await).await;
                let byte = move |at| async move {
                    tokio::time::sleep(pause).await;
                    Ok::<_, std::io::Error>(at)
                };
                let each = (0..body.len()).map(move |at| body.slice(at..=at));
                let body = futures_util::StreamExt::then(futures_util::stream::iter(each), byte);
                Response::from_parts(head, Body::from_stream(body))
            }
            Some(Trouble::RetryAfter(status, seconds)) => {
                let header = [("retry-after", seconds.to_string())];
                (StatusCode::from_u16(status).unwrap(), header).into_response()
            }
        }
    }
}

/// A call that is under way until this is dropped: its client may have gone.
struct Leaving(Arc<Tap>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn bytes(answer: Response) -> (axum::http::response::Parts, axum::body::Bytes) {
    let (head, body) = answer.into_parts();
    (head, axum::body::to_bytes(body, usize::MAX).await.unwrap())
}

/// An answer whose body breaks off, which closes the connection.
fn broken() -> Response {
    let error = std::io::Error::other("the tap is closed");
    Body::from_stream(futures_util::stream::iter([Err::<Vec<u8>, _>(error)])).into_response()
}

/// The operation of a request, by its route.
fn name(request: &Request) -> &'static str {
    if let Some(target) = request.headers().get("x-amz-target") {
        return match target.to_str().unwrap().rsplit('.').next().unwrap() {
            "ListIdentityPools" => "ListIdentityPools",
            "ListIdentities" => "ListIdentities",
            "DescribeIdentity" => "DescribeIdentity",
            "GetId" => "GetId",
            "GetCredentialsForIdentity" => "GetCredentialsForIdentity",
            other => panic!("unexpected {other}"),
        };
    }
    let segments = request.uri().path().trim_matches('/').split('/').count();
    match (request.method().as_str(), segments) {
        ("GET", 1) if request.uri().path() == "/" => "probe",
        ("GET", 1) => "ListIdentityPoolUsage",
        ("GET", 2) => "DescribeIdentityPoolUsage",
        (method, 3) => match (method, request.uri().path().rsplit('/').next()) {
            ("GET", Some("configuration")) => "GetIdentityPoolConfiguration",
            ("POST", Some("configuration")) => "SetIdentityPoolConfiguration",
            ("GET", Some("events")) => "GetCognitoEvents",
            ("POST", Some("events")) => "SetCognitoEvents",
            ("POST", Some("bulkpublish")) => "BulkPublish",
            ("POST", Some("getBulkPublishDetails")) => "GetBulkPublishDetails",
            other => panic!("unexpected {other:?}"),
        },
        ("GET", 4) => "DescribeIdentityUsage",
        ("GET", 5) => "ListDatasets",
        ("GET", 6) => "DescribeDataset",
        ("DELETE", 6) => "DeleteDataset",
        ("POST", 6) => "UpdateRecords",
        ("GET", 7) => "ListRecords",
        other => panic!("unexpected {other:?}"),
    }
}
