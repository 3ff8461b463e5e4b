//! Texts that wait for a backend's embeddings, so that many at once make few calls.
//!
//! A text that comes alone is called for at once. With [`MAX_CALLS`] calls under way it waits, and those that came
//! meanwhile go together in the next. Bounded by texts and by calls. Never makes a call itself.

use std::collections::VecDeque;
use std::sync::Arc;

use filters::cache::score::Vector;
use filters::usage::Usage;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::config::plan::Backend;
use crate::state::Registry;

/// Calls to one backend at once.
const MAX_CALLS: usize = 4;
/// Texts in one call. With 32 KiB each that is half of what Azure OpenAI takes.
const MAX_BATCH: usize = 16;
/// Texts that wait. Beyond it a text has no embedding.
const MAX_WAITING: usize = 1_024;

/// A queue for each backend. Bounded by the backends ever configured.
#[derive(Debug, Default)]
pub struct Queues(Registry<String, Queue>);

/// One backend's.
#[derive(Debug)]
pub struct Queue {
    waiting: Mutex<VecDeque<Waiting>>,
    calls: Arc<Semaphore>,
}

/// One text, and who wants its embedding.
#[derive(Debug)]
pub struct Waiting {
    /// The text.
    pub text: String,
    /// By whom.
    pub backend: Arc<Backend>,
    /// Where the embedding goes. Closed if nobody wants it any more.
    pub answer: oneshot::Sender<Answered>,
}

/// What came of it.
#[derive(Debug)]
pub struct Answered {
    /// The embedding, if there is one.
    pub vector: Option<Vector>,
    /// What the call was, for one of those whose texts were in it.
    pub call: Option<Call>,
}

/// A call that was made.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// A status class or an error.
    pub outcome: &'static str,
    /// What it used for all its texts, where that is known.
    pub usage: Option<Usage>,
}

impl Queues {
    /// That of a backend.
    pub fn of(&self, backend: &Backend) -> Arc<Queue> {
        self.0.entry(backend.name.as_ref(), || Queue {
            waiting: Mutex::default(),
            calls: Arc::new(Semaphore::new(MAX_CALLS)),
        })
    }
}

impl Queue {
    /// Puts a text in; none if too many wait.
    pub fn enter(&self, text: &str, backend: &Arc<Backend>) -> Option<oneshot::Receiver<Answered>> {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= MAX_WAITING {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        waiting.push_back(Waiting {
            text: text.to_owned(),
            backend: backend.clone(),
            answer,
        });
        Some(answered)
    }

    /// Waits until a call may be made.
    pub async fn place(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        self.calls.clone().acquire_owned().await.ok()
    }

    /// Takes out what goes in the next call. Empty if another call took it, or nobody wants it any more.
    pub fn next(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock();
        let mut batch: Vec<Waiting> = Vec::new();
        while batch.len() < MAX_BATCH {
            let Some(first) = waiting.front() else { break };
            let is_same = |other: &Waiting| Arc::ptr_eq(&other.backend, &first.backend);
            if !batch.last().is_none_or(is_same) {
                // A reload came between: another model, perhaps.
                break;
            }
            let Some(next) = waiting.pop_front() else {
                break;
            };
            if !next.answer.is_closed() {
                batch.push(next);
            }
        }
        batch
    }
}

/// Gives each its vector, and the call to the first that still waits.
pub fn deliver(batch: Vec<Waiting>, vectors: Option<Vec<Vector>>, call: Option<Call>) {
    let mut call = call;
    let mut vectors = vectors.into_iter().flatten();
    for waiting in batch {
        let answered = Answered {
            vector: vectors.next(),
            call,
        };
        if waiting.answer.send(answered).is_ok() {
            call = None;
        }
    }
}

/// Ends when nobody wants any of them.
pub async fn nobody_waits(batch: &mut [Waiting]) {
    for waiting in batch {
        waiting.answer.closed().await;
    }
}
