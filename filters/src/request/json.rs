//! Reads the facts from a JSON body.
//!
//! One pass over the text: the fields wanted are kept as spans of it, everything else is skipped by a parser that checks it
//! but neither builds nor recurses, so a body nested a million deep costs what any body of its length does. The few spans
//! are then read by themselves.
//!
//! Keys are compared after their escapes are undone, as every backend does.

use serde::de::IgnoredAny;

use crate::request::fields::{Field, Object, after_brace, decoded, span};
use crate::request::stream_options::read_stream_options;
use crate::request::{BodyError, BodyFacts, JsonFault, ModelEdit};
use crate::route::Shape;

/// Reads a JSON body in time and memory linear in its length.
///
/// # Errors
/// Where the body isn't a JSON object, lacks what its operation works on, or states twice, or in another type, what the
/// gateway decides by.
pub fn read_json(shape: Shape, body: &[u8]) -> Result<BodyFacts, BodyError> {
    let text = std::str::from_utf8(body).map_err(|error| not_utf8(body, error.valid_up_to()))?;
    let object = match Object::scan(text) {
        Some(object) => object,
        // It knows what is wrong.
        None => serde_json::from_str(text).map_err(|error| not_an_object(&error))?,
    };
    if let Some(field) = object.duplicate {
        return Err(BodyError::Duplicate {
            field: field.name(),
        });
    }
    require_content(shape, &object)?;
    let model = read_model(&object)?;
    let stream = read_stream(&object)?;
    let (include_usage, usage_edit) = read_stream_options(shape, text, &object, stream)?;
    Ok(BodyFacts {
        model,
        stream,
        include_usage,
        max_completion_tokens: [
            Field::MaxTokens,
            Field::MaxCompletionTokens,
            Field::MaxOutputTokens,
        ]
        .into_iter()
        .filter_map(|field| object.count(field))
        .max(),
        user: object
            .text(Field::User)
            .or_else(|| object.text(Field::SafetyIdentifier)),
        choices: choices(shape, &object),
        previous_response_id: object.text(Field::PreviousResponseId),
        conversation_id: conversation_id(&object),
        model_edit: model_edit(text, &object),
        usage_edit,
    })
}

/// How many answers are made. A completion makes `best_of` and shows `n` of them, for each of its prompts.
fn choices(shape: Shape, object: &Object<'_>) -> u64 {
    let count = |field| object.count(field).unwrap_or(1).max(1);
    match shape {
        Shape::Completions => {
            let prompts = object.get(Field::Prompt).map_or(1, prompts);
            let each = count(Field::N).max(count(Field::BestOf));
            prompts.saturating_mul(each)
        }
        Shape::Chat | Shape::Embeddings | Shape::Responses | Shape::Other => count(Field::N),
    }
}

/// A list of numbers is one prompt, in tokens.
fn prompts(prompt: &str) -> u64 {
    let is_number = |first: &u8| *first == b'-' || first.is_ascii_digit();
    let items = prompt.strip_prefix('[').map(str::trim_ascii_start);
    match items {
        Some(items) if !items.as_bytes().first().is_some_and(is_number) => {
            // Nothing of an item is kept.
            let items = decoded::<Vec<IgnoredAny>>(prompt);
            items.map_or(1, |items| items.len().max(1) as u64)
        }
        Some(_) | None => 1,
    }
}

fn require_content(shape: Shape, object: &Object<'_>) -> Result<(), BodyError> {
    let has = |field| object.get(field).is_some();
    match shape {
        Shape::Chat => match object.get(Field::Messages) {
            Some(messages) if is_filled_array(messages) => Ok(()),
            Some(_) | None => Err(BodyError::NoMessages),
        },
        Shape::Embeddings if !has(Field::Input) => Err(BodyError::NoInput),
        Shape::Responses => {
            let sources = [
                Field::Input,
                Field::Prompt,
                Field::PreviousResponseId,
                Field::Conversation,
            ];
            if sources.into_iter().any(has) {
                Ok(())
            } else {
                Err(BodyError::NoInput)
            }
        }
        Shape::Embeddings | Shape::Completions | Shape::Other => Ok(()),
    }
}

