//! `POST /cache/purge?id=ID`, `?subscription=NAME` or `?policy=NAME`: takes kept answers out of the semantic caches.
//!
//! One of the three, so that a mistyped name can't purge more than was meant. Names are as in the file, percent-encoded
//! where they need it. Never shows an answer.

use std::borrow::Cow;

use filters::route;
use http::{Response, StatusCode};

use super::{JSON, TEXT, answer};
use crate::cache::Caches;
use crate::cache::kept::Chosen;

pub(super) const PATH: &str = "/cache/purge";

/// Purges what the query names, and says how many answers that were.
pub(super) fn purge(caches: &Caches, query: &str) -> Response<Vec<u8>> {
    let purged = match one(query) {
        Some(("id", id)) => u128::from_str_radix(&id, 16)
            .map(|id| caches.purge(&Chosen::Id(id)))
            .ok(),
        Some(("subscription", name)) => {
            Some(caches.purge(&Chosen::Subscription(name.into_owned())))
        }
        Some(("policy", name)) => match caches.purge_policy(&name) {
            Some(purged) => Some(purged),
            None => return answer(StatusCode::NOT_FOUND, TEXT, "no such policy\n".into()),
        },
        Some(_) | None => None,
    };
    match purged {
        Some(purged) => {
            tracing::info!(purged, "kept answers purged");
            let body = serde_json::json!({ "purged": purged });
            answer(StatusCode::OK, JSON, body.to_string())
        }
        None => {
            let expected =
                "expected ?id=ID (x-tollgate-cache-id), ?subscription=NAME or ?policy=NAME\n";
            answer(StatusCode::BAD_REQUEST, TEXT, expected.into())
        }
    }
}

/// The one parameter, decoded.
fn one(query: &str) -> Option<(&str, Cow<'_, str>)> {
    let (name, value) = query.split_once('=').filter(|_| !query.contains('&'))?;
    let value = route::decoded(value).filter(|value| !value.is_empty())?;
    Some((name, value))
}
