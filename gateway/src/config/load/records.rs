//! `[redis]`, and the checks of `[jwt]`, `[usage-log]`, `[prices]`, `[access-log]`, `[message-log]` and `[otlp]`, which
//! this version doesn't do yet.

use std::time::Duration;

use super::super::error::{Located, Place, alternatives};
use super::super::plan::Redis;
use super::super::secret::Secret;
use super::{Loader, or};

/// Where counters are shared, if they are.
pub(super) fn redis(loader: &Loader<'_>) -> Option<Redis> {
    let file = loader.file.redis.as_ref()?;
    check_url(loader, file.url.as_ref(), &REDIS_SCHEMES);
    let url = file.url.as_ref()?;
    Some(Redis {
        url: Secret::new(url.value.clone()).ok()?,
        timeout: or(file.timeout.as_ref(), REDIS_TIMEOUT),
    })
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
    if let Some(log) = &records.usage_log {
        if let (Some(stream), None) = (&log.redis_stream, &file.redis) {
            let message =
                "a stream is kept in Redis, and there is no [redis]; expected [redis] with a url";
            loader.findings.error(&stream.place, message);
        }
        pending(loader, &log.place, "[usage-log]");
    }
    if let Some(prices) = &records.prices {
        if let Some(path) = &prices.file {
            loader.file(&path.value, &path.place);
        }
        pending(loader, &prices.place, "[prices]");
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
    let parts = url.value.split_once("://");
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
        loader.findings.error(&url.place, message);
    }
}

/// Twenty times a round trip in one zone: beyond it something is wrong.
const REDIS_TIMEOUT: Duration = Duration::from_millis(50);
/// Alone, a cluster, behind sentinels; each with TLS or without.
const REDIS_SCHEMES: [&str; 6] = [
    "redis",
    "rediss",
    "redis-cluster",
    "rediss-cluster",
    "redis-sentinel",
    "rediss-sentinel",
];
