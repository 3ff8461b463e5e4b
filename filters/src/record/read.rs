//! A record from one line of JSON.
//!
//! Fields that aren't known are passed over and missing ones are empty, so that lines of other versions are read. A
//! field of another type than it has makes the line bad: a figure that is passed over would be missing from a bill.
//! Texts are borrowed from the line where they hold no escape.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::Record;

/// Why a line is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadLine {
    /// It ends in the middle: its writer was killed, or is still writing.
    CutOff,
    /// It is no JSON object, or one of its fields has another type.
    Malformed {
        /// In bytes, from 1.
        column: usize,
    },
    /// It doesn't say when.
    NoTime,
}

impl fmt::Display for BadLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutOff => formatter.write_str(
                "the line ends in the middle: its writer was stopped there, or is still writing",
            ),
            Self::Malformed { column } => write!(
                formatter,
                "no record of the usage log from column {column} on, expected a JSON object with its fields"
            ),
            Self::NoTime => formatter.write_str(
                "no time, expected a field \"time\" such as \"2026-11-22T13:05:09.123Z\"",
            ),
        }
    }
}

impl std::error::Error for BadLine {}

impl<'a> Record<'a> {
    /// Reads a line, with or without its end.
    ///
    /// # Errors
    /// [`BadLine`], where it is no record.
    pub fn read(line: &'a [u8]) -> Result<Self, BadLine> {
        let Fields { time, mut record } = serde_json::from_slice(line).map_err(|error| {
            if error.is_eof() {
                BadLine::CutOff
            } else {
                let column = error.column().max(1);
                BadLine::Malformed { column }
            }
        })?;
        record.time = time.parse().map_err(|_| BadLine::NoTime)?;
        Ok(record)
    }
}

struct Fields<'a> {
    time: Cow<'a, str>,
    record: Record<'a>,
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_map(Object)
    }
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Fields<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a record of the usage log")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields {
            time: Cow::Borrowed(""),
            record: Record::default(),
        };
        let mut total = None;
        while let Some(Text(name)) = map.next_key()? {
            match name.as_ref() {
                "time" => fields.time = text(&mut map)?,
                "total_tokens" => total = map.next_value()?,
                name => set(&mut fields.record, name, &mut map)?,
            }
        }
        let usage = &mut fields.record.usage;
        usage.total = total.unwrap_or(usage.prompt.saturating_add(usage.completion));
        Ok(fields)
    }
}

/// Each field has its place.
fn set<'de, A: MapAccess<'de>>(
    record: &mut Record<'de>,
    name: &str,
    map: &mut A,
) -> Result<(), A::Error> {
    let Record {
        who,
        asked,
        served,
        usage,
        ..
    } = record;
    match name {
        "request_id" => record.request_id = text(map)?,
        "subscription" => who.subscription = text(map)?,
        "product" => who.product = text(map)?,
        "api" => asked.api = text(map)?,
        "operation" => asked.operation = text(map)?,
        "model" => asked.model = text(map)?,
        "deployment" => served.deployment = text(map)?,
        "backend" => served.backend = text(map)?,
        "status" => served.status = or_default(map)?,
        "stream" => asked.stream = or_default(map)?,
        "prompt_tokens" => usage.prompt = or_default(map)?,
        "completion_tokens" => usage.completion = or_default(map)?,
        "cached_tokens" => usage.cached = or_default(map)?,
        "reasoning_tokens" => usage.reasoning = or_default(map)?,
        "source" => served.source = text(map)?,
        "end" => served.end = text(map)?,
        "attempts" => served.attempts = or_default(map)?,
        "cache" => served.cache = text(map)?,
        "duration_ms" => record.duration_ms = or_default(map)?,
        "ttft_ms" => record.ttft_ms = map.next_value()?,
        "attributes" => who.attributes = map.next_value::<Option<Texts>>()?.unwrap_or_default().0,
        "user" => who.user = text(map)?,
        "gateway" => record.gateway = text(map)?,
        _ => {
            map.next_value::<IgnoredAny>()?;
        }
    }
    Ok(())
}

fn text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Cow<'de, str>, A::Error> {
    map.next_value().map(|Text(text)| text)
}

/// A value, or the default for `null`.
fn or_default<'de, A: MapAccess<'de>, T: Deserialize<'de> + Default>(
    map: &mut A,
) -> Result<T, A::Error> {
    map.next_value().map(Option::unwrap_or_default)
}

/// Text, borrowed where it can be; `null` is empty. Derived readers would copy it.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("text or null")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed("")))
    }
}

/// An object of texts.
#[derive(Default)]
struct Texts<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de> Deserialize<'de> for Texts<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_map(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts<'de>, A::Error> {
        let mut texts = Vec::new();
        while let Some((Text(name), Text(value))) = map.next_entry()? {
            texts.push((name, value));
        }
        Ok(Texts(texts))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::super::tests::example;
    use super::*;

    #[test]
    fn what_is_missing_is_empty_and_what_is_unknown_is_passed_over() {
        let line = br#"{"time":"2026-11-22","new":{"a":[1,2]},"prompt_tokens":3,"completion_tokens":4,"user":null,"ttft_ms":null,"attributes":null}"#;
        let record = Record::read(line).unwrap();
        assert_eq!(record.usage.total, 7);
        let mut expected = Record {
            time: "2026-11-22".parse().unwrap(),
            ..Record::default()
        };
        (
            expected.usage.prompt,
            expected.usage.completion,
            expected.usage.total,
        ) = (3, 4, 7);
        assert_eq!(record, expected);
    }

    #[test]
    fn a_line_that_is_no_record_says_why() {
        for (line, reason) in [
            (&b""[..], BadLine::CutOff),
            (b"{\"time\":\"2026-11-22\",\"model\":\"gp", BadLine::CutOff),
            (b"{\"time\":\"2026-11-22\"", BadLine::CutOff),
            (b"{}", BadLine::NoTime),
            (b"{\"time\":\"yesterday\"}", BadLine::NoTime),
            (b"[]", BadLine::Malformed { column: 1 }),
            (b"hello", BadLine::Malformed { column: 1 }),
            (
                b"{\"time\":\"2026-11-22\"}{",
                BadLine::Malformed { column: 22 },
            ),
        ] {
            let line_text = String::from_utf8_lossy(line);
            assert_eq!(Record::read(line), Err(reason), "{line_text}");
        }
        for wrong in [
            "\"prompt_tokens\":\"3\"",
            "\"prompt_tokens\":-3",
            "\"prompt_tokens\":1.5",
            "\"status\":70000",
            "\"stream\":1",
            "\"model\":5",
            "\"attributes\":{\"a\":1}",
        ] {
            let line = format!("{{\"time\":\"2026-11-22\",{wrong}}}");
            let read = Record::read(line.as_bytes());
            assert!(
                matches!(read, Err(BadLine::Malformed { column }) if column > 20),
                "{wrong}: {read:?}"
            );
        }
        assert!(matches!(
            Record::read(b"{\"time\":\"2026-11-22\",\"model\":\"\xff\"}"),
            Err(BadLine::Malformed { .. })
        ));
    }

    proptest! {
        #[test]
        fn no_part_of_a_line_is_taken_for_a_whole_one(at in 0..600_usize) {
            let line = example().line();
            let at = at.min(line.len() - 2);
            prop_assert_eq!(Record::read(&line[..at]), Err(BadLine::CutOff));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::read(&bytes);
        }
    }
}