fn read_model(object: &Object<'_>) -> Result<Option<String>, BodyError> {
    let Some(value) = object.get(Field::Model) else {
        return Ok(None);
    };
    let model: String = decoded(value).ok_or(BodyError::WrongType {
        field: "model",
        expected: "a string",
    })?;
    Ok(Some(model).filter(|model| !model.is_empty()))
}

fn read_stream(object: &Object<'_>) -> Result<bool, BodyError> {
    let Some(value) = object.get(Field::Stream) else {
        return Ok(false);
    };
    decoded(value).ok_or(BodyError::WrongType {
        field: "stream",
        expected: "true or false",
    })
}

fn conversation_id(object: &Object<'_>) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        id: String,
    }
    let named = || decoded::<Named>(object.get(Field::Conversation)?);
    let id = object.text(Field::Conversation);
    id.or_else(|| named().map(|conversation| conversation.id))
        .filter(|id| !id.is_empty())
}

fn model_edit(text: &str, object: &Object<'_>) -> ModelEdit {
    match object.found[Field::Model as usize] {
        Some(value) => ModelEdit::JsonValue(span(text, value)),
        None => ModelEdit::JsonField {
            at: after_brace(text),
            separator: if object.is_empty { "" } else { "," },
        },
    }
}

/// Whether valid JSON is an array with something in it.
fn is_filled_array(json: &str) -> bool {
    json.strip_prefix('[')
        .is_some_and(|rest| !rest.trim_ascii_start().starts_with(']'))
}

fn not_utf8(body: &[u8], at: usize) -> BodyError {
    let before = &body[..at];
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
    BodyError::NotJson {
        line: 1 + memchr::memchr_iter(b'\n', before).count(),
        column: 1 + at - line_start,
        fault: JsonFault::NotUtf8,
    }
}

