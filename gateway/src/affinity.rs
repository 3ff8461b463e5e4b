//! Where a request belongs within its pool: with the backend that holds what it names, or with that of its session.
//!
//! An id goes before a cookie: another backend would only say 404. A cookie is a wish that ends with its backend's
//! breaker. Both are hints from the caller that lead nowhere but to a member of the pool that it may call
//! anyway. Never chooses among members; `stage/select.rs` does.

use std::sync::Arc;

use filters::balance::affinity::{HeldId, can_be_given, id_in_path, makes_held};
use filters::balance::named;
use filters::request::BodyFacts;
use filters::route::{Call, Shape};
use filters::time::Time;
use http::header::{self, HeaderMap, HeaderValue};
use pingora::http::ResponseHeader;

use crate::clock;
use crate::config::plan::{Plan, Pool, SessionAffinity};
use crate::holders::Holders;
use crate::state::State;

/// Values of one cookie's name that are looked at; a browser sends two where two paths set it.
const VALUES_MAX: usize = 8;

/// Where a request belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belongs {
    /// Wherever its turn is.
    Nowhere,
    /// With this member, while its breaker lets it: its session is there.
    Session(usize),
    /// With this member only: it holds what the request names.
    Holder(usize),
}

/// What tells where a request belongs.
#[derive(Debug, Clone, Copy)]
pub struct Clues<'a> {
    /// The API's name: ids are known by API.
    pub api: &'a str,
    /// What it names; see [`named_id`].
    pub id: Option<&'a str>,
    /// Its header fields.
    pub headers: &'a HeaderMap,
}

/// Whether it is known who holds what the request names. Asks the other replicas, once, if this process doesn't know.
pub async fn recall(state: &State, pool: &Pool, api: &str, id: &str) -> bool {
    if pool.members.len() == 1 || !can_be_given(id) {
        return false;
    }
    let Some(id) = HeldId::new(api, id) else {
        return false;
    };
    if state.holders.holder(id, clock::now().time()).is_some() {
        return true;
    }
    let Some(redis) = state.limits.redis() else {
        return false;
    };
    let Some(backend) = Box::pin(redis.holder(id)).await else {
        return false;
    };
    let now = clock::now().time();
    state.holders.learn(id, &backend.into(), now);
    true
}

/// Where a request belongs, by what this process has learned and signed.
pub fn belongs(
    holders: &Holders,
    plan: &Plan,
    pool: &Pool,
    clues: &Clues<'_>,
    now: Time,
) -> Belongs {
    if let Some(member) = holder(holders, plan, pool, clues, now) {
        return Belongs::Holder(member);
    }
    let affinity = pool.session_affinity.as_ref();
    match affinity.and_then(|affinity| session(affinity, clues.headers)) {
        Some(member) => Belongs::Session(member),
        None => Belongs::Nowhere,
    }
}

/// What a request names that only one backend may hold.
pub fn named_id<'a>(call: &'a Call<'_>, facts: Option<&'a BodyFacts>) -> Option<&'a str> {
    let facts = facts.filter(|_| call.tail.starts_with("responses"));
    let in_body = facts.and_then(|facts| {
        let previous = facts.previous_response_id.as_deref();
        previous.or(facts.conversation_id.as_deref())
    });
    in_body.or_else(|| id_in_path(call.tail))
}

/// Whether a call's answer names something that its backend holds from then on.
pub fn makes(call: &Call<'_>) -> bool {
    call.shape == Shape::Responses || (call.method == "POST" && makes_held(call.tail))
}

/// What leads a caller back to this member.
pub fn cookie(affinity: &SessionAffinity, member: usize, secure: bool) -> Option<HeaderValue> {
    let value = affinity.signed.value(member)?;
    let secure = if secure { "; Secure" } else { "" };
    let name = &affinity.cookie;
    HeaderValue::try_from(format!(
        "{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}"
    ))
    .ok()
}

/// Puts the cookie on a pool's answer, if there is one.
pub fn mark(pool: &Pool, answer: &mut ResponseHeader, cookie: Option<HeaderValue>) {
    let Some(affinity) = &pool.session_affinity else {
        return;
    };
    withdraw(affinity, answer);
    if let Some(cookie) = cookie {
        // Fails for too many fields only; then the caller has no session.
        let _without = answer.append_header(header::SET_COOKIE, cookie);
    }
}

/// Takes out a cookie of the same name that the backend sets: no cookie reaches it again, and here it would end the
/// session.
fn withdraw(affinity: &SessionAffinity, answer: &mut ResponseHeader) {
    let is_ours = |field: &HeaderValue| value_of(field.as_bytes(), &affinity.cookie).is_some();
    let fields = answer.headers.get_all(header::SET_COOKIE);
    if !fields.iter().any(is_ours) {
        return;
    }
    let others = fields.iter().filter(|field| !is_ours(field));
    let others: Vec<HeaderValue> = others.cloned().collect();
    answer.remove_header(&header::SET_COOKIE);
    for field in others {
        // There were more fields before.
        let _kept = answer.append_header(header::SET_COOKIE, field);
    }
}

