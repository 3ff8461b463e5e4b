//! What Redis still has to be told: reservations to settle, and usage that nothing was held for.
//!
//! Told in batches in the background, so settling never holds up an answer. A batch is kept until it was
//! confirmed and carries a number, so it is applied once however often it is sent. While Redis is gone,
//! usage is added up per counter, so the ledger grows with the counters and not with the calls.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use filters::limit::bucket::Refill;
use filters::limit::quota::Hour;
use filters::units::Tokens;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Lines in one batch: a millisecond of Redis at most.
const MAX_BATCH_LINES: usize = 256;

/// Reservations that wait to be settled. They were made while Redis answered, so there are no more than were
/// in flight when it stopped; beyond that their usage is kept and what was held runs out by itself.
const MAX_WAITING: usize = 65_536;

/// Counters whose usage waits, as many as there may be counters.
const MAX_USED: usize = crate::store::local::MAX_COUNTERS;

/// What to tell, in order.
#[derive(Debug, Default)]
pub struct Ledger {
    pending: Mutex<Pending>,
    /// Rung when there is something to tell.
    pub wake: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    waiting: VecDeque<Entry>,
    used: HashMap<(Arc<str>, Hour), Line>,
    flying: Option<Arc<Batch>>,
    last_batch: u64,
    dropped: u64,
}

/// A reservation that is over.
#[derive(Debug)]
pub struct Entry {
    /// Its number.
    pub id: u64,
    /// Whether Redis said that it was taken.
    pub answer: Answer,
    /// Its limits.
    pub lines: Vec<Line>,
}

/// What is known of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was taken.
    Taken,
    /// The answer was lost: it may have been taken, or may yet be.
    Lost,
}

/// One limit of it.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its key in Redis.
    pub key: Arc<str>,
    /// Held of the rate.
    pub held: Refill,
    /// Used of the rate; `None` where there is none.
    pub used: Option<Refill>,
    /// Held of the quota.
    pub held_tokens: Tokens,
    /// Used of the quota.
    pub used_tokens: Tokens,
    /// The quota's window, first hour and the next one's; `None` where there is no quota.
    pub window: Option<(Hour, Hour)>,
}

/// What is sent at once.
#[derive(Debug)]
pub struct Batch {
    /// Grows with each.
    pub number: u64,
    /// A counter a line.
    pub keys: Vec<String>,
    /// As `settle.lua` takes them, from the first line's on.
    pub arguments: Vec<String>,
}

impl Ledger {
    /// A reservation is over.
    pub fn settle(&self, entry: Entry) {
        let mut pending = self.pending.lock();
        if pending.waiting.len() < MAX_WAITING {
            pending.waiting.push_back(entry);
        } else {
            pending.dropped += 1;
            entry.lines.into_iter().for_each(|line| pending.add(line));
        }
        drop(pending);
        self.wake.notify_one();
    }

    /// Something was used that nothing was held for.
    pub fn add(&self, lines: impl Iterator<Item = Line>) {
        let mut pending = self.pending.lock();
        lines.for_each(|line| pending.add(line));
        drop(pending);
        self.wake.notify_one();
    }

    /// What to send next: the batch that isn't confirmed yet, or a new one.
    pub fn next(&self) -> Option<Arc<Batch>> {
        let mut pending = self.pending.lock();
        if pending.flying.is_none() {
            pending.flying = pending.batch().map(Arc::new);
        }
        pending.flying.clone()
    }

    /// The batch was applied.
    pub fn confirm(&self) {
        self.pending.lock().flying = None;
    }

    /// Lines that wait, batches in flight not counted.
    pub fn len(&self) -> usize {
        let pending = self.pending.lock();
        pending.waiting.len() + pending.used.len()
    }

    /// Whether nothing waits and nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.pending.lock().flying.is_none()
    }

    /// Reservations and usages that a bound cut.
    pub fn dropped(&self) -> u64 {
        self.pending.lock().dropped
    }
}

impl Pending {
    fn add(&mut self, line: Line) {
        let since = line.window.map_or(Hour::from_number(0), |(since, _)| since);
        let key = (line.key.clone(), since);
        if let Some(sum) = self.used.get_mut(&key) {
            sum.used = plus(sum.used, line.used);
            sum.used_tokens = sum.used_tokens.saturating_add(line.used_tokens);
        } else if self.used.len() < MAX_USED {
            self.used.insert(key, line);
        } else {
            self.dropped += 1;
        }
    }

    fn batch(&mut self) -> Option<Batch> {
        let mut batch = Batch {
            number: self.last_batch + 1,
            keys: Vec::new(),
            arguments: Vec::new(),
        };
        while batch.keys.len() < MAX_BATCH_LINES {
            let Some(entry) = self.waiting.pop_front() else {
                break;
            };
            for line in &entry.lines {
                batch.push(entry.id, entry.answer, line);
            }
        }
        let room = MAX_BATCH_LINES.saturating_sub(batch.keys.len());
        let names: Vec<_> = self.used.keys().take(room).cloned().collect();
        for name in names {
            if let Some(line) = self.used.remove(&name) {
                batch.push(0, Answer::Taken, &line);
            }
        }
        if batch.keys.is_empty() {
            return None;
        }
        self.last_batch = batch.number;
        Some(batch)
    }
}

impl Batch {
    fn push(&mut self, id: u64, answer: Answer, line: &Line) {
        let certain = match answer {
            Answer::Taken => 1,
            Answer::Lost => 0,
        };
        let (since, until) = line
            .window
            .map_or((0, 0), |(since, until)| (since.number(), until.number()));
        let used_ns = line.used.map(Refill::as_nanoseconds);
        self.keys.push(line.key.to_string());
        self.arguments.extend([
            id.to_string(),
            certain.to_string(),
            line.held.as_nanoseconds().to_string(),
            used_ns.map_or("-1".to_owned(), |used| used.to_string()),
            line.held_tokens.to_string(),
            line.used_tokens.to_string(),
            since.to_string(),
            until.to_string(),
        ]);
    }
}

fn plus(one: Option<Refill>, other: Option<Refill>) -> Option<Refill> {
    let nanoseconds = |refill: Option<Refill>| refill.map(Refill::as_nanoseconds);
    match (nanoseconds(one), nanoseconds(other)) {
        (Some(one), Some(other)) => Some(Refill::from_nanoseconds(one.saturating_add(other))),
        (Some(some), None) | (None, Some(some)) => Some(Refill::from_nanoseconds(some)),
        (None, None) => None,
    }
}
