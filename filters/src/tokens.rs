//! Counts tokens where nobody else tells: before a call, and when an answer brings no usage.
//!
//! Reading order: `segment` (why no text can hurt a tokenizer), `encoding` and `model` (which tokenizer and rules), `json` (the body),
//! `chat`, `responses`, `plain` (what a request says), `conversation` and `overhead` (what that costs), `tools`, `image`, `audio`;
//! `bound` and `memo` say when nothing needs to be counted, `abridged` what of a body counting doesn't need.
//!
//! A backend's own usage is the truth and is always preferred; what is counted here is recorded as
//! counted. Plain text counts exactly. What a provider adds around it was found by measuring real
//! answers and is an approximation.
//!
//! Never panics and never takes more than linear time, whatever the caller sent.

mod abridged;
mod audio;
mod base64_head;
mod bound;
mod chat;
mod conversation;
mod encoding;
mod image;
mod json;
mod memo;
mod model;
mod overhead;
mod plain;
mod responses;
mod segment;
mod tools;

use crate::route::Shape;

use json::{Node, Unread};

pub use abridged::abridged;
pub use bound::most;
pub use encoding::{Encoding, Family, Resolved, encoding_of};
pub use memo::{Forgetful, Memo};
pub use model::counts_alike;

/// Reads the tables of the encodings of all models that are served: about 200 ms of one core and 36 MiB.
///
/// Call it at start, on a thread that may block; without it the first count of each encoding pays.
/// The tables of the retired models are read when one is first asked for.
pub fn load() {
    Encoding::O200k.load();
    Encoding::Cl100k.load();
}

/// Completion tokens of what a caller was sent by `model`, where the backend gave no usage.
///
/// Each of `texts` is one whole text, joined from its pieces: the content of a choice, the name of a
/// called function, its arguments. What a model writes around them (reasoning, headers, end marks) is not
/// seen, so this is a lower bound: exact or one less for most answers without reasoning.
pub fn completion<'a>(model: &str, shape: Shape, texts: impl Iterator<Item = &'a str>) -> u64 {
    match shape {
        Shape::Embeddings => 0,
        Shape::Chat | Shape::Completions | Shape::Responses | Shape::Other => {
            let encoding = encoding_of(model).encoding;
            texts.map(|text| encoding.count(text)).sum()
        }
    }
}

/// What a prompt is estimated to cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Prompt tokens.
    pub tokens: u64,
    /// False: the model's name says nothing, or something costs tokens and isn't in the request (a
    /// link to an image, a file, a stored conversation, a built-in tool). True: text is exact, functions and
    /// schemas are within about 5 %.
    pub certain: bool,
}

/// Prompt tokens of a request of `shape` to `model`. `None`: not JSON, or not a request of that shape.
///
/// Linear in the body. Memory is the body's size at most three times, and at most 30 MB where it is made of
/// tiny values. A body of more than half a million values, or one nested deeper than 128 levels, isn't looked into: its
/// bytes stand for its tokens.
/// Over 64 KiB of text takes milliseconds: count those on a thread that may block.
pub fn prompt(model: &str, shape: Shape, body: &[u8]) -> Option<Estimate> {
    prompt_with(&Forgetful, model, shape, body)
}

/// The same as [`prompt`], without counting again what `memo` remembers.
pub fn prompt_with<M: Memo>(memo: &M, model: &str, shape: Shape, body: &[u8]) -> Option<Estimate> {
    match json::parse(body) {
        Ok(node) => estimate(memo, model, shape, (&node, body.len())),
        Err(Unread::NotJson) => None,
        Err(Unread::TooMany) => by_bytes(shape, body),
        Err(Unread::Odd) => match json::parse(&json::with_whole_characters(body)) {
            Ok(node) => estimate(memo, model, shape, (&node, body.len())),
            Err(Unread::NotJson | Unread::TooMany | Unread::Odd) => by_bytes(shape, body),
        },
    }
}

/// What stands for a body that isn't looked into.
fn by_bytes(shape: Shape, body: &[u8]) -> Option<Estimate> {
    match shape {
        Shape::Chat | Shape::Responses | Shape::Completions | Shape::Embeddings => {
            Some(bound::unread(body.len()))
        }
        Shape::Other => None,
    }
}

fn estimate<M: Memo>(
    memo: &M,
    model: &str,
    shape: Shape,
    (node, body_bytes): (&Node<'_>, usize),
) -> Option<Estimate> {
    match shape {
        Shape::Chat => {
            let conversation = chat::conversation(node)?;
            Some(conversation::estimate(
                memo,
                model,
                &conversation,
                body_bytes,
            ))
        }
        Shape::Responses => {
            let conversation = responses::conversation(node)?;
            Some(conversation::estimate(
                memo,
                model,
                &conversation,
                body_bytes,
            ))
        }
        Shape::Completions => plain::completions(memo, model, node),
        Shape::Embeddings => plain::embeddings(memo, model, node),
        Shape::Other => None,
    }
}
