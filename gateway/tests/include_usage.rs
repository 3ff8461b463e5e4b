//! The gateway asks for the usage of a stream where the caller doesn't, and changes nothing else in the body.
//!
//! What is expected is written out as text: a body that was parsed and printed again would differ in its blanks, its
//! order or its numbers, and that is what must not happen.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use bytes::Bytes;
use load_tests::simulator::{Handle, Simulator};
use support::before;
use support::caller::Caller;
use support::gateway::Gateway;

/// What a caller says about usage, with what the backend is told instead. `@` is where the options stand.
const OPTIONS: [(&str, &str); 9] = [
    ("", "\"stream_options\":{\"include_usage\":true},"),
    (
        "\"stream_options\": null ,",
        "\"stream_options\": {\"include_usage\":true} ,",
    ),
    (
        "\"stream_options\" : { },",
        "\"stream_options\" : {\"include_usage\":true },",
    ),
    (
        "\"stream_options\":{\"include_usage\" :false},",
        "\"stream_options\":{\"include_usage\" :true},",
    ),
    (
        "\"stream_options\":{\"include_usage\":null},",
        "\"stream_options\":{\"include_usage\":true},",
    ),
    (
        "\"stream_options\":{ \"include_obfuscation\" : false },",
        "\"stream_options\":{\"include_usage\":true, \"include_obfuscation\" : false },",
    ),
    (
        "\"stream_options\":{\"x\":{\"include_usage\":false},\"include_usage\":false},",
        "\"stream_options\":{\"x\":{\"include_usage\":false},\"include_usage\":true},",
    ),
    (
        "\"stream_options\":{\"include_usage\":true},",
        "\"stream_options\":{\"include_usage\":true},",
    ),
    (
        "\"stream_options\":{\"include_usage\":true,\"include_obfuscation\":true},",
        "\"stream_options\":{\"include_usage\":true,\"include_obfuscation\":true},",
    ),
];

/// Odd on purpose: blanks, a number that a float can't hold, escapes, an unknown field, the model last.
const CHAT: &str = "{@ \"seed\": 12345678901234567890,\t\"messages\":[{\"role\":\"user\",\"content\":\"\\u0047r\u{fc}\u{df}e\"}],\n \"x\":1.10,\"stream\":true,\"model\":\"gpt-4o\"}\n";
const COMPLETION: &str = "{@\"prompt\":\"Say it.\", \"stream\" : true,\"model\":\"gpt-4o\"}";
const RESPONSE: &str = "{@\"input\":\"Say it.\", \"stream\" : true,\"model\":\"gpt-4o\"}";
const UNSTREAMED: &str = "{@\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"stream\":false,\"model\":\"gpt-4o\"}";

struct Setup {
    simulator: Handle,
    _gateway: Gateway,
    caller: Caller,
}

impl Setup {
    async fn new() -> Setup {
        let simulator = Simulator::start_default().await.unwrap();
        let gateway = before::start(&simulator.url());
        Setup {
            simulator,
            caller: Caller::connect(&gateway.url),
            _gateway: gateway,
        }
    }

    /// Sends a body and returns it as the backend got it, with the answer's text.
    fn send(&mut self, path: &str, body: &str) -> (Bytes, String) {
        self.simulator.clear();
        self.caller.post(path, "", body.as_bytes());
        let answer = self.caller.answer().unwrap();
        assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text());
        let requests = self.simulator.requests();
        assert_eq!(requests.len(), 1, "{path} {body}");
        (requests[0].body.bytes.clone(), answer.text())
    }

    fn assert_changed(&mut self, path: &str, body: &str) {
        for (said, told) in OPTIONS {
            let sent = body.replace('@', said);
            // A field that is put in stands at the beginning, before any blank.
            let expected = body.replace('@', told);
            let (arrived, answer) = self.send(path, &sent);
            assert_eq!(arrived, expected, "{path} with {said}");
            let asked = said == told;
            let has_usage = answer.contains("\"prompt_tokens\"");
            assert_eq!(has_usage, asked, "{path} with {said}: {answer}");
            assert!(answer.ends_with("data: [DONE]\n\n"), "{path} with {said}");
        }
    }

    fn assert_unchanged(&mut self, path: &str, body: &str) {
        for (said, _) in OPTIONS {
            let sent = body.replace('@', said);
            let (arrived, _) = self.send(path, &sent);
            assert_eq!(arrived, sent, "{path} with {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_usage_is_asked_for_it_and_the_rest_stays_byte_for_byte() {
    let mut setup = Setup::new().await;
    setup.assert_changed(&before::openai("chat/completions"), CHAT);
    setup.assert_changed(&before::openai("completions"), COMPLETION);
    setup.assert_changed(&before::azure("gpt-4o", "chat/completions"), CHAT);
    setup.assert_changed(&before::azure("gpt-4o", "completions"), COMPLETION);
    setup.assert_changed("/openai/v1/chat/completions", CHAT);
    let first = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-09-01-preview";
    setup.assert_changed(first, CHAT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_knows_no_stream_options_isnt_sent_any() {
    let mut setup = Setup::new().await;
    for version in ["2024-08-01-preview", "2024-06-01", "2023-05-15"] {
        let path = format!("/openai/deployments/gpt-4o/chat/completions?api-version={version}");
        setup.assert_unchanged(&path, CHAT);
    }
    setup.assert_unchanged(
        "/models/chat/completions?api-version=2024-05-01-preview",
        CHAT,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_isnt_a_streamed_chat_or_completion_isnt_changed() {
    let mut setup = Setup::new().await;
    setup.assert_unchanged(&before::openai("responses"), RESPONSE);
    setup.assert_unchanged("/openai/v1/responses", RESPONSE);
    setup.assert_unchanged(&before::openai("embeddings"), RESPONSE);
    setup.assert_unchanged(&before::azure("gpt-4o", "embeddings"), RESPONSE);
    setup.assert_unchanged(&before::openai("chat/completions"), UNSTREAMED);
}
