//! The local service on a socket, and the clients that talk to it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use cognitofs::server::faults::Faults;
use cognitofs::server::http::serve_with_faults;
use cognitofs::server::service::{Lifetimes, Service};
use cognitofs::server::storage::Storage;
use cognitofs::wire::names::{IdentityId, PoolId};
use cognitofs::wire::timestamp::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A service with one pool and one identity, serving until it is stopped or dropped.
pub struct LocalService {
    pub service: Arc<Service>,
    pub address: SocketAddr,
    pub pool: PoolId,
    pub identity: IdentityId,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

pub fn now() -> Timestamp {
    SystemTime::now().into()
}

pub fn ids() -> (PoolId, IdentityId) {
    (
        "us-east-1:00000000-0000-4000-8000-000000000001"
            .parse()
            .unwrap(),
        "us-east-1:00000000-0000-4000-8000-000000000002"
            .parse()
            .unwrap(),
    )
}

impl LocalService {
    /// Serves from memory.
    pub async fn start() -> Self {
        Self::start_with(Storage::in_memory().unwrap(), Lifetimes::default()).await
    }

    /// Serves a file, which may have been served before.
    pub async fn start_file(path: &Path) -> Self {
        Self::start_with(Storage::open(path).unwrap(), Lifetimes::default()).await
    }

    pub async fn start_with(storage: Storage, lifetimes: Lifetimes) -> Self {
        let service = Service::with_lifetimes(storage, lifetimes);
        Self::start_service(service, Faults::default()).await
    }

    /// Serves from memory and makes trouble.
    pub async fn start_with_faults(faults: Faults) -> Self {
        let service = Service::new(Storage::in_memory().unwrap());
        Self::start_service(service, faults).await
    }

    async fn start_service(service: Service, faults: Faults) -> Self {
        let (pool, identity) = ids();
        let service = Arc::new(service);
        // A store that was served before has them.
        if service.add_identity_pool(&pool, "test", now()).is_ok() {
            service.add_identity(&pool, &identity, now()).unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        Self {
            task: tokio::spawn(serve_with_faults(
                listener,
                service.clone(),
                faults,
                shutdown,
            )),
            service,
            address,
            pool,
            identity,
            stop,
        }
    }

    /// Stops serving and closes the store.
    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }

    pub fn developer(&self) -> Credentials {
        let developer = self.service.developer_credentials();
        Credentials::new(
            &developer.access_key_id,
            &developer.secret_key,
            None,
            None,
            "test",
        )
    }

    /// Gets the credentials of an identity that is a guest's.
    pub async fn user(&self, identity: &str) -> Credentials {
        let anonymous = Credentials::new("none", "none", None, None, "test");
        let cognito = self.cognito_identity(anonymous);
        let issued = cognito.get_credentials_for_identity().identity_id(identity);
        let issued = issued.send().await.unwrap();
        let issued = issued.credentials().unwrap();
        Credentials::new(
            issued.access_key_id().unwrap(),
            issued.secret_key().unwrap(),
            issued.session_token().map(str::to_owned),
            None,
            "test",
        )
    }

    pub fn sync(&self, credentials: Credentials) -> aws_sdk_cognitosync::Client {
        client(&format!("http://{}", self.address), credentials)
    }

    pub fn cognito_identity(&self, credentials: Credentials) -> aws_sdk_cognitoidentity::Client {
        use aws_sdk_cognitoidentity::config::{Builder, Region, retry::RetryConfig};
        let config = Builder::new()
            .endpoint_url(format!("http://{}", self.address))
            .region(Region::new("us-east-1"))
            .credentials_provider(credentials)
            .retry_config(RetryConfig::disabled())
            .build();
        aws_sdk_cognitoidentity::Client::from_conf(config)
    }
}

pub fn client(url: &str, credentials: Credentials) -> aws_sdk_cognitosync::Client {
    use aws_sdk_cognitosync::config::{Builder, Region, retry::RetryConfig};
    let config = Builder::new()
        .endpoint_url(url)
        .region(Region::new("us-east-1"))
        .credentials_provider(credentials)
        .retry_config(RetryConfig::disabled())
        .build();
    aws_sdk_cognitosync::Client::from_conf(config)
}
