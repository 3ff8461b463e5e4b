//! Keys, credentials and prompts are planted, everything is driven that could print or misdirect them, and then every
//! place where they must not be is searched: the log at its loudest, the admin pages, what callers are told, and
//! what other backends got.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::io::{Read, Write};

use support::backend::{After, Backend, Received};
use support::gateway::{Gateway, free_address};
use support::http::{self, Answer};
use support::issuer::Issuer;
use support::token_service::{Mode, TOKEN, TokenService};

const CALLER_KEY: &str = "planted-caller-key";
const WRONG_KEY: &str = "planted-wrong-key";
const QUERY_KEY: &str = "planted-query-key";
const COOKIE: &str = "planted-cookie";
const ONE_KEY: &str = "planted-one-backend-key";
const OTHER_KEY: &str = "planted-other-backend-bearer";
const PROMPT: &str = "planted-prompt-sk-123456";
const COMPLETION: &str = "planted-completion";
const ADMIN_TOKEN: &str = "planted-admin-token";
const PLANTED: &str = "planted";

struct World {
    gateway: Gateway,
    one: Backend,
    other: Backend,
    third: Backend,
    issuer: Issuer,
    tokens: TokenService,
    elsewhere: Backend,
    /// What callers showed as tokens.
    bearing: Vec<String>,
    /// Everything that callers were sent.
    told: Vec<Answer>,
}

#[test]
fn a_planted_secret_turns_up_nowhere() {
    searched("info");
}

#[test]
fn a_planted_secret_turns_up_nowhere_at_the_loudest_level_either() {
    searched("trace");
}

#[test]
fn libraries_cannot_be_made_to_print_what_they_read() {
    searched(
        "trace,pingora_core=trace,pingora_proxy=trace,h2=trace,h2::codec=trace,hyper=trace,rustls=trace",
    );
}

fn searched(level: &str) {
    let mut world = World::start(level);
    world.successes();
    world.refusals();
    world.failures();
    world.malformed();
    world.upgrade();
    world.tokens();
    world.settled();
    let log = world.gateway.log();
    absent("the log", &log);
    for path in ["/metrics", "/status", "/", "/readyz", "/nowhere"] {
        let url = format!("{}{path}", world.gateway.admin_url);
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        for headers in [&[][..], &[("authorization", bearer.as_str())]] {
            let page = http::request("GET", &url, headers, b"").unwrap();
            absent(path, &format!("{:?}{}", page.headers, page.text()));
        }
    }
    // A token is its parts, of which neither the claims nor the signature may be anywhere.
    for token in &world.bearing {
        for part in token.split('.').filter(|part| part.len() > 20).skip(1) {
            assert!(!log.contains(part), "a part of a token is in the log");
            for backend in [&world.one, &world.other, &world.third] {
                let received = backend.received();
                let received = received.iter().map(shown).collect::<String>();
                assert!(!received.contains(part), "a part of a token went upstream");
            }
        }
    }
    for answer in &world.told {
        let text = format!("{:?}{}", answer.headers, answer.text());
        // What the backend said is the caller's.
        absent("an answer", &text.replace(COMPLETION, ""));
    }
    let bearer = format!("{TOKEN}1");
    let backends = [
        (&world.one, ONE_KEY),
        (&world.other, OTHER_KEY),
        (&world.third, bearer.as_str()),
    ];
    for (backend, own) in backends {
        for received in backend.received() {
            let text = shown(&received).replace(own, "").replace(PROMPT, "");
            absent("a backend", &text);
        }
    }
    assert!(
        world.elsewhere.received().is_empty() && world.elsewhere.connections() == 0,
        "a redirect was followed"
    );
    if level != "info" {
        assert!(
            log.contains("\"request\""),
            "the gateway's own words are missing:\n{log}"
        );
    }
}

fn absent(place: &str, text: &str) {
    let found = text.find(PLANTED).map(|at| {
        let start = at.saturating_sub(200);
        String::from_utf8_lossy(&text.as_bytes()[start..(at + 60).min(text.len())]).into_owned()
    });
    assert_eq!(found, None, "in {place}");
}

fn shown(received: &Received) -> String {
    let body = String::from_utf8_lossy(&received.body);
    format!("{} {:?} {body}", received.line, received.headers)
}

