//! `[[token-limit]]`, `[[token-metric]]`, `[[semantic-cache]]` and `[[budget]]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use filters::limit::OnRedisError;
use filters::limit::quota::Period;
use filters::limit::reservation::Mode;

use super::super::error::{Located, Place};
use super::field::Field;
use super::table::Table;

/// Every policy of the file, in file order.
#[derive(Debug)]
pub struct Policies {
    /// `[[token-limit]]`
    pub token_limits: Vec<TokenLimit>,
    /// `[[token-metric]]`
    pub token_metrics: Vec<TokenMetric>,
    /// `[[semantic-cache]]`
    pub semantic_caches: Vec<SemanticCache>,
    /// `[[budget]]`
    pub budgets: Vec<Budget>,
}

/// `[[token-limit]]`
#[derive(Debug)]
pub struct TokenLimit {
    /// Where it starts.
    pub place: Place,
    /// Unique.
    pub name: Option<Located<String>>,
    /// CEL.
    pub when: Option<Located<String>>,
    /// CEL.
    pub counter_key: Option<Located<String>>,
    /// Tokens.
    pub tokens_per_minute: Option<Located<u64>>,
    /// Tokens.
    pub quota: Option<Located<u64>>,
    /// How long the quota's windows are.
    pub period: Option<Located<Period>>,
    /// Hold the prompt's estimate.
    pub estimates_prompt: Option<Located<bool>>,
    /// Hold the longest completion too.
    pub reserves_completion: Option<Located<bool>>,
    /// What it does without Redis.
    pub on_redis_error: Option<Located<OnRedisError>>,
    /// Whether it refuses.
    pub mode: Option<Located<Mode>>,
    /// Names of headers of the answer.
    pub headers: HeaderNames,
    /// Whether the `x-ratelimit-*` that SDKs know are sent.
    pub standard_headers: Option<Located<bool>>,
}

/// The names that an answer's headers get.
#[derive(Debug)]
pub struct HeaderNames {
    /// Instead of `Retry-After`.
    pub retry_after: Option<Located<String>>,
    /// Tokens left of the minute.
    pub remaining_tokens: Option<Located<String>>,
    /// Tokens left of the period.
    pub remaining_quota: Option<Located<String>>,
    /// Tokens that the call used.
    pub consumed: Option<Located<String>>,
}

/// `[[token-metric]]`
#[derive(Debug)]
pub struct TokenMetric {
    /// Where it starts.
    pub place: Place,
    /// Prefix of the metric names.
    pub namespace: Option<Located<String>>,
    /// Where `dimensions` stands.
    pub dimensions_place: Place,
    /// In file order.
    pub dimensions: Vec<Dimension>,
    /// Label sets.
    pub max_series: Option<Located<u64>>,
}

/// One of `dimensions`.
#[derive(Debug)]
pub struct Dimension {
    /// The label.
    pub name: Option<Located<String>>,
    /// CEL. `None`: the name is that of a default dimension.
    pub value: Option<Located<String>>,
}

/// `[[semantic-cache]]`
#[derive(Debug)]
pub struct SemanticCache {
    /// Where it starts.
    pub place: Place,
    /// Unique.
    pub name: Option<Located<String>>,
    /// CEL.
    pub when: Option<Located<String>>,
    /// Who makes the vectors.
    pub embeddings: Embeddings,
    /// CEL; `None`: by the subscription.
    pub vary_by: Option<Vec<Located<String>>>,
    /// Cosine distance.
    pub score_threshold: Option<Located<f64>>,
    /// Whether they are left out of what is counted.
    pub ignores_system_messages: Option<Located<bool>>,
    /// Whether answers that call tools are kept.
    pub keeps_tool_calls: Option<Located<bool>>,
    /// Messages.
    pub max_message_count: Option<Located<u64>>,
    /// How long an answer is kept.
    pub duration: Option<Located<Duration>>,
    /// Where they are kept; `None`: in Redis where there is one.
    pub store: Option<Located<Store>>,
    /// Answers.
    pub max_entries: Option<Located<u64>>,
    /// Whether it answers.
    pub mode: Option<Located<Mode>>,
}

