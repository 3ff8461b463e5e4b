//! Several limits, taken all together or none.
//!
//! [`plan`] looks at every limit of a request and either says what to take from each, or why the request
//! is refused; it takes nothing itself. The store takes, and if another was quicker meanwhile it puts
//! back and plans again.
//!
//! **Who refuses.** A limit that could never give what is asked comes first, since waiting won't help.
//! Then quotas before rates, each in the order of the file: a spent month is told before a busy minute.
//! The wait is the longest of all that refuse, whichever is named, so a caller that waits as long as it was
//! told gets through.
//!
//! **A limit that only observes** decides as if it enforced: what it would refuse isn't taken from it
//! either, so its counters and its count of refusals are those of an enforced one.

use std::time::Duration;

use crate::units::Tokens;

use super::bucket::{Bucket, Refill, Verdict};
use super::quota::{Hour, Used};
use super::{Limit, Now};

/// Whether a limit's refusal counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The request is refused.
    Enforce,
    /// It is only told.
    Observe,
}

/// One limit's live state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Of its rate.
    pub bucket: Bucket,
    /// Of its quota.
    pub used: Used,
}

/// One limit of a request, as it stands.
#[derive(Clone, Copy, Debug)]
pub struct Check<'a> {
    /// The rule.
    pub limit: &'a Limit,
    /// What is held for the call; zero for nothing.
    pub amount: Tokens,
    /// Whether it enforces.
    pub mode: Mode,
    /// Its state now.
    pub cell: Cell,
}

/// What is held of one limit, to be settled or given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// This much, and the call counts.
    Counted {
        /// Of the rate.
        refill: Refill,
        /// Of the quota.
        tokens: Tokens,
        /// The quota's window that it is held in.
        since: Hour,
    },
    /// An observing limit would have refused: the call is no business of its counters.
    Skipped,
}

/// Which part of a limit refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The tokens per minute are used up.
    Rate,
    /// The quota is used up.
    Quota,
    /// Either could never give this much at once.
    TooLarge {
        /// Asked for.
        asked: Tokens,
        /// The most it ever gives.
        most: Tokens,
    },
}

/// A limit says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which of the request's limits, from 0.
    pub limit: usize,
    /// Why.
    pub reason: Reason,
    /// When to come back; `None` if waiting won't help.
    pub retry_after: Option<Duration>,
}

/// What a request takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Of each of its limits, in their order.
    pub held: Vec<Held>,
    /// Observing limits that would have refused it.
    pub would_refuse: Vec<Refused>,
}

/// What one limit has left, for the headers of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    /// Of the minute; `None` where there is no rate.
    pub tokens: Option<Tokens>,
    /// Until the bucket is full; zero where there is no rate.
    pub reset: Duration,
    /// Of the period; `None` where there is no quota.
    pub quota: Option<Tokens>,
}

/// Decides over all limits of a request.
///
/// # Errors
/// Why it is refused; nothing is to be taken then.
pub fn plan(checks: &[Check<'_>], now: Now) -> Result<Grant, Refused> {
    let mut refusals = Refusals::default();
    let mut grant = Grant {
        held: Vec::with_capacity(checks.len()),
        would_refuse: Vec::new(),
    };
    for (index, check) in checks.iter().enumerate() {
        let found = refusal(index, check, now);
        let (held, refused) = match (found, check.mode) {
            (None, Mode::Enforce | Mode::Observe) => (check.held(now), None),
            (Some(refused), Mode::Enforce) => (Held::Skipped, Some(refused)),
            (Some(refused), Mode::Observe) => {
                grant.would_refuse.push(refused);
                (Held::Skipped, None)
            }
        };
        grant.held.push(held);
        refusals.add(refused);
    }
    match refusals.told() {
        Some(refused) => Err(refused),
        None => Ok(grant),
    }
}

impl Check<'_> {
    /// What this limit holds for the call if it is admitted.
    pub fn held(&self, now: Now) -> Held {
        let rate = self.limit.rate();
        let since = self.limit.quota().map_or(Hour::from_number(0), |quota| {
            self.cell.used.in_window(quota.period(), now.unix).since
        });
        Held::Counted {
            refill: rate.map_or(Refill::ZERO, |rate| rate.cost(self.amount)),
            tokens: self.amount,
            since,
        }
    }
}

