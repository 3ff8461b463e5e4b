//! A stream reaches the caller as it comes: each event when it arrives, every byte as it was, and its end as it was.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::io::Write;
use std::sync::{Mutex, mpsc};

use load_tests::simulator::behaviour::Chunking;
use load_tests::simulator::{Behaviour, Simulator};
use support::backend::{After, Backend};
use support::caller::Caller;
use support::{DEADLINE, before, http2, reference};

const CHAT: &[u8] =
    br#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Say it."}]}"#;
const UNSTREAMED: &[u8] = br#"{"model":"gpt-4o","messages":[{"role":"user","content":"Say it."}]}"#;
const EMBEDDINGS: &[u8] = br#"{"model":"text-embedding-3-small","input":"Say it."}"#;
const STREAM: &str = include_str!("../../filters/tests/streams/chat.txt");
const EVENTS: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const RECORDS: &str = "tollgate_usage_records_total";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_leaves_before_the_backend_sends_the_next() {
    let simulator = Simulator::start_default().await.unwrap();
    let gateway = before::start(&simulator.url());
    simulator.set(Behaviour::playback(STREAM, Chunking::Events).with_gate());
    let mut caller = Caller::connect(&gateway.url);
    caller.post(&before::openai("chat/completions"), "", CHAT);
    assert_eq!(caller.head().0, 200);
    for (number, event) in reference::events(STREAM)[..3].iter().enumerate() {
        assert_eq!(caller.chunk().unwrap(), event.as_bytes());
        let record = &simulator.requests()[0];
        assert_eq!(record.answer.events_sent, number + 1);
        simulator.gate().release(1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_leaves_before_the_backend_sends_the_next_over_http_2_too() {
    let simulator = Simulator::start_default().await.unwrap();
    let gateway = before::start(&simulator.url());
    simulator.set(Behaviour::playback(STREAM, Chunking::Events).with_gate());
    let mut caller = http2::Caller::connect(&gateway.h2c_url).await;
    let path = before::openai("chat/completions");
    let mut answer = caller.post(&path, "", CHAT).await;
    assert_eq!(answer.status(), 200);
    for (number, event) in reference::events(STREAM)[..3].iter().enumerate() {
        let chunk = http2::chunk(&mut answer).await.unwrap();
        assert_eq!(chunk, event.as_bytes());
        let record = &simulator.requests()[0];
        assert_eq!(record.answer.events_sent, number + 1);
        simulator.gate().release(1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_event_doesnt_wait_for_the_rest_of_the_next() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let backend = Backend::start(move |_, stream| {
        stream.write_all(format!("{EVENTS}15\r\ndata: {{\"a\":1}}\n\ndata: \r\n").as_bytes())?;
        gone.lock().unwrap().recv_timeout(DEADLINE).unwrap();
        stream.write_all(b"9\r\n{\"b\":2}\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")?;
        Ok(After::Keep)
    });
    let gateway = before::start(&backend.url);
    let mut caller = Caller::connect(&gateway.url);
    caller.post(&before::openai("chat/completions"), "", CHAT);
    caller.head();
    assert_eq!(caller.chunk().unwrap(), b"data: {\"a\":1}\n\n");
    go.send(()).unwrap();
    let rest = caller.read_until(b"[DONE]\n\n");
    assert_eq!(rest, b"data: {\"b\":2}\n\ndata: [DONE]\n\n");
    assert!(caller.chunk().unwrap().is_empty(), "a proper end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_event_of_the_backend_passes_and_is_an_end() {
    let simulator = Simulator::start_default().await.unwrap();
    let gateway = before::start(&simulator.url());
    let chat = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\ndata: {\"error\":{\"message\":\"overloaded\",\"code\":\"server_error\"}}\n\n";
    let response = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{}}\n\nevent: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"overloaded\",\"param\":null}\n\n";
    let mut caller = Caller::connect(&gateway.url);
    for (operation, body, stream) in [
        ("chat/completions", CHAT, chat),
        (
            "responses",
            &br#"{"model":"gpt-4o","stream":true,"input":"Say it."}"#[..],
            response,
        ),
    ] {
        simulator.set(Behaviour::playback(stream, Chunking::Events).times(1));
        caller.post(&before::openai(operation), "", body);
        let answer = caller.answer().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, stream));
    }
    gateway.wait_for_metric(RECORDS, &[("end", "complete")], 2.0);
    assert_eq!(gateway.metric(RECORDS, &[("end", "upstream_cut")]), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_of_the_backend_reaches_who_asked_for_a_stream_unchanged() {
    let simulator = Simulator::start_default().await.unwrap();
    let gateway = before::start(&simulator.url());
    let mut caller = Caller::connect(&gateway.url);
    for status in [400, 404, 422, 429] {
        let body = format!("{{ \"error\": {{\"code\":\"{status}\",\"message\":\"no\"}}}}\n");
        let fields = [
            ("content-type", "application/json; charset=utf-8"),
            ("x-ms-region", "Here"),
        ];
        simulator.set(Behaviour::answer(status, &fields, Some(&body)).times(1));
        caller.post(&before::openai("chat/completions"), "refused", CHAT);
        let answer = caller.answer().unwrap();
        assert_eq!((answer.status, answer.text()), (status, body));
        for (name, value) in fields {
            assert_eq!(answer.header(name), Some(value));
        }
    }
    gateway.wait_for_metric(RECORDS, &[("source", "none"), ("end", "complete")], 4.0);
    assert_eq!(
        gateway.metric("tests_total_tokens_total", &[("case", "refused")]),
        0.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unstreamed_answer_that_breaks_off_is_refused_and_never_cut_short() {
    let heads = ["content-length: 500", "transfer-encoding: chunked"];
    for head in heads {
        let half = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{head}\r\n\r\n9\r\n{{\"a\":1234\r\n"
        );
        let backend = Backend::start(move |_, stream| {
            stream.write_all(half.as_bytes())?;
            Ok(After::Close)
        });
        let gateway = before::start(&backend.url);
        for (path, body) in [
            (before::openai("chat/completions"), UNSTREAMED),
            (
                before::azure("text-embedding-3-small", "embeddings"),
                EMBEDDINGS,
            ),
        ] {
            let mut caller = Caller::connect(&gateway.url);
            caller.post(&path, "", body);
            let answer = caller.answer().unwrap();
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (503, "no_backend_available"),
                "{head}"
            );
        }
        gateway.wait_for_metric(
            "tollgate_backend_attempts_total",
            &[("status", "reset")],
            2.0,
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_isnt_understood_breaks_off_as_the_backend_did() {
    let backend = Backend::start(|_, stream| {
        stream.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ncontent-length: 50\r\n\r\nhalf",
        )?;
        Ok(After::Close)
    });
    let gateway = before::start(&backend.url);
    let path = before::openai("audio/speech");
    let body = br#"{"model":"tts-1","input":"Say it."}"#;
    let mut caller = Caller::connect(&gateway.url);
    caller.post(&path, "", body);
    assert_eq!(caller.head().0, 200);
    assert_eq!(
        caller.rest().unwrap(),
        b"half",
        "the length says that more was to come"
    );
    let mut caller = http2::Caller::connect(&gateway.h2c_url).await;
    let answer = caller.post(&path, "", body).await;
    assert!(
        http2::body(answer).await.is_err(),
        "the end mustn't look proper"
    );
    gateway.wait_for_metric(RECORDS, &[("end", "upstream_cut")], 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_unstreamed_answer_passes_and_its_usage_is_read_from_its_end() {
    let vectors = "0.0123456789,".repeat(500_000);
    let body = format!(
        "{{\"object\":\"list\",\"data\":[{{\"embedding\":[{vectors}0]}}],\"model\":\"text-embedding-3-small\",\"usage\":{{\"prompt_tokens\":7,\"total_tokens\":7}}}}"
    );
    let length = format!("content-length: {}\r\n\r\n{body}", body.len());
    let chunked = format!(
        "transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    for rest in [length, chunked] {
        let whole = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{rest}");
        let backend = Backend::start(move |_, stream| {
            stream.write_all(whole.as_bytes())?;
            Ok(After::Keep)
        });
        let gateway = before::start(&backend.url);
        let mut caller = Caller::connect(&gateway.url);
        caller.post(&before::openai("embeddings"), "large", EMBEDDINGS);
        assert!(caller.answer().unwrap().body == body.as_bytes());
        gateway.wait_for_metric("tests_prompt_tokens_total", &[("case", "large")], 7.0);
        let source = [("source", "upstream"), ("end", "complete")];
        assert_eq!(gateway.metric(RECORDS, &source), 1.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compressed_answer_passes_though_none_was_asked_for() {
    let packed = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xfe, 0xff];
    let backend = Backend::start(move |_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip";
        let head = format!("{head}\r\ncontent-length: {}\r\n\r\n", packed.len());
        stream.write_all(&[head.as_bytes(), &packed].concat())?;
        Ok(After::Keep)
    });
    let gateway = before::start(&backend.url);
    let mut caller = Caller::connect(&gateway.url);
    caller.post(&before::openai("chat/completions"), "gzip", UNSTREAMED);
    let answer = caller.answer().unwrap();
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert_eq!(answer.body, packed);
    let asked = &backend.received()[0];
    assert_eq!(asked.header("accept-encoding"), Some("identity"));
    // What was answered can't be read; what was asked can.
    let counted = [("source", "counted"), ("end", "complete")];
    gateway.wait_for_metric(RECORDS, &counted, 1.0);
    let shape = filters::route::Shape::Chat;
    let (prompt, _) = reference::counted(shape, "gpt-4o", UNSTREAMED, "");
    let tokens = gateway.metric("tests_total_tokens_total", &[("case", "gzip")]);
    assert_eq!(tokens, prompt as f64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_too_large_to_hold_passes_unread() {
    let stream = format!(
        "data: {{\"x\":\"{}\"}}\n\ndata: {{\"choices\":[]}}\n\n",
        "x".repeat(9 << 20)
    );
    let whole = format!("{EVENTS}{:x}\r\n{stream}\r\n0\r\n\r\n", stream.len());
    let backend = Backend::start(move |_, connection| {
        connection.write_all(whole.as_bytes())?;
        Ok(After::Keep)
    });
    let gateway = before::start(&backend.url);
    let mut caller = Caller::connect(&gateway.url);
    caller.post(&before::openai("chat/completions"), "", CHAT);
    assert!(caller.answer().unwrap().body == stream.as_bytes());
    gateway.wait_for_metric(RECORDS, &[("end", "complete")], 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_break_inside_an_event_too_large_to_hold_closes_the_connection() {
    let begun = format!("data: {{\"x\":\"{}", "x".repeat(9 << 20));
    let part = format!("{EVENTS}{:x}\r\n{begun}\r\n", begun.len());
    let backend = Backend::start(move |_, connection| {
        connection.write_all(part.as_bytes())?;
        Ok(After::Close)
    });
    let gateway = before::start(&backend.url);
    let mut caller = Caller::connect(&gateway.url);
    caller.post(&before::openai("chat/completions"), "", CHAT);
    assert!(caller.answer().is_err(), "the end mustn't look proper");
    gateway.wait_for_metric(RECORDS, &[("end", "upstream_cut")], 1.0);
}
