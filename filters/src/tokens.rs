//! Counts tokens where nobody else tells: before a call, and when an answer brings no usage.
//!
//! Reading order: `segment` (why no text can hurt a tokenizer), `encoding` (which tokenizer), `json` (the body),
//! `chat`, `responses`, `plain` (what a request says), `conversation` (what that costs), `tools`, `image`, `audio`;
//! `bound` and `memo` say when nothing needs to be counted.
//!
//! A backend's own usage is the truth and is always preferred; what is counted here is recorded as
//! counted. Plain text counts exactly. What a provider adds around it was found by measuring real
//! answers and is an approximation.
//!
//! Never panics and never takes more than linear time, whatever the caller sent.

mod audio;
mod base64_head;
mod bound;
mod chat;
mod conversation;
mod encoding;
mod image;
mod json;
mod memo;
mod plain;
mod responses;
mod segment;
mod tools;

use crate::route::Shape;

use json::Unread;

pub use bound::most;
pub use encoding::{Encoding, Family, Resolved, encoding_of};
pub use memo::{Forgetful, Memo};

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
/// tiny values. A body of more than half a million values isn't looked into: its bytes stand for its tokens.
/// Over 64 KiB of text takes milliseconds: count those on a thread that may block.
pub fn prompt(model: &str, shape: Shape, body: &[u8]) -> Option<Estimate> {
    prompt_with(&Forgetful, model, shape, body)
}

/// The same as [`prompt`], without counting again what `memo` remembers.
pub fn prompt_with<M: Memo>(memo: &M, model: &str, shape: Shape, body: &[u8]) -> Option<Estimate> {
    let node = match (json::parse(body), shape) {
        (Ok(node), _) => node,
        (Err(Unread::NotJson), _) | (Err(Unread::TooMany), Shape::Other) => return None,
        (Err(Unread::TooMany), _) => return Some(bound::unread(body.len())),
    };
    match shape {
        Shape::Chat => {
            let conversation = chat::conversation(&node)?;
            Some(conversation::estimate(
                memo,
                model,
                &conversation,
                body.len(),
            ))
        }
        Shape::Responses => {
            let conversation = responses::conversation(&node)?;
            Some(conversation::estimate(
                memo,
                model,
                &conversation,
                body.len(),
            ))
        }
        Shape::Completions => plain::completions(memo, model, &node),
        Shape::Embeddings => plain::embeddings(memo, model, &node),
        Shape::Other => None,
    }
}
