//! The texts of an answer that wasn't streamed: what can be counted where it tells no usage.
//!
//! Never here: tokens, and anything that an answer with a usage is read for.

use std::borrow::Cow;

use serde::Deserialize;

use crate::answer::chunk::Delta;
use crate::answer::texts::{Part, Texts};
use crate::usage::lenient;

/// The texts of one answer. Of one that can't be read, only the bytes are counted.
pub(super) fn texts(body: &[u8]) -> Texts {
    let mut texts = Texts::default();
    let Ok(whole) = serde_json::from_slice::<Whole<'_>>(body) else {
        texts.leave_out(body.len());
        return texts;
    };
    for (index, choice) in (0..).zip(whole.choices.iter().flatten()) {
        let add = |part, text: &str| {
            texts.add(index, part, text);
        };
        choice.each_text(add);
    }
    for (index, item) in (0..).zip(whole.output.iter().flatten()) {
        item.each_text(|part, text| {
            texts.add(index, part, text);
        });
    }
    texts
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Whole<'a> {
    #[serde(borrow, deserialize_with = "lenient::list")]
    choices: Option<Vec<WholeChoice<'a>>>,
    #[serde(borrow, deserialize_with = "lenient::list")]
    output: Option<Vec<Item<'a>>>,
}

/// A choice whose message is there at once.
#[derive(Default, Deserialize)]
#[serde(default)]
struct WholeChoice<'a> {
    #[serde(borrow, deserialize_with = "lenient::text")]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient::object")]
    message: Delta<'a>,
}

impl WholeChoice<'_> {
    fn each_text(&self, mut take: impl FnMut(Part, &str)) {
        if let Some(text) = &self.text {
            take(Part::Content, text);
        }
        self.message.each_text(take);
    }
}

/// A message, a call or some reasoning in a response.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Item<'a> {
    #[serde(borrow, deserialize_with = "lenient::list")]
    content: Option<Vec<Written<'a>>>,
    #[serde(borrow, deserialize_with = "lenient::list")]
    summary: Option<Vec<Written<'a>>>,
    #[serde(borrow, deserialize_with = "lenient::text")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient::text")]
    arguments: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient::text")]
    input: Option<Cow<'a, str>>,
}

impl Item<'_> {
    fn each_text(&self, mut take: impl FnMut(Part, &str)) {
        for part in self.content.iter().flatten() {
            let text = part.text.as_deref().unwrap_or_default();
            take(Part::Content, text);
            take(Part::Refusal, part.refusal.as_deref().unwrap_or_default());
        }
        for part in self.summary.iter().flatten() {
            take(Part::Reasoning, part.text.as_deref().unwrap_or_default());
        }
        let called = [&self.name, &self.arguments, &self.input];
        for text in called.into_iter().flatten() {
            take(Part::ToolCall(0), text);
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Written<'a> {
    #[serde(borrow, deserialize_with = "lenient::text")]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient::text")]
    refusal: Option<Cow<'a, str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(body: &str) -> Vec<String> {
        texts(body.as_bytes()).iter().map(str::to_owned).collect()
    }

    #[test]
    fn the_texts_of_each_kind_of_answer_are_found() {
        let chat = r#"{"choices":[{"message":{"content":"a\u0062","refusal":null,"reasoning_content":"r"}},
            {"message":{"content":null,"tool_calls":[{"function":{"name":"f","arguments":"{}"}},{"function":{"name":"g"}}]}}]}"#;
        assert_eq!(found(chat), ["ab", "r", "f{}", "g"]);
        assert_eq!(
            found(r#"{"choices":[{"text":"a"},{"text":"b"}]}"#),
            ["a", "b"]
        );
        let response = r#"{"output":[{"type":"reasoning","summary":[{"text":"s"}]},
            {"type":"message","content":[{"type":"output_text","text":"a"},{"type":"refusal","refusal":"no"}]},
            {"type":"function_call","name":"f","arguments":"(1)"}]}"#;
        assert_eq!(found(response), ["s", "a", "no", "f(1)"]);
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_counted_by_its_bytes() {
        for body in [r#"{"choices":[{"message":{"content":"\ud800"}}]}"#, "{", ""] {
            let texts = texts(body.as_bytes());
            assert_eq!(texts.iter().count(), 0);
            assert_eq!(texts.uncounted_bytes(), body.len() as u64);
        }
        assert!(found(r#"{"choices":7,"output":[7,{"content":"x"}]}"#).is_empty());
    }
}
