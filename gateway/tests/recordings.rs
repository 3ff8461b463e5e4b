//! Recorded streams pass through the gateway byte for byte, and cost what they say.
//!
//! `TOLLGATE_RECORDINGS` names the folder of the recordings; a lone checkout has the small streams of `filters/tests`.
//! The simulator plays each stream in writes of several sizes. Every call's tokens are told apart by its own label, so
//! one gateway serves all calls over one connection, and one page is read at the end.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it skipped"
)]

#[path = "support/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use filters::route::Shape;
use load_tests::simulator::behaviour::Chunking;
use load_tests::simulator::{Behaviour, Handle, Simulator};
use serde_json::{Value, json};
use support::caller::Caller;
use support::gateway::Gateway;
use support::{before, metrics, reference};

/// A stream, and the call that it answers.
struct Sample {
    name: String,
    operation: &'static str,
    shape: Shape,
    request: Value,
    model: String,
    stream: String,
    /// Prompt, completion, total, cached, reasoning; absent where the stream tells none.
    usage: Option<[u64; 5]>,
}

/// A sample as one caller asks for it.
struct Call<'s> {
    sample: &'s Sample,
    case: String,
    path: String,
    body: Vec<u8>,
    expected: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_streams_pass_byte_for_byte_and_cost_what_they_say() {
    let Some(folder) = std::env::var_os("TOLLGATE_RECORDINGS") else {
        println!("skipped: TOLLGATE_RECORDINGS names no folder of recorded streams");
        return;
    };
    let samples = recordings(&PathBuf::from(folder).join("sse"));
    assert!(!samples.is_empty());
    try_all(&samples).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_each_shape_passes_byte_for_byte_and_costs_what_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../filters/tests/streams");
    let samples = written_streams(&folder);
    assert!(!samples.is_empty());
    try_all(&samples).await;
}

async fn try_all(samples: &[Sample]) {
    let simulator = Simulator::start_default().await.unwrap();
    let gateway = before::start(&simulator.url());
    let mut random = Random::seeded();
    let mut caller = Caller::connect(&gateway.url);
    let calls: Vec<Call<'_>> = samples.iter().flat_map(calls_of).collect();
    let mut times: BTreeMap<&str, u64> = BTreeMap::new();
    for call in &calls {
        for chunking in chunkings(call.sample.stream.len(), &mut random) {
            try_one(&simulator, &mut caller, call, chunking);
            *times.entry(&call.case).or_default() += 1;
        }
    }
    check_records(&gateway, &calls, &times);
    check_tokens(&gateway, &calls, &times);
    println!(
        "{} streams in {} calls",
        samples.len(),
        times.values().sum::<u64>()
    );
}

fn try_one(simulator: &Handle, caller: &mut Caller, call: &Call<'_>, chunking: Chunking) {
    let how = format!(
        "{} of {}, sent as {chunking:?}",
        call.case, call.sample.name
    );
    let stream = call.sample.stream.clone();
    simulator.set(Behaviour::playback(stream, chunking).times(1));
    caller.post(&call.path, &call.case, &call.body);
    let answer = caller
        .answer()
        .unwrap_or_else(|error| panic!("{how}: {error}"));
    assert_eq!(answer.status, 200, "{how}: {}", answer.text());
    assert!(
        answer.body == call.expected.as_bytes(),
        "{how}\n--- came\n{}\n--- expected\n{}",
        answer.text(),
        call.expected
    );
}

/// Each stream is asked for under both schemas, by a caller that asks for the usage chunk and by one that doesn't.
fn calls_of(sample: &Sample) -> Vec<Call<'_>> {
    let asks: &[bool] = match sample.shape {
        Shape::Chat | Shape::Completions => &[true, false],
        Shape::Embeddings | Shape::Responses | Shape::Other => &[false],
    };
    let paths = [
        ("openai", before::openai(sample.operation)),
        ("azure", azure_path(sample)),
    ];
    let mut calls = Vec::new();
    for (api, path) in paths {
        for asks in asks {
            let mut request = sample.request.clone();
            request.as_object_mut().unwrap().remove("stream_options");
            if *asks {
                request["stream_options"] = json!({"include_usage": true});
            }
            let expected = match (sample.shape, asks) {
                (Shape::Chat | Shape::Completions, false) => {
                    reference::without_usage_chunk(&sample.stream)
                }
                _ => sample.stream.clone(),
            };
            calls.push(Call {
                sample,
                case: format!("{}-{api}-{asks}", sample.name),
                path: path.clone(),
                body: request.to_string().into_bytes(),
                expected,
            });
        }
    }
    calls
}

fn azure_path(sample: &Sample) -> String {
    match sample.shape {
        Shape::Responses => "/openai/v1/responses".to_owned(),
        Shape::Chat | Shape::Completions | Shape::Embeddings | Shape::Other => {
            before::azure(&sample.model, sample.operation)
        }
    }
}

fn chunkings(length: usize, random: &mut Random) -> Vec<Chunking> {
    let sizes = (0..40).map(|_| random.up_to(1000)).collect();
    let mut chunkings = vec![Chunking::Whole, Chunking::Events, Chunking::Sizes(sizes)];
    if length <= SINGLE_BYTES_MAX {
        chunkings.push(Chunking::Bytes(1));
    }
    chunkings
}

