//! The end of a request: every figure is recorded here, once, and nothing is held afterwards.
//!
//! Never decides what a request cost; it is told.

mod line;
pub mod messages;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use filters::refusal::Refusal;
use filters::route::Shape;
use filters::usage::Usage;
use pingora::http::RequestHeader;

use crate::clock::Moment;
use crate::config::plan::{Backend, LineFormat, Subscription, SubscriptionState};
use crate::context::{Arrival, Caller, End, Record, Source};
use crate::live::refusals::Refused;
use crate::reply;
use crate::scope::{Asked, Public, scope};
use crate::stage::account::messages::Said;
use crate::state::State;
use crate::traces::span::Finished;

/// The label where no API was found at the path.
const NO_API: &str = "none";
/// The subscription in the figures of what the gateway itself used.
const GATEWAY: &str = "tollgate";

/// Records a request that is over.
pub fn account(
    state: &State,
    arrival: &Arrival,
    head: &RequestHeader,
    record: &Record,
    now: Moment,
) {
    let metrics = &state.metrics;
    let api = record.caller.as_ref().map(|caller| caller.api.name.clone());
    let api = api.unwrap_or_else(|| NO_API.into());
    let operation = record
        .caller
        .as_ref()
        .map_or("other", |caller| caller.operation);
    let duration = now.since(arrival.at);
    let overhead = duration.saturating_sub(record.waited);
    for attempt in &record.attempts {
        metrics.attempt(&attempt.backend.name, attempt.outcome);
    }
    if let Some(refusal) = &record.refusal {
        metrics.refusal(refusal.code(), refusal.policy().unwrap_or_default());
        refused(state, arrival, (refusal, record), now);
    }
    if let Some(lookup) = &record.cache {
        metrics.cache_lookup(lookup);
        state.live.looked_up(lookup);
    }
    if let Some(caller) = &record.caller {
        used(state, caller, record);
        token_metrics(state, arrival, head, (caller, record));
        if reached_a_subscription(caller) {
            metrics.usage_record(record.source, record.end);
        }
    }
    write_down(state, arrival, record, duration);
    if let Some(trace) = &arrival.trace {
        let finished = Finished {
            arrival,
            method: head.method.as_str(),
            path: head.uri.path(),
            record,
            now,
        };
        state.traces.finish(trace, &finished);
    }
    // Last: whoever has seen the request counted can rely on its other figures.
    metrics.timings((&api, operation), duration, overhead, record.first_token);
    metrics.request(&api, operation, record.status);
    log(arrival, record, (&api, operation), duration);
}

/// The lines of every log that wants one. The same line for all, but for the access log's other form.
fn write_down(state: &State, arrival: &Arrival, record: &Record, duration: Duration) {
    let access = state.logs.access();
    let is_used = record.caller.as_ref().is_some_and(reached_a_subscription);
    let usage = state.usage_log.as_ref().filter(|_| is_used);
    if access.is_none() && usage.is_none() && record.heard.is_none() {
        return;
    }
    let made = line::record(arrival, record, duration);
    if let (Some(access), Some(settings)) = (access, &arrival.plan.access_log) {
        access.put(match settings.format {
            LineFormat::Json => made.line(),
            LineFormat::Text => made.text_line(),
        });
    }
    if let Some(log) = usage {
        log.write(&made);
    }
    if let (Some(heard), Some(log)) = (&record.heard, &arrival.plan.message_log)
        && let Some(messages) = state.logs.messages()
    {
        messages.put(Box::new(Said {
            line: made.line(),
            heard: heard.clone(),
            max_bytes: log.max_bytes,
        }));
    }
}