/// `embeddings`
#[derive(Debug, Default)]
pub struct Embeddings {
    /// A backend's name; `None` where they are made in this process.
    pub backend: Option<Located<String>>,
    /// The folder of a model in this process.
    pub path: Option<Located<String>>,
    /// Of its weights, in hexadecimal.
    pub sha256: Option<Located<String>>,
}

/// Where answers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// `"process"`
    Process,
    /// `"redis"`
    Redis,
}

/// `[[budget]]`
#[derive(Debug)]
pub struct Budget {
    /// Where it starts.
    pub place: Place,
    /// Unique.
    pub name: Option<Located<String>>,
    /// CEL; always if absent.
    pub when: Option<Located<String>>,
    /// CEL.
    pub counter_key: Option<Located<String>>,
    /// `"500 USD"`
    pub amount: Option<Located<String>>,
    /// Of the calendar.
    pub period: Option<Located<Period>>,
    /// Share of the amount.
    pub warn_at: Option<Located<f64>>,
}

/// Reads all four.
pub fn policies(root: &Table<'_, '_>) -> Policies {
    let all = |key| root.field(key).tables().into_iter();
    Policies {
        token_limits: all("token-limit").map(token_limit).collect(),
        token_metrics: all("token-metric").map(token_metric).collect(),
        semantic_caches: all("semantic-cache").map(semantic_cache).collect(),
        budgets: all("budget").map(budget).collect(),
    }
}

fn name(table: &Table<'_, '_>) -> Option<Located<String>> {
    let name = table.field("name");
    name.required("a name of its own: the counter, the label and the refusal bear it")
        .text()
}

fn mode(table: &Table<'_, '_>, acting: &str) -> Option<Located<Mode>> {
    let words = [(acting, Mode::Enforce), ("observe", Mode::Observe)];
    table.field("mode").choice(&words)
}

fn token_limit(table: Table<'_, '_>) -> TokenLimit {
    let counter_key = table.field("counter-key");
    let counter_key = counter_key.required("an expression such as 'subscription.id'");
    let words = [
        ("local", OnRedisError::Local),
        ("refuse", OnRedisError::Refuse),
        ("allow", OnRedisError::Allow),
    ];
    refuse_half_an_amount(&table);
    let limit = TokenLimit {
        place: table.place().clone(),
        name: name(&table),
        when: table.field("when").text(),
        counter_key: counter_key.text(),
        tokens_per_minute: table.field("tokens-per-minute").integer(TOKENS),
        quota: table.field("token-quota").integer(TOKENS),
        period: table.field("token-quota-period").choice(&PERIODS),
        estimates_prompt: table.field("estimate-prompt-tokens").flag(),
        reserves_completion: table.field("reserve-completion-tokens").flag(),
        on_redis_error: table.field("on-redis-error").choice(&words),
        mode: mode(&table, "enforce"),
        headers: HeaderNames {
            retry_after: table.field("retry-after-header-name").text(),
            remaining_tokens: table.field("remaining-tokens-header-name").text(),
            remaining_quota: table.field("remaining-quota-tokens-header-name").text(),
            consumed: table.field("tokens-consumed-header-name").text(),
        },
        standard_headers: table.field("rate-limit-headers").flag(),
    };
    table.finish();
    limit
}

/// Tokens a minute, a quota, or both; a quota has a period.
fn refuse_half_an_amount(table: &Table<'_, '_>) {
    let rate = table.field("tokens-per-minute");
    let quota = table.field("token-quota");
    let period = table.field("token-quota-period");
    match (rate.is_there(), quota.is_there(), period.is_there()) {
        (false, false, _) => {
            table.missing(
                "tokens-per-minute",
                "tokens-per-minute, token-quota, or both",
            );
        }
        (_, true, false) => table.missing("token-quota-period", PERIOD_NAMES),
        (true, false, true) => {
            period.refuse("found a period without token-quota, expected both or neither");
        }
        (_, true, true) | (true, false, false) => {}
    }
}

