//! What trips a breaker and for how long: the configured half, checked once when it is made.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::TripReason;
use super::window::Sums;
use crate::outcome::{FailureReason, Outcome};
use crate::status::StatusRanges;

/// The longest interval, trip and cap. A backend that is out for longer should be taken out.
pub const MAX_SPAN: Duration = Duration::from_secs(86_400);

/// Refusals of the credential in a row that trip, however many other failures the rule waits for: a
/// credential that was refused so often won't be taken next time.
const CREDENTIAL_REFUSALS: u32 = 3;

const COUNT: RangeInclusive<u32> = 1..=10_000;
const PERCENTAGE: RangeInclusive<u32> = 1..=100;

/// One backend's `circuit-breaker`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    condition: Condition,
    interval_ns: u64,
    failures: Failures,
    trip_ns: u64,
    /// The most of the backend's own wait that is believed; none of it if absent.
    max_wait_ns: Option<u64>,
}

/// How many failures are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// So many within the interval.
    Count(u32),
    /// This share of the calls within the interval.
    Percentage {
        /// From 1 to 100.
        percentage: u32,
        /// Fewer calls say nothing.
        minimum_requests: u32,
    },
}

/// What counts as a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failures {
    /// Answers.
    pub statuses: StatusRanges,
    /// Missing answers.
    pub reasons: FailureReasons,
}

/// Some of the reasons why no answer comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailureReasons {
    connect: bool,
    timeout: bool,
    reset: bool,
}

/// What an outcome says about the backend.
pub(super) enum Verdict {
    Good,
    Bad {
        reason: TripReason,
        wait: Option<Duration>,
    },
    /// The credential was refused.
    Refused,
    /// Nothing.
    None,
}

impl Rule {
    /// Makes a rule. `max_wait` is the cap on the backend's own wait, where that is accepted.
    ///
    /// # Errors
    /// [`RuleError`] for numbers out of range, and for a rule under which nothing is a failure.
    pub fn new(
        condition: Condition,
        interval: Duration,
        failures: Failures,
        trip: Duration,
        max_wait: Option<Duration>,
    ) -> Result<Self, RuleError> {
        condition.check()?;
        if failures.statuses.is_empty() && failures.reasons == FailureReasons::default() {
            return Err(RuleError::NothingFails);
        }
        Ok(Self {
            condition,
            interval_ns: span_ns(interval)?,
            failures,
            trip_ns: span_ns(trip)?,
            max_wait_ns: max_wait.map(span_ns).transpose()?,
        })
    }

    /// How many failures are too many.
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// Within which time.
    pub fn interval(&self) -> Duration {
        Duration::from_nanos(self.interval_ns)
    }

    /// What counts as one.
    pub fn failures(&self) -> &Failures {
        &self.failures
    }

    /// How long a trip lasts where the backend doesn't say.
    pub fn trip(&self) -> Duration {
        Duration::from_nanos(self.trip_ns)
    }

    /// The most of the backend's own wait that is believed, where that is accepted.
    pub fn max_wait(&self) -> Option<Duration> {
        self.max_wait_ns.map(Duration::from_nanos)
    }

    pub(super) fn interval_ns(&self) -> u64 {
        self.interval_ns
    }

    pub(super) fn longest_trip_ns(&self) -> u64 {
        self.trip_ns.max(self.max_wait_ns.unwrap_or(0))
    }

    /// How long a trip lasts; never zero, so that an open breaker has refused something.
    pub(super) fn trip_ns(&self, wait: Option<Duration>) -> u64 {
        match (wait, self.max_wait_ns) {
            (Some(wait), Some(most)) => nanoseconds(wait).clamp(1, most),
            (Some(_) | None, None) | (None, Some(_)) => self.trip_ns,
        }
    }

    pub(super) fn credential_refusals(&self) -> u32 {
        match self.condition {
            Condition::Count(count) => count.min(CREDENTIAL_REFUSALS),
            Condition::Percentage { .. } => CREDENTIAL_REFUSALS,
        }
    }

    pub(super) fn is_met(&self, sums: Sums) -> bool {
        match self.condition {
            Condition::Count(count) => count <= sums.failures,
            Condition::Percentage {
                percentage,
                minimum_requests,
            } => {
                let share = u64::from(sums.requests) * u64::from(percentage);
                minimum_requests <= sums.requests && share <= u64::from(sums.failures) * 100
            }
        }
    }

