//! `[server.tls]`, as the program uses it: addresses, and what was read of its files.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;

use crate::config::secret::Secret;

/// `[server.tls]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// Where TLS is listened for.
    pub listen: Vec<SocketAddr>,
    /// PEM chain.
    pub certificate_pem: Vec<u8>,
    /// PEM key.
    pub key_pem: Secret,
    /// Callers must show a certificate of these authorities. PEM.
    pub client_ca_pem: Option<Vec<u8>>,
}

impl ServerTls {
    /// The certificate with its key.
    ///
    /// # Errors
    /// What can't be used of them, in words.
    pub fn certified(&self) -> Result<Arc<CertifiedKey>, String> {
        let chain = certificates(&self.certificate_pem)?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.expose().as_bytes())
            .map_err(|_| "the key can't be read".to_owned())?;
        CertifiedKey::from_der(chain, key, &provider())
            .map(Arc::new)
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => "the key isn't the certificate's".to_owned(),
                other => format!("the certificate and its key can't be used: {other}"),
            })
    }

    /// Who judges callers' certificates; `None`: they need none.
    ///
    /// # Errors
    /// What can't be used of the authorities, in words.
    pub fn callers(&self) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
        let Some(pem) = &self.client_ca_pem else {
            return Ok(None);
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(pem)? {
            let added = roots.add(certificate);
            added.map_err(|error| format!("the client-ca can't be used: {error}"))?;
        }
        let built =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
        let built = built.map_err(|error| format!("the client-ca can't be used: {error}"))?;
        Ok(Some(built))
    }
}

/// Who does the arithmetic.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    read.map_err(|_| "a certificate can't be read".to_owned())
}
