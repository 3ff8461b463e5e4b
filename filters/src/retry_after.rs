//! How long a backend asks to be left alone.
//!
//! One parser for all the ways this is written, the finest first: `retry-after-ms` and its older name; `Retry-After` in
//! seconds (a fraction is taken too) or as a date in HTTP's three forms; then
//! `x-ratelimit-reset-requests` and `-tokens`. A reset says when a limit is whole again, not that it
//! was hit: it counts only where its `x-ratelimit-remaining-*` is 0 (the longest of such), or, if
//! neither is 0, where that header is absent (the soonest, since it isn't known which limit was hit).
//!
//! What can't be meant (nonsense, no time at all, a date in the past, more than ten years) is as if
//! it weren't there, and the next way is tried. Nothing here is an error: a backend's odd header
//! mustn't cost an answer. It never caps what is asked: that is the breaker's.

use std::time::{Duration, SystemTime};

use crate::expression::Headers;
use crate::time::UnixTime;

/// More than this is a mistake or a date in the wrong unit.
const MAX_WAIT: Duration = Duration::from_secs(10 * 365 * 86_400);

/// No longer value means a time; a date has 29 to 35 bytes.
const MAX_VALUE_BYTES: usize = 64;

/// What an answer asks for, if it asks; never zero. Costs one pass over its fields and no allocation.
pub fn wait(headers: &dyn Headers, now: UnixTime) -> Option<Duration> {
    let told = Told::read(headers);
    milliseconds(&told)
        .or_else(|| seconds_or_date(&told, now))
        .or_else(|| reset(&told))
}

/// The fields of an answer that tell of its backend's limits, as they came; of several, the first.
#[derive(Debug, Default)]
pub(crate) struct Told<'h> {
    retry_after_ms: Option<&'h [u8]>,
    older_retry_after_ms: Option<&'h [u8]>,
    retry_after: Option<&'h [u8]>,
    pub requests: Limit<'h>,
    pub tokens: Limit<'h>,
}

/// What is told of one limit.
#[derive(Debug, Default)]
pub(crate) struct Limit<'h> {
    pub remaining: Option<&'h [u8]>,
    pub reset: Option<&'h [u8]>,
}

impl<'h> Told<'h> {
    pub(crate) fn read(headers: &'h dyn Headers) -> Self {
        let mut told = Told::default();
        headers.each(&mut |name, value| {
            let place = match name {
                "retry-after-ms" => &mut told.retry_after_ms,
                "x-ms-retry-after-ms" => &mut told.older_retry_after_ms,
                "retry-after" => &mut told.retry_after,
                "x-ratelimit-remaining-requests" => &mut told.requests.remaining,
                "x-ratelimit-reset-requests" => &mut told.requests.reset,
                "x-ratelimit-remaining-tokens" => &mut told.tokens.remaining,
                "x-ratelimit-reset-tokens" => &mut told.tokens.reset,
                _ => return,
            };
            place.get_or_insert(value);
        });
        told
    }
}

/// A span as limits write it: `22` (seconds), `1.5`, `120ms`, `6m0s`, `1h2m3s`. Zero is a span.
pub(crate) fn span(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut nanoseconds: u128 = 0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| c.is_ascii_alphabetic());
        let (amount, after) = rest.split_at(number.unwrap_or(rest.len()));
        let unit = after.find(|c: char| c.is_ascii_digit());
        let (unit, after) = after.split_at(unit.unwrap_or(after.len()));
        let unit = match unit {
            "" if rest.len() == text.len() => SECOND,
            _ => unit_nanoseconds(unit)?,
        };
        nanoseconds = nanoseconds.checked_add(scaled(amount, unit)?)?;
        rest = after;
    }
    let is_there = !text.is_empty() && nanoseconds <= MAX_WAIT.as_nanos();
    is_there
        .then(|| u64::try_from(nanoseconds).map(Duration::from_nanos))?
        .ok()
}

