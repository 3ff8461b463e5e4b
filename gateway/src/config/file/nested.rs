//! Readings of values that hold others: lists, tables, lists of tables, tables whose keys are names.

use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::error::{Located, Place};
use super::field::Field;
use super::survey::Shape;
use super::table::Table;

/// A value that is either text or a table, such as a secret.
#[derive(Debug)]
pub enum TextOrTable<'r, 't> {
    /// It is text.
    Text(Located<String>),
    /// It is a table, or this is a survey.
    Table(Table<'r, 't>),
}

impl<'f, 'r, 't> Field<'f, 'r, 't> {
    /// A table.
    pub fn table(&self) -> Option<Table<'r, 't>> {
        self.note(|| Shape::Table);
        if self.is_survey() {
            return Some(self.dry(self.path.clone()));
        }
        match self.value?.get_ref() {
            DeValue::Table(entries) => Some(self.inner(entries, self.place())),
            _ => self.wrong_kind("a table"),
        }
    }

    /// Text or a table. What is neither is reported by its kind only: it may be a secret.
    pub fn text_or_table(&self, expected: &str) -> Option<TextOrTable<'r, 't>> {
        self.note(|| Shape::Text);
        self.note(|| Shape::Table);
        if self.is_survey() {
            return Some(TextOrTable::Table(self.dry(self.path.clone())));
        }
        let value = self.value?;
        match value.get_ref() {
            DeValue::String(text) => Some(TextOrTable::Text(self.located(text.to_string()))),
            DeValue::Table(entries) => Some(TextOrTable::Table(self.inner(entries, self.place()))),
            _ => self.wrong_kind(expected),
        }
    }

    /// A table of tables, whose keys are names that the user chose. In file order.
    pub fn named_tables(&self) -> Vec<(Located<String>, Table<'r, 't>)> {
        self.note(|| Shape::Named);
        let table = |(name, field): (Located<String>, Self)| Some((name, field.table()?));
        self.named_fields().into_iter().filter_map(table).collect()
    }

    /// A table of texts, whose keys are names that the user chose. In file order.
    pub fn named_texts(&self) -> Vec<(Located<String>, Located<String>)> {
        let text = |(name, field): (Located<String>, Self)| {
            let text = field.text_or_empty("text")?;
            Some((name, text))
        };
        self.named_fields().into_iter().filter_map(text).collect()
    }

    /// A table whose keys are names that the user chose and whose values are fields of any kind.
    pub fn named_fields(&self) -> Vec<(Located<String>, Field<'f, 'r, 't>)> {
        self.note(|| Shape::Named);
        if self.is_survey() {
            let path = format!("{}.NAME", self.path);
            let field = self.element(".NAME".to_owned(), None);
            let place = Place { offset: 0, path };
            let value = "NAME".to_owned();
            return vec![(Located { value, place }, field)];
        }
        let outer = self.table();
        let field = |(name, value): (Located<String>, &'r Spanned<DeValue<'t>>)| {
            let mut field = self.element(String::new(), Some(value));
            field.path.clone_from(&name.place.path);
            (name, field)
        };
        let entries = outer.iter().flat_map(Table::entries);
        entries.map(field).collect()
    }

    /// The elements of an array, each as a field of its own.
    pub fn elements(&self) -> Option<Vec<Field<'f, 'r, 't>>> {
        self.note(|| Shape::Array);
        if self.is_survey() {
            return Some(vec![self.element("[]".to_owned(), None)]);
        }
        match self.value?.get_ref() {
            DeValue::Array(elements) => Some(
                elements
                    .iter()
                    .enumerate()
                    .map(|(index, value)| self.element(format!("[{index}]"), Some(value)))
                    .collect(),
            ),
            _ => self.wrong_kind("an array"),
        }
    }

    /// An array of tables: `[[key]]`, or inline.
    pub fn tables(&self) -> Vec<Table<'r, 't>> {
        let elements = self.elements().unwrap_or_default();
        elements.iter().filter_map(Self::table).collect()
    }

    /// An array of texts.
    pub fn list(&self) -> Option<Vec<Located<String>>> {
        let elements = self.elements()?;
        Some(elements.iter().filter_map(Self::text).collect())
    }

    /// One text or an array of them.
    pub fn texts(&self) -> Option<Vec<Located<String>>> {
        if self.is_survey() {
            self.text();
            self.list();
            return None;
        }
        match self.value?.get_ref() {
            DeValue::String(_) => self.text().map(|text| vec![text]),
            DeValue::Array(_) => self.list(),
            _ => self.wrong("text or an array of texts"),
        }
    }

    /// Status codes, as ranges of two: `[[429, 429], [500, 599]]`.
    pub fn status_code_ranges(&self) -> Option<Located<Vec<RangeInclusive<u16>>>> {
        self.note(|| Shape::StatusCodeRanges);
        let elements = self.value.and_then(|_| self.elements())?;
        let ranges: Vec<_> = elements.iter().filter_map(status_code_range).collect();
        if elements.is_empty() {
            self.refuse("found no range, expected at least one, such as [500, 599]");
        }
        let whole = !elements.is_empty() && ranges.len() == elements.len();
        whole.then(|| self.located(ranges))
    }

    fn element(&self, suffix: String, value: Option<&'r Spanned<DeValue<'t>>>) -> Self {
        Self {
            table: self.table,
            key: self.key,
            path: format!("{}{suffix}", self.path),
            value,
        }
    }

    fn inner(&self, entries: &'r DeTable<'t>, place: Place) -> Table<'r, 't> {
        Table::new(self.table.reading, Some(entries), place)
    }

    fn dry(&self, path: String) -> Table<'r, 't> {
        Table::new(self.table.reading, None, Place { offset: 0, path })
    }
}

