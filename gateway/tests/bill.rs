//! Nothing lost: what the simulator bills, what is settled against the limits and what the metric counts are the same
//! number of tokens, over ten thousand calls of every kind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use load_tests::simulator::behaviour::Content;
use load_tests::simulator::{Behaviour, Handle, Simulator};
use support::caller::Caller;
use support::gateway::Gateway;
use support::http;

const CALLS: usize = 10_000;
const CALLERS: usize = 16;
/// What the tokenizer counts for the prompt below, so that a stream that is cut costs here what it costs there.
const PROMPT: u64 = 8;
const QUOTA: u64 = 1_000_000_000;

fn config(first: &Handle, second: &Handle) -> String {
    format!(
        r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
[apis.openai]
path = "/v1"
schema = "openai"
models = {{ "*" = "chat" }}
[subscriptions.payer]
keys = ["{key}"]
[subscriptions.spent]
keys = ["key-of-nobody-with-tokens"]
[backends.first]
url = "{first}/v1"
auth = "none"
[backends.second]
url = "{second}/v1"
auth = "none"
[pools.chat]
members = [{{ backend = "first" }}, {{ backend = "second" }}]
[[token-metric]]
dimensions = [{{ name = "subscription_id" }}]
[[token-limit]]
name = "books"
counter-key = '"all"'
token-quota = {QUOTA}
token-quota-period = "yearly"
reserve-completion-tokens = true
remaining-quota-tokens-header-name = "x-left"
[[token-limit]]
name = "spent"
when = 'subscription.id == "spent"'
counter-key = 'subscription.id'
token-quota = 1
token-quota-period = "yearly"
"#,
        key = support::before::KEY,
        first = first.url(),
        second = second.url(),
    )
}

async fn simulator() -> Handle {
    let simulator = Simulator::start_default().await.unwrap();
    simulator.set(usual());
    simulator
}

fn usual() -> Behaviour {
    Behaviour {
        content: Content {
            prompt_tokens: Some(PROMPT),
            ..Content::default()
        },
        ..Behaviour::default()
    }
}

const MESSAGES: &str = r#""model":"gpt-4o","messages":[{"role":"user","content":"hi"}]"#;

