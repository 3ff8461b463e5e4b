//! Why a request isn't served, and what its caller is told.
//!
//! A closed list that knows no HTTP: the gateway gives each a status and headers in one exhaustive
//! table. The message says what the caller can do. It never names a backend, a key or a secret; of
//! what the caller sent it repeats a model's name at most, cut and without control characters, since
//! the text also ends in logs and terminals.

use crate::time::words::in_words;
use crate::token::Problem;

/// The longest piece of a caller's own text in a message, in characters.
const MAX_ECHO_CHARACTERS: usize = 100;

/// The gateway declines, for this reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No API has this path.
    NoApi,
    /// The API has no such operation, or doesn't offer it.
    NoOperation,
    /// The API needs a key, and none came.
    MissingKey,
    /// No subscription has this key.
    InvalidKey,
    /// The key's subscription is suspended. Told as [`Refusal::InvalidKey`]: a stranger who tries
    /// keys shouldn't learn which were once good.
    SuspendedKey,
    /// A token is asked for beside the key, and none came.
    MissingToken,
    /// A token came, and isn't good.
    InvalidToken {
        /// What is wrong with it.
        problem: Problem,
    },
    /// Whether a token is good can't be told: the issuer's keys aren't here yet.
    IssuerUnavailable {
        /// When to come back.
        retry_after_s: u64,
    },
    /// The product doesn't include the model.
    ModelNotAllowed {
        /// As the caller named it.
        model: String,
    },
    /// The API has no such deployment or model.
    UnknownModel {
        /// As the caller named it.
        model: String,
    },
    /// The body isn't what the operation needs.
    InvalidBody {
        /// What is wrong with it.
        message: String,
    },
    /// The body is longer than the bound.
    BodyTooLarge {
        /// The bound.
        limit_bytes: u64,
    },
    /// The body didn't arrive in time.
    BodyTooSlow,
    /// Tokens per minute are used up.
    RateLimitExceeded {
        /// The limit's name.
        policy: String,
        /// When to come back.
        retry_after_ms: u64,
    },
    /// One request asks for more than the limit could ever give.
    RequestExceedsLimit {
        /// The limit's name.
        policy: String,
        /// What the request would hold.
        requested_tokens: u64,
        /// What the limit gives at most.
        limit_tokens: u64,
    },
    /// The period's quota is used up.
    QuotaExceeded {
        /// The limit's name.
        policy: String,
        /// Until the period ends.
        retry_after_s: u64,
    },
    /// The period's money is spent.
    BudgetSpent {
        /// The budget's name.
        policy: String,
        /// Until the period ends.
        retry_after_s: u64,
    },
    /// Every backend asks to wait.
    BackendsThrottled {
        /// The soonest that one is back, if known.
        retry_after_ms: Option<u64>,
    },
    /// Every backend is out or failed.
    NoBackendAvailable {
        /// The soonest that one is back, if known.
        retry_after_ms: Option<u64>,
    },
    /// The first byte of the answer was late.
    BackendTimeout,
    /// One of the gateway's own bounds is reached.
    Overloaded {
        /// When to come back.
        retry_after_s: u64,
    },
    /// The request's head is longer than the bound, or has more fields.
    HeadTooLarge {
        /// By how much.
        message: String,
    },
    /// The request itself is malformed: head, framing or path.
    BadRequest {
        /// What is wrong with it.
        message: String,
    },
    /// A policy's expression failed, so the policy can't be applied.
    PolicyFailed {
        /// The policy's name.
        policy: String,
    },
}

