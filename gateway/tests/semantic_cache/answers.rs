//! Which answers are kept, and in which form each caller gets them: every operation, streamed and not, and what a model
//! does beside plain text. Both stores pass all of it.

use load_tests::simulator::Behaviour;
use load_tests::simulator::behaviour::{BreakageKind, Chunking};
use serde_json::{Value, json};

use super::cases::{A, COFFEE, ask_with, calls, chats, result, world};
use super::support::gateway::Gateway;
use super::support::http::{self, Answer};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

fn tools() -> Value {
    let function = json!({"name": "look_up", "parameters": {"type": "object", "properties": {}}});
    json!([{"type": "function", "function": function}])
}

fn post(gateway: &Gateway, operation: &str, body: &Value) -> Answer {
    let url = format!("{}/v1/{operation}", gateway.url);
    http::post(&url, &[("api-key", A)], &body.to_string())
}

/// The data of a stream's events, and whether it ended as it should.
fn events(answer: &Answer) -> Vec<Value> {
    let text = answer.text();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let data = data.filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_call_tools_are_kept_only_where_the_policy_allows_it() {
    let with_tools = json!({"tools": tools()});
    let streamed = json!({"tools": tools(), "stream": true});
    let (simulator, gateway, _store) = world("").await;
    for more in [&with_tools, &streamed, &with_tools] {
        let answer = ask_with(&gateway, A, COFFEE[0], more.clone());
        assert_eq!(result(&answer), "miss");
    }
    assert_eq!(chats(&simulator), 3);
    let (simulator, gateway, _store) = world("tool-calls = true").await;
    let first = ask_with(&gateway, A, COFFEE[0], streamed.clone());
    assert_eq!(result(&first), "miss");
    let whole = ask_with(&gateway, A, COFFEE[1], with_tools);
    assert_eq!(result(&whole), "hit");
    let choice = &whole.json()["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!(call["function"]["name"], "look_up");
    let again = ask_with(&gateway, A, COFFEE[2], streamed);
    assert_eq!(result(&again), "hit");
    let again = events(&again);
    let calls = again
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["tool_calls"][0].as_object());
    let calls: Vec<_> = calls.collect();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0]["index"], 0);
    assert_eq!(calls[0]["function"], call["function"]);
    let ends = again
        .iter()
        .any(|event| event["choices"][0]["finish_reason"] == "tool_calls");
    assert!(ends);
    assert_eq!(chats(&simulator), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_calls_a_function_is_kept_only_where_the_policy_allows_it() {
    let body = |question: &str, stream: bool| json!({"model": "gpt-4o", "input": question, "stream": stream, "tools": [{"type": "function", "name": "look_up", "parameters": {"type": "object", "properties": {}}}]});
    for (policy, second, upstream) in [("", "miss", 2), ("tool-calls = true", "hit", 1)] {
        let (simulator, gateway, _store) = world(policy).await;
        let first = post(&gateway, "responses", &body(COFFEE[0], false));
        assert_eq!(result(&first), "miss");
        assert_eq!(first.json()["output"][0]["type"], "function_call");
        let again = post(&gateway, "responses", &body(COFFEE[1], true));
        assert_eq!(result(&again), second, "{policy}");
        let text = again.text();
        assert!(
            text.contains("response.function_call_arguments.done"),
            "{text}"
        );
        assert_eq!(calls(&simulator, "/responses"), upstream);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn legacy_completions_come_in_the_form_that_each_caller_asks_for() {
    let (simulator, gateway, _store) = world("").await;
    let body = |question: &str, more: Value| {
        let mut body = json!({"model": "gpt-4o", "prompt": question});
        let more = more.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(more);
        body
    };
    let said = |answer: &Answer| -> String {
        let events = events(answer);
        let texts = events
            .iter()
            .filter_map(|event| event["choices"][0]["text"].as_str());
        texts.collect()
    };
    let complete =
        |question: &str, more: Value| post(&gateway, "completions", &body(question, more));
    let first = complete(COFFEE[0], json!({"stream": true}));
    assert_eq!(result(&first), "miss");
    let whole = complete(COFFEE[1], json!({}));
    assert_eq!(result(&whole), "hit");
    let whole = whole.json();
    assert_eq!(whole["object"], "text_completion");
    assert_eq!(whole["choices"][0]["text"], said(&first));
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    let usage = json!({"stream": true, "stream_options": {"include_usage": true}});
    let streamed = complete(COFFEE[2], usage);
    assert_eq!(result(&streamed), "hit");
    assert_eq!(said(&streamed), said(&first));
    assert!(streamed.text().ends_with("data: [DONE]\n\n"));
    let last = events(&streamed).pop().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert!(last["usage"]["total_tokens"].as_u64().unwrap() > 0);
    assert_eq!(calls(&simulator, "/completions"), 1);
}

fn chat(message: &Value, finish_reason: &str) -> String {
    json!({"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}})
    .to_string()
}

/// A stream whose one choice says this and ends so, if it ends.
fn stream(delta: &Value, finish_reason: Option<&str>) -> String {
    let chunk = |delta: &Value, finish_reason: Option<&str>| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish_reason});
        let chunk = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o", "choices": [choice]});
        format!("data: {chunk}\n\n")
    };
    let end = finish_reason.map(|reason| chunk(&json!({}), Some(reason)) + "data: [DONE]\n\n");
    chunk(delta, None) + &end.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_did_not_end_of_itself_is_asked_for_again() {
    let (simulator, gateway, _store) = world("").await;
    let text = json!({"role": "assistant", "content": "Hello"});
    let refusal = json!({"role": "assistant", "content": null, "refusal": "I can't."});
    let nothing = json!({"role": "assistant", "content": ""});
    let error = r#"{"error":{"message":"overloaded","code":"500"}}"#;
    let whole = |body: &str| Behaviour::answer(200, &JSON, Some(body));
    let played = |body: String| Behaviour::playback(body, Chunking::Whole);
    let cases = [
        (false, whole(&chat(&text, "length"))),
        (false, whole(&chat(&text, "content_filter"))),
        (false, whole(&chat(&text, "something_new"))),
        (false, whole(&chat(&refusal, "stop"))),
        (false, whole(&chat(&nothing, "stop"))),
        (false, whole("{\"choices\":[]}")),
        (false, whole(error)),
        (true, played(stream(&text, Some("length")))),
        (true, played(stream(&text, Some("content_filter")))),
        (true, played(stream(&refusal, Some("stop")))),
        (true, played(stream(&text, None))),
        (true, played(stream(&text, None) + "data: [DONE]\n\n")),
        (
            true,
            played(stream(&text, None) + "data: " + error + "\n\ndata: [DONE]\n\n"),
        ),
        (true, Behaviour::breaks(BreakageKind::Cut, Some(2))),
    ];
    for (number, (is_streamed, behaviour)) in cases.into_iter().enumerate() {
        let question = format!("Where do whales number {number} sleep?");
        simulator.set(behaviour.on_path("chat"));
        let more = json!({"stream": is_streamed});
        for _ in 0..2 {
            let answer = ask_with(&gateway, A, &question, more.clone());
            assert_eq!(
                answer.header("x-tollgate-cache"),
                Some("miss"),
                "case {number}"
            );
        }
        simulator.reset_behaviour();
        let good = ask_with(&gateway, A, &question, more.clone());
        assert_eq!(result(&good), "miss", "case {number}");
        assert_eq!(
            result(&ask_with(&gateway, A, &question, more)),
            "hit",
            "case {number}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_probabilities_come_along_streamed_or_not() {
    let (simulator, gateway, _store) = world("").await;
    let logprobs = json!({"content": [{"token": "Hello", "logprob": -0.1, "bytes": [72], "top_logprobs": []}], "refusal": null});
    let mut body: Value = serde_json::from_str(&chat(
        &json!({"role": "assistant", "content": "Hello"}),
        "stop",
    ))
    .unwrap();
    body["choices"][0]["logprobs"] = logprobs.clone();
    simulator.set(Behaviour::answer(200, &JSON, Some(&body.to_string())).on_path("chat"));
    let more = |stream: bool| json!({"logprobs": true, "stream": stream});
    assert_eq!(
        result(&ask_with(&gateway, A, COFFEE[0], more(false))),
        "miss"
    );
    let streamed = ask_with(&gateway, A, COFFEE[1], more(true));
    assert_eq!(result(&streamed), "hit");
    let found = events(&streamed)
        .into_iter()
        .find(|event| !event["choices"][0]["logprobs"].is_null());
    assert_eq!(found.unwrap()["choices"][0]["logprobs"], logprobs);
    let whole = ask_with(&gateway, A, COFFEE[2], more(false));
    assert_eq!(whole.json(), body);
    // Who didn't ask for them has another partition.
    assert_eq!(result(&ask_with(&gateway, A, COFFEE[0], json!({}))), "miss");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_question_in_parts_the_text_may_differ_and_the_image_may_not() {
    let (simulator, gateway, _store) = world("").await;
    let asking = |text: &str, image: &str| {
        let url = format!("data:image/png;base64,{image}");
        let parts = json!([{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]);
        let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": parts}]});
        result(&post(&gateway, "chat/completions", &body)).to_owned()
    };
    assert_eq!(asking(COFFEE[0], "aGVsbG8="), "miss");
    assert_eq!(asking(COFFEE[1], "aGVsbG8="), "hit");
    assert_eq!(asking(COFFEE[0], "d29ybGQ="), "miss");
    assert_eq!(result(&ask_with(&gateway, A, COFFEE[0], json!({}))), "miss");
    assert_eq!(chats(&simulator), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_behind_an_answer_that_is_not_kept_make_their_own() {
    const CALLERS: usize = 4;
    let (simulator, gateway, _store) = world("").await;
    simulator.set(Behaviour::default().paced(200, 0).on_path("chat"));
    let more = json!({"max_tokens": 2});
    let results: Vec<String> = std::thread::scope(|scope| {
        let ask = || result(&ask_with(&gateway, A, COFFEE[0], more.clone())).to_owned();
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(ask)).collect();
        callers
            .into_iter()
            .map(|caller| caller.join().unwrap())
            .collect()
    });
    assert_eq!(results, ["miss"; CALLERS]);
    assert_eq!(chats(&simulator), CALLERS);
}
