//! The responses API: whole, or as the event sequence of the real endpoint.
//!
//! The sequence is that of recorded streams, for a message and for a function call, each event with its number. A
//! response cut by `max_output_tokens` ends with `response.incomplete`.

use bytes::Bytes;
use serde_json::{Value, json};

use super::chat::function;
use super::journal::Charge;
use super::made::{CREATED, Call, Made};
use super::saying::{Asked, Saying, characters, say};
use super::script::Piece;
use super::usage::{Tally, WORD};

/// Answers a responses request. The second value is what `GET /responses/{id}` gives from now on.
pub(crate) fn answer(call: &Call<'_>) -> (Made, Option<Value>) {
    let Some(input) = call.body.get("input") else {
        return (
            Made::Wrong("Missing required parameter: 'input'.".to_owned()),
            None,
        );
    };
    let asked = asked(call.body, input);
    let saying = say(&asked, call.content);
    let tally = Tally::new(asked.prompt_characters, saying.tokens.len(), call.content);
    let item = item(call, &saying, "completed");
    let finished = response(call, outcome(&saying), &json!([item]), Some(tally));
    let made = if call.streams() {
        Made::Stream {
            events: stream(call, &saying, tally, &finished),
            tally,
        }
    } else {
        Made::Json {
            value: finished.clone(),
            charge: tally.whole_charge(),
        }
    };
    (made, Some(finished))
}

fn asked(body: &Value, input: &Value) -> Asked {
    let tools = body
        .get("tools")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let format = body.pointer("/text/format");
    Asked {
        tools: tools
            .filter(|tool| tool.get("type") == Some(&json!("function")))
            .filter_map(function)
            .collect(),
        wanted_tool: body
            .pointer("/tool_choice/name")
            .and_then(Value::as_str)
            .map(str::to_owned),
        tools_forbidden: body.get("tool_choice").and_then(Value::as_str) == Some("none"),
        user_spoke_last: match input.as_array() {
            None => true,
            Some(items) => items.last().and_then(|item| item.get("role")?.as_str()) == Some("user"),
        },
        schema: format.and_then(|format| format.get("schema")).cloned(),
        max_tokens: body.get("max_output_tokens").and_then(Value::as_u64),
        prompt_characters: characters(input) + body.get("instructions").map_or(0, characters),
        last_text: input.as_str().map(str::to_owned),
    }
}

fn outcome(saying: &Saying) -> &'static str {
    if saying.cut {
        "incomplete"
    } else {
        "completed"
    }
}

fn response(call: &Call<'_>, status: &str, output: &Value, tally: Option<Tally>) -> Value {
    let given = |name: &str, default: Value| call.body.get(name).cloned().unwrap_or(default);
    let reason = if status == "incomplete" {
        json!({"reason": "max_output_tokens"})
    } else {
        Value::Null
    };
    let usage = tally
        .filter(|_| !call.content.no_usage)
        .map_or(Value::Null, Tally::responses);
    json!({
        "id": call.id("resp_"), "object": "response", "created_at": CREATED, "status": status, "background": false,
        "error": null, "incomplete_details": reason, "instructions": given("instructions", Value::Null),
        "max_output_tokens": given("max_output_tokens", Value::Null), "max_tool_calls": null, "model": call.model,
        "output": output, "parallel_tool_calls": given("parallel_tool_calls", json!(true)),
        "previous_response_id": given("previous_response_id", Value::Null), "prompt_cache_key": null,
        "reasoning": {"effort": null, "summary": null}, "safety_identifier": given("safety_identifier", Value::Null),
        "service_tier": "default", "store": given("store", json!(true)), "temperature": given("temperature", json!(1.0)),
        "text": given("text", json!({"format": {"type": "text"}, "verbosity": "medium"})),
        "tool_choice": given("tool_choice", json!("auto")), "tools": given("tools", json!([])), "top_logprobs": 0,
        "top_p": given("top_p", json!(1.0)), "truncation": "disabled", "usage": usage,
        "user": given("user", Value::Null), "metadata": given("metadata", json!({})),
    })
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text})
}

fn item_id(call: &Call<'_>, saying: &Saying) -> String {
    call.id(if saying.tool.is_some() { "fc_" } else { "msg_" })
}

fn item(call: &Call<'_>, saying: &Saying, status: &str) -> Value {
    let (id, complete) = (item_id(call, saying), status == "completed");
    match &saying.tool {
        Some(name) => {
            let arguments = if complete {
                saying.text()
            } else {
                String::new()
            };
            json!({"id": id, "type": "function_call", "status": status, "arguments": arguments,
                "call_id": call.id("call_"), "name": name})
        }
        None => {
            let content = if complete {
                json!([part(&saying.text())])
            } else {
                json!([])
            };
            json!({"id": id, "type": "message", "status": status, "content": content, "role": "assistant"})
        }
    }
}

/// Events under way: each gets the next number.
struct Sequence {
    events: Vec<Piece>,
}

impl Sequence {
    fn push(&mut self, name: &str, mut fields: Value, charge: Charge) {
        fields["type"] = json!(name);
        fields["sequence_number"] = json!(self.events.len());
        let bytes = Bytes::from(format!("event: {name}\ndata: {fields}\n\n"));
        self.events.push(Piece { bytes, charge });
    }

    fn free(&mut self, name: &str, fields: Value) {
        self.push(name, fields, Charge::default());
    }
}

fn stream(call: &Call<'_>, saying: &Saying, tally: Tally, finished: &Value) -> Vec<Piece> {
    let mut sequence = Sequence { events: Vec::new() };
    let begun = response(call, "in_progress", &json!([]), None);
    sequence.push(
        "response.created",
        json!({"response": begun}),
        tally.opening_charge(),
    );
    sequence.free("response.in_progress", json!({"response": begun}));
    let added = json!({"output_index": 0, "item": item(call, saying, "in_progress")});
    sequence.free("response.output_item.added", added);
    match &saying.tool {
        Some(name) => call_events(&mut sequence, &item_id(call, saying), name, saying),
        None => text_events(&mut sequence, &item_id(call, saying), saying),
    }
    let done = json!({"output_index": 0, "item": item(call, saying, "completed")});
    sequence.free("response.output_item.done", done);
    sequence.free(
        &format!("response.{}", outcome(saying)),
        json!({"response": finished}),
    );
    sequence.events
}

fn text_events(sequence: &mut Sequence, id: &str, saying: &Saying) {
    let place = |mut fields: Value| {
        fields["item_id"] = json!(id);
        fields["output_index"] = json!(0);
        fields["content_index"] = json!(0);
        fields
    };
    sequence.free(
        "response.content_part.added",
        place(json!({"part": part("")})),
    );
    for token in &saying.tokens {
        sequence.push(
            "response.output_text.delta",
            place(json!({"delta": token, "logprobs": []})),
            WORD,
        );
    }
    let text = saying.text();
    sequence.free(
        "response.output_text.done",
        place(json!({"text": text, "logprobs": []})),
    );
    sequence.free(
        "response.content_part.done",
        place(json!({"part": part(&text)})),
    );
}

fn call_events(sequence: &mut Sequence, id: &str, name: &str, saying: &Saying) {
    for token in &saying.tokens {
        let delta = json!({"item_id": id, "output_index": 0, "delta": token});
        sequence.push("response.function_call_arguments.delta", delta, WORD);
    }
    let done = json!({"item_id": id, "output_index": 0, "name": name, "arguments": saying.text()});
    sequence.free("response.function_call_arguments.done", done);
}
