//! What the gateway itself asks for: tokens to show to backends, keys of callers' tokens, and what it shares in Redis.

use metrics::{Key, Label, Recorder};

use super::{METADATA, Metrics, REDIS_ERRORS, REDIS_UP};
use crate::config::plan::identity::Identity;

const TOKEN_FETCHES: &str = "tollgate_token_fetches_total";
const KEYS_FETCHES: &str = "tollgate_jwks_fetches_total";

/// What they are.
pub(super) const DESCRIBED: [(&str, &str); 2] = [
    (
        TOKEN_FETCHES,
        "Tokens that the gateway asked for to show to backends, by result.",
    ),
    (
        KEYS_FETCHES,
        "Fetches of the keys that callers' tokens are checked with, by result.",
    ),
];

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

    /// Redis as it is now, and what went wrong so far, by operation.
    pub fn redis(&self, up: bool, errors: impl Iterator<Item = (&'static str, u64)>) {
        let key = Key::from_static_name(REDIS_UP);
        let gauge = self.recorder.register_gauge(&key, &METADATA);
        gauge.set(f64::from(u8::from(up)));
        for (operation, count) in errors {
            let labels = vec![Label::from_static_parts("operation", operation)];
            self.counter(REDIS_ERRORS, labels).absolute(count);
        }
    }
}
