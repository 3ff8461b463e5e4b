//! Uploads that are larger than what is held: carried through as they come where nobody has to understand them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::io::{BufReader, Read, Write};

use load_tests::simulator::{Handle, Options, Simulator};
use sha2::{Digest, Sha256};
use support::backend::{After, Backend};
use support::curl;
use support::gateway::{Gateway, free_address};
use support::http;
use support::plain::{self, BACKEND_KEY, KEY};

#[tokio::test(flavor = "multi_thread")]
async fn a_file_over_the_bound_arrives_byte_for_byte_over_each_version() {
    let simulator = simulator().await;
    let h2c = free_address();
    let server =
        format!("max-request-body = \"1MiB\"\nmax-buffered-bodies = \"1MiB\"\nh2c = \"{h2c}\"");
    let gateway = Gateway::start(&plain::config(&server, &plain::openai(&simulator.url())));
    let body = form();
    let sha256: String = Sha256::digest(&body)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &body).unwrap();
    let data = format!("@{}", file.path().display());
    let key = format!("api-key: {KEY}");
    let kind = "content-type: multipart/form-data; boundary=mark";
    for (base, option) in [
        (gateway.url.clone(), "--http1.1"),
        (format!("http://{h2c}"), "--http2-prior-knowledge"),
    ] {
        for path in ["/v1/files", "/v1/uploads/u-1/parts"] {
            let url = format!("{base}{path}");
            let seen = curl::curl(&[option, &url, "-H", &key, "-H", kind, "--data-binary", &data]);
            assert_eq!(seen.answer.status, 200, "{}", seen.answer.text());
            assert_eq!(seen.answer.json()["sha256"], sha256);
            let record = simulator.requests().pop().unwrap();
            assert_eq!(record.path, path);
            assert_eq!(record.body.sha256, sha256);
            assert_eq!(record.headers["content-length"], body.len().to_string());
            assert_eq!(
                record.headers["authorization"],
                format!("Bearer {BACKEND_KEY}")
            );
            assert!(!record.headers.contains_key("api-key"));
            assert!(!record.headers.contains_key("expect"));
        }
    }
    let counted = [("operation", "files-create"), ("status", "200")];
    gateway.wait_for_metric("tollgate_requests_total", &counted, 2.0);
}

#[test]
fn a_file_that_waits_to_be_asked_for_is_asked_for() {
    let backend = Backend::fixed(200, &[("content-type", "application/json")], "{}");
    let gateway = gateway(&backend);
    let body = form();
    let mut stream = http::connect(&gateway.url["http://".len()..]).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let length = body.len();
    write!(stream, "POST /v1/files HTTP/1.1\r\nhost: a\r\napi-key: {KEY}\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n").unwrap();
    assert_eq!(http::read_head(&mut answers).unwrap().0, 100);
    stream.write_all(&body).unwrap();
    assert_eq!(http::read_answer(&mut answers).unwrap().status, 200);
    let received = backend.received();
    assert_eq!(received[0].header("expect"), None);
    assert!(received[0].body == body);
}

