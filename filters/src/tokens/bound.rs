//! How many tokens a body can have at most, by its bytes alone.
//!
//! Why: a token of text is at least one byte of it, and JSON writes no text shorter than it is. So a limit
//! that has room for as many tokens as a body has bytes is kept without counting, and most limits have.
//!
//! The estimator is held to the same bound: what it adds for messages, names and calls never takes an
//! estimate past the body's bytes and `FIXED`. No request that a backend accepts comes near; a body of
//! `[{},{},…]` would pass it. What doesn't follow bytes at all is told apart: an image or a recording has
//! no bound here, and schemas that name definitions unfold to a length of their own.
//!
//! Never parses: a body that isn't JSON has a bound too.

use super::Estimate;
use crate::route::Shape;

/// What is added once to a conversation, whatever its length: the headings of tools and of a schema, and
/// the start of the answer. The largest sum in use is 122.
const FIXED: u64 = 128;

/// The most tokens that [`prompt`](super::prompt) can find in this body. `None`: the request has images or
/// sound, whose tokens its bytes don't tell, or its members' names are written so that this can't be seen.
///
/// One scan for three bytes: some 10 GB/s. Nothing is below the body's length in bytes, so where that
/// is too much already, there is no use in asking.
pub fn most(shape: Shape, body: &[u8]) -> Option<u64> {
    match shape {
        // A number is a token and at least a digit.
        Shape::Embeddings | Shape::Completions => Some(body.len() as u64),
        Shape::Chat | Shape::Responses => conversation(body),
        Shape::Other => None,
    }
}

fn conversation(body: &[u8]) -> Option<u64> {
    let mut unfolds = false;
    // One scan for the three bytes that whatever is looked for has in it: most bodies have few of them.
    for at in memchr::memchr3_iter(b'_', b'$', b'\\', body) {
        match body[at] {
            b'_' if is_media(body, at) => return None,
            b'\\' if hides_a_name(body, at) => return None,
            b'$' => unfolds |= at > 0 && body[at - 1..].starts_with(b"\"$ref\""),
            _ => {}
        }
    }
    let by_bytes = most_by_bytes(body.len());
    Some(match unfolds {
        true => by_bytes.saturating_add(unfolded_max_bytes(body.len()) as u64),
        false => by_bytes,
    })
}

/// What has tokens that don't follow its bytes: the kinds of parts, as they stand in JSON before the
/// quotation mark that ends them, cut at their underscore.
const MEDIA: [(&[u8], &[u8]); 3] = [
    (b"image", b"_url\""),
    (b"input", b"_image\""),
    (b"input", b"_audio\""),
];

fn is_media(body: &[u8], at: usize) -> bool {
    let (before, after) = body.split_at(at);
    MEDIA
        .iter()
        .any(|(kind, rest)| after.starts_with(rest) && before.ends_with(kind))
}

/// What stands for a body that has too many values to be read.
pub(super) fn unread(body_bytes: usize) -> Estimate {
    Estimate {
        tokens: body_bytes as u64,
        certain: false,
    }
}

/// Tokens of all that follows the bytes of a body.
pub(super) fn most_by_bytes(body_bytes: usize) -> u64 {
    (body_bytes as u64).saturating_add(FIXED)
}

/// Bytes that the functions declared in a body are written in, where they name definitions: twice the
/// body, and a little more since a small body may name one often.
pub(super) fn unfolded_max_bytes(body_bytes: usize) -> usize {
    body_bytes.saturating_mul(2).saturating_add(64 * 1024)
}

/// Whether a letter, `_` or `$` is written as `\u00..` at this backslash, which hides the names that are looked for. No
/// usual encoder does that; some write `` ` `` so.
fn hides_a_name(body: &[u8], at: usize) -> bool {
    body[at..].starts_with(b"\\u00")
        && matches!(
            body[at..].get(4..6),
            Some(b"24" | [b'4' | b'5' | b'7', _] | [b'6', b'1'..=b'9' | b'a'..=b'f' | b'A'..=b'F'])
        )
}
