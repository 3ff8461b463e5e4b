//! What becomes of callers' connections before a request of theirs is known.

use metrics::Label;

use super::Metrics;

pub(super) const REFUSED: &str = "tollgate_connections_refused_total";
pub(super) const UNSHAKEN: &str = "tollgate_tls_handshakes_failed_total";

/// Why a TLS handshake came to nothing.
#[derive(Debug, Clone, Copy)]
pub enum Unshaken {
    /// It wasn't over in time.
    Timeout,
    /// The caller left, spoke no TLS or none that is spoken here, or showed no certificate that is wanted.
    Failed,
}

impl Metrics {
    /// A caller's connection was closed at once, since there were as many as there may be.
    pub fn connection_refused(&self) {
        self.counter(REFUSED, Vec::new()).increment(1);
    }

    /// A caller's TLS handshake came to nothing.
    pub fn unshaken(&self, why: Unshaken) {
        let reason = match why {
            Unshaken::Timeout => "timeout",
            Unshaken::Failed => "failed",
        };
        let labels = vec![Label::from_static_parts("reason", reason)];
        self.counter(UNSHAKEN, labels).increment(1);
    }
}
