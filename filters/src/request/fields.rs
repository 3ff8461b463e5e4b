//! The top level of a JSON body: which fields are read, and where their values stand in it.
//!
//! One pass keeps spans and skips the rest. Whoever needs a value reads its span.
//!
//! Never here: what a field means.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::scan;
use crate::usage::lenient;

/// The fields that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Model,
    Stream,
    StreamOptions,
    MaxTokens,
    MaxCompletionTokens,
    MaxOutputTokens,
    User,
    SafetyIdentifier,
    N,
    BestOf,
    PreviousResponseId,
    Conversation,
    Messages,
    Input,
    Prompt,
}

impl Field {
    pub(super) const ALL: [(Field, &'static str); 15] = [
        (Field::Model, "model"),
        (Field::Stream, "stream"),
        (Field::StreamOptions, "stream_options"),
        (Field::MaxTokens, "max_tokens"),
        (Field::MaxCompletionTokens, "max_completion_tokens"),
        (Field::MaxOutputTokens, "max_output_tokens"),
        (Field::User, "user"),
        (Field::SafetyIdentifier, "safety_identifier"),
        (Field::N, "n"),
        (Field::BestOf, "best_of"),
        (Field::PreviousResponseId, "previous_response_id"),
        (Field::Conversation, "conversation"),
        (Field::Messages, "messages"),
        (Field::Input, "input"),
        (Field::Prompt, "prompt"),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(field, _)| *field)
    }

    pub(super) fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Whether the gateway decides by it: where a call goes, what is held for it, which kept answer is its.
    fn must_be_single(self) -> bool {
        match self {
            Field::Model
            | Field::Stream
            | Field::StreamOptions
            | Field::MaxTokens
            | Field::MaxCompletionTokens
            | Field::MaxOutputTokens
            | Field::N
            | Field::BestOf
            | Field::PreviousResponseId
            | Field::Conversation
            | Field::Messages
            | Field::Input
            | Field::Prompt => true,
            Field::User | Field::SafetyIdentifier => false,
        }
    }
}

/// The body's top level.
pub(super) struct Object<'a> {
    /// By field, as it is written; where one may stand twice, the last.
    pub(super) found: [Option<&'a str>; Field::ALL.len()],
    pub(super) duplicate: Option<Field>,
    pub(super) is_empty: bool,
}

impl<'a> Object<'a> {
    /// The top level of a JSON object, where the text is one.
    pub(super) fn scan(text: &'a str) -> Option<Self> {
        let mut object = Object::empty();
        scan::members(text, |name, value| {
            object.is_empty = false;
            if let Some(field) = Field::named(&name) {
                object.take(field, value);
            }
        })?;
        Some(object)
    }

    fn empty() -> Self {
        Object {
            found: [None; Field::ALL.len()],
            duplicate: None,
            is_empty: true,
        }
    }

    fn take(&mut self, field: Field, value: &'a str) {
        let earlier = self.found[field as usize].replace(value);
        if earlier.is_some() && field.must_be_single() {
            self.duplicate = self.duplicate.or(Some(field));
        }
    }

    /// The value of a field, unless it is `null`.
    pub(super) fn get(&self, field: Field) -> Option<&'a str> {
        self.found[field as usize].filter(|value| !is_null(value))
    }

    pub(super) fn text(&self, field: Field) -> Option<String> {
        decoded(self.get(field)?).filter(|text: &String| !text.is_empty())
    }

    /// A number, in quotes too: there are servers that take it so, and would make a longer answer than was held.
    pub(super) fn count(&self, field: Field) -> Option<u64> {
        let value = self.get(field)?;
        let quoted: Option<String> = match value.starts_with('"') {
            true => decoded(value),
            false => None,
        };
        let number = quoted.as_deref().map_or(value, str::trim);
        lenient::count(&mut serde_json::Deserializer::from_str(number))
            .ok()
            .flatten()
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut object = Object::empty();
        while let Some(Key(name)) = map.next_key()? {
            object.is_empty = false;
            match Field::named(&name) {
                Some(field) => object.take(field, map.next_value::<&RawValue>()?.get()),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(object)
    }
}

/// A key without its escapes.
pub(super) struct Key<'a>(pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Key(Cow::Borrowed(key)))
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Key(Cow::Owned(key.to_owned())))
    }
}

pub(super) fn decoded<T: DeserializeOwned>(value: &str) -> Option<T> {
    serde_json::from_str(value).ok()
}

pub(super) fn is_null(value: &str) -> bool {
    value == "null"
}

/// Where a part of the text stands in it.
pub(super) fn span(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    start..start + part.len()
}

/// The place after the brace that opens the object. Only whitespace can stand before it.
pub(super) fn after_brace(text: &str) -> usize {
    text.len() - text.trim_ascii_start().len() + 1
}
