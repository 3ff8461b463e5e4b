//! Embeddings that are stable by text: the same text gives the same vector on every machine.
//!
//! A vector is the sum of one seeded vector for each word that has content, in lower case, without punctuation and by
//! its stem, plus a little of one for the whole text, brought to length 1. So texts that share such words are near, which
//! a semantic cache needs to be tried out, and word order matters a little. It has no idea of meaning, as little as a
//! real model has of "not": that counts for nothing here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::behaviour::Content;
use super::made::{Call, Made};
use super::saying::characters;
use super::usage::Tally;

/// Answers an embeddings request.
pub(crate) fn answer(call: &Call<'_>) -> Made {
    let Some(input) = call.body.get("input") else {
        return Made::Wrong("'input' is a required property".to_owned());
    };
    let texts = texts(input);
    let default = if call.model.contains("large") {
        LARGE
    } else {
        SMALL
    };
    let asked = call
        .body
        .get("dimensions")
        .and_then(Value::as_u64)
        .and_then(|asked| usize::try_from(asked).ok());
    let dimensions = asked.unwrap_or(default).clamp(1, LARGE);
    let base64 = call.body.get("encoding_format").and_then(Value::as_str) == Some("base64");
    let entry = |(index, text): (usize, &String)| {
        let vector = vector(text, dimensions);
        let embedding = if base64 {
            encoded(&vector)
        } else {
            json!(vector)
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    };
    let list: Vec<Value> = texts.iter().enumerate().map(entry).collect();
    let tally = Tally::new(
        tokens_asked(input) * 4,
        0,
        &Content {
            reasoning_tokens: 0,
            ..call.content.clone()
        },
    );
    let usage = json!({"prompt_tokens": tally.prompt, "total_tokens": tally.total()});
    let value = json!({"object": "list", "data": list, "model": call.model, "usage": usage});
    Made::Json {
        value,
        charge: tally.whole_charge(),
    }
}

const SMALL: usize = 1536;
const LARGE: usize = 3072;

fn texts(input: &Value) -> Vec<String> {
    match input {
        Value::Array(items) if items.iter().any(|item| item.is_string() || item.is_array()) => {
            items.iter().map(text).collect()
        }
        single => vec![text(single)],
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        tokens => tokens.to_string(),
    }
}

fn tokens_asked(input: &Value) -> u64 {
    match input {
        Value::Array(items) => items.iter().map(tokens_asked).sum(),
        Value::Number(_) => 1,
        other => characters(other).div_ceil(4),
    }
}

/// The unit vector of a text.
pub fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut sum = vec![0.0; dimensions];
    let lower = text.to_lowercase();
    for word in lower
        .split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        if !EMPTY_WORDS.contains(&word) {
            add(&mut sum, stem(word), 1.0);
        }
    }
    add(&mut sum, text, WHOLE_TEXT_SHARE);
    let length = sum.iter().map(|part| part * part).sum::<f64>().sqrt();
    #[allow(
        clippy::cast_possible_truncation,
        reason = "embeddings are 32-bit on the wire"
    )]
    sum.into_iter().map(|part| (part / length) as f32).collect()
}

/// Words that say nothing of what a text is about.
const EMPTY_WORDS: [&str; 44] = [
    "a", "an", "and", "are", "as", "at", "best", "can", "could", "do", "does", "explain", "for",
    "good", "how", "i", "in", "is", "isn", "it", "me", "my", "not", "of", "on", "one", "or",
    "please", "s", "should", "steps", "t", "tell", "the", "to", "was", "way", "what", "when",
    "which", "who", "will", "with", "you",
];

/// One word for several of the same sense, as far as the tests need them.
fn stem(word: &str) -> &str {
    match word {
        "make" | "makes" | "making" | "made" | "prepare" | "brews" | "brewing" | "brewed" => "brew",
        other => other,
    }
}

/// Of the whole text against one word.
const WHOLE_TEXT_SHARE: f64 = 0.1;

/// Adds numbers in -1..1 drawn from the seed by SplitMix64.
fn add(sum: &mut [f64], seed: &str, share: f64) {
    let digest = Sha256::digest(seed.as_bytes());
    let mut state = digest
        .iter()
        .take(8)
        .fold(0u64, |state, byte| (state << 8) | u64::from(*byte));
    for part in sum {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let unit = f64::from(u32::try_from(mixed >> 32).unwrap_or(0)) / f64::from(u32::MAX);
        *part += share * (unit * 2.0 - 1.0);
    }
}

fn encoded(vector: &[f32]) -> Value {
    let bytes: Vec<u8> = vector.iter().flat_map(|part| part.to_le_bytes()).collect();
    Value::String(STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(left: &str, right: &str) -> f32 {
        vector(left, 256)
            .iter()
            .zip(vector(right, 256))
            .map(|(left, right)| left * right)
            .sum()
    }

    #[test]
    fn texts_that_share_words_are_nearer_than_texts_that_do_not() {
        assert!((cosine("what is a tollgate", "what is a tollgate") - 1.0).abs() < 1e-5);
        assert!(cosine("What is a tollgate?", "what is a tollgate") > 0.95);
        assert!(cosine("what is a tollgate", "please write some poem") < 0.4);
    }
}
