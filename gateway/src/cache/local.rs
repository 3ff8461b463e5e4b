//! One policy's answers in this process.
//!
//! A search holds the lock for reading and compares every vector of a partition, so where there is much to compare it
//! runs on a thread that may block, and so does everything else that would wait for it. Never judges an answer.

use std::sync::Arc;
use std::time::Duration;

use filters::cache::exact::Digest;
use filters::cache::guard::{self, Verdict};
use filters::cache::index::{Index, Item, Limits};
use filters::cache::prompt::Prompt;
use filters::cache::score::Vector;
use filters::time::Time;
use parking_lot::RwLock;

use super::dimensions::Dimensions;
use super::kept::{Found, Kept, Sought};

/// What one policy's answers and vectors may take, whatever `max-entries` says. Bytes.
const MAX_BYTES: usize = 1 << 30;
/// With more entries than these, a search isn't made on a thread that serves others: at a large threshold vectors are
/// compared whole, 2,000 of 1,536 dimensions in some 0.3 ms.
const MANY_ENTRIES: usize = 2_000;

/// The store.
#[derive(Debug)]
pub struct Local {
    index: RwLock<Index<Held>>,
    dimensions: Dimensions,
}

/// An answer, whose it is, and until when.
#[derive(Debug)]
struct Held {
    kept: Arc<Kept>,
    subscription: String,
    expires_at: Time,
}

/// Which answers go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone<'a> {
    /// The one of this id.
    Id(u128),
    /// Those that this subscription's calls brought.
    Subscription(&'a str),
    /// Those that are over by then.
    Expired(Time),
    /// All.
    All,
}

impl Local {
    /// An empty one.
    pub fn new(max_entries: usize) -> Self {
        Local {
            index: RwLock::new(Index::new(limits(max_entries))),
            dimensions: Dimensions::default(),
        }
    }

    /// Does something with it where that may take its time.
    pub async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Local) -> T + Send + 'static,
    ) -> Option<T> {
        let is_large = self
            .index
            .try_read()
            .is_none_or(|index| index.len() > MANY_ENTRIES);
        if !is_large {
            return Some(work(self));
        }
        let store = self.clone();
        tokio::task::spawn_blocking(move || work(&store)).await.ok()
    }

    /// The answer to an exact repeat.
    pub fn find_exact(&self, now: Time, exact: &Digest) -> Option<Found> {
        repeated(&self.index.read(), now, exact)
    }

    /// The same, where nobody has to be waited for: it takes as long whatever is kept. `None`: somebody has the store to
    /// himself.
    pub fn find_exact_at_once(&self, now: Time, exact: &Digest) -> Option<Option<Found>> {
        Some(repeated(&*self.index.try_read()?, now, exact))
    }

    /// The nearest answer that the guard lets pass.
    pub fn find_near(&self, now: Time, sought: &Sought) -> Option<Found> {
        let index = self.index.read();
        let near = index.nearest(now, &sought.partition, &sought.vector, sought.threshold);
        near.into_iter().find_map(|near| {
            let kept = &index.get(now, near.id)?.kept;
            let verdict = guard::compare(&kept.entry.question, &sought.question);
            (verdict == Verdict::Match).then(|| Found {
                kept: kept.clone(),
                distance: near.distance,
            })
        })
    }

    /// Whether vectors of so many dimensions can be compared with those that are kept.
    pub fn compares(&self, now: Time, dimensions: usize) -> bool {
        self.dimensions.compare(now, dimensions)
    }

    /// Keeps an answer until then. Without a vector only an exact repeat finds it.
    pub fn keep(
        &self,
        (now, expires_at): (Time, Time),
        (prompt, vector): (&Prompt, Option<Vector>),
        (kept, subscription): (Kept, String),
    ) {
        let vector = vector.filter(|vector| self.compares(now, vector.values().len()));
        if let Some(vector) = &vector {
            self.dimensions.learn(vector.values().len(), expires_at);
        }
        let item = Item {
            partition: prompt.partition,
            exact: prompt.exact,
            vector,
            expires_at,
            bytes: bytes(&kept) + subscription.len(),
            value: Held {
                kept: Arc::new(kept),
                subscription,
                expires_at,
            },
        };
        self.index.write().insert(now, item);
    }

    /// Takes answers out; how many there were.
    pub fn purge(&self, gone: Gone<'_>) -> usize {
        let mut index = self.index.write();
        let purged = index.retain(|held| !gone.names(held));
        if index.is_empty() {
            self.dimensions.forget();
        }
        purged
    }

    /// How many answers are kept.
    pub fn entries(&self) -> usize {
        self.index.read().len()
    }

    /// Takes another bound. What is too much goes as new answers come.
    pub fn resize(&self, max_entries: usize) {
        self.index.write().resize(limits(max_entries));
    }
}

impl Gone<'_> {
    fn names(self, held: &Held) -> bool {
        match self {
            Gone::Id(id) => held.kept.id == id,
            Gone::Subscription(name) => held.subscription == name,
            Gone::Expired(now) => held.expires_at <= now,
            Gone::All => true,
        }
    }
}

fn repeated(index: &Index<Held>, now: Time, exact: &Digest) -> Option<Found> {
    let (_, held) = index.find_exact(now, exact)?;
    Some(Found {
        kept: held.kept.clone(),
        distance: 0.0,
    })
}

