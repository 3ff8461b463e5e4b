//! Where counters live: in this process, or in a Redis that all replicas share.
//!
//! Both run the arithmetic of `filters::limit` and pass the same recorded cases. A request's limits are
//! reserved all together or not at all; the reservation is settled once with what was truly used, and
//! gives everything back when it is dropped unsettled. Nothing here decides what a limit means, names a
//! metric or knows a request.

pub mod counters;
pub mod local;
pub mod redis;
pub mod standing;

use std::sync::Arc;

pub use filters::limit::OnRedisError;
use filters::limit::reservation::{Check, Mode, Refused as LimitRefused, Remaining};
use filters::limit::{Limit, Now};
use filters::units::Tokens;

use self::local::Local;
use self::redis::Redis;

/// The counters of all token limits.
#[derive(Clone, Debug)]
pub enum Store {
    /// This process's own.
    Local(Arc<Local>),
    /// Shared.
    Redis(Arc<Redis>),
}

/// One limit that applies to a request.
#[derive(Clone, Copy, Debug)]
pub struct LimitRequest<'a> {
    /// Its name: with the key it names the counter, and survives a reload.
    pub policy: &'a str,
    /// The counter key's value.
    pub key: &'a str,
    /// The rule.
    pub limit: Limit,
    /// What it holds for this call; zero for nothing.
    pub amount: Tokens,
    /// Whether its refusal counts.
    pub mode: Mode,
    /// What it does while Redis can't be asked.
    pub on_error: OnRedisError,
}

/// Why nothing was reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A limit says no.
    Limit {
        /// Which, and why.
        by: LimitRefused,
        /// What each limit of the request has left.
        remaining: Vec<Remaining>,
    },
    /// The counter of this limit (from 0) can't be had: Redis is gone and the limit refuses then, or as
    /// many counters as may be are in use.
    Unavailable {
        /// Which of the request's limits.
        limit: usize,
    },
}

/// What is held for a request. Settle it; dropped, it gives back all.
#[derive(Debug)]
#[must_use = "dropped, it gives back what it holds"]
pub struct Reservation {
    claim: Claim,
    would_refuse: Vec<LimitRefused>,
}

#[derive(Debug)]
enum Claim {
    Local(local::Claim),
    Redis(redis::Claim),
}

impl Store {
    /// What a limit has left, as far as this process knows without asking anybody; that of a limit which nobody
    /// has used where it knows nothing. A hint: only [`Store::reserve`] decides.
    pub fn peek(&self, request: &LimitRequest<'_>, now: Now) -> Remaining {
        match self {
            Store::Local(local) => local.peek(request, now),
            Store::Redis(redis) => redis.peek(request, now),
        }
    }

    /// What each limit has left, by whoever counts it; `None` if that can't be had. Takes nothing, whatever the amounts.
    pub async fn left(&self, limits: &[LimitRequest<'_>], now: Now) -> Option<Vec<Remaining>> {
        let redis = match self {
            Store::Local(local) => {
                return Some(limits.iter().map(|limit| local.peek(limit, now)).collect());
            }
            Store::Redis(redis) => redis,
        };
        let mut asking = limits.to_vec();
        for limit in &mut asking {
            limit.amount = Tokens::ZERO;
        }
        match Box::pin(redis.reserve(&asking, now)).await {
            Ok((claim, _)) => Some(claim.remaining(now)),
            Err(Refused::Limit { remaining, .. }) => Some(remaining),
            Err(Refused::Unavailable { .. }) => None,
        }
    }

    /// Takes what a request holds of each of its limits, or says why it can't. One round trip at most.
    ///
    /// # Errors
    /// The refusal; nothing is held then.
    pub async fn reserve(
        &self,
        limits: &[LimitRequest<'_>],
        now: Now,
    ) -> Result<Reservation, Refused> {
        match self {
            Store::Local(local) => {
                let (claim, would_refuse) = local.reserve(limits, now)?;
                Ok(Reservation {
                    claim: Claim::Local(claim),
                    would_refuse,
                })
            }
            Store::Redis(redis) => {
                // A future of 7 KB, which would be part of each call's.
                let (claim, would_refuse) = Box::pin(redis.reserve(limits, now)).await?;
                Ok(Reservation {
                    claim: Claim::Redis(claim),
                    would_refuse,
                })
            }
        }
    }
}

impl Refused {
    /// A limit's refusal, and what the others have left beside it.
    fn by(by: LimitRefused, checks: &[Check<'_>], now: Now) -> Self {
        let left = |check: &Check<'_>| check.cell.remaining(check.limit, now);
        Refused::Limit {
            by,
            remaining: checks.iter().map(left).collect(),
        }
    }
}

impl Reservation {
    /// Observing limits that would have refused the call.
    pub fn would_refuse(&self) -> &[LimitRefused] {
        &self.would_refuse
    }

    /// What each limit has left, in the request's order, with what is held taken off.
    pub fn remaining(&self, now: Now) -> Vec<Remaining> {
        match &self.claim {
            Claim::Local(claim) => claim.remaining(now),
            Claim::Redis(claim) => claim.remaining(now),
        }
    }

    /// Makes what is held what was used, and tells what each limit has left then. Never waits: a shared
    /// counter is told in the background, and the figures are worked out from what it said before.
    pub fn settle(self, used: Tokens, now: Now) -> Vec<Remaining> {
        self.settle_each(&|_| used, now)
    }

    /// As [`Reservation::settle`], where the limits (from 0, in the request's order) count different things.
    pub fn settle_each(self, used: &dyn Fn(usize) -> Tokens, now: Now) -> Vec<Remaining> {
        match self.claim {
            Claim::Local(claim) => claim.settle_each(used, now),
            Claim::Redis(claim) => claim.settle_each(used, now),
        }
    }
}
