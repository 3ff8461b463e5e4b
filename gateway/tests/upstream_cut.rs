//! A backend that breaks off in the middle of a stream: the caller is told by an error event and a proper end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use filters::route::Shape;
use load_tests::simulator::behaviour::{BreakageKind, Chunking, WireForm};
use load_tests::simulator::{Behaviour, Handle, Simulator};
use serde_json::Value;
use support::caller::Caller;
use support::gateway::Gateway;
use support::{before, http2, reference};

/// An operation, a call of it, and a whole answer.
struct Sample {
    operation: &'static str,
    shape: Shape,
    body: &'static [u8],
    stream: &'static str,
    /// How many events of it show that it is an answer: a break before that is made good elsewhere (`first_event.rs`).
    begun: usize,
}

const SAMPLES: [Sample; 3] = [
    Sample {
        operation: "chat/completions",
        shape: Shape::Chat,
        body:
            br#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Say it."}]}"#,
        stream: include_str!("../../filters/tests/streams/chat.txt"),
        begun: 2,
    },
    Sample {
        operation: "completions",
        shape: Shape::Completions,
        body: br#"{"model":"gpt-4o","stream":true,"prompt":"Say it."}"#,
        stream: include_str!("../../filters/tests/streams/completions.txt"),
        begun: 2,
    },
    Sample {
        operation: "responses",
        shape: Shape::Responses,
        body: br#"{"model":"gpt-4o","stream":true,"input":"Say it."}"#,
        stream: include_str!("../../filters/tests/streams/responses.txt"),
        begun: 4,
    },
];

const RECORDS: &str = "tollgate_usage_records_total";
/// Short, since each call that hangs waits for it; long enough for a busy machine to send two events in a row.
const TIMEOUTS: &str = "{ between-bytes = \"1s\" }";

struct Setup {
    simulator: Handle,
    gateway: Gateway,
    cuts: f64,
}

impl Setup {
    async fn new() -> Setup {
        let simulator = Simulator::start_default().await.unwrap();
        let gateway = before::start_with_timeouts(&simulator.url(), TIMEOUTS);
        Setup {
            simulator,
            gateway,
            cuts: 0.0,
        }
    }

    /// Plays a stream that breaks off after `begun`: `begun`'s whole events come, then the error, and the tokens so far
    /// are counted.
    async fn assert_cut(&mut self, sample: &Sample, begun: &str, behaviour: Behaviour) {
        let events = reference::events(begun);
        let whole: String = events
            .into_iter()
            .filter(|event| event.ends_with("\n\n"))
            .collect();
        let how = format!("{} {:?}", sample.operation, behaviour.breakage);
        for case in ["h1", "h2"] {
            let case = format!("{case}-{}", self.cuts);
            self.simulator.set(behaviour.clone().times(1));
            let came = self.call(&case, sample).await;
            let error = came
                .strip_prefix(&whole)
                .unwrap_or_else(|| panic!("{how}: {came}\n--- doesn't begin with\n{whole}"));
            assert_error(sample.shape, error, &how);
            self.cuts += 1.0;
            let labels = [("end", "upstream_cut")];
            self.gateway.wait_for_metric(RECORDS, &labels, self.cuts);
            let by_us = |source| {
                let labels = [("source", source), ("end", "upstream_cut")];
                self.gateway.metric(RECORDS, &labels)
            };
            assert_eq!(by_us("counted") + by_us("estimated"), self.cuts);
            let (prompt, completion) =
                reference::counted(sample.shape, "gpt-4o", sample.body, &whole);
            for (name, tokens) in [("prompt", prompt), ("completion", completion)] {
                let name = format!("tests_{name}_tokens_total");
                let counted = self.gateway.metric(&name, &[("case", &case)]);
                assert_eq!(counted, tokens as f64, "{how}: {name}");
            }
        }
    }

    /// The body that the caller gets, which ends properly.
    async fn call(&self, case: &str, sample: &Sample) -> String {
        let path = before::openai(sample.operation);
        if case.starts_with("h2") {
            let mut caller = http2::Caller::connect(&self.gateway.h2c_url).await;
            let answer = caller.post(&path, case, sample.body).await;
            assert_eq!(answer.status(), 200);
            let body = http2::body(answer).await.unwrap();
            return String::from_utf8(body.to_vec()).unwrap();
        }
        let mut caller = Caller::connect(&self.gateway.url);
        caller.post(&path, case, sample.body);
        let answer = caller.answer().unwrap();
        assert_eq!(answer.status, 200);
        answer.text()
    }
}

