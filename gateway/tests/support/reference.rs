//! What a stream should look like and cost, worked out in a few plain lines of its own and not by the code under test.

use filters::answer::StreamMeter;
use filters::route::Shape;
use filters::sse::Event;
use filters::tokens;
use serde_json::{Value, json};

/// The events of a stream, each with the blank line that ends it. All of them together are the stream.
pub fn events(stream: &str) -> Vec<&str> {
    let mut events = Vec::new();
    let (mut begin, mut at) = (0, 0);
    while let Some(length) = stream[at..].find(['\r', '\n']) {
        let end = at + length + 1 + usize::from(stream[at + length..].starts_with("\r\n"));
        if length == 0 {
            events.push(&stream[begin..end]);
            begin = end;
        }
        at = end;
    }
    if begin < stream.len() {
        events.push(&stream[begin..]);
    }
    events
}

/// What the `data` lines of an event say together.
pub fn data(event: &str) -> String {
    let lines = event.split(['\r', '\n']);
    let data = lines.filter_map(|line| line.strip_prefix("data:"));
    data.map(|data| data.strip_prefix(' ').unwrap_or(data))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The stream without the chunk that `include_usage` adds.
pub fn without_usage_chunk(stream: &str) -> String {
    let is_extra = |event: &&str| {
        let json: Value = serde_json::from_str(&data(event)).unwrap_or_default();
        json["choices"] == json!([]) && json["usage"].is_object()
    };
    let kept = events(stream).into_iter().filter(|event| !is_extra(event));
    kept.collect()
}

/// Prompt and completion tokens of a call whose backend told none: by the tokenizer, for the model that the stream names.
pub fn counted(shape: Shape, asked: &str, body: &[u8], stream: &str) -> (u64, u64) {
    let mut meter = StreamMeter::new(shape);
    for event in events(stream) {
        meter.read(&Event::parse(event.as_bytes()));
    }
    let model = meter.model().unwrap_or(asked);
    let prompt = tokens::prompt(model, shape, body).unwrap().tokens;
    (prompt, tokens::completion(model, shape, meter.texts()))
}
