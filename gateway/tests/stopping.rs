//! SIGTERM: readiness goes first, callers are asked to go elsewhere, streams get their time, and what is cut is told so,
//! counted and written down.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use filters::route::Shape;
use load_tests::simulator::{Behaviour, Handle, Simulator};
use serde_json::Value;
use support::caller::Caller;
use support::gateway::Gateway;
use support::{before, http, reference, wait_until};

const STREAM: &[u8] =
    br#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Say it."}]}"#;
const PLAIN: &[u8] = br#"{"model":"gpt-4o","messages":[{"role":"user","content":"Say it."}]}"#;
const PATH: &str = "/v1/chat/completions";

const CONFIG: &str = r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
h2c = "@H2C@"
shutdown-delay = "@DELAY@"
drain-timeout = "@DRAIN@"
[apis.openai]
path = "/v1"
schema = "openai"
models = { "*" = "main" }
[subscriptions.team]
keys = ["@KEY@"]
[backends.main]
url = "@BACKEND@/v1"
auth = "none"
[pools.main]
members = [{ backend = "main" }]
[[token-limit]]
name = "quota"
counter-key = "subscription.id"
token-quota = 1000000
token-quota-period = "yearly"
[usage-log]
directory = "@FOLDER@/usage"
"#;

fn start(simulator: &Handle, delay: &str, drain: &str) -> Gateway {
    let config = CONFIG
        .replace("@KEY@", before::KEY)
        .replace("@BACKEND@", &simulator.url())
        .replace("@DELAY@", delay)
        .replace("@DRAIN@", drain);
    Gateway::start(&config)
}

/// The lines of the usage log.
fn usage(folder: &std::path::Path) -> Vec<Value> {
    let files = std::fs::read_dir(folder.join("usage")).unwrap();
    let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    let text: String = texts.collect();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn readiness(gateway: &Gateway) -> u16 {
    http::get(&format!("{}/readyz", gateway.admin_url)).status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_time_is_over_ends_with_an_error_event_and_is_counted() {
    let simulator = Simulator::start_default().await.unwrap();
    simulator.set(Behaviour::tokens(20).with_gate());
    let gateway = start(&simulator, "0s", "100ms");
    let folder = gateway.shared_folder();
    let mut caller = Caller::connect(&gateway.url);
    caller.post(PATH, "cut", STREAM);
    simulator.gate().release(4);
    assert_eq!(caller.head().0, 200);
    let mut body = caller.read_until(b"\n\n");
    simulator.set(Behaviour::hang());
    let mut silent = Caller::connect(&gateway.url);
    silent.post(PATH, "unanswered", PLAIN);
    wait_until("both are in flight", || {
        let status = http::get(&format!("{}/status", gateway.admin_url)).json();
        (status["in_flight"] == 2).then_some(())
    });
    gateway.signal("TERM");
    // Both end properly: by the chunk of length zero, and by a body of its stated length.
    loop {
        match caller.chunk().unwrap() {
            chunk if chunk.is_empty() => break,
            chunk => body.extend(chunk),
        }
    }
    let text = String::from_utf8(body).unwrap();
    let (begun, last) = text.trim_end().rsplit_once("data: ").unwrap();
    let error: Value = serde_json::from_str(last).unwrap();
    assert_eq!(error["error"]["code"], "gateway_stopped", "{text}");
    let refused = silent.answer().unwrap();
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (503, "overloaded")
    );
    assert!(refused.header("retry-after").is_some());
    assert!(gateway.ended().success());

    let lines = usage(folder.path());
    assert_eq!(lines.len(), 2, "{lines:?}");
    let cut = lines.iter().find(|line| line["stream"] == true).unwrap();
    let (prompt, completion) = reference::counted(Shape::Chat, "gpt-4o", STREAM, begun);
    assert_eq!(
        (&cut["end"], &cut["source"]),
        (&"stopped".into(), &"counted".into()),
        "{cut}"
    );
    assert_eq!(cut["prompt_tokens"], prompt);
    assert_eq!(cut["completion_tokens"], completion);
    let unanswered = lines.iter().find(|line| line["stream"] == false).unwrap();
    assert_eq!(
        (&unanswered["end"], &unanswered["total_tokens"]),
        (&"stopped".into(), &0.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_leaves_calls_are_served_and_asked_to_close() {
    let simulator = Simulator::start_default().await.unwrap();
    let gateway = start(&simulator, "30s", "30s");
    let mut kept = Caller::connect(&gateway.url);
    kept.post(PATH, "before", PLAIN);
    let before = kept.answer().unwrap();
    assert_eq!(before.status, 200);
    assert_ne!(before.header("connection"), Some("close"));
    assert_eq!(readiness(&gateway), 200);
    gateway.signal("TERM");
    wait_until("it isn't ready", || {
        (readiness(&gateway) == 503).then_some(())
    });
    kept.post(PATH, "after", PLAIN);
    let after = kept.answer().unwrap();
    assert_eq!(
        (after.status, after.header("connection")),
        (200, Some("close"))
    );
    let mut fresh = Caller::connect(&gateway.url);
    fresh.post(PATH, "fresh", PLAIN);
    assert_eq!(fresh.answer().unwrap().status, 200);
    // A second signal ends the wait.
    gateway.signal("INT");
    assert!(gateway.ended().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_has_its_time_comes_to_its_own_end() {
    let simulator = Simulator::start_default().await.unwrap();
    simulator.set(Behaviour::tokens(5).with_gate());
    let gateway = start(&simulator, "0s", "50s");
    let folder = gateway.shared_folder();
    let mut caller = Caller::connect(&gateway.url);
    let mut idle = Caller::connect(&gateway.url);
    idle.post("/nowhere", "idle", PLAIN);
    idle.answer().unwrap();
    caller.post(PATH, "whole", STREAM);
    simulator.gate().release(3);
    assert_eq!(caller.head().0, 200);
    let mut body = caller.read_until(b"\n\n");
    gateway.signal("TERM");
    // A connection without a call is closed, properly.
    assert_eq!(idle.rest().unwrap(), b"");
    simulator.gate().open();
    while let Ok(chunk) = caller.chunk()
        && !chunk.is_empty()
    {
        body.extend(chunk);
    }
    assert!(
        body.ends_with(b"data: [DONE]\n\n"),
        "{}",
        String::from_utf8_lossy(&body)
    );
    assert!(gateway.ended().success());
    // The log is closed after the last call: this one has its line.
    let lines = usage(folder.path());
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["end"], "complete");
    assert!(lines[0]["completion_tokens"].as_u64().unwrap() > 0);
}
