//! Pools, breakers and retries: callers don't see what another backend can make good, and a backend that asks to
//! be left alone is left alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::io::{Read, Write};

use load_tests::simulator::behaviour::BreakageKind;
use load_tests::simulator::{Behaviour, Handle, Options, Simulator};
use support::backend::{After, Backend};
use support::gateway::Gateway;
use support::http::{self, Answer};

const CALL: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;
const KEY: (&str, &str) = ("api-key", "key-of-the-failover-test");

/// A backend, its place in the pool, and the lines of its breaker.
struct Member<'a> {
    url: &'a str,
    place: &'a str,
    breaker: &'a str,
}

const FOLLOWS: &str = r#"failure-condition = { count = 1, interval = "60s", status-code-ranges = [[429, 429], [500, 599]], error-reasons = ["connect", "timeout", "reset"] }
trip-duration = "60s"
accept-retry-after = true
max-retry-after = "10m"
"#;

fn config(members: &[Member<'_>]) -> String {
    let mut text = String::from(
        r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
[apis.openai]
path = "/v1"
schema = "openai"
models = { "gpt-4o" = "chat" }
[subscriptions.team]
keys = ["key-of-the-failover-test"]
"#,
    );
    let mut entries = String::new();
    for (number, member) in members.iter().enumerate() {
        let (url, place, breaker) = (member.url, member.place, member.breaker);
        text += &format!(
            "[backends.b{number}]\nurl = \"{url}/v1\"\nauth = {{ bearer = \"backend-key\" }}\n"
        );
        text += "timeouts = { connect = \"2s\", first-byte = \"20s\", between-bytes = \"20s\" }\n";
        if !breaker.is_empty() {
            text += &format!("[backends.b{number}.circuit-breaker]\n{breaker}");
        }
        entries += &format!("{{ backend = \"b{number}\", {place} }}, ");
    }
    text + &format!("[pools.chat]\nmembers = [{entries}]\n")
}

async fn simulator(region: &str) -> Handle {
    let options = Options {
        region: region.into(),
        ..Options::default()
    };
    Simulator::start(options).await.unwrap()
}

fn call(gateway: &Gateway) -> Answer {
    call_with(gateway, CALL)
}

fn call_with(gateway: &Gateway, body: &str) -> Answer {
    let url = format!("{}/v1/chat/completions", gateway.url);
    http::post(&url, &[KEY], body)
}

fn pair(first: &Handle, second: &Handle, breaker: &str) -> Gateway {
    let (first, second) = (first.url(), second.url());
    Gateway::start(&config(&[
        Member {
            url: &first,
            place: "priority = 1",
            breaker,
        },
        Member {
            url: &second,
            place: "priority = 2",
            breaker,
        },
    ]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_backend_is_left_alone_and_the_next_priority_serves() {
    let (first, second) = (simulator("one").await, simulator("two").await);
    let gateway = pair(&first, &second, FOLLOWS);
    assert_eq!(call(&gateway).header("x-ms-region"), Some("one"));
    first.set(Behaviour::throttled(300));
    for _ in 0..5 {
        let answer = call(&gateway);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-ms-region"), Some("two"));
    }
    assert_eq!(
        first.requests().len(),
        2,
        "asked once after it said to wait"
    );
    let trips = [("backend", "b0"), ("reason", "throttled")];
    gateway.wait_for_metric("tollgate_backend_trips_total", &trips, 1.0);
    assert_eq!(
        gateway.metric("tollgate_retries_total", &[("pool", "chat")]),
        1.0
    );
    assert_eq!(
        gateway.metric("tollgate_backend_state", &[("backend", "b0")]),
        1.0
    );
    let status = http::get(&format!("{}/status", gateway.admin_url)).json();
    let backend = &status["backends"][0];
    assert_eq!(
        (backend["state"].as_str(), backend["reason"].as_str()),
        (Some("open"), Some("throttled"))
    );
    let left = backend["closes_at"].as_u64().unwrap() - status["time"].as_u64().unwrap();
    assert!((290..=301).contains(&left), "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_comes_back_is_probed_and_used_again() {
    let (first, second) = (simulator("one").await, simulator("two").await);
    let gateway = pair(&first, &second, FOLLOWS);
    first.set(Behaviour::throttled(1).times(1));
    assert_eq!(call(&gateway).header("x-ms-region"), Some("two"));
    gateway.wait_for_metric("tollgate_backend_state", &[("backend", "b0")], 2.0);
    assert_eq!(call(&gateway).header("x-ms-region"), Some("one"));
    gateway.wait_for_metric("tollgate_backend_state", &[("backend", "b0")], 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_that_another_backend_can_make_good_is_made_good() {
    let (first, second) = (simulator("one").await, simulator("two").await);
    let gateway = pair(&first, &second, "");
    let failures = [
        // First: on a connection from the pool it would be a stale one, and tried again there.
        Behaviour::reset(),
        Behaviour::status(408),
        Behaviour::status(429),
        Behaviour::status(500),
        Behaviour::status(503),
        Behaviour::breaks(BreakageKind::Cut, Some(0)),
    ];
    for (number, failure) in failures.into_iter().enumerate() {
        first.set(failure.times(1));
        let answer = call(&gateway);
        assert_eq!(answer.status, 200, "{number}: {}", answer.text());
        assert_eq!(answer.header("x-ms-region"), Some("two"), "{number}");
    }
    first.stop().await;
    assert_eq!(call(&gateway).header("x-ms-region"), Some("two"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_caller_did_wrong_is_passed_on_at_once_and_trips_nothing() {
    let (first, second) = (simulator("one").await, simulator("two").await);
    let gateway = pair(&first, &second, FOLLOWS);
    for status in [400, 404, 413, 422] {
        first.set(Behaviour::status(status).times(1));
        assert_eq!(call(&gateway).status, status);
    }
    assert_eq!(call(&gateway).header("x-ms-region"), Some("one"));
    assert_eq!(second.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_credential_of_ours_is_told_and_trips_its_backend() {
    let (first, second) = (simulator("one").await, simulator("two").await);
    let gateway = pair(&first, &second, FOLLOWS);
    first.set(Behaviour::status(401).times(1));
    assert_eq!(call(&gateway).status, 401, "never tried again");
    gateway.wait_for_log("the backend refused our credential");
    let trips = [("backend", "b0"), ("reason", "credential")];
    gateway.wait_for_metric("tollgate_backend_trips_total", &trips, 1.0);
    assert_eq!(call(&gateway).header("x-ms-region"), Some("two"));
}

#[test]
fn an_answer_that_falls_silent_in_its_body_has_timed_out() {
    let silent = Backend::start(|_, stream| {
        stream.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{",
        )?;
        let _until_the_gateway_leaves = stream.read(&mut [0]);
        Ok(After::Close)
    });
    let place = "priority = 1";
    let (url, breaker) = (silent.url.as_str(), FOLLOWS);
    let config = config(&[Member {
        url,
        place,
        breaker,
    }]);
    let gateway =
        Gateway::start(&config.replace("between-bytes = \"20s\"", "between-bytes = \"200ms\""));
    let answer = call(&gateway);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (504, "backend_timeout")
    );
    for (name, label) in [
        ("tollgate_backend_attempts_total", ("status", "timeout")),
        ("tollgate_backend_trips_total", ("reason", "timeout")),
    ] {
        gateway.wait_for_metric(name, &[label], 1.0);
    }
}

#[test]
fn who_leaves_while_a_refusal_is_read_out_is_tried_nowhere_else() {
    let (say, told) = std::sync::mpsc::channel::<()>();
    let (said, hears) = std::sync::mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    let first = Backend::start(move |_, stream| {
        told.lock().unwrap().recv().unwrap();
        stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 9\r\n\r\n{")?;
        said.send(()).unwrap();
        let _until_the_gateway_leaves = stream.read(&mut [0]);
        Ok(After::Close)
    });
    let second = Backend::fixed(200, &[("content-type", "application/json")], "{}");
    let gateway = Gateway::start(&config(&[
        Member {
            url: &first.url,
            place: "priority = 1",
            breaker: FOLLOWS,
        },
        Member {
            url: &second.url,
            place: "priority = 2",
            breaker: FOLLOWS,
        },
    ]));
    let mut caller = http::connect(&gateway.url["http://".len()..]).unwrap();
    let (key, length) = (KEY.1, CALL.len());
    write!(caller, "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\napi-key: {key}\r\ncontent-length: {length}\r\n\r\n{CALL}").unwrap();
    first.wait_for(1);
    // Stopped, so that it learns of the refusal and of the caller's leaving at once.
    gateway.signal("STOP");
    say.send(()).unwrap();
    hears.recv().unwrap();
    caller.shutdown(std::net::Shutdown::Both).unwrap();
    gateway.signal("CONT");
    gateway.wait_for_metric("tollgate_requests_total", &[("status", "499")], 1.0);
    assert!(second.received().is_empty());
    let trip = [("backend", "b0"), ("reason", "status")];
    gateway.wait_for_metric("tollgate_backend_trips_total", &trip, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_arrives_unchanged_at_the_second_backend() {
    let (first, second) = (simulator("one").await, simulator("two").await);
    let gateway = pair(&first, &second, "");
    first.set(Behaviour::status(500));
    let long = CALL.replace("hi", &"x".repeat(5_000_000));
    assert_eq!(call_with(&gateway, &long).status, 200);
    let (failed, served) = (first.requests(), second.requests());
    assert_eq!(failed[0].body.length, long.len() as u64);
    assert_eq!(failed[0].body.sha256, served[0].body.sha256);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_throttled_is_429_with_the_soonest_time_and_all_failed_is_503() {
    let (first, second) = (simulator("one").await, simulator("two").await);
    let gateway = pair(&first, &second, FOLLOWS);
    first.set(Behaviour::throttled(50));
    second.set(Behaviour::throttled(20));
    for _ in 0..2 {
        let answer = call(&gateway);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (429, "backends_throttled")
        );
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((15..=20).contains(&wait), "{wait}");
    }
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
    assert_eq!(
        http::get(&format!("{}/readyz", gateway.admin_url)).status,
        503
    );

    let (first, second) = (simulator("one").await, simulator("two").await);
    let gateway = pair(&first, &second, "");
    first.set(Behaviour::status(500));
    second.set(Behaviour::status(502));
    let answer = call(&gateway);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "no_backend_available")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_give_exact_shares_and_a_worse_priority_gets_nothing() {
    let handles = [
        simulator("a").await,
        simulator("b").await,
        simulator("c").await,
    ];
    let urls: Vec<String> = handles.iter().map(Handle::url).collect();
    let gateway = Gateway::start(&config(&[
        Member {
            url: &urls[0],
            place: "priority = 1, weight = 3",
            breaker: "",
        },
        Member {
            url: &urls[1],
            place: "priority = 1, weight = 1",
            breaker: "",
        },
        Member {
            url: &urls[2],
            place: "priority = 2",
            breaker: "",
        },
    ]));
    for _ in 0..40 {
        assert_eq!(call(&gateway).status, 200);
    }
    let counts: Vec<usize> = handles
        .iter()
        .map(|handle| handle.requests().len())
        .collect();
    assert_eq!(counts, [30, 10, 0]);
}

/// An answer that says what is left of its backend's quota.
fn with_left(tokens: &str, reset: &str) -> Behaviour {
    let headers = [
        ("x-ratelimit-remaining-tokens", tokens),
        ("x-ratelimit-reset-tokens", reset),
    ];
    let body =
        r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
    Behaviour::answer(200, &headers, Some(body))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_without_room_is_passed_over_before_it_has_to_say_so() {
    let (first, second) = (simulator("one").await, simulator("two").await);
    let gateway = pair(&first, &second, "");
    first.set(with_left("1000", "40s"));
    assert_eq!(call(&gateway).header("x-ms-region"), Some("one"));
    let large = CALL.replace("{\"model\"", "{\"max_tokens\":5000,\"model\"");
    for _ in 0..3 {
        let answer = call_with(&gateway, &large);
        assert_eq!(
            (answer.status, answer.header("x-ms-region")),
            (200, Some("two"))
        );
    }
    let status = http::get(&format!("{}/status", gateway.admin_url)).json();
    let backend = &status["backends"][0];
    assert_eq!(backend["state"], "closed");
    assert_eq!(backend["remaining_tokens"], 1000);
    assert_eq!(backend["unavailable"]["reason"], "quota");
    let until = backend["unavailable"]["until"].as_u64().unwrap();
    let left = until - status["time"].as_u64().unwrap();
    assert!((25..=41).contains(&left), "{left}");
    assert_eq!(status["backends"][1].get("unavailable"), None);

    // What is small still fits, and what was sent is taken off until the next answer says more.
    assert_eq!(call(&gateway).header("x-ms-region"), Some("one"));
    assert_eq!(first.requests().len(), 2);
    assert_eq!(gateway.metric("tollgate_retries_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_reset_a_backend_is_used_again() {
    let (first, second) = (simulator("one").await, simulator("two").await);
    let gateway = pair(&first, &second, "");
    first.set(with_left("0", "1s").times(1));
    assert_eq!(call(&gateway).header("x-ms-region"), Some("one"));
    support::wait_until("the quota is reset", || {
        let answer = call(&gateway);
        assert_eq!(answer.status, 200);
        (answer.header("x-ms-region") == Some("one")).then_some(())
    });
    assert!(
        !second.requests().is_empty(),
        "nobody went elsewhere meanwhile"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_refused_because_no_backend_says_that_it_has_room() {
    let (first, second) = (simulator("one").await, simulator("two").await);
    let gateway = pair(&first, &second, FOLLOWS);
    first.set(with_left("0", "60s"));
    second.set(with_left("0", "60s"));
    for region in ["one", "two"] {
        assert_eq!(call(&gateway).header("x-ms-region"), Some(region));
    }
    // Now both have said so, and it is as if neither had.
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let answer = call(&gateway);
                assert_eq!(answer.status, 200);
                assert_eq!(answer.header("x-ms-region"), Some("one"));
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_not_multiplied_by_retries() {
    let (first, second) = (simulator("one").await, simulator("two").await);
    let gateway = pair(&first, &second, "");
    first.set(Behaviour::status(500));
    second.set(Behaviour::status(500));
    let requests = 600;
    let began = std::time::Instant::now();
    for _ in 0..requests {
        // 503 after a failover; the backend's own 500 where there was no budget for one.
        assert!([500, 503].contains(&call(&gateway).status));
    }
    let retries = gateway.metric("tollgate_retries_total", &[("pool", "chat")]);
    let attempts = (first.requests().len() + second.requests().len()) as f64;
    assert_eq!(attempts, requests as f64 + retries);
    // A fifth of the requests, ten a second, and a reserve of a hundred.
    let seconds = began.elapsed().as_secs_f64() + 1.0;
    let budget = 0.2 * requests as f64 + 10.0 * seconds + 100.0;
    assert!(retries <= budget, "{retries} retries, {budget} afforded");
}