impl Cell {
    /// A limit that nobody has used.
    pub const UNUSED: Self = Cell {
        bucket: Bucket::FULL,
        used: Used::NOTHING,
    };

    /// The cell after `held` was taken.
    pub fn take(self, limit: &Limit, held: Held, now: Now) -> Self {
        let Held::Counted { refill, tokens, .. } = held else {
            return self;
        };
        let taken = |quota| self.used.take(quota, tokens, now.unix);
        Cell {
            bucket: self.bucket.take(refill, now.time),
            used: limit.quota().map_or(self.used, taken),
        }
    }

    /// The cell after what was held became what was used.
    pub fn settle(self, limit: &Limit, held: Held, used: Tokens, now: Now) -> Self {
        let Held::Counted {
            refill,
            tokens,
            since,
        } = held
        else {
            return self;
        };
        let bucket = limit.rate().map_or(self.bucket, |rate| {
            self.bucket.settle(refill, rate.cost(used), now.time)
        });
        let quota = limit
            .quota()
            .map_or(self.used, |_| self.used.settle(since, tokens, used));
        Cell {
            bucket,
            used: quota,
        }
    }

    /// What is left of the limit.
    pub fn remaining(self, limit: &Limit, now: Now) -> Remaining {
        let until_full = self.bucket.until_full(now.time).as_nanoseconds();
        Remaining {
            tokens: limit
                .rate()
                .map(|rate| self.bucket.available(rate, now.time)),
            reset: Duration::from_nanos(limit.rate().map_or(0, |_| until_full)),
            quota: limit.quota().map(|quota| self.used.left(quota, now.unix)),
        }
    }

    /// Whether forgetting it changes nothing: the bucket is full, and nothing is used of a window that
    /// isn't over.
    pub fn is_idle(self, limit: &Limit, now: Now) -> bool {
        let untouched = |quota: super::quota::Quota| {
            self.used.in_window(quota.period(), now.unix).tokens == Tokens::ZERO
        };
        self.bucket.until_full(now.time) == Refill::ZERO && limit.quota().is_none_or(untouched)
    }
}

/// Why one limit refuses, quota first.
fn refusal(index: usize, check: &Check<'_>, now: Now) -> Option<Refused> {
    let quota = check.limit.quota().map(|quota| {
        let verdict = check.cell.used.check(quota, check.amount, now.unix);
        (Reason::Quota, verdict, quota.tokens())
    });
    let rate = check.limit.rate().map(|rate| {
        let verdict = check.cell.bucket.check(rate, check.amount, now.time);
        (Reason::Rate, verdict, rate.tokens_per_minute())
    });
    let mut refusals = Refusals::default();
    for (reason, verdict, most) in quota.into_iter().chain(rate) {
        let asked = check.amount;
        let (reason, retry_after) = match verdict {
            Verdict::Admitted => continue,
            Verdict::Wait(wait) => (reason, Some(wait)),
            Verdict::Never => (Reason::TooLarge { asked, most }, None),
        };
        refusals.add(Some(Refused {
            limit: index,
            reason,
            retry_after,
        }));
    }
    refusals.told()
}

/// The refusals met so far: the first of each kind, and the longest wait.
#[derive(Default)]
struct Refusals {
    too_large: Option<Refused>,
    quota: Option<Refused>,
    rate: Option<Refused>,
    longest: Duration,
}

impl Refusals {
    fn add(&mut self, refused: Option<Refused>) {
        let Some(refused) = refused else { return };
        let kind = match refused.reason {
            Reason::TooLarge { .. } => &mut self.too_large,
            Reason::Quota => &mut self.quota,
            Reason::Rate => &mut self.rate,
        };
        kind.get_or_insert(refused);
        let wait = refused.retry_after.unwrap_or_default();
        self.longest = self.longest.max(wait);
    }

