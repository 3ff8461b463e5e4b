//! The admin listener, and how the process ends.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::io::{BufReader, Write};

use load_tests::simulator::{Behaviour, Handle, Simulator};
use support::gateway::Gateway;
use support::http::{self, Answer};

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
