//! SIGHUP takes another configuration, all of it or nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use load_tests::simulator::{Handle, Simulator};
use support::gateway::Gateway;
use support::http;

const CALL: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;
const KEY: (&str, &str) = ("api-key", "first-key-of-the-test");

fn config(simulator: &Handle, state: &str) -> String {
    format!(
        r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
[apis.openai]
path = "/v1"
schema = "openai"
models = {{ "gpt-4o" = "chat" }}
[subscriptions.team]
keys = ["first-key-of-the-test"]
state = "{state}"
[backends.simulator]
url = "{}/v1"
auth = "none"
[pools.chat]
members = [{{ backend = "simulator" }}]
"#,
        simulator.url()
    )
}

fn status_of_a_call(gateway: &Gateway) -> u16 {
    let url = format!("{}/v1/chat/completions", gateway.url);
    http::post(&url, &[KEY], CALL).status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_subscription_is_refused_from_the_reload_on() {
    let simulator = Simulator::start_default().await.unwrap();
    let gateway = Gateway::start(&config(&simulator, "active"));
    assert_eq!(status_of_a_call(&gateway), 200);
    gateway.rewrite(&config(&simulator, "suspended"));
    gateway.signal("HUP");
    gateway.wait_for_metric("tollgate_config_reloads_total", &[("result", "ok")], 1.0);
    assert_eq!(status_of_a_call(&gateway), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_file_changes_nothing_and_is_told() {
    let simulator = Simulator::start_default().await.unwrap();
    let gateway = Gateway::start(&config(&simulator, "active"));
    gateway.rewrite(&config(&simulator, "retired"));
    gateway.signal("HUP");
    gateway.wait_for_metric(
        "tollgate_config_reloads_total",
        &[("result", "failed")],
        1.0,
    );
    assert_eq!(status_of_a_call(&gateway), 200);
    gateway.wait_for_log("the configuration wasn't reloaded");
    assert!(
        gateway.log().contains(":11:9: subscriptions.team.state"),
        "{}",
        gateway.log()
    );
    let status = http::get(&format!("{}/status", gateway.admin_url)).text();
    assert!(status.contains("retired"), "{status}");
}
