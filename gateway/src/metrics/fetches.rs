//! What the gateway itself asks for: tokens to show to backends, and keys of callers' tokens.

use metrics::Label;

use super::{KEYS_FETCHES, Metrics, TOKEN_FETCHES};
use crate::config::plan::identity::Identity;

impl Metrics {
    /// A token of the gateway's own was asked for.
    pub fn token_fetched(&self, identity: &Identity, result: &'static str) {
        let client_id = identity.source.client_id().unwrap_or_default();
        let labels = vec![
            Label::from_static_parts("source", identity.source.label()),
            Label::new("resource", identity.resource.clone()),
            Label::new("client_id", client_id.to_owned()),
            Label::from_static_parts("result", result),
        ];
        self.counter(TOKEN_FETCHES, labels).increment(1);
    }

    /// The keys of callers' tokens were asked for.
    pub fn keys_fetched(&self, fetched: bool) {
        let result = match fetched {
            true => "ok",
            false => "failed",
        };
        let labels = vec![Label::from_static_parts("result", result)];
        self.counter(KEYS_FETCHES, labels).increment(1);
    }
}
