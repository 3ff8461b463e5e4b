//! `[[token-limit]]` and `[redis]`, ready to be used.

use std::time::Duration;

use filters::expression::Expression;
use filters::limit::budget::Budget;
use filters::limit::reservation::Mode;
use filters::limit::{Limit, OnRedisError};
use http::HeaderName;

use super::super::secret::Secret;

/// `[redis]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    /// With its password, where it has one.
    pub url: Secret,
    /// A request waits this long for its limits, and no longer.
    pub timeout: Duration,
    /// Whose certificates are believed; `None`: the system's authorities.
    pub ca_pem: Option<Vec<u8>>,
}

impl Redis {
    /// Whether the URL is that of a cluster.
    pub fn is_cluster(&self) -> bool {
        let url = self.url.expose();
        url.starts_with("redis-cluster://") || url.starts_with("rediss-cluster://")
    }
}

/// `[[token-limit]]`, or `[[budget]]`: a limit that counts money.
#[derive(Debug)]
pub struct TokenLimit {
    /// The metric's label, and what the refusal says.
    pub name: String,
    /// Names the counter.
    pub counter: String,
    /// What is counted, if not tokens.
    pub budget: Option<Budget>,
    /// Which calls it is for; `None`: all.
    pub when: Option<Expression>,
    /// What is counted together.
    pub counter_key: Expression,
    /// How much, and what is held before it is known.
    pub limit: Limit,
    /// What it does while Redis can't be asked.
    pub on_redis_error: OnRedisError,
    /// Whether its refusal counts.
    pub mode: Mode,
    /// What its callers are told in each answer.
    pub headers: LimitHeaders,
}

/// The header names of a token limit; `None`: isn't sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitHeaders {
    /// In a refusal.
    pub retry_after: HeaderName,
    /// Tokens left of the minute.
    pub remaining_tokens: Option<HeaderName>,
    /// Tokens left of the period.
    pub remaining_quota: Option<HeaderName>,
    /// Tokens that the call used.
    pub consumed: Option<HeaderName>,
    /// `x-ratelimit-limit-tokens`, `-remaining-tokens`, `-reset-tokens`.
    pub standard: bool,
}
