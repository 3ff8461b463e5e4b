//! Holds the token counts to another implementation of the encodings, and to bodies made to do harm.
//!
//! What providers reported is in `token_recordings`.

#![allow(clippy::unwrap_used, clippy::print_stdout)]
#![allow(
    clippy::disallowed_methods,
    reason = "these tests read sample files and show how long counting took"
)]

use filters::route::Shape;
use filters::tokens::{Encoding, completion, most, prompt, prompt_with};
use proptest::prelude::*;

#[path = "tokens/seen.rs"]
mod seen;

use seen::Seen;

// ---- the fast crate against the reference

/// Whole texts that a tokenizer may be given without pieces.
fn reference(encoding: Encoding, text: &str) -> u64 {
    let tokenizer = match encoding {
        Encoding::O200k => tiktoken_rs::o200k_base_singleton(),
        Encoding::Cl100k => tiktoken_rs::cl100k_base_singleton(),
        Encoding::P50k => tiktoken_rs::p50k_base_singleton(),
        Encoding::R50k => tiktoken_rs::r50k_base_singleton(),
    };
    tokenizer.encode_ordinary(text).len() as u64
}

const ENCODINGS: [Encoding; 4] = [
    Encoding::O200k,
    Encoding::Cl100k,
    Encoding::P50k,
    Encoding::R50k,
];

