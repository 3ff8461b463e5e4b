//! `tollgate import azure-openai`: a configuration for one resource.
//!
//! What API Management's import makes, in one file: an API with the document's operations, a backend and a
//! pool for each deployment, a breaker that follows `Retry-After`, a product, a subscription, the policies
//! asked for. Each deployment has a backend of its own, so that one model's 429 doesn't keep callers from
//! another. What names no deployment (files, assistants) goes to a backend that stands for the resource.

mod print;

use std::collections::BTreeSet;

use super::document::{self, Document, Operation};
use super::endpoint::{self, Credential};
use super::{ImportError, Imported};
use crate::command::key;
use crate::config::secret::{Environment, Secret};

/// Arguments of `import azure-openai`.
#[derive(Debug, Clone, clap::Args)]
pub struct AzureArguments {
    /// The resource, as https://contoso.openai.azure.com
    #[arg(long, value_name = "URL")]
    endpoint: String,
    /// Its OpenAPI document, JSON or YAML; may be repeated (classic and v1). Without one every operation is offered.
    #[arg(long, value_name = "FILE")]
    spec: Vec<String>,
    /// A deployment and the model it is of; may be repeated. Callers may use either name.
    #[arg(long, value_name = "NAME=MODEL")]
    deployment: Vec<String>,
    /// Ask the endpoint for its deployments; without this it is asked where no --deployment is given and the key is in the environment.
    #[arg(long, conflicts_with = "deployment")]
    list_deployments: bool,
    /// What the API, the product and the subscription are called; default: the endpoint's first label.
    #[arg(long)]
    name: Option<String>,
    /// The gateway proves itself by its managed identity.
    #[arg(long, conflicts_with = "api_key_env")]
    managed_identity: bool,
    /// Which identity, where the machine has several.
    #[arg(long, requires = "managed_identity", value_name = "ID")]
    client_id: Option<String>,
    /// The environment variable that holds the resource's key; default: AZURE_OPENAI_API_KEY.
    #[arg(long, value_name = "NAME")]
    api_key_env: Option<String>,
    /// Tokens a minute for each subscription.
    #[arg(long, value_name = "TPM")]
    token_limit: Option<u64>,
    /// Count tokens by subscription, model, API and backend.
    #[arg(long)]
    token_metrics: bool,
}

/// One deployment of the resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// Its name there, by which Azure's clients call it.
    pub name: String,
    /// What it runs; the same where nobody said.
    pub model: String,
}

/// All that is printed.
struct Resource {
    name: String,
    endpoint: String,
    credential: Credential,
    apis: Vec<Api>,
    /// Empty: every name goes through as it is.
    deployments: Vec<Deployment>,
    token_limit: Option<u64>,
    token_metrics: bool,
    key_hash: String,
}

/// One API of the gateway.
struct Api {
    name: String,
    path: &'static str,
    schema: &'static str,
    /// From where the operations are; none: all of the schema.
    documents: Vec<String>,
    operations: Vec<Operation>,
}

/// The configuration for a resource.
pub fn import(
    arguments: &AzureArguments,
    environment: &dyn Environment,
) -> Result<Imported, ImportError> {
    let endpoint = endpoint::normal(&arguments.endpoint)?;
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => endpoint::first_label(&endpoint),
    };
    if name.is_empty()
        || name.chars().count() > MAX_NAME_CHARACTERS
        || name.chars().any(char::is_control)
    {
        let message =
            format!("--name: expected 1 to {MAX_NAME_CHARACTERS} characters, none of control");
        return Err(ImportError::new(message));
    }
    let credential = credential(arguments);
    let mut notes = Vec::new();
    let documents: Result<Vec<_>, _> = arguments
        .spec
        .iter()
        .map(|file| document::read(environment, file))
        .collect();
    let apis = apis(&name, &documents?, &mut notes)?;
    let deployments = deployments(arguments, environment, (&endpoint, &credential), &mut notes)?;
    let new = key::generate().map_err(|error| ImportError::new(format!("no key: {error}")))?;
    let resource = Resource {
        name,
        endpoint,
        credential,
        apis,
        deployments,
        token_limit: arguments.token_limit,
        token_metrics: arguments.token_metrics,
        key_hash: new.sha256,
    };
    Ok(Imported {
        text: print::resource(&resource),
        notes,
        key: (resource.name, new.key),
    })
}

