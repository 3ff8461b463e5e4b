//! SIGHUP takes another configuration, all of it or nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use load_tests::simulator::{Handle, Simulator};
use support::gateway::Gateway;
use support::{command, http, wait_until};

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

/// Callers go over one by one while both keys are good; only then the first goes.
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_by_overlap() {
    let simulator = Simulator::start_default().await.unwrap();
    let keys = |keys: &str| {
        let text = config(&simulator, "active");
        text.replace("[\"first-key-of-the-test\"]", keys)
    };
    let first = "\"first-key-of-the-test\"";
    // The second as `tollgate key new` prints it: `second-key-of-the-test` stands nowhere.
    let digest = filters::auth::Digest::of_key("second-key-of-the-test").to_hex();
    let second = format!("{{ sha256 = \"{digest}\" }}");
    let gateway = Gateway::start(&keys(&format!("[{first}]")));
    let statuses = || {
        let url = format!("{}/v1/chat/completions", gateway.url);
        ["first-key-of-the-test", "second-key-of-the-test"]
            .map(|key| http::post(&url, &[("api-key", key)], CALL).status)
    };
    assert_eq!(statuses(), [200, 401]);
    let steps = [
        (format!("[{first}, {second}]"), [200, 200]),
        (format!("[{second}]"), [401, 200]),
        ("[]".to_owned(), [401, 401]),
    ];
    for (count, (written, expected)) in steps.into_iter().enumerate() {
        gateway.rewrite(&keys(&written));
        gateway.signal("HUP");
        let labels = [("result", "ok")];
        let count = count as f64 + 1.0;
        gateway.wait_for_metric("tollgate_config_reloads_total", &labels, count);
        assert_eq!(statuses(), expected, "{written}");
    }
    assert!(!gateway.log().contains("key-of-the-test"));
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

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_file_is_taken_when_it_changes_and_a_wrong_one_is_told_once_and_mended() {
    let simulator = Simulator::start_default().await.unwrap();
    let watched = |state| {
        let text = config(&simulator, state).replace("[server]", "[server]\nwatch = true");
        text.replace(
            "auth = \"none\"",
            "auth = { bearer = { file = \"@FOLDER@/key\" } }",
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "first-backend-key").unwrap();
    let in_folder = |text: String| text.replace("@FOLDER@", folder.path().to_str().unwrap());
    let gateway = Gateway::start(&in_folder(watched("active")));
    assert_eq!(status_of_a_call(&gateway), 200);
    gateway.rewrite(&in_folder(watched("retired")));
    gateway.wait_for_metric("tollgate_config_last_reload_successful", &[], 0.0);
    assert_eq!(status_of_a_call(&gateway), 200);
    gateway.rewrite(&in_folder(watched("suspended")));
    gateway.wait_for_metric("tollgate_config_last_reload_successful", &[], 1.0);
    assert_eq!(status_of_a_call(&gateway), 401);
    gateway.wait_for_log("subscriptions.team changed (state)");
    gateway.rewrite(&in_folder(watched("active")));
    gateway.wait_for_metric("tollgate_config_reloads_total", &[("result", "ok")], 2.0);
    // A key in a file that the configuration names.
    std::fs::write(&key, "second-backend-key").unwrap();
    gateway.wait_for_metric("tollgate_config_reloads_total", &[("result", "ok")], 3.0);
    assert_eq!(status_of_a_call(&gateway), 200);
    let sent = simulator.requests();
    let sent = sent.last().unwrap().headers["authorization"].clone();
    assert_eq!(sent, "Bearer second-backend-key");
    gateway.wait_for_log("/key");
    let log = gateway.log();
    assert!(!log.contains("backend-key"), "{log}");
    // What was wrong once isn't tried again and again.
    let failed = gateway.metric("tollgate_config_reloads_total", &[("result", "failed")]);
    assert_eq!(failed, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_is_told_by_name_and_what_needs_a_restart_stays_told() {
    let simulator = Simulator::start_default().await.unwrap();
    let gateway = Gateway::start(&config(&simulator, "active"));
    let next = config(&simulator, "active")
        .replace("[server]", "[server]\nthreads = 3\ndrain-timeout = \"20s\"")
        .replace(
            "[backends.simulator]",
            "[backends.other]\nurl = \"http://127.0.0.1:9\"\nauth = \"none\"\n[backends.simulator]",
        )
        .replace(
            "[{ backend",
            "[{ backend = \"other\", priority = 2 }, { backend",
        );
    gateway.rewrite(&next);
    gateway.signal("HUP");
    let expected = "backends.other added; pools.chat changed (members); server changed (drain-timeout, threads)";
    gateway.wait_for_log(expected);
    let configuration = || {
        let status = http::get(&format!("{}/status", gateway.admin_url)).json();
        status["configuration"].clone()
    };
    gateway.wait_for_metric("tollgate_config_reloads_total", &[("result", "ok")], 1.0);
    let shown = configuration();
    assert_eq!(
        shown["needs_restart"],
        serde_json::json!(["server.threads"])
    );
    assert_eq!(shown["last_reload"]["changes"][0], "backends.other added");
    assert!(gateway.metric("tollgate_config_loaded_timestamp_seconds", &[]) > 1.7e9);
    // The same file again: nothing changes, and the threads are still those of the start.
    gateway.signal("HUP");
    gateway.wait_for_metric("tollgate_config_reloads_total", &[("result", "ok")], 2.0);
    let shown = configuration();
    assert_eq!(shown["last_reload"]["changes"], serde_json::json!([]));
    assert_eq!(
        shown["needs_restart"],
        serde_json::json!(["server.threads"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_what_would_change_against_a_running_gateway() {
    let simulator = Simulator::start_default().await.unwrap();
    let gateway = Gateway::start(&config(&simulator, "active"));
    let path = gateway.file().to_str().unwrap().to_owned();
    let against = |url: &str| command::run(&["check", "--config", &path, "--against", url], "");
    let same = against(&gateway.admin_url);
    assert_eq!(same.status, Some(0), "{same:?}");
    assert!(same.stdout.contains("nothing would change"), "{same:?}");
    let next = config(&simulator, "suspended")
        .replace("first-key-of-the-test", "second-key-of-the-test")
        .replace("[server]", "[server]\nthreads = 3");
    gateway.rewrite(&next);
    let told = against(&gateway.admin_url);
    assert_eq!(told.status, Some(0), "{told:?}");
    let lines: Vec<&str> = told.stdout.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "~ server",
            "    threads: (not set) -> 3",
            "~ subscriptions.team",
            "    state: \"active\" -> \"suspended\"",
            "! server.threads is only taken by a restart or an upgrade",
        ]
    );
    let shown = http::get(&format!("{}/configuration", gateway.admin_url)).text();
    assert!(!shown.contains("key-of-the-test"), "{shown}");
    // It was asked, not told.
    assert_eq!(status_of_a_call(&gateway), 200);
    gateway.rewrite("[server]\nlisten = 1\n");
    assert_eq!(against(&gateway.admin_url).status, Some(2));
    gateway.rewrite(&next);
    gateway.rewrite(&next.replace("[server]", "[server]\nadmin-token = \"token-of-the-test\""));
    gateway.signal("HUP");
    let asked = wait_until("the reload is taken", || {
        let asked = against(&gateway.admin_url);
        (asked.status != Some(0)).then_some(asked)
    });
    assert_eq!(asked.status, Some(1), "{asked:?}");
    assert!(asked.stderr.contains("with --admin-token-env"), "{asked:?}");
    let with = |token: &str| {
        let url = &gateway.admin_url;
        let more = ["--admin-token-env", "ADMIN_TOKEN"];
        let arguments = [&["check", "--config", &path, "--against", url][..], &more].concat();
        let mut command = command::tollgate();
        let output = command.args(arguments).env("ADMIN_TOKEN", token).output();
        let output = output.unwrap();
        let told = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&told).into_owned(),
        )
    };
    for (token, status, expected) in [
        ("token-of-the-test", 0, "nothing would change"),
        ("another", 1, "doesn't take the token"),
        ("", 2, "in the variable ADMIN_TOKEN, found none"),
        ("to\r\nken", 2, "in the variable ADMIN_TOKEN, found none"),
    ] {
        let (code, told) = with(token);
        assert_eq!(code, Some(status), "{told}");
        assert!(told.contains(expected), "{told}");
        assert!(!told.contains("token-of-the-test"), "{told}");
    }
    let nobody = against("http://127.0.0.1:9");
    assert_eq!(nobody.status, Some(1), "{nobody:?}");
    assert!(nobody.stderr.contains("can't be compared"), "{nobody:?}");
}
