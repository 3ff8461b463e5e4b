//! Token limits as callers meet them: who is refused, with what, what the headers say, and that nothing that was held
//! is lost or given back twice.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use load_tests::simulator::behaviour::{Breakage, BreakageKind, Content};
use load_tests::simulator::{Behaviour, Handle, Simulator};
use support::gateway::Gateway;
use support::http::{self, Answer};
use support::wait_until;

const TEAM_A: (&str, &str) = ("api-key", "key-a");
const TEAM_B: (&str, &str) = ("api-key", "key-b");

fn config(url: &str, limits: &str) -> String {
    format!(
        r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
[apis.openai]
path = "/v1"
schema = "openai"
models = {{ "*" = "chat" }}
default-pool = "chat"
[products.gold]
[subscriptions.team-a]
product = "gold"
keys = ["key-a"]
[subscriptions.team-b]
keys = ["key-b"]
[backends.one]
url = "{url}/v1"
auth = "none"
[pools.chat]
members = [{{ backend = "one" }}]
[[token-metric]]
dimensions = [{{ name = "subscription_id" }}]
{limits}
"#
    )
}

/// An answer that costs so many tokens in all.
fn costing(prompt: u64, completion: u32) -> Behaviour {
    Behaviour {
        content: Content {
            tokens: completion,
            prompt_tokens: Some(prompt),
            ..Content::default()
        },
        ..Behaviour::default()
    }
}

async fn simulator() -> Handle {
    Simulator::start_default().await.unwrap()
}

fn chat(gateway: &Gateway, key: (&str, &str), body: &str) -> Answer {
    let url = format!("{}/v1/chat/completions", gateway.url);
    http::post(&url, &[key], body)
}

const CALL: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &str =
    r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
/// What the tokenizer counts for the two calls above.
const PROMPT: u64 = 8;

