//! Whoever sends too much, or too slowly, is told so: the answer arrives, whatever of the body is still unread.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::io::{BufReader, Write};
use std::net::TcpStream;

use support::backend::Backend;
use support::curl;
use support::gateway::{Gateway, free_address};
use support::http::{self, Answer};
use support::plain::{self, KEY};

#[test]
fn a_stated_length_over_the_bound_is_refused_and_the_connection_stays_good() {
    let (gateway, backend) = gateway("max-request-body = \"1MiB\"");
    let body = vec![b'x'; 3 << 20];
    let mut caller = Caller::new(&gateway);
    caller.post("/v1/chat/completions", &length(&body), &body);
    refused(&caller.answer(), 413, "request_too_large");
    caller.post("/v1/chat/completions", &length(CHAT), CHAT);
    assert_eq!(caller.answer().status, 200);
    assert_eq!(backend.received().len(), 1);
}

#[test]
fn a_caller_that_asks_first_is_refused_before_it_sends() {
    let (gateway, backend) = gateway("max-request-body = \"1MiB\"");
    let mut caller = Caller::new(&gateway);
    let fields = "content-length: 3000000\r\nexpect: 100-continue\r\n";
    caller.post("/v1/chat/completions", fields, b"");
    let (status, headers) = http::read_head(&mut caller.answers).unwrap();
    assert_eq!(status, 413, "no interim answer may come first");
    assert!(
        headers.contains(&("connection".into(), "close".into())),
        "{headers:?}"
    );
    assert!(backend.received().is_empty());
}

#[test]
fn a_stranger_that_asks_first_is_refused_before_it_sends() {
    let (gateway, _backend) = gateway("");
    let mut stream = http::connect(&gateway.url["http://".len()..]).unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let (status, _) = http::read_head(&mut BufReader::new(stream)).unwrap();
    assert_eq!(status, 401);
}

#[test]
fn chunks_that_grow_over_the_bound_are_refused_and_the_connection_stays_good() {
    let (gateway, _backend) = gateway("max-request-body = \"1MiB\"");
    let mut caller = Caller::new(&gateway);
    caller.post(
        "/v1/chat/completions",
        "transfer-encoding: chunked\r\n",
        b"",
    );
    caller.chunks(&[b'x'; 100_000], 30);
    caller.stream.write_all(b"0\r\n\r\n").unwrap();
    refused(&caller.answer(), 413, "request_too_large");
    caller.post("/v1/chat/completions", &length(CHAT), CHAT);
    assert_eq!(caller.answer().status, 200);
    gateway.wait_for_metric("tollgate_buffered_bytes", &[], 0.0);
}

#[test]
fn chunks_after_an_interim_answer_are_refused_too() {
    let (gateway, _backend) = gateway("max-request-body = \"1MiB\"");
    let mut caller = Caller::new(&gateway);
    let fields = "transfer-encoding: chunked\r\nexpect: 100-continue\r\n";
    caller.post("/v1/chat/completions", fields, b"");
    assert_eq!(http::read_head(&mut caller.answers).unwrap().0, 100);
    caller.chunks(&[b'x'; 100_000], 30);
    caller.stream.write_all(b"0\r\n\r\n").unwrap();
    refused(&caller.answer(), 413, "request_too_large");
}

#[test]
fn a_body_without_end_is_refused_while_it_is_still_coming() {
    let (gateway, _backend) = gateway("max-request-body = \"1MiB\"");
    let mut caller = Caller::new(&gateway);
    caller.post(
        "/v1/chat/completions",
        "transfer-encoding: chunked\r\n",
        b"",
    );
    caller.chunks(&[b'x'; 100_000], 30);
    let answer = caller.answer();
    refused(&answer, 413, "request_too_large");
    assert_eq!(answer.header("connection"), Some("close"));
}

#[test]
fn a_body_over_the_bound_is_refused_over_http_2_and_the_answer_arrives() {
    let h2c = free_address();
    let (_gateway, _backend) = gateway(&format!("max-request-body = \"1MiB\"\nh2c = \"{h2c}\""));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![b'x'; 3 << 20]).unwrap();
    let stated = format!("@{}", file.path().display());
    let url = format!("http://{h2c}/v1/chat/completions");
    let key = format!("api-key: {KEY}");
    let common = ["--http2-prior-knowledge", &url, "-H", &key];
    let seen = curl::curl(&[&common[..], &["--data-binary", &stated]].concat());
    refused(&seen.answer, 413, "request_too_large");

    let mut unstated = curl::start(&[&common[..], &["-X", "POST", "-T", "-"]].concat());
    unstated.send(&vec![b'x'; 3 << 20]);
    refused(&unstated.finish().answer, 413, "request_too_large");
}