fn assert_error(shape: Shape, event: &str, how: &str) {
    let is_named = event.starts_with("event: error\n");
    assert_eq!(is_named, shape == Shape::Responses, "{how}: {event}");
    assert_eq!(reference::events(event).len(), 1, "{how}: {event}");
    let told: Value = serde_json::from_str(&reference::data(event)).unwrap();
    assert_eq!(told["error"]["code"], "upstream_cut", "{how}: {event}");
    assert!(told["error"]["message"].is_string(), "{how}: {event}");
    if is_named {
        assert_eq!(
            (&told["type"], &told["code"]),
            (&"error".into(), &"upstream_cut".into())
        );
    }
}

fn begun(sample: &Sample) -> String {
    reference::events(sample.stream)[..sample.begun].concat()
}

fn playback(sample: &Sample, chunking: Chunking, kind: BreakageKind, after: usize) -> Behaviour {
    Behaviour {
        breakage: Behaviour::breaks(kind, Some(after)).breakage,
        ..Behaviour::playback(sample.stream, chunking)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_to_break_off_between_events_ends_in_an_error_event() {
    use BreakageKind::{Cut, End, Hang, Reset};
    let mut setup = Setup::new().await;
    for sample in &SAMPLES {
        let begun = begun(sample);
        for kind in [Reset, Cut, Hang, End] {
            let behaviour = playback(sample, Chunking::Events, kind, sample.begun);
            setup.assert_cut(sample, &begun, behaviour).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_an_event_never_reaches_the_caller() {
    use BreakageKind::{Cut, End, Reset};
    let mut setup = Setup::new().await;
    for sample in &SAMPLES {
        let half = begun(sample).len() + 40;
        for kind in [Reset, Cut, End] {
            let behaviour = playback(sample, Chunking::Bytes(half), kind, 1);
            setup
                .assert_cut(sample, &sample.stream[..half], behaviour)
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_only_the_close_ends_must_hold_the_streams_own_end() {
    let mut setup = Setup::new().await;
    for sample in &SAMPLES {
        let mut behaviour = playback(sample, Chunking::Events, BreakageKind::End, sample.begun);
        behaviour.wire.close_delimited = true;
        let begun = begun(sample);
        setup.assert_cut(sample, &begun, behaviour).await;
        let wire = WireForm {
            close_delimited: true,
            ..WireForm::default()
        };
        let whole = Behaviour::playback(sample.stream, Chunking::Events);
        setup.simulator.set(whole.wired(wire).times(1));
        let came = setup.call("whole", sample).await;
        assert_eq!(came, reference::without_usage_chunk(sample.stream));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_has_said_its_end_may_break_off() {
    use BreakageKind::{Cut, End, Reset};
    let setup = Setup::new().await;
    let sample = &SAMPLES[0];
    let events = reference::events(sample.stream);
    let finish = events
        .iter()
        .position(|event| event.contains("\"stop\""))
        .unwrap();
    for kind in [Reset, Cut, End] {
        setup
            .simulator
            .set(playback(sample, Chunking::Events, kind, finish + 1).times(1));
        assert_eq!(
            setup.call("finished", sample).await,
            events[..=finish].concat()
        );
    }
    setup
        .gateway
        .wait_for_metric(RECORDS, &[("end", "complete")], 3.0);
    assert_eq!(setup.gateway.metric(RECORDS, &[]), 3.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_last_event_without_its_blank_line_passes() {
    let setup = Setup::new().await;
    let sample = &SAMPLES[0];
    for line_end in ["\n", ""] {
        let stream = format!("{}{line_end}", sample.stream.trim_end());
        assert!(stream.trim_end().ends_with("[DONE]"));
        setup
            .simulator
            .set(Behaviour::playback(stream.clone(), Chunking::Events).times(1));
        let came = setup.call("no-blank-line", sample).await;
        assert_eq!(came, reference::without_usage_chunk(&stream));
    }
    setup
        .gateway
        .wait_for_metric(RECORDS, &[("source", "upstream"), ("end", "complete")], 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_end_is_believed_where_no_end_can_be_expected() {
    let setup = Setup::new().await;
    let chat = &SAMPLES[0];
    let other = Sample {
        operation: "audio/speech",
        shape: Shape::Other,
        ..SAMPLES[0]
    };
    let not_events = "{\"error\":{\"message\":\"mislabelled\"}}";
    let comments = ": waiting\n\n: waiting\n\n";
    let begun = begun(chat);
    for (sample, stream) in [
        (chat, not_events),
        (&other, ""),
        (&other, comments),
        (&other, begun.as_str()),
    ] {
        setup
            .simulator
            .set(Behaviour::playback(stream.to_owned(), Chunking::Events).times(1));
        assert_eq!(
            setup.call("believed", sample).await,
            stream,
            "{}",
            sample.operation
        );
    }
    setup
        .gateway
        .wait_for_metric(RECORDS, &[("end", "complete")], 4.0);
}
