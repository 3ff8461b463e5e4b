//! The expressions that most people write, evaluated without the CEL library.
//!
//! A look-up, a literal, `==`, `!=`, `in`, `has`, `startsWith`, `endsWith`, `contains`, `!`, `&&`, `||` and `? :` over those are recognised
//! at load and run on borrowed values: no context, no boxes, no copies. Everything else is left to the
//! library. Where both could run the answers are the same, errors included: `false && error` is
//! false and `true || error` is true, in either order, as CEL has it.

use std::borrow::Cow;

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};

use crate::expression::check::literal_text;
use crate::expression::names::{CLAIMS, Root};
use crate::expression::scope::{Found, Known, Map, Scope};
use crate::expression::{EvaluationError, Want};

/// A recognised expression.
#[derive(Debug)]
pub(crate) enum Plain {
    Text(Text),
    Truth(Truth),
}

/// Gives text.
#[derive(Debug)]
pub(crate) enum Text {
    Literal(String),
    Look(Look),
    Conditional(Box<(Truth, Text, Text)>),
}

/// Gives true or false.
#[derive(Debug)]
pub(crate) enum Truth {
    Literal(bool),
    Stream,
    Has(Look),
    Equal(Box<(Text, Text)>),
    Part(Part, Box<(Text, Text)>),
    Not(Box<Truth>),
    And(Box<(Truth, Truth)>),
    Or(Box<(Truth, Truth)>),
}

/// Where a text is looked for in another.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Start,
    End,
    Anywhere,
}

/// A name, and a key in it where it is a map.
#[derive(Debug)]
pub(crate) struct Look {
    name: Known,
    key: Option<String>,
}

impl Plain {
    /// Recognises a checked expression.
    pub(crate) fn read(tree: &IdedExpr, want: Want) -> Option<Self> {
        match want {
            Want::Text => Text::read(tree, Place::Result).map(Self::Text),
            Want::Truth => Truth::read(tree).map(Self::Truth),
        }
    }
}

/// Where a text stands. A result may be rendered from a number or a claim; what is compared may not,
/// since `1 == "1"` is false.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Result,
    Operand,
}

impl Text {
    fn read(node: &IdedExpr, place: Place) -> Option<Self> {
        if let Some(text) = literal_text(node) {
            return Some(Self::Literal(text.to_owned()));
        }
        if let Expr::Call(call) = &node.expr
            && let (operators::CONDITIONAL, [condition, yes, no]) = parts(call)
        {
            return Some(Self::Conditional(Box::new((
                Truth::read(condition)?,
                Self::read(yes, place)?,
                Self::read(no, place)?,
            ))));
        }
        let look = Look::read(node)?;
        (place == Place::Result || look.is_text()).then_some(Self::Look(look))
    }

    /// The text for one request.
    pub(crate) fn evaluate<'a>(
        &'a self,
        scope: &Scope<'a>,
    ) -> Result<Cow<'a, str>, EvaluationError> {
        match self {
            Self::Literal(text) => Ok(Cow::Borrowed(text)),
            Self::Look(look) => look
                .find(scope)
                .or_else(|| look.name.otherwise())
                .ok_or(EvaluationError::Missing)?
                .into_text()
                .ok_or(EvaluationError::WrongKind),
            Self::Conditional(parts) => {
                let (condition, yes, no) = &**parts;
                if condition.evaluate(scope)? { yes } else { no }.evaluate(scope)
            }
        }
    }
}

impl Truth {
    fn read(node: &IdedExpr) -> Option<Self> {
        match &node.expr {
            Expr::Literal(LiteralValue::Boolean(truth)) => Some(Self::Literal(*truth.inner())),
            Expr::Select(select) if select.test => {
                Look::field(&select.operand, &select.field).map(Self::Has)
            }
            Expr::Call(call) => Self::read_call(call),
            _ => match Look::read(node)? {
                Look {
                    name: Known::RequestStream,
                    key: None,
                } => Some(Self::Stream),
                _ => None,
            },
        }
    }

    fn read_call(call: &CallExpr) -> Option<Self> {
        let equal = |left: &IdedExpr, right: &IdedExpr| {
            let left = Text::read(left, Place::Operand)?;
            Some(Self::Equal(Box::new((
                left,
                Text::read(right, Place::Operand)?,
            ))))
        };
        match parts(call) {
            (operators::EQUALS, [left, right]) => equal(left, right),
            (operators::NOT_EQUALS, [left, right]) => {
                Some(Self::Not(Box::new(equal(left, right)?)))
            }
            (operators::LOGICAL_NOT, [operand]) => Some(Self::Not(Box::new(Self::read(operand)?))),
            (operators::LOGICAL_AND, [left, right]) => {
                Some(Self::And(Box::new((Self::read(left)?, Self::read(right)?))))
            }
            (operators::LOGICAL_OR, [left, right]) => {
                Some(Self::Or(Box::new((Self::read(left)?, Self::read(right)?))))
            }
            (operators::IN, [key, map]) => Look::field(map, literal_text(key)?).map(Self::Has),
            _ => Self::read_method(call),
        }
    }

