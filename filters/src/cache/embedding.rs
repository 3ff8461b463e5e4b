//! What an embeddings answer says: one vector, and what making it used.
//!
//! Read are numbers, as they are sent where no other format was asked for. Never here: who made it.

use serde::Deserialize;

use crate::answer;
use crate::cache::score::Vector;
use crate::route::Shape;
use crate::usage::Usage;

/// One text's embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// Its direction.
    pub vector: Vector,
    /// What it used, if that is told.
    pub usage: Option<Usage>,
}

/// Reads the answer to a call for one text. Absent if there isn't exactly one usable vector in it.
pub fn read(body: &[u8]) -> Option<Embedding> {
    let list: List = serde_json::from_slice(body).ok()?;
    let [entry] = list.data.as_slice() else {
        return None;
    };
    Some(Embedding {
        vector: Vector::new(&entry.embedding)?,
        usage: answer::read_body(Shape::Embeddings, body).usage,
    })
}

#[derive(Deserialize)]
struct List {
    data: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    embedding: Vec<f32>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_vector_and_its_usage_are_read() {
        let body = br#"{"object":"list","model":"m","data":[{"index":0,"embedding":[3.0,4.0]}],
            "usage":{"prompt_tokens":5,"total_tokens":5}}"#;
        let read = read(body).unwrap();
        assert_eq!(read.vector, Vector::new(&[0.6, 0.8]).unwrap());
        assert_eq!(read.usage.unwrap().total, 5);
    }

    #[test]
    fn anything_else_is_none() {
        for body in [
            "",
            "{}",
            r#"{"data":[]}"#,
            r#"{"data":[{"embedding":[]}]}"#,
            r#"{"data":[{"embedding":[0.0]}]}"#,
            r#"{"data":[{"embedding":"AACAPw=="}]}"#,
            r#"{"data":[{"embedding":[1.0]},{"embedding":[1.0]}]}"#,
            r#"{"data":[{"embedding":[1.0"#,
        ] {
            assert_eq!(read(body.as_bytes()), None, "{body}");
        }
    }
}
