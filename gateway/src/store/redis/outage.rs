//! What a limit does while Redis can't be asked, as its `on-redis-error` says.
//!
//! `local` gives this replica's share: the limit divided by the replicas that were last known to live, begun
//! from what was left when Redis was last asked. A bucket's word is a time, so the same word is the same part
//! of a smaller bucket; of a quota the share of what was used is taken. A call that is larger than the
//! share, but not than the limit, is admitted when the share is untouched, and paid for as debt.

use std::sync::Arc;

use filters::limit::Now;
use filters::limit::bucket::Refill;
use filters::limit::quota::{Hour, Used};
use filters::limit::reservation::{Cell, Held, Mode, Refused as LimitRefused};
use filters::units::Tokens;

use super::Redis;
use super::claim::{Claim, HeldLimit};
use super::ledger::Answer;
use super::wire;
use crate::store::{LimitRequest, OnRedisError, Refused};

/// A replica's part of a cell.
pub fn share(cell: Cell, replicas: u64) -> Cell {
    Cell {
        bucket: cell.bucket,
        used: Used {
            since: cell.used.since,
            tokens: Tokens::new(cell.used.tokens.get().div_ceil(replicas.max(1))),
        },
    }
}

impl Redis {
    /// Decides without Redis.
    pub(super) fn without(
        self: &Arc<Self>,
        requests: &[LimitRequest<'_>],
        now: Now,
    ) -> Result<(Claim, Vec<LimitRefused>), Refused> {
        if let Some(limit) = requests.iter().position(refuses) {
            return Err(Refused::Unavailable { limit });
        }
        let replicas = self.health.replicas();
        let shares: Vec<LimitRequest<'_>> = requests
            .iter()
            .map(|request| request_share(request, replicas))
            .collect();
        let (share, mut would_refuse) = self.share.reserve(&shares, now)?;
        would_refuse.retain(|refused| requests[refused.limit].mode == Mode::Observe);
        let skipped = |index| would_refuse.iter().any(|refused| refused.limit == index);
        let line = |(index, request)| line(request, skipped(index), now);
        let claim = Claim {
            redis: self.clone(),
            id: 0,
            answer: Answer::Taken,
            lines: requests.iter().enumerate().map(line).collect(),
            share: Some(share),
        };
        Ok((claim, would_refuse))
    }
}

fn refuses(request: &LimitRequest<'_>) -> bool {
    request.mode == Mode::Enforce && request.on_error == OnRedisError::Refuse
}

fn request_share<'a>(request: &LimitRequest<'a>, replicas: u64) -> LimitRequest<'a> {
    let limit = request.limit.share(replicas);
    let possible = request.amount <= request.limit.most();
    LimitRequest {
        limit,
        amount: match possible {
            true => request.amount.min(limit.most()),
            false => request.amount,
        },
        mode: match request.on_error {
            OnRedisError::Allow => Mode::Observe,
            OnRedisError::Local | OnRedisError::Refuse => request.mode,
        },
        ..*request
    }
}

/// Nothing is held in Redis; what is used will be told.
fn line(request: &LimitRequest<'_>, skipped: bool, now: Now) -> HeldLimit {
    let since = request.limit.quota().map_or(Hour::from_number(0), |quota| {
        quota.period().window(now.unix).from
    });
    HeldLimit {
        key: wire::counter_key(request.policy, request.key),
        limit: request.limit,
        held: match skipped {
            true => Held::Skipped,
            false => Held::Counted {
                refill: Refill::ZERO,
                tokens: Tokens::ZERO,
                since,
            },
        },
        cell: Cell::UNUSED,
    }
}
