//! A resource as the text of a configuration.

use std::fmt::Write;

use super::super::document::Operation;
use super::super::endpoint::Credential;
use super::super::toml_text::{array, comment, key, text};
use super::{Api, Deployment, Resource};

/// The whole file.
pub fn resource(resource: &Resource) -> String {
    let mut out = String::new();
    let endpoint = &resource.endpoint;
    out.push_str(&comment(&format!(
        "Printed by `tollgate import azure-openai` for {endpoint}.\n\
         The subscription's key was shown once, where the command ran; here is its hash."
    )));
    for api in &resource.apis {
        push_api(&mut out, resource, api);
    }
    push_callers(&mut out, resource);
    for deployment in &resource.deployments {
        push_deployment(&mut out, resource, deployment);
    }
    if needs_whole(resource) {
        push_whole(&mut out, resource);
    }
    push_policies(&mut out, resource);
    out
}

/// Whether something goes to the resource as such: no deployment is known, or an operation names none.
fn needs_whole(resource: &Resource) -> bool {
    let names_none = |operation: &Operation| !operation.path.starts_with("/deployments/");
    let any = |api: &Api| api.operations.is_empty() || api.operations.iter().any(names_none);
    resource.deployments.is_empty() || resource.apis.iter().any(any)
}

fn push_api(out: &mut String, resource: &Resource, api: &Api) {
    let name = key(&api.name);
    let _ = write!(
        out,
        "\n[apis.{name}]\npath = {}\nschema = {}\n",
        text(api.path),
        text(api.schema)
    );
    let models = models(resource);
    let models: Vec<String> = models
        .iter()
        .map(|(model, pool)| format!("{} = {}", text(model), text(pool)))
        .collect();
    let _ = writeln!(out, "models = {{ {} }}", models.join(", "));
    if needs_whole(resource) {
        let _ = writeln!(out, "default-pool = {}", text(&whole(resource)));
    }
    if api.operations.is_empty() {
        out.push_str(&comment(
            "Every operation of the schema is offered; `--spec` lists those of a document.",
        ));
        return;
    }
    out.push_str(&comment(&format!(
        "The operations of {}. Others get 404; names such as \"realtime\" may be added.",
        api.documents.join(" and ")
    )));
    out.push_str("operations = [\n");
    for operation in &api.operations {
        let Operation { id, method, path } = operation;
        let _ = writeln!(
            out,
            "  {{ id = {}, method = {}, path = {} }},",
            text(id),
            text(method),
            text(path)
        );
    }
    out.push_str("]\n");
}

/// What callers may name, and the pool for it: each deployment by its name, then each model by the first deployment of it.
fn models(resource: &Resource) -> Vec<(String, String)> {
    let mut models: Vec<(String, String)> = Vec::new();
    let names = resource.deployments.iter().map(|one| (&one.name, one));
    let of_models = resource.deployments.iter().map(|one| (&one.model, one));
    for (name, deployment) in names.chain(of_models) {
        if !models.iter().any(|(known, _)| known == name) {
            models.push((name.clone(), deployment.name.clone()));
        }
    }
    if models.is_empty() {
        models.push(("*".to_owned(), whole(resource)));
    }
    models
}

/// The pool of what names no deployment; no deployment has this name.
fn whole(resource: &Resource) -> String {
    let mut name = format!("{}-resource", resource.name);
    while resource.deployments.iter().any(|one| one.name == name) {
        name.push_str("-itself");
    }
    name
}

fn push_callers(out: &mut String, resource: &Resource) {
    let name = key(&resource.name);
    let apis = array(resource.apis.iter().map(|api| text(&api.name)));
    let _ = write!(out, "\n[products.{name}]\napis = {apis}\n");
    if !resource.deployments.is_empty() {
        let models = models(resource);
        let _ = writeln!(
            out,
            "models = {}",
            array(models.iter().map(|(model, _)| text(model)))
        );
    }
    let hash = &resource.key_hash;
    let _ = write!(
        out,
        "\n[subscriptions.{name}]\nproduct = {}\nkeys = [{{ sha256 = {} }}]\n",
        text(&resource.name),
        text(hash)
    );
}

fn push_deployment(out: &mut String, resource: &Resource, deployment: &Deployment) {
    let backend = format!("{}-{}", resource.name, deployment.name);
    let name = &deployment.name;
    let _ = write!(
        out,
        "\n[pools.{}]\nmembers = [{{ backend = {} }}]\n",
        key(name),
        text(&backend)
    );
    push_backend(out, resource, &backend, Some(deployment));
}

fn push_whole(out: &mut String, resource: &Resource) {
    let name = whole(resource);
    out.push('\n');
    out.push_str(&comment(match resource.deployments.is_empty() {
        true => "Every deployment by the name that the caller uses.",
        false => "What names no deployment.",
    }));
    let _ = write!(
        out,
        "[pools.{}]\nmembers = [{{ backend = {} }}]\n",
        key(&name),
        text(&name)
    );
    push_backend(out, resource, &name, None);
}

fn push_backend(
    out: &mut String,
    resource: &Resource,
    name: &str,
    deployment: Option<&Deployment>,
) {
    let table = key(name);
    let _ = write!(
        out,
        "\n[backends.{table}]\nurl = {}\n",
        text(&resource.endpoint)
    );
    if let Some(deployment) = deployment {
        let model = match deployment.model == deployment.name {
            true => String::new(),
            false => format!("   # {}", deployment.model),
        };
        let _ = writeln!(out, "deployment = {}{model}", text(&deployment.name));
    }
    let _ = writeln!(out, "auth = {}", auth(&resource.credential));
    let _ = write!(
        out,
        "[backends.{table}.circuit-breaker]\n\
         trip-duration = \"10s\"\n\
         accept-retry-after = true   # after a 429 it is left alone for as long as it asks\n\
         failure-condition = {{ count = 1, interval = \"10s\", status-code-ranges = [[429, 429]], error-reasons = [\"connect\"] }}\n"
    );
}

fn auth(credential: &Credential) -> String {
    match credential {
        Credential::ApiKeyIn { variable } => {
            format!("{{ api-key = {{ env = {} }} }}", text(variable))
        }
        Credential::ManagedIdentity { client_id } => {
            let resource = "resource = \"https://cognitiveservices.azure.com\"";
            match client_id {
                None => format!("{{ managed-identity = {{ {resource} }} }}"),
                Some(id) => format!(
                    "{{ managed-identity = {{ {resource}, client-id = {} }} }}",
                    text(id)
                ),
            }
        }
    }
}

fn push_policies(out: &mut String, resource: &Resource) {
    if let Some(limit) = resource.token_limit {
        let name = text(&format!("{}-tokens", resource.name));
        let _ = write!(
            out,
            "\n[[token-limit]]\nname = {name}\ncounter-key = 'subscription.id'\ntokens-per-minute = {limit}\n\
             estimate-prompt-tokens = true\nremaining-tokens-header-name = \"x-ratelimit-remaining-tokens\"\n"
        );
    }
    if resource.token_metrics {
        out.push_str(
            "\n[[token-metric]]\nnamespace = \"openai\"\n\
             dimensions = [{ name = \"subscription_id\" }, { name = \"model\" }, { name = \"api_id\" }, { name = \"backend_id\" }]\n",
        );
    }
}
