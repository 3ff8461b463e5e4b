//! Checks an expression against the known names before there is any request.
//!
//! CEL itself finds a wrong name only when it meets it, and a limit that fails at run time refuses
//! every call. So the whole tree is walked once at load: names, fields, functions, and the kinds of
//! values as far as they can be told. Refused as well is what could make an evaluation cost more
//! than its inputs are long: the macros that loop (`all`, `exists`, `map`, `filter`), and `matches`.
//! What is left does a bounded number of linear steps: at most one a node.

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use crate::expression::calls::{function_kind, operator_kind};
use crate::expression::names::{CLAIMS, Kind, ROOTS, Root, suggestion};
use crate::expression::scope::Known;
use crate::expression::{Place, Want};

/// How deep an expression may nest. Evaluation recurses, and a thread's stack is finite.
const MAX_DEPTH: usize = 48;

/// What is wrong, at which node of the tree.
pub(crate) struct Fault {
    pub(crate) node: u64,
    pub(crate) message: String,
}

/// The roots that the expression mentions.
///
/// # Errors
/// The first [`Fault`], in reading order.
pub(crate) fn check(tree: &IdedExpr, place: Place, want: Want) -> Result<Vec<&'static str>, Fault> {
    let mut check = Check {
        place,
        roots: Vec::new(),
        depth: 0,
    };
    let kind = check.kind(tree)?;
    let fits = match (want, kind) {
        (Want::Text, Kind::Text | Kind::Truth | Kind::Number | Kind::Any)
        | (Want::Truth, Kind::Truth | Kind::Any) => true,
        (Want::Text, Kind::List | Kind::Null | Kind::Object(_) | Kind::Map(_))
        | (
            Want::Truth,
            Kind::Text | Kind::Number | Kind::List | Kind::Null | Kind::Object(_) | Kind::Map(_),
        ) => false,
    };
    if fits {
        return Ok(check.roots);
    }
    let wanted = match want {
        Want::Text => "text",
        Want::Truth => "true or false",
    };
    let hint = match kind {
        Kind::Object(root) => suggestion("", root.fields.iter().map(|(name, ..)| *name)),
        Kind::Text
        | Kind::Truth
        | Kind::Number
        | Kind::List
        | Kind::Null
        | Kind::Map(_)
        | Kind::Any => String::new(),
    };
    fault(
        tree,
        format!("this gives {}, {wanted} is wanted{hint}", kind.describe()),
    )
}

struct Check {
    place: Place,
    roots: Vec<&'static str>,
    depth: usize,
}

impl Check {
    fn kind(&mut self, node: &IdedExpr) -> Result<Kind, Fault> {
        if self.depth == MAX_DEPTH {
            return fault(
                node,
                format!("nests deeper than {MAX_DEPTH} levels; write it shorter"),
            );
        }
        self.depth += 1;
        let kind = self.kind_of(node);
        self.depth -= 1;
        kind
    }