    pub(super) fn verdict(&self, outcome: &Outcome) -> Verdict {
        match *outcome {
            Outcome::Answered { status, wait } | Outcome::ErrorEvent { status, wait }
                if self.failures.statuses.contains(status) =>
            {
                let reason = match status {
                    429 => TripReason::Throttled,
                    _ => TripReason::Status,
                };
                Verdict::Bad { reason, wait }
            }
            Outcome::Failed(reason) if self.failures.reasons.contains(reason) => Verdict::Bad {
                reason: TripReason::from(reason),
                wait: None,
            },
            Outcome::EmptyStream => self.verdict(&Outcome::Failed(FailureReason::Reset)),
            Outcome::Answered { .. } | Outcome::ErrorEvent { .. } => Verdict::Good,
            Outcome::CredentialRefused => Verdict::Refused,
            Outcome::Failed(_)
            | Outcome::Stale
            | Outcome::CallersFault
            | Outcome::NoCredential
            | Outcome::NoVerdict => Verdict::None,
        }
    }
}

impl Condition {
    fn check(self) -> Result<(), RuleError> {
        match self {
            Self::Count(count) if !COUNT.contains(&count) => Err(RuleError::Count(count)),
            Self::Percentage { percentage, .. } if !PERCENTAGE.contains(&percentage) => {
                Err(RuleError::Percentage(percentage))
            }
            Self::Percentage {
                minimum_requests: 0,
                ..
            } => Err(RuleError::MinimumRequests),
            Self::Count(_) | Self::Percentage { .. } => Ok(()),
        }
    }
}

impl FailureReasons {
    /// These reasons; twice the same is once.
    pub fn new(reasons: impl IntoIterator<Item = FailureReason>) -> Self {
        let mut set = Self::default();
        for reason in reasons {
            match reason {
                FailureReason::Connect => set.connect = true,
                FailureReason::Timeout => set.timeout = true,
                FailureReason::Reset => set.reset = true,
            }
        }
        set
    }

    /// Those that are in it.
    pub fn iter(self) -> impl Iterator<Item = FailureReason> {
        let all = [
            FailureReason::Connect,
            FailureReason::Timeout,
            FailureReason::Reset,
        ];
        all.into_iter().filter(move |reason| self.contains(*reason))
    }

    fn contains(self, reason: FailureReason) -> bool {
        match reason {
            FailureReason::Connect => self.connect,
            FailureReason::Timeout => self.timeout,
            FailureReason::Reset => self.reset,
        }
    }
}

impl From<FailureReason> for TripReason {
    fn from(reason: FailureReason) -> Self {
        match reason {
            FailureReason::Connect => Self::Connect,
            FailureReason::Timeout => Self::Timeout,
            FailureReason::Reset => Self::Reset,
        }
    }
}

/// Why numbers make no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleError {
    /// A count that isn't from 1 to 10000.
    Count(u32),
    /// A percentage that isn't from 1 to 100.
    Percentage(u32),
    /// A percentage of no calls.
    MinimumRequests,
    /// A span of nothing, or longer than [`MAX_SPAN`].
    Span(Duration),
    /// Neither a status nor a reason is a failure.
    NothingFails,
}

impl fmt::Display for RuleError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(found) => {
                write!(formatter, "found a count of {found}, expected 1 to 10000")
            }
            Self::Percentage(found) => {
                write!(formatter, "found {found} percent, expected 1 to 100")
            }
            Self::MinimumRequests => {
                formatter.write_str("found minimum-requests of 0, expected at least 1")
            }
            Self::Span(found) => write!(
                formatter,
                "found a time of {found:?}, expected more than none and at most a day"
            ),
            Self::NothingFails => formatter
                .write_str("nothing would be a failure: give status-code-ranges or error-reasons"),
        }
    }
}

impl std::error::Error for RuleError {}

fn span_ns(span: Duration) -> Result<u64, RuleError> {
    if span.is_zero() || span > MAX_SPAN {
        return Err(RuleError::Span(span));
    }
    Ok(nanoseconds(span))
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
