//! Token limits, where they are counted, and semantic caches, in words.

use filters::limit::quota::{Period, Quota};
use filters::limit::reservation::Mode;
use filters::limit::{Hold, OnRedisError};

use crate::config::file::units::write_duration;
use crate::config::plan::cache::{self, SemanticCache, VaryBy};
use crate::config::plan::{Plan, TokenLimit};

/// One limit.
pub fn limit_lines(limit: &TokenLimit) -> Vec<String> {
    let rate = limit.limit.rate();
    let rate = rate.map(|rate| format!("{} tokens a minute", rate.tokens_per_minute()));
    let quota = limit.limit.quota().map(quota);
    let amounts: Vec<String> = rate.into_iter().chain(quota).collect();
    let mode = match limit.mode {
        Mode::Enforce => "",
        Mode::Observe => "; observes only",
    };
    let mut lines = vec![format!(
        "{}: {}, by {}{mode}",
        limit.name,
        amounts.join(", "),
        limit.counter_key.source()
    )];
    let when = limit.when.as_ref();
    lines.extend(when.map(|when| format!("when {}", when.source())));
    lines.push(
        match limit.limit.hold() {
            Hold::Nothing => "holds nothing: calls in flight may pass it",
            Hold::Prompt => "holds the prompt's estimate",
            Hold::PromptAndCompletion => "holds the prompt's estimate and the longest answer",
        }
        .to_owned(),
    );
    match limit.on_redis_error {
        OnRedisError::Local => {}
        OnRedisError::Refuse => lines.push("without redis: refuses".to_owned()),
        OnRedisError::Allow => lines.push("without redis: admits".to_owned()),
    }
    lines
}

/// One budget; nothing for a limit of tokens.
pub fn budget_lines(limit: &TokenLimit) -> Option<Vec<String>> {
    let budget = limit.budget?;
    let (name, key) = (&limit.name, limit.counter_key.source());
    let amount = budget.amount().shown();
    let period = period(budget.quota().period());
    let mut lines = vec![format!("{name}: {amount} USD {period}, by {key}")];
    let when = limit.when.as_ref();
    lines.extend(when.map(|when| format!("when {}", when.source())));
    Some(lines)
}

/// One semantic cache.
pub fn cache_lines(cache: &SemanticCache) -> Vec<String> {
    let mode = match cache.mode {
        cache::Mode::Serve => "",
        cache::Mode::Observe => "; observes only",
    };
    let duration = write_duration(cache.duration);
    let place = match cache.keeps {
        cache::Keeps::Process => format!("in this process, up to {}", cache.max_entries),
        cache::Keeps::Redis => "in Redis, for all replicas".to_owned(),
    };
    let kept = format!(
        "{}: answers are kept for {duration} {place}{mode}",
        cache.name
    );
    let when = cache.when.as_ref();
    let when = when.map(|when| format!("when {}", when.source()));
    let model = cache.embeddings.model();
    let embeddings = match &cache.embeddings {
        cache::Embedder::Backend(backend) => {
            format!("embeddings: {model} by backend {}", backend.name)
        }
        cache::Embedder::Local(local) => {
            format!(
                "embeddings: {model} in this process, from {}",
                local.path.display()
            )
        }
    };
    let apart = match &cache.vary_by {
        VaryBy::Subscription => "each subscription has its own".to_owned(),
        VaryBy::Values(values) if values.is_empty() => "all callers share them".to_owned(),
        VaryBy::Values(values) => {
            let values: Vec<&str> = values.iter().map(|value| value.source()).collect();
            format!("kept apart by {}", values.join(", "))
        }
    };
    let lines = std::iter::once(kept).chain(when);
    lines.chain([embeddings, apart]).collect()
}

fn quota(quota: Quota) -> String {
    format!("{} {}", quota.tokens(), period(quota.period()))
}

fn period(period: Period) -> &'static str {
    match period {
        Period::Hourly => "an hour",
        Period::Daily => "a day",
        Period::Weekly => "a week",
        Period::Monthly => "a month",
        Period::Yearly => "a year",
    }
}

/// Where counters are, if not in this process. Never the URL: it may hold a password.
pub fn redis_lines(plan: &Plan) -> Option<Vec<String>> {
    let redis = plan.redis.as_ref()?;
    let timeout = write_duration(redis.timeout);
    Some(vec![format!(
        "redis: limits are shared, waiting for it up to {timeout}"
    )])
}
