//! Counts inputs that aren't conversations: embeddings and completions. Nothing is added to their texts.
//!
//! An input may come as tokens already: each number is one.

use super::Estimate;
use super::encoding::{Resolved, encoding_of};
use super::json::Node;

/// Tokens of an embeddings request. `None`: no input.
pub(super) fn embeddings(model: &str, body: &Node<'_>) -> Option<Estimate> {
    let resolved = encoding_of(model);
    Some(input(resolved, body.get("input")?))
}

/// Tokens of a completion request: the prompt, and the text that is to follow the completion.
/// `None`: no prompt.
pub(super) fn completions(model: &str, body: &Node<'_>) -> Option<Estimate> {
    let resolved = encoding_of(model);
    let mut estimate = input(resolved, body.get("prompt")?);
    estimate.tokens += resolved
        .encoding
        .count(body.text("suffix").unwrap_or_default());
    Some(estimate)
}

fn input(resolved: Resolved, input: &Node<'_>) -> Estimate {
    let mut estimate = Estimate {
        tokens: 0,
        certain: resolved.known,
    };
    add(resolved, input, &mut estimate);
    estimate
}

fn add(resolved: Resolved, input: &Node<'_>, estimate: &mut Estimate) {
    match input {
        Node::Text(text) => estimate.tokens += resolved.encoding.count(text),
        Node::Number(_) => estimate.tokens += 1,
        Node::List(items) => items.iter().for_each(|item| add(resolved, item, estimate)),
        // An image among the inputs of some models.
        Node::Null | Node::Bool(_) | Node::Object(_) => estimate.certain = false,
    }
}
