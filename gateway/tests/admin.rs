//! The admin listener, and how the process ends.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::io::{BufReader, Write};

use load_tests::simulator::{Behaviour, Handle, Simulator};
use support::backend::Backend;
use support::command;
use support::gateway::Gateway;
use support::http::{self, Answer};
use support::plain;

const KEY: &str = "key-of-team-a";

#[tokio::test(flavor = "multi_thread")]
async fn a_running_gateway_is_live_and_ready() {
    let (_simulator, gateway) = start().await;
    for path in ["/livez", "/readyz"] {
        let answer = admin(&gateway, "GET", path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(
            answer
                .header("content-type")
                .unwrap()
                .starts_with("text/plain")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_listener_says_where_to_look_and_changes_nothing() {
    let (_simulator, gateway) = start().await;
    let unknown = admin(&gateway, "GET", "/nowhere");
    assert_eq!(unknown.status, 404);
    assert!(unknown.text().contains("/metrics"));
    for path in ["/", "/livez", "/readyz", "/metrics", "/status", "/nowhere"] {
        for method in ["POST", "PUT", "DELETE"] {
            assert_eq!(admin(&gateway, method, path).status, 405, "{method} {path}");
        }
    }
    // Callers don't find it at their listener.
    for path in ["/livez", "/readyz", "/metrics", "/status", "/"] {
        assert_eq!(
            http::get(&format!("{}{path}", gateway.url)).status,
            404,
            "{path}"
        );
    }
}

#[test]
fn with_a_token_only_the_probes_are_for_everyone() {
    let backend = Backend::fixed(200, &[], "{}");
    let config = |token: &str| {
        let server = format!("admin-token = {token}\n");
        plain::config(&server, &plain::openai(&backend.url))
    };
    let variables = [("ADMIN_TOKEN", "planted-admin-token")];
    let gateway = Gateway::start_with(&config("{ env = \"ADMIN_TOKEN\" }"), &variables);
    let ask = |method: &str, path: &str, fields: &[(&str, &str)]| {
        let url = format!("{}{path}", gateway.admin_url);
        http::request(method, &url, fields, b"").unwrap()
    };
    let bearer = [("authorization", "Bearer planted-admin-token")];
    // The name is the browser's affair: `operator:planted-admin-token`.
    let basic = [(
        "authorization",
        "Basic b3BlcmF0b3I6cGxhbnRlZC1hZG1pbi10b2tlbg==",
    )];
    let wrong = [("authorization", "Bearer planted-admin-tokem")];
    for path in ["/livez", "/readyz"] {
        assert_eq!(ask("GET", path, &[]).status, 200, "{path}");
    }
    for path in ["/metrics", "/status", "/", "/nowhere"] {
        for fields in [&[][..], &wrong] {
            let refused = ask("GET", path, fields);
            assert_eq!(refused.status, 401, "{path}");
            let challenge = refused.header("www-authenticate").unwrap();
            assert!(challenge.starts_with("Basic realm="), "{challenge}");
        }
        assert_ne!(ask("GET", path, &bearer).status, 401, "{path}");
        assert_ne!(ask("GET", path, &basic).status, 401, "{path}");
    }
    let purge = "/cache/purge?subscription=team-a";
    assert_eq!(ask("POST", purge, &[]).status, 401);
    assert_eq!(ask("POST", purge, &basic).status, 200);
    let elsewhere = [basic[0], ("origin", "https://evil.example")];
    assert_eq!(ask("POST", purge, &elsewhere).status, 403);
    for path in ["/metrics", "/status", "/"] {
        assert!(!ask("GET", path, &bearer).text().contains("planted"));
    }
    // Rotated by a reload.
    gateway.rewrite(&config("\"planted-second-token\""));
    gateway.signal("HUP");
    let second = [("authorization", "Bearer planted-second-token")];
    support::wait_until("the second token is taken", || {
        (ask("GET", "/status", &second).status == 200).then_some(())
    });
    assert_eq!(ask("GET", "/status", &bearer).status, 401);
    assert!(!gateway.log().contains("planted"), "{}", gateway.log());
}

#[test]
fn a_page_of_another_site_can_change_nothing() {
    let backend = Backend::fixed(200, &[], "{}");
    let gateway = Gateway::start(&plain::config("", &plain::openai(&backend.url)));
    let url = format!("{}/cache/purge?subscription=team-a", gateway.admin_url);
    let own = gateway.admin_url.clone();
    for (origin, status) in [
        ("https://evil.example", 403),
        ("null", 403),
        (own.as_str(), 200),
    ] {
        let answer = http::request("POST", &url, &[("origin", origin)], b"").unwrap();
        assert_eq!(answer.status, status, "{origin}");
    }
}

#[test]
fn check_warns_of_an_admin_listener_that_others_reach_and_that_asks_for_nothing() {
    let warned = |server: &str| {
        let text = plain::config("", &plain::openai("http://127.0.0.1:1"));
        let text = text.replace("admin = \"@ADMIN@\"", server);
        let text = text.replace("@LISTEN@", "127.0.0.1:1");
        let checked = command::run(&["check", "--config", "-"], &text);
        assert_eq!(checked.status, Some(0), "{}", checked.stderr);
        let told = format!("{}{}", checked.stdout, checked.stderr);
        told.contains("the admin listener can be reached from other hosts")
    };
    assert!(warned("admin = \"0.0.0.0:9090\""));
    assert!(!warned("admin = \"127.0.0.1:9090\""));
    assert!(!warned("admin = \"[::1]:9090\""));
    assert!(!warned("admin = \"0.0.0.0:9090\"\nadmin-token = \"t\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_served_whole_and_loads_nothing_from_elsewhere() {
    let (_simulator, gateway) = start().await;
    let page = admin(&gateway, "GET", "/");
    assert_eq!(page.status, 200);
    assert!(
        page.header("content-type")
            .unwrap()
            .starts_with("text/html")
    );
    let text = page.text();
    assert!(
        text.contains("</html>") && text.contains("status"),
        "{text}"
    );
    assert!(
        !text.contains("http://") && !text.contains("https://"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_says_what_is_configured_and_what_goes_on() {
    let (simulator, gateway) = start().await;
    let status = admin(&gateway, "GET", "/status");
    assert_eq!(status.header("content-type"), Some("application/json"));
    let status = status.json();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    let revision = status["configuration"]["revision"].as_str().unwrap();
    assert!(!revision.is_empty());
    let (loaded, now) = (
        status["configuration"]["loaded_at"].as_u64(),
        status["time"].as_u64(),
    );
    assert!(
        loaded.unwrap() <= now.unwrap() && loaded.unwrap() > 1_600_000_000,
        "{status}"
    );
    assert_eq!(
        status["gateway"],
        serde_json::json!({"id": "gate-1", "location": "westeurope"})
    );
    assert_eq!(status["backends"].as_array().unwrap().len(), 1);
    assert_eq!(status["backends"][0]["name"], "sim");
    assert_eq!(status["backends"][0]["state"], "closed");
    let member = serde_json::json!({"backend": "sim", "priority": 1, "weight": 1});
    assert_eq!(
        status["pools"],
        serde_json::json!([{"name": "main", "members": [member]}])
    );
    assert_eq!(status["apis"][0]["path"], "/v1");
    assert_eq!(status["subscriptions"][0]["name"], "team-a");
    assert_eq!(status["subscriptions"][1]["state"], "suspended");
    assert_eq!(status["in_flight"], 0);

    simulator.set(gated());
    let stream = Stream::open(&gateway);
    let during = admin(&gateway, "GET", "/status").json();
    assert_eq!(during["in_flight"], 1);
    assert!(during["buffered_bytes"].as_u64().unwrap() > 0);
    simulator.gate().open();
    stream.finish();
    support::wait_until("nothing is in flight", || {
        let after = admin(&gateway, "GET", "/status").json();
        (after["in_flight"] == 0 && after["buffered_bytes"] == 0).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_told_to_stop_ends_its_streams_first() {
    let (simulator, gateway) = start().await;
    simulator.set(gated());
    let stream = Stream::open(&gateway);
    gateway.signal("TERM");
    support::wait_until("it isn't ready any more", || {
        (admin(&gateway, "GET", "/readyz").status == 503).then_some(())
    });
    assert_eq!(admin(&gateway, "GET", "/livez").status, 200);
    simulator.gate().open();
    stream.finish();
    // Long before the drain time-out of the configuration, which is longer than any test waits.
    assert_eq!(gateway.stop().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_taken_for_the_shutdown_delay_while_nobody_is_sent_here_any_more() {
    let (_simulator, gateway) = start_with("shutdown-delay = \"1h\"").await;
    gateway.signal("TERM");
    support::wait_until("it isn't ready any more", || {
        (admin(&gateway, "GET", "/readyz").status == 503).then_some(())
    });
    let url = format!("{}/v1/models", gateway.url);
    let late = support::http::request("GET", &url, &[("api-key", "key-of-team-a")], b"");
    assert!(late.is_ok(), "a new connection was refused: {late:?}");
    // A second signal ends the wait.
    gateway.signal("INT");
    assert_eq!(gateway.ended().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_gateway_told_to_stop_ends_at_once_and_well() {
    let (_simulator, gateway) = start().await;
    assert_eq!(gateway.stop().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_ends_the_gateway_though_a_stream_is_open() {
    for signal in ["INT", "QUIT"] {
        let (simulator, gateway) = start().await;
        simulator.set(gated());
        let _stream = Stream::open(&gateway);
        gateway.signal(signal);
        assert_eq!(gateway.ended().code(), Some(0), "{signal}");
    }
}

/// A caller that has read the first event of its stream.
struct Stream(BufReader<std::net::TcpStream>);

impl Stream {
    fn open(gateway: &Gateway) -> Stream {
        let (authority, _) = http::split(&gateway.url);
        let mut stream = http::connect(authority).unwrap();
        let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"Hello"}]}"#;
        let length = body.len();
        write!(
            stream,
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\napi-key: {KEY}\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut reader = BufReader::new(stream);
        let (status, _) = http::read_head(&mut reader).unwrap();
        assert_eq!(status, 200);
        let first = http::read_chunk(&mut reader).unwrap();
        assert!(first.starts_with(b"data: "));
        Stream(reader)
    }

    /// Reads to the end, which has to be the stream's own.
    fn finish(mut self) {
        let mut last = Vec::new();
        loop {
            let chunk = http::read_chunk(&mut self.0).unwrap();
            if chunk.is_empty() {
                break;
            }
            last.extend(chunk);
        }
        assert!(
            last.ends_with(b"data: [DONE]\n\n"),
            "{}",
            String::from_utf8_lossy(&last)
        );
    }
}

fn gated() -> Behaviour {
    Behaviour {
        gated: true,
        ..Behaviour::default()
    }
}

fn admin(gateway: &Gateway, method: &str, path: &str) -> Answer {
    http::request(method, &format!("{}{path}", gateway.admin_url), &[], b"").unwrap()
}

async fn start() -> (Handle, Gateway) {
    start_with("").await
}

/// With another line in `[server]`.
async fn start_with(line: &str) -> (Handle, Gateway) {
    let simulator = Simulator::start_default().await.unwrap();
    let gateway = Gateway::start(&format!(
        r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
threads = 1
drain-timeout = "10m"
{line}

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

[subscriptions.team-a]
keys = ["{KEY}"]

[subscriptions.team-b]
state = "suspended"
keys = ["key-of-team-b"]
"#,
        simulator.url()
    ));
    (simulator, gateway)
}