fn not_an_object(error: &serde_json::Error) -> BodyError {
    if error.is_data() {
        return BodyError::NotAnObject;
    }
    BodyError::NotJson {
        line: error.line(),
        column: error.column(),
        fault: if error.is_eof() {
            JsonFault::EndsEarly
        } else {
            JsonFault::Syntax
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::request::{IncludeUsage, Splice, spliced};

    fn facts(json: &str) -> BodyFacts {
        read_json(Shape::Completions, json.as_bytes()).unwrap()
    }

    fn error(shape: Shape, json: &str) -> BodyError {
        read_json(shape, json.as_bytes()).unwrap_err()
    }

    fn edited(json: &str, splice: Option<Splice>) -> Value {
        let body = Bytes::copy_from_slice(json.as_bytes());
        serde_json::from_slice(&spliced(&body, splice.into_iter().collect()).concat()).unwrap()
    }

    #[test]
    fn the_facts_are_read() {
        let facts = facts(
            r#" {"mod\u0065l":"gpt-\u0034o","stream":true,"stream_options":{"include_usage":false,"x":1},"max_tokens":7,
                "max_completion_tokens":9.0,"max_output_tokens":null,"user":"","safety_identifier":"s","n":3,
                "previous_response_id":"r","unknown":[{"model":"no"}]} "#,
        );
        assert_eq!(facts.model.as_deref(), Some("gpt-4o"));
        assert!(facts.stream);
        assert_eq!(facts.include_usage, IncludeUsage::Declined);
        assert_eq!((facts.max_completion_tokens, facts.choices), (Some(9), 3));
        assert_eq!(
            (facts.user.as_deref(), facts.previous_response_id.as_deref()),
            (Some("s"), Some("r"))
        );
    }

    #[test]
    fn every_answer_that_is_made_is_counted() {
        for (json, choices) in [
            (r#"{"prompt":"a","n":2,"best_of":5}"#, 5),
            (r#"{"prompt":["a","b", "c"],"n":2}"#, 6),
            (r#"{"prompt":[ [1,2],[3]],"best_of":3}"#, 6),
            (r#"{"prompt":[1,2,3]}"#, 1),
            (r#"{"prompt":[]}"#, 1),
            (r#"{"prompt":["a","b"],"n":18446744073709551615}"#, u64::MAX),
        ] {
            assert_eq!(facts(json).choices, choices, "{json}");
        }
        let chat = br#"{"messages":[{}],"prompt":["a","b"],"best_of":7}"#;
        assert_eq!(read_json(Shape::Chat, chat).unwrap().choices, 1);
    }

    #[test]
    fn what_is_absent_null_or_for_the_backend_to_judge_passes() {
        let facts = facts(
            r#"{"model":null,"stream":null,"stream_options":5,"max_tokens":"x","n":-1,"user":{},"best_of":0}"#,
        );
        assert_eq!((facts.model, facts.stream, facts.user), (None, false, None));
        assert_eq!((facts.max_completion_tokens, facts.choices), (None, 1));
        assert_eq!(facts.include_usage, IncludeUsage::Absent);
        assert!(read_json(Shape::Other, b"{}").is_ok());
        for json in [
            r#"{"prompt":{"id":"p"}}"#,
            r#"{"previous_response_id":"r"}"#,
            r#"{"conversation":"c"}"#,
            r#"{"input":""}"#,
        ] {
            assert!(
                read_json(Shape::Responses, json.as_bytes()).is_ok(),
                "{json}"
            );
        }
    }

    #[test]
    fn what_the_gateway_needs_is_insisted_on() {
        for json in [
            "{}",
            r#"{"messages":null}"#,
            r#"{"messages":[ ]}"#,
            r#"{"messages":"x"}"#,
        ] {
            assert_eq!(error(Shape::Chat, json), BodyError::NoMessages, "{json}");
        }
        assert!(read_json(Shape::Chat, br#"{"messages":[ {}]}"#).is_ok());
        assert_eq!(
            error(Shape::Embeddings, r#"{"input":null}"#),
            BodyError::NoInput
        );
        assert_eq!(
            error(Shape::Responses, r#"{"prompt":null}"#),
            BodyError::NoInput
        );
        for (json, field) in [
            (r#"{"model":5}"#, "model"),
            (r#"{"model":"\ud800"}"#, "model"),
            (r#"{"stream":"true"}"#, "stream"),
            (r#"{"stream":true,"stream_options":[]}"#, "stream_options"),
            (
                r#"{"stream":true,"stream_options":{"include_usage":1}}"#,
                "stream_options.include_usage",
            ),
        ] {
            let error = error(Shape::Completions, json);
            assert!(matches!(error, BodyError::WrongType { .. }), "{json}");
            assert_eq!(error.field(), Some(field), "{json}");
        }
    }

    #[test]
    fn what_the_gateway_decides_by_must_stand_there_once() {
        for (json, field) in [
            (r#"{"model":"a","mod\u0065l":"b"}"#, "model"),
            (r#"{"stream":true,"stream":true}"#, "stream"),
            (
                r#"{"stream_options":null,"stream_options":{}}"#,
                "stream_options",
            ),
            (
                r#"{"stream_options":{"include_usage":true,"include_usag\u0065":false}}"#,
                "stream_options.include_usage",
            ),
        ] {
            assert_eq!(
                error(Shape::Completions, json),
                BodyError::Duplicate { field },
                "{json}"
            );
        }
        for (_, field) in Field::ALL {
            let json = format!(r#"{{"{field}":null,"{field}":1}}"#);
            let refused = read_json(Shape::Other, json.as_bytes()).err();
            let expected = (!["user", "safety_identifier"].contains(&field))
                .then_some(BodyError::Duplicate { field });
            assert_eq!(refused, expected, "{json}");
        }
        assert_eq!(
            facts(r#"{"temperature":1,"temperature":2,"x":{"model":1,"model":2}}"#).model,
            None
        );
    }

    #[test]
    fn a_body_that_is_no_json_object_is_refused_with_its_place() {
        let fault = |json: &[u8]| match read_json(Shape::Other, json).unwrap_err() {
            BodyError::NotJson {
                line,
                column,
                fault,
            } => (line, column, fault),
            other => panic!("{other:?}"),
        };
        assert_eq!(fault(b""), (1, 0, JsonFault::EndsEarly));
        assert_eq!(fault(b"{\"a\":\n [1,").2, JsonFault::EndsEarly);
        assert_eq!(fault(b"{\"a\":\n 1,}"), (2, 4, JsonFault::Syntax));
        assert_eq!(fault(b"{\"a\":1} x"), (1, 9, JsonFault::Syntax));
        assert_eq!(fault(b"{\"a\":[1 2]}").2, JsonFault::Syntax);
        assert_eq!(fault(b"{\"a\":\n\"\xff\"}"), (2, 2, JsonFault::NotUtf8));
        for json in ["[]", "null", "\"x\"", "5"] {
            assert_eq!(error(Shape::Other, json), BodyError::NotAnObject, "{json}");
        }
    }

    #[test]
    fn no_error_echoes_the_body() {
        for json in [
            r#"{"a":SECRET}"#,
            r#""SECRET""#,
            r#"{"model":{"SECRET":1}}"#,
            r#"{"stream":"SECRET"}"#,
            r#"{"SECRET"#,
        ] {
            let error = error(Shape::Chat, json);
            assert!(!format!("{error} {error:?}").contains("SECRET"), "{json}");
        }
    }

    #[test]
    fn a_number_in_quotes_is_held_as_one() {
        for (json, expected) in [
            (r#"{"max_tokens":"5000"}"#, Some(5_000)),
            (
                r#"{"max_tokens":" 5\u0030 ","max_output_tokens":7}"#,
                Some(50),
            ),
            (r#"{"max_tokens":"9.0"}"#, Some(9)),
            (r#"{"max_tokens":"-9"}"#, None),
            (r#"{"max_tokens":"many"}"#, None),
            (r#"{"max_tokens":"\"5\""}"#, None),
            (r#"{"max_tokens":""}"#, None),
        ] {
            assert_eq!(facts(json).max_completion_tokens, expected, "{json}");
        }
        assert_eq!(facts(r#"{"n":"3","max_tokens":1}"#).choices, 3);
    }

    #[test]
    fn deep_nesting_costs_no_stack() {
        let depth = 1 << 20;
        let nested = "[".repeat(depth) + &"]".repeat(depth);
        for field in ["x", "messages", "n", "user", "max_tokens", "stream_options"] {
            let json = format!(r#"{{"{field}":{nested},"model":"m"}}"#);
            assert_eq!(facts(&json).model.as_deref(), Some("m"));
        }
        assert!(matches!(
            error(Shape::Other, &"{\"a\":".repeat(depth)),
            BodyError::NotJson { .. }
        ));
    }

    #[test]
    fn the_model_is_replaced_or_inserted() {
        for (json, expected) in [
            (
                r#"{"a":1,"model" : "x" ,"b":2}"#,
                json!({"a":1,"model":"n\"ew","b":2}),
            ),
            (r#"{"model":null}"#, json!({"model":"n\"ew"})),
            (" { }", json!({"model":"n\"ew"})),
            (r#"{"a":1}"#, json!({"a":1,"model":"n\"ew"})),
        ] {
            assert_eq!(
                edited(json, facts(json).model_as("n\"ew")),
                expected,
                "{json}"
            );
        }
        assert_eq!(facts(r#"{"model":"\u0061"}"#).model_as("a"), None);
    }

    #[test]
    fn usage_is_asked_for_wherever_it_is_not() {
        let asking = json!({"stream":true,"stream_options":{"include_usage":true}});
        for json in [
            r#"{"stream":true}"#,
            r#"{"stream":true,"stream_options":null}"#,
            r#"{"stream":true,"stream_options":{ }}"#,
            r#"{"stream_options" : {"include_usage" : false},"stream":true}"#,
            r#"{"stream":true,"stream_options":{"include_usage":null}}"#,
        ] {
            assert_eq!(edited(json, facts(json).with_usage()), asking, "{json}");
        }
        let other = r#"{"stream_options":{"x":{"include_usage":false}}}"#;
        let expected = json!({"stream_options":{"include_usage":true,"x":{"include_usage":false}}});
        assert_eq!(edited(other, facts(other).with_usage()), expected);
        let asked = facts(r#"{"stream_options":{"include_usage":true}}"#);
        assert_eq!(
            (asked.include_usage, asked.with_usage()),
            (IncludeUsage::Asked, None)
        );
        let responses = read_json(Shape::Responses, br#"{"input":"a","stream":true}"#).unwrap();
        assert_eq!(responses.with_usage(), None);
    }
}
