//! Backends that fail, and the gateway's own bounds while they answer.
//!
//! What a backend answers is passed on unchanged where its pool has nobody else to ask; that is here too, since it
//! must never be mistaken for an answer of the gateway's.

use std::io::{Read, Write};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use crate::support::backend::{After, Backend};
use crate::support::gateway::{Gateway, free_address};
use crate::support::{self, http};
use crate::{
    ANSWER, BACKEND_KEY, BACKEND_NAME, CHAT, KEY, SMALL_KEY, gateway, post, refused, streaming,
};

#[test]
fn a_backend_that_is_late_with_its_first_byte_is_a_timeout() {
    let backend = Backend::start(|_, stream| {
        // Ends when the gateway gives up.
        let _ = stream.read(&mut [0]);
        Ok(After::Close)
    });
    let gateway = gateway(&backend.url, r#"timeouts = { first-byte = "250ms" }"#);
    for body in [CHAT.to_owned(), streaming()] {
        let answer = post(&gateway, "/v1/chat/completions", &[("api-key", KEY)], &body);
        refused(&answer, 504, "backend_timeout", "server_error");
    }
    attempts(&gateway, "timeout", 2.0);
}

#[test]
fn a_backend_that_cannot_be_reached_is_not_available() {
    let gateway = gateway(&format!("http://{}", free_address()), "");
    for body in [CHAT.to_owned(), streaming()] {
        let answer = post(&gateway, "/v1/chat/completions", &[("api-key", KEY)], &body);
        refused(&answer, 503, "no_backend_available", "server_error");
    }
    attempts(&gateway, "connect", 2.0);
}

#[test]
fn a_backend_that_hangs_up_before_it_answers_is_not_available() {
    let backend = Backend::start(|_, _| Ok(After::Close));
    let gateway = gateway(&backend.url, "");
    for body in [CHAT.to_owned(), streaming()] {
        let answer = post(&gateway, "/v1/chat/completions", &[("api-key", KEY)], &body);
        refused(&answer, 503, "no_backend_available", "server_error");
    }
    attempts(&gateway, "reset", 2.0);
}

#[test]
fn a_backend_that_breaks_off_in_an_unstreamed_answer_is_not_available() {
    let backend = Backend::start(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"id\"";
        stream.write_all(head.as_bytes())?;
        Ok(After::Close)
    });
    let gateway = gateway(&backend.url, "");
    let answer = post(&gateway, "/v1/chat/completions", &[("api-key", KEY)], CHAT);
    refused(&answer, 503, "no_backend_available", "server_error");
}

#[test]
fn a_subscription_beyond_its_concurrent_requests_is_told_when_to_come_back() {
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let backend = Backend::start(move |_, stream| {
        released
            .lock()
            .unwrap()
            .recv()
            .map_err(std::io::Error::other)?;
        write_answer(stream, 200, "", ANSWER)?;
        Ok(After::Keep)
    });
    let gateway = gateway(&backend.url, "");
    let url = format!("{}/v1/chat/completions", gateway.url);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| http::post(&url, &[("api-key", SMALL_KEY)], CHAT));
        let second = scope.spawn(|| http::post(&url, &[("api-key", SMALL_KEY)], CHAT));
        backend.wait_for(2);
        let third = http::post(&url, &[("api-key", SMALL_KEY)], CHAT);
        refused(&third, 503, "overloaded", "server_error");
        let wait: u64 = third.header("retry-after").unwrap().parse().unwrap();
        assert!(wait >= 1);
        // Nobody else is held up by it.
        let other = scope.spawn(|| http::post(&url, &[("api-key", KEY)], CHAT));
        backend.wait_for(3);
        for _ in 0..4 {
            release.send(()).unwrap();
        }
        assert_eq!(first.join().unwrap().status, 200);
        assert_eq!(second.join().unwrap().status, 200);
        assert_eq!(other.join().unwrap().status, 200);
    });
    // The places are free again.
    support::wait_until("a place is free again", || {
        let answer = http::post(&url, &[("api-key", SMALL_KEY)], CHAT);
        (answer.status == 200).then_some(())
    });
}

#[test]
fn a_status_of_the_only_backend_reaches_the_caller_unchanged() {
    let backend = Backend::start(|request, stream| {
        let status: u16 = request.header("x-wanted").unwrap().parse().unwrap();
        write_answer(stream, status, BACKEND_HEADERS, &backend_error(status))?;
        Ok(After::Keep)
    });
    let gateway = gateway(&backend.url, "");
    let statuses = ["400", "401", "403", "404", "409", "429", "500", "503"];
    for (status, body) in statuses
        .iter()
        .flat_map(|s| [(s, CHAT.to_owned()), (s, streaming())])
    {
        let headers = [("api-key", KEY), ("x-wanted", *status)];
        let answer = post(&gateway, "/v1/chat/completions", &headers, &body);
        assert_eq!(answer.status.to_string(), **status);
        assert_eq!(answer.text(), backend_error(answer.status));
        assert_eq!(
            answer.header("content-type"),
            Some("application/json; charset=x")
        );
        assert_eq!(answer.header("retry-after"), Some("7"));
        assert_eq!(answer.header("x-ms-region"), Some("East US"));
        assert_eq!(answer.header("apim-request-id"), Some("a-1"));
        assert_eq!(answer.header("x-request-id"), Some("r-1"));
        assert_eq!(answer.header("x-ratelimit-remaining-tokens"), None);
    }
    // The credential that was refused isn't the caller's: the operator has to hear of it.
    let log = gateway.log();
    let errors: Vec<_> = log
        .lines()
        .filter(|line| line.contains("\"ERROR\"") && line.contains(BACKEND_NAME))
        .collect();
    assert_eq!(errors.len(), 4, "401 and 403, twice each:\n{log}");
    assert!(!log.contains(BACKEND_KEY));
}

const BACKEND_HEADERS: &str = "content-type: application/json; charset=x\r\nretry-after: 7\r\nx-ms-region: East US\r\n\
    apim-request-id: a-1\r\nx-request-id: r-1\r\nx-ratelimit-remaining-tokens: 5\r\n";

fn backend_error(status: u16) -> String {
    format!(
        "{{ \"error\" :\t{{\"code\": \"{status}\", \"message\": \"caf\u{e9}\\u00e9\" , \"innererror\":{{}} }} }}\n"
    )
}

fn write_answer(
    stream: &mut impl Write,
    status: u16,
    headers: &str,
    body: &str,
) -> std::io::Result<()> {
    let type_line = match headers {
        "" => "content-type: application/json\r\n",
        _ => "",
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} Status\r\n{type_line}{headers}content-length: {length}\r\n\r\n{body}"
    )
}

fn attempts(gateway: &Gateway, outcome: &str, count: f64) {
    let labels = [("backend", BACKEND_NAME), ("status", outcome)];
    gateway.wait_for_metric("tollgate_backend_attempts_total", &labels, count);
}
