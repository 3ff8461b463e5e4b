//! Counters of this process: bounded, lock-free on the path.
//!
//! A request's limits are planned on what their words say, then taken one by one, each by one
//! compare-and-swap that checks again. If another thread was quicker and a limit is no longer enough, what
//! was taken already is put back and the plan is made anew, so a refusal always holds nothing.
//!
//! Idle counters go; one that holds debt or used quota never does. Where as many as may be are in use, a new
//! key is refused rather than a caller's debt forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use filters::limit::bucket::Refill;
use filters::limit::quota::Hour;
use filters::limit::reservation::{Cell, Check, Held, Refused as LimitRefused, Remaining, plan};
use filters::limit::{Limit, Now};
use filters::units::Tokens;

use super::counters::{Counter, Counters, Lost};
use super::standing::Fullest;
use super::{LimitRequest, Refused};
use crate::state::Registry;

/// Counters in use at once, over all policies. Some 150 bytes each.
pub const MAX_COUNTERS: usize = 1_000_000;

/// Where all counters are in use, they are looked through this often at most. Nanoseconds.
const SWEEP_PAUSE_NS: u64 = 1_000_000_000;

/// How often a plan that another thread overtook is made anew. Each time at least one other got on, so more
/// than a few are never seen.
const MAX_TRIES: usize = 100;

/// The counters by policy, then by key. Policies are bounded by the configurations ever loaded.
#[derive(Debug)]
pub struct Local {
    policies: Registry<String, Counters>,
    most: usize,
    swept_ns: AtomicU64,
}

/// What is held of this process's counters.
#[derive(Debug)]
pub struct Claim {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    counters: Arc<Counters>,
    counter: Arc<Counter>,
    limit: Limit,
    held: Held,
}

impl Default for Local {
    fn default() -> Self {
        Self::with_most(MAX_COUNTERS)
    }
}

impl Local {
    /// An empty store of at most so many counters.
    pub fn with_most(most: usize) -> Self {
        Local {
            policies: Registry::default(),
            most,
            swept_ns: AtomicU64::new(0),
        }
    }

