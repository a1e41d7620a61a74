//! A port before the bed's own. Its connections lead to the service until something else is wanted.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncWriteExt, copy, copy_bidirectional, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::bed::Bed;
use super::certificates::{Authority, Certificate};

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// It leads to the service as it is.
    Plain,
    /// It leads to the service by TLS.
    Tls(Certificate),
    /// It is answered with these bytes, and closed.
    Says(&'static [u8]),
    /// It is accepted, and nothing is said.
    Silent,
}

/// A door, and the connections that came while it was the one.
struct Opened {
    door: Door,
    acceptor: Option<TlsAcceptor>,
    closed: watch::Sender<bool>,
}

pub struct Front {
    pub port: u16,
    trusted: Authority,
    untrusted: Authority,
    opened: Arc<Mutex<Arc<Opened>>>,
}

impl Front {
    /// Opens a door before a bed, for as long as the bed is there.
    pub fn new(bed: &Bed, door: Door) -> Self {
        let (trusted, untrusted) = (Authority::new("trusted"), Authority::new("untrusted"));
        let opened = Opened::new(door, (&trusted, &untrusted));
        let opened = Arc::new(Mutex::new(Arc::new(opened)));
        let listener = bed.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let front = Self {
            port: listener.local_addr().unwrap().port(),
            trusted,
            untrusted,
            opened: opened.clone(),
        };
        let service = bed.address;
        bed.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let opened = opened.lock().unwrap().clone();
                tokio::spawn(opened.take(stream, service));
            }
        });
        front
    }

    /// Writes down whom a mount is to trust.
    pub fn write_trusted(&self, path: &Path) {
        std::fs::write(path, self.trusted.pem()).unwrap();
    }

    /// Breaks all connections, and has another door for those that come. Returns when the other
    /// side has noticed.
    pub fn open(&self, door: Door) {
        let opened = Arc::new(Opened::new(door, (&self.trusted, &self.untrusted)));
        let before = std::mem::replace(&mut *self.opened.lock().unwrap(), opened);
        before.closed.send_replace(true);
        let begun = Instant::now();
        while Arc::strong_count(&before) > 1 {
            assert!(begun.elapsed() < Duration::from_secs(10), "{door:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Opened {
    fn new(door: Door, (trusted, untrusted): (&Authority, &Authority)) -> Self {
        let acceptor = match door {
            Door::Tls(Certificate::Untrusted) => Some(untrusted.acceptor(Certificate::Good)),
            Door::Tls(certificate) => Some(trusted.acceptor(certificate)),
            Door::Plain | Door::Says(_) | Door::Silent => None,
        };
        Self {
            door,
            acceptor,
            closed: watch::Sender::new(false),
        }
    }

    async fn take(self: Arc<Self>, mut stream: TcpStream, service: SocketAddr) {
        let mut closed = self.closed.subscribe();
        tokio::select! {
            // Handshakes fail, as they are meant to.
            _ = self.lead(&mut stream, service) => {}
            _ = closed.wait_for(|closed| *closed) => {}
        }
        let _ = stream.shutdown().await;
        let mut rest = sink();
        let noticed = copy(&mut stream, &mut rest);
        let _ = tokio::time::timeout(Duration::from_secs(5), noticed).await;
    }

    async fn lead(&self, stream: &mut TcpStream, service: SocketAddr) -> io::Result<()> {
        match self.door {
            Door::Plain => {
                let mut service = TcpStream::connect(service).await?;
                copy_bidirectional(stream, &mut service).await?;
            }
            Door::Tls(_) => {
                let acceptor = self.acceptor.as_ref().unwrap();
                let mut stream = acceptor.accept(stream).await?;
                let mut service = TcpStream::connect(service).await?;
                copy_bidirectional(&mut stream, &mut service).await?;
            }
            Door::Says(bytes) => {
                // Once it has begun to speak.
                stream.readable().await?;
                stream.write_all(bytes).await?;
            }
            Door::Silent => std::future::pending().await,
        }
        Ok(())
    }
}
