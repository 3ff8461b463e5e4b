//! One kept answer, and ways to name several. Never how they are found.

use filters::cache::entry::Entry;
use filters::time::Time;
use filters::usage::Usage;

/// An answer, and what is known beside it.
#[derive(Debug)]
pub struct Kept {
    /// The id of the call that it answered first: names it in headers, logs, and for a purge.
    pub id: u128,
    /// Whose call that was; empty if nobody's.
    pub subscription: String,
    /// Question and answer.
    pub entry: Entry,
    /// What it cost.
    pub usage: Option<Usage>,
    /// From then on it isn't given any more.
    pub expires_at: Time,
}

impl Kept {
    /// What it takes in memory, beside its vector and the tables around it.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.subscription.len()
            + self.entry.question.len()
            + self.entry.body.len()
    }
}

/// Which answers go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    /// The one of this id.
    Id(u128),
    /// Those that this subscription's calls brought.
    Subscription(String),
    /// Those that are over by then.
    Expired(Time),
    /// All.
    All,
}

impl Chosen {
    /// Whether this one goes.
    pub fn names(&self, kept: &Kept) -> bool {
        match self {
            Chosen::Id(id) => kept.id == *id,
            Chosen::Subscription(name) => kept.subscription == *name,
            Chosen::Expired(now) => kept.expires_at <= *now,
            Chosen::All => true,
        }
    }
}
