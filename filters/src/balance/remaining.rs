//! What a backend last said is left of its own limits, and whether a request fits in it.
//!
//! A backend that has just said that too little is left would answer 429: it is passed over until its
//! limit is reset, before it has to say so. What this gateway sends meanwhile is taken off, so that
//! many callers at once don't all spend the same rest; the next answer corrects it.
//!
//! It is a forecast, not a fact, and other callers of the backend are unknown to it: a member that is
//! passed over should still be tried before a request is refused. No reset, or none that makes sense,
//! is taken as ten seconds: providers judge in slices of one to ten. A longer one than a minute is
//! taken as a minute, after which one request asks again. It never trips anything.
//!
//! Each limit is one word, so it is read and changed without a lock: milliseconds of the reset above,
//! the amount below. A reset is rounded up to the millisecond; a rest of more than 134 million is kept as that many.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::expression::Headers;
use crate::retry_after::{self, Limit, Told};
use crate::time::Time;
use crate::units::Tokens;

/// How long a rest without a reset is believed.
const DEFAULT_RESET: Duration = Duration::from_secs(10);

/// The longest for which a backend is passed over on its word alone.
const MAX_RESET: Duration = Duration::from_secs(60);

/// Bytes of a body that are taken as one token. It is so for English text; JSON's own bytes make up for the rest.
const BYTES_A_TOKEN: u64 = 4;

/// A larger prompt is taken as one of this size: it is more likely to hold images than that much text, and a
/// request that is taken for too large would never see the backend that was paid for. Tokens.
const MAX_PROMPT: u64 = 65_536;

/// What is left of one backend's limits; nothing known is no bound.
#[derive(Debug, Default)]
pub struct Remaining {
    tokens: Rest,
    requests: Rest,
}

/// What a request will be charged for, roughly and without looking at its text: the body's length, and as much
/// as may be generated.
pub fn estimate(body_bytes: usize, max_completion_tokens: Option<u64>, choices: u64) -> Tokens {
    let prompt = (body_bytes as u64 / BYTES_A_TOKEN).min(MAX_PROMPT);
    let completion = max_completion_tokens.unwrap_or(0).saturating_mul(choices);
    Tokens::new(prompt.saturating_add(completion))
}

impl Remaining {
    /// Takes in an answer's `x-ratelimit-*`. A header that is absent or nonsense leaves what was known.
    pub fn read(&self, headers: &dyn Headers, now: Time) {
        let told = Told::read(headers);
        self.requests.read(&told.requests, now);
        self.tokens.read(&told.tokens, now);
    }

    /// True if a request of so many tokens fits, as far as is known.
    pub fn can_take(&self, estimate: Tokens, now: Time) -> bool {
        self.short_until(estimate, now).is_none()
    }

    /// When a request of so many tokens fits again; none if it fits now.
    pub fn short_until(&self, estimate: Tokens, now: Time) -> Option<Time> {
        let tokens = self.tokens.short_until(estimate.get(), now);
        tokens.max(self.requests.short_until(1, now))
    }

    /// Takes a request off that is sent now.
    pub fn take(&self, estimate: Tokens) {
        self.tokens.take(estimate.get());
        self.requests.take(1);
    }

    /// The tokens left, until their reset.
    pub fn tokens(&self, now: Time) -> Option<Tokens> {
        self.tokens.amount(now).map(Tokens::new)
    }

    /// The requests left, until their reset.
    pub fn requests(&self, now: Time) -> Option<u64> {
        self.requests.amount(now)
    }
}

/// The rest of one limit, in one word; zero is nothing known.
#[derive(Debug, Default)]
struct Rest(AtomicU64);

impl Rest {
    fn read(&self, told: &Limit<'_>, now: Time) {
        let Some(amount) = retry_after::text(told.remaining).and_then(amount) else {
            return;
        };
        let reset = retry_after::text(told.reset).and_then(retry_after::span);
        let reset = reset.unwrap_or(DEFAULT_RESET).min(MAX_RESET);
        let nanoseconds = u64::try_from(reset.as_nanos()).unwrap_or(u64::MAX);
        let at = now.plus_nanoseconds(nanoseconds).as_nanoseconds();
        let word = (at.div_ceil(MILLISECOND) << AMOUNT_BITS) | amount.min(MAX_AMOUNT);
        self.0.store(word, Ordering::Relaxed);
    }

