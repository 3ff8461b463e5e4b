//! What operators and functions take and give, checked at load.
//!
//! Only what is certainly wrong is refused: text against a number, `in` on text, a function that
//! isn't offered. A claim's kind is known at run time only, so it passes everywhere.

use cel::common::ast::{CallExpr, IdedExpr, operators};

use crate::expression::check::{Fault, fault};
use crate::expression::names::{FUNCTIONS, Kind, suggestion};

/// The kind that an operator gives, why it can't, or `None` if `name` is no operator.
pub(crate) fn operator_kind(name: &str, kinds: &[Kind]) -> Option<Result<Kind, String>> {
    let all = |wanted: Kind, kinds: &[Kind], word: &str| match kinds
        .iter()
        .find(|kind| **kind != wanted && **kind != Kind::Any)
    {
        Some(kind) => Err(format!(
            "{word} takes {}, not {}",
            wanted.describe(),
            kind.describe()
        )),
        None => Ok(wanted),
    };
    Some(match (name, kinds) {
        (operators::CONDITIONAL, [condition, yes, no]) => {
            all(Kind::Truth, &[*condition], "the condition before `?`")
                .map(|_| if yes == no { *yes } else { Kind::Any })
        }
        (operators::LOGICAL_AND, _) => all(Kind::Truth, kinds, "`&&`"),
        (operators::LOGICAL_OR, _) => all(Kind::Truth, kinds, "`||`"),
        (operators::LOGICAL_NOT, _) => all(Kind::Truth, kinds, "`!`"),
        (operators::NEGATE, _) => all(Kind::Number, kinds, "`-`"),
        (operators::SUBSTRACT, _) => all(Kind::Number, kinds, "`-`"),
        (operators::MULTIPLY, _) => all(Kind::Number, kinds, "`*`"),
        (operators::DIVIDE, _) => all(Kind::Number, kinds, "`/`"),
        (operators::MODULO, _) => all(Kind::Number, kinds, "`%`"),
        (operators::ADD, [left, right]) => {
            same(*left, *right, "added").map(|()| if *left == Kind::Any { *right } else { *left })
        }
        (operators::EQUALS | operators::NOT_EQUALS, [left, right]) => {
            same(*left, *right, "compared").map(|()| Kind::Truth)
        }
        (
            operators::LESS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::GREATER_EQUALS,
            [left, right],
        ) => same(*left, *right, "compared").map(|()| Kind::Truth),
        (operators::IN, [_, Kind::Map(_) | Kind::List | Kind::Any]) => Ok(Kind::Truth),
        (operators::IN, [_, other]) => Err(format!(
            "`in` looks into a map or a list, not into {}; for text use `contains`",
            other.describe()
        )),
        _ => return None,
    })
}

fn same(left: Kind, right: Kind, verb: &str) -> Result<(), String> {
    let free = |kind: Kind| matches!(kind, Kind::Any | Kind::Null);
    if let Some(whole) = [left, right]
        .into_iter()
        .find(|kind| matches!(kind, Kind::Object(_) | Kind::Map(_)))
    {
        return Err(format!("{} can't be {verb}", whole.describe()));
    }
    if left == right || free(left) || free(right) {
        return Ok(());
    }
    Err(format!(
        "{} and {} can't be {verb}",
        left.describe(),
        right.describe()
    ))
}

/// The kind that a function gives.
///
/// # Errors
/// [`Fault`] for one that isn't offered, or is called otherwise than it can be.
pub(crate) fn function_kind(
    node: &IdedExpr,
    call: &CallExpr,
    kinds: &[Kind],
) -> Result<Kind, Fault> {
    let name = call.func_name.as_str();
    let shape = (name, call.target.is_some(), call.args.len());
    let kind = match shape {
        ("size", false, 1) | ("size", true, 0) => match kinds {
            [Kind::Text | Kind::List | Kind::Any] => Kind::Number,
            _ => return fault(node, "`size` takes text or a list"),
        },
        ("contains" | "startsWith" | "endsWith", true, 1) => {
            if kinds
                .iter()
                .any(|kind| !matches!(kind, Kind::Text | Kind::Any))
            {
                return fault(node, format!("`{name}` takes text"));
            }
            Kind::Truth
        }
        ("string", false, 1) => Kind::Text,
        ("int" | "uint" | "double", false, 1) => Kind::Number,
        ("matches", ..) => {
            return fault(
                node,
                "`matches` isn't offered: its regular expression would be compiled for every \
                 request; use `contains`, `startsWith`, `endsWith`",
            );
        }
        _ if FUNCTIONS.contains(&name) => {
            return fault(
                node,
                format!("`{name}` is called otherwise: see the manual, Expressions"),
            );
        }
        (operators::OPT_SELECT | operators::OPT_INDEX, ..) => {
            return fault(
                node,
                "optional fields (`.?`, `[?...]`) aren't offered; use `has(...)` or `in`",
            );
        }
        _ => {
            let hint = suggestion(name, FUNCTIONS.into_iter());
            return fault(node, format!("unknown function `{name}`{hint}"));
        }
    };
    Ok(kind)
}
