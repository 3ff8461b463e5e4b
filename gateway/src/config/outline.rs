//! What a configuration says, as names, keys and values that anybody who watches may see; and what differs between two.
//!
//! A reload tells by it what changed, and `check --against` what would. It holds what is written and not what follows from
//! it: a default that is written out counts as a change. A secret's text is left out (its variable's or file's name isn't),
//! so two outlines can't tell one literal secret from another; their revisions can.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::file::table::join;

/// Entities by name, as `backends.east`, `token-limit.gold` or `server`; of each its keys and values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline(pub BTreeMap<String, BTreeMap<String, String>>);

/// What one entity's difference is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// These keys have other values: the former and the next; none where it isn't there.
    Changed(Vec<(String, Option<String>, Option<String>)>),
}

/// The sections whose tables have names of their own.
const NAMED: [&str; 5] = ["apis", "products", "subscriptions", "backends", "pools"];
/// In the place of what isn't shown.
const HIDDEN: &str = "***";

impl Outline {
    /// Of a text that was read; `secrets` are the places of values that aren't shown.
    pub fn of(root: &DeTable<'_>, secrets: &BTreeSet<usize>) -> Self {
        let mut outline = Outline::default();
        let writer = Writer { secrets };
        for (key, value) in root {
            outline.section(key.get_ref(), value, &writer);
        }
        outline
    }

    fn section(&mut self, name: &str, value: &Spanned<DeValue<'_>>, writer: &Writer<'_>) {
        match value.get_ref() {
            DeValue::Table(entries) if NAMED.contains(&name) => {
                for (key, value) in entries {
                    let entity = join(name, key.get_ref());
                    self.entity(entity, value, writer);
                }
            }
            DeValue::Array(entries) => {
                for (number, entry) in entries.iter().enumerate() {
                    let entity = match named(entry.get_ref()) {
                        Some(own) => join(name, own),
                        None => format!("{name}[{number}]"),
                    };
                    self.entity(entity, entry, writer);
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Table(_) => self.entity(name.to_owned(), value, writer),
        }
    }

    fn entity(&mut self, name: String, value: &Spanned<DeValue<'_>>, writer: &Writer<'_>) {
        let keys = self.0.entry(name).or_default();
        writer.leaves("", value, keys);
    }

    /// What is different in `next`, in the order of the names.
    pub fn changes(&self, next: &Outline) -> Vec<(String, Change)> {
        let names: BTreeSet<&String> = self.0.keys().chain(next.0.keys()).collect();
        let change = |name: &String| match (self.0.get(name), next.0.get(name)) {
            (None, Some(_)) => Some(Change::Added),
            (Some(_), None) => Some(Change::Removed),
            (Some(former), Some(next)) if former != next => {
                Some(Change::Changed(keys(former, next)))
            }
            (Some(_), Some(_)) | (None, None) => None,
        };
        names
            .into_iter()
            .filter_map(|name| Some((name.clone(), change(name)?)))
            .collect()
    }
}

fn keys(
    former: &BTreeMap<String, String>,
    next: &BTreeMap<String, String>,
) -> Vec<(String, Option<String>, Option<String>)> {
    let names: BTreeSet<&String> = former.keys().chain(next.keys()).collect();
    names
        .into_iter()
        .map(|name| (name, former.get(name), next.get(name)))
        .filter(|(_, former, next)| former != next)
        .map(|(name, former, next)| (name.clone(), former.cloned(), next.cloned()))
        .collect()
}

impl Change {
    /// `backends.east added`, or `server changed (drain-timeout, threads)`. Without values: they may be long.
    pub fn line(&self, name: &str) -> String {
        match self {
            Change::Added => format!("{name} added"),
            Change::Removed => format!("{name} removed"),
            Change::Changed(keys) => {
                let keys: Vec<&str> = keys.iter().map(|(key, _, _)| key.as_str()).collect();
                format!("{name} changed ({})", keys.join(", "))
            }
        }
    }
}

/// What only a restart takes, of these changes: `server.listen`, or a whole section.
pub fn needs_restart(changes: &[(String, Change)]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, change) in changes {
        if FIXED_SECTIONS.contains(&name.as_str()) {
            found.push(name.clone());
        }
        if let ("server", Change::Changed(keys)) = (name.as_str(), change) {
            let fixed = keys.iter().filter(|(key, _, _)| is_fixed(key));
            found.extend(fixed.map(|(key, _, _)| format!("server.{key}")));
        }
    }
    found
}

fn is_fixed(key: &str) -> bool {
    FIXED_KEYS.iter().any(|fixed| {
        key == *fixed
            || key
                .strip_prefix(fixed)
                .is_some_and(|rest| rest.starts_with('.'))
    })
}

/// Sections that a running process doesn't take again.
const FIXED_SECTIONS: [&str; 1] = ["usage-log"];
/// Keys of `[server]` likewise, each with those below it.
const FIXED_KEYS: [&str; 6] = [
    "listen",
    "h2c",
    "tls.listen",
    "admin",
    "threads",
    "upgrade-socket",
];

/// The `name` of an array's table.
fn named<'v>(value: &'v DeValue<'_>) -> Option<&'v str> {
    value.as_table()?.get("name")?.get_ref().as_str()
}

struct Writer<'s> {
    secrets: &'s BTreeSet<usize>,
}