#[test]
fn a_stranger_with_an_unread_body_gets_its_answer_over_each_version() {
    let h2c = free_address();
    let (gateway, backend) = gateway(&format!("h2c = \"{h2c}\""));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![b'x'; 3 << 20]).unwrap();
    let stated = format!("@{}", file.path().display());
    // Without waiting for 100 Continue. Over HTTP/1.1 twice; curl 7.88 can't send two bodies on one HTTP/2 connection.
    let body = ["-H", "expect:", "--data-binary", &stated];
    let twice = format!("{}/v1/chat/completions", gateway.url);
    let arguments = ["--http1.1", &twice, "--output", "/dev/null", &twice];
    let seen = curl::curl(&[&body[..], &arguments].concat());
    assert_eq!((seen.answer.status, seen.connections), (401, 1));
    let once = format!("http://{h2c}/v1/chat/completions");
    let seen = curl::curl(&[&body[..], &["--http2-prior-knowledge", &once]].concat());
    refused(&seen.answer, 401, "missing_subscription_key");
    let answer = http::request(
        "POST",
        &format!("{}/v1/files", gateway.url),
        &[],
        &vec![b'x'; 3 << 20],
    );
    refused(&answer.unwrap(), 401, "missing_subscription_key");
    assert!(backend.received().is_empty());
}

#[test]
fn a_stranger_whose_body_stops_coming_is_let_go() {
    let (gateway, _backend) = gateway("");
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n";
    for framing in [
        "content-length: 9000\r\n\r\n{",
        "transfer-encoding: chunked\r\n\r\n5\r\n{",
    ] {
        let mut stream = http::connect(&gateway.url["http://".len()..]).unwrap();
        stream
            .write_all(format!("{head}{framing}").as_bytes())
            .unwrap();
        let mut answers = BufReader::new(stream);
        let answer = http::read_answer(&mut answers).unwrap();
        refused(&answer, 401, "missing_subscription_key");
        assert_eq!(answer.header("connection"), Some("close"));
        // Well within the time that this reader waits.
        assert_eq!(std::io::Read::read(&mut answers, &mut [0]).unwrap(), 0);
    }
}

#[test]
fn a_body_that_drips_is_given_up() {
    let h2c = free_address();
    let server = format!("h2c = \"{h2c}\"\n[server.limits]\nbody-timeout = \"1s\"");
    let (gateway, backend) = gateway(&server);
    let mut caller = Caller::new(&gateway);
    caller.post("/v1/chat/completions", "content-length: 100\r\n", b"{\"mod");
    let answer = caller.answer();
    refused(&answer, 408, "request_timeout");
    assert_eq!(answer.header("connection"), Some("close"));
    drop(caller);

    let url = format!("http://{h2c}/v1/chat/completions");
    let key = format!("api-key: {KEY}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![b'x'; 1 << 20]).unwrap();
    let slowly = format!("@{}", file.path().display());
    let options = [
        "--http2-prior-knowledge",
        &url,
        "-H",
        &key,
        "--limit-rate",
        "10K",
    ];
    let seen = curl::curl(&[&options[..], &["--data-binary", &slowly]].concat());
    refused(&seen.answer, 408, "request_timeout");
    assert!(backend.received().is_empty());
    gateway.wait_for_metric("tollgate_buffered_bytes", &[], 0.0);
}

#[test]
fn a_caller_that_leaves_in_the_middle_of_its_body_holds_nothing() {
    let (gateway, backend) = gateway("");
    let mut caller = Caller::new(&gateway);
    caller.post(
        "/v1/chat/completions",
        "content-length: 1000000\r\n",
        b"{\"mod",
    );
    gateway.wait_for_metric("tollgate_buffered_bytes", &[], 1e6);
    drop(caller);
    gateway.wait_for_metric("tollgate_buffered_bytes", &[], 0.0);
    assert!(backend.received().is_empty());
}

const CHAT: &[u8] = b"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}";

fn gateway(server: &str) -> (Gateway, Backend) {
    let backend = Backend::fixed(200, &[("content-type", "application/json")], "{}");
    let gateway = Gateway::start(&plain::config(server, &plain::openai(&backend.url)));
    (gateway, backend)
}

fn length(body: &[u8]) -> String {
    format!("content-length: {}\r\n", body.len())
}

fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.code(), code);
}

/// One connection of a caller.
struct Caller {
    stream: TcpStream,
    answers: BufReader<TcpStream>,
}

impl Caller {
    fn new(gateway: &Gateway) -> Caller {
        let stream = http::connect(&gateway.url["http://".len()..]).unwrap();
        let answers = BufReader::new(stream.try_clone().unwrap());
        Caller { stream, answers }
    }

    fn post(&mut self, path: &str, fields: &str, body: &[u8]) {
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: tollgate\r\napi-key: {KEY}\r\n{fields}\r\n");
        self.stream.write_all(head.as_bytes()).unwrap();
        self.stream.write_all(body).unwrap();
    }

    fn chunks(&mut self, chunk: &[u8], count: usize) {
        for _ in 0..count {
            write!(self.stream, "{:x}\r\n", chunk.len()).unwrap();
            self.stream.write_all(chunk).unwrap();
            self.stream.write_all(b"\r\n").unwrap();
        }
    }

    fn answer(&mut self) -> Answer {
        http::read_answer(&mut self.answers).unwrap()
    }
}