    fn kind_of(&mut self, node: &IdedExpr) -> Result<Kind, Fault> {
        match &node.expr {
            Expr::Literal(literal) => Ok(literal_kind(literal)),
            Expr::Ident(name) => self.root(node, name),
            Expr::Select(select) => {
                let operand = self.kind(&select.operand)?;
                let field = field_kind(node, operand, &select.field)?;
                Ok(if select.test { Kind::Truth } else { field })
            }
            Expr::Call(call) => self.call(node, call),
            Expr::List(list) => {
                for element in &list.elements {
                    self.kind(element)?;
                }
                Ok(Kind::List)
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.kind(&entry.key)?;
                        self.kind(&entry.value)?;
                    }
                }
                Ok(Kind::Any)
            }
            Expr::Comprehension(_) => fault(
                node,
                "`all`, `exists`, `map` and `filter` aren't offered: an expression runs for every \
                 request and may not loop; use `in`, `contains`, `startsWith`, `endsWith`",
            ),
            Expr::Struct(_) => fault(node, "messages (`Name{...}`) aren't offered"),
            Expr::Unspecified => fault(node, "an expression is missing here"),
        }
    }

    fn root(&mut self, node: &IdedExpr, name: &str) -> Result<Kind, Fault> {
        let (name, kind) = if name == CLAIMS {
            (CLAIMS, Kind::Map(Known::Jwt))
        } else {
            let Some(root) = Root::named(name) else {
                let known = self.known_roots().chain([CLAIMS]);
                return fault(
                    node,
                    format!("unknown name `{name}`{}", suggestion(name, known)),
                );
            };
            if root.since == Place::Answer && self.place == Place::Request {
                return fault(
                    node,
                    format!(
                        "`{name}` is known in a dimension's value only: nothing has answered yet"
                    ),
                );
            }
            (root.name, Kind::Object(root))
        };
        if !self.roots.contains(&name) {
            self.roots.push(name);
        }
        Ok(kind)
    }

    fn known_roots(&self) -> impl Iterator<Item = &'static str> + use<> {
        let place = self.place;
        ROOTS
            .iter()
            .filter(move |root| root.since == Place::Request || place == Place::Answer)
            .map(|root| root.name)
    }

    fn call(&mut self, node: &IdedExpr, call: &CallExpr) -> Result<Kind, Fault> {
        if let (None, operators::INDEX, [operand, key]) =
            (&call.target, call.func_name.as_str(), call.args.as_slice())
        {
            return self.index(node, operand, key);
        }
        let mut kinds = Vec::with_capacity(call.args.len() + 1);
        for argument in call.target.as_deref().into_iter().chain(&call.args) {
            kinds.push(self.kind(argument)?);
        }
        if let (operators::IN, [_, Kind::Map(known)], [key, _]) = (
            call.func_name.as_str(),
            kinds.as_slice(),
            call.args.as_slice(),
        ) && let Some(name) = literal_text(key)
        {
            header_name(key, *known, name)?;
        }
        match operator_kind(&call.func_name, &kinds) {
            Some(Ok(kind)) => Ok(kind),
            Some(Err(message)) => fault(node, message),
            None => function_kind(node, call, &kinds),
        }
    }

    fn index(
        &mut self,
        node: &IdedExpr,
        operand: &IdedExpr,
        key: &IdedExpr,
    ) -> Result<Kind, Fault> {
        let operand_kind = self.kind(operand)?;
        let key_kind = self.kind(key)?;
        match (operand_kind, literal_text(key)) {
            (_, Some(name)) => field_kind(node, operand_kind, name),
            (Kind::Object(root), None) => fault(
                node,
                format!(
                    "the fields of `{}` are asked for by name: `{}.NAME`",
                    root.name, root.name
                ),
            ),
            (Kind::Map(_), None) if !matches!(key_kind, Kind::Text | Kind::Any) => {
                fault(key, "a key is text here")
            }
            (Kind::Map(known), None) => Ok(map_values(known)),
            (Kind::List | Kind::Any, None) => Ok(Kind::Any),
            (Kind::Text | Kind::Truth | Kind::Number | Kind::Null, None) => {
                fault(node, format!("{} has no `[...]`", operand_kind.describe()))
            }
        }
    }
}

fn field_kind(node: &IdedExpr, operand: Kind, field: &str) -> Result<Kind, Fault> {
    match operand {
        Kind::Object(root) => match root.field(field) {
            Some((_, kind)) => Ok(kind),
            None => {
                let known = root.fields.iter().map(|(name, ..)| *name);
                let hint = suggestion(field, known);
                fault(
                    node,
                    format!("`{}` has no field `{field}`{hint}", root.name),
                )
            }
        },
        Kind::Map(known) => {
            header_name(node, known, field)?;
            Ok(map_values(known))
        }
        Kind::Any => Ok(Kind::Any),
        Kind::Text | Kind::Truth | Kind::Number | Kind::List | Kind::Null => fault(
            node,
            format!("{} has no field `{field}`", operand.describe()),
        ),
    }
}

fn header_name(node: &IdedExpr, known: Known, name: &str) -> Result<(), Fault> {
    if known == Known::RequestHeaders && name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        let lower = name.to_ascii_lowercase();
        return fault(
            node,
            format!("header names are lower case here; write \"{lower}\""),
        );
    }
    Ok(())
}

fn map_values(known: Known) -> Kind {
    if known == Known::Jwt {
        Kind::Any
    } else {
        Kind::Text
    }
}

/// The text of a literal, if the node is one.
pub(crate) fn literal_text(node: &IdedExpr) -> Option<&str> {
    match &node.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

fn literal_kind(literal: &LiteralValue) -> Kind {
    match literal {
        LiteralValue::Boolean(_) => Kind::Truth,
        LiteralValue::String(_) => Kind::Text,
        LiteralValue::Int(_) | LiteralValue::UInt(_) | LiteralValue::Double(_) => Kind::Number,
        LiteralValue::Bytes(_) | LiteralValue::Null => Kind::Null,
    }
}

pub(crate) fn fault<T>(node: &IdedExpr, message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault {
        node: node.id,
        message: message.into(),
    })
}