fn check_records(gateway: &Gateway, calls: &[Call<'_>], times: &BTreeMap<&str, u64>) {
    let count = |has_usage: bool| -> u64 {
        let calls = calls
            .iter()
            .filter(|call| call.sample.usage.is_some() == has_usage);
        calls.map(|call| times[call.case.as_str()]).sum()
    };
    let all = count(true) + count(false);
    gateway.wait_for_metric(RECORDS, &[], all as f64);
    let records = |source| gateway.metric(RECORDS, &[("source", source), ("end", "complete")]);
    assert_eq!(records("upstream"), count(true) as f64);
    // Not every recording is of a model whose tokens are known.
    let by_us = records("counted") + records("estimated");
    assert_eq!(by_us, count(false) as f64);
    gateway.wait_for_metric("tollgate_streams_open", &[], 0.0);
}

fn check_tokens(gateway: &Gateway, calls: &[Call<'_>], times: &BTreeMap<&str, u64>) {
    let page = gateway.metrics();
    let metrics =
        TOKENS.map(|name| metrics::by_label(&page, &format!("tests_{name}_tokens_total"), "case"));
    for call in calls {
        let sample = call.sample;
        let usage = sample.usage.unwrap_or_else(|| {
            let (prompt, completion) =
                reference::counted(sample.shape, &sample.model, &call.body, &sample.stream);
            [prompt, completion, prompt + completion, 0, 0]
        });
        for (metric, (name, tokens)) in metrics.iter().zip(TOKENS.iter().zip(usage)) {
            let found = metric.get(&call.case).copied().unwrap_or(0.0);
            let expected = (tokens * times[call.case.as_str()]) as f64;
            assert_eq!(found, expected, "{name} tokens of {}", call.case);
        }
    }
}

fn recordings(folder: &Path) -> Vec<Sample> {
    let index = fs::read_to_string(folder.join("index.jsonl")).unwrap();
    let entries = index.lines().map(|line| {
        let entry: Value = serde_json::from_str(line).unwrap();
        let file = entry["file"].as_str().unwrap();
        let (operation, shape) = match entry["api"].as_str().unwrap() {
            "chat.completions" => CHAT,
            "completions" => COMPLETIONS,
            "responses" => RESPONSES,
            other => panic!("{file}: unknown API {other}"),
        };
        let mut request = entry["request"].clone();
        let model = request["model"].as_str().unwrap_or("gpt-4o").to_owned();
        request["model"] = json!(model);
        Sample {
            name: file.trim_end_matches(".txt").to_owned(),
            operation,
            shape,
            request,
            model,
            stream: fs::read_to_string(folder.join(file)).unwrap(),
            usage: recorded_usage(&entry["usage"]),
        }
    });
    entries.collect()
}

fn recorded_usage(usage: &Value) -> Option<[u64; 5]> {
    let figure = |paths: [&str; 2]| {
        let found = paths.iter().find_map(|path| usage.pointer(path)?.as_u64());
        found.unwrap_or(0)
    };
    usage.is_object().then(|| {
        [
            figure(["/prompt_tokens", "/input_tokens"]),
            figure(["/completion_tokens", "/output_tokens"]),
            figure(["/total_tokens", "/total_tokens"]),
            figure([
                "/prompt_tokens_details/cached_tokens",
                "/input_tokens_details/cached_tokens",
            ]),
            figure([
                "/completion_tokens_details/reasoning_tokens",
                "/output_tokens_details/reasoning_tokens",
            ]),
        ]
    })
}

/// The streams that were written by hand; all of them report the same usage, `completions` without its details.
fn written_streams(folder: &Path) -> Vec<Sample> {
    let mut samples: Vec<Sample> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let ((operation, shape), request) = match name.split('_').next().unwrap() {
                "chat" => (
                    CHAT,
                    json!({"messages": [{"role": "user", "content": "Say it."}]}),
                ),
                "completions" => (COMPLETIONS, json!({"prompt": "Say it."})),
                "responses" => (RESPONSES, json!({"input": "Say it."})),
                other => panic!("{other}: the name of a stream begins with its shape"),
            };
            let details = if name == "completions" {
                [0, 0]
            } else {
                [3, 2]
            };
            let mut sample = Sample {
                operation,
                shape,
                request,
                model: "gpt-4o".to_owned(),
                stream: fs::read_to_string(path).unwrap(),
                usage: Some([11, 5, 16, details[0], details[1]]),
                name,
            };
            sample.request["model"] = json!(sample.model);
            sample.request["stream"] = json!(true);
            sample
        })
        .collect();
    samples.sort_by(|one, other| one.name.cmp(&other.name));
    samples
}

/// A xorshift generator; its seed is printed, and taken from `TOLLGATE_SEED` where that is set.
struct Random(u64);

impl Random {
    fn seeded() -> Random {
        let given = std::env::var("TOLLGATE_SEED").ok();
        let seed = given.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
            let now = std::time::SystemTime::now();
            now.duration_since(std::time::UNIX_EPOCH)
                .unwrap()
                .as_nanos() as u64
                | 1
        });
        println!("TOLLGATE_SEED={seed}");
        Random(seed)
    }

    fn up_to(&mut self, max: u64) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % max) as usize + 1
    }
}

const CHAT: (&str, Shape) = ("chat/completions", Shape::Chat);
const COMPLETIONS: (&str, Shape) = ("completions", Shape::Completions);
const RESPONSES: (&str, Shape) = ("responses", Shape::Responses);
const RECORDS: &str = "tollgate_usage_records_total";
const TOKENS: [&str; 5] = [
    "prompt",
    "completion",
    "total",
    "prompt_cached",
    "completion_reasoning",
];
/// Longer streams aren't sent byte by byte: a write each would take minutes.
const SINGLE_BYTES_MAX: usize = 2500;
