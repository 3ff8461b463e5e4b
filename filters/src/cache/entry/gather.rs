//! One body out of a stream: what an unstreamed call would have got.
//!
//! Of a chat or completion the pieces are put together by choice, whichever fields they have: texts are joined, lists are
//! joined, anything else is the last that came. Of a response the last event holds it whole. A stream that broke off,
//! reported an error or grew too large gives no body.
//!
//! Never here: whether the body is worth keeping (`fit`).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::cache::entry::MAX_BODY_BYTES;
use crate::cache::entry::fit::{ToolCalls, Unfit, check};
use crate::route::Shape;
use crate::sse::Event;

type Object = Map<String, Value>;

/// More choices, and more calls in one, than anybody asks for.
const MAX_CHOICES: usize = 128;

/// Puts a stream together, event by event.
#[derive(Debug)]
pub struct Gatherer {
    shape: Shape,
    /// What came so far, in bytes of events' data.
    bytes: usize,
    fault: Option<Unfit>,
    /// The event came that holds the whole response.
    has_ended: bool,
    frame: Object,
    choices: BTreeMap<u64, Object>,
    room: Room,
}

/// Events of a long answer are many times its size: each chunk repeats the frame. Beyond this the stream is given up.
const MAX_STREAM_BYTES: usize = 64 * MAX_BODY_BYTES;

