//! How an answer comes into a semantic cache, once it is complete and before its caller can ask again.
//!
//! Never keeps what `filters::cache::entry` calls unfit.

use bytes::Bytes;
use filters::answer;
use filters::cache::entry::{Entry, Gatherer, MAX_BODY_BYTES, ToolCalls, check};
use filters::cache::score::Vector;
use filters::route::Shape;

use super::Question;
use crate::cache::flights::Flight;
use crate::cache::kept::{Kept, Owner};
use crate::cache::store::Kind;

/// A longer answer is read on a thread of its own. Bytes.
const INLINE_MAX_BYTES: usize = 64 << 10;

/// A place in a semantic cache that waits for its answer.
#[derive(Debug)]
pub struct Keeping {
    shape: Shape,
    /// Taken when the answer is there.
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    question: Box<Question>,
    vector: Option<Vector>,
    /// Those with the same prompt wait for it; over when dropped.
    flight: Option<Flight>,
}

/// A complete answer, as a backend made it.
#[derive(Debug)]
pub enum Made {
    /// In one body.
    Whole(Bytes),
    /// In events.
    Events(Box<Gatherer>),
}

impl Keeping {
    /// For the answer to this question, whose embedding is `vector`, if there is one.
    pub fn new(question: Box<Question>, vector: Option<Vector>, flight: Option<Flight>) -> Self {
        Keeping {
            shape: question.shape,
            waiting: Some(Waiting {
                question,
                vector,
                flight,
            }),
        }
    }

    /// What puts a stream's events together.
    pub fn gatherer(&self) -> Gatherer {
        Gatherer::new(self.shape)
    }

    /// Keeps the answer if it is fit for that. Only the first counts.
    pub async fn keep(&mut self, made: Made) {
        let Some(waiting) = self.waiting.take() else {
            return;
        };
        let Waiting {
            question,
            vector,
            flight,
        } = waiting;
        let shape = question.shape;
        let body = match made.is_long() {
            true => tokio::task::spawn_blocking(move || made.body(shape))
                .await
                .ok()
                .flatten(),
            false => made.body(shape),
        };
        if let Some(body) = body {
            put(*question, vector, body).await;
        }
        drop(flight);
    }
}

impl Made {
    fn is_long(&self) -> bool {
        match self {
            Made::Whole(body) => body.len() > INLINE_MAX_BYTES,
            Made::Events(_) => false,
        }
    }

    /// A body of its own, so that no larger buffer lives as long as it does.
    fn body(self, shape: Shape) -> Option<Bytes> {
        let body = match self {
            Made::Whole(body) if body.len() > MAX_BODY_BYTES => return None,
            Made::Whole(body) => {
                check(shape, &body, ToolCalls::Refused).map(|()| Bytes::copy_from_slice(&body))
            }
            Made::Events(gatherer) => gatherer.finish(ToolCalls::Refused).map(Bytes::from),
        };
        match body {
            Ok(body) => Some(body),
            Err(unfit) => {
                tracing::debug!(?unfit, "an answer isn't kept");
                None
            }
        }
    }
}

/// A store that can't take it has said so in the log.
async fn put(question: Question, vector: Option<Vector>, body: Bytes) {
    let usage = answer::read_body(question.shape, &body).usage;
    let kept = Kept {
        id: question.id,
        tokens: usage.map_or(0, |usage| usage.total),
        entry: Entry {
            shape: question.shape,
            question: question.prompt.question.clone().unwrap_or_default(),
            body,
        },
    };
    let kind = Kind {
        prompt: &question.prompt,
        vector,
        owner: Owner {
            policy: question.policy.name.clone(),
            subscription: question.subscription,
        },
        duration: question.policy.duration,
    };
    if let Err(error) = question.store.keep(kept, kind).await {
        tracing::debug!(?error, "an answer couldn't be kept");
    }
}
