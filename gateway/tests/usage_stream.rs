//! The usage log as a Redis stream: every line arrives, Redis gone stops no call and is told, and the stream is bounded.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "the server can do more than these tests need")]

#[path = "support/support.rs"]
mod support;

#[path = "limit_store/server.rs"]
mod server;

use std::path::Path;
use std::process::Command;

use filters::record::Record;
use load_tests::simulator::{Handle, Simulator};
use server::Server;
use support::gateway::Gateway;
use support::{http, wait_until};

const STREAM: &str = "calls";

#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_an_entry_and_the_files_have_the_same_lines() {
    let (simulator, server) = (Simulator::start_default().await.unwrap(), Server::start());
    let folder = tempfile::tempdir().unwrap();
    let directory = format!("directory = \"{}\"", folder.path().display());
    let gateway = start(&simulator, &server, &directory);
    for _ in 0..50 {
        assert_eq!(chat(&gateway), 200);
    }
    assert!(gateway.stop().success());
    let entries = entries(&server);
    assert_eq!(entries.len(), 50);
    for entry in &entries {
        Record::read(entry.as_bytes()).unwrap_or_else(|bad| panic!("{bad}: {entry}"));
    }
    let mut lines: Vec<String> = written(folder.path()).lines().map(str::to_owned).collect();
    let mut sorted = entries.clone();
    lines.sort();
    sorted.sort();
    assert_eq!(lines, sorted);
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_gone_stops_no_call_and_what_waited_arrives() {
    let simulator = Simulator::start_default().await.unwrap();
    let mut server = Server::start();
    let gateway = start(&simulator, &server, "");
    assert_eq!(chat(&gateway), 200);
    wait_until("the first entry is there", || {
        (entries(&server).len() == 1).then_some(())
    });
    server.kill();
    for _ in 0..20 {
        assert_eq!(chat(&gateway), 200);
    }
    gateway.wait_for_log("the usage log can't be sent to Redis");
    server.restart();
    wait_until("what waited is there", || {
        (entries(&server).len() >= 20).then_some(())
    });
    gateway.wait_for_log("the usage log is sent to Redis again");
    assert_eq!(gateway.metric("tollgate_usage_log_dropped_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_redis_never_gets_are_counted_and_the_end_does_not_wait() {
    let simulator = Simulator::start_default().await.unwrap();
    let mut server = Server::start();
    let gateway = start(&simulator, &server, "");
    server.kill();
    for _ in 0..5 {
        assert_eq!(chat(&gateway), 200);
    }
    gateway.wait_for_log("the usage log can't be sent to Redis");
    gateway.signal("TERM");
    gateway.wait_for_log("the usage log's last lines couldn't be sent to Redis");
    assert!(gateway.ended().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_keeps_about_as_many_as_it_may() {
    let (simulator, server) = (Simulator::start_default().await.unwrap(), Server::start());
    let gateway = start(&simulator, &server, "redis-stream-max-entries = 100");
    for _ in 0..400 {
        assert_eq!(chat(&gateway), 200);
    }
    assert!(gateway.stop().success());
    // Redis cuts whole nodes of a hundred entries.
    let left = entries(&server).len();
    assert!((100..=200).contains(&left), "{left}");
}

fn start(simulator: &Handle, server: &Server, more: &str) -> Gateway {
    Gateway::start(&format!(
        r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
threads = 1
[redis]
url = "{}"
[apis.openai]
path = "/v1"
schema = "openai"
models = {{ "*" = "main" }}
[pools.main]
members = [{{ backend = "sim" }}]
[backends.sim]
url = "{}/v1"
auth = "none"
[subscriptions.team-a]
keys = ["key-a"]
[usage-log]
redis-stream = "{STREAM}"
{more}
"#,
        server.url(),
        simulator.url()
    ))
}

fn chat(gateway: &Gateway) -> u16 {
    let url = format!("{}/v1/chat/completions", gateway.url);
    let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;
    http::post(&url, &[("api-key", "key-a")], body).status
}

/// The `record` of each entry, oldest first.
fn entries(server: &Server) -> Vec<String> {
    let url = server.url();
    let output = Command::new("redis-cli")
        .args(["-u", &url, "--json", "XRANGE", STREAM, "-", "+"])
        .output()
        .unwrap();
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let entries = found.as_array().into_iter().flatten();
    entries
        .map(|entry| match entry[1].as_array() {
            Some(fields) => fields[1].as_str().unwrap().to_owned(),
            None => entry[1]["record"].as_str().unwrap().to_owned(),
        })
        .collect()
}

fn written(directory: &Path) -> String {
    let files = std::fs::read_dir(directory).unwrap();
    files
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .collect()
}
