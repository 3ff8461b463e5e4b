//! The bridge from the file to the plan: fills in defaults, resolves names, compiles expressions, fetches
//! secrets, and refuses what can't be enforced.
//!
//! Every step goes on after a mistake and leaves out what it spoils. A name counts as known where it is
//! declared, even if its table is wrong, so one mistake isn't reported twice. Features that this version
//! hasn't are checked as thoroughly as the others and then noted as pending; none is ignored.

mod affinity;
mod api;
mod backend;
mod breaker;
mod budget;
mod cache;
pub(super) mod endpoint;
mod expression;
mod identity;
mod jwt;
mod limit;
mod names;
mod operations;
mod policy;
mod pool;
pub(super) mod prices;
mod records;
mod secrets;
mod server;
mod statuses;
mod subscription;

use std::sync::Arc;

use filters::auth::{Digest, Keys};
use filters::route::ApiPaths;
use sha2::Digest as _;

use super::Source;
use super::error::{Error, Findings, Located};
use super::file::File;
use super::plan::{PendingFeature, Plan};
use super::secret::Environment;

/// What every step needs.
pub(super) struct Loader<'a> {
    /// What the user wrote.
    file: &'a File,
    /// Where mistakes go.
    findings: &'a Findings<'a>,
    /// Where secrets and files come from.
    environment: &'a dyn Environment,
}

/// Makes the plan, or reports why there is none.
pub(super) fn plan(
    source: &Source,
    file: &File,
    findings: &Findings<'_>,
    environment: &dyn Environment,
) -> Option<Plan> {
    let loader = Loader {
        file,
        findings,
        environment,
    };
    let server = server::server(&loader);
    let backends = backend::backends(&loader);
    let products = api::products(&loader);
    let subscriptions = subscription::subscriptions(&loader, &products);
    let digests: Vec<Digest> = subscriptions.keys.iter().map(|key| key.digest).collect();
    let pools = pool::pools(&loader, &backends, &digests);
    let apis = api::apis(&loader, &pools);
    let jwt = jwt::jwt(&loader, &subscriptions.list);
    let redis = records::redis(&loader);
    let mut token_limits = limit::token_limits(&loader);
    token_limits.extend(budget::budgets(&loader));
    let token_metrics = policy::token_metrics(&loader);
    let semantic_caches = cache::semantic_caches(&loader, &backends, redis.as_ref());
    let usage_log = records::usage_log(&loader, redis.as_ref());
    let access_log = records::access_log(&loader);
    let message_log = records::message_log(&loader);
    let otlp = records::otlp(&loader);
    let prices = records::prices(&loader);
    names::warn_of_unused(&loader);
    let (keys, paths) = indices(&loader, &subscriptions.keys, &apis)?;
    Some(Plan {
        revision: revision(&source.text),
        source: source.name.clone(),
        outline: file.outline.clone(),
        inputs: Vec::new(),
        loaded_at: environment.now(),
        server: server?,
        gateway: server::gateway(&loader),
        paths,
        apis,
        keys,
        subscriptions: subscriptions.list,
        key_counts: file
            .subscriptions
            .iter()
            .map(|subscription| subscription.keys.len())
            .collect(),
        products,
        backends,
        pools,
        jwt,
        redis,
        token_limits,
        token_metrics,
        semantic_caches,
        usage_log,
        access_log,
        message_log,
        otlp,
        prices,
        warnings: warnings(source, findings),
        pending: findings
            .pending_features()
            .into_iter()
            .map(pending)
            .collect(),
    })
}

/// The two look-ups that a request begins with. None where two entries collide, which is reported.
fn indices(
    loader: &Loader<'_>,
    keys: &[subscription::Key],
    apis: &[Arc<super::plan::Api>],
) -> Option<(Keys, ApiPaths)> {
    if !loader.findings.errors().is_empty() {
        return None;
    }
    let keys = keys.iter().map(|key| (key.digest, key.subscription));
    let paths = apis.iter().enumerate();
    let paths = paths.map(|(index, api)| (api.path.clone(), index));
    let keys = Keys::new(keys.collect()).ok()?;
    let paths = ApiPaths::new(paths.collect()).ok()?;
    Some((keys, paths))
}

fn warnings(source: &Source, findings: &Findings<'_>) -> Vec<String> {
    let line = |warning: Error| format!("{}:{warning}", source.name);
    findings.warnings().into_iter().map(line).collect()
}

fn pending(found: Error) -> PendingFeature {
    PendingFeature {
        line: found.line,
        column: found.column,
        what: found.message,
    }
}

/// The first 12 hex digits of the text's SHA-256: enough to tell files apart, short enough to read out.
fn revision(text: &str) -> String {
    let digest = sha2::Sha256::digest(text.as_bytes());
    digest
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The value that was written, or the default.
fn or<T: Copy>(written: Option<&Located<T>>, default: T) -> T {
    written.map_or(default, |written| written.value)
}
