//! `[backends.*.circuit-breaker]`: what trips it and for how long, with the defaults filled in.
//!
//! The reader knows which numbers are in range, and the rule's constructor knows it again: whatever that
//! refuses is told at the key that it is about.

use std::ops::RangeInclusive;
use std::time::Duration;

use filters::breaker::{Condition, FailureReasons, Failures, Rule, RuleError};
use filters::outcome::FailureReason;

use super::super::error::{Located, Place};
use super::super::file::backend::{CircuitBreaker, FailureCondition};
use super::statuses::statuses;
use super::{Loader, or};

/// The rule. None where a key is missing or wrong, which is reported.
pub(super) fn rule(loader: &Loader<'_>, file: &CircuitBreaker) -> Option<Rule> {
    let max_wait = max_wait(loader, file);
    let condition = file.failure_condition.as_ref()?;
    let ranges = condition.status_code_ranges.as_ref();
    let reasons = condition.error_reasons.as_deref().unwrap_or(&REASONS);
    let failures = Failures {
        statuses: statuses(loader, ranges, &STATUSES)?,
        reasons: FailureReasons::new(reasons.iter().copied()),
    };
    let interval = condition.interval.as_ref()?.value;
    let trip = file.trip_duration.as_ref()?.value;
    let made = Rule::new(how_many(condition)?, interval, failures, trip, max_wait);
    if let Err(error) = &made {
        let place = place(file, condition, *error);
        loader.findings.error(place, error.to_string());
    }
    made.ok()
}

/// None where the backend's own wait isn't accepted.
fn max_wait(loader: &Loader<'_>, file: &CircuitBreaker) -> Option<Duration> {
    let accepts = or(file.accept_retry_after.as_ref(), false);
    let most = file.max_retry_after.as_ref();
    if let (false, Some(most)) = (accepts, most) {
        let message = "max-retry-after has no effect without accept-retry-after = true";
        loader.findings.warn(&most.place, message);
    }
    accepts.then(|| or(most, MAX_RETRY_AFTER))
}

fn how_many(file: &FailureCondition) -> Option<Condition> {
    let number = |written: &Option<Located<u64>>| u32::try_from(written.as_ref()?.value).ok();
    if let Some(count) = number(&file.count) {
        return Some(Condition::Count(count));
    }
    Some(Condition::Percentage {
        percentage: number(&file.percentage)?,
        minimum_requests: number(&file.minimum_requests)?,
    })
}

/// Where to tell of an error: at its key, or at the table where the key isn't there.
fn place<'f>(
    file: &'f CircuitBreaker,
    condition: &'f FailureCondition,
    error: RuleError,
) -> &'f Place {
    let number = |written: &'f Option<Located<u64>>| written.as_ref().map(|number| &number.place);
    let spans = [
        &condition.interval,
        &file.trip_duration,
        &file.max_retry_after,
    ];
    let key = match error {
        RuleError::Count(_) => number(&condition.count),
        RuleError::Percentage(_) => number(&condition.percentage),
        RuleError::MinimumRequests => number(&condition.minimum_requests),
        RuleError::Span(wrong) => spans
            .into_iter()
            .flatten()
            .find(|span| span.value == wrong)
            .map(|span| &span.place),
        RuleError::NothingFails => None,
    };
    key.unwrap_or(&condition.place)
}

/// What a model's own trouble answers with. 408 is as likely the caller's.
const STATUSES: [RangeInclusive<u16>; 2] = [429..=429, 500..=599];
/// All of them: no answer is no answer.
const REASONS: [FailureReason; 3] = [
    FailureReason::Connect,
    FailureReason::Timeout,
    FailureReason::Reset,
];
/// A backend that asks for a day, as some have, would be out long after it is back.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::super::error::Findings;
    use super::super::super::file;
    use super::*;

    #[test]
    fn what_the_constructor_refuses_is_told_at_its_key() {
        let text = "[backends.b.circuit-breaker]\n\
                    trip-duration = \"2s\"\n\
                    max-retry-after = \"3s\"\n\
                    [backends.b.circuit-breaker.failure-condition]\n\
                    percentage = 5\nminimum-requests = 1\ninterval = \"1s\"\n";
        let findings = Findings::new(text);
        let file = file::read(&findings);
        let breaker = file.backends[0].circuit_breaker.as_ref().unwrap();
        let condition = breaker.failure_condition.as_ref().unwrap();
        for (error, key) in [
            (RuleError::Count(0), ""),
            (RuleError::Percentage(0), ".percentage"),
            (RuleError::MinimumRequests, ".minimum-requests"),
            (RuleError::Span(Duration::from_secs(1)), ".interval"),
            (RuleError::NothingFails, ""),
        ] {
            let expected = format!("backends.b.circuit-breaker.failure-condition{key}");
            assert_eq!(place(breaker, condition, error).path, expected);
        }
        for (seconds, key) in [(2, "trip-duration"), (3, "max-retry-after")] {
            let error = RuleError::Span(Duration::from_secs(seconds));
            let expected = format!("backends.b.circuit-breaker.{key}");
            assert_eq!(place(breaker, condition, error).path, expected);
        }
    }
}
