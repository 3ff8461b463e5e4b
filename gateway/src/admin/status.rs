//! `/status`: what is configured and what it is doing, as JSON. Names and states only.

use filters::breaker::State as Breaker;
use filters::limit::reservation::Mode;
use filters::time::Time;
use serde_json::{Value, json};

use crate::clock;
use crate::config::plan::{Backend, Plan, Pool, SubscriptionState, TokenLimit};
use crate::identity::{Shown, Told};
use crate::jwt;
use crate::state::State;

/// The document.
pub(super) fn json(state: &State) -> Value {
    let plan = state.plan.load_full();
    let subscriptions = plan.subscriptions.iter().map(|subscription| {
        json!({
            "name": subscription.name.as_ref(),
            "product": subscription.product.as_ref().map(|product| product.name.as_ref()),
            "state": match subscription.state {
                SubscriptionState::Active => "active",
                SubscriptionState::Suspended => "suspended",
            },
        })
    });
    let mut document = common(state, &plan);
    document["subscriptions"] = subscriptions.collect();
    let limits = plan.token_limits.iter();
    document["budgets"] = limits
        .clone()
        .filter_map(|limit| of_budget(limit))
        .collect();
    let limits = limits.filter(|limit| limit.budget.is_none());
    document["token_limits"] = limits.map(|limit| of_limit(limit)).collect();
    document
}

/// What the page shows as it is, too.
pub(super) fn common(state: &State, plan: &Plan) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "time": clock::unix_seconds(),
        "gateway": { "id": plan.gateway.id, "location": plan.gateway.location },
        "configuration": {
            "revision": plan.revision,
            "source": plan.source,
            "loaded_at": plan.loaded_at,
            "watch": plan.server.watch,
            "needs_restart": state.reloads.needs_restart(plan),
            "last_reload": state.reloads.outcome().map(|outcome| json!({
                "at": outcome.at,
                "failure": outcome.failure,
                "changes": outcome.changes,
            })),
        },
        "in_flight": state.in_flight(),
        "buffered_bytes": state.bodies.held_bytes(),
        "apis": plan.apis.iter().map(|api| json!({
            "name": api.name.as_ref(),
            "path": api.path,
            "schema": api.schema.as_str(),
        })).collect::<Vec<_>>(),
        "backends": plan.backends.iter().map(|backend| of_backend(state, backend)).collect::<Vec<_>>(),
        "identities": state.identities.shown(plan).into_iter().map(of_identity).collect::<Vec<_>>(),
        "jwt": state.issuers.shown().map(of_issuer),
        "pools": plan.pools.iter().map(|pool| of_pool(pool)).collect::<Vec<_>>(),
        "redis": of_redis(state),
        "usage_log": state.usage_log.as_ref().map(|log| json!({
            "failing": log.is_failing(),
            "dropped": log.dropped(),
        })),
    })
}

/// Where [`configuration`] is found.
pub(super) const CONFIGURATION: &str = "/configuration";

/// `/configuration`: what the file in force says, by name and key, without its secrets. What `check --against` compares.
pub(super) fn configuration(state: &State) -> Value {
    let plan = state.plan.load();
    json!({
        "revision": plan.revision,
        "loaded_at": plan.loaded_at,
        "needs_restart": state.reloads.needs_restart(&plan),
        "outline": plan.outline.0,
    })
}

fn of_backend(state: &State, backend: &Backend) -> Value {
    let now = clock::now().time();
    let mut shown = json!({ "name": backend.name.as_ref(), "host": backend.url.authority });
    let health = state.health.backend(backend);
    let (name, reason, until) = match health.state(now) {
        Breaker::Closed => ("closed", None, None),
        Breaker::Open { until, reason } => ("open", Some(reason), Some(until)),
        Breaker::HalfOpen { reason } => ("half-open", Some(reason), None),
    };
    shown["state"] = name.into();
    if let Some(reason) = reason {
        shown["reason"] = reason.label().into();
        shown["heard"] = health.is_heard().into();
    }
    if let Some(until) = until {
        shown["closes_at"] = unix_seconds_at(until, now).into();
        shown["closes_in_ms"] = until.nanoseconds_since(now).div_ceil(1_000_000).into();
    }
    shown["attempts"] = health.sent().into();
    let remaining = health.remaining();
    if let Some(tokens) = remaining.tokens(now) {
        shown["remaining_tokens"] = tokens.get().into();
    }
    if let Some(requests) = remaining.requests(now) {
        shown["remaining_requests"] = requests.into();
    }
    if let Some(until) = health.short_until(now) {
        shown["unavailable"] = json!({ "reason": "quota", "until": unix_seconds_at(until, now) });
    }
    shown
}

/// Never the token, nor what is shown to get it.
fn of_identity(shown: Shown) -> Value {
    json!({
        "source": shown.identity.source.label(),
        "client_id": shown.identity.source.client_id(),
        "resource": shown.identity.resource,
        "expires_at": shown.expires_at.map(|at| at.as_seconds()),
        "failure": shown.failure.map(of_failure),
    })
}

fn of_issuer(shown: jwt::Shown) -> Value {
    json!({
        "issuer": shown.issuer,
        "keys": shown.keys,
        "fetched_at": shown.fetched_at.map(|at| at.as_seconds()),
        "failure": shown.failure.map(of_failure),
    })
}

fn of_failure(told: Told) -> Value {
    json!({ "at": told.at.as_seconds(), "why": told.why })
}

/// Rounded up, so that it isn't told too early.
fn unix_seconds_at(time: Time, now: Time) -> u64 {
    clock::unix_seconds() + time.nanoseconds_since(now).div_ceil(1_000_000_000)
}

/// Never the URL: it may hold a password.
fn of_redis(state: &State) -> Value {
    let Some(redis) = state.limits.redis() else {
        return Value::Null;
    };
    let health = redis.health();
    json!({
        "up": health.is_up(),
        "replicas": health.replicas(),
        "untold": redis.untold(),
    })
}

pub(super) fn of_limit(limit: &TokenLimit) -> Value {
    let rate = limit.limit.rate();
    let quota = limit.limit.quota();
    json!({
        "name": limit.name,
        "tokens_per_minute": rate.map(|rate| rate.tokens_per_minute().get()),
        "token_quota": quota.map(|quota| quota.tokens().get()),
        "mode": match limit.mode {
            Mode::Enforce => "enforce",
            Mode::Observe => "observe",
        },
    })
}

fn of_budget(limit: &TokenLimit) -> Option<Value> {
    let amount = limit.budget?.amount();
    Some(json!({ "name": limit.name, "amount_usd": amount.to_string() }))
}

fn of_pool(pool: &Pool) -> Value {
    let members = pool.members.iter().map(|member| {
        json!({
            "backend": member.backend.name.as_ref(),
            "priority": member.priority,
            "weight": member.weight,
        })
    });
    json!({ "name": pool.name.as_ref(), "members": members.collect::<Vec<_>>() })
}