fn credential(arguments: &AzureArguments) -> Credential {
    if arguments.managed_identity {
        let client_id = arguments.client_id.clone();
        return Credential::ManagedIdentity { client_id };
    }
    let variable = arguments.api_key_env.clone();
    let variable = variable.unwrap_or_else(|| "AZURE_OPENAI_API_KEY".to_owned());
    Credential::ApiKeyIn { variable }
}

/// Documents of one base share an API; classic and v1 are one base.
fn apis(
    name: &str,
    documents: &[Document],
    notes: &mut Vec<String>,
) -> Result<Vec<Api>, ImportError> {
    let mut apis: Vec<Api> = Vec::new();
    for document in documents {
        let (path, schema, form) = place(document)?;
        let label = format!(
            "{} ({} {})",
            document.file, document.title, document.version
        );
        let at = apis.iter().position(|api| api.path == path);
        let at = at.unwrap_or_else(|| {
            let name = match schema {
                INFERENCE => format!("{name}-models"),
                _ => name.to_owned(),
            };
            apis.push(Api {
                name,
                path,
                schema,
                documents: Vec::new(),
                operations: Vec::new(),
            });
            apis.len() - 1
        });
        let api = &mut apis[at];
        api.documents.push(label);
        for operation in &document.operations {
            let path = format!("{form}{}", operation.path);
            let same = |known: &Operation| known.method == operation.method && known.path == path;
            if !api.operations.iter().any(same) {
                let (id, method) = (operation.id.clone(), operation.method.clone());
                api.operations.push(Operation { id, method, path });
            }
        }
    }
    if apis.is_empty() {
        apis.push(Api {
            name: name.to_owned(),
            path: "/openai",
            schema: AZURE,
            documents: Vec::new(),
            operations: Vec::new(),
        });
    }
    for api in &apis {
        for id in document::shared_ids(&api.operations) {
            notes.push(format!(
                "operationId \"{id}\" stands for more than one operation of API \"{}\"",
                api.name
            ));
        }
    }
    Ok(apis)
}

/// The API's path and schema, and what its operations' paths begin with there.
fn place(document: &Document) -> Result<(&'static str, &'static str, &'static str), ImportError> {
    let base = document.base.as_str();
    if base.ends_with("/openai/v1") {
        return Ok(("/openai", AZURE, "/v1"));
    }
    if base.ends_with("/openai") {
        return Ok(("/openai", AZURE, ""));
    }
    if base.ends_with("/models") {
        return Ok(("/models", INFERENCE, ""));
    }
    Err(ImportError::new(format!(
        "{}: servers[0].url: found the path \"{base}\", expected one that ends in /openai, /openai/v1 or /models",
        document.file
    )))
}

fn deployments(
    arguments: &AzureArguments,
    environment: &dyn Environment,
    (endpoint, credential): (&str, &Credential),
    notes: &mut Vec<String>,
) -> Result<Vec<Deployment>, ImportError> {
    if !arguments.deployment.is_empty() {
        return named(&arguments.deployment);
    }
    let secret = match credential {
        Credential::ApiKeyIn { variable } => {
            environment.variable(variable).map(|text| (variable, text))
        }
        Credential::ManagedIdentity { .. } => None,
    };
    let Some((variable, secret)) = secret else {
        if arguments.list_deployments {
            return Err(ImportError::new(
                "--list-deployments: there is no key to ask with; set the variable that --api-key-env names",
            ));
        }
        notes.push("no deployment is named, so every name is passed on as it is; add --deployment NAME=MODEL for a backend, a pool and a breaker each".to_owned());
        return Ok(Vec::new());
    };
    let secret = Secret::for_header(secret)
        .map_err(|error| ImportError::new(format!("{variable}: {error}")))?;
    match endpoint::deployments(endpoint, &secret) {
        Ok(found) => {
            notes.push(format!("{endpoint} lists {} deployments", found.len()));
            Ok(found)
        }
        Err(error) if arguments.list_deployments => {
            Err(ImportError::new(format!("--list-deployments: {error}")))
        }
        Err(error) => {
            notes.push(format!("the deployments couldn't be listed ({error}), so every name is passed on as it is; name them with --deployment NAME=MODEL"));
            Ok(Vec::new())
        }
    }
}