#[test]
fn an_answer_in_an_older_version_is_passed_on_in_ours() {
    let backend = Backend::start(|_, stream| {
        stream.write_all(b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nstored")?;
        Ok(After::Close)
    });
    let gateway = gateway(&backend);
    let body = form();
    let mut stream = http::connect(&gateway.url["http://".len()..]).unwrap();
    let length = body.len();
    write!(stream, "POST /v1/files HTTP/1.1\r\nhost: a\r\nconnection: close\r\napi-key: {KEY}\r\ncontent-length: {length}\r\n\r\n").unwrap();
    stream.write_all(&body).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    // In chunks, which an older version doesn't know.
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    assert!(text.ends_with("\r\n\r\n6\r\nstored\r\n0\r\n\r\n"), "{text}");
}

#[test]
fn what_follows_a_carried_file_on_its_connection_is_read_as_ever() {
    let backend = Backend::fixed(200, &[("content-type", "application/json")], "{}");
    let gateway = gateway(&backend);
    let body = form();
    let mut stream = http::connect(&gateway.url["http://".len()..]).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let file = format!(
        "POST /v1/files HTTP/1.1\r\nhost: a\r\napi-key: {KEY}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let small = format!("GET /v1/files HTTP/1.1\r\nhost: a\r\napi-key: {KEY}\r\n\r\n");
    for _ in 0..2 {
        stream.write_all(file.as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        assert_eq!(http::read_answer(&mut answers).unwrap().status, 200);
    }
    // This one's successor comes along with its end.
    stream.write_all(file.as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    stream.write_all(small.repeat(2).as_bytes()).unwrap();
    for _ in 0..3 {
        assert_eq!(http::read_answer(&mut answers).unwrap().status, 200);
    }
    stream.write_all(file.as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    stream.write_all(b"nonsense\r\n\r\n").unwrap();
    assert_eq!(http::read_answer(&mut answers).unwrap().status, 200);
    let answer = http::read_answer(&mut answers).unwrap();
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (400, "bad_request")
    );
    assert_eq!(backend.received().len(), 6);
}

#[test]
fn a_file_of_a_stranger_or_of_an_understood_operation_isnt_carried() {
    let backend = Backend::fixed(200, &[("content-type", "application/json")], "{}");
    let gateway = gateway(&backend);
    let body = form();
    let send = |path: &str, headers: &[(&str, &str)]| {
        let answer =
            http::request("POST", &format!("{}{path}", gateway.url), headers, &body).unwrap();
        (answer.status, answer.code())
    };
    let key = [("api-key", KEY)];
    let too_large = (413, "request_too_large".to_owned());
    assert_eq!(
        send("/v1/files", &[]),
        (401, "missing_subscription_key".to_owned())
    );
    assert_eq!(send("/v1/chat/completions", &key), too_large);
    assert_eq!(
        send("/openai/deployments/m/chat/completions", &key),
        too_large
    );
    assert_eq!(send("/v1/audio/transcriptions", &key), too_large);
    // Nor is it by asking for a WebSocket beside it.
    let upgrade = [
        ("api-key", KEY),
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
    ];
    assert_eq!(
        send("/openai/deployments/m/chat/completions", &upgrade),
        too_large
    );
    assert!(backend.received().is_empty());
}

#[test]
fn a_backend_that_fails_under_a_carried_file_is_told_in_the_form_of_every_refusal() {
    let backend = Backend::start(|_, _| Ok(After::Close));
    let gateway = gateway(&backend);
    let url = format!("{}/v1/files", gateway.url);
    let answer = http::request("POST", &url, &[("api-key", KEY)], &form()).unwrap();
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "no_backend_available")
    );
    assert_eq!(
        backend.received().len(),
        1,
        "a body that isn't held can't be sent twice"
    );

    let nobody = format!("http://{}", free_address());
    let gateway = Gateway::start(&plain::config(
        "max-request-body = \"1MiB\"",
        &plain::openai(&nobody),
    ));
    let url = format!("{}/v1/files", gateway.url);
    let answer = http::request("POST", &url, &[("api-key", KEY)], &form()).unwrap();
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "no_backend_available")
    );
    gateway.wait_for_metric("tollgate_requests_total", &[("status", "503")], 1.0);
}

#[test]
fn fields_of_one_hop_stay_behind_on_carried_calls_too() {
    let answer = [
        ("content-type", "application/json"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("x-ratelimit-limit-tokens", "1"),
        ("x-ms-region", "r"),
    ];
    let backend = Backend::fixed(200, &answer, "{}");
    let gateway = gateway(&backend);
    let url = format!("{}/v1/files?api-key={KEY}&a=b", gateway.url);
    let headers = [
        ("connection", "x-caller"),
        ("x-caller", "1"),
        ("cookie", "a=b"),
        ("te", "trailers"),
        ("x-custom", "1"),
    ];
    let answer = http::request("POST", &url, &headers, &form()).unwrap();
    assert_eq!(answer.status, 200);
    for (name, value) in [
        ("x-hop", None),
        ("x-ratelimit-limit-tokens", None),
        ("x-ms-region", Some("r")),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    let received = &backend.received()[0];
    assert_eq!(received.path(), "/v1/files?a=b");
    for (name, value) in [
        ("x-caller", None),
        ("cookie", None),
        ("te", None),
        ("x-custom", Some("1")),
    ] {
        assert_eq!(received.header(name), value, "{name}");
    }
}

fn gateway(backend: &Backend) -> Gateway {
    let server = "max-request-body = \"1MiB\"\nmax-buffered-bodies = \"1MiB\"";
    Gateway::start(&plain::config(server, &plain::openai(&backend.url)))
}

/// Five mebibytes of a file, in a form.
fn form() -> Vec<u8> {
    let mut body =
        b"--mark\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n".to_vec();
    body.extend((0..5 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8));
    body.extend(b"\r\n--mark--\r\n");
    body
}

async fn simulator() -> Handle {
    let options = Options {
        api_key: Some(BACKEND_KEY.to_owned()),
        ..Options::default()
    };
    Simulator::start(options).await.unwrap()
}
