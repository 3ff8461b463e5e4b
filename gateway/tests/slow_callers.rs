//! Callers that take their time: heads and bodies that drip, answers that are read by the byte, connections that say
//! nothing. Each is cut in its time, what it holds is bounded, and others are served as before.
//!
//! The slow ones are slowhttptest, as an attacker would take it, and a few of our own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::io::{BufReader, Read, Write};
use std::process::{Command, Stdio};

use support::backend::{After, Backend};
use support::gateway::Gateway;
use support::{http, wait_until};

const KEY: &str = "key-of-those-who-are-served";
const SLOW_KEY: &str = "key-of-the-slow";
/// Slow connections at once.
const SLOW: usize = 1_000;
/// What a slow connection may hold, and what the process may grow by for other reasons. Bytes.
const HELD: u64 = 150 << 10;
const GROWTH: u64 = 64 << 20;

#[test]
fn a_thousand_slow_heads_hold_nobody_up() {
    let (gateway, _backend) = gateway(LIMITS);
    attacked(&gateway, &["-H", "-i", "1"], "/v1/files");
}

#[test]
fn a_thousand_slow_bodies_hold_nobody_up() {
    let (gateway, _backend) = gateway(LIMITS);
    let path = format!("/v1/files?subscription-key={SLOW_KEY}");
    attacked(&gateway, &["-B", "-i", "1", "-s", "8192"], &path);
}

#[test]
fn a_thousand_slow_readers_hold_nobody_up() {
    let (gateway, _backend) = gateway(LIMITS);
    let path = format!("/v1/files/large?subscription-key={SLOW_KEY}");
    let slow = ["-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "32"];
    attacked(&gateway, &slow, &path);
}

#[test]
fn a_head_that_drips_is_cut_as_a_whole() {
    let (gateway, backend) = gateway("header-timeout = \"500ms\"\nidle-timeout = \"500ms\"");
    let authority = &gateway.url["http://".len()..];
    let mut fresh = http::connect(authority).unwrap();
    drip_until_cut(&mut fresh);
    let mut used = http::connect(authority).unwrap();
    let call = format!("GET /v1/files HTTP/1.1\r\nhost: a\r\napi-key: {KEY}\r\n\r\n");
    used.write_all(call.as_bytes()).unwrap();
    let mut answers = BufReader::new(used.try_clone().unwrap());
    assert_eq!(http::read_answer(&mut answers).unwrap().status, 200);
    drip_until_cut(&mut used);
    assert_eq!(backend.received().len(), 1);
}

#[test]
fn whoever_is_too_slow_with_its_head_is_told_so() {
    let (gateway, backend) = gateway("header-timeout = \"300ms\"");
    let authority = &gateway.url["http://".len()..];
    let mut slow = http::connect(authority).unwrap();
    slow.write_all(b"GET /v1/files HTTP/1.1\r\nhost:").unwrap();
    let answer = http::read_answer(&mut BufReader::new(slow)).unwrap();
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (408, "request_timeout")
    );
    assert_eq!(answer.header("connection"), Some("close"));
    for nothing in [&b""[..], b"\r\n"] {
        let mut silent = http::connect(authority).unwrap();
        silent.write_all(nothing).unwrap();
        let mut said = Vec::new();
        silent.read_to_end(&mut said).unwrap();
        assert!(said.is_empty(), "who asks nothing is told nothing");
    }
    assert!(backend.received().is_empty());
}

#[test]
fn an_answer_may_take_longer_than_a_head() {
    let (cut, wait_for_cut) = std::sync::mpsc::channel::<()>();
    let wait_for_cut = std::sync::Mutex::new(wait_for_cut);
    let backend = Backend::start(move |_, stream| {
        wait_for_cut.lock().unwrap().recv().unwrap();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
        Ok(After::Keep)
    });
    let gateway = before(&backend, "header-timeout = \"200ms\"");
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| {
            let url = format!("{}/v1/files/slow", gateway.url);
            http::request("GET", &url, &[("api-key", KEY)], b"").unwrap()
        });
        backend.wait_for(1);
        // Begun later, this one's time is over: so is that of the call's head.
        let mut silent = http::connect(&gateway.url["http://".len()..]).unwrap();
        assert!(matches!(silent.read(&mut [0]), Ok(0) | Err(_)));
        cut.send(()).unwrap();
        let answer = caller.join().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    });
}

#[test]
fn connections_beyond_the_bound_are_closed_at_once_and_counted() {
    let (gateway, _backend) = gateway("max-connections = 8\nheader-timeout = \"60s\"");
    let authority = &gateway.url["http://".len()..];
    let mut held: Vec<_> = (0..16).map(|_| http::connect(authority).unwrap()).collect();
    let refused = || gateway.metric("tollgate_connections_refused_total", &[]);
    wait_until("eight are refused", || (refused() >= 8.0).then_some(()));
    let mut ended = 0;
    for stream in &mut held {
        stream
            .set_read_timeout(Some(std::time::Duration::from_millis(10)))
            .unwrap();
        ended += usize::from(is_cut(stream.read(&mut [0])));
    }
    assert!((8..16).contains(&ended), "{ended} of 16 are closed");
    held.clear();
    let headers = [("api-key", KEY)];
    wait_until("there is room again", || {
        let answer = http::request("GET", &format!("{}/v1/files", gateway.url), &headers, b"");
        (answer.ok()?.status == 200).then_some(())
    });
}

