//! The configuration that most tests start from: every schema, one subscription, one backend for everything.

/// The caller's key.
pub const KEY: &str = "key-of-the-caller";
/// The key that the gateway shows to the backend.
pub const BACKEND_KEY: &str = "key-for-the-backend";

/// `server` holds further keys and tables of `[server]`, `backend` those of the only backend.
pub fn config(server: &str, backend: &str) -> String {
    CONFIG
        .replace("@SERVER@", server)
        .replace("@BACKEND@", backend)
        .replace("@KEY@", KEY)
}

/// A backend at this URL that speaks as OpenAI, under `/v1`.
pub fn openai(url: &str) -> String {
    format!("url = \"{url}/v1\"\nschema = \"openai\"\nauth = {{ bearer = \"{BACKEND_KEY}\" }}\n")
}

/// A backend at this URL that speaks as Azure OpenAI.
pub fn azure_openai(url: &str) -> String {
    format!(
        "url = \"{url}\"\nschema = \"azure-openai\"\nauth = {{ api-key = \"{BACKEND_KEY}\" }}\n"
    )
}

const CONFIG: &str = r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
@SERVER@

[apis.openai]
path = "/v1"
schema = "openai"
models = { "*" = "all" }
default-pool = "all"

[apis.azure-openai]
path = "/openai"
schema = "azure-openai"
models = { "*" = "all" }
default-pool = "all"

[subscriptions.caller]
keys = ["@KEY@"]

[backends.only]
@BACKEND@

[pools.all]
members = [{ backend = "only" }]
"#;
