//! How an answer comes into a semantic cache, once it is complete and before its caller can ask again.
//!
//! Never keeps what `filters::cache::entry` calls unfit.

use std::sync::Arc;

use bytes::Bytes;
use filters::answer;
use filters::cache::entry::{Entry, Gatherer, MAX_BODY_BYTES, ToolCalls, check};
use filters::cache::likeness::apart;
use filters::cache::score::Vector;
use filters::route::Shape;

use super::Question;
use crate::cache::flights::Flight;
use crate::cache::kept::{Kept, Owner};
use crate::cache::store::Kind;

/// A longer answer is read on a thread of its own. Bytes.
const INLINE_MAX_BYTES: usize = 64 << 10;

/// A place in a semantic cache that waits for its answer, or a kept answer that another is compared with.
#[derive(Debug)]
pub struct Keeping {
    shape: Shape,
    /// Taken when the answer is there.
    waiting: Option<Waiting>,
    apart: Option<f32>,
    is_lost: bool,
}

#[derive(Debug)]
enum Waiting {
    /// It is kept.
    Place(Place),
    /// It is only compared with this one, which may call tools or not.
    Beside(Arc<Kept>, ToolCalls),
}

#[derive(Debug)]
struct Place {
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
            waiting: Some(Waiting::Place(Place {
                question,
                vector,
                flight,
            })),
            apart: None,
            is_lost: false,
        }
    }

    /// Keeps nothing, and says how far the answer lies from this one.
    pub fn beside(question: &Question, kept: Arc<Kept>) -> Self {
        Keeping {
            shape: question.shape,
            waiting: Some(Waiting::Beside(kept, question.policy.tool_calls)),
            apart: None,
            is_lost: false,
        }
    }

    /// Whether the store couldn't take the answer.
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// How far the answer lies from the one that it was compared with, if it came to that.
    pub fn apart(&self) -> Option<f32> {
        self.apart
    }

    /// What puts a stream's events together.
    pub fn gatherer(&self) -> Gatherer {
        Gatherer::new(self.shape)
    }

    /// Keeps the answer if it is fit for that, or compares it. Only the first counts.
    pub async fn keep(&mut self, made: Made) {
        let Some(waiting) = self.waiting.take() else {
            return;
        };
        let shape = self.shape;
        let is_long = made.is_long();
        match waiting {
            Waiting::Beside(kept, tools) => {
                let compare = move || apart(shape, &kept.entry.body, &made.body(shape, tools)?);
                self.apart = away(is_long, compare).await;
            }
            Waiting::Place(place) => {
                let tools = place.question.policy.tool_calls;
                if let Some(body) = away(is_long, move || made.body(shape, tools)).await {
                    self.is_lost = !put(*place.question, place.vector, body).await;
                }
                drop(place.flight);
            }
        }
    }
}

/// Does what takes its time on a thread of its own.
async fn away<T: Send + 'static>(
    is_long: bool,
    work: impl FnOnce() -> Option<T> + Send + 'static,
) -> Option<T> {
    match is_long {
        true => tokio::task::spawn_blocking(work).await.ok().flatten(),
        false => work(),
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
    fn body(self, shape: Shape, tools: ToolCalls) -> Option<Bytes> {
        let body = match self {
            Made::Whole(body) if body.len() > MAX_BODY_BYTES => return None,
            Made::Whole(body) => check(shape, &body, tools).map(|()| Bytes::copy_from_slice(&body)),
            Made::Events(gatherer) => gatherer.finish(tools).map(Bytes::from),
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

/// Whether it is kept. A store that can't take it has said so in the log.
async fn put(question: Question, vector: Option<Vector>, body: Bytes) -> bool {
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
    let put = question.store.keep(kept, kind).await;
    if let Err(error) = &put {
        tracing::debug!(?error, "an answer couldn't be kept");
    }
    put.is_ok()
}