    /// `text.startsWith("a")` and the like.
    fn read_method(call: &CallExpr) -> Option<Self> {
        let (Some(text), [sought]) = (&call.target, call.args.as_slice()) else {
            return None;
        };
        let part = match call.func_name.as_str() {
            "startsWith" => Part::Start,
            "endsWith" => Part::End,
            "contains" => Part::Anywhere,
            _ => return None,
        };
        let text = Text::read(text, Place::Operand)?;
        let sought = Text::read(sought, Place::Operand)?;
        Some(Self::Part(part, Box::new((text, sought))))
    }

    /// True or false for one request.
    pub(crate) fn evaluate(&self, scope: &Scope<'_>) -> Result<bool, EvaluationError> {
        match self {
            Self::Literal(truth) => Ok(*truth),
            Self::Stream => Ok(scope.request.stream),
            Self::Has(look) => look.is_there(scope),
            Self::Equal(sides) => Ok(sides.0.evaluate(scope)? == sides.1.evaluate(scope)?),
            Self::Part(part, texts) => {
                let (text, sought) = (texts.0.evaluate(scope)?, texts.1.evaluate(scope)?);
                Ok(match part {
                    Part::Start => text.starts_with(&*sought),
                    Part::End => text.ends_with(&*sought),
                    Part::Anywhere => text.contains(&*sought),
                })
            }
            Self::Not(operand) => Ok(!operand.evaluate(scope)?),
            Self::And(sides) => either(&sides.0, &sides.1, scope, false),
            Self::Or(sides) => either(&sides.0, &sides.1, scope, true),
        }
    }
}

/// `&&` and `||`: whichever side is `decisive` settles it, even if the other fails.
fn either(
    left: &Truth,
    right: &Truth,
    scope: &Scope<'_>,
    decisive: bool,
) -> Result<bool, EvaluationError> {
    let first = left.evaluate(scope);
    if first == Ok(decisive) {
        return first;
    }
    let second = right.evaluate(scope);
    if second == Ok(decisive) {
        return second;
    }
    first.and(second)
}

impl Look {
    fn read(node: &IdedExpr) -> Option<Self> {
        match &node.expr {
            Expr::Select(select) if !select.test => Self::field(&select.operand, &select.field),
            Expr::Call(call) => match parts(call) {
                (operators::INDEX, [operand, key]) => Self::field(operand, literal_text(key)?),
                _ => None,
            },
            _ => None,
        }
    }

    fn field(operand: &IdedExpr, field: &str) -> Option<Self> {
        if let Expr::Ident(root) = &operand.expr {
            if root == CLAIMS {
                return Some(Self {
                    name: Known::Jwt,
                    key: Some(field.to_owned()),
                });
            }
            let (name, _) = Root::named(root)?.field(field)?;
            return Some(Self { name, key: None });
        }
        match Self::read(operand)? {
            Self {
                name:
                    name @ (Known::RequestHeaders | Known::RequestQuery | Known::SubscriptionAttributes),
                key: None,
            } => Some(Self {
                name,
                key: Some(field.to_owned()),
            }),
            _ => None,
        }
    }

    /// True if what it finds is text, and not a number, a map or a claim of any kind.
    fn is_text(&self) -> bool {
        match self.name {
            Known::RequestHeaders | Known::RequestQuery | Known::SubscriptionAttributes => {
                self.key.is_some()
            }
            Known::RequestStream | Known::ResponseStatus | Known::Jwt => false,
            Known::RequestIp
            | Known::RequestMethod
            | Known::RequestPath
            | Known::RequestModel
            | Known::SubscriptionId
            | Known::ProductId
            | Known::ApiId
            | Known::OperationId
            | Known::GatewayId
            | Known::GatewayLocation
            | Known::BackendId => true,
        }
    }

    /// `has` and `in`: a key is asked of a map that is there; no token is the same as one without claims.
    fn is_there(&self, scope: &Scope<'_>) -> Result<bool, EvaluationError> {
        let in_absent_map = self.key.is_some() && scope.find(self.name).is_none();
        if in_absent_map && self.name != Known::Jwt {
            return Err(EvaluationError::Missing);
        }
        Ok(self.find(scope).is_some())
    }

    fn find<'a>(&self, scope: &Scope<'a>) -> Option<Found<'a>> {
        let found = scope.find(self.name)?;
        match (&self.key, found) {
            (None, found) => Some(found),
            (Some(key), Found::Map(map)) => Map::find(map, key),
            (Some(_), Found::Text(_) | Found::Truth(_) | Found::Number(_) | Found::Claim(_)) => {
                None
            }
        }
    }
}

fn parts(call: &CallExpr) -> (&str, &[IdedExpr]) {
    match call.target {
        None => (&call.func_name, &call.args),
        Some(_) => ("", &[]),
    }
}
