//! `[jwt]`, as the program uses it: which tokens are taken, whose keys check them, whom they stand for. Never a token.

use std::collections::HashMap;
use std::sync::Arc;

use filters::expression::Expression;
use filters::token::Rule;
use filters::token::keys::KeySet;

use super::Endpoint;

/// Callers that show a token.
#[derive(Debug)]
pub struct Jwt {
    /// What a token must be.
    pub rule: Rule,
    /// Where the issuer's keys are.
    pub keys: Keys,
    /// The subscription that a token stands for; `None`: a token is shown beside a key.
    pub subscription: Option<Expression>,
    /// The subscriptions' places in the plan, by name.
    pub subscriptions: HashMap<Arc<str>, usize>,
}

/// Where the issuer's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// In a file, which is read when the configuration is.
    File(Arc<KeySet>),
    /// At a place that is asked again and again.
    Url(Site),
    /// Where the issuer's own description says.
    Discovery {
        /// The description.
        at: Site,
        /// The name that it must bear.
        issuer: String,
    },
}

/// A URL that is asked, and whom to trust there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Scheme, host and path.
    pub endpoint: Endpoint,
    /// With its `?`; empty where there is none.
    pub query: String,
    /// PEM of the authorities to trust instead of the system's.
    pub ca_pem: Option<Arc<[u8]>>,
}
