//! A memo that remembers every count and never forgets; the gateway's own is bounded.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use filters::tokens::{Encoding, Memo};

/// Every count, by two hashes of its text.
#[derive(Default)]
pub struct Seen {
    secrets: [RandomState; 2],
    counts: RefCell<HashMap<u128, u64>>,
}

impl Seen {
    /// Texts that were worth remembering.
    #[allow(
        dead_code,
        reason = "each test that uses this file is compiled by itself"
    )]
    pub fn len(&self) -> usize {
        self.counts.borrow().len()
    }
}

impl Memo for Seen {
    fn key(&self, encoding: Encoding, text: &str) -> u128 {
        let half = |secret: &RandomState| u128::from(secret.hash_one((encoding, text)));
        half(&self.secrets[0]) << 64 | half(&self.secrets[1])
    }

    fn recall(&self, key: u128) -> Option<u64> {
        self.counts.borrow().get(&key).copied()
    }

    fn note(&self, key: u128, tokens: u64) {
        self.counts.borrow_mut().insert(key, tokens);
    }
}
