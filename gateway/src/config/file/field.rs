//! One key of a table and the readings of its value.
//!
//! A reading gives the value with its place, or nothing: where the key is absent, or where the value was of the
//! wrong kind and that is already reported. So a caller never reports the same key twice. Lists and
//! tables are in `nested`.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::super::error::{Located, Place, alternatives, suggestion};
use super::survey::Shape;
use super::table::Table;
use super::units::{parse_duration, parse_size, write_duration, write_size};

/// One key, there or not.
#[derive(Debug, Clone)]
pub struct Field<'f, 'r, 't> {
    pub(super) table: &'f Table<'r, 't>,
    pub(super) key: &'static str,
    pub(super) path: String,
    pub(super) value: Option<&'r Spanned<DeValue<'t>>>,
}

impl<'f, 'r, 't> Field<'f, 'r, 't> {
    /// Reports the key where it is missing. `what` continues "expected".
    pub fn required(self, what: &str) -> Self {
        self.table.reading.note_required(&self.path);
        if self.value.is_none() {
            self.table.missing(self.key, what);
        }
        self
    }

    /// In a survey, notes what this reading would take.
    pub(super) fn note(&self, shape: impl FnOnce() -> Shape) {
        self.table.reading.note(&self.path, shape);
    }

    /// Whether the key is there, whatever its value.
    pub fn is_there(&self) -> bool {
        self.value.is_some()
    }

    /// Whether the key is absent, or its value a table without keys.
    pub fn is_empty(&self) -> bool {
        self.value.is_none_or(|value| {
            value
                .get_ref()
                .as_table()
                .is_some_and(|table| table.is_empty())
        })
    }

    /// Whether nothing is read here, only listed.
    pub fn is_survey(&self) -> bool {
        self.table.reading.is_survey()
    }

    /// Where its value stands, or would.
    pub fn place(&self) -> Place {
        let table = self.table.place().offset;
        let offset = self.value.map_or(table, |value| value.span().start);
        let path = self.path.clone();
        Place { offset, path }
    }

    /// Whatever stands here is a secret, and is shown to nobody.
    pub fn hide(&self) {
        if let Some(value) = self.value {
            self.table.reading.hide(value.span().start);
        }
    }

    /// Text that isn't empty.
    pub fn text(&self) -> Option<Located<String>> {
        self.note(|| Shape::Text);
        let text = self.any_text("text")?;
        if text.value.is_empty() {
            self.refuse("found empty text, expected at least one character");
            return None;
        }
        Some(text)
    }

    /// Text, maybe empty. `what` continues "expected".
    pub fn text_or_empty(&self, what: &str) -> Option<Located<String>> {
        self.note(|| Shape::TextOrEmpty);
        self.any_text(what)
    }

    fn any_text(&self, what: &str) -> Option<Located<String>> {
        let value = self.value?;
        match value.get_ref() {
            DeValue::String(text) => Some(self.located(text.to_string())),
            _ => self.wrong(what),
        }
    }

    /// `true` or `false`.
    pub fn flag(&self) -> Option<Located<bool>> {
        self.note(|| Shape::Flag);
        match self.value?.get_ref() {
            DeValue::Boolean(flag) => Some(self.located(*flag)),
            _ => self.wrong("true or false"),
        }
    }

    /// A whole number.
    pub fn integer(&self, range: RangeInclusive<u64>) -> Option<Located<u64>> {
        let (least, most) = (range.start(), range.end());
        self.note(|| Shape::Integer(*least, *most));
        let expected = format!("a whole number from {least} to {most}");
        let DeValue::Integer(found) = self.value?.get_ref() else {
            return self.wrong(&expected);
        };
        let digits = found.as_str();
        let number = u64::from_str_radix(digits, found.radix()).ok();
        match number.filter(|number| range.contains(number)) {
            Some(number) => Some(self.located(number)),
            None => self.wrong(&expected),
        }
    }

    /// A number, whole or not.
    pub fn number(&self, range: RangeInclusive<f64>) -> Option<Located<f64>> {
        self.note(|| Shape::Number(*range.start(), *range.end()));
        let expected = format!("a number from {} to {}", range.start(), range.end());
        let digits = match self.value?.get_ref() {
            DeValue::Float(found) => found.as_str(),
            DeValue::Integer(found) => found.as_str(),
            _ => return self.wrong(&expected),
        };
        let number = digits.parse::<f64>().ok();
        match number.filter(|number| range.contains(number)) {
            Some(number) => Some(self.located(number)),
            None => self.wrong(&expected),
        }
    }

    /// A duration such as `"30s"`.
    pub fn duration(&self, range: RangeInclusive<Duration>) -> Option<Located<Duration>> {
        self.note(|| Shape::Duration);
        let bounds = (write_duration(*range.start()), write_duration(*range.end()));
        let expected = format!(
            "a duration from \"{}\" to \"{}\" (units: ms, s, m, h, d)",
            bounds.0, bounds.1
        );
        let DeValue::String(text) = self.value?.get_ref() else {
            return self.wrong(&expected);
        };
        match parse_duration(text).filter(|duration| range.contains(duration)) {
            Some(duration) => Some(self.located(duration)),
            None => self.wrong(&expected),
        }
    }

