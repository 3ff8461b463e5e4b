//! What a user is told of an expression that can't be read.
//!
//! The CEL library's parser lists what its grammar would take next; few people can use that. The
//! usual slips get a sentence of their own, the rest the parser's words without control characters.

use cel::ParseErrors;

use crate::expression::ExpressionError;

/// The first error that says where something is wrong.
pub(crate) fn describe(errors: &ParseErrors) -> ExpressionError {
    let told = |message: &str| message.starts_with(PREFIX);
    let error = errors
        .errors
        .iter()
        .find(|error| told(&error.msg))
        .or(errors.errors.first());
    let Some(error) = error else {
        return ExpressionError::at_start("the expression can't be read");
    };
    let (line, column) = error.pos;
    let place = |number: isize| usize::try_from(number).unwrap_or(1).max(1);
    ExpressionError {
        message: reword(error.msg.strip_prefix(PREFIX).unwrap_or(&error.msg)),
        line: place(line),
        column: place(column),
    }
}

const PREFIX: &str = "Syntax error: ";

fn reword(message: &str) -> String {
    const UNKNOWN: &str = "token recognition error at: '";
    if let Some(found) = message.strip_prefix(UNKNOWN) {
        return match found.chars().next() {
            Some('=') => "a single `=` compares nothing here; write `==`".to_owned(),
            Some('&') => "write `&&`".to_owned(),
            Some('|') => "write `||`".to_owned(),
            Some('"' | '\'') => "this text isn't closed on its line".to_owned(),
            Some(_) | None => format!("unexpected `{}`", cleaned(found.trim_end_matches('\''))),
        };
    }
    if message.contains("'<EOF>' expecting") {
        return "the expression ends too early".to_owned();
    }
    let (found, _) = message.split_once(" expecting ").unwrap_or((message, ""));
    match found.split_once(" input ") {
        Some(("mismatched" | "extraneous", found)) => format!("unexpected {}", cleaned(found)),
        Some(_) | None => cleaned(found),
    }
}

fn cleaned(message: &str) -> String {
    message.replace(char::is_control, " ")
}
