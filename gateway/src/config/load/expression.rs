//! Compiling expressions, and pointing into the file where one is wrong.
//!
//! An expression is text inside text: its own line and column are of little use to whoever has the TOML
//! open. Where the text stands in the file as it is meant (no escapes), the mistake is shown at its true
//! place; else at the start of the text.

use filters::expression::{Expression, ExpressionError, Place as Scope, Want};

use super::super::error::{Located, Place};
use super::Loader;

impl Loader<'_> {
    /// Compiles one; reports what is wrong with it.
    pub(super) fn expression(
        &self,
        source: &Located<String>,
        scope: Scope,
        want: Want,
    ) -> Option<Expression> {
        match Expression::compile(&source.value, scope, want) {
            Ok(expression) => {
                if expression.names("jwt") && self.file.jwt.is_none() {
                    let message = "the expression names jwt, and without [jwt] no token is ever checked; add [jwt] or take it out";
                    self.findings.error(&source.place, message);
                }
                Some(expression)
            }
            Err(error) => {
                let offset = offset_of(self.findings.text(), source, &error);
                let path = source.place.path.clone();
                let place = Place { offset, path };
                self.findings
                    .error(&place, format!("expression: {}", one_line(&error.message)));
                None
            }
        }
    }

    /// A condition, if there is one.
    pub(super) fn condition(&self, source: Option<&Located<String>>) -> Option<Expression> {
        self.expression(source?, Scope::Request, Want::Truth)
    }

    /// A text that is worked out from the request, if there is one.
    pub(super) fn request_text(&self, source: Option<&Located<String>>) -> Option<Expression> {
        self.expression(source?, Scope::Request, Want::Text)
    }
}

/// An error is a line: line breaks become spaces.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The byte at which the mistake stands in the file.
fn offset_of(text: &str, source: &Located<String>, error: &ExpressionError) -> usize {
    let start = source.place.offset;
    let quoted = text.get(start..).unwrap_or_default();
    let quotes = ["\"\"\"", "'''", "\"", "'"];
    let opening = quotes.iter().find(|quote| quoted.starts_with(**quote));
    let Some(mut skipped) = opening.map(|quote| quote.len()) else {
        return start;
    };
    if skipped == 3 {
        // The line break after an opening of three quotes isn't part of the text.
        let inner = &quoted[skipped..];
        skipped += ["\r\n", "\n"]
            .iter()
            .find(|end| inner.starts_with(**end))
            .map_or(0, |end| end.len());
    }
    if !quoted[skipped..].starts_with(&source.value) {
        return start;
    }
    let mut lines = source.value.split_inclusive('\n');
    let before: usize = lines
        .by_ref()
        .take(error.line.saturating_sub(1))
        .map(str::len)
        .sum();
    let line = lines.next().unwrap_or_default();
    let column = line.char_indices().nth(error.column.saturating_sub(1));
    start + skipped + before + column.map_or(line.len(), |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, offset: usize, value: &str, line: usize, column: usize) -> usize {
        let path = String::new();
        let value = value.to_owned();
        let place = Place { offset, path };
        let message = String::new();
        let error = ExpressionError {
            message,
            line,
            column,
        };
        offset_of(text, &Located { value, place }, &error)
    }

    #[test]
    fn a_mistake_is_shown_where_it_stands() {
        let text = "when = 'a == b'\n";
        assert_eq!(
            at(text, 7, "a == b", 1, 6),
            text.find('b').unwrap_or_default()
        );
        let text = "when = \"\u{e9} == b\"\n";
        assert_eq!(
            at(text, 7, "\u{e9} == b", 1, 6),
            text.find('b').unwrap_or_default()
        );
    }

    #[test]
    fn a_text_of_several_lines_counts_them() {
        let text = "when = '''\na ||\n  b'''\n";
        assert_eq!(
            at(text, 7, "a ||\n  b", 2, 3),
            text.find('b').unwrap_or_default()
        );
    }

    #[test]
    fn with_escapes_it_is_shown_at_the_start() {
        assert_eq!(at("when = \"a == \\\"b\\\"\"\n", 7, "a == \"b\"", 1, 6), 7);
    }

    #[test]
    fn a_mistake_at_the_end_stays_within_the_text() {
        assert_eq!(at("w = 'a =='\n", 4, "a ==", 1, 99), 9);
        assert_eq!(at("w = 'a =='\n", 4, "a ==", 9, 1), 9);
    }
}
