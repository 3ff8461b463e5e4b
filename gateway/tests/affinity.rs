//! Requests that belong to one backend: by the cookie of a session, or by the id of what a backend holds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "the server can do more than these tests need")]

#[path = "support/support.rs"]
mod support;

#[path = "limit_store/server.rs"]
mod server;

use load_tests::simulator::{Behaviour, Handle, Options, Simulator};
use server::Server;
use support::gateway::Gateway;
use support::http::{self, Answer};
use support::wait_until;

const CALL: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;
const RESPOND: &str = r#"{"model":"gpt-4o","input":"hi"}"#;
const KEY: (&str, &str) = ("api-key", "key-of-the-affinity-test");
const COOKIE: &str = "session-affinity = { cookie = \"SessionId\" }\n";

/// Two equal backends; `pool` are more lines of their pool, `more` more tables.
fn config(pair: &[Handle; 2], pool: &str, more: &str) -> String {
    let [one, two] = pair.each_ref().map(Handle::url);
    let breaker = r#"failure-condition = { count = 1, interval = "60s", status-code-ranges = [[429, 429], [500, 500]] }
trip-duration = "60s"
accept-retry-after = true
max-retry-after = "10m""#;
    format!(
        r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
max-request-body = "64KiB"
[apis.openai]
path = "/v1"
schema = "openai"
models = {{ "gpt-4o" = "chat" }}
default-pool = "chat"
[subscriptions.team]
keys = ["key-of-the-affinity-test"]
[backends.one]
url = "{one}/v1"
auth = {{ bearer = "key-of-backend-one" }}
[backends.one.circuit-breaker]
{breaker}
[backends.two]
url = "{two}/v1"
auth = {{ bearer = "key-of-backend-two" }}
[backends.two.circuit-breaker]
{breaker}
[pools.chat]
members = [{{ backend = "one" }}, {{ backend = "two" }}]
{pool}
{more}
"#
    )
}

/// Two simulators whose ids differ.
async fn pair() -> [Handle; 2] {
    let start = async |region: &str| {
        let options = Options {
            region: region.into(),
            ..Options::default()
        };
        Simulator::start(options).await.unwrap()
    };
    let pair = [start("one").await, start("two").await];
    for _ in 0..100 {
        assert_eq!(
            http::get(&format!("{}/v1/models", pair[1].url())).status,
            200
        );
    }
    pair[1].clear();
    pair
}

fn region(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-ms-region").unwrap().to_owned()
}

/// The simulator that has this region, and the other.
fn by_region<'a>(pair: &'a [Handle; 2], region: &str) -> (&'a Handle, &'a Handle) {
    match region {
        "one" => (&pair[0], &pair[1]),
        _ => (&pair[1], &pair[0]),
    }
}

fn chat(gateway: &Gateway, cookie: Option<&str>) -> Answer {
    let url = format!("{}/v1/chat/completions", gateway.url);
    let cookie = cookie.map(|cookie| ("cookie", cookie));
    let headers: Vec<_> = [KEY].into_iter().chain(cookie).collect();
    http::post(&url, &headers, CALL)
}

/// The cookie that an answer sets, as a caller sends it back.
fn set(answer: &Answer) -> String {
    let field = answer.header("set-cookie").unwrap();
    let (pair, attributes) = field.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax");
    assert!(pair.starts_with("SessionId="), "{pair}");
    pair.to_owned()
}

fn respond(gateway: &Gateway, body: &str) -> Answer {
    http::post(&format!("{}/v1/responses", gateway.url), &[KEY], body)
}

fn after(id: &str) -> String {
    RESPOND.replace("{\"", &format!("{{\"previous_response_id\":\"{id}\",\""))
}

fn get(gateway: &Gateway, path: &str) -> Answer {
    let url = format!("{}/v1/{path}", gateway.url);
    http::request("GET", &url, &[KEY], b"").unwrap()
}

