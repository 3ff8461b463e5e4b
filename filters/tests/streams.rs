//! Promises about streams and edits, whatever the bytes are and wherever they are split.
//!
//! `tests/streams/` holds a small stream of each shape that backends send. Recordings of real ones are tried too where
//! `TOLLGATE_RECORDINGS` names their folder.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use filters::answer::{Seen, StreamMeter, read_body, read_tail};
use filters::request::{read_json, spliced};
use filters::route::Shape;
use filters::sse::{Event, Piece, PieceKind, Splitter};
use filters::usage::Usage;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

/// Name and data of an event.
type Fields = (Option<Vec<u8>>, Option<Vec<u8>>);

/// What a caller of the whole pipeline sees of a stream.
#[derive(Debug, PartialEq)]
struct Reading {
    events: Vec<Fields>,
    seen: Vec<Seen>,
    usage: Option<Usage>,
    model: Option<String>,
    texts: Vec<String>,
    is_finished: bool,
    /// The stream without its usage-only chunks.
    without_usage: Vec<u8>,
}

fn split(chunks: &[Bytes], max_event_bytes: usize) -> (Vec<Piece>, Option<Bytes>) {
    let mut splitter = Splitter::new(max_event_bytes);
    let mut pieces = Vec::new();
    for chunk in chunks {
        splitter.push(chunk.clone(), &mut pieces);
        assert!(splitter.holds_bytes() <= max_event_bytes);
    }
    let rest = splitter.finish();
    (pieces, rest)
}

fn read(shape: Shape, chunks: &[Bytes]) -> Reading {
    let (pieces, rest) = split(chunks, 1 << 20);
    let mut meter = StreamMeter::new(shape);
    let (mut events, mut seen, mut without_usage) = (Vec::new(), Vec::new(), Vec::new());
    let mut is_left_out = false;
    for piece in &pieces {
        if piece.kind != PieceKind::LineFeed {
            let event = piece.event();
            let what = meter.read(&event);
            is_left_out = what == Seen::UsageOnly;
            seen.push(what);
            events.push(owned(&event));
        }
        if !is_left_out {
            without_usage.extend_from_slice(&piece.bytes);
        }
    }
    without_usage.extend_from_slice(&rest.unwrap_or_default());
    Reading {
        events,
        seen,
        usage: meter.usage(),
        model: meter.model().map(str::to_owned),
        texts: meter.texts().map(str::to_owned).collect(),
        is_finished: meter.is_finished(),
        without_usage,
    }
}

fn owned(event: &Event<'_>) -> Fields {
    (
        event.name.map(<[u8]>::to_vec),
        event.data.as_ref().map(|data| data.to_vec()),
    )
}

/// Cuts at the given places; empty chunks come out too.
fn cut(bytes: &[u8], cuts: &[Index]) -> Vec<Bytes> {
    let bytes = Bytes::copy_from_slice(bytes);
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.sort_unstable();
    places.push(bytes.len());
    let mut from = 0;
    let mut chunks = Vec::new();
    for to in places {
        chunks.push(bytes.slice(from..to));
        from = to;
    }
    chunks
}

fn whole(bytes: &[u8]) -> Vec<Bytes> {
    vec![Bytes::copy_from_slice(bytes)]
}

fn single_bytes(bytes: &[u8]) -> Vec<Bytes> {
    bytes
        .iter()
        .map(|byte| Bytes::copy_from_slice(&[*byte]))
        .collect()
}

#[allow(
    clippy::disallowed_methods,
    reason = "the fence is for policy; a test may read its samples"
)]
fn streams() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let named = |path: &PathBuf| {
        (
            path.file_stem().unwrap().to_str().unwrap().to_owned(),
            fs::read(path).unwrap(),
        )
    };
    paths.iter().map(named).collect()
}

fn shape_of(name: &str) -> Shape {
    match name.split(['_', '.']).next() {
        Some("chat") => Shape::Chat,
        Some("completions") => Shape::Completions,
        Some("responses") => Shape::Responses,
        _ => panic!("{name}: the name of a stream begins with its shape"),
    }
}

fn any_cuts() -> impl Strategy<Value = Vec<Index>> {
    prop::collection::vec(any::<Index>(), 0..40)
}

