//! The live side of token limits: the store of their counters, and what was learned of callers and deployments.
//!
//! Survives a reload. Redis has a thread of its own, so that a busy worker never delays a heartbeat. Never
//! decides which limit applies; `stage::limit` does.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ahash::RandomState;
use arc_swap::ArcSwap;
use filters::limit::Now;
use filters::limit::learned::Learned;
use filters::tokens;
use filters::units::Tokens;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::clock;
use crate::config::plan::{self, Plan};
use crate::memo::Counts;
use crate::state::Registry;
use crate::store::Store;
use crate::store::local::Local;
use crate::store::redis::{Clock, Redis, Settings};

/// Answers' lengths are learned in so many words; callers that share one share an estimate, no more.
const LENGTHS: usize = 8_192;
/// Deployments whose model is learned. Their names may come from callers where a pattern lets any through.
const MAX_DEPLOYMENTS: usize = 1_000;
/// A start waits this long for Redis, so that a new replica doesn't begin with counters of its own.
const START_WAIT: Duration = Duration::from_secs(1);
/// A stop waits this long until Redis was told what was used.
const STOP_WAIT: Duration = Duration::from_secs(2);
/// How often that is looked at.
const STOP_POLL: Duration = Duration::from_millis(10);

/// Counters, and what was learned.
#[derive(Debug)]
pub struct Limits {
    store: ArcSwap<Store>,
    connected: Mutex<Connected>,
    replica: String,
    lengths: Box<[AtomicU64]>,
    hasher: RandomState,
    /// By pool and name asked for.
    models: Registry<u64, ArcSwap<String>>,
    unknown: Registry<String, ()>,
    counts: Arc<Counts>,
}

/// What the store was made from.
#[derive(Debug, Default)]
struct Connected {
    redis: Option<plan::Redis>,
    runtime: Option<Handle>,
}

