//! What the usage log and the access log say of a request that is over. Never a key, a prompt or an answer.

use std::borrow::Cow;
use std::time::Duration;

use filters::record::{self, Asked, Served, Who};

use crate::clock;
use crate::context::{Arrival, Caller, Record, hexadecimal};

/// No semantic cache was asked.
const NO_CACHE: &str = "none";

/// What there is to say.
pub(super) fn record<'a>(
    arrival: &'a Arrival,
    record: &'a Record,
    duration: Duration,
) -> record::Record<'a> {
    let caller = record.caller.as_ref();
    record::Record {
        time: clock::unix_millis(),
        request_id: hexadecimal(arrival.request_id).into(),
        who: who(caller, record),
        asked: Asked {
            api: Cow::Borrowed(caller.map_or("", |caller| &caller.api.name)),
            operation: Cow::Borrowed(caller.map_or("", |caller| caller.operation)),
            model: Cow::Borrowed(&record.model),
            stream: record.stream,
        },
        served: served(record),
        usage: record.usage.unwrap_or_default(),
        duration_ms: millis(duration),
        ttft_ms: record.first_token.map(millis),
        gateway: Cow::Borrowed(&arrival.plan.gateway.id),
    }
}

fn who<'a>(caller: Option<&'a Caller>, record: &'a Record) -> Who<'a> {
    let user = Cow::Borrowed(record.user.as_str());
    let subscription = caller.and_then(|caller| caller.subscription.as_deref());
    let Some(subscription) = subscription else {
        return Who {
            user,
            ..Who::default()
        };
    };
    let attributes = subscription.attributes.iter();
    let attributes = attributes
        .map(|(name, value)| (Cow::Borrowed(name.as_str()), Cow::Borrowed(value.as_str())));
    let product = subscription.product.as_deref();
    Who {
        subscription: Cow::Borrowed(&subscription.name),
        product: Cow::Borrowed(product.map_or("", |product| &product.name)),
        user,
        attributes: attributes.collect(),
    }
}

fn served(record: &Record) -> Served<'_> {
    let backend = record.backend.as_deref();
    let deployment = backend.map_or("", |backend| {
        backend.deployment.as_deref().unwrap_or(&record.model)
    });
    let cache = record.cache.as_ref();
    let cache = cache.map_or(NO_CACHE, |lookup| lookup.result.label());
    Served {
        backend: Cow::Borrowed(backend.map_or("", |backend| &backend.name)),
        deployment: Cow::Borrowed(deployment),
        status: record.status,
        source: Cow::Borrowed(record.source.label()),
        end: Cow::Borrowed(record.end.label()),
        attempts: record.attempts.len() as u64,
        cache: Cow::Borrowed(cache),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