impl World {
    fn start(level: &str) -> World {
        let elsewhere = Backend::fixed(200, &[], "{}");
        let location = format!("{}/v1/chat/completions", elsewhere.url);
        let one = Backend::start(move |request, stream| answer(request, stream, &location));
        let other = Backend::start(|request, stream| answer(request, stream, ""));
        let third = Backend::start(|request, stream| answer(request, stream, ""));
        let issuer = Issuer::start();
        let tokens = TokenService::start(Mode::Well(3600));
        let config = CONFIG
            .replace("@ONE@", &one.url)
            .replace("@OTHER@", &other.url)
            .replace("@THIRD@", &third.url)
            .replace("@ISSUER@", &issuer.url)
            .replace("@NOBODY@", &format!("http://{}", free_address()));
        // Nobody listens there: what the client of Redis says of that holds no password.
        let redis = format!("redis://planted-user:planted-password@{}", free_address());
        let environment = [
            ("PLANTED_ONE", ONE_KEY),
            ("PLANTED_OTHER", OTHER_KEY),
            ("PLANTED_CALLER", CALLER_KEY),
            ("PLANTED_QUERY", QUERY_KEY),
            ("PLANTED_ADMIN", ADMIN_TOKEN),
            ("PLANTED_REDIS", &redis),
            ("AZURE_AUTHORITY_HOST", &tokens.url),
            ("AZURE_TENANT_ID", "tenant-1"),
            ("AZURE_CLIENT_ID", "client-1"),
            ("AZURE_CLIENT_SECRET", "planted-client-secret"),
            ("TOLLGATE_LOG", level),
        ];
        World {
            gateway: Gateway::start_with(&config, &environment),
            one,
            other,
            third,
            issuer,
            tokens,
            elsewhere,
            bearing: Vec::new(),
            told: Vec::new(),
        }
    }

    fn post(&mut self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let url = format!("{}{path}", self.gateway.url);
        let answer = http::post(&url, headers, body);
        self.told.push(answer.clone());
        answer
    }

    fn successes(&mut self) {
        let query = format!("/v1/chat/completions?x=1&subscription-key={QUERY_KEY}");
        let bearer = format!("Bearer {CALLER_KEY}");
        let cookie = format!("session={COOKIE}");
        let basic = format!("Basic {WRONG_KEY}");
        for model in ["one", "other"] {
            for stream in [false, true] {
                let body = chat(model, stream);
                let headers = [("api-key", CALLER_KEY), ("cookie", cookie.as_str())];
                assert_eq!(
                    self.post("/v1/chat/completions", &headers, &body).status,
                    200
                );
                assert_eq!(
                    self.post("/v1/chat/completions", &[("authorization", &bearer)], &body)
                        .status,
                    200
                );
                assert_eq!(self.post(&query, &[], &body).status, 200);
                let several = [
                    ("ocp-apim-subscription-key", CALLER_KEY),
                    ("authorization", basic.as_str()),
                    ("proxy-authorization", basic.as_str()),
                    ("connection", "x-hop, close"),
                    ("x-hop", WRONG_KEY),
                ];
                let path = format!(
                    "/v1/chat/completions?api%2dkey={WRONG_KEY}&Subscription-Key={WRONG_KEY}"
                );
                assert_eq!(self.post(&path, &several, &body).status, 200);
            }
        }
    }

    /// Tokens of callers, good and bad, and one of the gateway's own; its service and the issuer fail after that.
    fn tokens(&mut self) {
        let path = "/v1/chat/completions";
        let claims = serde_json::json!({ "appid": "caller", "note": "planted-claim" });
        let good = format!("Bearer {}", self.issuer.token(claims.clone()));
        let body = chat("third", false);
        assert_eq!(
            self.post(path, &[("authorization", &good)], &body).status,
            200
        );
        let bearing: Vec<String> = [good.clone()]
            .into_iter()
            .chain(["none", "secret", "changed", "stranger"].map(|how| self.issuer.forged(how)))
            .collect();
        for token in &bearing[1..] {
            let bearer = format!("Bearer {token}");
            let answer = self.post(path, &[("authorization", &bearer)], &body);
            assert_eq!(answer.status, 401);
        }
        self.issuer.down();
        self.tokens.set(Mode::Failing(
            400,
            r#"{"error":"planted-error","error_description":"planted-description"}"#,
        ));
        let headers = [("authorization", good.as_str()), ("x-wanted", "401")];
        assert_eq!(self.post(path, &headers, &body).status, 401);
        self.tokens.wait_for(2);
        self.bearing = bearing;
    }

