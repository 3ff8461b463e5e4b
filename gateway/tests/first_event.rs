//! A stream that begins badly: another backend makes it good as long as the caller has nothing, and what can't be made
//! good reaches the caller as the backend said it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use load_tests::simulator::behaviour::{BreakageKind, Chunking};
use load_tests::simulator::{Behaviour, Handle, Options, Simulator};
use support::caller::Caller;
use support::gateway::Gateway;
use support::http::Answer;
use support::{before, http, http2, reference};

const CHAT: &str = include_str!("../../filters/tests/streams/chat.txt");
const RESPONSES: &str = include_str!("../../filters/tests/streams/responses.txt");
const CHAT_CALL: &[u8] =
    br#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Say it."}]}"#;
const RESPONSE_CALL: &[u8] = br#"{"model":"gpt-4o","stream":true,"input":"Say it."}"#;
const RECORDS: &str = "tollgate_usage_records_total";
const RETRIES: &str = "tollgate_retries_total";
const TRIPS: &str = "tollgate_backend_trips_total";
const ATTEMPTS: &str = "tollgate_backend_attempts_total";

const OVERLOADED: &str =
    "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\",\"code\":null}}\n\n";
const THROTTLED: &str =
    "data: {\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"too much\"}}\n\n";
const FILTERED: &str = "data: {\"error\":{\"code\":\"content_filter\",\"status\":400,\"message\":\"The response was filtered\"}}\n\n";

/// A gateway before a pool of these simulators, in their order.
struct Setup {
    members: Vec<Handle>,
    gateway: Gateway,
}

impl Setup {
    async fn of(regions: &[&str]) -> Setup {
        let mut members = Vec::new();
        for region in regions {
            let options = Options {
                region: (*region).into(),
                ..Options::default()
            };
            members.push(Simulator::start(options).await.unwrap());
        }
        let gateway = Gateway::start(&config(&members));
        Setup { members, gateway }
    }

    fn plays(&self, member: usize, stream: impl Into<String>) {
        let played = Behaviour::playback(stream.into(), Chunking::Whole);
        self.members[member].set(played);
    }

    fn chat(&self) -> Answer {
        self.call("chat/completions", CHAT_CALL)
    }

    fn call(&self, operation: &str, body: &[u8]) -> Answer {
        let mut caller = Caller::connect(&self.gateway.url);
        caller.post(&before::openai(operation), "", body);
        caller.answer().unwrap()
    }

    fn asked(&self) -> Vec<usize> {
        let requests = |member: &Handle| member.requests().len();
        self.members.iter().map(requests).collect()
    }

    fn retries(&self, reason: &str) -> f64 {
        self.gateway.metric(RETRIES, &[("reason", reason)])
    }
}

fn config(members: &[Handle]) -> String {
    let mut text = format!(
        r#"
[server]
listen = "@LISTEN@"
h2c = "@H2C@"
admin = "@ADMIN@"
[apis.openai]
path = "/v1"
schema = "openai"
models = {{ "*" = "pool" }}
[subscriptions.team]
keys = ["{}"]
"#,
        before::KEY
    );
    let mut entries = String::new();
    for (number, member) in members.iter().enumerate() {
        let url = member.url();
        text += &format!(
            r#"
[backends.b{number}]
url = "{url}/v1"
auth = {{ bearer = "backend-key" }}
timeouts = {{ between-bytes = "1s" }}
[backends.b{number}.circuit-breaker]
failure-condition = {{ count = 1, interval = "60s", status-code-ranges = [[429, 429], [500, 599]], error-reasons = ["connect", "timeout", "reset"] }}
trip-duration = "60s"
"#
        );
        entries += &format!("{{ backend = \"b{number}\", priority = {} }}, ", number + 1);
    }
    text + &format!("[pools.pool]\nmembers = [{entries}]\n")
}