#[test]
fn a_connection_that_may_speak_http_2_and_says_nothing_is_closed() {
    let config = "header-timeout = \"300ms\"";
    let (gateway, _backend) = gateway(config);
    let mut silent = http::connect(&gateway.h2c_url["http://".len()..]).unwrap();
    assert!(matches!(silent.read(&mut [0]), Ok(0) | Err(_)));
}

const LIMITS: &str =
    "header-timeout = \"2s\"\nbody-timeout = \"2s\"\nidle-timeout = \"2s\"\nwrite-timeout = \"2s\"";

/// Writes a byte of a head now and then, until the gateway has had enough.
fn drip_until_cut(stream: &mut std::net::TcpStream) {
    stream
        .set_read_timeout(Some(std::time::Duration::from_millis(50)))
        .unwrap();
    wait_until("the connection is cut", || {
        let sent = stream.write_all(b"G");
        let read = stream.read(&mut [0]);
        (sent.is_err() || is_cut(read)).then_some(())
    });
}

/// The connection has ended, and not only nothing come of it in time.
fn is_cut(read: std::io::Result<usize>) -> bool {
    match read {
        Ok(length) => length == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

/// Runs slowhttptest with these arguments, and calls meanwhile.
fn attacked(gateway: &Gateway, arguments: &[&str], path: &str) {
    raise_open_files();
    call(gateway);
    let before = resident_bytes(gateway);
    let count = SLOW.to_string();
    let mut attacker = Command::new("slowhttptest")
        .args(["-c", &count, "-r", &count, "-l", "5", "-p", "30", "-u"])
        .arg(format!("{}{path}", gateway.url))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("slowhttptest is installed (Debian: slowhttptest)");
    let mut told = attacker.stdout.take().unwrap();
    let told = std::thread::spawn(move || {
        let mut text = String::new();
        told.read_to_string(&mut text).map(|_| text)
    });
    let (mut calls, mut most) = (0, 0);
    while attacker.try_wait().unwrap().is_none() {
        call(gateway);
        calls += 1;
        most = most.max(resident_bytes(gateway));
    }
    let told = told.join().unwrap().unwrap();
    assert!(told.contains("slow HTTP test status"), "{told}");
    assert!(calls >= 3, "{calls}");
    let bound = before + GROWTH + HELD * SLOW as u64;
    assert!(most < bound, "{most} bytes, {before} before");
    eprintln!(
        "{}: {calls} calls served meanwhile; {} KiB a slow connection",
        arguments[0],
        most.saturating_sub(before) / 1024 / SLOW as u64
    );
    wait_until("nothing is held any more", || {
        (gateway.metric("tollgate_buffered_bytes", &[]) == 0.0).then_some(())
    });
}

fn call(gateway: &Gateway) {
    let url = format!("{}/v1/files", gateway.url);
    let answer = http::request("GET", &url, &[("api-key", KEY)], b"").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// slowhttptest inherits it.
fn raise_open_files() {
    let ours = std::process::id().to_string();
    let raised = Command::new("prlimit")
        .args(["--pid", &ours, "--nofile=8192"])
        .status();
    assert!(
        raised.unwrap().success(),
        "a bound on open files below 8192"
    );
}

fn resident_bytes(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() * 1024
}

fn gateway(limits: &str) -> (Gateway, Backend) {
    let large = "x".repeat(1 << 20);
    let backend = Backend::start(move |request, stream| {
        let body = match request.path() {
            "/v1/files/large" => large.as_str(),
            _ => "ok",
        };
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}"
        )?;
        Ok(After::Keep)
    });
    (before(&backend, limits), backend)
}

fn before(backend: &Backend, limits: &str) -> Gateway {
    let config = CONFIG
        .replace("@LIMITS@", limits)
        .replace("@BACKEND@", &backend.url);
    Gateway::start(&config.replace("@KEY@", KEY).replace("@SLOW@", SLOW_KEY))
}

const CONFIG: &str = r#"
[server]
listen = "@LISTEN@"
h2c = "@H2C@"
admin = "@ADMIN@"

[server.limits]
@LIMITS@

[apis.openai]
path = "/v1"
schema = "openai"
models = { "*" = "all" }
default-pool = "all"

[subscriptions.served]
keys = ["@KEY@"]

[subscriptions.slow]
keys = ["@SLOW@"]

[backends.only]
url = "@BACKEND@/v1"
auth = "none"

[pools.all]
members = [{ backend = "only" }]
"#;
