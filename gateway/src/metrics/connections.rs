//! What becomes of callers' connections before a request of theirs is known.

use super::Metrics;

pub(super) const REFUSED: &str = "tollgate_connections_refused_total";

impl Metrics {
    /// A caller's connection was closed at once, since there were as many as there may be.
    pub fn connection_refused(&self) {
        self.counter(REFUSED, Vec::new()).increment(1);
    }
}
