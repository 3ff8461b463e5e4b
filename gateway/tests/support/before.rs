//! A gateway before one backend address, under an API of each schema: what tests of the body and of streams need.
//!
//! The token metric has one dimension, `case`, from the header `x-case`: so each call's tokens can be told apart on one
//! page, whatever else the gateway serves.

use super::gateway::Gateway;

/// The key of the only subscription.
pub const KEY: &str = "key-of-the-stream-tests";

/// Starts a gateway whose backends are at this address.
pub fn start(backend_url: &str) -> Gateway {
    start_with_timeouts(backend_url, "{}")
}

/// Likewise, with the backends' `timeouts` as a TOML table.
pub fn start_with_timeouts(backend_url: &str, timeouts: &str) -> Gateway {
    let config = CONFIG
        .replace("@BACKEND@", backend_url)
        .replace("@TIMEOUTS@", timeouts)
        .replace("@KEY@", KEY);
    Gateway::start(&config)
}

/// The path of an operation under the API of schema `openai`.
pub fn openai(operation: &str) -> String {
    format!("/v1/{operation}")
}

/// The path of an operation of a deployment under the API of schema `azure-openai`.
pub fn azure(model: &str, operation: &str) -> String {
    format!("/openai/deployments/{model}/{operation}?api-version=2024-10-21")
}

const CONFIG: &str = r#"
[server]
listen = "@LISTEN@"
h2c = "@H2C@"
admin = "@ADMIN@"

[apis.openai]
path = "/v1"
schema = "openai"
models = { "*" = "openai" }

[apis.azure-openai]
path = "/openai"
schema = "azure-openai"
models = { "*" = "azure-openai" }

[apis.azure-ai-inference]
path = "/models"
schema = "azure-ai-inference"
models = { "*" = "azure-ai-inference" }

[products.tests]

[subscriptions.tests]
product = "tests"
keys = ["@KEY@"]

[backends.openai]
url = "@BACKEND@/v1"
schema = "openai"
auth = "none"
timeouts = @TIMEOUTS@

[backends.azure-openai]
url = "@BACKEND@"
schema = "azure-openai"
auth = "none"
timeouts = @TIMEOUTS@

[backends.azure-ai-inference]
url = "@BACKEND@"
schema = "azure-ai-inference"
auth = "none"
timeouts = @TIMEOUTS@

[pools.openai]
members = [{ backend = "openai" }]

[pools.azure-openai]
members = [{ backend = "azure-openai" }]

[pools.azure-ai-inference]
members = [{ backend = "azure-ai-inference" }]

[[token-metric]]
namespace = "tests"
dimensions = [{ name = "case", value = '"x-case" in request.headers ? request.headers["x-case"] : "none"' }]
"#;
