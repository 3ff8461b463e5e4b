//! Policy documents as people write them, made into XML that a parser takes.
//!
//! API Management lets quotes, `<` and `&` stand in `@(...)` and `@{...}` as they are ("rawxml"), which no
//! XML parser takes. Here they are replaced by characters of the private-use area, one for one, so that every
//! line and column stays what the file has; [`restored`] puts them back. What is escaped already
//! (`&quot;`) is left to the parser. One pass; texts and comments inside the C# are skipped over as C# has
//! them, so a bracket in a text ends nothing.

/// The text with each expression made harmless.
pub fn well_formed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['@', '<']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(length) = comment(rest) {
            out.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        let length = expression(rest).unwrap_or(0);
        match length {
            0 => {
                out.push_str(&rest[..1]);
                rest = &rest[1..];
            }
            length => {
                out.extend(harmless(&rest[..length]));
                rest = &rest[length..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// What [`well_formed`] replaced, put back.
pub fn restored(text: &str) -> String {
    let restored = |c| match SWAPS.iter().find(|(_, swap)| *swap == c) {
        Some((plain, _)) => *plain,
        None => c,
    };
    text.chars().map(restored).collect()
}

const SWAPS: [(char, char); 4] = [
    ('"', '\u{e022}'),
    ('<', '\u{e03c}'),
    ('&', '\u{e026}'),
    ('\'', '\u{e027}'),
];

fn harmless(expression: &str) -> impl Iterator<Item = char> + use<'_> {
    expression.char_indices().map(|(at, c)| {
        let is_escape = c == '&' && is_entity(&expression[at..]);
        match SWAPS.iter().find(|(plain, _)| *plain == c) {
            Some((_, swap)) if !is_escape => *swap,
            Some(_) | None => c,
        }
    })
}

fn is_entity(rest: &str) -> bool {
    ["&quot;", "&lt;", "&gt;", "&amp;", "&apos;", "&#"]
        .iter()
        .any(|entity| rest.starts_with(entity))
}

/// The length of an XML comment or CDATA section that begins here: an expression in a comment is none.
fn comment(rest: &str) -> Option<usize> {
    let (open, close) = match rest {
        rest if rest.starts_with("<!--") => ("<!--", "-->"),
        rest if rest.starts_with("<![CDATA[") => ("<![CDATA[", "]]>"),
        _ => return None,
    };
    let end = rest[open.len()..]
        .find(close)
        .map(|at| open.len() + at + close.len());
    Some(end.unwrap_or(rest.len()))
}

/// The length of an expression that begins here, with its brackets; none where none begins or it has no end.
fn expression(rest: &str) -> Option<usize> {
    let (open, close) = match rest.get(..2)? {
        "@(" => ('(', ')'),
        "@{" => ('{', '}'),
        _ => return None,
    };
    let mut depth = 0_usize;
    let mut at = 1;
    while let Some(c) = rest[at..].chars().next() {
        let length = match c {
            '"' => text_length(&rest[at..], '"'),
            '\'' => text_length(&rest[at..], '\''),
            '&' if rest[at..].starts_with("&quot;") => escaped_text_length(&rest[at..]),
            '/' if rest[at..].starts_with("//") => rest[at..].find('\n').unwrap_or(rest.len() - at),
            '/' if rest[at..].starts_with("/*") => {
                rest[at..].find("*/").map_or(rest.len() - at, |end| end + 2)
            }
            c => c.len_utf8(),
        };
        depth += usize::from(c == open);
        if c == close {
            depth -= 1;
            if depth == 0 {
                return Some(at + length);
            }
        }
        at += length;
    }
    None
}

/// A C# text with its quotes; one that doesn't end on its line is taken for a quote alone.
fn text_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            '\n' => return 1,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    1
}

fn escaped_text_length(rest: &str) -> usize {
    const QUOTE: &str = "&quot;";
    let line = rest.split('\n').next().unwrap_or_default();
    line[QUOTE.len()..]
        .find(QUOTE)
        .map_or(QUOTE.len(), |at| at + 2 * QUOTE.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn attribute(text: &str) -> String {
        let made = well_formed(text);
        assert_eq!(made.chars().count(), text.chars().count());
        let tree =
            roxmltree::Document::parse(&made).unwrap_or_else(|error| panic!("{made}: {error}"));
        restored(tree.root_element().attribute("k").unwrap_or_default())
    }

    #[test]
    fn expressions_are_read_as_people_write_them() {
        let plain = r#"<a k="@(context.Headers.GetValueOrDefault("x", ")"))" />"#;
        assert_eq!(
            attribute(plain),
            "@(context.Headers.GetValueOrDefault(\"x\", \")\"))"
        );
        let escaped =
            r#"<a k="@(context.Headers.GetValueOrDefault(&quot;x&quot;, &quot;)&quot;))" />"#;
        assert_eq!(
            attribute(escaped),
            "@(context.Headers.GetValueOrDefault(\"x\", \")\"))"
        );
        let block =
            "<a k='@{ if (a < b && c[\"}\"] == \"'\") { return \"x\"; } // }\n return y; }'/>";
        assert!(attribute(block).ends_with("return y; }"));
        assert_eq!(attribute("<a k=\"me@(b\"/>"), "me@(b");
        assert_eq!(attribute("<a k=\"1\"><!-- @(\" --></a>"), "1");
    }
}
