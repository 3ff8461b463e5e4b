//! Which header fields cross the gateway, in either direction.
//!
//! Whatever speaks of one connection (hop-by-hop), holds a caller's key or cookie, or is set anew stays
//! behind; everything else passes unharmed. Never adds a field.

use std::borrow::Cow;

use filters::auth;
use filters::expression::Headers;
use http::header::{self, HeaderMap, HeaderName};

/// Header fields as `filters` reads them.
#[derive(Debug, Clone, Copy)]
pub struct HeaderView<'a>(pub &'a HeaderMap);

impl Headers for HeaderView<'_> {
    fn value(&self, lower_case_name: &str) -> Option<&[u8]> {
        value(self.0, lower_case_name)
    }

    fn each<'h>(&'h self, visit: &mut dyn FnMut(&'h str, &'h [u8])) {
        for (name, value) in self.0 {
            visit(name.as_str(), value.as_bytes());
        }
    }
}

/// Header fields as expressions see them: a caller's credentials aren't there, so that none can end up in a
/// metric's label or a counter key.
#[derive(Debug, Clone, Copy)]
pub struct PublicHeaders<'a>(pub &'a HeaderMap);

impl Headers for PublicHeaders<'_> {
    fn value(&self, lower_case_name: &str) -> Option<&[u8]> {
        match is_credential(lower_case_name) {
            true => None,
            false => value(self.0, lower_case_name),
        }
    }

    fn each<'h>(&'h self, visit: &mut dyn FnMut(&'h str, &'h [u8])) {
        for (name, value) in self.0 {
            if !is_credential(name.as_str()) {
                visit(name.as_str(), value.as_bytes());
            }
        }
    }
}

/// Few fields are compared sooner than one name is parsed and hashed.
const FEW_FIELDS: usize = 16;

fn value<'h>(headers: &'h HeaderMap, lower_case_name: &str) -> Option<&'h [u8]> {
    let value = match headers.len() <= FEW_FIELDS {
        true => {
            let mut fields = headers.iter();
            fields.find_map(|(name, value)| (name.as_str() == lower_case_name).then_some(value))
        }
        false => headers.get(lower_case_name),
    };
    value.map(|value| value.as_bytes())
}

fn is_credential(lower_case_name: &str) -> bool {
    auth::KEY_HEADERS.contains(&lower_case_name)
        || matches!(lower_case_name, "cookie" | "proxy-authorization")
}

/// A query without the parameters that hold keys.
pub fn public_query(query: &str) -> Cow<'_, str> {
    let is_key = |part: &&str| {
        let name = part.split('=').next().unwrap_or("");
        auth::KEY_PARAMETERS.contains(&name)
    };
    match query.split('&').any(|part| is_key(&part)) {
        false => Cow::Borrowed(query),
        true => {
            let kept: Vec<&str> = query.split('&').filter(|part| !is_key(part)).collect();
            Cow::Owned(kept.join("&"))
        }
    }
}

/// Whether a request's field goes upstream. The caller's credentials and cookies are for the gateway.
///
/// Some servers take `transfer_encoding` for `transfer-encoding`, so what stays behind does so in either spelling.
pub fn goes_upstream(name: &HeaderName) -> bool {
    let name = name.as_str();
    match name.contains('_') {
        true => !stays(&name.replace('_', "-")),
        false => !stays(name),
    }
}

fn stays(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
            | "expect"
            | "host"
            | "content-length"
            | "authorization"
            | "api-key"
            | "ocp-apim-subscription-key"
            | "cookie"
    )
}

/// Whether an answer's field goes to the caller. `x-ratelimit-*` speaks of one backend and would mislead;
/// `alt-svc` would lead the caller past the gateway.
pub fn goes_downstream(name: &HeaderName) -> bool {
    let name = name.as_str();
    !name.starts_with("x-ratelimit-")
        && !matches!(
            name,
            "connection"
                | "keep-alive"
                | "proxy-connection"
                | "proxy-authenticate"
                | "te"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
                | "alt-svc"
        )
}

/// The fields that `Connection` declares to be of this hop only.
pub fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| token.trim().parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn expressions_see_no_credentials() {
        let mut headers = HeaderMap::new();
        headers.append("api-key", "secret".parse().unwrap());
        headers.append("x-team", "a".parse().unwrap());
        let public = PublicHeaders(&headers);
        assert_eq!(public.value("api-key"), None);
        assert_eq!(public.value("x-team"), Some(&b"a"[..]));
        let mut names = Vec::new();
        public.each(&mut |name, _| names.push(name.to_owned()));
        assert_eq!(names, ["x-team"]);
        assert_eq!(public_query("a=1&api-key=s&b=2"), "a=1&b=2");
        assert_eq!(public_query("a=1&my-api-key=s"), "a=1&my-api-key=s");
    }

    #[test]
    fn what_stays_behind_does_so_in_either_spelling() {
        for (name, goes) in [
            ("transfer-encoding", false),
            ("transfer_encoding", false),
            ("content_length", false),
            ("api_key", false),
            ("x_custom", true),
            ("x-custom", true),
        ] {
            assert_eq!(
                goes_upstream(&HeaderName::from_static(name)),
                goes,
                "{name}"
            );
        }
    }

    #[test]
    fn fields_that_connection_names_are_found() {
        let mut headers = HeaderMap::new();
        headers.append(header::CONNECTION, "close, X-Hop".parse().unwrap());
        headers.append(header::CONNECTION, "x-other".parse().unwrap());
        let names: Vec<_> = nominated(&headers)
            .iter()
            .map(|name| name.to_string())
            .collect();
        assert_eq!(names, ["close", "x-hop", "x-other"]);
    }
}
