//! Token counts of texts that were counted before: conversations repeat themselves with every turn.
//!
//! A fixed table in sets of four, each set a line of cache. A count is two words and is found by 104 bits of
//! two hashes, besides those that choose its set. The hashes are keyed with secrets of this process, so
//! no caller can make two texts that are taken for one, nor texts that push others out.
//!
//! Why no lock: the first word is the first hash mixed with the second word, so a pair that two threads wrote
//! at once answers to no key. Losing a count that way costs counting once more, and so does eviction.
//! What was asked for again stays before what was seen once: a flood of new texts leaves conversations in.
//!
//! Never grows, never allocates after it was made, and never keeps a text.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use filters::tokens::{Encoding, Memo};

/// Texts that are remembered at once: some thousand conversations, in 2 MiB.
pub const MAX_TEXTS: usize = SETS * WAYS;

const SETS: usize = 1 << 15;
const WAYS: usize = 4;

/// A second word: 40 bits of the second hash, whether it was asked for again, the tokens.
const HASH_BITS: u64 = !0 << 24;
const ASKED_AGAIN: u64 = 1 << 23;
const TOKENS_BITS: u64 = ASKED_AGAIN - 1;

/// The counts.
#[derive(Debug)]
pub struct Counts {
    secrets: [RandomState; 2],
    sets: Box<[Set]>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([Way; WAYS]);

/// One count. Each word is right by itself or the pair answers to no key, so no order between the two is
/// needed.
#[derive(Debug, Default)]
struct Way {
    /// The first hash, mixed with `word` as it was noted.
    check: AtomicU64,
    /// Zero: free.
    word: AtomicU64,
}

impl Default for Counts {
    fn default() -> Self {
        Counts {
            secrets: [RandomState::new(), RandomState::new()],
            sets: (0..SETS).map(|_| Set::default()).collect(),
        }
    }
}

impl Memo for Counts {
    fn key(&self, encoding: Encoding, text: &str) -> u128 {
        // The secrets of one process are neighbours, so the second hash is of another text as well.
        let [first, second] = &self.secrets;
        let first = first.hash_one((encoding, text));
        let second = second.hash_one((text, encoding, first));
        u128::from(first) << 64 | u128::from(second)
    }

    fn recall(&self, key: u128) -> Option<u64> {
        let (first, second) = halves(key);
        let way = self.set(second).0.iter().find(|way| way.answers(key))?;
        let word = way.word.load(Ordering::Relaxed);
        if word & ASKED_AGAIN == 0 {
            way.word.fetch_or(ASKED_AGAIN, Ordering::Relaxed);
        }
        // It may have been overwritten since: then its hash isn't this one.
        let is_same = way.check.load(Ordering::Relaxed) ^ (word & !ASKED_AGAIN) == first
            && (word ^ second) & HASH_BITS == 0;
        is_same.then_some(word & TOKENS_BITS)
    }

