//! What the gateway must know of a request's body, and the few edits that it makes to it.
//!
//! A body is read in one pass and never built up in memory: a fact is a few bytes, the rest is only checked to be JSON. It
//! goes upstream byte for byte, so an edit is a splice: a range of the original, and what stands there instead. The
//! original's parts stay slices of the one buffer, however often the body is sent.
//!
//! A field that the gateway decides by must mean the same to the backend. Where it stands twice, one might read the first
//! and the other the last, so that is refused. What the gateway doesn't decide by is the backend's to judge.
//!
//! Never here: the messages' content, and a word of it in an error.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

pub use crate::request::json::read_json;
pub use crate::request::multipart::read_multipart;

mod fields;
mod json;
mod multipart;
mod stream_options;

/// The facts of one body.
#[derive(Clone, Debug)]
pub struct BodyFacts {
    /// The model asked for; absent if it isn't named, `null` or empty.
    pub model: Option<String>,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// What the caller says about usage in a stream.
    pub include_usage: IncludeUsage,
    /// The largest of `max_tokens`, `max_completion_tokens` and `max_output_tokens`, in tokens for each choice.
    pub max_completion_tokens: Option<u64>,
    /// `user`, else `safety_identifier`.
    pub user: Option<String>,
    /// How many answers are made, at least 1: `n`, of a completion also `best_of`, for each of its prompts.
    pub choices: u64,
    /// The response that this one goes on from.
    pub previous_response_id: Option<String>,
    /// The conversation that it is a part of, named by its id or as an object with an `id`.
    pub conversation_id: Option<String>,
    model_edit: ModelEdit,
    usage_edit: Option<UsageEdit>,
}

/// What a caller says about the usage of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncludeUsage {
    /// Nothing (or `null`).
    Absent,
    /// It wants the extra chunk.
    Asked,
    /// It said `false`.
    Declined,
}

impl BodyFacts {
    /// The edit that makes the body ask for the model `name`. None if it does so already; nor in a form that can't be
    /// added to. Control characters in the name are left out of a form, where they could begin another field.
    pub fn model_as(&self, name: &str) -> Option<Splice> {
        if self.model.as_deref() == Some(name) {
            return None;
        }
        let (range, with) = match &self.model_edit {
            ModelEdit::JsonValue(range) => (range.clone(), json_string(name)),
            ModelEdit::JsonField { at, separator } => (
                *at..*at,
                format!("\"model\":{}{separator}", json_string(name)),
            ),
            ModelEdit::FormValue(range) => (range.clone(), printable(name)),
            ModelEdit::FormField { at, opening } => {
                (*at..*at, format!("{opening}{}\r\n", printable(name)))
            }
            ModelEdit::Impossible => return None,
        };
        let with = Bytes::from(with);
        Some(Splice { range, with })
    }

    /// The edit that makes a stream report its usage. None if it does so already, and for operations that have no such
    /// option: only chat and completions do. An empty object, which asks for nothing, gets none either.
    pub fn with_usage(&self) -> Option<Splice> {
        let edit = self.usage_edit.as_ref()?;
        Some(Splice {
            range: edit.range.clone(),
            with: Bytes::from_static(edit.with.as_bytes()),
        })
    }
}

/// Why a body can't be used, told without a word of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It isn't JSON. Both positions count from 1, the column in bytes; 0 where there is nothing at all.
    NotJson {
        /// The line of the first fault.
        line: usize,
        /// The column of the first fault.
        column: usize,
        /// What is wrong there.
        fault: JsonFault,
    },
    /// It is JSON, but no object.
    NotAnObject,
    /// A chat without a single message.
    NoMessages,
    /// Nothing to embed or to respond to.
    NoInput,
    /// A field that the gateway decides by is of another type.
    WrongType {
        /// The field, with its parents.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A field that the gateway decides by stands there twice.
    Duplicate {
        /// The field, with its parents.
        field: &'static str,
    },
    /// It should be a multipart form, but its content type names no boundary.
    NoBoundary,
    /// It should be a multipart form, but no part of it begins with the boundary.
    NoParts,
}

/// What keeps a body from being JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonFault {
    /// It breaks off.
    EndsEarly,
    /// Something stands where it can't.
    Syntax,
    /// Bytes that aren't UTF-8.
    NotUtf8,
}

