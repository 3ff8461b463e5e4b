//! TLS with callers: on which of the listeners' connections it is spoken, and the handshake.
//!
//! Why not by Pingora's listener: it gives each handshake a minute that can't be changed, and shows a connection to nobody
//! before that, so those that say nothing would neither be counted nor be cut. Its acceptor is the same here as there.
//! Never looks at what is said after it.

use std::net::SocketAddr;
use std::time::Duration;

use pingora::listeners::tls::{Acceptor, TlsSettings};
use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as Tcp;
use tokio::time::timeout;

use crate::metrics::{Metrics, Unshaken};

/// The addresses with TLS, and how it is spoken there.
pub struct Encrypted {
    addresses: Vec<SocketAddr>,
    /// Those beside them, without TLS.
    plain: Vec<SocketAddr>,
    acceptor: Acceptor,
}

impl Encrypted {
    /// On these addresses, beside plain ones; as they are bound, with their ports.
    pub fn new(addresses: &[SocketAddr], plain: &[SocketAddr], settings: TlsSettings) -> Self {
        Encrypted {
            addresses: addresses.to_vec(),
            plain: plain.to_vec(),
            acceptor: settings.build(),
        }
    }

    /// Whether this connection came in where TLS is spoken.
    pub(super) fn speaks_on(&self, stream: &Stream) -> bool {
        // Nothing to ask the system for.
        if self.plain.is_empty() {
            return true;
        }
        let digest = stream.get_socket_digest();
        let local = digest
            .as_ref()
            .and_then(|digest| digest.local_addr()?.as_inet());
        local.is_none_or(|local| is_on(*local, &self.addresses, &self.plain))
    }

    /// The connection after its handshake, if it ends well within this time. What doesn't is counted, and logged for whoever
    /// looks for it: anybody who scans ports would fill a log.
    pub(super) async fn shake(
        &self,
        stream: Stream,
        allowed: Duration,
        metrics: &Metrics,
    ) -> Option<Stream> {
        let stream = stream.into_any().downcast::<Tcp>().ok()?;
        let why = match timeout(allowed, self.acceptor.tls_handshake(*stream)).await {
            Ok(Ok(encrypted)) => return Some(Box::new(encrypted)),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a caller's TLS handshake failed");
                Unshaken::Failed
            }
            Err(_elapsed) => Unshaken::Timeout,
        };
        metrics.unshaken(why);
        None
    }
}

/// An address by its name goes before one that is part of "all of this machine's". Where none fits, it is TLS: nobody is to be
/// served in plain text for want of an address.
fn is_on(local: SocketAddr, encrypted: &[SocketAddr], plain: &[SocketAddr]) -> bool {
    let local = SocketAddr::new(local.ip().to_canonical(), local.port());
    let is_all =
        |address: &SocketAddr| address.ip().is_unspecified() && address.port() == local.port();
    let is_of_all = |addresses: &[SocketAddr]| addresses.iter().any(is_all);
    encrypted.contains(&local)
        || !plain.contains(&local) && (is_of_all(encrypted) || !is_of_all(plain))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_connection_belongs_to_the_address_that_names_it_most_closely() {
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let encrypted = addresses(&["0.0.0.0:8443", "10.0.0.1:9443", "[::]:7443"]);
        let plain = addresses(&["127.0.0.1:8443", "0.0.0.0:9443", "127.0.0.1:8080"]);
        for (local, expected) in [
            ("10.0.0.1:8443", true),
            ("127.0.0.1:8443", false),
            ("10.0.0.1:9443", true),
            ("127.0.0.1:9443", false),
            ("127.0.0.1:8080", false),
            ("[::ffff:127.0.0.1]:7443", true),
            ("[::1]:7443", true),
            ("10.0.0.2:9443", false),
            ("10.0.0.2:1", true),
        ] {
            let local = local.parse().unwrap();
            assert_eq!(is_on(local, &encrypted, &plain), expected, "{local}");
        }
    }
}
