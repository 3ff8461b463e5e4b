//! `[backends.*]`: URLs taken apart, credentials fetched, TLS files read.

use std::sync::Arc;
use std::time::Duration;

use filters::route::Schema;

use super::super::error::{Located, suggestion};
use super::super::file::backend as written;
use super::super::plan::{Auth, Backend, Endpoint, Timeouts, UpstreamTls};
use super::endpoint::endpoint;
use super::identity::identity;
use super::{Loader, breaker, or};

/// Every backend that has no mistake.
pub(super) fn backends(loader: &Loader<'_>) -> Vec<Arc<Backend>> {
    let backend = |file| backend(loader, file).map(Arc::new);
    loader.file.backends.iter().filter_map(backend).collect()
}

fn backend(loader: &Loader<'_>, file: &written::Backend) -> Option<Backend> {
    let url = file.url.as_ref().and_then(|text| url(loader, text));
    let schema = file.schema.as_ref().and_then(|text| schema(loader, text));
    let auth = auth(loader, file, url.as_ref());
    let tls = file
        .tls
        .as_ref()
        .map(|tls| upstream_tls(loader, tls, url.as_ref()));
    let breaker = file.circuit_breaker.as_ref();
    let breaker = breaker.and_then(|written| breaker::rule(loader, written));
    if let (Some(url), Some(written)) = (&url, &file.url) {
        warn_of_doubled_path(loader, url, schema, written);
    }
    Some(Backend {
        name: file.name.value.as_str().into(),
        url: url?,
        schema,
        deployment: file
            .deployment
            .as_ref()
            .and_then(|text| deployment(loader, text)),
        api_version: file
            .api_version
            .as_ref()
            .and_then(|text| version(loader, text)),
        auth: auth?,
        timeouts: Timeouts {
            connect: or(file.timeouts.connect.as_ref(), CONNECT),
            first_byte: or(file.timeouts.first_byte.as_ref(), FIRST_BYTE),
            between_bytes: or(file.timeouts.between_bytes.as_ref(), BETWEEN_BYTES),
        },
        tls: tls.unwrap_or_default(),
        http2: file.http2.as_ref().map(|flag| flag.value),
        breaker,
    })
}

/// A schema by its name; shared with the APIs.
pub(super) fn schema(loader: &Loader<'_>, text: &Located<String>) -> Option<Schema> {
    let schema = Schema::parse(&text.value);
    if schema.is_none() {
        let near = suggestion(&text.value, Schema::ALL.map(Schema::as_str));
        let message = format!("unknown schema \"{}\"{near}", text.value);
        loader.findings.error(&text.place, message);
    }
    schema
}

fn url(loader: &Loader<'_>, text: &Located<String>) -> Option<Endpoint> {
    match endpoint(&text.value) {
        Ok(endpoint) => Some(endpoint),
        Err(expected) => {
            // What isn't a URL may hold a password: it isn't shown.
            let message = format!("found a URL that can't be used, {expected}");
            loader.findings.error(&text.place, message);
            None
        }
    }
}

/// The schema adds `/openai` itself.
fn warn_of_doubled_path(
    loader: &Loader<'_>,
    url: &Endpoint,
    schema: Option<Schema>,
    written: &Located<String>,
) {
    let (azure, path) = match schema {
        Some(Schema::AzureOpenAi) => (true, "/openai"),
        Some(Schema::AzureAiInference) => (true, "/models"),
        Some(Schema::OpenAi) | None => (false, ""),
    };
    if azure && (url.base_path.ends_with(path) || url.base_path.contains("/openai/")) {
        let message = format!(
            "the URL holds \"{path}\" already, and the schema adds it: calls would go to \"{}{path}/...\"",
            url.base_path
        );
        loader.findings.warn(&written.place, message);
    }
}

fn auth(loader: &Loader<'_>, file: &written::Backend, url: Option<&Endpoint>) -> Option<Auth> {
    match &file.auth {
        Some(written::Auth::None) => Some(Auth::None),
        Some(written::Auth::ApiKey(origin)) => loader.credential(origin).map(Auth::ApiKey),
        Some(written::Auth::Bearer(origin)) => loader.credential(origin).map(Auth::Bearer),
        Some(written::Auth::ManagedIdentity(file)) => {
            identity(loader, file).map(Auth::ManagedIdentity)
        }
        Some(written::Auth::Wrong) => None,
        None => {
            if url.is_some_and(|url| url.tls) {
                let message = "no auth: calls go out without a credential; write auth = \"none\" if that is meant";
                loader.findings.warn(&file.name.place, message);
            }
            Some(Auth::None)
        }
    }
}

fn upstream_tls(loader: &Loader<'_>, file: &written::Tls, url: Option<&Endpoint>) -> UpstreamTls {
    if url.is_some_and(|url| !url.tls) {
        let message = "found tls with a URL that begins with http://, expected https://";
        loader.findings.error(&file.place, message);
    }
    if let Some(name) = &file.server_name {
        let is_host = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-' || c == ':';
        if !name.value.chars().all(is_host) {
            let message = format!("found \"{}\", expected a host's name", name.value);
            loader.findings.error(&name.place, message);
        }
    }
    let certificate = file.client_certificate.as_ref();
    let certificate = certificate.and_then(|path| loader.pem(path, "CERTIFICATE"));
    let key = file
        .client_key
        .as_ref()
        .and_then(|path| loader.private_key(path));
    UpstreamTls {
        ca_pem: file
            .ca
            .as_ref()
            .and_then(|path| loader.pem(path, "CERTIFICATE")),
        server_name: file.server_name.as_ref().map(|name| name.value.clone()),
        client_identity: certificate.zip(key),
    }
}

/// Some servers name models by paths (`org/model`), so all but control characters may be in it; it is escaped
/// where it becomes part of a path.
fn deployment(loader: &Loader<'_>, text: &Located<String>) -> Option<String> {
    if !text.value.contains(char::is_control) {
        return Some(text.value.clone());
    }
    let shown = text.value.escape_debug();
    let message = format!("found \"{shown}\", expected a name without control characters");
    loader.findings.error(&text.place, message);
    None
}

/// Becomes part of a query as it stands.
fn version(loader: &Loader<'_>, text: &Located<String>) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if text.value.chars().all(is_plain) {
        return Some(text.value.clone());
    }
    let shown = text.value.escape_debug();
    let message = format!("found \"{shown}\", expected a version such as \"2024-10-21\"");
    loader.findings.error(&text.place, message);
    None
}

/// A host that takes longer is down.
const CONNECT: Duration = Duration::from_secs(3);
/// A long prompt to a reasoning model.
const FIRST_BYTE: Duration = Duration::from_secs(300);
/// A stream that is silent for longer has died.
const BETWEEN_BYTES: Duration = Duration::from_secs(120);
