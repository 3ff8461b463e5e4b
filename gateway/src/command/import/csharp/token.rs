//! The tokens of C#.

use std::fmt;

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A name or a keyword.
    Name(String),
    /// A string or character literal, unescaped.
    Text(String),
    /// `$"..."`: each text, and the expression after it.
    Interpolated(Vec<(String, Option<String>)>),
    /// A whole number.
    Number(i64),
    /// Anything else.
    Sign(&'static str),
}

impl fmt::Display for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(name),
            Self::Text(text) => write!(formatter, "\"{text}\""),
            Self::Interpolated(_) => formatter.write_str("$\"...\""),
            Self::Number(number) => write!(formatter, "{number}"),
            Self::Sign(sign) => formatter.write_str(sign),
        }
    }
}

/// Every token of a source.
pub fn tokens(source: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = source.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = token(rest, first)?;
        tokens.extend(token);
        rest = after.trim_start();
    }
    Ok(tokens)
}

type Read<'s> = Result<(Option<Token>, &'s str), String>;

fn token(rest: &str, first: char) -> Read<'_> {
    if rest.starts_with("//") {
        return Ok((None, rest.split_once('\n').map_or("", |(_, after)| after)));
    }
    if rest.starts_with("/*") {
        let after = rest.split_once("*/").ok_or("a comment has no end")?.1;
        return Ok((None, after));
    }
    if let Some(after) = rest.strip_prefix("$\"") {
        return interpolated(after);
    }
    if let Some(after) = rest.strip_prefix("@\"") {
        let (text, after) = verbatim(after)?;
        return Ok((Some(Token::Text(text)), after));
    }
    if first == '"' || first == '\'' {
        let (text, after) = quoted(&rest[1..], first)?;
        return Ok((Some(Token::Text(text)), after));
    }
    if first.is_ascii_digit() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let number = rest[..end]
            .parse()
            .map_err(|_| format!("the number {} is too large", &rest[..end]))?;
        return Ok((Some(Token::Number(number)), &rest[end..]));
    }
    if first.is_alphabetic() || first == '_' {
        let end = rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        return Ok((Some(Token::Name(rest[..end].to_owned())), &rest[end..]));
    }
    let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
    let sign = sign.ok_or_else(|| format!("`{first}` isn't understood"))?;
    Ok((Some(Token::Sign(sign)), &rest[sign.len()..]))
}

/// A text up to its quote, and what follows.
fn quoted(rest: &str, quote: char) -> Result<(String, &str), String> {
    let mut text = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next().map(|(_, escaped)| escaped) {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('r') => text.push('\r'),
                Some(escaped @ ('"' | '\'' | '\\')) => text.push(escaped),
                Some(other) => return Err(format!("the escape \\{other} isn't understood")),
                None => break,
            },
            c if c == quote => return Ok((text, &rest[at + c.len_utf8()..])),
            c => text.push(c),
        }
    }
    Err(format!("a text has no closing {quote}"))
}

/// `@"..."`: only `""` is an escape.
fn verbatim(rest: &str) -> Result<(String, &str), String> {
    let mut from = 0;
    while let Some(at) = rest[from..].find('"') {
        let at = from + at;
        if !rest[at + 1..].starts_with('"') {
            return Ok((rest[..at].replace("\"\"", "\""), &rest[at + 1..]));
        }
        from = at + 2;
    }
    Err("a text has no closing \"".to_owned())
}

fn interpolated(rest: &str) -> Read<'_> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                parts.push((text, None));
                return Ok((Some(Token::Interpolated(parts)), &rest[at + 1..]));
            }
            '\\' => text.extend(chars.next().map(|(_, escaped)| escaped)),
            '{' => {
                let end = at + rest[at..].find('}').ok_or("a `{` in a text has no `}`")?;
                let source = rest[at + 1..end].to_owned();
                parts.push((std::mem::take(&mut text), Some(source)));
                while chars.as_str().len() > rest.len() - end - 1 {
                    chars.next();
                }
            }
            c => text.push(c),
        }
    }
    Err("a text has no closing \"".to_owned())
}

/// Longer ones first.
const SIGNS: [&str; 30] = [
    "?.", "?[", "??", "=>", "||", "&&", "==", "!=", "<=", ">=", "(", ")", "[", "]", ".", ",", "?",
    ":", "<", ">", "+", "!", "=", ";", "-", "*", "/", "%", "{", "}",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn literals_are_unescaped() {
        let one = |source: &str| tokens(source).unwrap().remove(0);
        assert_eq!(one(r#""a\"b\\""#), Token::Text("a\"b\\".to_owned()));
        assert_eq!(one(r#"@"a""b\""#), Token::Text("a\"b\\".to_owned()));
        assert_eq!(one("'x'"), Token::Text("x".to_owned()));
        assert_eq!(one("429"), Token::Number(429));
        assert_eq!(
            one("$\"a{b.C}d{e}\""),
            Token::Interpolated(vec![
                ("a".to_owned(), Some("b.C".to_owned())),
                ("d".to_owned(), Some("e".to_owned())),
                (String::new(), None),
            ])
        );
        assert_eq!(tokens("a // b\n/* c */ d").unwrap().len(), 2);
        assert!(tokens("a \u{1f600}").is_err());
    }
}
