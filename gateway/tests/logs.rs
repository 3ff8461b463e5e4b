//! The access log has a line for every request, and the message log one for those that it is told to: nothing that was said
//! stands anywhere else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::path::Path;

use load_tests::simulator::{Behaviour, Handle, Simulator};
use serde_json::{Value, json};
use support::gateway::Gateway;
use support::{http, wait_until};

const PATH: &str = "/v1/chat/completions";
const AUDITED: (&str, &str) = ("api-key", "key-of-the-audited");
const OTHER: (&str, &str) = ("api-key", "key-of-the-other");

const CONFIG: &str = r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
[apis.openai]
path = "/v1"
schema = "openai"
models = { "*" = "main" }
[products.audited]
[products.other]
[subscriptions.audited]
product = "audited"
keys = ["key-of-the-audited"]
[subscriptions.other]
product = "other"
keys = ["key-of-the-other"]
[backends.main]
url = "@BACKEND@/v1"
auth = { bearer = "key-of-the-backend" }
[pools.main]
members = [{ backend = "main" }]
[usage-log]
directory = "@FOLDER@/usage"
[access-log]
file = "@FOLDER@/logs/access.log"
format = "@FORMAT@"
[message-log]
directory = "@FOLDER@/messages"
when = 'product.id == "audited"'
max-bytes = "1KiB"
"#;

fn config(simulator: &Handle, format: &str) -> String {
    CONFIG
        .replace("@BACKEND@", &simulator.url())
        .replace("@FORMAT@", format)
}

fn call(gateway: &Gateway, key: (&str, &str), stream: bool, said: &str) -> u16 {
    let body = json!({"model": "gpt-4o", "stream": stream, "messages": [{"role": "user", "content": said}]});
    let url = format!("{}{PATH}?api-key=in-the-query", gateway.url);
    http::post(&url, &[key], &body.to_string()).status
}

fn written(folder: &Path) -> String {
    let Ok(files) = std::fs::read_dir(folder) else {
        return String::new();
    };
    files
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_has_a_line_and_only_what_is_audited_is_written_down() {
    let simulator = Simulator::start_default().await.unwrap();
    simulator.set(Behaviour::echo());
    let gateway = Gateway::start(&config(&simulator, "json"));
    let folder = gateway.shared_folder();
    assert_eq!(call(&gateway, AUDITED, false, "the whole question"), 200);
    assert_eq!(call(&gateway, AUDITED, true, "the streamed question"), 200);
    assert_eq!(call(&gateway, OTHER, false, "a private question"), 200);
    assert_eq!(
        call(&gateway, ("api-key", "nobody"), false, "a strange question"),
        401
    );
    let long = "x".repeat(5_000);
    assert_eq!(call(&gateway, AUDITED, false, &long), 200);
    assert!(gateway.stop().success());

    let access = written(&folder.path().join("logs"));
    let lines: Vec<Value> = access
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let statuses: Vec<_> = lines.iter().map(|line| line["status"].clone()).collect();
    assert_eq!(statuses, [200, 200, 200, 401, 200]);
    assert_eq!(
        (&lines[3]["subscription"], &lines[3]["end"]),
        (&json!(""), &json!("refused"))
    );
    // The same lines, of those that reached a subscription.
    let usage = written(&folder.path().join("usage"));
    let reached: Vec<&str> = access
        .lines()
        .zip(&statuses)
        .filter(|(_, status)| **status != 401)
        .map(|(line, _)| line)
        .collect();
    assert_eq!(reached, usage.lines().collect::<Vec<_>>());

    let messages = written(&folder.path().join("messages"));
    let said: Vec<Value> = messages
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(said.len(), 3, "{messages}");
    assert_eq!(
        said[0]["request"]["messages"][0]["content"],
        "the whole question"
    );
    let answer = said[0]["response"]["choices"][0]["message"]["content"]
        .as_str()
        .unwrap();
    assert!(answer.contains("the whole question"), "{messages}");
    assert_eq!(said[0]["request_id"], lines[0]["request_id"]);
    assert!(
        said[1]["completion"][0]
            .as_str()
            .unwrap()
            .contains("the streamed question")
    );
    assert_eq!(said[1]["response"], Value::Null);
    assert_eq!(said[2]["truncated"], true);
    assert_eq!(said[2]["request"].as_str().unwrap().len(), 1_024);
    assert!(said[2]["request_bytes"].as_u64().unwrap() > 5_000);
    let others = format!("{access}{usage}{messages}");
    for private in [
        "private question",
        "strange question",
        "key-of-the",
        "in-the-query",
    ] {
        assert!(!others.contains(private), "{private}");
    }
    for question in ["whole question", "streamed question"] {
        assert!(!access.contains(question) && !usage.contains(question));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_opens_a_rotated_file_anew_and_takes_another_form() {
    let simulator = Simulator::start_default().await.unwrap();
    let gateway = Gateway::start(&config(&simulator, "json"));
    let file = gateway.folder().join("logs/access.log");
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(call(&gateway, OTHER, false, "first"), 200);
    wait_until("the line is written", || {
        (!read(&file).is_empty()).then_some(())
    });
    let rotated = gateway.folder().join("logs/access.log.1");
    std::fs::rename(&file, &rotated).unwrap();
    gateway.rewrite(&config(&simulator, "text"));
    gateway.signal("HUP");
    gateway.wait_for_metric("tollgate_config_reloads_total", &[("result", "ok")], 1.0);
    assert_eq!(call(&gateway, OTHER, false, "second"), 200);
    wait_until("the line is written", || {
        (!read(&file).is_empty()).then_some(())
    });
    assert_eq!(read(&rotated).lines().count(), 1);
    let line = read(&file);
    assert_eq!(line.lines().count(), 1);
    assert!(
        line.contains(" 200 subscription=other product=other api=openai "),
        "{line}"
    );
    // Taken away by a reload: nothing more is written.
    gateway.rewrite(
        &config(&simulator, "text")
            .replace("[access-log]", "")
            .replace("file = \"@FOLDER@/logs/access.log\"\nformat = \"text\"", ""),
    );
    gateway.signal("HUP");
    gateway.wait_for_metric("tollgate_config_reloads_total", &[("result", "ok")], 2.0);
    assert_eq!(call(&gateway, OTHER, false, "third"), 200);
    assert_eq!(gateway.metric("tollgate_log_lines_dropped_total", &[]), 0.0);
    assert!(
        gateway
            .metrics()
            .contains("tollgate_log_lines_dropped_total{log=\"access-log\"}")
    );
    assert_eq!(read(&file).lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_standard_output_that_reads_nothing_holds_no_call_up() {
    let simulator = Simulator::start_default().await.unwrap();
    let text = config(&simulator, "json").replace("@FOLDER@/logs/access.log", "-");
    let (gateway, output) = Gateway::start_unread(&text);
    // Far more than a pipe holds.
    for _ in 0..400 {
        assert_eq!(call(&gateway, OTHER, false, "hi"), 200);
    }
    drop(output);
}
