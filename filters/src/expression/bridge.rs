//! Runs what isn't plain in the CEL library, on borrowed values.
//!
//! The library's standard environment is built once for the process: building it costs 50 to 90 µs,
//! half of a whole proxied request. Variables are resolved when they are asked for, so a request
//! with a hundred headers pays for the one that is named. Errors are reduced to three kinds, since
//! the library's own texts repeat values, and those may be a caller's secrets.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use cel::common::ast::IdedExpr;
use cel::common::traits::{Container, Indexer};
use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelNull, CelString, CelUInt, MAP_TYPE, Type,
};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::{Context, Env, ExecutionError, Value};

use crate::expression::EvaluationError;
use crate::expression::names::{CLAIMS, Root};
use crate::expression::scope::{Found, Known, Map, Scope};

/// The standard environment, built at first use.
pub(crate) fn environment() -> &'static Arc<Env> {
    static ENVIRONMENT: OnceLock<Arc<Env>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| Arc::new(Env::stdlib()))
}

/// Evaluates `tree` and renders a single value as text.
pub(crate) fn text<'a>(
    tree: &'a IdedExpr,
    scope: &'a Scope<'a>,
) -> Result<Cow<'a, str>, EvaluationError> {
    with_value(tree, scope, |value| {
        if let Some(text) = value.downcast_ref::<CelString>() {
            Some(text.inner().to_owned())
        } else if let Some(truth) = value.downcast_ref::<CelBool>() {
            Some(truth.inner().to_string())
        } else if let Some(number) = value.downcast_ref::<CelInt>() {
            Some(number.inner().to_string())
        } else if let Some(number) = value.downcast_ref::<CelUInt>() {
            Some(number.inner().to_string())
        } else {
            value
                .downcast_ref::<CelDouble>()
                .map(|number| number.inner().to_string())
        }
    })
    .map(Cow::Owned)
}

/// Evaluates `tree` to true or false.
pub(crate) fn truth(tree: &IdedExpr, scope: &Scope<'_>) -> Result<bool, EvaluationError> {
    with_value(tree, scope, |value| {
        value.downcast_ref::<CelBool>().map(|truth| *truth.inner())
    })
}

fn with_value<T>(
    tree: &IdedExpr,
    scope: &Scope<'_>,
    read: impl FnOnce(&dyn Val) -> Option<T>,
) -> Result<T, EvaluationError> {
    let names = Names(scope);
    let mut context = Context::with_env(Arc::clone(environment()));
    context.set_variable_resolver(&names);
    let value = Value::resolve_val(tree, &context).map_err(|error| match error {
        ExecutionError::NoSuchKey(_) => EvaluationError::Missing,
        _ => EvaluationError::Failed,
    })?;
    read(&*value).ok_or(EvaluationError::WrongKind)
}

struct Names<'s, 'a>(&'s Scope<'a>);

impl VariableResolver for Names<'_, '_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        if variable == CLAIMS {
            return Some(match self.0.find(Known::Jwt) {
                Some(claims) => to_cel(claims),
                None => CowVal::owned(Asked::Nothing),
            });
        }
        let root = Root::named(variable)?;
        Some(CowVal::owned(Asked::Root(root, self.0)))
    }
}

/// A value that is looked into by key, and only then.
#[derive(Clone, Copy)]
enum Asked<'a> {
    Root(&'static Root, &'a Scope<'a>),
    Map(Map<'a>),
    Nothing,
}

impl<'a> Asked<'a> {
    /// As [`find`](Self::find), with what stands for it where there is nothing.
    fn value(&self, key: &dyn Val) -> Result<Option<Found<'a>>, ExecutionError> {
        let found = self.find(key)?;
        let Self::Root(root, _) = self else {
            return Ok(found);
        };
        let key = key.downcast_ref::<CelString>();
        let known = key.and_then(|key| root.field(key.inner()));
        Ok(found.or_else(|| known.and_then(|(name, _)| name.otherwise())))
    }

    fn find(&self, key: &dyn Val) -> Result<Option<Found<'a>>, ExecutionError> {
        let Some(key) = key.downcast_ref::<CelString>() else {
            return Err(ExecutionError::InternalError(
                "a key is text here".to_owned(),
            ));
        };
        let key = key.inner();
        Ok(match self {
            Self::Root(root, scope) => root.field(key).and_then(|(name, _)| scope.find(name)),
            Self::Map(map) => map.find(key),
            Self::Nothing => None,
        })
    }
}

impl fmt::Debug for Asked<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Asked(..)")
    }
}

impl Val for Asked<'_> {
    fn get_type(&self) -> &Type {
        &MAP_TYPE
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(*self)
    }
}

impl Container for Asked<'_> {
    fn contains(&self, key: &dyn Val) -> Result<bool, ExecutionError> {
        self.find(key).map(|found| found.is_some())
    }
}

impl Indexer for Asked<'_> {
    fn get<'b, 'v>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.value(key)?
            .map(to_cel)
            .ok_or_else(|| ExecutionError::no_such_key(""))
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        match self.value(key)? {
            Some(found) => Ok(to_cel(found).into_owned()),
            None => Err(ExecutionError::no_such_key("")),
        }
    }
}

fn to_cel<'b, 'v>(found: Found<'v>) -> CowVal<'b, 'v> {
    match found {
        Found::Text(Cow::Borrowed(text)) => CowVal::owned(CelString::from(text)),
        Found::Text(Cow::Owned(text)) => CowVal::owned(CelString::from(text)),
        Found::Truth(truth) => CowVal::owned(CelBool::from(truth)),
        Found::Number(number) => {
            CowVal::owned(CelInt::from(i64::try_from(number).unwrap_or(i64::MAX)))
        }
        Found::Map(map) => CowVal::owned(Asked::Map(map)),
        Found::Claim(claim) => CowVal::Owned(claim_to_cel(claim)),
    }
}

/// A claim as a value. Lists are built whole: a token is small, and its bound is the header's.
fn claim_to_cel<'v>(claim: &'v serde_json::Value) -> Box<dyn Val + 'v> {
    match claim {
        serde_json::Value::Null => Box::new(CelNull),
        serde_json::Value::Bool(truth) => Box::new(CelBool::from(*truth)),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Box::new(CelInt::from(whole)),
            None => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        serde_json::Value::String(text) => Box::new(CelString::from(text.as_str())),
        serde_json::Value::Array(items) => {
            let items: Vec<Box<dyn Val + 'v>> = items.iter().map(claim_to_cel).collect();
            Box::new(CelList::from(items))
        }
        serde_json::Value::Object(claims) => Box::new(Asked::Map(Map::Claims(claims))),
    }
}
