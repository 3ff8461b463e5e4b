//! An answer fit to be kept, and the form that it is kept in.
//!
//! Kept is one body, as an unstreamed call gets it: as it came, or gathered from a stream (`gather`). A caller who
//! streams gets the events that a backend would have sent for it (`replay`). Only an answer that is complete and ended of
//! itself is kept (`fit`): one cut by `max_tokens` or a filter would be a poor answer to give again.
//!
//! The stored form ends in a digest over all of it and over the partition that it belongs to. One that was cut off,
//! changed, written by another version or put under another partition's key reads as nothing, which is a miss. The digest
//! is no signature: who can write to the store can write entries.
//!
//! Never here: where entries are kept and for how long.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::cache::exact::Digest;
use crate::route::Shape;

pub use crate::cache::entry::fit::{ToolCalls, Unfit, check};
pub use crate::cache::entry::gather::Gatherer;
pub use crate::cache::entry::replay::{UsageChunk, events};

mod fit;
mod gather;
mod replay;

/// Larger answers aren't kept. 1 MiB is some 250,000 tokens.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// How the answer is to be read.
    pub shape: Shape,
    /// What was asked, for the guard. Empty if it was no text: then only an exact repeat may get the answer.
    pub question: String,
    /// The answer, as an unstreamed call gets it.
    pub body: Bytes,
}

impl Entry {
    /// The form in which it is stored under `partition`.
    pub fn encode(&self, partition: &Digest) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(HEAD_BYTES + self.question.len() + self.body.len() + DIGEST_BYTES);
        out.extend_from_slice(VERSION);
        out.push(code(self.shape));
        // Both are bounded far below 4 GiB; a longer one is cut here and fails its digest.
        out.extend_from_slice(&(self.question.len() as u32).to_be_bytes());
        out.extend_from_slice(self.question.as_bytes());
        out.extend_from_slice(&self.body);
        let digest = seal(&out, partition);
        out.extend_from_slice(&digest);
        out
    }

    /// Reads the stored form. Absent if it isn't whole, unchanged, of this version and of this partition. The body is a
    /// slice of `stored`.
    pub fn decode(stored: &Bytes, partition: &Digest) -> Option<Self> {
        let end = stored.len().checked_sub(DIGEST_BYTES)?;
        let (content, digest) = stored.split_at_checked(end)?;
        if seal(content, partition) != digest {
            return None;
        }
        let rest = content.strip_prefix(VERSION)?;
        let (shape, rest) = rest.split_first()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let question = rest.get(..u32::from_be_bytes(*length) as usize)?;
        let body = HEAD_BYTES + question.len()..end;
        Some(Self {
            shape: shape_of(*shape)?,
            question: String::from_utf8(question.to_vec()).ok()?,
            body: (body.start <= body.end).then(|| stored.slice(body))?,
        })
    }
}

const VERSION: &[u8] = b"tollgate answer 1\0";
const HEAD_BYTES: usize = VERSION.len() + 1 + 4;
const DIGEST_BYTES: usize = 32;

fn seal(content: &[u8], partition: &Digest) -> [u8; DIGEST_BYTES] {
    Sha256::new_with_prefix(partition.as_bytes())
        .chain_update(content)
        .finalize()
        .into()
}

fn code(shape: Shape) -> u8 {
    match shape {
        Shape::Chat => b'c',
        Shape::Completions => b't',
        Shape::Responses => b'r',
        Shape::Embeddings => b'e',
        Shape::Other => b'o',
    }
}

fn shape_of(code: u8) -> Option<Shape> {
    match code {
        b'c' => Some(Shape::Chat),
        b't' => Some(Shape::Completions),
        b'r' => Some(Shape::Responses),
        _ => None,
    }
}
