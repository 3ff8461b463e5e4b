//! Promises about partitions: written in any way, a request has one; another request has another.

#![allow(clippy::unwrap_used)]

use filters::cache::prompt::{IGNORED, Prompt, Scope, Skip, SystemMessages, read};
use filters::route::Shape;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn prompt(body: &str, subscription: &str) -> Result<Prompt, Skip> {
    let vary_by = [subscription.to_owned()];
    let scope = Scope {
        policy: "p",
        api: "a",
        operation: "o",
        model: "m",
        vary_by: &vary_by,
    };
    read(
        Shape::Chat,
        body.as_bytes(),
        scope,
        SystemMessages::Embedded,
    )
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2_i64..3).prop_map(Value::from),
        (0_u8..4).prop_map(|quarter| json!(f64::from(quarter) / 4.0)),
        proptest::sample::select(vec![
            "",
            "a",
            "b",
            "[",
            "{}",
            "é\n",
            "a long text of more than thirty-two bytes, to be digested"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map(
                proptest::sample::select(vec!["a", "b", "type", "text", ""]),
                inner,
                0..3
            )
            .prop_map(|members| members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect::<Map<_, _>>()
                .into()),
        ]
    })
}

fn message() -> impl Strategy<Value = Value> {
    let role = proptest::sample::select(vec!["system", "user", "user", "assistant", "tool"]);
    let text = proptest::sample::select(vec!["a", "b", "c"]);
    let content = prop_oneof![
        3 => text.clone().prop_map(Value::from),
        1 => text.prop_map(|text| json!([{"type": "text", "text": text}])),
        1 => value().prop_map(|url| json!([{"type": "image_url", "image_url": url}])),
    ];
    (role, content).prop_map(|(role, content)| json!({"role": role, "content": content}))
}

/// A body: its messages, and a few other fields.
fn body() -> impl Strategy<Value = Value> {
    let name =
        proptest::sample::select(vec!["temperature", "tools", "stop", "stream", "user", "x"]);
    (
        proptest::collection::vec(message(), 1..4),
        proptest::collection::btree_map(name, value(), 0..3),
    )
        .prop_map(|(messages, fields)| {
            let mut body: Map<String, Value> = fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
            body.insert("messages".to_owned(), messages.into());
            body.into()
        })
}

/// The same value, its members in reverse order and with space between everything.
fn reversed(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .rev()
                .map(|(name, value)| format!("{} : {}", json!(name), reversed(value)))
                .collect();
            format!("{{ {} }}", members.join(" ,\n"))
        }
        Value::Array(items) => format!(
            "[ {} ]",
            items.iter().map(reversed).collect::<Vec<_>>().join(" , ")
        ),
        Value::Number(number) if number.is_i64() => format!("{number}.0"),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// What must be equal in one partition, by the simplest means: the body without what is ignored and without the words of
/// the last run of user messages.
fn fixed(body: &Value) -> Value {
    let mut body = body.clone();
    let object = body.as_object_mut().unwrap();
    object.retain(|name, _| !IGNORED.contains(&name.as_str()));
    numbers_alike(&mut body);
    let messages = body["messages"].as_array_mut().unwrap();
    let last = messages
        .iter()
        .rposition(|message| message["role"] == "user");
    for message in messages
        .iter_mut()
        .take(last.map_or(0, |last| last + 1))
        .rev()
    {
        if message["role"] != "user" {
            break;
        }
        match &mut message["content"] {
            Value::String(text) => text.clear(),
            Value::Array(parts) => {
                for part in parts.iter_mut().filter(|part| part["type"] == "text") {
                    part["text"] = Value::Null;
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {}
        }
    }
    body
}

fn numbers_alike(value: &mut Value) {
    match value {
        Value::Number(number) => *value = json!(number.as_f64()),
        Value::Array(items) => items.iter_mut().for_each(numbers_alike),
        Value::Object(members) => members.values_mut().for_each(numbers_alike),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// The whole of it, without what is ignored.
fn meant(body: &Value) -> Value {
    let mut body = body.clone();
    body.as_object_mut()
        .unwrap()
        .retain(|name, _| !IGNORED.contains(&name.as_str()));
    numbers_alike(&mut body);
    body
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn how_a_body_is_written_does_not_matter(body in body()) {
        prop_assert_eq!(prompt(&body.to_string(), "s"), prompt(&reversed(&body), "s"));
    }

    #[test]
    fn two_bodies_share_a_partition_only_if_all_but_the_question_is_equal(a in body(), b in body()) {
        let (one, other) = (prompt(&a.to_string(), "s").unwrap(), prompt(&b.to_string(), "s").unwrap());
        prop_assert_eq!(one.partition == other.partition, fixed(&a) == fixed(&b), "{} {}", a, b);
        prop_assert_eq!(one.exact == other.exact, meant(&a) == meant(&b), "{} {}", a, b);
    }

    #[test]
    fn another_subscription_never_shares_anything(body in body(), a in "[ab]{0,3}", b in "[ab]{0,3}") {
        prop_assume!(a != b);
        let (one, other) = (prompt(&body.to_string(), &a).unwrap(), prompt(&body.to_string(), &b).unwrap());
        prop_assert_ne!(one.partition, other.partition);
        prop_assert_ne!(one.exact, other.exact);
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), at in 0_usize..80) {
        let mut body = br#"{"messages":[{"role":"user","content":[{"type":"text","text":"q"}]}],"n":1}"#.to_vec();
        let at = at.min(body.len());
        body.splice(at..at, bytes);
        let scope = Scope { policy: "p", api: "a", operation: "o", model: "m", vary_by: &[] };
        for shape in [Shape::Chat, Shape::Completions, Shape::Responses] {
            let _ = read(shape, &body, scope, SystemMessages::Ignored);
        }
    }
}
