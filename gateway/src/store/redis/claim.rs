//! What is held in Redis for a request, or was admitted without it.
//!
//! Made before Redis is asked, so that whatever happens while its answer is awaited (the caller leaves, the
//! call times out), what may have been taken is given back by the claim's end.

use std::sync::Arc;

use filters::limit::quota::Quota;
use filters::limit::reservation::{Cell, Held, Remaining};
use filters::limit::{Limit, Now};
use filters::units::Tokens;

use super::Redis;
use super::ledger::{Answer, Entry, Line};
use crate::store::local;

/// What is held.
#[derive(Debug)]
pub struct Claim {
    pub(super) redis: Arc<Redis>,
    /// 0: nothing is held in Redis.
    pub(super) id: u64,
    pub(super) answer: Answer,
    pub(super) lines: Vec<HeldLimit>,
    /// Where Redis couldn't be asked: held of this replica's share.
    pub(super) share: Option<local::Claim>,
}

/// One limit of it.
#[derive(Debug)]
pub(super) struct HeldLimit {
    pub key: Arc<str>,
    pub limit: Limit,
    pub held: Held,
    /// As Redis said, with what is held taken off.
    pub cell: Cell,
}

impl Claim {
    /// What each limit has left, by what Redis said and the time that passed since.
    pub fn remaining(&self, now: Now) -> Vec<Remaining> {
        match &self.share {
            Some(share) => share.remaining(now),
            None => self.left(now),
        }
    }

    /// Makes what is held what was used, in the background; what is left then.
    pub fn settle_each(mut self, used: &dyn Fn(usize) -> Tokens, now: Now) -> Vec<Remaining> {
        self.redis.note(now);
        self.tell(used);
        if let Some(share) = self.share.take() {
            return share.settle_each(used, now);
        }
        for (index, line) in self.lines.iter_mut().enumerate() {
            line.cell = line.cell.settle(&line.limit, line.held, used(index), now);
        }
        self.left(now)
    }

    /// Nothing was taken: there is nothing to give back.
    pub(super) fn disarm(mut self) {
        self.id = 0;
    }

    fn left(&self, now: Now) -> Vec<Remaining> {
        let left = |line: &HeldLimit| line.cell.remaining(&line.limit, now);
        self.lines.iter().map(left).collect()
    }

    fn tell(&mut self, used: &dyn Fn(usize) -> Tokens) {
        let any = (0..self.lines.len()).any(|index| used(index) > Tokens::ZERO);
        let lines = self.lines.iter().enumerate();
        let lines = lines.filter_map(|(index, line)| line.told(used(index)));
        let id = std::mem::take(&mut self.id);
        if id != 0 {
            let lines: Vec<Line> = lines.collect();
            let answer = self.answer;
            self.redis.ledger.settle(Entry { id, answer, lines });
        } else if any {
            self.redis.ledger.add(lines);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.id != 0 {
            self.tell(&|_| Tokens::ZERO);
        }
    }
}

impl HeldLimit {
    /// What Redis is told of it; nothing where the call is no business of its counters.
    fn told(&self, used: Tokens) -> Option<Line> {
        let Held::Counted {
            refill,
            tokens,
            since,
        } = self.held
        else {
            return None;
        };
        let window = |quota: Quota| (since, quota.period().window(since.start()).until);
        Some(Line {
            key: self.key.clone(),
            held: refill,
            used: self.limit.rate().map(|rate| rate.cost(used)),
            held_tokens: tokens,
            used_tokens: used,
            window: self.limit.quota().map(window),
        })
    }
}
