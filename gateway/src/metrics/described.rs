//! What each metric is, as `/metrics` tells it. Names come from `metrics`.

use metrics::{Recorder, Unit};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::*;

/// Describes all of them.
pub(super) fn describe(recorder: &PrometheusRecorder) {
    let counters = COUNTERS.iter().copied();
    for (name, text) in counters.chain(logs::DESCRIBED).chain(fetches::DESCRIBED) {
        recorder.describe_counter(name.into(), None, text.into());
    }
    let histograms = [
        (DURATION, "From a request's arrival to its answer's end."),
        (
            FIRST_TOKEN,
            "From a request's arrival to the first event of its stream that a user sees.",
        ),
        (
            OVERHEAD,
            "Time in the gateway; waiting for the caller's body and for the backend excluded.",
        ),
    ];
    for (name, text) in histograms {
        recorder.describe_histogram(name.into(), Some(Unit::Seconds), text.into());
    }
    recorder.describe_histogram(
        CACHE_ANSWER_DISTANCE.into(),
        None,
        "How far an observing semantic cache's answers lie from the backends', 0 to 1.".into(),
    );
    let gauges = [
        (BACKEND_STATE, "0 closed, 1 open, 2 half-open."),
        (REDIS_UP, "1 while Redis answers."),
        (CONFIG_INFO, "1 for the revision in force."),
        (
            CONFIG_LOADED,
            "When the configuration in force was loaded; Unix time.",
        ),
        (
            CONFIG_SUCCESSFUL,
            "0 if the last reload was refused, else 1.",
        ),
        (
            logs::USAGE_LOG_FAILING,
            "1 while lines of the usage log wait because the disk or Redis doesn't take them.",
        ),
        (STREAMS_OPEN, "Streams to callers that are open now."),
        (BUFFERED_BYTES, "Request body bytes held in memory now."),
    ];
    for (name, text) in gauges {
        recorder.describe_gauge(name.into(), None, text.into());
    }
}

const COUNTERS: &[(&str, &str)] = &[
    (
        REQUESTS,
        "Requests by API, operation and the status that the caller got.",
    ),
    (
        USAGE_RECORDS,
        "Usage records by where their figures come from and how the call ended.",
    ),
    (
        REFUSALS,
        "Requests that the gateway declined, by reason and policy.",
    ),
    (
        WOULD_REFUSE,
        "Requests that a limit in observe mode would have refused.",
    ),
    (
        connections::REFUSED,
        "Connections of callers that were closed at once: there were max-connections.",
    ),
    (
        connections::UNSHAKEN,
        "TLS handshakes of callers that came to nothing, by reason.",
    ),
    (budgets::WARNINGS, "Calls admitted past a budget's warning."),
    (budgets::UNPRICED, "Calls without a price for a budget."),
    (
        REDIS_ERRORS,
        "Calls to Redis that failed or were late, by operation.",
    ),
    (
        BACKEND_TRIPS,
        "Times that a backend's breaker opened, by reason.",
    ),
    (
        RETRIES,
        "Further attempts after the first, by pool and reason.",
    ),
    (CACHE_LOOKUPS, "Look-ups in semantic caches, by result."),
    (CACHE_SAVED_TOKENS, "Tokens of answers given again."),
    (CONFIG_RELOADS, "Reloads of the configuration, by result."),
    (ATTEMPTS, "Attempts at backends by status class or error."),
];
