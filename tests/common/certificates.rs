//! Certificates, good ones and others, of authorities that are made for a test.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::prelude::{BASE64_STANDARD, Engine};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    Good,
    /// Of an authority that the mount does not know.
    Untrusted,
    /// For another host.
    Misnamed,
    Expired,
}

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Its own certificate, as a file of trusted ones has it.
    pub fn pem(&self) -> String {
        let der = BASE64_STANDARD.encode(self.0.der());
        format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n")
    }

    /// Takes connections as `localhost`, if the certificate says so.
    pub fn acceptor(&self, certificate: Certificate) -> TlsAcceptor {
        let host = match certificate {
            Certificate::Misnamed => "elsewhere.localhost",
            _ => "localhost",
        };
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        if certificate == Certificate::Expired {
            params.not_after = (SystemTime::now() - Duration::from_secs(3600)).into();
        }
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![signed.der().clone()], key);
        TlsAcceptor::from(Arc::new(config.unwrap()))
    }
}