fn token_metric(table: Table<'_, '_>) -> TokenMetric {
    let dimensions = table.field("dimensions");
    let dimensions = dimensions.required("an array such as [{ name = \"subscription_id\" }]");
    let metric = TokenMetric {
        place: table.place().clone(),
        namespace: table.field("namespace").text(),
        dimensions_place: dimensions.place(),
        dimensions: dimensions.tables().into_iter().map(dimension).collect(),
        max_series: table.field("max-series").integer(SERIES),
    };
    table.finish();
    metric
}

fn dimension(table: Table<'_, '_>) -> Dimension {
    let dimension = Dimension {
        name: table.field("name").required("the label's name").text(),
        value: table.field("value").text(),
    };
    table.finish();
    dimension
}

fn semantic_cache(table: Table<'_, '_>) -> SemanticCache {
    let embeddings = table.field("embeddings");
    let embeddings = embeddings.required("{ backend = \"NAME\" } or { local = \"MODEL\" }");
    let cache = SemanticCache {
        place: table.place().clone(),
        name: name(&table),
        when: table.field("when").text(),
        embeddings: embeddings_of(&embeddings).unwrap_or_default(),
        vary_by: table.field("vary-by").list(),
        score_threshold: table.field("score-threshold").number(0.0..=1.0),
        ignores_system_messages: table.field("ignore-system-messages").flag(),
        keeps_tool_calls: table.field("tool-calls").flag(),
        max_message_count: table.field("max-message-count").integer(MESSAGES),
        duration: table.field("duration").duration(CACHED),
        store: table.field("store").choice(&STORES),
        max_entries: table.field("max-entries").integer(ENTRIES),
        mode: mode(&table, "serve"),
    };
    table.finish();
    cache
}

const STORES: [(&str, Store); 2] = [("redis", Store::Redis), ("process", Store::Process)];

fn embeddings_of(field: &Field<'_, '_, '_>) -> Option<Embeddings> {
    let table = field.table()?;
    let backend = table.field("backend");
    let local = table.field("local");
    if backend.is_there() == local.is_there() {
        table.refuse("expected { backend = \"NAME\" } or { local = \"MODEL\" }, with one key");
    }
    local.choice(&[("all-minilm-l6-v2", ())]);
    let (path, sha256) = (table.field("path"), table.field("sha256"));
    if backend.is_there() && (path.is_there() || sha256.is_there()) {
        table.refuse("path and sha256 are of a model in this process; expected { backend = \"NAME\" } without them");
    }
    let embeddings = Embeddings {
        backend: backend.text(),
        path: path.text(),
        sha256: sha256.text(),
    };
    table.finish();
    Some(embeddings)
}

fn budget(table: Table<'_, '_>) -> Budget {
    let counter_key = table.field("counter-key");
    let counter_key = counter_key.required("an expression such as 'subscription.id'");
    let amount = table
        .field("amount")
        .required("an amount such as \"500 USD\"");
    let period = table.field("period").required(PERIOD_NAMES);
    let budget = Budget {
        place: table.place().clone(),
        name: name(&table),
        when: table.field("when").text(),
        counter_key: counter_key.text(),
        amount: amount.text(),
        period: period.choice(&PERIODS),
        warn_at: table.field("warn-at").number(0.0..=1.0),
    };
    table.finish();
    budget
}

const PERIODS: [(&str, Period); 5] = [
    ("hourly", Period::Hourly),
    ("daily", Period::Daily),
    ("weekly", Period::Weekly),
    ("monthly", Period::Monthly),
    ("yearly", Period::Yearly),
];
const PERIOD_NAMES: &str = "\"hourly\", \"daily\", \"weekly\", \"monthly\" or \"yearly\"";
/// A bucket is one word of nanoseconds: up to a thousand billion tokens it is exact enough.
const TOKENS: RangeInclusive<u64> = 1..=1_000_000_000_000;
/// Each series is kept for ever: a million are about a gigabyte.
const SERIES: RangeInclusive<u64> = 1..=1_000_000;
/// Longer conversations are not worth a look-up.
const MESSAGES: RangeInclusive<u64> = 1..=1_000;
/// Kept answers.
const CACHED: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);
/// 100 000 vectors of 1 536 numbers are 600 MB.
const ENTRIES: RangeInclusive<u64> = 1..=10_000_000;
