//! What the simulator was asked and how each answer ended.
//!
//! Tests wait for a condition on it with a deadline instead of sleeping. It is bounded in entries and in held bytes:
//! the oldest bodies, then the oldest entries, are forgotten. It never changes an answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Version};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// One request.
#[derive(Clone, Debug)]
pub struct Record {
    /// Counts from 1 in the order of arrival.
    pub id: u64,
    /// Which connection it came on; counts from 1.
    pub connection: u64,
    /// HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The query, empty if there is none.
    pub query: String,
    /// The headers as they came.
    pub headers: HeaderMap,
    /// What is known of the body.
    pub body: ReceivedBody,
    /// What became of the answer.
    pub answer: AnswerRecord,
}

/// The body of a request.
#[derive(Clone, Debug, Default)]
pub struct ReceivedBody {
    /// Whether its end was read.
    pub complete: bool,
    /// Bytes received.
    pub length: u64,
    /// SHA-256 in hex, once complete.
    pub sha256: String,
    /// The first bytes, up to the bound of the journal.
    pub bytes: Bytes,
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct AnswerRecord {
    /// Its status; 0 until the head is made.
    pub status: u16,
    /// Events (of a stream) or parts (of a body) handed to the connection.
    pub events_sent: usize,
    /// What it charged for.
    pub charged: Charge,
    /// How it ended.
    pub ending: Ending,
    /// When the request arrived.
    pub arrived: Instant,
    /// When its status was decided, before the head was sent.
    pub decided: Option<Instant>,
    /// When the answer ended.
    pub ended: Option<Instant>,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It is still being sent.
    Open,
    /// All of it was handed to the connection.
    Finished,
    /// The simulator broke it off, as told.
    Broken,
    /// The caller went away before the end.
    CallerGone,
}

/// Tokens charged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// Answers that were charged.
    pub requests: u64,
    /// Prompt tokens.
    pub prompt_tokens: u64,
    /// Completion tokens, reasoning among them.
    pub completion_tokens: u64,
    /// Both.
    pub total_tokens: u64,
}

impl Charge {
    pub(crate) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.total_tokens += other.total_tokens;
    }
}

/// All requests, bounded.
#[derive(Debug)]
pub(crate) struct Journal {
    records: Mutex<Records>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Records {
    kept: VecDeque<Record>,
    held_bytes: usize,
    forgotten: Charge,
    last_id: u64,
}

impl Journal {
    pub(crate) fn new() -> Self {
        Self {
            records: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Notes a request, and gives the guard that notes its end.
    pub(crate) fn begin(self: &Arc<Self>, mut record: Record) -> Entry {
        let mut records = self.records.lock();
        records.last_id += 1;
        record.id = records.last_id;
        let id = record.id;
        records.kept.push_back(record);
        records.shrink();
        drop(records);
        self.changed.notify_waiters();
        Entry {
            journal: Arc::clone(self),
            id,
            closed: false,
        }
    }

    pub(crate) fn all(&self) -> Vec<Record> {
        self.records.lock().kept.iter().cloned().collect()
    }

    pub(crate) fn bill(&self) -> Charge {
        let records = self.records.lock();
        let mut sum = records.forgotten;
        for record in &records.kept {
            sum.add(record.answer.charged);
        }
        sum
    }

    pub(crate) fn clear(&self) {
        let mut records = self.records.lock();
        let last_id = records.last_id;
        *records = Records {
            last_id,
            ..Records::default()
        };
    }

    /// Waits until the condition holds; `None` when the deadline passes first.
    pub(crate) async fn wait_for(
        &self,
        deadline: Duration,
        condition: impl Fn(&[Record]) -> bool,
    ) -> Option<Vec<Record>> {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let records = self.all();
                if condition(&records) {
                    return records;
                }
                changed.await;
            }
        };
        tokio::time::timeout(deadline, wait).await.ok()
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut Record)) {
        let mut records = self.records.lock();
        if let Some(record) = records.kept.iter_mut().rev().find(|record| record.id == id) {
            let before = record.body.bytes.len();
            change(record);
            let after = record.body.bytes.len();
            records.held_bytes = records.held_bytes + after - before.min(after);
            records.shrink();
        }
        drop(records);
        self.changed.notify_waiters();
    }
}

impl Records {
    fn shrink(&mut self) {
        while self.kept.len() > MAX_RECORDS {
            if let Some(record) = self.kept.pop_front() {
                self.held_bytes = self.held_bytes.saturating_sub(record.body.bytes.len());
                self.forgotten.add(record.answer.charged);
            }
        }
        if self.held_bytes <= MAX_HELD_BYTES {
            return;
        }
        for record in &mut self.kept {
            self.held_bytes = self.held_bytes.saturating_sub(record.body.bytes.len());
            record.body.bytes = Bytes::new();
            if self.held_bytes <= MAX_HELD_BYTES / 2 {
                return;
            }
        }
    }
}

/// Entries kept, so that a long run stays small.
const MAX_RECORDS: usize = 10_000;
/// Bytes of bodies kept over all entries.
const MAX_HELD_BYTES: usize = 256 << 20;
/// Bytes of one body kept.
pub(crate) const MAX_BODY_BYTES: usize = 1 << 20;

/// The guard of one answer: dropped before its end is noted, the caller has gone.
#[derive(Debug)]
pub(crate) struct Entry {
    journal: Arc<Journal>,
    id: u64,
    closed: bool,
}

impl Entry {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn body(&self, body: ReceivedBody) {
        self.journal.change(self.id, |record| record.body = body);
    }

    pub(crate) fn status(&self, status: u16) {
        self.journal.change(self.id, |record| {
            record.answer.status = status;
            record.answer.decided = Some(Instant::now());
        });
    }

    pub(crate) fn sent(&self, charge: Charge) {
        self.journal.change(self.id, |record| {
            record.answer.events_sent += 1;
            record.answer.charged.add(charge);
        });
    }

    pub(crate) fn end(&mut self, ending: Ending) {
        if !self.closed {
            self.closed = true;
            self.journal.change(self.id, |record| {
                record.answer.ending = ending;
                record.answer.ended = Some(Instant::now());
            });
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.end(Ending::CallerGone);
    }
}
