//! Tokens per minute: a bucket that may go into debt, held as one word, the time at which it would be
//! full again.
//!
//! The bucket holds one minute's tokens and refills evenly. What a call costs is known only after its
//! answer, so the level may fall below zero: that debt is what a caller waits for. Ten tokens a minute
//! and one call of forty: the bucket is full again in 240 s, of which the last 60 s are above zero, so
//! the next call waits 180 s.
//!
//! Why a time and not a level: a level needs the moment at which it was true beside it. One word is
//! changed by one compare-and-swap, and passing time needs no write at all.
//!
//! **Rounding.** Tokens become nanoseconds rounded up, so the bucket never gives more than its rate, and
//! gives less by under one nanosecond a call. Products are 128 bits wide: nothing overflows.
//!
//! **A changed rate** leaves the word as it is: what was half full is half full, and who was told to
//! wait 30 s still waits 30 s. Replicas that reload one after the other can thus share a bucket.

use std::time::Duration;

use crate::time::Time;
use crate::units::Tokens;

/// The time that a bucket needs from empty to full.
pub const CAPACITY: Refill = Refill(60_000_000_000);

/// No bucket is further from full than 50 days. Beyond it a debt is cut: no caller waits for it, and
/// twice as many nanoseconds are still a whole number in a double (2^53 is 104 days), which is what
/// a shared store's scripts count in.
pub const FURTHEST: Refill = Refill(50 * 24 * 3_600 * 1_000_000_000);

/// Tokens per minute; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(u64);

/// The time, in nanoseconds, in which a bucket refills by some amount: tokens in the bucket's own measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refill(u64);

/// The cell: the time at which the bucket would be full again. In the past: it is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket(Time);

/// Whether a call may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Admitted,
    /// Not before this time has passed; exactly then, if nothing else is taken meanwhile.
    Wait(Duration),
    /// It asks for more than the limit ever gives at once.
    Never,
}

impl Rate {
    /// So many tokens per minute; `None` for zero.
    pub const fn new(tokens_per_minute: u64) -> Option<Self> {
        match tokens_per_minute {
            0 => None,
            some => Some(Rate(some)),
        }
    }

    /// The number itself.
    pub const fn tokens_per_minute(self) -> Tokens {
        Tokens::new(self.0)
    }

    /// One of `replicas` equal parts, rounded down, at least one token.
    pub fn share(self, replicas: u64) -> Self {
        Rate((self.0 / replicas.max(1)).max(1))
    }

    /// The time in which so many tokens flow in, rounded up; at most [`FURTHEST`].
    pub fn cost(self, tokens: Tokens) -> Refill {
        let product = u128::from(tokens.get()) * u128::from(CAPACITY.0);
        let nanoseconds = product.div_ceil(u128::from(self.0));
        Refill(u64::try_from(nanoseconds).unwrap_or(u64::MAX)).min(FURTHEST)
    }

    /// What is left for a caller to see when the bucket is this far from full: whole tokens, never
    /// below zero. A microsecond is added first (half a token's time, if that is less), to make up for
    /// costs that were rounded up: at 7,000 a minute 6,941 are left after 59, not 6,940 and a bit.
    pub fn left(self, until_full: Refill) -> Tokens {
        let rounding = (CAPACITY.0 / 2 / self.0).min(1_000);
        let missing = until_full.0.saturating_sub(rounding);
        let level = CAPACITY.0.saturating_sub(missing);
        let tokens = u128::from(level) * u128::from(self.0) / u128::from(CAPACITY.0);
        Tokens::new(u64::try_from(tokens).unwrap_or(u64::MAX))
    }
}

impl Refill {
    /// No time.
    pub const ZERO: Self = Self(0);

    /// So many nanoseconds; at most [`FURTHEST`].
    pub fn from_nanoseconds(nanoseconds: u64) -> Self {
        Refill(nanoseconds).min(FURTHEST)
    }

    /// The number itself.
    pub const fn as_nanoseconds(self) -> u64 {
        self.0
    }
}

impl Bucket {
    /// A bucket that was full when its clock began.
    pub const FULL: Self = Self(Time::from_nanoseconds(0));

    /// The cell that this word holds.
    pub const fn from_word(word: u64) -> Self {
        Bucket(Time::from_nanoseconds(word))
    }

    /// The word that holds this cell.
    pub const fn word(self) -> u64 {
        self.0.as_nanoseconds()
    }

    /// A bucket that needs so long from `now` until it is full.
    pub fn full_in(until_full: Refill, now: Time) -> Self {
        Bucket(now.plus_nanoseconds(until_full.0))
    }

    /// The time until it is full.
    pub fn until_full(self, now: Time) -> Refill {
        Refill(self.0.nanoseconds_since(now))
    }

