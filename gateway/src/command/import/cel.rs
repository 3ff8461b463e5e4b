//! Policy expressions as CEL: what has a counterpart here, and only that.
//!
//! A translation says the same for every call or isn't made: a limit that counts by something else than it
//! did would be worse than one that a person has to finish. What is translated is compiled once, by the same
//! compiler that will read it.

mod known;

use std::collections::BTreeMap;

use filters::expression::{Expression, Place, Want};

use self::known::{MEMBERS, is_deployment, is_string_type, is_value, is_variables, quoted};
pub use self::known::{TOKEN, dotted};
use super::csharp::{Expr, Operator, parse};

/// Names that `set-variable` gave a value before.
pub type Variables = BTreeMap<String, Expr>;

/// Translates the value of an attribute or element: literal text, `@(...)` or `@{...}`.
///
/// # Errors
/// What has no counterpart.
pub fn translate(
    value: &str,
    variables: &Variables,
    (place, want): (Place, Want),
) -> Result<String, String> {
    let cel = match expression(value)? {
        None => quoted(value.trim()),
        Some(expr) => {
            Translation {
                variables,
                depth: 0,
            }
            .cel(&expr)?
            .cel
        }
    };
    match Expression::compile(&cel, place, want) {
        Ok(_) => Ok(cel),
        Err(error) => Err(format!("`{cel}` would be: {error}")),
    }
}

/// The CEL of an expression, where it has one; not compiled.
pub fn of(expr: &Expr, variables: &Variables) -> Option<String> {
    let piece = Translation {
        variables,
        depth: 0,
    }
    .cel(expr)
    .ok()?;
    Some(piece.cel)
}

/// The expression in a value, if it is one.
pub fn expression(value: &str) -> Result<Option<Expr>, String> {
    let value = value.trim();
    let inner = |open: &str, close: &str| value.strip_prefix(open)?.strip_suffix(close);
    match inner("@(", ")").or_else(|| inner("@{", "}")) {
        Some(source) => parse(source).map(Some),
        None if value.starts_with('@') => Err("the expression has no end".to_owned()),
        None => Ok(None),
    }
}

/// CEL, and what has to hold for it to have a value, where that isn't certain.
struct Piece {
    cel: String,
    exists: Option<String>,
}

impl Piece {
    fn sure(cel: impl Into<String>) -> Self {
        Self {
            cel: cel.into(),
            exists: None,
        }
    }

    fn or(self, default: &str) -> Self {
        match self.exists {
            Some(exists) => Self::sure(format!("({exists} ? {} : {default})", self.cel)),
            None => self,
        }
    }
}

struct Translation<'v> {
    variables: &'v Variables,
    depth: usize,
}

