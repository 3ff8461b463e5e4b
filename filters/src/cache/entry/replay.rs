//! The events that a backend would have sent for a kept body.
//!
//! The order and the fields are those of recorded streams: a role, the text in one piece, the finish reason, the usage
//! if it was asked for, `[DONE]`; for responses the whole ladder of items and parts, numbered. Official clients build
//! the same answer from it as from the body. What the body has and events have no place for goes where its neighbours go.
//!
//! Never here: the pace of a real stream. All comes at once.

use serde_json::{Map, Value, json};

use crate::route::Shape;

/// Whether a streaming caller asked for the chunk with the usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageChunk {
    /// `include_usage`.
    Asked,
    /// It didn't.
    NotAsked,
}

type Object = Map<String, Value>;

/// A stream that says what `body` says. Absent if the body isn't one that [`super::check`] lets be kept.
pub fn events(shape: Shape, body: &[u8], usage: UsageChunk) -> Option<Vec<u8>> {
    let answer: Object = serde_json::from_slice(body).ok()?;
    let mut out = Vec::with_capacity(body.len() * 2 + 1024);
    match shape {
        Shape::Chat => choices(
            &mut out,
            answer,
            "chat.completion.chunk",
            usage,
            chat_choice,
        )?,
        Shape::Completions => choices(&mut out, answer, "text_completion", usage, text_choice)?,
        Shape::Responses => Ladder {
            out: &mut out,
            number: 0,
        }
        .response(answer)?,
        Shape::Embeddings | Shape::Other => return None,
    }
    Some(out)
}

fn choices(
    out: &mut Vec<u8>,
    mut answer: Object,
    object: &str,
    usage: UsageChunk,
    each: fn(Object) -> Option<Vec<Value>>,
) -> Option<()> {
    let Some(Value::Array(choices)) = answer.remove("choices") else {
        return None;
    };
    let used = answer.remove("usage").filter(|used| !used.is_null());
    let filtered = answer.remove("prompt_filter_results");
    let mut frame = answer;
    frame.insert("object".to_owned(), object.into());
    let chunk = |choices: Value| {
        let mut chunk = frame.clone();
        chunk.insert("choices".to_owned(), choices);
        if usage == UsageChunk::Asked {
            chunk.insert("usage".to_owned(), Value::Null);
        }
        chunk
    };
    if let Some(filtered) = filtered {
        let mut first = chunk(json!([]));
        first.insert("prompt_filter_results".to_owned(), filtered);
        write(out, None, &first.into());
    }
    for choice in choices {
        let Value::Object(choice) = choice else {
            return None;
        };
        for part in each(choice)? {
            write(out, None, &chunk(json!([part])).into());
        }
    }
    if let (UsageChunk::Asked, Some(used)) = (usage, used) {
        let mut last = chunk(json!([]));
        last.insert("usage".to_owned(), used);
        write(out, None, &last.into());
    }
    out.extend_from_slice(b"data: [DONE]\n\n");
    Some(())
}

/// Role; then everything said, with what stands beside it; then the end.
fn chat_choice(mut choice: Object) -> Option<Vec<Value>> {
    let Some(Value::Object(mut message)) = choice.remove("message") else {
        return None;
    };
    let index = choice.remove("index").unwrap_or_else(|| 0.into());
    let finish_reason = choice.remove("finish_reason")?;
    let logprobs = choice.remove("logprobs").unwrap_or(Value::Null);
    let role = message.remove("role").unwrap_or_else(|| "assistant".into());
    message.retain(|_, value| {
        !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty())
    });
    if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
        for (at, call) in calls.iter_mut().enumerate() {
            call.as_object_mut()?.insert("index".to_owned(), at.into());
        }
    }
    let mut content = choice;
    content.insert("index".to_owned(), index.clone());
    content.insert("delta".to_owned(), message.into());
    content.insert("logprobs".to_owned(), logprobs);
    content.insert("finish_reason".to_owned(), Value::Null);
    let opening = json!({"role": role, "content": "", "refusal": null});
    Some(vec![
        json!({"index": index, "delta": opening, "logprobs": null, "finish_reason": null}),
        content.into(),
        json!({"index": index, "delta": {}, "logprobs": null, "finish_reason": finish_reason}),
    ])
}

/// Recorded streams end with the last text.
fn text_choice(choice: Object) -> Option<Vec<Value>> {
    choice.get("finish_reason")?;
    Some(vec![choice.into()])
}

/// The events of a response, each with the next number.
struct Ladder<'o> {
    out: &'o mut Vec<u8>,
    number: u64,
}

