//! What follows an attempt: another one, elsewhere or at the same backend, or the end.
//!
//! Nothing is tried again once the caller has the first byte or has gone, beyond the pool's count, or
//! beyond the [`Budget`] that it shares. Elsewhere comes first. The same member is tried again only
//! where no other is left and it didn't ask to wait, and once for a stale pooled connection, which is
//! no attempt: nothing has reached the backend. A pool of one has no elsewhere: its member isn't asked twice.
//!
//! Where nothing can follow, the last answer is passed on unchanged, but for two cases in which it
//! would mislead: a server's error after a failover, and 429 when every member is out (another may be
//! back sooner than the last one asks). Then [`exhausted`] says what the caller is told. An error that
//! came as a stream's first event says more than we could: the last one is passed on. The only
//! member of a pool speaks for itself: its answer is always passed on. 409 is tried elsewhere when it
//! comes with a wait, as its senders mean it. It never waits between attempts: those who ask for time
//! are left alone by their breaker.

mod budget;

use std::time::Duration;

pub use budget::{Budget, FLOOR_PER_SECOND, MEMORY_SECONDS, RESERVE, SHARE_PERCENT};

use crate::outcome::{FailureReason, Outcome};
use crate::refusal::Refusal;
use crate::status::StatusRanges;
use crate::time::Time;

/// One pool's `retry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Further attempts after the first.
    pub count: u32,
    /// Which answers are tried again.
    pub statuses: StatusRanges,
}

/// How far a request has come when an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoFar {
    /// Attempts that have ended, with this one; stale connections aside.
    pub attempts: u32,
    /// How often this attempt's connection was stale before.
    pub stale: u32,
    /// Members of the pool, or 1 where the request belongs to one of them.
    pub members: usize,
    /// Who could be tried next.
    pub left: Left,
    /// What the caller has.
    pub caller: Caller,
}

/// Who could be tried next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// A member that is usable and wasn't tried in this request.
    Another,
    /// Only the one that was tried last, and its breaker lets it.
    Same,
    /// Nobody.
    Nobody,
}

/// What the caller has of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nothing, and waits.
    Waits,
    /// The first byte.
    HasFirstByte,
    /// It left.
    Gone,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A member that wasn't tried yet.
    Elsewhere(Why),
    /// The same member, over a new connection.
    SameAgain(Why),
    /// The answer goes to the caller as it is.
    PassOn,
    /// There is no answer worth passing on: [`exhausted`] says what is told.
    Refuse,
    /// Nothing can be told any more.
    GiveUp,
}

/// Why it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// 429.
    Throttled,
    /// Another status.
    Status,
    /// No answer.
    Failed(FailureReason),
    /// A stream that began with an error, or ended before it said anything.
    FirstEvent,
    /// A pooled connection that was closed meanwhile.
    Stale,
    /// No token to show to the backend.
    NoCredential,
}

/// How a member of the pool ended up for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is out because of 429, or said so just now.
    Throttled {
        /// Until it is back, if known.
        wait: Option<Duration>,
    },
    /// It is out for another reason, or failed just now.
    Unavailable {
        /// Until it is back, if a breaker knows.
        wait: Option<Duration>,
    },
    /// Its first byte was late just now.
    TimedOut,
}

impl Rule {
    /// What follows an attempt that ended so. Takes one retry from the budget if that is another attempt.
    pub fn next(&self, outcome: &Outcome, so_far: SoFar, budget: &mut Budget, now: Time) -> Next {
        if so_far.caller != Caller::Waits {
            return Next::GiveUp;
        }
        let trouble = match self.trouble(outcome, so_far) {
            Judgement::Fine => return Next::PassOn,
            Judgement::NobodyWaits => return Next::GiveUp,
            Judgement::OnlyStale => return Next::SameAgain(Why::Stale),
            Judgement::Trouble(trouble) => trouble,
        };
        let further = match so_far.left {
            Left::Another => Some(Next::Elsewhere(trouble.why)),
            Left::Same if trouble.may_repeat && so_far.members > 1 => {
                Some(Next::SameAgain(trouble.why))
            }
            Left::Same | Left::Nobody => None,
        };
        match further {
            Some(next) if so_far.attempts <= self.count && budget.withdraw(now) => next,
            Some(_) | None => trouble.last_word(so_far),
        }
    }

