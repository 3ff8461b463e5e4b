//! An OpenAPI document, as far as an import needs it: what it is called, where it stands, its operations.
//!
//! JSON and YAML are read into one tree first. The rest of such a document (schemas, examples) says nothing
//! that a gateway decides by, so it isn't looked at: an odd schema is no reason to refuse a document.

use std::collections::BTreeSet;

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value};

use super::ImportError;
use crate::config::secret::Environment;

/// What a document says.
#[derive(Debug, PartialEq, Eq)]
pub struct Document {
    /// The file that it was read from.
    pub file: String,
    /// `info.title`, maybe empty.
    pub title: String,
    /// `info.version`, maybe empty.
    pub version: String,
    /// The path of its first server, without a `/` at the end.
    pub base: String,
    /// In the order of their paths.
    pub operations: Vec<Operation>,
}

/// One path and method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its `operationId`, or one made of method and path.
    pub id: String,
    /// In capitals.
    pub method: String,
    /// Below the server's, from a `/` on.
    pub path: String,
}

/// Reads a document.
pub fn read(environment: &dyn Environment, file: &str) -> Result<Document, ImportError> {
    let text = super::read(environment, file)?;
    let tree = tree(file, &text)?;
    let wrong = |what: &str| ImportError::new(format!("{file}: {what}"));
    let says = |pointer: &str| tree.pointer(pointer).map(shown).unwrap_or_default();
    let version = says("/openapi");
    if !version.starts_with("3.") {
        let found = match (version.is_empty(), says("/swagger")) {
            (true, swagger) if swagger.is_empty() => "found no \"openapi\"".to_owned(),
            (true, swagger) => format!("found \"swagger\": {swagger}"),
            (false, _) => format!("found \"openapi\": {version}"),
        };
        return Err(wrong(&format!("{found}, expected an OpenAPI 3 document")));
    }
    let server = says("/servers/0/url");
    let base = base(&server).ok_or_else(|| {
        wrong(&format!(
            "servers[0].url: found \"{server}\", expected a URL or a path"
        ))
    })?;
    let paths = tree.get("paths").and_then(Value::as_object);
    let paths = paths.ok_or_else(|| wrong("found no \"paths\", expected the operations"))?;
    let operations = operations(paths);
    if operations.is_empty() {
        return Err(wrong(
            "found no operation in \"paths\", expected at least one",
        ));
    }
    Ok(Document {
        file: file.to_owned(),
        title: says("/info/title"),
        version: says("/info/version"),
        base,
        operations,
    })
}

fn operations(paths: &Map<String, Value>) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, item) in paths {
        let methods = item.as_object().into_iter().flatten();
        for (method, operation) in methods.filter(|(method, _)| METHODS.contains(&method.as_str()))
        {
            let id = operation.get("operationId").and_then(Value::as_str);
            let id = id.map(str::trim).filter(|id| !id.is_empty());
            operations.push(Operation {
                id: id.map_or_else(|| made(method, path), str::to_owned),
                method: method.to_ascii_uppercase(),
                path: path.clone(),
            });
        }
    }
    operations
}

/// An id for an operation that has none: `get-files-file_id`.
fn made(method: &str, path: &str) -> String {
    let is_kept = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = path.split(|c| !is_kept(c)).filter(|word| !word.is_empty());
    let words: Vec<&str> = std::iter::once(method).chain(words).collect();
    words.join("-")
}

/// The path of a server's URL; `{...}` in its host is left to whoever calls.
fn base(server: &str) -> Option<String> {
    let path = match server.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
        None if server.starts_with('/') => server,
        None => return None,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    Some(path.trim_end_matches('/').to_owned())
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    }
}

/// JSON begins with a brace; whatever doesn't is YAML.
fn tree(file: &str, text: &str) -> Result<Value, ImportError> {
    let text = text.trim_start_matches('\u{feff}');
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let said = error.to_string();
            let said = said
                .split(" at line ")
                .next()
                .unwrap_or_default()
                .to_owned();
            ImportError::new(format!("{file}:{line}:{column}: not JSON: {said}"))
        });
    }
    let documents = Yaml::load_from_str(text).map_err(|error| {
        let (line, column) = (error.marker().line(), error.marker().col() + 1);
        ImportError::new(format!(
            "{file}:{line}:{column}: not YAML: {}",
            error.info()
        ))
    })?;
    Ok(documents.first().map_or(Value::Null, |yaml| json(yaml, 0)))
}