fn number(answer: &Answer, name: &str) -> u64 {
    let value = answer.header(name);
    value
        .unwrap_or_else(|| panic!("no {name} in {answer:?}"))
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_tokens_a_minute_and_a_call_of_forty_make_the_next_wait_three_minutes() {
    let simulator = simulator().await;
    simulator.set(costing(20, 20));
    let limit = r#"
[[token-limit]]
name = "ten"
counter-key = 'subscription.id'
tokens-per-minute = 10
"#;
    let gateway = Gateway::start(&config(&simulator.url(), limit));
    let first = chat(&gateway, TEAM_A, CALL);
    assert_eq!(first.status, 200);
    assert_eq!(first.header("x-ratelimit-limit-tokens"), Some("10"));
    assert_eq!(first.header("x-ratelimit-remaining-tokens"), Some("0"));
    let refused = chat(&gateway, TEAM_A, CALL);
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (429, "rate_limit_exceeded")
    );
    let wait = number(&refused, "retry-after");
    assert!((178..=180).contains(&wait), "{wait}");
    let precise = number(&refused, "retry-after-ms");
    assert_eq!(precise.div_ceil(1000), wait);
    assert_eq!(refused.header("x-ratelimit-remaining-tokens"), Some("0"));
    let reset = refused.header("x-ratelimit-reset-tokens").unwrap();
    assert!(
        ["4m0s", "3m5"].iter().any(|start| reset.starts_with(start)),
        "{reset}"
    );
    assert!(refused.text().contains("`ten`"));
    // Another subscription has its own.
    assert_eq!(chat(&gateway, TEAM_B, CALL).status, 200);
    assert_eq!(simulator.requests().len(), 2);
    let refusals = [("reason", "rate_limit_exceeded"), ("policy", "ten")];
    gateway.wait_for_metric("tollgate_refusals_total", &refusals, 1.0);
    let records = [("source", "none"), ("end", "refused")];
    gateway.wait_for_metric("tollgate_usage_records_total", &records, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_ends_with_403_until_its_period_ends() {
    let simulator = simulator().await;
    simulator.set(costing(30, 30));
    let limit = r#"
[[token-limit]]
name = "month"
counter-key = 'subscription.id'
token-quota = 50
token-quota-period = "hourly"
remaining-quota-tokens-header-name = "x-left"
tokens-consumed-header-name = "x-used"
retry-after-header-name = "x-come-back"
"#;
    let gateway = Gateway::start(&config(&simulator.url(), limit));
    let first = chat(&gateway, TEAM_A, CALL);
    assert_eq!(
        (number(&first, "x-left"), number(&first, "x-used")),
        (0, 60)
    );
    // Without a rate, the usual names tell of the quota.
    assert_eq!(first.header("x-ratelimit-limit-tokens"), Some("50"));
    assert_eq!(first.header("x-ratelimit-remaining-tokens"), Some("0"));
    assert!(first.header("x-ratelimit-reset-tokens").is_some());
    let refused = chat(&gateway, TEAM_A, CALL);
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (403, "insufficient_quota")
    );
    let wait = number(&refused, "x-come-back");
    assert!((1..=3600).contains(&wait), "{wait}");
    assert_eq!(refused.header("retry-after"), None);
    assert_eq!(
        (number(&refused, "x-left"), number(&refused, "x-used")),
        (0, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_refuses_before_a_backend_is_asked_and_is_corrected_after() {
    let simulator = simulator().await;
    simulator.set(costing(5, 3));
    let limit = r#"
[[token-limit]]
name = "estimated"
counter-key = 'subscription.id'
tokens-per-minute = 1000000
token-quota = 20
token-quota-period = "yearly"
estimate-prompt-tokens = true
remaining-tokens-header-name = "x-tokens"
remaining-quota-tokens-header-name = "x-left"
tokens-consumed-header-name = "x-used"
"#;
    let gateway = Gateway::start(&config(&simulator.url(), limit));
    // On a stream what is held is told, since the head leaves before the truth is known.
    let stream = chat(&gateway, TEAM_A, STREAM);
    assert_eq!(
        (number(&stream, "x-left"), number(&stream, "x-used")),
        (20 - PROMPT, PROMPT)
    );
    // Corrected to the eight that it used, then eight more.
    let whole = chat(&gateway, TEAM_A, CALL);
    assert_eq!(
        (number(&whole, "x-left"), number(&whole, "x-used")),
        (20 - 8 - 8, 8)
    );
    assert!(whole.header("x-tokens").is_some());
    // Four are left, and the prompt alone is eight.
    let refused = chat(&gateway, TEAM_A, CALL);
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (403, "insufficient_quota")
    );
    assert_eq!(simulator.requests().len(), 2);
    let long = CALL.replace("hi", &"word ".repeat(30));
    let too_long = chat(&gateway, TEAM_B, &long);
    assert_eq!(
        (too_long.status, too_long.code().as_str()),
        (429, "request_exceeds_limit")
    );
    assert_eq!(too_long.header("retry-after"), None);
    assert_eq!(simulator.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_holds_what_the_caller_may_get_and_gives_back_the_rest() {
    let simulator = simulator().await;
    simulator.set(costing(10, 5));
    let limit = r#"
[[token-limit]]
name = "reserved"
counter-key = 'subscription.id'
token-quota = 1000
token-quota-period = "yearly"
reserve-completion-tokens = true
remaining-quota-tokens-header-name = "x-left"
"#;
    let gateway = Gateway::start(&config(&simulator.url(), limit));
    let asking = |tokens: u64, choices: u64| {
        STREAM.replace(
            "\"stream\"",
            &format!("\"max_tokens\":{tokens},\"n\":{choices},\"stream\""),
        )
    };
    let stream = chat(&gateway, TEAM_A, &asking(100, 3));
    assert_eq!(number(&stream, "x-left"), 1000 - PROMPT - 300);
    // What it gave back is there again.
    gateway.wait_for_metric("tollgate_requests_total", &[("status", "200")], 1.0);
    let spent = 1000 - simulator.bill().total_tokens;
    let next = chat(&gateway, TEAM_A, &asking(100, 1));
    assert_eq!(number(&next, "x-left"), spent - PROMPT - 100);
    gateway.wait_for_metric("tollgate_requests_total", &[("status", "200")], 2.0);
    let refused = chat(&gateway, TEAM_A, &asking(990, 1));
    assert_eq!(refused.code(), "insufficient_quota");
    let never = chat(&gateway, TEAM_A, &asking(1000, 1));
    assert_eq!(never.code(), "request_exceeds_limit");
    // A caller that names nothing is held to a guess, which a small limit cuts.
    let guessed = chat(&gateway, TEAM_B, CALL);
    assert_eq!(guessed.status, 200, "{guessed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_costs_nothing() {
    let simulator = simulator().await;
    let limit = r#"
[[token-limit]]
name = "reserved"
counter-key = 'subscription.id'
token-quota = 1000
token-quota-period = "yearly"
reserve-completion-tokens = true
remaining-quota-tokens-header-name = "x-left"
"#;
    let gateway = Gateway::start(&config(&simulator.url(), limit));
    for behaviour in [
        Behaviour::status(400),
        Behaviour::status(429),
        Behaviour::status(500),
        Behaviour::reset(),
        Behaviour {
            breakage: Some(Breakage {
                kind: BreakageKind::Cut,
                after: None,
            }),
            ..Behaviour::default()
        },
    ] {
        simulator.set(behaviour.clone());
        for body in [CALL, STREAM] {
            let answer = chat(&gateway, TEAM_A, body);
            assert!(answer.status >= 400, "{behaviour:?}");
            assert_eq!(number(&answer, "x-left"), 1000, "{behaviour:?}");
        }
    }
    let unknown = chat(&gateway, TEAM_A, "{");
    assert_eq!(unknown.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_usage_is_unknown_costs_what_was_counted() {
    let simulator = simulator().await;
    let limit = r#"
[[token-limit]]
name = "quota"
counter-key = 'subscription.id'
token-quota = 1000
token-quota-period = "yearly"
remaining-quota-tokens-header-name = "x-left"
"#;
    let gateway = Gateway::start(&config(&simulator.url(), limit));
    simulator.set(Behaviour {
        content: Content {
            text: Some("one two three four".into()),
            no_usage: true,
            ..Content::default()
        },
        breakage: Some(Breakage {
            kind: BreakageKind::Cut,
            after: Some(4),
        }),
        ..Behaviour::default()
    });
    chat(&gateway, TEAM_A, STREAM);
    let records = [("source", "counted"), ("end", "upstream_cut")];
    gateway.wait_for_metric("tollgate_usage_records_total", &records, 1.0);
    let labels = [("subscription_id", "team-a")];
    let counted = gateway.metric("tollgate_total_tokens_total", &labels);
    assert!(counted > PROMPT as f64, "{counted}");
    simulator.set(Behaviour::status(400));
    let left = number(&chat(&gateway, TEAM_A, CALL), "x-left");
    assert_eq!(left as f64, 1000.0 - counted);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_limits_are_taken_together_or_not_at_all() {
    let simulator = simulator().await;
    simulator.set(costing(5, 5));
    let limits = r#"
[[token-limit]]
name = "all"
counter-key = '"everybody"'
token-quota = 1000
token-quota-period = "yearly"
remaining-quota-tokens-header-name = "x-all"
[[token-limit]]
name = "gold"
when = 'product.id == "gold"'
counter-key = 'subscription.id'
token-quota = 15
token-quota-period = "yearly"
[[token-limit]]
name = "of the same key"
counter-key = 'subscription.id'
token-quota = 500
token-quota-period = "yearly"
remaining-quota-tokens-header-name = "x-same-key"
"#;
    let with_guard = limits.replace(
        "product.id ==",
        "subscription.id == \"team-a\" && product.id ==",
    );
    let gateway = Gateway::start(&config(&simulator.url(), &with_guard));
    assert_eq!(number(&chat(&gateway, TEAM_A, CALL), "x-all"), 990);
    let second = chat(&gateway, TEAM_A, CALL);
    // A key's value is counted for each limit by itself.
    let left = |name| number(&second, name);
    assert_eq!((left("x-all"), left("x-same-key")), (980, 480));
    let refused = chat(&gateway, TEAM_A, CALL);
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("`gold`"), "{}", refused.text());
    assert_eq!(number(&refused, "x-all"), 980);
    // A stranger to that product meets the other limit alone.
    assert_eq!(number(&chat(&gateway, TEAM_B, CALL), "x-all"), 970);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_observes_reports_and_never_refuses() {
    let simulator = simulator().await;
    simulator.set(costing(20, 20));
    let limit = r#"
[[token-limit]]
name = "watched"
counter-key = 'subscription.id'
tokens-per-minute = 10
mode = "observe"
"#;
    let gateway = Gateway::start(&config(&simulator.url(), limit));
    for _ in 0..3 {
        assert_eq!(chat(&gateway, TEAM_A, CALL).status, 200);
    }
    let watched = [("policy", "watched")];
    gateway.wait_for_metric("tollgate_would_refuse_total", &watched, 2.0);
    assert_eq!(gateway.metric("tollgate_refusals_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expression_that_fails_refuses_under_the_limits_name() {
    let simulator = simulator().await;
    let limit = r#"
[[token-limit]]
name = "by-team"
counter-key = 'request.headers["x-team"]'
tokens-per-minute = 10
"#;
    let gateway = Gateway::start(&config(&simulator.url(), limit));
    let refused = chat(&gateway, TEAM_A, CALL);
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (500, "policy_failed")
    );
    assert!(refused.text().contains("`by-team`"));
    let url = format!("{}/v1/chat/completions", gateway.url);
    let long = "t".repeat(5_000);
    assert_eq!(
        http::post(&url, &[TEAM_A, ("x-team", &long)], CALL).status,
        200
    );
    let reading = http::request("GET", &format!("{}/v1/models", gateway.url), &[TEAM_A], b"");
    assert_eq!(
        reading.unwrap().status,
        200,
        "what only reads meets no limit"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_survive_a_reload() {
    let simulator = simulator().await;
    simulator.set(costing(20, 20));
    let limit = |quota: u64| {
        let text = format!(
            "[[token-limit]]\nname = \"kept\"\ncounter-key = 'subscription.id'\ntoken-quota = {quota}\ntoken-quota-period = \"yearly\"\nremaining-quota-tokens-header-name = \"x-left\"\n"
        );
        config(&simulator.url(), &text)
    };
    let gateway = Gateway::start(&limit(100));
    assert_eq!(number(&chat(&gateway, TEAM_A, CALL), "x-left"), 60);
    gateway.rewrite(&limit(200));
    gateway.signal("HUP");
    gateway.wait_for_metric("tollgate_config_reloads_total", &[("result", "ok")], 1.0);
    assert_eq!(number(&chat(&gateway, TEAM_A, CALL), "x-left"), 120);
}

const YEARLY: &str =
    "token-quota-period = \"yearly\"\nremaining-quota-tokens-header-name = \"x-left\"\n";

fn yearly(quota: u64, more: &str) -> String {
    format!(
        "[[token-limit]]\nname = \"quota\"\ncounter-key = 'subscription.id'\ntoken-quota = {quota}\n{YEARLY}{more}\n"
    )
}

/// What can't be built up as JSON would hold nothing, and what is nested deep or cut in a character would pass any limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_hard_to_read_holds_what_it_may_cost() {
    let simulator = simulator().await;
    let limit = yearly(400, "reserve-completion-tokens = true");
    let gateway = Gateway::start(&config(&simulator.url(), &limit));
    let deep = "[".repeat(200) + &"]".repeat(200);
    let long = "word ".repeat(500);
    for odd in [
        format!("\"metadata\":{{\"deep\":{deep}}}"),
        "\"metadata\":{\"half\":\"\\ud83d\"}".to_owned(),
        "\"temperature\":1e999".to_owned(),
    ] {
        let body = CALL.replace("\"model\"", &format!("{odd},\"model\""));
        let refused = chat(&gateway, TEAM_A, &body.replace("hi", &long));
        assert_eq!(refused.code(), "request_exceeds_limit", "{odd}");
        let refused = chat(
            &gateway,
            TEAM_A,
            &body.replace("\"model\"", "\"max_tokens\":400,\"model\""),
        );
        assert_eq!(refused.code(), "request_exceeds_limit", "{odd}");
    }
    assert!(simulator.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_at_once_without_usage_costs_what_was_counted() {
    let simulator = simulator().await;
    simulator.set(Behaviour {
        content: Content {
            text: Some("one two three four".into()),
            no_usage: true,
            ..Content::default()
        },
        ..Behaviour::default()
    });
    let gateway = Gateway::start(&config(&simulator.url(), &yearly(1000, "")));
    chat(&gateway, TEAM_A, CALL);
    let records = [("source", "counted"), ("end", "complete")];
    gateway.wait_for_metric("tollgate_usage_records_total", &records, 1.0);
    let completion = gateway.metric("tollgate_completion_tokens_total", &[]);
    assert_eq!(completion, 4.0);
    // A model that nobody knows is guessed, and said to be.
    let unknown = CALL.replace("gpt-4o", "ours-7b");
    chat(&gateway, TEAM_A, &unknown);
    let records = [("source", "estimated"), ("end", "complete")];
    gateway.wait_for_metric("tollgate_usage_records_total", &records, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_that_a_completion_makes_is_reserved() {
    let simulator = simulator().await;
    let limit = yearly(5_000, "reserve-completion-tokens = true");
    let gateway = Gateway::start(&config(&simulator.url(), &limit));
    let url = format!("{}/v1/completions", gateway.url);
    let left = |body: &str| number(&http::post(&url, &[TEAM_A], body), "x-left");
    let body = r#"{"model":"gpt-3.5-turbo-instruct","stream":true,"max_tokens":100,"prompt":["a","b","c"],"n":2,"best_of":4}"#;
    let held = 5_000 - left(body);
    assert_eq!(held, 3 + 3 * 4 * 100);
}

/// A deployment may be called after another model than it is.
#[tokio::test(flavor = "multi_thread")]
async fn the_model_that_answers_decides_how_the_next_prompt_is_counted() {
    let simulator = simulator().await;
    let answer = r#"{"id":"x","object":"chat.completion","model":"gpt-4o-2024-08-06","choices":[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
    let named: Behaviour =
        serde_json::from_value(serde_json::json!({ "status": { "code": 200, "body": answer } }))
            .unwrap();
    let more = "estimate-prompt-tokens = true\ntokens-consumed-header-name = \"x-used\"";
    let gateway = Gateway::start(&config(&simulator.url(), &yearly(5000, more)));
    let text = "\u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467} ".repeat(8);
    let estimated = |model: &str| {
        simulator.set(Behaviour::default());
        let stream = STREAM.replace("gpt-4o", model).replace("hi", &text);
        number(&chat(&gateway, TEAM_B, &stream), "x-used")
    };
    let by_its_name = estimated("gpt-4o");
    for (name, is_known) in [("gpt-4", true), ("our-deployment", false)] {
        let before = estimated(name);
        assert_eq!(before != by_its_name, is_known, "{name}: {before}");
        simulator.set(named.clone());
        let call = CALL.replace("gpt-4o", name);
        assert_eq!(chat(&gateway, TEAM_A, &call).status, 200);
        // It is learned when its caller has it.
        wait_until("the model is learned", || {
            (estimated(name) == by_its_name).then_some(())
        });
    }
    gateway.wait_for_log("unknown model");
    let log = gateway.log();
    assert_eq!(log.matches("unknown model").count(), 1, "{log}");
}

/// Whatever the answer is, its caller is told how it stands.
#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_a_limited_caller_says_what_is_left() {
    let simulator = simulator().await;
    simulator.set(costing(5, 5));
    let minute = "[[token-limit]]\nname = \"minute\"\ncounter-key = 'subscription.id'\ntokens-per-minute = 1000000\n";
    let off = minute.replace("minute\"", "off\"")
        + "rate-limit-headers = false\nremaining-tokens-header-name = \"x-mine\"\n";
    let products = "[products.small]\nmodels = [\"small\"]\n[subscriptions.team-c]\nproduct = \"small\"\nkeys = [\"key-c\"]\n";
    let limits = format!(
        "{products}{minute}when = 'subscription.id != \"team-b\"'\n{off}when = 'subscription.id == \"team-b\"'\n"
    );
    let gateway = Gateway::start(&config(&simulator.url(), &limits));
    let names = [
        "x-ratelimit-limit-tokens",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-tokens",
    ];
    let told = |answer: &Answer| names.map(|name| answer.header(name).is_some());
    let get = |path: &str| {
        let url = format!("{}{path}", gateway.url);
        http::request("GET", &url, &[TEAM_A], b"").unwrap()
    };
    let post =
        |path: &str, key, body: &str| http::post(&format!("{}{path}", gateway.url), &[key], body);
    let whole = chat(&gateway, TEAM_A, CALL);
    let stream = chat(&gateway, TEAM_A, STREAM);
    let embedded = post("/v1/embeddings", TEAM_A, r#"{"model":"e","input":"a"}"#);
    let reading = get("/v1/models");
    let broken = chat(&gateway, TEAM_A, "{");
    let not_allowed = chat(&gateway, ("api-key", "key-c"), CALL);
    simulator.set(Behaviour::status(404));
    let failed = chat(&gateway, TEAM_A, CALL);
    simulator.set(Behaviour::reset());
    let unavailable = chat(&gateway, TEAM_A, STREAM);
    for (answer, status) in [
        (&whole, 200),
        (&stream, 200),
        (&embedded, 200),
        (&reading, 200),
        (&broken, 400),
        (&not_allowed, 403),
        (&failed, 404),
        (&unavailable, 503),
    ] {
        assert_eq!(
            (answer.status, told(answer)),
            (status, [true; 3]),
            "{answer:?}"
        );
    }
    // Who is told by other names isn't told by these; who isn't known isn't told anything.
    let off = chat(&gateway, TEAM_B, "{");
    assert_eq!(
        (told(&off), off.header("x-mine")),
        ([false; 3], Some("1000000"))
    );
    let stranger = chat(&gateway, ("api-key", "nobody"), CALL);
    assert_eq!((stranger.status, told(&stranger)), (401, [false; 3]));
}

/// What is held under one configuration is settled under it, while the next goes on from what is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_in_the_middle_of_a_call_neither_loses_nor_keeps_what_it_holds() {
    let simulator = simulator().await;
    simulator.set(Behaviour {
        gated: true,
        path_contains: Some("chat".into()),
        ..costing(10, 5)
    });
    let hold = "reserve-completion-tokens = true";
    let gateway = Gateway::start(&config(&simulator.url(), &yearly(1000, hold)));
    let body = STREAM.replace("\"stream\"", "\"max_tokens\":100,\"stream\"");
    let answer = std::thread::scope(|scope| {
        let call = scope.spawn(|| chat(&gateway, TEAM_A, &body));
        tokio::task::block_in_place(|| {
            wait_until("the call is on its way", || {
                (!simulator.requests().is_empty()).then_some(())
            });
            gateway.rewrite(&config(&simulator.url(), &yearly(2000, hold)));
            gateway.signal("HUP");
            gateway.wait_for_metric("tollgate_config_reloads_total", &[("result", "ok")], 1.0);
            // Still held.
            let reading =
                http::request("GET", &format!("{}/v1/models", gateway.url), &[TEAM_A], b"");
            assert_eq!(number(&reading.unwrap(), "x-left"), 2000 - PROMPT - 100);
        });
        simulator.gate().open();
        call.join().unwrap()
    });
    assert_eq!(answer.status, 200);
    gateway.wait_for_metric(
        "tollgate_requests_total",
        &[("operation", "chat-completions")],
        1.0,
    );
    let reading = http::request("GET", &format!("{}/v1/models", gateway.url), &[TEAM_A], b"");
    assert_eq!(
        number(&reading.unwrap(), "x-left"),
        2000 - simulator.bill().total_tokens
    );
}