/// One call of the mix: its path, its body, and how the backend shall behave.
fn call(number: usize) -> (&'static str, String, String) {
    let chat = "/v1/chat/completions";
    let tokens = number % 40 + 1;
    let well = format!(r#"{{"content":{{"tokens":{tokens},"prompt-tokens":{PROMPT}}}}}"#);
    let cut = |kind: &str| {
        // A role and one to four words, each of which is one token for the tokenizer too. A stream that breaks before
        // its first word is tried elsewhere and costs its caller nothing.
        let after = number / 10 % 4 + 2;
        format!(
            r#"{{"content":{{"tokens":20,"prompt-tokens":{PROMPT}}},"breakage":{{"kind":"{kind}","after":{after}}}}}"#
        )
    };
    let stream = format!(r#"{{"stream":true,{MESSAGES}}}"#);
    match number % 10 {
        0..3 => (chat, format!("{{{MESSAGES}}}"), well),
        3..6 => (chat, stream, well),
        6 => (
            chat,
            format!(r#"{{"stream":true,"stream_options":{{"include_usage":true}},{MESSAGES}}}"#),
            well,
        ),
        7 => (
            chat,
            stream,
            cut(if number % 20 < 10 { "cut" } else { "end" }),
        ),
        8 => (
            "/v1/embeddings",
            r#"{"model":"text-embedding-3-small","input":["hi","there"]}"#.into(),
            well,
        ),
        _ => (
            "/v1/responses",
            r#"{"model":"gpt-4o","input":"hi"}"#.into(),
            well,
        ),
    }
}

/// One caller's share of the calls, over one connection as long as that lasts. The statuses that it got.
fn work(gateway: &Gateway, next: &AtomicUsize) -> BTreeMap<u16, usize> {
    let mut statuses = BTreeMap::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= CALLS {
            return statuses;
        }
        let (path, body, behaviour) = call(number);
        let key = match number % 50 {
            49 => "key-of-nobody-with-tokens",
            _ => support::before::KEY,
        };
        // A failing backend is failed over only where the call says nothing of itself.
        let fields = [("api-key", key), ("x-simulator", behaviour.as_str())];
        let fields = match number % 3 {
            0 if number % 10 != 7 => &fields[..1],
            _ => &fields[..],
        };
        let answer = http::post(&format!("{}{path}", gateway.url), fields, &body);
        *statuses.entry(answer.status).or_default() += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_billed_is_what_is_settled_and_what_is_counted() {
    let (first, second) = (simulator().await, simulator().await);
    let gateway = Gateway::start(&config(&first, &second));
    let (next, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let statuses = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| scope.spawn(|| work(&gateway, &next)))
            .collect();
        scope.spawn(|| {
            // The first backend fails now and then, in bursts, while the others' calls go on.
            while !done.load(Ordering::Relaxed) {
                for code in [429, 500, 503] {
                    first.set(Behaviour::status(code).times(3));
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            }
        });
        let mut all = BTreeMap::new();
        for caller in callers {
            for (status, count) in caller.join().unwrap() {
                *all.entry(status).or_insert(0) += count;
            }
        }
        done.store(true, Ordering::Relaxed);
        all
    });
    let (bill, other) = (first.bill(), second.bill());
    let billed = bill.total_tokens + other.total_tokens;
    let counted = |name: &str| gateway.metric(name, &[]);
    println!(
        "{statuses:?}: {billed} tokens billed; retries {}, records {}",
        counted("tollgate_retries_total"),
        counted("tollgate_usage_records_total")
    );
    gateway.wait_for_metric("tollgate_requests_total", &[], CALLS as f64);
    assert_eq!(counted("tollgate_total_tokens_total"), billed as f64);
    let prompt = bill.prompt_tokens + other.prompt_tokens;
    assert_eq!(counted("tollgate_prompt_tokens_total"), prompt as f64);
    assert!(
        counted("tollgate_retries_total") > 0.0,
        "nothing failed over"
    );
    assert!(
        statuses[&403] > 0 && statuses[&200] > CALLS / 2,
        "{statuses:?}"
    );
    let cut = [("end", "upstream_cut"), ("source", "counted")];
    assert!(gateway.metric("tollgate_usage_records_total", &cut) > 0.0);
    // A refused call holds nothing; what is left is what was never used.
    let url = format!("{}/v1/chat/completions", gateway.url);
    let refused = http::post(
        &url,
        &[("api-key", "key-of-nobody-with-tokens")],
        &format!("{{{MESSAGES}}}"),
    );
    assert_eq!(refused.status, 403);
    assert_eq!(
        refused.header("x-left").unwrap().parse::<u64>().unwrap(),
        QUOTA - billed
    );
    assert_eq!(counted("tollgate_streams_open"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn hang_ups_agree_within_the_events_in_flight_and_leave_nothing_held() {
    const HANG_UPS: usize = 200;
    let simulator = simulator().await;
    simulator.set(
        Behaviour {
            content: Content {
                tokens: 40,
                prompt_tokens: Some(PROMPT),
                ..Content::default()
            },
            ..Behaviour::default()
        }
        .paced(0, 2),
    );
    let gateway = Gateway::start(&config(&simulator, &simulator));
    for number in 0..HANG_UPS {
        let mut caller = Caller::connect(&gateway.url);
        let body = format!(r#"{{"stream":true,{MESSAGES}}}"#);
        caller.post("/v1/chat/completions", "hang-up", body.as_bytes());
        caller.head();
        for _ in 0..number % 5 {
            caller.chunk().unwrap();
        }
        match number % 2 {
            0 => caller.close(),
            _ => caller.reset(),
        }
    }
    gateway.wait_for_metric("tollgate_requests_total", &[], HANG_UPS as f64);
    let billed = simulator.bill().total_tokens as f64;
    let counted = gateway.metric("tollgate_total_tokens_total", &[]);
    let gone = gateway.metric("tollgate_usage_records_total", &[("end", "client_gone")]);
    println!("{gone} hang-ups: {billed} tokens billed, {counted} counted");
    assert_eq!(gone, HANG_UPS as f64);
    // The simulator bills what it handed to its connection, which may be some events more than had come over it.
    let in_flight = 5.0 * HANG_UPS as f64;
    assert!(
        (billed - counted).abs() <= in_flight,
        "{billed} billed, {counted} counted"
    );
    let url = format!("{}/v1/chat/completions", gateway.url);
    let key = [("api-key", support::before::KEY)];
    let answer = http::post(&url, &key, &format!(r#"{{"max_tokens":1,{MESSAGES}}}"#));
    let left: u64 = answer.header("x-left").unwrap().parse().unwrap();
    assert_eq!(
        left,
        QUOTA - counted as u64 - PROMPT - 1,
        "something is held"
    );
}
