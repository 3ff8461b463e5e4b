//! What a backend last said is left of its own limits, and whether a request fits in it.
//!
//! A backend that has just said that too little is left would answer 429: it is passed over until its
//! limit is reset, before it has to say so. What this gateway sends meanwhile is taken off, so that
//! many callers at once don't all spend the same rest; the next answer corrects it.
//!
//! It is a forecast, not a fact, and other callers of the backend are unknown to it: a member that is
//! passed over should still be tried before a request is refused. No reset, or none that makes sense,
//! is taken as ten seconds: providers judge in slices of one to ten. It never trips anything.

use std::time::Duration;

use crate::expression::Headers;
use crate::retry_after;
use crate::time::Time;
use crate::units::Tokens;

/// How long a rest without a reset is believed.
const DEFAULT_RESET: Duration = Duration::from_secs(10);

/// The longest for which a backend is passed over on its word alone.
const MAX_RESET: Duration = Duration::from_secs(600);

/// What is left of one backend's limits; nothing known is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    tokens: Option<Rest>,
    requests: Option<Rest>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rest {
    amount: u64,
    resets_at: Time,
}

impl Remaining {
    /// Takes in an answer's `x-ratelimit-*`. A header that is absent or nonsense leaves what was known.
    pub fn read(&mut self, headers: &dyn Headers, now: Time) {
        let requests = (
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-requests",
        );
        let tokens = ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens");
        self.requests = rest(headers, requests, now).or(self.requests);
        self.tokens = rest(headers, tokens, now).or(self.tokens);
    }

    /// True if a request of so many tokens fits, as far as is known.
    pub fn can_take(&self, estimate: Tokens, now: Time) -> bool {
        self.short_until(estimate, now).is_none()
    }

    /// When a request of so many tokens fits again; none if it fits now.
    pub fn short_until(&self, estimate: Tokens, now: Time) -> Option<Time> {
        let short = |rest: Option<Rest>, needed: u64| {
            let rest = rest.filter(|rest| now < rest.resets_at && rest.amount < needed);
            rest.map(|rest| rest.resets_at)
        };
        short(self.tokens, estimate.get()).max(short(self.requests, 1))
    }

    /// Takes a request off that is sent now.
    pub fn take(&mut self, estimate: Tokens) {
        for (rest, amount) in [(&mut self.tokens, estimate.get()), (&mut self.requests, 1)] {
            if let Some(rest) = rest {
                rest.amount = rest.amount.saturating_sub(amount);
            }
        }
    }
}

fn rest(headers: &dyn Headers, (remaining, reset): (&str, &str), now: Time) -> Option<Rest> {
    let amount = retry_after::text(headers, remaining)?;
    // Some providers count below zero when they let a large request through.
    let amount = match amount.strip_prefix('-') {
        Some(_) => 0,
        None => amount.parse().ok()?,
    };
    let reset = retry_after::text(headers, reset).and_then(retry_after::span);
    let reset = reset.unwrap_or(DEFAULT_RESET).min(MAX_RESET);
    let nanoseconds = u64::try_from(reset.as_nanos()).unwrap_or(u64::MAX);
    Some(Rest {
        amount,
        resets_at: now.plus_nanoseconds(nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_nanoseconds(5);

    fn remaining(headers: &[(&str, &str)]) -> Remaining {
        let mut remaining = Remaining::default();
        remaining.read(&headers, NOW);
        remaining
    }

    fn after_ms(ms: u64) -> Time {
        NOW.plus_nanoseconds(ms * 1_000_000)
    }

    #[test]
    fn a_request_that_is_too_large_fits_again_at_the_reset_and_not_a_tick_before() {
        let rest = remaining(&[
            ("x-ratelimit-remaining-tokens", "100"),
            ("x-ratelimit-reset-tokens", "1.5s"),
        ]);
        assert!(rest.can_take(Tokens::new(100), NOW));
        let reset = after_ms(1_500);
        assert_eq!(rest.short_until(Tokens::new(101), NOW), Some(reset));
        let before = Time::from_nanoseconds(reset.as_nanoseconds() - 1);
        assert!(!rest.can_take(Tokens::new(101), before));
        assert!(rest.can_take(Tokens::new(101), reset));
    }

    #[test]
    fn requests_bound_too_and_the_later_of_both_resets_decides() {
        let rest = remaining(&[
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "20"),
            ("x-ratelimit-remaining-tokens", "-30"),
        ]);
        assert_eq!(rest.short_until(Tokens::ZERO, NOW), Some(after_ms(20_000)));
        let later = after_ms(20_000);
        assert!(rest.can_take(Tokens::new(1), later));
        assert!(!rest.can_take(Tokens::new(1), after_ms(9_999)));
    }

    #[test]
    fn what_is_sent_is_taken_off_and_nonsense_changes_nothing() {
        let mut rest = remaining(&[("x-ratelimit-remaining-tokens", "100")]);
        rest.take(Tokens::new(60));
        assert!(!rest.can_take(Tokens::new(41), NOW));
        assert!(rest.can_take(Tokens::new(40), NOW));
        let odd: &[(&str, &str)] = &[("x-ratelimit-remaining-tokens", "many")];
        rest.read(&odd, NOW);
        assert!(!rest.can_take(Tokens::new(41), NOW));
        assert!(rest.can_take(Tokens::new(41), after_ms(10_000)));
        assert!(remaining(&[]).can_take(Tokens::new(u64::MAX), NOW));
    }
}