/// Learns what one backend holds.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// Where it is kept.
    pub state: &'a State,
    /// The API's name.
    pub api: &'a str,
    /// The backend's name.
    pub backend: &'a Arc<str>,
}

impl Holder<'_> {
    /// The backend has made this.
    pub fn made(&self, id: &str) {
        if let Some(id) = HeldId::new(self.api, id) {
            let now = clock::now().time();
            let is_new = self.state.holders.learn(id, self.backend, now);
            if is_new && let Some(redis) = self.state.limits.redis() {
                redis.tell_holder(id, self.backend);
            }
        }
    }

    /// The backend's answer names what else it holds: a batch its files, a run its thread.
    pub fn named(&self, answer: &[u8]) {
        for id in named::ids_in_body(answer) {
            self.knew(&id);
        }
    }

    /// The backend has served a request that names this, so it holds it: learned before a restart, or by another replica.
    pub fn knew(&self, id: &str) {
        if can_be_given(id) {
            self.made(id);
        }
    }
}

/// The member that holds what the request names. One that isn't in this pool may be the same resource under another
/// name, such as for another deployment of it.
fn holder(
    holders: &Holders,
    plan: &Plan,
    pool: &Pool,
    clues: &Clues<'_>,
    now: Time,
) -> Option<usize> {
    let id = HeldId::new(clues.api, clues.id.filter(|_| pool.members.len() > 1)?)?;
    let name = holders.holder(id, now)?;
    let mut members = pool.members.iter();
    let same_name = members.position(|member| member.backend.name == name);
    same_name.or_else(|| {
        let holder = plan.backends.iter().find(|backend| backend.name == name)?;
        let mut members = pool.members.iter();
        members.position(|member| member.backend.url == holder.url)
    })
}

fn session(affinity: &SessionAffinity, headers: &HeaderMap) -> Option<usize> {
    let fields = headers.get_all(header::COOKIE).iter();
    let pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    let values = pairs.filter_map(|pair| value_of(pair, &affinity.cookie));
    values
        .take(VALUES_MAX)
        .find_map(|value| affinity.signed.member(value))
}

/// The value of a pair, if it has this name.
fn value_of<'p>(pair: &'p [u8], name: &str) -> Option<&'p [u8]> {
    let value = pair.trim_ascii().strip_prefix(name.as_bytes())?;
    value.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use filters::balance::affinity::Cookies;

    fn affinity() -> SessionAffinity {
        let members: [(&[u8], &str); 2] = [(b"key", "east"), (b"key", "west")];
        SessionAffinity {
            cookie: "SessionId".into(),
            signed: Cookies::new("chat", members),
        }
    }

    #[test]
    fn the_cookie_is_found_among_others_and_a_forged_one_is_none() {
        let affinity = affinity();
        let value = affinity.signed.value(1).unwrap();
        let found = |fields: &[String]| {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(header::COOKIE, field.parse().unwrap());
            }
            session(&affinity, &headers)
        };
        let own = format!("SessionId={value}");
        for fields in [
            vec![own.clone()],
            vec![format!("a=1;  {own} ; SessionIdentity=x")],
            vec!["SessionId=forged".into(), own.clone()],
        ] {
            assert_eq!(found(&fields), Some(1), "{fields:?}");
        }
        let forged = vec!["SessionId=x".to_owned(); VALUES_MAX];
        for fields in [
            vec![],
            vec!["SessionId".into(), "SessionId=".into()],
            vec![format!("sessionid={value}"), format!("XSessionId={value}")],
            [forged, vec![own]].concat(),
        ] {
            assert_eq!(found(&fields), None, "{fields:?}");
        }
    }

    #[test]
    fn a_backends_cookie_of_the_same_name_is_taken_out_and_no_other() {
        let mut answer = ResponseHeader::build(200, None).unwrap();
        for field in [
            "a=1; Path=/",
            "SessionId=theirs; Path=/",
            "SessionIdentity=2",
        ] {
            answer.append_header(header::SET_COOKIE, field).unwrap();
        }
        withdraw(&affinity(), &mut answer);
        let left: Vec<_> = answer.headers.get_all(header::SET_COOKIE).iter().collect();
        assert_eq!(left, ["a=1; Path=/", "SessionIdentity=2"]);
    }

    #[test]
    fn a_cookie_is_for_browsers_on_this_site_and_for_tls_where_it_came_by_tls() {
        let affinity = affinity();
        let value = affinity.signed.value(0).unwrap();
        let plain = cookie(&affinity, 0, false).unwrap();
        let expected = format!("SessionId={value}; Path=/; HttpOnly; SameSite=Lax");
        assert_eq!(plain, expected.as_str());
        let secure = cookie(&affinity, 0, true).unwrap();
        assert_eq!(secure, format!("{expected}; Secure").as_str());
        assert_eq!(cookie(&affinity, 2, true), None);
    }
}
