//! Who may use the admin listener, where `[server] admin-token` is set.
//!
//! `Authorization: Bearer TOKEN`, as Prometheus sends it, or `Basic` with the token as the password and any name, which a
//! browser asks for by itself and then sends with everything that a page loads. Compared as a digest, in constant time.
//! A page of another site can't have a browser change anything here, whether there is a token or not.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use filters::auth::{self, Digest};
use http::{HeaderMap, Response, StatusCode, header};

use super::{TEXT, answer};

/// What anyone may ask: a probe has no token.
const OPEN: [&str; 2] = ["/livez", "/readyz"];
const CHALLENGE: &str = "Basic realm=\"tollgate admin\", charset=\"UTF-8\"";

/// Whether the request may go on.
pub(super) fn is_allowed(token: Option<&Digest>, path: &str, headers: &HeaderMap) -> bool {
    let Some(token) = token else {
        return true;
    };
    OPEN.contains(&path) || shown(headers).is_some_and(|shown| Digest::of_key(shown) == *token)
}

/// Whether a browser sends this for a page of another site.
pub(super) fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(origin) = text(header::ORIGIN) else {
        return false;
    };
    let own = origin.split_once("://").map(|(_, authority)| authority);
    own != text(header::HOST)
}

/// Asks for the token.
pub(super) fn ask() -> Response<Vec<u8>> {
    let text = "a token is needed: Authorization: Bearer TOKEN, or Basic with it as the password\n";
    let mut asked = answer(StatusCode::UNAUTHORIZED, TEXT, text.into());
    let challenge = header::HeaderValue::from_static(CHALLENGE);
    asked
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, challenge);
    asked
}

fn shown(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes().trim_ascii();
    if let Some(bearer) = auth::bearer(value) {
        return Some(bearer.to_vec());
    }
    let (scheme, rest) = value.split_at_checked(b"basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let pair = STANDARD.decode(rest.trim_ascii()).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn with(name: header::HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn a_token_is_taken_as_bearer_and_as_a_password() {
        let token = Digest::of_key("secret:with:colons");
        let basic = format!("bAsIc {}", STANDARD.encode("any:secret:with:colons"));
        for good in [
            "Bearer secret:with:colons",
            "bearer  secret:with:colons ",
            &basic,
        ] {
            let headers = with(header::AUTHORIZATION, good);
            assert!(is_allowed(Some(&token), "/status", &headers), "{good}");
        }
        let wrong = format!("Basic {}", STANDARD.encode("secret:with:colons"));
        for bad in ["Bearer secret", "secret:with:colons", "Basic !", "", &wrong] {
            let headers = with(header::AUTHORIZATION, bad);
            assert!(!is_allowed(Some(&token), "/status", &headers), "{bad}");
            assert!(is_allowed(Some(&token), "/readyz", &headers));
            assert!(is_allowed(None, "/status", &headers));
        }
    }

    #[test]
    fn another_sites_page_is_told_by_its_origin() {
        let mut headers = with(header::HOST, "127.0.0.1:9090");
        assert!(!is_from_elsewhere(&headers));
        headers.insert(header::ORIGIN, "http://127.0.0.1:9090".parse().unwrap());
        assert!(!is_from_elsewhere(&headers));
        for origin in ["null", "https://evil.example", "http://127.0.0.1:9091"] {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
            assert!(is_from_elsewhere(&headers), "{origin}");
        }
    }
}
