//! How each service is asked for a token, and what is shown to it.
//!
//! Four forms, each one call: no library is worth its weight for that (ARCHITECTURE.md, decisions). What is shown is
//! made or read anew for each call, so a file that is rotated needs no reload. Never logs any of it.

use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use filters::identity::{Failure, Granted};
use filters::route::encoded;
use pingora::connectors::http::Connector;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;

use crate::clock;
use crate::config::plan::identity::{Identity, Proof, SigningKey, Source};
use crate::upstream::call::Call;

/// A statement is good for this long, as Microsoft recommends. Seconds.
const STATEMENT_LIFE_S: u64 = 600;
/// A federated token is a few KB. Bytes.
const FEDERATED_MAX_BYTES: u64 = 64 << 10;

/// Asks for a token.
///
/// # Errors
/// Why there is none.
pub(super) async fn fetch(connector: &Connector, identity: &Identity) -> Result<Granted, Failure> {
    let resource = &identity.resource;
    let call = |target: String, field, form| Call {
        endpoint: &identity.endpoint,
        ca_pem: identity.ca_pem.as_deref(),
        target,
        field,
        form,
    };
    let call = match &identity.source {
        Source::Imds { client_id } => {
            let query = query("2018-02-01", resource, client_id.as_deref());
            let target = format!("/metadata/identity/oauth2/token?{query}");
            call(target, Some(("metadata", "true")), None)
        }
        Source::AppService { header, client_id } => {
            let query = query("2019-08-01", resource, client_id.as_deref());
            let field = Some(("x-identity-header", header.expose()));
            call(format!("?{query}"), field, None)
        }
        Source::Entra {
            tenant,
            client_id,
            proof,
        } => {
            let target = format!("/{tenant}/oauth2/v2.0/token");
            let url = format!(
                "{}://{}{}{target}",
                identity.endpoint.scheme(),
                identity.endpoint.authority,
                identity.endpoint.base_path
            );
            let shown = shown(proof, client_id, &url).await?;
            let form = format!(
                "grant_type=client_credentials&client_id={}&scope={}&{shown}",
                encoded(client_id),
                encoded(&format!("{resource}/.default")),
            );
            call(target, None, Some(form))
        }
    };
    let asked_at = clock::unix_time();
    super::granted(call.ask(connector).await, asked_at)
}

fn query(version: &str, resource: &str, client_id: Option<&str>) -> String {
    let client_id = client_id.map(|id| format!("&client_id={}", encoded(id)));
    let client_id = client_id.unwrap_or_default();
    format!(
        "api-version={version}&resource={}{client_id}",
        encoded(resource)
    )
}

/// The part of the form that shows who asks.
async fn shown(proof: &Proof, client_id: &str, url: &str) -> Result<String, Failure> {
    let statement = match proof {
        Proof::ClientSecret(secret) => {
            return Ok(format!("client_secret={}", encoded(secret.expose())));
        }
        Proof::Certificate(key) => statement(key, client_id, url).ok_or(Failure::NoProof)?,
        Proof::FederatedToken(path) => federated(path.clone()).await.ok_or(Failure::NoProof)?,
    };
    let kind = encoded("urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let statement = encoded(&statement);
    Ok(format!(
        "client_assertion_type={kind}&client_assertion={statement}"
    ))
}

/// The file as it is now: it is replaced every hour or so.
async fn federated(path: PathBuf) -> Option<String> {
    let read = tokio::task::spawn_blocking(move || read(&path)).await;
    let text = read.ok()?.ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(FEDERATED_MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Who we are, signed with the certificate's key.
fn statement(key: &SigningKey, client_id: &str, url: &str) -> Option<String> {
    let mut id = [0; 16];
    SystemRandom::new().fill(&mut id).ok()?;
    let now = clock::unix_seconds();
    let head = json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": key.thumbprint() });
    let claims = json!({
        "aud": url,
        "iss": client_id,
        "sub": client_id,
        "jti": URL_SAFE_NO_PAD.encode(id),
        "nbf": now,
        "iat": now,
        "exp": now + STATEMENT_LIFE_S,
    });
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(head), part(claims));
    let signature = key.sign(&text).ok()?;
    Some(format!("{text}.{signature}"))
}
