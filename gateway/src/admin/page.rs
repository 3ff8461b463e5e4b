//! The page at `/`: three files that are part of the binary. What they show comes from `/events`.
//!
//! The browser is told to take nothing from elsewhere, to run no script but this one, and to show it in nobody's frame:
//! names and models on it come from configurations and from callers.

use http::{HeaderValue, Response, StatusCode, header};

use super::answer;

/// Addresses are relative, so that the page can be looked at through a proxy with a prefix.
const FILES: [(&str, &str, &str); 4] = [
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("page/page.html"),
    ),
    (
        "/page.css",
        "text/css; charset=utf-8",
        include_str!("page/page.css"),
    ),
    (
        "/page.js",
        "text/javascript; charset=utf-8",
        include_str!("page/page.js"),
    ),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

const SAFETY: [(header::HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        header::HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// The file at this path.
pub(super) fn file(path: &str) -> Option<Response<Vec<u8>>> {
    let (_, kind, text) = FILES.iter().find(|(name, _, _)| *name == path)?;
    let mut file = answer(StatusCode::OK, kind, (*text).to_owned());
    for (name, value) in SAFETY {
        file.headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    Some(file)
}
