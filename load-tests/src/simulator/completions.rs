//! The old completions: a prompt in, text out, whole or in chunks.
//!
//! Kept apart from chat because every field has another place. It has no tools and no structure.

use serde_json::{Value, json};

use super::journal::Charge;
use super::made::{CREATED, Call, DONE, Made, data};
use super::saying::{Asked, Saying, characters, say};
use super::script::Piece;
use super::usage::{Tally, WORD};

/// Answers a completions request.
pub(crate) fn answer(call: &Call<'_>) -> Made {
    let Some(prompt) = call.body.get("prompt") else {
        return Made::Wrong("'prompt' is a required property".to_owned());
    };
    let asked = Asked {
        max_tokens: call.body.get("max_tokens").and_then(Value::as_u64),
        prompt_characters: characters(prompt),
        last_text: prompt.as_str().map(str::to_owned),
        ..Asked::default()
    };
    let saying = say(&asked, call.content);
    let count = call.choices() * prompts(prompt);
    let words = saying.tokens.len() * usize::try_from(count).unwrap_or(1);
    let tally = Tally::new(asked.prompt_characters, words, call.content);
    if call.streams() {
        return Made::Stream {
            events: stream(call, &saying, tally, count),
            tally,
        };
    }
    let choices: Vec<Value> = (0..count)
        .map(|index| choice(&saying.text(), index, Some(finish(&saying))))
        .collect();
    let usage = if call.content.no_usage {
        Value::Null
    } else {
        tally.chat()
    };
    Made::Json {
        value: frame(call, &json!(choices), Some(&usage)),
        charge: tally.whole_charge(),
    }
}

fn prompts(prompt: &Value) -> u64 {
    match prompt.as_array() {
        Some(items) if items.iter().any(|item| item.is_string() || item.is_array()) => {
            items.len() as u64
        }
        Some(_) | None => 1,
    }
}

fn finish(saying: &Saying) -> &'static str {
    if saying.cut { "length" } else { "stop" }
}

fn choice(text: &str, index: u64, finish: Option<&str>) -> Value {
    json!({"text": text, "index": index, "logprobs": null, "finish_reason": finish})
}

fn frame(call: &Call<'_>, choices: &Value, usage: Option<&Value>) -> Value {
    let mut frame = json!({"id": call.id("cmpl-"), "object": "text_completion", "created": CREATED,
        "model": call.model, "choices": choices});
    if let Some(usage) = usage {
        frame["usage"] = usage.clone();
    }
    frame
}

fn stream(call: &Call<'_>, saying: &Saying, tally: Tally, count: u64) -> Vec<Piece> {
    let include_usage = call.flag("/stream_options/include_usage") && !call.content.no_usage;
    let null = include_usage.then_some(&Value::Null);
    let mut events = Vec::new();
    let mut opening = tally.opening_charge();
    for token in &saying.tokens {
        for index in 0..count {
            let mut charge = std::mem::take(&mut opening);
            charge.add(WORD);
            let bytes = data(&frame(call, &json!([choice(token, index, None)]), null));
            events.push(Piece { bytes, charge });
        }
    }
    for index in 0..count {
        let end = choice("", index, Some(finish(saying)));
        events.push(Piece {
            bytes: data(&frame(call, &json!([end]), null)),
            charge: std::mem::take(&mut opening),
        });
    }
    if include_usage {
        let bytes = data(&frame(call, &json!([]), Some(&tally.chat())));
        events.push(Piece {
            bytes,
            charge: Charge::default(),
        });
    }
    events.push(Piece::free(DONE));
    events
}
