//! The manual and the README: every block that is a configuration loads, and every command that they tell takes its
//! arguments; `manual_commands.rs` types what can be typed here. `tidy.rs` holds their links and the table of contents.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

#[path = "support/pages.rs"]
mod pages;

#[path = "support/python.rs"]
mod python;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use gateway::config::file::known_keys;
use gateway::config::secret::Environment;
use gateway::config::{Source, load};
use pages::{blocks, repository};
use support::command::run;

/// A world in which every variable is set, and no file is there.
struct Anywhere;

impl Environment for Anywhere {
    fn variable(&self, name: &str) -> Option<String> {
        // An identity is found by the variables that are set: none of the Azure SDKs' own is.
        let is_azures = name.starts_with("IDENTITY_")
            || name.starts_with("AZURE_") && !name.starts_with("AZURE_OPENAI_");
        (!is_azures).then(|| format!("value-of-{name}"))
    }
    fn read(&self, _: &str) -> Result<Vec<u8>, String> {
        Err("no such file or directory".to_owned())
    }
    fn host_name(&self) -> String {
        "host".to_owned()
    }
    fn cores(&self) -> usize {
        2
    }
    fn now(&self) -> u64 {
        1_700_000_000
    }
}

#[test]
fn every_configuration_in_the_manual_loads_or_is_a_fragment_of_known_keys() {
    let known: BTreeSet<String> = known_keys().into_iter().collect();
    let (mut whole, mut fragments) = (0, 0);
    for block in blocks(&["toml"]) {
        let place = format!("{}:{}", block.page, block.line);
        let Some(fragment) = block.text.strip_prefix("# fragment\n") else {
            let source = Source {
                name: place,
                text: block.text,
            };
            let plan = load(&source, &Anywhere).unwrap_or_else(|errors| panic!("{errors}"));
            assert!(plan.refusals().is_empty(), "{:?}", plan.refusals());
            whole += 1;
            continue;
        };
        let table: toml::Table = fragment
            .parse()
            .unwrap_or_else(|error| panic!("{place}: {error}"));
        let mut paths = Vec::new();
        each_path(&toml::Value::Table(table), "", &mut paths);
        for path in paths {
            assert!(known.contains(&path), "{place}: {path} is no key");
        }
        fragments += 1;
    }
    assert!(whole >= 1 && fragments >= 5, "{whole} {fragments}");
}

#[test]
fn every_command_in_the_manual_takes_its_arguments() {
    let mut tried = 0;
    for block in blocks(&["", "sh"]) {
        for command in commands(&block.text) {
            let mut arguments: Vec<&str> = command.split_whitespace().skip(1).collect();
            // Parses all of them, and does nothing.
            arguments.push("--help");
            let finished = run(&arguments, "");
            let place = format!("{}:{}: {command}", block.page, block.line);
            assert_eq!(finished.status, Some(0), "{place}\n{}", finished.stderr);
            tried += 1;
        }
    }
    assert!(tried >= 12, "{tried}");
}

#[test]
fn the_pages_are_made() {
    let requirements = repository().join("gateway/tests/manual/requirements.txt");
    let mdbook = python::with("mdbook", &requirements).with_file_name("mdbook");
    let pages = tempfile::tempdir().unwrap();
    let output = Command::new(mdbook)
        .args(["build", "--dest-dir"])
        .arg(pages.path())
        .arg(repository())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    for word in ["WARN", "ERROR"] {
        assert!(!told.contains(word), "{told}");
    }
    let first = fs::read_to_string(pages.path().join("first-hour.html")).unwrap();
    assert!(first.contains("<h1 id=\"the-first-hour\">"));
}

/// The `tollgate` commands of a block, without what a shell does with them.
fn commands(block: &str) -> Vec<String> {
    let joined = block.replace("\\\n", " ");
    let command = |line: &str| {
        let line = line.split(" #").next().unwrap_or_default();
        let line = line
            .split(['>', '|', '<'])
            .next()
            .unwrap_or_default()
            .trim();
        line.starts_with("tollgate ").then(|| line.to_owned())
    };
    joined.lines().filter_map(command).collect()
}

/// Every path of keys, written as the reader writes them, without free names and what is below them.
fn each_path(value: &toml::Value, at: &str, found: &mut Vec<String>) {
    if !at.is_empty() && !at.ends_with(']') && !at.ends_with(".NAME") {
        found.push(at.to_owned());
    }
    match value {
        toml::Value::Table(table) => {
            let last = at.rsplit('.').next().unwrap_or_default();
            if ["models", "attributes", "required-claims"].contains(&last)
                && !at.starts_with("products")
            {
                return;
            }
            for (key, value) in table {
                let named =
                    ["apis", "products", "subscriptions", "backends", "pools"].contains(&at);
                let key = if named { "NAME" } else { key };
                let dot = if at.is_empty() { "" } else { "." };
                each_path(value, &format!("{at}{dot}{key}"), found);
            }
        }
        toml::Value::Array(values) => {
            for value in values {
                each_path(value, &format!("{at}[]"), found);
            }
        }
        _ => {}
    }
}