    fn trouble(&self, outcome: &Outcome, so_far: SoFar) -> Judgement {
        match *outcome {
            Outcome::Answered { status, wait } => {
                let asks_again = status == 409 && wait.is_some();
                if !asks_again && !self.statuses.contains(status) {
                    return Judgement::Fine;
                }
                Judgement::Trouble(Trouble {
                    why: match status {
                        429 => Why::Throttled,
                        _ => Why::Status,
                    },
                    may_repeat: status != 429 && wait.is_none(),
                    answer: match status {
                        429 => Answer::Throttled,
                        500..=599 => Answer::ServerError,
                        _ => Answer::Other,
                    },
                })
            }
            Outcome::ErrorEvent { status, .. } if !self.statuses.contains(status) => {
                Judgement::Fine
            }
            Outcome::ErrorEvent { wait, .. } => Judgement::Trouble(Trouble {
                why: Why::FirstEvent,
                may_repeat: wait.is_none(),
                answer: Answer::Other,
            }),
            Outcome::EmptyStream => Judgement::Trouble(Trouble {
                why: Why::FirstEvent,
                ..Trouble::failed(FailureReason::Reset)
            }),
            Outcome::Failed(reason) => Judgement::Trouble(Trouble::failed(reason)),
            Outcome::Stale if so_far.stale == 0 => Judgement::OnlyStale,
            Outcome::Stale => Judgement::Trouble(Trouble::failed(FailureReason::Reset)),
            Outcome::CallersFault | Outcome::CredentialRefused => Judgement::Fine,
            Outcome::NoCredential => Judgement::Trouble(Trouble {
                why: Why::NoCredential,
                may_repeat: false,
                answer: Answer::Missing,
            }),
            Outcome::NoVerdict => Judgement::NobodyWaits,
        }
    }
}

impl Why {
    /// The word in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Status => "status",
            Self::Failed(reason) => reason.label(),
            Self::FirstEvent => "first_event",
            Self::Stale => "stale",
            Self::NoCredential => "no_credential",
        }
    }
}

/// What the caller is told when no member can serve it: `ends` has one for each, in any order, with the
/// last attempt's at the end.
pub fn exhausted(ends: &[End]) -> Refusal {
    if ends.last() == Some(&End::TimedOut) {
        return Refusal::BackendTimeout;
    }
    let is_throttled = |end: &End| matches!(end, End::Throttled { .. });
    let retry_after_ms = ends
        .iter()
        .filter_map(|end| end.wait())
        .min()
        .map(|wait| u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX));
    if !ends.is_empty() && ends.iter().all(is_throttled) {
        return Refusal::BackendsThrottled { retry_after_ms };
    }
    Refusal::NoBackendAvailable { retry_after_ms }
}

impl End {
    fn wait(&self) -> Option<Duration> {
        match *self {
            Self::Throttled { wait } | Self::Unavailable { wait } => wait,
            Self::TimedOut => None,
        }
    }
}

enum Judgement {
    /// An answer that isn't tried again.
    Fine,
    NobodyWaits,
    OnlyStale,
    Trouble(Trouble),
}

struct Trouble {
    why: Why,
    /// Whether the same member may be asked again at once.
    may_repeat: bool,
    answer: Answer,
}

/// What there is to pass on.
enum Answer {
    Throttled,
    ServerError,
    Other,
    Missing,
}

impl Trouble {
    fn failed(reason: FailureReason) -> Self {
        Self {
            why: Why::Failed(reason),
            // A second wait for a first byte may be minutes, and the caller has had one.
            may_repeat: reason != FailureReason::Timeout,
            answer: Answer::Missing,
        }
    }

