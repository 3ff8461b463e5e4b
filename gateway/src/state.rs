//! Live state: what outlives a request and survives a reload. Kept by name, never inside the plan.
//!
//! Counters are single atomics; maps are read without a lock. Nothing here decides what a count means.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use ahash::RandomState;
use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::cache::Caches;
use crate::clock;
use crate::config::plan::Plan;
use crate::embed::local::Models;
use crate::embed::queue::Queues;
use crate::health::Health;
use crate::holders::Holders;
use crate::identity::Identities;
use crate::jwt::Issuers;
use crate::limits::Limits;
use crate::listener::Connections;
use crate::live::Live;
use crate::logs::Logs;
use crate::metrics::Metrics;
use crate::reload::Reloads;
use crate::stop::Stop;
use crate::tls::Tls;
use crate::traces::Traces;
use crate::trips::Trips;
use crate::upstream::peers::Peers;
use crate::usage_log::UsageLog;

/// Shared by all requests.
#[derive(Debug)]
pub struct State {
    /// The rules in force; a request takes one `Arc` of them on arrival.
    pub plan: ArcSwap<Plan>,
    /// Request bodies held at once.
    pub bodies: Arc<Budget>,
    /// Connections of callers.
    pub connections: Connections,
    /// Requests per subscription.
    pub slots: Slots,
    /// Addresses and connection settings of the backends.
    pub peers: Peers,
    /// Breakers, turns and retries.
    pub health: Health,
    /// Trips that replicas tell each other.
    pub trips: Trips,
    /// Which backend holds what.
    pub holders: Holders,
    /// Whose tokens callers may show.
    pub issuers: Issuers,
    /// Tokens of the gateway's own.
    pub identities: Identities,
    /// Counters of token limits.
    pub limits: Limits,
    /// Answers of semantic caches.
    pub caches: Caches,
    /// Texts that wait for their embeddings.
    pub embedding_queues: Queues,
    /// Embedding models in this process.
    pub models: Models,
    /// What handshakes with callers are made with.
    pub tls: Tls,
    /// Where usage is written down, if it is.
    pub usage_log: Option<UsageLog>,
    /// Lines a request, and what was said, if they are asked for.
    pub logs: Logs,
    /// Where spans go.
    pub traces: Traces,
    /// Everything that is counted.
    pub metrics: Metrics,
    /// What goes on now, for the admin page.
    pub live: Live,
    /// How far the end of the process has come.
    pub stop: Arc<Stop>,
    /// Set when names are resolved, encodings are loaded and signals are watched.
    pub ready: AtomicBool,
    /// What became of the last reload.
    pub reloads: Reloads,
    in_flight: Arc<AtomicUsize>,
    request_ids: AtomicU64,
    id_seed: u64,
}

impl State {
    /// State for a plan, with nothing counted yet.
    ///
    /// # Errors
    /// As [`Limits::new`] and [`UsageLog::start`].
    pub fn new(plan: Plan, metrics: Metrics) -> Result<Self, String> {
        let bodies = Arc::new(Budget::new(plan.server.max_buffered_bodies_bytes));
        let id_seed = seed();
        let replica = format!("{}-{id_seed:016x}", std::process::id());
        let usage_log = plan.usage_log.as_ref().map(UsageLog::start).transpose();
        let usage_log =
            usage_log.map_err(|error| format!("no thread for the usage log: {error}"))?;
        let limits = Limits::new(&plan, replica)?;
        let caches = Caches::default();
        caches.connect(&plan, limits.runtime().as_ref())?;
        let models = Models::default();
        models.follow(&plan)?;
        Ok(State {
            logs: Logs::new(&plan),
            limits,
            caches,
            embedding_queues: Queues::default(),
            models,
            peers: Peers::new(&plan),
            reloads: Reloads::new(&plan),
            plan: ArcSwap::from_pointee(plan),
            bodies,
            connections: Connections::default(),
            slots: Slots::default(),
            health: Health::default(),
            trips: Trips::default(),
            holders: Holders::default(),
            traces: Traces::default(),
            identities: Identities::default(),
            issuers: Issuers::default(),
            tls: Tls::default(),
            usage_log,
            metrics,
            live: Live::default(),
            stop: Arc::default(),
            ready: AtomicBool::new(false),
            in_flight: Arc::default(),
            request_ids: AtomicU64::new(1),
            id_seed,
        })
    }

    /// Writes down what isn't yet, at the end of the process. Blocks for some seconds at most.
    pub fn close_logs(&self) {
        if let Some(log) = &self.usage_log {
            log.close();
        }
        self.logs.close();
    }

    /// Counts a request as in flight until the guard is dropped.
    pub fn enter(&self) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.in_flight.clone())
    }

    /// Requests that have arrived and aren't accounted yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A number of this replica's own, where replicas shouldn't all begin alike.
    pub fn seed(&self) -> u64 {
        self.id_seed
    }

    /// Requests that have arrived since the start.
    pub fn arrived(&self) -> u64 {
        self.request_ids.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// Unique in this process, and unlikely to repeat in another.
    pub fn next_request_id(&self) -> u128 {
        let count = self.request_ids.fetch_add(1, Ordering::Relaxed);
        (u128::from(self.id_seed) << 64) | u128::from(count)
    }
}

fn seed() -> u64 {
    let nanoseconds = clock::unix_nanoseconds() as u64;
    nanoseconds.rotate_left(20) ^ u64::from(std::process::id())
}

/// Counts a request as in flight while it lives.
#[derive(Debug)]
pub struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A number of bytes that all requests share.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: AtomicUsize,
    held_bytes: AtomicUsize,
}