impl Ladder<'_> {
    fn response(mut self, answer: Object) -> Option<()> {
        let mut begun = answer.clone();
        begun.insert("status".to_owned(), "in_progress".into());
        begun.insert("output".to_owned(), json!([]));
        for later in ["usage", "completed_at"] {
            if begun.contains_key(later) {
                begun.insert(later.to_owned(), Value::Null);
            }
        }
        begun.remove("output_text");
        for kind in ["response.created", "response.in_progress"] {
            self.send(kind, json!({"response": begun}));
        }
        for (at, item) in answer.get("output")?.as_array()?.iter().enumerate() {
            self.item(at, item.as_object()?)?;
        }
        self.send("response.completed", json!({"response": answer}));
        Some(())
    }

    fn item(&mut self, at: usize, item: &Object) -> Option<()> {
        let kind = item.get("type")?.as_str()?;
        let id = item.get("id").cloned().unwrap_or_default();
        let place = json!({"output_index": at, "item_id": id});
        let mut begun = item.clone();
        if begun.contains_key("status") {
            begun.insert("status".to_owned(), "in_progress".into());
        }
        // What comes piece by piece is empty at first.
        for (name, empty) in [
            ("content", json!([])),
            ("summary", json!([])),
            ("arguments", json!("")),
        ] {
            if begun.get(name).is_some_and(|value| !value.is_null()) {
                begun.insert(name.to_owned(), empty);
            }
        }
        self.send(
            "response.output_item.added",
            json!({"output_index": at, "item": begun}),
        );
        match kind {
            "message" => {
                for (at, part) in item.get("content")?.as_array()?.iter().enumerate() {
                    self.part(
                        with(&place, json!({"content_index": at})),
                        part.as_object()?,
                    )?;
                }
            }
            "reasoning" => {
                for (at, part) in item
                    .get("summary")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .enumerate()
                {
                    self.summary(with(&place, json!({"summary_index": at})), part)?;
                }
            }
            "function_call" => {
                let arguments = item.get("arguments")?;
                self.send(
                    "response.function_call_arguments.delta",
                    with(&place, json!({"delta": arguments})),
                );
                let name = item.get("name");
                let done = with(&place, json!({"arguments": arguments, "name": name}));
                self.send("response.function_call_arguments.done", done);
            }
            _ => {}
        }
        self.send(
            "response.output_item.done",
            json!({"output_index": at, "item": item}),
        );
        Some(())
    }

    fn part(&mut self, place: Value, part: &Object) -> Option<()> {
        let text = part.get("text")?;
        let logprobs = part.get("logprobs").cloned().unwrap_or_else(|| json!([]));
        let mut begun = part.clone();
        begun.insert("text".to_owned(), "".into());
        for name in ["annotations", "logprobs"] {
            begun.insert(name.to_owned(), json!([]));
        }
        self.send(
            "response.content_part.added",
            with(&place, json!({"part": begun})),
        );
        self.send(
            "response.output_text.delta",
            with(&place, json!({"delta": text, "logprobs": logprobs})),
        );
        let annotations = part.get("annotations").and_then(Value::as_array);
        for (at, annotation) in annotations.into_iter().flatten().enumerate() {
            let annotation = json!({"annotation_index": at, "annotation": annotation});
            self.send(
                "response.output_text.annotation.added",
                with(&place, annotation),
            );
        }
        self.send(
            "response.output_text.done",
            with(&place, json!({"text": text, "logprobs": logprobs})),
        );
        self.send(
            "response.content_part.done",
            with(&place, json!({"part": part})),
        );
        Some(())
    }

    fn summary(&mut self, place: Value, part: &Value) -> Option<()> {
        let text = part.get("text")?;
        let empty = json!({"type": "summary_text", "text": ""});
        self.send(
            "response.reasoning_summary_part.added",
            with(&place, json!({"part": empty})),
        );
        self.send(
            "response.reasoning_summary_text.delta",
            with(&place, json!({"delta": text})),
        );
        self.send(
            "response.reasoning_summary_text.done",
            with(&place, json!({"text": text})),
        );
        self.send(
            "response.reasoning_summary_part.done",
            with(&place, json!({"part": part})),
        );
        Some(())
    }

    fn send(&mut self, kind: &str, fields: Value) {
        let event = with(
            &fields,
            json!({"type": kind, "sequence_number": self.number}),
        );
        self.number += 1;
        write(self.out, Some(kind), &event);
    }
}

/// An object with the members of both.
fn with(one: &Value, other: Value) -> Value {
    let mut all = one.clone();
    if let (Value::Object(all), Value::Object(other)) = (&mut all, other) {
        all.extend(other);
    }
    all
}

fn write(out: &mut Vec<u8>, name: Option<&str>, data: &Value) {
    if let Some(name) = name {
        out.extend_from_slice(format!("event: {name}\n").as_bytes());
    }
    // JSON has no line ends of its own, so one `data` line holds it.
    out.extend_from_slice(format!("data: {data}\n\n").as_bytes());
}
