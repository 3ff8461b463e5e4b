//! `operations` of an API: names of the schema resolved, listed ones made ready to be matched.
//!
//! An id is kept for the life of the process, once. It is a label of metrics, which keep every label set
//! that they ever had; so this adds nothing to what a reload with other ids costs, and lets the hot path
//! pass ids around as it does those of the schema.

use std::collections::BTreeSet;

use filters::route::{Listed, Schema, operations};
use parking_lot::Mutex;

use super::super::error::{Located, position, suggestion};
use super::super::file::routing::{ListedOperation, Operation};
use super::super::plan::Operations;
use super::Loader;

/// The operations of an API that lists some.
pub(super) fn offered(loader: &Loader<'_>, entries: &[Operation], schema: Schema) -> Operations {
    let mut offered = Operations::default();
    let mut places: Vec<usize> = Vec::new();
    for entry in entries {
        match entry {
            Operation::Known(name) => offered.known.extend(known(loader, name, schema)),
            Operation::Listed(entry) => {
                let Some(listed) = listed(loader, entry) else {
                    continue;
                };
                let same = |(other, _): &(&Listed, &usize)| other.is_same_call(&listed);
                match offered.listed.iter().zip(&places).find(same) {
                    Some((_, offset)) => report_second(loader, &entry.path, *offset),
                    None => {
                        offered.listed.push(listed);
                        places.push(entry.path.place.offset);
                    }
                }
            }
        }
    }
    let literal = |listed: &Listed| std::cmp::Reverse(listed.literal_segments());
    offered.listed.sort_by_key(literal);
    offered
}

fn known(loader: &Loader<'_>, name: &Located<String>, schema: Schema) -> Option<&'static str> {
    let known = operations(schema);
    let found = known.iter().find(|known| **known == name.value);
    if found.is_none() {
        let near = suggestion(&name.value, known.iter().copied());
        let schema = schema.as_str();
        let message = format!(
            "unknown operation \"{}\" of schema \"{schema}\"{near}",
            name.value
        );
        loader.findings.error(&name.place, message);
    }
    found.copied()
}

fn listed(loader: &Loader<'_>, entry: &ListedOperation) -> Option<Listed> {
    let id = &entry.id;
    let characters = id.value.chars().count();
    if characters > MAX_ID_CHARACTERS || id.value.contains(char::is_control) {
        let message = format!(
            "found an id of {characters} characters, expected 1 to {MAX_ID_CHARACTERS} without control characters"
        );
        loader.findings.error(&id.place, message);
        return None;
    }
    match Listed::new(kept(&id.value), entry.method, &entry.path.value) {
        Ok(listed) => Some(listed),
        Err(error) => {
            let message = format!("found \"{}\": {error}", entry.path.value.escape_debug());
            loader.findings.error(&entry.path.place, message);
            None
        }
    }
}

fn report_second(loader: &Loader<'_>, path: &Located<String>, earlier: usize) {
    let (line, _) = position(loader.findings.text(), earlier);
    let message = format!(
        "found \"{}\" a second time with this method, expected each call once; line {line} lists it",
        path.value
    );
    loader.findings.error(&path.place, message);
}

/// The same text, for good.
fn kept(id: &str) -> &'static str {
    let mut ids = IDS.lock();
    if let Some(known) = ids.get(id) {
        return known;
    }
    let kept: &'static str = Box::leak(Box::from(id));
    ids.insert(kept);
    kept
}

/// Grows only by ids that a configuration was loaded with.
static IDS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
/// An id is a label value and part of log lines.
const MAX_ID_CHARACTERS: usize = 128;