    fn refusals(&mut self) {
        let chat_path = "/v1/chat/completions";
        let right = [("api-key", CALLER_KEY)];
        let wrong = [("api-key", WRONG_KEY)];
        let query = format!("{chat_path}?api-key={WRONG_KEY}");
        assert_eq!(
            self.post(chat_path, &wrong, &chat("one", false)).status,
            401
        );
        assert_eq!(self.post(&query, &[], &chat("one", true)).status, 401);
        assert_eq!(
            self.post(&format!("/no{WRONG_KEY}"), &wrong, PROMPT).status,
            404
        );
        assert_eq!(self.post(chat_path, &right, PROMPT).status, 400);
        let cut = format!("{{\"model\":\"one\",\"messages\":\"{PROMPT}\"");
        assert_eq!(self.post(chat_path, &right, &cut).status, 400);
        let no_messages = format!("{{\"model\":\"one\",\"{PROMPT}\":1}}");
        assert_eq!(self.post(chat_path, &right, &no_messages).status, 400);
        let large = chat("one", false).replace(PROMPT, &PROMPT.repeat(4000));
        assert_eq!(self.post(chat_path, &right, &large).status, 413);
        assert_eq!(
            self.post(chat_path, &right, &chat("llama", false)).status,
            404
        );
    }

    fn failures(&mut self) {
        let keys = [("api-key", CALLER_KEY)];
        let path = "/v1/chat/completions";
        assert_eq!(self.post(path, &keys, &chat("nobody", false)).status, 503);
        for (wanted, status) in [
            ("reset", 503),
            ("garbage", 503),
            ("bad-chunk", 503),
            ("401", 401),
            ("500", 500),
            ("307", 307),
        ] {
            for stream in [false, true] {
                let headers = [keys[0], ("x-wanted", wanted)];
                let answer = self.post(path, &headers, &chat("one", stream));
                assert_eq!(answer.status, status, "{wanted}: {}", answer.text());
            }
        }
        let headers = [keys[0], ("x-wanted", "cut")];
        let answer = self.post(path, &headers, &chat("one", true));
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains("upstream_cut"), "{}", answer.text());
        // The same through Pingora's own loop, which logs by itself.
        for wanted in ["reset", "garbage", "bad-chunk", "307"] {
            let headers = [
                keys[0],
                ("x-wanted", wanted),
                ("content-type", "text/plain"),
            ];
            let body = PROMPT.repeat(4000);
            let url = format!("{}/v1/files", self.gateway.url);
            // The caller's end of a broken answer is the caller's to judge.
            if let Ok(answer) = http::request("POST", &url, &headers, body.as_bytes()) {
                self.told.push(answer);
            }
        }
    }

    /// Bytes that are no request, to each listener.
    fn malformed(&mut self) {
        let key = format!("api-key: {CALLER_KEY}\r\n");
        let post =
            format!("POST /v1/chat/completions?api-key={QUERY_KEY} HTTP/1.1\r\nhost: x\r\n{key}");
        let tls = {
            let mut hello = vec![0x16, 3, 1, 0, 200, 1, 0, 0, 196];
            hello.extend_from_slice(CALLER_KEY.as_bytes());
            hello
        };
        let heads = [
            format!("{post}bad header: x\r\n\r\n"),
            format!("{post}bad: \u{0}{WRONG_KEY}\r\n\r\n"),
            format!("GET /v1/{WRONG_KEY}\u{1} HTTP/1.1\r\n{key}\r\n"),
            format!("G\u{7f}T /{WRONG_KEY} HTTP/1.1\r\n{key}\r\n"),
            format!("POST /v1/chat/completions HTTP/1.1\n{key}\n"),
            format!("{post}content-length: {WRONG_KEY}\r\n\r\n"),
            format!("{post}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n{PROMPT}"),
            format!("{post}transfer-encoding: chunked\r\n\r\n{PROMPT}\r\n"),
            format!("{post}transfer-encoding: {WRONG_KEY}\r\n\r\n{PROMPT}\r\n"),
            format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{key}"),
            format!("CONNECT {WRONG_KEY}:1 HTTP/1.1\r\n{key}\r\n"),
            format!("GET /{} HTTP/1.1\r\n{key}\r\n", WRONG_KEY.repeat(8000)),
        ];
        let all = heads
            .iter()
            .map(|head| head.as_bytes())
            .chain([tls.as_slice()]);
        for bytes in all {
            for url in [&self.gateway.url, &self.gateway.admin_url] {
                let (authority, _) = http::split(url);
                let mut stream = http::connect(authority).unwrap();
                // The gateway may have closed by now.
                let _ = stream.write_all(bytes);
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let mut text = Vec::new();
                let _ = stream.read_to_end(&mut text);
                absent("an answer to garbage", &String::from_utf8_lossy(&text));
            }
        }
    }

    fn upgrade(&mut self) {
        for wanted in ["101", "401", "reset", "garbage"] {
            let (authority, _) = http::split(&self.gateway.url);
            let mut stream = http::connect(authority).unwrap();
            let head = format!(
                "GET /v1/realtime?model=one&api-key={QUERY_KEY} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\n\
                 upgrade: websocket\r\nx-wanted: {wanted}\r\ncookie: {COOKIE}\r\n\r\n{PROMPT}"
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut text = Vec::new();
            let _ = stream.read_to_end(&mut text);
            let text = String::from_utf8_lossy(&text).replace(COMPLETION, "");
            absent("an answer to an upgrade", &text);
        }
    }

    /// Waits until every request is accounted, so that every line is written.
    fn settled(&self) {
        support::wait_until("nothing is in flight", || {
            let url = format!("{}/status", self.gateway.admin_url);
            let bearer = format!("Bearer {ADMIN_TOKEN}");
            let headers = [("authorization", bearer.as_str())];
            let status = http::request("GET", &url, &headers, b"").unwrap().json();
            (status["in_flight"] == 0).then_some(())
        });
    }
}

