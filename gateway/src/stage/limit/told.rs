//! What callers are told of their limits in an answer's head. Never decides.

use std::time::Duration;

use filters::limit::reservation::Remaining;
use filters::units::Tokens;
use http::{HeaderName, HeaderValue};

use crate::clock;
use crate::config::plan::TokenLimit;

/// Rounded up: who comes back then, gets through.
pub fn milliseconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// The configured names and the usual ones. Where two limits say the same, the one with less left is told.
pub fn fields<'l>(
    limits: impl Iterator<Item = &'l TokenLimit> + Clone,
    left: &[Remaining],
    consumed: Option<u64>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut told = Told(Vec::new());
    for (limit, left) in limits.clone().zip(left) {
        let names = &limit.headers;
        let tokens = left.tokens.map(Tokens::get);
        told.least(names.remaining_tokens.as_ref(), tokens);
        told.least(names.remaining_quota.as_ref(), left.quota.map(Tokens::get));
        told.least(names.consumed.as_ref(), consumed);
    }
    if let Some((left, limit, reset)) = usual(limits.clone(), left) {
        told.least(Some(&LIMIT_TOKENS), Some(limit.get()));
        told.least(Some(&REMAINING_TOKENS), Some(left.get()));
        if let Ok(value) = HeaderValue::try_from(reset_text(reset)) {
            told.0.push((RESET_TOKENS, value));
        }
    }
    told.warn(limits, left);
    told.0
}

/// What is left of how much until when, for the usual names: of the rate of which the least is left, and where there is
/// no rate, of such a quota.
fn usual<'l>(
    limits: impl Iterator<Item = &'l TokenLimit> + Clone,
    left: &[Remaining],
) -> Option<(Tokens, Tokens, Duration)> {
    let wanted = limits.zip(left).filter(|(limit, _)| limit.headers.standard);
    let rates = wanted.clone().filter_map(|(limit, left)| {
        let rate = limit.limit.rate()?;
        Some((left.tokens?, rate.tokens_per_minute(), left.reset))
    });
    let least = rates.min_by_key(|(left, ..)| *left);
    least.or_else(|| {
        let now = clock::unix_time();
        let quotas = wanted.filter_map(|(limit, left)| {
            let quota = limit.limit.quota()?;
            let ends = quota.period().window(now).until.start();
            let reset = Duration::from_secs(ends.seconds_since(now));
            Some((left.quota?, quota.tokens(), reset))
        });
        quotas.min_by_key(|(left, ..)| *left)
    })
}

/// Which budgets are nearly spent: `team-a-month; spent=82%`.
const BUDGET_WARNING: HeaderName = HeaderName::from_static("x-budget-warning");
const LIMIT_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-limit-tokens");
const REMAINING_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-remaining-tokens");
const RESET_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-reset-tokens");

struct Told(Vec<(HeaderName, HeaderValue)>);

impl Told {
    fn warn<'l>(&mut self, limits: impl Iterator<Item = &'l TokenLimit>, left: &[Remaining]) {
        let warning = |(limit, left): (&TokenLimit, &Remaining)| {
            let percent = limit.budget?.warns(left.quota?)?;
            Some(format!("{}; spent={percent}%", limit.name))
        };
        let warnings: Vec<String> = limits.zip(left).filter_map(warning).collect();
        if let (false, Ok(value)) = (
            warnings.is_empty(),
            HeaderValue::try_from(warnings.join(", ")),
        ) {
            self.0.push((BUDGET_WARNING, value));
        }
    }

    fn least(&mut self, name: Option<&HeaderName>, value: Option<u64>) {
        let (Some(name), Some(value)) = (name, value) else {
            return;
        };
        match self.0.iter_mut().find(|(told, _)| told == name) {
            None => self.0.push((name.clone(), HeaderValue::from(value))),
            Some((_, told)) => {
                let before: Option<u64> = told.to_str().ok().and_then(|text| text.parse().ok());
                if before.is_none_or(|before| value < before) {
                    *told = HeaderValue::from(value);
                }
            }
        }
    }
}

/// As OpenAI writes it: `20ms`, `1.5s`, `6m0s`, `1h0m0s`.
fn reset_text(reset: Duration) -> String {
    let all = milliseconds(reset);
    let (hours, minutes, rest) = (all / 3_600_000, all / 60_000 % 60, all % 60_000);
    match (hours, minutes, rest) {
        (0, 0, rest) if rest > 0 && rest < 1_000 => format!("{rest}ms"),
        (0, 0, rest) => format!("{}s", seconds(rest)),
        (0, minutes, rest) => format!("{minutes}m{}s", seconds(rest)),
        (hours, minutes, rest) => format!("{hours}h{minutes}m{}s", seconds(rest)),
    }
}

fn seconds(milliseconds: u64) -> String {
    match milliseconds % 1_000 {
        0 => format!("{}", milliseconds / 1_000),
        part => {
            let text = format!("{}.{part:03}", milliseconds / 1_000);
            text.trim_end_matches('0').to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_written_as_openai_writes_it() {
        let text = |milliseconds| reset_text(Duration::from_millis(milliseconds));
        assert_eq!(text(0), "0s");
        assert_eq!(text(20), "20ms");
        assert_eq!(text(1_500), "1.5s");
        assert_eq!(text(59_999), "59.999s");
        assert_eq!(text(360_000), "6m0s");
        assert_eq!(text(61_050), "1m1.05s");
        assert_eq!(text(3_600_000), "1h0m0s");
        assert_eq!(text(30 * 86_400_000 + 61_000), "720h1m1s");
    }

    #[test]
    fn of_two_limits_under_one_name_the_tighter_is_told() {
        let mut told = Told(Vec::new());
        let name = HeaderName::from_static("x-left");
        told.least(Some(&name), Some(7));
        told.least(Some(&name), Some(3));
        told.least(Some(&name), Some(5));
        assert_eq!(told.0, [(name, HeaderValue::from(3))]);
    }
}
