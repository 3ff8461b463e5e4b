//! The counters of one policy: a sharded map that is read without a lock, and cells that change by
//! compare-and-swap.
//!
//! A shard is an immutable map behind one pointer, copied when a counter is added or removed: a look-up
//! never waits for another thread, and a new counter costs a copy of some hundred pointers. Why not a
//! lock for each shard: all callers of one limit meet in one shard, on every request.
//!
//! An idle counter goes by being marked **dead** first. Who finds a dead word looks the counter up again,
//! so nothing is ever counted on a cell that nobody will read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use ahash::RandomState;
use arc_swap::ArcSwap;
use filters::limit::bucket::{Bucket, CAPACITY, Rate, Refill, Verdict};
use filters::limit::quota::{Hour, Period, Quota, Used};
use filters::limit::reservation::Cell;
use filters::limit::{Limit, Now};
use filters::units::Tokens;
use parking_lot::Mutex;

/// Shards of a policy: with the most counters there are, a copy is of some thousand pointers.
const SHARDS: usize = 256;

/// No bucket and no quota has this word: it would be full in 500 years, or of the year 2448.
const DEAD: u64 = u64::MAX;

/// Counters that are looked at to find the fullest: some milliseconds' worth, off the path of requests.
const LOOKED_AT: usize = 20_000;

/// A policy's counters by key.
#[derive(Debug)]
pub struct Counters {
    shards: Vec<Shard>,
    hasher: RandomState,
    period: AtomicU8,
    len: AtomicUsize,
}

type Map = HashMap<Arc<str>, Arc<Counter>, RandomState>;

#[derive(Debug, Default)]
struct Shard {
    map: ArcSwap<Map>,
    changing: Mutex<()>,
}

/// One counter: two words.
#[derive(Debug)]
pub struct Counter {
    key: Arc<str>,
    bucket: AtomicU64,
    used: AtomicU64,
}

/// The word isn't what the plan was made for: full meanwhile, or dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

impl Default for Counters {
    fn default() -> Self {
        Counters {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            hasher: RandomState::new(),
            period: AtomicU8::new(0),
            len: AtomicUsize::new(0),
        }
    }
}

impl Counters {
    /// The counter, if it is there.
    pub fn find(&self, key: &str) -> Option<Arc<Counter>> {
        self.shard(key).map.load().get(key).cloned()
    }

    /// How many counters there are.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The counter; made if it isn't there.
    pub fn entry(&self, key: &str) -> Arc<Counter> {
        if let Some(found) = self.find(key) {
            return found;
        }
        let shard = self.shard(key);
        let _changing = shard.changing.lock();
        if let Some(found) = self.find(key) {
            return found;
        }
        let counter = Arc::new(Counter::new(key.into()));
        let mut map = Map::clone(&shard.map.load());
        map.insert(counter.key.clone(), counter.clone());
        shard.map.store(Arc::new(map));
        self.len.fetch_add(1, Ordering::Relaxed);
        counter
    }

    /// Remembers the rule's period, by which a counter is judged idle.
    pub fn follow(&self, limit: &Limit) {
        let number = limit.quota().map_or(0, |quota| number(quota.period()));
        if self.period.load(Ordering::Relaxed) != number {
            self.period.store(number, Ordering::Relaxed);
        }
    }

    /// Removes every idle counter; how many there were.
    pub fn sweep(&self, now: Now) -> usize {
        let period = period(self.period.load(Ordering::Relaxed));
        let shards = self.shards.iter();
        let removed = shards.map(|shard| shard.sweep(period, now)).sum();
        self.len.fetch_sub(removed, Ordering::Relaxed);
        removed
    }

    /// The keys of the fullest counters, the fullest first, among the first [`LOOKED_AT`] of them.
    pub fn fullest(&self, limit: &Limit, now: Now, most: usize) -> Vec<Arc<str>> {
        let mut found: Vec<(u64, Arc<str>)> = Vec::new();
        let mut looked_at = 0;
        for shard in &self.shards {
            let map = shard.map.load();
            looked_at += map.len();
            let counters = map.values();
            found.extend(
                counters.map(|counter| (counter.fullness(limit, now), counter.key.clone())),
            );
            found.sort_by(|(full, key), (other, beside)| other.cmp(full).then(key.cmp(beside)));
            found.truncate(most);
            if looked_at >= LOOKED_AT {
                break;
            }
        }
        found.into_iter().map(|(_, key)| key).collect()
    }

    fn shard(&self, key: &str) -> &Shard {
        let hash = self.hasher.hash_one(key) as usize;
        &self.shards[hash % SHARDS]
    }
}

impl Shard {
    fn sweep(&self, period: Option<Period>, now: Now) -> usize {
        if self.map.load().is_empty() {
            return 0;
        }
        let _changing = self.changing.lock();
        let mut map = Map::clone(&self.map.load());
        let before = map.len();
        map.retain(|_, counter| !counter.bury(period, now));
        let removed = before - map.len();
        if removed > 0 {
            self.map.store(Arc::new(map));
        }
        removed
    }
}

impl Counter {
    fn new(key: Arc<str>) -> Self {
        Counter {
            key,
            bucket: AtomicU64::new(Bucket::FULL.word()),
            used: AtomicU64::new(Used::NOTHING.word()),
        }
    }

    /// What it counts by.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Both words as they are.
    pub fn cell(&self) -> Cell {
        Cell {
            bucket: Bucket::from_word(self.bucket.load(Ordering::Acquire)),
            used: Used::from_word(self.used.load(Ordering::Acquire)),
        }
    }