fn chat(model: &str, stream: bool) -> String {
    format!(
        r#"{{"model":"{model}","stream":{stream},"user":"u","messages":[{{"role":"user","content":"{PROMPT}"}}]}}"#
    )
}

/// Answers as `x-wanted` says; with the completion that was planted where there is none.
fn answer(
    request: &Received,
    stream: &mut std::net::TcpStream,
    location: &str,
) -> std::io::Result<After> {
    let events = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";
    let event = format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{COMPLETION}\"}}}}]}}\n\n"
    );
    let streamed = String::from_utf8_lossy(&request.body).contains("\"stream\":true");
    let json =
        format!("{{\"choices\":[{{\"index\":0,\"message\":{{\"content\":\"{COMPLETION}\"}}}}]}}");
    let length = json.len();
    let fixed = |status: &str| {
        format!(
            "HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\nlocation: {location}\r\n\
             content-length: {length}\r\n\r\n{json}"
        )
    };
    let wanted = request.header("x-wanted").unwrap_or("");
    let (text, after) = match wanted {
        "" if streamed => (
            format!("{events}connection: close\r\n\r\n{event}data: [DONE]\n\n"),
            After::Close,
        ),
        "" => (fixed("200"), After::Keep),
        "reset" => (String::new(), After::Close),
        "garbage" => (format!("{COMPLETION} no HTTP\r\n\r\n"), After::Close),
        "bad-chunk" => (
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{COMPLETION}\r\n"
            ),
            After::Close,
        ),
        "cut" => (
            format!(
                "{events}transfer-encoding: chunked\r\n\r\n{:x}\r\n{event}\r\n{COMPLETION}",
                event.len()
            ),
            After::Close,
        ),
        "101" => (
            format!(
                "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n{COMPLETION}"
            ),
            After::Close,
        ),
        status => (fixed(status), After::Keep),
    };
    stream.write_all(text.as_bytes())?;
    Ok(after)
}

const CONFIG: &str = r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
threads = 1
max-request-body = "64KiB"
admin-token = { env = "PLANTED_ADMIN" }

[jwt]
issuer = "@ISSUER@"
audience = "api://tollgate"
subscription = 'jwt.appid'

[redis]
url = { env = "PLANTED_REDIS" }
timeout = "5ms"

[[token-limit]]
name = "ample"
counter-key = 'subscription.id'
tokens-per-minute = 1000000000

[apis.openai]
path = "/v1"
schema = "openai"
models = { one = "one", other = "other", third = "third", nobody = "nobody" }
default-pool = "one"

[pools]
one = { members = [{ backend = "one" }] }
other = { members = [{ backend = "other" }] }
third = { members = [{ backend = "third" }] }
nobody = { members = [{ backend = "nobody" }] }

[backends.one]
url = "@ONE@"
schema = "azure-openai"
auth = { api-key = { env = "PLANTED_ONE" } }

[backends.other]
url = "@OTHER@"
auth = { bearer = { env = "PLANTED_OTHER" } }

[backends.third]
url = "@THIRD@"
auth = { managed-identity = { resource = "https://cognitiveservices.azure.com" } }

[backends.nobody]
url = "@NOBODY@"
auth = { api-key = { env = "PLANTED_ONE" } }

[subscriptions.caller]
keys = [{ env = "PLANTED_CALLER" }, { env = "PLANTED_QUERY" }]

[[token-metric]]
dimensions = [{ name = "subscription_id" }, { name = "model" }]
"#;
