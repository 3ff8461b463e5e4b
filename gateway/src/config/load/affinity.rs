//! `session-affinity`: the cookie's name, and the key that each member's cookie is signed with.
//!
//! There is no key for it in the file. What all replicas share, survives a reload and isn't known to callers is each
//! backend's own credential, so it signs the cookies of its backend: adding a subscription, a pool or another
//! member changes nobody's cookie. A backend without a credential takes the digests of all subscription keys.

use std::collections::BTreeMap;

use filters::auth::Digest;
use filters::balance::affinity::Cookies;

use super::super::file::pool as written;
use super::super::plan::{Auth, Member, SessionAffinity};
use super::Loader;

/// Makes the cookies of one pool.
pub(super) fn session_affinity(
    loader: &Loader<'_>,
    (pool, file): (&str, &written::SessionAffinity),
    members: &[Member],
    keys: &[Digest],
) -> Option<SessionAffinity> {
    let cookie = file.cookie.as_ref()?;
    // The rule for a cookie's name is that for a header's.
    if http::HeaderName::from_bytes(cookie.value.as_bytes()).is_err() {
        let message = format!(
            "found \"{}\", expected a cookie's name",
            cookie.value.escape_debug()
        );
        loader.findings.error(&cookie.place, message);
        return None;
    }
    let shared = shared(keys);
    let is_secret = |member: &Member| credential(member).is_some() || !keys.is_empty();
    if !members.iter().all(is_secret) {
        let message = "nothing secret to sign the cookie with: callers could choose a backend at will; give the backends a credential or the gateway a subscription";
        loader.findings.warn(&file.place, message);
    }
    let signed = members.iter().map(|member| {
        let key = credential(member).unwrap_or(shared.as_bytes());
        (key, member.backend.name.as_ref())
    });
    Some(SessionAffinity {
        cookie: cookie.value.clone(),
        signed: Cookies::new(pool, signed),
    })
}

/// Callers keep one cookie of a name.
pub(super) fn warn_of_shared_cookies(loader: &Loader<'_>) {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for pool in &loader.file.pools {
        let affinity = pool.session_affinity.as_ref();
        let Some(cookie) = affinity.and_then(|affinity| affinity.cookie.as_ref()) else {
            continue;
        };
        if let Some(former) = seen.insert(&cookie.value, &pool.name.value) {
            let message = format!(
                "pool \"{former}\" sets a cookie of this name too: who calls both in turn has no session in either; give each pool a name of its own"
            );
            loader.findings.warn(&cookie.place, message);
        }
    }
}

fn credential(member: &Member) -> Option<&[u8]> {
    match &member.backend.auth {
        Auth::ApiKey(secret) | Auth::Bearer(secret) => Some(secret.expose().as_bytes()),
        // A token is another on each replica, and another each hour.
        Auth::None | Auth::ManagedIdentity(_) => None,
    }
}

/// In an order of their own: moving a key within the file changes nothing.
fn shared(keys: &[Digest]) -> String {
    let mut digests: Vec<String> = keys.iter().map(Digest::to_hex).collect();
    digests.sort_unstable();
    digests.concat()
}
