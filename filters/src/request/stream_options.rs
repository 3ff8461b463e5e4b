//! `stream_options.include_usage`: what the caller says, and the edit that asks for it where it doesn't.
//!
//! Never here: whether a backend can take the option. That depends on its schema and version, which a body doesn't know.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::request::fields::{Field, Key, Object, after_brace, decoded, is_null, span};
use crate::request::{BodyError, IncludeUsage, UsageEdit};
use crate::route::Shape;

/// What the caller says about usage, and the edit that asks for it. Odd types matter only where the answer is streamed:
/// elsewhere the options are the backend's to judge.
pub(super) fn read_stream_options(
    shape: Shape,
    text: &str,
    object: &Object<'_>,
    stream: bool,
) -> Result<(IncludeUsage, Option<UsageEdit>), BodyError> {
    let has_option = match shape {
        Shape::Chat | Shape::Completions => true,
        Shape::Embeddings | Shape::Responses | Shape::Other => false,
    };
    let read = match object.found[Field::StreamOptions as usize] {
        None => Ok((IncludeUsage::Absent, insert_options(text, object))),
        Some(value) if is_null(value) => {
            let range = span(text, value);
            let with = "{\"include_usage\":true}";
            Ok((IncludeUsage::Absent, Some(UsageEdit { range, with })))
        }
        Some(value) => read_options(text, value),
    };
    match read {
        Ok((include_usage, edit)) => Ok((include_usage, edit.filter(|_| has_option))),
        // A field named twice is refused always: the backend may stream by another field than ours.
        Err(error @ BodyError::Duplicate { .. }) => Err(error),
        Err(error) if has_option && stream => Err(error),
        Err(_) => Ok((IncludeUsage::Absent, None)),
    }
}

fn insert_options(text: &str, object: &Object<'_>) -> Option<UsageEdit> {
    let at = after_brace(text);
    (!object.is_empty).then_some(UsageEdit {
        range: at..at,
        with: "\"stream_options\":{\"include_usage\":true},",
    })
}

fn read_options(text: &str, value: &str) -> Result<(IncludeUsage, Option<UsageEdit>), BodyError> {
    let wrong_type = |field, expected| BodyError::WrongType { field, expected };
    let options: Options<'_> =
        serde_json::from_str(value).map_err(|_| wrong_type("stream_options", "an object"))?;
    if options.is_duplicate {
        return Err(BodyError::Duplicate {
            field: INCLUDE_USAGE,
        });
    }
    let Some(include_usage) = options.include_usage else {
        let at = span(text, value).start + 1;
        let with = if options.is_empty {
            "\"include_usage\":true"
        } else {
            "\"include_usage\":true,"
        };
        return Ok((
            IncludeUsage::Absent,
            Some(UsageEdit {
                range: at..at,
                with,
            }),
        ));
    };
    let replace = Some(UsageEdit {
        range: span(text, include_usage.get()),
        with: "true",
    });
    match decoded(include_usage.get()) {
        Some(Some(true)) => Ok((IncludeUsage::Asked, None)),
        Some(Some(false)) => Ok((IncludeUsage::Declined, replace)),
        Some(None) => Ok((IncludeUsage::Absent, replace)),
        None => Err(wrong_type(INCLUDE_USAGE, "true or false")),
    }
}

/// The object in `stream_options`.
struct Options<'a> {
    include_usage: Option<&'a RawValue>,
    is_duplicate: bool,
    is_empty: bool,
}

impl<'de> Deserialize<'de> for Options<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_map(OptionsVisitor)
    }
}

struct OptionsVisitor;

impl<'de> Visitor<'de> for OptionsVisitor {
    type Value = Options<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut options = Options {
            include_usage: None,
            is_duplicate: false,
            is_empty: true,
        };
        while let Some(Key(name)) = map.next_key()? {
            options.is_empty = false;
            if name == "include_usage" {
                options.is_duplicate |= options.include_usage.replace(map.next_value()?).is_some();
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(options)
    }
}

const INCLUDE_USAGE: &str = "stream_options.include_usage";