    fn short_until(&self, needed: u64, now: Time) -> Option<Time> {
        let (amount, resets_at) = parts(self.0.load(Ordering::Relaxed));
        (now < resets_at && amount < needed).then_some(resets_at)
    }

    fn amount(&self, now: Time) -> Option<u64> {
        let (amount, resets_at) = parts(self.0.load(Ordering::Relaxed));
        (now < resets_at).then_some(amount)
    }

    fn take(&self, taken: u64) {
        let less = |word: u64| Some(word - taken.min(word & MAX_AMOUNT));
        // Never fails: `less` always gives a word.
        let _before = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

fn parts(word: u64) -> (u64, Time) {
    let resets_at = (word >> AMOUNT_BITS).saturating_mul(MILLISECOND);
    (word & MAX_AMOUNT, Time::from_nanoseconds(resets_at))
}

/// Some providers count below zero when they let a large request through.
fn amount(text: &str) -> Option<u64> {
    match text.strip_prefix('-') {
        Some(_) => Some(0),
        None => text.parse().ok(),
    }
}

/// The other 37 hold four years of milliseconds.
const AMOUNT_BITS: u32 = 27;
const MAX_AMOUNT: u64 = (1 << AMOUNT_BITS) - 1;
/// Nanoseconds.
const MILLISECOND: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_nanoseconds(5_000_000);

    fn remaining(headers: &[(&str, &str)]) -> Remaining {
        let remaining = Remaining::default();
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
        let rest = remaining(&[("x-ratelimit-remaining-tokens", "100")]);
        rest.take(Tokens::new(60));
        assert!(!rest.can_take(Tokens::new(41), NOW));
        assert!(rest.can_take(Tokens::new(40), NOW));
        let odd: &[(&str, &str)] = &[("x-ratelimit-remaining-tokens", "many")];
        rest.read(&odd, NOW);
        assert!(!rest.can_take(Tokens::new(41), NOW));
        assert!(rest.can_take(Tokens::new(41), after_ms(10_000)));
        assert!(remaining(&[]).can_take(Tokens::new(u64::MAX), NOW));
    }

    #[test]
    fn a_reset_is_believed_for_a_minute_and_is_never_told_too_early() {
        let daily = remaining(&[
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "8h"),
        ]);
        assert_eq!(daily.short_until(Tokens::ZERO, NOW), Some(after_ms(60_000)));
        let fine: &[(&str, &str)] = &[
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "0.0000001"),
        ];
        daily.read(&fine, after_ms(70_000));
        let one = Tokens::new(1);
        assert_eq!(
            daily.short_until(one, after_ms(70_000)),
            Some(after_ms(70_001))
        );
    }

    #[test]
    fn what_is_left_is_told_until_its_reset_and_kept_up_to_a_bound() {
        let rest = remaining(&[("x-ratelimit-remaining-tokens", "99999999999")]);
        assert_eq!(rest.tokens(NOW), Some(Tokens::new(MAX_AMOUNT)));
        assert_eq!(rest.requests(NOW), None);
        assert_eq!(rest.tokens(after_ms(10_000)), None);
        rest.take(Tokens::new(u64::MAX));
        assert_eq!(rest.tokens(NOW), Some(Tokens::ZERO));
        assert!(rest.can_take(Tokens::new(u64::MAX), after_ms(10_000)));
    }

    #[test]
    fn an_estimate_counts_the_body_and_what_may_be_generated() {
        assert_eq!(estimate(4_000, None, 1), Tokens::new(1_000));
        assert_eq!(estimate(4_000, Some(500), 2), Tokens::new(2_000));
        let images = estimate(30 << 20, Some(500), 1);
        assert_eq!(images, Tokens::new(MAX_PROMPT + 500));
        assert_eq!(estimate(8, Some(u64::MAX), 3), Tokens::new(u64::MAX));
    }
}
