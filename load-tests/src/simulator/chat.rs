//! Chat completions: whole or in chunks, with several choices, tool calls and structured answers.
//!
//! The order and the odd cases of the chunks are those of the recorded real streams: Azure's first chunk has no choices,
//! with `include_usage` each chunk has `"usage":null` and one more comes with the usage and no choices.

use serde_json::{Value, json};

use super::journal::Charge;
use super::made::{CREATED, Call, DONE, Made, data};
use super::saying::{Asked, Saying, characters, say};
use super::script::Piece;
use super::usage::{Tally, WORD};

/// Answers a chat request.
pub(crate) fn answer(call: &Call<'_>) -> Made {
    let Some(messages) = call
        .body
        .get("messages")
        .and_then(Value::as_array)
        .filter(|list| !list.is_empty())
    else {
        return Made::Wrong("'messages' is a required property".to_owned());
    };
    let asked = asked(call.body, messages);
    let saying = say(&asked, call.content);
    let words = saying.tokens.len() * usize::try_from(call.choices()).unwrap_or(1);
    let tally = Tally::new(asked.prompt_characters, words, call.content);
    if call.streams() {
        Made::Stream {
            events: stream(call, &saying, tally),
            tally,
        }
    } else {
        Made::Json {
            value: whole(call, &saying, tally),
            charge: tally.whole_charge(),
        }
    }
}

fn asked(body: &Value, messages: &[Value]) -> Asked {
    let tools = body
        .get("tools")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let bound = body
        .get("max_completion_tokens")
        .or_else(|| body.get("max_tokens"));
    Asked {
        tools: tools
            .filter_map(|tool| function(tool.get("function")?))
            .collect(),
        wanted_tool: body
            .pointer("/tool_choice/function/name")
            .and_then(Value::as_str)
            .map(str::to_owned),
        tools_forbidden: body.get("tool_choice").and_then(Value::as_str) == Some("none"),
        user_spoke_last: messages.last().and_then(|last| last.get("role")?.as_str())
            == Some("user"),
        schema: structured(body.get("response_format")),
        max_tokens: bound.and_then(Value::as_u64),
        prompt_characters: messages.iter().map(characters).sum(),
        last_text: last_text(messages),
    }
}

fn last_text(messages: &[Value]) -> Option<String> {
    let content = messages.last()?.get("content")?;
    content.as_str().map(str::to_owned)
}

/// Name and parameters of a function.
pub(crate) fn function(function: &Value) -> Option<(String, Value)> {
    let name = function.get("name")?.as_str()?.to_owned();
    Some((
        name,
        function
            .get("parameters")
            .cloned()
            .unwrap_or_else(|| json!({"type": "object"})),
    ))
}

fn structured(format: Option<&Value>) -> Option<Value> {
    match format?.get("type")?.as_str()? {
        "json_schema" => format?.pointer("/json_schema/schema").cloned(),
        "json_object" => {
            Some(json!({"type": "object", "properties": {"answer": {"type": "string"}}}))
        }
        _ => None,
    }
}

fn finish(saying: &Saying) -> &'static str {
    match (&saying.tool, saying.cut) {
        (Some(_), _) => "tool_calls",
        (None, true) => "length",
        (None, false) => "stop",
    }
}

fn whole(call: &Call<'_>, saying: &Saying, tally: Tally) -> Value {
    let choice = |index: u64| {
        let mut message = json!({"role": "assistant", "content": saying.text(), "refusal": null, "annotations": []});
        if let Some(name) = &saying.tool {
            message["content"] = Value::Null;
            message["tool_calls"] = json!([{"id": call_id(call, index), "type": "function",
                "function": {"name": name, "arguments": saying.text()}}]);
        }
        let mut choice = json!({"index": index, "message": message, "logprobs": null, "finish_reason": finish(saying)});
        if call.is_azure() {
            choice["content_filter_results"] = safe();
        }
        choice
    };
    let choices: Vec<Value> = (0..call.choices()).map(choice).collect();
    let mut answer = json!({"id": call.id("chatcmpl-"), "object": "chat.completion", "created": CREATED,
        "model": call.model, "system_fingerprint": FINGERPRINT, "choices": choices});
    if !call.content.no_usage {
        answer["usage"] = tally.chat();
    }
    if call.is_azure() {
        answer["prompt_filter_results"] = prompt_filter();
    }
    answer
}

/// Says where it comes from in a field that clients show.
const FINGERPRINT: &str = "fp_tollgate_simulator";

fn stream(call: &Call<'_>, saying: &Saying, tally: Tally) -> Vec<Piece> {
    let mut events = Vec::new();
    let mut push = |value: &Value, charge: Charge| {
        events.push(Piece {
            bytes: data(value),
            charge,
        })
    };
    let mut opening = tally.opening_charge();
    if call.is_azure() {
        let first = json!({"choices": [], "created": 0, "id": "", "model": "", "object": "",
            "prompt_filter_results": prompt_filter()});
        push(&first, std::mem::take(&mut opening));
    }
    for index in 0..call.choices() {
        push(
            &chunk(call, index, &role(call, saying, index), None),
            std::mem::take(&mut opening),
        );
    }
    for token in &saying.tokens {
        for index in 0..call.choices() {
            push(&chunk(call, index, &delta(saying, token), None), WORD);
        }
    }
    for index in 0..call.choices() {
        push(
            &chunk(call, index, &json!({}), Some(finish(saying))),
            Charge::default(),
        );
    }
    if call.flag("/stream_options/include_usage") && !call.content.no_usage {
        push(&frame(call, &json!([]), &tally.chat()), Charge::default());
    }
    events.push(Piece::free(DONE));
    events
}

fn role(call: &Call<'_>, saying: &Saying, index: u64) -> Value {
    match &saying.tool {
        None => json!({"role": "assistant", "content": "", "refusal": null}),
        Some(name) => json!({"role": "assistant", "content": null, "tool_calls": [{"index": 0,
            "id": call_id(call, index), "type": "function", "function": {"name": name, "arguments": ""}}]}),
    }
}

fn delta(saying: &Saying, token: &str) -> Value {
    if saying.tool.is_some() {
        json!({"tool_calls": [{"index": 0, "function": {"arguments": token}}]})
    } else {
        json!({"content": token})
    }
}

fn chunk(call: &Call<'_>, index: u64, delta: &Value, finish: Option<&str>) -> Value {
    let mut choice =
        json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": finish});
    if call.is_azure() {
        choice["content_filter_results"] = if delta.get("content").is_some() {
            safe()
        } else {
            json!({})
        };
    }
    frame(call, &json!([choice]), &Value::Null)
}

fn frame(call: &Call<'_>, choices: &Value, usage: &Value) -> Value {
    let mut frame = json!({"id": call.id("chatcmpl-"), "object": "chat.completion.chunk", "created": CREATED,
        "model": call.model, "system_fingerprint": FINGERPRINT, "choices": choices});
    if call.flag("/stream_options/include_usage") {
        frame["usage"] = usage.clone();
    }
    frame
}

fn call_id(call: &Call<'_>, index: u64) -> String {
    format!("call_simulated{:08}{index:02}", call.number)
}

fn safe() -> Value {
    let safe = json!({"filtered": false, "severity": "safe"});
    json!({"hate": safe, "self_harm": safe, "sexual": safe, "violence": safe})
}

/// What Azure says of the prompt.
pub(crate) fn prompt_filter() -> Value {
    let mut results = safe();
    results["jailbreak"] = json!({"filtered": false, "detected": false});
    json!([{"prompt_index": 0, "content_filter_results": results}])
}
