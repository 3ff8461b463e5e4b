//! How far two answers lie apart, by their words: for a policy that only observes, to judge what it would have given.
//!
//! The cosine distance of how often each word stands in them: 0 for the same words as often, 1 for none in common. Two
//! answers of one model to one question lie some 0.1 to 0.4 apart, to unrelated ones 0.6 and more: a measure for many
//! answers together, not for one. Time and memory are linear in both texts.
//!
//! Never here: an embedding, and the order of the words.

use std::collections::HashMap;

use serde_json::Value;

use crate::route::Shape;

/// The distance of two answers of one operation, from 0 to 1. None if one of them can't be read.
pub fn apart(shape: Shape, a: &[u8], b: &[u8]) -> Option<f32> {
    let (a, b) = (counts(shape, a)?, counts(shape, b)?);
    let length = |counts: &HashMap<String, f64>| -> f64 {
        counts
            .values()
            .map(|count| count * count)
            .sum::<f64>()
            .sqrt()
    };
    let common = a
        .iter()
        .filter_map(|(word, count)| Some(count * b.get(word)?));
    let cosine = common.sum::<f64>() / (length(&a) * length(&b));
    Some((1.0 - cosine).clamp(0.0, 1.0) as f32)
}

/// None for an answer without words.
fn counts(shape: Shape, body: &[u8]) -> Option<HashMap<String, f64>> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let mut counts: HashMap<String, f64> = HashMap::new();
    for text in texts(shape, &answer) {
        let words = text.split(|c: char| !c.is_alphanumeric());
        for word in words.filter(|word| !word.is_empty()) {
            *counts.entry(word.to_lowercase()).or_default() += 1.0;
        }
    }
    Some(counts).filter(|counts| !counts.is_empty())
}

/// What an answer says.
fn texts(shape: Shape, answer: &Value) -> Vec<&str> {
    match shape {
        Shape::Chat => each(answer, "choices")
            .filter_map(|choice| choice["message"]["content"].as_str())
            .collect(),
        Shape::Completions => each(answer, "choices")
            .filter_map(|choice| choice["text"].as_str())
            .collect(),
        Shape::Responses => each(answer, "output")
            .flat_map(|item| each(item, "content"))
            .filter_map(|part| part["text"].as_str())
            .collect(),
        Shape::Embeddings | Shape::Other => Vec::new(),
    }
}

fn each<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn chat(text: &str) -> Vec<u8> {
        let message = serde_json::json!({"role": "assistant", "content": text});
        let choice = serde_json::json!({"index": 0, "finish_reason": "stop", "message": message});
        serde_json::json!({"choices": [choice]})
            .to_string()
            .into_bytes()
    }

    #[test]
    fn the_same_words_are_near_and_others_far_in_whatever_order() {
        let between = |a: &str, b: &str| apart(Shape::Chat, &chat(a), &chat(b)).unwrap();
        assert!(between("Grind, then brew.", "then brew: GRIND") < 1e-6);
        assert!((between("a b", "a c") - 0.5).abs() < 1e-6);
        assert!((between("a b", "c d") - 1.0).abs() < 1e-6);
        assert_eq!(between("a a b", "a b"), between("a b", "a a b"));
    }

    #[test]
    fn what_says_nothing_has_no_distance() {
        let said = chat("a");
        for silent in [chat(""), chat("..."), b"{}".to_vec(), b"x".to_vec()] {
            assert_eq!(apart(Shape::Chat, &said, &silent), None);
        }
    }
}
