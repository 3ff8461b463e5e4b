//! The documents: links that lead somewhere, commands that exist, dependencies that are explained.

use std::collections::BTreeSet;

/// A Markdown file: its path from the root, and its text.
pub struct Document {
    /// Its path from the root.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Links within the repository that lead nowhere. `read` gives a file's text, or nothing where there is none.
pub fn broken_links(document: &Document, read: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let folder = document
        .path
        .rsplit_once('/')
        .map_or("", |(folder, _)| folder);
    let mut found = Vec::new();
    for link in links(&document.text) {
        let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
        let path = match file {
            "" => document.path.clone(),
            file => joined(folder, file),
        };
        let broken = match read(&path) {
            None => true,
            Some(text) => !anchor.is_empty() && !anchors(&text).contains(anchor),
        };
        if broken {
            found.push(format!("{}: ({link}) leads nowhere", document.path));
        }
    }
    found
}

/// The targets of `[text](target)` that lie in this repository.
fn links(text: &str) -> Vec<String> {
    let outside = |link: &str| link.contains("://") || link.starts_with("mailto:");
    prose(text)
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(link, _)| link.to_owned())
        .filter(|link| !outside(link))
        .collect()
}

/// The text without its fenced blocks and its `code`.
fn prose(text: &str) -> String {
    let mut out = String::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let parts: Vec<&str> = line.split('`').step_by(2).collect();
            out.push_str(&parts.join("`"));
            out.push('\n');
        }
    }
    out
}

/// The anchors that the headings of a document give.
fn anchors(text: &str) -> BTreeSet<String> {
    let heading = |line: &str| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len() && title.starts_with(' ')).then(|| slug(title.trim()))
    };
    text.lines().filter_map(heading).collect()
}

fn slug(title: &str) -> String {
    title
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn joined(folder: &str, file: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in file.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// Names that no list or table line of the document opens with, as `- \`name\`` or `| \`name\``.
pub fn unexplained(document: &str, names: &[String]) -> Vec<String> {
    let explains = |line: &str, name: &str| {
        let line = line.trim_start_matches(['-', '|', ' ', '*']);
        line.strip_prefix(&format!("`{name}`"))
            .is_some_and(|rest| rest.len() > 5)
    };
    let told = |name: &String| document.lines().any(|line| explains(line, name));
    names.iter().filter(|name| !told(name)).cloned().collect()
}

/// What the fenced blocks and the `code` of a document say to type after `word`: `make run` gives `run`.
pub fn commands(text: &str, word: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let typed: Vec<&str> = match fenced {
            true => vec![line.trim_start_matches(['$', ' '])],
            false => line.split('`').skip(1).step_by(2).collect(),
        };
        let arguments = typed
            .iter()
            .filter_map(|typed| typed.strip_prefix(word)?.strip_prefix(' '));
        found.extend(
            arguments
                .filter_map(|rest| rest.split_whitespace().next())
                .map(str::to_owned),
        );
    }
    found
}

/// The targets of a Makefile with the number of lines of each one's recipe.
pub fn targets(makefile: &str) -> Vec<(String, usize)> {
    let mut found: Vec<(String, usize)> = Vec::new();
    for line in makefile.lines() {
        let name = line.split(':').next().unwrap_or_default();
        if line.starts_with('\t') {
            if let Some((_, lines)) = found.last_mut() {
                *lines += 1;
            }
        } else if line.contains(':') && name.chars().all(|c| c.is_ascii_lowercase() || c == '-') {
            found.push((name.to_owned(), 0));
        }
    }
    found
}

/// The words of a text that are paths in one of these folders, as `scripts/quickstart`.
pub fn named_files(text: &str, folders: &[&str]) -> BTreeSet<String> {
    let outside = |c: char| !(c.is_alphanumeric() || "/._-".contains(c));
    text.split(outside)
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| folders.iter().any(|folder| word.starts_with(folder)))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let read = |path: &str| (path == "docs/there.md").then(|| "# A title, here\n".to_owned());
        let judge = |text: &str| {
            let document = Document {
                path: "docs/a.md".to_owned(),
                text: text.to_owned(),
            };
            broken_links(&document, &read).len()
        };
        assert_eq!(
            judge("[x](there.md) [y](../docs/there.md#a-title-here) [z](https://example.com)"),
            0
        );
        assert_eq!(judge("[x](gone.md)"), 1);
        assert_eq!(judge("[x](there.md#gone)"), 1);
        assert_eq!(judge("`[x](gone.md)`\n```\n[x](gone.md)\n```\n"), 0);
    }

    #[test]
    fn a_name_without_a_line_is_found() {
        let names = ["tokio".to_owned(), "toml".to_owned()];
        assert_eq!(
            unexplained("| `tokio` | the runtime |\nalso `toml`\n", &names),
            ["toml"]
        );
    }

    #[test]
    fn commands_are_read_from_code_only() {
        let text = "make sense of `make run`, or\n```\n$ make test\nmake\n```\n";
        let found: Vec<String> = commands(text, "make").into_iter().collect();
        assert_eq!(found, ["run", "test"]);
    }

    #[test]
    fn targets_and_their_lines_are_read() {
        let makefile = ".PHONY: a\na: b ## c\n\t@one\n\ttwo\nb:\n\tthree\nc = d\n";
        assert_eq!(
            targets(makefile),
            [("a".to_owned(), 2), ("b".to_owned(), 1)]
        );
    }

    #[test]
    fn files_are_read_from_text() {
        let found: Vec<String> = named_files(
            "@scripts/quickstart; cat conf/a.toml.",
            &["scripts/", "conf/"],
        )
        .into_iter()
        .collect();
        assert_eq!(found, ["conf/a.toml", "scripts/quickstart"]);
    }
}
