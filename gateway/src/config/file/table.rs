//! One table of the file, read key by key.
//!
//! Written by hand in place of derived: a derived reader stops at the first mistake and can't say which key
//! is nearest. Every key that is asked for becomes known; what is left when the table is finished is
//! reported as unknown. A *survey* reads the same code over tables that hold nothing, and so lists every
//! key that exists: a test holds the documents to that list.

use std::cell::RefCell;
use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::error::{Findings, Kind, Located, Place, suggestion};
use super::field::Field;
use super::survey::{Shape, Survey};

/// What all tables of one reading share.
#[derive(Debug)]
pub struct Reading<'r, 't> {
    /// Where mistakes go.
    pub findings: &'r Findings<'t>,
    surveyed: Option<RefCell<Survey>>,
    hidden: RefCell<BTreeSet<usize>>,
}

impl<'r, 't> Reading<'r, 't> {
    /// Reads what is there.
    pub fn of(findings: &'r Findings<'t>) -> Self {
        Self {
            findings,
            surveyed: None,
            hidden: RefCell::default(),
        }
    }

    /// Reads nothing, and learns which keys there are.
    pub fn survey(findings: &'r Findings<'t>) -> Self {
        Self {
            findings,
            surveyed: Some(RefCell::default()),
            hidden: RefCell::default(),
        }
    }

    /// Whether this is a survey: then every table exists, and every value is absent.
    pub fn is_survey(&self) -> bool {
        self.surveyed.is_some()
    }

    /// Notes that the value that begins here is a secret.
    pub(super) fn hide(&self, offset: usize) {
        self.hidden.borrow_mut().insert(offset);
    }

    /// Where secrets begin.
    pub fn hidden(&self) -> BTreeSet<usize> {
        self.hidden.borrow().clone()
    }

    /// What a survey met.
    pub fn into_survey(self) -> Survey {
        let survey = self.surveyed.map(RefCell::into_inner);
        survey.unwrap_or_default()
    }

    /// In a survey, notes that a value is read as this.
    pub fn note(&self, path: &str, shape: impl FnOnce() -> Shape) {
        if let Some(survey) = &self.surveyed {
            survey.borrow_mut().shape(path, shape());
        }
    }

    /// In a survey, notes that a key has to be there.
    pub fn note_required(&self, path: &str) {
        if let Some(survey) = &self.surveyed {
            survey.borrow_mut().required(path);
        }
    }
}

/// One table. Ask it for fields, then [`finish`](Table::finish) it.
#[derive(Debug)]
pub struct Table<'r, 't> {
    pub(super) reading: &'r Reading<'r, 't>,
    /// Absent in a survey.
    entries: Option<&'r DeTable<'t>>,
    place: Place,
    known: RefCell<Vec<&'static str>>,
}

impl<'r, 't> Table<'r, 't> {
    /// The whole file.
    pub fn root(reading: &'r Reading<'r, 't>, entries: Option<&'r DeTable<'t>>) -> Self {
        let path = String::new();
        Self::new(reading, entries, Place { offset: 0, path })
    }

    pub(super) fn new(
        reading: &'r Reading<'r, 't>,
        entries: Option<&'r DeTable<'t>>,
        place: Place,
    ) -> Self {
        Self {
            reading,
            entries,
            place,
            known: RefCell::default(),
        }
    }

    /// Where the table starts.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Where mistakes go.
    pub fn findings(&self) -> &'r Findings<'t> {
        self.reading.findings
    }

    /// Reports a mistake of the table as a whole.
    pub fn refuse(&self, message: &str) {
        if !self.reading.is_survey() {
            self.reading.findings.error(&self.shown_place(), message);
        }
    }

    /// The field of this name, there or not.
    pub fn field(&self, key: &'static str) -> Field<'_, 'r, 't> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        let path = join(&self.place.path, key);
        if let Some(surveyed) = &self.reading.surveyed {
            surveyed.borrow_mut().key(&path);
        }
        let entry = self.entries.and_then(|entries| entries.get_key_value(key));
        Field {
            table: self,
            key,
            path,
            value: entry.map(|(_, value)| value),
        }
    }

