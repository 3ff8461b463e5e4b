//! What was asked and what was answered, as the message log writes it: the one place where prompts and answers are written
//! down, and only where the configuration says so.
//!
//! A body that is JSON and short enough stands there as it is, so that tools can read it; one that was cut stands as text.
//! The line is made on the log's own thread. Never a header, so never a key.

use std::io::Write;
use std::sync::Arc;

use serde::Serialize;

use crate::context::{Answered, Heard};
use crate::lines::Entry;

/// One call, with what was said in it.
#[derive(Debug)]
pub struct Said {
    /// The usage log's line of it.
    pub line: Vec<u8>,
    /// The bodies.
    pub heard: Arc<Heard>,
    /// Of a prompt, and of an answer. Bytes.
    pub max_bytes: usize,
}

/// What follows the fields of the usage log.
#[derive(Serialize)]
struct Bodies<'a> {
    request: Body<'a>,
    request_bytes: usize,
    response: Body<'a>,
    completion: Vec<&'a str>,
    response_bytes: usize,
    truncated: bool,
}

/// A body as it is, or as much of its text as is kept.
#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Nothing(()),
    Json(&'a serde_json::value::RawValue),
    Text(std::borrow::Cow<'a, str>),
}

impl Entry for Box<Said> {
    fn held_bytes(&self) -> usize {
        self.line.len() + self.heard.request.len() + self.heard.answer.bytes()
    }

    fn write(&self, out: &mut Vec<u8>) {
        let (request, answer, max) = (&self.heard.request, &self.heard.answer, self.max_bytes);
        let (response, completion) = match answer {
            Answered::Nothing => (Body::Nothing(()), Vec::new()),
            Answered::Whole(body) => (shown(body, max), Vec::new()),
            Answered::Streamed(texts) => (Body::Nothing(()), cut_all(texts, max)),
        };
        let bodies = Bodies {
            request: shown(request, max),
            request_bytes: request.len(),
            response,
            completion,
            response_bytes: answer.bytes(),
            truncated: request.len() > max || answer.bytes() > max,
        };
        let Ok(bodies) = serde_json::to_vec(&bodies) else {
            return;
        };
        // Two objects become one: `{...}\n` and `{...}`.
        let fields = self.line.trim_ascii_end();
        let fields = fields.strip_suffix(b"}").unwrap_or(fields);
        let bodies = bodies.strip_prefix(b"{").unwrap_or(&bodies);
        let _ = out.write_all(fields);
        out.push(b',');
        let _ = out.write_all(bodies);
        out.push(b'\n');
    }
}

fn shown(body: &[u8], max_bytes: usize) -> Body<'_> {
    if body.is_empty() {
        return Body::Nothing(());
    }
    // Line breaks between the parts of JSON would end the line.
    let is_one_line = !body.contains(&b'\n') && !body.contains(&b'\r');
    if body.len() <= max_bytes
        && is_one_line
        && let Ok(json) = serde_json::from_slice(body)
    {
        return Body::Json(json);
    }
    let kept = body.get(..max_bytes).unwrap_or(body);
    Body::Text(String::from_utf8_lossy(kept))
}

/// Texts up to this many bytes together.
fn cut_all(texts: &[String], max_bytes: usize) -> Vec<&str> {
    let mut left = max_bytes;
    texts
        .iter()
        .map(|text| {
            let end = text.floor_char_boundary(left.min(text.len()));
            left -= end;
            text.get(..end).unwrap_or_default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;

    fn written(request: &str, answer: Answered, max_bytes: usize) -> Value {
        let said = Box::new(Said {
            line: b"{\"request_id\":\"7\"}\n".to_vec(),
            heard: Arc::new(Heard {
                request: Bytes::copy_from_slice(request.as_bytes()),
                answer,
            }),
            max_bytes,
        });
        let mut out = Vec::new();
        said.write(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            (text.lines().count(), text.ends_with('\n')),
            (1, true),
            "{text}"
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn json_stays_json_and_what_is_too_long_is_cut_and_says_so() {
        let whole = Answered::Whole(Bytes::from_static(b"{\"choices\":[1]}"));
        let line = written("{\"a\":1}", whole, 100);
        assert_eq!(line["request_id"], "7");
        assert_eq!(line["request"], json!({"a": 1}));
        assert_eq!(line["response"], json!({"choices": [1]}));
        assert_eq!(line["truncated"], false);
        let line = written("{\"prompt\":\"\u{e9}\u{e9}\u{e9}\"}", Answered::Nothing, 13);
        assert_eq!(line["request"], "{\"prompt\":\"\u{e9}");
        assert_eq!(
            (&line["request_bytes"], &line["truncated"]),
            (&json!(19), &json!(true))
        );
        assert_eq!(line["response"], Value::Null);
    }

    #[test]
    fn a_body_of_several_lines_or_no_json_is_one_text() {
        let line = written(
            "{\n\"a\":1}",
            Answered::Whole(Bytes::from_static(b"plain\xff")),
            100,
        );
        assert_eq!(line["request"], "{\n\"a\":1}");
        assert_eq!(line["response"], "plain\u{fffd}");
    }

    #[test]
    fn the_texts_of_a_stream_are_cut_together() {
        let texts = vec!["abc".to_owned(), "def".to_owned(), "ghi".to_owned()];
        let line = written("{}", Answered::Streamed(texts), 5);
        assert_eq!(line["completion"], json!(["abc", "de", ""]));
        assert_eq!(
            (&line["response_bytes"], &line["truncated"]),
            (&json!(9), &json!(true))
        );
    }
}
