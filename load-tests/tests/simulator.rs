//! The simulator's own promises, seen from raw sockets and from hyper's client.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use load_tests::simulator::behaviour::{BreakageKind, Chunking, WireForm};
use load_tests::simulator::{Behaviour, Ending, Handle, Options, Record, Simulator};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CHAT: &str = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";

async fn send(handle: &Handle, http2: bool, path: &str, body: &Value) -> Response<Incoming> {
    let client = Client::builder(TokioExecutor::new())
        .http2_only(http2)
        .build_http();
    let request = Request::post(format!("{}{path}", handle.url()))
        .body(Full::new(Bytes::from(body.to_string())));
    client.request(request.unwrap()).await.unwrap()
}

async fn json_of(response: Response<Incoming>) -> Value {
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

async fn text_of(response: Response<Incoming>) -> String {
    String::from_utf8(
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .to_vec(),
    )
    .unwrap()
}

async fn raw(address: SocketAddr, body: &Value) -> TcpStream {
    let body = body.to_string();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    stream
}

fn question(stream: bool) -> Value {
    json!({"messages": [{"role": "user", "content": "How are you?"}], "stream": stream})
}

fn data_events(text: &str) -> Vec<Value> {
    text.split("\n\n")
        .filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")))
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

#[tokio::test]
async fn a_stream_has_the_order_and_the_usage_of_the_real_one() {
    let handle = Simulator::start_default().await.unwrap();
    handle.set(Behaviour::tokens(5));
    let mut body = question(true);
    body["stream_options"] = json!({"include_usage": true});
    for http2 in [false, true] {
        let response = send(&handle, http2, CHAT, &body).await;
        assert_eq!(response.headers()["server"], "tollgate-simulator");
        let text = text_of(response).await;
        assert!(text.ends_with("data: [DONE]\n\n"));
        let events = data_events(&text);
        assert_eq!(events.len(), 1 + 1 + 5 + 1 + 1);
        assert!(
            events[0]["choices"].as_array().unwrap().is_empty()
                && events[0]["prompt_filter_results"].is_array()
        );
        assert_eq!(events[1]["choices"][0]["delta"]["role"], "assistant");
        assert_eq!(events[1]["usage"], Value::Null);
        assert_eq!(events[7]["choices"][0]["finish_reason"], "stop");
        assert_eq!(events[8]["usage"]["completion_tokens"], 5);
        assert_eq!(events[8]["usage"]["prompt_tokens"], 3);
    }
    assert_eq!(handle.bill().total_tokens, 16);
    assert!(
        handle
            .requests()
            .iter()
            .all(|record| record.answer.ending == Ending::Finished)
    );
}

#[tokio::test]
async fn a_tool_is_called_once_and_its_result_is_answered_in_words() {
    let handle = Simulator::start_default().await.unwrap();
    let mut body = question(false);
    body["model"] = json!("gpt-4o");
    body["tools"] = json!([{"type": "function", "function": {"name": "weather", "parameters": {"type": "object",
        "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]);
    let answer = json_of(send(&handle, false, "/v1/chat/completions", &body).await).await;
    let message = &answer["choices"][0]["message"];
    assert_eq!(
        message["tool_calls"][0]["function"]["arguments"],
        "{\"city\":\"simulated\"}"
    );
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(message.clone());
    messages.push(json!({"role": "tool", "tool_call_id": "x", "content": "sunny"}));
    let answer = json_of(send(&handle, false, "/v1/chat/completions", &body).await).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert!(
        answer["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .starts_with("This is a simulated")
    );
}

#[tokio::test]
async fn responses_come_in_the_real_sequence_and_can_be_asked_for_again() {
    let handle = Simulator::start_default().await.unwrap();
    handle.set(Behaviour::tokens(2));
    let body = json!({"model": "gpt-4o", "input": "Hello", "stream": true});
    let events =
        data_events(&text_of(send(&handle, false, "/openai/v1/responses", &body).await).await);
    let names: Vec<_> = events
        .iter()
        .map(|event| {
            event["type"]
                .as_str()
                .unwrap()
                .trim_start_matches("response.")
        })
        .collect();
    let expected = "created in_progress output_item.added content_part.added output_text.delta output_text.delta \
        output_text.done content_part.done output_item.done completed";
    assert_eq!(names.join(" "), expected);
    let id = events[0]["response"]["id"].as_str().unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let again = client
        .get(
            format!("{}/openai/v1/responses/{id}", handle.url())
                .parse()
                .unwrap(),
        )
        .await
        .unwrap();
    assert_eq!(json_of(again).await["usage"]["output_tokens"], 2);
}

#[tokio::test]
async fn the_second_call_over_the_limit_is_a_429_as_azure_sends_it() {
    let options = Options {
        tokens_per_minute: Some(10),
        api_key: Some("k".to_owned()),
        ..Options::default()
    };
    let handle = Simulator::start(options).await.unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let call = |key: &'static str| {
        let body = Full::new(Bytes::from(question(false).to_string()));
        client.request(
            Request::post(format!("{}{CHAT}", handle.url()))
                .header("api-key", key)
                .body(body)
                .unwrap(),
        )
    };
    assert_eq!(
        call("wrong").await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
    let first = call("k").await.unwrap();
    assert_eq!(
        (
            first.status(),
            &first.headers()["x-ratelimit-remaining-tokens"]
        ),
        (StatusCode::OK, &"0".parse().unwrap())
    );
    let second = call("k").await.unwrap();
    assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
    let seconds: u64 = second.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&seconds));
    assert!(second.headers().contains_key("retry-after-ms"));
    assert_eq!(json_of(second).await["error"]["code"], "429");
    handle.refill();
    assert_eq!(call("k").await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_reset_is_a_reset_and_a_cut_is_not() {
    let handle = Simulator::start_default().await.unwrap();
    for (kind, after) in [
        (BreakageKind::Reset, None),
        (BreakageKind::Reset, Some(3)),
        (BreakageKind::Cut, Some(3)),
    ] {
        handle.set(Behaviour::breaks(kind, after).times(1));
        let mut stream = raw(handle.address(), &question(true)).await;
        let mut received = Vec::new();
        let outcome = stream.read_to_end(&mut received).await;
        assert_eq!(
            outcome.is_err(),
            kind == BreakageKind::Reset,
            "{kind:?} {after:?}"
        );
        let text = String::from_utf8(received).unwrap();
        assert_eq!(
            text.matches("data: ").count(),
            after.unwrap_or(0),
            "{kind:?} {after:?}"
        );
        assert!(!text.ends_with("0\r\n\r\n"));
    }
    assert!(
        handle
            .requests()
            .iter()
            .all(|record| record.answer.ending == Ending::Broken)
    );
}

#[tokio::test]
async fn a_cut_over_http2_ends_the_stream_after_its_events() {
    let handle = Simulator::start_default().await.unwrap();
    handle.set(Behaviour::breaks(BreakageKind::Cut, Some(4)));
    let mut body = send(&handle, true, CHAT, &question(true)).await.into_body();
    let mut text = String::new();
    let failed = loop {
        match body.frame().await {
            Some(Ok(frame)) => {
                text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap())
            }
            Some(Err(_)) => break true,
            None => break false,
        }
    };
    assert!(failed);
    assert_eq!(text.matches("data: ").count(), 4);
}

#[tokio::test]
async fn a_playback_is_exact_however_it_is_cut() {
    let handle = Simulator::start_default().await.unwrap();
    let recording = "data: {\"a\":1}\r\n\r\n: comment\n\ndata: x\ndata: y\n\ndata: [DONE]\n\nrest";
    let cuts = [
        Chunking::Events,
        Chunking::Whole,
        Chunking::Bytes(1),
        Chunking::Coalesce(2),
        Chunking::Sizes(vec![3, 1, 7]),
    ];
    for chunking in cuts {
        handle.set(Behaviour::playback(recording, chunking));
        assert_eq!(
            text_of(send(&handle, false, CHAT, &question(true)).await).await,
            recording
        );
    }
}

#[tokio::test]
async fn the_gate_lets_out_one_event_at_a_time() {
    for http2 in [false, true] {
        let handle = Simulator::start_default().await.unwrap();
        handle.set(Behaviour::gated());
        let mut body = send(&handle, http2, CHAT, &question(true))
            .await
            .into_body();
        for events in 1..4 {
            assert!(body.frame().await.unwrap().is_ok());
            assert_eq!(handle.requests()[0].answer.events_sent, events);
            handle.gate().release(1);
        }
        drop(body);
        let gone = |records: &[Record]| records[0].answer.ending == Ending::CallerGone;
        let records = handle.wait_for(gone).await.unwrap();
        assert!(records[0].answer.events_sent <= 4);
    }
}

#[tokio::test]
async fn a_caller_that_leaves_during_a_hang_is_noticed() {
    let handle = Simulator::start_default().await.unwrap();
    for behaviour in [
        Behaviour::hang(),
        Behaviour::breaks(BreakageKind::Hang, Some(2)),
    ] {
        handle.clear();
        handle.set(behaviour);
        let stream = raw(handle.address(), &question(true)).await;
        handle
            .wait_for(|records| records.first().is_some_and(|record| record.body.complete))
            .await
            .unwrap();
        assert_eq!(handle.requests()[0].answer.ending, Ending::Open);
        drop(stream);
        handle
            .wait_for(|records| records[0].answer.ending == Ending::CallerGone)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn wire_forms_change_the_bytes_around_the_body_only() {
    let handle = Simulator::start_default().await.unwrap();
    let read = async |wire: WireForm| {
        handle.set(
            Behaviour::answer(200, &[], Some("{\"ok\":true}")).wired(WireForm {
                close: true,
                ..wire
            }),
        );
        let mut received = Vec::new();
        raw(handle.address(), &question(false))
            .await
            .read_to_end(&mut received)
            .await
            .unwrap();
        String::from_utf8_lossy(&received).into_owned()
    };
    let delimited = read(WireForm {
        close_delimited: true,
        ..WireForm::default()
    })
    .await;
    assert!(
        delimited.starts_with("HTTP/1.1 200 OK\r\n")
            && delimited.ends_with("\r\n\r\n{\"ok\":true}"),
        "{delimited}"
    );
    assert!(!delimited.contains("content-length") && !delimited.contains("chunked"));
    let hinted = read(WireForm {
        early_hints: true,
        ..WireForm::default()
    })
    .await;
    assert!(
        hinted.starts_with("HTTP/1.1 103 Early Hints\r\n")
            && hinted.contains("\r\n\r\nHTTP/1.1 200 OK\r\n")
    );
    let padded = read(WireForm {
        huge_header_bytes: 20_000,
        ..WireForm::default()
    })
    .await;
    assert!(padded.len() > 20_000);
    let zipped = read(WireForm {
        gzip: true,
        ..WireForm::default()
    })
    .await;
    assert!(zipped.contains("content-encoding: gzip") && zipped.contains("{\"ok\":true}"));
}

#[tokio::test]
async fn an_answer_may_come_before_the_body_is_read() {
    let handle = Simulator::start_default().await.unwrap();
    handle.set(Behaviour::throttled(7).wired(WireForm {
        before_body: true,
        ..WireForm::default()
    }));
    let mut stream = TcpStream::connect(handle.address()).await.unwrap();
    stream
        .write_all(b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nabc")
        .await
        .unwrap();
    let mut received = vec![0; 12];
    stream.read_exact(&mut received).await.unwrap();
    assert_eq!(received, b"HTTP/1.1 429");
}

#[tokio::test]
async fn behaviour_can_be_set_from_another_process_and_by_one_request() {
    let handle = Simulator::start_default().await.unwrap();
    let set = json!({"status": {"code": 503, "headers": {"retry-after": "3"}}, "times": 1});
    assert_eq!(
        send(&handle, false, "/__simulator/behaviour", &set)
            .await
            .status(),
        StatusCode::OK
    );
    assert_eq!(
        send(&handle, false, CHAT, &question(false)).await.headers()["retry-after"],
        "3"
    );
    assert_eq!(
        send(&handle, false, CHAT, &question(false)).await.status(),
        StatusCode::OK
    );
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::post(format!("{}{CHAT}", handle.url()))
        .header(
            "x-simulator",
            "{\"status\":{\"code\":418,\"body\":\"tea\"}}",
        )
        .body(Full::new(Bytes::from(question(false).to_string())));
    let response = client.request(request.unwrap()).await.unwrap();
    assert_eq!(
        (response.status(), text_of(response).await.as_str()),
        (StatusCode::IM_A_TEAPOT, "tea")
    );
    let wrong = send(
        &handle,
        false,
        "/__simulator/behaviour",
        &json!({"no-such": 1}),
    )
    .await;
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
    assert_eq!(handle.requests().len(), 3);
}

#[tokio::test]
async fn a_body_of_twenty_mebibytes_is_told_by_its_digest() {
    let handle = Simulator::start_default().await.unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::put(format!("{}/v1/files/x", handle.url()))
        .body(Full::new(Bytes::from(vec![7; 20 << 20])));
    let told = json_of(client.request(request.unwrap()).await.unwrap()).await;
    assert_eq!(told["length"], 20 << 20);
    assert_eq!(told["sha256"], handle.requests()[0].body.sha256);
    assert!(handle.requests()[0].body.bytes.len() <= 1 << 20);
}

#[tokio::test]
async fn embeddings_are_the_same_as_floats_and_as_base64() {
    let handle = Simulator::start_default().await.unwrap();
    let body = |format: &str| json!({"model": "e", "input": ["one", "two"], "dimensions": 8, "encoding_format": format});
    let floats = json_of(send(&handle, false, "/v1/embeddings", &body("float")).await).await;
    assert_eq!(floats["data"][1]["embedding"].as_array().unwrap().len(), 8);
    let base64 = json_of(send(&handle, false, "/v1/embeddings", &body("base64")).await).await;
    assert_eq!(base64["data"][1]["embedding"].as_str().unwrap().len(), 44);
    assert_eq!(floats["usage"]["prompt_tokens"], 2);
}

#[tokio::test]
async fn an_upgraded_connection_echoes_its_bytes() {
    let handle = Simulator::start_default().await.unwrap();
    let mut stream = TcpStream::connect(handle.address()).await.unwrap();
    let head = b"GET /openai/realtime HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut received = Vec::new();
    while !received.ends_with(b"\r\n\r\n") {
        received.push(stream.read_u8().await.unwrap());
    }
    assert!(received.starts_with(b"HTTP/1.1 101"));
    stream.write_all(b"\x81\x02hi").await.unwrap();
    let mut echo = [0; 4];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"\x81\x02hi");
    drop(stream);
    handle
        .wait_until(Duration::from_secs(5), |records| {
            records[0].answer.ending == Ending::Finished
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_stopped_simulator_refuses_and_its_port_is_free_again() {
    let handle = Simulator::start_default().await.unwrap();
    let listen = handle.address();
    handle.stop().await;
    assert!(TcpStream::connect(listen).await.is_err());
    let again = Simulator::start(Options {
        listen,
        ..Options::default()
    })
    .await
    .unwrap();
    assert_eq!(
        send(&again, false, CHAT, &question(false)).await.status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn an_echo_says_what_the_caller_said_last() {
    let handle = Simulator::start_default().await.unwrap();
    handle.set(Behaviour::echo());
    let mut asked = question(false);
    asked["messages"] = json!([{"role": "user", "content": "request 17 of 3"}]);
    let whole = json_of(send(&handle, false, CHAT, &asked).await).await;
    let said = &whole["choices"][0]["message"]["content"];
    assert_eq!(*said, "request 17 of 3");
    asked["stream"] = json!(true);
    let events = data_events(&text_of(send(&handle, false, CHAT, &asked).await).await);
    let deltas = events.iter().filter_map(|event| {
        let delta = event.pointer("/choices/0/delta/content")?;
        delta.as_str()
    });
    assert_eq!(deltas.collect::<String>(), "request 17 of 3");
}

#[tokio::test]
async fn a_minute_may_be_as_short_as_a_test_can_wait_for() {
    let options = Options {
        requests_per_minute: Some(1),
        minute: std::time::Duration::from_millis(1_500),
        ..Options::default()
    };
    let handle = Simulator::start(options).await.unwrap();
    let status = async || send(&handle, false, CHAT, &question(false)).await.status();
    assert_eq!(status().await, StatusCode::OK);
    let refused = send(&handle, false, CHAT, &question(false)).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let seconds = refused.headers()["retry-after"].to_str().unwrap();
    assert!(["1", "2"].contains(&seconds), "{seconds}");
    while status().await != StatusCode::OK {
        tokio::task::yield_now().await;
    }
}
