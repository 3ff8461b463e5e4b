//! Backends over TLS and HTTP/2: whom the gateway believes, what it shows of itself, and what is negotiated.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use ::http::Version;
use load_tests::simulator::{Handle, Simulator};
use support::certificates::{Authority, Identity};
use support::gateway::Gateway;
use support::http::Answer;
use support::plain::{self, KEY};
use support::tls_front::TlsFront;

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_is_believed_by_its_own_authority_and_http_2_is_negotiated() {
    let (simulator, authority) = (simulator().await, Authority::new("ours"));
    let front = front(&simulator, &authority.issue(&["localhost"])).await;
    let gateway = before("localhost", front.port, &trusts(&authority), "");
    for _ in 0..3 {
        assert_eq!(chat(&gateway).status, 200);
    }
    let records = simulator.requests();
    assert!(
        records
            .iter()
            .all(|record| record.version == Version::HTTP_2)
    );
    assert_eq!(
        records[0].headers["authorization"],
        format!("Bearer {}", plain::BACKEND_KEY)
    );
    let seen = front.seen();
    assert_eq!(seen.len(), 1, "one connection for all: {seen:?}");
    assert_eq!(seen[0].protocol, "h2");
    assert_eq!(seen[0].server_name.as_deref(), Some("localhost"));
    assert!(!seen[0].certificate);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_is_spoken_where_it_is_all_that_a_backend_offers_or_all_that_is_wanted() {
    let (simulator, authority) = (simulator().await, Authority::new("ours"));
    let identity = authority.issue(&["localhost"]);
    let old = TlsFront::start(simulator.address(), &identity, &["http/1.1"], None).await;
    let silent = TlsFront::start(simulator.address(), &identity, &[], None).await;
    let both = front(&simulator, &identity).await;
    for (port, more) in [
        (old.port, ""),
        (silent.port, ""),
        (both.port, "http2 = false"),
    ] {
        let gateway = before("localhost", port, &trusts(&authority), more);
        assert_eq!(chat(&gateway).status, 200, "{more}");
        assert_eq!(
            simulator.requests().pop().unwrap().version,
            Version::HTTP_11,
            "{more}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_without_tls_is_spoken_where_the_configuration_says_so() {
    let simulator = simulator().await;
    let backend = format!("{}http2 = true\n", plain::openai(&simulator.url()));
    let gateway = Gateway::start(&plain::config("", &backend));
    for _ in 0..3 {
        assert_eq!(chat(&gateway).status, 200);
        assert_eq!(stream(&gateway).status, 200);
    }
    let records = simulator.requests();
    assert_eq!(records.len(), 6);
    assert!(
        records
            .iter()
            .all(|record| record.version == Version::HTTP_2)
    );
    assert!(
        records
            .iter()
            .all(|record| record.connection == records[0].connection)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_of_another_authority_or_another_name_gets_no_request() {
    let (simulator, authority) = (simulator().await, Authority::new("ours"));
    let front = front(&simulator, &authority.issue(&["localhost"])).await;
    let stranger = Authority::new("theirs");
    let wrong = [
        before("localhost", front.port, &trusts(&stranger), ""),
        before("localhost", front.port, "", ""),
        before("127.0.0.1", front.port, &trusts(&authority), ""),
        before(
            "localhost",
            front.port,
            &format!("{}, server-name = \"other.example\"", trusts(&authority)),
            "",
        ),
    ];
    for gateway in &wrong {
        let answer = chat(gateway);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (503, "no_backend_available")
        );
        gateway.wait_for_metric(
            "tollgate_backend_attempts_total",
            &[("status", "connect")],
            1.0,
        );
    }
    assert!(simulator.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_is_known_by_the_name_that_the_configuration_gives_it() {
    let (simulator, authority) = (simulator().await, Authority::new("ours"));
    let front = front(&simulator, &authority.issue(&["inside.example"])).await;
    let tls = format!("{}, server-name = \"inside.example\"", trusts(&authority));
    assert_eq!(chat(&before("127.0.0.1", front.port, &tls, "")).status, 200);
    assert_eq!(
        front.seen()[0].server_name.as_deref(),
        Some("inside.example")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_asks_for_a_certificate_gets_the_configured_one() {
    let (simulator, authority) = (simulator().await, Authority::new("ours"));
    let identity = authority.issue(&["localhost"]);
    for protocols in [&["h2", "http/1.1"][..], &["http/1.1"]] {
        let front = TlsFront::start(
            simulator.address(),
            &identity,
            protocols,
            Some(&authority.certificate),
        )
        .await;
        let own = authority.issue(&["tollgate.example"]);
        let shown = format!(
            "{}, client-certificate = {:?}, client-key = {:?}",
            trusts(&authority),
            own.certificate,
            own.key
        );
        assert_eq!(
            chat(&before("localhost", front.port, &shown, "")).status,
            200
        );
        assert!(front.seen()[0].certificate);

        let nothing_shown = before("localhost", front.port, &trusts(&authority), "");
        let answer = chat(&nothing_shown);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (503, "no_backend_available")
        );
    }
    assert_eq!(simulator.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_long_bodies_pass_over_http_2() {
    let (simulator, authority) = (simulator().await, Authority::new("ours"));
    let front = front(&simulator, &authority.issue(&["localhost"])).await;
    let gateway = before("localhost", front.port, &trusts(&authority), "");
    let answer = stream(&gateway);
    assert_eq!(answer.status, 200);
    assert!(
        answer.text().ends_with("data: [DONE]\n\n"),
        "{}",
        answer.text()
    );
    let content = "x".repeat(3_000_000);
    let body = format!(
        "{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":\"{content}\"}}]}}"
    );
    assert_eq!(post(&gateway, &body).status, 200);
    let record = simulator.requests().pop().unwrap();
    assert_eq!(record.version, Version::HTTP_2);
    assert_eq!(record.body.length, body.len() as u64);
    assert_eq!(record.headers["content-length"], body.len().to_string());
}

async fn simulator() -> Handle {
    Simulator::start_default().await.unwrap()
}

async fn front(simulator: &Handle, identity: &Identity) -> TlsFront {
    TlsFront::start(simulator.address(), identity, &["h2", "http/1.1"], None).await
}

fn trusts(authority: &Authority) -> String {
    format!("ca = {:?}", authority.certificate)
}

/// A gateway before the backend at this port, with these keys in its `tls` table and these beside it.
fn before(host: &str, port: u16, tls: &str, more: &str) -> Gateway {
    let backend = plain::openai(&format!("https://{host}:{port}"));
    Gateway::start(&plain::config(
        "",
        &format!("{backend}tls = {{ {tls} }}\n{more}"),
    ))
}

fn chat(gateway: &Gateway) -> Answer {
    post(
        gateway,
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}",
    )
}

fn stream(gateway: &Gateway) -> Answer {
    post(
        gateway,
        "{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}",
    )
}

fn post(gateway: &Gateway, body: &str) -> Answer {
    let url = format!("{}/v1/chat/completions", gateway.url);
    support::http::post(&url, &[("api-key", KEY)], body)
}
