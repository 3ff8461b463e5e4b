//! One kept answer, and ways to name several. Never how they are found.

use std::sync::Arc;

use filters::cache::entry::Entry;
use filters::cache::exact::Digest;
use filters::cache::score::{Threshold, Vector};

/// An answer, and what is known beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The id of the call that it answered first: names it in headers, logs, and for a purge.
    pub id: u128,
    /// Question and answer.
    pub entry: Entry,
    /// What it cost: tokens of prompt and completion.
    pub tokens: u64,
}

/// Whose an answer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The policy's name.
    pub policy: Arc<str>,
    /// The subscription whose call brought it; empty if nobody's.
    pub subscription: String,
}

/// An answer, and how far its question lay from the one that was asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The answer.
    pub kept: Arc<Kept>,
    /// 0 for an exact repeat.
    pub distance: f32,
}

/// What is looked for by nearness.
#[derive(Debug, Clone)]
pub struct Sought {
    /// Only there.
    pub partition: Digest,
    /// Near this.
    pub vector: Vector,
    /// So near.
    pub threshold: Threshold,
    /// And, by the guard's word, meaning the same as this.
    pub question: String,
}

/// Why a store couldn't say. To the call it is a miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreError {
    /// It can't be reached, is late, or doesn't understand.
    Unavailable,
    /// What it gave isn't what was put in.
    Poisoned,
}

/// Which answers go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    /// The one of this id.
    Id(u128),
    /// Those that this subscription's calls brought.
    Subscription(String),
    /// Those of the policy of this name.
    Policy(String),
}