fn named(arguments: &[String]) -> Result<Vec<Deployment>, ImportError> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for argument in arguments {
        let (name, model) = argument.split_once('=').unwrap_or((argument, argument));
        let (name, model) = (name.trim(), model.trim());
        let is_odd = |text: &str| {
            text.is_empty() || text.contains(['*', '/']) || text.chars().any(char::is_control)
        };
        if is_odd(name) || is_odd(model) {
            let message = format!(
                "--deployment: found \"{argument}\", expected NAME=MODEL, such as chat=gpt-4o"
            );
            return Err(ImportError::new(message));
        }
        if !seen.insert(name) {
            return Err(ImportError::new(format!(
                "--deployment: found \"{name}\" twice, expected each once"
            )));
        }
        let (name, model) = (name.to_owned(), model.to_owned());
        found.push(Deployment { name, model });
    }
    Ok(found)
}

const AZURE: &str = "azure-openai";
const INFERENCE: &str = "azure-ai-inference";
/// As the configuration has it, less what names are made longer by.
const MAX_NAME_CHARACTERS: usize = 40;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_deployment_is_a_name_and_a_model() {
        let named = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
            named(&arguments).map_err(|error| error.to_string())
        };
        let found = named(&["chat=gpt-4o", "gpt-4o-mini"]).unwrap();
        let told: Vec<_> = found
            .iter()
            .map(|one| (one.name.as_str(), one.model.as_str()))
            .collect();
        assert_eq!(told, [("chat", "gpt-4o"), ("gpt-4o-mini", "gpt-4o-mini")]);
        assert_eq!(
            named(&["chat="]).unwrap_err(),
            "--deployment: found \"chat=\", expected NAME=MODEL, such as chat=gpt-4o"
        );
        assert_eq!(
            named(&["a=b", "a=c"]).unwrap_err(),
            "--deployment: found \"a\" twice, expected each once"
        );
    }

    #[test]
    fn classic_and_v1_become_one_api() {
        let document = |base: &str, path: &str| Document {
            file: "f".to_owned(),
            title: String::new(),
            version: String::new(),
            base: base.to_owned(),
            operations: vec![Operation {
                id: "x".to_owned(),
                method: "GET".to_owned(),
                path: path.to_owned(),
            }],
        };
        let mut notes = Vec::new();
        let documents = [
            document("/openai", "/files"),
            document("/x/openai/v1", "/files"),
            document("/models", "/info"),
        ];
        let apis = apis("contoso", &documents, &mut notes).unwrap();
        let paths: Vec<Vec<&str>> = apis
            .iter()
            .map(|api| {
                api.operations
                    .iter()
                    .map(|operation| operation.path.as_str())
                    .collect()
            })
            .collect();
        assert_eq!(paths, [vec!["/files", "/v1/files"], vec!["/info"]]);
        assert_eq!(
            (apis[0].name.as_str(), apis[1].name.as_str()),
            ("contoso", "contoso-models")
        );
        assert_eq!(
            notes,
            ["operationId \"x\" stands for more than one operation of API \"contoso\""]
        );
        assert!(super::apis("contoso", &[document("/v2", "/files")], &mut notes).is_err());
    }
}
