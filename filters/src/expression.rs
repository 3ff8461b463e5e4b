//! Expressions of the configuration (`when`, `counter-key`, dimension `value`, `vary-by`), in CEL.
//!
//! Compiled and checked once at load, so that a typing error is told with its line and column and
//! never at a request (`check`). Most are look-ups and comparisons: those run without the library
//! (`plain`, tens of nanoseconds); the rest runs in it on borrowed values (`bridge`, about a microsecond).
//! An evaluation never loops, never fails the process, and its errors repeat nothing of the request.

mod bridge;
mod calls;
mod check;
mod error;
mod names;
mod plain;
mod scope;
mod syntax;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use cel::Program;

use crate::expression::check::check;
pub use crate::expression::error::{EvaluationError, ExpressionError};
use crate::expression::plain::Plain;
pub use crate::expression::scope::{Headers, RequestScope, Scope, SubscriptionScope};

/// The longest source, in bytes. Longer ones belong into several policies.
const MAX_SOURCE_BYTES: usize = 4096;

/// When an expression is evaluated, which decides what it may ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before the call: `when`, `counter-key`, `vary-by`.
    Request,
    /// After it: a dimension's value, which may also ask for `backend.id` and `response.status`.
    Answer,
}

/// What an expression has to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Text; a number or a truth is written out.
    Text,
    /// True or false.
    Truth,
}

/// A compiled expression. Two are equal if their sources are.
#[derive(Clone)]
pub struct Expression {
    compiled: Arc<Compiled>,
}

struct Compiled {
    source: String,
    roots: Vec<&'static str>,
    body: Body,
}

enum Body {
    Plain(Plain),
    Cel(Program),
}

impl Expression {
    /// Compiles `source` and checks its names, fields, functions and kinds. Costs some 100 µs.
    ///
    /// # Errors
    /// [`ExpressionError`], with the place in the source and what to write instead where that is clear.
    pub fn compile(source: &str, place: Place, want: Want) -> Result<Self, ExpressionError> {
        if source.trim().is_empty() {
            return Err(ExpressionError::at_start("the expression is empty"));
        }
        if source.len() > MAX_SOURCE_BYTES {
            let message = format!("the expression is longer than {MAX_SOURCE_BYTES} bytes");
            return Err(ExpressionError::at_start(message));
        }
        let program = bridge::environment()
            .compile(source)
            .map_err(|errors| syntax::describe(&errors))?;
        let tree = program.expression();
        let roots = check(tree, place, want).map_err(|fault| {
            let start = program.source_info().offset_for(fault.node);
            let (line, column) = position(source, start.map_or(0, |(start, _)| start as usize));
            ExpressionError {
                message: fault.message,
                line,
                column,
            }
        })?;
        let body = match Plain::read(tree, want) {
            Some(plain) => Body::Plain(plain),
            None => Body::Cel(program),
        };
        Ok(Self {
            compiled: Arc::new(Compiled {
                source: source.to_owned(),
                roots,
                body,
            }),
        })
    }

    /// The text for one request.
    ///
    /// # Errors
    /// [`EvaluationError`] if what it asks for isn't there or isn't a single value.
    pub fn text<'a>(&'a self, scope: &'a Scope<'a>) -> Result<Cow<'a, str>, EvaluationError> {
        match &self.compiled.body {
            Body::Plain(Plain::Text(text)) => text.evaluate(scope),
            Body::Plain(Plain::Truth(truth)) => truth
                .evaluate(scope)
                .map(|truth| Cow::Borrowed(if truth { "true" } else { "false" })),
            Body::Cel(program) => bridge::text(program.expression(), scope),
        }
    }

    /// True or false for one request.
    ///
    /// # Errors
    /// [`EvaluationError`] if what it asks for isn't there or isn't a truth.
    pub fn truth(&self, scope: &Scope<'_>) -> Result<bool, EvaluationError> {
        match &self.compiled.body {
            Body::Plain(Plain::Truth(truth)) => truth.evaluate(scope),
            Body::Plain(Plain::Text(_)) => Err(EvaluationError::WrongKind),
            Body::Cel(program) => bridge::truth(program.expression(), scope),
        }
    }

    /// True if it mentions `root`, such as `subscription` or `jwt`.
    pub fn names(&self, root: &str) -> bool {
        self.compiled.roots.contains(&root)
    }

    /// The source as it was written.
    pub fn source(&self) -> &str {
        &self.compiled.source
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

impl Eq for Expression {}

impl fmt::Debug for Expression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Expression")
            .field(&self.source())
            .finish()
    }
}

/// Line and column, in characters from 1, of the byte at `offset`.
fn position(source: &str, offset: usize) -> (usize, usize) {
    let before = &source[..source.floor_char_boundary(offset)];
    let line = before.matches('\n').count() + 1;
    let column = before
        .chars()
        .rev()
        .take_while(|character| *character != '\n')
        .count()
        + 1;
    (line, column)
}

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod tests;
