//! `[redis]`, `[usage-log]`, `[prices]`, `[access-log]`, `[message-log]` and `[otlp]`: what is shared, and what is written down.

use std::sync::Arc;
use std::time::Duration;

use filters::price::PriceList;

use super::super::Source;
use super::super::error::{self, Located, alternatives};
use super::super::file::records::{LineFormat, OtlpProtocol};
use super::super::file::secret::Origin;
use super::super::plan::{AccessLog, MessageLog, Otlp, Place, Redis, UsageLog, UsageStream};
use super::super::secret::Secret;
use super::endpoint::endpoint;
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

/// Where each request gets a line, if anywhere.
pub(super) fn access_log(loader: &Loader<'_>) -> Option<AccessLog> {
    let log = loader.file.records.access_log.as_ref()?;
    let place = match log.file.as_ref()?.value.as_str() {
        "-" => Place::Output,
        path => Place::File(path.into()),
    };
    let format = or(log.format.as_ref(), LineFormat::Json);
    Some(AccessLog { place, format })
}

/// Which prompts and answers are written down, if any, and where.
pub(super) fn message_log(loader: &Loader<'_>) -> Option<MessageLog> {
    let log = loader.file.records.message_log.as_ref()?;
    let when = loader.condition(log.when.as_ref());
    let max_bytes = or(log.max_bytes.as_ref(), MESSAGE_BYTES);
    Some(MessageLog {
        directory: log.directory.as_ref()?.value.as_str().into(),
        when: when?,
        max_bytes: usize::try_from(max_bytes).unwrap_or(usize::MAX),
    })
}

/// Where traces go, if anywhere.
pub(super) fn otlp(loader: &Loader<'_>) -> Option<Otlp> {
    let otlp = loader.file.records.otlp.as_ref()?;
    let url = otlp.endpoint.as_ref()?;
    let endpoint = match endpoint(&url.value) {
        Ok(endpoint) => endpoint,
        Err(expected) => {
            let message = format!("found a URL that can't be used, {expected}");
            loader.findings.error(&url.place, message);
            return None;
        }
    };
    Some(Otlp {
        endpoint,
        protocol: or(otlp.protocol.as_ref(), OtlpProtocol::Grpc),
        sample: or(otlp.sample.as_ref(), 1.0),
    })
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

/// The scheme is one of these, and something follows. The URL isn't shown: it may hold a password.
fn check_text(loader: &Loader<'_>, url: &str, place: &error::Place, schemes: &[&str]) {
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

/// A long conversation, or a picture's beginning.
const MESSAGE_BYTES: u64 = 256 << 10;
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
