//! The semantic cache as callers meet it: what is a hit and what must never be one, in which form it comes, what it
//! costs, and that nothing that fails in it is ever in a call's way. Both stores pass all of it.

use std::cell::RefCell;
use std::collections::HashSet;

use filters::cache::entry::Entry;
use filters::cache::prompt::{Prompt, Scope, SystemMessages, read};
use filters::cache::score::{Threshold, Vector};
use filters::record::Record;
use filters::route::Shape;
use gateway::cache::kept::{Kept, Owner, Sought};
use gateway::cache::store::Kind;
use load_tests::simulator::behaviour::{Content, Pace};
use load_tests::simulator::{Behaviour, Handle, Simulator};
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::Store;
use super::support::gateway::Gateway;
use super::support::http::{self, Answer};
use super::support::wait_until;

pub const A: &str = "key-a";
pub const B: &str = "key-b";
pub const LOOKUPS: &str = "tollgate_cache_lookups_total";
const SAVED: &str = "tollgate_cache_saved_tokens_total";

pub fn config(url: &str, policy: &str, more: &str) -> String {
    format!(
        r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
[apis.openai]
path = "/v1"
schema = "openai"
models = {{ "*" = "chat" }}
[subscriptions.team-a]
keys = ["key-a"]
[subscriptions.team-b]
keys = ["key-b"]
[backends.one]
url = "{url}/v1"
auth = "none"
[backends.embeddings]
url = "{url}/v1"
auth = {{ bearer = "embeddings-key" }}
deployment = "text-embedding-3-small"
[pools.chat]
members = [{{ backend = "one" }}]
[[semantic-cache]]
name = "answers"
embeddings = {{ backend = "embeddings" }}
{policy}
{more}
"#
    )
}

pub async fn world(policy: &str) -> (Handle, Gateway, Store) {
    world_with(policy, "").await
}

async fn world_with(policy: &str, more: &str) -> (Handle, Gateway, Store) {
    let store = Store::start();
    let more = format!("{more}\n{}", store.section());
    let simulator = Simulator::start_default().await.unwrap();
    let gateway = Gateway::start(&config(&simulator.url(), policy, &more));
    (simulator, gateway, store)
}

pub fn ask(gateway: &Gateway, key: &str, question: &str) -> Answer {
    ask_with(gateway, key, question, json!({}))
}

pub fn ask_with(gateway: &Gateway, key: &str, question: &str, more: Value) -> Answer {
    let mut body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": question}]});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let url = format!("{}/v1/chat/completions", gateway.url);
    http::post(&url, &[("api-key", key)], &body.to_string())
}

pub fn result(answer: &Answer) -> &str {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-tollgate-cache").unwrap_or("none")
}

pub fn calls(simulator: &Handle, operation: &str) -> usize {
    let requests = simulator.requests();
    let of = requests
        .iter()
        .filter(|request| request.path.ends_with(operation));
    of.count()
}

pub fn chats(simulator: &Handle) -> usize {
    calls(simulator, "/chat/completions")
}

pub const COFFEE: [&str; 4] = [
    "How do I brew coffee?",
    "What's the best way to make coffee?",
    "Explain how coffee is brewed",
    "coffee brewing steps",
];