/// Bytes that are mostly line ends and field names, so that every state of the splitter is met.
fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![
        "\n", "\n", "\n", "\r", "\r", "\r\n", "\r\n", "data:", "data: ", "event: ", ":", " ", "x",
        "{}", "\u{feff}", "data",
    ]);
    prop::collection::vec(token, 0..60).prop_map(|tokens| tokens.concat().into_bytes())
}

/// What was delivered before `end`, as runs: an event, or all the parts of one that is too large. A late line feed is
/// joined to what it belongs to.
fn joined(pieces: &[Piece]) -> Vec<(bool, Vec<u8>)> {
    let mut joined: Vec<(bool, Vec<u8>)> = Vec::new();
    for piece in pieces {
        match (piece.kind, joined.last_mut()) {
            (PieceKind::LineFeed, Some((_, last))) => last.extend_from_slice(&piece.bytes),
            (PieceKind::LineFeed, None) => panic!("a line feed that belongs to nothing"),
            (PieceKind::Oversize, Some((true, last))) => last.extend_from_slice(&piece.bytes),
            (PieceKind::Oversize, _) => joined.push((true, piece.bytes.to_vec())),
            (PieceKind::Event, _) => joined.push((false, piece.bytes.to_vec())),
        }
    }
    joined
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same_events_and_loses_no_byte(stream in any_stream(), cuts in any_cuts(), max in prop::sample::select(vec![8_usize, 20, 4096])) {
        let (expected, expected_rest) = split(&whole(&stream), max);
        for chunks in [cut(&stream, &cuts), single_bytes(&stream)] {
            let (pieces, rest) = split(&chunks, max);
            let mut all: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
            all.extend_from_slice(&rest.clone().unwrap_or_default());
            prop_assert_eq!(&all, &stream);
            prop_assert_eq!(&rest, &expected_rest);
            prop_assert_eq!(joined(&pieces), joined(&expected));
            let events = |pieces: &[Piece]| -> Vec<_> {
                pieces.iter().filter(|piece| piece.kind == PieceKind::Event).map(|piece| owned(&piece.event())).collect()
            };
            prop_assert_eq!(events(&pieces), events(&expected));
        }
    }

    #[test]
    fn a_stream_of_each_shape_reads_the_same_however_it_is_split(which in any::<Index>(), cuts in any_cuts()) {
        let streams = streams();
        let (name, stream) = which.get(&streams);
        prop_assert_eq!(read(shape_of(name), &cut(stream, &cuts)), read(shape_of(name), &whole(stream)), "{}", name);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), key in any::<Index>()) {
        let keys = ["", "{\"usage\":", "{\"choices\":[", "{\"model\":", "--b\r\nContent-Disposition: form-data; name="];
        let bytes = [key.get(&keys).as_bytes(), &bytes].concat();
        for shape in [Shape::Chat, Shape::Completions, Shape::Embeddings, Shape::Responses, Shape::Other] {
            let _ = read_json(shape, &bytes);
            let _ = read_body(shape, &bytes);
            let _ = StreamMeter::new(shape).read(&Event::parse(&bytes));
        }
        let _ = read_tail(&bytes);
        let _ = filters::request::read_multipart("multipart/form-data; boundary=b", &bytes);
    }
}

/// Events that differ little: one of a few, with a few bytes changed.
fn any_likeness() -> impl Strategy<Value = Vec<u8>> {
    let base = prop::sample::select(vec![
        r#"data: {"created":17,"model":"m","choices":[{"index":0,"delta":{"content":"Why"},"finish_reason":null}],"usage":null,"obfuscation":"ab"}"#,
        r#"data: {"created":17,"model":"m","choices":[{"index":1,"delta":{"content":"é"},"finish_reason":null}],"usage":null,"obfuscation":"ab"}"#,
        r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"a"}}]}}]}"#,
        "event: response.output_text.delta\ndata: {\"delta\":\"a\",\"output_index\":2,\"sequence_number\":9}",
    ]);
    let edits = prop::collection::vec((any::<Index>(), any_edit()), 0..3);
    (base, edits).prop_map(|(base, edits)| {
        let mut event = base.as_bytes().to_vec();
        for (at, (length, bytes)) in edits {
            let at = at.index(event.len());
            let end = (at + length).min(event.len());
            event.splice(at..end, bytes.bytes());
        }
        event
    })
}