    /// Every entry, where the keys are names that the user chose; in file order.
    pub fn entries(&self) -> Vec<(Located<String>, &'r Spanned<DeValue<'t>>)> {
        let mut entries: Vec<_> = self.entries.into_iter().flat_map(DeTable::iter).collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let locate = |(key, value): (&Spanned<_>, _)| {
            let name: &str = std::borrow::Borrow::<str>::borrow(key.get_ref());
            let path = join(&self.place.path, name);
            let offset = key.span().start;
            let place = Place { offset, path };
            let value_of_key = name.to_owned();
            (
                Located {
                    value: value_of_key,
                    place,
                },
                value,
            )
        };
        entries.into_iter().map(locate).collect()
    }

    /// Whether it holds no key at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_none_or(DeTable::is_empty)
    }

    /// Reports that a key is missing.
    pub fn missing(&self, key: &str, what: &str) {
        if !self.reading.is_survey() {
            let message = format!("missing key \"{key}\", expected {what}");
            let findings = self.reading.findings;
            findings.add(Kind::Consequence, &self.shown_place(), message);
        }
    }

    /// Reports every key that nothing asked for.
    pub fn finish(self) {
        let known = self.known.borrow();
        for (name, _) in self.entries() {
            if !known.contains(&name.value.as_str()) {
                let nearest = suggestion(&name.value, known.iter().copied());
                let message = format!("unknown key \"{}\"{nearest}", name.value);
                let kind = match self.place.path.as_str() {
                    "" => Kind::Consequence,
                    _ => Kind::Error,
                };
                self.reading.findings.add(kind, &name.place, message);
            }
        }
    }

    /// As [`place`](Table::place), with a name for the file as a whole.
    fn shown_place(&self) -> Place {
        let mut place = self.place.clone();
        if place.path.is_empty() {
            place.path = "file".to_owned();
        }
        place
    }
}

/// One more step of a path. Names that TOML would quote are quoted.
pub fn join(path: &str, key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let bare = !key.is_empty() && key.chars().all(is_bare);
    let dot = if path.is_empty() { "" } else { "." };
    if bare {
        format!("{path}{dot}{key}")
    } else {
        format!("{path}{dot}\"{}\"", key.escape_debug())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_that_toml_would_quote_are_quoted_in_a_path() {
        assert_eq!(join("", "pools"), "pools");
        assert_eq!(join("pools", "gpt-4o"), "pools.gpt-4o");
        assert_eq!(join("pools", "gpt-4.1"), "pools.\"gpt-4.1\"");
        assert_eq!(join("pools", ""), "pools.\"\"");
        assert_eq!(join("a", "x\ny"), "a.\"x\\ny\"");
    }

    #[test]
    fn every_unknown_key_is_reported_at_its_own_place() {
        let text = "b = 1\nlisten = 2\nlisen = 3\n";
        let document = DeTable::parse(text).unwrap();
        let findings = Findings::new(text);
        let reading = Reading::of(&findings);
        let place = Place {
            offset: 0,
            path: "server".to_owned(),
        };
        let table = Table::new(&reading, Some(document.get_ref()), place);
        table.field("listen");
        table.finish();
        let errors: Vec<String> = findings.errors().iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "1:1: server.b: unknown key \"b\"; known: \"listen\"",
                "3:1: server.lisen: unknown key \"lisen\"; did you mean \"listen\"?"
            ]
        );
    }

    #[test]
    fn a_survey_learns_every_key_and_reports_nothing() {
        let findings = Findings::new("");
        let reading = Reading::survey(&findings);
        let root = Table::root(&reading, None);
        for (_, table) in root.field("pools").named_tables() {
            for member in table.field("members").required("members").tables() {
                member.field("backend").required("a name").text();
                member.finish();
            }
            table.refuse("never");
            table.finish();
        }
        root.finish();
        assert_eq!(findings.errors(), []);
        let keys = reading.into_survey().keys();
        assert_eq!(
            keys,
            [
                "pools",
                "pools.NAME.members",
                "pools.NAME.members[].backend"
            ]
        );
    }
}
