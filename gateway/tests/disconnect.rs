//! A caller that leaves ends the upstream call, pays for what was streamed until then, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::io::{Read, Write};
use std::sync::mpsc;

use filters::route::Shape;
use load_tests::simulator::behaviour::{BreakageKind, Chunking};
use load_tests::simulator::{Behaviour, Ending, Handle, Record, Simulator};
use support::backend::Backend;
use support::caller::Caller;
use support::gateway::Gateway;
use support::{before, http, http2, reference, wait_until};

const CHAT: &[u8] =
    br#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Say it."}]}"#;
const STREAM: &str = include_str!("../../filters/tests/streams/chat.txt");
const RECORDS: &str = "tollgate_usage_records_total";
/// Counted by us; as an estimate where the recorded stream named its model, which nobody knows.
const GONE: [(&str, &str); 1] = [("end", "client_gone")];

/// How a caller leaves.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    Fin,
    HalfClose,
    Rst,
    RstStream,
    Http2Close,
}

const WAYS: [Leaves; 5] = [
    Leaves::Fin,
    Leaves::HalfClose,
    Leaves::Rst,
    Leaves::RstStream,
    Leaves::Http2Close,
];

struct Setup {
    simulator: Handle,
    gateway: Gateway,
}

impl Setup {
    async fn new() -> Setup {
        let simulator = Simulator::start_default().await.unwrap();
        let gateway = before::start(&simulator.url());
        Setup { simulator, gateway }
    }

    /// Calls, reads until the answer's body ends in `seen`, and leaves.
    async fn leave_after(&self, seen: &str, how: Leaves, case: &str) {
        let path = before::openai("chat/completions");
        match how {
            Leaves::Fin | Leaves::HalfClose | Leaves::Rst => {
                let mut caller = Caller::connect(&self.gateway.url);
                caller.post(&path, case, CHAT);
                assert_eq!(caller.head().0, 200);
                caller.read_until(seen.as_bytes());
                match how {
                    Leaves::Rst => caller.reset(),
                    Leaves::HalfClose => {
                        caller.half_close();
                        // The gateway can't tell it from a close, and closes too.
                        let _ = caller.rest();
                    }
                    _ => caller.close(),
                }
            }
            Leaves::RstStream | Leaves::Http2Close => {
                let mut caller = http2::Caller::connect(&self.gateway.h2c_url).await;
                let mut answer = caller.post(&path, case, CHAT).await;
                let mut body = Vec::new();
                while !body.ends_with(seen.as_bytes()) {
                    body.extend(http2::chunk(&mut answer).await.unwrap());
                }
                match how {
                    Leaves::Http2Close => drop(caller),
                    _ => {
                        drop(answer);
                        // The connection stays usable for the caller's other calls.
                        self.assert_usable(caller).await;
                    }
                }
            }
        }
    }

    async fn assert_usable(&self, mut caller: http2::Caller) {
        let answer = caller.post("/nowhere", "", b"").await;
        assert_eq!(answer.status(), 404);
    }

    async fn wait_for_call(&self, what: &str, condition: impl Fn(&Record) -> bool) -> Record {
        let found = self
            .simulator
            .wait_for(|records| records.last().is_some_and(&condition))
            .await;
        let records = found.unwrap_or_else(|late| panic!("{what}: {:#?}", late.records.last()));
        records.last().unwrap().clone()
    }

    /// Every one of them was counted by us: none without figures, none with a backend's.
    fn assert_counted_by_us(&self, count: f64) {
        let by_us = |source| {
            let labels = [("source", source), ("end", "client_gone")];
            self.gateway.metric(RECORDS, &labels)
        };
        assert_eq!(by_us("counted") + by_us("estimated"), count);
    }

    fn assert_nothing_is_left(&self) {
        let status = format!("{}/status", self.gateway.admin_url);
        wait_until("nothing is in flight", || {
            let status = http::get(&status).json();
            (status["in_flight"] == 0 && status["buffered_bytes"] == 0).then_some(())
        });
        self.gateway
            .wait_for_metric("tollgate_streams_open", &[], 0.0);
        self.gateway
            .wait_for_metric("tollgate_buffered_bytes", &[], 0.0);
    }

