//! One value of a record, by the name that the log gives it: what a report groups by.
//!
//! Besides the names of the log there are the parts of its time (`hour`, `day`, `month`, in UTC) and each attribute of a
//! subscription, as `attributes.cost-center`. A closed table; never evaluates anything.

use std::fmt::{self, Write as _};

use super::Record;

/// A field that exists.
#[derive(Clone, Debug)]
pub struct Field {
    name: String,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Column(Column),
    Attribute(String),
}

type Column = fn(&Record<'_>, &mut String);

/// No field has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownField;

impl Field {
    /// The field of this name.
    ///
    /// # Errors
    /// [`UnknownField`], where there is none; [`Field::names`] are those that there are.
    pub fn new(name: &str) -> Result<Self, UnknownField> {
        let value = match name.strip_prefix(ATTRIBUTE) {
            Some(attribute) if !attribute.is_empty() => Value::Attribute(attribute.to_owned()),
            Some(_) | None => {
                let column = COLUMNS.iter().find(|(known, _)| *known == name);
                Value::Column(column.ok_or(UnknownField)?.1)
            }
        };
        let name = name.to_owned();
        Ok(Self { name, value })
    }

    /// Every name but those of attributes.
    pub fn names() -> impl Iterator<Item = &'static str> {
        COLUMNS.iter().map(|(name, _)| *name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds its value in a record to a text; nothing where it is empty.
    pub fn write(&self, record: &Record<'_>, out: &mut String) {
        match &self.value {
            Value::Column(column) => column(record, out),
            Value::Attribute(name) => {
                let mut attributes = record.who.attributes.iter();
                if let Some((_, value)) = attributes.find(|(known, _)| known == name) {
                    out.push_str(value);
                }
            }
        }
    }
}

const ATTRIBUTE: &str = "attributes.";

const COLUMNS: [(&str, Column); 26] = [
    ("subscription", |record, out| {
        out.push_str(&record.who.subscription)
    }),
    ("product", |record, out| out.push_str(&record.who.product)),
    ("user", |record, out| out.push_str(&record.who.user)),
    ("api", |record, out| out.push_str(&record.asked.api)),
    ("operation", |record, out| {
        out.push_str(&record.asked.operation)
    }),
    ("model", |record, out| out.push_str(&record.asked.model)),
    ("stream", |record, out| put(out, record.asked.stream)),
    ("deployment", |record, out| {
        out.push_str(&record.served.deployment)
    }),
    ("backend", |record, out| {
        out.push_str(&record.served.backend)
    }),
    ("status", |record, out| put(out, record.served.status)),
    ("source", |record, out| out.push_str(&record.served.source)),
    ("end", |record, out| out.push_str(&record.served.end)),
    ("attempts", |record, out| put(out, record.served.attempts)),
    ("cache", |record, out| out.push_str(&record.served.cache)),
    ("gateway", |record, out| out.push_str(&record.gateway)),
    ("request_id", |record, out| out.push_str(&record.request_id)),
    ("prompt_tokens", |record, out| put(out, record.usage.prompt)),
    ("completion_tokens", |record, out| {
        put(out, record.usage.completion)
    }),
    ("total_tokens", |record, out| put(out, record.usage.total)),
    ("duration_ms", |record, out| put(out, record.duration_ms)),
    ("ttft_ms", |record, out| {
        put(out, record.ttft_ms.unwrap_or_default())
    }),
    ("time", |record, out| put(out, record.time)),
    ("hour", |record, out| put_start(out, record, 13)),
    ("day", |record, out| put_start(out, record, 10)),
    ("month", |record, out| put_start(out, record, 7)),
    ("year", |record, out| put_start(out, record, 4)),
];

fn put(out: &mut String, value: impl fmt::Display) {
    // A `String` takes whatever is written to it.
    let _ = write!(out, "{value}");
}

/// The beginning of a time as it is written: `2026-11-22T13`.
fn put_start(out: &mut String, record: &Record<'_>, characters: usize) {
    let before = out.len();
    put(out, record.time);
    out.truncate(before + characters);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::tests::example;
    use super::*;

    fn value(name: &str) -> String {
        let mut out = String::new();
        Field::new(name).unwrap().write(&example(), &mut out);
        out
    }

    #[test]
    fn every_field_of_a_line_has_its_value_by_name() {
        let line = String::from_utf8(example().line()).unwrap();
        for name in Field::names() {
            let value = value(name);
            let in_line = ["hour", "day", "month", "year"].contains(&name)
                || line.contains(&format!("\"{name}\":{value},"))
                || line.contains(&format!("\"{name}\":\"{value}\""));
            assert!(in_line && !value.is_empty(), "{name}: {value:?} in {line}");
        }
    }

    #[test]
    fn attributes_and_parts_of_time_are_fields() {
        assert_eq!(value("attributes.cost-center"), "4711");
        assert_eq!(value("attributes.none"), "");
        assert_eq!(value("hour"), "2026-11-22T13");
        assert_eq!(value("day"), "2026-11-22");
        assert_eq!(value("month"), "2026-11");
        assert_eq!(value("year"), "2026");
    }

    #[test]
    fn other_names_are_refused() {
        for name in ["", "Model", "attributes", "attributes.", "tokens"] {
            assert_eq!(Field::new(name).err(), Some(UnknownField), "{name}");
        }
    }
}