/// What an answer takes in memory, beside its vector and the tables around it.
fn bytes(kept: &Kept) -> usize {
    size_of::<Held>() + size_of::<Kept>() + kept.entry.question.len() + kept.entry.body.len()
}

/// When an answer that is kept now is over.
pub fn expiry(now: Time, duration: Duration) -> Time {
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    now.plus_nanoseconds(nanoseconds)
}

fn limits(entries: usize) -> Limits {
    Limits {
        entries,
        bytes: MAX_BYTES,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use filters::cache::entry::Entry;
    use filters::cache::prompt::{Scope, SystemMessages, read};
    use filters::cache::score::Threshold;
    use filters::route::Shape;

    use super::*;

    const LIFE: Duration = Duration::from_secs(10);

    fn prompt(question: &str, caller: &str) -> Prompt {
        let scope = Scope {
            policy: "p",
            api: "a",
            operation: "completions",
            model: "m",
            vary_by: &[caller.to_owned()],
        };
        let body = serde_json::json!({ "prompt": question }).to_string();
        read(
            Shape::Completions,
            body.as_bytes(),
            scope,
            SystemMessages::Embedded,
        )
        .unwrap()
    }

    fn at(seconds: u64) -> Time {
        Time::from_nanoseconds(seconds * 1_000_000_000)
    }

    fn keep(store: &Local, now: Time, question: &str, vector: &[f32], id: u128) {
        let kept = Kept {
            id,
            entry: Entry {
                shape: Shape::Completions,
                question: question.into(),
                body: Bytes::from_static(b"{}"),
            },
            tokens: 0,
        };
        store.keep(
            (now, expiry(now, LIFE)),
            (&prompt(question, "team-a"), Vector::new(vector)),
            (kept, "team-a".into()),
        );
    }

    fn near(store: &Local, now: Time, question: &str, caller: &str) -> Option<u128> {
        let sought = Sought {
            partition: prompt(question, caller).partition,
            vector: Vector::new(&[1.0, 0.0]).unwrap(),
            threshold: Threshold::new(0.05).unwrap(),
            question: question.into(),
        };
        store.find_near(now, &sought).map(|found| found.kept.id)
    }

    #[test]
    fn the_nearest_that_the_guard_lets_pass_is_found_until_it_expires() {
        let store = Local::new(10);
        keep(&store, at(1), "Who won in 2023?", &[1.0, 0.0], 1);
        keep(&store, at(1), "Tell me who won in 2024", &[1.0, 0.01], 2);
        assert_eq!(near(&store, at(2), "Who won in 2024?", "team-a"), Some(2));
        assert_eq!(near(&store, at(2), "Who won in 2024?", "team-b"), None);
        assert_eq!(near(&store, at(2), "Who won in 2025?", "team-a"), None);
        assert_eq!(near(&store, at(11), "Who won in 2024?", "team-a"), None);
    }

    #[test]
    fn vectors_of_another_length_are_not_kept_while_there_are_others() {
        let store = Local::new(10);
        assert!(store.compares(at(1), 3));
        keep(&store, at(1), "one", &[1.0, 0.0], 1);
        assert!(!store.compares(at(1), 3));
        keep(&store, at(1), "two", &[1.0, 0.0, 0.0], 2);
        let exact = prompt("two", "team-a").exact;
        assert_eq!(store.find_exact(at(1), &exact).unwrap().kept.id, 2);
        let at_once = store.find_exact_at_once(at(1), &exact);
        assert_eq!(at_once.unwrap().unwrap().kept.id, 2);
        let changing = store.index.write();
        assert!(store.find_exact_at_once(at(1), &exact).is_none());
        drop(changing);
        assert_eq!(near(&store, at(1), "one", "team-a"), Some(1));
        // The model was changed for good, and what it made before is over.
        assert!(store.compares(at(11), 3));
    }

    #[test]
    fn what_is_purged_is_gone_and_nothing_else() {
        let store = Local::new(10);
        for (id, question) in [(1, "one"), (2, "two"), (3, "three")] {
            keep(&store, at(id), question, &[1.0, 0.0], u128::from(id));
        }
        assert_eq!(store.purge(Gone::Id(2)), 1);
        assert_eq!(store.purge(Gone::Subscription("team-b")), 0);
        assert_eq!(store.purge(Gone::Expired(at(11))), 1);
        assert_eq!(near(&store, at(3), "three", "team-a"), Some(3));
        assert_eq!(store.purge(Gone::All), 1);
        assert!(store.compares(at(3), 7));
    }

    #[test]
    fn no_more_are_kept_than_the_bound_also_when_it_was_made_smaller() {
        let store = Local::new(3);
        for id in 0..3 {
            keep(&store, at(1), &format!("number {id}"), &[1.0, 0.0], id);
        }
        store.resize(2);
        keep(&store, at(1), "number 3", &[1.0, 0.0], 3);
        let found = (0..4).filter(|id| {
            let exact = prompt(&format!("number {id}"), "team-a").exact;
            store.find_exact(at(1), &exact).is_some()
        });
        assert_eq!(found.collect::<Vec<_>>(), [2, 3]);
    }
}