    fn assert_counted(&self, case: &str, streamed: &str) {
        let (prompt, completion) = reference::counted(Shape::Chat, "gpt-4o", CHAT, streamed);
        for (name, tokens) in [
            ("prompt", prompt),
            ("completion", completion),
            ("total", prompt + completion),
        ] {
            let name = format!("tests_{name}_tokens_total");
            let counted = self.gateway.metric(&name, &[("case", case)]);
            assert_eq!(counted, tokens as f64, "{name} of {case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_leaves_a_silent_stream_ends_the_upstream_call_and_pays_for_what_came() {
    let setup = Setup::new().await;
    let events = reference::events(STREAM);
    let seen = events[..3].concat();
    for (number, how) in WAYS.into_iter().enumerate() {
        let case = format!("{how:?}");
        let mut behaviour = Behaviour::playback(STREAM, Chunking::Events);
        behaviour.breakage = Behaviour::breaks(BreakageKind::Hang, Some(3)).breakage;
        setup.simulator.set(behaviour);
        setup.leave_after(events[2], how, &case).await;
        let gone = |record: &Record| record.answer.ending == Ending::CallerGone;
        let record = setup.wait_for_call(&case, gone).await;
        assert_eq!(record.answer.events_sent, 3, "{case}");
        setup
            .gateway
            .wait_for_metric(RECORDS, &GONE, (number + 1) as f64);
        setup.assert_counted_by_us((number + 1) as f64);
        setup.assert_counted(&case, &seen);
        setup.assert_nothing_is_left();
    }
    assert_eq!(setup.gateway.metric(RECORDS, &[]), WAYS.len() as f64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_leaves_in_the_flow_of_events_stops_it() {
    let setup = Setup::new().await;
    let events = 100_000;
    for (number, how) in WAYS.into_iter().enumerate() {
        setup.simulator.set(Behaviour::tokens(events));
        setup.leave_after("\n\n", how, "flow").await;
        let ended = |record: &Record| record.answer.ending != Ending::Open;
        let record = setup.wait_for_call("the call ends", ended).await;
        assert_eq!(record.answer.ending, Ending::CallerGone, "{how:?}");
        assert!(record.answer.events_sent < events as usize, "{how:?}");
        setup
            .gateway
            .wait_for_metric(RECORDS, &GONE, (number + 1) as f64);
        setup.assert_counted_by_us((number + 1) as f64);
    }
    setup.assert_nothing_is_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_leaves_before_the_answer_ends_the_upstream_call_and_pays_for_the_prompt() {
    let setup = Setup::new().await;
    setup.simulator.set(Behaviour::hang());
    let path = before::openai("chat/completions");
    for (number, how) in WAYS.into_iter().enumerate() {
        let case = format!("{how:?}");
        let arrived =
            |record: &Record| record.body.complete && record.answer.ending == Ending::Open;
        match how {
            Leaves::Fin | Leaves::HalfClose | Leaves::Rst => {
                let mut caller = Caller::connect(&setup.gateway.url);
                caller.post(&path, &case, CHAT);
                setup.wait_for_call(&case, arrived).await;
                match how {
                    Leaves::Rst => caller.reset(),
                    Leaves::HalfClose => {
                        caller.half_close();
                        let _ = caller.rest();
                    }
                    _ => caller.close(),
                }
            }
            Leaves::RstStream | Leaves::Http2Close => {
                let mut caller = http2::Caller::connect(&setup.gateway.h2c_url).await;
                tokio::select! {
                    answer = caller.try_post(&path, &case, CHAT) => panic!("{answer:?}"),
                    _ = setup.wait_for_call(&case, arrived) => {}
                }
            }
        }
        let gone = |record: &Record| record.answer.ending == Ending::CallerGone;
        setup.wait_for_call(&case, gone).await;
        setup
            .gateway
            .wait_for_metric(RECORDS, &GONE, (number + 1) as f64);
        setup.assert_counted_by_us((number + 1) as f64);
        setup.assert_counted(&case, "");
        setup.assert_nothing_is_left();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_leaves_after_the_last_event_has_had_all_of_it() {
    let (ended, end) = mpsc::channel();
    let backend = Backend::start(move |_, connection| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let body = format!("{head}{:x}\r\n{STREAM}\r\n", STREAM.len());
        connection.write_all(body.as_bytes())?;
        // The body's end never comes; the gateway's end of the connection does.
        let read = connection.read(&mut [0]);
        ended.send(read.map_err(|error| error.kind())).unwrap();
        Err(std::io::ErrorKind::BrokenPipe.into())
    });
    let gateway = before::start(&backend.url);
    let mut caller = Caller::connect(&gateway.url);
    caller.post(&before::openai("chat/completions"), "done", CHAT);
    caller.head();
    caller.read_until(b"data: [DONE]\n\n");
    caller.close();
    let read = end.recv_timeout(support::DEADLINE).unwrap();
    assert!(!matches!(read, Ok(1..)), "{read:?}");
    let complete = [("source", "upstream"), ("end", "complete")];
    gateway.wait_for_metric(RECORDS, &complete, 1.0);
    assert_eq!(
        gateway.metric("tests_total_tokens_total", &[("case", "done")]),
        16.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_sends_its_next_request_during_a_stream_gets_both_answers() {
    let setup = Setup::new().await;
    let path = before::openai("chat/completions");
    setup
        .simulator
        .set(Behaviour::playback(STREAM, Chunking::Events).with_gate());
    let mut caller = Caller::connect(&setup.gateway.url);
    caller.post(&path, "", CHAT);
    assert_eq!(caller.head().0, 200);
    let mut first = caller.chunk().unwrap();
    caller.post(&path, "", CHAT);
    caller.post(&path, "", CHAT);
    setup.simulator.gate().open();
    first.extend(caller.read_until(b"data: [DONE]\n\n"));
    assert!(caller.chunk().unwrap().is_empty(), "a proper end");
    let expected = reference::without_usage_chunk(STREAM);
    assert_eq!(String::from_utf8(first).unwrap(), expected);
    for _ in 0..2 {
        let answer = caller.answer().unwrap();
        assert_eq!((answer.status, answer.text()), (200, expected.clone()));
    }
    setup
        .gateway
        .wait_for_metric(RECORDS, &[("end", "complete")], 3.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_callers_that_leave_leave_nothing_behind() {
    let setup = Setup::new().await;
    let path = before::openai("chat/completions");
    let mut warm = Caller::connect(&setup.gateway.url);
    warm.post(&path, "", CHAT);
    assert_eq!(warm.answer().unwrap().status, 200);
    let mut http2 = http2::Caller::connect(&setup.gateway.h2c_url).await;
    assert!(http2::body(http2.post(&path, "", CHAT).await).await.is_ok());
    setup.assert_nothing_is_left();
    let sockets_before = sockets(&setup.gateway);

    setup
        .simulator
        .set(Behaviour::breaks(BreakageKind::Hang, Some(2)));
    for number in 0..1000 {
        if number % 3 == 0 {
            let mut answer = http2.post(&path, "thousand", CHAT).await;
            http2::chunk(&mut answer).await.unwrap();
            continue;
        }
        let mut caller = Caller::connect(&setup.gateway.url);
        caller.post(&path, "thousand", CHAT);
        caller.head();
        caller.chunk().unwrap();
        if number % 3 == 1 {
            caller.close();
        } else {
            caller.reset();
        }
    }
    setup.gateway.wait_for_metric(RECORDS, &GONE, 1000.0);
    setup.assert_counted_by_us(1000.0);
    setup.assert_nothing_is_left();
    let all_gone = setup.simulator.wait_for(|records| {
        let gone = records
            .iter()
            .filter(|record| record.answer.ending == Ending::CallerGone);
        gone.count() == 1000
    });
    assert!(
        all_gone.await.is_ok(),
        "a call to the backend is still open"
    );
    wait_until("the connections are closed", || {
        (sockets(&setup.gateway) <= sockets_before).then_some(())
    });
}

/// How many sockets the gateway's process holds.
fn sockets(gateway: &Gateway) -> usize {
    let folder = format!("/proc/{}/fd", gateway.pid());
    let files = std::fs::read_dir(folder).unwrap().flatten();
    let links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    let is_socket = |link: &std::path::PathBuf| link.to_string_lossy().starts_with("socket:");
    links.filter(is_socket).count()
}
