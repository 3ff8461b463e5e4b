//! `[apis.*]`, `[products.*]` and `[subscriptions.*]`: what callers find here, and who they are.

use super::super::error::{Located, Place};
use super::field::Field;
use super::nested::TextOrTable;
use super::secret::{Origin, key};
use super::table::Table;

/// `[apis.NAME]`
#[derive(Debug)]
pub struct Api {
    /// Its key in the file.
    pub name: Located<String>,
    /// Where its table starts.
    pub place: Place,
    /// The prefix.
    pub path: Option<Located<String>>,
    /// The schema's name.
    pub schema: Option<Located<String>>,
    /// Model pattern, pool name.
    pub models: Vec<(Located<String>, Located<String>)>,
    /// A pool name.
    pub default_pool: Option<Located<String>>,
    /// Default: true.
    pub subscription_required: Option<Located<bool>>,
    /// `None`: every one.
    pub operations: Option<Vec<Operation>>,
}

/// One entry of `operations`.
#[derive(Debug)]
pub enum Operation {
    /// By its name in the schema.
    Known(Located<String>),
    /// By id, method and path, as an imported document lists it.
    Listed(ListedOperation),
}

/// `{ id = "...", method = "...", path = "..." }`
#[derive(Debug)]
pub struct ListedOperation {
    /// What it is called.
    pub id: Located<String>,
    /// One of [`METHODS`].
    pub method: &'static str,
    /// Below the API's path, with `{name}` for any segment.
    pub path: Located<String>,
}

/// `[products.NAME]`
#[derive(Debug)]
pub struct Product {
    /// Its key in the file.
    pub name: Located<String>,
    /// API names. `None`: every API.
    pub apis: Option<Vec<Located<String>>>,
    /// Model patterns. `None`: every model.
    pub models: Option<Vec<Located<String>>>,
}

/// `[subscriptions.NAME]`
#[derive(Debug)]
pub struct Subscription {
    /// Its key in the file.
    pub name: Located<String>,
    /// A product's name.
    pub product: Option<Located<String>>,
    /// Where its keys are.
    pub keys: Vec<Located<Origin>>,
    /// Default: active.
    pub state: Option<Located<State>>,
    /// Free.
    pub attributes: Vec<(Located<String>, Located<String>)>,
}

/// `state` of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its keys are honoured.
    Active,
    /// They aren't.
    Suspended,
}

/// Reads `[apis.NAME]`.
pub fn api(name: Located<String>, table: Table<'_, '_>) -> Api {
    let path = table.field("path").required("a path such as \"/openai\"");
    let schema = table.field("schema").required(SCHEMAS);
    let models = table.field("models");
    if models.is_empty() && !table.field("default-pool").is_there() {
        table.missing(
            "models",
            "models, default-pool, or both: this API leads nowhere",
        );
    }
    let api = Api {
        place: table.place().clone(),
        name,
        path: path.text(),
        schema: schema.text(),
        models: models.named_texts(),
        default_pool: table.field("default-pool").text(),
        subscription_required: table.field("subscription-required").flag(),
        operations: operations(&table),
    };
    table.finish();
    api
}

fn operations(table: &Table<'_, '_>) -> Option<Vec<Operation>> {
    let field = table.field("operations");
    let elements = field.elements();
    if field.is_there() && elements.as_ref().is_some_and(Vec::is_empty) {
        field.refuse("found no operation, expected at least one; without the key, every operation is offered");
    }
    let elements = elements.filter(|_| field.is_there() || field.is_survey())?;
    Some(elements.iter().filter_map(operation).collect())
}

fn operation(field: &Field<'_, '_, '_>) -> Option<Operation> {
    let table = match field.text_or_table(OPERATION)? {
        TextOrTable::Text(_) => return field.text().map(Operation::Known),
        TextOrTable::Table(table) => table,
    };
    let id = table.field("id").required("what it is called");
    let method = table.field("method").required("a method such as \"POST\"");
    let path = table.field("path");
    let path = path.required("below the API's, such as \"/files/{file_id}\"");
    let (id, method, path) = (id.text(), method.choice(&METHODS), path.text());
    table.finish();
    Some(Operation::Listed(ListedOperation {
        id: id?,
        method: method?.value,
        path: path?,
    }))
}

/// Reads `[products.NAME]`.
pub fn product(name: Located<String>, table: Table<'_, '_>) -> Product {
    let product = Product {
        name,
        apis: table.field("apis").list(),
        models: table.field("models").list(),
    };
    table.finish();
    product
}

/// Reads `[subscriptions.NAME]`.
pub fn subscription(name: Located<String>, table: Table<'_, '_>) -> Subscription {
    let keys = table.field("keys");
    let keys = keys.required("an array of keys, such as [{ env = \"TEAM_A_KEY\" }]");
    let keys = keys.elements().unwrap_or_default();
    let words = [("active", State::Active), ("suspended", State::Suspended)];
    let subscription = Subscription {
        name,
        product: table.field("product").text(),
        keys: keys.iter().filter_map(key).collect(),
        state: table.field("state").choice(&words),
        attributes: table.field("attributes").named_texts(),
    };
    table.finish();
    subscription
}

/// Continues "expected".
const SCHEMAS: &str = "\"azure-openai\", \"openai\" or \"azure-ai-inference\"";
const OPERATION: &str =
    "an operation's name, or { id = \"...\", method = \"...\", path = \"...\" }";

/// What an OpenAPI document can list.
const METHODS: [(&str, &str); 7] = [
    ("GET", "GET"),
    ("POST", "POST"),
    ("PUT", "PUT"),
    ("PATCH", "PATCH"),
    ("DELETE", "DELETE"),
    ("HEAD", "HEAD"),
    ("OPTIONS", "OPTIONS"),
];