/// A field's value, if it is text and no longer than a time can be.
pub(crate) fn text(value: Option<&[u8]>) -> Option<&str> {
    let value = value?;
    let short = (value.len() <= MAX_VALUE_BYTES).then_some(value)?;
    std::str::from_utf8(short).ok().map(str::trim)
}

fn milliseconds(told: &Told<'_>) -> Option<Duration> {
    let read = |value| amount(text(value)?, MILLISECOND);
    read(told.retry_after_ms).or_else(|| read(told.older_retry_after_ms))
}

fn seconds_or_date(told: &Told<'_>, now: UnixTime) -> Option<Duration> {
    let value = text(told.retry_after)?;
    amount(value, SECOND).or_else(|| until_date(value, now))
}

fn until_date(value: &str, now: UnixTime) -> Option<Duration> {
    let date = httpdate::parse_http_date(value).ok()?;
    let seconds = date.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    let wait = UnixTime::from_seconds(seconds).seconds_since(now);
    asked(Duration::from_secs(wait))
}

fn reset(told: &Told<'_>) -> Option<Duration> {
    let (mut used_up, mut unknown) = (None, None);
    for limit in [&told.requests, &told.tokens] {
        let Some(wait) = text(limit.reset).and_then(span).and_then(asked) else {
            continue;
        };
        match text(limit.remaining).map(str::parse::<u64>) {
            Some(Ok(0)) => used_up = used_up.max(Some(wait)),
            Some(Ok(_)) => {}
            None | Some(Err(_)) => {
                unknown = Some(unknown.map_or(wait, |soonest: Duration| soonest.min(wait)));
            }
        }
    }
    used_up.or(unknown)
}

fn amount(text: &str, unit: u64) -> Option<Duration> {
    let nanoseconds = scaled(text, unit)?;
    asked(Duration::from_nanos(u64::try_from(nanoseconds).ok()?))
}

fn asked(wait: Duration) -> Option<Duration> {
    (!wait.is_zero() && wait <= MAX_WAIT).then_some(wait)
}

/// Digits, perhaps a point and more digits, in units of so many nanoseconds. Digits finer than a
/// billionth are read and left out.
fn scaled(text: &str, unit: u64) -> Option<u128> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let mut billionths: u64 = 0;
    if let Some(fraction) = fraction {
        digits(fraction)?;
        for at in 0..9 {
            let digit = fraction.as_bytes().get(at).map_or(0, |byte| byte - b'0');
            billionths = billionths * 10 + u64::from(digit);
        }
    }
    let whole: u64 = digits(whole)?.parse().ok()?;
    let unit = u128::from(unit);
    Some(u128::from(whole) * unit + u128::from(billionths) * unit / 1_000_000_000)
}

fn digits(text: &str) -> Option<&str> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(text)
}

