//! Pieces of TOML, quoted as it takes.
//!
//! Written by hand and not by a serializer: what is printed is read by people, with its comments, its order
//! and one line for what belongs together.

/// A key: bare where TOML allows it.
pub fn key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.chars().all(is_bare) {
        return name.to_owned();
    }
    text(name)
}

/// A text in quotes.
pub fn text(value: &str) -> String {
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// An expression: in single quotes where it has none, so that its own are left as they are.
pub fn expression(source: &str) -> String {
    if source.contains('\'') || source.chars().any(char::is_control) {
        return text(source);
    }
    format!("'{source}'")
}

/// A comment; every line of it.
pub fn comment(said: &str) -> String {
    let line = |line: &str| {
        let shown: String = line.chars().filter(|c| !c.is_control()).collect();
        format!("# {shown}\n")
    };
    said.lines().map(line).collect()
}

/// `[a, b]`, of what is quoted already.
pub fn array(elements: impl Iterator<Item = String>) -> String {
    let elements: Vec<String> = elements.collect();
    format!("[{}]", elements.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_quoted_reads_back_as_it_was() {
        for said in [
            "",
            "a b",
            "gpt-4.1",
            "\"q\" 'q' \\",
            "a\nb\u{1}\u{7f}\t",
            "caf\u{e9}",
        ] {
            let line = format!("{} = {}\n{}", key(said), text(said), comment(said));
            let table: toml::Table = line.parse().unwrap_or_else(|_| panic!("{line}"));
            assert_eq!(table[said].as_str(), Some(said), "{line}");
            let line = format!("x = {}", expression(said));
            let table: toml::Table = line.parse().unwrap_or_else(|_| panic!("{line}"));
            assert_eq!(table["x"].as_str(), Some(said), "{line}");
        }
        assert_eq!(key("gpt-4o"), "gpt-4o");
        assert_eq!(expression("a == \"b\""), "'a == \"b\"'");
    }
}
