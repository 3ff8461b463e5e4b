//! Counts inputs that aren't conversations: embeddings and completions. Nothing is added to their texts.
//!
//! An input may come as tokens already: each number is one.

use super::Estimate;
use super::encoding::encoding_of;
use super::json::Node;
use super::memo::{Counter, Memo};

/// Tokens of an embeddings request. `None`: no input.
pub(super) fn embeddings<M: Memo>(memo: &M, model: &str, body: &Node<'_>) -> Option<Estimate> {
    Some(Input::of(memo, model, &[body.get("input")?]))
}

/// Tokens of a completion request: the prompt, and the text that is to follow the completion.
/// `None`: no prompt.
pub(super) fn completions<M: Memo>(memo: &M, model: &str, body: &Node<'_>) -> Option<Estimate> {
    let prompt = body.get("prompt")?;
    let suffix = body
        .get("suffix")
        .filter(|suffix| suffix.as_text().is_some());
    Some(Input::of(
        memo,
        model,
        &[prompt, suffix.unwrap_or(&Node::List(Vec::new()))],
    ))
}

struct Input<'m, M> {
    counter: Counter<'m, M>,
    estimate: Estimate,
}

impl<'m, M: Memo> Input<'m, M> {
    fn of(memo: &'m M, model: &str, inputs: &[&Node<'_>]) -> Estimate {
        let resolved = encoding_of(model);
        let mut input = Input {
            counter: Counter {
                encoding: resolved.encoding,
                memo,
            },
            estimate: Estimate {
                tokens: 0,
                certain: resolved.known,
            },
        };
        inputs.iter().for_each(|node| input.add(node));
        input.estimate
    }

    fn add(&mut self, input: &Node<'_>) {
        match input {
            Node::Text(text) => self.estimate.tokens += self.counter.count(text),
            Node::Number(_) => self.estimate.tokens += 1,
            Node::List(items) => items.iter().for_each(|item| self.add(item)),
            // An image among the inputs of some models.
            Node::Null | Node::Bool(_) | Node::Object(_) => self.estimate.certain = false,
        }
    }
}
