//! `tollgate import apim-policy`: a policy document of API Management as a configuration.
//!
//! Policies become the tables that do the same; backends, pools and breakers come from the template that
//! deployed them. What has no counterpart is told twice, in a comment where it would stand and on standard
//! error with its place, so that a person can decide. A table that would do something else than the policy
//! did (another counter key, another condition) is printed as a comment, never in force.

mod asked;
mod backends;
mod print;
mod raw;
mod read;
mod route;
mod tables;
mod tokens;

use super::arm;
use super::endpoint;
use super::{ImportError, Imported};
use crate::command::key;
use crate::config::secret::Environment;

/// Arguments of `import apim-policy`.
#[derive(Debug, Clone, clap::Args)]
pub struct PolicyArguments {
    /// The policy document, as API Management shows it.
    #[arg(value_name = "FILE.xml")]
    file: String,
    /// An ARM template with the backends, as `bicep build` writes it.
    #[arg(long, value_name = "FILE.json")]
    backends: Option<String>,
    /// Where backends are whose URL isn't in the template.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// What the API and the subscription are called.
    #[arg(long, default_value = "imported")]
    name: String,
    /// The environment variable with the backends' key, in place of the managed identity of the policy.
    #[arg(long, value_name = "NAME")]
    api_key_env: Option<String>,
}

/// The configuration for a policy document.
pub fn import(
    arguments: &PolicyArguments,
    environment: &dyn Environment,
) -> Result<Imported, ImportError> {
    let text = super::read(environment, &arguments.file)?;
    let policy = read::read(&arguments.file, &text)?;
    let found = match &arguments.backends {
        Some(file) => arm::read(file, &super::read(environment, file)?)?,
        None => arm::Backends::default(),
    };
    let endpoint = arguments
        .endpoint
        .as_deref()
        .map(endpoint::normal)
        .transpose()?;
    let new = key::generate().map_err(|error| ImportError::new(format!("no key: {error}")))?;
    let file = print::File {
        arguments,
        policy: &policy,
        found: &found,
        endpoint: endpoint.as_deref(),
        key_hash: &new.sha256,
    };
    let printed = file.print();
    let notes = printed.remarks.iter().map(|remark| {
        let (line, column) = remark.at;
        match line {
            0 => remark.said.clone(),
            _ => format!("{}:{line}:{column}: {}", arguments.file, remark.said),
        }
    });
    Ok(Imported {
        text: printed.text,
        notes: notes.collect(),
        key: (arguments.name.clone(), new.key),
    })
}
