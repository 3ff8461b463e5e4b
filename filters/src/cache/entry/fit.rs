//! Whether an answer is fit to be given again.
//!
//! Kept is what ended of itself: `stop`, `completed`. Not kept is what was cut (by `max_tokens` or a filter), what was
//! refused (the next try may not be), what is empty, and what calls tools, unless the policy allows it: a call acts on
//! the moment that it was made for. What can't be read to its end, or holds a kind of item that isn't known, isn't
//! kept either, since it couldn't be streamed again.
//!
//! Never here: the status, which must have been 200, and the request.

use serde_json::{Map, Value};

use crate::cache::entry::MAX_BODY_BYTES;
use crate::route::Shape;

/// Whether answers that call the caller's functions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolCalls {
    /// They are.
    Allowed,
    /// They aren't, the default.
    Refused,
}

/// Why an answer isn't kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Larger than [`MAX_BODY_BYTES`].
    TooLarge,
    /// It isn't an answer of its operation.
    Unreadable,
    /// It reports an error.
    Error,
    /// It has no end, or was cut short.
    Incomplete,
    /// A content filter stopped it.
    Filtered,
    /// The model refused.
    Refusal,
    /// It calls tools.
    ToolCalls,
    /// It says nothing.
    Empty,
}

/// Whether the body of a 200 is fit to be kept.
///
/// # Errors
/// Why it isn't.
pub fn check(shape: Shape, body: &[u8], tools: ToolCalls) -> Result<(), Unfit> {
    if body.len() > MAX_BODY_BYTES {
        return Err(Unfit::TooLarge);
    }
    let answer: Map<String, Value> = serde_json::from_slice(body).map_err(|_| Unfit::Unreadable)?;
    if answer.get("error").is_some_and(|error| !error.is_null()) {
        return Err(Unfit::Error);
    }
    match shape {
        Shape::Chat => choices(&answer, |choice| message(choice, tools)),
        Shape::Completions => choices(&answer, |choice| said(choice.get("text"))),
        Shape::Responses => response(&answer, tools),
        Shape::Embeddings | Shape::Other => Err(Unfit::Unreadable),
    }
}

fn choices(
    answer: &Map<String, Value>,
    check: impl Fn(&Value) -> Result<(), Unfit>,
) -> Result<(), Unfit> {
    let choices = answer
        .get("choices")
        .and_then(Value::as_array)
        .ok_or(Unfit::Unreadable)?;
    if choices.is_empty() {
        return Err(Unfit::Empty);
    }
    for choice in choices {
        match choice.get("finish_reason").and_then(Value::as_str) {
            Some("stop" | "tool_calls" | "function_call") => check(choice)?,
            Some("content_filter") => return Err(Unfit::Filtered),
            Some(_) | None => return Err(Unfit::Incomplete),
        }
    }
    Ok(())
}

fn message(choice: &Value, tools: ToolCalls) -> Result<(), Unfit> {
    let message = choice.get("message").ok_or(Unfit::Unreadable)?;
    let has = |name: &str| message.get(name).is_some_and(is_something);
    if has("refusal") {
        return Err(Unfit::Refusal);
    }
    if has("audio") {
        return Err(Unfit::Unreadable);
    }
    if has("tool_calls") || has("function_call") {
        return match tools {
            ToolCalls::Allowed => Ok(()),
            ToolCalls::Refused => Err(Unfit::ToolCalls),
        };
    }
    said(message.get("content"))
}

fn response(answer: &Map<String, Value>, tools: ToolCalls) -> Result<(), Unfit> {
    match answer.get("status").and_then(Value::as_str) {
        Some("completed") => {}
        Some(_) | None => return Err(incomplete(answer)),
    }
    let items = answer
        .get("output")
        .and_then(Value::as_array)
        .ok_or(Unfit::Unreadable)?;
    let mut says = false;
    for item in items {
        match item.get("type").and_then(Value::as_str) {
            Some("message") => {
                for part in parts(item)? {
                    text_part(part)?;
                    says = true;
                }
            }
            Some("reasoning") => {}
            Some("function_call") if tools == ToolCalls::Allowed => says = true,
            // What a backend's own tool found (a search, a run of code) is of that moment, whatever is allowed.
            Some(kind) if kind.ends_with("_call") => return Err(Unfit::ToolCalls),
            Some(_) | None => return Err(Unfit::Unreadable),
        }
    }
    if says { Ok(()) } else { Err(Unfit::Empty) }
}

fn incomplete(answer: &Map<String, Value>) -> Unfit {
    let details = answer.get("incomplete_details");
    match details
        .and_then(|details| details.get("reason"))
        .and_then(Value::as_str)
    {
        Some("content_filter") => Unfit::Filtered,
        Some(_) | None => Unfit::Incomplete,
    }
}

fn parts(item: &Value) -> Result<&Vec<Value>, Unfit> {
    item.get("content")
        .and_then(Value::as_array)
        .ok_or(Unfit::Unreadable)
}

fn text_part(part: &Value) -> Result<(), Unfit> {
    match part.get("type").and_then(Value::as_str) {
        Some("output_text") => said(part.get("text")),
        Some("refusal") => Err(Unfit::Refusal),
        Some(_) | None => Err(Unfit::Unreadable),
    }
}

fn said(text: Option<&Value>) -> Result<(), Unfit> {
    match text {
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(()),
        Some(Value::String(_) | Value::Null) | None => Err(Unfit::Empty),
        Some(_) => Err(Unfit::Unreadable),
    }
}

fn is_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => true,
    }
}
