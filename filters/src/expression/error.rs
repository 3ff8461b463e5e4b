//! What can be wrong with an expression, when it is loaded and when it runs.

use std::fmt;

/// Why a source is no expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpressionError {
    /// What was found and what to write.
    pub message: String,
    /// The line inside the expression, from 1.
    pub line: usize,
    /// The character in that line, from 1.
    pub column: usize,
}

impl ExpressionError {
    pub(super) fn at_start(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            line: 1,
            column: 1,
        }
    }
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for ExpressionError {}

/// Why an expression gave nothing. It repeats nothing of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvaluationError {
    /// The request hasn't got what it asks for.
    Missing,
    /// It gave another kind of value than is wanted.
    WrongKind,
    /// Anything else, such as adding a number to a text or dividing by zero.
    Failed,
}

impl fmt::Display for EvaluationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Missing => "the expression asks for something that this request doesn't have",
            Self::WrongKind => "the expression gave another kind of value than is wanted",
            Self::Failed => "the expression failed on this request's values",
        })
    }
}

impl std::error::Error for EvaluationError {}