fn status_code_range(field: &Field<'_, '_, '_>) -> Option<RangeInclusive<u16>> {
    let ends = field.elements()?;
    let code = |end: &Field<'_, '_, '_>| {
        let code = end.integer(100..=599)?.value;
        u16::try_from(code).ok()
    };
    let codes: Vec<Option<u16>> = ends.iter().map(code).collect();
    match codes.as_slice() {
        [Some(first), Some(last)] if first <= last => Some(*first..=*last),
        [Some(first), Some(last)] => {
            let message = format!("found [{first}, {last}], expected the lower code first");
            field.refuse(&message);
            None
        }
        [None, _] | [_, None] => None,
        _ => {
            field.refuse("expected two status codes, first and last, such as [500, 599]");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use toml::de::DeTable;

    use super::super::super::error::Findings;
    use super::super::table::Reading;
    use super::*;

    fn with<T>(text: &str, read: impl FnOnce(&Table<'_, '_>) -> T) -> (T, Vec<String>) {
        let document = DeTable::parse(text).unwrap();
        let findings = Findings::new(text);
        let reading = Reading::of(&findings);
        let value = read(&Table::root(&reading, Some(document.get_ref())));
        let errors = findings.errors().iter().map(ToString::to_string).collect();
        (value, errors)
    }

    #[test]
    fn named_tables_come_in_file_order_and_not_in_that_of_the_alphabet() {
        let text = "[a.zebra]\n[a.ape]\n[a]\nmule = {}\n";
        let names = |table: &Table<'_, '_>| {
            let tables = table.field("a").named_tables().into_iter();
            tables.map(|(name, _)| name.value).collect::<Vec<_>>()
        };
        assert_eq!(with(text, names).0, ["zebra", "ape", "mule"]);
    }

    #[test]
    fn an_element_is_reported_at_its_own_place() {
        let (read, errors) = with("a = [\"x\", 2, \"\"]\n", |table| table.field("a").list());
        assert_eq!(read.unwrap().len(), 1);
        assert_eq!(
            errors,
            [
                "1:11: a[1]: found 2, expected text",
                "1:14: a[2]: found empty text, expected at least one character"
            ]
        );
    }

    #[test]
    fn a_text_where_a_table_should_be_is_not_shown_for_it_may_be_a_secret() {
        let (_, errors) = with("a = \"hunter2\"\n", |table| {
            table.field("a").table().is_some()
        });
        assert_eq!(errors, ["1:5: a: found text, expected a table"]);
    }

    #[test]
    fn ranges_of_status_codes_are_pairs_in_order() {
        let read = |text: &str| {
            let (ranges, errors) = with(text, |table| table.field("a").status_code_ranges());
            (ranges.map(|ranges| ranges.value), errors.len())
        };
        assert_eq!(
            read("a = [[429, 429], [500, 599]]"),
            (Some(vec![429..=429, 500..=599]), 0)
        );
        for wrong in [
            "a = []",
            "a = [[500]]",
            "a = [[599, 500]]",
            "a = [[99, 500]]",
            "a = [500]",
        ] {
            assert_eq!(read(wrong), (None, 1), "{wrong}");
        }
        assert_eq!(read("b = 1"), (None, 0));
    }
}
