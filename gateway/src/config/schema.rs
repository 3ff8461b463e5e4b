//! The configuration's JSON Schema, for editors.
//!
//! Made of what the reader itself asks for ([`all_keys`]), so it holds each key, kind, word and range that the
//! reader does, and refuses each other key. It can't know what takes two keys to tell (a quota needs a
//! period) or what is read later (names, expressions, URLs): `check` says those. The descriptions are the first
//! sentences of the reference in the manual.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::file::survey as all_keys;
use super::file::survey::{Met, Shape};

/// The schema, each key described by its entry in `reference`.
pub fn schema(reference: &str) -> Value {
    let mut root = Node::default();
    for (path, met) in all_keys().into_met() {
        let description = description(reference, &path);
        let node = steps(&path).into_iter().fold(&mut root, Node::child);
        node.met = met;
        node.description = description;
    }
    let mut schema = root.table();
    schema.insert(
        "$schema".to_owned(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    schema.insert("title".to_owned(), json!("Configuration of Tollgate"));
    Value::Object(schema)
}

/// The first sentence of `**\`path\`** (kind) Sentence. **Range**: ...`.
fn description(reference: &str, path: &str) -> Option<String> {
    let entry = reference.split_once(&format!("**`{path}`** ("))?.1;
    let sentence = entry.split_once(") ")?.1;
    let end = ["\n\n", " **", "\n**"]
        .iter()
        .filter_map(|end| sentence.find(end))
        .min()?;
    let words: Vec<&str> = sentence[..end].split_whitespace().collect();
    Some(words.join(" ").replace('`', ""))
}

/// `pools.NAME.members[].backend` is `pools`, `NAME`, `members`, `[]`, `backend`.
fn steps(path: &str) -> Vec<&str> {
    let mut steps = Vec::new();
    for step in path.split('.') {
        let name = step.trim_end_matches("[]");
        let arrays = (step.len() - name.len()) / 2;
        steps.extend(Some(name).filter(|name| !name.is_empty()));
        steps.extend(std::iter::repeat_n("[]", arrays));
    }
    steps
}

/// One place in a file.
#[derive(Default)]
struct Node {
    met: Met,
    description: Option<String>,
    children: BTreeMap<String, Node>,
}

impl Node {
    fn child<'n>(&'n mut self, step: &str) -> &'n mut Node {
        self.children.entry(step.to_owned()).or_default()
    }

    fn value(&self) -> Value {
        let mut alternatives: Vec<Value> =
            self.met.shapes.iter().map(|shape| self.of(shape)).collect();
        let mut schema = match alternatives.len() {
            0 => Map::new(),
            1 => match alternatives.pop() {
                Some(Value::Object(schema)) => schema,
                Some(_) | None => Map::new(),
            },
            _ => Map::from_iter([("anyOf".to_owned(), Value::Array(alternatives))]),
        };
        if let Some(description) = &self.description {
            schema.insert("description".to_owned(), json!(description));
        }
        Value::Object(schema)
    }

    fn of(&self, shape: &Shape) -> Value {
        match shape {
            Shape::Text => json!({"type": "string", "minLength": 1}),
            Shape::TextOrEmpty => json!({"type": "string"}),
            Shape::Flag => json!({"type": "boolean"}),
            Shape::Integer(least, most) => {
                json!({"type": "integer", "minimum": least, "maximum": most})
            }
            Shape::Number(least, most) => {
                json!({"type": "number", "minimum": least, "maximum": most})
            }
            Shape::Duration => json!({"type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$"}),
            Shape::Size => json!({"type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB|KB|MB|GB)$"}),
            Shape::Choice(words) => json!({"enum": words}),
            Shape::Table => Value::Object(self.table()),
            Shape::Named => json!({"type": "object", "additionalProperties": self.at("NAME")}),
            Shape::Array => json!({"type": "array", "items": self.at("[]")}),
            Shape::StatusCodeRanges => {
                let code = json!({"type": "integer", "minimum": 100, "maximum": 599});
                let pair = json!({"type": "array", "items": code, "minItems": 2, "maxItems": 2});
                json!({"type": "array", "items": pair, "minItems": 1})
            }
        }
    }

    fn at(&self, step: &str) -> Value {
        self.children
            .get(step)
            .map_or_else(|| json!({}), Node::value)
    }

    fn table(&self) -> Map<String, Value> {
        let keys = self.children.iter().filter(|(_, child)| child.met.is_key);
        let required = keys.clone().filter(|(_, child)| child.met.is_required);
        let required: Vec<&String> = required.map(|(key, _)| key).collect();
        let properties: Map<String, Value> = keys
            .map(|(key, child)| (key.clone(), child.value()))
            .collect();
        let mut table = Map::new();
        table.insert("type".to_owned(), json!("object"));
        table.insert("properties".to_owned(), Value::Object(properties));
        table.insert("additionalProperties".to_owned(), json!(false));
        if !required.is_empty() {
            table.insert("required".to_owned(), json!(required));
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        assert_eq!(
            steps("pools.NAME.members[].backend"),
            ["pools", "NAME", "members", "[]", "backend"]
        );
        assert_eq!(steps("a[][].b"), ["a", "[]", "[]", "b"]);
    }

    #[test]
    fn a_description_is_the_first_sentence_of_the_entry() {
        let reference = "**`a.b`** (text; required) What it\nis `so`. **Range**: any.\n\n**`a`** (table) All of it.\n\n";
        assert_eq!(
            description(reference, "a.b").as_deref(),
            Some("What it is so.")
        );
        assert_eq!(description(reference, "a").as_deref(), Some("All of it."));
        assert_eq!(description(reference, "c"), None);
    }
}