    /// A size such as `"32MiB"`, in bytes.
    pub fn size(&self, range: RangeInclusive<u64>) -> Option<Located<u64>> {
        self.note(|| Shape::Size);
        let bounds = (write_size(*range.start()), write_size(*range.end()));
        let expected = format!(
            "a size from \"{}\" to \"{}\" (units: B, KiB, MiB, GiB, KB, MB, GB)",
            bounds.0, bounds.1
        );
        let DeValue::String(text) = self.value?.get_ref() else {
            return self.wrong(&expected);
        };
        match parse_size(text).filter(|bytes| range.contains(bytes)) {
            Some(bytes) => Some(self.located(bytes)),
            None => self.wrong(&expected),
        }
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, words: &[(&str, T)]) -> Option<Located<T>> {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        self.note(|| Shape::Choice(names.iter().map(ToString::to_string).collect()));
        let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        let expected = alternatives(&quoted);
        let DeValue::String(text) = self.value?.get_ref() else {
            return self.wrong(&expected);
        };
        match words.iter().find(|(name, _)| *name == text.as_ref()) {
            Some((_, word)) => Some(self.located(*word)),
            None => {
                let close = suggestion(text, names.iter().copied());
                let close = close
                    .strip_prefix("; did")
                    .map(|rest| format!("; did{rest}"));
                let close = close.unwrap_or_default();
                self.refuse(&format!("found \"{text}\", expected {expected}{close}"));
                None
            }
        }
    }

    /// Reports a mistake in this value.
    pub fn refuse(&self, message: &str) {
        self.table.reading.findings.error(&self.place(), message);
    }

    /// Reports that the value isn't of the kind that is needed.
    pub(super) fn wrong<T>(&self, expected: &str) -> Option<T> {
        let found = self.value.map_or("nothing".to_owned(), describe);
        self.refuse(&format!("found {found}, expected {expected}"));
        None
    }

    /// As [`wrong`](Self::wrong), without what the value holds: it may be a secret in the wrong place.
    pub(super) fn wrong_kind<T>(&self, expected: &str) -> Option<T> {
        let found = self.value.map_or("nothing", kind);
        self.refuse(&format!("found {found}, expected {expected}"));
        None
    }

    pub(super) fn located<T>(&self, value: T) -> Located<T> {
        let place = self.place();
        Located { value, place }
    }
}

/// A value in words, for a message. Not for what may be a secret: see [`kind`].
pub fn describe(value: &Spanned<DeValue<'_>>) -> String {
    match value.get_ref() {
        DeValue::String(text) => {
            let shown: String = text.chars().take(MAX_CHARACTERS_SHOWN).collect();
            let more = if shown.len() < text.len() { "..." } else { "" };
            format!("\"{}{more}\"", shown.escape_debug())
        }
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => kind(value).to_owned(),
    }
}

/// The kind of a value, without what it holds.
pub fn kind(value: &Spanned<DeValue<'_>>) -> &'static str {
    match value.get_ref() {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// A message stays a line.
const MAX_CHARACTERS_SHOWN: usize = 60;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use toml::de::DeTable;

    use super::super::super::error::Findings;
    use super::super::table::Reading;
    use super::*;

    /// What a reading of `a` gives, and what it reports.
    fn read<T>(
        text: &str,
        read: impl FnOnce(Field<'_, '_, '_>) -> Option<Located<T>>,
    ) -> (Option<T>, String) {
        let document = DeTable::parse(text).unwrap();
        let findings = Findings::new(text);
        let reading = Reading::of(&findings);
        let table = Table::root(&reading, Some(document.get_ref()));
        let value = read(table.field("a")).map(|found| found.value);
        let errors: Vec<String> = findings.errors().iter().map(ToString::to_string).collect();
        (value, errors.join("\n"))
    }

    #[test]
    fn an_absent_key_is_no_mistake_unless_it_is_required() {
        assert_eq!(read("", |field| field.text()), (None, String::new()));
        let (_, errors) = read("", |field| field.required("a word").text());
        assert_eq!(errors, "1:1: file: missing key \"a\", expected a word");
    }

    #[test]
    fn a_required_key_of_the_wrong_kind_is_reported_once() {
        let (_, errors) = read("a = 1", |field| field.required("a word").text());
        assert_eq!(errors, "1:5: a: found 1, expected text");
    }

    #[test]
    fn both_ends_of_a_range_are_in_it() {
        let number = |text: &str| read(text, |field| field.integer(2..=4)).0;
        let read_all = [
            "a = 1", "a = 2", "a = 4", "a = 5", "a = 0x3", "a = -2", "a = 2.0",
        ]
        .map(number);
        assert_eq!(
            read_all,
            [None, Some(2), Some(4), None, Some(3), None, None]
        );
    }

    #[test]
    fn a_number_may_be_whole_but_not_infinite() {
        let number = |text: &str| read(text, |field| field.number(0.0..=2.0)).0;
        let read_all = [
            "a = 1",
            "a = 0.5",
            "a = 2.1",
            "a = inf",
            "a = nan",
            "a = \"1\"",
        ]
        .map(number);
        assert_eq!(read_all, [Some(1.0), Some(0.5), None, None, None, None]);
    }

    #[test]
    fn a_long_text_is_cut_and_a_line_break_is_escaped() {
        let text = format!("a = \"{}\\n\"", "x".repeat(100));
        let (_, errors) = read(&text, |field| field.flag());
        assert_eq!(
            errors,
            format!(
                "1:5: a: found \"{}...\", expected true or false",
                "x".repeat(60)
            )
        );
        let (_, errors) = read("a = \"x\\ny\"", |field| field.flag());
        assert_eq!(errors, "1:5: a: found \"x\\ny\", expected true or false");
    }

    #[test]
    fn a_misspelt_word_is_told_with_the_nearest() {
        let words = [("serve", 1), ("observe", 2)];
        let (word, errors) = read("a = \"obsrve\"", |field| field.choice(&words));
        assert_eq!(word, None);
        assert_eq!(
            errors,
            "1:5: a: found \"obsrve\", expected \"serve\" or \"observe\"; did you mean \"observe\"?"
        );
        assert_eq!(
            read("a = \"serve\"", |field| field.choice(&words)).0,
            Some(1)
        );
    }
}
