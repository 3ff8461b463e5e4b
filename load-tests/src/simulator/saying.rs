//! What the pretended model says: made-up words, a tool call, or JSON that fits a schema.
//!
//! One decision for chat and responses, which differ only in where they keep the facts. The words are the same each
//! time and say that nobody thought them. A word is a token; JSON is cut every four characters.

use serde_json::Value;

use super::behaviour::Content;
use super::schema;

/// What an answer depends on, read from a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// Name and parameter schema of each function.
    pub(crate) tools: Vec<(String, Value)>,
    /// The function that the caller insists on.
    pub(crate) wanted_tool: Option<String>,
    pub(crate) tools_forbidden: bool,
    /// Whether the last message is a person's: only then a tool is called.
    pub(crate) user_spoke_last: bool,
    pub(crate) schema: Option<Value>,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) prompt_characters: u64,
    /// What the caller said last, if it is one text.
    pub(crate) last_text: Option<String>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Saying {
    /// Name of the function that is called, if this is a call; `tokens` are its arguments then.
    pub(crate) tool: Option<String>,
    pub(crate) tokens: Vec<String>,
    /// Whether the bound of the caller cut it.
    pub(crate) cut: bool,
}

impl Saying {
    pub(crate) fn text(&self) -> String {
        self.tokens.concat()
    }
}

/// Decides what to say.
pub(crate) fn say(asked: &Asked, content: &Content) -> Saying {
    if asked.user_spoke_last && !asked.tools_forbidden {
        let wanted = asked.wanted_tool.as_ref();
        let found = asked
            .tools
            .iter()
            .find(|(name, _)| wanted.is_none_or(|wanted| wanted == name));
        if let Some((name, parameters)) = found {
            let arguments = schema::example(parameters).to_string();
            return Saying {
                tool: Some(name.clone()),
                tokens: pieces(&arguments),
                cut: false,
            };
        }
    }
    if let Some(schema) = &asked.schema {
        return Saying {
            tool: None,
            tokens: pieces(&schema::example(schema).to_string()),
            cut: false,
        };
    }
    let echo = asked.last_text.as_ref().filter(|_| content.echo);
    let mut tokens = match echo.or(content.text.as_ref()) {
        Some(text) => text.split_inclusive(' ').map(str::to_owned).collect(),
        None => words(content.tokens as usize),
    };
    let bound = asked
        .max_tokens
        .and_then(|bound| usize::try_from(bound).ok())
        .unwrap_or(usize::MAX);
    let cut = tokens.len() > bound;
    tokens.truncate(bound);
    Saying {
        tool: None,
        tokens,
        cut,
    }
}

fn pieces(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters
        .chunks(4)
        .map(|piece| piece.iter().collect())
        .collect()
}

fn words(count: usize) -> Vec<String> {
    let spoken = |(index, word): (usize, &&str)| {
        if index == 0 {
            (*word).to_owned()
        } else {
            format!(" {word}")
        }
    };
    WORDS
        .iter()
        .cycle()
        .take(count)
        .enumerate()
        .map(|(index, word)| spoken((index, word)))
        .collect()
}

const WORDS: &[&str] = &[
    "This",
    "is",
    "a",
    "simulated",
    "answer;",
    "no",
    "model",
    "was",
    "asked,",
    "and",
    "each",
    "word",
    "here",
    "counts",
    "one",
    "token.",
];

/// Characters of all texts in a value: of a string itself, or of the `content`, `text` and the like inside.
pub(crate) fn characters(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.chars().count() as u64,
        Value::Array(items) => items.iter().map(characters).sum(),
        Value::Object(fields) => {
            let counted =
                |name: &str| matches!(name, "content" | "text" | "arguments" | "output" | "name");
            fields
                .iter()
                .filter(|(name, _)| counted(name))
                .map(|(_, field)| characters(field))
                .sum()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}
