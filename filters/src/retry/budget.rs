//! How many retries a pool can afford, so that an outage doesn't multiply its own load.
//!
//! A balance: each request pays in a fifth of a retry, each retry takes a whole one. What was paid in
//! fades within a minute, so an hour's good traffic can't be spent in one outage; a minute rather than
//! the ten seconds usual elsewhere, since a model's first byte may take most of that, and whatever
//! waits for one when a backend dies should find its retry paid for. A quiet pool still gets ten a
//! second, up to a reserve of a hundred.
//!
//! So over any time retries are at most a fifth of its requests, ten for each of its seconds and what
//! stood there at its beginning; from a start: attempts <= 1.2 x requests + 10 x seconds + 100. Two words.

use crate::time::Time;

/// What a request adds, in hundredths of a retry.
pub const SHARE_PERCENT: u64 = 20;
/// How fast the reserve fills, whatever the traffic.
pub const FLOOR_PER_SECOND: u64 = 10;
/// What a pool begins with and a quiet one rises to: ten seconds of the floor.
pub const RESERVE: u64 = 100;
/// The time in which most of what lies above the reserve fades.
pub const MEMORY_SECONDS: u64 = 60;

/// One pool's retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// In millionths of a retry.
    balance: u64,
    at: Time,
}

impl Budget {
    /// A full reserve.
    pub fn new(now: Time) -> Self {
        Self {
            balance: RESERVE * RETRY,
            at: now,
        }
    }

    /// A request came in: once for each, not for its retries.
    pub fn deposit(&mut self, now: Time) {
        self.pass(now);
        self.balance = self.balance.saturating_add(SHARE_PERCENT * RETRY / 100);
    }

    /// Takes one retry, if there is one.
    pub fn withdraw(&mut self, now: Time) -> bool {
        self.pass(now);
        let rest = self.balance.checked_sub(RETRY);
        self.balance = rest.unwrap_or(self.balance);
        rest.is_some()
    }

    /// Fills or fades in whole steps, so that often asking loses nothing to rounding.
    fn pass(&mut self, now: Time) {
        let steps = now.nanoseconds_since(self.at) / STEP_NS;
        self.at = self.at.plus_nanoseconds(steps * STEP_NS);
        let reserve = RESERVE * RETRY;
        match self.balance.checked_sub(reserve) {
            Some(above) => {
                let faded = u128::from(above) * u128::from(steps.min(MEMORY_STEPS));
                let faded = u64::try_from(faded / u128::from(MEMORY_STEPS)).unwrap_or(above);
                self.balance -= faded;
            }
            None => {
                let filled = steps.saturating_mul(FLOOR_PER_SECOND * RETRY / STEPS_PER_SECOND);
                self.balance = self.balance.saturating_add(filled).min(reserve);
            }
        }
    }
}

/// One retry, in millionths.
const RETRY: u64 = 1_000_000;
const STEPS_PER_SECOND: u64 = 100;
const STEP_NS: u64 = 1_000_000_000 / STEPS_PER_SECOND;
const MEMORY_STEPS: u64 = MEMORY_SECONDS * STEPS_PER_SECOND;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at_ms(ms: u64) -> Time {
        Time::from_nanoseconds(ms * 1_000_000)
    }

    fn retries(budget: &mut Budget, now: Time) -> u64 {
        let mut count = 0;
        while budget.withdraw(now) {
            count += 1;
        }
        count
    }

    #[test]
    fn a_storm_gets_the_share_and_the_floor() {
        let mut budget = Budget::new(at_ms(0));
        let mut attempts = 0;
        for request in 0..10_000 {
            let now = at_ms(request);
            budget.deposit(now);
            attempts += 1 + u64::from(budget.withdraw(now)) + u64::from(budget.withdraw(now));
        }
        assert!(attempts <= 12_000 + 10 * FLOOR_PER_SECOND + RESERVE);
        assert!(12_000 < attempts, "{attempts}");
    }

    #[test]
    fn what_was_saved_fades_to_the_reserve() {
        let mut budget = Budget::new(at_ms(0));
        for _ in 0..10_000 {
            budget.deposit(at_ms(0));
        }
        assert_eq!(retries(&mut budget.clone(), at_ms(0)), RESERVE + 2_000);
        assert_eq!(retries(&mut budget.clone(), at_ms(30_000)), RESERVE + 1_000);
        assert_eq!(retries(&mut budget, at_ms(60_000)), RESERVE);
        assert_eq!(retries(&mut budget, at_ms(60_000)), 0);
        assert_eq!(retries(&mut budget, at_ms(61_000)), FLOOR_PER_SECOND);
    }

    proptest! {
        #[test]
        fn attempts_stay_within_requests_and_a_share_of_them_and_the_floor(
            steps in prop::collection::vec((0_u64..2_000, 0_u64..60, 0_u64..60), 1..200),
        ) {
            let mut budget = Budget::new(at_ms(0));
            let (mut ms, mut requests, mut attempts) = (0, 0, 0);
            for (step, arriving, wanted) in steps {
                ms += step;
                for _ in 0..arriving {
                    budget.deposit(at_ms(ms));
                    requests += 1;
                    attempts += 1;
                }
                for _ in 0..wanted {
                    attempts += u64::from(budget.withdraw(at_ms(ms)));
                }
                let most = 1_000 * (100 + SHARE_PERCENT) * requests / 100
                    + FLOOR_PER_SECOND * ms
                    + 1_000 * RESERVE;
                prop_assert!(1_000 * attempts <= most);
            }
        }
    }
}
