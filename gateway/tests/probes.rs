//! A breaker that is half open: one call finds out, whoever else comes is told the truth, and a probe whose caller leaves
//! keeps nobody away.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Condvar, Mutex};

use support::backend::{After, Backend};
use support::gateway::Gateway;
use support::http::{self, Answer};
use support::plain::{self, KEY};
use support::{DEADLINE, wait_until};

const CHAT: &str = r#"{"model":"m","messages":[{"role":"user","content":"Hello"}]}"#;
const WELL: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
const THROTTLED: &str =
    "HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\n{}";
const BREAKER: &str = r#"[backends.only.circuit-breaker]
failure-condition = { count = 1, interval = "60s" }
trip-duration = "1s"
accept-retry-after = true
"#;

/// Before a backend with a breaker that trips at the first failure.
fn before(backend: &Backend) -> Gateway {
    let backend = format!("{}{BREAKER}", plain::openai(&backend.url));
    Gateway::start(&plain::config("max-request-body = \"64KiB\"", &backend))
}

/// A backend that says 429 to its first call, and holds the second until it is told to answer it.
struct Held {
    calls: Mutex<(usize, bool)>,
    changed: Condvar,
}

static HELD: Held = Held {
    calls: Mutex::new((0, false)),
    changed: Condvar::new(),
};

impl Held {
    fn answer(&self) -> &'static str {
        let mut calls = self.calls.lock().unwrap();
        calls.0 += 1;
        match calls.0 {
            1 => THROTTLED,
            2 => {
                let waiting = |calls: &mut (usize, bool)| !calls.1;
                drop(self.changed.wait_timeout_while(calls, DEADLINE, waiting));
                WELL
            }
            _ => WELL,
        }
    }

    fn release(&self) {
        self.calls.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

/// A backend that says 429 to its first call, and then does as `then` does.
fn throttled_once(
    then: impl Fn(&mut TcpStream) -> std::io::Result<After> + Send + Sync + 'static,
) -> Backend {
    let is_first = Mutex::new(true);
    Backend::start(move |_, stream| {
        if std::mem::take(&mut *is_first.lock().unwrap()) {
            stream.write_all(THROTTLED.as_bytes())?;
            return Ok(After::Keep);
        }
        then(stream)
    })
}

fn chat(gateway: &Gateway) -> Answer {
    let url = format!("{}/v1/chat/completions", gateway.url);
    http::post(&url, &[("api-key", KEY)], CHAT)
}

/// A chat whose answer is still to be read.
fn post(gateway: &Gateway) -> TcpStream {
    let mut stream = http::connect(&gateway.url["http://".len()..]).unwrap();
    let length = CHAT.len();
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\napi-key: {KEY}\r\ncontent-length: {length}\r\n\r\n{CHAT}"
    )
    .unwrap();
    stream
}

/// Trips the breaker and waits until its time is over.
fn half_open(gateway: &Gateway) {
    assert_eq!(chat(gateway).status, 429);
    gateway.wait_for_metric("tollgate_backend_state", &[("backend", "only")], 2.0);
}

#[test]
fn who_meets_a_probe_of_a_throttled_backend_is_told_that_it_is_throttled() {
    let backend = Backend::start(|_, stream| {
        stream.write_all(HELD.answer().as_bytes())?;
        Ok(After::Keep)
    });
    let gateway = before(&backend);
    half_open(&gateway);
    let mut probe = post(&gateway);
    backend.wait_for(2);
    let met = chat(&gateway);
    assert_eq!(
        (met.status, met.code().as_str()),
        (429, "backends_throttled")
    );
    assert_eq!(met.header("retry-after"), Some("1"));
    HELD.release();
    let answer = http::read_answer(&mut BufReader::new(&mut probe));
    assert_eq!(answer.unwrap().status, 200);
    assert_eq!(chat(&gateway).status, 200);
    assert_eq!(backend.received().len(), 3);
}

#[test]
fn a_probe_whose_caller_leaves_before_its_answer_is_free_for_the_next() {
    let calls = Mutex::new(0);
    let backend = throttled_once(move |stream| {
        *calls.lock().unwrap() += 1;
        if *calls.lock().unwrap() == 1 {
            // Until the gateway lets go.
            let _gone = stream.read(&mut [0]);
            return Ok(After::Close);
        }
        stream.write_all(WELL.as_bytes())?;
        Ok(After::Keep)
    });
    let gateway = before(&backend);
    half_open(&gateway);
    let probe = post(&gateway);
    backend.wait_for(2);
    probe.shutdown(Shutdown::Both).unwrap();
    next_is_served(&gateway);
}

#[test]
fn a_carried_probe_whose_caller_leaves_in_the_middle_is_free_for_the_next() {
    let backend = throttled_once(|stream| {
        stream.write_all(WELL.as_bytes())?;
        Ok(After::Keep)
    });
    let gateway = before(&backend);
    half_open(&gateway);
    let mut stream = head_of_an_upload(&gateway, "");
    stream.write_all(&[b'x'; 1 << 10]).unwrap();
    wait_until("the upload is on its way", || {
        let connections = backend.connections();
        (connections == 2).then_some(())
    });
    stream.shutdown(Shutdown::Both).unwrap();
    next_is_served(&gateway);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_carried_probe_whose_caller_leaves_before_it_is_asked_for_its_body_is_free_for_the_next()
{
    let backend = throttled_once(|stream| {
        stream.write_all(WELL.as_bytes())?;
        Ok(After::Keep)
    });
    let gateway = before(&backend);
    half_open(&gateway);
    // Stopped, so that it learns of head and reset at once.
    gateway.signal("STOP");
    let stream = head_of_an_upload(&gateway, "expect: 100-continue\r\n");
    stream.set_nonblocking(true).unwrap();
    tokio::net::TcpStream::from_std(stream)
        .unwrap()
        .set_zero_linger()
        .unwrap();
    gateway.signal("CONT");
    next_is_served(&gateway);
    assert_eq!(backend.received().len(), 2, "the upload never left");
}

/// Once the caller who left is accounted, the next call is let through, and closes the breaker.
fn next_is_served(gateway: &Gateway) {
    gateway.wait_for_metric("tollgate_requests_total", &[("status", "499")], 1.0);
    assert_eq!(chat(gateway).status, 200);
    gateway.wait_for_metric("tollgate_backend_state", &[("backend", "only")], 0.0);
}

fn head_of_an_upload(gateway: &Gateway, fields: &str) -> TcpStream {
    let mut stream = http::connect(&gateway.url["http://".len()..]).unwrap();
    write!(
        stream,
        "POST /v1/files HTTP/1.1\r\nhost: a\r\napi-key: {KEY}\r\n{fields}content-length: 1000000\r\n\r\n"
    )
    .unwrap();
    stream
}
