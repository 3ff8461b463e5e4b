//! Vectors for texts: different words, far apart; the same words, the same vector.
//!
//! All are windows into one long row of numbers, written out once, so that making one costs a copy.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// Numbers of one vector.
const DIMENSIONS: usize = 1536;
/// Numbers of the row.
const ROW: usize = DIMENSIONS * 64;

/// The row, as numbers and as they are written in JSON.
pub(super) struct Vectors {
    numbers: Vec<f32>,
    text: String,
    /// Where each number begins in `text`, and where the last one ends.
    starts: Vec<usize>,
}

#[derive(Deserialize)]
struct Asked {
    input: Texts,
    encoding_format: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Many(Vec<String>),
}

impl Vectors {
    pub(super) fn new() -> Self {
        let mut vectors = Self {
            numbers: Vec::with_capacity(ROW),
            text: String::new(),
            starts: vec![0],
        };
        let mut state = 6_u64;
        for _ in 0..ROW {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let number = ((state >> 40) as f32 / (1 << 24) as f32 - 0.5) * 0.1;
            vectors.numbers.push(number);
            // Writing to a String never fails.
            let _ = write!(vectors.text, "{number:.7},");
            vectors.starts.push(vectors.text.len());
        }
        vectors
    }

    /// The whole answer's body; empty where the request can't be read.
    pub(super) fn answer(&self, request: &[u8]) -> String {
        let Ok(asked) = serde_json::from_slice::<Asked>(request) else {
            return String::new();
        };
        let texts = match asked.input {
            Texts::One(text) => vec![text],
            Texts::Many(texts) => texts,
        };
        let packed = asked.encoding_format.as_deref() == Some("base64");
        let mut body = String::from("{\"object\":\"list\",\"data\":[");
        for (index, text) in texts.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let _ = write!(
                body,
                "{comma}{{\"object\":\"embedding\",\"index\":{index},\"embedding\":"
            );
            self.push(text, packed, &mut body);
            body.push('}');
        }
        let _ = write!(
            body,
            "],\"model\":\"text-embedding-3-small\",\"usage\":{{\"prompt_tokens\":{0},\"total_tokens\":{0}}}}}",
            texts.len() * 200
        );
        body
    }

    fn push(&self, text: &str, packed: bool, body: &mut String) {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let from = hasher.finish() as usize % (ROW - DIMENSIONS);
        let to = from + DIMENSIONS;
        if packed {
            let numbers = self.numbers.get(from..to).unwrap_or_default();
            let bytes: Vec<u8> = numbers.iter().flat_map(|one| one.to_le_bytes()).collect();
            let _ = write!(body, "\"{}\"", STANDARD.encode(bytes));
            return;
        }
        let starts = self.starts.get(from).zip(self.starts.get(to));
        let written = starts.and_then(|(start, end)| self.text.get(*start..end - 1));
        let _ = write!(body, "[{}]", written.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_has_a_vector_of_its_own_in_either_form() {
        let vectors = Vectors::new();
        let read = |request: &str| -> serde_json::Value {
            serde_json::from_str(&vectors.answer(request.as_bytes())).unwrap()
        };
        let two = read(r#"{"input":["a","b"]}"#);
        assert_eq!(two["data"][0]["embedding"].as_array().unwrap().len(), 1536);
        assert_ne!(two["data"][0]["embedding"], two["data"][1]["embedding"]);
        assert_eq!(
            read(r#"{"input":"b"}"#)["data"][0]["embedding"],
            two["data"][1]["embedding"]
        );
        let packed = read(r#"{"input":"b","encoding_format":"base64"}"#);
        let packed = STANDARD.decode(packed["data"][0]["embedding"].as_str().unwrap());
        assert_eq!(packed.unwrap().len(), 1536 * 4);
    }
}
