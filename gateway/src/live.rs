//! What goes on now, for whoever looks at the admin page: sums since the start, and the refusals of late.
//!
//! Prometheus has the same and more; this is for a look without one. A served request costs some additions here and no
//! lock; a refused one a short lock over a bounded list. Who looks does the rest, once a second (`admin::live`). Never
//! holds a key, a prompt or an answer.

pub mod refusals;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::context::{CacheLookup, CacheResult};
use crate::state::Registry;

use self::refusals::Refusals;

/// Sums since the start, and the refusals of late.
#[derive(Debug, Default)]
pub struct Live {
    refused: AtomicU64,
    tokens: AtomicU64,
    streams: Arc<AtomicUsize>,
    /// Bounded by the policies ever configured.
    caches: Registry<String, CacheSums>,
    refusals: Mutex<Refusals>,
}

/// What was asked of one semantic cache.
#[derive(Debug, Default)]
pub struct CacheSums {
    hits: AtomicU64,
    would_hits: AtomicU64,
    misses: AtomicU64,
    skips: AtomicU64,
    errors: AtomicU64,
    saved_tokens: AtomicU64,
}

/// Counts a stream as open while it lives.
#[derive(Debug)]
pub struct OpenStream(Arc<AtomicUsize>);

impl Live {
    /// A call used so many tokens.
    pub fn used(&self, tokens: u64) {
        self.tokens.fetch_add(tokens, Ordering::Relaxed);
    }

    /// A request was refused.
    pub fn refused(&self, refused: refusals::Refused<'_>) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.refusals.lock().add(refused);
    }

    /// A semantic cache was asked.
    pub fn looked_up(&self, lookup: &CacheLookup) {
        let sums = self.cache(&lookup.policy);
        let count = match lookup.result {
            CacheResult::Hit => &sums.hits,
            CacheResult::WouldHit => &sums.would_hits,
            CacheResult::Miss => &sums.misses,
            CacheResult::Skip => &sums.skips,
            CacheResult::Error => &sums.errors,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let saved = lookup.saved_tokens;
        sums.saved_tokens.fetch_add(saved, Ordering::Relaxed);
    }

    /// Counts a stream to a caller as open until the guard is dropped.
    pub fn stream(&self) -> OpenStream {
        self.streams.fetch_add(1, Ordering::Relaxed);
        OpenStream(self.streams.clone())
    }

    /// Streams open now.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Requests refused since the start.
    pub fn refused_sum(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Tokens used since the start.
    pub fn tokens_sum(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }

    /// What was asked of one policy's cache.
    pub fn cache(&self, policy: &str) -> Arc<CacheSums> {
        self.caches.entry(policy, CacheSums::default)
    }

    /// The refusals of late, the newest first.
    pub fn refusals(&self) -> Vec<refusals::Group> {
        self.refusals.lock().newest_first()
    }
}

impl CacheSums {
    /// Look-ups by what came of them.
    pub fn results(&self) -> [(CacheResult, u64); 5] {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            (CacheResult::Hit, read(&self.hits)),
            (CacheResult::WouldHit, read(&self.would_hits)),
            (CacheResult::Miss, read(&self.misses)),
            (CacheResult::Skip, read(&self.skips)),
            (CacheResult::Error, read(&self.errors)),
        ]
    }

    /// Tokens that no backend charged for again.
    pub fn saved_tokens(&self) -> u64 {
        self.saved_tokens.load(Ordering::Relaxed)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
