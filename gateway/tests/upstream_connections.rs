//! Connections to backends: reused where that is safe, made anew where the backend closed one, never poisoned.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::collections::HashSet;
use std::io::{self, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use support::backend::{After, Backend};
use support::curl;
use support::gateway::{Gateway, free_address};
use support::http;
use support::plain::{self, KEY};

#[test]
fn a_body_of_unknown_length_over_http_2_leaves_the_backends_connection_clean() {
    let backend = Backend::fixed(200, &[("content-type", "application/json")], "{}");
    let h2c = free_address();
    let config = plain::config(&format!("h2c = \"{h2c}\""), &plain::openai(&backend.url));
    let _gateway = Gateway::start(&config);
    let url = format!("http://{h2c}/v1/chat/completions");
    let key = format!("api-key: {KEY}");
    let arguments = [
        "--http2-prior-knowledge",
        &url,
        "-H",
        &key,
        "-X",
        "POST",
        "-T",
        "-",
    ];
    for count in 1..=10 {
        let mut upload = curl::start(&arguments);
        upload.send(CHAT.as_bytes());
        assert_eq!(upload.finish().answer.status, 200);
        let received = backend.received();
        assert_eq!(received.len(), count);
        assert_eq!(received[count - 1].body, CHAT.as_bytes());
        assert_eq!(received[count - 1].header("content-length"), Some(LENGTH));
        assert_eq!(received[count - 1].header("transfer-encoding"), None);
    }
    reused(&backend);
}

#[test]
fn a_connection_that_the_backend_closed_meanwhile_costs_the_caller_nothing() {
    let backend = Backend::start(|_, stream| {
        stream.write_all(ANSWER.as_bytes())?;
        Ok(After::Close)
    });
    let gateway = before(&backend.url);
    for count in 1..=20 {
        assert_eq!(chat(&gateway).status, 200);
        assert_eq!(backend.received().len(), count, "each is asked once");
    }
    let well = [("status", "2xx")];
    gateway.wait_for_metric("tollgate_backend_attempts_total", &well, 20.0);
    assert_eq!(gateway.metric("tollgate_backend_attempts_total", &[]), 20.0);
}

#[test]
fn a_post_that_meets_a_closing_connection_is_sent_again_on_a_new_one() {
    // One connection takes a second request and closes without an answer, as a server does whose idle timeout
    // is over just then.
    let seen = Mutex::new((HashSet::new(), false));
    let backend = Backend::start(move |_, stream| {
        let (connections, closed) = &mut *seen.lock().unwrap();
        let new = connections.insert(stream.peer_addr()?);
        if !new && !*closed {
            *closed = true;
            return Ok(After::Close);
        }
        stream.write_all(ANSWER.as_bytes())?;
        Ok(After::Keep)
    });
    let gateway = before(&backend.url);
    for _ in 0..10 {
        assert_eq!(chat(&gateway).status, 200);
    }
    let received = backend.received();
    assert_eq!(received.len(), 11);
    assert!(
        received
            .iter()
            .all(|request| request.body == CHAT.as_bytes())
    );
    gateway.wait_for_metric(
        "tollgate_backend_attempts_total",
        &[("status", "2xx")],
        10.0,
    );
    assert_eq!(gateway.metric("tollgate_backend_attempts_total", &[]), 10.0);
}

#[test]
fn a_pooled_connection_that_breaks_when_the_backend_has_had_the_request_is_a_failure() {
    // Well after a closed connection would have shown itself.
    let thinks = Some(Duration::from_secs(6));
    let seen = Mutex::new(HashSet::new());
    let backend = Backend::start(move |_, stream| {
        if seen.lock().unwrap().insert(stream.peer_addr()?) {
            stream.write_all(ANSWER.as_bytes())?;
            return Ok(After::Keep);
        }
        stream.set_read_timeout(thinks)?;
        let _nothing_comes = stream.read(&mut [0]);
        Ok(After::Close)
    });
    let gateway = before(&backend.url);
    assert_eq!(chat(&gateway).status, 200);
    let answer = chat(&gateway);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "no_backend_available")
    );
    assert_eq!(backend.received().len(), 2);
    let broken = [("status", "reset")];
    gateway.wait_for_metric("tollgate_backend_attempts_total", &broken, 1.0);
}

