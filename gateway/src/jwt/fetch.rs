//! Fetches an issuer's keys: where its description says, or from a URL that the configuration names.
//!
//! The description must be the issuer's own, and where it came over TLS, so must the keys. Keys that were fetched stay
//! until others are: an issuer that is out changes nothing but that new keys aren't known.

use std::sync::Arc;
use std::time::Duration;

use filters::identity::Failure;
use filters::token::keys::KeySet;
use pingora::connectors::http::Connector;
use serde_json::Value;

use super::Source;
use crate::clock;
use crate::config;
use crate::config::plan::jwt::{Keys, Site};
use crate::identity::Told;
use crate::state::State;
use crate::upstream::call::Call;

/// Issuers rotate keys within weeks, and publish one long before they sign with it.
const REFRESH: Duration = Duration::from_secs(3600);

/// Fetches keys again and again, for as long as they are asked for.
pub(super) async fn keep(state: Arc<State>, source: Arc<Source>) {
    let Some(connector) = state.issuers.connector.get() else {
        tracing::error!("no connector to fetch an issuer's keys with");
        return;
    };
    let mut failures: u32 = 0;
    loop {
        source.pace.fetching();
        let fetched = fetch(connector, &source.from).await;
        state.metrics.keys_fetched(fetched.is_ok());
        let pause = match fetched {
            Ok(keys) => {
                failures = 0;
                let count = keys.count();
                source.know(Arc::new(keys));
                match source.failure.lock().take() {
                    Some(_) => tracing::info!(keys = count, "the issuer's keys were fetched again"),
                    None => tracing::debug!(keys = count, "the issuer's keys were fetched"),
                }
                REFRESH
            }
            Err(why) => {
                failures = failures.saturating_add(1);
                failed(&source, why);
                Failure::Unreachable.pause(failures)
            }
        };
        source.pace.rest(failures > 0);
        source.pace.pause(pause).await;
    }
}

fn failed(source: &Source, why: String) {
    match source.known.load().is_some() {
        true => tracing::warn!(%why, "the issuer's keys can't be fetched; those at hand stay"),
        false => {
            tracing::error!(%why, "the issuer's keys can't be fetched: callers' tokens can't be checked");
        }
    }
    let at = clock::unix_time();
    *source.failure.lock() = Some(Told { at, why });
}

/// The keys, or in words why there are none.
async fn fetch(connector: &Connector, from: &Keys) -> Result<KeySet, String> {
    match from {
        Keys::File(_) => Err("keys from a file aren't fetched".to_owned()),
        Keys::Url(site) => keys(connector, site).await,
        Keys::Discovery { at, issuer } => {
            let described = described(connector, at, issuer).await?;
            keys(connector, &described).await
        }
    }
}

async fn keys(connector: &Connector, site: &Site) -> Result<KeySet, String> {
    let body = ask(connector, site, "the key set").await?;
    KeySet::parse(&body).map_err(|error| format!("the key set {error}"))
}

/// Where the issuer says that its keys are.
async fn described(connector: &Connector, at: &Site, issuer: &str) -> Result<Site, String> {
    let body = ask(connector, at, "the issuer's description").await?;
    let description: Value = serde_json::from_slice(&body)
        .map_err(|_| "the issuer's description isn't JSON".to_owned())?;
    let text = |name: &str| description.get(name).and_then(Value::as_str);
    let bare = |text: &str| text.trim_end_matches('/').to_owned();
    if text("issuer").map(bare) != Some(bare(issuer)) {
        return Err("the issuer's description is of another issuer than the configured one".into());
    }
    let url = text("jwks_uri").ok_or("the issuer's description names no jwks_uri")?;
    let (endpoint, query) =
        config::site(url).map_err(|_| "the issuer's jwks_uri can't be used".to_owned())?;
    if at.endpoint.tls && !endpoint.tls {
        return Err("the issuer's jwks_uri begins with http://".into());
    }
    Ok(Site {
        endpoint,
        query,
        ca_pem: at.ca_pem.clone(),
    })
}

async fn ask(connector: &Connector, site: &Site, what: &str) -> Result<bytes::Bytes, String> {
    let call = Call {
        endpoint: &site.endpoint,
        ca_pem: site.ca_pem.as_deref(),
        target: site.query.clone(),
        field: None,
        form: None,
    };
    match call.ask(connector).await {
        Ok(answer) if answer.is_well() => Ok(answer.body),
        Ok(answer) => Err(format!("{what} was answered with status {}", answer.status)),
        Err(why) => Err(format!("{what} couldn't be asked for: {why}")),
    }
}
