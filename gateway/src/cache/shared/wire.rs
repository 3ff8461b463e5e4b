//! The commands to Redis' query engine, and its answers in both protocols: RESP2 gives lists, RESP3 gives maps.
//!
//! Values are hexadecimal or binary, never a caller's text in a query, so nothing has to be escaped. Never sends anything.

use std::time::Duration;

use bytes::Bytes;
use filters::cache::entry::Entry;
use filters::cache::exact::Digest;
use filters::cache::index::MAX_NEAR;
use filters::cache::score::Vector;
use fred::types::Value;

use super::space::PREFIX;
use crate::cache::kept::{Kept, Sought};
use crate::cache::store::Kind;

/// What is read of an answer's hash.
pub(super) const FIELDS: [&str; 3] = ["entry", "id", "tokens"];

/// One that lies near.
#[derive(Debug, PartialEq)]
pub(super) struct Near {
    pub(super) key: String,
    pub(super) distance: f32,
    pub(super) question: String,
}

/// How many candidates the index looks at. Of 100,000 vectors in directions of their own, which is the hardest case, the
/// engine's own 10 find 37 in 100, these 98, in some 3 ms of Redis.
const BREADTH: usize = 128;

/// The arguments of `FT.CREATE`.
pub(super) fn create(index: &str, prefix: &str, dimensions: usize) -> Vec<Value> {
    let dimensions = dimensions.to_string();
    let words = [
        index,
        "ON",
        "HASH",
        "PREFIX",
        "1",
        prefix,
        "SCHEMA",
        "partition",
        "TAG",
        "vector",
        "VECTOR",
        "HNSW",
        "6",
        "TYPE",
        "FLOAT32",
        "DIM",
        &dimensions,
        "DISTANCE_METRIC",
        "COSINE",
    ];
    words.into_iter().map(Value::from).collect()
}

/// The arguments of `FT.SEARCH` for the nearest of a partition. Answers aren't among what it gives: they may be large,
/// and the guard takes one at most.
pub(super) fn search(index: &str, sought: &Sought, timeout: Duration) -> Vec<Value> {
    let query = format!(
        "(@partition:{{{}}})=>[KNN {MAX_NEAR} @vector $vector EF_RUNTIME {BREADTH} AS distance]",
        tag(&sought.partition)
    );
    let count = MAX_NEAR.to_string();
    let timeout = timeout.as_millis().max(1).to_string();
    let mut arguments: Vec<Value> = [index, &query, "PARAMS", "2", "vector"]
        .into_iter()
        .map(Value::from)
        .collect();
    arguments.push(blob(&sought.vector));
    let rest = [
        "SORTBY", "distance", "RETURN", "2", "distance", "question", "LIMIT", "0", &count,
        "TIMEOUT", &timeout, "DIALECT", "2",
    ];
    arguments.extend(rest.into_iter().map(Value::from));
    arguments
}

/// The arguments of `SCAN` over all answers.
pub(super) fn scan(cursor: &str, count: usize) -> Vec<Value> {
    let (pattern, count) = (format!("{PREFIX}*"), count.to_string());
    let words = [cursor, "MATCH", &pattern, "COUNT", &count, "TYPE", "hash"];
    words.into_iter().map(Value::from).collect()
}

/// How long it lives, then the fields of an answer's hash with their values.
pub(super) fn values(kept: &Kept, kind: &Kind<'_>, vector: Option<&Vector>) -> Vec<Value> {
    let partition = &kind.prompt.partition;
    let mut values = vec![Value::from(kind.duration.as_millis().max(1).to_string())];
    let mut add = |name: &'static str, value: Value| values.extend([Value::from(name), value]);
    add("entry", Value::Bytes(kept.entry.encode(partition).into()));
    add("id", format!("{:032x}", kept.id).into());
    add("tokens", kept.tokens.to_string().into());
    add("partition", tag(partition).into());
    add("policy", kind.owner.policy.as_ref().into());
    add("subscription", kind.owner.subscription.as_str().into());
    add("question", kept.entry.question.as_str().into());
    // The last, if there is one: by that it is known that there is none.
    if let Some(vector) = vector {
        add("vector", blob(vector));
    }
    values
}

