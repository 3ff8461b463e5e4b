//! Backends whose answers lie: more bytes than were announced, bodies where there is none, two lengths, another protocol.
//!
//! After each lie others call over whatever connection the gateway has kept. Nobody may get bytes of an answer that
//! isn't its own, and what can be read in two ways isn't passed on at all.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::io::Write;

use support::backend::{After, Backend, Received};
use support::curl;
use support::gateway::Gateway;
use support::http;
use support::plain::{self, KEY};

/// What the next caller would get if the end of an answer were taken for it.
const STOLEN: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n\r\nstolen";

/// What comes of a lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// The answer as it was announced, and nothing of what came behind it.
    Announced,
    /// That there is no answer: 503.
    Nothing,
}

/// Announced, and what follows.
const LIES: [(&str, &str, Told); 34] = [
    ("content-length: 2\r\n\r\nok", "", Told::Announced),
    ("content-length: 2\r\n\r\nok", "\r\n", Told::Announced),
    ("content-length: 2, 2\r\n\r\nok", "", Told::Announced),
    (
        "content-length: 2\r\ncontent-length: 2\r\n\r\nok",
        "",
        Told::Announced,
    ),
    (
        "content-length: 2\r\nconnection: close\r\n\r\nok",
        "",
        Told::Announced,
    ),
    ("content-length: 0\r\n\r\n", "", Told::Announced),
    (
        "transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "",
        Told::Announced,
    ),
    (
        "transfer-encoding: chunked\r\n\r\n2;a=\"b\"\r\nok\r\n0;c\r\nx: y\r\n\r\n",
        "",
        Told::Announced,
    ),
    (
        "transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\ncontent-length: 50\r\n\r\n",
        "",
        Told::Announced,
    ),
    (
        "transfer-encoding: chunked\r\ncontent-length: 200\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "",
        Told::Announced,
    ),
    (
        "transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "",
        Told::Announced,
    ),
    (
        "content-length: 2\r\ncontent-length: 200\r\n\r\nok",
        "",
        Told::Nothing,
    ),
    (
        "content-length: 200\r\ncontent-length: 2\r\n\r\nok",
        "",
        Told::Nothing,
    ),
    ("content-length: 2,200\r\n\r\nok", "", Told::Nothing),
    ("content-length: +2\r\n\r\nok", "", Told::Nothing),
    ("content-length: -2\r\n\r\nok", "", Told::Nothing),
    ("content-length: 0x2\r\n\r\nok", "", Told::Nothing),
    ("content-length: 2 2\r\n\r\nok", "", Told::Nothing),
    ("content-length: \r\n\r\nok", "", Told::Nothing),
    (
        "content-length: 18446744073709551618\r\n\r\nok",
        "",
        Told::Nothing,
    ),
    (
        "content-length: 2\r\n content-length: 200\r\n\r\nok",
        "",
        Told::Nothing,
    ),
    ("content-length:\r\n 2\r\n\r\nok", "", Told::Nothing),
    ("content-length : 2\r\n\r\nok", "", Told::Nothing),
    ("content-length\0: 2\r\n\r\nok", "", Told::Nothing),
    ("content-length: 2\r\nx: a\0b\r\n\r\nok", "", Told::Nothing),
    ("content-length: 2\r\nx: a\rb\r\n\r\nok", "", Told::Nothing),
    (": 2\r\ncontent-length: 2\r\n\r\nok", "", Told::Nothing),
    (
        "transfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "",
        Told::Nothing,
    ),
    (
        "transfer-encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "",
        Told::Nothing,
    ),
    (
        "transfer-encoding: identity\r\ncontent-length: 2\r\n\r\nok",
        "",
        Told::Nothing,
    ),
    (
        "transfer-encoding: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "",
        Told::Nothing,
    ),
    (
        "transfer-encoding:\u{b}chunked\r\ncontent-length: 2\r\n\r\nok",
        "",
        Told::Nothing,
    ),
    ("no colon\r\ncontent-length: 2\r\n\r\nok", "", Told::Nothing),
    ("x y: z\r\ncontent-length: 2\r\n\r\nok", "", Told::Nothing),
];

#[test]
fn what_follows_an_answer_is_never_anothers() {
    let (gateway, backend) = gateway();
    for at_once in [true, false] {
        for (number, (announced, _, told)) in LIES.iter().enumerate() {
            let answer = call(
                &gateway,
                "GET",
                &format!("/v1/lies/{number}?at-once={at_once}"),
            );
            let text = answer.text();
            assert!(!text.contains("stolen"), "{announced:?}: {text}");
            match told {
                Told::Announced => {
                    let body = if announced.contains("ok") { "ok" } else { "" };
                    assert_eq!((answer.status, text.as_str()), (200, body), "{announced:?}");
                    let lengths = answer.headers.iter();
                    let lengths = lengths.filter(|(name, _)| name == "content-length");
                    let lengths: Vec<_> = lengths.map(|(_, value)| value.as_str()).collect();
                    assert!(lengths.len() <= 1, "{lengths:?}");
                    assert!(
                        lengths.iter().all(|length| length.parse::<u64>().is_ok()),
                        "{lengths:?}"
                    );
                }
                Told::Nothing => assert_eq!(answer.status, 503, "{announced:?}: {text}"),
            }
            others(&gateway, announced);
        }
    }
    // A connection that was in step is used again: the gateway doesn't only save itself by new ones.
    assert!(backend.connections() < backend.received().len());
}

