//! Reads the body of a chat completion into a `Conversation`.
//!
//! Never refuses a body for a member it doesn't know or that has the wrong type: the backend decides what
//! is valid, and what can't be read here costs nothing.

use super::conversation::{Call, Choice, Conversation, Interface, Message, Messages, Schema};
use super::json::Node;
use super::tools::Function;

/// `None`: no list of messages.
pub(super) fn conversation<'a>(body: &'a Node<'a>) -> Option<Conversation<'a>> {
    let Some(Node::List(messages)) = body.get("messages") else {
        return None;
    };
    let tools = body.list("tools");
    let declared: Vec<Function<'a>> = tools
        .iter()
        .filter_map(|tool| tool.get("function"))
        .map(function)
        .collect();
    let complete = declared.len() == tools.len() && body.get("web_search_options").is_none();
    let functions = if declared.is_empty() {
        body.list("functions").iter().map(function).collect()
    } else {
        declared
    };
    Some(Conversation {
        interface: Interface::Chat,
        messages: Messages {
            first: Vec::new(),
            items: messages,
            read: message,
        },
        functions,
        choice: choice(
            body.get("tool_choice")
                .or_else(|| body.get("function_call")),
        ),
        schema: body
            .get("response_format")
            .and_then(|format| schema(format, format.get("json_schema")?)),
        hidden_reasoning: Vec::new(),
        complete,
    })
}

/// A function as both interfaces declare it.
pub(super) fn function<'a>(declared: &'a Node<'a>) -> Function<'a> {
    Function {
        name: declared.text("name").unwrap_or_default(),
        description: declared.text("description"),
        parameters: declared.get("parameters"),
    }
}

/// Which function the caller wants to be called, in either interface's form.
pub(super) fn choice<'a>(choice: Option<&'a Node<'a>>) -> Choice<'a> {
    match choice {
        Some(Node::Text(text)) if text == "none" => Choice::Nothing,
        Some(named @ Node::Object(_)) => Choice::Named(
            named
                .get("function")
                .unwrap_or(named)
                .text("name")
                .unwrap_or_default(),
        ),
        Some(Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) | Node::List(_))
        | None => Choice::Free,
    }
}

/// The schema of an answer, where `format` asks for one and `described` describes it.
pub(super) fn schema<'a>(format: &'a Node<'a>, described: &'a Node<'a>) -> Option<Schema<'a>> {
    (format.text("type") == Some("json_schema")).then(|| Schema {
        name: described.text("name").unwrap_or_default(),
        description: described.text("description").unwrap_or_default(),
        schema: described.get("schema"),
    })
}

fn message<'a>(message: &'a Node<'a>) -> Option<Message<'a>> {
    Some(Message {
        role: message.text("role").unwrap_or_default(),
        content: message.get("content"),
        name: message.text("name").filter(|name| !name.is_empty()),
        refusal: message.text("refusal"),
        calls: message.list("tool_calls").iter().map(tool_call).collect(),
        legacy_call: message
            .get("function_call")
            .map(|called| call(None, called)),
        answers: message.text("tool_call_id"),
    })
}

fn tool_call<'a>(tool_call: &'a Node<'a>) -> Call<'a> {
    call(
        tool_call.text("id"),
        tool_call.get("function").unwrap_or(&Node::Null),
    )
}

/// A call as both interfaces write it.
pub(super) fn call<'a>(id: Option<&'a str>, called: &'a Node<'a>) -> Call<'a> {
    Call {
        id,
        name: called.text("name").unwrap_or_default(),
        arguments: called.text("arguments").unwrap_or_default(),
    }
}
