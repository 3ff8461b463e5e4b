//! A value that fits a JSON schema: for arguments of tool calls and for structured answers.
//!
//! It knows the part of JSON Schema that the endpoints accept (types, enum, const, anyOf, $ref into the same document,
//! items, minItems, minimum, minLength, common formats). It gives the smallest sensible value, the same each time; it
//! ignores `pattern`.

use serde_json::{Map, Value, json};

/// The smallest sensible value for this schema.
pub(crate) fn example(schema: &Value) -> Value {
    fill(schema, schema, 0)
}

/// Deeper than this only what is required is filled; much deeper nothing is.
const FULL_DEPTH: usize = 4;
const MAX_DEPTH: usize = 16;

fn fill(root: &Value, schema: &Value, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return Value::Null;
    }
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let found = root
            .pointer(target.trim_start_matches('#'))
            .unwrap_or(&Value::Null);
        return fill(root, found, depth + 1);
    }
    if let Some(value) = schema.get("const").or_else(|| schema.get("enum")?.get(0)) {
        return value.clone();
    }
    for union in ["anyOf", "oneOf", "allOf"] {
        if let Some(choices) = schema.get(union).and_then(Value::as_array) {
            let choice = choices
                .iter()
                .find(|choice| choice.get("type") != Some(&json!("null")));
            return choice.map_or(Value::Null, |choice| fill(root, choice, depth + 1));
        }
    }
    match type_of(schema) {
        "object" => object(root, schema, depth),
        "array" => array(root, schema, depth),
        "string" => string(schema),
        "integer" => json!(schema.get("minimum").and_then(Value::as_i64).unwrap_or(1)),
        "number" => json!(schema.get("minimum").and_then(Value::as_f64).unwrap_or(1.5)),
        "boolean" => json!(true),
        _ => Value::Null,
    }
}

fn type_of(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(name)) => name,
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(Value::as_str)
            .find(|name| *name != "null")
            .unwrap_or("null"),
        _ if schema.get("properties").is_some() => "object",
        _ if schema.get("items").is_some() => "array",
        _ => "object",
    }
}

fn object(root: &Value, schema: &Value, depth: usize) -> Value {
    let mut filled = Map::new();
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| {
        required.is_some_and(|names| names.iter().any(|each| each.as_str() == Some(name)))
    };
    for (name, property) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if depth < FULL_DEPTH || is_required(name) {
            filled.insert(name.clone(), fill(root, property, depth + 1));
        }
    }
    Value::Object(filled)
}

fn array(root: &Value, schema: &Value, depth: usize) -> Value {
    let least = schema
        .get("minItems")
        .and_then(Value::as_u64)
        .unwrap_or(u64::from(depth < FULL_DEPTH));
    let item = schema
        .get("items")
        .map_or(Value::Null, |items| fill(root, items, depth + 1));
    Value::Array((0..least.min(MAX_ITEMS)).map(|_| item.clone()).collect())
}

/// A bound on what `minItems` and `minLength` can ask for.
const MAX_ITEMS: u64 = 100;

fn string(schema: &Value) -> Value {
    let text = match schema.get("format").and_then(Value::as_str) {
        Some("date") => "2025-01-01",
        Some("date-time") => "2025-01-01T00:00:00Z",
        Some("time") => "00:00:00Z",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        Some("email") => "simulator@example.com",
        Some("uri") => "https://example.com",
        Some(_) | None => "simulated",
    };
    let least = schema
        .get("minLength")
        .and_then(Value::as_u64)
        .unwrap_or(0)
        .min(MAX_ITEMS);
    let missing = usize::try_from(least)
        .unwrap_or(0)
        .saturating_sub(text.len());
    Value::String(text.to_owned() + &"x".repeat(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_has_every_required_field_of_its_type() {
        let schema = json!({"type": "object", "required": ["city", "days", "units", "tags", "place"],
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 3},
                "units": {"enum": ["metric", "imperial"]}, "tags": {"type": "array", "items": {"type": "boolean"}},
                "place": {"$ref": "#/$defs/place"}, "note": {"anyOf": [{"type": "null"}, {"type": "string"}]}},
            "$defs": {"place": {"type": "object", "properties": {"latitude": {"type": ["number", "null"]}}}}});
        let expected = json!({"city": "simulated", "days": 3, "units": "metric", "tags": [true],
            "place": {"latitude": 1.5}, "note": "simulated"});
        assert_eq!(example(&schema), expected);
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = json!({"type": "object", "properties": {"child": {"$ref": "#"}}});
        assert!(example(&schema).is_object());
    }
}