    fn told(&self) -> Option<Refused> {
        let longest = |refused| Refused {
            retry_after: Some(self.longest),
            ..refused
        };
        self.too_large
            .or_else(|| self.quota.or(self.rate).map(longest))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::limit::Hold;
    use crate::limit::bucket::Rate;
    use crate::limit::quota::{Period, Quota};
    use crate::time::{Time, UnixTime};

    use super::*;

    const NOW: Now = Now {
        time: Time::from_nanoseconds(5_000_000_000),
        unix: UnixTime::from_seconds(3_600 * 24 + 1_800),
    };

    fn rate(tokens: u64) -> Limit {
        Limit::new(Rate::new(tokens), None, Hold::Prompt).unwrap()
    }

    fn quota(tokens: u64) -> Limit {
        Limit::new(None, Quota::new(tokens, Period::Hourly), Hold::Prompt).unwrap()
    }

    fn check(limit: &Limit, amount: u64, used: u64) -> Check<'_> {
        let held = Held::Counted {
            refill: Refill::ZERO,
            tokens: Tokens::ZERO,
            since: Hour::of(NOW.unix),
        };
        Check {
            limit,
            amount: Tokens::new(amount),
            mode: Mode::Enforce,
            cell: Cell::UNUSED.settle(limit, held, Tokens::new(used), NOW),
        }
    }

    #[test]
    fn the_quota_is_told_before_the_rate_and_the_longest_wait_with_it() {
        let (busy, spent) = (rate(10), quota(100));
        let checks = [check(&busy, 1, 1_000), check(&spent, 1, 100)];
        let refused = plan(&checks, NOW).unwrap_err();
        assert_eq!((refused.limit, refused.reason), (1, Reason::Quota));
        assert_eq!(refused.retry_after, Some(Duration::from_secs(991 * 6)));
        let wait = refused.retry_after.unwrap();
        let later = Now {
            time: NOW
                .time
                .plus_nanoseconds(u64::try_from(wait.as_nanos()).unwrap()),
            unix: UnixTime::from_seconds(NOW.unix.as_seconds() + wait.as_secs()),
        };
        assert!(plan(&checks, later).is_ok());
    }

    #[test]
    fn what_can_never_be_given_is_told_first_and_without_a_wait() {
        let (small, spent) = (rate(10), quota(100));
        let checks = [check(&spent, 11, 100), check(&small, 11, 0)];
        let refused = plan(&checks, NOW).unwrap_err();
        assert_eq!(refused.limit, 1);
        assert_eq!(refused.retry_after, None);
        let (asked, most) = (Tokens::new(11), Tokens::new(10));
        assert_eq!(refused.reason, Reason::TooLarge { asked, most });
    }

    #[test]
    fn an_observing_limit_refuses_nothing_and_isnt_burdened_by_what_it_would_refuse() {
        let (spent, open) = (quota(100), rate(1_000));
        let mut observed = check(&spent, 10, 95);
        observed.mode = Mode::Observe;
        let grant = plan(&[observed, check(&open, 10, 0)], NOW).unwrap();
        assert_eq!(grant.held[0], Held::Skipped);
        assert!(matches!(grant.held[1], Held::Counted { .. }));
        assert_eq!(grant.would_refuse.len(), 1);
        assert_eq!(grant.would_refuse[0].reason, Reason::Quota);
        let after = observed.cell.take(&spent, grant.held[0], NOW);
        assert_eq!(
            after.settle(&spent, grant.held[0], Tokens::new(9), NOW),
            observed.cell
        );
    }

    #[test]
    fn held_then_settled_is_as_if_only_the_truth_was_taken() {
        let both = Limit::new(Rate::new(7), Quota::new(50, Period::Hourly), Hold::Prompt).unwrap();
        for (amount, used) in [(5, 3), (3, 5), (0, 40), (7, 0), (4, 4)] {
            let asked = check(&both, amount, 0);
            let grant = plan(&[asked], NOW).unwrap();
            let held = asked.cell.take(&both, grant.held[0], NOW);
            let settled = held.settle(&both, grant.held[0], Tokens::new(used), NOW);
            let left = settled.remaining(&both, NOW);
            assert_eq!(
                left.tokens,
                Some(Tokens::new(7).saturating_sub(Tokens::new(used)))
            );
            assert_eq!(left.quota, Some(Tokens::new(50 - used)));
            assert_eq!(settled.is_idle(&both, NOW), used == 0);
        }
    }
}
