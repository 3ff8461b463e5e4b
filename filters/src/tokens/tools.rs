//! What declared functions and answer schemas cost.
//!
//! A provider doesn't show a model the JSON of its tools: it writes them as a TypeScript namespace. The
//! form was found by comparing with recorded usages; the constants around it are in `conversation`:
//!
//! ```text
//! namespace functions {
//!
//! // What the function does.
//! type name = (_: {
//! // The property's title
//! // What the property is. Lines after the first have no mark; none is indented.
//! property?: string, // default: x
//! of_several_types:
//!  | string // What it is.
//!  | null // What it is.
//! ,
//! list: string[],
//! objects: Array<
//! {
//! inner: "a" | "b",
//! }
//! >,
//! }) => any;
//!
//! } // namespace functions
//! ```
//!
//! Why there is a budget: a schema may name the same definition many times, each naming another many
//! times, so that a kilobyte would unfold into gigabytes. Each byte written and each member looked at is
//! paid from a budget in proportion to the body; when it is spent, writing stops and the count isn't certain.
//!
//! Never follows a reference deeper than `MAX_DEPTH`.

use std::collections::{BTreeMap, BTreeSet};

use super::bound::unfolded_max_bytes;
use super::json::{Node, Spacing};
use super::memo::{Counter, Memo};

/// A declared function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function<'a> {
    pub(super) name: &'a str,
    pub(super) description: Option<&'a str>,
    pub(super) parameters: Option<&'a Node<'a>>,
}

impl Function<'_> {
    /// Whether it takes any, or says which of none are required.
    pub(super) fn says_parameters(&self) -> bool {
        self.parameters
            .is_some_and(|schema| has_properties(schema) || schema.get("required").is_some())
    }
}

/// Types nested deeper than this are `any`.
const MAX_DEPTH: usize = 12;

/// What the declarations of functions cost.
pub(super) struct Declared {
    pub(super) tokens: u64,
    /// False: they unfold to more than is looked at.
    pub(super) all: bool,
    /// Whether a definition is named, so that the same bytes may be written many times.
    pub(super) unfolds: bool,
}

/// What functions cost that were declared in a body of so many bytes.
pub(super) fn declarations<M: Memo>(
    counter: Counter<'_, M>,
    functions: &[Function<'_>],
    body_bytes: usize,
) -> Declared {
    let mut namespace = Namespace::new(unfolded_max_bytes(body_bytes));
    namespace.put("namespace functions {\n\n");
    for function in functions {
        namespace.function(function);
    }
    namespace.put("} // namespace functions");
    let tokens = counter.count(&namespace.text);
    Declared {
        tokens: tokens.saturating_sub(namespace.bare),
        all: !namespace.spent(),
        unfolds: namespace.unfolds,
    }
}

/// Tokens of the schema that an answer must follow.
///
/// Titles and `additionalProperties` aren't shown to the model.
pub(super) fn answer_schema<M: Memo>(counter: Counter<'_, M>, schema: Option<&Node<'_>>) -> u64 {
    let mut text = String::new();
    match schema {
        Some(schema) => schema.write(Spacing::Compact, is_shown, &mut text),
        None => text.push_str("{}"),
    }
    counter.count(&text)
}

fn is_shown(key: &str, value: &Node<'_>) -> bool {
    !(matches!(key, "title" | "additionalProperties")
        && matches!(value, Node::Text(_) | Node::Bool(_)))
}

/// The TypeScript being written.
struct Namespace<'a> {
    text: String,
    budget: usize,
    definitions: BTreeMap<&'a str, &'a Node<'a>>,
    /// Functions none of whose properties has words: each counts one token less.
    bare: u64,
    unfolds: bool,
}

impl<'a> Namespace<'a> {
    fn new(budget: usize) -> Self {
        Namespace {
            text: String::new(),
            budget,
            definitions: BTreeMap::new(),
            bare: 0,
            unfolds: false,
        }
    }

    fn spent(&self) -> bool {
        self.budget == 0
    }

    fn pay(&mut self, cost: usize) {
        self.budget = self.budget.saturating_sub(cost);
    }

    fn put(&mut self, text: &str) {
        self.pay(text.len());
        if !self.spent() {
            self.text.push_str(text);
        }
    }

    fn put_json(&mut self, value: &Node<'_>) {
        if !self.spent() {
            let before = self.text.len();
            value.write(Spacing::Spaced, |_, _| true, &mut self.text);
            let end = self.text.floor_char_boundary(before + self.budget);
            self.text.truncate(end);
            self.pay(end - before);
        }
    }