fn id(answer: &Answer) -> String {
    answer.json()["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stays_with_its_backend_and_its_cookie_stays_here() {
    let pair = pair().await;
    let gateway = Gateway::start(&config(&pair, COOKIE, ""));
    let answers = [chat(&gateway, None), chat(&gateway, None)];
    assert_ne!(region(&answers[0]), region(&answers[1]));
    assert_ne!(set(&answers[0]), set(&answers[1]));
    for first in &answers {
        let cookie = format!("theme=dark; {}; other=1", set(first));
        for _ in 0..5 {
            let answer = chat(&gateway, Some(&cookie));
            assert_eq!(region(&answer), region(first));
            assert_eq!(answer.header("set-cookie"), None);
        }
    }
    // A backend's own of that name would put an end to it.
    let theirs = [("set-cookie", "SessionId=theirs; Path=/")];
    let (own, _other) = by_region(&pair, &region(&answers[0]));
    own.set(Behaviour::answer(200, &theirs, Some("{\"choices\":[]}")));
    let answer = chat(&gateway, Some(&set(&answers[0])));
    assert_eq!(region(&answer), region(&answers[0]));
    assert_eq!(answer.header("set-cookie"), None);
    for record in pair.iter().flat_map(Handle::requests) {
        assert!(!record.headers.contains_key("cookie"), "{record:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_cookie_is_as_none() {
    let pair = pair().await;
    let gateway = Gateway::start(&config(&pair, COOKIE, ""));
    let mut regions: Vec<String> = Vec::new();
    for forged in [
        "SessionId=one",
        "SessionId=AAAAAAAAAAAAAAAAAAAAAA",
        "SessionId=",
    ] {
        for _ in 0..2 {
            let answer = chat(&gateway, Some(forged));
            regions.push(region(&answer));
            set(&answer);
        }
    }
    assert_eq!(regions.iter().filter(|region| *region == "one").count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_moves_when_its_breaker_opens_and_not_for_one_failed_attempt() {
    let pair = pair().await;
    let gateway = Gateway::start(&config(&pair, COOKIE, ""));
    let first = chat(&gateway, None);
    let (cookie, home) = (set(&first), region(&first));
    let (own, _other) = by_region(&pair, &home);

    // 503 isn't among what trips.
    own.set(Behaviour::status(503).times(1));
    let elsewhere = chat(&gateway, Some(&cookie));
    assert_ne!(region(&elsewhere), home);
    assert_eq!(elsewhere.header("set-cookie"), None);
    assert_eq!(region(&chat(&gateway, Some(&cookie))), home);

    own.set(Behaviour::status(500).times(1));
    let moved = chat(&gateway, Some(&cookie));
    assert_ne!(region(&moved), home);
    let moved = set(&moved);
    assert_ne!(moved, cookie);
    for _ in 0..3 {
        let answer = chat(&gateway, Some(&moved));
        assert_ne!(region(&answer), home);
        assert_eq!(answer.header("set-cookie"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_and_reloads_with_the_same_credentials_honour_a_cookie() {
    let pair = pair().await;
    let gateway = Gateway::start(&config(&pair, COOKIE, ""));
    let first = chat(&gateway, None);
    let (cookie, home) = (set(&first), region(&first));
    let more = "[subscriptions.other]\nkeys = [\"another-key-of-the-test\"]\n";
    gateway.rewrite(&config(&pair, COOKIE, more));
    gateway.signal("HUP");
    gateway.wait_for_metric("tollgate_config_reloads_total", &[("result", "ok")], 1.0);
    let replica = Gateway::start(&config(&pair, COOKIE, ""));
    let strange = config(&pair, COOKIE, "").replace("key-of-backend", "new-key-of-backend");
    let strange = Gateway::start(&strange);
    for _ in 0..4 {
        assert_eq!(region(&chat(&gateway, Some(&cookie))), home);
        assert_eq!(region(&chat(&replica, Some(&cookie))), home);
        set(&chat(&strange, Some(&cookie)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_affinity_no_cookie_is_set_and_an_upload_that_is_carried_gets_one() {
    let pair = pair().await;
    let without = Gateway::start(&config(&pair, "", ""));
    assert_eq!(chat(&without, None).header("set-cookie"), None);
    let gateway = Gateway::start(&config(&pair, COOKIE, ""));
    let url = format!("{}/v1/files", gateway.url);
    let large = vec![b'x'; 100_000];
    let upload = |headers: &[(&str, &str)]| http::request("POST", &url, headers, &large).unwrap();
    let first = upload(&[KEY]);
    let (cookie, home) = (set(&first), region(&first));
    for _ in 0..3 {
        let answer = upload(&[KEY, ("cookie", &cookie)]);
        assert_eq!(region(&answer), home);
        assert_eq!(answer.header("set-cookie"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_is_asked_of_the_backend_that_made_it() {
    let pair = pair().await;
    let gateway = Gateway::start(&config(&pair, "", ""));
    for body in [RESPOND, &RESPOND.replace("{\"", "{\"stream\":true,\"")] {
        let first = respond(&gateway, body);
        let home = region(&first);
        let id = match body.contains("stream") {
            false => id(&first),
            true => {
                let text = first.text();
                let at = text.find("\"id\":\"resp_").unwrap() + 6;
                text[at..].split('"').next().unwrap().to_owned()
            }
        };
        for _ in 0..3 {
            assert_eq!(region(&respond(&gateway, &after(&id))), home);
            let stored = get(&gateway, &format!("responses/{id}"));
            assert_eq!(
                (region(&stored), self::id(&stored)),
                (home.clone(), id.clone())
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_holder_is_throttled_its_429_is_the_answer() {
    let pair = pair().await;
    let gateway = Gateway::start(&config(&pair, "", ""));
    let first = respond(&gateway, RESPOND);
    let (home, id) = (region(&first), id(&first));
    let (own, other) = by_region(&pair, &home);
    own.set(Behaviour::throttled(50).times(1));
    other.clear();
    let codes: Vec<String> = (0..3)
        .map(|_| {
            let answer = respond(&gateway, &after(&id));
            assert_eq!(answer.status, 429);
            let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((35..=50).contains(&wait), "{wait}");
            answer.code()
        })
        .collect();
    assert_eq!(codes, ["429", "backends_throttled", "backends_throttled"]);
    assert_eq!(get(&gateway, &format!("responses/{id}")).status, 429);
    assert_eq!(other.requests().len(), 0);
    // What names nothing is served.
    assert_ne!(region(&respond(&gateway, RESPOND)), home);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_holder_is_down_the_answer_is_503_and_nobody_else_is_asked() {
    let pair = pair().await;
    let gateway = Gateway::start(&config(&pair, "", ""));
    let first = respond(&gateway, RESPOND);
    let (home, id) = (region(&first), id(&first));
    let (own, other) = by_region(&pair, &home);
    own.stop().await;
    other.clear();
    for _ in 0..2 {
        let answer = respond(&gateway, &after(&id));
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (503, "no_backend_available")
        );
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(other.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_id_is_balanced_until_a_backend_knows_it() {
    let pair = pair().await;
    let gateway = Gateway::start(&config(&pair, "", ""));
    let home = region(&respond(&gateway, RESPOND));
    let (own, _other) = by_region(&pair, &home);
    let made = respond(&gateway, RESPOND);
    let (home, made) = (region(&made), id(&made));
    assert_ne!(own.url(), by_region(&pair, &home).0.url());

    // A replica, or this one after a restart, hasn't seen it made.
    let replica = Gateway::start(&config(&pair, "", ""));
    let path = format!("responses/{made}");
    let mut tries = [get(&replica, &path).status, get(&replica, &path).status];
    tries.sort_unstable();
    assert!(tries == [200, 404] || tries == [200, 200], "{tries:?}");
    for _ in 0..4 {
        assert_eq!(region(&get(&replica, &path)), home);
    }
    pair.iter().for_each(Handle::clear);
    for _ in 0..4 {
        assert_eq!(get(&replica, "responses/resp_nobody0").status, 404);
    }
    assert_eq!(
        pair.each_ref().map(|handle| handle.requests().len()),
        [2, 2]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_threads_are_asked_of_the_backend_that_made_them() {
    let pair = pair().await;
    let gateway = Gateway::start(&config(&pair, "", ""));
    for (name, handle) in ["one", "two"].iter().zip(&pair) {
        for kind in ["files", "threads"] {
            let body = format!("{{\"id\":\"{kind}-{name}1\"}}");
            handle.set(Behaviour::answer(200, &[], Some(&body)).on_path(kind));
        }
    }
    for kind in ["files", "threads"] {
        for _ in 0..2 {
            let url = format!("{}/v1/{kind}", gateway.url);
            let made = http::post(&url, &[KEY], "{}");
            let (home, id) = (region(&made), id(&made));
            for path in [format!("{kind}/{id}"), format!("{kind}/{id}/parts")] {
                for _ in 0..3 {
                    assert_eq!(region(&get(&gateway, &path)), home, "{path}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_of_a_file_is_made_where_that_is_and_what_an_answer_names_is_found() {
    let pair = pair().await;
    let gateway = Gateway::start(&config(&pair, "", ""));
    for (name, handle) in ["one", "two"].iter().zip(&pair) {
        for (path, body) in [
            ("/files", format!(r#"{{"id":"file-{name}1"}}"#)),
            (
                "/batches",
                format!(r#"{{"id":"batch-{name}1","output_file_id":"file-{name}2"}}"#),
            ),
            (
                "/threads",
                format!(r#"{{"id":"run-{name}1","thread_id":"thread-{name}1"}}"#),
            ),
        ] {
            handle.set(Behaviour::answer(200, &[], Some(&body)).on_path(path));
        }
    }
    let post = |path: &str, body: &str| {
        let answer = http::post(&format!("{}/v1/{path}", gateway.url), &[KEY], body);
        region(&answer)
    };
    for _ in 0..4 {
        let home = post("files", "{}");
        let file = format!("file-{home}1");
        let batch = format!(r#"{{"input_file_id":"{file}","endpoint":"/v1/responses"}}"#);
        assert_eq!(post("batches", &batch), home);
        let content = format!("files/file-{home}2/content");
        assert_eq!(region(&get(&gateway, &content)), home);
        let input = format!(
            r#"[{{"role":"user","content":[{{"type":"input_file","file_id":"{file}"}}]}}]"#
        );
        let response = format!(r#"{{"model":"gpt-4o","input":{input}}}"#);
        assert_eq!(post("responses", &response), home);
        let run = post("threads/runs", r#"{"assistant_id":"asst-of-nobody1"}"#);
        let messages = format!("threads/thread-{run}1/messages");
        assert_eq!(region(&get(&gateway, &messages)), run);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_made_through_one_replica_is_found_through_another() {
    let (pair, mut server) = (pair().await, Server::start());
    let redis = format!("[redis]\nurl = \"{}\"\ntimeout = \"2s\"\n", server.url());
    let text = config(&pair, "", &redis);
    let (maker, other) = (Gateway::start(&text), Gateway::start(&text));
    let told = |count: usize| {
        wait_until("the others are told", || {
            let known = server.ask(&["hlen", "{tollgate}:holders"]);
            (known == count.to_string()).then_some(())
        });
    };
    let mut made = Vec::new();
    for count in 1..=6 {
        let answer = respond(&maker, RESPOND);
        made.push((region(&answer), id(&answer)));
        told(count);
    }
    for (place, (home, id)) in made.iter().enumerate() {
        let found = match place % 2 {
            0 => get(&other, &format!("responses/{id}")),
            _ => respond(&other, &after(id)),
        };
        assert_eq!(&region(&found), home);
    }
    // What is too large to be understood is carried there too.
    for (handle, upload) in pair.iter().zip(["upload_one1", "upload_two1"]) {
        let body = format!("{{\"id\":\"{upload}\"}}");
        handle.set(Behaviour::answer(200, &[], Some(&body)).on_path("uploads"));
    }
    // Three more were made through the other.
    told(9);
    for count in 10..=11 {
        let url = format!("{}/v1/uploads", maker.url);
        let upload = http::post(&url, &[KEY], "{}");
        told(count);
        let (own, elsewhere) = by_region(&pair, &region(&upload));
        pair.iter().for_each(Handle::clear);
        let url = format!("{}/v1/uploads/{}/parts", other.url, id(&upload));
        let large = vec![b'x'; 100_000];
        let carried = http::request("POST", &url, &[KEY], &large).unwrap();
        assert_eq!(carried.status, 200);
        assert_eq!((own.requests().len(), elsewhere.requests().len()), (1, 0));
    }

    // Another id at the same place, or an entry that says nothing, leads nowhere; neither does Redis when it is gone.
    let (_, id) = &made[0];
    let places = server.ask(&["hkeys", "{tollgate}:holders"]);
    for place in places.lines() {
        server.ask(&["hset", "{tollgate}:holders", place, "00 one"]);
    }
    let later = Gateway::start(&text);
    let path = format!("responses/{id}");
    let mut tries = [get(&later, &path).status, get(&later, &path).status];
    tries.sort_unstable();
    assert!(tries == [200, 404] || tries == [200, 200], "{tries:?}");
    server.kill();
    let (home, id) = &made[0];
    assert_eq!(&region(&get(&other, &format!("responses/{id}"))), home);
    assert_eq!(get(&other, "responses/resp_nobody1").status, 404);
}
