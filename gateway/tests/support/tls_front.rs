//! TLS in front of a backend that speaks plain text: takes the encryption off and passes the bytes on.
//!
//! The simulator speaks HTTP/1.1 and HTTP/2 on one port, so whatever was negotiated, it understands.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::certificates::Identity;

/// A front that listens until its runtime ends.
pub struct TlsFront {
    /// The port that it listens on, on loopback.
    pub port: u16,
    seen: Arc<Mutex<Vec<Handshake>>>,
}

/// A handshake that was completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// What was negotiated by ALPN: `h2`, `http/1.1` or nothing.
    pub protocol: String,
    /// The name that the other side asked for; none where it is an address.
    pub server_name: Option<String>,
    /// The other side showed a certificate.
    pub certificate: bool,
}

impl TlsFront {
    /// Listens before `target`, with this certificate, and asks for one of `client_ca` where that is given.
    pub async fn start(
        target: SocketAddr,
        identity: &Identity,
        protocols: &[&str],
        client_ca: Option<&Path>,
    ) -> TlsFront {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = TlsAcceptor::from(Arc::new(config(identity, protocols, client_ca)));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen) = (acceptor.clone(), shared.clone());
                tokio::spawn(carry(stream, acceptor, target, seen));
            }
        });
        TlsFront { port, seen }
    }

    /// The handshakes so far.
    pub fn seen(&self) -> Vec<Handshake> {
        self.seen.lock().unwrap().clone()
    }
}

async fn carry(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    target: SocketAddr,
    seen: Arc<Mutex<Vec<Handshake>>>,
) {
    // A handshake that fails is the other side's to tell.
    let Ok(mut encrypted) = acceptor.accept(stream).await else {
        return;
    };
    seen.lock().unwrap().push(handshake(encrypted.get_ref().1));
    let mut plain = TcpStream::connect(target).await.unwrap();
    // Whichever side ends it, it is over.
    let _ = tokio::io::copy_bidirectional(&mut encrypted, &mut plain).await;
}

fn handshake(connection: &ServerConnection) -> Handshake {
    let protocol = connection.alpn_protocol().unwrap_or_default();
    Handshake {
        protocol: String::from_utf8_lossy(protocol).into_owned(),
        server_name: connection.server_name().map(str::to_owned),
        certificate: connection.peer_certificates().is_some(),
    }
}

fn config(identity: &Identity, protocols: &[&str], client_ca: Option<&Path>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            roots
                .add(CertificateDer::from_pem_file(file).unwrap())
                .unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = vec![CertificateDer::from_pem_file(&identity.certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    config
}