    /// How near it is to its limit, in thousandths: of its rate or of its quota, whichever is nearer.
    fn fullness(&self, limit: &Limit, now: Now) -> u64 {
        let cell = self.cell();
        let taken = cell.bucket.until_full(now.time).as_nanoseconds();
        let rate = limit
            .rate()
            .map_or(0, |_| taken / (CAPACITY.as_nanoseconds() / 1000));
        let quota = limit.quota().map_or(0, |quota| {
            let used = cell.used.in_window(quota.period(), now.unix).tokens;
            used.get().saturating_mul(1000) / quota.tokens().get().max(1)
        });
        rate.max(quota)
    }

    /// Whether it was removed from its map.
    pub fn is_dead(&self) -> bool {
        self.bucket.load(Ordering::Acquire) == DEAD || self.used.load(Ordering::Acquire) == DEAD
    }

    /// Takes from the bucket, if it is there.
    ///
    /// # Errors
    /// If it isn't.
    pub fn take_rate(&self, rate: Rate, amount: Tokens, now: Now) -> Result<Refill, Lost> {
        let cost = rate.cost(amount);
        change(&self.bucket, |word| {
            let bucket = Bucket::from_word(word);
            let admitted = bucket.check(rate, amount, now.time) == Verdict::Admitted;
            admitted.then(|| match cost {
                Refill::ZERO => word,
                some => bucket.take(some, now.time).word(),
            })
        })?;
        Ok(cost)
    }

    /// Takes from the quota, if it is there; the window it was taken from.
    ///
    /// # Errors
    /// If it isn't.
    pub fn take_quota(&self, quota: Quota, amount: Tokens, now: Now) -> Result<Hour, Lost> {
        let before = change(&self.used, |word| {
            let used = Used::from_word(word);
            let admitted = used.check(quota, amount, now.unix) == Verdict::Admitted;
            admitted.then(|| match amount {
                Tokens::ZERO => word,
                some => used.take(quota, some, now.unix).word(),
            })
        })?;
        let used = Used::from_word(before);
        Ok(used.in_window(quota.period(), now.unix).since)
    }

    /// Makes what was held of the bucket what was used.
    ///
    /// # Errors
    /// If the counter is dead.
    pub fn settle_rate(&self, held: Refill, used: Refill, now: Now) -> Result<(), Lost> {
        change(&self.bucket, |word| {
            Some(Bucket::from_word(word).settle(held, used, now.time).word())
        })?;
        Ok(())
    }

    /// Makes what was held of the quota what was used.
    ///
    /// # Errors
    /// If the counter is dead.
    pub fn settle_quota(&self, since: Hour, held: Tokens, used: Tokens) -> Result<(), Lost> {
        if held == used {
            return if self.is_dead() { Err(Lost) } else { Ok(()) };
        }
        change(&self.used, |word| {
            Some(Used::from_word(word).settle(since, held, used).word())
        })?;
        Ok(())
    }

    /// Overwrites both words, unless it is dead.
    pub fn set(&self, cell: Cell) {
        let both = [
            (&self.bucket, cell.bucket.word()),
            (&self.used, cell.used.word()),
        ];
        for (word, new) in both {
            // A dead counter has nothing to remember.
            let _ = change(word, |_| Some(new));
        }
    }

    /// Marks it dead if it is idle. The first word is brought back if the second was changed meanwhile.
    fn bury(&self, period: Option<Period>, now: Now) -> bool {
        let (bucket, used) = (
            self.bucket.load(Ordering::Acquire),
            self.used.load(Ordering::Acquire),
        );
        let cell = Used::from_word(used);
        let current = period.map_or(cell, |period| cell.in_window(period, now.unix));
        let full = Bucket::from_word(bucket).until_full(now.time) == Refill::ZERO;
        if !full || current.tokens > Tokens::ZERO {
            return false;
        }
        if swap(&self.used, used, DEAD).is_err() {
            return false;
        }
        if swap(&self.bucket, bucket, DEAD).is_err() {
            self.used.store(used, Ordering::Release);
            return false;
        }
        true
    }
}

/// Changes a word as `next` says; the word before. Ends when no other thread was quicker: one of them
/// always gets on.
fn change(word: &AtomicU64, next: impl Fn(u64) -> Option<u64>) -> Result<u64, Lost> {
    let mut seen = word.load(Ordering::Acquire);
    loop {
        if seen == DEAD {
            return Err(Lost);
        }
        let new = next(seen).ok_or(Lost)?;
        if new == seen {
            return Ok(seen);
        }
        match swap(word, seen, new) {
            Ok(before) => return Ok(before),
            Err(now) => seen = now,
        }
    }
}

fn swap(word: &AtomicU64, seen: u64, new: u64) -> Result<u64, u64> {
    word.compare_exchange_weak(seen, new, Ordering::AcqRel, Ordering::Acquire)
}

fn number(period: Period) -> u8 {
    match period {
        Period::Hourly => 1,
        Period::Daily => 2,
        Period::Weekly => 3,
        Period::Monthly => 4,
        Period::Yearly => 5,
    }
}

fn period(number: u8) -> Option<Period> {
    let periods = [
        Period::Hourly,
        Period::Daily,
        Period::Weekly,
        Period::Monthly,
        Period::Yearly,
    ];
    usize::from(number)
        .checked_sub(1)
        .and_then(|index| periods.get(index).copied())
}