impl Budget {
    /// A budget of which nothing is held.
    pub fn new(limit_bytes: usize) -> Self {
        Budget {
            limit_bytes: AtomicUsize::new(limit_bytes),
            held_bytes: AtomicUsize::new(0),
        }
    }

    /// Bytes held now.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Changes the limit; what is held stays held.
    pub fn resize(&self, limit_bytes: usize) {
        self.limit_bytes.store(limit_bytes, Ordering::Relaxed);
    }

    fn take(&self, bytes: usize) -> bool {
        let limit = self.limit_bytes.load(Ordering::Relaxed);
        self.held_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                held.checked_add(bytes).filter(|sum| *sum <= limit)
            })
            .is_ok()
    }
}

/// A part of a budget; given back when dropped.
#[derive(Debug)]
pub struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Held {
    /// Holds nothing yet.
    pub fn nothing(budget: Arc<Budget>) -> Self {
        Held { budget, bytes: 0 }
    }

    /// Holds at least `bytes` from now on; `false` and unchanged if the budget can't give that.
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 && !self.budget.take(more) {
            return false;
        }
        self.bytes += more;
        true
    }

    /// Holds at most `bytes` from now on.
    pub fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.budget.held_bytes.fetch_sub(less, Ordering::Relaxed);
        self.bytes -= less;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

/// Concurrent requests, counted per subscription name. Bounded by the subscriptions ever configured.
#[derive(Debug, Default)]
pub struct Slots(Registry<String, Calls>);

/// One subscription's calls.
#[derive(Debug, Default)]
pub struct Calls {
    current: AtomicUsize,
    begun: AtomicU64,
    refused: AtomicU64,
    tokens: AtomicU64,
}

impl Slots {
    /// A place among the `limit` concurrent requests of `subscription`, if one is free.
    pub fn enter(&self, subscription: &str, limit: usize) -> Option<Slot> {
        let calls = self.0.entry(subscription, Calls::default);
        let current = &calls.current;
        let taken = current.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            (used < limit).then_some(used + 1)
        });
        taken.ok()?;
        calls.begun.fetch_add(1, Ordering::Relaxed);
        Some(Slot(calls))
    }

    /// A subscription's calls; nothing before its first.
    pub fn calls(&self, subscription: &str) -> Option<Arc<Calls>> {
        self.0.find(subscription)
    }
}

impl Calls {
    /// Calls of it in flight.
    pub fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// Calls since the start.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Those of them that were refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Tokens that they used.
    pub fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }
}

/// A place among a subscription's concurrent requests; free again when dropped.
#[derive(Debug)]
pub struct Slot(Arc<Calls>);

impl Slot {
    /// The call used so many tokens.
    pub fn used(&self, tokens: u64) {
        self.0.tokens.fetch_add(tokens, Ordering::Relaxed);
    }

    /// The call was refused.
    pub fn refused(&self) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.current.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A map that is read without a lock and copied when it grows: for things that are made once and used
/// for ever after, such as metric handles. The caller bounds its size.
#[derive(Debug)]
pub struct Registry<K, V> {
    map: ArcSwap<HashMap<K, Arc<V>, RandomState>>,
    growing: Mutex<()>,
}

impl<K, V> Default for Registry<K, V> {
    fn default() -> Self {
        Registry {
            map: ArcSwap::from_pointee(HashMap::default()),
            growing: Mutex::new(()),
        }
    }
}

impl<K: Hash + Eq + Clone, V> Registry<K, V> {
    /// The entry, if it is there.
    pub fn find<Q>(&self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.map.load().get(key).cloned()
    }

    /// The entry; made if it isn't there. Copies the map when it grows.
    pub fn entry<Q>(&self, key: &Q, make: impl FnOnce() -> V) -> Arc<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        if let Some(found) = self.find(key) {
            return found;
        }
        let _growing = self.growing.lock();
        if let Some(found) = self.find(key) {
            return found;
        }
        let value = Arc::new(make());
        let mut map = HashMap::clone(&self.map.load());
        map.insert(key.to_owned(), value.clone());
        self.map.store(Arc::new(map));
        value
    }

    /// All entries, in no order.
    pub fn values(&self) -> Vec<Arc<V>> {
        self.map.load().values().cloned().collect()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.map.load().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_gives_back_what_was_held_when_its_holder_is_dropped() {
        let budget = Arc::new(Budget::new(100));
        let mut first = Held::nothing(budget.clone());
        assert!(first.grow_to(60));
        let mut second = Held::nothing(budget.clone());
        assert!(!second.grow_to(41));
        assert!(second.grow_to(40));
        drop(first);
        assert_eq!(budget.held_bytes(), 40);
        assert!(second.grow_to(100));
        drop(second);
        assert_eq!(budget.held_bytes(), 0);
    }

    #[test]
    fn a_subscription_gets_its_slot_back_after_a_request_ends() {
        let slots = Slots::default();
        let first = slots.enter("team-a", 1);
        assert!(first.is_some());
        assert!(slots.enter("team-a", 1).is_none());
        // A refused request must not give back a place that it never had.
        assert!(slots.enter("team-a", 1).is_none());
        assert!(slots.enter("team-b", 1).is_some());
        drop(first);
        assert!(slots.enter("team-a", 1).is_some());
    }

    #[test]
    fn a_registry_makes_each_entry_once() {
        let registry: Registry<String, u32> = Registry::default();
        assert_eq!(*registry.entry("a", || 1), 1);
        assert_eq!(*registry.entry("a", || 2), 1);
        assert_eq!(registry.len(), 1);
    }
}
