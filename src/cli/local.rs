//! The local service inside this process: for `serve`, `demo` and `local:` sources.
//!
//! Invariant: it listens on loopback, and a store has at most one process.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::Failure;
use crate::api::Credentials;
use crate::server::faults::Faults;
use crate::server::http;
use crate::server::service::Service;
use crate::server::storage::{Storage, StorageError};
use crate::wire::names::Region;

/// The region of a store's first pool, and of a `local:` source that names none.
const REGION: &str = "us-east-1";

/// How long a store may be in use: after an umount its daemon needs a moment to close it.
const PATIENCE: Duration = Duration::from_secs(3);

/// A service that is being served.
pub(super) struct LocalService {
    pub(super) service: Arc<Service>,
    pub(super) address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl LocalService {
    /// Opens a store, made if there is none, and serves it on `listen`; port 0 takes a free one.
    pub(super) async fn start(store: &Path, listen: SocketAddr) -> Result<Self, Failure> {
        Self::start_with(store, listen, None, Faults::default()).await
    }

    /// Starts with a function for all pools' updates, and with faults.
    pub(super) async fn start_with(
        store: &Path,
        listen: SocketAddr,
        sync_trigger: Option<&str>,
        faults: Faults,
    ) -> Result<Self, Failure> {
        let storage = open(store).await?;
        let listener = TcpListener::bind(listen).await.map_err(|error| {
            Failure::system(format!(
                "{listen}: {error}; --listen 127.0.0.1:0 takes a free port"
            ))
        })?;
        let address = listener.local_addr().map_err(Failure::system)?;
        let mut service = Service::new(storage);
        if let Some(url) = sync_trigger {
            service = service.with_sync_trigger(url).map_err(|url| {
                Failure::usage(format!(
                    "{url}: a function must be http on this machine, such as http://127.0.0.1:9000/"
                ))
            })?;
        }
        let service = Arc::new(service);
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        Ok(Self {
            served: tokio::spawn(http::serve_with_faults(
                listener,
                service.clone(),
                faults,
                shutdown,
            )),
            service,
            address,
            stop,
        })
    }

    /// Gives an empty store one pool with one identity, so that there is somewhere to write.
    pub(super) fn furnish(&self) -> Result<(), Failure> {
        self.service
            .furnish(&default_region(), SystemTime::now().into())
            .map_err(Failure::system)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns credentials that may do everything a developer may.
    pub(super) fn credentials(&self) -> Credentials {
        let developer = self.service.developer_credentials();
        let (id, secret) = (&developer.access_key_id, &developer.secret_key);
        Credentials::new(id, secret, None, None, "local store")
    }

    /// Returns the shell commands that point the AWS CLI and any SDK here.
    pub(super) fn environment(&self) -> String {
        let developer = self.service.developer_credentials();
        [
            ("AWS_ENDPOINT_URL_COGNITO_SYNC", self.url()),
            ("AWS_ENDPOINT_URL_COGNITO_IDENTITY", self.url()),
            ("AWS_ACCESS_KEY_ID", developer.access_key_id.clone()),
            ("AWS_SECRET_ACCESS_KEY", developer.secret_key.clone()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_DEFAULT_REGION", REGION.to_owned()),
        ]
        .map(|(name, value)| format!("export {name}={value}\n"))
        .concat()
            + "unset AWS_SESSION_TOKEN AWS_PROFILE\n"
    }

    /// Answers what has begun, and closes the store.
    pub(super) async fn stop(self) {
        let _ = self.stop.send(());
        if let Ok(Err(error)) = self.served.await {
            tracing::error!(%error, "the local service failed");
        }
    }
}

/// Opens a store; one that is in use may be let go by a process that is ending.
async fn open(store: &Path) -> Result<Storage, Failure> {
    let patience = Instant::now() + PATIENCE;
    loop {
        match Storage::open(store) {
            Ok(storage) => return Ok(storage),
            Err(StorageError::InUse(_)) if Instant::now() < patience => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(StorageError::InUse(path)) => {
                return Err(Failure::system(format!(
                    "{}: in use by another cognitofs process; use its mount or its service, \
                     or end it",
                    path.display()
                )));
            }
            Err(error) => return Err(Failure::system(super::chain(&error))),
        }
    }
}

pub(super) fn default_region() -> Region {
    REGION.parse().expect("a region")
}