fn any_edit() -> impl Strategy<Value = (usize, &'static str)> {
    let bytes = prop::sample::select(vec![
        "",
        "1",
        "\"",
        "\\",
        "\\n",
        "\\u00e9",
        "null",
        "b",
        ",",
        "{",
        "}",
        "\"error\":1,",
        "\"stop\"",
        "\u{1}",
    ]);
    (0_usize..5, bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_event_reads_the_same_whatever_came_before(events in prop::collection::vec(any_likeness(), 1..12)) {
        let mut meter = StreamMeter::new(Shape::Chat);
        let (mut bytes, mut usage, mut texts) = (0, None, Vec::new());
        for event in &events {
            let event = Event::parse(event);
            let mut alone = StreamMeter::new(Shape::Chat);
            prop_assert_eq!(meter.read(&event), alone.read(&event));
            bytes += alone.texts().map(str::len).sum::<usize>();
            usage = alone.usage().or(usage);
            texts.extend(alone.texts().map(str::to_owned));
        }
        prop_assert_eq!(meter.texts().map(str::len).sum::<usize>(), bytes);
        prop_assert_eq!(meter.usage(), usage);
        let all = meter.texts().collect::<String>();
        for text in texts {
            prop_assert!(all.contains(&text), "{}", text);
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

fn any_stream_options() -> impl Strategy<Value = Option<Value>> {
    prop::sample::select(vec![
        None,
        Some(json!(null)),
        Some(json!({})),
        Some(json!({"include_usage": true})),
        Some(json!({"include_usage": false})),
        Some(json!({"include_usage": null, "include_obfuscation": false})),
        Some(json!({"include_obfuscation": true})),
    ])
}

fn any_body() -> impl Strategy<Value = Value> {
    let unknown = prop::collection::btree_map("[a-z\\\\\"\u{e4}]{1,3}", any_json(), 0..5);
    let model = prop::option::of(prop_oneof![
        Just(Value::Null),
        ".{0,12}".prop_map(Value::from)
    ]);
    (unknown, model, any_stream_options(), any::<bool>()).prop_map(
        |(unknown, model, options, stream)| {
            let mut body = json!(unknown);
            body["messages"] = json!([{"role": "user", "content": "{\"model\":\"x\"}"}]);
            body["stream"] = json!(stream);
            if let Some(model) = model {
                body["model"] = model;
            }
            if let Some(options) = options {
                body["stream_options"] = options;
            }
            body
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn edits_change_what_they_name_and_nothing_else(body in any_body(), name in ".{1,12}", pretty in any::<bool>()) {
        let text = if pretty { format!("\n{body:#} ") } else { body.to_string() };
        let bytes = Bytes::from(text);
        let facts = read_json(Shape::Chat, &bytes).unwrap();
        let splices = [facts.model_as(&name), facts.with_usage()].into_iter().flatten().collect();
        let edited: Value = serde_json::from_slice(&spliced(&bytes, splices).concat()).unwrap();
        let mut expected = body.clone();
        expected["model"] = json!(name);
        if !expected["stream_options"].is_object() {
            expected["stream_options"] = json!({});
        }
        expected["stream_options"]["include_usage"] = json!(true);
        prop_assert_eq!(edited, expected);
        prop_assert_eq!(facts.stream, body["stream"] == json!(true));
        prop_assert_eq!(facts.model.as_deref(), body["model"].as_str().filter(|model| !model.is_empty()));
        let again = spliced(&bytes, [facts.model_as(&name), facts.with_usage()].into_iter().flatten().collect()).concat();
        let facts = read_json(Shape::Chat, &again).unwrap();
        prop_assert!(facts.model_as(&name).is_none() && facts.with_usage().is_none());
    }
}

#[test]
fn a_stream_of_each_shape_is_read_for_what_it_says() {
    for (name, stream) in streams() {
        let reading = read(shape_of(&name), &whole(&stream));
        let has_details = name != "completions";
        let expected = Usage {
            prompt: 11,
            completion: 5,
            total: 16,
            cached: if has_details { 3 } else { 0 },
            reasoning: if has_details { 2 } else { 0 },
        };
        assert_eq!(reading.usage, Some(expected), "{name}");
        assert!(reading.is_finished, "{name}");
        assert!(reading.model.is_some(), "{name}");
        let texts: &[&str] = match name.as_str() {
            "chat_azure" => &["Hello"],
            "chat_tools" => &["weather{\"city\":\"Kiel\"}", "time{}"],
            "chat_usage_beside_choice" => &["Yes", "Hm."],
            "completions" => &["One two", "One two"],
            "responses" => &["Thinking", "Hello there", "weather{\"city\":\"Kiel\"}"],
            "responses_incomplete" => &["Cut"],
            _ => &["Grüße, \"world\"\n"],
        };
        assert_eq!(reading.texts, texts, "{name}");
        let has_extra_chunk = !name.starts_with("responses") && name != "chat_usage_beside_choice";
        let extra = reading
            .seen
            .iter()
            .filter(|seen| **seen == Seen::UsageOnly)
            .count();
        assert_eq!(extra, usize::from(has_extra_chunk), "{name}");
        assert_eq!(
            reading.without_usage.len() < stream.len(),
            has_extra_chunk,
            "{name}"
        );
    }
}

/// What the index of the recordings says of a stream's usage. Read by its own few lines, not by the reader under test.
fn recorded_usage(usage: &Value) -> Option<Usage> {
    let figure = |names: [&str; 2]| names.iter().find_map(|name| usage.get(name)?.as_u64());
    let part = |parents: [&str; 2], name| {
        parents
            .iter()
            .find_map(|parent| usage.get(parent)?.get(name)?.as_u64())
    };
    Some(Usage {
        prompt: figure(["prompt_tokens", "input_tokens"])?,
        completion: figure(["completion_tokens", "output_tokens"])?,
        total: figure(["total_tokens", "total_tokens"])?,
        cached: part(
            ["prompt_tokens_details", "input_tokens_details"],
            "cached_tokens",
        )
        .unwrap_or(0),
        reasoning: part(
            ["completion_tokens_details", "output_tokens_details"],
            "reasoning_tokens",
        )
        .unwrap_or(0),
    })
}

/// The recording without the events that a caller who didn't ask for usage mustn't see. Recordings have LF alone.
fn without_extra_chunk(stream: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(stream).unwrap();
    let is_extra = |event: &str| {
        let json: Option<Value> = event
            .strip_prefix("data: ")
            .and_then(|data| serde_json::from_str(data).ok());
        json.is_some_and(|json| json["choices"] == json!([]) && json["usage"].is_object())
    };
    text.split_inclusive("\n\n")
        .filter(|event| !is_extra(event.trim_end()))
        .collect::<String>()
        .into_bytes()
}

/// Each recording: what the index says of it, and its bytes. None without the folder.
#[allow(
    clippy::disallowed_methods,
    reason = "the fence is for policy; a test may read its samples"
)]
fn recordings() -> Option<Vec<(Value, Vec<u8>)>> {
    let folder = Path::new(&std::env::var_os("TOLLGATE_RECORDINGS")?).join("sse");
    let index = fs::read_to_string(folder.join("index.jsonl")).unwrap();
    let entries = index.lines().map(|line| {
        let entry: Value = serde_json::from_str(line).unwrap();
        let stream = fs::read(folder.join(entry["file"].as_str().unwrap())).unwrap();
        (entry, stream)
    });
    Some(entries.collect())
}

#[test]
fn recorded_streams_give_their_recorded_usage_however_they_are_split() {
    let Some(recordings) = recordings() else {
        println!("skipped: TOLLGATE_RECORDINGS names no folder of recorded streams");
        return;
    };
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 4,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let (mut read_streams, mut unfinished) = (0, Vec::new());
    for (entry, stream) in recordings {
        let name = entry["file"].as_str().unwrap();
        let shape = match entry["api"].as_str().unwrap() {
            "chat.completions" => Shape::Chat,
            "completions" => Shape::Completions,
            "responses" => Shape::Responses,
            other => panic!("{name}: unknown API {other}"),
        };
        let expected = read(shape, &whole(&stream));
        assert_eq!(expected.usage, recorded_usage(&entry["usage"]), "{name}");
        assert!(
            expected.without_usage == without_extra_chunk(&stream),
            "{name}"
        );
        assert!(expected.model.is_some(), "{name}");
        let is_same = |chunks: &[Bytes]| read(shape, chunks) == expected;
        assert!(is_same(&single_bytes(&stream)), "{name}");
        runner
            .run(&any_cuts(), |cuts| {
                prop_assert!(is_same(&cut(&stream, &cuts)), "{}", name);
                Ok(())
            })
            .unwrap();
        read_streams += 1;
        if !expected.is_finished {
            unfinished.push(name.to_owned());
        }
    }
    println!("read {read_streams} recorded streams; without an end of their own: {unfinished:?}");
    assert!(read_streams > 0);
}
