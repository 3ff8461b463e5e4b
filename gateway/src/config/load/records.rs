//! `[redis]`, `[usage-log]`, `[prices]`, and the checks of `[jwt]`, `[access-log]`, `[message-log]` and `[otlp]`, which this
//! version doesn't do yet.

use std::sync::Arc;
use std::time::Duration;

use filters::price::PriceList;

use super::super::Source;
use super::super::error::{Located, Place, alternatives};
use super::super::file::secret::Origin;
use super::super::plan::{Redis, UsageLog, UsageStream};
use super::super::secret::Secret;
use super::{Loader, or};

/// Where counters are shared, if they are.
pub(super) fn redis(loader: &Loader<'_>) -> Option<Redis> {
    let file = loader.file.redis.as_ref()?;
    let ca = file.ca.as_ref();
    let ca_pem = ca.and_then(|path| loader.pem(path, "CERTIFICATE"));
    let origin = file.url.as_ref()?;
    let url = redis_url(loader, origin)?;
    check_text(loader, url.expose(), &origin.place, &REDIS_SCHEMES);
    if let Some(ca) = ca.filter(|_| !url.expose().starts_with("rediss")) {
        let message = "found ca with a URL that doesn't ask for TLS, expected one that begins with rediss://, rediss-cluster:// or rediss-sentinel://";
        loader.findings.error(&ca.place, message);
    }
    Some(Redis {
        url,
        timeout: or(file.timeout.as_ref(), REDIS_TIMEOUT),
        ca_pem,
    })
}

/// Where it is. Only a URL with a password is a secret that had better not stand in the file.
fn redis_url(loader: &Loader<'_>, origin: &Located<Origin>) -> Option<Secret> {
    match &origin.value {
        Origin::Literal(url) if !url.expose().contains('@') => Some(url.clone()),
        Origin::Literal(_) | Origin::Variable(_) | Origin::File(_) | Origin::Sha256(_) => {
            loader.credential(origin)
        }
    }
}

/// Where usage is written down, if it is.
pub(super) fn usage_log(loader: &Loader<'_>, redis: Option<&Redis>) -> Option<UsageLog> {
    let log = loader.file.records.usage_log.as_ref()?;
    let stream = log.redis_stream.as_ref().and_then(|key| {
        if loader.file.redis.is_none() {
            let message =
                "a stream is kept in Redis, and there is no [redis]; expected [redis] with a url";
            loader.findings.error(&key.place, message);
        }
        Some(UsageStream {
            redis: redis?.clone(),
            key: key.value.clone(),
            max_entries: or(log.max_entries.as_ref(), STREAM_ENTRIES),
        })
    });
    let directory = log.directory.as_ref();
    let directory = directory.map(|text| text.value.as_str().into());
    Some(UsageLog { directory, stream })
}

/// What tokens cost, if anything. The list's own mistakes are told with their places in it.
pub(super) fn prices(loader: &Loader<'_>) -> Option<Arc<PriceList>> {
    let path = loader.file.records.prices.as_ref()?.file.as_ref()?;
    let bytes = loader.file(&path.value, &path.place)?;
    let Ok(text) = String::from_utf8(bytes) else {
        let message = format!("the price list \"{}\" is not UTF-8 text", path.value);
        loader.findings.error(&path.place, message);
        return None;
    };
    let name = path.value.clone();
    match super::super::prices(&Source { name, text }) {
        Ok(list) => Some(Arc::new(list)),
        Err(errors) => {
            for error in &errors.list {
                let message = format!("in the price list: {}:{error}", errors.file);
                loader.findings.error(&path.place, message);
            }
            None
        }
    }
}

/// Checks them, and notes each as pending.
pub(super) fn check_pending(loader: &Loader<'_>) {
    let file = loader.file;
    let records = &file.records;
    if let Some(jwt) = &file.jwt {
        check_url(loader, jwt.issuer.as_ref(), &["https", "http"]);
        loader.request_text(jwt.subscription.as_ref());
        pending(loader, &jwt.place, "[jwt]");
    }
    if let Some(place) = &records.access_log {
        pending(loader, place, "[access-log]");
    }
    if let Some(log) = &records.message_log {
        loader.condition(log.when.as_ref());
        pending(loader, &log.place, "[message-log]");
    }
    if let Some(otlp) = &records.otlp {
        check_url(loader, otlp.endpoint.as_ref(), &["http", "https"]);
        pending(loader, &otlp.place, "[otlp]");
    }
}

fn pending(loader: &Loader<'_>, place: &Place, section: &str) {
    loader.findings.pending(place, section);
}

/// The scheme is one of these, and something follows. The URL isn't shown: it may hold a password.
fn check_url(loader: &Loader<'_>, url: Option<&Located<String>>, schemes: &[&str]) {
    let Some(url) = url else { return };
    check_text(loader, &url.value, &url.place, schemes);
}

fn check_text(loader: &Loader<'_>, url: &str, place: &Place, schemes: &[&str]) {
    let parts = url.split_once("://");
    let known = parts.is_some_and(|(scheme, rest)| schemes.contains(&scheme) && !rest.is_empty());
    if !known {
        let quoted: Vec<String> = schemes
            .iter()
            .map(|scheme| format!("{scheme}://"))
            .collect();
        let message = format!(
            "found a URL that can't be used, expected it to begin with {}",
            alternatives(&quoted)
        );
        loader.findings.error(place, message);
    }
}

/// Twenty times a round trip in one zone: beyond it something is wrong.
const REDIS_TIMEOUT: Duration = Duration::from_millis(50);
/// Some 60 MB.
const STREAM_ENTRIES: u64 = 100_000;
/// Alone, a cluster, behind sentinels; each with TLS or without.
const REDIS_SCHEMES: [&str; 6] = [
    "redis",
    "rediss",
    "redis-cluster",
    "rediss-cluster",
    "redis-sentinel",
    "rediss-sentinel",
];