    /// Whole tokens left, never below zero.
    pub fn available(self, rate: Rate, now: Time) -> Tokens {
        rate.left(self.until_full(now))
    }

    /// Whether a call that holds `amount` may pass. With no amount: whether the bucket isn't in debt.
    pub fn check(self, rate: Rate, amount: Tokens, now: Time) -> Verdict {
        if amount > rate.tokens_per_minute() {
            return Verdict::Never;
        }
        let needed = self.until_full(now).0.saturating_add(rate.cost(amount).0);
        match needed.saturating_sub(CAPACITY.0) {
            0 => Verdict::Admitted,
            missing => Verdict::Wait(Duration::from_nanos(missing)),
        }
    }

    /// The bucket after `cost` was taken, whether it was there or not.
    pub fn take(self, cost: Refill, now: Time) -> Self {
        let until_full = self.until_full(now).0.saturating_add(cost.0);
        Self::full_in(Refill(until_full).min(FURTHEST), now)
    }

    /// The bucket after `cost` was given back. More than was missing is lost: no bucket is fuller than full.
    pub fn give_back(self, cost: Refill) -> Self {
        Bucket(Time::from_nanoseconds(self.word().saturating_sub(cost.0)))
    }

    /// The bucket after what was held became what was used.
    pub fn settle(self, held: Refill, used: Refill, now: Time) -> Self {
        match used.0.checked_sub(held.0) {
            Some(0) => self,
            Some(more) => self.take(Refill(more), now),
            None => self.give_back(Refill(held.0 - used.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const START: Time = Time::from_nanoseconds(1_000_000_000_000);

    fn rate(tokens_per_minute: u64) -> Rate {
        Rate::new(tokens_per_minute).unwrap()
    }

    fn after(wait: Duration) -> Time {
        START.plus_nanoseconds(u64::try_from(wait.as_nanos()).unwrap())
    }

    #[test]
    fn one_call_of_forty_at_ten_a_minute_makes_the_next_wait_three_minutes() {
        let rate = rate(10);
        let bucket = Bucket::FULL.take(rate.cost(Tokens::new(40)), START);
        let wait = Duration::from_secs(180);
        let check = |now| bucket.check(rate, Tokens::ZERO, now);
        assert_eq!(check(START), Verdict::Wait(wait));
        assert_eq!(check(after(wait)), Verdict::Admitted);
        let tick = Duration::from_nanos(1);
        assert_eq!(check(after(wait - tick)), Verdict::Wait(tick));
        let second = Duration::from_secs(1);
        assert_eq!(check(after(wait - second)), Verdict::Wait(second));
    }

    #[test]
    fn a_full_bucket_gives_its_minute_at_once_and_never_more() {
        for tokens in [1, 7, 13, 999, 1_000, 70_000_000] {
            let rate = rate(tokens);
            let full = Tokens::new(tokens);
            assert_eq!(Bucket::FULL.check(rate, full, START), Verdict::Admitted);
            let over = full.saturating_add(Tokens::new(1));
            assert_eq!(Bucket::FULL.check(rate, over, START), Verdict::Never);
            let empty = Bucket::FULL.take(rate.cost(full), START);
            assert_eq!(empty.available(rate, START), Tokens::ZERO);
            assert_eq!(empty.check(rate, Tokens::ZERO, START), Verdict::Admitted);
            assert!(matches!(
                empty.check(rate, Tokens::new(1), START),
                Verdict::Wait(_)
            ));
        }
    }

    #[test]
    fn what_is_shown_as_left_doesnt_suffer_from_rounding() {
        for (limit, used) in [(7_000, 59), (7, 1), (1_100, 33), (999_983, 1)] {
            let rate = rate(limit);
            let bucket = Bucket::FULL.take(rate.cost(Tokens::new(used)), START);
            assert_eq!(bucket.available(rate, START), Tokens::new(limit - used));
        }
    }

    #[test]
    fn a_changed_rate_keeps_waits_and_shares() {
        let (slow, fast) = (rate(10), rate(1_000));
        let debt = Bucket::FULL.take(slow.cost(Tokens::new(40)), START);
        assert_eq!(
            debt.check(slow, Tokens::ZERO, START),
            debt.check(fast, Tokens::ZERO, START)
        );
        let half = Bucket::FULL.take(slow.cost(Tokens::new(5)), START);
        assert_eq!(half.available(fast, START), Tokens::new(500));
    }

    #[test]
    fn an_invented_usage_neither_wraps_nor_locks_a_bucket_for_ever() {
        let rate = rate(1);
        let bucket = Bucket::FULL
            .take(rate.cost(Tokens::new(u64::MAX)), START)
            .take(rate.cost(Tokens::new(u64::MAX)), START);
        assert_eq!(bucket.until_full(START), FURTHEST);
    }
}