/// Records what the gateway itself used, to embed a question. Nobody's limits and nobody's share: its subscription is
/// called [`GATEWAY`].
pub fn embedded(state: &State, arrival: &Arrival, head: &RequestHeader, spent: Spent<'_>) {
    state.metrics.attempt(&spent.backend.name, spent.outcome);
    if spent.usage.is_none() {
        return;
    }
    let caller = Caller {
        api: spent.caller.api.clone(),
        operation: "embeddings",
        shape: Shape::Embeddings,
        subscription: Some(Arc::new(Subscription {
            name: GATEWAY.into(),
            product: None,
            state: SubscriptionState::Active,
            attributes: BTreeMap::new(),
        })),
        claims: None,
        slot: None,
        address: spent.caller.address,
    };
    let record = Record {
        model: spent.model.to_owned(),
        backend: Some(spent.backend.clone()),
        status: reply::OK,
        usage: spent.usage,
        source: Source::Upstream,
        end: End::Complete,
        ..Record::unserved(reply::OK)
    };
    token_metrics(state, arrival, head, (&caller, &record));
    if let Some(log) = &state.usage_log {
        let record = Record {
            caller: Some(caller),
            ..record
        };
        log.write(&line::record(arrival, &record, spent.duration));
    }
}

/// An embeddings call of the gateway's own.
#[derive(Debug)]
pub struct Spent<'a> {
    /// Whose question it was.
    pub caller: &'a Caller,
    /// Where.
    pub backend: &'a Arc<Backend>,
    /// The model, as the backend knows it.
    pub model: &'a str,
    /// A status class or an error.
    pub outcome: &'static str,
    /// What it used, where that is known.
    pub usage: Option<Usage>,
    /// How long it took.
    pub duration: Duration,
}

/// For the admin page: why, and whose call it was.
fn refused(state: &State, arrival: &Arrival, (refusal, record): (&Refusal, &Record), at: Moment) {
    let caller = record.caller.as_ref();
    let subscription = caller.and_then(|caller| caller.subscription.as_ref());
    if let Some(slot) = caller.and_then(|caller| caller.slot.as_ref()) {
        slot.refused();
    }
    state.live.refused(Refused {
        refusal,
        api: caller.map(|caller| &caller.api.name),
        operation: caller.map_or("other", |caller| caller.operation),
        subscription: subscription.map(|subscription| &subscription.name),
        address: caller.map(|caller| caller.address),
        model: &record.model,
        request_id: arrival.request_id,
        at,
    });
}

/// For the admin page too. What a cache answered with was used before.
fn used(state: &State, caller: &Caller, record: &Record) {
    let Some(usage) = record.usage else { return };
    state.live.used(usage.total);
    if let Some(slot) = &caller.slot {
        slot.used(usage.total);
    }
}

fn reached_a_subscription(caller: &Caller) -> bool {
    caller.subscription.is_some() || !caller.api.subscription_required
}

fn token_metrics(
    state: &State,
    arrival: &Arrival,
    head: &RequestHeader,
    (caller, record): (&Caller, &Record),
) {
    let Some(usage) = record.usage else {
        return;
    };
    if arrival.plan.token_metrics.is_empty() {
        return;
    }
    let public = Public::of(head);
    let asked = Asked {
        model: &record.model,
        stream: record.stream,
        user: &record.user,
    };
    let backend = record.backend.as_ref().map(|backend| backend.name.as_ref());
    let after = (backend, Some(record.status));
    let scope = scope(&arrival.plan.gateway, &public, caller, asked, after);
    for metric in &arrival.plan.token_metrics {
        let values: Vec<Cow<'_, str>> = metric
            .dimensions
            .iter()
            .map(|dimension| dimension.value(&scope))
            .collect();
        state.metrics.tokens(metric, &values, usage);
    }
}

/// One line a request, at debug level: the access log proper is a feature of its own.
fn log(
    arrival: &Arrival,
    record: &Record,
    (api, operation): (&str, &'static str),
    duration: Duration,
) {
    let caller = record.caller.as_ref();
    let subscription = caller.and_then(|caller| caller.subscription.as_ref());
    tracing::debug!(
        request_id = format_args!("{:032x}", arrival.request_id),
        api,
        operation,
        subscription = subscription.map_or("", |subscription| &subscription.name),
        backend = record.backend.as_ref().map_or("", |backend| &backend.name),
        status = record.status,
        end = record.end.label(),
        source = record.source.label(),
        total_tokens = record.usage.map(|usage| usage.total),
        duration_ms = duration.as_millis() as u64,
        "request"
    );
}