impl Refusal {
    /// The stable word a program decides by; also the metrics' `reason`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoApi | Self::NoOperation => "not_found",
            Self::MissingKey => "missing_subscription_key",
            Self::InvalidKey | Self::SuspendedKey => "invalid_subscription_key",
            Self::MissingToken => "missing_token",
            Self::InvalidToken { .. } => "invalid_token",
            Self::IssuerUnavailable { .. } => "issuer_unavailable",
            Self::ModelNotAllowed { .. } => "model_not_allowed",
            Self::UnknownModel { .. } => "DeploymentNotFound",
            Self::InvalidBody { .. } => "invalid_request_body",
            Self::BodyTooLarge { .. } => "request_too_large",
            Self::BodyTooSlow => "request_timeout",
            Self::RateLimitExceeded { .. } => "rate_limit_exceeded",
            Self::RequestExceedsLimit { .. } => "request_exceeds_limit",
            Self::QuotaExceeded { .. } | Self::BudgetSpent { .. } => "insufficient_quota",
            Self::BackendsThrottled { .. } => "backends_throttled",
            Self::NoBackendAvailable { .. } => "no_backend_available",
            Self::BackendTimeout => "backend_timeout",
            Self::Overloaded { .. } => "overloaded",
            Self::HeadTooLarge { .. } => "request_head_too_large",
            Self::BadRequest { .. } => "bad_request",
            Self::PolicyFailed { .. } => "policy_failed",
        }
    }

    /// The policy that refused, where one did.
    pub fn policy(&self) -> Option<&str> {
        match self {
            Self::RateLimitExceeded { policy, .. }
            | Self::RequestExceedsLimit { policy, .. }
            | Self::QuotaExceeded { policy, .. }
            | Self::BudgetSpent { policy, .. }
            | Self::PolicyFailed { policy } => Some(policy),
            Self::NoApi
            | Self::NoOperation
            | Self::MissingKey
            | Self::InvalidKey
            | Self::SuspendedKey
            | Self::MissingToken
            | Self::InvalidToken { .. }
            | Self::IssuerUnavailable { .. }
            | Self::ModelNotAllowed { .. }
            | Self::UnknownModel { .. }
            | Self::InvalidBody { .. }
            | Self::BodyTooLarge { .. }
            | Self::BodyTooSlow
            | Self::BackendsThrottled { .. }
            | Self::NoBackendAvailable { .. }
            | Self::BackendTimeout
            | Self::Overloaded { .. }
            | Self::HeadTooLarge { .. }
            | Self::BadRequest { .. } => None,
        }
    }

    /// The model that was asked for, as the caller named it, where that is what is refused.
    pub fn model(&self) -> Option<&str> {
        match self {
            Self::ModelNotAllowed { model } | Self::UnknownModel { model } => Some(model),
            Self::NoApi
            | Self::NoOperation
            | Self::MissingKey
            | Self::InvalidKey
            | Self::SuspendedKey
            | Self::MissingToken
            | Self::InvalidToken { .. }
            | Self::IssuerUnavailable { .. }
            | Self::InvalidBody { .. }
            | Self::BodyTooLarge { .. }
            | Self::BodyTooSlow
            | Self::RateLimitExceeded { .. }
            | Self::RequestExceedsLimit { .. }
            | Self::QuotaExceeded { .. }
            | Self::BudgetSpent { .. }
            | Self::BackendsThrottled { .. }
            | Self::NoBackendAvailable { .. }
            | Self::BackendTimeout
            | Self::Overloaded { .. }
            | Self::HeadTooLarge { .. }
            | Self::BadRequest { .. }
            | Self::PolicyFailed { .. } => None,
        }
    }

    /// What the caller reads: what happened, and what to do.
    pub fn message(&self) -> String {
        match self {
            Self::NoApi => "No API has this path. Check the base URL of your client.".to_owned(),
            Self::NoOperation => {
                "This API has no such operation. Check the method and the path.".to_owned()
            }
            Self::MissingKey => MISSING_KEY.to_owned(),
            Self::InvalidKey | Self::SuspendedKey => INVALID_KEY.to_owned(),
            Self::MissingToken => MISSING_TOKEN.to_owned(),
            Self::InvalidToken { problem } => bad_token(*problem),
            Self::IssuerUnavailable { retry_after_s } => {
                let wait = in_words(*retry_after_s);
                format!("Tokens can't be checked yet. Retry after {wait}.")
            }
            Self::ModelNotAllowed { model } => format!(
                "Your product doesn't include the model `{}`. Use one that it includes, or ask \
                 the gateway's operator.",
                echo(model)
            ),
            Self::UnknownModel { model } => format!(
                "This API has no deployment or model `{}`. Check its spelling.",
                echo(model)
            ),
            Self::InvalidBody { message }
            | Self::HeadTooLarge { message }
            | Self::BadRequest { message } => message.clone(),
            Self::BodyTooLarge { limit_bytes } => {
                format!("The request body is larger than {limit_bytes} bytes. Send less at once.")
            }
            Self::BodyTooSlow => BODY_TOO_SLOW.to_owned(),
            Self::RateLimitExceeded {
                policy,
                retry_after_ms,
            } => format!(
                "The tokens per minute of `{policy}` are used up. Retry after {}.",
                in_words(retry_after_ms.div_ceil(1000))
            ),
            Self::RequestExceedsLimit {
                policy,
                requested_tokens,
                limit_tokens,
            } => format!(
                "This request needs {requested_tokens} tokens and `{policy}` gives {limit_tokens} \
                 at most. Waiting won't help: send a shorter prompt or ask for fewer tokens."
            ),
            Self::QuotaExceeded {
                policy,
                retry_after_s,
            } => renewed("token quota", policy, "used up", *retry_after_s),
            Self::BudgetSpent {
                policy,
                retry_after_s,
            } => renewed("budget", policy, "spent", *retry_after_s),
            Self::BackendsThrottled { retry_after_ms } => {
                again("Every model endpoint is at its limit.", *retry_after_ms)
            }
            Self::NoBackendAvailable { retry_after_ms } => {
                again("No model endpoint is available.", *retry_after_ms)
            }
            Self::BackendTimeout => BACKEND_TIMEOUT.to_owned(),
            Self::Overloaded { retry_after_s } => {
                let wait = in_words(*retry_after_s);
                format!("The gateway is at its own bounds. Retry after {wait}.")
            }
            Self::PolicyFailed { policy } => format!(
                "The policy `{policy}` couldn't be applied to this request. Tell the gateway's \
                 operator."
            ),
        }
    }
}