    fn comment(&mut self, text: &str) {
        self.put("//");
        let lines = text.trim_end().lines();
        for (index, line) in lines.enumerate() {
            self.put(if index == 0 { " " } else { "\n" });
            self.put(line.trim_start());
        }
        self.put("\n");
    }

    fn function(&mut self, function: &Function<'a>) {
        if let Some(description) = function.description.filter(|text| !text.is_empty()) {
            self.comment(description);
        }
        self.put("type ");
        self.put(function.name);
        match function.parameters.filter(|schema| has_properties(schema)) {
            None => self.put(" = () => any;\n\n"),
            Some(schema) => {
                self.definitions = definitions(schema);
                self.put(" = (_: {\n");
                self.words(schema);
                self.properties(schema, 0);
                self.put("}) => any;\n\n");
                if !has_words(schema) {
                    self.bare += 1;
                }
            }
        }
    }

    /// The properties of an object, a line each.
    fn properties(&mut self, object: &'a Node<'a>, depth: usize) {
        let required: BTreeSet<&str> = object
            .list("required")
            .iter()
            .filter_map(Node::as_text)
            .collect();
        let properties = object.get("properties").map_or(&[][..], Node::members);
        self.pay(object.list("required").len() + properties.len());
        for (name, property) in properties {
            if self.spent() {
                return;
            }
            self.words(property);
            self.put(name);
            self.put(if required.contains(name.as_ref()) {
                ": "
            } else {
                "?: "
            });
            self.kind(property, depth);
            self.put(",");
            if let Some(default) = property.member("default") {
                self.put(" // default: ");
                match default.as_text() {
                    Some(text) => self.put(text),
                    None => self.put_json(default),
                }
            }
            self.put("\n");
        }
    }

    /// The comments above a property.
    fn words(&mut self, property: &'a Node<'a>) {
        let meant = self.resolve(property);
        if let Some(title) = meant.text("title") {
            self.comment(title);
        }
        let described =
            |schema: &'a Node<'a>| schema.text("description").filter(|text| !text.is_empty());
        if let Some(description) = described(property).or_else(|| described(meant)) {
            self.comment(description);
        }
    }

    /// What a reference stands for; anything else stands for itself.
    fn resolve(&mut self, schema: &'a Node<'a>) -> &'a Node<'a> {
        let meant = match schema.text("$ref") {
            Some(path) => {
                self.unfolds = true;
                let name = path.rsplit('/').next().unwrap_or(path);
                self.definitions.get(name).copied().unwrap_or(&Node::Null)
            }
            None => schema,
        };
        // Each look at a member walks the object, so an object costs its width whenever it is visited.
        self.pay(schema.members().len() + meant.members().len());
        meant
    }

    /// The type of a value.
    fn kind(&mut self, schema: &'a Node<'a>, depth: usize) {
        if depth > MAX_DEPTH || self.spent() {
            return self.put("any");
        }
        let schema = self.resolve(schema);
        if let Some(values) = schema.get("enum") {
            return self.alternatives(values.items(), |namespace, value| namespace.put_json(value));
        }
        if let Some(value) = schema.member("const") {
            return self.put_json(value);
        }
        if let Some(choices) = schema.get("anyOf").or_else(|| schema.get("oneOf")) {
            return self.alternatives(choices.items(), |namespace, choice| {
                namespace.kind(choice, depth + 1);
            });
        }
        if let [only] = schema.list("allOf") {
            return self.kind(only, depth + 1);
        }
        match schema.get("type") {
            Some(Node::List(names)) => self.one_of(schema, names, depth),
            name => self.named(schema, name.and_then(Node::as_text), depth),
        }
    }

    /// The type of a value whose schema names one type, or none.
    fn named(&mut self, schema: &'a Node<'a>, name: Option<&str>, depth: usize) {
        match name {
            Some("integer" | "number") => self.put("number"),
            Some(name @ ("string" | "boolean" | "null")) => self.put(name),
            Some("array") => {
                match schema
                    .get("items")
                    .filter(|items| !items.members().is_empty())
                {
                    Some(items) if is_object(items) => {
                        self.put("Array<\n");
                        self.kind(items, depth + 1);
                        self.put("\n>");
                    }
                    Some(items) => {
                        self.kind(items, depth + 1);
                        self.put("[]");
                    }
                    None => self.put("any[]"),
                }
            }
            _ if has_properties(schema) => {
                self.put("{\n");
                self.properties(schema, depth + 1);
                self.put("}");
            }
            Some("object") => self.put("object"),
            Some(_) | None => self.put("any"),
        }
    }