    fn last_word(&self, so_far: SoFar) -> Next {
        let is_alone = so_far.members == 1;
        let has_more = so_far.left == Left::Another;
        let is_passed_on = match self.answer {
            Answer::Throttled => is_alone || has_more,
            Answer::ServerError => is_alone || (has_more && so_far.attempts == 1),
            Answer::Other => true,
            Answer::Missing => false,
        };
        if is_passed_on {
            Next::PassOn
        } else {
            Next::Refuse
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::outcome::Credential;

    const NOW: Time = Time::from_nanoseconds(1);

    const FIRST: SoFar = SoFar {
        attempts: 1,
        stale: 0,
        members: 3,
        left: Left::Another,
        caller: Caller::Waits,
    };

    fn next(outcome: Outcome, so_far: SoFar) -> Next {
        let statuses = StatusRanges::new([408..=408, 429..=429, 499..=599]).unwrap();
        let rule = Rule { count: 2, statuses };
        rule.next(&outcome, so_far, &mut Budget::new(NOW), NOW)
    }

    fn answered(status: u16) -> Outcome {
        Outcome::Answered { status, wait: None }
    }

    #[test]
    fn the_response_matrix_holds_while_another_member_is_left() {
        use FailureReason::{Connect, Reset, Timeout};
        for status in [200, 302, 409, 422] {
            assert_eq!(next(answered(status), FIRST), Next::PassOn, "{status}");
        }
        for status in [408, 499, 500, 502, 503, 504] {
            let elsewhere = Next::Elsewhere(Why::Status);
            assert_eq!(next(answered(status), FIRST), elsewhere, "{status}");
        }
        let throttled = Next::Elsewhere(Why::Throttled);
        assert_eq!(next(answered(429), FIRST), throttled);
        let wait = Some(Duration::from_secs(1));
        let conflict = Outcome::Answered { status: 409, wait };
        assert_eq!(next(conflict, FIRST), Next::Elsewhere(Why::Status));
        assert_eq!(next(Outcome::CallersFault, FIRST), Next::PassOn);
        assert_eq!(next(Outcome::CredentialRefused, FIRST), Next::PassOn);
        for reason in [Connect, Reset, Timeout] {
            let elsewhere = Next::Elsewhere(Why::Failed(reason));
            assert_eq!(next(Outcome::Failed(reason), FIRST), elsewhere);
        }
        assert_eq!(next(Outcome::NoVerdict, FIRST), Next::GiveUp);
    }

    #[test]
    fn when_attempts_run_out_the_last_answer_is_passed_on_but_for_a_servers_error() {
        let last = SoFar {
            attempts: 3,
            ..FIRST
        };
        assert_eq!(next(answered(408), last), Next::PassOn);
        assert_eq!(next(answered(429), last), Next::PassOn);
        assert_eq!(next(answered(499), last), Next::PassOn);
        assert_eq!(next(answered(500), last), Next::Refuse);
        let failed = Outcome::Failed(FailureReason::Connect);
        assert_eq!(next(failed, last), Next::Refuse);
    }

    #[test]
    fn when_members_run_out_429_and_5xx_are_refused_and_the_rest_is_passed_on() {
        let nobody = SoFar {
            left: Left::Nobody,
            ..FIRST
        };
        assert_eq!(next(answered(429), nobody), Next::Refuse);
        assert_eq!(next(answered(503), nobody), Next::Refuse);
        assert_eq!(next(answered(408), nobody), Next::PassOn);
    }

    #[test]
    fn the_only_member_speaks_for_itself_and_is_asked_once() {
        let alone = SoFar {
            members: 1,
            left: Left::Same,
            ..FIRST
        };
        assert_eq!(next(answered(500), alone), Next::PassOn);
        assert_eq!(next(answered(429), alone), Next::PassOn);
        let wait = Some(Duration::from_secs(1));
        let busy = Outcome::Answered { status: 503, wait };
        assert_eq!(next(busy, alone), Next::PassOn);
        let late = Outcome::Failed(FailureReason::Timeout);
        assert_eq!(next(late, alone), Next::Refuse);
    }

    #[test]
    fn the_last_member_left_is_asked_again_unless_it_wants_time() {
        let last = SoFar {
            left: Left::Same,
            ..FIRST
        };
        assert_eq!(next(answered(500), last), Next::SameAgain(Why::Status));
        let wait = Some(Duration::from_secs(1));
        let busy = Outcome::Answered { status: 503, wait };
        assert_eq!(next(busy, last), Next::Refuse);
    }

    #[test]
    fn a_stale_connection_is_replaced_once_and_then_is_a_reset() {
        let spent = SoFar {
            attempts: 3,
            ..FIRST
        };
        assert_eq!(next(Outcome::Stale, spent), Next::SameAgain(Why::Stale));
        let twice = SoFar { stale: 1, ..FIRST };
        let elsewhere = Next::Elsewhere(Why::Failed(FailureReason::Reset));
        assert_eq!(next(Outcome::Stale, twice), elsewhere);
    }

    #[test]
    fn nothing_follows_for_a_caller_who_left_or_has_the_first_byte() {
        for caller in [Caller::Gone, Caller::HasFirstByte] {
            let so_far = SoFar { caller, ..FIRST };
            let reset = Outcome::Failed(FailureReason::Reset);
            assert_eq!(next(reset, so_far), Next::GiveUp);
        }
    }

    #[test]
    fn a_stream_that_begins_badly_goes_elsewhere_and_the_last_error_is_passed_on() {
        let error = |status| Outcome::of_error_event(status, None, Credential::Gateway);
        let last = SoFar {
            attempts: 3,
            ..FIRST
        };
        let elsewhere = Next::Elsewhere(Why::FirstEvent);
        assert_eq!(next(error(500), FIRST), elsewhere);
        assert_eq!(next(error(500), last), Next::PassOn);
        assert_eq!(next(error(429), FIRST), Next::Elsewhere(Why::Throttled));
        let nobody = SoFar {
            left: Left::Nobody,
            ..FIRST
        };
        assert_eq!(next(error(503), nobody), Next::PassOn);
        assert_eq!(next(error(429), nobody), Next::Refuse, "as the answer 429");
        assert_eq!(next(Outcome::EmptyStream, FIRST), elsewhere);
        assert_eq!(next(Outcome::EmptyStream, last), Next::Refuse);
        for callers in [400, 404, 422] {
            assert_eq!(next(error(callers), FIRST), Next::PassOn, "{callers}");
        }
    }

    #[test]
    fn an_empty_budget_ends_it_like_the_last_attempt() {
        let statuses = StatusRanges::new([500..=599]).unwrap();
        let rule = Rule { count: 2, statuses };
        let mut budget = Budget::new(NOW);
        while budget.withdraw(NOW) {}
        let next = rule.next(&answered(500), FIRST, &mut budget, NOW);
        assert_eq!(next, Next::PassOn);
    }

    #[test]
    fn exhausted_is_429_only_if_all_are_throttled_and_tells_the_soonest() {
        let wait = |ms: u64| Some(Duration::from_micros(ms * 1_000 - 1));
        let throttled = |ms| End::Throttled { wait: wait(ms) };
        let unknown = End::Throttled { wait: None };
        let failed = End::Unavailable { wait: None };
        let retry_after_ms = Some(1_500);
        for (ends, expected) in [
            (
                vec![throttled(9_000), unknown, throttled(1_500)],
                Refusal::BackendsThrottled { retry_after_ms },
            ),
            (
                vec![throttled(1_500), failed],
                Refusal::NoBackendAvailable { retry_after_ms },
            ),
            (
                vec![failed],
                Refusal::NoBackendAvailable {
                    retry_after_ms: None,
                },
            ),
            (
                vec![],
                Refusal::NoBackendAvailable {
                    retry_after_ms: None,
                },
            ),
            (vec![throttled(1), End::TimedOut], Refusal::BackendTimeout),
            (
                vec![End::TimedOut, throttled(1_500)],
                Refusal::NoBackendAvailable { retry_after_ms },
            ),
        ] {
            assert_eq!(exhausted(&ends), expected, "{ends:?}");
        }
    }
}
