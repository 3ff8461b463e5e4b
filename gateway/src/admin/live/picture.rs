//! The picture: everything that the page shows of one moment, as JSON. Names, states and figures only.
//!
//! Each list has a bound, and says how many there are: a page is read by a person.

use std::cmp::Reverse;
use std::sync::Arc;

use filters::limit::Now;
use filters::limit::quota::Period;
use serde_json::{Value, json};

use super::explain::{look, why};
use crate::admin::{Readiness, readiness, status};
use crate::clock::{self, Moment};
use crate::config::plan::cache::{self, Keeps, SemanticCache};
use crate::config::plan::{Plan, Subscription, SubscriptionState, TokenLimit};
use crate::limits;
use crate::live::refusals::Group;
use crate::reply;
use crate::state::State;
use crate::store::standing::Standing;

/// Counters of one limit that are shown.
const MAX_STANDINGS: usize = 12;
/// Limits that are shown.
const MAX_LIMITS: usize = 40;
/// Subscriptions that are shown.
const MAX_SUBSCRIPTIONS: usize = 60;

/// Of this moment.
pub(super) async fn picture(state: &State) -> Value {
    let plan = state.plan.load_full();
    let now = clock::now();
    let limits = limits(state, &plan).await;
    let caches = plan.semantic_caches.iter();
    let refusals = state.live.refusals();
    let mut picture = status::common(state, &plan);
    let more = json!({
        "time_ms": clock::unix_millis().as_millis(),
        "readiness": match readiness(state) {
            Readiness::Ready => "ready",
            Readiness::Draining => "draining",
            Readiness::Starting => "starting",
            Readiness::NoBackend => "no pool has a usable backend",
        },
        "requests": state.arrived(),
        "refused": state.live.refused_sum(),
        "tokens": state.live.tokens_sum(),
        "streams": state.live.streams(),
        "usage_log_dropped": state.usage_log.as_ref().map(|log| log.dropped()),
        "subscriptions": subscriptions(state, &plan),
        "subscriptions_of": plan.subscriptions.len(),
        "limits": limits,
        "caches": caches.map(|policy| of_cache(state, policy)).collect::<Vec<_>>(),
        "refusals": refusals.iter().map(|group| of_group(group, now)).collect::<Vec<_>>(),
    });
    if let (Value::Object(picture), Value::Object(more)) = (&mut picture, more) {
        picture.extend(more);
    }
    picture
}

/// Those with the most calls first.
fn subscriptions(state: &State, plan: &Plan) -> Vec<Value> {
    let mut shown: Vec<_> = plan
        .subscriptions
        .iter()
        .map(|subscription| (subscription, state.slots.calls(&subscription.name)))
        .collect();
    shown.sort_by_key(|(_, calls)| Reverse(calls.as_ref().map_or(0, |calls| calls.begun())));
    shown.truncate(MAX_SUBSCRIPTIONS);
    let figures = |(subscription, calls): (&Arc<Subscription>, Option<Arc<_>>)| {
        let calls: Arc<crate::state::Calls> = calls.unwrap_or_default();
        json!({
            "name": subscription.name.as_ref(),
            "product": subscription.product.as_ref().map(|product| product.name.as_ref()),
            "suspended": subscription.state == SubscriptionState::Suspended,
            "in_flight": calls.current(),
            "requests": calls.begun(),
            "refused": calls.refused(),
            "tokens": calls.tokens(),
        })
    };
    shown.into_iter().map(figures).collect()
}

async fn limits(state: &State, plan: &Plan) -> Vec<Value> {
    let store = state.limits.store();
    let mut shown = Vec::new();
    for rule in plan.token_limits.iter().take(MAX_LIMITS) {
        let now = limits::now();
        let standings = store.standings(rule, MAX_STANDINGS, now).await;
        let fullest = standings.fullest.iter();
        let mut limit = status::of_limit(rule);
        limit["period"] = period(rule).into();
        // A budget counts money: this is what one of its units is worth.
        let unit = rule.budget.map(|budget| budget.unit().nano());
        limit["unit_nano_usd"] = unit.into();
        limit["counters"] = standings.counters.into();
        limit["fullest"] = fullest.map(|standing| of_standing(standing, now)).collect();
        shown.push(limit);
    }
    shown
}

fn period(rule: &TokenLimit) -> Option<&'static str> {
    rule.limit.quota().map(|quota| match quota.period() {
        Period::Hourly => "hour",
        Period::Daily => "day",
        Period::Weekly => "week",
        Period::Monthly => "month",
        Period::Yearly => "year",
    })
}

fn of_standing(standing: &Standing, now: Now) -> Value {
    let mut shown = json!({ "key": standing.key.as_ref() });
    if let (Some(rate), Some(left)) = (standing.limit.rate(), standing.left.tokens) {
        let most = rate.tokens_per_minute().get();
        // Beyond empty it is in debt: a whole minute's refill away from full and more.
        let debt_ms = standing.left.reset.as_millis().saturating_sub(60_000) as u64;
        shown["minute"] = json!({
            "of": most,
            "left": left.get(),
            "over": (u128::from(most) * u128::from(debt_ms) / 60_000) as u64,
            "opens_in_ms": debt_ms,
        });
    }
    if let (Some(quota), Some(left)) = (standing.limit.quota(), standing.left.quota) {
        let renewed = quota.period().window(now.unix).until.start();
        shown["quota"] = json!({
            "of": quota.tokens().get(),
            "left": left.get(),
            "renewed_at": renewed.as_seconds(),
        });
    }
    shown
}

fn of_cache(state: &State, policy: &SemanticCache) -> Value {
    let sums = state.live.cache(&policy.name);
    // What replicas share is counted nowhere.
    let entries = match policy.keeps {
        Keeps::Process => state.caches.entries(policy),
        Keeps::Redis => None,
    };
    let mut shown = json!({
        "name": policy.name.as_ref(),
        "mode": match policy.mode {
            cache::Mode::Serve => "serve",
            cache::Mode::Observe => "observe",
        },
        "kept_in": match policy.keeps {
            Keeps::Process => "process",
            Keeps::Redis => "redis",
        },
        "entries": entries,
        "max_entries": policy.max_entries,
        "saved_tokens": sums.saved_tokens(),
    });
    for (result, count) in sums.results() {
        shown[result.label()] = count.into();
    }
    shown
}

fn of_group(group: &Group, now: Moment) -> Value {
    let reply = reply::of(&group.refusal);
    json!({
        "why": why(&group.refusal),
        "look": look(&group.refusal),
        "code": group.refusal.code(),
        "status": reply.status,
        "told": group.refusal.message(),
        "retry_after_ms": reply.retry_after_ms,
        "policy": group.refusal.policy(),
        "api": group.api.as_deref(),
        "operation": group.operation,
        "subscription": group.subscription.as_deref(),
        "address": group.address.map(|address| address.to_string()),
        "model": group.model,
        "request_id": format!("{:032x}", group.request_id),
        "count": group.count,
        "first_ms_ago": now.since(group.first).as_millis() as u64,
        "last_ms_ago": now.since(group.last).as_millis() as u64,
    })
}
