//! A traced request as spans, named and described by OpenTelemetry's conventions for HTTP and for generative AI.
//!
//! One span for the request (server), one each for the look-up in a semantic cache and for the limits (internal), and one for each
//! attempt at a backend (client), which is the call to a model that the conventions speak of. What is ours alone begins
//! with `tollgate.`. Never a prompt, an answer, a header or a query.

use filters::refusal::Refusal;
use filters::route::{Schema, Shape};

use super::trace::{Step, Trace, What};
use crate::clock::{self, Moment};
use crate::config::plan::Backend;
use crate::context::{Arrival, Caller, Record};
use crate::stage::respond;

/// Which side of a call it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Neither.
    Internal,
    /// The called one.
    Server,
    /// The calling one.
    Client,
}

/// What an attribute says.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Number(u64),
    /// Any number.
    Fraction(f64),
}

/// One piece of work, over.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Of the trace.
    pub trace_id: u128,
    /// Its own.
    pub span_id: u64,
    /// Of the one that it is a part of; `None`: the trace begins with it.
    pub parent_id: Option<u64>,
    /// What it is.
    pub name: String,
    /// Which side.
    pub kind: Kind,
    /// Nanoseconds since 1970.
    pub begun_ns: u64,
    /// Likewise.
    pub ended_ns: u64,
    /// By name.
    pub attributes: Vec<(&'static str, Value)>,
    /// It failed.
    pub is_error: bool,
}

/// What else is known of the request.
pub struct Finished<'a> {
    /// Its beginning.
    pub arrival: &'a Arrival,
    /// `GET` and the like.
    pub method: &'a str,
    /// Without the query.
    pub path: &'a str,
    /// What is accounted.
    pub record: &'a Record,
    /// When it was over.
    pub now: Moment,
}

/// Every span of a request that is over.
pub fn spans(trace: &Trace, finished: &Finished<'_>) -> Vec<Span> {
    let clock = Clock::at(finished.now);
    let mut spans = vec![request(trace, finished, &clock)];
    let steps = trace.take_steps();
    let last_attempt = steps.iter().rposition(Step::is_attempt);
    for (index, step) in steps.iter().enumerate() {
        let is_last = Some(index) == last_attempt;
        spans.push(part(trace, step, finished, &clock, is_last));
    }
    spans
}

fn request(trace: &Trace, finished: &Finished<'_>, clock: &Clock) -> Span {
    let Finished {
        arrival,
        method,
        path,
        record,
        now,
    } = finished;
    let mut attributes = Attributes::default();
    attributes.text("http.request.method", method);
    attributes.text("url.path", path);
    attributes.number("http.response.status_code", u64::from(record.status));
    attributes.text(
        "tollgate.request_id",
        &format!("{:032x}", arrival.request_id),
    );
    attributes.text("tollgate.end", record.end.label());
    if let Some(caller) = &record.caller {
        attributes.text("tollgate.api", &caller.api.name);
        attributes.text("tollgate.operation", caller.operation);
        if let Some(subscription) = &caller.subscription {
            attributes.text("tollgate.subscription", &subscription.name);
            let product = subscription.product.as_ref();
            attributes.text(
                "tollgate.product",
                product.map_or("", |product| &product.name),
            );
        }
    }
    let refusal = record.refusal.as_ref();
    attributes.text("tollgate.policy", policy(record));
    attributes.text("error.type", refusal.map_or("", Refusal::code));
    let route = record.caller.as_ref().map_or("", |caller| caller.operation);
    Span {
        trace_id: trace.trace_id(),
        span_id: trace.span_id(),
        parent_id: trace.parent_id(),
        name: format!("{method} {route}").trim_end().to_owned(),
        kind: Kind::Server,
        begun_ns: clock.unix_ns(arrival.at),
        ended_ns: clock.unix_ns(*now),
        attributes: attributes.0,
        is_error: respond::outcome_of(record.status) == SERVER_ERROR,
    }
}

