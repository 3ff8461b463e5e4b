//! Labels of token metrics: their names, and their values for one call.
//!
//! A value comes from a known default or from an expression. It may hold what a caller sent, so it is
//! cut and freed of control characters here; how many different values are kept is bounded by the
//! policy's `max-series`, elsewhere. A dimension never refuses a call: what fails reads `unknown`.

use std::borrow::Cow;
use std::fmt;

use crate::expression::{Expression, Scope};

/// The longest label value, in bytes.
const MAX_VALUE_BYTES: usize = 128;

/// What a dimension says if its expression fails.
const UNKNOWN: &str = "unknown";

/// One label of a token metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dimension {
    /// The label's name.
    pub name: String,
    /// Where its value comes from.
    pub value: DimensionValue,
}

/// Where a dimension's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DimensionValue {
    /// One of the known ones, by its name alone.
    Default(DefaultDimension),
    /// An expression.
    Expression(Expression),
}

/// The dimensions that need no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultDimension {
    /// `api_id`
    ApiId,
    /// `operation_id`
    OperationId,
    /// `product_id`
    ProductId,
    /// `user_id`
    UserId,
    /// `subscription_id`
    SubscriptionId,
    /// `location`
    Location,
    /// `gateway_id`
    GatewayId,
    /// `backend_id`
    BackendId,
    /// `model`
    Model,
}

impl DefaultDimension {
    /// Every default, by name.
    pub const ALL: [(&'static str, Self); 9] = [
        ("api_id", Self::ApiId),
        ("operation_id", Self::OperationId),
        ("product_id", Self::ProductId),
        ("user_id", Self::UserId),
        ("subscription_id", Self::SubscriptionId),
        ("location", Self::Location),
        ("gateway_id", Self::GatewayId),
        ("backend_id", Self::BackendId),
        ("model", Self::Model),
    ];

    /// The default of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, dimension)| dimension)
    }

    fn value<'a>(self, scope: &Scope<'a>) -> &'a str {
        match self {
            Self::ApiId => scope.api,
            Self::OperationId => scope.operation,
            Self::ProductId => scope.product.unwrap_or_default(),
            Self::UserId => scope.request.user,
            Self::SubscriptionId => scope
                .subscription
                .map_or("", |subscription| subscription.id),
            Self::Location => scope.gateway_location,
            Self::GatewayId => scope.gateway_id,
            Self::BackendId => scope.backend.unwrap_or_default(),
            Self::Model => scope.request.model,
        }
    }
}

impl Dimension {
    /// The label's value for one call: at most 128 bytes, without control characters.
    pub fn value<'a>(&'a self, scope: &'a Scope<'a>) -> Cow<'a, str> {
        let value = match &self.value {
            DimensionValue::Default(dimension) => Cow::Borrowed(dimension.value(scope)),
            DimensionValue::Expression(expression) => {
                expression.text(scope).unwrap_or(Cow::Borrowed(UNKNOWN))
            }
        };
        bounded(value)
    }
}

/// Checks a metric namespace: letters, digits and `_`, not beginning with a digit. A `:` is left to
/// recording rules, as Prometheus asks.
///
/// # Errors
/// [`NameError`] says what is wrong.
pub fn metric_name_ok(name: &str) -> Result<(), NameError> {
    let mut characters = name.chars();
    match characters.next() {
        None => return Err(NameError::Empty),
        Some(first) if first.is_ascii_digit() => return Err(NameError::BeginsWithDigit),
        Some(_) => {}
    }
    match name
        .chars()
        .find(|character| !character.is_ascii_alphanumeric() && *character != '_')
    {
        Some(character) => Err(NameError::Character(character)),
        None => Ok(()),
    }
}

/// Checks a label's name: as a metric's, and not beginning with `__`, which Prometheus keeps for itself.
///
/// # Errors
/// [`NameError`] says what is wrong.
pub fn label_name_ok(name: &str) -> Result<(), NameError> {
    metric_name_ok(name)?;
    if name.starts_with("__") {
        return Err(NameError::Reserved);
    }
    Ok(())
}

/// Why a name can't be a metric's or a label's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Nothing was written.
    Empty,
    /// The first character is a digit.
    BeginsWithDigit,
    /// A character that isn't a letter of a-z or A-Z, a digit or `_`.
    Character(char),
    /// It begins with `__`.
    Reserved,
}

impl fmt::Display for NameError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => formatter.write_str("the name is empty"),
            Self::BeginsWithDigit => formatter.write_str("a name can't begin with a digit"),
            Self::Character(character) => write!(
                formatter,
                "{character:?} can't be in a name: use a-z, A-Z, 0-9 and _"
            ),
            Self::Reserved => formatter.write_str("names that begin with `__` are Prometheus' own"),
        }
    }
}

impl std::error::Error for NameError {}

fn bounded(value: Cow<'_, str>) -> Cow<'_, str> {
    let value = match value {
        Cow::Borrowed(text) => Cow::Borrowed(cut(text)),
        Cow::Owned(mut text) => {
            text.truncate(cut(&text).len());
            Cow::Owned(text)
        }
    };
    if value.chars().any(char::is_control) {
        return Cow::Owned(value.replace(char::is_control, "_"));
    }
    value
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_VALUE_BYTES)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::expression::{Place, RequestScope, Want};
    use std::net::{IpAddr, Ipv4Addr};

    fn value(source: &str, header: &str) -> String {
        let headers: &[(&str, &str)] = &[("x-user", header)];
        let scope = Scope {
            request: RequestScope {
                ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
                method: "POST",
                path: "/",
                headers: &headers,
                query: "",
                model: "gpt-4o",
                stream: false,
                user: "ann",
            },
            subscription: None,
            product: None,
            api: "a",
            operation: "o",
            gateway_id: "g",
            gateway_location: "l",
            jwt: None,
            backend: Some("b"),
            status: Some(200),
        };
        let value = match DefaultDimension::parse(source) {
            Some(dimension) => DimensionValue::Default(dimension),
            None => DimensionValue::Expression(
                Expression::compile(source, Place::Answer, Want::Text).unwrap(),
            ),
        };
        let dimension = Dimension {
            name: "d".into(),
            value,
        };
        dimension.value(&scope).into_owned()
    }

    #[test]
    fn defaults_and_expressions_give_their_values() {
        for (source, expected) in [
            ("model", "gpt-4o"),
            ("user_id", "ann"),
            ("backend_id", "b"),
            ("subscription_id", ""),
            ("response.status", "200"),
            ("backend.id", "b"),
            ("subscription.id", "unknown"),
        ] {
            assert_eq!(value(source, ""), expected, "{source}");
        }
    }

    #[test]
    fn a_callers_text_is_cut_and_cleaned() {
        let long = value(r#"request.headers["x-user"]"#, &"é".repeat(100));
        assert_eq!(long, "é".repeat(64));
        let odd = format!("a{}", "é".repeat(100));
        assert_eq!(value(r#"request.headers["x-user"]"#, &odd).len(), 127);
        assert_eq!(value(r#"request.headers["x-user"]"#, "a\n\u{1b}b"), "a__b");
    }

    #[test]
    fn names_follow_prometheus() {
        assert_eq!(metric_name_ok("my_app2"), Ok(()));
        assert_eq!(metric_name_ok(""), Err(NameError::Empty));
        assert_eq!(metric_name_ok("2x"), Err(NameError::BeginsWithDigit));
        assert_eq!(metric_name_ok("a-b"), Err(NameError::Character('-')));
        assert_eq!(label_name_ok("__name"), Err(NameError::Reserved));
        assert_eq!(label_name_ok("_name"), Ok(()));
    }
}
