//! Counts of texts that were counted before: a conversation repeats itself with every turn.
//!
//! Why by a key and not by the text: a text may be megabytes long and is nobody's business once it was
//! answered. A key is a hash that only this process can compute, so that no caller can make two texts
//! that share one; the store chooses it and keeps it, since nothing here makes random numbers.
//!
//! Never changes a count: what is recalled is what was counted.

use super::encoding::Encoding;

/// A store of counts. It may forget any of them at any time.
pub trait Memo {
    /// The key of a text in an encoding. Whoever doesn't know the process's secret must not be able to
    /// find two texts with the same one.
    fn key(&self, encoding: Encoding, text: &str) -> u128;

    /// The tokens noted under this key, if it still has them.
    fn recall(&self, key: u128) -> Option<u64>;

    /// Keeps the tokens of the text with this key, if it likes.
    fn note(&self, key: u128, tokens: u64);
}

/// Remembers nothing: each text is counted anew.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forgetful;

impl Memo for Forgetful {
    fn key(&self, _: Encoding, _: &str) -> u128 {
        0
    }

    fn recall(&self, _: u128) -> Option<u64> {
        None
    }

    fn note(&self, _: u128, _: u64) {}
}

/// An encoding and what was counted in it before.
#[derive(Debug)]
pub(super) struct Counter<'m, M> {
    pub(super) encoding: Encoding,
    pub(super) memo: &'m M,
}

impl<M> Clone for Counter<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Counter<'_, M> {}

impl<M: Memo> Counter<'_, M> {
    /// Tokens of `text`, as [`Encoding::count`] has them.
    pub(super) fn count(self, text: &str) -> u64 {
        if text.len() < WORTH_REMEMBERING_BYTES {
            return self.encoding.count(text);
        }
        let key = self.memo.key(self.encoding, text);
        if let Some(tokens) = self.memo.recall(key) {
            return tokens;
        }
        let tokens = self.encoding.count(text);
        self.memo.note(key, tokens);
        tokens
    }
}

/// From here on recalling takes a quarter of counting and less, measured with a table larger than the
/// caches. Shorter texts would gain little, and would fill the store with roles and names.
const WORTH_REMEMBERING_BYTES: usize = 128;
