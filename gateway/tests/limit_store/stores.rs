//! Stores on a Redis of the test's own, and what is asked of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use filters::limit::bucket::Rate;
use filters::limit::quota::{Period, Quota};
use filters::limit::reservation::Mode;
use filters::limit::{Hold, Limit, Now};
use filters::time::{Time, UnixTime};
use filters::units::Tokens;
use gateway::store::redis::{Clock, Endpoint, Redis, Settings};
use gateway::store::{LimitRequest, OnRedisError, Store};

use super::server::{Place, Server};

pub const PATIENT: Duration = Duration::from_secs(2);
pub const BRIEF: Duration = Duration::from_millis(50);

static REPLICAS: AtomicU64 = AtomicU64::new(1);

pub async fn connect(place: &impl Place, timeout: Duration, clock: Clock) -> Arc<Redis> {
    connect_to(place.url(), timeout, clock).await
}

pub async fn connect_to(url: String, timeout: Duration, clock: Clock) -> Arc<Redis> {
    let redis = begin(Endpoint { url, ca_pem: None }, timeout, clock);
    up(&redis).await;
    redis
}

/// A store that connects in the background.
pub fn begin(endpoint: Endpoint, timeout: Duration, clock: Clock) -> Arc<Redis> {
    let replica = REPLICAS.fetch_add(1, Ordering::Relaxed);
    Redis::connect(Settings {
        endpoint,
        timeout,
        replica: format!("test-{replica}"),
        clock,
    })
    .unwrap()
}

pub async fn up(redis: &Redis) {
    tokio::time::timeout(Duration::from_secs(20), redis.health().wait_until_up())
        .await
        .expect("Redis isn't up");
}

/// Calls until Redis is known to be gone; how many were refused, `None` if it never is.
pub async fn until_down(redis: &Redis, store: &Store, limits: &[LimitRequest<'_>]) -> Option<u64> {
    let mut refused = 0;
    for _ in 0..500 {
        if !redis.health().is_up() {
            return Some(refused);
        }
        refused += u64::from(store.reserve(limits, wall()).await.is_err());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    None
}

pub async fn settled(redis: &Redis) {
    for _ in 0..5_000 {
        if redis.is_settled() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{} settlements weren't told", redis.untold());
}

pub fn both(tokens: u64) -> Limit {
    let quota = Quota::new(tokens, Period::Yearly);
    Limit::new(Rate::new(1_000_000), quota, Hold::Prompt).unwrap()
}

pub fn request(policy: &str, limit: Limit, amount: u64) -> LimitRequest<'_> {
    LimitRequest {
        policy,
        key: "key",
        limit,
        amount: Tokens::new(amount),
        mode: Mode::Enforce,
        on_error: OnRedisError::Local,
    }
}

pub fn on(on_error: OnRedisError, request: LimitRequest<'_>) -> LimitRequest<'_> {
    LimitRequest {
        on_error,
        ..request
    }
}

pub fn used(server: &Server, policy: &str) -> u64 {
    let key = format!("{{tollgate}}:limit:{}:{policy}:key", policy.len());
    server.ask(&["hget", &key, "u"]).parse().unwrap_or(0)
}

pub fn open_reservations(server: &Server) -> usize {
    let names = server.ask(&["keys", "{tollgate}:open:*"]);
    names.lines().filter(|line| !line.is_empty()).count()
}

pub fn at(now_us: u64) -> Now {
    let now_us = 1_795_342_830_000_000 + now_us;
    Now {
        time: Time::from_nanoseconds(now_us * 1_000),
        unix: UnixTime::from_seconds(now_us / 1_000_000),
    }
}

pub fn wall() -> Now {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Now {
        time: Time::from_nanoseconds(u64::try_from(since.as_nanos()).unwrap()),
        unix: UnixTime::from_seconds(since.as_secs()),
    }
}