#[test]
fn a_body_where_there_is_none_is_never_anothers() {
    let (gateway, _backend) = gateway();
    for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304), ("POST", 204)] {
        for framed in ["content-length: 83", "transfer-encoding: chunked", "x: y"] {
            let path = format!("/v1/bodies/{status}/{}", framed.replace(": ", "="));
            let key = format!("api-key: {KEY}");
            let url = format!("{}{path}", gateway.url);
            let mut arguments = vec!["--http1.1", "-H", &key, &url];
            match method {
                "HEAD" => arguments.push("--head"),
                "POST" => arguments.extend(["--data", "{}"]),
                _ => {}
            }
            let seen = curl::curl(&arguments);
            assert_eq!(seen.answer.status, status, "{method} {framed}");
            assert!(!seen.answer.text().contains("stolen"), "{method} {framed}");
            others(&gateway, framed);
        }
    }
}

#[test]
fn chunks_that_lie_break_the_answer_off_and_nothing_else() {
    let (gateway, _backend) = gateway();
    for (number, chunks) in CHUNKS.iter().enumerate() {
        let url = format!("{}/v1/chunks/{number}", gateway.url);
        let answer = http::request("GET", &url, &[("api-key", KEY)], b"");
        if let Ok(answer) = answer {
            let text = answer.text();
            assert!(!text.contains("stolen"), "{chunks:?}");
            assert_ne!(answer.status, 200, "{chunks:?}: {text}");
        }
        others(&gateway, chunks);
    }
}

const CHUNKS: [&str; 10] = [
    "2\r\nokX\r\n0\r\n\r\n",
    "2\nok\r\n0\r\n\r\n",
    "2\r\nok\n0\r\n\r\n",
    "0x2\r\nok\r\n0\r\n\r\n",
    "+2\r\nok\r\n0\r\n\r\n",
    "-1\r\nok\r\n0\r\n\r\n",
    " 2\r\nok\r\n0\r\n\r\n",
    "10000000000000002\r\nok\r\n0\r\n\r\n",
    "ffffffffffffffffff\r\nok\r\n0\r\n\r\n",
    "\r\n2\r\nok\r\n0\r\n\r\n",
];

#[test]
fn interim_answers_without_end_and_other_protocols_are_no_answers() {
    let (gateway, _backend) = gateway();
    for path in [
        "/v1/interim/100",
        "/v1/interim/103",
        "/v1/interim/199",
        "/v1/interim/101",
    ] {
        let answer = call(&gateway, "GET", path);
        assert_eq!(answer.status, 503, "{path}: {}", answer.text());
        others(&gateway, path);
    }
}

/// Calls on connections of their own, over those that the gateway keeps to the backend.
fn others(gateway: &Gateway, after: &str) {
    for number in 0..3 {
        let path = format!("/v1/mine/{number}");
        let answer = call(gateway, "GET", &path);
        assert_eq!(
            (answer.status, answer.text()),
            (200, path),
            "after {after:?}"
        );
    }
}

fn call(gateway: &Gateway, method: &str, path: &str) -> http::Answer {
    let url = format!("{}{path}", gateway.url);
    http::request(method, &url, &[("api-key", KEY)], b"").unwrap()
}

/// With one thread, so that connections are kept in one place.
fn gateway() -> (Gateway, Backend) {
    let backend = Backend::start(|request, stream| {
        answer(request, stream)?;
        Ok(After::Keep)
    });
    let config = plain::config("threads = 1", &plain::openai(&backend.url));
    (Gateway::start(&config), backend)
}

fn answer(request: &Received, stream: &mut impl Write) -> std::io::Result<()> {
    let path = request.path();
    let parts: Vec<&str> = path.split(['/', '?']).collect();
    match parts[2] {
        "lies" => {
            let (announced, follows, _) = LIES[parts[3].parse::<usize>().unwrap()];
            let first = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n{announced}");
            let second = format!("{follows}{STOLEN}");
            if parts[4] == "at-once=true" {
                return stream.write_all(format!("{first}{second}").as_bytes());
            }
            stream.write_all(first.as_bytes())?;
            stream.flush()?;
            stream.write_all(second.as_bytes())
        }
        "bodies" => {
            let framed = parts[4].replace('=', ": ");
            write!(
                stream,
                "HTTP/1.1 {} Status\r\n{framed}\r\n\r\n{STOLEN}",
                parts[3]
            )
        }
        "chunks" => {
            let chunks = CHUNKS[parts[3].parse::<usize>().unwrap()];
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{chunks}{STOLEN}"
            )
        }
        "interim" => {
            for _ in 0..1_000 {
                write!(stream, "HTTP/1.1 {} Interim\r\n\r\n", parts[3])?;
            }
            stream.write_all(STOLEN.as_bytes())
        }
        _ => write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{path}",
            path.len()
        ),
    }
}
