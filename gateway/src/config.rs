//! The configuration: from a text to a [`Plan`](plan::Plan), or to every mistake in it.
//!
//! Three levels, each blind to the next but one: `file` is what the user wrote, `load` is the bridge, `plan` is
//! what the program uses. `check` and `run` call the same [`load`], so what checks well runs. Nothing here
//! binds a port, keeps state or knows of Pingora.

pub mod error;
pub mod file;
pub mod inputs;
mod load;
pub mod outline;
pub mod plan;
pub mod schema;
pub mod secret;

use std::fmt;
use std::io::Read;

use filters::price::PriceList;

use error::{Errors, Findings};
use inputs::{Input, Noting};
use plan::{Endpoint, Plan};
use secret::{Environment, plain};

/// A configuration's text and what to call it in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file's name, as the user gave it.
    pub name: String,
    /// All of it.
    pub text: String,
}

impl Source {
    /// Reads a file, or standard input where the path is `-`.
    pub fn read(path: &str) -> Result<Self, Unreadable> {
        let unreadable = |reason: String| Unreadable {
            path: path.to_owned(),
            reason,
        };
        let mut bytes = Vec::new();
        let input: Box<dyn Read> = if path == "-" {
            Box::new(std::io::stdin())
        } else {
            Box::new(std::fs::File::open(path).map_err(|error| unreadable(plain(&error)))?)
        };
        let mut bounded = input.take(MAX_TEXT_BYTES + 1);
        let read = bounded.read_to_end(&mut bytes);
        read.map_err(|error| unreadable(plain(&error)))?;
        if bytes.len() as u64 > MAX_TEXT_BYTES {
            return Err(unreadable(format!(
                "it is larger than {MAX_TEXT_BYTES} bytes"
            )));
        }
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| unreadable("it is not UTF-8 text".to_owned()))?;
        let name = if path == "-" { "stdin" } else { path };
        let name = name.to_owned();
        Ok(Self { name, text })
    }
}

/// A configuration that can't be read at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// As the user gave it.
    pub path: String,
    /// In words.
    pub reason: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "can't read \"{}\": {}", self.path, self.reason)
    }
}

impl std::error::Error for Unreadable {}

/// Loads a configuration, or says everything that is wrong with it.
///
/// Reads the secrets and files that it names. A plan may hold features that this version hasn't
/// ([`Plan::pending`]): whoever wants to run it must refuse those.
pub fn load(source: &Source, environment: &dyn Environment) -> Result<Plan, Errors> {
    load_noting(source, environment).0
}

/// As [`load`], and says what was read for it, whether it could be used or not.
pub fn load_noting(
    source: &Source,
    environment: &dyn Environment,
) -> (Result<Plan, Errors>, Vec<Input>) {
    let noting = Noting::new(source, environment);
    let loaded = load_from(source, &noting);
    let inputs = noting.into_inputs();
    let noted = loaded.map(|plan| Plan {
        inputs: inputs.clone(),
        ..plan
    });
    (noted, inputs)
}

fn load_from(source: &Source, environment: &dyn Environment) -> Result<Plan, Errors> {
    let findings = Findings::new(&source.text);
    let file = file::read(&findings);
    // A text that isn't TOML hides names: resolving them would report what isn't wrong.
    let plan = if findings.has_syntax_errors() {
        None
    } else {
        load::plan(source, &file, &findings, environment)
    };
    let list = findings.errors();
    match plan {
        Some(plan) if list.is_empty() => Ok(plan),
        Some(_) | None => Err(Errors {
            file: source.name.clone(),
            list,
        }),
    }
}

/// A URL that is given by another than the configuration, taken apart: the same rules, and a query is allowed.
///
/// # Errors
/// What is expected.
pub fn site(url: &str) -> Result<(Endpoint, String), &'static str> {
    load::endpoint::site(url)
}

/// Loads a price list, or says everything that is wrong with it.
pub fn prices(source: &Source) -> Result<PriceList, Errors> {
    let findings = Findings::new(&source.text);
    let entries = file::prices::read(&findings);
    let list = load::prices::price_list(entries, &findings);
    let file = source.name.clone();
    let errors = findings.errors();
    match list {
        Some(found) if errors.is_empty() => Ok(found),
        Some(_) | None => Err(Errors { file, list: errors }),
    }
}

/// A configuration is text that people wrote or a program made from a list of deployments.
const MAX_TEXT_BYTES: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_that_is_not_there_or_not_text_is_told_by_its_name() {
        let error = Source::read("/nowhere/tollgate.toml").unwrap_err();
        assert_eq!(
            error.to_string(),
            "can't read \"/nowhere/tollgate.toml\": no such file or directory"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tollgate.toml");
        std::fs::write(&path, b"[server]\n# caf\xe9\n").unwrap();
        let error = Source::read(path.to_str().unwrap()).unwrap_err();
        assert_eq!(error.reason, "it is not UTF-8 text");
    }
}
