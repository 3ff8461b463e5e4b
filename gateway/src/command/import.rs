//! `tollgate import`: a configuration from what is there already.
//!
//! Each import prints a whole file that `check` accepts, to standard output, and nothing if it can't; notes
//! and the one new key go to standard error. The key itself is in no file: the configuration holds its hash.

mod arm;
mod azure;
mod cel;
mod csharp;
mod document;
mod endpoint;
mod policy;
mod toml_text;

use std::fmt;
use std::io::{self, Write};

use clap::Subcommand;

use crate::config::secret::Environment;

pub use azure::AzureArguments;
pub use policy::PolicyArguments;

/// What is imported.
#[derive(Subcommand)]
pub enum ImportCommand {
    /// From an Azure OpenAI resource: its endpoint, and its OpenAPI document if you have it.
    AzureOpenai(AzureArguments),
    /// From a policy document of Azure API Management, and the template of its backends.
    ApimPolicy(PolicyArguments),
}

/// Why nothing was printed: a wrong argument or input.
#[derive(Debug)]
pub struct ImportError(String);

impl ImportError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What an import gives.
#[derive(Debug)]
struct Imported {
    /// The configuration.
    text: String,
    /// For whoever runs the command, one a line.
    notes: Vec<String>,
    /// Whose key was made, and the key.
    key: (String, String),
}

/// Imports, and prints: the file to `out`, notes and the new key to `errors`.
///
/// # Errors
/// What is wrong, inside; that `out` or `errors` can't be written, outside.
pub fn import(
    command: &ImportCommand,
    environment: &dyn Environment,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> io::Result<Result<(), ImportError>> {
    let imported = match command {
        ImportCommand::AzureOpenai(arguments) => azure::import(arguments, environment),
        ImportCommand::ApimPolicy(arguments) => policy::import(arguments, environment),
    };
    let imported = match imported {
        Ok(imported) => imported,
        Err(error) => return Ok(Err(error)),
    };
    for note in &imported.notes {
        writeln!(errors, "note: {note}")?;
    }
    let (subscription, key) = &imported.key;
    writeln!(
        errors,
        "key of subscription \"{subscription}\", for the caller (it is not kept anywhere):\n  {key}"
    )?;
    out.write_all(imported.text.as_bytes())?;
    Ok(Ok(()))
}

/// A file that an argument names.
fn read(environment: &dyn Environment, path: &str) -> Result<String, ImportError> {
    let unreadable = |reason: String| ImportError::new(format!("can't read \"{path}\": {reason}"));
    let bytes = environment.read(path).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8 text".to_owned()))
}
