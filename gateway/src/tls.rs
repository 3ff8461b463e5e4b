//! TLS towards callers: the listeners' certificate, and whose certificates callers must show. A reload takes both.
//!
//! A listener's settings are built once, so what they name is a place whose content is exchanged: each handshake
//! takes what is there then. Connections that are open stay as they were let in. A session that a caller resumes brings the
//! certificate of its first handshake, and rustls doesn't judge that again, so it is judged here.
//! TLS 1.2 and 1.3 only, HTTP/2 and HTTP/1.1 by ALPN. Never looks at a request.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use pingora::listeners::TlsAccept;
use pingora::listeners::tls::TlsSettings;
use pingora::protocols::tls::{SslDigest, TlsRef};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::clock;
use crate::config::plan::Server;
use crate::config::plan::tls;

/// What handshakes are made with.
#[derive(Clone, Default)]
pub struct Tls(Arc<ArcSwapOption<Material>>);

/// A certificate with its key, and who may come in.
pub struct Material {
    certified: Arc<CertifiedKey>,
    callers: Option<Arc<dyn ClientCertVerifier>>,
}

impl Material {
    /// Of a plan; `None` where it has no TLS.
    ///
    /// # Errors
    /// In words; loading the configuration has found them all before.
    pub fn of(server: &Server) -> Result<Option<Self>, String> {
        let Some(tls) = &server.tls else {
            return Ok(None);
        };
        Ok(Some(Material {
            certified: tls.certified()?,
            callers: tls.callers()?,
        }))
    }
}

impl Tls {
    /// Takes what the next handshakes are made with.
    pub fn take(&self, material: Option<Material>) {
        // Without TLS in the file a listener that is there goes on until the restart that closes it.
        if let Some(material) = material {
            self.0.store(Some(Arc::new(material)));
        }
    }

    /// How TLS is spoken on the listeners.
    ///
    /// # Errors
    /// Pingora's.
    pub fn settings(&self) -> Result<TlsSettings, String> {
        let callers = |tls: &Tls| Callers {
            tls: tls.clone(),
            provider: tls::provider(),
        };
        let settings = TlsSettings::with_callbacks(Box::new(callers(self)));
        let mut settings = settings.map_err(|error| error.to_string())?;
        settings.set_cert_resolver(Arc::new(self.clone()));
        settings.set_client_cert_verifier(Arc::new(callers(self)));
        settings.enable_h2();
        Ok(settings)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tls")
    }
}

impl ResolvesServerCert for Tls {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let material = self.0.load();
        material.as_ref().map(|material| material.certified.clone())
    }
}

/// Asks callers for certificates while there is an authority to judge them by.
#[derive(Debug)]
struct Callers {
    tls: Tls,
    provider: Arc<CryptoProvider>,
}

impl Callers {
    fn judge(&self) -> Option<Arc<dyn ClientCertVerifier>> {
        self.tls.0.load().as_ref()?.callers.clone()
    }
}

/// The handshake went well, but no authority for callers stands by its certificate now.
struct Stranger;

/// Whether this connection is one that a reload has shut out.
pub fn is_stranger(digest: &SslDigest) -> bool {
    digest.extension.get::<Stranger>().is_some()
}

#[async_trait]
impl TlsAccept for Callers {
    async fn handshake_complete_callback(
        &self,
        handshake: &TlsRef,
    ) -> Option<Arc<dyn Any + Send + Sync>> {
        let judge = self.judge()?;
        let chain = handshake.peer_cert_chain_der().unwrap_or_default();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(clock::unix_seconds()));
        let is_known = chain
            .split_first()
            .is_some_and(|(first, others)| judge.verify_client_cert(first, others, now).is_ok());
        (!is_known).then(|| Arc::new(Stranger) as Arc<_>)
    }
}

impl ClientCertVerifier for Callers {
    fn offer_client_auth(&self) -> bool {
        self.judge().is_some()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.offer_client_auth()
    }

    /// Names would have to outlive a reload. Callers that have one certificate show it all the same.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.judge() {
            Some(judge) => judge.verify_client_cert(end_entity, intermediates, now),
            None => Err(Error::General("no authority judges callers".into())),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