fn role() -> &'static str {
    reference::events(CHAT)[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_in_place_of_an_answer_is_made_good_by_another_backend() {
    let announced = reference::events(RESPONSES)[..2].concat();
    let failed = "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"server_error\",\"message\":\"x\"}}}\n\n";
    let named = "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"x\",\"param\":null}\n\n";
    let (chat, response) = (
        ("chat/completions", CHAT_CALL, CHAT),
        ("responses", RESPONSE_CALL, RESPONSES),
    );
    for (call, bad) in [
        (chat, OVERLOADED.to_owned()),
        (
            chat,
            format!(": ping\n\n{}{OVERLOADED}data: [DONE]\n\n", role()),
        ),
        (chat, "event: error\ndata: overloaded\n\n".to_owned()),
        (
            chat,
            "{\"error\":{\"code\":500,\"message\":\"no events\"}}".to_owned(),
        ),
        (response, failed.to_owned()),
        (response, format!("{announced}{failed}")),
        (response, format!("{announced}{named}")),
    ] {
        let setup = Setup::of(&["one", "two"]).await;
        let (operation, body, good) = call;
        setup.plays(0, bad.clone());
        setup.plays(1, good);
        for _ in 0..2 {
            let answer = setup.call(operation, body);
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, good),
                "{bad}"
            );
            assert_eq!(answer.header("x-ms-region"), Some("two"), "{bad}");
        }
        assert_eq!(setup.asked(), [1, 2], "its breaker opened: {bad}");
        let trips = [("backend", "b0"), ("reason", "status")];
        setup.gateway.wait_for_metric(TRIPS, &trips, 1.0);
        setup
            .gateway
            .wait_for_metric(RECORDS, &[("end", "complete")], 2.0);
        assert_eq!(setup.gateway.metric(RECORDS, &[]), 2.0, "one record a call");
        assert_eq!(setup.retries("first_event"), 1.0, "{bad}");
        let attempts = [("backend", "b0"), ("status", "5xx")];
        setup.gateway.wait_for_metric(ATTEMPTS, &attempts, 1.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_says_nothing_is_made_good_by_another_backend() {
    use BreakageKind::{Cut, End, Reset};
    for (begun, kind, after) in [
        (CHAT, End, 0),
        (CHAT, Cut, 0),
        (CHAT, Reset, 0),
        (CHAT, End, 1),
        (CHAT, Cut, 1),
        (RESPONSES, Cut, 2),
        (": ping\n\n", End, 1),
        ("data: [DONE]\n\n", End, 1),
    ] {
        let setup = Setup::of(&["one", "two"]).await;
        let (operation, body, good) = match begun == RESPONSES {
            true => ("responses", RESPONSE_CALL, RESPONSES),
            false => ("chat/completions", CHAT_CALL, CHAT),
        };
        setup.members[0].set(Behaviour {
            breakage: Behaviour::breaks(kind, Some(after)).breakage,
            ..Behaviour::playback(begun, Chunking::Events)
        });
        setup.plays(1, good);
        let answer = setup.call(operation, body);
        let how = format!("{kind:?} after {after} of {begun:.30}");
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, good),
            "{how}"
        );
        assert_eq!(setup.asked(), [1, 1], "{how}");
        assert_eq!(setup.retries("first_event"), 1.0, "{how}");
        let trips = [("backend", "b0"), ("reason", "reset")];
        setup.gateway.wait_for_metric(TRIPS, &trips, 1.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_falls_silent_before_its_first_event_has_timed_out() {
    let setup = Setup::of(&["one", "two"]).await;
    setup.members[0].set(Behaviour {
        breakage: Behaviour::breaks(BreakageKind::Hang, Some(0)).breakage,
        ..Behaviour::playback(CHAT, Chunking::Events)
    });
    setup.plays(1, CHAT);
    assert_eq!(setup.chat().text(), CHAT);
    assert_eq!(setup.retries("timeout"), 1.0);
    let trips = [("backend", "b0"), ("reason", "timeout")];
    setup.gateway.wait_for_metric(TRIPS, &trips, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_stream_is_a_429() {
    let setup = Setup::of(&["one", "two"]).await;
    setup.plays(0, format!("{}{THROTTLED}", role()));
    setup.plays(1, CHAT);
    assert_eq!(setup.chat().text(), CHAT);
    let trips = [("backend", "b0"), ("reason", "throttled")];
    setup.gateway.wait_for_metric(TRIPS, &trips, 1.0);
    assert_eq!(setup.retries("throttled"), 1.0);
    let attempts = [("backend", "b0"), ("status", "429")];
    setup.gateway.wait_for_metric(ATTEMPTS, &attempts, 1.0);

    setup.plays(1, THROTTLED);
    let answer = setup.chat();
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (429, "backends_throttled")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_caller_did_wrong_passes_on_and_trips_nothing() {
    let setup = Setup::of(&["one", "two"]).await;
    let too_long = "data: {\"error\":{\"code\":\"context_length_exceeded\",\"type\":\"invalid_request_error\",\"message\":\"x\"}}\n\n";
    for stream in [
        FILTERED.to_owned(),
        format!("{}{FILTERED}data: [DONE]\n\n", role()),
        too_long.to_owned(),
    ] {
        setup.plays(0, stream.clone());
        let answer = setup.chat();
        assert_eq!((answer.status, answer.text()), (200, stream));
    }
    assert_eq!(setup.asked(), [3, 0]);
    setup
        .gateway
        .wait_for_metric(RECORDS, &[("end", "complete")], 3.0);
    assert_eq!(setup.gateway.metric(TRIPS, &[]), 0.0);
    assert_eq!(setup.gateway.metric(RETRIES, &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_error_reaches_the_caller_as_it_came() {
    let setup = Setup::of(&["one", "two"]).await;
    setup.plays(0, OVERLOADED);
    let last = format!(": ping\n\n{}{OVERLOADED}data: [DONE]\n\n", role());
    setup.plays(1, last.clone());
    let answer = setup.chat();
    assert_eq!((answer.status, answer.text()), (200, last));
    assert_eq!(answer.header("x-ms-region"), Some("two"));
    let unused = [("source", "none"), ("end", "complete")];
    setup.gateway.wait_for_metric(RECORDS, &unused, 1.0);
    for backend in ["b0", "b1"] {
        let trips = [("backend", backend), ("reason", "status")];
        setup.gateway.wait_for_metric(TRIPS, &trips, 1.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_member_speaks_for_itself() {
    for error in [OVERLOADED, THROTTLED] {
        let setup = Setup::of(&["one"]).await;
        let stream = format!("{}{error}", role());
        setup.plays(0, stream.clone());
        let mut caller = http2::Caller::connect(&setup.gateway.h2c_url).await;
        let path = before::openai("chat/completions");
        let answer = caller.post(&path, "", CHAT_CALL).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(http2::body(answer).await.unwrap(), stream.as_bytes());
        setup
            .gateway
            .wait_for_metric(TRIPS, &[("backend", "b0")], 1.0);
    }
    let setup = Setup::of(&["one"]).await;
    setup.plays(0, "");
    let answer = setup.chat();
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "no_backend_available")
    );
    setup
        .gateway
        .wait_for_metric(ATTEMPTS, &[("status", "reset")], 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn comments_of_a_slow_model_arrive_before_its_first_token() {
    let setup = Setup::of(&["one", "two"]).await;
    let stream = format!(": one\n\n: two\n\n{CHAT}");
    let gated = Behaviour::playback(stream.clone(), Chunking::Events).with_gate();
    setup.members[0].set(gated);
    let mut caller = Caller::connect(&setup.gateway.url);
    caller.post(&before::openai("chat/completions"), "", CHAT_CALL);
    assert_eq!(caller.head().0, 200);
    for (number, event) in reference::events(&stream)[..4].iter().enumerate() {
        assert_eq!(caller.chunk().unwrap(), event.as_bytes());
        let record = &setup.members[0].requests()[0];
        assert_eq!(record.answer.events_sent, number + 1);
        setup.members[0].gate().release(1);
    }
    setup.members[0].gate().open();
    caller.read_until(b"[DONE]\n\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_could_take_over_nothing_is_held() {
    // Had the role been held until something followed it, the caller would have got a refusal.
    let begun = Behaviour::playback(role(), Chunking::Events);
    let setup = Setup::of(&["one"]).await;
    setup.members[0].set(begun.clone());
    let answer = setup.chat();
    assert_eq!(answer.status, 200);
    let text = answer.text();
    let rest = text.strip_prefix(role()).unwrap();
    assert!(rest.starts_with("data: {\"error\":"), "{text}");
    let setup = Setup::of(&["one", "two"]).await;
    setup.members[0].set(begun);
    setup.plays(1, CHAT);
    assert_eq!(setup.chat().text(), CHAT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_token_leaves_with_what_was_held_before_it() {
    let setup = Setup::of(&["one", "two"]).await;
    let events = reference::events(CHAT);
    let stream = format!(": ping\n\n{CHAT}");
    let begun = format!(": ping\n\n{}", events[..2].concat());
    let sizes = Chunking::Sizes(vec![begun.len(), stream.len()]);
    setup.members[0].set(Behaviour::playback(stream, sizes).with_gate());
    let mut caller = Caller::connect(&setup.gateway.url);
    caller.post(&before::openai("chat/completions"), "", CHAT_CALL);
    assert_eq!(caller.head().0, 200);
    assert_eq!(caller.chunk().unwrap(), begun.as_bytes());
    setup.members[0].gate().open();
    caller.read_until(b"[DONE]\n\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_after_the_first_token_reaches_the_caller_and_the_breaker() {
    let setup = Setup::of(&["one", "two"]).await;
    let stream = format!("{}{OVERLOADED}", reference::events(CHAT)[..2].concat());
    setup.plays(0, stream.clone());
    setup.plays(1, CHAT);
    let answer = setup.chat();
    assert_eq!((answer.status, answer.text()), (200, stream));
    let trips = [("backend", "b0"), ("reason", "status")];
    setup.gateway.wait_for_metric(TRIPS, &trips, 1.0);
    assert_eq!(setup.gateway.metric(RETRIES, &[]), 0.0);
    assert_eq!(setup.chat().text(), CHAT);
    let ready = http::get(&format!("{}/readyz", setup.gateway.admin_url));
    assert_eq!(ready.status, 200);
}