const BACKEND_TIMEOUT: &str =
    "The model endpoint didn't answer in time. Try again, or ask for less.";
const BODY_TOO_SLOW: &str = "The request body didn't arrive in time. Send it again, faster.";
const MISSING_KEY: &str =
    "A subscription key is needed. Send it as `api-key: KEY` or `Authorization: Bearer KEY`.";
const INVALID_KEY: &str = "This subscription key isn't valid for an active subscription. Check the \
    key, or ask the gateway's operator for another.";
const MISSING_TOKEN: &str = "A token is needed beside the subscription key. Send it as \
    `Authorization: Bearer TOKEN`, and the key as `api-key: KEY`.";

fn bad_token(problem: Problem) -> String {
    format!(
        "This token can't be used: {}. Get another from your identity provider, or ask the \
         gateway's operator what is expected.",
        problem.message()
    )
}

/// A caller's own text, fit to be repeated: cut, and without control characters.
pub fn echo(text: &str) -> String {
    text.chars()
        .filter(|character| !character.is_control())
        .take(MAX_ECHO_CHARACTERS)
        .collect()
}

fn renewed(what: &str, policy: &str, how: &str, in_s: u64) -> String {
    let wait = in_words(in_s);
    format!("The {what} of `{policy}` is {how}. It is renewed in {wait}.")
}

fn again(what: &str, retry_after_ms: Option<u64>) -> String {
    match retry_after_ms {
        Some(wait_ms) => format!("{what} Retry after {}.", in_words(wait_ms.div_ceil(1000))),
        None => format!("{what} Try again later."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_name_is_repeated_cut_and_without_control_characters() {
        let refusal = Refusal::UnknownModel {
            model: format!("\u{1b}[31m\r\nx{}", "é".repeat(500)),
        };
        let message = refusal.message();
        assert!(message.chars().count() < 200);
        assert!(!message.chars().any(char::is_control));
        assert!(message.contains("`[31mxé"));
    }

    #[test]
    fn a_suspended_key_reads_like_an_unknown_one() {
        assert_eq!(Refusal::SuspendedKey.code(), Refusal::InvalidKey.code());
        assert_eq!(
            Refusal::SuspendedKey.message(),
            Refusal::InvalidKey.message()
        );
    }

    #[test]
    fn a_wait_is_told_in_whole_seconds_rounded_up() {
        let refusal = Refusal::BackendsThrottled {
            retry_after_ms: Some(1001),
        };
        assert!(refusal.message().ends_with("Retry after 2 seconds."));
    }
}
