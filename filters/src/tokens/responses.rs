//! Reads the body of a response request into a `Conversation`.
//!
//! The instructions are a system message; an input that is a text is one user message. Calls and their
//! results stand beside the messages in the input and become messages.
//!
//! Never looks a stored conversation or a stored prompt up: such a request is counted without it, and the
//! estimate says that it isn't certain.

use super::chat::{call, choice, function, schema};
use super::conversation::{Conversation, Interface, Message, Messages};
use super::json::Node;
use super::tools::Function;

/// `None`: neither an input nor instructions, nor anything stored that stands for them.
pub(super) fn conversation<'a>(body: &'a Node<'a>) -> Option<Conversation<'a>> {
    let stored = ["previous_response_id", "conversation", "prompt"]
        .iter()
        .any(|name| body.get(name).is_some());
    let mut first: Vec<Message<'a>> = Vec::new();
    let instructions = body
        .get("instructions")
        .filter(|text| text.as_text() != Some(""));
    first.extend(instructions.map(|text| plain("system", text)));
    let items = match body.get("input") {
        Some(Node::List(items)) => items.as_slice(),
        Some(input) => {
            first.push(plain("user", input));
            &[]
        }
        None => &[],
    };
    let read = items.iter().filter(|item| is_read(item)).count();
    if first.is_empty() && read == 0 && !stored {
        return None;
    }
    let tools = body.list("tools");
    let functions: Vec<Function<'a>> = tools
        .iter()
        .filter(|tool| is_function(tool))
        .map(function)
        .collect();
    let format = body.get("text").and_then(|text| text.get("format"));
    Some(Conversation {
        interface: Interface::Responses,
        messages: Messages {
            first,
            items,
            read: message,
        },
        complete: !stored && read == items.len() && functions.len() == tools.len(),
        functions,
        choice: choice(body.get("tool_choice")),
        schema: format.and_then(|format| schema(format, format)),
        hidden_reasoning: hidden_reasoning(items),
    })
}

/// The lengths of the reasoning that belongs to the turn that goes on: that of earlier turns isn't shown again.
fn hidden_reasoning(items: &[Node<'_>]) -> Vec<usize> {
    let is_user = |item: &&Node<'_>| item.text("role") == Some("user");
    let turn = items.iter().rev().take_while(|item| !is_user(item));
    let reasoning = turn.filter(|item| item.text("type") == Some("reasoning"));
    reasoning
        .filter_map(|item| item.text("encrypted_content").map(str::len))
        .collect()
}

/// Any other tool is built in, and its text is hidden.
fn is_function(tool: &Node<'_>) -> bool {
    tool.text("type") == Some("function")
}

fn plain<'a>(role: &'a str, content: &'a Node<'a>) -> Message<'a> {
    Message {
        role,
        content: Some(content),
        ..Message::default()
    }
}

/// Whether an item's cost can be known.
fn is_read(item: &Node<'_>) -> bool {
    match item.text("type").unwrap_or("message") {
        "function_call" | "function_call_output" => true,
        "message" => item.get("content").is_some(),
        _ => false,
    }
}

/// One item of the input. `None`: an item whose cost can't be known.
fn message<'a>(item: &'a Node<'a>) -> Option<Message<'a>> {
    let id = item.text("call_id");
    match item.text("type").unwrap_or("message") {
        "function_call" => Some(Message {
            role: "assistant",
            calls: vec![call(id, item)],
            ..Message::default()
        }),
        "function_call_output" => Some(Message {
            role: "tool",
            content: item.get("output"),
            answers: id,
            ..Message::default()
        }),
        "message" => Some(plain(
            item.text("role").unwrap_or_default(),
            item.get("content")?,
        )),
        _ => None,
    }
}
