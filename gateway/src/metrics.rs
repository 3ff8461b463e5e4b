//! The only file that names a metric.
//!
//! Handles are resolved once per label set and kept: the macros of the `metrics` crate would hash the
//! labels on every call. Label values come from the configuration or from closed sets, or are bounded by
//! `max-series`. Never decides what is counted; `stage::account` does.

mod budgets;
mod connections;
mod described;
mod fetches;
mod logs;

use std::sync::Arc;
use std::time::Duration;

use filters::usage::Usage;
use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use crate::config::plan::TokenMetric;
use crate::context::{CacheLookup, End, Source};
use crate::state::Registry;

pub use self::connections::Unshaken;

const REQUESTS: &str = "tollgate_requests_total";
const DURATION: &str = "tollgate_request_duration_seconds";
const FIRST_TOKEN: &str = "tollgate_time_to_first_token_seconds";
const OVERHEAD: &str = "tollgate_overhead_seconds";
const USAGE_RECORDS: &str = "tollgate_usage_records_total";
const REFUSALS: &str = "tollgate_refusals_total";
const WOULD_REFUSE: &str = "tollgate_would_refuse_total";
const REDIS_UP: &str = "tollgate_redis_up";
const REDIS_ERRORS: &str = "tollgate_redis_errors_total";
const ATTEMPTS: &str = "tollgate_backend_attempts_total";
const BACKEND_TRIPS: &str = "tollgate_backend_trips_total";
const RETRIES: &str = "tollgate_retries_total";
const BACKEND_STATE: &str = "tollgate_backend_state";
const CONFIG_RELOADS: &str = "tollgate_config_reloads_total";
const CONFIG_INFO: &str = "tollgate_config_info";
const CONFIG_LOADED: &str = "tollgate_config_loaded_timestamp_seconds";
const CONFIG_SUCCESSFUL: &str = "tollgate_config_last_reload_successful";
const CACHE_LOOKUPS: &str = "tollgate_cache_lookups_total";
const CACHE_ANSWER_DISTANCE: &str = "tollgate_cache_answer_distance";
const CACHE_SAVED_TOKENS: &str = "tollgate_cache_saved_tokens_total";
const STREAMS_OPEN: &str = "tollgate_streams_open";
const BUFFERED_BYTES: &str = "tollgate_buffered_bytes";

/// Calls last from milliseconds (refusals) to minutes (reasoning). Seconds.
const DURATION_BUCKETS_S: [f64; 16] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
];
/// The gateway's own share: from tens of microseconds up. Seconds.
const OVERHEAD_BUCKETS_S: [f64; 12] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0,
];
/// Two answers to one question lie some 0.1 to 0.4 apart.
const DISTANCE_BUCKETS: [f64; 8] = [0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8];

const METADATA: Metadata<'static> = Metadata::new("tollgate", Level::INFO, None);