impl Translation<'_> {
    fn cel(&mut self, expr: &Expr) -> Result<Piece, String> {
        self.depth += 1;
        if self.depth > MAX_STEPS {
            return Err("it is too long, with its variables".to_owned());
        }
        match expr {
            Expr::Text(text) => Ok(Piece::sure(quoted(text))),
            Expr::Number(number) => Ok(Piece::sure(number.to_string())),
            Expr::Truth(truth) => Ok(Piece::sure(truth.to_string())),
            Expr::Null => Err("null has no counterpart".to_owned()),
            Expr::Name(name) => Err(format!("`{name}` has no counterpart")),
            Expr::Member(of, name) => self.member(expr, of, name),
            Expr::Call(callee, arguments) => self.call(callee, arguments),
            Expr::Index(of, at) => self.index(of, at),
            Expr::Binary(operator, left, right) => self.binary(*operator, left, right),
            Expr::Not(of) => Ok(Piece::sure(format!("!({})", self.cel(of)?.cel))),
            Expr::Choice(condition, yes, no) => {
                let (condition, yes, no) = (self.cel(condition)?, self.cel(yes)?, self.cel(no)?);
                Ok(Piece::sure(format!(
                    "({} ? {} : {})",
                    condition.cel, yes.cel, no.cel
                )))
            }
        }
    }

    fn member(&mut self, whole: &Expr, of: &Expr, name: &str) -> Result<Piece, String> {
        if let Some(path) = dotted(whole) {
            let known = MEMBERS.iter().find(|(known, _)| *known == path);
            if let Some((_, cel)) = known {
                return Ok(Piece::sure(*cel));
            }
            if !is_value(name) {
                return Err(format!("`{path}` has no counterpart"));
            }
        }
        if self.is_token(of) {
            return Ok(match name {
                "Subject" => claim("sub"),
                "Issuer" => claim("iss"),
                "Id" => claim("jti"),
                _ => return Err(format!("`{name}` of a token has no counterpart")),
            });
        }
        match is_value(name) {
            true => self.cel(of),
            false => Err(format!("`.{name}` has no counterpart")),
        }
    }

    fn index(&mut self, of: &Expr, at: &Expr) -> Result<Piece, String> {
        let Expr::Text(key) = at else {
            return match at {
                // The first of a header's or a claim's values.
                Expr::Number(0) => self.cel(of),
                _ => Err("an index that isn't a text has no counterpart".to_owned()),
            };
        };
        self.entry(of, key)
    }

    /// What `of` holds under `key`.
    fn entry(&mut self, of: &Expr, key: &str) -> Result<Piece, String> {
        if let Expr::Member(token, name) = of
            && name == "Claims"
            && self.is_token(token)
        {
            return Ok(claim(key));
        }
        if self.is_body(of) && matches!(key, "model" | "stream") {
            return Ok(Piece::sure(format!("request.{key}")));
        }
        match dotted(of).as_deref() {
            Some("context.Request.Headers") => {
                let name = quoted(&key.to_ascii_lowercase());
                Ok(Piece {
                    cel: format!("request.headers[{name}]"),
                    exists: Some(format!("{name} in request.headers")),
                })
            }
            Some("context.Request.MatchedParameters") if is_deployment(key) => {
                Ok(Piece::sure("request.model"))
            }
            Some("context.Request.Url.Query" | "context.Request.OriginalUrl.Query") => {
                let name = quoted(key);
                Ok(Piece {
                    cel: format!("request.query[{name}]"),
                    exists: Some(format!("{name} in request.query")),
                })
            }
            Some("context.Variables") => match self.variables.get(key) {
                Some(value) => self.cel(value),
                None => Err(format!(
                    "the variable \"{key}\" isn't set by an expression that has a counterpart"
                )),
            },
            Some(path) => Err(format!("`{path}[\"{key}\"]` has no counterpart")),
            None => Err(format!("`[\"{key}\"]` has no counterpart")),
        }
    }

    fn call(&mut self, callee: &Expr, arguments: &[Expr]) -> Result<Piece, String> {
        let Expr::Member(of, method) = callee else {
            return Err("a call of this kind has no counterpart".to_owned());
        };
        match (method.as_str(), arguments) {
            ("GetValueOrDefault", [Expr::Text(key)]) => Ok(self.entry(of, key)?.or("\"\"")),
            ("GetValueOrDefault", [Expr::Text(key), default]) => {
                let entry = self.entry(of, key)?;
                let default = match default {
                    // `GetValueOrDefault("x", null)` is text that isn't there.
                    Expr::Null => Piece::sure("\"\""),
                    default => self.cel(default)?,
                };
                Ok(entry.or(&default.cel))
            }
            ("ContainsKey", [Expr::Text(key)]) => {
                let entry = self.entry(of, key)?;
                Ok(Piece::sure(
                    entry.exists.unwrap_or_else(|| "true".to_owned()),
                ))
            }
            ("IsNullOrEmpty" | "IsNullOrWhiteSpace", [value]) if is_string_type(of) => {
                let value = self.cel(value)?.or("\"\"");
                Ok(Piece::sure(format!("{} == \"\"", value.cel)))
            }
            ("Contains" | "StartsWith" | "EndsWith", [other]) => {
                let (of, other) = (self.cel(of)?, self.cel(other)?);
                let (first, rest) = method.split_at(1);
                let method = format!("{}{rest}", first.to_ascii_lowercase());
                Ok(Piece::sure(format!("{}.{method}({})", of.cel, other.cel)))
            }
            ("Equals", [other]) => self.binary(Operator::Equal, of, other),
            ("ToString" | "First" | "FirstOrDefault", []) => self.cel(of),
            (method, _) => Err(format!("`{method}()` has no counterpart")),
        }
    }

    fn binary(&mut self, operator: Operator, left: &Expr, right: &Expr) -> Result<Piece, String> {
        let sign = match operator {
            Operator::Coalesce => {
                let (left, right) = (self.cel(left)?, self.cel(right)?);
                return Ok(left.or(&right.cel));
            }
            Operator::Equal | Operator::NotEqual if *right == Expr::Null => {
                let exists = self.cel(left)?.exists.unwrap_or_else(|| "true".to_owned());
                return Ok(Piece::sure(match operator {
                    Operator::Equal => format!("!({exists})"),
                    _ => exists,
                }));
            }
            Operator::Or => "||",
            Operator::And => "&&",
            Operator::Equal => "==",
            Operator::NotEqual => "!=",
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterOrEqual => ">=",
            Operator::Plus => "+",
        };
        let mut operand = |of: &Expr| {
            let cel = self.cel(of)?.cel;
            Ok::<_, String>(match of {
                Expr::Binary(inner, ..) if *inner != operator || *inner == Operator::Coalesce => {
                    format!("({cel})")
                }
                _ => cel,
            })
        };
        let (left, right) = (operand(left)?, operand(right)?);
        Ok(Piece::sure(format!("{left} {sign} {right}")))
    }

    /// Whether a value is a token that was read or checked.
    fn is_token(&self, expr: &Expr) -> bool {
        match self.resolved(expr) {
            Expr::Name(name) => name == TOKEN,
            Expr::Call(callee, _) => matches!(&**callee, Expr::Member(_, name) if name == "AsJwt"),
            _ => false,
        }
    }

    /// Whether a value is the request's body, read as JSON.
    fn is_body(&self, expr: &Expr) -> bool {
        let Expr::Call(callee, _) = self.resolved(expr) else {
            return false;
        };
        dotted(callee).as_deref() == Some("context.Request.Body.As")
    }

    /// A variable's value, or the expression itself.
    fn resolved<'e>(&'e self, expr: &'e Expr) -> &'e Expr {
        let key = match expr {
            Expr::Index(of, at) if is_variables(of) => at,
            Expr::Call(callee, arguments) => match (&**callee, arguments.first()) {
                (Expr::Member(of, _), Some(at)) if is_variables(of) => at,
                _ => return expr,
            },
            _ => return expr,
        };
        let value = match key {
            Expr::Text(key) => self.variables.get(key),
            _ => None,
        };
        value.unwrap_or(expr)
    }
}

