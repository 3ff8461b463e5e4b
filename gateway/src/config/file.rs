//! What the user wrote: the file section by section, each value with its place, nothing resolved.
//!
//! Reading decides only what can be decided without looking elsewhere: kinds, ranges, words, unknown and
//! missing keys. Names stay names, expressions and URLs stay text, defaults aren't filled in. It goes on
//! after a mistake, so that one run reports them all. It knows nothing of the plan: `load` is the bridge.

pub mod backend;
pub mod field;
pub mod identity;
pub mod nested;
pub mod policy;
pub mod pool;
pub mod prices;
pub mod records;
pub mod routing;
pub mod secret;
pub mod server;
pub mod survey;
pub mod table;
pub mod units;

use toml::Spanned;
use toml::de::DeTable;

use super::error::{Findings, Kind, Located, Place};
use super::outline::Outline;
use table::{Reading, Table};

/// The whole file.
#[derive(Debug)]
pub struct File {
    /// `[server]`
    pub server: server::Server,
    /// `[gateway]`
    pub gateway: server::Gateway,
    /// `[redis]`
    pub redis: Option<records::Redis>,
    /// `[jwt]`
    pub jwt: Option<identity::Jwt>,
    /// `[apis.*]`
    pub apis: Vec<routing::Api>,
    /// `[products.*]`
    pub products: Vec<routing::Product>,
    /// `[subscriptions.*]`
    pub subscriptions: Vec<routing::Subscription>,
    /// `[backends.*]`
    pub backends: Vec<backend::Backend>,
    /// `[pools.*]`
    pub pools: Vec<pool::Pool>,
    /// `[[token-limit]]`, `[[token-metric]]`, `[[semantic-cache]]`, `[[budget]]`
    pub policies: policy::Policies,
    /// `[usage-log]`, `[prices]`, `[access-log]`, `[message-log]`, `[otlp]`
    pub records: records::Records,
    /// All of it, without its secrets.
    pub outline: Outline,
}

/// Reads a whole text. Mistakes are in `findings`.
pub fn read(findings: &Findings<'_>) -> File {
    let document = parsed(findings);
    let reading = Reading::of(findings);
    let file = sections(Table::root(&reading, Some(document.get_ref())));
    let outline = Outline::of(document.get_ref(), &reading.hidden());
    File { outline, ..file }
}

/// The text as TOML. Mistakes of syntax are in `findings`.
fn parsed<'t>(findings: &Findings<'t>) -> Spanned<DeTable<'t>> {
    let (document, mistakes) = DeTable::parse_recoverable(findings.text());
    for mistake in mistakes {
        let offset = mistake.span().map_or(0, |span| span.start);
        let found = mistake.span().and_then(|span| findings.text().get(span));
        let message = syntax(mistake.message(), found.unwrap_or_default());
        let path = "syntax".to_owned();
        findings.add(Kind::Syntax, &Place { offset, path }, message);
    }
    document
}

/// Every key that a file may have, as `pools.NAME.members[].backend`; sorted.
pub fn known_keys() -> Vec<String> {
    survey().keys()
}

/// Every key that a file may have, and what each takes.
pub fn survey() -> survey::Survey {
    let findings = Findings::new("");
    let reading = Reading::survey(&findings);
    sections(Table::root(&reading, None));
    reading.into_survey()
}

fn sections(root: Table<'_, '_>) -> File {
    let file = File {
        server: server::server(&root.field("server")),
        gateway: server::gateway(&root.field("gateway")),
        redis: root.field("redis").table().map(records::redis),
        jwt: root.field("jwt").table().map(identity::jwt),
        apis: named(&root, "apis", routing::api),
        products: named(&root, "products", routing::product),
        subscriptions: named(&root, "subscriptions", routing::subscription),
        backends: named(&root, "backends", backend::backend),
        pools: named(&root, "pools", pool::pool),
        policies: policy::policies(&root),
        records: records::records(&root),
        outline: Outline::default(),
    };
    root.finish();
    file
}

/// The entries of a section whose keys are names.
fn named<'r, 't, T>(
    root: &Table<'r, 't>,
    section: &'static str,
    read: impl Fn(Located<String>, Table<'r, 't>) -> T,
) -> Vec<T> {
    let tables = root.field(section).named_tables();
    let mut things = Vec::new();
    for (name, table) in tables {
        let characters = name.value.chars().count();
        if !(1..=MAX_NAME_CHARACTERS).contains(&characters) || name.value.contains(char::is_control)
        {
            let message = format!(
                "found a name of {characters} characters, expected 1 to {MAX_NAME_CHARACTERS} without control characters"
            );
            table.findings().error(&name.place, message);
        }
        things.push(read(name, table));
    }
    things
}

/// What the parser says, in our words where its own mislead.
fn syntax(message: &str, found: &str) -> String {
    match message {
        "string values must be quoted, expected literal string" if found.is_empty() => {
            "found no value, expected one after \"=\"".to_owned()
        }
        "string values must be quoted, expected literal string" => {
            "found a value without quotes, expected text in quotes, a number, true or false"
                .to_owned()
        }
        "duplicate key" => {
            format!("found \"{found}\" a second time, expected each key and table once")
        }
        other => {
            let other = other.trim_end_matches(", expected nothing");
            let number = other.starts_with("invalid float") || other.starts_with("invalid integer");
            let advice = if number {
                "; text stands in quotes"
            } else {
                ""
            };
            format!("{other}{advice}")
        }
    }
}

/// Names are label values of metrics and part of log lines.
const MAX_NAME_CHARACTERS: usize = 128;