/// Every counter, gauge and histogram of the process.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    requests: Registry<(Arc<str>, &'static str, u16), Counter>,
    timings: Registry<(Arc<str>, &'static str), Timings>,
    usage_records: Registry<(&'static str, &'static str), Counter>,
    refusals: Registry<(&'static str, String), Counter>,
    attempts: Registry<(Arc<str>, &'static str), Counter>,
    tokens: Registry<String, Registry<String, TokenSeries>>,
    cache_lookups: Registry<(Arc<str>, &'static str), CacheSeries>,
    streams_open: Gauge,
    buffered_bytes: Gauge,
}

/// The histograms of one operation of one API.
pub struct Timings {
    duration: Histogram,
    first_token: Histogram,
    overhead: Histogram,
}

struct CacheSeries {
    lookups: Counter,
    saved_tokens: Counter,
}

struct TokenSeries {
    prompt: Counter,
    completion: Counter,
    total: Counter,
    cached: Counter,
    reasoning: Counter,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Metrics")
    }
}

impl Metrics {
    /// A recorder of its own, with nothing counted.
    ///
    /// # Errors
    /// Never in practice: the buckets above are not empty.
    pub fn new() -> Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(OVERHEAD.into()), &OVERHEAD_BUCKETS_S)?
            .set_buckets_for_metric(
                Matcher::Full(CACHE_ANSWER_DISTANCE.into()),
                &DISTANCE_BUCKETS,
            )?
            .set_buckets(&DURATION_BUCKETS_S)?
            .build_recorder();
        described::describe(&recorder);
        Ok(Metrics {
            handle: recorder.handle(),
            streams_open: recorder.register_gauge(&Key::from_static_name(STREAMS_OPEN), &METADATA),
            buffered_bytes: recorder
                .register_gauge(&Key::from_static_name(BUFFERED_BYTES), &METADATA),
            recorder,
            requests: Registry::default(),
            timings: Registry::default(),
            usage_records: Registry::default(),
            refusals: Registry::default(),
            attempts: Registry::default(),
            tokens: Registry::default(),
            cache_lookups: Registry::default(),
        })
    }

    /// The Prometheus text of everything counted so far.
    pub fn render(&self, buffered_bytes: usize, streams_open: usize) -> String {
        self.buffered_bytes.set(buffered_bytes as f64);
        self.streams_open.set(streams_open as f64);
        self.handle.render()
    }

    /// Folds what the histograms hold; called every few seconds, or they grow.
    pub fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// A request was answered with `status`.
    pub fn request(&self, api: &Arc<str>, operation: &'static str, status: u16) {
        let key = (api.clone(), operation, status);
        let counter = self.requests.entry(&key, || {
            let labels = vec![
                Label::new("api", api.to_string()),
                Label::from_static_parts("operation", operation),
                Label::new("status", status.to_string()),
            ];
            self.counter(REQUESTS, labels)
        });
        counter.increment(1);
    }

    /// How long a request took, in all and in the gateway, and to its first token.
    pub fn timings(
        &self,
        (api, operation): (&Arc<str>, &'static str),
        duration: Duration,
        overhead: Duration,
        first_token: Option<Duration>,
    ) {
        let timings = self.timings.entry(&(api.clone(), operation), || {
            let of_api = vec![Label::new("api", api.to_string())];
            let mut of_operation = of_api.clone();
            of_operation.push(Label::from_static_parts("operation", operation));
            Timings {
                duration: self.histogram(DURATION, of_operation.clone()),
                first_token: self.histogram(FIRST_TOKEN, of_operation),
                overhead: self.histogram(OVERHEAD, of_api),
            }
        });
        timings.duration.record(duration.as_secs_f64());
        timings.overhead.record(overhead.as_secs_f64());
        if let Some(first_token) = first_token {
            timings.first_token.record(first_token.as_secs_f64());
        }
    }

    /// A usage record was made.
    pub fn usage_record(&self, source: Source, end: End) {
        let (source, end) = (source.label(), end.label());
        let counter = self.usage_records.entry(&(source, end), || {
            let labels = vec![
                Label::from_static_parts("source", source),
                Label::from_static_parts("end", end),
            ];
            self.counter(USAGE_RECORDS, labels)
        });
        counter.increment(1);
    }

    /// The gateway declined; `policy` is empty where none did.
    pub fn refusal(&self, reason: &'static str, policy: &str) {
        let counter = self.refusals.entry(&(reason, policy.to_owned()), || {
            let labels = vec![
                Label::from_static_parts("reason", reason),
                Label::new("policy", policy.to_owned()),
            ];
            self.counter(REFUSALS, labels)
        });
        counter.increment(1);
    }

    /// A limit that only observes would have refused.
    pub fn would_refuse(&self, policy: &str) {
        let labels = vec![Label::new("policy", policy.to_owned())];
        self.counter(WOULD_REFUSE, labels).increment(1);
    }

    /// An attempt at a backend ended.
    pub fn attempt(&self, backend: &Arc<str>, outcome: &'static str) {
        let counter = self.attempts.entry(&(backend.clone(), outcome), || {
            let labels = vec![
                Label::new("backend", backend.to_string()),
                Label::from_static_parts("status", outcome),
            ];
            self.counter(ATTEMPTS, labels)
        });
        counter.increment(1);
    }

    /// A semantic cache was asked.
    pub fn cache_lookup(&self, lookup: &CacheLookup) {
        let key = (lookup.policy.clone(), lookup.result.label());
        let series = self.cache_lookups.entry(&key, || {
            let policy = Label::new("policy", lookup.policy.to_string());
            let result = Label::from_static_parts("result", lookup.result.label());
            CacheSeries {
                lookups: self.counter(CACHE_LOOKUPS, vec![policy.clone(), result]),
                saved_tokens: self.counter(CACHE_SAVED_TOKENS, vec![policy]),
            }
        });
        series.lookups.increment(1);
        series.saved_tokens.increment(lookup.saved_tokens);
        if let Some(apart) = lookup.apart {
            let policy = Label::new("policy", lookup.policy.to_string());
            let distance = self.histogram(CACHE_ANSWER_DISTANCE, vec![policy]);
            distance.record(f64::from(apart));
        }
    }

    /// The plan in force, and the backends it names (all closed until breakers are there).
    pub fn configured<'a>(
        &self,
        (revision, loaded_at): (&str, u64),
        former: Option<&str>,
        backends: impl Iterator<Item = &'a str>,
    ) {
        if let Some(former) = former {
            self.gauge(CONFIG_INFO, "revision", former).set(0.0);
        }
        self.gauge(CONFIG_INFO, "revision", revision).set(1.0);
        self.single(CONFIG_LOADED).set(loaded_at as f64);
        self.single(CONFIG_SUCCESSFUL).set(1.0);
        backends.for_each(|backend| self.backend_state(backend, 0.0));
    }

    /// A backend's breaker opened.
    pub fn tripped(&self, backend: &Arc<str>, reason: &'static str) {
        let labels = vec![
            Label::new("backend", backend.to_string()),
            Label::from_static_parts("reason", reason),
        ];
        self.counter(BACKEND_TRIPS, labels).increment(1);
    }

    /// A request was tried again.
    pub fn retried(&self, pool: &Arc<str>, reason: &'static str) {
        let labels = vec![
            Label::new("pool", pool.to_string()),
            Label::from_static_parts("reason", reason),
        ];
        self.counter(RETRIES, labels).increment(1);
    }

    /// A backend's breaker as it is now: 0 closed, 1 open, 2 half-open.
    pub fn backend_state(&self, backend: &str, state: f64) {
        self.gauge(BACKEND_STATE, "backend", backend).set(state);
    }

    /// A reload was taken, or refused.
    pub fn reloaded(&self, taken: bool) {
        let result = match taken {
            true => "ok",
            false => "failed",
        };
        let labels = vec![Label::from_static_parts("result", result)];
        self.counter(CONFIG_RELOADS, labels).increment(1);
        let successful = f64::from(u8::from(taken));
        self.single(CONFIG_SUCCESSFUL).set(successful);
    }

    /// Adds a call's tokens under the label values of a token metric, in the order of its dimensions.
    pub fn tokens(&self, metric: &TokenMetric, values: &[std::borrow::Cow<'_, str>], usage: Usage) {
        let family = self
            .tokens
            .entry(metric.namespace.as_str(), Registry::default);
        let key = values.join("\u{1f}");
        let series = match family.find(key.as_str()) {
            Some(series) => series,
            None if family.len() < metric.max_series => {
                family.entry(key.as_str(), || self.token_series(metric, values))
            }
            None => {
                let others = vec![std::borrow::Cow::Borrowed("other"); values.len()];
                family.entry("\u{1f}other", || self.token_series(metric, &others))
            }
        };
        series.prompt.increment(usage.prompt);
        series.completion.increment(usage.completion);
        series.total.increment(usage.total);
        series.cached.increment(usage.cached);
        series.reasoning.increment(usage.reasoning);
    }

    fn token_series(
        &self,
        metric: &TokenMetric,
        values: &[std::borrow::Cow<'_, str>],
    ) -> TokenSeries {
        let labels: Vec<Label> = metric
            .dimensions
            .iter()
            .zip(values)
            .map(|(dimension, value)| Label::new(dimension.name.clone(), value.to_string()))
            .collect();
        let of = |part: &str, text: &'static str| {
            let name = format!("{}_{part}_tokens_total", metric.namespace);
            self.recorder
                .describe_counter(name.clone().into(), None, text.into());
            let key = Key::from_parts(name, labels.clone());
            self.recorder.register_counter(&key, &METADATA)
        };
        TokenSeries {
            prompt: of("prompt", "Tokens of prompts, cached ones among them."),
            completion: of("completion", "Tokens of answers, reasoning among them."),
            total: of("total", "Tokens of prompts and answers."),
            cached: of(
                "prompt_cached",
                "The part of the prompt tokens that the backend had cached.",
            ),
            reasoning: of(
                "completion_reasoning",
                "The part of the completion tokens spent on reasoning.",
            ),
        }
    }

    fn counter(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        let key = Key::from_parts(name, labels);
        self.recorder.register_counter(&key, &METADATA)
    }

    fn histogram(&self, name: &'static str, labels: Vec<Label>) -> Histogram {
        let key = Key::from_parts(name, labels);
        self.recorder.register_histogram(&key, &METADATA)
    }

    fn single(&self, name: &'static str) -> Gauge {
        let key = Key::from_static_name(name);
        self.recorder.register_gauge(&key, &METADATA)
    }

    fn gauge(&self, name: &'static str, label: &'static str, value: &str) -> Gauge {
        let labels = vec![Label::new(label, value.to_owned())];
        let key = Key::from_parts(name, labels);
        self.recorder.register_gauge(&key, &METADATA)
    }
}