impl Writer<'_> {
    /// Every value below, by the path that leads there.
    fn leaves(
        &self,
        path: &str,
        value: &Spanned<DeValue<'_>>,
        into: &mut BTreeMap<String, String>,
    ) {
        match value.get_ref() {
            DeValue::Table(entries) if !self.is_secret(value) => {
                for (key, value) in entries {
                    self.leaves(&join(path, key.get_ref()), value, into);
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                into.insert(path.to_owned(), self.text(value));
            }
        }
    }

    fn is_secret(&self, value: &Spanned<DeValue<'_>>) -> bool {
        self.secrets.contains(&value.span().start)
    }

    fn text(&self, value: &Spanned<DeValue<'_>>) -> String {
        if self.is_secret(value) {
            return HIDDEN.to_owned();
        }
        match value.get_ref() {
            DeValue::String(text) => format!("\"{}\"", without_user(text).escape_debug()),
            DeValue::Integer(number) => number.as_str().to_owned(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(flag) => flag.to_string(),
            DeValue::Datetime(time) => time.to_string(),
            DeValue::Array(elements) => {
                let elements: Vec<String> = elements.iter().map(|one| self.text(one)).collect();
                format!("[{}]", elements.join(", "))
            }
            DeValue::Table(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|(key, value)| {
                        format!("{} = {}", join("", key.get_ref()), self.text(value))
                    })
                    .collect();
                format!("{{ {} }}", entries.join(", "))
            }
        }
    }
}

/// A URL without what stands before its host: it may be a password.
fn without_user(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let host_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest
        .get(..host_end)
        .and_then(|authority| authority.rfind('@'))
    {
        Some(at) => format!("{scheme}://{HIDDEN}{}", rest.get(at..).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::error::Findings;
    use super::super::file;
    use super::*;

    fn outline(text: &str) -> Outline {
        file::read(&Findings::new(text)).outline
    }

    const FORMER: &str = r#"
[server]
threads = 2
drain-timeout = "30s"
[redis]
url = "redis://user:pass@localhost:6379/0"
[backends.one]
url = "http://one"
auth = { api-key = "literal-secret" }
[backends.two]
url = "http://two"
auth = { bearer = { file = "/run/token" } }
[subscriptions.me]
keys = ["literal-key", { sha256 = "abcdef" }, { env = "KEY" }]
[[token-limit]]
name = "gold"
tokens-per-minute = 10
[[token-metric]]
namespace = "a"
"#;

    #[test]
    fn nothing_secret_is_shown_and_the_places_of_secrets_are() {
        let shown = format!("{:?}", outline(FORMER));
        for secret in [
            "literal-secret",
            "literal-key",
            "abcdef",
            "pass",
            "user:",
            "localhost:6379",
        ] {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
        for name in ["/run/token", "KEY", "http://one"] {
            assert!(shown.contains(name), "{name}: {shown}");
        }
    }

    #[test]
    fn what_differs_is_told_by_name_and_key() {
        let next = FORMER
            .replace("threads = 2", "threads = 3")
            .replace("\"30s\"", "\"31s\"")
            .replace("[backends.two]", "[backends.three]")
            .replace("tokens-per-minute = 10", "tokens-per-minute = 11");
        let changes = outline(FORMER).changes(&outline(&next));
        let lines: Vec<String> = changes
            .iter()
            .map(|(name, change)| change.line(name))
            .collect();
        assert_eq!(
            lines,
            [
                "backends.three added",
                "backends.two removed",
                "server changed (drain-timeout, threads)",
                "token-limit.gold changed (tokens-per-minute)",
            ]
        );
        assert_eq!(needs_restart(&changes), ["server.threads"]);
        assert_eq!(outline(FORMER).changes(&outline(FORMER)), []);
    }

    #[test]
    fn an_unreadable_secret_isn_t_shown_either() {
        let text = "[backends.one]\nauth = { api-key = \"two words\" }\n[subscriptions.me]\nkeys = [\"caf\u{e9}\"]\n";
        let shown = format!("{:?}", outline(text));
        assert!(
            !shown.contains("two words") && !shown.contains("caf"),
            "{shown}"
        );
    }
}
