//! The C# of policy expressions, as far as it is usual there: a value made of literals, members, calls and operators.
//!
//! Not a compiler: whatever it doesn't know is told, and the whole expression is then left to a person. Casts
//! and type arguments are read and dropped, since what they say has no meaning in CEL. Each step takes a
//! token or ends, and nesting is bounded, so no text makes it slow or deep.

mod token;

use token::{Token, tokens};

/// One expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// A string literal.
    Text(String),
    /// A whole number.
    Number(i64),
    /// `true`, `false`.
    Truth(bool),
    /// `null`.
    Null,
    /// A name: `context`.
    Name(String),
    /// `of.name`, also `of?.name`.
    Member(Box<Expr>, String),
    /// `callee(arguments)`.
    Call(Box<Expr>, Vec<Expr>),
    /// `of[at]`.
    Index(Box<Expr>, Box<Expr>),
    /// Two operands and what is between them.
    Binary(Operator, Box<Expr>, Box<Expr>),
    /// `!of`.
    Not(Box<Expr>),
    /// `condition ? yes : no`.
    Choice(Box<Expr>, Box<Expr>, Box<Expr>),
}

/// What is between two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `??`
    Coalesce,
    /// `||`
    Or,
    /// `&&`
    And,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `+`
    Plus,
}