impl BodyError {
    /// The field that is at fault, for the `param` of an error.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            BodyError::NoMessages => Some("messages"),
            BodyError::NoInput => Some("input"),
            BodyError::WrongType { field, .. } | BodyError::Duplicate { field } => Some(field),
            BodyError::NotJson { .. }
            | BodyError::NotAnObject
            | BodyError::NoBoundary
            | BodyError::NoParts => None,
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::NotJson { line, column, fault } => {
                write!(formatter, "the request body is not valid JSON: line {line}, column {column}: {fault}")
            }
            BodyError::NotAnObject => formatter.write_str("the request body must be a JSON object, in braces"),
            BodyError::NoMessages => {
                formatter.write_str("`messages` is missing or empty; send an array with at least one message")
            }
            BodyError::NoInput => formatter.write_str("`input` is missing; send the text to work on"),
            BodyError::WrongType { field, expected } => {
                write!(formatter, "`{field}` has the wrong type; send {expected}")
            }
            BodyError::Duplicate { field } => write!(formatter, "`{field}` stands there twice; send it once"),
            BodyError::NoBoundary => formatter
                .write_str("the content type of a multipart form must name its boundary: multipart/form-data; boundary=..."),
            BodyError::NoParts => formatter
                .write_str("the multipart form has no part that begins with the boundary of its content type"),
        }
    }
}

impl std::error::Error for BodyError {}

impl fmt::Display for JsonFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            JsonFault::EndsEarly => {
                "it ends before the value is complete; send all of it, with its true Content-Length"
            }
            JsonFault::Syntax => "something stands there that JSON doesn't allow; correct it",
            JsonFault::NotUtf8 => "bytes that are not UTF-8; encode the body as UTF-8",
        })
    }
}

/// One edit of a body: `with` stands where `range` stood. An empty range inserts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    /// Bytes of the original.
    pub range: Range<usize>,
    /// What stands there instead.
    pub with: Bytes,
}

/// The edited body, in parts. The original's parts are slices of it: nothing of it is copied. Inserts at one place keep
/// their order. Splices must lie inside the body and not overlap; one that does is left out.
pub fn spliced(body: &Bytes, mut splices: Vec<Splice>) -> Vec<Bytes> {
    splices.sort_by_key(|splice| (splice.range.start, splice.range.end));
    let mut parts = Vec::with_capacity(2 * splices.len() + 1);
    let mut at = 0;
    for Splice { range, with } in splices {
        let fits = at <= range.start && range.start <= range.end && range.end <= body.len();
        debug_assert!(fits, "a splice overlaps another or leaves the body");
        if fits {
            parts.push(body.slice(at..range.start));
            parts.push(with);
            at = range.end;
        }
    }
    parts.push(body.slice(at..));
    parts.retain(|part| !part.is_empty());
    parts
}

/// Where the model stands, or could.
#[derive(Clone, Debug)]
enum ModelEdit {
    /// The JSON value, with its quotes.
    JsonValue(Range<usize>),
    /// After the opening brace; a comma separates it from what follows.
    JsonField {
        at: usize,
        separator: &'static str,
    },
    /// The value of a form's field.
    FormValue(Range<usize>),
    /// Before a form's first part: `opening` is the field's delimiter and head.
    FormField {
        at: usize,
        opening: String,
    },
    Impossible,
}

/// All cases need but constant text.
#[derive(Clone, Debug)]
struct UsageEdit {
    range: Range<usize>,
    with: &'static str,
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn printable(name: &str) -> String {
    name.chars()
        .filter(|character| !character.is_control())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn splice(range: Range<usize>, with: &'static str) -> Splice {
        let with = Bytes::from_static(with.as_bytes());
        Splice { range, with }
    }

    #[test]
    fn the_original_s_parts_are_not_copied() {
        let body = Bytes::from_static(b"0123456789");
        let parts = spliced(&body, vec![splice(7..9, "x")]);
        assert_eq!(parts.concat(), b"0123456x9");
        assert_eq!(parts[0].as_ptr(), body.as_ptr());
        assert_eq!(parts[2].as_ptr(), body[9..].as_ptr());
        assert_eq!(spliced(&body, Vec::new()), [body]);
    }

    #[test]
    fn inserts_keep_their_order_and_go_before_a_replacement_at_the_same_place() {
        let body = Bytes::from_static(b"0123");
        let splices = vec![
            splice(1..3, "R"),
            splice(1..1, "a"),
            splice(4..4, "z"),
            splice(1..1, "b"),
        ];
        assert_eq!(spliced(&body, splices).concat(), b"0abR3z");
    }

    #[test]
    fn an_error_says_what_was_found_and_what_to_do() {
        let not_json = BodyError::NotJson {
            line: 2,
            column: 7,
            fault: JsonFault::EndsEarly,
        };
        assert_eq!(
            not_json.to_string(),
            "the request body is not valid JSON: line 2, column 7: it ends before the value is complete; send all of it, \
             with its true Content-Length"
        );
        let twice = BodyError::Duplicate { field: "model" };
        assert_eq!(
            (twice.to_string().as_str(), twice.field()),
            ("`model` stands there twice; send it once", Some("model"))
        );
    }
}