#[tokio::test(flavor = "multi_thread")]
async fn twenty_runs_over_four_ways_to_ask_how_to_brew_coffee_make_one_call() {
    let (simulator, gateway, _store) = world("").await;
    let first = ask(&gateway, A, COFFEE[0]);
    assert_eq!(result(&first), "miss");
    let spent = first.json()["usage"]["total_tokens"].as_u64().unwrap();
    for run in 1..20 {
        let answer = ask(&gateway, A, COFFEE[run % 4]);
        assert_eq!(result(&answer), "hit", "run {run}: {}", COFFEE[run % 4]);
        assert_eq!(answer.json(), first.json());
        let distance: f32 = answer
            .header("x-tollgate-cache-distance")
            .unwrap()
            .parse()
            .unwrap();
        assert!(distance <= 0.05, "{distance}");
        assert_eq!(answer.header("x-tollgate-cache-id").unwrap().len(), 32);
    }
    assert_eq!(chats(&simulator), 1);
    // An exact repeat of what was answered needs no embedding: 4 of the 19 hits, beside the first call.
    assert_eq!(calls(&simulator, "/embeddings"), 16);
    let hits = [("policy", "answers"), ("result", "hit")];
    gateway.wait_for_metric(LOOKUPS, &hits, 19.0);
    gateway.wait_for_metric(LOOKUPS, &[("result", "miss")], 1.0);
    gateway.wait_for_metric(SAVED, &[("policy", "answers")], 19.0 * spent as f64);
    let cached = [("source", "none"), ("end", "cached")];
    gateway.wait_for_metric("tollgate_usage_records_total", &cached, 19.0);
    let embeddings = simulator.requests();
    let embedding = embeddings
        .iter()
        .find(|request| request.path.ends_with("/embeddings"))
        .unwrap();
    assert_eq!(embedding.headers["authorization"], "Bearer embeddings-key");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_means_something_else_is_never_a_hit_however_near() {
    let (simulator, gateway, _store) = world("score-threshold = 1.0").await;
    let traps = [
        [
            "What is the weather in Paris?",
            "What is the weather in London?",
        ],
        ["Who won the cup in 2023?", "Who won the cup in 2024?"],
        ["Why is the sky blue?", "Why is the sky not blue?"],
        ["What does `foo(1)` return?", "What does `foo(2)` return?"],
        ["Who is John Smith?", "Who is John Miller?"],
        ["Did the dog bite the man?", "Did the man bite the dog?"],
        ["How do I enable logging?", "How do I disable logging?"],
    ];
    for question in traps.as_flattened() {
        assert_eq!(result(&ask(&gateway, A, question)), "miss", "{question}");
    }
    assert_eq!(chats(&simulator), traps.len() * 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_subscription_model_parameter_or_conversation_gets_an_answer_of_its_own() {
    let (simulator, gateway, _store) = world("").await;
    let question = COFFEE[0];
    let system = json!({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]});
    for (key, more) in [
        (A, json!({})),
        (B, json!({})),
        (A, json!({"model": "gpt-4o-mini"})),
        (A, json!({"temperature": 0.5})),
        (A, json!({"response_format": {"type": "json_object"}})),
        (A, system),
    ] {
        assert_eq!(
            result(&ask_with(&gateway, key, question, more.clone())),
            "miss",
            "{more}"
        );
    }
    assert_eq!(chats(&simulator), 6);
    assert_eq!(result(&ask(&gateway, B, COFFEE[1])), "hit");
}

/// What changes an answer beside the body: the version of the interface, and fields that go along to the backend.
#[tokio::test(flavor = "multi_thread")]
async fn another_version_or_a_field_that_changes_the_answer_gets_one_of_its_own() {
    let (simulator, gateway, _store) = world("").await;
    let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": COFFEE[0]}]});
    let body = body.to_string();
    let post = |query: &str, fields: &[(&str, &str)]| {
        let url = format!("{}/v1/chat/completions{query}", gateway.url);
        let fields = [&[("api-key", A)], fields].concat();
        result(&http::post(&url, &fields, &body)).to_owned()
    };
    for (query, fields) in [
        ("", &[][..]),
        ("?api-version=1", &[]),
        ("", &[("extra-parameters", "pass-through")]),
        ("", &[("extra-parameters", "drop")]),
        ("", &[("azureml-model-deployment", "blue")]),
        ("", &[("openai-beta", "a")]),
        ("", &[("openai-beta", "a"), ("openai-beta", "b")]),
    ] {
        assert_eq!(post(query, fields), "miss", "{query} {fields:?}");
        assert_eq!(post(query, fields), "hit", "{query} {fields:?}");
    }
    assert_eq!(chats(&simulator), 7);
    assert_eq!(post("", &[("user-agent", "other")]), "hit");
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_that_look_alike_and_arent_get_answers_of_their_own() {
    let (simulator, gateway, _store) = world("score-threshold = 1.0").await;
    let prompts = [
        "Who owns paypal.com?",
        "Who owns p\u{430}ypal.com?",
        "Who owns\u{200b} paypal.com?",
        "\u{202e}Who owns paypal.com?",
        "Who owns paypal.com\u{301}?",
        "What does this print?\nif x:\n    a()\nb()",
        "What does this print?\nif x:\n    a()\n    b()",
        "Translate to German: I am glad",
        "Translate to German: I am happy",
        "What is 7 - 3?",
        "What is 7 * 3?",
        "How do I install Python 3.1?",
        "How do I install Python 3.10?",
    ];
    for prompt in prompts {
        assert_eq!(result(&ask(&gateway, A, prompt)), "miss", "{prompt:?}");
        assert_eq!(result(&ask(&gateway, A, prompt)), "hit", "{prompt:?}");
    }
    assert_eq!(chats(&simulator), prompts.len());
}

/// A backend may read them otherwise than the cache does: these aren't looked up.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_for_certain_is_skipped() {
    let (simulator, gateway, _store) = world("").await;
    let url = format!("{}/v1/chat/completions", gateway.url);
    let question = r#""messages":[{"role":"user","content":"How do I brew coffee?"}]"#;
    for body in [
        format!(r#"{{"model":"gpt-4o",{question},"seed":1,"seed":2}}"#),
        format!(r#"{{"model":"gpt-4o",{question},"seed":123456789012345678901}}"#),
        r#"{"model":"gpt-4o","messages":[{"role":"user","content":"a","content":"b"}]}"#.to_owned(),
        r#"{"model":"gpt-4o","messages":[{"role":"user","content":"\ud800"}]}"#.to_owned(),
    ] {
        for _ in 0..2 {
            let answer = http::post(&url, &[("api-key", A)], &body);
            let said = answer.header("x-tollgate-cache").unwrap_or("none");
            assert!(matches!(said, "skip" | "none"), "{body}: {said}");
        }
    }
    assert_eq!(calls(&simulator, "/embeddings"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_vary_by_callers_share() {
    let (_simulator, gateway, _store) = world("vary-by = []").await;
    assert_eq!(result(&ask(&gateway, A, COFFEE[0])), "miss");
    assert_eq!(result(&ask(&gateway, B, COFFEE[2])), "hit");
}

#[tokio::test(flavor = "multi_thread")]
async fn those_of_a_product_share_and_those_of_none_dont() {
    let more = "[products.gold]\n\
        [subscriptions.team-c]\nkeys = [\"key-c\"]\nproduct = \"gold\"\n\
        [subscriptions.team-d]\nkeys = [\"key-d\"]\nproduct = \"gold\"";
    for vary_by in ["product.id", "product.id + \"/\" + request.model"] {
        let policy = format!("vary-by = ['{vary_by}']");
        let (_simulator, gateway, _store) = world_with(&policy, more).await;
        let asked = [
            (A, 0, "miss"),
            (B, 1, "miss"),
            (A, 2, "hit"),
            ("key-c", 0, "miss"),
            ("key-d", 1, "hit"),
        ];
        for (key, wording, expected) in asked {
            assert_eq!(
                result(&ask(&gateway, key, COFFEE[wording])),
                expected,
                "{vary_by} {key}"
            );
        }
    }
}

fn streamed_text(answer: &Answer) -> (String, Vec<Value>) {
    let text = answer.text();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<Value> = events
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let said = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
    (said.collect(), events)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_comes_in_the_form_that_each_caller_asks_for() {
    let (simulator, gateway, _store) = world("").await;
    let stream = json!({"stream": true});
    let first = ask_with(&gateway, A, COFFEE[0], stream.clone());
    assert_eq!(result(&first), "miss");
    let (said, _) = streamed_text(&first);
    let again = ask_with(&gateway, A, COFFEE[1], stream);
    assert_eq!(result(&again), "hit");
    assert_eq!(
        again.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    let (again, events) = streamed_text(&again);
    assert_eq!(again, said);
    assert!(events.iter().all(|event| event.get("usage").is_none()));
    let whole = ask(&gateway, A, COFFEE[2]);
    assert_eq!(result(&whole), "hit");
    let whole = whole.json();
    assert_eq!(whole["choices"][0]["message"]["content"], said.as_str());
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    let usage = json!({"stream": true, "stream_options": {"include_usage": true}});
    let (_, events) = streamed_text(&ask_with(&gateway, A, COFFEE[3], usage));
    assert_eq!(events.last().unwrap()["usage"], whole["usage"]);
    assert!(whole["usage"]["total_tokens"].as_u64().unwrap() > 0);
    assert_eq!(chats(&simulator), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hit_costs_its_caller_nothing_and_embeddings_are_the_gateways_own() {
    let folder = tempfile::tempdir().unwrap();
    let more = format!(
        r#"
[[token-limit]]
name = "minute"
counter-key = 'subscription.id'
tokens-per-minute = 150
[[token-metric]]
dimensions = [{{ name = "subscription_id" }}]
[usage-log]
directory = "{}"
"#,
        folder.path().display()
    );
    let (simulator, gateway, _store) = world_with("", &more).await;
    simulator.set(costing(100).on_path("chat"));
    for question in COFFEE {
        ask(&gateway, A, question);
    }
    let total = "tollgate_total_tokens_total";
    gateway.wait_for_metric(total, &[("subscription_id", "team-a")], 100.0);
    let own: u64 = COFFEE
        .iter()
        .map(|text| text.len().div_ceil(4) as u64)
        .sum();
    gateway.wait_for_metric(total, &[("subscription_id", "tollgate")], own as f64);
    // Of 150 are 50 left, so one more call is let in, which wouldn't be so after a second one of 100.
    let other = ask(&gateway, A, "Where do whales sleep?");
    assert_eq!(result(&other), "miss");
    assert_eq!(ask(&gateway, A, "Who painted the ceiling?").status, 429);
    let hit = ask(&gateway, A, COFFEE[0]);
    assert_eq!(result(&hit), "hit");
    // Its caller is told all the same how it stands.
    assert_eq!(hit.header("x-ratelimit-limit-tokens"), Some("150"));
    assert_eq!(hit.header("x-ratelimit-remaining-tokens"), Some("0"));
    let bill = simulator.bill();
    assert!(gateway.stop().success());
    let text = written(folder.path());
    let lines: Vec<Record<'_>> = text
        .lines()
        .map(|line| Record::read(line.as_bytes()).unwrap())
        .collect();
    let cache = |name: &str| {
        lines
            .iter()
            .filter(|line| line.served.cache == name)
            .count()
    };
    assert_eq!((cache("hit"), cache("miss")), (4, 3));
    let sum: u64 = lines.iter().map(|line| line.usage.total).sum();
    assert_eq!(sum, bill.total_tokens);
}

/// An answer that costs so many tokens in all.
fn costing(total: u64) -> Behaviour {
    Behaviour {
        content: Content {
            tokens: 10,
            prompt_tokens: Some(total - 10),
            ..Content::default()
        },
        ..Behaviour::default()
    }
}

fn written(folder: &std::path::Path) -> String {
    let files = std::fs::read_dir(folder).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
    logs.map(|path| std::fs::read_to_string(path).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedding_that_fails_is_a_miss_and_counted() {
    let wrong_size =
        r#"{"data":[{"embedding":[0.6,0.8]}],"usage":{"prompt_tokens":1,"total_tokens":1}}"#;
    let json = [("content-type", "application/json")];
    let large = format!(
        "{{\"data\":[{{\"embedding\":[{}1]}}]}}",
        "0.5,".repeat(1 << 20)
    );
    let (simulator, gateway, _store) = world("").await;
    assert_eq!(result(&ask(&gateway, A, COFFEE[0])), "miss");
    let failures = [
        Behaviour::status(500),
        Behaviour::status(401),
        Behaviour::answer(200, &json, Some(wrong_size)),
        Behaviour::answer(200, &json, Some("{\"data\":[]}")),
        Behaviour::answer(200, &json, Some(NO_NUMBER)),
        Behaviour::answer(200, &json, Some(NO_DIRECTION)),
        Behaviour::answer(200, &json, Some(&large)),
        Behaviour::throttled(30),
        Behaviour::reset(),
        Behaviour::hang(),
    ];
    for (count, failure) in failures.into_iter().enumerate() {
        simulator.set(failure.on_path("embeddings"));
        let question = format!("Where do whales number {count} sleep?");
        assert_eq!(result(&ask(&gateway, A, &question)), "miss");
        gateway.wait_for_metric(LOOKUPS, &[("result", "error")], (count + 1) as f64);
        // What was answered without an embedding is found again by an exact repeat.
        assert_eq!(result(&ask(&gateway, A, &question)), "hit");
    }
    simulator.reset_behaviour();
    assert_eq!(result(&ask(&gateway, A, COFFEE[1])), "hit");
    gateway.wait_for_metric(LOOKUPS, &[("result", "error")], 10.0);
}

const NO_NUMBER: &str = r#"{"data":[{"embedding":[1e39,NaN]}]}"#;
const NO_DIRECTION: &str = r#"{"data":[{"embedding":[0.0,0.0,0.0,0.0]}]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn equal_prompts_at_once_make_one_call() {
    let (simulator, gateway, _store) = world("").await;
    simulator.set(Behaviour {
        pace: Pace {
            first_token_ms: 300,
            between_tokens_ms: 0,
        },
        ..Behaviour::default().on_path("chat")
    });
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| ask(&gateway, A, COFFEE[0])))
            .collect();
        callers
            .into_iter()
            .map(|caller| caller.join().unwrap())
            .collect()
    });
    let hits = answers
        .iter()
        .filter(|answer| result(answer) == "hit")
        .count();
    assert_eq!(hits, 7);
    assert_eq!(
        (chats(&simulator), calls(&simulator, "/embeddings")),
        (1, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn those_behind_a_call_that_fails_make_their_own() {
    let (simulator, gateway, _store) = world("").await;
    let paced = Behaviour::status(400)
        .paced(300, 0)
        .on_path("chat")
        .times(1);
    simulator.set(paced);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| ask(&gateway, A, COFFEE[0]).status))
            .collect();
        callers
            .into_iter()
            .map(|caller| caller.join().unwrap())
            .collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 400).count(), 1);
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_ends_its_own_wait_and_nobody_elses() {
    use std::io::Write;
    let (simulator, gateway, _store) = world("").await;
    simulator.set(Behaviour::gated().on_path("chat"));
    let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": COFFEE[0]}]});
    let body = body.to_string();
    let (authority, _) = http::split(&gateway.url);
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\napi-key: {A}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let call = || {
        let mut stream = http::connect(authority).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let first = call();
    wait_until("the first call is upstream", || {
        (chats(&simulator) == 1).then_some(())
    });
    // One behind leaves: the first goes on.
    drop(call());
    let gone = [("source", "none"), ("end", "client_gone")];
    gateway.wait_for_metric("tollgate_usage_records_total", &gone, 1.0);
    assert_eq!(chats(&simulator), 1);
    // The first leaves: the one behind makes its own call.
    std::thread::scope(|scope| {
        let behind = scope.spawn(|| ask(&gateway, A, COFFEE[0]));
        drop(first);
        wait_until("the one behind is upstream", || {
            (chats(&simulator) == 2).then_some(())
        });
        simulator.gate().open();
        assert_eq!(result(&behind.join().unwrap()), "miss");
    });
    assert_eq!(result(&ask(&gateway, A, COFFEE[0])), "hit");
    assert_eq!(calls(&simulator, "/embeddings"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_given_until_its_duration_is_over() {
    let (simulator, gateway, _store) = world("duration = \"1s\"").await;
    assert_eq!(result(&ask(&gateway, A, COFFEE[0])), "miss");
    wait_until("the answer is over", || {
        let is_miss = result(&ask(&gateway, A, COFFEE[0])) == "miss";
        is_miss.then_some(())
    });
    assert_eq!(chats(&simulator), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_observes_answers_from_upstream_and_tells_what_would_have_hit() {
    let (simulator, gateway, _store) = world("mode = \"observe\"").await;
    assert_eq!(result(&ask(&gateway, A, COFFEE[0])), "miss");
    for question in COFFEE {
        let answer = ask(&gateway, A, question);
        assert_eq!(result(&answer), "miss");
        assert!(answer.header("x-tollgate-cache-distance").is_some());
        assert_eq!(answer.header("x-tollgate-cache-id"), None);
    }
    assert_eq!(chats(&simulator), 5);
    gateway.wait_for_metric(LOOKUPS, &[("result", "would_hit")], 4.0);
    // Each of the four answers was compared with the kept one, which the first question's answer equals.
    let apart = "tollgate_cache_answer_distance";
    gateway.wait_for_metric(&format!("{apart}_count"), &[("policy", "answers")], 4.0);
    assert!(gateway.metric(&format!("{apart}_bucket"), &[("le", "0.01")]) >= 1.0);
    assert_eq!(gateway.metric(SAVED, &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_for_the_cache_is_skipped() {
    let (simulator, gateway, _store) =
        world("when = 'request.model == \"gpt-4o\"'\nmax-message-count = 2").await;
    let message = |role: &str| json!({"role": role, "content": "hi"});
    let long = json!({"messages": [message("user"), message("assistant"), message("user")]});
    for more in [json!({"model": "gpt-4o-mini"}), long, json!({"n": 2})] {
        for _ in 0..2 {
            assert_eq!(
                result(&ask_with(&gateway, A, COFFEE[0], more.clone())),
                "skip",
                "{more}"
            );
        }
    }
    gateway.wait_for_metric(LOOKUPS, &[("result", "skip")], 6.0);
    assert_eq!(
        (chats(&simulator), calls(&simulator, "/embeddings")),
        (6, 0)
    );
    let url = format!("{}/v1/embeddings", gateway.url);
    let embedding = http::post(&url, &[("api-key", A)], r#"{"model":"m","input":"a"}"#);
    assert_eq!(result(&embedding), "none");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_cut_short_or_calls_tools_is_not_kept() {
    let (simulator, gateway, _store) = world("").await;
    for more in [
        json!({"max_tokens": 3}),
        json!({"max_tokens": 3, "stream": true}),
    ] {
        for _ in 0..2 {
            assert_eq!(
                result(&ask_with(&gateway, A, COFFEE[0], more.clone())),
                "miss"
            );
        }
    }
    assert_eq!(chats(&simulator), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_purged_by_id_by_subscription_and_by_policy() {
    let (_simulator, gateway, _store) = world("").await;
    let purge = |what: &str| {
        let url = format!("{}/cache/purge?{what}", gateway.admin_url);
        let answer = http::request("POST", &url, &[], b"").unwrap();
        (answer.status, answer.text())
    };
    let purged = |count: usize| (200, format!("{{\"purged\":{count}}}"));
    let other = "Where do whales sleep?";
    let fill = || {
        for (key, question) in [(A, COFFEE[0]), (A, other), (B, other)] {
            ask(&gateway, key, question);
        }
    };
    fill();
    let hit = ask(&gateway, A, COFFEE[1]);
    let id = hit.header("x-tollgate-cache-id").unwrap();
    assert_eq!(purge(&format!("id={id}")), purged(1));
    assert_eq!(result(&ask(&gateway, A, other)), "hit");
    assert_eq!(result(&ask(&gateway, A, COFFEE[1])), "miss");
    assert_eq!(purge("subscription=team%2da"), purged(2));
    assert_eq!(result(&ask(&gateway, B, other)), "hit");
    assert_eq!(result(&ask(&gateway, A, other)), "miss");
    assert_eq!(purge("policy=answers"), purged(2));
    assert_eq!(result(&ask(&gateway, B, other)), "miss");
    assert_eq!(purge("policy=none").0, 404);
    for wrong in ["", "id=x", "policy=", "policy=answers&id=1", "all=1"] {
        assert_eq!(purge(wrong).0, 400, "{wrong}");
    }
    let got = http::get(&format!("{}/cache/purge?policy=answers", gateway.admin_url));
    assert_eq!(got.status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_responses_api_is_cached_too() {
    let (simulator, gateway, _store) = world("").await;
    let respond = |question: &str, stream: bool| {
        let body = json!({"model": "gpt-4o", "input": question, "stream": stream});
        let url = format!("{}/v1/responses", gateway.url);
        http::post(&url, &[("api-key", A)], &body.to_string())
    };
    let first = respond(COFFEE[0], true);
    assert_eq!(result(&first), "miss");
    let whole = respond(COFFEE[1], false);
    assert_eq!(result(&whole), "hit");
    assert_eq!(whole.json()["status"], "completed");
    let streamed = respond(COFFEE[2], true);
    assert_eq!(result(&streamed), "hit");
    assert!(streamed.text().contains("event: response.completed\n"));
    assert_eq!(calls(&simulator, "/responses"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_survive_a_reload() {
    let (simulator, gateway, store) = world("").await;
    assert_eq!(result(&ask(&gateway, A, COFFEE[0])), "miss");
    gateway.rewrite(&config(
        &simulator.url(),
        "max-entries = 5",
        &store.section(),
    ));
    gateway.signal("HUP");
    gateway.wait_for_metric("tollgate_config_reloads_total", &[("result", "ok")], 1.0);
    assert_eq!(result(&ask(&gateway, A, COFFEE[1])), "hit");
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_at_once_go_together_to_the_embeddings_backend() {
    const CALLERS: usize = 12;
    let (simulator, gateway, _store) = world("").await;
    simulator.set(Behaviour::gated().on_path("embeddings"));
    std::thread::scope(|scope| {
        let ask = |number: usize| {
            let question = format!("Where do whales number {number} sleep?");
            result(&ask(&gateway, A, &question)).to_owned()
        };
        let callers: Vec<_> = (0..CALLERS)
            .map(|number| scope.spawn(move || ask(number)))
            .collect();
        wait_until(
            "all have come, and as many calls as may be are under way",
            || {
                let status = http::get(&format!("{}/status", gateway.admin_url)).json();
                let are_there = status["in_flight"] == CALLERS;
                (are_there && calls(&simulator, "/embeddings") >= 4).then_some(())
            },
        );
        simulator.gate().open();
        for caller in callers {
            assert_eq!(caller.join().unwrap(), "miss");
        }
    });
    let requests = simulator.requests();
    let embeddings = requests
        .iter()
        .filter(|request| request.path.ends_with("/embeddings"));
    let texts = embeddings.map(|request| {
        let body: Value = serde_json::from_slice(&request.body.bytes).unwrap();
        body["input"].as_array().map_or(1, Vec::len)
    });
    let texts: Vec<usize> = texts.collect();
    assert_eq!(texts.iter().sum::<usize>(), CALLERS, "{texts:?}");
    // Four go alone; those that came meanwhile share what follows.
    assert!(texts.len() <= 8, "{texts:?}");
    // Each has its own: a vector that went to another's question would be found by it.
    for number in 0..CALLERS {
        let question = format!("Tell me where whales number {number} sleep");
        assert_eq!(result(&ask(&gateway, A, &question)), "hit", "{question}");
    }
    gateway.wait_for_metric(LOOKUPS, &[("result", "error")], 0.0);
}

/// Who asks what: subscription, model, temperature, system message, question.
type Asked = (u8, u8, u8, u8, u8);

fn prompt((subscription, model, temperature, system, question): Asked) -> Prompt {
    let model = ["gpt-4o", "gpt-4o-mini"][usize::from(model)];
    let vary_by = [["team-a", "team-b", ""][usize::from(subscription)].to_owned()];
    let scope = Scope {
        policy: "answers",
        api: "openai",
        operation: "chat-completions",
        model,
        vary_by: &vary_by,
    };
    let system = ["Be brief.", "Be long."][usize::from(system)];
    let question = COFFEE[usize::from(question)];
    let body = json!({
        "temperature": temperature,
        "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": question},
        ],
    });
    let body = body.to_string();
    read(
        Shape::Chat,
        body.as_bytes(),
        scope,
        SystemMessages::Embedded,
    )
    .unwrap()
}

/// Any order of keeping and asking, by anybody: what is found was kept in the same partition, and what was kept there is
/// found. All vectors are one, so nothing but the partition holds two questions apart.
#[test]
fn no_answer_leaves_its_partition_whatever_is_kept_and_asked() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let started = Store::start();
    let store = runtime.block_on(started.opened());
    let vector = Vector::new(&[0.6, 0.8]).unwrap();
    let asked = (0..3_u8, 0..2_u8, 0..2_u8, 0..2_u8, 0..4_u8);
    let steps = vec((any::<bool>(), asked), 1..40);
    let mut run = TestRunner::new(Config::with_cases(24));
    let kept_in = RefCell::new(HashSet::new());
    run.run(&steps, |steps| {
        for (keeps, asked) in steps {
            let prompt = prompt(asked);
            let body = json!({"partition": prompt.partition.to_hex()}).to_string();
            if keeps {
                let kept = Kept {
                    id: 1,
                    tokens: 1,
                    entry: Entry {
                        shape: Shape::Chat,
                        question: prompt.question.clone().unwrap(),
                        body: body.clone().into(),
                    },
                };
                let kind = Kind {
                    prompt: &prompt,
                    vector: Some(vector.clone()),
                    owner: Owner {
                        policy: "answers".into(),
                        subscription: String::new(),
                    },
                    duration: std::time::Duration::from_secs(600),
                };
                runtime.block_on(store.keep(kept, kind)).unwrap();
                kept_in.borrow_mut().insert(prompt.partition);
            }
            let sought = Sought {
                partition: prompt.partition,
                vector: vector.clone(),
                threshold: Threshold::new(0.05).unwrap(),
                question: prompt.question.clone().unwrap(),
            };
            let exact = runtime.block_on(store.find_exact(&prompt)).unwrap();
            let near = runtime.block_on(store.find_near(sought)).unwrap();
            for found in exact.iter().chain(&near) {
                proptest::prop_assert_eq!(&found.kept.entry.body[..], body.as_bytes());
            }
            let is_kept = kept_in.borrow().contains(&prompt.partition);
            // Redis' index is an approximate one: it may miss what is there, and never finds what isn't.
            proptest::prop_assert!(is_kept || near.is_none());
            if matches!(store, gateway::cache::store::Store::Local(_)) {
                proptest::prop_assert_eq!(near.is_some(), is_kept);
            }
        }
        Ok(())
    })
    .unwrap();
}
