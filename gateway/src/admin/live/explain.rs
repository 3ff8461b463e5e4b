//! A refusal in the words of whoever operates the gateway: what happened, and where to look.
//!
//! Not what the caller was told: a caller may not know a suspended key from an unknown one, its operator must.

use filters::refusal::Refusal;

/// What happened, in a few words, and what it comes from or what to do.
pub(super) fn explain(refusal: &Refusal) -> (&'static str, &'static str) {
    match refusal {
        Refusal::NoApi => (
            "No API at this path",
            "The caller's base URL is wrong, or the path is missing under [apis].",
        ),
        Refusal::NoOperation => (
            "No such operation",
            "Method and path aren't among the API's operations.",
        ),
        Refusal::MissingKey => (
            "No subscription key",
            "The caller sent none, or in a header that isn't looked at.",
        ),
        Refusal::InvalidKey => (
            "Unknown subscription key",
            "No subscription has this key: mistyped, rotated away, or of another gateway.",
        ),
        Refusal::SuspendedKey => (
            "Subscription suspended",
            "The key is right. Its subscription has state = \"suspended\".",
        ),
        Refusal::ModelNotAllowed { .. } => (
            "Model not in the product",
            "The subscription's product doesn't list it under models.",
        ),
        Refusal::UnknownModel { .. } => (
            "Unknown model",
            "No pattern under the API's models matches it.",
        ),
        Refusal::InvalidBody { .. } => (
            "Body not understood",
            "The caller was told what is wrong with it.",
        ),
        Refusal::BadRequest { .. } => (
            "Malformed request",
            "The caller was told what is wrong with it.",
        ),
        Refusal::BodyTooLarge { .. } => (
            "Body too large",
            "max-request-body under [server] is the bound.",
        ),
        Refusal::BodyTooSlow => (
            "Body too slow",
            "It didn't arrive within body-timeout of [server.limits].",
        ),
        Refusal::RateLimitExceeded { .. } => (
            "Tokens per minute used up",
            "The limit refills evenly; see it under Token limits.",
        ),
        Refusal::RequestExceedsLimit { .. } => (
            "One request asks for more than its limit",
            "Waiting won't help: a shorter prompt, fewer tokens, or a higher limit.",
        ),
        Refusal::QuotaExceeded { .. } => (
            "Token quota used up",
            "It is renewed when its period ends; see it under Token limits.",
        ),
        Refusal::BudgetSpent { .. } => (
            "Budget spent",
            "It is renewed when its period ends; see [[budget]] in the configuration.",
        ),
        Refusal::BackendsThrottled { .. } => (
            "Every backend throttles",
            "All members of the pool answered 429, or are open because of it; see Backends.",
        ),
        Refusal::NoBackendAvailable { .. } => (
            "No backend available",
            "All members of the pool failed or are open; see Backends.",
        ),
        Refusal::BackendTimeout => (
            "Backend too slow",
            "No first byte within the backend's first-byte timeout.",
        ),
        Refusal::Overloaded { .. } => (
            "The gateway's own bound",
            "Too many requests of one subscription at once, or counters or memory for bodies used up.",
        ),
        Refusal::PolicyFailed { .. } => (
            "A policy couldn't be applied",
            "Its expression failed on this request, such as on a header that isn't there.",
        ),
    }
}