/// Mixtures of what splits texts: words, digits, scripts, white space, marks, special tokens, anything.
fn text() -> impl Strategy<Value = String> {
    let fragment = prop_oneof![
        "[a-z]{1,12}",
        "[A-Z][a-z]{0,8}('(s|t|re|ve|m|ll|d|S|T))?",
        "[0-9]{1,9}",
        "[ \t\r\n]{1,12}",
        "[ -/:-@\\[-`{-~]{1,6}",
        "[\u{4E00}-\u{4FFF}\u{3041}-\u{3096}。、！]{1,8}",
        "[\u{AC00}-\u{ADFF}]{1,6}",
        "[а-яё]{1,10}",
        "[\u{1F600}-\u{1F64F}\u{200D}\u{FE0F}\u{300}-\u{310}]{1,4}",
        Just("<|endoftext|><|im_start|>".to_owned()),
        any::<String>(),
    ];
    prop::collection::vec(fragment, 0..40)
        .prop_map(|fragments| fragments.concat())
        // A known difference, described in `encoding`.
        .prop_filter("'ſ", |text| !text.contains("'ſ"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn short_texts_count_as_the_reference_counts_them(text in text()) {
        for encoding in ENCODINGS {
            prop_assert_eq!(encoding.count(&text), reference(encoding, &text), "{:?}", encoding);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Words keep every cut between two pre-tokens, so that not one token may differ.
    #[test]
    fn long_texts_count_as_if_they_were_never_cut(parts in prop::collection::vec((text(), "[a-z]{2,9} [a-z]{2,9}, "), 60..120)) {
        let text: String = parts.into_iter().map(|(text, words)| text + &words).collect();
        for encoding in ENCODINGS {
            prop_assert_eq!(encoding.count(&text), reference(encoding, &text), "{:?}", encoding);
        }
    }

    /// Runs that nothing splits are cut anywhere. Each cut may cost two tokens.
    #[test]
    fn unbroken_runs_differ_by_two_tokens_a_cut(run in prop_oneof![Just(" "), Just("\n"), Just("\t"), Just("a"), Just("7"), Just("_"), Just(" \n"), Just("漢")], length in 1_000_usize..30_000, tail in "[a-z]{0,4}") {
        let text = run.repeat(length / run.len()) + &tail;
        let cuts = text.len() as u64 / 4096 + 1;
        for encoding in ENCODINGS {
            let (counted, exact) = (encoding.count(&text), reference(encoding, &text));
            prop_assert!(counted.abs_diff(exact) <= 2 * cuts, "{:?}: {} for {}", encoding, counted, exact);
        }
    }
}

#[test]
fn a_million_spaces_panic_nowhere() {
    for text in [" ".repeat(1_100_000) + "x", "\n".repeat(1_100_000) + "x"] {
        for encoding in ENCODINGS {
            assert!(encoding.count(&text) > 0);
        }
    }
}

#[test]
fn a_megabyte_of_anything_is_counted_in_pieces_that_add_up() {
    for unit in ["a", " ", "_", "7", "漢", "\u{300}", "👨‍👩‍👧", "qXv9/+"] {
        let long = unit.repeat(1_000_000 / unit.len());
        let short = unit.repeat(100_000 / unit.len());
        for encoding in [Encoding::O200k, Encoding::Cl100k] {
            let started = std::time::Instant::now();
            let (tokens, tenth) = (encoding.count(&long), encoding.count(&short));
            let elapsed = started.elapsed();
            println!(
                "{encoding:?} {unit:?}: {tokens} tokens in 1 MB, {tenth} in 100 KB, {elapsed:?}"
            );
            let ratio = tokens as f64 / tenth as f64;
            assert!(
                (9.5..=10.5).contains(&ratio),
                "{encoding:?} {unit:?}: {ratio}"
            );
        }
    }
}

// ---- what a request costs beyond its texts

fn tokens(model: &str, shape: Shape, body: &str) -> u64 {
    let estimate = prompt(model, shape, body.as_bytes()).unwrap();
    assert!(estimate.certain, "{body}");
    estimate.tokens
}

#[test]
fn a_message_costs_its_role_and_marks_beside_its_text() {
    let chat = r#"{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hello there!","name":"ann"}]}"#;
    let texts = |encoding: Encoding| {
        ["system", "Be brief.", "user", "Hello there!", "ann"]
            .iter()
            .map(|text| encoding.count(text))
            .sum::<u64>()
    };
    assert_eq!(
        tokens("gpt-4", Shape::Chat, chat),
        texts(Encoding::Cl100k) + 3 + 3 + 1 + 3
    );
    assert_eq!(
        tokens("gpt-4o", Shape::Chat, chat),
        texts(Encoding::O200k) + 3 + 3 + 1 + 3
    );
    assert_eq!(
        tokens("gpt-5", Shape::Chat, chat),
        texts(Encoding::O200k) + 3 + 3 + 1 + 2
    );
}

#[test]
fn a_response_request_costs_what_the_same_chat_costs() {
    let chat = r#"{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hello!"}]}"#;
    let response = r#"{"instructions":"Be brief.","input":"Hello!"}"#;
    let listed = r#"{"instructions":"Be brief.","input":[{"role":"user","content":[{"type":"input_text","text":"Hello!"}]}]}"#;
    for model in ["gpt-4o", "o3"] {
        let expected = tokens(model, Shape::Chat, chat);
        assert_eq!(tokens(model, Shape::Responses, response), expected);
        assert_eq!(tokens(model, Shape::Responses, listed), expected);
    }
}

#[test]
fn inputs_cost_their_tokens_and_nothing_else() {
    let model = "text-embedding-3-small";
    let count = |text| Encoding::Cl100k.count(text);
    assert_eq!(
        tokens(model, Shape::Embeddings, r#"{"input":"one two"}"#),
        count("one two")
    );
    assert_eq!(
        tokens(model, Shape::Embeddings, r#"{"input":["one","two three"]}"#),
        count("one") + count("two three")
    );
    assert_eq!(tokens(model, Shape::Embeddings, r#"{"input":[7,8,9]}"#), 3);
    assert_eq!(
        tokens(model, Shape::Embeddings, r#"{"input":[[7,8],[9]]}"#),
        3
    );
    assert_eq!(
        tokens(
            "davinci-002",
            Shape::Completions,
            r#"{"prompt":"one","suffix":"two"}"#
        ),
        count("one") + count("two")
    );
}

#[test]
fn what_is_not_in_the_request_makes_an_estimate_uncertain() {
    let chat = |part: &str| format!(r#"{{"messages":[{{"role":"user","content":[{part}]}}]}}"#);
    let uncertain = [
        (
            "gpt-4o",
            Shape::Chat,
            chat(r#"{"type":"image_url","image_url":{"url":"https://x/y.png"}}"#),
        ),
        (
            "gpt-4o",
            Shape::Chat,
            chat(r#"{"type":"file","file":{"file_id":"f"}}"#),
        ),
        (
            "my-deployment",
            Shape::Chat,
            chat(r#"{"type":"text","text":"x"}"#),
        ),
        (
            "gpt-4o",
            Shape::Responses,
            r#"{"input":"x","previous_response_id":"r"}"#.to_owned(),
        ),
        (
            "gpt-4o",
            Shape::Responses,
            r#"{"input":"x","tools":[{"type":"web_search"}]}"#.to_owned(),
        ),
    ];
    for (model, shape, body) in uncertain {
        let estimate = prompt(model, shape, body.as_bytes()).unwrap();
        assert!(!estimate.certain, "{body}");
        assert!(estimate.tokens > 0, "{body}");
    }
}

#[test]
fn a_special_token_in_a_message_is_text() {
    let of = |text: &str| {
        tokens(
            "gpt-4o",
            Shape::Chat,
            &format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}]}}"#),
        )
    };
    assert_eq!(of("<|endoftext|>") - of(""), 7);
}

#[test]
fn a_completion_costs_its_texts() {
    let texts = ["Hello there!", "get_weather", "{}"];
    let expected: u64 = texts.iter().map(|text| Encoding::O200k.count(text)).sum();
    assert_eq!(
        completion("gpt-4o", Shape::Chat, texts.into_iter()),
        expected
    );
    assert_eq!(
        completion("gpt-4o", Shape::Embeddings, texts.into_iter()),
        0
    );
}

// ---- bodies that nobody should send

/// Any JSON, with the members that an estimator looks for at any place.
fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::{Value, json};
    const NAMES: &[&str] = &[
        "messages",
        "role",
        "content",
        "type",
        "text",
        "image_url",
        "url",
        "detail",
        "input_audio",
        "data",
        "tools",
        "function",
        "functions",
        "name",
        "description",
        "parameters",
        "properties",
        "required",
        "$defs",
        "$ref",
        "anyOf",
        "enum",
        "items",
        "default",
        "tool_calls",
        "id",
        "tool_call_id",
        "arguments",
        "tool_choice",
        "response_format",
        "json_schema",
        "schema",
        "input",
        "instructions",
        "prompt",
        "suffix",
        "output",
        "format",
    ];
    const TEXTS: &[&str] = &[
        "",
        "function",
        "system",
        "user",
        "assistant",
        "tool",
        "developer",
        "text",
        "image_url",
        "input_audio",
        "json_schema",
        "array",
        "object",
        "string",
        "#/$defs/type",
        "$ref",
        "none",
        "{\"a\": [1]}",
        "function_call",
        "function_call_output",
        "message",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg",
        "data:image/gif;base64,R0lG",
        "ſ'ſ",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(TEXTS).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(6, 96, 6, |inner| {
        let member = (prop::sample::select(NAMES), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            prop::collection::vec(member, 0..6).prop_map(|members| {
                members
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect::<Value>()
            }),
        ]
    });
    (value.clone(), value.clone(), value).prop_map(|(first, second, whole)| match &whole {
        Value::Array(items) => json!({"messages": [first], "input": [second], "tools": items, "prompt": items}),
        Value::Object(_) => json!({"messages": [whole], "input": whole, "tools": [{"type": "function", "function":
            {"name": "f", "parameters": {"properties": first, "$defs": second}}}], "response_format": second}),
        _ => whole,
    })
}

const SHAPES: [Shape; 5] = [
    Shape::Chat,
    Shape::Completions,
    Shape::Embeddings,
    Shape::Responses,
    Shape::Other,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_body_panics(body in json(), model in prop::sample::select(&["gpt-4o", "gpt-4", "gpt-5-mini", "o3", "davinci", "?"][..])) {
        for shape in SHAPES {
            prompt(model, shape, body.to_string().as_bytes());
        }
    }

    #[test]
    fn no_estimate_passes_the_bound_by_bytes(body in json(), model in prop::sample::select(&["gpt-4o", "gpt-4", "gpt-5-mini", "o3", "davinci", "?"][..]), spaces in any::<bool>()) {
        let body = if spaces { serde_json::to_string_pretty(&body).unwrap() } else { body.to_string() };
        for shape in SHAPES {
            let estimate = prompt(model, shape, body.as_bytes()).map_or(0, |estimate| estimate.tokens);
            let most = most(shape, body.as_bytes());
            prop_assert!(most.is_none_or(|most| estimate <= most), "{:?}: {} of {:?}", shape, estimate, most);
        }
    }

    #[test]
    fn a_memo_changes_no_estimate(body in json(), text in text(), model in prop::sample::select(&["gpt-4o", "gpt-4", "o3"][..])) {
        let body = body.to_string().replace("\"user\"", &serde_json::to_string(&text.repeat(3)).unwrap());
        let memo = Seen::default();
        for shape in SHAPES {
            let expected = prompt(model, shape, body.as_bytes());
            for _ in 0..2 {
                prop_assert_eq!(prompt_with(&memo, model, shape, body.as_bytes()), expected);
            }
        }
    }
}

/// Texts of one to a hundred bytes, as a chat writes them.
fn chats() -> impl Strategy<Value = (String, bool)> {
    let part = |index: usize, text: &str| {
        match index {
        0 => format!(r#"{{"role":"user","content":{text}}}"#),
        1 => format!(r#"{{"role":"assistant","content":null,"tool_calls":[{{"id":"a","function":{{"name":"f","arguments":{text}}}}},{{}}]}}"#),
        2 => r#"{"role":"tool","tool_call_id":"a","content":""}"#.to_owned(),
        3 => "{}".to_owned(),
        4 => "1e15".to_owned(),
        5 => format!(r#"{{"role":"developer","name":{text},"function_call":{{}}}}"#),
        6 => format!(r#"{{"role":"user","content":[{{"type":"text","text":{text}}}]}}"#),
        7 => r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x"}}]}"#.to_owned(),
        8 => r#"{"role":"user","content":[{"type":"\u0069mage_url"}]}"#.to_owned(),
        _ => r#"{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"UklGRgAAAABXQVZFZm10IBAAAAABAAEAAQAAAAEAAAA="}}]}"#.to_owned(),
    }
    };
    let tools = prop::sample::select(
        &[
            "",
            r#","tools":[1,1,1,{}]"#,
            r#","functions":[{},{},{"name":"f"}],"function_call":{"name":"f"}"#,
            r##","tools":[{"function":{"parameters":{"properties":{"a":{"$ref":"#/d/a"},"b":{"$ref":"#/d/a"}},"$defs":{"a":{"properties":{"a":{"$ref":"#/d/a"},"b":{"$ref":"#/d/a"}}}}}}}]"##,
            r#","tools":[{"function":{"parameters":{"properties":{"a":{"description":"very much to be said","type":["null","null","null","null","null","null","null"],"enum":null}}}}}]"#,
            r#","tools":[{"function":{"parameters":{"properties":{"a":{"enum":[1e15,1e15,1e15,1e15,1e15,1e15,1e15,1e15,1e15]}}}}}]"#,
            r#","response_format":{"type":"json_schema","json_schema":{"schema":[1e15,-0,1e15,1e15,1e15,1e15,1e15,1e15,1e15,1e15,1e15,1e15,1e15,1e15]}}"#,
        ][..],
    );
    let messages = prop::collection::vec((0_usize..10, any::<String>()), 0..20);
    (messages, tools).prop_map(move |(messages, tools)| {
        let has_media = messages.iter().any(|(index, _)| *index >= 7);
        let messages: Vec<String> = messages
            .iter()
            .map(|(index, text)| part(*index, &serde_json::to_string(text).unwrap()))
            .collect();
        let body = format!(r#"{{"messages":[{}]{tools}}}"#, messages.join(","));
        (body, has_media)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_chat_passes_the_bound_by_bytes((body, has_media) in chats(), model in prop::sample::select(&["gpt-4o", "gpt-4", "gpt-5", "o3"][..])) {
        let estimate = prompt(model, Shape::Chat, body.as_bytes()).unwrap();
        match most(Shape::Chat, body.as_bytes()) {
            Some(most) => prop_assert!(estimate.tokens <= most, "{} of {}", estimate.tokens, most),
            None => prop_assert!(has_media),
        }
    }
}

#[test]
fn a_body_of_more_values_than_are_read_counts_by_its_bytes() {
    let body = format!(r#"{{"messages":[{}1]}}"#, "1,".repeat(600_000));
    let estimate = prompt("gpt-4o", Shape::Chat, body.as_bytes()).unwrap();
    assert_eq!(estimate.tokens, body.len() as u64);
    assert!(!estimate.certain);
    assert_eq!(prompt("gpt-4o", Shape::Other, body.as_bytes()), None);
}

#[test]
fn a_name_that_many_messages_answer_is_counted_as_often() {
    let answers = |count: usize| {
        let answer = r#",{"role":"tool","tool_call_id":"a","content":"x"}"#.repeat(count);
        let call = r#"{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"look_it_up","arguments":"{}"}}]}"#;
        tokens(
            "gpt-4o",
            Shape::Chat,
            &format!(r#"{{"messages":[{call}{answer}]}}"#),
        )
    };
    let one = 3 + 1 + 1 + 1 + Encoding::O200k.count("look_it_up");
    assert_eq!(answers(3) - answers(1), 2 * one);
}

/// Half a character costs what the mark costs that stands for it; what can't be built up costs its bytes.
#[test]
fn a_body_that_is_hard_to_read_is_counted_all_the_same() {
    let chat = |text: &str, more: &str| {
        format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}]{more}}}"#)
    };
    let whole = tokens("gpt-4o", Shape::Chat, &chat("cut \\ufffd off", ""));
    let half = tokens("gpt-4o", Shape::Chat, &chat("cut \\ud83d off", ""));
    assert_eq!(half, whole);
    let deep = format!(",\"metadata\":{}{}", "[".repeat(200), "]".repeat(200));
    for odd in [deep.as_str(), ",\"temperature\":1e999"] {
        let body = chat("hello", odd);
        let estimate = prompt("gpt-4o", Shape::Chat, body.as_bytes()).unwrap();
        assert_eq!(
            (estimate.tokens, estimate.certain),
            (body.len() as u64, false)
        );
        assert_eq!(prompt("gpt-4o", Shape::Other, body.as_bytes()), None);
    }
}

#[test]
fn bodies_that_are_not_requests_have_no_estimate() {
    for body in [
        "",
        "{",
        "null",
        "[]",
        "{}",
        "\"x\"",
        "{\"messages\":1}",
        "\u{FEFF}{}",
    ] {
        for shape in SHAPES {
            assert_eq!(prompt("gpt-4o", shape, body.as_bytes()), None, "{body}");
        }
    }
}

/// Each of these is about a megabyte and made to be slow. In an optimised build they take under a second; the
/// bound leaves room for a slow machine without optimisation, and a quadratic step would take hours.
#[test]
fn a_megabyte_made_to_be_slow_is_counted_soon() {
    let many = |count: usize, item: &dyn Fn(usize) -> String| {
        (0..count).map(item).collect::<Vec<_>>().join(",")
    };
    let tool = |parameters: String| {
        format!(
            r#"{{"messages":[],"tools":[{{"type":"function","function":{{"name":"f","parameters":{parameters}}}}}]}}"#
        )
    };
    let wide = many(30_000, &|index| format!(r#""k{index}":{{}}"#));
    let references = many(15_000, &|index| {
        format!(r##""p{index}":{{"$ref":"#/$defs/w"}}"##)
    });
    let pairs = many(24, &|index| {
        let next = format!(r##"{{"$ref":"#/$defs/d{}"}}"##, index + 1);
        format!(r#""d{index}":{{"properties":{{"a":{next},"b":{next}}}}}"#)
    });
    let bodies = [
        tool(format!(
            r#"{{"properties":{{{references}}},"$defs":{{"w":{{{wide}}}}}}}"#
        )),
        tool(format!(
            r#"{{"properties":{{{references}}},"$defs":{{"w":{{"required":[{}],"properties":{{"a":{{}}}}}}}}}}"#,
            many(80_000, &|index| format!("\"{index}\""))
        )),
        tool(format!(
            r##"{{"properties":{{"a":{{"$ref":"#/$defs/d0"}}}},"$defs":{{{pairs}}}}}"##
        )),
        tool(format!(
            r#"{{"properties":{{"a":{{"type":[{}],{wide}}}}}}}"#,
            many(50_000, &|_| "\"array\"".to_owned())
        )),
        tool(format!(
            r#"{{"properties":{{"a":{{"description":"{}","type":[{}]}}}}}}"#,
            "x ".repeat(250_000),
            many(50_000, &|_| "\"null\"".to_owned())
        )),
        format!(
            r#"{{"messages":[{}]}}"#,
            many(20_000, &|index| format!(
                r#"{{"role":"tool","tool_call_id":"{index}","tool_calls":[{{"id":"{index}"}}]}}"#
            ))
        ),
        format!(
            r#"{{"messages":[{{"role":"assistant","tool_calls":[{}]}}]}}"#,
            many(20_000, &|index| format!(
                r#"{{"id":"{index}","function":{{"arguments":"[[[["}}}}"#
            ))
        ),
        format!(r#"{{"messages":[{{{wide},"role":"user"}}]}}"#),
        format!(
            r#"{{"messages":[{{"role":"assistant","tool_calls":[{{"id":"a","function":{{"name":"{}"}}}}]}},{}]}}"#,
            "ab ".repeat(160_000),
            many(14_000, &|_| r#"{"role":"tool","tool_call_id":"a"}"#
                .to_owned())
        ),
        format!(r#"{{"messages":[{}]}}"#, many(499_000, &|_| "1".to_owned())),
        format!(
            r#"{{"messages":[{{"role":"user","content":"{}x"}}]}}"#,
            " ".repeat(1_100_000)
        ),
        format!(
            r#"{{"messages":{}1{}}}"#,
            "[".repeat(500_000),
            "]".repeat(500_000)
        ),
    ];
    for body in &bodies {
        let started = std::time::Instant::now();
        let estimate = prompt("gpt-4o", Shape::Chat, body.as_bytes());
        println!(
            "{} bytes, {:?}: {estimate:?} {}",
            body.len(),
            started.elapsed(),
            &body[..60]
        );
        let tokens = estimate.map_or(0, |estimate| estimate.tokens);
        assert!(tokens < 2_000_000, "{tokens} tokens");
    }
}