    fn note(&self, key: u128, tokens: u64) {
        if tokens == 0 || tokens > TOKENS_BITS {
            return;
        }
        let (first, second) = halves(key);
        let word = second & HASH_BITS | tokens;
        let way = self.set(second).place_of(key);
        way.word.store(word, Ordering::Relaxed);
        way.check.store(first ^ word, Ordering::Relaxed);
    }
}

impl Counts {
    fn set(&self, second: u64) -> &Set {
        // The bits that `HASH_BITS` leaves out.
        &self.sets[second as usize % SETS]
    }
}

impl Set {
    /// Where a count goes: over an older one of the same text, to a free place, over one that nobody asked
    /// for again, and else over any, after which all others are as good as new.
    fn place_of(&self, key: u128) -> &Way {
        let ways = &self.0;
        let state = |way: &Way| way.word.load(Ordering::Relaxed);
        let begin = (key >> 126) as usize;
        let turn = || (0..WAYS).map(|step| &ways[(begin + step) % WAYS]);
        let found = turn()
            .find(|way| way.answers(key))
            .or_else(|| turn().find(|way| state(way) == 0))
            .or_else(|| turn().find(|way| state(way) & ASKED_AGAIN == 0));
        found.unwrap_or_else(|| {
            for way in ways {
                way.word.fetch_and(!ASKED_AGAIN, Ordering::Relaxed);
            }
            &ways[begin % WAYS]
        })
    }
}

impl Way {
    fn answers(&self, key: u128) -> bool {
        let (first, second) = halves(key);
        let word = self.word.load(Ordering::Relaxed) & !ASKED_AGAIN;
        word != 0
            && (word ^ second) & HASH_BITS == 0
            && self.check.load(Ordering::Relaxed) ^ word == first
    }
}

const fn halves(key: u128) -> (u64, u64) {
    ((key >> 64) as u64, key as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::AtomicUsize;

    use filters::route::Shape;
    use filters::tokens::{prompt, prompt_with};

    use super::*;

    /// A key of this set, told apart by `number`.
    fn key(set: usize, number: u64) -> u128 {
        let mixed = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        u128::from(mixed) << 64 | u128::from(mixed << 24 | set as u64)
    }

    #[test]
    fn what_was_noted_is_recalled_and_nothing_else() {
        let counts = Counts::default();
        assert_eq!(counts.recall(0), None);
        let text = counts.key(Encoding::O200k, "the same text");
        assert_eq!(counts.recall(text), None);
        counts.note(text, 3);
        assert_eq!(counts.recall(text), Some(3));
        assert_eq!(counts.recall(text), Some(3));
        counts.note(text, 4);
        assert_eq!(counts.recall(text), Some(4));
        for other in [
            counts.key(Encoding::Cl100k, "the same text"),
            counts.key(Encoding::O200k, "the same tex"),
            Counts::default().key(Encoding::O200k, "the same text"),
            text ^ 1 << 127,
            text ^ 1 << 64,
            text ^ 1 << 63,
            text ^ 1 << 24,
            text ^ 1,
        ] {
            assert_eq!(counts.recall(other), None, "{other:x}");
        }
    }

    #[test]
    fn more_tokens_than_fit_are_not_noted() {
        let counts = Counts::default();
        for tokens in [0, TOKENS_BITS + 1, u64::MAX] {
            counts.note(key(0, 0), tokens);
            assert_eq!(counts.recall(key(0, 0)), None);
        }
        counts.note(key(0, 0), TOKENS_BITS);
        assert_eq!(counts.recall(key(0, 0)), Some(TOKENS_BITS));
    }

    #[test]
    fn what_was_asked_for_again_outlives_what_was_seen_once() {
        let counts = Counts::default();
        counts.note(key(7, 0), 1);
        assert_eq!(counts.recall(key(7, 0)), Some(1));
        for number in 1..1_000 {
            counts.note(key(7, number), 2);
        }
        assert_eq!(counts.recall(key(7, 0)), Some(1));
        let left = |from| {
            (from..from + 1_000)
                .filter(|number| counts.recall(key(7, *number)).is_some())
                .count()
        };
        assert_eq!(left(0), WAYS);
        // Asking has made all of them worth keeping; then the next still finds a place.
        counts.note(key(7, 5_000), 9);
        assert_eq!(counts.recall(key(7, 5_000)), Some(9));
        assert_eq!(counts.recall(key(8, 5_000)), None);
    }

    #[test]
    fn threads_that_write_the_same_places_read_only_what_was_noted() {
        let counts = Counts::default();
        let recalled = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8_u64 {
                let (counts, recalled) = (&counts, &recalled);
                scope.spawn(move || {
                    for step in 0..50_000_u64 {
                        // Eight texts for the four places of a set.
                        let number = (step * 5 + thread) % 8;
                        match counts.recall(key(3, number)) {
                            Some(tokens) => {
                                assert_eq!(tokens, 100 + number);
                                recalled.fetch_add(1, Ordering::Relaxed);
                            }
                            None => counts.note(key(3, number), 100 + number),
                        }
                    }
                });
            }
        });
        assert!(recalled.load(Ordering::Relaxed) > 0);
    }

    /// Recorded requests, where there are any, and one of our own.
    fn requests() -> Vec<(String, Shape, String)> {
        let recorded = std::env::var_os("TOLLGATE_RECORDINGS").map(|folder| {
            let file = std::path::Path::new(&folder).join("usage_pairs.jsonl");
            std::fs::read_to_string(file).unwrap()
        });
        let row = |line: &str| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let shape = match row["api"].as_str().unwrap() {
                "chat.completions" => Shape::Chat,
                "completions" => Shape::Completions,
                "embeddings" => Shape::Embeddings,
                _ => Shape::Responses,
            };
            let model = row["model"].as_str().unwrap_or_default().to_owned();
            (model, shape, row["request"].to_string())
        };
        let text = "Why is the sky blue? ".repeat(40);
        let own = format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}]}}"#);
        let mut requests = vec![("gpt-4o".to_owned(), Shape::Chat, own)];
        requests.extend(recorded.iter().flat_map(|rows| rows.lines()).map(row));
        requests
    }

    #[test]
    fn no_estimate_changes_when_it_was_made_before() {
        let counts = Counts::default();
        let requests = requests();
        for (model, shape, body) in requests.iter().chain(&requests) {
            let expected = prompt(model, *shape, body.as_bytes());
            let found = prompt_with(&counts, model, *shape, body.as_bytes());
            assert_eq!(found, expected, "{body}");
        }
        println!("{} requests", requests.len());
    }
}
