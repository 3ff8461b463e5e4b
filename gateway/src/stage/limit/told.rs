//! What callers are told of their limits in an answer's head. Never decides.

use std::time::Duration;

use filters::limit::reservation::Remaining;
use filters::units::Tokens;
use http::{HeaderName, HeaderValue};

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
    let standard = limits.zip(left).filter_map(|(limit, left)| {
        let rate = limit.limit.rate()?;
        let wanted = limit.headers.standard;
        wanted.then_some((left.tokens?, rate.tokens_per_minute(), left.reset))
    });
    if let Some((tokens, limit, reset)) = standard.min_by_key(|(tokens, ..)| *tokens) {
        told.least(Some(&LIMIT_TOKENS), Some(limit.get()));
        told.least(Some(&REMAINING_TOKENS), Some(tokens.get()));
        if let Ok(value) = HeaderValue::try_from(reset_text(reset)) {
            told.0.push((RESET_TOKENS, value));
        }
    }
    told.0
}

const LIMIT_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-limit-tokens");
const REMAINING_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-remaining-tokens");
const RESET_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-reset-tokens");

struct Told(Vec<(HeaderName, HeaderValue)>);

impl Told {
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

/// As OpenAI writes it: `20ms`, `1.5s`, `6m0s`.
fn reset_text(reset: Duration) -> String {
    let all = milliseconds(reset);
    let (minutes, rest) = (all / 60_000, all % 60_000);
    match (minutes, rest) {
        (0, rest) if rest > 0 && rest < 1_000 => format!("{rest}ms"),
        (0, rest) => format!("{}s", seconds(rest)),
        (minutes, rest) => format!("{minutes}m{}s", seconds(rest)),
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
