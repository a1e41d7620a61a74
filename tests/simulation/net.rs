//! The network of one process: what a seed has befall each call.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cognitofs::api::{Error, Incoming, Outgoing, Surroundings, Transport};
use cognitofs::cli::in_process::InProcess;
use cognitofs::store::journals::Process;
use futures_util::future::BoxFuture;

use super::seeded::Seeded;

/// How long after it was signed a call may still be carried out.
const SIGNED_FOR: u64 = 14 * 60 * 1000;

#[derive(Debug)]
pub struct Net {
    inner: Arc<InProcess>,
    seeded: Arc<Seeded>,
    /// Of a hundred calls so many meet trouble.
    trouble: AtomicUsize,
    /// Whose it is: nothing comes to it, and nothing from it, once it has ended.
    process: Process,
}

impl Net {
    pub fn new(
        inner: Arc<InProcess>,
        seeded: Arc<Seeded>,
        process: Process,
        trouble: usize,
    ) -> Self {
        Self {
            inner,
            seeded,
            trouble: AtomicUsize::new(trouble),
            process,
        }
    }

    pub fn heal(&self) {
        self.trouble.store(0, Ordering::Relaxed);
    }

    async fn pause(&self, most: u64) {
        let time = self.seeded.time(1, most);
        tokio::time::sleep(time).await;
    }

    async fn reach(&self, outgoing: Outgoing) -> Result<Incoming, Error> {
        self.pause(60).await;
        if self.process.has_ended() {
            std::future::pending::<()>().await;
        }
        let trouble = self.trouble.load(Ordering::Relaxed) as u64;
        let is_update = outgoing.method == "POST" && outgoing.url.path().contains("/datasets/");
        let struck = self.seeded.below(100) < trouble;
        let kind = if struck { self.seeded.below(7) } else { 7 };
        match kind {
            0 => return Err(self.unreachable()),
            1 => return Err(self.broken()),
            2 => {
                self.inner.send(outgoing).await?;
                return Err(self.broken());
            }
            3 => {
                let (inner, late) = (self.inner.clone(), self.seeded.time(1, SIGNED_FOR));
                tokio::spawn(async move {
                    tokio::time::sleep(late).await;
                    // Nobody is told what came of it.
                    let _ = inner.send(outgoing).await;
                });
                return std::future::pending().await;
            }
            4 => return Ok(refused(429, "TooManyRequestsException")),
            5 if is_update => return Ok(refused(400, "LimitExceededException")),
            6 => self.pause(8_000).await,
            _ => {}
        }
        let answer = self.inner.send(outgoing).await;
        self.pause(60).await;
        if self.process.has_ended() {
            std::future::pending::<()>().await;
        }
        answer
    }

    fn unreachable(&self) -> Error {
        Error::Unreachable {
            host: "localhost".to_owned(),
            source: Arc::from(Box::from("connection refused")),
        }
    }

    fn broken(&self) -> Error {
        Error::Broken {
            host: "localhost".to_owned(),
            source: Arc::from(Box::from("connection reset")),
        }
    }
}

fn refused(status: u16, code: &str) -> Incoming {
    Incoming {
        status,
        error_type: Some(code.to_owned()),
        request_id: None,
        retry_after: None,
        body: b"{}".to_vec(),
    }
}

impl Transport for Net {
    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<Incoming, Error>> {
        Box::pin(self.reach(outgoing))
    }
}

/// The surroundings of one process: its tasks end with it.
#[derive(Debug)]
pub struct OfProcess {
    seeded: Arc<Seeded>,
    tasks: std::sync::Mutex<Vec<tokio::task::AbortHandle>>,
}

impl OfProcess {
    pub fn new(seeded: Arc<Seeded>) -> Self {
        Self {
            seeded,
            tasks: std::sync::Mutex::default(),
        }
    }

    pub fn end(&self) {
        for task in self.tasks.lock().unwrap().drain(..) {
            task.abort();
        }
    }
}

impl Surroundings for OfProcess {
    fn now(&self) -> std::time::Instant {
        self.seeded.now()
    }

    fn date(&self) -> std::time::SystemTime {
        self.seeded.date()
    }

    fn random(&self) -> u64 {
        self.seeded.random()
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        let task = tokio::spawn(task);
        let mut tasks = self.tasks.lock().unwrap();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task.abort_handle());
    }

    /// The disk is slow at times.
    fn block(&self, work: Box<dyn FnOnce() + Send>) {
        let most = match self.seeded.below(20) {
            0..10 => return work(),
            10..19 => 200,
            _ => 8_000,
        };
        let time = self.seeded.time(1, most);
        self.spawn(Box::pin(async move {
            tokio::time::sleep(time).await;
            work();
        }));
    }
}

/// How long a call may be late.
pub const LATEST: Duration = Duration::from_millis(SIGNED_FOR);