#[test]
fn a_pooled_connection_on_which_something_came_is_never_asked_again() {
    for said in [
        "garbage\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-le",
        "HTTP/1.1 102 Processing\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
    ] {
        let seen = Mutex::new(HashSet::new());
        let backend = Backend::start(move |_, stream| {
            if seen.lock().unwrap().insert(stream.peer_addr()?) {
                stream.write_all(ANSWER.as_bytes())?;
                return Ok(After::Keep);
            }
            stream.write_all(said.as_bytes())?;
            Ok(After::Close)
        });
        let gateway = before(&backend.url);
        assert_eq!(chat(&gateway).status, 200);
        assert_eq!(chat(&gateway).status, 503, "{said}");
        assert_eq!(backend.received().len(), 2, "{said}");
    }
}

#[test]
fn a_backend_that_closes_a_new_connection_unanswered_is_asked_once() {
    let backend = Backend::start(|_, _| Ok(After::Close));
    let gateway = before(&backend.url);
    let answer = chat(&gateway);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "no_backend_available")
    );
    assert_eq!(backend.received().len(), 1);
}

#[test]
fn an_early_refusal_reaches_the_caller_though_its_body_was_never_read() {
    let url = early(After::Close);
    let gateway = before(&url);
    for _ in 0..5 {
        // Closing on unread bytes resets the connection, and the system may drop the refusal's body: its head says it.
        let answer = long_chat(&gateway);
        assert_eq!(answer.status, 429);
        assert_eq!(answer.header("retry-after"), Some("7"));
    }
}

#[test]
fn a_connection_after_an_early_refusal_is_in_step_or_isnt_used_again() {
    let url = early(After::Keep);
    let gateway = before(&url);
    for _ in 0..5 {
        assert_eq!(long_chat(&gateway).status, 429);
    }
}

#[test]
fn calls_share_the_pooled_connections() {
    let backend = Backend::fixed(200, &[("content-type", "application/json")], "{}");
    let gateway = before(&backend.url);
    for _ in 0..30 {
        assert_eq!(chat(&gateway).status, 200);
    }
    reused(&backend);
}

/// Most calls went over a connection that was there. Not all: Pingora's pool opens a new one where a call comes
/// in the instant in which the last one is put back.
fn reused(backend: &Backend) {
    let (calls, connections) = (backend.received().len(), backend.connections());
    assert!(
        connections * 2 <= calls,
        "{connections} connections for {calls} calls"
    );
}

const CHAT: &str = "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}";
const LENGTH: &str = "60";
const ANSWER: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

fn before(url: &str) -> Gateway {
    Gateway::start(&plain::config("", &plain::openai(url)))
}

fn chat(gateway: &Gateway) -> http::Answer {
    let url = format!("{}/v1/chat/completions", gateway.url);
    http::post(&url, &[("api-key", KEY)], CHAT)
}

fn long_chat(gateway: &Gateway) -> http::Answer {
    let content = "x".repeat(5_000_000);
    let body = format!(
        "{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":\"{content}\"}}]}}"
    );
    let url = format!("{}/v1/chat/completions", gateway.url);
    http::post(&url, &[("api-key", KEY)], &body)
}

/// A backend that answers 429 to a head before it reads the body. Either it closes then, or it reads the body,
/// and what comes after it as the next request.
fn early(after: After) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // An error is the gateway's end of the connection.
            std::thread::spawn(move || drop(refuse_early(stream, after)));
        }
    });
    url
}

fn refuse_early(mut stream: TcpStream, after: After) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        http::read_line(&mut reader)?;
        let fields = http::read_fields(&mut reader)?;
        let body = "{\"error\":{}}";
        let length = body.len();
        // In one write: what waits for an acknowledgement is lost when the connection is closed on unread bytes.
        let answer = format!(
            "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nretry-after: 7\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(answer.as_bytes())?;
        if after == After::Close {
            return Ok(());
        }
        let stated = fields.iter().find(|(name, _)| name == "content-length");
        let length: u64 = stated.unwrap().1.parse().unwrap();
        io::copy(&mut (&mut reader).take(length), &mut io::sink())?;
    }
}