    /// Takes from all limits, or from none.
    ///
    /// # Errors
    /// The refusal.
    pub fn reserve(
        &self,
        requests: &[LimitRequest<'_>],
        now: Now,
    ) -> Result<(Claim, Vec<LimitRefused>), Refused> {
        for _ in 0..MAX_TRIES {
            let mut lines = Vec::with_capacity(requests.len());
            let mut checks = Vec::with_capacity(requests.len());
            for (index, request) in requests.iter().enumerate() {
                let line = self.line(index, request, now)?;
                checks.push(Check {
                    limit: &request.limit,
                    amount: request.amount,
                    mode: request.mode,
                    cell: line.counter.cell(),
                });
                lines.push(line);
            }
            if lines.iter().any(|line| line.counter.is_dead()) {
                continue;
            }
            let grant = plan(&checks, now).map_err(|by| Refused::by(by, &checks, now))?;
            if let Ok(claim) = take(lines, requests, &grant.held, now) {
                return Ok((claim, grant.would_refuse));
            }
        }
        Err(Refused::Unavailable { limit: 0 })
    }

    /// What a limit has left; makes no counter.
    pub fn peek(&self, request: &LimitRequest<'_>, now: Now) -> Remaining {
        let counters = self.policies.find(request.policy);
        let counter = counters.and_then(|counters| counters.find(request.key));
        let cell = counter.map_or(Cell::UNUSED, |counter| counter.cell());
        cell.remaining(&request.limit, now)
    }

    /// The fullest counters of a policy. Looks at a bounded number of them.
    pub fn fullest(&self, policy: &str, limit: &Limit, now: Now, most: usize) -> Fullest {
        let counters = self.policies.find(policy);
        counters.map_or_else(Fullest::default, |counters| Fullest {
            counters: counters.len(),
            keys: counters.fullest(limit, now, most),
        })
    }

    /// Makes a counter stand as another store said.
    pub fn remember(&self, request: &LimitRequest<'_>, cell: Cell, now: Now) {
        if let Ok(line) = self.line(0, request, now) {
            line.counter.set(cell);
        }
    }

    /// Removes idle counters; how many there were.
    pub fn sweep(&self, now: Now) -> usize {
        let policies = self.policies.values();
        policies.iter().map(|counters| counters.sweep(now)).sum()
    }

    /// Counters in use.
    pub fn len(&self) -> usize {
        let policies = self.policies.values();
        policies.iter().map(|counters| counters.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn line(&self, index: usize, request: &LimitRequest<'_>, now: Now) -> Result<Line, Refused> {
        let counters = self.policies.entry(request.policy, Counters::default);
        counters.follow(&request.limit);
        let counter = match counters.find(request.key) {
            Some(counter) => counter,
            None if self.has_room(now) => counters.entry(request.key),
            None => return Err(Refused::Unavailable { limit: index }),
        };
        Ok(Line {
            counters,
            counter,
            limit: request.limit,
            held: Held::Skipped,
        })
    }

    fn has_room(&self, now: Now) -> bool {
        if self.len() < self.most {
            return true;
        }
        let last = self.swept_ns.load(Ordering::Relaxed);
        let next = now.time.as_nanoseconds();
        let due = next >= last.saturating_add(SWEEP_PAUSE_NS);
        let won = due
            && self
                .swept_ns
                .compare_exchange(last, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        won && self.sweep(now) > 0
    }
}

/// Takes line by line; a claim that holds less gives it back by being dropped.
fn take(
    lines: Vec<Line>,
    requests: &[LimitRequest<'_>],
    planned: &[Held],
    now: Now,
) -> Result<Claim, Lost> {
    let mut claim = Claim { lines };
    for (index, (request, plan)) in requests.iter().zip(planned).enumerate() {
        claim.lines[index].take(request, plan, now)?;
    }
    Ok(claim)
}

impl Line {
    fn take(&mut self, request: &LimitRequest<'_>, planned: &Held, now: Now) -> Result<(), Lost> {
        if *planned == Held::Skipped {
            return Ok(());
        }
        let limit = request.limit;
        let refill = match limit.rate() {
            Some(rate) => self.counter.take_rate(rate, request.amount, now)?,
            None => Refill::ZERO,
        };
        let since = match limit.quota() {
            Some(quota) => self.counter.take_quota(quota, request.amount, now),
            None => Ok(Hour::from_number(0)),
        };
        let Ok(since) = since else {
            // A dead counter has nothing to be given back to.
            let _ = self.counter.settle_rate(refill, Refill::ZERO, now);
            return Err(Lost);
        };
        self.held = Held::Counted {
            refill,
            tokens: request.amount,
            since,
        };
        Ok(())
    }

    /// Makes what is held what was used. A counter that went meanwhile had nothing on it: the usage goes to
    /// the one that is there now.
    fn settle(&mut self, used: Tokens, now: Now) {
        let Held::Counted {
            refill,
            tokens,
            since,
        } = self.held
        else {
            return;
        };
        self.held = Held::Skipped;
        if let Some(rate) = self.limit.rate() {
            let cost = rate.cost(used);
            while self.counter.settle_rate(refill, cost, now).is_err() {
                self.find_again();
            }
        }
        if self.limit.quota().is_some() {
            while self.counter.settle_quota(since, tokens, used).is_err() {
                self.find_again();
            }
        }
    }

    /// The counter's successor. Made outside the bound if need be: what was used is never forgotten.
    fn find_again(&mut self) {
        self.counter = self.counters.entry(self.counter.key());
    }
}

impl Claim {
    /// What each limit has left.
    pub fn remaining(&self, now: Now) -> Vec<Remaining> {
        let left = |line: &Line| line.counter.cell().remaining(&line.limit, now);
        self.lines.iter().map(left).collect()
    }

    /// Makes what is held what was used; what is left then.
    pub fn settle(self, used: Tokens, now: Now) -> Vec<Remaining> {
        self.settle_each(&|_| used, now)
    }

    /// As [`Claim::settle`], where the limits count different things.
    pub fn settle_each(mut self, used: &dyn Fn(usize) -> Tokens, now: Now) -> Vec<Remaining> {
        for (index, line) in self.lines.iter_mut().enumerate() {
            line.settle(used(index), now);
        }
        self.remaining(now)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let any = Now {
            time: filters::time::Time::from_nanoseconds(0),
            unix: filters::time::UnixTime::from_seconds(0),
        };
        for line in &mut self.lines {
            line.settle(Tokens::ZERO, any);
        }
    }
}
