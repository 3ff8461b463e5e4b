//! What an answer that came at once tells about itself: usage, model and id.
//!
//! One pass over the body, which borrows its strings. Where that fails (JSON cut off, a field twice), and of a body that is
//! too large to hold, the bytes are searched for the usage alone.
//!
//! Never here: a change of any byte, and a look at the answer's meaning.

use std::borrow::Cow;

use memchr::memmem;
use serde::Deserialize;

use crate::route::Shape;
use crate::scan;
use crate::usage::{self, Usage, lenient};

/// What an answer that wasn't streamed tells about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// What it used, if it says so.
    pub usage: Option<Usage>,
    /// The model that it names, unless the name is empty.
    pub model: Option<String>,
    /// The id of what it made, where a backend may hold that: not of chats, completions and embeddings.
    pub id: Option<String>,
}

/// Reads an answer that wasn't streamed, in one pass. Tells nothing of a body that isn't a JSON object. Of one that can't
/// be read to its end, the usage is found if it is whole.
pub fn read_body(shape: Shape, body: &[u8]) -> Answer {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Answer::default();
    }
    let Some(report) = Report::read(body) else {
        return Answer {
            usage: read_tail(body),
            ..Answer::default()
        };
    };
    let (usage, model, id) = match shape {
        Shape::Chat | Shape::Completions | Shape::Embeddings => (report.usage, report.model, None),
        Shape::Responses => (report.usage, report.model, report.id),
        Shape::Other => (
            report.usage.or(report.response.usage),
            report.model.or(report.response.model),
            report.id,
        ),
    };
    let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned).filter(|it| !it.is_empty());
    Answer {
        usage,
        model: owned(model),
        id: owned(id),
    }
}

/// Finds the id in the first bytes of a JSON answer that is too large to hold: every provider writes it first.
pub fn read_id(head: &[u8]) -> Option<String> {
    let object = head.trim_ascii_start().strip_prefix(b"{")?;
    let value = object.trim_ascii_start().strip_prefix(b"\"id\"")?;
    let text = value.trim_ascii_start().strip_prefix(b":")?;
    let text = text.trim_ascii_start().strip_prefix(b"\"")?;
    let id = &text[..memchr::memchr(b'"', text)?];
    let id = std::str::from_utf8(id).ok()?;
    (!id.is_empty() && !id.contains('\\')).then(|| id.to_owned())
}

/// Finds the usage in the last bytes of a JSON answer that is too large to hold: under the last key `usage` that has one.
/// Looks at no more than 16 such keys.
pub fn read_tail(tail: &[u8]) -> Option<Usage> {
    // Inside a string the quotes would be escaped, so what matches is a whole string; with a colon after it, a key.
    const KEY: &[u8] = b"\"usage\"";
    const MAX_KEYS: usize = 16;
    memmem::rfind_iter(tail, KEY).take(MAX_KEYS).find_map(|at| {
        let value = tail[at + KEY.len()..]
            .trim_ascii_start()
            .strip_prefix(b":")?;
        Usage::read(value)
    })
}

/// What is read of an object that reports: a whole answer, or the `response` inside an event.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Report<'a> {
    #[serde(borrow, deserialize_with = "lenient::text")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient::text")]
    model: Option<Cow<'a, str>>,
    #[serde(deserialize_with = "usage::reported")]
    usage: Option<Usage>,
    #[serde(borrow, deserialize_with = "lenient::object")]
    response: Inner<'a>,
}

impl<'a> Report<'a> {
    /// Of a whole answer. A name that stands twice is no report.
    fn read(body: &'a [u8]) -> Option<Self> {
        Self::scan(body).or_else(|| serde_json::from_slice(body).ok())
    }

    /// The same, sooner, where nothing is odd.
    fn scan(body: &'a [u8]) -> Option<Self> {
        let mut found = [None; 4];
        let mut is_single = true;
        scan::members(std::str::from_utf8(body).ok()?, |name, value| {
            let places = ["id", "model", "usage", "response"].iter();
            if let Some((_, place)) = places.zip(&mut found).find(|(known, _)| name == **known) {
                is_single &= place.replace(value).is_none();
            }
        })?;
        let [id, model, usage, response] = found.map(|value| value.unwrap_or("null"));
        let read = |value: &'a str| lenient::text(&mut serde_json::Deserializer::from_str(value));
        let report = Report {
            id: read(id).ok()?,
            model: read(model).ok()?,
            usage: usage::reported(&mut serde_json::Deserializer::from_str(usage)).ok()?,
            response: lenient::object(&mut serde_json::Deserializer::from_str(response)).ok()?,
        };
        is_single.then_some(report)
    }
}

/// The object inside the object.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Inner<'a> {
    #[serde(borrow, deserialize_with = "lenient::text")]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient::text")]
    pub(super) model: Option<Cow<'a, str>>,
    #[serde(deserialize_with = "usage::reported")]
    pub(super) usage: Option<Usage>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_body_is_read_for_usage_and_model() {
        let body = br#"{"object":"list","data":[{"embedding":[0.1]}],"model":"m","usage":{"prompt_tokens":5,"total_tokens":5}}"#;
        let answer = read_body(Shape::Embeddings, body);
        assert_eq!(
            (answer.usage.unwrap().prompt, answer.model.as_deref()),
            (5, Some("m"))
        );
        let nested = br#" {"response":{"model":"m","usage":{"input_tokens":5}}}"#;
        assert_eq!(read_body(Shape::Other, nested).usage.unwrap().total, 5);
        assert_eq!(read_body(Shape::Chat, nested), Answer::default());
        for nothing in [
            "",
            "[1]",
            "text",
            "{\"a\":1}",
            "{\"usage\":{\"type\":\"duration\",\"seconds\":3}}",
            "{",
        ] {
            assert_eq!(
                read_body(Shape::Other, nothing.as_bytes()),
                Answer::default(),
                "{nothing}"
            );
        }
    }

    #[test]
    fn the_id_of_what_was_made_is_read_from_bodies_and_heads() {
        let body = br#"{"id":"resp_1","object":"response","model":"m"}"#;
        for (shape, id) in [
            (Shape::Responses, Some("resp_1")),
            (Shape::Other, Some("resp_1")),
            (Shape::Chat, None),
        ] {
            assert_eq!(read_body(shape, body).id.as_deref(), id, "{shape:?}");
        }
        let id = |head: &str| read_id(head.as_bytes());
        assert_eq!(
            id(" {\n \"id\" : \"resp_1\", \"out").as_deref(),
            Some("resp_1")
        );
        for nothing in [
            "",
            "{\"id\":7}",
            "{\"a\":1,\"id\":\"x\"}",
            "{\"id\":\"x",
            "{\"id\":\"\"}",
        ] {
            assert_eq!(id(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn the_usage_is_found_in_a_tail() {
        let total = |tail: &str| read_tail(tail.as_bytes()).map(|usage| usage.total);
        assert_eq!(
            total(r#".25]}],"usage" : {"prompt_tokens":5,"total_tokens":5}}"#),
            Some(5)
        );
        assert_eq!(
            total(r#""usage":{"prompt_tokens":5},"tags":["usage"],"metadata":{"usage":"x"}}"#),
            Some(5)
        );
        assert_eq!(
            total(r#"{"content":"say \"usage\":{\"total_tokens\":9}"}"#),
            None
        );
        assert_eq!(total(r#""usage":{"prompt_tokens":"#), None);
        assert_eq!(total(""), None);
    }
}
