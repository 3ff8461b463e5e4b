//! Budgets as callers meet them: counted in money, warned of at a share, refused at the end, shared over Redis.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "the server can do more than these tests need")]

#[path = "support/support.rs"]
mod support;

#[path = "limit_store/server.rs"]
mod server;

use load_tests::simulator::behaviour::Content;
use load_tests::simulator::{Behaviour, Handle, Simulator};
use server::Server;
use support::gateway::Gateway;
use support::http::{self, Answer};

/// A call of 1000 prompt and 100 completion tokens costs 0.0035 dollars by this list.
const PRICES: &str = "[[price]]\nmodel = \"gpt-4o\"\nprompt = 2.50\ncompletion = 10.00\n";

struct World {
    simulator: Handle,
    _folder: tempfile::TempDir,
    config: String,
}

async fn world(budget: &str, redis: &str) -> World {
    let simulator = Simulator::start_default().await.unwrap();
    simulator.set(Behaviour {
        content: Content {
            tokens: 100,
            prompt_tokens: Some(1000),
            ..Content::default()
        },
        ..Behaviour::default()
    });
    let folder = tempfile::tempdir().unwrap();
    let prices = folder.path().join("prices.toml");
    std::fs::write(&prices, PRICES).unwrap();
    let config = format!(
        r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
{redis}
[apis.openai]
path = "/v1"
schema = "openai"
models = {{ "*" = "chat" }}
[subscriptions.team-a]
keys = ["key-a"]
attributes = {{ cost-center = "4711" }}
[subscriptions.team-b]
keys = ["key-b"]
attributes = {{ cost-center = "4712" }}
[backends.one]
url = "{}/v1"
auth = "none"
[pools.chat]
members = [{{ backend = "one" }}]
[prices]
file = "{}"
[[budget]]
name = "month"
counter-key = 'subscription.attributes["cost-center"]'
period = "monthly"
{budget}
"#,
        simulator.url(),
        prices.display()
    );
    World {
        simulator,
        _folder: folder,
        config,
    }
}

fn chat(gateway: &Gateway, key: &str, model: &str, stream: bool) -> Answer {
    let body = format!(
        r#"{{"model":"{model}","stream":{stream},"messages":[{{"role":"user","content":"hi"}}]}}"#
    );
    http::post(
        &format!("{}/v1/chat/completions", gateway.url),
        &[("api-key", key)],
        &body,
    )
}

const WARNING: &str = "x-budget-warning";

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_warns_at_its_share_and_refuses_at_its_end() {
    let world = world("amount = \"0.01 USD\"\nwarn-at = 0.5", "").await;
    let gateway = Gateway::start(&world.config);
    // 35 %, 70 %, 105 %: what is in flight may go over, what comes after may not.
    let spent = [None, Some("month; spent=70%"), Some("month; spent=100%")];
    for spent in spent {
        let answer = chat(&gateway, "key-a", "gpt-4o", false);
        assert_eq!((answer.status, answer.header(WARNING)), (200, spent));
    }
    let refused = chat(&gateway, "key-a", "gpt-4o", true);
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (403, "insufficient_quota")
    );
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!(wait > 0 && wait <= 31 * 86_400, "{wait}");
    assert!(
        refused.text().contains("The budget of `month` is spent."),
        "{}",
        refused.text()
    );
    assert_eq!(world.simulator.requests().len(), 3);
    // Another cost center has its own.
    assert_eq!(chat(&gateway, "key-b", "gpt-4o", false).status, 200);
    // One call was admitted past the share: the third.
    gateway.wait_for_metric(
        "tollgate_budget_warnings_total",
        &[("policy", "month")],
        1.0,
    );
    let labels = [("reason", "insufficient_quota"), ("policy", "month")];
    gateway.wait_for_metric("tollgate_refusals_total", &labels, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_concerns_whom_its_condition_names() {
    let budget = "when = 'subscription.id == \"team-a\"'\namount = \"0.001 USD\"";
    let world = world(budget, "").await;
    let gateway = Gateway::start(&world.config);
    for (key, status) in [
        ("key-a", 200),
        ("key-a", 403),
        ("key-b", 200),
        ("key-b", 200),
    ] {
        let answer = chat(&gateway, key, "gpt-4o", false);
        assert_eq!(answer.status, status, "{key}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_count_and_what_has_no_price_is_told() {
    let world = world("amount = \"0.005 USD\"", "").await;
    let gateway = Gateway::start(&world.config);
    assert_eq!(chat(&gateway, "key-a", "o9-unheard-of", false).status, 200);
    gateway.wait_for_metric(
        "tollgate_budget_unpriced_total",
        &[("policy", "month")],
        1.0,
    );
    let first = chat(&gateway, "key-a", "gpt-4o", true);
    // Its head left before its cost was known.
    assert_eq!((first.status, first.header(WARNING)), (200, None));
    gateway.wait_for_metric("tollgate_requests_total", &[("status", "200")], 2.0);
    let second = chat(&gateway, "key-a", "gpt-4o", true);
    assert_eq!((second.status, second.header(WARNING)), (200, None));
    gateway.wait_for_metric("tollgate_requests_total", &[("status", "200")], 3.0);
    assert_eq!(chat(&gateway, "key-a", "gpt-4o", true).status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_a_budget_over_redis_and_it_survives_them() {
    let server = Server::start();
    let redis = format!("[redis]\nurl = \"{}\"\ntimeout = \"2s\"\n", server.url());
    let world = world("amount = \"0.01 USD\"", &redis).await;
    let (one, other) = (Gateway::start(&world.config), Gateway::start(&world.config));
    for gateway in [&one, &other] {
        gateway.wait_for_metric("tollgate_redis_up", &[], 1.0);
    }
    let mut calls = 0;
    for gateway in [&one, &other].into_iter().cycle().take(20) {
        if chat(gateway, "key-a", "gpt-4o", false).status != 200 {
            break;
        }
        calls += 1;
        settled(gateway);
    }
    assert_eq!(calls, 3);
    assert_eq!(chat(&one, "key-a", "gpt-4o", false).status, 403);
    assert_eq!(chat(&other, "key-a", "gpt-4o", false).status, 403);
    let third = Gateway::start(&world.config);
    third.wait_for_metric("tollgate_redis_up", &[], 1.0);
    assert_eq!(chat(&third, "key-a", "gpt-4o", false).status, 403);
}

/// Redis was told what was used.
fn settled(gateway: &Gateway) {
    support::wait_until("redis is told", || {
        let status = http::get(&format!("{}/status", gateway.admin_url)).json();
        (status["redis"]["untold"] == 0).then_some(())
    });
}
