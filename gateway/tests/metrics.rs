//! What `/metrics` says after known traffic: names, labels, values, and the text format itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "metrics/format.rs"]
mod format;
#[path = "support/support.rs"]
mod support;

use load_tests::simulator::behaviour::Content;
use load_tests::simulator::{Behaviour, Handle, Simulator};
use support::gateway::Gateway;
use support::http;

const KEY: &str = "key-of-team-a";
const OTHER_KEY: &str = "key-of-team-b";

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_api_operation_and_status() {
    let (simulator, gateway) = start("").await;
    for _ in 0..3 {
        assert_eq!(chat(&gateway, KEY, &[], "").status, 200);
    }
    assert_eq!(chat(&gateway, KEY, &[], "\"stream\":true,").status, 200);
    assert_eq!(chat(&gateway, "wrong", &[], "").status, 401);
    simulator.set(Behaviour::status(500).times(1));
    assert_eq!(chat(&gateway, KEY, &[], "").status, 500);
    assert_eq!(http::get(&format!("{}/nowhere", gateway.url)).status, 404);

    let requests = |labels: &[(&str, &str)], count: f64| {
        gateway.wait_for_metric("tollgate_requests_total", labels, count);
    };
    let operation = ("operation", "chat-completions");
    requests(&[("api", "openai"), operation, ("status", "200")], 4.0);
    requests(&[("api", "openai"), operation, ("status", "500")], 1.0);
    requests(&[("api", "openai"), ("status", "401")], 1.0);
    requests(&[("api", "none"), ("status", "404")], 1.0);
    requests(&[], 7.0);

    let refusals = "tollgate_refusals_total";
    let missing = [("reason", "invalid_subscription_key"), ("policy", "")];
    gateway.wait_for_metric(refusals, &missing, 1.0);
    gateway.wait_for_metric(refusals, &[("reason", "not_found")], 1.0);
    gateway.wait_for_metric(refusals, &[], 2.0);

    let attempts = "tollgate_backend_attempts_total";
    gateway.wait_for_metric(attempts, &[("backend", "sim"), ("status", "2xx")], 4.0);
    gateway.wait_for_metric(attempts, &[("backend", "sim"), ("status", "5xx")], 1.0);
    gateway.wait_for_metric(attempts, &[], 5.0);

    // Refused before it reached a subscription: no record.
    let records = "tollgate_usage_records_total";
    let upstream = [("source", "upstream"), ("end", "complete")];
    gateway.wait_for_metric(records, &upstream, 4.0);
    gateway.wait_for_metric(records, &[("source", "none"), ("end", "complete")], 1.0);
    gateway.wait_for_metric(records, &[], 5.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_histograms_that_count_each_request_once() {
    let (_simulator, gateway) = start("").await;
    for asked in ["", "\"stream\":true,", "\"stream\":true,"] {
        assert_eq!(chat(&gateway, KEY, &[], asked).status, 200);
    }
    let api = ("api", "openai");
    let both = [api, ("operation", "chat-completions")];
    for (name, labels, count) in [
        ("tollgate_request_duration_seconds", &both[..], 3.0),
        ("tollgate_time_to_first_token_seconds", &both[..], 2.0),
        ("tollgate_overhead_seconds", &both[..1], 3.0),
    ] {
        gateway.wait_for_metric(&format!("{name}_count"), labels, count);
        let mut all = labels.to_vec();
        all.push(("le", "+Inf"));
        assert_eq!(
            gateway.metric(&format!("{name}_bucket"), &all),
            count,
            "{name}"
        );
        assert!(
            gateway.metric(&format!("{name}_sum"), labels) > 0.0,
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gauges_say_what_is_there_now() {
    let (simulator, gateway) = start("").await;
    assert_eq!(
        gateway.metric("tollgate_backend_state", &[("backend", "sim")]),
        0.0
    );
    assert!(
        gateway
            .metrics()
            .contains("tollgate_backend_state{backend=\"sim\"} 0")
    );
    let revision = http::get(&format!("{}/status", gateway.admin_url)).json();
    let revision = revision["configuration"]["revision"]
        .as_str()
        .unwrap()
        .to_owned();
    let labels = [("revision", revision.as_str())];
    assert_eq!(gateway.metric("tollgate_config_info", &labels), 1.0);

    simulator.set(Behaviour {
        gated: true,
        ..Behaviour::default()
    });
    let url = gateway.url.clone();
    let caller = std::thread::spawn(move || {
        http::post(
            &format!("{url}/v1/chat/completions"),
            &[("api-key", KEY)],
            &body("\"stream\":true,"),
        )
    });
    gateway.wait_for_metric("tollgate_streams_open", &[], 1.0);
    assert!(gateway.metric("tollgate_buffered_bytes", &[]) > 0.0);
    simulator.gate().open();
    assert_eq!(caller.join().unwrap().status, 200);
    gateway.wait_for_metric("tollgate_streams_open", &[], 0.0);
    gateway.wait_for_metric("tollgate_buffered_bytes", &[], 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_counted_by_the_policys_dimensions() {
    let (simulator, gateway) = start(DIMENSIONS).await;
    simulator.set(Behaviour {
        content: Content {
            tokens: 5,
            prompt_tokens: Some(100),
            cached_tokens: 64,
            reasoning_tokens: 3,
            ..Content::default()
        },
        ..Behaviour::default()
    });
    let header = [("x-application", "shop")];
    assert_eq!(chat(&gateway, KEY, &header, "").status, 200);
    assert_eq!(
        chat(&gateway, KEY, &[], "\"stream\":true,\"user\":\"ann\",").status,
        200
    );
    assert_eq!(
        chat(&gateway, OTHER_KEY, &[], "\"safety_identifier\":\"ben\",").status,
        200
    );

    let common = [
        ("api_id", "openai"),
        ("operation_id", "chat-completions"),
        ("location", "westeurope"),
        ("gateway_id", "gate-1"),
        ("backend_id", "sim"),
        ("model", "gpt-4o"),
        ("status", "200"),
    ];
    let expect = |namespace: &str, labels: &[(&str, &str)], calls: f64| {
        for (part, tokens) in PARTS {
            let name = format!("{namespace}_{part}_tokens_total");
            gateway.wait_for_metric(&name, labels, calls * tokens);
        }
    };
    let known = |own: &[(&'static str, &'static str)], calls: f64| {
        let labels: Vec<_> = common.iter().chain(own).copied().collect();
        expect("openai", &labels, calls);
    };
    let team_a = ("subscription_id", "team-a");
    let gold = ("product_id", "gold");
    known(&[team_a, gold, ("user_id", "")], 1.0);
    known(&[team_a, gold, ("user_id", "ann")], 1.0);
    known(
        &[
            ("subscription_id", "team-b"),
            ("product_id", ""),
            ("user_id", "ben"),
        ],
        1.0,
    );
    known(&[], 3.0);
    let center = ("center", "4711");
    expect(
        "own",
        &[("application", "shop"), ("streamed", "no"), center],
        1.0,
    );
    expect(
        "own",
        &[("application", "none"), ("streamed", "yes"), center],
        1.0,
    );
    // No such attribute: the expression fails, and the call doesn't.
    expect(
        "own",
        &[
            ("application", "none"),
            ("streamed", "no"),
            ("center", "unknown"),
        ],
        1.0,
    );
    // One without a namespace counts the same under the gateway's.
    gateway.wait_for_metric(
        "tollgate_total_tokens_total",
        &[("model", "gpt-4o")],
        3.0 * 108.0,
    );
}

const PARTS: [(&str, f64); 5] = [
    ("prompt", 100.0),
    ("completion", 8.0),
    ("total", 108.0),
    ("prompt_cached", 64.0),
    ("completion_reasoning", 3.0),
];

const DIMENSIONS: &str = r#"
[[token-metric]]
namespace = "openai"
dimensions = [
  { name = "api_id" }, { name = "operation_id" }, { name = "product_id" }, { name = "user_id" },
  { name = "subscription_id" }, { name = "location" }, { name = "gateway_id" }, { name = "backend_id" },
  { name = "model" }, { name = "status", value = 'string(response.status)' },
]

[[token-metric]]
namespace = "own"
dimensions = [
  { name = "application", value = '"x-application" in request.headers ? request.headers["x-application"] : "none"' },
  { name = "streamed", value = 'request.stream ? "yes" : "no"' },
  { name = "center", value = 'subscription.attributes["cost-center"]' },
]

[[token-metric]]
dimensions = [{ name = "model" }]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn new_label_sets_beyond_the_bound_are_counted_as_other() {
    let (_simulator, gateway) = start(
        "[[token-metric]]\nnamespace = \"bounded\"\nmax-series = 2\n\
         dimensions = [{ name = \"who\", value = 'request.headers[\"x-who\"]' }, { name = \"model\" }]\n",
    )
    .await;
    for who in ["a", "b", "c", "d", "a", "other"] {
        assert_eq!(chat(&gateway, KEY, &[("x-who", who)], "").status, 200);
    }
    let name = "bounded_total_tokens_total";
    gateway.wait_for_metric("tollgate_usage_records_total", &[], 6.0);
    let one = gateway.metric(name, &[("who", "b"), ("model", "gpt-4o")]);
    assert!(one > 0.0);
    assert_eq!(
        gateway.metric(name, &[("who", "a"), ("model", "gpt-4o")]),
        2.0 * one
    );
    assert_eq!(
        gateway.metric(name, &[("who", "other"), ("model", "other")]),
        3.0 * one
    );
    assert_eq!(gateway.metric(name, &[]), 6.0 * one);
    let series = gateway
        .metrics()
        .lines()
        .filter(|line| line.starts_with(name))
        .count();
    assert_eq!(series, 3);
}

fn body(asked: &str) -> String {
    format!(r#"{{{asked}"model":"gpt-4o","messages":[{{"role":"user","content":"Hello there"}}]}}"#)
}

fn chat(gateway: &Gateway, key: &str, headers: &[(&str, &str)], asked: &str) -> http::Answer {
    let mut all = vec![("api-key", key)];
    all.extend_from_slice(headers);
    http::post(
        &format!("{}/v1/chat/completions", gateway.url),
        &all,
        &body(asked),
    )
}

async fn start(policies: &str) -> (Handle, Gateway) {
    let simulator = Simulator::start_default().await.unwrap();
    let gateway = Gateway::start(&format!(
        r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
threads = 1

[gateway]
id = "gate-1"
location = "westeurope"

[apis.openai]
path = "/v1"
schema = "openai"
models = {{ "*" = "main" }}

[pools.main]
members = [{{ backend = "sim" }}]

[backends.sim]
url = "{}/v1"
auth = "none"

[products.gold]

[subscriptions.team-a]
product = "gold"
keys = ["{KEY}"]
attributes = {{ cost-center = "4711" }}

[subscriptions.team-b]
keys = ["{OTHER_KEY}"]
{policies}
"#,
        simulator.url()
    ));
    (simulator, gateway)
}
