//! How the fullest counters of a limit stand, for a person who looks. Off the path of requests: nothing waits for it.
//!
//! This process knows the keys that it served. Where counters are shared, Redis is asked for how they stand, by the
//! script that takes, for nothing: so what is shown is what decides.

use std::sync::Arc;

use filters::limit::reservation::{Mode, Remaining};
use filters::limit::{Limit, Now};
use filters::units::Tokens;

use super::{LimitRequest, OnRedisError, Store};
use crate::config::plan::TokenLimit;

/// A limit's counters that are nearest to their limit.
#[derive(Debug)]
pub struct Standings {
    /// Counters that this process knows.
    pub counters: usize,
    /// The fullest of them, the fullest first.
    pub fullest: Vec<Standing>,
}

/// One of them.
#[derive(Debug)]
pub struct Standing {
    /// What is counted by.
    pub key: Arc<str>,
    /// What it is measured by: the limit, or this process's share of it while Redis can't be asked.
    pub limit: Limit,
    /// What is left.
    pub left: Remaining,
}

/// Keys by how full their counters are.
#[derive(Debug, Default)]
pub struct Fullest {
    /// How many counters there are.
    pub counters: usize,
    /// Those that were picked.
    pub keys: Vec<Arc<str>>,
}

impl Store {
    /// The `most` fullest counters of a limit.
    pub async fn standings(&self, rule: &TokenLimit, most: usize, now: Now) -> Standings {
        let limit = self.measure(&rule.limit);
        let fullest = match self {
            Store::Local(local) => local.fullest(&rule.counter, &limit, now, most),
            Store::Redis(redis) => redis.fullest(&rule.counter, &limit, now, most),
        };
        let requests: Vec<LimitRequest<'_>> =
            fullest.keys.iter().map(|key| question(rule, key)).collect();
        let asked = match self {
            Store::Redis(redis) if redis.health().is_up() && !requests.is_empty() => {
                let asked = self.reserve(&requests, now).await.ok();
                // If it wasn't there after all, this was the answer of the share.
                asked.filter(|_| redis.health().is_up())
            }
            Store::Redis(_) | Store::Local(_) => None,
        };
        let (limit, left) = match asked {
            // Holds nothing, and is dropped unsettled.
            Some(asked) => (rule.limit, asked.remaining(now)),
            None => {
                let peek = |request| self.peek(request, now);
                (limit, requests.iter().map(peek).collect())
            }
        };
        let keys = fullest.keys.into_iter().zip(left);
        Standings {
            counters: fullest.counters,
            fullest: keys
                .map(|(key, left)| Standing { key, limit, left })
                .collect(),
        }
    }

    /// What this process's own counters are measured by.
    fn measure(&self, limit: &Limit) -> Limit {
        match self {
            Store::Local(_) => *limit,
            Store::Redis(redis) => limit.share(redis.health().replicas()),
        }
    }
}

/// Asks for nothing, and so can't be refused.
fn question<'a>(rule: &'a TokenLimit, key: &'a str) -> LimitRequest<'a> {
    LimitRequest {
        policy: &rule.counter,
        key,
        limit: rule.limit,
        amount: Tokens::ZERO,
        mode: Mode::Observe,
        on_error: OnRedisError::Refuse,
    }
}
