//! A refusal in the words of whoever operates the gateway: what happened, and where to look.
//!
//! Not what the caller was told: a caller may not know a suspended key from an unknown one, its operator must.

use filters::refusal::Refusal;

/// What happened, in a few words.
pub(super) fn why(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NoApi => "No API at this path",
        Refusal::NoOperation => "No such operation",
        Refusal::MissingKey => "No subscription key",
        Refusal::InvalidKey => "Unknown subscription key",
        Refusal::SuspendedKey => "Subscription suspended",
        Refusal::MissingToken | Refusal::InvalidToken { .. } => "No good token",
        Refusal::IssuerUnavailable { .. } => "Tokens can't be checked",
        Refusal::ModelNotAllowed { .. } => "Model not in the product",
        Refusal::UnknownModel { .. } => "Unknown model",
        Refusal::InvalidBody { .. } => "Body not understood",
        Refusal::HeadTooLarge { .. } => "Head too large",
        Refusal::BadRequest { .. } => "Malformed request",
        Refusal::BodyTooLarge { .. } => "Body too large",
        Refusal::BodyTooSlow => "Body too slow",
        Refusal::RateLimitExceeded { .. } => "Tokens per minute used up",
        Refusal::RequestExceedsLimit { .. } => "One request asks for more than its limit",
        Refusal::QuotaExceeded { .. } => "Token quota used up",
        Refusal::BudgetSpent { .. } => "Budget spent",
        Refusal::BackendsThrottled { .. } => "Every backend throttles",
        Refusal::NoBackendAvailable { .. } => "No backend available",
        Refusal::BackendTimeout => "Backend too slow",
        Refusal::Overloaded { .. } => "The gateway's own bound",
        Refusal::PolicyFailed { .. } => "A policy couldn't be applied",
    }
}

/// What it comes from, or where to look.
pub(super) fn look(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NoApi => "The caller's base URL is wrong, or the path is missing under [apis].",
        Refusal::NoOperation => "Method and path aren't among the API's operations.",
        Refusal::MissingKey => "The caller sent none, or in a header that isn't looked at.",
        Refusal::InvalidKey => {
            "No subscription has this key: mistyped, rotated away, or of another gateway."
        }
        Refusal::SuspendedKey => "The key is right. Its subscription has state = \"suspended\".",
        Refusal::MissingToken | Refusal::InvalidToken { .. } => {
            "[jwt] says which are taken. The caller was told what is wrong."
        }
        Refusal::IssuerUnavailable { .. } => {
            "The issuer's keys were never fetched; jwt in /status says why."
        }
        Refusal::ModelNotAllowed { .. } => {
            "The subscription's product doesn't list it under models."
        }
        Refusal::UnknownModel { .. } => "No pattern under the API's models matches it.",
        Refusal::InvalidBody { .. } => "The caller was told what is wrong with it.",
        Refusal::HeadTooLarge { .. } => {
            "max-headers and max-header-bytes of [server.limits] are the bounds."
        }
        Refusal::BadRequest { .. } => "The caller was told what is wrong with it.",
        Refusal::BodyTooLarge { .. } => "max-request-body under [server] is the bound.",
        Refusal::BodyTooSlow => "It didn't arrive within body-timeout of [server.limits].",
        Refusal::RateLimitExceeded { .. } => "The limit refills evenly; see it under Limits.",
        Refusal::RequestExceedsLimit { .. } => {
            "Waiting won't help: a shorter prompt, fewer tokens, or a higher limit."
        }
        Refusal::QuotaExceeded { .. } => "It is renewed when its period ends; see it under Limits.",
        Refusal::BudgetSpent { .. } => "It is renewed when its period ends; see it under Limits.",
        Refusal::BackendsThrottled { .. } => {
            "All members of the pool answered 429, or are open because of it; see Backends."
        }
        Refusal::NoBackendAvailable { .. } => {
            "All members of the pool failed or are open; see Backends."
        }
        Refusal::BackendTimeout => "No first byte within the backend's first-byte timeout.",
        Refusal::Overloaded { .. } => {
            "Too many requests of one subscription at once, or counters or memory for bodies used up."
        }
        Refusal::PolicyFailed { .. } => {
            "Its expression failed on this request, such as on a header that isn't there."
        }
    }
}
