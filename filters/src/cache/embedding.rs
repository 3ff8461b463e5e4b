//! What an embeddings answer says: a vector for each text that was asked for, and what making them used.
//!
//! Read are numbers, as they are sent where no other format was asked for. Never here: who made it.

use serde::Deserialize;

use crate::answer;
use crate::cache::score::Vector;
use crate::route::Shape;
use crate::usage::Usage;

/// Some texts' embeddings.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// Their directions, in the order of the texts.
    pub vectors: Vec<Vector>,
    /// What all of them used, if that is told.
    pub usage: Option<Usage>,
}

/// Reads the answer to a call for `count` texts. Absent if there isn't exactly one usable vector for each in it.
pub fn read(body: &[u8], count: usize) -> Option<Embeddings> {
    let mut list: List = serde_json::from_slice(body).ok()?;
    if list.data.len() != count {
        return None;
    }
    // Most answers are in order and say so; one that says nothing is taken to be.
    if list.data.iter().any(|entry| entry.index.is_some()) {
        list.data.sort_by_key(|entry| entry.index);
        let mut places = list.data.iter().zip(0..);
        if !places.all(|(entry, place)| entry.index == Some(place)) {
            return None;
        }
    }
    let vectors = list.data.iter().map(|entry| Vector::new(&entry.embedding));
    Some(Embeddings {
        vectors: vectors.collect::<Option<_>>()?,
        usage: answer::read_body(Shape::Embeddings, body).usage,
    })
}

#[derive(Deserialize)]
struct List {
    data: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    index: Option<u64>,
    embedding: Vec<f32>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn vector(values: &[f32]) -> Vector {
        Vector::new(values).unwrap()
    }

    #[test]
    fn vectors_are_read_in_the_order_of_the_texts_and_with_their_usage() {
        let body = br#"{"object":"list","model":"m","data":[{"index":1,"embedding":[3.0,4.0]},{"index":0,"embedding":[1.0,0.0]}],
            "usage":{"prompt_tokens":5,"total_tokens":5}}"#;
        let read = read(body, 2).unwrap();
        assert_eq!(read.vectors, [vector(&[1.0, 0.0]), vector(&[0.6, 0.8])]);
        assert_eq!(read.usage.unwrap().total, 5);
    }

    #[test]
    fn without_numbers_the_order_is_that_of_the_answer() {
        let body = br#"{"data":[{"embedding":[1.0,0.0]},{"embedding":[0.0,1.0]}]}"#;
        let read = read(body, 2).unwrap();
        assert_eq!(read.vectors, [vector(&[1.0, 0.0]), vector(&[0.0, 1.0])]);
    }

    #[test]
    fn anything_else_is_none() {
        for (count, body) in [
            (1, ""),
            (1, "{}"),
            (1, r#"{"data":[]}"#),
            (1, r#"{"data":[{"embedding":[]}]}"#),
            (1, r#"{"data":[{"embedding":[0.0]}]}"#),
            (1, r#"{"data":[{"embedding":"AACAPw=="}]}"#),
            (1, r#"{"data":[{"embedding":[1.0]},{"embedding":[1.0]}]}"#),
            (1, r#"{"data":[{"embedding":[1.0"#),
            (1, r#"{"data":[{"index":1,"embedding":[1.0]}]}"#),
            (2, r#"{"data":[{"embedding":[1.0]}]}"#),
            (
                2,
                r#"{"data":[{"index":0,"embedding":[1.0]},{"index":0,"embedding":[1.0]}]}"#,
            ),
            (
                2,
                r#"{"data":[{"index":0,"embedding":[1.0]},{"embedding":[1.0]}]}"#,
            ),
        ] {
            assert_eq!(read(body.as_bytes(), count), None, "{body}");
        }
    }
}