/// YAML as JSON. What JSON hasn't (keys that aren't scalars) is left out: OpenAPI hasn't it either.
fn json(yaml: &Yaml<'_>, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return Value::Null;
    }
    match yaml {
        Yaml::Value(scalar) => self::scalar(scalar),
        Yaml::Sequence(elements) => elements
            .iter()
            .map(|value| json(value, depth + 1))
            .collect(),
        Yaml::Mapping(entries) => {
            let entry = |(key, value): (&Yaml<'_>, &Yaml<'_>)| {
                let Yaml::Value(key) = key else { return None };
                Some((shown(&self::scalar(key)), json(value, depth + 1)))
            };
            Value::Object(entries.iter().filter_map(entry).collect())
        }
        Yaml::Tagged(_, value) => json(value, depth + 1),
        Yaml::Representation(..) | Yaml::Alias(_) | Yaml::BadValue => Value::Null,
    }
}

fn scalar(scalar: &Scalar<'_>) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(flag) => Value::Bool(*flag),
        Scalar::Integer(number) => Value::from(*number),
        Scalar::FloatingPoint(number) => Value::from(number.into_inner()),
        Scalar::String(text) => Value::String(text.to_string()),
    }
}

/// Ids that more than one operation has.
pub fn shared_ids(operations: &[Operation]) -> BTreeSet<&str> {
    let mut seen = BTreeSet::new();
    let ids = operations.iter().map(|operation| operation.id.as_str());
    ids.filter(|id| !seen.insert(*id)).collect()
}

/// As OpenAPI has them, but `trace`, which no proxy passes.
const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];
/// No real document is near this deep; its schemas are some ten levels.
const MAX_DEPTH: usize = 100;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::secret::System;

    fn of(text: &str) -> Result<Document, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().to_str().unwrap();
        read(&System::at(0), path).map_err(|error| error.to_string().replace(path, "FILE"))
    }

    #[test]
    fn json_and_yaml_say_the_same() {
        let json = r#"{"openapi": "3.0.1", "info": {"title": "T", "version": "2024-10-21"},
            "servers": [{"url": "https://{endpoint}/openai/v1/"}],
            "paths": {"/files/{file_id}": {"parameters": [], "get": {"operationId": "Get"}, "delete": {}}}}"#;
        let yaml = "openapi: 3.0.1\ninfo:\n  title: T\n  version: 2024-10-21\nservers:\n- url: https://{endpoint}/openai/v1/\n\
                    paths:\n  /files/{file_id}:\n    parameters: []\n    get:\n      operationId: Get\n    delete: {}\n";
        let (mut json, yaml) = (of(json).unwrap(), of(yaml).unwrap());
        json.file.clone_from(&yaml.file);
        assert_eq!(json, yaml);
        assert_eq!(
            (json.base.as_str(), json.version.as_str()),
            ("/openai/v1", "2024-10-21")
        );
        let told: Vec<String> = json
            .operations
            .iter()
            .map(|operation| format!("{} {} {}", operation.id, operation.method, operation.path))
            .collect();
        assert_eq!(
            told,
            [
                "delete-files-file_id DELETE /files/{file_id}",
                "Get GET /files/{file_id}"
            ]
        );
    }

    #[test]
    fn what_is_no_document_is_told() {
        let told = |text: &str| of(text).unwrap_err();
        assert_eq!(
            told("{\n  \"openapi\": x}"),
            "FILE:2:14: not JSON: expected value"
        );
        assert_eq!(
            told("a: [1\nb: 2"),
            "FILE:2:2: not YAML: illegal placement of ':' indicator"
        );
        assert_eq!(
            told("hello"),
            "FILE: found no \"openapi\", expected an OpenAPI 3 document"
        );
        assert_eq!(
            told("swagger: '2.0'"),
            "FILE: found \"swagger\": 2.0, expected an OpenAPI 3 document"
        );
        assert_eq!(
            told("openapi: 3.0.0\nservers: [{url: here}]"),
            "FILE: servers[0].url: found \"here\", expected a URL or a path"
        );
        assert_eq!(
            told("openapi: 3.0.0\nservers: [{url: /openai}]\npaths: {/x: {summary: s}}"),
            "FILE: found no operation in \"paths\", expected at least one"
        );
    }

    #[test]
    fn aliases_that_multiply_are_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            text.push_str(&format!("a{level}: &a{level} [{before}]\n"));
        }
        assert!(told_or_small(&text));
    }

    fn told_or_small(text: &str) -> bool {
        of(text).is_err()
    }
}