impl Limits {
    /// An empty store, or a connection to a shared one; `replica` names this process, and no other.
    ///
    /// # Errors
    /// Why Redis can't be connected to, ever: its URL isn't one, or there is no thread to be had.
    pub fn new(plan: &Plan, replica: String) -> Result<Self, String> {
        let limits = Limits {
            store: ArcSwap::from_pointee(Store::Local(Arc::default())),
            connected: Mutex::default(),
            replica,
            lengths: (0..LENGTHS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            models: Registry::default(),
            unknown: Registry::default(),
            counts: Arc::default(),
        };
        limits.follow(plan)?;
        Ok(limits)
    }

    /// Connects elsewhere if the plan says so; what is reserved is settled where it was reserved.
    ///
    /// # Errors
    /// As [`Limits::new`]; the former store stays.
    pub fn follow(&self, plan: &Plan) -> Result<(), String> {
        let mut connected = self.connected.lock();
        if connected.redis == plan.redis {
            return Ok(());
        }
        let store = match &plan.redis {
            None => Store::Local(Arc::default()),
            Some(redis) => Store::Redis(self.connect(redis, &mut connected.runtime)?),
        };
        self.store.store(Arc::new(store));
        connected.redis.clone_from(&plan.redis);
        Ok(())
    }

    fn connect(
        &self,
        redis: &plan::Redis,
        runtime: &mut Option<Handle>,
    ) -> Result<Arc<Redis>, String> {
        let handle = match runtime {
            Some(handle) => handle.clone(),
            None => {
                let handle = own_thread().map_err(|error| format!("redis: no thread: {error}"))?;
                runtime.insert(handle).clone()
            }
        };
        let _inside = handle.enter();
        let settings = Settings {
            endpoint: redis.into(),
            timeout: redis.timeout,
            replica: self.replica.clone(),
            clock: Clock::Server,
        };
        Redis::connect(settings)
            .map_err(|error| format!("redis: it can't be connected to: {}", error.why()))
    }

    /// Where what talks to Redis runs; none before there was one to talk to.
    pub fn runtime(&self) -> Option<Handle> {
        self.connected.lock().runtime.clone()
    }

    /// Where counters live now.
    pub fn store(&self) -> Arc<Store> {
        self.store.load_full()
    }

    /// The shared store, where there is one.
    pub fn redis(&self) -> Option<Arc<Redis>> {
        match self.store.load().as_ref() {
            Store::Local(_) => None,
            Store::Redis(redis) => Some(redis.clone()),
        }
    }

    /// Removes idle counters; how many there were.
    pub fn sweep(&self) -> usize {
        match self.store.load().as_ref() {
            Store::Local(local) => Local::sweep(local, now()),
            Store::Redis(redis) => redis.sweep(now()),
        }
    }

    /// Waits a moment for Redis, if there is one.
    pub async fn start(&self) {
        let Some(redis) = self.redis() else { return };
        let up = redis.health().wait_until_up();
        if tokio::time::timeout(START_WAIT, up).await.is_err() {
            tracing::warn!("redis: no answer yet; each limit acts by its on-redis-error");
        }
    }

    /// Waits a moment until Redis knows what was used.
    pub async fn stop(&self) {
        let Some(redis) = self.redis() else { return };
        let told = async {
            while !redis.is_settled() {
                tokio::time::sleep(STOP_POLL).await;
            }
        };
        if tokio::time::timeout(STOP_WAIT, told).await.is_err() {
            let untold = redis.untold();
            tracing::error!(untold, "redis: stopped before it was told what was used");
        }
    }

    /// How long one of the answers that `subscription` gets from `model` may be.
    pub fn completion(&self, subscription: &str, model: &str) -> Tokens {
        Learned::from_word(self.length(subscription, model).load(Ordering::Relaxed)).estimate()
    }

    /// One of them was so long.
    pub fn learn_completion(&self, subscription: &str, model: &str, completion: Tokens) {
        let word = self.length(subscription, model);
        // Of two at once one may be lost: it is an estimate.
        let learned = Learned::from_word(word.load(Ordering::Relaxed)).after(completion);
        word.store(learned.word(), Ordering::Relaxed);
    }

    fn length(&self, subscription: &str, model: &str) -> &AtomicU64 {
        let hash = self.hasher.hash_one((subscription, model)) as usize;
        &self.lengths[hash % LENGTHS]
    }

    /// Token counts of texts that were seen before.
    pub fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }

    /// The model that answers of this pool called themselves, where this name was asked for.
    pub fn model_of(&self, pool: &str, asked: &str) -> Option<Arc<String>> {
        let found = self.models.find(&self.hasher.hash_one((pool, asked)))?;
        Some(found.load_full())
    }

    /// An answer named its model: what was asked for may be a deployment's name, which says nothing, or says what it was
    /// once.
    pub fn learn_model(&self, pool: &str, asked: &str, model: &str) {
        let key = self.hasher.hash_one((pool, asked));
        let known = self.models.find(&key);
        if known
            .as_ref()
            .is_some_and(|known| known.load().as_str() == model)
            || !tokens::encoding_of(model).known
        {
            return;
        }
        // Once: in a pool of several models each answer may name another.
        if known.is_none() && !tokens::counts_alike(asked, model) {
            tracing::info!(pool, asked, model, "learned which model answers");
        }
        match known {
            Some(known) => known.store(Arc::new(model.to_owned())),
            None if self.models.len() < MAX_DEPLOYMENTS => {
                self.models
                    .entry(&key, || ArcSwap::from_pointee(model.to_owned()));
            }
            None => {}
        }
    }

    /// Tokens were counted for a model whose name says nothing. Told once.
    pub fn counted_as_another(&self, model: &str) {
        if self.unknown.find(model).is_none() && self.unknown.len() < MAX_DEPLOYMENTS {
            tracing::warn!(
                model,
                "unknown model: its tokens are counted as gpt-4o's until an answer names one that is known"
            );
            self.unknown.entry(model, || ());
        }
    }
}

/// The moment of a decision.
pub fn now() -> Now {
    Now {
        time: clock::now().time(),
        unix: clock::unix_time(),
    }
}

/// A runtime that lives as long as the process.
fn own_thread() -> io::Result<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("redis".into())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}
