//! Template expressions of ARM, `[format('{0}/x', parameters('service'))]`, as texts.
//!
//! What isn't known, a parameter without a default or any other function, is [`UNKNOWN`] in the text: a name
//! may be known at its end where the rest isn't.

use serde_json::Value;

/// Stands for what only a deployment knows.
pub const UNKNOWN: char = '\u{fffd}';

/// The template that an expression stands in.
pub struct Scope<'t> {
    template: &'t Value,
}

impl<'t> Scope<'t> {
    /// Of a template.
    pub fn of(template: &'t Value) -> Self {
        Self { template }
    }

    /// What a text of the template says.
    pub fn text(&self, written: &str) -> String {
        self.resolved(written, 0)
    }

    fn resolved(&self, written: &str, depth: usize) -> String {
        let inner = written
            .strip_prefix('[')
            .filter(|rest| !rest.starts_with('['));
        let Some(inner) = inner.and_then(|rest| rest.strip_suffix(']')) else {
            return written.replacen("[[", "[", 1);
        };
        let (text, rest) = self.value(inner.trim(), depth);
        match rest.trim().is_empty() {
            true => text,
            false => UNKNOWN.to_string(),
        }
    }

    /// The value at the beginning, and what follows it.
    fn value<'s>(&self, source: &'s str, depth: usize) -> (String, &'s str) {
        if depth > MAX_DEPTH {
            return (UNKNOWN.to_string(), "");
        }
        if let Some(rest) = source.strip_prefix('\'') {
            return literal(rest);
        }
        let end = source
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(source.len());
        let (name, mut rest) = source.split_at(end);
        let Some(inside) = rest.strip_prefix('(') else {
            return (name.to_owned(), rest);
        };
        let mut arguments = Vec::new();
        rest = inside.trim_start();
        while !rest.is_empty() && !rest.starts_with(')') {
            let (argument, after) = self.value(rest, depth + 1);
            arguments.push(argument);
            let after = after.trim_start();
            match after.strip_prefix(',') {
                Some(after) => rest = after.trim_start(),
                None if after.starts_with(')') => rest = after,
                None => return (UNKNOWN.to_string(), ""),
            }
        }
        let rest = rest.strip_prefix(')').unwrap_or(rest);
        // Members and elements of what a function gives: `reference(...).endpoint`.
        let members = rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "._[]'".contains(c))
                .len();
        if members > 0 {
            return (UNKNOWN.to_string(), &rest[members..]);
        }
        (self.called(name, &arguments, depth), rest)
    }

    fn called(&self, name: &str, arguments: &[String], depth: usize) -> String {
        let entry = |section: &str, tail: &str| {
            let name = arguments.first()?;
            let value = self.template.get(section)?.get(name)?;
            let value = if tail.is_empty() {
                value
            } else {
                value.get(tail)?
            };
            Some(self.resolved(value.as_str()?, depth + 1))
        };
        let unknown = || UNKNOWN.to_string();
        match name {
            "parameters" => entry("parameters", "defaultValue").unwrap_or_else(unknown),
            "variables" => entry("variables", "").unwrap_or_else(unknown),
            "concat" => arguments.concat(),
            "toLower" => arguments.concat().to_lowercase(),
            "resourceId" => arguments.last().cloned().unwrap_or_else(unknown),
            "format" => match arguments.split_first() {
                Some((pattern, values)) => values
                    .iter()
                    .enumerate()
                    .fold(pattern.clone(), |text, (at, value)| {
                        text.replace(&format!("{{{at}}}"), value)
                    }),
                None => unknown(),
            },
            _ => unknown(),
        }
    }
}

/// Up to the closing quote; two quotes are one.
fn literal(rest: &str) -> (String, &str) {
    let mut text = String::new();
    let mut chars = rest.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' if chars.next_if(|(_, next)| *next == '\'').is_some() => text.push('\''),
            '\'' => return (text, &rest[at + 1..]),
            c => text.push(c),
        }
    }
    (UNKNOWN.to_string(), "")
}

/// Real expressions nest some four levels; a variable may name itself.
const MAX_DEPTH: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_worked_out_as_far_as_they_are_known() {
        let template = serde_json::json!({
            "parameters": {"a": {"defaultValue": "A"}, "b": {"type": "string"}},
            "variables": {"v": "[concat(parameters('a'), '-v')]", "loop": "[variables('loop')]"},
        });
        let scope = Scope::of(&template);
        let cases = [
            ("plain", "plain"),
            ("[[not]", "[not]"),
            ("['it''s']", "it's"),
            ("[format('{0}/{1}', parameters('b'), 'x')]", "\u{fffd}/x"),
            ("[concat('x', variables('v'))]", "xA-v"),
            ("[resourceId('T', 's', 'n')]", "n"),
            ("[reference('x').endpoint]", "\u{fffd}"),
            ("[variables('loop')]", "\u{fffd}"),
            ("[if(true(), 'a', 'b')]", "\u{fffd}"),
            ("[format('open]", "\u{fffd}"),
        ];
        for (written, text) in cases {
            assert_eq!(scope.text(written), text, "{written}");
        }
    }
}