impl Gatherer {
    /// For an answer to an operation of this shape.
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            bytes: 0,
            fault: None,
            has_ended: false,
            frame: Object::new(),
            choices: BTreeMap::new(),
            room: Room {
                bytes: MAX_BODY_BYTES,
            },
        }
    }

    /// Takes the next event. Costs one pass over its data; nothing once the stream is known to be unfit.
    pub fn push(&mut self, event: &Event<'_>) {
        if self.fault.is_some() {
            return;
        }
        if let Err(fault) = self.take(event) {
            self.give_up(fault);
        }
    }

    /// Notes that a part of the stream couldn't be read, so nothing will come of it.
    pub fn give_up(&mut self, fault: Unfit) {
        self.fault = Some(fault);
        self.frame.clear();
        self.choices.clear();
    }

    /// The body, once the stream has ended.
    ///
    /// # Errors
    /// Why there is none, or none that is fit to be kept.
    pub fn finish(mut self, tools: ToolCalls) -> Result<Vec<u8>, Unfit> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if self.shape == Shape::Responses && !self.has_ended || self.frame.is_empty() {
            return Err(Unfit::Incomplete);
        }
        // Some servers send no `[DONE]`: then every choice must have its end, which `check` looks for.
        if self.shape != Shape::Responses {
            let choices: Vec<Value> = self
                .choices
                .into_values()
                .map(|choice| whole(choice).into())
                .collect();
            self.frame.insert("choices".to_owned(), choices.into());
            let object = match self.shape {
                Shape::Chat => "chat.completion",
                Shape::Completions | Shape::Embeddings | Shape::Responses | Shape::Other => {
                    "text_completion"
                }
            };
            self.frame.insert("object".to_owned(), object.into());
        }
        let body = Value::Object(self.frame).to_string().into_bytes();
        check(self.shape, &body, tools)?;
        Ok(body)
    }

    fn take(&mut self, event: &Event<'_>) -> Result<(), Unfit> {
        let Some(data) = event.data.as_deref() else {
            return Ok(());
        };
        self.bytes += data.len();
        if self.bytes > MAX_STREAM_BYTES || data.len() > 2 * MAX_BODY_BYTES {
            return Err(Unfit::TooLarge);
        }
        if data.trim_ascii() == b"[DONE]" {
            return Ok(());
        }
        let object: Object = serde_json::from_slice(data).map_err(|_| Unfit::Unreadable)?;
        let is_error = object.get("error").is_some_and(|error| !error.is_null());
        if is_error || event.name == Some(b"error") || object.get("type") == Some(&json!("error")) {
            return Err(Unfit::Error);
        }
        match self.shape {
            Shape::Responses => self.response_event(object),
            Shape::Chat | Shape::Completions => self.chunk(object),
            Shape::Embeddings | Shape::Other => Err(Unfit::Unreadable),
        }
    }

    fn response_event(&mut self, mut event: Object) -> Result<(), Unfit> {
        match event.get("type").and_then(Value::as_str) {
            Some("response.completed") => {
                let Some(Value::Object(response)) = event.remove("response") else {
                    return Err(Unfit::Unreadable);
                };
                self.frame = response;
                self.has_ended = true;
                Ok(())
            }
            Some("response.incomplete" | "response.failed" | "response.cancelled") => {
                Err(Unfit::Incomplete)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn chunk(&mut self, mut chunk: Object) -> Result<(), Unfit> {
        let choices = chunk.remove("choices");
        chunk.remove("obfuscation");
        for (name, value) in chunk {
            let is_empty = value.is_null() || value == "" || name == "created" && value == 0;
            if !is_empty {
                self.frame.insert(name, value);
            }
        }
        let Some(Value::Array(choices)) = choices else {
            return Ok(());
        };
        for (position, choice) in choices.into_iter().enumerate() {
            let Value::Object(choice) = choice else {
                return Err(Unfit::Unreadable);
            };
            let index = choice
                .get("index")
                .and_then(Value::as_u64)
                .unwrap_or(position as u64);
            if self.choices.len() >= MAX_CHOICES && !self.choices.contains_key(&index) {
                return Err(Unfit::TooLarge);
            }
            let gathered = self.choices.entry(index).or_default();
            gathered.insert("index".to_owned(), index.into());
            self.room.join(gathered, choice)?;
        }
        Ok(())
    }
}

/// A choice of an unstreamed answer: what its deltas say is its message.
fn whole(mut choice: Object) -> Object {
    if let Some(Value::Object(mut message)) = choice.remove("delta") {
        message.entry("role").or_insert_with(|| "assistant".into());
        message.entry("content").or_insert(Value::Null);
        message.entry("refusal").or_insert(Value::Null);
        let has_calls = message.get("tool_calls").is_some_and(Value::is_array);
        if has_calls && message.get("content") == Some(&json!("")) {
            message.insert("content".to_owned(), Value::Null);
        }
        if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
            calls
                .iter_mut()
                .filter_map(Value::as_object_mut)
                .for_each(|call| {
                    call.remove("index");
                });
        }
        choice.insert("message".to_owned(), message.into());
    }
    choice.entry("logprobs").or_insert(Value::Null);
    choice
}

/// How much more may be gathered.
#[derive(Debug)]
struct Room {
    bytes: usize,
}

impl Room {
    /// Adds what another piece says.
    fn join(&mut self, all: &mut Object, piece: Object) -> Result<(), Unfit> {
        for (name, value) in piece {
            if name == "index" || value.is_null() {
                continue;
            }
            match (all.get_mut(&name), value) {
                (Some(Value::String(text)), Value::String(more)) if !is_label(&name) => {
                    self.take(more.len())?;
                    text.push_str(&more);
                }
                (Some(Value::Array(calls)), Value::Array(more)) if name == "tool_calls" => {
                    self.join_calls(calls, more)?;
                }
                (Some(Value::Array(items)), Value::Array(more)) => {
                    self.take(more.iter().map(size).sum())?;
                    items.extend(more);
                }
                (Some(Value::Object(inner)), Value::Object(more)) => self.join(inner, more)?,
                (None, Value::Array(more)) if name == "tool_calls" => {
                    let mut calls = Vec::new();
                    self.join_calls(&mut calls, more)?;
                    all.insert(name, calls.into());
                }
                (Some(known), value) => *known = value,
                (None, value) => {
                    self.take(name.len() + size(&value))?;
                    all.insert(name, value);
                }
            }
        }
        Ok(())
    }

    fn join_calls(&mut self, calls: &mut Vec<Value>, more: Vec<Value>) -> Result<(), Unfit> {
        for (position, call) in more.into_iter().enumerate() {
            let Value::Object(call) = call else {
                return Err(Unfit::Unreadable);
            };
            let index = call
                .get("index")
                .and_then(Value::as_u64)
                .unwrap_or(position as u64);
            let is_full = calls.len() >= MAX_CHOICES;
            let known = calls.iter_mut().filter_map(Value::as_object_mut);
            match known
                .into_iter()
                .find(|known| known.get("index").and_then(Value::as_u64) == Some(index))
            {
                Some(known) => self.join(known, call)?,
                None if is_full => return Err(Unfit::TooLarge),
                None => {
                    let mut first = Object::new();
                    first.insert("index".to_owned(), index.into());
                    self.join(&mut first, call)?;
                    calls.push(first.into());
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: usize) -> Result<(), Unfit> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Unfit::TooLarge)?;
        Ok(())
    }
}

/// About how many bytes a value takes.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 8,
        Value::Array(items) => 8 + items.iter().map(size).sum::<usize>(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| name.len() + 8 + size(value))
            .sum(),
    }
}

/// Texts that come whole; some servers repeat them in every piece.
fn is_label(name: &str) -> bool {
    matches!(
        name,
        "role"
            | "id"
            | "type"
            | "name"
            | "finish_reason"
            | "native_finish_reason"
            | "severity"
            | "format"
    )
}
