//! `POST /cache/purge?id=ID`, `?subscription=NAME` or `?policy=NAME`: takes kept answers out of the semantic caches.
//!
//! One of the three, so that a mistyped name can't purge more than was meant. Names are as in the file, percent-encoded
//! where they need it. Never shows an answer.

use std::borrow::Cow;

use filters::route;
use http::{Response, StatusCode};

use super::{JSON, TEXT, answer};
use crate::cache::kept::Chosen;
use crate::state::State;

pub(super) const PATH: &str = "/cache/purge";

/// Purges what the query names, and says how many answers that were.
pub(super) async fn purge(state: &State, query: &str) -> Response<Vec<u8>> {
    let Some(chosen) = chosen(query) else {
        let expected =
            "expected ?id=ID (x-tollgate-cache-id), ?subscription=NAME or ?policy=NAME\n";
        return answer(StatusCode::BAD_REQUEST, TEXT, expected.into());
    };
    let plan = state.plan.load_full();
    match state.caches.purge(&plan, &chosen).await {
        Ok(Some(purged)) => {
            tracing::info!(purged, "kept answers purged");
            let body = serde_json::json!({ "purged": purged });
            answer(StatusCode::OK, JSON, body.to_string())
        }
        Ok(None) => answer(StatusCode::NOT_FOUND, TEXT, "no such policy\n".into()),
        Err(_) => {
            let text =
                "Redis couldn't be asked to the end; what it keeps may still be there. Try again\n";
            answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, text.into())
        }
    }
}

fn chosen(query: &str) -> Option<Chosen> {
    match one(query)? {
        ("id", id) => u128::from_str_radix(&id, 16).ok().map(Chosen::Id),
        ("subscription", name) => Some(Chosen::Subscription(name.into_owned())),
        ("policy", name) => Some(Chosen::Policy(name.into_owned())),
        _ => None,
    }
}

/// The one parameter, decoded.
fn one(query: &str) -> Option<(&str, Cow<'_, str>)> {
    let (name, value) = query.split_once('=').filter(|_| !query.contains('&'))?;
    let value = route::decoded(value).filter(|value| !value.is_empty())?;
    Some((name, value))
}
