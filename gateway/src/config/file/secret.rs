//! `{ env = "NAME" }`, `{ file = "/path" }`, for subscription keys `{ sha256 = "hex" }`, or the text itself.
//!
//! Reading says where a secret is; `load` fetches it. No message here repeats the text.

use super::super::error::{Located, Place};
use super::super::secret::Secret;
use super::field::Field;
use super::nested::TextOrTable;
use super::table::Table;

/// Where a secret comes from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// It stands in the file.
    Literal(Secret),
    /// An environment variable.
    Variable(String),
    /// A file; a line break at its end isn't part of the secret.
    File(String),
    /// Not the secret, but its SHA-256, in hex.
    Sha256(String),
}

/// Reads a credential.
pub fn secret(field: &Field<'_, '_, '_>) -> Option<Located<Origin>> {
    read(field, CREDENTIAL, Hashed::Refused)
}

/// Reads a subscription's key, of which the hash is enough.
pub fn key(field: &Field<'_, '_, '_>) -> Option<Located<Origin>> {
    read(field, KEY, Hashed::Accepted)
}

/// Reads a URL that may hold a password.
pub fn url(field: &Field<'_, '_, '_>) -> Option<Located<Origin>> {
    read(field, URL, Hashed::Refused)
}

/// Whether a hash will do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hashed {
    Accepted,
    Refused,
}

fn read(field: &Field<'_, '_, '_>, expected: &str, hashed: Hashed) -> Option<Located<Origin>> {
    let read = field.text_or_table(expected);
    if !matches!(read, Some(TextOrTable::Table(_))) {
        field.hide();
    }
    match read? {
        TextOrTable::Text(text) => match Secret::for_header(text.value) {
            Ok(secret) => Some(Located {
                value: Origin::Literal(secret),
                place: text.place,
            }),
            Err(error) => {
                field.refuse(&error.to_string());
                None
            }
        },
        TextOrTable::Table(table) => origin(table, expected, hashed),
    }
}

fn origin(table: Table<'_, '_>, expected: &str, hashed: Hashed) -> Option<Located<Origin>> {
    let place: Place = table.place().clone();
    let variable = table.field("env").text();
    let file = table.field("file").text();
    let sha256 = match hashed {
        Hashed::Accepted => {
            let field = table.field("sha256");
            field.hide();
            field.text()
        }
        Hashed::Refused => None,
    };
    let is_there = |key| table.field(key).is_there();
    let mut keys = usize::from(is_there("env")) + usize::from(is_there("file"));
    if hashed == Hashed::Accepted {
        keys += usize::from(is_there("sha256"));
    }
    // Another key than these is reported as unknown.
    if keys > 1 || table.is_empty() {
        table.refuse(&format!("expected {expected}, with one key"));
    }
    table.finish();
    let variable = variable.map(|text| Origin::Variable(text.value));
    let file = file.map(|text| Origin::File(text.value));
    let sha256 = sha256.map(|text| Origin::Sha256(text.value));
    let value = variable.or(file).or(sha256)?;
    Some(Located { value, place })
}

const CREDENTIAL: &str = "{ env = \"NAME\" } or { file = \"/path\" }";
const URL: &str = "a URL, { env = \"NAME\" } or { file = \"/path\" }";
const KEY: &str = "{ env = \"NAME\" }, { file = \"/path\" } or { sha256 = \"hex\" }";
