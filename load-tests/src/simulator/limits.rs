//! Requests and tokens a minute for each deployment, and the 429 that Azure answers with.
//!
//! A fixed window of 60 s (or what a test can wait for) from the first request, as Azure's counters reset. It charges what an answer really costs,
//! where Azure charges an estimate: a test can then tell to the token when the next call is refused.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What one deployment may do in a minute.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowance {
    pub(crate) tokens: Option<u64>,
    pub(crate) requests: Option<u64>,
}

/// The state of all deployments.
#[derive(Debug)]
pub(crate) struct Limits {
    /// How long a minute is.
    minute: Duration,
    allowance: Mutex<Allowance>,
    windows: Mutex<HashMap<String, Window>>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    began: Instant,
    minute: Duration,
    tokens: u64,
    requests: u64,
}

/// What is left, for the headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    allowance: Allowance,
    window: Window,
    pub(crate) reset: Duration,
}

impl Standing {
    pub(crate) fn limit_tokens(&self) -> u64 {
        self.allowance.tokens.unwrap_or(UNLIMITED_TOKENS)
    }

    pub(crate) fn limit_requests(&self) -> u64 {
        self.allowance.requests.unwrap_or(UNLIMITED_REQUESTS)
    }

    /// Where nothing is limited nothing is used up, or a long run would be told to go elsewhere.
    pub(crate) fn remaining_tokens(&self) -> u64 {
        let left = |limit: u64| limit.saturating_sub(self.window.tokens);
        self.allowance.tokens.map_or(UNLIMITED_TOKENS, left)
    }

    pub(crate) fn remaining_requests(&self) -> u64 {
        let left = |limit: u64| limit.saturating_sub(self.window.requests);
        self.allowance.requests.map_or(UNLIMITED_REQUESTS, left)
    }
}

/// Told where nothing is limited: the headers are always there.
const UNLIMITED_TOKENS: u64 = 1_000_000;
const UNLIMITED_REQUESTS: u64 = 10_000;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exceeded {
    Tokens,
    Requests,
}

impl Limits {
    pub(crate) fn new(allowance: Allowance, minute: Duration) -> Self {
        Self {
            minute,
            allowance: Mutex::new(allowance),
            windows: Mutex::default(),
        }
    }

    pub(crate) fn set(&self, allowance: Allowance) {
        *self.allowance.lock() = allowance;
    }

    /// Starts every window anew.
    pub(crate) fn refill(&self) {
        self.windows.lock().clear();
    }

    /// Admits while the window isn't used up, so the last answer may overdraw it.
    pub(crate) fn admit(
        &self,
        deployment: &str,
        now: Instant,
    ) -> Result<Standing, (Exceeded, Standing)> {
        let allowance = *self.allowance.lock();
        let mut windows = self.windows.lock();
        if windows.len() >= MAX_DEPLOYMENTS && !windows.contains_key(deployment) {
            windows.clear();
        }
        let fresh = Window {
            began: now,
            minute: self.minute,
            tokens: 0,
            requests: 0,
        };
        let window = windows.entry(deployment.to_owned()).or_insert(fresh);
        if now.saturating_duration_since(window.began) >= self.minute {
            *window = fresh;
        }
        let exceeded = if allowance
            .requests
            .is_some_and(|limit| window.requests >= limit)
        {
            Some(Exceeded::Requests)
        } else if allowance.tokens.is_some_and(|limit| window.tokens >= limit) {
            Some(Exceeded::Tokens)
        } else {
            None
        };
        match exceeded {
            Some(exceeded) => Err((exceeded, window.standing(allowance, now))),
            None => {
                window.requests += 1;
                Ok(window.standing(allowance, now))
            }
        }
    }

    /// Takes what an answer costs from the window.
    pub(crate) fn charge(&self, deployment: &str, tokens: u64, now: Instant) -> Option<Standing> {
        let allowance = *self.allowance.lock();
        let mut windows = self.windows.lock();
        let window = windows.get_mut(deployment)?;
        window.tokens = window.tokens.saturating_add(tokens);
        Some(window.standing(allowance, now))
    }
}

impl Window {
    fn standing(&self, allowance: Allowance, now: Instant) -> Standing {
        Standing {
            allowance,
            window: *self,
            reset: self
                .minute
                .saturating_sub(now.saturating_duration_since(self.began)),
        }
    }
}

/// Deployments watched at once; beyond it all windows start anew.
const MAX_DEPLOYMENTS: usize = 1000;
