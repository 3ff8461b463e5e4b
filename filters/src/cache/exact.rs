//! An exact repeat: the same partition and the same words. It is found by digest, before any embedding is made.
//!
//! Whitespace and letter case count: only what a backend would have got alike is a repeat. The digest is of the
//! body's meaning, so the order of members and `stream` don't matter.
//!
//! Never here: a near repeat (`score`, `guard`).

use std::fmt;

use sha2::{Digest as _, Sha256};

/// A SHA-256 that says where an answer belongs: a partition, or one prompt in it. Equal only for equal requests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The bytes, for a store's key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 lower-case hexadecimal digits.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn finish(hash: Sha256) -> Self {
        Self(hash.finalize().into())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.to_hex())
    }
}

/// The digest of one prompt in `partition`, whose messages have these digests.
pub(super) fn digest<'a>(
    partition: &Digest,
    messages: impl Iterator<Item = &'a [u8; 32]>,
) -> Digest {
    let mut hash = Sha256::new_with_prefix(b"tollgate exact 1\0");
    hash.update(partition.as_bytes());
    for message in messages {
        hash.update(message);
    }
    Digest::finish(hash)
}