fn unit_nanoseconds(unit: &str) -> Option<u64> {
    match unit {
        "ns" => Some(1),
        "us" => Some(1_000),
        "ms" => Some(MILLISECOND),
        "s" => Some(SECOND),
        "m" => Some(60 * SECOND),
        "h" => Some(3_600 * SECOND),
        "d" => Some(86_400 * SECOND),
        _ => None,
    }
}

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: [(&str, &str); 2] = [
        (
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-requests",
        ),
        ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ];
    use proptest::prelude::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT
    const EXAMPLE: u64 = 784_111_777;

    fn asks(headers: &[(&str, &str)]) -> Option<u128> {
        let now = UnixTime::from_seconds(EXAMPLE - 30);
        wait(&headers, now).map(|wait| wait.as_millis())
    }

    #[test]
    fn seconds_milliseconds_and_the_three_forms_of_a_date_are_read() {
        for (name, value, expected) in [
            ("retry-after", "5", Some(5_000)),
            ("retry-after", " 1.25 ", Some(1_250)),
            ("retry-after", "86400", Some(86_400_000)),
            ("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT", Some(30_000)),
            (
                "retry-after",
                "Sunday, 06-Nov-94 08:49:37 GMT",
                Some(30_000),
            ),
            ("retry-after", "Sun Nov  6 08:49:37 1994", Some(30_000)),
            ("retry-after", "Sun, 06 Nov 1994 08:49:07 GMT", None),
            ("retry-after-ms", "1500", Some(1_500)),
            ("x-ms-retry-after-ms", "1500", Some(1_500)),
            ("retry-after-ms", "0.5", Some(0)),
            ("retry-after-ms", "0", None),
            ("retry-after", "-1", None),
            ("retry-after", "1e3", None),
            ("retry-after", "soon", None),
            ("retry-after", "", None),
            ("retry-after", "NaN", None),
            ("retry-after", "5 s", None),
            ("retry-after", "315360001", None),
            ("retry-after", "99999999999999999999999", None),
            ("retry-after", "Sun, 06 Nov 2094 08:49:37 GMT", None),
        ] {
            assert_eq!(asks(&[(name, value)]), expected, "{name}: {value}");
        }
    }

    #[test]
    fn the_finest_that_makes_sense_decides() {
        let all = [("retry-after", "7"), ("retry-after-ms", "6500")];
        assert_eq!(asks(&all), Some(6_500));
        let odd = [("retry-after", "7"), ("retry-after-ms", "lots")];
        assert_eq!(asks(&odd), Some(7_000));
        let reset = [("retry-after", "0"), ("x-ratelimit-reset-tokens", "6m0s")];
        assert_eq!(asks(&reset), Some(360_000));
    }

    #[test]
    fn a_reset_counts_where_nothing_remains_or_nobody_says_what_does() {
        let both = |requests, tokens| {
            asks(&[
                ("x-ratelimit-remaining-requests", requests),
                ("x-ratelimit-reset-requests", "120ms"),
                ("x-ratelimit-remaining-tokens", tokens),
                ("x-ratelimit-reset-tokens", "1h2m3s"),
            ])
        };
        assert_eq!(both("0", "9"), Some(120));
        assert_eq!(both("9", "0"), Some(3_723_000));
        assert_eq!(both("0", "0"), Some(3_723_000));
        assert_eq!(both("9", "9"), None);
        let unknown = [
            ("x-ratelimit-reset-requests", "22"),
            ("x-ratelimit-reset-tokens", "7.66s"),
        ];
        assert_eq!(asks(&unknown), Some(7_660));
    }

    #[test]
    fn spans_need_a_unit_in_each_piece_but_for_bare_seconds() {
        for (text, expected) in [
            ("22", Some(22_000)),
            ("0s", Some(0)),
            ("1d", Some(86_400_000)),
            ("1m30", None),
            ("m", None),
            ("5x", None),
            ("5µs", None),
            ("1.2.3s", None),
            ("", None),
            ("20000000000h", None),
        ] {
            assert_eq!(span(text).map(|span| span.as_millis()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_wait_within_bounds_or_none(
            values in prop::collection::vec(
                prop::option::of(prop_oneof!["\\PC{0,80}", "[0-9.:hmsd -]{0,20}", "[A-Z][a-z]{2,5},? [0-9A-Za-z: -]{5,30}"]),
                6,
            ),
            now in any::<u64>(),
        ) {
            let names = [
                "retry-after", "retry-after-ms", LIMITS[0].0, LIMITS[0].1, LIMITS[1].0, LIMITS[1].1,
            ];
            let headers: Vec<(&str, &str)> = names
                .into_iter()
                .zip(&values)
                .filter_map(|(name, value)| Some((name, value.as_deref()?)))
                .collect();
            if let Some(wait) = wait(&headers.as_slice(), UnixTime::from_seconds(now)) {
                prop_assert!(!wait.is_zero() && wait <= MAX_WAIT);
            }
        }

        #[test]
        fn a_date_so_far_ahead_asks_for_that_long(seconds in 1_u64..300_000_000, now in 0_u64..4_000_000_000) {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(now + seconds);
            let date = httpdate::fmt_http_date(at);
            let headers: &[(&str, &str)] = &[("retry-after", &date)];
            prop_assert_eq!(wait(&headers, UnixTime::from_seconds(now)), Some(Duration::from_secs(seconds)));
        }
    }
}
