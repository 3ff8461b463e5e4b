//! Where a policy's answers are: in this process, or in a Redis that all replicas share. Two stores, one behaviour.
//!
//! Neither judges an answer, and neither is ever in the way: whatever fails in one is a [`StoreError`], which is a miss
//! to the call and counted.

use std::sync::Arc;
use std::time::Duration;

use filters::cache::prompt::Prompt;
use filters::cache::score::Vector;

use super::kept::{Found, Kept, Owner, Sought, StoreError};
use super::local::{Local, expiry};
use super::shared::{Shared, Space};
use crate::clock;

/// One policy's answers.
#[derive(Debug, Clone)]
pub enum Store {
    /// This process's own.
    Local(Arc<Local>),
    /// All replicas'.
    Shared(Arc<Shared>, Arc<Space>),
}

/// An answer, by what it is found, and for how long.
#[derive(Debug)]
pub struct Kind<'a> {
    /// What it answers.
    pub prompt: &'a Prompt,
    /// Without one, only an exact repeat finds it.
    pub vector: Option<Vector>,
    /// Whose it is.
    pub owner: Owner,
    /// From now on.
    pub duration: Duration,
}

impl Store {
    /// The answer to an exact repeat.
    ///
    /// # Errors
    /// Why the store can't say.
    pub async fn find_exact(&self, prompt: &Prompt) -> Result<Option<Found>, StoreError> {
        match self {
            Store::Local(local) => {
                let exact = prompt.exact;
                if let Some(found) = local.find_exact_at_once(clock::now().time(), &exact) {
                    return Ok(found);
                }
                let find = move |local: &Local| local.find_exact(clock::now().time(), &exact);
                local.with(find).await.ok_or(StoreError::Unavailable)
            }
            // A call to Redis is a future of 20 KB, which would be part of each call's.
            Store::Shared(shared, space) => Box::pin(shared.find_exact(space, prompt)).await,
        }
    }

    /// The nearest answer that the guard lets pass.
    ///
    /// # Errors
    /// Why the store can't say.
    pub async fn find_near(&self, sought: Sought) -> Result<Option<Found>, StoreError> {
        match self {
            Store::Local(local) => {
                let find = move |local: &Local| local.find_near(clock::now().time(), &sought);
                local.with(find).await.ok_or(StoreError::Unavailable)
            }
            Store::Shared(shared, space) => Box::pin(shared.find_near(space, &sought)).await,
        }
    }

    /// Whether vectors of so many dimensions can be compared with those that are kept.
    pub fn compares(&self, dimensions: usize) -> bool {
        let now = clock::now().time();
        match self {
            Store::Local(local) => local.compares(now, dimensions),
            Store::Shared(_, space) => space.dimensions.compare(now, dimensions),
        }
    }

    /// Keeps an answer.
    ///
    /// # Errors
    /// Why it isn't kept.
    pub async fn keep(&self, kept: Kept, kind: Kind<'_>) -> Result<(), StoreError> {
        match self {
            Store::Local(local) => {
                let now = clock::now().time();
                let times = (now, expiry(now, kind.duration));
                let prompt = kind.prompt.clone();
                let put = move |local: &Local| {
                    let by = (&prompt, kind.vector);
                    local.keep(times, by, (kept, kind.owner.subscription));
                };
                local.with(put).await.ok_or(StoreError::Unavailable)
            }
            Store::Shared(shared, space) => Box::pin(shared.keep(space, kept, kind)).await,
        }
    }
}