/// An answer from its fields. None if it isn't what was put in.
pub(super) fn kept(fields: Vec<Value>, partition: &Digest) -> Option<Kept> {
    let [entry, id, tokens] = <[Value; 3]>::try_from(fields).ok()?;
    let entry = Entry::decode(&entry.into_bytes()?, partition)?;
    Some(Kept {
        id: u128::from_str_radix(&id.as_string()?, 16).ok()?,
        entry,
        tokens: tokens.as_string()?.parse().ok()?,
    })
}

/// What `FT.SEARCH` found, nearest first. None if the answer has neither form.
pub(super) fn near(reply: Value) -> Option<Vec<Near>> {
    match reply {
        Value::Map(_) => {
            let results = member(reply, "results")?.into_array();
            let results = results.into_iter();
            results
                .filter_map(|result| {
                    let key = member(result.clone(), "id")?;
                    one(key, member(result, "extra_attributes")?)
                })
                .map(Some)
                .collect()
        }
        Value::Array(found) => {
            let mut found = found.into_iter();
            found.next()?.as_i64()?;
            let mut near = Vec::new();
            while let (Some(key), Some(fields)) = (found.next(), found.next()) {
                near.extend(one(key, fields));
            }
            Some(near)
        }
        Value::Boolean(_)
        | Value::Integer(_)
        | Value::Double(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Null
        | Value::Queued => None,
    }
}

/// None for one that expired while it was looked for.
fn one(key: Value, fields: Value) -> Option<Near> {
    let distance = member(fields.clone(), "distance")?.as_f64()? as f32;
    Some(Near {
        key: key.as_string()?,
        // Rounding may leave it a little below.
        distance: distance.max(0.0),
        question: member(fields, "question")?.as_string()?,
    })
}

/// A member of a map, or of a list of names and values.
fn member(fields: Value, name: &str) -> Option<Value> {
    if fields.is_null() {
        return None;
    }
    let mut fields = fields.into_array().into_iter();
    while let (Some(key), Some(value)) = (fields.next(), fields.next()) {
        if key.as_str().is_some_and(|key| key == name) {
            return Some(value);
        }
    }
    None
}

fn tag(partition: &Digest) -> String {
    partition.to_hex()
}

/// The numbers as Redis wants them: four bytes each, the lowest first.
fn blob(vector: &Vector) -> Value {
    let numbers = vector.values().iter();
    let bytes: Vec<u8> = numbers.flat_map(|number| number.to_le_bytes()).collect();
    Value::Bytes(Bytes::from(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn list(values: impl IntoIterator<Item = Value>) -> Value {
        Value::Array(values.into_iter().collect())
    }

    fn fields() -> Value {
        list(["distance", "0.25", "question", "q"].map(Value::from))
    }

    #[test]
    fn both_protocols_say_the_same() {
        let expected = vec![Near {
            key: "k".into(),
            distance: 0.25,
            question: "q".into(),
        }];
        let expired = list([]);
        let old = [
            Value::Integer(2),
            "k".into(),
            fields(),
            "x".into(),
            expired.clone(),
        ];
        assert_eq!(near(list(old)).as_ref(), Some(&expected));
        let map = |pairs: Vec<(&str, Value)>| Value::Map(pairs.try_into().unwrap());
        let result = |key: &str, fields: Value| {
            map(vec![
                ("id", key.into()),
                ("extra_attributes", fields),
                ("values", list([])),
            ])
        };
        let pairs = map(vec![("distance", "0.25".into()), ("question", "q".into())]);
        let new = map(vec![
            ("total_results", Value::Integer(2)),
            (
                "results",
                list([result("k", pairs), result("x", Value::Null)]),
            ),
            ("warning", list([])),
        ]);
        assert_eq!(near(new).as_ref(), Some(&expected));
        assert_eq!(near(list([Value::Integer(0)])), Some(vec![]));
    }

    #[test]
    fn another_answer_is_none() {
        for reply in [Value::Null, "OK".into(), list([]), list([Value::from("k")])] {
            assert_eq!(near(reply.clone()), None, "{reply:?}");
        }
    }
}