/// Reads what stands between `@(` and `)`, or between `@{` and `}` if that only returns a value.
///
/// # Errors
/// What isn't understood.
pub fn parse(source: &str) -> Result<Expr, String> {
    let source = source.trim();
    let source = match source.strip_prefix("return ") {
        Some(rest) => rest.trim_end().strip_suffix(';').unwrap_or(rest),
        None => source,
    };
    let mut parser = Parser {
        tokens: tokens(source)?,
        at: 0,
        depth: 0,
    };
    let expr = parser.choice()?;
    match parser.tokens.get(parser.at) {
        None => Ok(expr),
        Some(token) => Err(format!("`{token}` isn't understood here")),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead)
    }

    fn is(&self, ahead: usize, sign: &str) -> bool {
        matches!(self.peek(ahead), Some(Token::Sign(found)) if *found == sign)
    }

    fn take(&mut self, sign: &str) -> bool {
        let is = self.is(0, sign);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        match (self.take(sign), self.peek(0)) {
            (true, _) => Ok(()),
            (false, Some(found)) => Err(format!(
                "`{found}` isn't understood where `{sign}` should be"
            )),
            (false, None) => Err(format!("`{sign}` is missing at the end")),
        }
    }

    fn choice(&mut self) -> Result<Expr, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("it nests deeper than {MAX_DEPTH} levels"));
        }
        let condition = self.binary(0)?;
        let expr = if self.take("?") {
            let yes = self.choice()?;
            self.expect(":")?;
            let no = self.choice()?;
            Expr::Choice(Box::new(condition), Box::new(yes), Box::new(no))
        } else {
            condition
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn binary(&mut self, level: usize) -> Result<Expr, String> {
        let Some(operators) = LEVELS.get(level) else {
            return self.unary();
        };
        let mut left = self.binary(level + 1)?;
        while let Some((_, operator)) = operators.iter().find(|(sign, _)| self.is(0, sign)) {
            self.at += 1;
            let right = self.binary(level + 1)?;
            left = Expr::Binary(*operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr, String> {
        let mut negations = 0;
        loop {
            if self.take("!") {
                negations += 1;
            } else if self.is_cast() {
                self.skip_cast();
            } else {
                break;
            }
        }
        let expr = self.postfix()?;
        Ok(match negations % 2 {
            0 => expr,
            _ => Expr::Not(Box::new(expr)),
        })
    }

    /// `(string)x`, `(Jwt)x`, `(System.String)x`: names in brackets, and an operand follows.
    fn is_cast(&self) -> bool {
        if !self.is(0, "(") {
            return false;
        }
        let mut ahead = 1;
        while matches!(self.peek(ahead), Some(Token::Name(_))) || self.is(ahead, ".") {
            ahead += 1;
        }
        let operand = |token: &Token| match token {
            Token::Name(_) | Token::Text(_) | Token::Number(_) | Token::Interpolated(_) => true,
            Token::Sign(sign) => *sign == "(",
        };
        ahead > 1 && self.is(ahead, ")") && self.peek(ahead + 1).is_some_and(operand)
    }

    fn skip_cast(&mut self) {
        while !self.take(")") {
            self.at += 1;
        }
    }

    fn postfix(&mut self) -> Result<Expr, String> {
        let mut expr = self.primary()?;
        loop {
            if self.take(".") || self.take("?.") {
                expr = Expr::Member(Box::new(expr), self.name()?);
                self.skip_type_arguments();
            } else if self.take("(") {
                expr = Expr::Call(Box::new(expr), self.arguments(")")?);
            } else if self.take("[") || self.take("?[") {
                let mut at = self.arguments("]")?;
                match (at.pop(), at.is_empty()) {
                    (Some(at), true) => expr = Expr::Index(Box::new(expr), Box::new(at)),
                    (_, _) => {
                        return Err(
                            "an index of none or several values isn't understood".to_owned()
                        );
                    }
                }
            } else {
                return Ok(expr);
            }
        }
    }

    fn name(&mut self) -> Result<String, String> {
        match self.peek(0).cloned() {
            Some(Token::Name(name)) => {
                self.at += 1;
                Ok(name)
            }
            Some(other) => Err(format!("`{other}` isn't understood after a dot")),
            None => Err("a name is missing at the end".to_owned()),
        }
    }

    /// `<string>` of `GetValueOrDefault<string>(...)`.
    fn skip_type_arguments(&mut self) {
        if !self.is(0, "<") {
            return;
        }
        let mut ahead = 1;
        let part = |token: &Token| {
            matches!(token, Token::Name(_)) || matches!(token, Token::Sign("." | ","))
        };
        while self.peek(ahead).is_some_and(part) {
            ahead += 1;
        }
        if self.is(ahead, ">") && self.is(ahead + 1, "(") {
            self.at += ahead + 1;
        }
    }

    fn arguments(&mut self, end: &str) -> Result<Vec<Expr>, String> {
        let mut arguments = Vec::new();
        while !self.take(end) {
            // `preserveContent: true`
            if matches!(self.peek(0), Some(Token::Name(_))) && self.is(1, ":") {
                self.at += 2;
            }
            arguments.push(self.choice()?);
            if !self.is(0, end) {
                self.expect(",")?;
            }
        }
        Ok(arguments)
    }

    fn primary(&mut self) -> Result<Expr, String> {
        let token = self
            .peek(0)
            .cloned()
            .ok_or("a value is missing at the end")?;
        self.at += 1;
        match token {
            Token::Text(text) => Ok(Expr::Text(text)),
            Token::Interpolated(parts) => interpolated(&parts),
            Token::Number(number) => Ok(Expr::Number(number)),
            Token::Name(name) => Ok(match name.as_str() {
                "true" => Expr::Truth(true),
                "false" => Expr::Truth(false),
                "null" => Expr::Null,
                "new" | "await" | "typeof" | "default" | "switch" => {
                    return Err(format!("`{name}` isn't understood"));
                }
                _ => Expr::Name(name),
            }),
            Token::Sign("(") => {
                let expr = self.choice()?;
                self.expect(")")?;
                Ok(expr)
            }
            Token::Sign(sign) => Err(format!("`{sign}` isn't understood here")),
        }
    }
}

/// `$"{a}-{b}"` as a sum.
fn interpolated(parts: &[(String, Option<String>)]) -> Result<Expr, String> {
    let mut sum: Option<Expr> = None;
    let mut add = |expr: Expr| {
        sum = Some(match sum.take() {
            None => expr,
            Some(before) => Expr::Binary(Operator::Plus, Box::new(before), Box::new(expr)),
        });
    };
    for (text, source) in parts {
        if !text.is_empty() {
            add(Expr::Text(text.clone()));
        }
        if let Some(source) = source {
            add(parse(source)?);
        }
    }
    Ok(sum.unwrap_or_else(|| Expr::Text(String::new())))
}

/// From what binds least.
const LEVELS: [&[(&str, Operator)]; 6] = [
    &[("??", Operator::Coalesce)],
    &[("||", Operator::Or)],
    &[("&&", Operator::And)],
    &[("==", Operator::Equal), ("!=", Operator::NotEqual)],
    &[
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ],
    &[("+", Operator::Plus)],
];
/// Real expressions nest some five levels.
const MAX_DEPTH: usize = 40;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn member(of: Expr, name: &str) -> Expr {
        Expr::Member(Box::new(of), name.to_owned())
    }

    #[test]
    fn members_calls_casts_and_type_arguments_are_read() {
        let context = || Expr::Name("context".to_owned());
        let id = member(member(context(), "Subscription"), "Id");
        assert_eq!(parse("context.Subscription.Id").unwrap(), id);
        assert_eq!(parse(" (string) context?.Subscription ?.Id").unwrap(), id);
        assert_eq!(parse("return context.Subscription.Id;").unwrap(), id);
        let get = member(member(context(), "Variables"), "GetValueOrDefault");
        let call = Expr::Call(
            Box::new(get),
            vec![Expr::Text("x".to_owned()), Expr::Text("d".to_owned())],
        );
        assert_eq!(
            parse("context.Variables.GetValueOrDefault<string>(\"x\", \"d\")").unwrap(),
            call
        );
    }

    #[test]
    fn operators_bind_as_in_c_sharp() {
        let shape = |source: &str| match parse(source).unwrap() {
            Expr::Binary(operator, ..) => operator,
            other => panic!("{other:?}"),
        };
        assert_eq!(shape("a == 1 || b == 2 && c"), Operator::Or);
        assert_eq!(shape("a + b == c"), Operator::Equal);
        assert_eq!(shape("a ?? b || c"), Operator::Coalesce);
        assert_eq!(shape("a < b && a > 3"), Operator::And);
        assert!(matches!(
            parse("a ? b : c ? d : e").unwrap(),
            Expr::Choice(..)
        ));
        assert!(matches!(parse("!(a == b)").unwrap(), Expr::Not(..)));
        assert_eq!(shape("$\"{a}-{b.C}\""), Operator::Plus);
    }

    #[test]
    fn what_is_not_understood_is_told() {
        let told = |source: &str| parse(source).unwrap_err();
        assert_eq!(told("new Random().Next(1)"), "`new` isn't understood");
        assert_eq!(told("a = 1; return a"), "`=` isn't understood here");
        assert_eq!(told("a.b("), "a value is missing at the end");
        assert_eq!(
            told("items.Select(x => x)"),
            "`=>` isn't understood where `,` should be"
        );
        assert!(told(&"(".repeat(10_000)).starts_with("it nests deeper"));
        assert!(told("\"open").starts_with("a text"));
    }
}
