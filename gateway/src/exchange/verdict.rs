//! What an answer's way through the gateway says of the backend that gave it, and what follows.
//!
//! A head that was well isn't the last word: a stream may begin with an error or say nothing, and any answer may break
//! off. The breaker is told once for each attempt. Never touches a connection.

use filters::outcome::Outcome;
use filters::refusal::Refusal;
use filters::retry::{Caller, Next};

use super::relay::{Relayed, Trouble};
use crate::clock;
use crate::context::End;
use crate::stage::respond::{self, Failure};
use crate::stage::select::{Course, Step};
use crate::state::State;

/// Tells the breaker that a stream is no answer, and says what follows.
pub fn begun_badly(
    course: &mut Course<&State>,
    step: &Step,
    head: &Outcome,
    trouble: Trouble,
) -> Next {
    let outcome = match trouble {
        Trouble::Error(status) => error_event(step, head, status),
        Trouble::Nothing(Failure::Timeout) => Outcome::Failed(Failure::Timeout.reason()),
        Trouble::Nothing(Failure::Connect | Failure::Reset) => Outcome::EmptyStream,
    };
    course.ended(step, &outcome, Caller::Waits, clock::now().time())
}

/// How such an attempt is counted.
pub fn label_of(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Error(status) => respond::outcome_of(status),
        Trouble::Nothing(failure) => failure.outcome(),
    }
}

/// How an attempt whose answer was passed on is counted; `status` is the answer's.
pub fn label_of_relayed(relayed: &Relayed, status: u16) -> &'static str {
    match (relayed.committed, relayed.end) {
        (_, End::Stopped) => STOPPED,
        (false, _) => relayed.cut.outcome(),
        (true, End::UpstreamCut) => "cut",
        (true, End::Complete | End::ClientGone | End::Refused | End::Cached) => {
            respond::outcome_of(relayed.error.unwrap_or(status))
        }
    }
}

/// Tells the breaker how an answer went through, and says what follows where it broke off before a byte had gone out.
/// `head` is what the answer's head said.
pub fn relayed(
    course: &mut Course<&State>,
    step: &Step,
    head: Outcome,
    relayed: &Relayed,
) -> Option<Next> {
    let broken = Outcome::Failed(relayed.cut.reason());
    let (outcome, caller) = match (relayed.committed, relayed.end) {
        (_, End::Stopped) => (Outcome::NoVerdict, Caller::Gone),
        (false, _) => (broken, Caller::Waits),
        (true, End::UpstreamCut) => (broken, Caller::HasFirstByte),
        (true, End::Complete | End::ClientGone | End::Refused | End::Cached) => {
            let error = relayed.error.map(|status| error_event(step, &head, status));
            (error.unwrap_or(head), Caller::HasFirstByte)
        }
    };
    let next = course.ended(step, &outcome, caller, clock::now().time());
    (!relayed.committed).then_some(next)
}

/// What a call is told that the gateway has no more time for.
pub fn stopped() -> Refusal {
    Refusal::Overloaded {
        retry_after_s: STOPPED_RETRY_S,
    }
}

/// Retry-After of such a call: another replica, or the process that comes after, is there already. Seconds.
const STOPPED_RETRY_S: u64 = 1;
/// The label of such an attempt.
pub const STOPPED: &str = "stopped";

fn error_event(step: &Step, head: &Outcome, status: u16) -> Outcome {
    let backend = &step.backend;
    let outcome = respond::judged_event(status, head, &backend.auth);
    if outcome == Outcome::CredentialRefused {
        tracing::error!(backend = %backend.name, status, "the backend refused our credential");
    }
    outcome
}