/// A claim of the token that was checked.
fn claim(name: &str) -> Piece {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let bare = name.chars().all(is_bare) && !name.starts_with(|c: char| c.is_ascii_digit());
    if bare && !name.is_empty() {
        return Piece {
            cel: format!("jwt.{name}"),
            exists: Some(format!("has(jwt.{name})")),
        };
    }
    let name = quoted(name);
    Piece {
        cel: format!("jwt[{name}]"),
        exists: Some(format!("{name} in jwt")),
    }
}

/// A variable is written out wherever it is used, so what is written may be longer than what was read.
const MAX_STEPS: usize = 512;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn told(source: &str) -> Result<String, String> {
        let mut variables = Variables::new();
        variables.insert(
            "caller".to_owned(),
            parse("context.Subscription.Id").unwrap(),
        );
        variables.insert("jwt".to_owned(), Expr::Name(TOKEN.to_owned()));
        let body = "context.Request.Body.As<JObject>(preserveContent: true)";
        variables.insert("body".to_owned(), parse(body).unwrap());
        translate(source, &variables, (Place::Answer, Want::Text))
    }

    #[test]
    fn common_expressions_have_a_counterpart() {
        let cases = [
            ("plain", "\"plain\""),
            ("@(context.Subscription.Id)", "subscription.id"),
            ("@(context.Subscription?.Name)", "subscription.id"),
            ("@{ return context.Request.IpAddress; }", "request.ip"),
            (
                "@(context.Request.Headers.GetValueOrDefault(\"X-User-Id\", \"N/A\"))",
                "(\"x-user-id\" in request.headers ? request.headers[\"x-user-id\"] : \"N/A\")",
            ),
            (
                "@(context.Request.Headers[\"X-Team\"][0])",
                "request.headers[\"x-team\"]",
            ),
            (
                "@((string)context.Variables[\"caller\"])",
                "subscription.id",
            ),
            (
                "@(context.Variables.GetValueOrDefault<string>(\"caller\", \"x\"))",
                "subscription.id",
            ),
            (
                "@(context.Subscription.Id + \"-\" + context.Request.MatchedParameters[\"deployment-id\"])",
                "subscription.id + \"-\" + request.model",
            ),
            ("@($\"tpm-{context.Product.Id}\")", "\"tpm-\" + product.id"),
            (
                "@(context.Product.Name == \"Gold\" && !(context.Request.Method == \"GET\"))",
                "(product.id == \"Gold\") && !(request.method == \"GET\")",
            ),
            (
                "@(((Jwt)context.Variables[\"jwt\"]).Claims[\"oid\"].FirstOrDefault())",
                "jwt.oid",
            ),
            (
                "@(context.Request.Headers.GetValueOrDefault(\"Authorization\",\"\").AsJwt()?.Claims.GetValueOrDefault(\"appid\", \"none\"))",
                "(has(jwt.appid) ? jwt.appid : \"none\")",
            ),
            (
                "@(context.Request.Headers.GetValueOrDefault(\"Authorization\",\"\").Split(' ')[1].AsJwt()?.Subject ?? \"nobody\")",
                "(has(jwt.sub) ? jwt.sub : \"nobody\")",
            ),
            (
                "@((string)context.Request.Body.As<JObject>(preserveContent: true)[\"model\"])",
                "request.model",
            ),
            (
                "@(((JObject)context.Variables[\"body\"])[\"model\"].ToString())",
                "request.model",
            ),
            (
                "@(string.IsNullOrEmpty(context.Request.Url.Query.GetValueOrDefault(\"a\", \"\")) ? \"none\" : \"some\")",
                "((\"a\" in request.query ? request.query[\"a\"] : \"\") == \"\" ? \"none\" : \"some\")",
            ),
            (
                "@(context.Request.MatchedParameters[\"deployment-id\"].StartsWith(\"gpt-4o\"))",
                "request.model.startsWith(\"gpt-4o\")",
            ),
            (
                "@(context.Request.Headers.ContainsKey(\"a\") ? \"yes\" : \"no\")",
                "(\"a\" in request.headers ? \"yes\" : \"no\")",
            ),
        ];
        for (source, cel) in cases {
            assert_eq!(told(source).as_deref(), Ok(cel), "{source}");
        }
    }

    #[test]
    fn what_has_no_counterpart_is_told_and_nothing_is_made_up() {
        let cases = [
            (
                "@(context.User.Email)",
                "`context.User.Email` has no counterpart",
            ),
            (
                "@(context.Subscription.Key)",
                "`context.Subscription.Key` has no counterpart",
            ),
            (
                "@(context.Request.Body.As<string>())",
                "`As()` has no counterpart",
            ),
            (
                "@(context.Variables[\"other\"])",
                "the variable \"other\" isn't set by an expression that has a counterpart",
            ),
            (
                "@(Guid.NewGuid().ToString())",
                "`NewGuid()` has no counterpart",
            ),
            (
                "@(context.Request.MatchedParameters[\"thread_id\"])",
                "`context.Request.MatchedParameters[\"thread_id\"]` has no counterpart",
            ),
            (
                "@(context.Request.IpAddress.ToLower())",
                "`ToLower()` has no counterpart",
            ),
            ("@(context.Subscription.Id", "the expression has no end"),
        ];
        for (source, why) in cases {
            assert_eq!(
                told(source).as_deref().map_err(String::as_str),
                Err(why),
                "{source}"
            );
        }
        let place = (Place::Request, Want::Text);
        let told =
            translate("@(context.Response.StatusCode)", &Variables::new(), place).unwrap_err();
        assert!(told.starts_with("`response.status` would be: "), "{told}");
    }
}