    /// A value of one of several types: each on a line of its own, with the words again.
    fn one_of(&mut self, schema: &'a Node<'a>, names: &'a [Node<'a>], depth: usize) {
        for name in names {
            // The same object is looked at for each type.
            self.pay(schema.members().len());
            if self.spent() {
                return;
            }
            self.put("\n | ");
            self.named(schema, name.as_text(), depth + 1);
            if let Some(description) = schema.text("description") {
                self.put(" // ");
                self.put(description);
            }
        }
        self.put("\n");
    }

    fn alternatives(
        &mut self,
        items: &'a [Node<'a>],
        mut write: impl FnMut(&mut Self, &'a Node<'a>),
    ) {
        for (index, item) in items.iter().enumerate() {
            if self.spent() {
                return;
            }
            self.put(if index > 0 { " | " } else { "" });
            write(self, item);
        }
    }
}

/// Whether the items of a list are written on lines of their own.
fn is_object(items: &Node<'_>) -> bool {
    has_properties(items) || items.text("$ref").is_some()
}

fn has_properties(schema: &Node<'_>) -> bool {
    schema
        .get("properties")
        .is_some_and(|properties| !properties.members().is_empty())
}

/// Whether any property of a function has a description or a title.
fn has_words(schema: &Node<'_>) -> bool {
    let properties = schema.get("properties").map_or(&[][..], Node::members);
    properties.iter().any(|(_, property)| {
        ["description", "title"]
            .iter()
            .any(|word| property.text(word).is_some_and(|text| !text.is_empty()))
    })
}

/// What the references inside a function's schema may name.
fn definitions<'a>(schema: &'a Node<'a>) -> BTreeMap<&'a str, &'a Node<'a>> {
    ["$defs", "definitions"]
        .iter()
        .filter_map(|name| schema.get(name))
        .flat_map(|definitions| definitions.members())
        .map(|(name, definition)| (name.as_ref(), definition))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::json;
    use super::*;

    fn written(parameters: &str, budget: usize) -> (String, bool) {
        let node = json::parse(parameters.as_bytes()).unwrap();
        let mut namespace = Namespace::new(budget);
        namespace.function(&Function {
            name: "f",
            description: Some("Does it.\n\n    Slowly.\n"),
            parameters: Some(&node),
        });
        (namespace.text.clone(), namespace.spent())
    }

    #[test]
    fn a_schema_is_written_as_a_type() {
        let parameters = r##"{"type": "object", "description": "All of it.", "required": ["a"],
            "$defs": {"D": {"title": "Dee", "type": "object", "properties": {"x": {"const": 1}}}},
            "properties": {
                "a": {"type": "string", "title": "A", "description": "Says a.", "default": "q"},
                "b": {"type": ["string", "null"], "description": "Says b."},
                "c": {"enum": ["x", 2]},
                "d": {"$ref": "#/$defs/D"},
                "e": {"type": "array", "items": {"$ref": "#/$defs/D"}},
                "f": {"type": "array", "items": {"type": "integer"}, "default": [1, 2]},
                "g": {"anyOf": [{"type": "boolean"}, {"type": "object"}]},
                "h": {"$ref": "#/$defs/Missing"}}}"##;
        let expected = "// Does it.\n\nSlowly.\ntype f = (_: {\n// All of it.\n// A\n// Says a.\n\
            a: string, // default: q\n// Says b.\nb?: \n | string // Says b.\n | null // Says b.\n,\n\
            c?: \"x\" | 2,\n// Dee\nd?: {\nx?: 1,\n},\ne?: Array<\n{\nx?: 1,\n}\n>,\n\
            f?: number[], // default: [1, 2]\ng?: boolean | object,\nh?: any,\n}) => any;\n\n";
        assert_eq!(written(parameters, 10_000), (expected.to_owned(), false));
    }

    #[test]
    fn a_schema_that_names_itself_ends() {
        let parameters = r##"{"properties": {"a": {"$ref": "#/$defs/A"}},
            "$defs": {"A": {"properties": {"b": {"$ref": "#/$defs/A"}, "c": {"$ref": "#/$defs/A"}}}}}"##;
        let (text, spent) = written(parameters, 10_000);
        assert!(spent);
        assert!(text.len() <= 10_000);
    }
}
