//! Rust files of the repository, and their text without what isn't code.
//!
//! No parser: comments and literals are blanked, tests are cut out, and what is left is searched for words. That
//! is coarse, but it has no dependency, reads the whole repository in milliseconds, and a false alarm shows at once.

use std::path::{Path, PathBuf};

/// One Rust file.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its path from the repository's root, with `/`.
    pub path: String,
    /// Its text as written.
    pub text: String,
    /// The same without `#[cfg(test)]` items; comments and literals are blanks. Lines stay where they were,
    /// but for the cut ones, which are gone.
    pub code: String,
}

impl Source {
    /// From a path and a text.
    pub fn new(path: &str, text: &str) -> Source {
        Source {
            path: path.to_owned(),
            text: text.to_owned(),
            code: without_tests(&blanked(text)),
        }
    }

    /// Whether it lies in this folder, or is this file.
    pub fn is_under(&self, place: &str) -> bool {
        self.path == place
            || self
                .path
                .strip_prefix(place)
                .is_some_and(|rest| place.ends_with('/') || rest.starts_with('/'))
    }

    /// Whether it is the module `place` (as `gateway/src/reply`) or one of those within it.
    pub fn is_module(&self, place: &str) -> bool {
        self.path == format!("{place}.rs") || self.is_under(place)
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("gateway/ lies in the repository")
        .to_owned()
}

/// Every Rust file of the repository.
pub fn sources() -> Vec<Source> {
    files("rs")
        .iter()
        .map(|path| Source::new(path, &read(path)))
        .collect()
}

/// Every file with this extension, by its path from the root; neither built nor hidden ones.
pub fn files(extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || name == "target" || name == "node_modules" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                let relative = path.strip_prefix(root()).unwrap();
                found.push(relative.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

/// A file's text, by its path from the root.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The text with comments and the inside of literals as blanks; every line end stays.
pub fn blanked(text: &str) -> String {
    let mut rest = text;
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let length = literal_or_comment(rest, before).unwrap_or(0);
        if length == 0 {
            out.push(first);
            before = first;
            rest = &rest[first.len_utf8()..];
        } else {
            let blank = |c: char| if c == '\n' { '\n' } else { ' ' };
            out.extend(rest[..length].chars().map(blank));
            before = ' ';
            rest = &rest[length..];
        }
    }
    out
}

/// How many bytes of a comment or literal the text opens with.
fn literal_or_comment(text: &str, before: char) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(block_comment(text));
    }
    let in_word = before.is_alphanumeric() || before == '_';
    let prefix = ["br", "cr", "r", "b", "c", ""]
        .into_iter()
        .filter(|prefix| prefix.is_empty() || !in_word)
        .find(|prefix| {
            text.strip_prefix(prefix)
                .is_some_and(|rest| match prefix.ends_with('r') {
                    true => rest.trim_start_matches('#').starts_with('"'),
                    false => rest.starts_with('"'),
                })
        });
    match prefix {
        Some(prefix) if prefix.ends_with('r') => Some(raw_string(text, prefix.len())),
        Some(prefix) => Some(quoted(text, prefix.len())),
        None => character(text),
    }
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn raw_string(text: &str, prefix: usize) -> usize {
    let hashes = text[prefix..].len() - text[prefix..].trim_start_matches('#').len();
    let end = format!("\"{}", "#".repeat(hashes));
    let body = prefix + hashes + 1;
    match text[body..].find(&end) {
        Some(at) => body + at + end.len(),
        None => text.len(),
    }
}

fn quoted(text: &str, prefix: usize) -> usize {
    let bytes = text.as_bytes();
    let mut at = prefix + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// A character in quotes, and not the quote of a lifetime.
fn character(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('\'')?;
    let first = rest.chars().next()?;
    if first == '\\' {
        return rest[2..].find('\'').map(|at| at + 4);
    }
    rest[first.len_utf8()..]
        .starts_with('\'')
        .then_some(first.len_utf8() + 2)
}

/// Blanked code without its `#[cfg(test)]` items.
fn without_tests(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(TEST_ITEM) {
        out.push_str(&rest[..at]);
        let item = &rest[at + TEST_ITEM.len()..];
        let end = match (item.find('{'), item.find(';')) {
            (Some(open), semicolon) if semicolon.is_none_or(|semicolon| open < semicolon) => {
                open + block(&item[open..])
            }
            (_, Some(semicolon)) => semicolon + 1,
            (_, None) => item.len(),
        };
        rest = item[end..].strip_prefix('\n').unwrap_or(&item[end..]);
    }
    out.push_str(rest);
    out
}

const TEST_ITEM: &str = "#[cfg(test)]";

/// The length of the block in braces that blanked code opens with.
pub fn block(code: &str) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

/// Where `word` stands in the code by itself, not as a part of a longer name.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let in_name = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| {
            let bytes = code.as_bytes();
            !in_name(at.checked_sub(1).and_then(|before| bytes.get(before)))
                && !in_name(bytes.get(at + word.len()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanks() {
        let text =
            "a /* b /* c */ d */ e // f\ng \"h\\\"i\" 'j' '\\n' &'k l r#\"m \" n\"# b\"o\" p";
        let left: String = blanked(text).split_whitespace().collect();
        assert_eq!(left, "aeg&'klp");
        assert_eq!(blanked(text).lines().count(), 2);
    }

    #[test]
    fn tests_are_cut_out() {
        let source = Source::new(
            "x.rs",
            "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { \"}\" } }\nfn c() {}\n#[cfg(test)]\nmod more;\nfn d() {}\n",
        );
        assert!(source.code.contains("fn a") && source.code.contains("fn c"));
        assert!(source.code.contains("fn d") && !source.code.contains("fn b"));
        assert!(!source.code.contains("more"));
    }

    #[test]
    fn a_word_is_not_a_part_of_one() {
        assert_eq!(words("plan planner a_plan plan", "plan").count(), 2);
    }

    #[test]
    fn a_module_is_its_file_and_its_folder() {
        let inner = Source::new("gateway/src/admin/page.rs", "");
        assert!(inner.is_module("gateway/src/admin") && inner.is_under("gateway/src/"));
        assert!(!Source::new("gateway/src/administration.rs", "").is_module("gateway/src/admin"));
    }
}