fn part(trace: &Trace, step: &Step, finished: &Finished<'_>, clock: &Clock, is_last: bool) -> Span {
    let record = finished.record;
    let ended = step.ended.unwrap_or(finished.now);
    let mut attributes = Attributes::default();
    let (name, kind, is_error) = match &step.what {
        What::Cache => {
            if let Some(lookup) = &record.cache {
                attributes.text("tollgate.policy", &lookup.policy);
                attributes.text("tollgate.cache.result", lookup.result.label());
                if let Some(distance) = lookup.distance {
                    attributes.fraction("tollgate.cache.distance", f64::from(distance));
                }
            }
            ("cache lookup".to_owned(), Kind::Internal, false)
        }
        What::Limit { refused } => {
            attributes.text(
                "tollgate.limit.refused",
                if *refused { "true" } else { "false" },
            );
            if *refused {
                attributes.text("tollgate.policy", policy(record));
            }
            ("limit".to_owned(), Kind::Internal, false)
        }
        What::Attempt { backend, outcome } => {
            // What is carried isn't judged.
            let is_error = *outcome != WELL && !outcome.is_empty();
            attributes.text("error.type", if is_error { outcome } else { "" });
            let name = match &record.caller {
                Some(caller) => attempt(&mut attributes, backend, caller, record, is_last),
                None => "attempt".to_owned(),
            };
            (name, Kind::Client, is_error)
        }
    };
    if let (What::Attempt { .. }, true, Some(first_token)) =
        (&step.what, is_last, record.first_token)
    {
        let before = step.begun.since(finished.arrival.at);
        let since = first_token.saturating_sub(before).as_secs_f64();
        attributes.fraction("gen_ai.response.time_to_first_chunk", since);
    }
    Span {
        trace_id: trace.trace_id(),
        span_id: step.span_id,
        parent_id: Some(trace.span_id()),
        name,
        kind,
        begun_ns: clock.unix_ns(step.begun),
        ended_ns: clock.unix_ns(ended),
        attributes: attributes.0,
        is_error,
    }
}

/// The policy that declined, if one did.
fn policy(record: &Record) -> &str {
    let refusal = record.refusal.as_ref();
    refusal.and_then(Refusal::policy).unwrap_or_default()
}

/// The conventions for a call to a model; its name.
fn attempt(
    attributes: &mut Attributes,
    backend: &Backend,
    caller: &Caller,
    record: &Record,
    is_last: bool,
) -> String {
    let operation = match caller.shape {
        Shape::Chat | Shape::Responses => "chat",
        Shape::Completions => "text_completion",
        Shape::Embeddings => "embeddings",
        Shape::Other => caller.operation,
    };
    let model = backend.deployment.as_deref().unwrap_or(&record.model);
    attributes.text("gen_ai.operation.name", operation);
    attributes.text(
        "gen_ai.provider.name",
        match backend.schema.unwrap_or(caller.api.schema) {
            Schema::AzureOpenAi => "azure.ai.openai",
            Schema::OpenAi => "openai",
            Schema::AzureAiInference => "azure.ai.inference",
        },
    );
    attributes.text("gen_ai.request.model", model);
    attributes.text("server.address", &backend.url.host);
    attributes.number("server.port", u64::from(backend.url.port));
    attributes.text("tollgate.backend", &backend.name);
    if is_last {
        attributes.text(
            "gen_ai.response.model",
            record.answered_by.as_deref().unwrap_or_default(),
        );
        if let Some(usage) = record.usage {
            attributes.number("gen_ai.usage.input_tokens", usage.prompt);
            attributes.number("gen_ai.usage.output_tokens", usage.completion);
            attributes.number("gen_ai.usage.cache_read.input_tokens", usage.cached);
            attributes.number("gen_ai.usage.reasoning.output_tokens", usage.reasoning);
            attributes.text("tollgate.usage.source", record.source.label());
        }
    }
    format!("{operation} {model}").trim_end().to_owned()
}

/// The label of an attempt that was answered well.
const WELL: &str = "2xx";
/// The label of a status that is the server's fault, by HTTP's conventions.
const SERVER_ERROR: &str = "5xx";

#[derive(Default)]
struct Attributes(Vec<(&'static str, Value)>);

impl Attributes {
    /// Nothing where it is empty.
    fn text(&mut self, name: &'static str, text: &str) {
        if !text.is_empty() {
            self.0.push((name, Value::Text(text.to_owned())));
        }
    }

    fn number(&mut self, name: &'static str, number: u64) {
        self.0.push((name, Value::Number(number)));
    }

    fn fraction(&mut self, name: &'static str, number: f64) {
        self.0.push((name, Value::Fraction(number)));
    }
}

/// Moments of the process' clock as times of the world's.
struct Clock {
    now: Moment,
    unix_ns: u64,
}

impl Clock {
    fn at(now: Moment) -> Self {
        let unix_ns = u64::try_from(clock::unix_nanoseconds()).unwrap_or(u64::MAX);
        Clock { now, unix_ns }
    }

    fn unix_ns(&self, moment: Moment) -> u64 {
        let ago = u64::try_from(self.now.since(moment).as_nanos()).unwrap_or(u64::MAX);
        self.unix_ns.saturating_sub(ago)
    }
}
