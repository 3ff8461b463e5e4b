//! The fenced blocks of the manual and the README.

use std::fs;
use std::path::{Path, PathBuf};

/// A block between fences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Below the repository.
    pub page: String,
    /// Of its opening fence.
    pub line: usize,
    /// What stands behind the opening fence.
    pub kind: String,
    /// Without the indent that a list gives it.
    pub text: String,
}

/// Where everything is.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All blocks of these kinds.
pub fn blocks(kinds: &[&str]) -> Vec<Block> {
    let mut found: Vec<Block> = pages().iter().flat_map(|page| of(page)).collect();
    found.retain(|block| kinds.contains(&block.kind.as_str()));
    found
}

fn pages() -> Vec<String> {
    let entries = fs::read_dir(repository().join("docs")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let pages = names.filter(|name| name.ends_with(".md"));
    let mut pages: Vec<String> = pages.map(|name| format!("docs/{name}")).collect();
    pages.extend(["README.md".to_owned(), "labs/README.md".to_owned()]);
    pages.sort();
    pages
}

fn of(page: &str) -> Vec<Block> {
    let text = fs::read_to_string(repository().join(page)).unwrap();
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (line, written) in (1..).zip(text.lines()) {
        // Blocks within lists are indented.
        let bare = written.trim_start();
        match (&mut open, bare.strip_prefix("```")) {
            (None, Some(kind)) => {
                open = Some(Block {
                    page: page.to_owned(),
                    line,
                    kind: kind.to_owned(),
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(bare);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{page}: a block has no end");
    found
}
