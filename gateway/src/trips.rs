//! What replicas know of each other's trips: tells what happened here, takes in what happened there.
//!
//! With Redis, and as a hint: without it, or while it is gone, each replica goes by what it sees itself. What is heard
//! is never told again. Never waits and never decides; `filters::breaker` says whether news is believed.

use std::sync::Arc;
use std::time::Duration;

use filters::breaker::{News, Transition, TripReason};
use filters::time::Time;
use parking_lot::Mutex;

use crate::clock;
use crate::config::plan::Backend;
use crate::state::State;
use crate::store::redis::Redis;
use crate::store::redis::trips::{Exchange, Own};

/// This replica's trips, and who hears of them.
#[derive(Debug, Default)]
pub struct Trips {
    own: Arc<Own>,
    exchange: Mutex<Option<Exchange>>,
}

/// Follows the shared store that is in force now, if there is one. Called whenever that may have changed.
pub fn follow(state: &Arc<State>) {
    let mut exchange = state.trips.exchange.lock();
    let Some(redis) = state.limits.redis() else {
        *exchange = None;
        return;
    };
    if exchange.as_ref().is_some_and(|own| own.is_over(&redis)) {
        return;
    }
    let listener = Arc::downgrade(state);
    let begun = Exchange::begin(&redis, state.trips.own.clone(), move |backend, news| {
        if let Some(state) = listener.upgrade() {
            hear(&state, backend, news);
        }
    });
    *exchange = match begun {
        Ok(begun) => Some(begun),
        Err(error) => {
            tracing::error!(reason = error.why(), "redis: trips can't be shared");
            None
        }
    };
}

/// Waits until the trips that are open were read, so that a start doesn't begin with what they are about.
pub async fn wait_until_read(state: &State, at_most: Duration) {
    let is_up = |redis: Arc<Redis>| redis.health().is_up();
    if !state.limits.redis().is_some_and(is_up) {
        return;
    }
    let exchange = state
        .trips
        .exchange
        .lock()
        .as_ref()
        .map(Exchange::wait_until_read);
    if let Some(read) = exchange {
        // Without it this replica finds out by itself.
        let _ = tokio::time::timeout(at_most, read).await;
    }
}

/// Tells the others, if a breaker of this replica has opened. A refused credential is its own affair.
pub fn tell(state: &State, backend: &Backend, transition: Option<Transition>, now: Time) {
    match transition {
        None
        | Some(Transition::Closed)
        | Some(Transition::Tripped {
            reason: TripReason::Credential,
            ..
        }) => {}
        Some(Transition::Tripped { reason, until }) => {
            let news = News {
                tripped_at: now,
                until,
                reason,
            };
            state.trips.own.add(&backend.name, news);
        }
    }
}

/// Another replica's trip; nothing to a replica that doesn't know the backend.
fn hear(state: &State, backend: &str, news: News) {
    let plan = state.plan.load();
    let known = plan.backends.iter().find(|known| *known.name == *backend);
    if let Some(backend) = known {
        let now = clock::now().time();
        state.health.hear(&state.metrics, backend, news, now);
    }
}
